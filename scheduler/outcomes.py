"""Outcomes: how a patient's scores change over a course, beside its baseline and its doses."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from models import Course, QuestionnaireResponse
from models.vocabulary import AppointmentStatus, CourseStatus
from scheduler import curves, facts
from scheduler.curves import Entry, Point, Span
from scheduler.instruments import Change


@dataclass(frozen=True, slots=True)
class Dose:
    """A visit of a course in which something is given."""

    appointment_id: UUID
    course_id: UUID
    step: str
    """Its key in the protocol."""
    status: AppointmentStatus
    starts_at: datetime
    dosed_at: datetime | None
    """When it was given. None: not yet."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of a course, as far as it is measured."""

    course: Course
    curves: Mapping[str, Sequence[Point]]
    """By instrument its responses, oldest first."""
    doses: Sequence[Dose]
    """In the order of time, those still ahead among them."""


def of_course(session: Session, course_id: UUID) -> Outcomes:
    """The curves and doses of a course; refuses with `NotFound`."""
    course = facts.one(session, Course, course_id)
    doses = _doses(session, course.patient_id)
    found: dict[str, list[Point]] = defaultdict(list)
    for point in _points(session, course.patient_id, doses):
        if point.entry.course_id == course.id:
            found[point.entry.instrument].append(point)
    return Outcomes(course, found, [dose for dose in doses if dose.course_id == course.id])


def of_patient(session: Session, patient_id: UUID) -> Mapping[UUID, Point]:
    """By response what counts of a patient's, in all courses and outside."""
    doses = _doses(session, patient_id)
    return {point.entry.id: point for point in _points(session, patient_id, doses)}


def told(change: Change) -> dict[str, Any]:
    """A change as callers see it."""
    shown = asdict(change)
    if change.percent is not None:
        shown["percent"] = round(change.percent, 1)
    return shown


def _points(session: Session, patient_id: UUID, doses: Sequence[Dose]) -> list[Point]:
    zone = ZoneInfo(facts.clinic(session).time_zone)
    spans = _spans(session, patient_id, doses, zone)
    entries = map(_entry, facts.responses_that_count(session, patient_id))
    return curves.points(curves.adopted(entries, spans, zone), spans)


def _entry(row: QuestionnaireResponse) -> Entry:
    return Entry(
        id=row.id,
        instrument=row.instrument,
        at=row.authored_at,
        score=row.score,
        band=row.band,
        flags=row.flags,
        course_id=row.course_id,
        appointment_id=row.appointment_id,
        authored_by=row.authored_by,
    )


def _doses(session: Session, patient_id: UUID) -> list[Dose]:
    return [
        Dose(visit.id, visit.course_id, key, visit.status, visit.starts_at, dosed_at)
        for visit, key, dosed_at in facts.doses_of(session, patient_id)
        if visit.course_id is not None
    ]


def _spans(session: Session, patient_id: UUID, doses: Sequence[Dose], zone: ZoneInfo) -> list[Span]:
    came = facts.spans_of(session, patient_id)
    first: dict[UUID, datetime] = {}
    for dose in doses:
        if dose.dosed_at is not None:
            first.setdefault(dose.course_id, dose.dosed_at)
    return [
        Span(
            course.id,
            came[course.id][0].astimezone(zone).date(),
            None
            if course.status is CourseStatus.ACTIVE
            else came[course.id][1].astimezone(zone).date(),
            first.get(course.id),
        )
        for course in facts.courses_of(session, patient_id)
        if course.id in came
    ]
