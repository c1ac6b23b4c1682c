"""Visits: one patient's appointment, its append-only history, and overrides."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, false, or_, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, coded, references, unique_in_clinic
from models.schedule import Slot
from models.sealed import sealed, sealed_or_none
from models.vocabulary import AppointmentStatus, Progress, StepKind

LIVE = "status NOT IN ('cancelled', 'noshow', 'entered-in-error', 'proposed', 'waitlist')"
KEEPS_PLACE = f"({LIVE}) OR (status = 'proposed' AND held_until IS NOT NULL)"
"""Of a place in a group session: nobody else gets it. One that is offered may be kept as well."""


class Appointment(Tenanted):
    """One visit (FHIR Appointment): what for, when, where, and where it stands."""

    __tablename__ = "appointment"

    patient_id: Mapped[UUID]
    course_id: Mapped[UUID | None]
    course_step_id: Mapped[UUID | None]
    protocol_version_id: Mapped[UUID]
    visit: Mapped[str]
    """The key of its visit in the protocol version: length, phases, gates, checklist, cadence."""
    kind: Mapped[StepKind]
    site_id: Mapped[UUID]
    status: Mapped[AppointmentStatus]
    progress: Mapped[Progress | None]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    """With the patient in the building; slots may outlast it."""
    held_until: Mapped[datetime | None]
    """Until when a `pending` visit keeps its time, or a `proposed` one, if it does."""
    confirmed_at: Mapped[datetime | None]
    """When the patient said they will come: a fact of its own, not a status."""
    move_requested_at: Mapped[datetime | None]
    """When the patient asked for another time."""
    suspended_at: Mapped[datetime | None]
    """Since when it is suspended: not ready at the time at which the protocol asks that it is."""
    revision: Mapped[int] = mapped_column(server_default=text("1"))
    """Rises when the visit is moved or cancelled: messages of an older revision do not go out.
    One less is its iCalendar SEQUENCE."""
    version: Mapped[int] = mapped_column(server_default=text("1"))
    """Rises with every change: the ETag."""
    booked_by: Mapped[str]
    part2: Mapped[bool] = mapped_column(server_default=false())
    """Whether it falls under 42 CFR Part 2: a trigger takes it from its course or its protocol."""
    group_session_id: Mapped[UUID | None]
    """The group session in which the visit is a place. None: the patient comes alone."""
    place: Mapped[int | None]
    """Which place of the session, from 1."""
    places: Mapped[int | None]
    """How many the session has: a foreign key keeps it true, so that `place` can be checked."""

    __table_args__ = (
        references("patient_id", "patient"),
        references("course_id", "course"),
        references("course_step_id", "course_step"),
        references("protocol_version_id", "protocol_version"),
        references("site_id", "site"),
        CheckConstraint("starts_at < ends_at", name="is_real"),
        CheckConstraint(
            "CASE status WHEN 'pending' THEN held_until IS NOT NULL"
            " WHEN 'proposed' THEN true ELSE held_until IS NULL END",
            name="held_while_pending",
        ),
        CheckConstraint("(course_id IS NULL) = (course_step_id IS NULL)", name="step_of_a_course"),
        ForeignKeyConstraint(
            ["clinic_id", "group_session_id", "places"],
            ["group_session.clinic_id", "group_session.id", "group_session.places"],
        ),
        CheckConstraint(
            "num_nulls(group_session_id, place, places) IN (0, 3)", name="place_in_a_session"
        ),
        CheckConstraint("place BETWEEN 1 AND places", name="place_is_there"),
        Index("ix__appointment__starts_at", "clinic_id", "starts_at", "id"),
        Index("ix__appointment__status", "clinic_id", "status", "starts_at", "id"),
        Index("ix__appointment__patient", "clinic_id", "patient_id", "starts_at"),
        Index("ix__appointment__course", "clinic_id", "course_id"),
        Index("ix__appointment__part2", "clinic_id", "patient_id", postgresql_where=text("part2")),
        Index(
            "uq__appointment__live_step",
            "clinic_id",
            "course_step_id",
            unique=True,
            postgresql_where=text(LIVE),
        ),
        Index(
            "uq__appointment__place",
            "clinic_id",
            "group_session_id",
            "place",
            unique=True,
            postgresql_where=text(KEEPS_PLACE),
        ),
        Index(
            "ix__appointment__group_session",
            "clinic_id",
            "group_session_id",
            postgresql_where=text("group_session_id IS NOT NULL"),
        ),
        Index(
            "ix__appointment__held",
            "clinic_id",
            "held_until",
            postgresql_where=text("status = 'pending'"),
        ),
    )


SERVES = (Slot.clinic_id == Appointment.clinic_id) & or_(
    Slot.appointment_id == Appointment.id,
    Slot.group_session_id == Appointment.group_session_id,
)
"""Joins a visit with the slots that serve it: its own, and those of its group session."""


class AppointmentEvent(Tenanted):
    """One thing that happened to a visit. Append-only: the service may not update or delete."""

    __tablename__ = "appointment_event"

    appointment_id: Mapped[UUID]
    action: Mapped[str]
    from_status: Mapped[AppointmentStatus | None] = mapped_column(
        coded(AppointmentStatus, "from_status")
    )
    to_status: Mapped[AppointmentStatus]
    progress: Mapped[Progress | None]
    by: Mapped[str]
    at: Mapped[datetime]
    reason = sealed_or_none()
    facts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What else a reader needs: the times before and after a move, the rules overridden."""

    __table_args__ = (
        references("appointment_id", "appointment"),
        Index("ix__appointment_event__appointment", "clinic_id", "appointment_id", "at"),
    )


class Override(Tenanted):
    """Somebody with the right to do so opened a gate or broke a course rule, and said why.

    Append-only: one that was entered in error is taken back by a line of its own.
    """

    __tablename__ = "override"

    appointment_id: Mapped[UUID]
    code: Mapped[str]
    """The gate or the course rule."""
    reason = sealed()
    by: Mapped[str]
    at: Mapped[datetime]
    starts_at: Mapped[datetime]
    """The start of the visit that it was given for."""
    revision: Mapped[int]
    """The visit's: one that was moved is judged anew, also if it comes back."""
    replaces: Mapped[UUID | None]
    """The override that was entered in error. This line only says so, and why: it opens nothing."""

    __table_args__ = (
        references("appointment_id", "appointment"),
        references("replaces", "override"),
        unique_in_clinic("replaces", name="uq__override__replaces"),
        Index("ix__override__appointment", "clinic_id", "appointment_id"),
    )
