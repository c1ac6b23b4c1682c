"""Courses: open one for a patient, and end it."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Course, CourseStep, Patient
from models.vocabulary import CourseStatus
from scheduler import booking, facts
from scheduler.authority import Authority, Call
from scheduler.booking import Changed
from scheduler.errors import CourseClosed


@dataclass(frozen=True, slots=True)
class Terms:
    """What else is said when a course is opened."""

    referred_on: date | None = None
    """The day on which somebody sent the patient here for it."""
    part2: bool = False
    """Whether it falls under 42 CFR Part 2; it does in any case where its protocol says so."""


def open_course(
    session: Session,
    patient_id: UUID,
    protocol_version_id: UUID,
    *,
    by: Authority,
    terms: Terms = Terms(),
) -> Course:
    """Put a patient under a signed protocol version, with a step for each visit it asks for.

    Refuses with `NotFound`, and with `NotSigned` for a draft.
    """
    facts.one(session, Patient, patient_id)
    protocol = facts.protocol(session, protocol_version_id)
    course = Course(
        id=uuid7(),
        patient_id=patient_id,
        protocol_version_id=protocol_version_id,
        status=CourseStatus.ACTIVE,
        opened_by=by.name,
        referred_on=terms.referred_on,
        part2=terms.part2,
        version=1,
    )
    session.add(course)
    session.flush()
    session.add_all(
        CourseStep(
            id=uuid7(),
            course_id=course.id,
            key=step.key,
            position=step.position,
            kind=step.visit.kind,
        )
        for step in protocol.steps
    )
    session.flush()
    return course


def discontinue(
    session: Session, call: Call, *, by: Authority, now: datetime
) -> tuple[Course, list[Changed]]:
    """End a course before its time, and cancel the visits that are still ahead.

    `call` names the course. Refuses with `CourseClosed` if it is closed already.
    """
    course = facts.to_change(session, Course, call.id, call.version)
    if course.status is not CourseStatus.ACTIVE:
        raise CourseClosed("The course is not active any more.", course_status=course.status)
    course.status = CourseStatus.REVOKED
    course.version += 1
    session.flush()
    cancelled = [
        booking.cancel(session, Call(visit_id, None, call.reason), by=by, now=now)
        for visit_id in facts.visits_ahead(session, course.id)
    ]
    return course, cancelled
