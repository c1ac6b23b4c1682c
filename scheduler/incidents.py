"""Incidents: what went wrong is written down at any time, and starts its own checklist.

What is done about it is protocol data. Functions here flush and never commit; nothing that was
written is changed: what was entered in error is replaced, and what it asked for is off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, ChecklistItem, Departure, HealthEvent, Incident, Patient
from models.vocabulary import MessageKind, Owner, TaskKind, TaskStatus
from scheduler import alarms, checklists, facts, happenings, history, moments, reopening, tasks
from scheduler.alarms import Alarm
from scheduler.authority import Authority
from scheduler.checklists import Settling
from scheduler.errors import MayNotOverride, Taken, Unfit, WrongStatus
from scheduler.history import Happened
from scheduler.incident_kinds import IncidentKind
from scheduler.protocols import Protocol
from scheduler.tasks import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What went wrong."""

    patient_id: UUID
    code: str
    occurred_at: datetime
    appointment_id: UUID | None = None
    """The visit in which it happened. None: outside any."""
    note: str | None = None


def record(session: Session, told: Told, *, by: Authority, now: datetime) -> Incident:
    """Write down what went wrong, and start the checklist that its protocol has for it.

    Refuses with `NotFound`, and with `Unfit` for the future, for a time before the patient was
    born or the visit had begun, for a visit of somebody else, and for a kind that the patient's
    protocol does not know.
    """
    patient = facts.one(session, Patient, told.patient_id)
    if told.occurred_at > now:
        raise Unfit("Nothing has happened in the future.", field="occurred_at")
    moments.refuse_before_birth(patient, told.occurred_at, "occurred_at")
    visit = _visit(session, told)
    kind = _kind(facts.protocol_over(session, told.patient_id, visit), told.code)
    incident = _write(session, told, kind, by=by, now=now)
    with reopening.told_after(session, told.patient_id, now):
        _start(session, incident, kind, now)
    if visit is not None:
        told_of_it = {"incident": str(incident.id)}  # auditors read it: not what went wrong
        before = history.state_of(visit)
        happened = Happened(action="incident", before=before, facts=told_of_it)
        history.record(session, visit, happened, by, now)
    return incident


def of_departure(
    session: Session, departure: Departure, visit: Appointment, *, by: Authority, now: datetime
) -> Sequence[Incident]:
    """Start what the protocol starts when a patient leaves in such a way."""
    known = facts.protocol(session, visit.protocol_version_id).incidents
    return [
        record(
            session,
            Told(
                patient_id=visit.patient_id,
                code=kind.code,
                occurred_at=departure.left_at,
                appointment_id=visit.id,
            ),
            by=by,
            now=now,
        )
        for kind in known.values()
        if departure.way in kind.on_departure
    ]


def take_back(
    session: Session, incident_id: UUID, note: str, *, by: Authority, now: datetime
) -> Incident:
    """Note that an incident was entered in error: what it asked for is off, for good.

    Who has not heard of it does not hear of it any more.

    Refuses with `MayNotOverride` whoever is no clinician, and with `Taken` if it was taken back.
    """
    if not by.practitioner_roles:
        raise MayNotOverride("A clinician takes this back.", who=["clinician"])
    wrong = facts.one(session, Incident, incident_id)
    facts.duties_to_change(session, incident_id)  # nobody settles one meanwhile
    if wrong.in_error or facts.is_incident_replaced(session, incident_id):
        raise Taken("That incident was taken back already.", field="id")
    line = Incident(
        id=uuid7(),
        patient_id=wrong.patient_id,
        appointment_id=wrong.appointment_id,
        code=wrong.code,
        title=wrong.title,
        occurred_at=wrong.occurred_at,
        note=note,
        noted_by=by.name,
        noted_at=now,
        replaces=wrong.id,
        in_error=True,
    )
    session.add(line)
    session.flush()
    _call_off(session, wrong.id, note, by.name, now)
    _keep_task(session, wrong, now)
    alarms.call_off(session, _alarm(wrong, now), now)
    if wrong.health_event_id is not None:
        _take_back_event(session, wrong.health_event_id, by=by, now=now)
    return line


def settle(
    session: Session, item: ChecklistItem, settling: Settling, *, by: Authority, now: datetime
) -> ChecklistItem:
    """Tick, waive, fail or re-open what is to be done about an incident; the caller holds it.

    Refuses with `MayNotOverride` if it is somebody else's to settle, or a gate rests on it and
    it is waived by somebody who may not pass over that gate; and with `WrongStatus` once the
    incident was taken back.
    """
    assert item.incident_id is not None
    incident = facts.one(session, Incident, item.incident_id)
    if facts.is_incident_replaced(session, incident.id):
        raise WrongStatus("The incident was entered in error: nothing is to be done about it.")
    if item.gate is not None and settling.status is TaskStatus.CANCELLED:
        gates = facts.gates_of(session, incident.patient_id, item.gate)
        checklists.refuse_to_waive(gates, settling, by)
    with reopening.told_after(session, incident.patient_id, now):
        checklists.mark(session, item, settling, by=by, now=now)
    _keep_task(session, incident, now)
    return item


