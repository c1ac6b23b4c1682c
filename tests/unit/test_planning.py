"""Plans of whole courses against an oracle that tries every combination and asks the rules."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.vocabulary import AppointmentStatus, Severity, StepKind
from scheduler import choosing, planning, rules
from scheduler.intervals import GRANULE, Frame
from scheduler.problems import NOTHING, Array, Choices, Placed, Problem, Weights
from scheduler.protocols import Cap, Gap, IfSkipped, Protocol, Step, Tie, Visit, Window
from scheduler.rules import Booked, Candidate
from scheduler.spans import Span
from tests.properties import cases

ZONE = ZoneInfo("America/New_York")
START = datetime(2027, 3, 10, 5, tzinfo=UTC)  # midnight there; the clocks change on the 14th
DAYS = 40
FRAME = Frame(START, DAYS * 288)
LEADS = (UUID(int=1), UUID(int=2), UUID(int=3))
ROLE = "therapist"
KINDS = (StepKind.PREPARATION, StepKind.DOSING, StepKind.INTEGRATION)


def visit(kind: StepKind, hours: int) -> Visit:
    return Visit(
        key=f"{kind}-{hours}",
        kind=kind,
        title="",
        length=timedelta(hours=hours),
        phases=(),
        gates=(),
        checklist=(),
        cadence_name="",
        cadence=(),
    )


def array(starts: Iterable[int]) -> Array:
    return np.array(sorted(starts), dtype=np.int64)


def span(unit: str, value: int) -> Span:
    return Span(value=value, unit=unit)


@st.composite
def windows(draw: st.DrawFn, anchors: Sequence[str]) -> tuple[Window, ...]:
    found = []
    wanted = draw(st.lists(st.sampled_from(anchors), max_size=2, unique=True)) if anchors else []
    for anchor in wanted:
        least = draw(st.none() | st.builds(span, st.just("h"), st.sampled_from([6, 24, 48])))
        least = draw(st.just(least) | st.builds(span, st.just("d"), st.integers(0, 3)))
        most = draw(st.none() | st.builds(span, st.just("h"), st.sampled_from([48, 72, 96])))
        most = draw(st.just(most) | st.builds(span, st.just("d"), st.integers(3, 6)))
        severity = draw(st.sampled_from([Severity.BLOCK, Severity.WARN, Severity.OFF]))
        found.append(
            Window(
                step=anchor,
                least=least,
                most=most,
                severity=severity,
                lift=frozenset(),
                same_weekday=draw(st.integers(0, 9)) == 0,
                if_skipped=draw(st.sampled_from(IfSkipped)),
            )
        )
    return tuple(found)


@st.composite
def protocols(draw: st.DrawFn) -> Protocol:
    steps: list[Step] = []
    tied = draw(st.integers(0, 3)) == 0
    for number in range(draw(st.integers(2, 5))):
        kind = draw(st.sampled_from(KINDS))
        earlier = [one.key for one in steps]
        same = (Tie(role=ROLE, step="s0", severity=Severity.BLOCK, lift=frozenset()),)
        steps.append(
            Step(
                key=f"s{number}",
                position=number + 1,
                visit=visit(kind, draw(st.sampled_from([1, 3]))),
                windows=draw(windows(earlier)),
                owes=None,
                same=same if tied and earlier else (),
            )
        )
    kind = draw(st.sampled_from(KINDS))
    gap = Gap(
        code="gap",
        kind=kind,
        least=draw(st.builds(span, st.sampled_from("hd"), st.integers(1, 3)))
        if draw(st.booleans())
        else span("h", 30),
        severity=Severity.BLOCK,
        lift=frozenset(),
    )
    cap = Cap(
        code="cap",
        kind=kind,
        most=draw(st.integers(1, 2)),
        within=draw(st.sampled_from([span("h", 60), span("d", 3)])),
        severity=Severity.WARN,
        lift=frozenset(),
    )
    return Protocol(
        code="p",
        title="",
        minimum_age=0,
        caps=(cap,) if draw(st.booleans()) else (),
        gaps=(gap,) if draw(st.booleans()) else (),
        incidents={},
        visits={},
        steps=tuple(steps),
    )


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    protocol = draw(protocols())
    days = draw(st.sampled_from([9, 9, DAYS]))
    moments = st.integers(0, days * 8 - 1).map(lambda number: number * 36)
    number = draw(st.integers(0, 1)) if len(protocol.steps) > 2 else 0
    fixed = []
    for step in protocol.steps[:number]:
        status = draw(st.sampled_from([AppointmentStatus.BOOKED, AppointmentStatus.NOSHOW]))
        who = {ROLE: frozenset({draw(st.sampled_from(LEADS))})}
        at = FRAME.at(draw(moments) - 144)
        fixed.append(Booked(step.key, step.visit.kind, status, at, who))
    if draw(st.integers(0, 3)) == 0:
        kind = draw(st.sampled_from(KINDS))
        at = FRAME.at(draw(moments))
        fixed.append(Booked(None, kind, AppointmentStatus.BOOKED, at))
    choices = []
    for step in protocol.steps[number:]:
        by_lead: dict[UUID | None, Array] = {}
        for lead in LEADS[:2]:
            by_lead[lead] = array(draw(st.sets(moments, max_size=4)))
        every = array({start for starts in by_lead.values() for start in starts.tolist()})
        unwished = array(draw(st.sets(st.sampled_from(every.tolist()))) if len(every) else ())
        idle = every[::2], np.array([draw(st.integers(0, 12)) for _ in every[::2]], dtype=np.int64)
        bound = any(one.same for one in protocol.steps)
        choices.append(Choices(step, by_lead, unwished, idle, is_bound=bound))
    if any(one.same for one in protocol.steps) and number and fixed[0].status in rules.STANDING:
        # who leads is settled by the visit that is booked, as the calendar's choices have it
        (lead,) = fixed[0].who[ROLE]
        choices = [replace(one, by_lead={lead: one.by_lead.get(lead, NOTHING)}) for one in choices]
    weights = draw(st.sampled_from([Weights(), Weights(finish=0), Weights(lead=5, wish=7)]))
    return Problem(
        protocol=protocol,
        frame=FRAME,
        zone=ZONE,
        choices=choices,
        fixed=tuple(fixed),
        weights=weights,
    )


@dataclass
class Oracle:
    """The same problem, answered by trying every combination."""

    problem: Problem

    def cheapest(self) -> int | None:
        costs = [self.cost(lead, placed) for lead in LEADS for placed in self.all_with(lead)]
        return min(costs, default=None)

    def all_with(self, lead: UUID) -> Iterator[tuple[Placed, ...]]:
        options = [list(self.options(choices, lead)) for choices in self.problem.choices]
        for placed in product(*options):
            if self.keeps_all_rules(placed):
                yield placed

    def options(self, choices: Choices, lead: UUID) -> Iterator[Placed]:
        for who, starts in choices.by_lead.items():
            if who == lead or not choices.is_bound:
                yield from (Placed(choices.step, start, who) for start in starts.tolist())

    def keeps_all_rules(self, placed: Sequence[Placed]) -> bool:
        if any(one.start < self.problem.earliest for one in placed):
            return False
        booked = [self.booked(one) for one in placed]
        for number, one in enumerate(placed):
            others = [*self.problem.fixed, *booked[:number], *booked[number + 1 :]]
            moment = FRAME.at(one.start)
            who = {ROLE: frozenset({one.lead})} if one.lead else {}
            candidate = Candidate(one.step, one.step.visit.kind, moment, ZONE, who)
            if rules.judge(candidate, self.problem.protocol, others):
                return False
            for other in placed[:number]:
                first, second = sorted((one, other), key=lambda each: each.start)
                length = first.step.visit.length // GRANULE
                if second.start < first.start + length:
                    return False
        return True

    def booked(self, one: Placed) -> Booked:
        who = {ROLE: frozenset({one.lead})} if one.lead else {}
        status = AppointmentStatus.BOOKED
        return Booked(one.step.key, one.step.visit.kind, status, FRAME.at(one.start), who)

    def cost(self, lead: UUID, placed: Sequence[Placed]) -> int:
        weights, at = self.problem.weights, {one.step.key: one.start for one in placed}
        cost = weights.finish * (placed[-1].start - self.problem.earliest)
        for one, choices in zip(placed, self.problem.choices, strict=True):
            cost += weights.lead * (one.lead != lead)
            cost += weights.wish * (one.start in choices.unwished.tolist())
            wasted = dict(zip(*(column.tolist() for column in choices.idle), strict=True))
            cost += weights.idle * wasted.get(one.start, 0)
            cost += weights.middle * self.off_middle(one, at)
        return cost

    def off_middle(self, one: Placed, at: dict[str, int]) -> int:
        """How far the gap that binds most is from the middle of its window."""
        binding = [
            window
            for window in one.step.windows
            if window.step in at and window.severity is not Severity.OFF
        ]
        keys = list(at)
        window = max(
            binding,
            key=lambda each: (
                each.most is not None,
                each.least is not None,
                keys.index(each.step),
            ),
            default=None,
        )
        if window is None or window.least is None or window.most is None:
            return 0
        middle = (window.least.elapsed + window.most.elapsed) // 2 // GRANULE
        return abs(one.start - at[window.step] - middle)


@cases(150)
@given(problems())
def test_the_plan_that_is_found_keeps_all_rules_and_nothing_is_cheaper(problem: Problem) -> None:
    oracle = Oracle(problem)

    plan = planning.plan(problem)

    least = oracle.cheapest()
    assert (plan is None) == (least is None)
    if plan is None:
        return
    assert plan.lead is not None
    assert oracle.keeps_all_rules(plan.placed)
    assert plan.cost == least == oracle.cost(plan.lead, plan.placed)
    assert plan.cost == plan.price.points(problem.weights)
    assert plan.is_best


@cases(60)
@given(problems(), st.data())
def test_what_cannot_be_served_is_not_used(problem: Problem, data: st.DataObject) -> None:
    first = planning.plan(problem)
    if first is None:
        return
    number = data.draw(st.integers(0, len(first.placed) - 1))
    refused = first.placed[number]

    second = planning.plan(choosing.but(problem, number, refused.lead, [refused.start]))

    if second is not None:
        assert second.placed[number] != refused
        assert second.cost >= first.cost
