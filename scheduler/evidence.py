"""Evidence: the SELECTs that gates are judged by, and nothing else.

What many visits need is asked for all of them at once: a board of a thousand visits takes as
many queries as one visit does.
"""

import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Appointment
from models.vocabulary import ActorKind, Place, Progress, Stage
from scheduler import facts, lines, readiness, rules
from scheduler.facts import Brief
from scheduler.lines import Key, Lines, OfPatient, OfVisit, Served
from scheduler.protocols import Protocol, Step, Visit
from scheduler.readiness import Amiss, EarlierStep, Known, Readiness, Serving

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
    def protocol_version_id(self) -> UUID: ...
    @property
    def visit(self) -> str: ...
    @property
    def starts_at(self) -> datetime: ...
    @property
    def ends_at(self) -> datetime: ...
    @property
    def progress(self) -> Progress | None: ...


class Told(NamedTuple):
    """All that a visit is judged by, as the database told it; the same says the same."""

    protocol: Protocol
    visit: str
    """What it is, by its key in the protocol."""
    course_id: str | None
    starts_at: datetime
    ends_at: datetime
    of_visit: str
    of_patient: str
    of_course: str
    of_all: str


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """How a visit stands, and who serves it, in the order of time."""

    readiness: Readiness
    served: tuple[Served, ...]


KEPT = 2000
"""Of so many visits it is kept how they were judged: a board, and what else is asked meanwhile."""


def judge(session: Session, visits: Sequence[Seen], now: datetime) -> dict[Any, Readiness]:
    """The readiness of each visit. The number of queries does not depend on how many."""
    return {key: one.readiness for key, one in stand(session, visits, now).items()}


def stand(session: Session, visits: Sequence[Seen], now: datetime) -> dict[Any, Standing]:
    """The readiness of each visit, and who serves it, in one query."""
    return {
        visit.id: _judged(
            told, readiness.moment(visit.starts_at, now, under_way=visit.progress is not None)
        )
        for visit, told in _told(session, visits)
    }


def amiss(session: Session, visits: Sequence[Seen], now: datetime) -> dict[Any, Amiss]:
    """What the service itself asks of each visit and does not find."""
    return {
        visit.id: readiness.amiss(_known(told), max(visit.starts_at, now))
        for visit, told in _told(session, visits)
    }


@lru_cache(maxsize=KEPT)
def _judged(told: Told, at: datetime) -> Standing:
    """Judge a visit as of `at`. Kept: most visits are asked of again before anything changes.

    It rests on what it is given alone, all of it read anew, so what is kept is never stale.
    """
    of_visit = lines.of_visit(told.of_visit)
    gates = told.protocol.visits[told.visit].gates
    return Standing(readiness.assess(gates, _known(told), at), lines.in_order(of_visit.served))


def known(session: Session, visits: Sequence[Seen]) -> dict[Any, Known]:
    """Everything that the gates of each visit are judged by."""
    return {visit.id: _known(told) for visit, told in _told(session, visits)}


def before_booking(session: Session, about: Brief, moving: UUID | None = None) -> Known | None:
    """What the gates that shut the booking of a visit are judged by. None: there are none.

    `moving`: the visit itself, if it has a time already, which says nothing about another.
    """
    if all(gate.shuts is not Stage.BOOKING for gate in about.visit.gates):
        return None
    found = lines.read(session, [about.patient.id], courses=[about.course_id])
    before: Before = None, True
    if about.course_id is not None and about.step is not None:
        before = _before(about.protocol, about.step.key, found.of(about.course_id))
    of_patient = found.patient(about.patient.id)
    of_patient.doses.pop(str(moving), None)
    return _before_any_time(of_patient, found, about.course_id, about.visit, before)


def before_course(
    session: Session, patient_id: UUID, course_id: UUID, protocol: Protocol
) -> Callable[[Step], Known]:
    """What the booking gates of any step of a course are judged by, in one query for all."""
    found = lines.read(session, [patient_id], courses=[course_id])

    def given(step: Step) -> Known:
        before = _before(protocol, step.key, found.of(course_id))
        return _before_any_time(found.patient(patient_id), found, course_id, step.visit, before)

    return given


def _before_any_time(
    of_patient: OfPatient,
    found: Lines,
    course_id: UUID | None,
    content: Visit,
    before: Before,
) -> Known:
    earlier, first = before
    return Known(
        starts_at=_ANY_TIME,
        clearances=of_patient.cleared,
        renewed=lines.of_all(found.of_all).renewed,
        medicine=content.medicine,
        route=content.route,
        doses=tuple(of_patient.doses.values()),
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


def _told(session: Session, visits: Sequence[Seen]) -> Iterator[tuple[Seen, Told]]:
    found = lines.read(
        session,
        [visit.patient_id for visit in visits],
        [visit.id for visit in visits],
        [visit.course_id for visit in visits],
    )
    protocol, of, of_all = cache(partial(facts.protocol, session)), found.of, found.of_all
    for visit in visits:
        course_id = visit.course_id
        yield (
            visit,
            Told(
                protocol(visit.protocol_version_id),
                visit.visit,
                None if course_id is None else str(course_id),
                visit.starts_at,
                visit.ends_at,
                of(visit.id),
                of(visit.patient_id),
                of(course_id),
                of_all,
            ),
        )


def _known(told: Told) -> Known:
    of_patient, of_visit = lines.of_patient(told.of_patient), lines.of_visit(told.of_visit)
    content, starts_at = told.protocol.visits[told.visit], told.starts_at
    earlier, first = None, True
    if told.course_id is not None and of_visit.step is not None:
        earlier, first = _before(told.protocol, of_visit.step, told.of_course)
    return Known(
        starts_at=starts_at,
        ends_at=told.ends_at,
        clearances=of_patient.cleared,
        renewed=lines.of_all(told.of_all).renewed,
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
        shut_by=of_patient.shut_by,
        happened=of_patient.happened,
        duties=of_patient.duties,
        screen=of_patient.screen,
        reconciled=of_patient.reconciled,
        eligibility=of_patient.eligible(told.course_id),
        doses=tuple([at for at in of_patient.doses.values() if at < starts_at]),
        overridden=of_visit.overridden,
        serving=_serving(told, of_visit),
    )


def _serving(told: Told, of_visit: OfVisit) -> Serving | None:
    """Who serves a visit, and whom."""
    if of_visit.whose is None:
        return None
    time_zone, birth_date, region, is_over = of_visit.whose
    licences = lines.of_all(told.of_all).licences
    by_video = told.protocol.visits[told.visit].place is Place.TELEHEALTH
    return Serving(
        time_zone,
        [
            (one.role, licences.get(one.schedule_id, ()))
            for one in lines.in_order(of_visit.served)
            if one.role not in _NOBODY
        ],
        birth_date,
        told.protocol.minimum_age,
        region if by_video else None,
        is_over,
    )


_NOBODY = frozenset({ActorKind.ROOM, ActorKind.DEVICE})
"""Roles that take no licence."""


@lru_cache(maxsize=KEPT)
def _before(protocol: Protocol, key: str, of_course: str) -> Before:
    """The steps before a step. Those of a branch that was not taken count for nothing."""
    past, step = lines.of_course(of_course), protocol.step(key)
    earlier = tuple(
        EarlierStep(one.key, one.visit.kind, one.key in past.fulfilled, one.key in past.skipped)
        for one in protocol.steps
        if one.position < step.position
        and rules.belongs(one, protocol, past.outcomes, past.skipped) is not False
    )
    kind = step.visit.kind
    return earlier, all(one.kind is not kind or one.skipped for one in earlier)
