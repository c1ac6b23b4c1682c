"""Rules of a course: each tried on the protocol, to the minute, or to the site's midnight."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from models.vocabulary import AppointmentStatus, Severity, StepKind
from scheduler import rules
from scheduler.protocols import Protocol
from scheduler.rules import Booked, Candidate
from tests.unit.gates.trials import FOREVER, MINUTE

ZONE = ZoneInfo("America/New_York")
FIRST = datetime(2026, 6, 15, 10, 0, tzinfo=ZONE).astimezone(UTC)
"""Of two visits the earlier: a Monday, far from any change of the clocks for weeks."""
BOOKED = AppointmentStatus.BOOKED
Length = tuple[int, str]
"""A figure and its unit."""
HER, HIM = frozenset({UUID(int=1)}), frozenset({UUID(int=2)})


def hours(value: int) -> tuple[int, str]:
    """A span that elapses."""
    return value, "h"


def days(value: int) -> tuple[int, str]:
    """A span that is counted in calendar days at the site."""
    return value, "d"


def least(span: Length, after: datetime) -> Iterator[tuple[datetime, bool]]:
    """The minutes around the first moment that is at least so much after; whether it is."""
    value, unit = span
    edge = after + timedelta(hours=value)
    if unit == "d" and value:  # never before what it counts from
        edge = _midnight(after, value)
    yield from ((edge - MINUTE, False), (edge, True), (edge + MINUTE, True))


def most(span: Length, after: datetime) -> Iterator[tuple[datetime, bool]]:
    """The minutes around the last moment that is at most so much after; whether it is."""
    value, unit = span
    edge = after + timedelta(hours=value) if unit == "h" else _midnight(after, value + 1) - MINUTE
    yield from ((edge - MINUTE, True), (edge, True), (edge + MINUTE, False))


def _midnight(moment: datetime, later: int) -> datetime:
    day = moment.astimezone(ZONE).date() + timedelta(days=later)
    return datetime.combine(day, time.min, ZONE).astimezone(UTC)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of a course, how hard it says no, and who may pass over it."""

    code: str
    protocol: str
    severity: Severity = Severity.BLOCK
    lift: str = "prescriber"

    def hold(self, protocol: Protocol) -> None:
        """Raise unless the protocol has this rule, and keeps it."""
        raise NotImplementedError

    def expect(self, kept: bool, code: str, broken: list[rules.Broken], of: object) -> None:
        """Raise unless it is kept, or broken as hard as the row says."""
        found = [one for one in broken if (one.code, one.severity) == (code, self.severity)]
        assert bool(found) is not kept, f"{code} of {self.protocol}, {of}: {broken}"
        assert all(one.lift == frozenset(self.lift.split()) for one in found), found


def doses(protocol: Protocol, at: datetime, *others: datetime) -> list[rules.Broken]:
    """What a dose outside any course breaks, given others."""
    known = [Booked(None, StepKind.DOSING, BOOKED, one) for one in others]
    return rules.judge(Candidate(None, StepKind.DOSING, at, ZONE), protocol, known)


@dataclass(frozen=True, kw_only=True)
class AtMost(Rule):
    """So many doses in any span of that length."""

    name: str
    number: int
    within: Length

    def hold(self, protocol: Protocol) -> None:
        for at, is_outside in least(self.within, FIRST):
            between = [FIRST + n * (at - FIRST) / self.number for n in range(1, self.number)]
            crowd = [FIRST, *between, at]
            for one in crowd:
                others = [other for other in crowd if other != one]
                self.expect(is_outside, self.name, doses(protocol, one, *others), at - FIRST)
        talked = [Booked(None, StepKind.INTEGRATION, BOOKED, FIRST)] * (self.number + 1)
        dose = Candidate(None, StepKind.DOSING, FIRST, ZONE)
        self.expect(True, self.name, rules.judge(dose, protocol, talked), "no doses")


@dataclass(frozen=True, kw_only=True)
class Apart(Rule):
    """So much between any two doses."""

    name: str
    span: Length

    def hold(self, protocol: Protocol) -> None:
        for at, kept in least(self.span, FIRST):
            self.expect(kept, self.name, doses(protocol, at, FIRST), at - FIRST)
            self.expect(kept, self.name, doses(protocol, FIRST, at), at - FIRST)


