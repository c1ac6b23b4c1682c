"""The waitlist: who waits for which time, times that became free, and offers of them."""

from datetime import datetime, time
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, Index, SmallInteger, Time, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, references, unique_in_clinic
from models.vocabulary import OfferState, WaitingState


class WaitlistEntry(Tenanted):
    """A patient waits for a time for one step of a course, and this is what would suit."""

    __tablename__ = "waitlist_entry"

    patient_id: Mapped[UUID]
    course_step_id: Mapped[UUID]
    visit_id: Mapped[UUID | None]
    """The visit that the step has already, to be moved earlier. None: it has none yet."""
    waiting_since: Mapped[datetime]
    weekdays: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger), server_default=text("'{}'"))
    """Monday is 0; by the site's wall clock, as the hours below. Empty: any."""
    begin: Mapped[time | None] = mapped_column(Time)
    until: Mapped[time | None] = mapped_column(Time)
    """Nothing starts at or after."""
    earliest: Mapped[datetime | None]
    latest: Mapped[datetime | None]
    """Nothing starts at or after."""
    site_id: Mapped[UUID | None]
    practitioner_id: Mapped[UUID | None]
    """One who must take part."""
    standby: Mapped[bool]
    """Can come at short notice."""
    state: Mapped[WaitingState]
    ended_at: Mapped[datetime | None]
    asked_by: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("patient_id", "patient"),
        references("course_step_id", "course_step"),
        references("visit_id", "appointment"),
        references("site_id", "site"),
        references("practitioner_id", "practitioner"),
        CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="ended_unless_waiting"),
        CheckConstraint("earliest < latest", name="earliest_comes_first"),
        CheckConstraint("begin < until", name="hours_run_forward"),
        Index(
            "uq__waitlist_entry__waiting",
            "clinic_id",
            "course_step_id",
            unique=True,
            postgresql_where=text("state = 'waiting'"),
        ),
        Index("ix__waitlist_entry__patient", "clinic_id", "patient_id"),
        Index("ix__waitlist_entry__state", "clinic_id", "state", "waiting_since", "id"),
    )


class FreedTime(Tenanted):
    """A stretch that a visit gave back. Offered until it has passed."""

    __tablename__ = "freed_time"

    appointment_id: Mapped[UUID]
    """The visit that gave it back."""
    site_id: Mapped[UUID]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    look_at: Mapped[datetime | None]
    """When it is next looked at whom it fits. None: it is over."""
    version: Mapped[int] = mapped_column(server_default=text("1"))
    """Rises when something happens that a look under way has not seen."""

    __table_args__ = (
        references("appointment_id", "appointment"),
        references("site_id", "site"),
        CheckConstraint("starts_at < ends_at", name="is_real"),
        Index("ix__freed_time__look_at", "clinic_id", "look_at"),
    )


class Offer(Tenanted):
    """A freed time, offered to one who waits. The time itself is a proposed visit."""

    __tablename__ = "offer"

    entry_id: Mapped[UUID]
    patient_id: Mapped[UUID]
    freed_time_id: Mapped[UUID]
    appointment_id: Mapped[UUID]
    """The proposed visit; it has slots if the time is kept for this patient."""
    assignments: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    """Who and where, as an opening says it."""
    offered_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    state: Mapped[OfferState]
    settled_at: Mapped[datetime | None]
    settled_by: Mapped[str | None]
    visit_id: Mapped[UUID | None]
    """The visit that was booked or moved when it was accepted."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("entry_id", "waitlist_entry"),
        references("patient_id", "patient"),
        references("freed_time_id", "freed_time"),
        references("appointment_id", "appointment"),
        references("visit_id", "appointment"),
        unique_in_clinic("freed_time_id", "entry_id", name="uq__offer__once"),
        unique_in_clinic("appointment_id"),
        CheckConstraint(
            "(state = 'standing') = (settled_at IS NULL)", name="settled_unless_standing"
        ),
        CheckConstraint(
            "(state = 'accepted') = (visit_id IS NOT NULL)", name="accepted_makes_a_visit"
        ),
        Index(
            "uq__offer__one_at_a_time",
            "clinic_id",
            "patient_id",
            unique=True,
            postgresql_where=text("state = 'standing'"),
        ),
        Index("ix__offer__entry", "clinic_id", "entry_id"),
        Index("ix__offer__patient", "clinic_id", "patient_id", "id"),
        Index("ix__offer__state", "clinic_id", "state", "id"),
        Index(
            "ix__offer__expires_at",
            "clinic_id",
            "expires_at",
            postgresql_where=text("state = 'standing'"),
        ),
    )
