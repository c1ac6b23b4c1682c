"""Evidence: the SELECTs that gates are judged by, and nothing else.

What many visits need is asked for all of them at once: a board of a thousand visits takes as
many queries as one visit does.
"""

import typing
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models import Appointment
from models.vocabulary import Progress, Stage
from scheduler import facts, lines, readiness, rules
from scheduler.facts import Brief
from scheduler.lines import Key, Lines, array
from scheduler.protocols import Protocol, Step, Visit
from scheduler.readiness import EarlierStep, Known, Readiness

Before = tuple[tuple[EarlierStep, ...] | None, bool]
"""The steps before a visit, None outside courses; and whether it is the first of its kind."""


class Seen(typing.Protocol):
    """A visit, as far as its gates care: a row of the database, or what was selected of one."""

    @property
    def id(self) -> Key: ...
    @property
    def patient_id(self) -> Key: ...
    @property
    def course_id(self) -> Key | None: ...
    @property
    def course_step_id(self) -> Key | None: ...
    @property
    def protocol_version_id(self) -> UUID: ...
    @property
    def visit(self) -> str: ...
    @property
    def starts_at(self) -> datetime: ...
    @property
    def ends_at(self) -> datetime: ...
    @property
    def progress(self) -> Progress | None: ...


def judge(session: Session, visits: Sequence[Seen], now: datetime) -> dict[Any, Readiness]:
    """The readiness of each visit. The number of queries does not depend on how many."""
    content, given = _contents(session), known(session, visits, now)
    return {
        visit.id: readiness.assess(
            content(visit).gates,
            given[visit.id],
            readiness.moment(visit.starts_at, now, under_way=visit.progress is not None),
        )
        for visit in visits
    }


def before_booking(session: Session, about: Brief) -> Known | None:
    """What the gates that shut the booking of a visit are judged by. None: there are none."""
    if all(gate.shuts is not Stage.BOOKING for gate in about.visit.gates):
        return None
    before: Before = None, True
    if about.course_id is not None and about.step is not None:
        before = steps_before(session, about.course_id, about.step, about.protocol)
    found = lines.read(session, [about.patient.id], [])
    return _before_any_time(found, str(about.patient.id), about.course_id, about.visit, before)


def before_course(
    session: Session, patient_id: UUID, course_id: UUID, protocol: Protocol
) -> Callable[[Step], Known]:
    """What the booking gates of any step of a course are judged by, in two queries for all."""
    found = lines.read(session, [patient_id], [])
    past = _pasts(_steps(session, [course_id]))[str(course_id)]

    def given(step: Step) -> Known:
        before = _before(past, protocol, step)
        return _before_any_time(found, str(patient_id), course_id, step.visit, before)

    return given


def _before_any_time(
    found: Lines, patient_id: str, course_id: UUID | None, content: Visit, before: Before
) -> Known:
    of_patient = found.of_patient[patient_id]
    earlier, first = before
    return Known(
        starts_at=_ANY_TIME,
        clearances=of_patient.cleared,
        renewed=found.renewed,
        medicine=content.medicine,
        route=content.route,
        happened=of_patient.happened,
        duties=of_patient.duties,
        screen=of_patient.screen,
        reconciled=of_patient.reconciled,
        eligibility=of_patient.eligible(course_id),
        earlier=earlier,
        first_of_kind=first,
    )


_ANY_TIME = datetime.max.replace(tzinfo=UTC)
"""A visit that is not booked has no checklist yet, whose items would be due by its start."""


def unready(session: Session, ids: Sequence[UUID], now: datetime) -> set[UUID]:
    """Those of the visits that a shut gate would keep from beginning."""
    visits = session.scalars(select(Appointment).where(Appointment.id.in_(ids))).all()
    return {
        visit_id
        for visit_id, judged in judge(session, visits, now).items()
        if judged.shut(Stage.ARRIVAL)
    }


def known(
    session: Session, visits: Sequence[Seen], now: datetime | None = None
) -> dict[Any, Known]:
    """Everything that the gates of each visit are judged by."""
    found = lines.read(
        session, [visit.patient_id for visit in visits], [visit.id for visit in visits]
    )
    content, before = _contents(session), _before_each(session, visits)
    return {visit.id: _known(visit, found, content(visit), before(visit), now) for visit in visits}


def _contents(session: Session) -> Callable[[Seen], Visit]:
    """What the protocols ask for in a visit, each looked up once."""

    @cache
    def content(version_id: UUID, key: str) -> Visit:
        return facts.protocol(session, version_id).visits[key]

    return lambda visit: content(visit.protocol_version_id, visit.visit)


