"""Courses: one patient under one version of a protocol (FHIR CarePlan), step by step."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, false, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, references, unique_in_clinic
from models.sealed import sealed_or_none
from models.vocabulary import CourseStatus, StepKind


class Course(Tenanted):
    """One patient under one signed protocol version."""

    __tablename__ = "course"

    patient_id: Mapped[UUID]
    protocol_version_id: Mapped[UUID]
    status: Mapped[CourseStatus]
    opened_by: Mapped[str]
    referred_on: Mapped[date | None]
    """The day of the referral that it follows. None: nobody said."""
    part2: Mapped[bool] = mapped_column(server_default=false())
    """Whether it falls under 42 CFR Part 2. A trigger says so where its protocol does."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("patient_id", "patient"),
        references("protocol_version_id", "protocol_version"),
        Index("ix__course__patient", "clinic_id", "patient_id"),
        Index("ix__course__status", "clinic_id", "status", "id"),
        Index("ix__course__part2", "clinic_id", "patient_id", postgresql_where=text("part2")),
    )


class CourseStep(Tenanted):
    """One visit that the protocol asks of this course; booked when an appointment names it."""

    __tablename__ = "course_step"

    course_id: Mapped[UUID]
    key: Mapped[str]
    """The step's key in the protocol version."""
    position: Mapped[int]
    kind: Mapped[StepKind]
    planned_at: Mapped[datetime | None]
    """When it was to start; of a skipped step, what later steps count from."""
    skipped_at: Mapped[datetime | None]
    skipped_by: Mapped[str | None]
    skip_reason = sealed_or_none()
    outcome: Mapped[str | None]
    """How it ended: one of the outcomes that the protocol lists for it."""
    outcome_by: Mapped[str | None]
    outcome_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("course_id", "course"),
        CheckConstraint(
            "num_nulls(skipped_at, skipped_by, skip_reason) IN (0, 3)", name="skipped_for_a_reason"
        ),
        CheckConstraint(
            "num_nulls(outcome, outcome_by, outcome_at) IN (0, 3)", name="outcome_of_somebody"
        ),
        CheckConstraint("skipped_at IS NULL OR outcome IS NULL", name="skipped_or_ended"),
        unique_in_clinic("course_id", "key"),
        unique_in_clinic("course_id", "position"),
    )
