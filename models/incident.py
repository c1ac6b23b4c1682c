"""Incidents: what went otherwise than it should, with a checklist of its own."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, references, unique_in_clinic
from models.sealed import sealed_or_none


class Incident(Tenanted):
    """Something that went wrong with a patient (FHIR AdverseEvent). Append-only.

    What is to be done about it stands in checklist items of its own.
    """

    __tablename__ = "incident"

    patient_id: Mapped[UUID]
    appointment_id: Mapped[UUID | None]
    """The visit in which it happened. None: outside any."""
    code: Mapped[str]
    """One that the patient's protocol knows."""
    title: Mapped[str]
    occurred_at: Mapped[datetime]
    note = sealed_or_none()
    noted_by: Mapped[str]
    noted_at: Mapped[datetime]
    health_event_id: Mapped[UUID | None]
    """What it was noted as among what ends clearances, if it is of that kind."""
    replaces: Mapped[UUID | None]
    in_error: Mapped[bool] = mapped_column(server_default=text("false"))
    """It says only that what it replaces was entered in error."""

    __table_args__ = (
        references("patient_id", "patient"),
        references("appointment_id", "appointment"),
        references("health_event_id", "health_event"),
        references("replaces", "incident"),
        unique_in_clinic("replaces", name="uq__incident__replaces"),
        CheckConstraint("NOT in_error OR replaces IS NOT NULL", name="in_error_of_something"),
        Index("ix__incident__patient", "clinic_id", "patient_id", "occurred_at"),
        Index(
            "ix__incident__occurred_at",
            "clinic_id",
            "occurred_at",
            "id",
            postgresql_where=text("NOT in_error"),
        ),
    )
