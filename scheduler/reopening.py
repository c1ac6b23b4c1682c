"""Reopening: a gate of a visit ahead that was settled is not any more, and people hear of it.

Settled is also what somebody passed over with a reason, and what a visit moved past, or what came
to light, opens anew. Staff get a task, and they and the patient a message, at once. What waits for
somebody's decision is told to those who may decide as well, also where nothing was settled before.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from sqlalchemy.orm import Session

from models import Appointment, Task
from models.vocabulary import AppointmentStatus, GateState, MessageKind, Owner, TaskKind
from notifications import outbox
from scheduler import evidence, facts, tasks, telling
from scheduler.apart import apart
from scheduler.protocols import SettledBy
from scheduler.readiness import DEMANDS, Judged, Readiness
from scheduler.tasks import Wanted
from scheduler.telling import Reader, Said

Settled = Mapping[UUID, Readiness]
"""By visit how its gates stand."""

SOON = timedelta(hours=4)
"""Within which staff are asked to see to it."""

DECIDED_ON = frozenset({SettledBy.SCREEN, SettledBy.MEDICINES})
"""What gates rest on that stay open, once it was looked at, until somebody decides."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What is told of a visit."""

    visit: Appointment
    gates: Sequence[tuple[Judged, bool]]
    """Each with whether it was settled before."""

    @property
    def waiting(self) -> list[Judged]:
        """Those that wait for somebody's decision."""
        return [one for one, _ in self.gates if _waits(one)]

    @property
    def has_lapsed(self) -> bool:
        """Whether anything was settled before."""
        return any(was_settled for _, was_settled in self.gates)

    @property
    def concerns_patient(self) -> bool:
        """Whether any of that is the patient's to hear of: who may serve them is the clinic's."""
        return any(settled and one.gate.code not in DEMANDS for one, settled in self.gates)


def settled(session: Session, visits: Sequence[Appointment], now: datetime) -> Settled:
    """What is settled for visits as they stand."""
    return evidence.judge(session, visits, now) if visits else {}


def tell(
    session: Session,
    visits: Sequence[Appointment],
    before: Settled,
    now: datetime,
    *,
    taken_back: bool = False,
) -> int:
    """Tell of the visits for which something that was settled before has lapsed. Returns how many.

    And of what waits for a decision now, and did not before. What is merely asked again for
    another day, such as the escort's yes, is on the checklist and has its own reminders.
    `taken_back`: what settled it never was, so what is merely open now is told as well.
    """
    after = settled(session, visits, now)
    told = [_Told(visit, _since(before[visit.id], after[visit.id], taken_back)) for visit in visits]
    told = sorted((one for one in told if one.gates), key=lambda one: one.visit.starts_at)
    if not told:
        return 0
    _set_tasks(session, told, now)
    for patient_id in dict.fromkeys(one.visit.patient_id for one in told):
        its = [one for one in told if one.visit.patient_id == patient_id]
        _tell(session, its, _readers(session, its, now), now)
    return len(told)


@contextmanager
def told_after(
    session: Session, patient_id: UUID, now: datetime, *, taken_back: bool = False
) -> Iterator[None]:
    """Tell of what lapses for a patient's visits ahead by what is done meanwhile."""
    ahead = facts.booked_ahead(session, patient_id, now)
    before = settled(session, ahead, now)
    yield
    left = [visit for visit in ahead if visit.status is AppointmentStatus.BOOKED]
    tell(session, left, before, now, taken_back=taken_back)


def review(session: Session, now: datetime) -> int:
    """End the tasks of what is settled by now, or of visits that are not ahead. Returns how many.

    Whoever has not heard of it yet does not hear of it any more.
    """
    open_tasks = facts.open_tasks(session, TaskKind.SETTLE_ANEW)
    return apart(session, "settle-anew", open_tasks, partial(_review, session, now))


def _review(session: Session, now: datetime, open_tasks: Sequence[Task]) -> int:
    visits = facts.visits_named(session, [task.subject_id for task in open_tasks])
    ahead = [one for one in visits if one.status is AppointmentStatus.BOOKED]
    stand, by_id = settled(session, ahead, now), {task.subject_id: task for task in open_tasks}
    left = [
        _Told(visit, still)
        for visit in sorted(ahead, key=lambda one: one.starts_at)
        if (still := _still_open(stand[visit.id], by_id[visit.id]))
    ]
    standing = {one.visit.id for one in left}
    ended = [task for task in open_tasks if task.subject_id not in standing]
    for task in ended:
        wanted = Wanted(kind=task.kind, subject_id=task.subject_id, due_at=now)
        tasks.keep(session, wanted, now, stands=False)
        outbox.supersede(session, task.subject_id, now, kind=MessageKind.GATE_REOPENED)
        _pass_on(session, task, left, now)
    return len(ended)


