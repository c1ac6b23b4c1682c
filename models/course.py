"""Courses: one patient under one version of a protocol (FHIR CarePlan), step by step."""

from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, references, unique_in_clinic
from models.vocabulary import CourseStatus, StepKind


class Course(Tenanted):
    """One patient under one signed protocol version."""

    __tablename__ = "course"

    patient_id: Mapped[UUID]
    protocol_version_id: Mapped[UUID]
    status: Mapped[CourseStatus]
    opened_by: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("patient_id", "patient"),
        references("protocol_version_id", "protocol_version"),
        Index("ix__course__patient", "clinic_id", "patient_id"),
    )


class CourseStep(Tenanted):
    """One visit that the protocol asks of this course; booked when an appointment names it."""

    __tablename__ = "course_step"

    course_id: Mapped[UUID]
    key: Mapped[str]
    """The step's key in the protocol version."""
    position: Mapped[int]
    kind: Mapped[StepKind]

    __table_args__ = (
        references("course_id", "course"),
        unique_in_clinic("course_id", "key"),
        unique_in_clinic("course_id", "position"),
    )
