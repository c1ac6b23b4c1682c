"""Summaries: what has taken place in a course, what comes next, and what a patient filled in.

What stands here a patient may see: no score, no band, no flag, no outcome of a step.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from models import Appointment, Course, Site
from models.vocabulary import AppointmentStatus, CourseStatus, StepKind
from scheduler import facts, outcomes, steps
from scheduler.outcomes import Outcomes
from scheduler.protocols import Advice, Protocol

OWN = "patient"
"""By whom it was written what patients send from their page."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A visit of the course."""

    appointment_id: UUID
    kind: StepKind
    title: str
    """As the protocol calls it, for staff."""
    starts_at: datetime
    zone: ZoneInfo
    """The site's."""
    place: str
    """The site, with its address."""
    is_suspended: bool = False
    """It is not ready: nobody says that it takes place."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A questionnaire that the patient sent."""

    instrument: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Advised:
    """What the patient does or leaves for a while after a dose."""

    advice: Advice
    until: datetime | None
    """While it holds; None: before the first dose, or when it is over."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A course in short."""

    course: Course
    took_place: Sequence[Seen]
    ahead: Sequence[Seen]
    """What is booked, that of today among it."""
    to_arrange: Mapping[StepKind, int]
    """How many more visits the course asks for that are not booked yet."""
    filled: Sequence[Filled]
    afterwards: Sequence[Advised]


def of_course(session: Session, course_id: UUID, now: datetime) -> Summary:
    """Sum a course up as of `now`; refuses with `NotFound`."""
    measured = outcomes.of_course(session, course_id)
    course = measured.course
    protocol = facts.protocol(session, course.protocol_version_id)
    visits = facts.visits_of(session, course_id)
    return Summary(
        course=course,
        took_place=[_seen(protocol, *one) for one in visits if _took_place(one[0], now)],
        ahead=[_seen(protocol, *one) for one in visits if _is_ahead(one[0], now)],
        to_arrange=_to_arrange(session, course, protocol, [visit for visit, _ in visits]),
        filled=_filled(measured),
        afterwards=_afterwards(measured, protocol, now),
    )


def _seen(protocol: Protocol, visit: Appointment, site: Site) -> Seen:
    return Seen(
        visit.id,
        visit.kind,
        protocol.visits[visit.visit].title,
        visit.starts_at,
        ZoneInfo(site.time_zone),
        f"{site.name}, {site.address}",
        visit.suspended_at is not None,
    )


def _took_place(visit: Appointment, now: datetime) -> bool:
    """Whether it did: somebody said so, or the patient was here and its time is over."""
    over = visit.status is AppointmentStatus.CHECKED_IN and visit.ends_at <= now
    return over or visit.status is AppointmentStatus.FULFILLED


def _is_ahead(visit: Appointment, now: datetime) -> bool:
    is_held = visit.status is AppointmentStatus.PENDING
    return visit.ends_at > now and not is_held and not _took_place(visit, now)


def _to_arrange(
    session: Session, course: Course, protocol: Protocol, visits: Sequence[Appointment]
) -> Mapping[StepKind, int]:
    if course.status is not CourseStatus.ACTIVE:
        return {}
    asked = facts.steps_of(session, course.id)
    part = steps.belonging(protocol, asked)
    booked = {
        visit.course_step_id for visit in visits if visit.status is not AppointmentStatus.PENDING
    }
    return Counter(
        step.kind
        for step in asked
        if part[step.key] is True and step.skipped_at is None and step.id not in booked
    )


def _filled(measured: Outcomes) -> list[Filled]:
    entries = [point.entry for points in measured.curves.values() for point in points]
    own = [Filled(entry.instrument, entry.at) for entry in entries if entry.authored_by == OWN]
    return sorted(own, key=lambda one: (one.at, one.instrument))


def _afterwards(measured: Outcomes, protocol: Protocol, now: datetime) -> list[Advised]:
    """What follows the last dose; before the first, what will follow it."""
    given = [dose for dose in measured.doses if dose.dosed_at is not None]
    if given:
        last = given[-1]
        advised = protocol.step(last.step).visit.afterwards
        return [Advised(advice, _until(advice, last.dosed_at, now)) for advice in advised]
    first = next((one for one in protocol.steps if one.visit.kind is StepKind.DOSING), None)
    return [] if first is None else [Advised(advice, None) for advice in first.visit.afterwards]


def _until(advice: Advice, dosed_at: datetime | None, now: datetime) -> datetime | None:
    if dosed_at is None:
        return None
    end = dosed_at + advice.lasts.elapsed
    return end if end > now else None
