"""The optimum of a planning problem, by CP-SAT: what our own plans are held against."""

from collections.abc import Iterator
from itertools import pairwise
from math import ceil, floor

import numpy as np
from ortools.sat.python import cp_model

from models.vocabulary import Severity
from scheduler.intervals import granules
from scheduler.problems import Choices, Problem
from scheduler.protocols import Step, Window
from scheduler.windows import days_of

SECONDS = 60.0


def cheapest(problem: Problem, seconds: float = SECONDS) -> tuple[int | None, bool]:
    """The least cost of a plan, and whether it is proven; None: there is no plan."""
    model = Model(problem)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 2
    status = solver.solve(model.model)
    if status in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
        return round(solver.objective_value), status == cp_model.OPTIMAL
    return None, status == cp_model.INFEASIBLE


class Model:
    """A problem in the words of CP-SAT: a start, a day and a lead for every step."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.model = cp_model.CpModel()
        self.days = days_of(problem.frame, problem.zone)
        self.leads = sorted({lead for one in problem.choices for lead in one.by_lead if lead})
        self.lead = self.model.new_int_var(0, max(0, len(self.leads) - 1), "lead")
        self.start = {one.step.key: self._any(f"start {one.step.key}") for one in problem.choices}
        self.day = {one.step.key: self._any(f"day {one.step.key}") for one in problem.choices}
        self.terms: list[cp_model.LinearExprT] = []
        for choices in problem.choices:
            self._choose(choices)
            self._keep_windows(choices.step)
        self._keep_apart()
        weights = problem.weights
        last = problem.choices[-1].step.key
        self.terms.append(weights.finish * (self.start[last] - problem.earliest))
        self.model.minimize(sum(self.terms))

    def _any(self, name: str) -> cp_model.IntVar:
        return self.model.new_int_var(0, self.problem.frame.size + 400 * 288, name)

    def _choose(self, choices: Choices) -> None:
        """What is free: the start, its day, the course's clinician, and what all that costs."""
        key = choices.step.key
        cost = self._any(f"cost {key}")
        self.model.add_allowed_assignments(
            [self.start[key], self.day[key], self.lead, cost], list(self._options(choices))
        )
        self.terms.append(cost)

    def _options(self, choices: Choices) -> Iterator[tuple[int, int, int, int]]:
        weights = self.problem.weights
        by_lead = {lead: frozenset(starts.tolist()) for lead, starts in choices.by_lead.items()}
        everywhere = sorted(frozenset[int]().union(*by_lead.values()))
        mine = [by_lead.get(lead, frozenset()) for lead in self.leads]
        anybody = by_lead.get(None, frozenset())
        unwished = frozenset(choices.unwished.tolist())
        idle = dict(zip(*(column.tolist() for column in choices.idle), strict=True))
        days = self.days.number(np.array(everywhere, dtype=np.int64)).tolist()
        for start, day in zip(everywhere, days, strict=True):
            base = weights.wish * (start in unwished)
            base += weights.idle * idle.get(start, 0)
            for number in range(max(1, len(self.leads))):
                is_theirs = start in anybody or (bool(mine) and start in mine[number])
                if is_theirs or not choices.is_bound:
                    cost = base + weights.lead * (not is_theirs)
                    yield start, day, number, cost

    def _keep_windows(self, step: Step) -> None:
        here = [
            window
            for window in step.windows
            if window.step in self.start and window.severity is not Severity.OFF
        ]
        for window in here:
            self._keep(step.key, window)
        binding = max(
            here,
            key=lambda one: (
                one.most is not None,
                one.least is not None,
                list(self.start).index(one.step),
            ),
            default=None,
        )
        if binding is not None and binding.least is not None and binding.most is not None:
            middle = (binding.least.elapsed + binding.most.elapsed) // 2
            off = self._any(f"off {step.key}")
            gap = self.start[step.key] - self.start[binding.step] - granules(middle)
            self.model.add_abs_equality(off, gap)
            self.terms.append(self.problem.weights.middle * off)

    def _keep(self, key: str, window: Window) -> None:
        gap = self.start[key] - self.start[window.step]
        days = self.day[key] - self.day[window.step]
        self.model.add(gap >= 0)
        if window.least is not None and window.least.in_days:
            self.model.add(days >= ceil(window.least.value))
        elif window.least is not None:
            self.model.add(gap >= granules(window.least.elapsed))
        if window.most is not None and window.most.in_days:
            self.model.add(days <= floor(window.most.value))
        elif window.most is not None:
            self.model.add(gap <= granules(window.most.elapsed))

    def _keep_apart(self) -> None:
        """No two visits at once; gaps and caps for the visits of a kind, one after the other."""
        self.model.add_no_overlap(
            self.model.new_fixed_size_interval_var(
                self.start[one.step.key], granules(one.step.visit.length), one.step.key
            )
            for one in self.problem.choices
        )
        protocol = self.problem.protocol
        for gap in protocol.gaps:
            keys = [one.step.key for one in self.problem.choices if one.step.visit.kind is gap.kind]
            for one, other in pairwise(keys):
                self.model.add(self.start[other] - self.start[one] >= granules(gap.least.elapsed))
        for cap in protocol.caps:
            keys = [one.step.key for one in self.problem.choices if one.step.visit.kind is cap.kind]
            for one, other in zip(keys, keys[cap.most :], strict=False):
                self.model.add(self.day[other] - self.day[one] >= ceil(cap.within.value))
