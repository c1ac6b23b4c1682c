"""Gates that rest on what is measured: each line of each limit, to the point and the minute."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from models.vocabulary import Measure
from scheduler.measuring import Measured
from scheduler.protocols import Gate, SettledBy, Visit
from tests.unit.gates.trials import (
    AT,
    EXPIRED,
    FAILED,
    LATELY,
    MET,
    MINUTE,
    OPEN,
    OVERRIDDEN,
    Row,
    judge,
    since,
)

DOSED_AT = AT - 100 * MINUTE
SAFE: Mapping[Measure, float] = {
    Measure.SYSTOLIC: 120,
    Measure.DIASTOLIC: 80,
    Measure.OXYGEN_SATURATION: 98,
    Measure.RECOVERY_SCORE: 10,
    Measure.ORIENTED: 1,
    Measure.STEADY_GAIT: 1,
    Measure.NAUSEA_CONTROLLED: 1,
}
"""What is within every limit, and near itself."""


class Lines(NamedTuple):
    """Where the lines of a measure are: the last value that passes, the first of the others."""

    passes: float | None = None
    hold: float | None = None
    stop: float | None = None
    up: bool = True
    """Whether the worse values are the higher ones."""
    near: tuple[float, float] | None = None
    """The lowest and the highest that are near enough to what was safe before the dose."""


def taken(at: datetime, **values: float) -> Measured:
    """Everything measured then: safe, but for `values`."""
    told = {Measure(name.replace("_", "-")): value for name, value in values.items()}
    return Measured(at, {**SAFE, **told}, at + MINUTE)


@dataclass(frozen=True, kw_only=True)
class Limited(Row):
    """Every measure lies within its lines."""

    holds: timedelta
    limits: dict[Measure, Lines]
    times: int | None = None
    """So often it is measured again before a reason opens what is on hold."""
    apart: timedelta = timedelta(0)

    def try_on(self, gate: Gate, visit: Visit) -> None:
        assert gate.settled_by is SettledBy.MEASUREMENT
        assert {limit.measure for limit in gate.limits} == set(self.limits)
        self._fresh(gate)
        for measure, lines in self.limits.items():
            self._complete(gate, measure)
            self._lines(gate, measure, lines)
            if lines.near is not None:
                self._near(gate, measure, lines.near)
            if lines.hold is not None:
                self._again(gate, measure, lines.hold)
            if lines.stop is not None:
                self._again(gate, measure, lines.stop - 1)
                self._stopped(gate, measure, lines.stop)

    def _known(self, *later: Measured) -> dict[str, Any]:
        before = taken(DOSED_AT - MINUTE)
        return {"measured": (before, *later), "dosed_at": DOSED_AT}

    def _with(self, measure: Measure, value: float, at: datetime = LATELY) -> Measured:
        return Measured(at, {**SAFE, measure: value}, at + MINUTE)

    def _fresh(self, gate: Gate) -> None:
        self.expect(OPEN, judge(gate), "nothing")
        for off, state in ((-MINUTE, EXPIRED), (0 * MINUTE, MET), (MINUTE, MET)):
            at = AT - self.holds + off
            judged = judge(gate, **self._known(taken(at)))
            self.expect(state, judged, f"{self.holds} by {off}")
            assert judged.expires_at == (None if state is EXPIRED else at + self.holds)
        for off, state in ((-MINUTE, MET), (0 * MINUTE, MET), (MINUTE, EXPIRED)):
            self.expect(state, judge(gate, **self._known(taken(AT + off))), f"taken at {off}")

    def _complete(self, gate: Gate, measure: Measure) -> None:
        """One measure is missing, or older than the others, or the oldest of all."""
        values = {key: value for key, value in SAFE.items() if key is not measure}
        rest = Measured(AT, values, AT)
        judged = judge(gate, measured=(rest,), dosed_at=AT)
        self.expect(OPEN, judged, f"no {measure}")
        assert measure in judged.detail
        for off, state in ((-MINUTE, EXPIRED), (0 * MINUTE, MET)):
            at = AT - self.holds + off
            judged = judge(gate, **self._known(taken(at), rest))
            self.expect(state, judged, f"{measure} by {off}")
            assert (measure in judged.detail) is (state is EXPIRED)

    def _lines(self, gate: Gate, measure: Measure, lines: Lines) -> None:
        worse = 1 if lines.up else -1
        for value, state, is_fixed in (
            (lines.passes, MET, False),
            (lines.passes and lines.passes + worse, FAILED, False),
            (lines.hold and lines.hold - worse, FAILED, False),
            (lines.hold, FAILED, True),
            (lines.stop and lines.stop - worse, FAILED, True),
            (lines.stop, FAILED, True),
            (lines.stop and lines.stop + worse, FAILED, True),
        ):
            if value is None:
                continue
            told = self._known(self._with(measure, value))
            judged = judge(gate, **told)
            self.expect(state, judged, f"{measure} {value}")
            assert judged.is_fixed is is_fixed, (measure, value)
            assert state is MET or f"{measure} {value:g}" in (judged.named or "")
            assert f"{value:g}" not in judged.detail
            if state is FAILED and not is_fixed:
                since(self, gate, LATELY + MINUTE, **told)  # when it was typed in

    def _near(self, gate: Gate, measure: Measure, near: tuple[float, float]) -> None:
        low, high = near
        for value, state in ((low - 0.5, FAILED), (low, MET), (high, MET), (high + 0.5, FAILED)):
            told = self._known(self._with(measure, value))
            self.expect(state, judge(gate, **told), f"{measure} {value}")
        for at, state in ((DOSED_AT, MET), (DOSED_AT + MINUTE, FAILED)):
            told = {"measured": (taken(at), taken(LATELY)), "dosed_at": DOSED_AT}
            self.expect(state, judge(gate, **told), "near what was measured before the dose")
        self.expect(FAILED, judge(gate, measured=(taken(LATELY),)), "no dose")

    def _again(self, gate: Gate, measure: Measure, hold: float) -> None:
        """On hold no reason helps before it was measured again, so often and so far apart."""
        assert self.times is not None
        for number in range(self.times + 1):
            for off in (-MINUTE, 0 * MINUTE, MINUTE):
                times = [LATELY - self.apart * n - off for n in range(number, 0, -1)]
                held = [self._with(measure, hold, one) for one in (*times, LATELY)]
                is_fixed = number < self.times or off < 0 * MINUTE
                self._held(gate, is_fixed, held)
        once = judge(gate, **self._known(self._with(measure, hold)))
        assert f"again at {LATELY + self.apart:%H:%M} UTC" in once.detail
        self._let_go(gate, measure, hold)

    def _held(self, gate: Gate, is_fixed: bool, held: list[Measured]) -> None:
        known = self._known(*held)
        judged = judge(gate, **known)
        assert judged.is_fixed is is_fixed, [AT - one.taken_at for one in held]
        assert judged.state is FAILED
        given = judge(gate, overridden={gate.code: AT}, **known)
        assert given.state is (FAILED if is_fixed else OVERRIDDEN)
        if not is_fixed:
            since(self, gate, LATELY + MINUTE, **known)

    def _let_go(self, gate: Gate, measure: Measure, hold: float) -> None:
        """What passes in between begins anew; once it passes in time, the gate is open."""
        spread = [LATELY - self.apart * n for n in (4, 3, 2, 1, 0)]
        values = [hold, hold, SAFE[measure], hold, hold]
        held = [self._with(measure, *one) for one in zip(values, spread, strict=True)]
        assert judge(gate, **self._known(*held)).is_fixed
        passed = taken(AT)
        self.expect(MET, judge(gate, **self._known(*held, passed)), "passes again")
        self._too_soon(gate, self._with(measure, hold))

    def _too_soon(self, gate: Gate, held: Measured) -> None:
        """What is better opens nothing before it is time to measure again."""
        for off in (-MINUTE, 0 * MINUTE, MINUTE):
            before = Measured(AT - self.apart - off, held.values, AT)
            judged = judge(gate, **self._known(before, taken(AT)))
            is_early = off < 0 * MINUTE
            self.expect(FAILED if is_early else MET, judged, f"better after {self.apart + off}")
            assert judged.is_fixed is is_early

    def _stopped(self, gate: Gate, measure: Measure, stop: float) -> None:
        spread = [LATELY - self.apart * n for n in (4, 3, 2, 1, 0)]
        known = self._known(*(self._with(measure, stop, one) for one in spread))
        judged = judge(gate, overridden={gate.code: AT}, **known)
        assert (judged.state, judged.is_fixed) == (FAILED, True)
        assert judged.detail.startswith("Stop")
        self._too_soon(gate, self._with(measure, stop))