def _known(
    visit: Seen, found: Lines, content: Visit, before: Before, now: datetime | None
) -> Known:
    of_patient, of_visit = found.of_patient[str(visit.patient_id)], found.of_visit[str(visit.id)]
    starts_at = visit.starts_at
    earlier, first = before
    return Known(
        starts_at=starts_at,
        ends_at=visit.ends_at,
        now=now,
        clearances=of_patient.cleared,
        renewed=found.renewed,
        medicine=content.medicine,
        route=content.route,
        items=of_visit.items,
        escort=of_visit.escort,
        left=of_visit.left,
        ways_home=content.ways_home,
        earlier=earlier,
        first_of_kind=first,
        dosed_at=of_visit.dosed_at,
        measured=of_visit.measured,
        answered=of_patient.answered,
        happened=of_patient.happened,
        duties=of_patient.duties,
        screen=of_patient.screen,
        reconciled=of_patient.reconciled,
        eligibility=of_patient.eligible(visit.course_id),
        last_dosed_at=max((at for at in of_patient.doses if at < starts_at), default=None),
        overridden=of_visit.overridden,
    )


@dataclass(frozen=True, slots=True)
class _Past:
    """What became of a course's steps, by key; of most nothing yet."""

    fulfilled: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    outcomes: tuple[tuple[str, str], ...] = ()


class _Step(NamedTuple):
    """A step of a course, and what became of it."""

    course_id: str
    id: str
    key: str
    outcome: str | None
    skipped: bool
    fulfilled: bool


def steps_before(session: Session, course_id: UUID, step: Step, protocol: Protocol) -> Before:
    """What comes before a step that is not booked yet."""
    return _before(_pasts(_steps(session, [course_id]))[str(course_id)], protocol, step)


def _before_each(session: Session, visits: Sequence[Seen]) -> Callable[[Seen], Before]:
    """What comes before each visit, worked out once for all courses that have come as far."""
    in_courses = [visit for visit in visits if visit.course_id is not None]
    courses = [visit.course_id for visit in in_courses]
    steps = _steps(session, courses, [visit.course_step_id for visit in in_courses])
    pasts, keys = _pasts(steps), {step.id: step.key for step in steps}

    @cache
    def before(version_id: UUID, key: str, past: _Past) -> Before:
        protocol = facts.protocol(session, version_id)
        return _before(past, protocol, protocol.step(key))

    def of(visit: Seen) -> Before:
        if visit.course_id is None or visit.course_step_id is None:
            return None, True
        key = keys[str(visit.course_step_id)]
        return before(visit.protocol_version_id, key, pasts[str(visit.course_id)])

    return of


def _pasts(steps: Iterable[_Step]) -> Mapping[str, _Past]:
    courses: dict[str, list[_Step]] = defaultdict(list)
    for step in steps:
        courses[step.course_id].append(step)
    return defaultdict(_Past, {course_id: _past(its) for course_id, its in courses.items()})


def _past(steps: Sequence[_Step]) -> _Past:
    return _Past(
        frozenset(step.key for step in steps if step.fulfilled),
        frozenset(step.key for step in steps if step.skipped),
        tuple((step.key, step.outcome) for step in steps if step.outcome is not None),
    )


def _steps(
    session: Session, courses: Sequence[Key | None], own: Sequence[Key | None] = ()
) -> Sequence[_Step]:
    """The steps of courses of which something became, and the visits' `own`."""
    if not courses:
        return []
    asked = {"courses": array(courses), "own": array(own)}
    return [_Step._make(row) for row in session.execute(_STEPS, asked).all()]


_STEPS = text(
    """
    SELECT CAST(s.course_id AS text) AS course_id, CAST(s.id AS text) AS id, s.key, s.outcome,
           s.skipped_at IS NOT NULL AS skipped, a.id IS NOT NULL AS fulfilled
      FROM course_step s
      LEFT JOIN appointment a ON a.clinic_id = s.clinic_id AND a.course_step_id = s.id
                             AND a.status = 'fulfilled'
     WHERE s.course_id = ANY(CAST(:courses AS uuid[]))
       AND (s.id = ANY(CAST(:own AS uuid[])) OR s.outcome IS NOT NULL OR s.skipped_at IS NOT NULL
            OR a.id IS NOT NULL)
    """
)


def _before(past: _Past, protocol: Protocol, step: Step) -> Before:
    """The steps before a step. Those of a branch that was not taken count for nothing."""
    outcomes = dict(past.outcomes)
    earlier = tuple(
        EarlierStep(one.key, one.visit.kind, one.key in past.fulfilled, one.key in past.skipped)
        for one in protocol.steps
        if one.position < step.position
        and rules.belongs(one, protocol, outcomes, past.skipped) is not False
    )
    kind = step.visit.kind
    return earlier, all(one.kind is not kind or one.skipped for one in earlier)