def _pass_on(session: Session, ended: Task, left: Sequence[_Told], now: datetime) -> None:
    """Tell of a patient's other visits whoever was to hear of them with one that ended."""
    its = [one for one in left if one.visit.patient_id == ended.patient_id]
    if its:
        unheard = outbox.unheard(session, ended.subject_id, MessageKind.GATE_REOPENED)
        readers = [one for one in _readers(session, its, now) if one[1] in unheard]
        _tell(session, its, readers, now)


def _still_open(judged: Readiness, task: Task) -> list[tuple[Judged, bool]]:
    """The gates of a task that are shut, each with whether it had been settled."""
    codes = _codes(task)
    shut = [one for one in judged.gates if one.is_shut and (one.gate.code in codes or not codes)]
    return [(one, not _waits(one)) for one in shut]


def _codes(task: Task | None) -> list[str]:
    """The gates that a task is about; none: it does not say."""
    return task.note.split(", ") if task is not None and task.note else []


def _since(before: Readiness, after: Readiness, taken_back: bool) -> list[tuple[Judged, bool]]:
    """The gates that people are to hear of: settled before and not now, or to be decided on now."""
    earlier = {one.gate.code: one for one in before.gates}
    told = []
    for one in after.gates:
        was = earlier.get(one.gate.code)
        if was is None:  # what the service itself asks is told only where it speaks against it
            told.append((one, True))
        elif _is_news(one, was, taken_back):
            told.append((one, not was.is_shut))
    return told


def _is_news(one: Judged, was: Judged, taken_back: bool) -> bool:
    if was.is_shut:
        return _waits(one) and not _waits(was)
    return one.is_shut and (taken_back or _is_against(one, was))


def _is_against(one: Judged, was: Judged) -> bool:
    """Whether it is shut by more than that it is asked again."""
    is_news = was.state is GateState.OVERRIDDEN and one.is_shut and one.since is not None
    is_undone = one.gate.settled_by is SettledBy.STEPS and one.is_shut
    return one.state in _AGAINST or is_undone or _waits(one) or is_news


_AGAINST = frozenset({GateState.EXPIRED, GateState.FAILED})


def _waits(one: Judged) -> bool:
    """Whether somebody has looked, and what they found is to be decided on."""
    looked = one.gate.settled_by in DECIDED_ON and one.since is not None
    return looked and one.state is GateState.OPEN


def _set_tasks(session: Session, told: Sequence[_Told], now: datetime) -> None:
    known = facts.tasks_about(session, TaskKind.SETTLE_ANEW, [one.visit.id for one in told])
    for one in told:
        visit, task = one.visit, known.get(one.visit.id)
        is_open = task is not None and task.settled_at is None
        codes = [*(_codes(task) if is_open else ()), *(judged.gate.code for judged, _ in one.gates)]
        wanted = Wanted(
            kind=TaskKind.SETTLE_ANEW,
            subject_id=visit.id,
            due_at=now + SOON,
            owner=Owner.CLINICIAN if one.waiting else Owner.FRONT_DESK,
            urgent=visit.starts_at - now < timedelta(days=2),
            patient_id=visit.patient_id,
            appointment_id=visit.id,
            note=", ".join(dict.fromkeys(codes)),
        )
        tasks.keep(session, wanted, now, stands=True)  # what was settled may lapse a second time


def _tell(session: Session, its: Sequence[_Told], readers: Sequence[Reader], now: datetime) -> None:
    """Tell of all that lapsed for a patient in one message, with the first of the visits."""
    visit, due_at, has_lapsed = its[0].visit, now, any(one.has_lapsed for one in its)
    if not has_lapsed:  # whoever found it may be about to decide as well
        due_at += timedelta(minutes=facts.clinic(session).settle_minutes)
    said = Said(
        kind=MessageKind.GATE_REOPENED,
        occasion=f"{'reopened' if has_lapsed else 'waits'}:{visit.revision}:{now:%Y%m%dT%H%M}",
        due_at=due_at,
        not_after=telling.in_time(visit, due_at),
    )
    telling.tell(session, visit, said, readers, now)


def _readers(session: Session, its: Sequence[_Told], now: datetime) -> list[Reader]:
    """Who hears of it: the desk, the patient of what had been settled, and who may decide."""
    visit = its[0].visit
    readers = telling.desk(session)
    if any(one.concerns_patient for one in its):
        readers += telling.patient(session, visit)
    roles = {role for one in its for judged in one.waiting for role in judged.lift}
    if roles:
        readers += telling.of_roles(session, visit, roles, now)
    return readers
