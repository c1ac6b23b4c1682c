"""Planning: place all the visits of a course at once, at the least cost.

Every visit hangs on an earlier one by a window, so a course is a tree. For each clinician who
could lead it, the cheapest times below every start are found from the last visit to the first
(dynamic programme, with sliding minima over the windows); from the first to the last the
search then takes the cheapest, and goes back only where something the tree does not say stands
in the way: visits that overlap, caps and gaps, a second window. What the tree says is never too
much, so what is found first is the best there is.

Times are granules of five minutes, counted from the start of the calendar's frame; costs are
whole points. Pure: no database, no clock, no Flask.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from functools import lru_cache
from math import ceil, floor
from typing import Protocol as Shape
from uuid import UUID
from zoneinfo import ZoneInfo

from models.vocabulary import Severity
from notifications.wall_time import at_wall_time
from scheduler import rules
from scheduler.intervals import GRANULE, Frame, granules
from scheduler.protocols import Cap, Protocol, Step, Window
from scheduler.rules import STANDING, Booked, Candidate
from scheduler.spans import Span

DAY = timedelta(days=1) // GRANULE
NEVER = 2**60
"""A cost that nothing has."""

SLACK = 14 * DAY
"""How far beyond the earliest possible end a plan is looked for first."""

PAST = 400
"""How many days before the frame are known: what is fixed may lie there."""

MOST_NODES = 200_000
"""After so many tries the best that was found has to do. The result says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What speaks against a plan, in points."""

    finish: int = 2
    """For each granule until the last visit begins."""
    middle: int = 1
    """For each granule that a gap is off the middle of its window."""
    lead: int = 3 * DAY
    """For each visit with somebody else than the course's own clinician."""
    wish: int = 2 * DAY
    """For each visit that breaks a wish."""
    idle: int = 4
    """For each granule beside a visit in which its room is of no use to anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a plan costs, in its own terms and in points."""

    finish: int
    """Granules from the first possible start to the start of the last visit."""
    off_middle: int
    """Granules that gaps are off the middle of their windows, together."""
    other_lead: int
    """Visits with somebody else than the course's own clinician."""
    wishes: int
    """Visits that break a wish."""
    idle: int
    """Granules of room time that are of no use."""

    def points(self, weights: Weights) -> int:
        """All of it as one number."""
        return (
            weights.finish * self.finish
            + weights.middle * self.off_middle
            + weights.lead * self.other_lead
            + weights.wish * self.wishes
            + weights.idle * self.idle
        )


@dataclass(frozen=True, slots=True)
class Choices:
    """When one step could take place, as far as others are free."""

    step: Step
    by_lead: Mapping[UUID | None, Sequence[int]]
    """For each clinician who could lead it the starts, rising; under None where nobody leads."""
    unwished: frozenset[int] = frozenset()
    """Starts that break a wish."""
    idle: Mapping[int, int] = field(default_factory=dict)
    """Granules of room time that a start wastes; those not named waste none."""
    is_bound: bool = False
    """Whether the course's own clinician must lead it: the protocol ties it to another step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A course to be planned at a site."""

    protocol: Protocol
    frame: Frame
    zone: ZoneInfo
    choices: Sequence[Choices]
    """The steps to place, in the order of the protocol."""
    fixed: Sequence[Booked] = ()
    """The patient's other visits: they stay where they are."""
    served: Mapping[UUID, int] = field(default_factory=dict)
    """How many of the fixed visits each clinician led."""
    earliest: int = 0
    """The first possible start, from which the finish is counted."""
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True, slots=True)
class Placed:
    """A step, when, and who leads it; None: nobody does, or anybody may."""

    step: Step
    start: int
    lead: UUID | None


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a problem, placed."""

    lead: UUID | None
    """The course's own clinician."""
    placed: tuple[Placed, ...]
    price: Price
    cost: int
    is_best: bool = True
    """False if the search was given up before every other plan was ruled out."""


class Hit(Shape):
    """Whether a step may not begin then, with this lead: a plan that was refused, a wish."""

    def __call__(self, number: int, start: int, lead: UUID | None) -> bool: ...


