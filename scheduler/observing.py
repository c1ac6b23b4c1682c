"""Observing: what is measured during a visit is written down, and what is late is told.

Functions here flush and never commit. Nothing that was written is changed: a slip is replaced
by a line of its own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, Observation
from models.vocabulary import (
    AppointmentStatus,
    Measure,
    MessageKind,
    Owner,
    TaskKind,
)
from scheduler import facts, history, lifecycle, lines, measuring, moments, tasks, telling
from scheduler.apart import apart
from scheduler.authority import Authority
from scheduler.errors import MayNotOverride, Taken, Unfit, WrongStatus
from scheduler.measuring import KINDS, Due, DueState
from scheduler.tasks import Wanted
from scheduler.telling import Said

_HERE = frozenset(
    {AppointmentStatus.ARRIVED, AppointmentStatus.CHECKED_IN, AppointmentStatus.FULFILLED}
)
"""Visits of which something can be measured, or written down afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What somebody measured, or that an earlier line was entered in error."""

    values: Mapping[Measure, float]
    """Empty: what is replaced does not count, and nothing takes its place."""
    taken_at: datetime
    note: str | None = None
    replaces: UUID | None = None


def note(
    session: Session, appointment_id: UUID, noted: Noted, *, by: Authority, now: datetime
) -> Observation:
    """Write down what was measured in a visit.

    Refuses with `MayNotOverride` whoever is no clinician, with `WrongStatus` before the patient
    is here, with `Unfit` for values that nobody can have and for times that cannot be, and with
    `Taken` if what it replaces was replaced before.
    """
    if not by.practitioner_roles:
        raise MayNotOverride("A clinician notes what was measured.", who=["clinician"])
    visit = facts.to_change(session, Appointment, appointment_id, None)
    if visit.status not in _HERE:
        raise WrongStatus("The patient is not here.", visit_status=visit.status)
    _refuse_impossible(noted, now)
    if noted.values:  # what never was may be taken back whenever it is said to have been
        moments.refuse_before_visit(session, visit, noted.taken_at, "taken_at")
    if noted.replaces is not None:
        _refuse_unless_counts(session, visit, noted.replaces)
    line = Observation(
        id=uuid7(),
        appointment_id=visit.id,
        patient_id=visit.patient_id,
        taken_at=noted.taken_at,
        values={measure.value: value for measure, value in noted.values.items()},
        note=noted.note,
        noted_by=by.name,
        noted_at=now,
        replaces=noted.replaces,
    )
    session.add(line)
    session.flush()
    return line


def _refuse_impossible(noted: Noted, now: datetime) -> None:
    if not noted.values and noted.replaces is None:
        raise Unfit("Give at least one value.", field="values")
    if noted.taken_at > now:
        raise Unfit("Nothing was measured in the future.", field="taken_at")
    for measure, value in noted.values.items():
        kind = KINDS[measure]
        if not kind.least <= value <= kind.most:
            raise Unfit(
                f"{measure} lies between {kind.least:g} and {kind.most:g} {kind.unit}.",
                field=f"values.{measure}",
            )


def _refuse_unless_counts(session: Session, visit: Appointment, replaced: UUID) -> None:
    known = facts.one(session, Observation, replaced)
    if known.appointment_id != visit.id:
        raise Unfit("That was measured in another visit.", field="replaces")
    if facts.is_replaced(session, replaced):
        raise Taken("That observation was replaced already.", field="replaces")


def due(session: Session, visits: Sequence[Appointment], now: datetime) -> dict[UUID, list[Due]]:
    """What the protocol asks to measure in each visit under way, and where that stands."""
    found = lines.read(session, [], [visit.id for visit in visits])
    told = [(visit, found.visit(visit.id)) for visit in visits]
    return {
        visit.id: measuring.due(
            facts.protocol(session, visit.protocol_version_id).visits[visit.visit].watch,
            known.measured,
            known.dosed_at,
            lifecycle.stage_ahead(history.state_of(visit), visit.kind),
            now,
        )
        for visit, known in told
    }


def alarm_late(session: Session, now: datetime) -> int:
    """Tell who serves a visit that something is late to be measured. Returns how many are new.

    Each once. The task stands while anything is late, and ends by itself when it was done, or
    the visit is over: discharged, or entered in error.
    """
    visits = facts.under_observation(session)
    _end_of_others(session, {visit.id for visit in visits}, now)
    return apart(session, "alarm-late-watches", visits, partial(_alarm_late, session, now))


def _end_of_others(session: Session, watched: Collection[UUID], now: datetime) -> None:
    """End the tasks of visits in which nobody is watched any more."""
    for task in facts.open_tasks(session, TaskKind.WATCH_LATE):
        if task.subject_id not in watched:
            wanted = Wanted(kind=task.kind, subject_id=task.subject_id, due_at=now)
            tasks.keep(session, wanted, now, stands=False)


def _alarm_late(session: Session, now: datetime, visits: Sequence[Appointment]) -> int:
    found = due(session, visits, now)
    told = 0
    for visit in visits:
        late = [one for one in found[visit.id] if one.state is DueState.LATE]
        for one in late:
            told += _tell(session, visit, one, now)
        wanted = Wanted(
            kind=TaskKind.WATCH_LATE,
            subject_id=visit.id,
            due_at=late[0].due_at if late else now,
            owner=Owner.CLINICIAN,
            urgent=True,
            patient_id=visit.patient_id,
            appointment_id=visit.id,
        )
        tasks.keep(session, wanted, now, stands=bool(late))
    return told


def _tell(session: Session, visit: Appointment, late: Due, now: datetime) -> int:
    said = Said(
        kind=MessageKind.WATCH_LATE,
        occasion=f"{late.watch.code}:{late.due_at:%H%M}",
        due_at=now,
        not_after=late.due_at + USEFUL,
    )
    readers = telling.team(session, visit) or telling.desk(session)
    return telling.tell(session, visit, said, readers, now)


USEFUL = timedelta(hours=1)
"""For how long it is of use to hear that something is late to be measured."""