@dataclass(frozen=True, kw_only=True)
class After(Rule):
    """A step is so far from an earlier one."""

    step: str
    anchor: str
    least: Length | None = None
    most: Length | None = None
    if_skipped: str = "planned"
    same_weekday: bool = False

    def hold(self, protocol: Protocol) -> None:
        self._unbooked(protocol)
        for at, kept in least(self.least or hours(0), FIRST):
            self._tried(protocol, "too-soon", at, kept)
        if self.most is not None:
            for at, kept in most(self.most, FIRST):
                self._tried(protocol, "too-late", at, kept)
        self._tried(protocol, "too-late", FIRST + FOREVER, self.most is None)
        if self.same_weekday:
            for off, kept in ((6, False), (7, True), (8, False)):
                self._tried(protocol, "other-weekday", FIRST + timedelta(days=off), kept)

    def _unbooked(self, protocol: Protocol) -> None:
        broken = rules.judge(self._candidate(protocol, FIRST), protocol, [])
        self.expect(False, f"no-{self.anchor}", broken, "nothing booked")

    def _candidate(self, protocol: Protocol, at: datetime, key: str | None = None) -> Candidate:
        step = protocol.step(key or self.step)
        return Candidate(step, step.visit.kind, at, ZONE)

    def _tried(self, protocol: Protocol, what: str, at: datetime, kept: bool) -> None:
        """Of a step that is booked, of its anchor that is moved, and of one that was missed."""
        code, of = f"{self.step}-{what}", at - FIRST
        anchor = Booked(self.anchor, protocol.step(self.anchor).visit.kind, BOOKED, FIRST)
        later = Booked(self.step, protocol.step(self.step).visit.kind, BOOKED, at)
        here = self._candidate(protocol, at)
        self.expect(kept, code, rules.judge(here, protocol, [anchor]), of)
        moved = self._candidate(protocol, FIRST, self.anchor)
        self.expect(kept, code, rules.judge(moved, protocol, [later]), of)
        missed = Booked(self.anchor, anchor.kind, AppointmentStatus.NOSHOW, FIRST)
        falls_away = self.if_skipped == "ignore"
        self.expect(kept or falls_away, code, rules.judge(here, protocol, [missed]), of)


@dataclass(frozen=True, kw_only=True)
class Needs(Rule):
    """A step cannot be booked before another one is booked, done or skipped."""

    step: str
    owed: str

    def hold(self, protocol: Protocol) -> None:
        step = protocol.step(self.step)
        dose = Candidate(step, step.visit.kind, FIRST, ZONE)
        kind, code = protocol.step(self.owed).visit.kind, f"owes-{self.owed}"
        self.expect(False, code, rules.judge(dose, protocol, []), "nothing")
        for status in AppointmentStatus:
            visit = Booked(self.owed, kind, status, FIRST - MINUTE)
            kept = status in {"pending", "booked", "arrived", "checked-in", "fulfilled"}
            self.expect(kept, code, rules.judge(dose, protocol, [visit]), status)
        off = AppointmentStatus.CANCELLED
        skipped = Booked(self.owed, kind, off, FIRST, is_skipped=True)
        self.expect(True, code, rules.judge(dose, protocol, [skipped]), "skipped")


@dataclass(frozen=True, kw_only=True)
class Same(Rule):
    """A step is served in a role by who served an earlier one."""

    step: str
    anchor: str
    role: str

    def hold(self, protocol: Protocol) -> None:
        step = protocol.step(self.step)
        kind, code = protocol.step(self.anchor).visit.kind, f"{self.step}-other-{self.role}"
        before = Booked(self.anchor, kind, BOOKED, FIRST, {self.role: HER})
        for who, kept in ((HER, True), (HIM, False), (HER | HIM, True)):
            at = FIRST + timedelta(days=2)
            candidate = Candidate(step, step.visit.kind, at, ZONE, {self.role: who})
            self.expect(kept, code, rules.judge(candidate, protocol, [before]), who)


@dataclass(frozen=True, kw_only=True)
class OnlyIf:
    """A step belongs to the course only if an earlier one ended so, or so."""

    protocol: str
    step: str
    anchor: str
    outcomes: str

    def hold(self, protocol: Protocol) -> None:
        """Raise unless the protocol says so."""
        step, wanted = protocol.step(self.step), set(self.outcomes.split())
        outcomes = protocol.step(self.anchor).outcomes
        assert wanted < set(outcomes)
        for outcome in outcomes:
            part = rules.belongs(step, protocol, {self.anchor: outcome}, ())
            assert part is (outcome in wanted), (self.step, outcome)
        assert rules.belongs(step, protocol, {}, ()) is None
        assert rules.belongs(step, protocol, {}, {self.anchor}) is False


@dataclass(frozen=True, kw_only=True)
class Notice:
    """When a visit is booked: not too soon before it starts, not too far ahead."""

    visit: str
    notice: Length | None = None
    ahead: Length | None = None

    def hold(self, protocol: Protocol) -> None:
        """Raise unless the protocol asks for it."""
        visit = protocol.visits[self.visit.split("/")[1]]

        def told(at: datetime) -> list[str]:
            return [one.code for one in rules.judge_notice(visit, at, FIRST, ZONE)]

        if self.notice is not None:
            for at, kept in least(self.notice, FIRST):
                assert ("short-notice" not in told(at)) is kept, at
        if self.ahead is not None:
            for at, kept in most(self.ahead, FIRST):
                assert ("far-ahead" not in told(at)) is kept, at
        assert ("short-notice" in told(FIRST)) is (self.notice is not None)
        assert ("far-ahead" in told(FIRST + FOREVER)) is (self.ahead is not None)