def plan(
    problem: Problem, barred: Hit | None = None, leads: Iterable[UUID | None] = ()
) -> Plan | None:
    """Find the cheapest plan, or None if there is none.

    `barred` rules out single placements; `leads` names the clinicians who may lead, all if it
    is empty.
    """
    chosen = list(leads) or leads_of(problem)
    best: Plan | None = None
    for search in sorted(
        (_Search(problem, lead, barred) for lead in chosen), key=lambda one: one.least
    ):
        if best is not None and min(search.least, search.beyond()) >= best.cost:
            continue
        best = search.best(best) or best
    return best


def price_of(problem: Problem, lead: UUID | None, placed: Sequence[Placed]) -> Price:
    """Reckon what a plan costs, from nothing but where its visits are."""
    at = {one.step.key: one.start for one in placed}
    tree = _Tree(problem)
    off = 0
    for number, one in enumerate(placed):
        branch = tree.branches[number]
        if branch is not None:
            off += branch.off_middle(at[branch.anchor], one.start)
    wishes = idle = 0
    for one, choices in zip(placed, problem.choices, strict=True):
        wishes += one.start in choices.unwished
        idle += choices.idle.get(one.start, 0)
    others = sum(one.lead not in {None, lead} for one in placed)
    others += sum(number for who, number in problem.served.items() if who != lead)
    finish = placed[-1].start - problem.earliest if placed else 0
    return Price(finish=finish, off_middle=off, other_lead=others, wishes=wishes, idle=idle)


def leads_of(problem: Problem) -> list[UUID | None]:
    """Whoever could lead the course; nobody if no visit has a lead."""
    found: dict[UUID | None, None] = {}
    for choices in problem.choices:
        found |= dict.fromkeys(lead for lead in choices.by_lead if lead is not None)
    return list(found) or [None]


@dataclass(frozen=True, slots=True)
class Branch:
    """How far a step may be from its anchor, another step to be placed."""

    anchor: str
    window: Window
    days: "Days"

    def bounds(self, start: int) -> tuple[int, int]:
        """The first and the last start in the window of an anchor that begins at `start`."""
        return self.days.window(self.window, start)

    @property
    def middle(self) -> int | None:
        """The best distance; None if the window has no middle."""
        least, most = self.window.least, self.window.most
        if least is None or most is None:
            return None
        return (least.elapsed + most.elapsed) // 2 // GRANULE

    def off_middle(self, anchor: int, start: int) -> int:
        """How many granules the distance is off the best one."""
        return 0 if self.middle is None else abs(start - anchor - self.middle)


