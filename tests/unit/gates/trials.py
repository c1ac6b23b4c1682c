"""What a row of the table says of a gate, tried on the gate itself, to the minute.

A row holds the figures; the gate comes from the protocol file. What does not fit raises.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from models.vocabulary import GateState, Stage
from scheduler.protocols import Gate, Visit
from scheduler.readiness import Judged, Known, assess

AT = datetime(2026, 6, 15, 15, 0, tzinfo=UTC)
"""The start of the visit, and the moment as of which it is judged: a Monday, 11:00 in New York."""
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FOREVER = 3650 * DAY
LATELY = AT - 10 * MINUTE
"""Before the visit, and later than any clearance of these protocols lapses."""

MEDICINE, ROUTE = "the medicine", "the route"
"""Of the visit, whatever they are."""

MET, OPEN, FAILED = GateState.MET, GateState.OPEN, GateState.FAILED
EXPIRED, OVERRIDDEN = GateState.EXPIRED, GateState.OVERRIDDEN

ASKED = {
    Stage.BOOKING: {Stage.BOOKING, Stage.ARRIVAL, Stage.DOSE},
    Stage.ARRIVAL: {Stage.ARRIVAL, Stage.DOSE},
    Stage.DOSE: {Stage.DOSE},
    Stage.DISCHARGE: {Stage.DISCHARGE},
}
"""At which stages a gate is asked, by the one that it shuts."""


def judge(gate: Gate, at: datetime = AT, **known: Any) -> Judged:
    """How the gate stands, given what is known."""
    given: dict[str, Any] = {"medicine": MEDICINE, "route": ROUTE}
    [judged] = assess([gate], Known(starts_at=AT, **given, **known), at).gates
    return judged


@dataclass(frozen=True)
class Row:
    """One gate with its figures, and the visits that have it."""

    code: str
    """In the clinical facts' words: G1 to G14, D1, D2; T3 and so on for a template's own."""
    gate: str
    shuts: Stage
    visits: str
    """As `protocol/visit`."""
    who: str
    """Who can settle it."""
    lift: str = field(default="prescriber", kw_only=True)
    """Who may pass over it; nothing: nobody."""

    def hold(self, gate: Gate, visit: Visit) -> None:
        """Raise unless the gate is as this row says."""
        assert (gate.who, gate.lift) == (tuple(self.who.split()), frozenset(self.lift.split()))
        ready = assess([gate], Known(starts_at=AT, **self.shut(gate)), AT)
        assert {stage for stage in Stage if ready.shut(stage)} == ASKED[self.shuts]
        for stage in Stage:
            assert ready.asked(ready.gates[0], stage) is (stage in ASKED[self.shuts])
        self.passed_over(gate)
        self.try_on(gate, visit)

    def passed_over(self, gate: Gate) -> None:
        """A reason opens what is shut, and speaks of no other gate."""
        shut = self.shut(gate)
        opened = judge(gate, overridden={gate.code: AT}, **shut)
        assert (opened.state, opened.is_shut) == (OVERRIDDEN, False)
        assert judge(gate, overridden={"other": AT}, **shut).is_shut

    def shut(self, gate: Gate) -> dict[str, Any]:
        """Something known that shuts it. Nothing known does, of most."""
        return {}

    def try_on(self, gate: Gate, visit: Visit) -> None:
        """The figures, at their boundaries."""
        raise NotImplementedError

    def expect(self, state: GateState, judged: Judged, of: object) -> None:
        """Raise unless it stands so."""
        assert judged.state is state, f"{self.gate} of {of}: {judged.state}, not {state}"
        assert judged.is_shut is (state is not MET)


def since(row: Row, gate: Gate, came_to_light: datetime, **known: Any) -> None:
    """Raise unless a reason from before something came to light is none, and one from then is."""
    for given_at, state in (
        (came_to_light - MINUTE, judge(gate, **known).state),
        (came_to_light, OVERRIDDEN),
        (came_to_light + MINUTE, OVERRIDDEN),
    ):
        judged = judge(gate, overridden={gate.code: given_at}, **known)
        assert judged.state is state, (row.gate, given_at - came_to_light, judged)
