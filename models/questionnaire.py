"""Questionnaires: what patients answer, and the clinic's own words for what may not be shipped."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, references, unique_in_clinic
from models.sealed import sealed_json


class QuestionnaireDraft(Tenanted):
    """Answers that a patient has begun to give (FHIR QuestionnaireResponse, in-progress).

    What is sent becomes a response with the same id, and the draft goes.
    """

    __tablename__ = "questionnaire_draft"

    appointment_id: Mapped[UUID]
    """The visit whose checklist asks for it."""
    patient_id: Mapped[UUID]
    instrument: Mapped[str]
    answers = sealed_json()
    """The value chosen, by item."""
    saved_at: Mapped[datetime]
    flags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """What a clinician must look at, also where the answer was changed since."""
    shut_at: Mapped[datetime | None]
    """When an answer was last given that shuts a gate, also where it was changed since."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("appointment_id", "appointment", ondelete="CASCADE"),
        references("patient_id", "patient"),
        unique_in_clinic("appointment_id", "instrument"),
        Index(
            "ix__questionnaire_draft__shuts",
            "clinic_id",
            "patient_id",
            postgresql_where=text("shut_at IS NOT NULL"),
        ),
    )


class QuestionnaireResponse(Tenanted):
    """A questionnaire that was filled in, and what it amounts to (FHIR QuestionnaireResponse).

    Append-only: one that was entered in error is replaced by another, or by one that says so.
    """

    __tablename__ = "questionnaire_response"

    patient_id: Mapped[UUID]
    appointment_id: Mapped[UUID | None]
    """The visit whose checklist asked for it."""
    course_id: Mapped[UUID | None]
    instrument: Mapped[str]
    instrument_version: Mapped[str]
    answers = sealed_json()
    """Empty where only a score was entered."""
    score: Mapped[int | None]
    band: Mapped[str | None]
    flags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """What a clinician must look at."""
    shuts: Mapped[bool]
    """Whether a gate that rests on it is shut."""
    authored_at: Mapped[datetime]
    authored_by: Mapped[str]
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Those that the licences of whoever entered it let them act in; of a patient none."""
    revision: Mapped[int | None]
    """That of the visit, when it was filled in for it: which of its times that was about."""
    noted_at: Mapped[datetime]
    """When it was sent, or typed in from paper."""
    replaces: Mapped[UUID | None]
    in_error: Mapped[bool] = mapped_column(server_default=text("false"))
    """It says only that what it replaces was entered in error."""

    __table_args__ = (
        references("patient_id", "patient"),
        references("appointment_id", "appointment"),
        references("course_id", "course"),
        references("replaces", "questionnaire_response"),
        unique_in_clinic("replaces", name="uq__questionnaire_response__replaces"),
        CheckConstraint("NOT in_error OR replaces IS NOT NULL", name="in_error_of_something"),
        Index(
            "ix__questionnaire_response__patient",
            "clinic_id",
            "patient_id",
            "instrument",
            "authored_at",
        ),
        Index(
            "ix__questionnaire_response__shuts",
            "clinic_id",
            "patient_id",
            postgresql_where=text("shuts"),
        ),
    )


class InstrumentWording(Tenanted):
    """A clinic's own words for an instrument whose words are not shipped. Append-only."""

    __tablename__ = "instrument_wording"

    instrument: Mapped[str]
    number: Mapped[int]
    """The highest counts."""
    heading: Mapped[str]
    items: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """The question, by item."""
    choices: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """The answer to choose, by its value."""
    written_by: Mapped[str]

    __table_args__ = (of_clinic(), unique_in_clinic("instrument", "number"))
