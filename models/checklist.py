"""What must be settled before a visit: clearances, checklist items, the escort home."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, references, unique_in_clinic
from models.sealed import sealed, sealed_or_none
from models.vocabulary import ClearanceOutcome, HealthEventKind, Owner, TaskStatus, WayHome


class Clearance(Tenanted):
    """Somebody vouched for a gate of a patient. Append-only: the latest by `cleared_at` counts."""

    __tablename__ = "clearance"

    patient_id: Mapped[UUID]
    gate: Mapped[str]
    outcome: Mapped[ClearanceOutcome]
    cleared_at: Mapped[datetime]
    """When it was settled, which may be before it was typed in."""
    valid_until: Mapped[datetime | None]
    """An end set by the person who cleared it; the protocol's own term holds as well."""
    cleared_by: Mapped[str]
    noted_at: Mapped[datetime]
    """When it was typed in."""
    note = sealed_or_none()
    medicine: Mapped[str | None]
    """For which it was given, where the protocol asks; with None a refusal speaks of any."""
    route: Mapped[str | None]
    text_id: Mapped[UUID | None]
    """The version of the clinic's text that it was given to."""

    __table_args__ = (
        references("patient_id", "patient"),
        references("text_id", "consent_text"),
        Index("ix__clearance__patient", "clinic_id", "patient_id", "gate", "cleared_at"),
    )


class HealthEvent(Tenanted):
    """Something that happened to a patient (FHIR AdverseEvent, Condition). Append-only."""

    __tablename__ = "health_event"

    patient_id: Mapped[UUID]
    kind: Mapped[HealthEventKind]
    happened_at: Mapped[datetime]
    note = sealed_or_none()
    noted_by: Mapped[str]
    noted_at: Mapped[datetime]
    """When it was typed in: whoever vouched for anything before did not know of it."""
    replaces: Mapped[UUID | None]
    in_error: Mapped[bool] = mapped_column(server_default=text("false"))
    """It says only that what it replaces was entered in error."""

    __table_args__ = (
        references("patient_id", "patient"),
        references("replaces", "health_event"),
        unique_in_clinic("replaces", name="uq__health_event__replaces"),
        CheckConstraint("NOT in_error OR replaces IS NOT NULL", name="in_error_of_something"),
        Index("ix__health_event__patient", "clinic_id", "patient_id", "happened_at"),
    )


class ChecklistItem(Tenanted):
    """One thing to be done around a visit, or about an incident (FHIR Task)."""

    __tablename__ = "checklist_item"

    appointment_id: Mapped[UUID | None]
    incident_id: Mapped[UUID | None]
    """What it is to be done about, where that is an incident."""
    code: Mapped[str]
    title: Mapped[str]
    owner: Mapped[Owner]
    gate: Mapped[str | None]
    """The gate that stays open until this is done."""
    due_at: Mapped[datetime]
    status: Mapped[TaskStatus]
    answer = sealed_or_none()
    settled_by: Mapped[str | None]
    settled_at: Mapped[datetime | None]
    marked_at: Mapped[datetime | None]
    """When somebody last said how it stands, also that it is to be done after all."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("appointment_id", "appointment", ondelete="CASCADE"),
        references("incident_id", "incident"),
        unique_in_clinic("appointment_id", "code"),
        unique_in_clinic("incident_id", "code"),
        CheckConstraint(
            "num_nonnulls(appointment_id, incident_id) = 1", name="of_a_visit_or_an_incident"
        ),
        CheckConstraint(
            "(status = 'requested') = (settled_at IS NULL)", name="settled_unless_requested"
        ),
    )


class Escort(Tenanted):
    """Who takes the patient home from one visit (FHIR RelatedPerson). One at a time."""

    __tablename__ = "escort"

    appointment_id: Mapped[UUID]
    name: Mapped[str]
    phone = sealed()
    email = sealed_or_none()
    relation: Mapped[str]
    way: Mapped[WayHome] = mapped_column(server_default="escort")
    may_message: Mapped[bool]
    """The patient agreed that we write to the escort: a time and a place, nothing else."""
    named_by: Mapped[str]
    confirmed_at: Mapped[datetime | None]
    """When somebody heard from the escort that they will come, or they said so themselves."""
    replaced_at: Mapped[datetime | None]
    """When somebody else was named in their place."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("appointment_id", "appointment", ondelete="CASCADE"),
        Index(
            "uq__escort__appointment",
            "clinic_id",
            "appointment_id",
            unique=True,
            postgresql_where=text("replaced_at IS NULL"),
        ),
    )


class Departure(Tenanted):
    """How a patient left after a dose. Append-only: what is replaced does not count."""

    __tablename__ = "departure"

    appointment_id: Mapped[UUID]
    way: Mapped[WayHome]
    accompanied_by = sealed_or_none()
    left_at: Mapped[datetime]
    deviation = sealed_or_none()
    """Why it was otherwise than planned."""
    noted_by: Mapped[str]
    noted_at: Mapped[datetime]
    """When it was typed in."""
    replaces: Mapped[UUID | None]
    in_error: Mapped[bool]
    """It only says that what it replaces was entered in error; `deviation` says why."""

    __table_args__ = (
        references("appointment_id", "appointment"),
        references("replaces", "departure"),
        unique_in_clinic("replaces", name="uq__departure__replaces"),
        CheckConstraint("replaces IS NOT NULL OR NOT in_error", name="in_error_of_what"),
        Index("ix__departure__appointment", "clinic_id", "appointment_id"),
    )
