"""What reports need and nothing else keeps: how visits stood two days before they began."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, references, unique_in_clinic


class ReadinessSnapshot(Tenanted):
    """How the gates of a booked visit stood 48 hours before its start. Append-only.

    Readiness is worked out and never stored, so what it was can only be noted at the time.
    """

    __tablename__ = "readiness_snapshot"

    appointment_id: Mapped[UUID]
    revision: Mapped[int]
    """The visit's: one that is moved in time is looked at anew before its new start."""
    site_id: Mapped[UUID]
    starts_at: Mapped[datetime]
    """When the visit was to start then."""
    taken_at: Mapped[datetime]
    before_arrival: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """The gates that would have kept the patient from being received, by code."""
    before_dose: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """The further ones that would have stopped the dose."""

    __table_args__ = (
        references("appointment_id", "appointment"),
        references("site_id", "site"),
        unique_in_clinic("appointment_id", "revision"),
        Index("ix__readiness_snapshot__starts_at", "clinic_id", "starts_at"),
    )
