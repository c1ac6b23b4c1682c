"""Integrating: what belongs soon after a dose is booked or done in time, or staff hear of it.

Which visits hang on a dose, and how soon, is protocol data: integrations with a window from it
that ends. Asked again and again: of one dose there is one task, which says what is missing and
ends by itself once nothing is, and one message for each time that something became missing.

The 24 to 72 hours of most protocols are custom, not evidence: this warns, it never blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session

from models import Appointment, Task
from models.vocabulary import AppointmentStatus, MessageKind, TaskKind, TaskStatus
from scheduler import facts, rules, tasks, telling
from scheduler.apart import apart
from scheduler.protocols import Step
from scheduler.rules import STANDING, Booked
from scheduler.tasks import Wanted
from scheduler.telling import Said

LOOKED_AT = timedelta(days=30)
"""For how long after a dose anybody looks."""

USEFUL = timedelta(days=3)
"""For how long after the window it is of use to hear of it."""


LOST = frozenset(
    {
        AppointmentStatus.CANCELLED,
        AppointmentStatus.NOSHOW,
        AppointmentStatus.ENTERED_IN_ERROR,
    }
)


@dataclass(frozen=True, slots=True)
class Missing:
    """What is missing after a dose."""

    steps: Sequence[Step]
    due_at: datetime
    """When the first of their windows is over."""
    over_at: datetime
    """When the last of them is."""
    occasion: str
    """How many visits that hang on the dose were lost, and which stand too late: told again if
    another is or does."""

    @property
    def note(self) -> str:
        """What a task says of it."""
        return ", ".join(step.key for step in self.steps)

    def exceeds(self, task: Task | None) -> bool:
        """Whether it came about after the task: that had ended by itself, or names less."""
        if task is None or task.status is not TaskStatus.REQUESTED:
            return task is not None and task.settled_by == tasks.JOB
        named = (task.note or "").split(", ")
        return any(step.key not in named for step in self.steps)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known about some doses, read for all of them at once."""

    visits: Mapping[UUID, Mapping[UUID, Booked]]
    """Of their courses."""
    going_on: set[UUID]
    passed: set[tuple[UUID, str]]
    tasks: Mapping[UUID, Task]
    told: set[tuple[UUID, str]]


def watch(session: Session, now: datetime) -> int:
    """Look after every dose of late. Returns how many times staff are told something new."""
    over = facts.doses_over(session, now - LOOKED_AT, now)
    doses, zones = [dose for dose, _ in over], {dose.id: zone for dose, zone in over}
    told = apart(session, "watch-integrations", doses, partial(_watch, session, zones, now))
    session.execute(_SETTLE_TASKS, {"by": tasks.JOB, "now": now})
    return told


def _watch(
    session: Session, zones: Mapping[UUID, str], now: datetime, doses: Sequence[Appointment]
) -> int:
    known = _known(session, doses, now)
    return sum(
        _settle(session, dose, _missing(session, dose, known, ZoneInfo(zones[dose.id])), known, now)
        for dose in doses
    )


def _known(session: Session, doses: Sequence[Appointment], now: datetime) -> _Known:
    courses = {dose.course_id for dose in doses if dose.course_id is not None}
    ids = [dose.id for dose in doses]
    visits = facts.visits_of_courses(session, courses)
    standing = [
        key for its in visits.values() for key, visit in its.items() if visit.status in STANDING
    ]
    kind = MessageKind.INTEGRATION_UNBOOKED
    return _Known(
        visits=visits,
        going_on=facts.active_courses(session, courses),
        passed=facts.passed_over(session, standing),
        tasks=facts.tasks_about(session, TaskKind.BOOK_INTEGRATION, ids),
        told=facts.occasions_of(session, kind, ids, now - 2 * LOOKED_AT),
    )


def _missing(session: Session, dose: Appointment, known: _Known, zone: ZoneInfo) -> Missing | None:
    assert dose.course_id is not None
    if dose.course_id not in known.going_on:
        return None
    its = known.visits[dose.course_id]
    key = its[dose.id].step
    assert key is not None
    protocol = facts.protocol(session, dose.protocol_version_id)
    visits = list(its.values())
    excused = {code for visit_id, code in known.passed if visit_id in its}
    steps = rules.unmet_after(key, protocol, visits, zone, excused)
    if not steps:
        return None
    ends = [end for step in steps if (end := rules.latest(step, visits, zone)) is not None]
    hanging = {step.key for step in rules.hanging_on(key, protocol)}
    return Missing(
        steps=steps,
        due_at=min(ends, default=dose.ends_at),
        over_at=max(ends, default=dose.ends_at),
        occasion=_occasion([one for one in visits if one.step in hanging], steps),
    )


def _occasion(hanging: Sequence[Booked], missing: Sequence[Step]) -> str:
    lost = sum(visit.status in LOST and not visit.is_skipped for visit in hanging)
    keys = {step.key for step in missing}
    late = [
        f"{visit.step}@{visit.starts_at:%m%dT%H%M}"
        for visit in hanging
        if visit.step in keys and visit.status in STANDING
    ]
    return ":".join(["integration", str(lost), *sorted(late)])


def _settle(
    session: Session, dose: Appointment, missing: Missing | None, known: _Known, now: datetime
) -> int:
    """Tell of what is missing, once; end the task when nothing is.

    A task that somebody closed by hand opens again only when something else is lost.
    """
    task = known.tasks.get(dose.id)
    is_open = task is not None and task.status is TaskStatus.REQUESTED
    wanted = Wanted(
        kind=TaskKind.BOOK_INTEGRATION,
        subject_id=dose.id,
        due_at=now if missing is None else missing.due_at,
        patient_id=dose.patient_id,
        appointment_id=dose.id,
        note=None if missing is None else missing.note,
    )
    if missing is None:
        if is_open:
            tasks.keep(session, wanted, now, stands=False)
        return 0
    is_told = _tell(session, dose, missing, known, now)
    if is_told or task is None or missing.exceeds(task) or (is_open and task.note != wanted.note):
        tasks.keep(session, wanted, now, stands=True)
    return int(is_told)


def _tell(
    session: Session, dose: Appointment, missing: Missing, known: _Known, now: datetime
) -> bool:
    """Say what became missing, unless it was said or is of no use any more."""
    task, occasion = known.tasks.get(dose.id), missing.occasion
    if (dose.id, occasion) in known.told:
        if task is None or not missing.exceeds(task):
            return False
        occasion = f"{occasion}:{task.version}"
    not_after = missing.over_at + USEFUL
    if now > not_after:
        return False
    said = Said(
        kind=MessageKind.INTEGRATION_UNBOOKED,
        occasion=occasion,
        due_at=now,
        not_after=not_after,
    )
    return bool(telling.tell(session, dose, said, telling.desk(session), now))


_SETTLE_TASKS = text(
    """
    UPDATE task t SET status = 'completed', settled_by = :by, settled_at = :now,
           version = t.version + 1
     WHERE t.kind = 'book-integration' AND t.status = 'requested'
       AND EXISTS (SELECT FROM appointment a
                    WHERE a.clinic_id = t.clinic_id AND a.id = t.subject_id
                      AND a.status = 'entered-in-error')
    """
)
"""After what never was, nothing is missing."""
