"""Gates that somebody or something settles: clearances, items, people, earlier visits, time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from models.vocabulary import ClearanceOutcome, HealthEventKind, StepKind, TaskStatus, WayHome
from scheduler.protocols import Gate, SettledBy, Visit
from scheduler.readiness import (
    Answered,
    Companion,
    Duty,
    EarlierStep,
    Item,
    Known,
    Readiness,
    Urgency,
    Vouched,
    turns,
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

CLEARED = ClearanceOutcome.CLEARED


def cleared(
    gate: Gate, at: datetime, outcome: ClearanceOutcome = CLEARED, until: datetime | None = None
) -> dict[str, Any]:
    """What is known once somebody vouched for the gate; another gate is refused."""
    refused = Vouched(ClearanceOutcome.REFUSED, AT)
    return {"clearances": {gate.code: Vouched(outcome, at, until), "other": refused}}


@dataclass(frozen=True, kw_only=True)
class Clearance(Row):
    """Somebody vouches for it."""

    later: timedelta | None = None
    """How long it holds. None: until it is revoked."""
    first: timedelta | None = None
    """For the first visit of its kind, where that is otherwise."""
    gap: timedelta | None = None
    """So long after the last dose it ends."""
    ends_on: frozenset[HealthEventKind] = frozenset()

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.CLEARANCE
        self._given(gate)
        self._lapses(gate, self.first or self.later, is_first=True)
        self._lapses(gate, self.later, is_first=False)
        self._turns(gate)
        for kind in HealthEventKind:
            self._happened(gate, kind)
        self._rested(gate)

    def _given(self, gate: Gate) -> None:
        self.expect(OPEN, judge(gate), "nobody")
        for outcome, state in (
            (CLEARED, MET),
            (ClearanceOutcome.NOT_APPLICABLE, MET),
            (ClearanceOutcome.REFUSED, FAILED),
        ):
            self.expect(state, judge(gate, **cleared(gate, LATELY, outcome)), outcome)
        for off, state in ((-MINUTE, MET), (0 * MINUTE, MET), (MINUTE, OPEN)):
            self.expect(state, judge(gate, **cleared(gate, AT + off)), f"vouched for at {off}")
        for off, state in ((-MINUTE, EXPIRED), (0 * MINUTE, MET), (MINUTE, MET)):
            told = cleared(gate, LATELY, until=AT + off)
            self.expect(state, judge(gate, **told), f"good until {off}")

    def _lapses(self, gate: Gate, holds: timedelta | None, *, is_first: bool) -> None:
        if holds is None:
            judged = judge(gate, **cleared(gate, AT - FOREVER), first_of_kind=is_first)
            self.expect(MET, judged, "until revoked")
            assert judged.expires_at is None
            return
        for off, state in ((-MINUTE, EXPIRED), (0 * MINUTE, MET), (MINUTE, MET)):
            given_at = AT - holds + off
            judged = judge(gate, **cleared(gate, given_at), first_of_kind=is_first)
            self.expect(state, judged, f"{holds}, first {is_first}, by {off}")
            assert judged.expires_at == given_at + holds
        for until in (AT + MINUTE, AT + holds + DAY):
            told = cleared(gate, AT, until=until)
            judged = judge(gate, **told, first_of_kind=is_first)
            assert judged.expires_at == min(until, AT + holds)

    def _turns(self, gate: Gate) -> None:
        until = AT + DAY
        known = Known(starts_at=AT, **cleared(gate, LATELY, until=until))
        lengths = {one for one in (self.first, self.later) if one is not None}
        assert turns([gate], known) == {LATELY, until, *(LATELY + one for one in lengths)}
        assert turns([gate], Known(starts_at=AT)) == set()
        assert turns([gate], Known(starts_at=AT, **cleared(gate, LATELY))) == {
            LATELY,
            *(LATELY + one for one in lengths),
        }

    def _happened(self, gate: Gate, kind: HealthEventKind) -> None:
        ends = kind in self.ends_on
        told = cleared(gate, LATELY)
        for at, is_after in (
            (LATELY - MINUTE, False),
            (LATELY, False),  # whoever vouched then knew of it
            (LATELY + MINUTE, True),
            (AT, True),
            (AT + MINUTE, False),
        ):
            state = EXPIRED if ends and is_after else MET
            judged = judge(gate, happened={kind: at}, **told)
            self.expect(state, judged, f"{kind} at {at}")
            assert judged.expires_at == at or state is MET
        if ends:
            since(self, gate, LATELY + MINUTE, happened={kind: LATELY + MINUTE}, **told)

    def _rested(self, gate: Gate) -> None:
        gap = self.gap or FOREVER
        told = cleared(gate, LATELY)
        for ends_at, state in (
            (LATELY - MINUTE, MET),  # vouched for since
            (LATELY, EXPIRED),
            (AT - MINUTE, EXPIRED),
            (AT, MET),
            (AT + MINUTE, MET),
        ):
            state = MET if self.gap is None else state
            judged = judge(gate, last_dosed_at=ends_at - gap, **told)
            self.expect(state, judged, f"the last dose, by {ends_at - AT}")
            assert state is MET or judged.expires_at == ends_at
        if self.gap is not None:
            since(self, gate, AT - MINUTE, last_dosed_at=AT - MINUTE - gap, **told)


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
        ready = Readiness((judge(gate, items=left),))
        shut = ready.shut(self.shuts)
        for off, urgency in (
            (-DAY - MINUTE, Urgency.LATER),
            (-DAY, Urgency.SOON),
            (-MINUTE, Urgency.SOON),
            (0 * MINUTE, Urgency.OVERDUE),
            (MINUTE, Urgency.OVERDUE),
        ):
            assert ready.urgency(shut, due_at + off) is urgency
        assert ready.urgency([], AT) is Urgency.NONE


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
            judged = judge(gate, left=way, ways_home=visit.ways_home)
            self.expect(MET if way in self.ways else FAILED, judged, way)


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
        another = {"phq-9": Answered(AT, shuts=False)}
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
        since(self, gate, LATELY, **high)

    def _filled_in(self, at: datetime, *, shuts: bool = False) -> dict[str, Any]:
        return {"answered": {self.instrument: Answered(at, shuts)}}


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
