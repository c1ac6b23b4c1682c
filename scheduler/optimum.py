"""The optimum of a repair, by OR-Tools' CP-SAT: slower, asked for, and only with the `plan` extra.

The same problem as repairing.py has, put as whole: each visit has a start, each of its seats one
actor's lane; nobody is in two places; windows, gaps and caps between visits that may move are
constraints, those to all others shut starts. What is found is judged by the same rules before
it is believed. Visits that need not change keep their clinician, or have that of the first
answer. The only module that may import OR-Tools. Pure: no database, no Flask.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from math import ceil, floor
from typing import Any
from uuid import UUID

import numpy as np

from models.vocabulary import Severity
from scheduler import rules
from scheduler.actors import Actor, Assignment, Calendar
from scheduler.availability import Seat
from scheduler.board import HARM, REACH, Board, Case, Moved, Place, Repaired, Visit
from scheduler.intervals import GRANULE, granules, positions
from scheduler.mending import Search
from scheduler.problems import DAY
from scheduler.protocols import Window
from scheduler.rules import Candidate
from scheduler.windows import days_of

STUCK = 1000 * DAY
"""What a visit costs that is not repaired: more than any changes for its sake."""


def is_here() -> bool:
    """Whether the `plan` extra is installed."""
    return find_spec("ortools") is not None


def best(
    cases: Sequence[Case], calendar: Calendar, first: Repaired, seconds: float
) -> tuple[Repaired, bool]:
    """Improve on the first answer for so long; also whether nothing better exists.

    The calendar is as `repairing.repair` wants it, and used up. The first answer is returned
    where nothing better is found.
    """
    model = Model(Board(calendar, cases), cases)
    model.build(first)
    is_best = model.solve(seconds)
    found = model.result()
    if found is None or _rank(found) >= _rank(first):
        return first, is_best
    return found, is_best


def _rank(answer: Repaired) -> tuple[int, int]:
    return len(answer.stuck), answer.cost


@dataclass(slots=True)
class _Taken:
    """A lane that a seat may take: the literal that says it does."""

    actor: Actor
    lanes: tuple[int, ...]
    taken: Any


@dataclass(slots=True)
class _Vars:
    """What is to be found for a visit."""

    case: Case
    visit: Visit
    start: Any
    starts: Sequence[int]
    """What the start may be."""
    stuck: Any
    """None: it can always stay where it is."""
    moved: Any
    away: Any
    """How far from its time it is, in granules."""
    seats: list[tuple[Seat, list[_Taken]]] = field(default_factory=list)
    day: Any = None
    days: Mapping[int, tuple[Sequence[int], Any]] = field(default_factory=dict)
    """For each wall day its starts, and the literal that says it is on that day."""


class Model:
    """A repair as CP-SAT's model of it."""

    def __init__(self, board: Board, cases: Sequence[Case]) -> None:
        self.cp = cp = import_module("ortools.sat.python.cp_model")
        self.board, self.cases = board, cases
        self.model, self.solver = cp.CpModel(), cp.CpSolver()
        self.frame = board.calendar.frame
        self.status: Any = None
        self.vars: dict[UUID, _Vars] = {}
        self.busy: dict[tuple[UUID, int], list[Any]] = defaultdict(list)
        self.costs: list[Any] = []
        self.given: dict[UUID, Moved] = {}
        self.free: list[Visit] = []
        self.ids: set[UUID] = set()

    def build(self, first: Repaired) -> None:
        """Make the model: of what is near to a broken visit, and of what the first answer moves.

        So the first answer is one of those that it has, and what is found is never worse.
        """
        self.given = {one.visit.id: one for one in first.moves}
        visits = self.board.visits.values()
        broken = [one.at for one in visits if one.is_broken]
        self.free = [
            one
            for one in visits
            if one.id in self.given or any(abs(one.at - at) <= REACH for at in broken)
        ]
        self.ids = {one.id for one in self.free}
        for visit in self.free:
            self.board.put(visit.id, None)
        search = Search(self.board, self.cases)
        for visit in self.free:
            self._add(search, self.board.case_of[visit.id], visit)
        for intervals in self.busy.values():
            self.model.add_no_overlap(intervals)
        for case in self.cases:
            self._relate(case)
        self.model.minimize(sum(self.costs))
        self._hint(first)

    def solve(self, seconds: float, *, as_hinted: bool = False) -> bool:
        """Look for the best for so long; whether it is proven. `as_hinted`: for what it was told.

        What it was told is one of its answers, so what it finds is never worse.
        """
        self.solver.parameters.max_time_in_seconds = seconds
        self.solver.parameters.num_workers = 2
        self.solver.parameters.max_presolve_iterations = 1  # each probes for seconds
        self.solver.parameters.fix_variables_to_their_hinted_value = as_hinted
        self.status = self.solver.solve(self.model)
        return bool(self.status == self.cp.OPTIMAL)

    def result(self) -> Repaired | None:
        """The answer, judged by the rules; None if there is none that keeps them."""
        if self.status not in {self.cp.OPTIMAL, self.cp.FEASIBLE}:
            return None
        search = Search(self.board, self.cases)
        for one in self.vars.values():
            if one.stuck is not None and self.solver.boolean_value(one.stuck):
                self.board.put(one.visit.id, self.board.first[one.visit.id])
            else:
                search.left.discard(one.visit.id)
                self.board.put(one.visit.id, self._place(one))
        return search.result() if search.keeps_all_rules() else None

    def _add(self, search: Search, case: Case, visit: Visit) -> None:
        old = self.board.first[visit.id]
        staffing = search.staffing(case, visit)
        known = search.known(case, case.visits)
        starts = set(
            positions(staffing.starts & ~search.shut(visit, staffing.starts, known, case.visits))
        )
        starts = self._fitting(search, case, visit, starts)
        fixed = old.start if old.assignments else None
        model, stuck = self.model, None
        if visit.is_broken:
            stuck = model.new_bool_var("")
        whole = starts | ({old.start} if fixed is not None or not starts else set())
        start = model.new_int_var_from_domain(self.cp.Domain.from_values(sorted(whole)), "")
        moved = model.new_bool_var("")
        away = model.new_int_var(0, self.frame.size * 2, "")
        one = _Vars(case, visit, start, sorted(whole), stuck, moved, away)
        self.vars[visit.id] = one
        model.add(start == old.start).only_enforce_if(~moved)
        model.add_abs_equality(away, start - old.start)
        self.costs += [HARM.moved * moved, HARM.away * away]
        if stuck is not None:
            self.costs.append(STUCK * stuck)
            model.add(start == old.start).only_enforce_if(stuck)
            self._stays(old, stuck)
        kept = None if visit.is_broken else ~moved
        for seat in staffing.seats:
            self._seat(one, seat, starts, kept)
        patient = model.new_fixed_size_interval_var(start, granules(visit.step.visit.length), "")
        self.busy[case.patient.schedule_id, 0].append(patient)

    def _fitting(self, search: Search, case: Case, visit: Visit, starts: set[int]) -> set[int]:
        """The starts that the visits which do not move leave open."""
        movable = {one.step.key for one in case.visits if one.id in self.ids}
        pending = {f"no-{key}" for key in movable} | {f"owes-{key}" for key in movable}
        known = search.known(case, self.free)
        step, zone = visit.step, case.site.zone
        found = set()
        for start in starts:
            candidate = Candidate(step, step.visit.kind, self.frame.at(start), zone)
            broken = rules.judge(candidate, case.protocol, known)
            if all(one.code in pending for one in broken):
                found.add(start)
        return found

    def _stays(self, old: Place, literal: Any) -> None:
        """While a visit is where it was, its time is gone."""
        for one in old.assignments:
            if one.role != "patient":
                begin, end = self.frame.index(one.since), self.frame.index(one.until)
                interval = self.model.new_optional_fixed_size_interval_var(
                    begin, end - begin, literal, ""
                )
                for lane in one.lanes:
                    self.busy[one.actor.schedule_id, lane].append(interval)

    def _seat(self, one: _Vars, seat: Seat, starts: set[int], kept: Any) -> None:
        """One lane of one actor, or all lanes, for a phase of a visit."""
        model, phase = self.model, seat.phase
        old = {(mine.role, mine.actor.schedule_id, mine.lanes) for mine in one.visit.assignments}
        offset = (phase.start - phase.setup) // GRANULE
        length = granules(phase.setup + phase.end - phase.start + phase.turnover)
        found = []
        for actor, lanes, free in self._lanes(seat, starts):
            if self._is_strange(one, seat, actor):
                continue
            taken = model.new_bool_var("")
            found.append(_Taken(actor, lanes, taken))
            was = (phase.role, actor.schedule_id, lanes) in old
            if was and kept is not None:
                free = free | {self.board.first[one.visit.id].start}
                model.add_implication(kept, taken)
            domain = self.cp.Domain.from_values(sorted(free))
            model.add_linear_expression_in_domain(one.start, domain).only_enforce_if(taken)
            interval = model.new_optional_fixed_size_interval_var(
                one.start + offset, length, taken, ""
            )
            for lane in lanes:
                self.busy[actor.schedule_id, lane].append(interval)
            if phase.role == one.case.lead_role and actor.schedule_id != one.case.lead:
                self.costs.append(HARM.lead * taken)
                if was and kept is not None:
                    self.costs.append(-HARM.lead * kept)  # no change: it was theirs before
        one.seats.append((seat, found))
        total = sum(each.taken for each in found)
        model.add(total == (1 if one.stuck is None else 1 - one.stuck))

    def _is_strange(self, one: _Vars, seat: Seat, actor: Actor) -> bool:
        """Whether somebody would lead a visit that need not change, and leads it not now.

        Nor in the first answer.
        """
        if seat.phase.role != one.case.lead_role or one.visit.is_broken:
            return False
        own = {one.case.lead, self.board.first[one.visit.id].lead(one.case.lead_role)}
        if (given := self.given.get(one.visit.id)) is not None:
            own |= {each.actor.schedule_id for each in given.assignments}
        return actor.schedule_id not in own

    def _lanes(
        self, seat: Seat, starts: set[int]
    ) -> Iterator[tuple[Actor, tuple[int, ...], set[int]]]:
        """Whoever can sit there, lane by lane, with the starts at which that lane is free."""
        phase, calendar = seat.phase, self.board.calendar
        offset = (phase.start - phase.setup) // GRANULE
        length = granules(phase.setup + phase.end - phase.start + phase.turnover)
        wanted = (1 << length) - 1
        for one in seat.candidates:
            mine = {start for start in starts if one.starts >> start & 1}
            if not phase.shared:
                yield one.actor, tuple(range(one.actor.lanes)), mine
                continue
            for lane, gone in enumerate(calendar.taken_on(one.actor)):
                yield (
                    one.actor,
                    (lane,),
                    {start for start in mine if not gone >> (start + offset) & wanted},
                )

    def _relate(self, case: Case) -> None:
        """Windows, gaps and caps between the visits of a case that may move."""
        mine = {one.step.key: self.vars[one.id] for one in case.visits if one.id in self.vars}
        for later in mine.values():
            self._hang(case, later, mine)
        rare = [(one.kind, 1, one.least) for one in case.protocol.gaps]
        rare += [(one.kind, one.most, one.within) for one in case.protocol.caps]
        for kind, most, span in rare:
            same = [one for one in mine.values() if one.visit.step.visit.kind is kind]
            for one, other in zip(same, same[most:], strict=False):
                self._apart(case, one, other, span)

    def _hang(self, case: Case, later: _Vars, mine: Mapping[str, _Vars]) -> None:
        """The windows and ties of a visit to others that may move."""
        for window in later.visit.step.windows:
            if window.step in mine and window.severity is not Severity.OFF:
                self._window(case, mine[window.step], later, window)
        for tie in later.visit.step.same:
            if tie.step in mine and tie.severity is not Severity.OFF:
                self._tie(mine[tie.step], later, tie.role)

    def _window(self, case: Case, anchor: _Vars, later: _Vars, window: Window) -> None:
        self.model.add(later.start >= anchor.start)
        if window.least is not None:
            self._apart(case, anchor, later, window.least)
        most = window.most
        if most is not None and most.in_days:
            self.model.add(self._day(case, later) <= self._day(case, anchor) + floor(most.value))
        elif most is not None:
            self.model.add(later.start <= anchor.start + most.elapsed // GRANULE)

    def _apart(self, case: Case, one: _Vars, other: _Vars, least: Any) -> None:
        if least.in_days:
            self.model.add(self._day(case, other) >= self._day(case, one) + ceil(least.value))
        else:
            self.model.add(other.start >= one.start + granules(least.elapsed))

    def _day(self, case: Case, one: _Vars) -> Any:
        """The wall day of a visit's start, bound to it once."""
        if one.day is None:
            starts = list(one.starts)
            numbers = days_of(self.frame, case.site.zone).number(np.array(starts, dtype=np.int64))
            by_day: dict[int, list[int]] = defaultdict(list)
            for start, number in zip(starts, numbers.tolist(), strict=True):
                by_day[number].append(start)
            one.day = self.model.new_int_var_from_domain(
                self.cp.Domain.from_values(sorted(by_day)), ""
            )
            one.days = {
                number: (there, self.model.new_bool_var("")) for number, there in by_day.items()
            }
            for number, (there, here) in one.days.items():
                domain = self.cp.Domain.from_values(there)
                self.model.add_linear_expression_in_domain(one.start, domain).only_enforce_if(here)
                self.model.add(one.day == number).only_enforce_if(here)
            self.model.add_exactly_one([here for _, here in one.days.values()])
        return one.day

    def _tie(self, one: _Vars, other: _Vars, role: str) -> None:
        """The same people in a role in both."""
        mine, theirs = self._who(one, role), self._who(other, role)
        for schedule_id in {*mine, *theirs}:
            self.model.add(sum(mine.get(schedule_id, [0])) == sum(theirs.get(schedule_id, [0])))

    def _who(self, one: _Vars, role: str) -> Mapping[UUID, list[Any]]:
        found: dict[UUID, list[Any]] = defaultdict(list)
        for seat, takers in one.seats:
            for taken in takers if seat.phase.role == role else ():
                found[taken.actor.schedule_id].append(taken.taken)
        return found

    def _hint(self, first: Repaired) -> None:
        """Tell it the first answer whole: when each visit is, on whose lanes, or that it is stuck.

        Left to find the lanes for itself it can be long before it has any answer.
        """
        stuck = {one.visit.id for one in first.stuck}
        for visit_id, one in self.vars.items():
            old, move = self.board.first[visit_id], self.given.get(visit_id)
            start = old.start if move is None else self.frame.index(move.starts_at)
            served = old.assignments if move is None else move.assignments
            if one.stuck is not None:
                self.model.add_hint(one.stuck, visit_id in stuck)
            self.model.add_hint(one.start, start)
            self.model.add_hint(one.moved, start != old.start)
            self.model.add_hint(one.away, abs(start - old.start))
            for number, (there, here) in one.days.items():
                self.model.add_hint(here, start in there)
                if start in there:
                    self.model.add_hint(one.day, number)
            theirs = {(each.role, each.actor.schedule_id, each.lanes) for each in served}
            for seat, takers in one.seats:
                for each in takers:
                    key = seat.phase.role, each.actor.schedule_id, each.lanes
                    self.model.add_hint(each.taken, visit_id not in stuck and key in theirs)

    def _place(self, one: _Vars) -> Place:
        number = self.solver.value(one.start)
        old = self.board.first[one.visit.id]
        if number == old.start and not one.visit.is_broken:
            return old
        start, served = self.frame.at(number), []
        for seat, takers in one.seats:
            phase = seat.phase
            taken = next(each for each in takers if self.solver.boolean_value(each.taken))
            begin, end = start + phase.start, start + phase.end
            served.append(
                Assignment(
                    phase.role,
                    taken.actor,
                    taken.lanes,
                    begin,
                    end,
                    end + phase.turnover,
                    phase.setup,
                )
            )
        over = start + one.visit.step.visit.length
        served.append(Assignment("patient", one.case.patient, (0,), start, over, over))
        return Place(number, tuple(served))
