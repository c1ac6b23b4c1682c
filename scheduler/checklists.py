"""Checklists and clearances: what is settled before and around a visit.

Functions here flush and never commit, like booking.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, ChecklistItem, Clearance, Patient
from models.vocabulary import AppointmentStatus, ClearanceOutcome, TaskStatus
from scheduler import facts, history
from scheduler.authority import Authority, Reasons
from scheduler.errors import MayNotOverride, Unfit, WrongStatus
from scheduler.history import Happened
from scheduler.protocols import Gate, SettledBy, Visit

AHEAD = frozenset({AppointmentStatus.PENDING, AppointmentStatus.BOOKED, AppointmentStatus.ARRIVED})
"""Visits that can still be prepared."""


def make(session: Session, appointment: Appointment, visit: Visit) -> None:
    """Write the checklist of a visit just booked, each item with its owner and due time."""
    if not visit.checklist:
        return
    session.execute(
        _MAKE,
        {
            "appointment": appointment.id,
            "ids": [uuid7() for _ in visit.checklist],
            "codes": [check.code for check in visit.checklist],
            "titles": [check.title for check in visit.checklist],
            "owners": [check.owner.value for check in visit.checklist],
            "gates": [check.gate for check in visit.checklist],
            "dues": [
                check.due_at(appointment.starts_at, appointment.ends_at)
                for check in visit.checklist
            ],
        },
    )


def renew(session: Session, appointment: Appointment, visit: Visit) -> None:
    """Fit the checklist to a visit's new time.

    Due times move with it. What opens a gate was promised for the old day and is asked again.
    """
    for check in visit.checklist:
        session.execute(
            _RENEW,
            {
                "appointment": appointment.id,
                "code": check.code,
                "due_at": check.due_at(appointment.starts_at, appointment.ends_at),
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """What is said about a checklist item."""

    status: TaskStatus
    answer: str | None = None


def settle(
    session: Session,
    item: ChecklistItem,
    settling: Settling,
    *,
    by: Authority,
    now: datetime,
) -> ChecklistItem:
    """Tick, waive, fail or re-open a checklist item that the caller holds locked.

    Refuses with `MayNotOverride` if the item is somebody else's to settle, and with
    `WrongStatus` once the visit is over.
    """
    assert item.appointment_id is not None
    visit = facts.one(session, Appointment, item.appointment_id)
    if item.due_at <= visit.ends_at or visit.status is not AppointmentStatus.FULFILLED:
        refuse_unless_ahead(visit)  # what is due after a visit can be done after it
    if by.role is None and settling.status is TaskStatus.COMPLETED:
        _refuse_to_tick(session, visit, item)
    if item.gate is not None and settling.status is TaskStatus.CANCELLED:
        gates = facts.brief_of(session, visit).visit.gates
        refuse_to_waive([one for one in gates if one.code == item.gate], settling, by)
    return mark(session, item, settling, by=by, now=now)


def mark(
    session: Session, item: ChecklistItem, settling: Settling, *, by: Authority, now: datetime
) -> ChecklistItem:
    """Write down how an item stands, if it is theirs to say: else refuse with `MayNotOverride`."""
    if not by.owns(item.owner):
        raise MayNotOverride(f"This item is for a {item.owner} to settle.", owner=item.owner)
    if by.role is None and settling.status is TaskStatus.CANCELLED:
        raise MayNotOverride("Only staff may waive an item.", owner=item.owner)
    if by.role is None and item.status not in _PATIENTS_OWN:
        raise WrongStatus("Our team has settled this item.", item_status=item.status)
    item.status = settling.status
    item.answer = settling.answer
    still_open = settling.status is TaskStatus.REQUESTED
    item.settled_by = None if still_open else by.name
    item.settled_at = None if still_open else now
    item.version += 1
    session.flush()
    return item


def _refuse_to_tick(session: Session, visit: Appointment, item: ChecklistItem) -> None:
    """What rests on questionnaires is ticked by filling them in."""
    checks = facts.brief_of(session, visit).visit.checklist
    check = next((one for one in checks if one.code == item.code), None)
    if check is not None and check.instruments:
        raise Unfit("Please fill in the questions; that ticks it.", field="status")


def refuse_to_waive(gates: Iterable[Gate], settling: Settling, by: Authority) -> None:
    """To waive what a gate rests on is to pass over the gate: for whom it lets, with a reason."""
    for gate in gates:
        Reasons({gate.code: ""}).refuse_unless_lifted(gate.code, gate.lift, by)
    if not settling.answer:
        raise Unfit("Say why, in `answer`: this opens a gate.", field="answer")


_PATIENTS_OWN = frozenset({TaskStatus.REQUESTED, TaskStatus.COMPLETED})
"""What a patient may change on the page; what staff failed or waived stays so."""


def ask_to_move(
    session: Session, appointment_id: UUID, *, by: Authority, now: datetime
) -> Appointment:
    """Note that the patient would like another time. Staff find one; nothing moves by itself."""
    appointment = facts.to_change(session, Appointment, appointment_id, None)
    if appointment.status is not AppointmentStatus.BOOKED:
        raise WrongStatus("This visit cannot be moved any more.", visit_status=appointment.status)
    appointment.move_requested_at = now
    appointment.version += 1
    session.flush()
    happened = Happened(action="ask-to-move", before=history.state_of(appointment))
    history.record(session, appointment, happened, by, now)
    return appointment


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClearance:
    """What somebody vouches for."""

    gate: str
    outcome: ClearanceOutcome
    cleared_at: datetime
    valid_until: datetime | None = None
    note: str | None = None


def clear(
    session: Session, patient_id: UUID, told: NewClearance, *, by: Authority, now: datetime
) -> Clearance:
    """Note that a gate of a patient is settled, does not apply, or must stay shut.

    Refuses with `Unfit` for a time that has not come yet, or for a gate that none of the
    patient's protocols has, and with `MayNotOverride` if it is not theirs to vouch for. That it
    must stay shut any clinician may say.
    """
    facts.one(session, Patient, patient_id)
    _refuse_unless_theirs(session, patient_id, told, by)
    if told.cleared_at > now:
        raise Unfit("A clearance cannot be given for the future.", field="cleared_at")
    clearance = Clearance(
        id=uuid7(),
        patient_id=patient_id,
        gate=told.gate,
        outcome=told.outcome,
        cleared_at=told.cleared_at,
        valid_until=told.valid_until,
        cleared_by=by.name,
        note=told.note,
    )
    session.add(clearance)
    session.flush()
    return clearance


def _refuse_unless_theirs(
    session: Session, patient_id: UUID, told: NewClearance, by: Authority
) -> None:
    gates = facts.gates_of(session, patient_id, told.gate)
    if not gates:
        raise Unfit(f"No protocol of this patient has a gate {told.gate!r}.", field="gate")
    if all(gate.settled_by is not SettledBy.CLEARANCE for gate in gates):
        instead = _INSTEAD.get(gates[0].settled_by, "")
        raise Unfit(f"{told.gate} is not for anybody to vouch for.{instead}", field="gate")
    if told.outcome is ClearanceOutcome.REFUSED and by.practitioner_roles:
        return
    for gate in gates:  # it counts under all of them, so the strictest decides
        if not by.may_settle(gate.who):
            names = " or ".join(sorted(gate.who))
            raise MayNotOverride(f"{told.gate}: {names} may vouch for this.", who=sorted(gate.who))


_INSTEAD = {
    SettledBy.SCREEN: " Record a screen of the patient: `screens`.",
    SettledBy.MEDICINES: " Go through what the patient takes: `reconciliations`.",
    SettledBy.ELIGIBILITY: " Decide about the course: `eligibility`.",
}
"""What to do where a gate rests on something that is recorded elsewhere."""


def refuse_unless_ahead(appointment: Appointment) -> None:
    """Refuse with `WrongStatus` once a visit cannot be prepared any more."""
    if appointment.status not in AHEAD and appointment.progress is None:
        raise WrongStatus("This visit is over.", visit_status=appointment.status)


_MAKE = text(
    """
    INSERT INTO checklist_item (id, appointment_id, code, title, owner, gate, due_at, status)
    SELECT row.id, :appointment, row.code, row.title, row.owner, row.gate, row.due_at, 'requested'
      FROM unnest(CAST(:ids AS uuid[]), CAST(:codes AS text[]), CAST(:titles AS text[]),
                  CAST(:owners AS text[]), CAST(:gates AS text[]), CAST(:dues AS timestamptz[]))
           AS row (id, code, title, owner, gate, due_at)
    """
)

_RENEW = text(
    """
    UPDATE checklist_item
       SET due_at = :due_at,
           status = CASE WHEN gate IS NULL THEN status ELSE 'requested' END,
           answer = CASE WHEN gate IS NULL THEN answer END,
           settled_by = CASE WHEN gate IS NULL THEN settled_by END,
           settled_at = CASE WHEN gate IS NULL THEN settled_at END,
           version = version + 1
     WHERE appointment_id = :appointment AND code = :code
    """
)
