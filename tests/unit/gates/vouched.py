"""Gates that somebody vouches for: until when it holds, and what ends it before."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from models.vocabulary import ClearanceOutcome, HealthEventKind
from scheduler.protocols import Gate, SettledBy, Visit
from scheduler.readiness import Known, Renewal, Vouched, turns
from tests.unit.gates.trials import (
    AT,
    DAY,
    EXPIRED,
    FAILED,
    FOREVER,
    LATELY,
    MEDICINE,
    MET,
    MINUTE,
    OPEN,
    ROUTE,
    Row,
    judge,
    since,
)

CLEARED, REFUSED = ClearanceOutcome.CLEARED, ClearanceOutcome.REFUSED


@dataclass(frozen=True, kw_only=True)
class Lapsing(Row):
    """What was found at one time, and holds for a while."""

    later: timedelta | None = None
    """How long it holds. None: until it is revoked."""
    first: timedelta | None = None
    """For the first visit of its kind, where that is otherwise."""
    gap: timedelta | None = None
    """So long after the last dose it ends."""
    ends_on: frozenset[HealthEventKind] = frozenset()

    def given(self, gate: Gate, at: datetime) -> dict[str, Any]:
        """What is known once it was found in order."""
        raise NotImplementedError

    def lapse(self, gate: Gate) -> None:
        """Try all that ends it."""
        self.expect(OPEN, judge(gate), "nobody")
        for off, state in ((-MINUTE, MET), (0 * MINUTE, MET), (MINUTE, OPEN)):
            self.expect(state, judge(gate, **self.given(gate, AT + off)), f"found at {off}")
        self._lapses(gate, self.first or self.later, is_first=True)
        self._lapses(gate, self.later, is_first=False)
        self._turns(gate)
        for kind in HealthEventKind:
            self._happened(gate, kind)
        self._rested(gate)

    def _lapses(self, gate: Gate, holds: timedelta | None, *, is_first: bool) -> None:
        if holds is None:
            judged = judge(gate, **self.given(gate, AT - FOREVER), first_of_kind=is_first)
            self.expect(MET, judged, "until revoked")
            assert judged.expires_at is None
            return
        for off, state in ((-MINUTE, EXPIRED), (0 * MINUTE, MET), (MINUTE, MET)):
            given_at = AT - holds + off
            judged = judge(gate, **self.given(gate, given_at), first_of_kind=is_first)
            self.expect(state, judged, f"{holds}, first {is_first}, by {off}")
            assert judged.expires_at == given_at + holds

    def _turns(self, gate: Gate) -> None:
        lengths = {one for one in (self.first, self.later) if one is not None}
        assert turns([gate], Known(starts_at=AT)) == set()
        assert turns([gate], Known(starts_at=AT, **self.given(gate, LATELY))) == {
            LATELY,
            *(LATELY + one for one in lengths),
        }

    def _happened(self, gate: Gate, kind: HealthEventKind) -> None:
        ends = kind in self.ends_on
        told = self.given(gate, LATELY)
        for at, is_after in (
            (LATELY - MINUTE, False),
            (LATELY, False),  # whoever found it then knew of it
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
        told = self.given(gate, LATELY)
        for ends_at, after in (
            (LATELY - MINUTE, MET),  # found in order since
            (LATELY, EXPIRED),
            (AT - MINUTE, EXPIRED),
            (AT, MET),
            (AT + MINUTE, MET),
        ):
            state = MET if self.gap is None else after
            judged = judge(gate, doses=(ends_at - gap,), **told)
            self.expect(state, judged, f"the last dose, by {ends_at - AT}")
            assert state is MET or judged.expires_at == ends_at
        if self.gap is not None:
            since(self, gate, AT - MINUTE, doses=(AT - MINUTE - gap,), **told)
            self._dosed(gate, self.gap)

    def _dosed(self, gate: Gate, gap: timedelta) -> None:
        """The last dose before the visit counts, whatever came before it or comes later."""
        told, long_ago = self.given(gate, LATELY), AT - MINUTE - gap
        for doses, state in (
            ((long_ago, AT - DAY), MET),
            ((AT - DAY, long_ago), MET),
            ((long_ago, AT), EXPIRED),  # the visit's own time is no dose before it
            ((long_ago, AT + DAY), EXPIRED),
            ((AT + DAY,), MET),
        ):
            judged = judge(gate, doses=doses, **told)
            self.expect(state, judged, f"doses {doses}")
            known = Known(starts_at=AT, doses=doses, **told)
            assert {*doses, *(one + gap for one in doses)} <= turns([gate], known)


def cleared(gate: Gate, *told: Vouched, **more: Any) -> dict[str, Any]:
    """What is known once somebody vouched for the gate; another gate is refused."""
    return {"clearances": {gate.code: told, "other": [Vouched(REFUSED, AT)]}, **more}


def vouched(at: datetime = LATELY, outcome: ClearanceOutcome = CLEARED, **more: Any) -> Vouched:
    """For the medicine and the route of the visit, unless said otherwise."""
    return Vouched(outcome, at, **{"medicine": MEDICINE, "route": ROUTE, **more})


@dataclass(frozen=True, kw_only=True)
class Clearance(Lapsing):
    """Somebody vouches for it."""

    given_for: str = ""
    """What it must have been given for: the medicine, the route, the text."""

    def given(self, gate: Gate, at: datetime) -> dict[str, Any]:
        return cleared(gate, vouched(at))

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.CLEARANCE
        self.lapse(gate)
        self._outcomes(gate)
        self._until(gate)
        for what in ("medicine", "route"):
            self._given_for(gate, what)
        self._renewed(gate)

    def _outcomes(self, gate: Gate) -> None:
        good = ClearanceOutcome.NOT_APPLICABLE
        for outcomes, state in (
            ((CLEARED,), MET),
            ((good,), MET),
            ((REFUSED,), FAILED),
            ((CLEARED, REFUSED), FAILED),  # the last one counts
            ((REFUSED, CLEARED), MET),
        ):
            told = [vouched(LATELY, outcome) for outcome in outcomes]
            self.expect(state, judge(gate, **cleared(gate, *told)), outcomes)
        since(self, gate, LATELY, **cleared(gate, vouched(LATELY, REFUSED)))
        late = vouched(LATELY, REFUSED, noted_at=LATELY + MINUTE)
        since(self, gate, LATELY + MINUTE, **cleared(gate, late))
        later = cleared(gate, vouched(), vouched(AT + MINUTE, REFUSED))
        self.expect(MET, judge(gate, **later), "refused after the visit")

    def _until(self, gate: Gate) -> None:
        for off, state in ((-MINUTE, EXPIRED), (0 * MINUTE, MET), (MINUTE, MET)):
            told = cleared(gate, vouched(valid_until=AT + off))
            self.expect(state, judge(gate, **told), f"good until {off}")
            assert AT + off in turns([gate], Known(starts_at=AT, **told))
        for is_first, holds in ((True, self.first or self.later), (False, self.later)):
            for until in (AT + MINUTE, AT + FOREVER):
                told = cleared(gate, vouched(AT, valid_until=until))
                judged = judge(gate, **told, first_of_kind=is_first)
                assert judged.expires_at == (until if holds is None else min(until, AT + holds))

    def _given_for(self, gate: Gate, what: str) -> None:
        counts = what in self.given_for.split()
        another: dict[str, Any] = {what: "another"}
        for told in (another, {what: None}):
            other = told[what]
            of_other = cleared(gate, vouched(**told))
            judged = judge(gate, **of_other)
            self.expect(EXPIRED if counts else MET, judged, f"{what} {other}")
            refused = judge(gate, **cleared(gate, vouched(outcome=REFUSED, **told)))
            of_any = other is None or not counts
            self.expect(FAILED if of_any else OPEN, refused, f"refused, {what} {other}")
            assert not counts or what in judged.detail
        both = cleared(gate, vouched(), vouched(**another))
        self.expect(MET, judge(gate, **both), "a later one for another is none for this")

    def _renewed(self, gate: Gate) -> None:
        counts = "text" in self.given_for.split()
        for text, written_at, ends in (
            (None, LATELY - MINUTE, False),  # given to what there was then
            (None, LATELY, False),
            (None, LATELY + MINUTE, True),
            (1, LATELY - MINUTE, True),
            (1, AT, True),
            (1, AT + MINUTE, False),
            (2, AT, False),
            (3, AT, False),
        ):
            state = EXPIRED if ends and counts else MET
            renewed = {gate.code: [Renewal(1, AT - FOREVER), Renewal(2, written_at)]}
            told = cleared(gate, vouched(text=text), renewed=renewed)
            judged = judge(gate, **told)
            self.expect(state, judged, f"text {text}, written by {written_at - AT}")
            assert written_at in turns([gate], Known(starts_at=AT, **told))
            if state is EXPIRED:
                assert judged.expires_at == written_at
                since(self, gate, written_at, **told)
