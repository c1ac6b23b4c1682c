"""Planning: place all the visits of a course at once, at the least cost.

Every visit hangs on an earlier one by a window, so a course is a tree. For each clinician who
could lead it, the cheapest times below every start are found from the last visit to the first
(dynamic programme, with the least value of every window); from the first to the last the search
then takes the cheapest, and goes back only where something the tree does not say stands in the
way: visits that overlap, caps and gaps, a second window. What the tree says is never too much,
so what is found first is the best there is.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import Severity
from scheduler import rules
from scheduler.intervals import granules
from scheduler.problems import NOTHING, Array, Choices, Placed, Plan, Price, Problem, leads_of
from scheduler.protocols import Cap, Step
from scheduler.rules import STANDING, Candidate
from scheduler.spans import Span
from scheduler.windows import Days, Tree

NEVER = 2**60
"""A cost that nothing has."""

MOST_NODES = 100_000
"""After so many tries the best that was found has to do. The plan says so."""


def plan(
    problem: Problem,
    leads: Iterable[UUID | None] = (),
    most_nodes: int = MOST_NODES,
    below: int = NEVER,
) -> Plan | None:
    """Find the cheapest plan, or None if there is none that costs less than `below`.

    `leads` names the clinicians who may be the course's own, anybody if it is empty. After
    `most_nodes` tries with one of them the best that was found has to do, or nothing.
    """
    chosen = tuple(leads) or tuple(leads_of(problem))
    field_ = _Field(problem, chosen)
    best: Plan | None = None
    for number in field_.cheapest_first():
        search = _Search(field_, number, below if best is None else best.rank, most_nodes)
        if search.least >= search.limit:
            break
        best = search.best() or best
    return best


def price_of(problem: Problem, lead: UUID | None, placed: Sequence[Placed]) -> Price:
    """Reckon what a plan costs, from nothing but where its visits are."""
    tree = Tree(problem)
    off = 0
    for number, one in enumerate(placed):
        branch = tree.branches[number]
        if branch is not None:
            off += branch.off_middle(placed[branch.anchor].start, one.start)
    wishes = idle = 0
    for one, choices in zip(placed, problem.choices, strict=True):
        wishes += one.start in choices.unwished
        idle += int(_wasted(choices, np.array([one.start]))[0])
    others = sum(one.lead not in {None, lead} for one in placed)
    others += sum(number for who, number in problem.served.items() if who != lead)
    finish = placed[-1].start - problem.earliest if placed else 0
    return Price(finish=finish, off_middle=off, other_lead=others, wishes=wishes, idle=idle)


def _dear(problem: Problem, placed: Sequence[Placed]) -> int:
    """What the starts of a plan cost on top because others want them as well."""
    known = (problem.dear.get(one.step.visit.key) for one in placed)
    return sum(
        int(dear[one.start]) for one, dear in zip(placed, known, strict=True) if dear is not None
    )


@dataclass(slots=True)
class _Column:
    """The starts of one step, and what each costs with all that is below it at least.

    Costs have a row for each lead and a column for each start.
    """

    starts: Array
    days: Array
    serves: NDArray[np.bool_]
    """Whether the lead serves there; if not, somebody else does."""
    total: Array
    """The cost of the start and the least of everything below it."""
    below: dict[int, Array] = field(default_factory=dict)
    """For each child the least that it and what is below it cost."""
    bounds: dict[tuple[int, int], tuple[Array, Array]] = field(default_factory=dict)
    """For a later step and one of its windows: what each start, as anchor, leaves it."""


class _Field:
    """All starts of a problem for all leads, with the least cost of every way on from there."""

    def __init__(self, problem: Problem, leads: Sequence[UUID | None]) -> None:
        self.problem, self.leads = problem, leads
        self.tree = Tree(problem)
        self._known: dict[tuple[int, int], tuple[Array, NDArray[np.bool_]]] = {}
        self._costs: dict[object, _Column] = {}
        self._bounds: dict[object, tuple[Array, Array]] = {}
        self._below: dict[object, Array] = {}
        spans = self.tree.spans()
        self.columns: list[_Column] = []
        for n in range(len(problem.choices)):
            self.columns.append(self._column(n, spans[n]))
        self._bound()
        self.is_hopeless = not self._reaches_all()
        for n in reversed(range(0 if self.is_hopeless else len(self.columns))):
            self._sum_up(n)
        self.constants = [self._constant(lead) for lead in leads]
        """What each lead costs for visits that are fixed already."""

    def cheapest_first(self) -> list[int]:
        """The numbers of the leads, the one that could be cheapest first."""
        return sorted(range(len(self.leads)), key=self.least)

    def least(self, lead: int) -> int:
        """What any plan with a lead costs at least."""
        if self.is_hopeless:
            return NEVER
        roots = [
            int(column.total[lead].min(initial=NEVER))
            for column, branch in zip(self.columns, self.tree.branches, strict=True)
            if branch is None
        ]
        return min(NEVER, sum(roots) + self.constants[lead])

    def _constant(self, lead: UUID | None) -> int:
        others = sum(n for who, n in self.problem.served.items() if who != lead)
        return others * self.problem.weights.lead

    def _column(self, n: int, span: tuple[int, int]) -> _Column:
        """The column of a step. Steps that have the same choices share their arrays."""
        choices = self.problem.choices[n]
        arrays = choices.by_lead, choices.unwished, choices.idle
        is_last = n == len(self.problem.choices) - 1
        key = (*map(id, arrays), choices.is_bound, choices.step.visit.key, span, is_last)
        if key not in self._costs:
            self._costs[key] = self._column_anew(n, span)
        known = self._costs[key]
        return _Column(known.starts, known.days, known.serves, known.total)

    def _column_anew(self, n: int, span: tuple[int, int]) -> _Column:
        choices, weights = self.problem.choices[n], self.problem.weights
        size = self.problem.frame.size
        starts, serves = self._served(choices)
        inside = slice(*np.searchsorted(starts, [span[0], span[1] + 1]))
        starts, serves = starts[inside], serves[:, inside]
        base = weights.wish * _held([choices.unwished], size)[starts].astype(np.int64)
        base += weights.idle * _wasted(choices, starts)
        if choices.step.visit.key in self.problem.dear:
            base += self.problem.dear[choices.step.visit.key][starts]
        if n == len(self.problem.choices) - 1:
            base += weights.finish * (starts - self.problem.earliest)
        other = NEVER if choices.is_bound else weights.lead
        if None in choices.by_lead:
            other = 0
        costs = np.minimum(NEVER, base + other * ~serves)
        return _Column(starts, self.tree.days.number(starts), serves, costs)

    def _served(self, choices: Choices) -> tuple[Array, NDArray[np.bool_]]:
        """Every start at which somebody serves, and whether each lead does."""
        key = (id(choices.by_lead), choices.is_bound)
        if key not in self._known:
            by_lead = choices.by_lead
            wanted = [by_lead.get(lead, NOTHING) for lead in self.leads]
            everything = wanted if choices.is_bound else list(by_lead.values())
            if None in by_lead:
                wanted, everything = [NOTHING for _ in self.leads], [by_lead[None]]
            starts = np.flatnonzero(_held(everything, self.problem.frame.size))
            serves = np.zeros((len(self.leads), len(starts)), dtype=np.bool_)
            for row, theirs in enumerate(wanted):
                serves[row, np.searchsorted(starts, theirs)] = True
            self._known[key] = starts, serves
        return self._known[key]

    def _bound(self) -> None:
        """Work out what each start, as anchor, leaves the steps that hang on it."""
        for n, windows in enumerate(self.tree.windows):
            for number, branch in enumerate(windows):
                anchor = self.columns[branch.anchor]
                window = branch.window
                key = id(anchor.starts), window.least, window.most, branch.apart, branch.length
                if key not in self._bounds:
                    self._bounds[key] = branch.bounds(anchor.starts)
                anchor.bounds[n, number] = self._bounds[key]

    def _reaches_all(self) -> bool:
        """Whether every step has a start that those before it leave, whoever leads and serves.

        Where there is no room at all, that shows here at a small part of the whole work.
        """
        reached: list[NDArray[np.bool_]] = []
        for n, column in enumerate(self.columns):
            branch = self.tree.branches[n]
            if branch is None:
                here = np.ones(len(column.starts), dtype=np.bool_)
            else:
                number = self.tree.windows[n].index(branch)
                low, high = self.columns[branch.anchor].bounds[n, number]
                above = reached[branch.anchor]
                here = _within(column.starts, low[above], high[above])
            if not here.any():
                return False
            reached.append(here)
        return True

    def _sum_up(self, n: int) -> None:
        column = self.columns[n]
        for child in self.tree.children[n]:
            least = column.below[child] = self._least_below(child, column)
            column.total = np.minimum(NEVER, column.total + least)

    def _least_below(self, child: int, anchor: _Column) -> Array:
        """For each lead and start of the anchor what the child and all below it cost at least."""
        branch = self.tree.branches[child]
        assert branch is not None
        number = self.tree.windows[child].index(branch)
        bounds = anchor.bounds[child, number]
        key = id(self.columns[child].total), id(bounds), branch.middle
        if key not in self._below:  # steps on which none hangs often have all in common
            self._below[key] = self._least_anew(self.columns[child], anchor, bounds, branch.middle)
        return self._below[key]

    def _least_anew(
        self, column: _Column, anchor: _Column, bounds: tuple[Array, Array], middle: int | None
    ) -> Array:
        low, high = bounds
        if middle is None:
            return _minima(column, column.total, low, high)
        weight = self.problem.weights.middle
        best = anchor.starts + middle
        near = _minima(column, column.total - weight * column.starts, low, np.minimum(high, best))
        far = _minima(column, column.total + weight * column.starts, np.maximum(low, best), high)
        least = np.minimum(near + weight * best, far - weight * best)
        return np.where(least < NEVER // 2, least, NEVER)


def _held(sets: Iterable[Array], size: int) -> NDArray[np.bool_]:
    """For each number below `size` whether one of the sets holds it."""
    held = np.zeros(size, dtype=np.bool_)
    for one in sets:
        held[one] = True
    return held


def _within(starts: Array, low: Array, high: Array) -> NDArray[np.bool_]:
    """For each start whether one of the windows holds it."""
    size = len(starts) + 1
    first, end = np.searchsorted(starts, low), np.searchsorted(starts, high, side="right")
    some = first < end
    opened = np.bincount(first[some], minlength=size) - np.bincount(end[some], minlength=size)
    held: NDArray[np.bool_] = np.cumsum(opened)[:-1] > 0
    return held


def _wasted(choices: Choices, starts: Array) -> Array:
    """The granules of room time that each start wastes."""
    known, values = choices.idle
    if not len(known):
        return np.zeros_like(starts)
    places = np.minimum(np.searchsorted(known, starts), len(known) - 1)
    return np.where(known[places] == starts, values[places], 0)


def _minima(column: _Column, values: Array, low: Array, high: Array) -> Array:
    """For each lead and window the least of the values whose starts lie in it."""
    first = np.searchsorted(column.starts, low, side="left")
    count = np.searchsorted(column.starts, high, side="right") - first
    found = np.full((len(values), len(low)), NEVER, dtype=np.int64)
    some = count > 0
    if not some.any():
        return found
    first, count = first[some], count[some]
    level = np.frexp(count)[1] - 1  # of its two powers of two, one at either end of the window
    least = np.ascontiguousarray(values.T)  # what is read together lies together
    chosen = np.empty((len(first), len(values)), dtype=np.int64)
    for height in range(int(level.max()) + 1):
        if height:
            half = 1 << (height - 1)
            least = np.minimum(least[:-half], least[half:])
        here = np.flatnonzero(level == height)
        begin = first[here]
        end = begin + count[here] - (1 << height)
        chosen[here] = np.minimum(least[begin], least[end])
    found[:, some] = chosen.T
    return found


class _Search:
    """The cheapest plan with one lead that is cheaper than a limit."""

    def __init__(self, field_: _Field, lead: int, limit: int, most_nodes: int) -> None:
        self.field, self.lead, self.limit = field_, lead, limit
        self.most_nodes = most_nodes
        self.problem, self.tree, self.columns = field_.problem, field_.tree, field_.columns
        self.least = field_.least(lead)
        self.shut: dict[tuple[int, int], bool] = {}
        self.nodes = 0
        self.found: list[int] | None = None

    def best(self) -> Plan | None:
        """Search below the limit, cheapest first; None if nothing is cheaper."""
        self._place([], self.least)
        if self.found is None:
            return None
        lead = self.field.leads[self.lead]
        placed = tuple(
            Placed(one.step, int(column.starts[index]), self._who(one, column, index))
            for one, column, index in zip(
                self.problem.choices, self.columns, self.found, strict=True
            )
        )
        price = price_of(self.problem, lead, placed)
        dear = _dear(self.problem, placed)
        return Plan(lead, placed, price, self.limit - dear, self.nodes <= self.most_nodes, dear)

    def _who(self, choices: Choices, column: _Column, index: int) -> UUID | None:
        if None in choices.by_lead:
            return None
        if column.serves[self.lead, index]:
            return self.field.leads[self.lead]
        start = int(column.starts[index])
        return next(lead for lead, starts in choices.by_lead.items() if start in starts)

    def _place(self, indexes: list[int], bound: int) -> None:
        """Place the next step and all after it, those of `indexes` being placed."""
        n = len(indexes)
        if n == len(self.columns):
            self.limit, self.found = bound, indexes
            return
        before = [
            (one.step, int(column.starts[index]))
            for one, column, index in zip(self.problem.choices, self.columns, indexes, strict=False)
        ]
        for cost, index in self._cheapest_first(n, indexes, bound):
            self.nodes += 1
            if cost >= self.limit or self.nodes > self.most_nodes:
                return
            if self._fits(index, indexes, before):
                self._place([*indexes, index], cost)

    def _cheapest_first(
        self, n: int, indexes: Sequence[int], bound: int
    ) -> Iterable[tuple[int, int]]:
        """The starts of step n with what a plan that takes them costs at least."""
        column, branch = self.columns[n], self.tree.branches[n]
        total = column.total[self.lead]
        first = 0
        if branch is None:
            costs = total + (bound - int(total.min(initial=NEVER)))
        else:
            above, index = self.columns[branch.anchor], indexes[branch.anchor]
            number = self.tree.windows[n].index(branch)
            low, high = (bounds[index] for bounds in above.bounds[n, number])
            first, last = np.searchsorted(column.starts, [low, high + 1])
            costs = total[first:last] + (bound - int(above.below[n][self.lead, index]))
            if branch.middle is not None:
                best = above.starts[index] + branch.middle
                off = np.abs(column.starts[first:last] - best)
                costs = costs + self.problem.weights.middle * off
        order = np.argsort(costs, kind="stable")
        order = order[costs[order] < min(self.limit, NEVER // 2)]
        return zip(costs[order].tolist(), (order + first).tolist(), strict=True)

    def _fits(self, index: int, indexes: Sequence[int], before: Sequence[tuple[Step, int]]) -> bool:
        """Whether the start keeps what the tree does not say, beside the steps before it."""
        n = len(indexes)
        column, step = self.columns[n], self.problem.choices[n].step
        start = int(column.starts[index])
        if self._is_shut(n, start):
            return False
        if any(_overlap(step, start, other, theirs) for other, theirs in before):
            return False
        for number, branch in enumerate(self.tree.windows[n]):
            above, there = self.columns[branch.anchor], indexes[branch.anchor]
            low, high = above.bounds[n, number]
            if not low[there] <= start <= high[there]:
                return False
            if branch.window.same_weekday and (column.days[index] - above.days[there]) % 7:
                return False
        return not _too_often(self.problem, self.tree.days, (step, start), before)

    def _is_shut(self, n: int, start: int) -> bool:
        """Whether the patient's fixed visits shut the start, by all rules. Judged once."""
        if not self.problem.fixed:
            return False
        if (n, start) not in self.shut:
            self.shut[n, start] = _shut_by_fixed(self.problem, self.problem.choices[n].step, start)
        return self.shut[n, start]


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
        max(start, theirs) < _soonest(days, gap.least, min(start, theirs))
        for gap in problem.protocol.gaps
        if gap.kind is kind and gap.severity is not Severity.OFF
        for theirs in same
    ) or any(
        _crowded(cap, days, start, sorted([*same, start, *_fixed_starts(problem, step)]))
        for cap in problem.protocol.caps
        if cap.kind is kind and cap.severity is not Severity.OFF
    )


def _soonest(days: Days, least: Span, start: int) -> int:
    return int(days.soonest(least, np.array([start]))[0])


def _crowded(cap: Cap, days: Days, start: int, starts: Sequence[int]) -> bool:
    """Whether more visits than the cap allows begin within a span of it that holds `start`."""
    return any(
        starts[number] <= start < (end := _soonest(days, cap.within, starts[number]))
        and starts[number + cap.most] < end
        for number in range(len(starts) - cap.most)
    )


def _fixed_starts(problem: Problem, step: Step) -> list[int]:
    return [
        problem.frame.index(one.starts_at)
        for one in problem.fixed
        if one.kind is step.visit.kind and one.status in STANDING
    ]


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
