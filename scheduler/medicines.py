"""Medicines: somebody goes through what a patient takes, and what is held back is approved.

Which classes matter, and what follows from each, is protocol data. Functions here flush and
never commit; nothing that was written is changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import MedicineRuling, Patient, Reconciliation
from models.vocabulary import MedicineAction, PractitionerRole
from scheduler import facts, reopening
from scheduler.authority import Authority
from scheduler.errors import Taken, Unfit
from scheduler.protocols import Gate, SettledBy
from scheduler.screening import MedicineClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Something that a patient takes."""

    name: str
    medicine_class: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReconciliation:
    """What a patient takes, all of it; empty: nothing."""

    reconciled_at: datetime
    medicines: Sequence[Listed]
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRuling:
    """What is done about the medicines of a class: what the protocol says, or something else."""

    medicine_class: str
    action: MedicineAction
    reason: str | None = None
    """Needed where it is something else."""


def asked(
    session: Session, patient_id: UUID, *, everywhere: bool = False
) -> Sequence[MedicineClass]:
    """The classes that matter under the patient's protocols, as each protocol has them.

    `everywhere`: those of the clinic's own protocol as well.
    """
    gates = _gates(session, patient_id, everywhere=everywhere)
    return list(dict.fromkeys(one for gate in gates for one in gate.medicines))


def reconcile(
    session: Session, patient_id: UUID, new: NewReconciliation, *, by: Authority, now: datetime
) -> Reconciliation:
    """Write down what a patient takes. What was approved of an earlier list is asked anew.

    Refuses with `NotFound`, with `MayNotOverride` whoever may not settle such a gate, and with
    `Unfit` for the future or for a class that no protocol names.
    """
    facts.one(session, Patient, patient_id)
    _refuse_unless_theirs(session, patient_id, by)
    if new.reconciled_at > now:
        raise Unfit("Nobody went through it in the future.", field="reconciled_at")
    _refuse_unknown(session, patient_id, new.medicines)
    ahead = facts.booked_ahead(session, patient_id, now)
    before = reopening.settled(session, ahead, now)
    line = Reconciliation(
        id=uuid7(),
        patient_id=patient_id,
        reconciled_at=new.reconciled_at,
        recorded_at=now,
        medicines=[
            {"name": one.name, "class": one.medicine_class, "note": one.note}
            for one in new.medicines
        ],
        note=new.note,
        reconciled_by=by.name,
    )
    session.add(line)
    session.flush()
    reopening.tell(session, ahead, before, now)
    return line


def rule(
    session: Session, line: Reconciliation, new: NewRuling, *, by: Authority, now: datetime
) -> MedicineRuling:
    """Approve what follows from the medicines of a class, or put something else in its place.

    Refuses with `Taken` once the patient's medicines were gone through anew, with `Unfit` for a
    class that is not on the list or where a reason is missing, and with `MayNotOverride` whoever
    may not pass over the gate.
    """
    latest = facts.latest_reconciliation(session, line.patient_id)
    if latest is None or latest.id != line.id:
        detail = "The medicines were gone through anew since. Decide on that list."
        raise Taken(detail, field="reconciliation_id")
    if all(one["class"] != new.medicine_class for one in line.medicines):
        detail = "The list has no medicine of this class."
        raise Unfit(detail, field="class", classes=_classes_of(line))
    _refuse_to_rule(_having(session, line.patient_id, new.medicine_class), new, by)
    ahead = facts.booked_ahead(session, line.patient_id, now)
    before = reopening.settled(session, ahead, now)
    ruling = MedicineRuling(
        id=uuid7(),
        reconciliation_id=line.id,
        medicine_class=new.medicine_class,
        action=new.action,
        reason=new.reason,
        ruled_by=by.name,
        ruled_at=now,
    )
    session.add(ruling)
    session.flush()
    reopening.tell(session, ahead, before, now)
    return ruling


def _gates(session: Session, patient_id: UUID, *, everywhere: bool = False) -> Sequence[Gate]:
    return facts.gates_settled_by(session, patient_id, SettledBy.MEDICINES, everywhere=everywhere)


def _refuse_unless_theirs(session: Session, patient_id: UUID, by: Authority) -> None:
    gates = _gates(session, patient_id)
    if not gates:
        raise Unfit("No protocol of this patient asks what they take.", field="medicines")
    for gate in gates:  # it counts under all of them, so the strictest decides
        by.refuse_to_settle(gate.who, gate.code)


def _refuse_unknown(session: Session, patient_id: UUID, medicines: Sequence[Listed]) -> None:
    known = {one.code for one in asked(session, patient_id, everywhere=True)}
    for number, one in enumerate(medicines):
        if one.medicine_class is not None and one.medicine_class not in known:
            detail = f"No protocol names a class {one.medicine_class!r}."
            raise Unfit(detail, field=f"medicines.{number}.class", classes=sorted(known))


def _classes_of(line: Reconciliation) -> list[str]:
    return sorted({one["class"] for one in line.medicines if one["class"] is not None})


def _having(session: Session, patient_id: UUID, code: str) -> Sequence[Gate]:
    """The gates of the patient's protocols that name a class; else of the clinic's own."""
    own, all_of_them = (
        [
            gate
            for gate in _gates(session, patient_id, everywhere=everywhere)
            if any(one.code == code for one in gate.medicines)
        ]
        for everywhere in (False, True)
    )
    return own or all_of_them


_ELSE = frozenset({PractitionerRole.PRESCRIBER.value})
"""Who approves what is left out where no protocol names the class any more."""


def _refuse_to_rule(gates: Sequence[Gate], new: NewRuling, by: Authority) -> None:
    code = new.medicine_class
    for lift in [gate.lift for gate in gates] or [_ELSE]:  # the strictest decides
        by.refuse_to_lift(lift, code)
    usual = {one.action for gate in gates for one in gate.medicines if one.code == code}
    if usual != {new.action} and not new.reason:
        told = " or ".join(sorted(usual)) or "nothing of it any more"
        detail = f"The protocol says {told}. Say why it is otherwise, in `reason`."
        raise Unfit(detail, field="reason")
