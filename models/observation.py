"""What is measured about a patient during a visit."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, references, unique_in_clinic
from models.sealed import sealed_or_none


class Observation(Tenanted):
    """Vital signs and scores that were taken at one moment (FHIR Observation). Append-only.

    Whoever finds a slip of the pen writes another that replaces it; one without values says
    that the other was entered in error.
    """

    __tablename__ = "observation"

    appointment_id: Mapped[UUID]
    patient_id: Mapped[UUID]
    taken_at: Mapped[datetime]
    """When it was measured, which may be before it was typed in."""
    values: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """Numbers by measure."""
    note = sealed_or_none()
    noted_by: Mapped[str]
    noted_at: Mapped[datetime]
    """When it was typed in: a reason that was given before does not speak about it."""
    replaces: Mapped[UUID | None]
    """The observation that is not to count any more."""

    __table_args__ = (
        references("appointment_id", "appointment"),
        references("patient_id", "patient"),
        references("replaces", "observation"),
        unique_in_clinic("replaces", name="uq__observation__replaces"),
        CheckConstraint("values <> '{}' OR replaces IS NOT NULL", name="says_something"),
        Index("ix__observation__appointment", "clinic_id", "appointment_id", "taken_at", "id"),
    )
