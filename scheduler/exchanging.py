"""Exchanging: let a visit for which nobody is free take the time of another course's visit.

What stands in the way of a visit may itself find another time, or take that of a third, and so
on: a chain, found on the board as it is from what each visit alone could do, nearest ends first,
and then carried out for good or not at all. What hangs closely on a visit moves along with it;
if that does not do, all of its course that lies near. How many chains are tried is bounded by
counts, so the same case always comes to the same answer.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import numpy as np

from scheduler.availability import Staffing
from scheduler.board import REACH, Board, Case, Place, Visit
from scheduler.intervals import granules, indexes
from scheduler.mending import Search
from scheduler.problems import NOTHING, Array, Choices, Problem
from scheduler.rules import Booked
from scheduler.windows import Tree

CHAIN = 3
"""So many visits give way for one, at most. Short chains are looked for first, for all."""

LOOK, PLAN = 1, 3
"""What a look at a visit and a plan for a course count of the effort."""

NODES = 60
"""After so many tries a plan for a visit of a chain has to do, or is given up."""

FOLLOWS = timedelta(days=7)
"""A visit that must follow another within so long moves along with it."""


@dataclass(slots=True)
class _Known:
    """What was found out about the visits, on a board that since may have changed a little."""

    standing: list[tuple[Visit, Case, Place]]
    """Where each visit is that could give way."""
    rivals: dict[UUID, list[Visit]] = field(default_factory=dict)
    loose: dict[UUID, int | None] = field(default_factory=dict)


class Exchange(Search):
    """A repair that looks across courses, under way."""

    def __init__(self, board: Board, cases: Sequence[Case], effort: int) -> None:
        super().__init__(board, cases)
        self.effort = effort
        self.failed: set[tuple[UUID, ...]] = set()

    def run(self) -> None:
        """Mend each course; then let what is stuck take others' times; then look again."""
        self.mend()
        self.nodes = NODES
        for length in range(1, CHAIN + 1):
            self.known_of = _Known(list(self._standing_visits()))
            for visit in self._stuck_visits():
                self._rescue(visit, length)
        self.look_again()

    def _standing_visits(self) -> Iterator[tuple[Visit, Case, Place]]:
        for case in self.cases:
            for visit in case.visits:
                place = self.board.now[visit.id]
                if place is not None and visit.id not in self.left:
                    yield visit, case, place

    def _stuck_visits(self) -> list[Visit]:
        """Those of the courses with most stuck visits first; of equals the earliest."""
        return [
            visit
            for case in self._hardest_first()
            for visit in case.visits
            if visit.id in self.left
        ]

    def _rescue(self, visit: Visit, most: int) -> bool:
        """Find a chain for a stuck visit, and carry it out."""
        return any(self._carry_out(chain) for chain in self._chains(visit, most))

    def _chains(self, visit: Visit, most: int) -> Iterator[list[Visit]]:
        """The chains from a visit to one that can give way, the shortest first.

        The very first is the visit alone: others may have left their times meanwhile.
        """
        yield [visit]
        seen, paths = {visit.id}, [[visit]]
        for _ in range(most):
            ends: list[tuple[int, list[Visit]]] = []
            further: list[list[Visit]] = []
            for path in paths:
                for rival in self._rivals(path[-1]):
                    if self.effort <= 0:
                        return
                    if rival.id in seen or self._shares_case(rival, path):
                        continue
                    loose = self._loose(rival)
                    if loose is None:
                        seen.add(rival.id)
                        further.append([*path, rival])
                    else:
                        ends.append((loose, [*path, rival]))
            yield from (path for _, path in sorted(ends, key=lambda one: one[0]))
            paths = further

    def _shares_case(self, visit: Visit, path: Sequence[Visit]) -> bool:
        case = self.board.case_of[visit.id]
        return any(self.board.case_of[one.id] is case for one in path)

    def _carry_out(self, chain: Sequence[Visit]) -> bool:
        """Place the last visit of a chain elsewhere, and each of the others where room became."""
        key = tuple(one.id for one in chain)
        if self.effort <= 0 or key in self.failed:
            return False
        mark, left = self.board.mark(), set(self.left)
        self.barred = {one.id: self._about(one) for one in chain[1:]}
        done = all(self._place(visit) for visit in reversed(chain))
        self.barred = {}
        if not done:
            self.board.back_to(mark)
            self.left = left
            self.failed |= {key} if len(chain) > 1 else set()
        return done

    def _place(self, visit: Visit) -> bool:
        """Place a visit with what hangs closely on it; if need be with all that is near."""
        case = self.board.case_of[visit.id]
        mine, near = self._with_followers(visit), self._near(visit)
        ways = [mine] if len(near) == len(mine) else [mine, near]
        return any(self._could(free, visit) and self._plan(case, free) for free in ways)

    def _plan(self, case: Case, free: Sequence[Visit]) -> bool:
        self.effort -= PLAN
        return self._replan(case, free)

    def _with_followers(self, visit: Visit) -> list[Visit]:
        """A visit, and those of its course that must follow it within days."""
        return [
            one
            for one in self.board.case_of[visit.id].visits
            if one is visit
            or any(
                window.step == visit.step.key
                and window.most is not None
                and window.most.longest <= FOLLOWS
                for window in one.step.windows
            )
        ]

    def _near(self, visit: Visit) -> list[Visit]:
        """A visit, and those of its course that may have to move with it."""
        mine = self._with_followers(visit)
        return [
            one
            for one in self.board.case_of[visit.id].visits
            if abs(one.at - visit.at) <= REACH and (one.id not in self.left or one in mine)
        ]

    def _rivals(self, visit: Visit) -> list[Visit]:
        """The visits of other courses without any one of which this one would find more times."""
        known = self.known_of.rivals
        if visit.id not in known:
            self.effort -= PLAN
            case, near = self.board.case_of[visit.id], self._near(visit)
            with self._without(near):
                others = self.known(case, near)
                staffing = self.staffing(case, visit, others)
                missing = staffing.wanted & staffing.patient_free & ~staffing.starts
                fitting = self._fitting(case, near, others, (visit, missing))
                known[visit.id] = self._in_the_way(visit, staffing, missing & fitting)
        return known[visit.id]

    def _in_the_way(self, visit: Visit, staffing: Staffing, missing: int) -> list[Visit]:
        """The visits of others but for which there would be some of the starts that are missing."""
        case, length = self.board.case_of[visit.id], granules(visit.step.visit.length)
        found: list[tuple[int, int, Visit]] = []
        for one, theirs, place in self.known_of.standing:
            if theirs is case:
                continue
            first, end = _about(place.start, granules(one.step.visit.length), length)
            here = missing >> first & ((1 << (end - first)) - 1)
            gained = here and here & staffing.starts_without(place.assignments, first, end)
            if gained:
                found.append((-gained.bit_count(), len(found), one))
        return [one for _, _, one in sorted(found, key=lambda each: each[:2])]

    def _loose(self, visit: Visit) -> int | None:
        """How many visits may have to move for this one to give way; None: it cannot."""
        known = self.known_of.loose
        if visit.id not in known:
            self.barred = {visit.id: self._about(visit)}
            mine, near = self._with_followers(visit), self._near(visit)
            loose = None
            if self._could(near, visit):
                few = len(mine) < len(near) and self._could(mine, visit)
                loose = len(mine) if few else len(near)
            known[visit.id] = loose
            self.barred = {}
        return known[visit.id]

    def _about(self, visit: Visit) -> int:
        """The starts at which a visit would still meet itself where it is now."""
        place = self.board.now[visit.id]
        assert place is not None
        length = granules(visit.step.visit.length)
        first, end = _about(place.start, length, length)
        return ((1 << (end - first)) - 1) << first

    def _could(self, free: Sequence[Visit], visit: Visit) -> bool:
        """Whether these visits of a case have times together, by what the tree says alone.

        Looked at much faster than a plan is made; at `visit`, one of them, first.
        """
        self.effort -= LOOK
        case = self.board.case_of[free[0].id]
        with self._without(free):
            others = self.known(case, free)
            return bool(self._fitting(case, free, others, (visit, 0)))

    def _fitting(
        self,
        case: Case,
        free: Sequence[Visit],
        others: Sequence[Booked],
        more: tuple[Visit, int],
    ) -> int:
        """The starts of a visit with which all of `free` have times, by what the tree says alone.

        `more`: the visit, and starts that it has as well.
        """
        visit, bits = more
        starts: dict[UUID, Array] = {}
        for one in sorted(free, key=lambda one: one is not visit):
            there = self._starts(case, one, others) | (bits if one is visit else 0)
            if not there:
                return 0
            starts[one.id] = indexes(there)
        choices = [Choices(one.step, {None: starts[one.id]}) for one in free]
        problem = Problem(
            protocol=case.protocol,
            frame=self.frame,
            zone=case.site.zone,
            choices=choices,
            fixed=others,
        )
        left = _consistent(problem, [starts[one.id] for one in free])
        number = next(n for n, one in enumerate(free) if one is visit)
        return sum(1 << one for one in left[number].tolist())

    def _starts(self, case: Case, visit: Visit, others: Sequence[Booked]) -> int:
        """When a visit that is nowhere could be, as far as others are free."""
        bits = self.staffing(case, visit, others).starts
        old = self.board.first[visit.id].start
        if not visit.is_broken and old >= 0 and self._may_stay(visit):
            bits |= 1 << old
        return bits & ~self.barred.get(visit.id, 0)

    @contextmanager
    def _without(self, free: Sequence[Visit]) -> Iterator[None]:
        """For a while without some visits on the board."""
        mark = self.board.mark()
        for one in free:
            self.board.put(one.id, None)
        yield
        self.board.back_to(mark)


def _about(start: int, length: int, other: int) -> tuple[int, int]:
    """The starts of a visit of the length `other` that meets one of `length` at `start`."""
    return max(0, start - other), start + length + other


def _consistent(problem: Problem, starts: Sequence[Array]) -> list[Array]:
    """Of the starts of each step those that its windows leave, the other steps having theirs."""
    tree = Tree(problem)
    left = [
        there[np.searchsorted(there, low) : np.searchsorted(there, high, side="right")]
        for there, (low, high) in zip(starts, tree.spans(), strict=True)
    ]
    for number, branch in reversed(list(enumerate(tree.branches))):
        if branch is not None:
            low, high = branch.bounds(left[branch.anchor])
            first = np.searchsorted(left[number], low)
            some = first < np.searchsorted(left[number], high, side="right")
            left[branch.anchor] = left[branch.anchor][some]
    if not all(map(len, left)):
        return [NOTHING for _ in left]
    for number, branch in enumerate(tree.branches):
        if branch is not None:
            low, high = branch.bounds(left[branch.anchor])
            first = np.searchsorted(high, left[number])
            near = np.minimum(first, len(high) - 1)
            left[number] = left[number][(first < len(high)) & (low[near] <= left[number])]
    return left
