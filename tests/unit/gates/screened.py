"""Gates that rest on a screen, on medicines gone through, and on who may go on."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from models.vocabulary import Answer, EligibilityOutcome, HoldOutcome
from scheduler.protocols import Gate, SettledBy, Visit
from scheduler.readiness import Known, turns
from scheduler.screening import Decided, Medicine, Reconciled, Ruled, Ruling, Screen, flags
from tests.unit.gates.trials import (
    AT,
    EXPIRED,
    FAILED,
    LATELY,
    MET,
    MINUTE,
    OPEN,
    Row,
    judge,
    since,
)
from tests.unit.gates.vouched import Lapsing


@dataclass(frozen=True, kw_only=True)
class Screened(Lapsing):
    """The patient was asked for each of these, and nothing speaks against it."""

    conditions: dict[str, str]
    """By condition what follows: `block`, `hold`, `caution`, `discuss`; and who may decide."""

    def given(self, gate: Gate, at: datetime) -> dict[str, Any]:
        return {"screen": Screen(at, at, dict.fromkeys(self.conditions, Answer.ABSENT))}

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.SCREEN
        assert {one.code: (one.action, one.lift) for one in gate.conditions} == {
            code: (told.split()[0], frozenset(told.split()[1:]))
            for code, told in self.conditions.items()
        }
        self.lapse(gate)
        for code, told in self.conditions.items():
            action, *lift = told.split()
            self._found(gate, code, action, frozenset(lift))

    def _screen(self, code: str, answer: Answer, decided: HoldOutcome | None = None) -> Screen:
        answers = dict.fromkeys(self.conditions, Answer.ABSENT) | {code: answer}
        given = {} if decided is None else {code: Decided(decided, LATELY + MINUTE)}
        return Screen(LATELY, LATELY, answers, given)

    def _found(self, gate: Gate, code: str, action: str, lift: frozenset[str]) -> None:
        self.expect(OPEN, judge(gate, screen=self._screen(code, Answer.UNKNOWN)), code)
        present = self._screen(code, Answer.PRESENT)
        judged = judge(gate, screen=present)
        state = {"block": FAILED, "hold": OPEN}.get(action, MET)
        self.expect(state, judged, code)
        if state is not MET:
            assert judged.lift == gate.lift & lift, code
            since(self, gate, LATELY, screen=present)
        for outcome, then in ((HoldOutcome.GO_AHEAD, MET), (HoldOutcome.REFUSED, FAILED)):
            decided = judge(gate, screen=self._screen(code, Answer.PRESENT, outcome))
            self.expect(then if action == "hold" else state, decided, f"{code}, {outcome}")


@dataclass(frozen=True, kw_only=True)
class GoneThrough(Lapsing):
    """What the patient takes was gone through, and what is held back was approved."""

    classes: dict[str, str]
    """By class of medicine what follows."""

    def given(self, gate: Gate, at: datetime) -> dict[str, Any]:
        return {"reconciled": Reconciled(at, at, (Medicine("Aspirin", None),))}

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.MEDICINES
        assert [one.code for one in gate.medicines] == list(self.classes)
        self.lapse(gate)
        for code, action in self.classes.items():
            taken = (Medicine("It", code), Medicine("Aspirin", None))
            told = Reconciled(LATELY, LATELY, taken)
            assert [one.action for one in flags(gate.medicines, told)] == [action]
            waits = action in {"hold-dose-day", "hold-24h", "block"}
            self.expect(OPEN if waits else MET, judge(gate, reconciled=told), code)
            if waits:
                since(self, gate, LATELY, reconciled=told)
            [flag] = flags(gate.medicines, told)
            ruled = Reconciled(LATELY, LATELY, taken, {code: Ruled(flag.action, AT)})
            judged = judge(gate, reconciled=ruled)
            self.expect(FAILED if action == "block" else MET, judged, f"{code}, approved")


@dataclass(frozen=True, kw_only=True)
class Eligible(Row):
    """Nobody has decided that the course does not go on to its doses."""

    def shut(self, gate: Gate) -> dict[str, Any]:
        return {"eligibility": Ruling(EligibilityOutcome.NOT_ELIGIBLE, LATELY)}

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.ELIGIBILITY
        self.expect(MET, judge(gate), "nobody")
        for outcome, state in (
            (EligibilityOutcome.NOT_ELIGIBLE, FAILED),
            (EligibilityOutcome.DEFERRED, FAILED),
            (EligibilityOutcome.ELIGIBLE, MET),
            (EligibilityOutcome.ELIGIBLE_WITH_CONDITIONS, MET),
        ):
            ruling = Ruling(outcome, LATELY)
            self.expect(state, judge(gate, eligibility=ruling), outcome)
            if state is FAILED:
                since(self, gate, LATELY, eligibility=ruling)
        for off, state in ((-MINUTE, EXPIRED), (0 * MINUTE, EXPIRED), (MINUTE, MET)):
            ruling = Ruling(EligibilityOutcome.ELIGIBLE, LATELY, lapses_at=AT + off)
            judged = judge(gate, eligibility=ruling)
            self.expect(state, judged, f"lapses at {off}")
            assert judged.expires_at == AT + off
            assert turns([gate], Known(starts_at=AT, eligibility=ruling)) == {AT + off}
