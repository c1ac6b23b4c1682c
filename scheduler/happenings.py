"""Happenings: what happened to a patient that ends clearances before their time.

Which of them end which clearance is protocol data (`ends_on`). Functions here flush and never
commit; nothing that was written is changed.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import HealthEvent, Patient
from models.vocabulary import HealthEventKind
from scheduler import facts, moments, reopening
from scheduler.authority import Authority
from scheduler.errors import MayNotOverride, Taken, Unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """What happened, or that an earlier line was entered in error."""

    patient_id: UUID
    kind: HealthEventKind
    happened_at: datetime
    note: str | None = None
    replaces: UUID | None = None
    in_error: bool = False


def note(session: Session, told: Happened, *, by: Authority, now: datetime) -> HealthEvent:
    """Write down what happened; whoever has a visit ahead that it concerns hears of it.

    Refuses with `NotFound`, with `Unfit` for the future and for a time before the patient was
    born, with `Taken` if what it replaces was replaced before, and with `MayNotOverride` whoever
    is no clinician and would replace one.
    """
    patient = facts.one(session, Patient, told.patient_id)
    if told.happened_at > now:
        raise Unfit("Nothing has happened in the future.", field="happened_at")
    if not told.in_error:
        moments.refuse_before_birth(patient, told.happened_at, "happened_at")
    _refuse_to_replace(session, told, by)
    ahead = facts.booked_ahead(session, told.patient_id, now)
    before = reopening.settled(session, ahead, now)
    line = HealthEvent(
        id=uuid7(),
        patient_id=told.patient_id,
        kind=told.kind,
        happened_at=told.happened_at,
        note=told.note,
        noted_by=by.name,
        noted_at=now,
        replaces=told.replaces,
        in_error=told.in_error,
    )
    session.add(line)
    session.flush()
    reopening.tell(session, ahead, before, now)
    return line


def _refuse_to_replace(session: Session, told: Happened, by: Authority) -> None:
    if told.replaces is None:
        if told.in_error:
            raise Unfit("Name what was entered in error.", field="replaces")
        return
    if not by.practitioner_roles:
        raise MayNotOverride("A clinician puts this right.", who=["clinician"])
    if facts.one(session, HealthEvent, told.replaces).patient_id != told.patient_id:
        raise Unfit("That happened to another patient.", field="replaces")
    if facts.is_event_replaced(session, told.replaces):
        raise Taken("That line was replaced already.", field="replaces")
