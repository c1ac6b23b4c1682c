"""Screens: a clinician asks for what speaks against a dose, and somebody decides on what is held.

Which conditions are asked for is protocol data. A screen answers all of them; a later one
replaces it. Functions here flush and never commit; nothing that was written is changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Patient, Screen, ScreenDecision
from models.vocabulary import Answer, ConditionAction, HoldOutcome
from scheduler import facts, reopening
from scheduler.authority import Authority
from scheduler.errors import Taken, Unfit
from scheduler.protocols import SettledBy
from scheduler.screening import HealthCondition


@dataclass(frozen=True, slots=True, kw_only=True)
class NewScreen:
    """What a clinician found, for every condition that is asked for."""

    screened_at: datetime
    answers: Mapping[str, Answer]
    notes: Mapping[str, str]
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDecision:
    """What somebody decided about a condition that is on hold, and why."""

    condition: str
    outcome: HoldOutcome
    reason: str


def asked(
    session: Session, patient_id: UUID, *, everywhere: bool = False
) -> Sequence[HealthCondition]:
    """The conditions that the patient's protocols ask for, each as each protocol has it.

    `everywhere`: those of the clinic's own protocol as well, which may be asked for beforehand.
    """
    gates = facts.gates_settled_by(session, patient_id, SettledBy.SCREEN, everywhere=everywhere)
    return list(dict.fromkeys(one for gate in gates for one in gate.conditions))


def record(
    session: Session, patient_id: UUID, new: NewScreen, *, by: Authority, now: datetime
) -> Screen:
    """Write down a screen; whoever has a visit ahead that it shuts hears of it.

    Refuses with `NotFound`, with `MayNotOverride` whoever may not settle such a gate, and with
    `Unfit` for the future, for a condition that nobody asks for, or where one is not answered.
    """
    facts.one(session, Patient, patient_id)
    _refuse_unless_theirs(session, patient_id, by)
    if new.screened_at > now:
        raise Unfit("Nobody was screened in the future.", field="screened_at")
    _refuse_unless_whole(session, patient_id, new)
    ahead = facts.booked_ahead(session, patient_id, now)
    before = reopening.settled(session, ahead, now)
    screen = Screen(
        id=uuid7(),
        patient_id=patient_id,
        screened_at=new.screened_at,
        recorded_at=now,
        answers={code: answer.value for code, answer in new.answers.items()},
        notes=dict(new.notes),
        note=new.note,
        screened_by=by.name,
    )
    session.add(screen)
    session.flush()
    reopening.tell(session, ahead, before, now)
    return screen


def decide(
    session: Session, screen: Screen, new: NewDecision, *, by: Authority, now: datetime
) -> ScreenDecision:
    """Decide about a condition that is on hold: the visits go ahead with it, or they do not.

    Refuses with `Taken` once a later screen has replaced this one, with `Unfit` for a condition
    that is not on hold, and with `MayNotOverride` whoever the protocol does not let decide.
    """
    latest = facts.latest_screen(session, screen.patient_id)
    if latest is None or latest.id != screen.id:
        raise Taken("A later screen has replaced this one. Decide on that.", field="screen_id")
    by.refuse_to_lift(_lift(session, screen, new.condition), new.condition)
    ahead = facts.booked_ahead(session, screen.patient_id, now)
    before = reopening.settled(session, ahead, now)
    decision = ScreenDecision(
        id=uuid7(),
        screen_id=screen.id,
        condition=new.condition,
        outcome=new.outcome,
        reason=new.reason,
        decided_by=by.name,
        decided_at=now,
    )
    session.add(decision)
    session.flush()
    reopening.tell(session, ahead, before, now)
    return decision


def _refuse_unless_theirs(session: Session, patient_id: UUID, by: Authority) -> None:
    gates = facts.gates_settled_by(session, patient_id, SettledBy.SCREEN)
    if not gates:
        raise Unfit("No protocol of this patient asks for a screen.", field="answers")
    for gate in gates:  # it counts under all of them, so the strictest decides
        by.refuse_to_settle(gate.who, gate.code)


def _refuse_unless_whole(session: Session, patient_id: UUID, new: NewScreen) -> None:
    known = {one.code for one in asked(session, patient_id, everywhere=True)}
    odd = sorted(new.answers.keys() - known)
    if odd:
        raise Unfit(f"Nobody asks for {', '.join(odd)}.", field="answers", conditions=sorted(known))
    wanted = dict.fromkeys(one.code for one in asked(session, patient_id))
    missing = [code for code in wanted if code not in new.answers]
    if missing:
        detail = "Answer every condition: present, absent or unknown."
        raise Unfit(detail, field="answers", missing=missing)


def _lift(session: Session, screen: Screen, code: str) -> frozenset[str]:
    """Who may decide on a hold; the strictest of the patient's protocols counts."""
    own, all_of_them = (
        [
            one
            for one in asked(session, screen.patient_id, everywhere=everywhere)
            if one.code == code and one.action is ConditionAction.HOLD
        ]
        for everywhere in (False, True)
    )
    held = own or all_of_them
    if not held or screen.answers.get(code) != Answer.PRESENT:
        raise Unfit(f"{code} is not on hold.", field="condition")
    return frozenset.intersection(*(one.lift for one in held))