class Days:
    """The wall days of a frame: which granule is in which, and where they begin."""

    def __init__(self, frame: Frame, zone: ZoneInfo) -> None:
        self.frame = frame
        day = frame.start.astimezone(zone).date() - timedelta(days=PAST)
        self._midnights: list[int] = []
        while not self._midnights or self._midnights[-1] < frame.size + 400 * DAY:
            wall = datetime.combine(day, time(0))
            self._midnights.append(-((frame.start - at_wall_time(wall, zone)) // GRANULE))
            day += timedelta(days=1)

    def number(self, start: int) -> int:
        """The number of the wall day that holds a granule."""
        return bisect_right(self._midnights, start) - 1

    def begin(self, number: int) -> int:
        """The first granule of a day; days beyond the last known are far away."""
        return self._midnights[min(number, len(self._midnights) - 1)]

    def window(self, window: Window, anchor: int) -> tuple[int, int]:
        """The first and the last granule that a window allows after `anchor`."""
        return self.soonest(window.least, anchor), self.latest(window.most, anchor)

    def soonest(self, least: Span | None, anchor: int) -> int:
        """The first granule that is at least the span after `anchor`."""
        if least is None:
            return anchor
        if least.in_days:
            return max(anchor, self.begin(self.number(anchor) + ceil(least.value)))
        return anchor + granules(least.elapsed)

    def latest(self, most: Span | None, anchor: int) -> int:
        """The last granule that is at most the span after `anchor`."""
        if most is None:
            return self.begin(len(self._midnights))
        if most.in_days:
            return self.begin(self.number(anchor) + floor(most.value) + 1) - 1
        return anchor + most.elapsed // GRANULE


@lru_cache(maxsize=64)
def _days(frame: Frame, zone: ZoneInfo) -> Days:
    return Days(frame, zone)


class _Tree:
    """The steps to place, each below the one that binds it most; and all other windows."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.days = _days(problem.frame, problem.zone)
        self.number = {one.step.key: n for n, one in enumerate(problem.choices)}
        self.windows = [list(self._windows(one.step)) for one in problem.choices]
        self.branches: list[Branch | None] = [
            max(found, key=self._binding, default=None) for found in self.windows
        ]
        self.children: list[list[int]] = [[] for _ in problem.choices]
        for n, branch in enumerate(self.branches):
            if branch is not None:
                self.children[self.number[branch.anchor]].append(n)

    def _windows(self, step: Step) -> Iterator[Branch]:
        for window in step.windows:
            if window.step in self.number and window.severity is not Severity.OFF:
                yield Branch(window.step, window, self.days)

    def _binding(self, branch: Branch) -> tuple[bool, bool, int]:
        window = branch.window
        return window.most is not None, window.least is not None, self.number[branch.anchor]


@dataclass(slots=True)
class _Column:
    """The starts of one step, with what each costs and what the steps below it cost at least."""

    starts: list[int]
    leads: list[UUID | None]
    costs: list[int]
    total: list[int]
    """The cost of the start and the least of everything below it."""
    below: dict[int, list[int]] = field(default_factory=dict)
    """For each child the least that it and what is below it cost, start by start."""


class _Search:
    """The cheapest plan with one clinician in the lead."""

    def __init__(self, problem: Problem, lead: UUID | None, barred: Hit | None) -> None:
        self.problem, self.lead, self.barred = problem, lead, barred
        self.tree = _Tree(problem)
        self.fixed = [_beside_fixed(problem, one.step, self.tree.days) for one in problem.choices]
        self.shut: dict[tuple[int, int], bool] = {}
        self.nodes = 0
        self.horizon = problem.frame.size
        self.columns: list[_Column] = []
        self._narrow()

    @property
    def constant(self) -> int:
        """What this lead costs for visits that are fixed already."""
        others = sum(n for who, n in self.problem.served.items() if who != self.lead)
        return others * self.problem.weights.lead

    @property
    def least(self) -> int:
        """What any plan with this lead costs at least."""
        roots = [
            min(column.total, default=NEVER)
            for column, branch in zip(self.columns, self.tree.branches, strict=True)
            if branch is None
        ]
        return min(NEVER, sum(roots) + self.constant)

    def best(self, known: Plan | None) -> Plan | None:
        """The best plan that is cheaper than `known`; None if there is none."""
        limit = NEVER if known is None else known.cost
        found = self._deepen(limit)
        while found is None or found.cost > self.beyond():
            if self.horizon >= self.problem.frame.size:
                break
            if self.beyond() >= limit:
                break
            self._widen(limit if found is None else found.cost)
            found = self._deepen(limit) or found
        return found

    def _narrow(self) -> None:
        """Look no further at first than some days beyond the earliest possible end."""
        size = self.problem.frame.size
        self.columns = self._reckon(size, only_reach=True)
        if self.columns and self.columns[-1].starts:
            self.horizon = min(size, self.columns[-1].starts[0] + SLACK)
        self.columns = self._reckon(self.horizon)

    def _widen(self, cost: int) -> None:
        weight = max(1, self.problem.weights.finish)
        reach = self.problem.earliest + cost // weight + 1 if cost < NEVER else NEVER
        self.horizon = min(self.problem.frame.size, max(reach, self.horizon + SLACK))
        self.columns = self._reckon(self.horizon)

    def beyond(self) -> int:
        """What any plan costs at least whose last visit lies beyond the horizon."""
        if self.horizon >= self.problem.frame.size:
            return NEVER
        late = self.horizon - self.problem.earliest
        return self.problem.weights.finish * late + self.constant

    def _reckon(self, horizon: int, *, only_reach: bool = False) -> list[_Column]:
        """The columns of all steps up to the horizon, costs worked out from the last one up."""
        spans = self._spans(horizon)
        columns = [self._column(n, spans[n]) for n in range(len(self.problem.choices))]
        if only_reach:
            return columns
        for n in reversed(range(len(columns))):
            column = columns[n]
            column.total = list(column.costs)
            for child in self.tree.children[n]:
                least = self._least_below(child, column.starts, columns[child])
                column.below[child] = least
                column.total = [
                    min(NEVER, mine + theirs)
                    for mine, theirs in zip(column.total, least, strict=True)
                ]
        return columns

    def _spans(self, horizon: int) -> list[tuple[int, int]]:
        """For each step the first and the last start that its windows leave, roughly."""
        first, last = [list(bounds) for bounds in zip(*self.fixed, strict=True)] or [[], []]
        if last:
            last[-1] = min(last[-1], horizon)
        for n, branch in enumerate(self.tree.branches):
            if branch is not None:
                anchor = self.tree.number[branch.anchor]
                first[n] = max(first[n], branch.bounds(first[anchor])[0])
                last[n] = min(last[n], branch.bounds(last[anchor])[1])
        for n in reversed(range(len(last))):
            branch = self.tree.branches[n]
            if branch is not None:
                anchor = self.tree.number[branch.anchor]
                last[anchor] = min(last[anchor], _latest_anchor(branch, last[n]))
        return list(zip(first, last, strict=True))

    def _column(self, n: int, span: tuple[int, int]) -> _Column:
        choices, weights = self.problem.choices[n], self.problem.weights
        finish = weights.finish if n == len(self.problem.choices) - 1 else 0
        column = _Column([], [], [], [])
        for start, lead in self._options(choices, span):
            if self.barred is not None and self.barred(n, start, lead):
                continue
            cost = finish * (start - self.problem.earliest)
            cost += weights.wish * (start in choices.unwished)
            cost += weights.idle * choices.idle.get(start, 0)
            cost += weights.lead * (lead not in {None, self.lead})
            column.starts.append(start)
            column.leads.append(lead)
            column.costs.append(cost)
        return column

    def _options(
        self, choices: Choices, span: tuple[int, int]
    ) -> Iterator[tuple[int, UUID | None]]:
        """The starts in a span, rising, each with the course's clinician if they are free."""
        mine = choices.by_lead.get(self.lead if None not in choices.by_lead else None, ())
        yielded: dict[int, UUID | None] = dict.fromkeys(_between(mine, span), self.lead)
        if None in choices.by_lead:
            yielded = dict.fromkeys(yielded, None)
        elif not choices.is_bound:
            for lead, starts in choices.by_lead.items():
                for start in _between(starts, span):
                    yielded.setdefault(start, lead)
        return iter(sorted(yielded.items()))

    def _is_shut(self, n: int, start: int) -> bool:
        """Whether the patient's fixed visits shut the start, by all rules. Judged once."""
        if not self.problem.fixed:
            return False
        if (n, start) not in self.shut:
            self.shut[n, start] = _shut_by_fixed(self.problem, self.problem.choices[n].step, start)
        return self.shut[n, start]

    def _least_below(self, child: int, anchors: Sequence[int], column: _Column) -> list[int]:
        """For each start of the anchor the least that the child and what is below it cost."""
        branch = self.tree.branches[child]
        assert branch is not None
        bounds = [branch.bounds(anchor) for anchor in anchors]
        weight, middle = self.problem.weights.middle, branch.middle
        if middle is None:
            return _minima(column.starts, column.total, bounds)
        near = [
            total - weight * start for start, total in zip(column.starts, column.total, strict=True)
        ]
        far = [
            total + weight * start for start, total in zip(column.starts, column.total, strict=True)
        ]
        before = [
            (low, min(high, a + middle)) for a, (low, high) in zip(anchors, bounds, strict=True)
        ]
        after = [
            (max(low, a + middle), high) for a, (low, high) in zip(anchors, bounds, strict=True)
        ]
        return [
            min(NEVER, one + weight * (a + middle), other - weight * (a + middle))
            if min(one, other) < NEVER // 2
            else NEVER
            for a, one, other in zip(
                anchors,
                _minima(column.starts, near, before),
                _minima(column.starts, far, after),
                strict=True,
            )
        ]

    def _deepen(self, limit: int) -> Plan | None:
        """Search below the limit, cheapest first."""
        self.nodes = 0
        least = self.least
        if least >= limit:
            return None
        best = _Best(limit)
        self._place(0, [], least, best)
        if best.placed is None:
            return None
        price = price_of(self.problem, self.lead, best.placed)
        return Plan(self.lead, best.placed, price, best.cost, self.nodes <= MOST_NODES)

    def _place(self, n: int, indexes: list[int], bound: int, best: "_Best") -> None:
        """Place step n and all after it, those before it being placed."""
        self.nodes += 1
        if n == len(self.columns):
            best.take(bound, self._placed(indexes))
            return
        for cost, index in self._cheapest_first(n, indexes, bound):
            if cost >= best.cost or self.nodes > MOST_NODES:
                return
            if self._fits(n, index, indexes):
                self._place(n + 1, [*indexes, index], cost, best)

    def _cheapest_first(self, n: int, indexes: Sequence[int], bound: int) -> list[tuple[int, int]]:
        """The starts of step n with what a plan that takes them costs at least."""
        column, branch = self.columns[n], self.tree.branches[n]
        if branch is None:
            known = min(column.total, default=NEVER)
            found = [(bound - known + total, i) for i, total in enumerate(column.total)]
        else:
            anchor = self.tree.number[branch.anchor]
            above = self.columns[anchor]
            start = above.starts[indexes[anchor]]
            known = above.below[n][indexes[anchor]]
            low, high = branch.bounds(start)
            weight = self.problem.weights.middle
            span = range(bisect_left(column.starts, low), bisect_right(column.starts, high))
            found = [
                (
                    bound
                    - known
                    + column.total[i]
                    + weight * branch.off_middle(start, column.starts[i]),
                    i,
                )
                for i in span
            ]
        return sorted(one for one in found if one[0] < NEVER // 2)

    def _fits(self, n: int, index: int, indexes: Sequence[int]) -> bool:
        """Whether the start keeps what the tree does not say, beside the steps before it."""
        start = self.columns[n].starts[index]
        step = self.problem.choices[n].step
        if self._is_shut(n, start):
            return False
        before = [
            (one.step, self.columns[m].starts[indexes[m]])
            for m, one in enumerate(self.problem.choices[:n])
        ]
        if any(_overlap(step, start, other, theirs) for other, theirs in before):
            return False
        at = {other.key: theirs for other, theirs in before}
        for window in self.tree.windows[n]:
            low, high = window.bounds(at[window.anchor])
            if not low <= start <= high:
                return False
            if window.window.same_weekday:
                days = self.tree.days
                if (days.number(start) - days.number(at[window.anchor])) % 7:
                    return False
        return not _too_often(self.problem, self.tree.days, (step, start), before)

    def _placed(self, indexes: Sequence[int]) -> tuple[Placed, ...]:
        return tuple(
            Placed(one.step, column.starts[index], column.leads[index])
            for one, column, index in zip(self.problem.choices, self.columns, indexes, strict=True)
        )


@dataclass(slots=True)
class _Best:
    """The cheapest so far."""

    cost: int
    placed: tuple[Placed, ...] | None = None

    def take(self, cost: int, placed: tuple[Placed, ...]) -> None:
        self.cost, self.placed = cost, placed


def _minima(
    starts: Sequence[int], values: Sequence[int], windows: Sequence[tuple[int, int]]
) -> list[int]:
    """For each window the least of the values whose starts lie in it; bounds never fall."""
    found: list[int] = []
    queue: deque[int] = deque()
    entered = 0
    for low, high in windows:
        while entered < len(starts) and starts[entered] <= high:
            while queue and values[queue[-1]] >= values[entered]:
                queue.pop()
            queue.append(entered)
            entered += 1
        while queue and starts[queue[0]] < low:
            queue.popleft()
        found.append(values[queue[0]] if queue else NEVER)
    return found


def _between(starts: Sequence[int], span: tuple[int, int]) -> Sequence[int]:
    return starts[bisect_left(starts, span[0]) : bisect_right(starts, span[1])]


def _latest_anchor(branch: Branch, last: int) -> int:
    """The last start of an anchor whose window still reaches back to `last`, or before it."""
    low, high = 0, max(last, 0)
    while low < high:
        middle = (low + high + 1) // 2
        if branch.bounds(middle)[0] <= last:
            low = middle
        else:
            high = middle - 1
    return low


def _overlap(step: Step, start: int, other: Step, theirs: int) -> bool:
    return start < theirs + granules(other.visit.length) and theirs < start + granules(
        step.visit.length
    )


def _too_often(
    problem: Problem, days: Days, new: tuple[Step, int], before: Sequence[tuple[Step, int]]
) -> bool:
    """Whether a gap or a cap for its kind is broken by the step beside those placed before it."""
    step, start = new
    kind = step.visit.kind
    same = [theirs for other, theirs in before if other.visit.kind is kind]
    return any(
        max(start, theirs) < days.soonest(gap.least, min(start, theirs))
        for gap in problem.protocol.gaps
        if gap.kind is kind and gap.severity is not Severity.OFF
        for theirs in same
    ) or any(
        _crowded(cap, days, sorted([*same, start, *_fixed_starts(problem, step)]))
        for cap in problem.protocol.caps
        if cap.kind is kind and cap.severity is not Severity.OFF
    )


def _crowded(cap: Cap, days: Days, starts: Sequence[int]) -> bool:
    """Whether more visits than the cap allows begin within its span."""
    return any(
        starts[number + cap.most] < days.soonest(cap.within, starts[number])
        for number in range(len(starts) - cap.most)
    )


def _fixed_starts(problem: Problem, step: Step) -> list[int]:
    return [
        problem.frame.index(one.starts_at)
        for one in problem.fixed
        if one.kind is step.visit.kind and one.status in STANDING
    ]


def _beside_fixed(problem: Problem, step: Step, days: Days) -> tuple[int, int]:
    """The first and the last start that windows from and to fixed visits leave a step."""
    low, high = problem.earliest, problem.frame.size
    for window in step.windows:
        anchor = rules.anchor_of(window, problem.fixed)
        if anchor is None or window.severity is Severity.OFF:
            continue
        if not rules.falls_away(window, anchor):
            soonest, latest = days.window(window, problem.frame.index(anchor.starts_at))
            low, high = max(low, soonest), min(high, latest)
    for later in problem.protocol.steps:
        for window in later.windows:
            for visit in problem.fixed:
                if window.step == step.key and visit.step == later.key:
                    high = min(high, problem.frame.index(visit.starts_at))
    return low, high


def _shut_by_fixed(problem: Problem, step: Step, start: int) -> bool:
    """Whether the patient's fixed visits shut a start, by the course's own rules."""
    placed = {choices.step.key for choices in problem.choices}
    moment = problem.frame.at(start)
    candidate = Candidate(step, step.visit.kind, moment, problem.zone)
    return any(
        one.code not in _still_open(step, placed)
        for one in rules.judge(candidate, problem.protocol, problem.fixed)
    )


def _still_open(step: Step, placed: set[str]) -> set[str]:
    """Codes of what is broken only as long as the other steps are not placed."""
    found = {f"no-{key}" for key in placed} | {f"owes-{key}" for key in placed}
    if step.only_if is not None:
        found.add(f"undecided-{step.only_if.step}")
    return found
