"""Alarms: what a clinician must look at now, told within a minute, to somebody who is there."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from models.vocabulary import MessageKind, Owner, Recipient, TaskKind
from notifications import outbox
from notifications.outbox import Notice
from scheduler import facts, tasks
from scheduler.tasks import Wanted

USEFUL = timedelta(days=2)
"""For how long it is of use to hear that something was to be looked at at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that cannot wait."""

    task: TaskKind
    message: MessageKind
    subject_id: UUID
    """What gave rise to it; of one kind a subject has one task."""
    about_id: UUID
    """Of whom the message speaks: the patient, or what they wrote if nobody knows who it was."""
    occasion: str
    """Of one occasion everybody is told once."""
    due_at: datetime
    patient_id: UUID | None
    appointment_id: UUID | None


def sound(session: Session, alarm: Alarm, now: datetime) -> None:
    """Set an urgent task, and tell the desk, whoever is on call, and who serves the visit.

    One that was settled before is open again: whoever settled it did not know of this.
    """
    wanted = Wanted(
        kind=alarm.task,
        subject_id=alarm.subject_id,
        due_at=alarm.due_at,
        owner=Owner.CLINICIAN,
        urgent=True,
        patient_id=alarm.patient_id,
        appointment_id=alarm.appointment_id,
    )
    tasks.keep(session, wanted, now, stands=True)
    for recipient, recipient_id in _readers(session, alarm):
        outbox.notify(
            session,
            Notice(
                kind=alarm.message,
                recipient=recipient,
                recipient_id=recipient_id,
                subject_id=alarm.about_id,
                occasion=_said(alarm),
                due_at=now,
                not_after=now + USEFUL,
            ),
            now,
        )


def call_off(session: Session, alarm: Alarm, now: datetime) -> None:
    """Take back what an alarm has not said yet; its task is the caller's."""
    outbox.take_back(session, alarm.about_id, now, _said(alarm))


def _said(alarm: Alarm) -> str:
    """Under which name the messages of an alarm are kept."""
    return f"{alarm.occasion}:{alarm.subject_id}"


def _readers(session: Session, alarm: Alarm) -> list[tuple[Recipient, UUID]]:
    home = facts.clinic(session)
    clinicians = set()
    if alarm.appointment_id is not None:
        clinicians |= set(facts.practitioners_of(session, alarm.appointment_id))
    if home.on_call_id is not None:
        clinicians.add(home.on_call_id)
    told = [(Recipient.PRACTITIONER, one) for one in sorted(clinicians)]
    return [(Recipient.FRONT_DESK, home.clinic_id), *told]
