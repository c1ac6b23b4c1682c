"""Time: whose it is, when it is open, and what has taken it.

Every practitioner, room, device and patient has a `Schedule` (FHIR Schedule). The time that
a visit takes there is a `Slot` (FHIR Slot). Time without a slot is free, so free time is
never stored. A schedule with n lanes can be in n places at once (a nurse who watches two
rooms); lanes count from 0.

PostgreSQL refuses two slots that overlap on one lane (`ex__slot__no_overlap`). That
constraint is the guard against double booking: code may look before it books, to answer
politely, and never relies on having looked.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, DateTime, Index, func, text
from sqlalchemy.dialects.postgresql import TSTZRANGE, ExcludeConstraint, Range
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, references
from models.sealed import sealed
from models.vocabulary import ActorKind, SlotStatus


class Schedule(Tenanted):
    """The bookable time of one actor: one actor, one schedule."""

    __tablename__ = "schedule"

    actor_kind: Mapped[ActorKind]
    name: Mapped[str]
    lanes: Mapped[int] = mapped_column(server_default=text("1"))
    most_per_day: Mapped[int | None]
    """How many visits it serves on one wall day of a site at most. None: no matter."""
    most_per_week: Mapped[int | None]
    """The same for a week, Monday to Sunday."""
    version: Mapped[int] = mapped_column(server_default=text("1"))
    """Rises with its opening hours and closures."""

    __table_args__ = (
        of_clinic(),
        CheckConstraint("lanes BETWEEN 1 AND 64", name="has_lanes"),
        CheckConstraint("most_per_day > 0", name="most_per_day_is_real"),
        CheckConstraint("most_per_week > 0", name="most_per_week_is_real"),
        Index(
            "ix__schedule__bookable",
            "clinic_id",
            "name",
            "id",
            postgresql_where=text("actor_kind <> 'patient'"),
        ),
    )


class OpeningHours(Tenanted):
    """When an actor can be booked at a site: one recurring stretch, in the site's wall time.

    Stored as iCalendar has it (a first start, a length, a rule, exceptions), because that is
    how clinics keep it and because wall time cannot be turned into instants ahead of the rules.
    Source: RFC 5545, sections 3.3.10 and 3.8.5.
    """

    __tablename__ = "opening_hours"

    schedule_id: Mapped[UUID]
    site_id: Mapped[UUID]
    uid: Mapped[str | None]
    """Of the event that it was imported from. None: entered by hand."""
    first_start: Mapped[datetime] = mapped_column(DateTime(timezone=False))
    """Wall time at the site, or in `time_zone`."""
    minutes: Mapped[int]
    """Length in wall time: a shift that ends at 17:00 does so on the night of a change too."""
    rule: Mapped[str | None]
    """An RRULE value; None for a single stretch."""
    exceptions: Mapped[list[datetime]] = mapped_column(
        ARRAY(DateTime(timezone=False)), server_default=text("'{}'")
    )
    """Starts that do not take place (EXDATE), wall time."""
    time_zone: Mapped[str | None]
    """IANA; whose wall time it is, for somebody who works from elsewhere. None: the site's."""
    on_holidays: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether it takes place on the site's public holidays too."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("schedule_id", "schedule", ondelete="CASCADE"),
        references("site_id", "site"),
        CheckConstraint("minutes BETWEEN 5 AND 1440", name="minutes_are_real"),
        Index("ix__opening_hours__schedule", "clinic_id", "schedule_id"),
    )


class Closure(Tenanted):
    """Time in which an actor cannot be booked although open: leave, a holiday, repairs."""

    __tablename__ = "closure"

    schedule_id: Mapped[UUID]
    uid: Mapped[str | None]
    """Of the event that it was imported from. None: entered by hand, or read from a feed."""
    busy_feed_id: Mapped[UUID | None]
    """Of the calendar elsewhere that says so, and is asked again and again."""
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    reason: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("schedule_id", "schedule", ondelete="CASCADE"),
        references("busy_feed_id", "busy_feed", ondelete="CASCADE"),
        CheckConstraint("starts_at < ends_at", name="is_real"),
        Index("ix__closure__schedule", "clinic_id", "schedule_id", "starts_at"),
        Index(
            "ix__closure__busy_feed",
            "clinic_id",
            "busy_feed_id",
            postgresql_where=text("busy_feed_id IS NOT NULL"),
        ),
    )