def _visit(session: Session, told: Told) -> Appointment | None:
    if told.appointment_id is None:
        return None
    visit = facts.to_change(session, Appointment, told.appointment_id, None)
    if visit.patient_id != told.patient_id:
        raise Unfit("That visit is another patient's.", field="appointment_id")
    moments.refuse_before_visit(session, visit, told.occurred_at, "occurred_at")
    return visit


def _kind(protocol: Protocol, code: str) -> IncidentKind:
    if code not in protocol.incidents:
        known = ", ".join(sorted(protocol.incidents)) or "none"
        raise Unfit(f"The patient's protocol knows no such incident. Known: {known}.", field="code")
    return protocol.incidents[code]


def _write(
    session: Session, told: Told, kind: IncidentKind, *, by: Authority, now: datetime
) -> Incident:
    event_id = None
    if kind.health_event is not None:
        happened = happenings.Happened(
            patient_id=told.patient_id,
            kind=kind.health_event,
            happened_at=told.occurred_at,
            note=kind.title,
        )
        event_id = happenings.note(session, happened, by=by, now=now).id
    incident = Incident(
        id=uuid7(),
        patient_id=told.patient_id,
        appointment_id=told.appointment_id,
        code=kind.code,
        title=kind.title,
        occurred_at=told.occurred_at,
        note=told.note,
        noted_by=by.name,
        noted_at=now,
        health_event_id=event_id,
        in_error=False,
    )
    session.add(incident)
    session.flush()
    return incident


def _start(session: Session, incident: Incident, kind: IncidentKind, now: datetime) -> None:
    session.add_all(
        ChecklistItem(
            id=uuid7(),
            incident_id=incident.id,
            code=duty.code,
            title=duty.title,
            owner=duty.owner,
            gate=duty.gate,
            due_at=incident.occurred_at + duty.due_after,
            status=TaskStatus.REQUESTED,
            version=1,
        )
        for duty in kind.duties
    )
    session.flush()
    if not kind.is_urgent:
        _keep_task(session, incident, now)
        return
    alarms.sound(session, _alarm(incident, now), now)


def _alarm(incident: Incident, now: datetime) -> Alarm:
    return Alarm(
        task=TaskKind.FOLLOW_INCIDENT,
        message=MessageKind.INCIDENT,
        subject_id=incident.id,
        about_id=incident.patient_id,
        occasion="incident",
        due_at=now,
        patient_id=incident.patient_id,
        appointment_id=incident.appointment_id,
    )


def _take_back_event(session: Session, event_id: UUID, *, by: Authority, now: datetime) -> None:
    event = facts.one(session, HealthEvent, event_id)
    if facts.is_event_replaced(session, event_id):
        return  # somebody has put it right already
    wrong = happenings.Happened(
        patient_id=event.patient_id,
        kind=event.kind,
        happened_at=event.happened_at,
        replaces=event.id,
        in_error=True,
    )
    happenings.note(session, wrong, by=by, now=now)


def _keep_task(session: Session, incident: Incident, now: datetime) -> None:
    next_due = facts.next_due_of_incident(session, incident.id)
    wanted = Wanted(
        kind=TaskKind.FOLLOW_INCIDENT,
        subject_id=incident.id,
        due_at=next_due or now,
        owner=Owner.CLINICIAN,
        patient_id=incident.patient_id,
        appointment_id=incident.appointment_id,
    )
    tasks.keep(session, wanted, now, stands=next_due is not None)


def _call_off(
    session: Session, incident_id: UUID, note: str | None, by: str, now: datetime
) -> None:
    about = {"incident": incident_id, "by": by, "now": now}
    for item_id in session.execute(_CALL_OFF, about).scalars().all():
        answer = ChecklistItem.answer.sealed_for(session, item_id, note)
        session.execute(_SAY_WHY, {"id": item_id, "answer": answer})


_CALL_OFF = text(
    """
    UPDATE checklist_item
       SET status = 'cancelled', settled_by = :by, settled_at = :now, marked_at = :now,
           version = version + 1
     WHERE incident_id = :incident AND status IN ('requested', 'failed')
    RETURNING id
    """
)

_SAY_WHY = text("UPDATE checklist_item SET answer = :answer WHERE id = :id")
