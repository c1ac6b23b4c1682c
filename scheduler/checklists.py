"""Checklists: what is done before and around a visit.

Functions here flush and never commit, like booking.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, ChecklistItem
from models.vocabulary import AppointmentStatus, TaskStatus
from scheduler import facts, history, reopening
from scheduler.authority import Authority, Reasons
from scheduler.errors import MayNotOverride, Unfit, WrongStatus
from scheduler.history import Happened
from scheduler.protocols import Gate, Visit

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

    Due times move with it. What opens a gate was promised for the old day and is asked again;
    of questionnaires what was answered so long ago that it does not hold any more.
    """
    filled = facts.instruments_filled(session, appointment)
    for check in visit.checklist:
        lapses = not filled.issuperset(check.instruments)
        session.execute(
            _RENEW,
            {
                "appointment": appointment.id,
                "code": check.code,
                "due_at": check.due_at(appointment.starts_at, appointment.ends_at),
                "anew": lapses if check.instruments else check.gate is not None,
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

    If a gate rested on it that fails now, people hear of it. Refuses with `MayNotOverride` if the
    item is somebody else's to settle, and with `WrongStatus` once the visit is over.
    """
    assert item.appointment_id is not None
    visit = facts.one(session, Appointment, item.appointment_id)
    if not can_be_done(visit, item):
        raise WrongStatus("This visit is over.", visit_status=visit.status)
    if not by.is_staff and settling.status is TaskStatus.COMPLETED:
        _refuse_to_tick(session, visit, item)
    if item.gate is not None and settling.status is TaskStatus.CANCELLED:
        gates = facts.brief_of(session, visit).visit.gates
        refuse_to_waive([one for one in gates if one.code == item.gate], settling, by)
    with reopening.told_after(session, visit.patient_id, now):
        return mark(session, item, settling, by=by, now=now)


def can_be_done(visit: Appointment, item: ChecklistItem) -> bool:
    """Whether there is still time for an item: what is due after a visit can be done after it."""
    is_over = visit.status not in AHEAD and visit.progress is None
    is_paperwork = item.due_at > visit.ends_at and visit.status is AppointmentStatus.FULFILLED
    return is_paperwork or not is_over


def mark(
    session: Session, item: ChecklistItem, settling: Settling, *, by: Authority, now: datetime
) -> ChecklistItem:
    """Write down how an item stands, if it is theirs to say: else refuse with `MayNotOverride`."""
    if not by.owns(item.owner):
        raise MayNotOverride(f"This item is for a {item.owner} to settle.", owner=item.owner)
    if not by.is_staff and settling.status is TaskStatus.CANCELLED:
        raise MayNotOverride("Only staff may waive an item.", owner=item.owner)
    if not by.is_staff and item.status not in _PATIENTS_OWN:
        raise WrongStatus("Our team has settled this item.", item_status=item.status)
    still_open = settling.status is TaskStatus.REQUESTED
    if not (still_open and item.status is TaskStatus.REQUESTED):  # else it says nothing new
        item.marked_at = now
    item.status = settling.status
    item.answer = settling.answer
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
           status = CASE WHEN :anew THEN 'requested' ELSE status END,
           answer = CASE WHEN :anew THEN NULL ELSE answer END,
           settled_by = CASE WHEN :anew THEN NULL ELSE settled_by END,
           settled_at = CASE WHEN :anew THEN NULL ELSE settled_at END,
           version = version + 1
     WHERE appointment_id = :appointment AND code = :code
    """
)