class BusyFeed(Tenanted):
    """A calendar kept elsewhere, of which the busy time closes a schedule here.

    The worker asks for it again and again. What was last read stands until something newer
    could be read.
    """

    __tablename__ = "busy_feed"

    schedule_id: Mapped[UUID]
    url = sealed()
    """Whoever has it can read the calendar: never shown again, never logged."""
    time_zone: Mapped[str]
    """IANA; in which whole days, and times without a zone, are read."""
    every_minutes: Mapped[int] = mapped_column(server_default=text("15"))
    due_at: Mapped[datetime]
    """When it is to be asked for next; while it is being asked for: when to give up on that."""
    read_at: Mapped[datetime | None]
    """When it was last read whole, or found unchanged."""
    failing_since: Mapped[datetime | None]
    fault: Mapped[str | None]
    """What was wrong the last time. None: nothing."""
    etag: Mapped[str | None]
    last_modified: Mapped[str | None]
    """What the server called what we have (RFC 9110, section 8.8)."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("schedule_id", "schedule", ondelete="CASCADE"),
        CheckConstraint("every_minutes BETWEEN 5 AND 1440", name="every_is_real"),
        Index("ix__busy_feed__due_at", "clinic_id", "due_at"),
        Index("ix__busy_feed__schedule", "clinic_id", "schedule_id"),
    )


REAL = "lower_inc(during) AND NOT upper_inf(during)"
"""A start, an end, and time between. `lower_inc` is false for an empty range, which
overlaps nothing and would slip past the exclusion constraint."""


class Slot(Tenanted):
    """A taken stretch of one lane of a schedule, for one phase of a visit."""

    __tablename__ = "slot"

    schedule_id: Mapped[UUID]
    lane: Mapped[int]
    appointment_id: Mapped[UUID | None]
    group_session_id: Mapped[UUID | None]
    """What takes the time: a visit, or a session that several share. One of the two."""
    role: Mapped[str]
    """As what the actor is there: a practitioner role, `room`, `device`, `patient`."""
    status: Mapped[SlotStatus]
    """`busy-unavailable` is time that outlasts the visit: turnover, charting."""
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    """The bounds of `during` once more: under row-level security `&&` cannot use the GiST
    index (it is not leakproof), a btree on `starts_at` can."""
    during: Mapped[Range[datetime]] = mapped_column(TSTZRANGE)

    __table_args__ = (
        references("schedule_id", "schedule"),
        references("appointment_id", "appointment", ondelete="CASCADE"),
        references("group_session_id", "group_session", ondelete="CASCADE"),
        CheckConstraint("num_nulls(appointment_id, group_session_id) = 1", name="is_of_one"),
        CheckConstraint(REAL, name="during_is_real"),
        CheckConstraint(
            "lower(during) = starts_at AND upper(during) = ends_at", name="bounds_agree"
        ),
        CheckConstraint("lane >= 0", name="lane_counts_from_0"),
        ExcludeConstraint(
            ("schedule_id", "="),
            ("lane", "="),
            ("during", "&&"),
            using="gist",
            name="ex__slot__no_overlap",
        ),
        Index("ix__slot__schedule", "clinic_id", "schedule_id", "starts_at"),
        Index("ix__slot__appointment", "clinic_id", "appointment_id"),
        Index(
            "ix__slot__group_session",
            "clinic_id",
            "group_session_id",
            postgresql_where=text("group_session_id IS NOT NULL"),
        ),
    )


TAKEN_BY = func.coalesce(Slot.appointment_id, Slot.group_session_id)
"""What takes a slot: the id of a visit, or of a group session."""


class CalendarChange(Tenanted):
    """A line of what changed in the clinic's calendars, written by PostgreSQL's triggers.

    Processes that keep calendars warm read it to know what to read again; see
    scheduler/warmth.py. Kept for an hour.
    """

    __tablename__ = "calendar_change"

    schedule_id: Mapped[UUID | None]
    """None: who can be booked at all has changed."""
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    """The stretch in which slots changed. None: the schedule's opening hours did."""
    by_transaction: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        of_clinic(),
        Index("ix__calendar_change__transaction", "clinic_id", "by_transaction"),
        Index("ix__calendar_change__starts_at", "clinic_id", "starts_at"),
    )
