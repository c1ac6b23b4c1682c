"""Reopening: a gate that was settled for a visit ahead is not any more, and people hear of it.

A visit moved past what a clearance holds, or something that happened to the patient, opens
anew what was closed. Staff get a task, and they and the patient a message, at once.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from models import Appointment
from models.vocabulary import GateState, MessageKind, TaskKind
from scheduler import evidence, tasks, telling
from scheduler.protocols import SettledBy
from scheduler.readiness import Judged
from scheduler.tasks import Wanted
from scheduler.telling import Said

Settled = Mapping[UUID, frozenset[str]]
"""By visit the codes of the gates that are settled."""

SOON = timedelta(hours=4)
"""Within which staff are asked to see to it."""


def settled(session: Session, visits: Sequence[Appointment], now: datetime) -> Settled:
    """What is settled for visits as they stand."""
    return {
        visit_id: frozenset(one.gate.code for one in judged.gates if one.state is GateState.MET)
        for visit_id, judged in evidence.judge(session, visits, now).items()
    }


def tell(session: Session, visits: Sequence[Appointment], before: Settled, now: datetime) -> int:
    """Tell of the visits for which something that was settled before has lapsed. Returns how many.

    What is merely asked again for another day, such as the escort's yes, is on the checklist
    and has its own reminders.
    """
    judged = evidence.judge(session, visits, now)
    lapsed = [
        visit
        for visit in visits
        if any(
            _is_open_anew(one) and one.gate.code in before.get(visit.id, frozenset())
            for one in judged[visit.id].gates
        )
    ]
    for visit in lapsed:
        _set_task(session, visit, now)
    told: set[UUID] = set()
    for visit in sorted(lapsed, key=lambda one: one.starts_at):
        if visit.patient_id not in told:  # of all that lapsed for a patient one message tells
            told.add(visit.patient_id)
            _tell(session, visit, now)
    return len(lapsed)


def _is_open_anew(one: Judged) -> bool:
    waits = one.state is GateState.OPEN and one.gate.settled_by is SettledBy.SCREEN
    return waits or one.state in {GateState.EXPIRED, GateState.FAILED}


def _set_task(session: Session, visit: Appointment, now: datetime) -> None:
    wanted = Wanted(
        kind=TaskKind.SETTLE_ANEW,
        subject_id=visit.id,
        due_at=now + SOON,
        urgent=visit.starts_at - now < timedelta(days=2),
        patient_id=visit.patient_id,
        appointment_id=visit.id,
    )
    tasks.keep(session, wanted, now, stands=True)  # what was settled may lapse a second time


def _tell(session: Session, visit: Appointment, now: datetime) -> None:
    said = Said(
        kind=MessageKind.GATE_REOPENED,
        occasion=f"reopened:{visit.revision}:{now:%Y%m%dT%H%M}",
        due_at=now,
        not_after=telling.in_time(visit, now),
    )
    readers = telling.desk(session) + telling.patient(session, visit)
    telling.tell(session, visit, said, readers, now)
