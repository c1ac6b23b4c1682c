"""Consent: the clinic's texts in their versions, and what patients signed. All append-only."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index
from sqlalchemy.orm import Mapped

from models.base import Tenanted, of_clinic, references, unique_in_clinic


class ConsentText(Tenanted):
    """A version of what patients agree to, in one language. What was written stays as it is."""

    __tablename__ = "consent_text"

    code: Mapped[str]
    """The gate that it is for."""
    number: Mapped[int]
    """Versions of a code are counted through, whatever their language."""
    language: Mapped[str]
    title: Mapped[str]
    body: Mapped[str]
    """Plain text; an empty line parts paragraphs."""
    renews: Mapped[bool]
    """Consents given to earlier versions end with this one, in every language."""
    written_by: Mapped[str]
    written_at: Mapped[datetime]

    __table_args__ = (of_clinic(), unique_in_clinic("code", "number"))


class Consent(Tenanted):
    """A patient's signature under a text (FHIR Consent). The gate's clearance goes with it.

    What the copy on paper shows stands here, so that it can be made anew and is the same.
    """

    __tablename__ = "consent"

    patient_id: Mapped[UUID]
    course_id: Mapped[UUID | None]
    appointment_id: Mapped[UUID]
    """The visit on whose page it was signed."""
    text_id: Mapped[UUID]
    clearance_id: Mapped[UUID]
    gate: Mapped[str]
    medicine: Mapped[str | None]
    route: Mapped[str | None]
    name: Mapped[str]
    """As the patient typed it."""
    language: Mapped[str]
    """Of the text, and of the words beside the tick."""
    signed_at: Mapped[datetime]
    address: Mapped[str | None]
    """The network address that it came from, as far as our proxies told."""
    clinic_name: Mapped[str]
    time_zone: Mapped[str]
    """The clinic's, by which the copy tells the time."""

    __table_args__ = (
        references("patient_id", "patient"),
        references("course_id", "course"),
        references("appointment_id", "appointment"),
        references("text_id", "consent_text"),
        references("clearance_id", "clearance"),
        unique_in_clinic("clearance_id"),
        Index("ix__consent__patient", "clinic_id", "patient_id", "signed_at"),
    )
