"""Consent: the clinic's texts in their versions, what patients signed, whom they let be told."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, references, unique_in_clinic
from models.sealed import sealed
from models.vocabulary import DisclosurePurpose


class ConsentText(Tenanted):
    """A version of what patients agree to, in one language. Append-only."""

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
    """A patient's signature under a text (FHIR Consent). Append-only.

    The gate's clearance goes with it. What the copy on paper shows stands here, so that it can be
    made anew and is the same.
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


class DisclosureConsent(Tenanted):
    """A patient lets records under 42 CFR Part 2 be disclosed (FHIR Consent, patient-privacy)."""

    __tablename__ = "disclosure_consent"

    patient_id: Mapped[UUID]
    purpose: Mapped[DisclosurePurpose]
    recipient = sealed()
    """To whom, as the patient signed it: a name, or a class of people."""
    signed_on: Mapped[date]
    ends_on: Mapped[date | None]
    """The last day on which it holds. None: until it is withdrawn."""
    noted_by: Mapped[str]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("patient_id", "patient"),
        CheckConstraint("ends_on >= signed_on", name="signed_before_it_ends"),
        CheckConstraint(
            "(withdrawn_at IS NULL) = (withdrawn_by IS NULL)", name="withdrawn_by_somebody"
        ),
        Index("ix__disclosure_consent__patient", "clinic_id", "patient_id", "id"),
    )
