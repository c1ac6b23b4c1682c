"""Clearances: somebody vouches for a gate of a patient. Nothing is ever changed.

Where the protocol asks for it (`for`), a clearance names the medicine, the route and the text
that it was given for. What is left out is what the patient's active course gives, and the text
as it was then: so a front desk types no more than before. Functions here flush and never commit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Clearance, ConsentText, Patient
from models.vocabulary import ClearanceOutcome
from scheduler import facts, reopening
from scheduler.authority import PATIENT, Authority
from scheduler.errors import MayNotOverride, Unfit
from scheduler.protocols import Gate, GivenFor, SettledBy, Visit

Pair = tuple[str | None, str | None]
"""A medicine and a route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClearance:
    """What somebody vouches for."""

    gate: str
    outcome: ClearanceOutcome
    cleared_at: datetime
    valid_until: datetime | None = None
    note: str | None = None
    medicine: str | None = None
    route: str | None = None
    text_id: UUID | None = None


def clear(
    session: Session, patient_id: UUID, told: NewClearance, *, by: Authority, now: datetime
) -> Clearance:
    """Note that a gate of a patient is settled, does not apply, or must stay shut.

    Whoever has a visit ahead for which it was settled before, and is not any more, hears of it.

    Refuses with `Unfit` for a time that has not come yet, for a gate that none of the patient's
    protocols has, and for a medicine, a route or a text that it is not asked for, or if it does
    not say for which of several; with `MayNotOverride` if it is not theirs to vouch for. That
    it must stay shut any clinician may say.
    """
    # Locked: of somebody who vouches and the patient who signs, one sees the other.
    patient = facts.to_change(session, Patient, patient_id, None)
    gated = facts.gated(session, patient_id, told.gate)
    _refuse_unless_theirs([gate for gate, _ in gated], told, by)
    if told.cleared_at > now:
        raise Unfit("A clearance cannot be given for the future.", field="cleared_at")
    medicine, route = _for_which(session, patient_id, told, _pairs(gated))
    clearance = Clearance(
        id=uuid7(),
        patient_id=patient_id,
        gate=told.gate,
        outcome=told.outcome,
        cleared_at=told.cleared_at,
        valid_until=told.valid_until,
        cleared_by=by.name,
        noted_at=now,
        note=told.note,
        medicine=medicine,
        route=route,
        text_id=_to_which(session, patient, told, [gate for gate, _ in gated]),
    )
    with reopening.told_after(session, patient_id, now):
        session.add(clearance)
        session.flush()
    return clearance


def _refuse_unless_theirs(gates: list[Gate], told: NewClearance, by: Authority) -> None:
    if not gates:
        raise Unfit(f"No protocol of this patient has a gate {told.gate!r}.", field="gate")
    if all(gate.settled_by is not SettledBy.CLEARANCE for gate in gates):
        instead = _INSTEAD.get(gates[0].settled_by, "")
        raise Unfit(f"{told.gate} is not for anybody to vouch for.{instead}", field="gate")
    if told.outcome is ClearanceOutcome.REFUSED and by.practitioner_roles:
        return
    for gate in gates:  # it counts under all of them, so the strictest decides
        if not may_vouch(gate, by):
            names = " or ".join(sorted(gate.who))
            raise MayNotOverride(f"{told.gate}: {names} may vouch for this.", who=sorted(gate.who))


def may_vouch(gate: Gate, by: Authority) -> bool:
    """Whether a gate is theirs to vouch for: the patient's own where the protocol says so."""
    return "patient" in gate.who if by == PATIENT else by.may_settle(gate.who)


_INSTEAD = {
    SettledBy.SCREEN: " Record a screen of the patient: `screens`.",
    SettledBy.MEDICINES: " Go through what the patient takes: `reconciliations`.",
    SettledBy.ELIGIBILITY: " Decide about the course: `eligibility`.",
}
"""What to do where a gate rests on something that is recorded elsewhere."""


def pair_of(gate: Gate, visit: Visit) -> Pair:
    """For which medicine and route a gate of a visit asks; None where it does not."""
    return (
        visit.medicine if GivenFor.MEDICINE in gate.given_for else None,
        visit.route if GivenFor.ROUTE in gate.given_for else None,
    )


def _pairs(gated: Iterable[tuple[Gate, Visit]]) -> list[Pair]:
    found = dict.fromkeys(pair_of(gate, visit) for gate, visit in gated)
    return [pair for pair in found if pair != (None, None)]


def _for_which(session: Session, patient_id: UUID, told: NewClearance, asked: list[Pair]) -> Pair:
    """The medicine and the route: as they are told, else as the active course gives them."""
    given = told.medicine, told.route
    fitting = [pair for pair in asked if _fits(pair, given)]
    if not fitting and given != (None, None):
        field = "route" if told.medicine in {None, *(pair[0] for pair in asked)} else "medicine"
        raise Unfit(f"No protocol of this patient asks it for this {field}.", field=field)
    if told.outcome is ClearanceOutcome.REFUSED or not fitting:
        return given
    if len(fitting) > 1:
        active = _pairs(facts.gated_in_courses(session, patient_id, told.gate))
        fitting = [pair for pair in fitting if pair in active] or fitting
    if len(fitting) > 1:
        field = "medicine" if len({pair[0] for pair in fitting}) > 1 else "route"
        choices = [dict(zip(("medicine", "route"), pair, strict=True)) for pair in fitting]
        raise Unfit(f"Say for which, in `{field}`.", field=field, choices=choices)
    return fitting[0]


def _fits(pair: Pair, given: Pair) -> bool:
    return all(told is None or told == one for one, told in zip(pair, given, strict=True))


def _to_which(
    session: Session, patient: Patient, told: NewClearance, gates: list[Gate]
) -> UUID | None:
    """The text: as it is told, else as it stood then in the patient's language."""
    if told.text_id is not None:
        text = facts.one(session, ConsentText, told.text_id)
        if text.code != told.gate:
            raise Unfit(f"That text is for {text.code}.", field="text_id")
        if text.written_at > told.cleared_at:
            raise Unfit("That text was not written yet.", field="text_id")
        return text.id
    if all(GivenFor.TEXT not in gate.given_for for gate in gates):
        return None
    found = facts.text_as_of(session, told.gate, patient.language, told.cleared_at)
    return None if found is None else found.id
