"""Screening: what speaks against a dose, what a patient takes, and who may go on to doses.

All of it is append-only: what is found anew stands beside what was found before.
"""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped

from models.base import Tenanted, references
from models.sealed import sealed, sealed_json, sealed_or_none
from models.vocabulary import EligibilityOutcome, HoldOutcome, MedicineAction


class Screen(Tenanted):
    """A clinician asked for every condition of a patient's protocols. The latest counts."""

    __tablename__ = "screen"

    patient_id: Mapped[UUID]
    screened_at: Mapped[datetime]
    """When it was done, which may be before it was known here."""
    recorded_at: Mapped[datetime]
    """Since when it is known: a reason given before does not speak about it."""
    answers = sealed_json()
    """By condition what was found: an `Answer`."""
    notes = sealed_json()
    """By condition what there is to say about it."""
    note = sealed_or_none()
    screened_by: Mapped[str]

    __table_args__ = (
        references("patient_id", "patient"),
        Index("ix__screen__patient", "clinic_id", "patient_id", "screened_at"),
    )


class ScreenDecision(Tenanted):
    """What was decided about a condition of a screen that is on hold. The latest counts."""

    __tablename__ = "screen_decision"

    screen_id: Mapped[UUID]
    condition: Mapped[str]
    outcome: Mapped[HoldOutcome]
    reason = sealed()
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]

    __table_args__ = (
        references("screen_id", "screen"),
        Index("ix__screen_decision__screen", "clinic_id", "screen_id"),
    )


class Reconciliation(Tenanted):
    """Somebody went through what a patient takes (FHIR MedicationStatement). The latest counts."""

    __tablename__ = "reconciliation"

    patient_id: Mapped[UUID]
    reconciled_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    medicines = sealed_json()
    """Each with `name`, `class` (a class of the protocol, or none) and `note`."""
    note = sealed_or_none()
    reconciled_by: Mapped[str]

    __table_args__ = (
        references("patient_id", "patient"),
        Index("ix__reconciliation__patient", "clinic_id", "patient_id", "reconciled_at"),
    )


class MedicineRuling(Tenanted):
    """What is done about the medicines of a class in a reconciliation. The latest counts."""

    __tablename__ = "medicine_ruling"

    reconciliation_id: Mapped[UUID]
    medicine_class: Mapped[str]
    action: Mapped[MedicineAction]
    reason = sealed_or_none()
    """Why it is another than the protocol's."""
    ruled_by: Mapped[str]
    ruled_at: Mapped[datetime]

    __table_args__ = (
        references("reconciliation_id", "reconciliation"),
        Index("ix__medicine_ruling__reconciliation", "clinic_id", "reconciliation_id"),
    )


class Eligibility(Tenanted):
    """What was decided about who may go on to the doses of a course. The latest counts."""

    __tablename__ = "eligibility"

    course_id: Mapped[UUID]
    patient_id: Mapped[UUID]
    outcome: Mapped[EligibilityOutcome]
    reason = sealed_or_none()
    conditions = sealed_or_none()
    deferred_until: Mapped[date | None]
    """By the clinic's day; on it somebody looks again, and nothing opens by itself."""
    rescreen_on: Mapped[date | None]
    """By the clinic's day; through it the decision holds."""
    remind_at: Mapped[datetime | None]
    """When staff and patient are reminded of it."""
    lapses_at: Mapped[datetime | None]
    """The end of the day of the re-screening."""
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]

    __table_args__ = (
        references("course_id", "course"),
        references("patient_id", "patient"),
        CheckConstraint("outcome = 'eligible' OR reason IS NOT NULL", name="for_a_reason"),
        CheckConstraint(
            "(outcome = 'deferred') = (deferred_until IS NOT NULL)", name="deferred_until_a_day"
        ),
        CheckConstraint(
            "(outcome = 'eligible-with-conditions') = (conditions IS NOT NULL)",
            name="conditions_said",
        ),
        CheckConstraint("(rescreen_on IS NULL) = (lapses_at IS NULL)", name="lapses_after_its_day"),
        CheckConstraint(
            "(remind_at IS NULL) = (rescreen_on IS NULL AND deferred_until IS NULL)",
            name="reminded_of_its_day",
        ),
        Index("ix__eligibility__course", "clinic_id", "course_id", "decided_at"),
        Index("ix__eligibility__patient", "clinic_id", "patient_id"),
        Index(
            "ix__eligibility__remind",
            "clinic_id",
            "remind_at",
            postgresql_where=text("remind_at IS NOT NULL"),
        ),
    )
