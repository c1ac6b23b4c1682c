"""Gates that are settled on the way: items, people, earlier visits, answers, time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from models.vocabulary import StepKind, TaskStatus, WayHome
from scheduler.protocols import Gate, SettledBy, Visit
from scheduler.readiness import (
    Companion,
    Duty,
    EarlierStep,
    Item,
    Known,
    Leaving,
    Readiness,
    Shutting,
    Urgency,
    turns,
    urgency,
)
from tests.unit.gates.trials import (
    AT,
    DAY,
    EXPIRED,
    FAILED,
    FOREVER,
    LATELY,
    MET,
    MINUTE,
    OPEN,
    Row,
    judge,
    since,
)


@dataclass(frozen=True, kw_only=True)
class Items(Row):
    """Its checklist items are done."""

    due: dict[str, timedelta]
    """By item, before the start."""

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.CHECKLIST
        own = [check for check in visit.checklist if check.gate == gate.code]
        assert {one.code for one in own} == set(self.due)
        for check in own:
            due_at = AT - self.due[check.code]
            assert check.due_at(AT, AT + visit.length) == due_at
            self._statuses(gate, due_at)

    def _statuses(self, gate: Gate, due_at: datetime) -> None:
        other = Item("other", "t", TaskStatus.FAILED, AT - FOREVER)
        for statuses, state in (
            ((), OPEN),
            ((TaskStatus.REQUESTED,), OPEN),
            ((TaskStatus.COMPLETED,), MET),
            ((TaskStatus.CANCELLED,), MET),  # waived
            ((TaskStatus.FAILED,), FAILED),
            ((TaskStatus.COMPLETED, TaskStatus.REQUESTED), OPEN),
            ((TaskStatus.REQUESTED, TaskStatus.FAILED), FAILED),
        ):
            items = (*(Item(gate.code, "t", status, due_at) for status in statuses), other)
            judged = judge(gate, items=items)
            self.expect(state, judged, statuses)
            assert judged.due_at == (due_at if statuses else AT)
        left = (Item(gate.code, "t", TaskStatus.REQUESTED, due_at), other)
        [shut] = Readiness((judge(gate, items=left),)).shut(self.shuts)
        for off, expected in (
            (-DAY - MINUTE, Urgency.LATER),
            (-DAY, Urgency.SOON),
            (-MINUTE, Urgency.SOON),
            (0 * MINUTE, Urgency.OVERDUE),
            (MINUTE, Urgency.OVERDUE),
        ):
            assert urgency(shut.due_at, due_at + off) is expected
        assert urgency(None, AT) is Urgency.NONE


@dataclass(frozen=True, kw_only=True)
class Escorted(Row):
    """Somebody is named and has said yes."""

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.ESCORT
        for escort, state in ((None, OPEN), (Companion(False), OPEN), (Companion(True), MET)):
            self.expect(state, judge(gate, escort=escort), escort)


@dataclass(frozen=True, kw_only=True)
class Departing(Row):
    """It is noted who takes the patient home, in one of these ways."""

    ways: frozenset[WayHome]

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.DEPARTURE
        self.expect(OPEN, judge(gate, ways_home=visit.ways_home), "nobody")
        for way in WayHome:
            known: dict[str, Any] = {
                "left": Leaving(way, LATELY),
                "ways_home": visit.ways_home,
            }
            self.expect(MET if way in self.ways else FAILED, judge(gate, **known), way)
            if way not in self.ways:
                since(self, gate, LATELY, **known)


@dataclass(frozen=True, kw_only=True)
class Earlier(Row):
    """Earlier visits of these kinds took place, or were skipped for a reason."""

    kinds: frozenset[StepKind]

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.STEPS
        self.expect(OPEN, judge(gate, earlier=None), "no course")
        self.expect(MET, judge(gate, earlier=()), "nothing before")
        for kind in StepKind:
            missing = EarlierStep("a", kind, fulfilled=False)
            done = EarlierStep("b", kind, fulfilled=True)
            skipped = EarlierStep("c", kind, fulfilled=False, skipped=True)
            self.expect(MET, judge(gate, earlier=(done, skipped)), kind)
            wanted = OPEN if kind in self.kinds else MET
            self.expect(wanted, judge(gate, earlier=(done, missing, skipped)), kind)


@dataclass(frozen=True, kw_only=True)
class Observed(Row):
    """So many minutes have passed since the dose."""

    minutes: int

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.OBSERVATION
        self.expect(OPEN, judge(gate, dosed_at=None), "no dose")
        length = self.minutes * MINUTE
        for off, state in ((-MINUTE, OPEN), (0 * MINUTE, MET), (MINUTE, MET)):
            self.expect(state, judge(gate, at=AT + length + off, dosed_at=AT), f"by {off}")
        assert turns([gate], Known(starts_at=AT, dosed_at=AT)) == {AT + length}


@dataclass(frozen=True, kw_only=True)
class Asked(Row):
    """A questionnaire was filled in, and nothing in it shuts the gate."""

    instrument: str
    holds: timedelta

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.QUESTIONNAIRE
        self.expect(OPEN, judge(gate), "nothing")
        another = {"phq-9": AT}
        self.expect(OPEN, judge(gate, answered=another), "another")
        for off, state in ((-MINUTE, EXPIRED), (0 * MINUTE, MET), (MINUTE, MET)):
            at = AT - self.holds + off
            judged = judge(gate, **self._filled_in(at))
            self.expect(state, judged, f"{self.holds} by {off}")
            assert judged.expires_at == at + self.holds
        for off, state in ((-MINUTE, MET), (0 * MINUTE, MET), (MINUTE, OPEN)):
            self.expect(state, judge(gate, **self._filled_in(AT + off)), f"at {off}")
        high = self._filled_in(LATELY, shuts=True)
        self.expect(FAILED, judge(gate, **high), "high")
        since(self, gate, LATELY + MINUTE, **high)  # when it was typed in
        stale = self._filled_in(AT - self.holds - MINUTE, shuts=True)
        self.expect(EXPIRED, judge(gate, **stale), "high, and too old")
        since(self, gate, AT - self.holds, **stale)
        self._beside_a_calm_one(gate)

    def _beside_a_calm_one(self, gate: Gate) -> None:
        """What a patient or the desk fills in since does not open it; a clinician's does."""
        calm = {self.instrument: AT}
        for looked, state in (((), FAILED), (("monitor",), MET)):
            high = [Shutting(AT - self.holds, LATELY, frozenset(looked))]
            judged = judge(gate, answered=calm, shut_by={self.instrument: high})
            self.expect(state, judged, f"looked at by {looked}")
        lapsed = [Shutting(AT - self.holds - MINUTE, LATELY)]
        judged = judge(gate, answered=calm, shut_by={self.instrument: lapsed})
        self.expect(MET, judged, "lapsed")
        half = judge(gate, shut_by={self.instrument: [Shutting(AT, AT)]})
        self.expect(FAILED, half, "half filled in")
        since(self, gate, LATELY, shut_by={self.instrument: lapsed})  # and nothing sent since
        later = [Shutting(AT + MINUTE, AT + MINUTE)]
        self.expect(MET, judge(gate, answered=calm, shut_by={self.instrument: later}), "later")

    def _filled_in(self, at: datetime, *, shuts: bool = False) -> dict[str, Any]:
        shut_by = [Shutting(at, at + MINUTE)] if shuts else []
        return {"answered": {self.instrument: at}, "shut_by": {self.instrument: shut_by}}


@dataclass(frozen=True, kw_only=True)
class Aftermath(Row):
    """What was to be done about what went wrong is done."""

    def shut(self, gate: Gate) -> dict[str, Any]:
        return {"duties": [Duty(gate.code, "t", TaskStatus.REQUESTED, LATELY)]}

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.INCIDENTS
        todo, failed = TaskStatus.REQUESTED, TaskStatus.FAILED
        other = Duty("other", "t", failed, AT)
        self.expect(MET, judge(gate), "nothing")
        self.expect(MET, judge(gate, duties=[other]), "another gate's")
        for statuses, state in (((todo,), OPEN), ((failed,), FAILED), ((todo, failed), FAILED)):
            duties = [Duty(gate.code, "t", status, LATELY) for status in statuses]
            self.expect(state, judge(gate, duties=[other, *duties]), statuses)
        twice = [Duty(gate.code, "t", todo, at) for at in (LATELY + MINUTE, LATELY)]
        since(self, gate, LATELY + MINUTE, duties=twice)
