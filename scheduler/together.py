"""Together: plan many courses on one calendar, where what one takes the others lack.

Each is planned after those that came before it, at the least that is left. Whoever finds no
place is looked for one further ahead, as long as that helps. Then they are put down in some other
orders; a few courses in all orders. Last, as long as there is patience, two walks take turns, each
from where it stood:

For more places. A few courses are taken up and put down in another order, some without a place
among them. Whoever finds none says which starts it would have wanted, and these get dearer for
everybody, so that who can do without them goes round them: to another week, if a week is short.
A try that does not lose a place is gone on from, at any cost.

For a lower cost. From the best that was met two are taken up and put down at their own cost
alone, unless the first gains nothing by it. A try that is a little dearer is gone on from, for
the way to a cheaper one often leads through it. The longer the first walk finds nothing, the more
tries the second has.

What comes out is the best that was met: more courses with a place are better than any price. The
same courses on the same calendar with the same patience come out the same.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import permutations
from random import Random
from typing import Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

import numpy as np

from scheduler.actors import Assignment, Calendar
from scheduler.problems import Array, Weights

FEW = 4
"""Of so many courses all orders are tried."""

ORDERS = 3
"""Of more courses so many other orders are."""

COMPANY = 3
"""So many with a place are taken up together with some without."""

DRIFT = 0.001
"""By how much of the least cost so far a try may be dearer and be gone on from."""

TURN = 12
"""So many tries a walk has before it is the other's turn."""

MOST_TURNS = 6
"""So many turns the walk for a lower cost has at most for one of the other."""

DEARER = Weights().lead
"""How much dearer a start gets for which a course finds no place: a week of waiting."""


class Stretch(NamedTuple):
    """Starts of a kind of visit at a site, in granules of the calendar: `[first, end)`."""

    site_id: UUID
    visit: str
    first: int
    end: int


class Prices:
    """What the starts of visits cost on top because courses lack them. Not part of any plan's cost.

    They make a plan take other starts; nobody pays them.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._of: dict[UUID, dict[str, Array]] = {}

    def at(self, site_id: UUID) -> Mapping[str, Array]:
        """For each kind of visit at a site the price of every granule; none: nothing is dear."""
        return self._of.get(site_id, {})

    def add(self, wanted: Stretch) -> None:
        """Let starts be dearer: a course lacks them."""
        there = self._of.setdefault(wanted.site_id, {})
        if wanted.visit not in there:
            there[wanted.visit] = np.zeros(self._size, dtype=np.int64)
        there[wanted.visit][max(0, wanted.first) : wanted.end] += DEARER


class Way(Protocol):
    """One way to place a course."""

    @property
    def cost(self) -> int:
        """What it costs, in points."""
        ...

    @property
    def takes(self) -> Sequence[Sequence[Assignment]]:
        """What each of its visits takes, the patient's own time left out."""
        ...


W = TypeVar("W", bound=Way)
W_co = TypeVar("W_co", bound=Way, covariant=True)


class Course(Protocol[W_co]):
    """A course to be planned."""

    def alone(self) -> W_co | None:
        """The cheapest way on the calendar as it is before any course is placed; None: none."""
        ...

    def way(self, dear: Prices, below: int | None = None) -> W_co | None:
        """The cheapest way on the calendar as it is now, at these prices; None: there is none.

        `below`: none that costs as much.
        """
        ...

    def lacks(self, dear: Prices) -> Iterable[Stretch]:
        """What it would take alone, at these prices, and cannot have now."""
        ...


@dataclass(frozen=True, slots=True)
class Together(Generic[W]):
    """Where each course is, in the order in which they came; None: it found no place."""

    ways: Sequence[W | None]
    least: int
    """What those with a place would cost if each were alone: they cannot cost less."""

    @property
    def placed(self) -> int:
        """How many have a place."""
        return sum(way is not None for way in self.ways)

    @property
    def cost(self) -> int:
        """What those with a place cost together."""
        return sum(way.cost for way in self.ways if way is not None)


class View(NamedTuple, Generic[W]):
    """The courses on a calendar that ends somewhere."""

    courses: Sequence[Course[W]]
    calendar: Calendar


def together(views: Iterable[View[W]], patient: Callable[[], bool]) -> Together[W]:
    """Plan courses on a calendar, which is used up by it.

    Every further of the `views` holds the same courses on a calendar that ends later; it is asked
    for only if some have no place. `patient` is asked before each further try whether there is to
    be one.
    """
    board = _begin(views)
    _Search(board, patient).run()
    least = sum(seat.least for seat in board.seats if seat.way is not None)
    return Together(board.ways(), least)


def _begin(views: Iterable[View[W]]) -> "_Board[W]":
    """Put each down after those that came before, and look further ahead while that helps."""
    further = iter(views)
    courses, calendar = next(further)
    board = _Board(calendar, [_seat(course) for course in courses])
    board.fill()
    while board.vacant and (view := next(further, None)) is not None:
        wider = board.moved(view)
        wider.fill()
        if len(wider.vacant) == len(board.vacant):
            break
        board = wider
    return board


Days = frozenset[tuple[UUID, date]]
"""Schedules, and days on which some of their time is taken."""


@dataclass(slots=True)
class _Seat(Generic[W]):
    """A course, and where it is."""

    course: Course[W]
    least: int
    """What it would cost alone."""
    ideal: Days
    """What it would then take; nothing if it has no place even so."""
    way: W | None = None
    takes: Days = frozenset()
    """What it takes where it is."""

    @property
    def regret(self) -> int:
        """How much more it costs than alone; nothing if it has no place."""
        return 0 if self.way is None else self.way.cost - self.least

    @property
    def is_lost(self) -> bool:
        """Whether it found no place, though alone it would."""
        return self.way is None and bool(self.ideal)


def _seat(course: Course[W]) -> _Seat[W]:
    alone = course.alone()
    return _Seat(course, 0 if alone is None else alone.cost, _days(alone))


def _days(way: Way | None) -> Days:
    return frozenset(
        (one.actor.schedule_id, one.since.date())
        for visit in (() if way is None else way.takes)
        for one in visit
    )


class _Score(NamedTuple):
    """How good it is: the less, the better."""

    lost: int
    cost: int


@dataclass(slots=True)
class _Board(Generic[W]):
    """A calendar from which every way that is chosen has taken its time."""

    calendar: Calendar
    seats: Sequence[_Seat[W]]

    @property
    def score(self) -> _Score:
        """How many are without a place, and what the others cost together."""
        cost = sum(one.way.cost for one in self.seats if one.way is not None)
        return _Score(sum(one.is_lost for one in self.seats), cost)

    def ways(self) -> list[W | None]:
        """Where everybody is."""
        return [one.way for one in self.seats]

    @property
    def vacant(self) -> list[_Seat[W]]:
        """The courses that are nowhere."""
        return [one for one in self.seats if one.way is None]

    def fill(self) -> None:
        """Put down whoever is nowhere."""
        for seat in self.vacant:
            self.put(seat, Prices(self.calendar.frame.size))

    def moved(self, view: View[W]) -> "_Board[W]":
        """The same courses where they are, on another view."""
        seats = [
            _Seat(course, seat.least, seat.ideal) if seat.ideal else _seat(course)
            for course, seat in zip(view.courses, self.seats, strict=True)
        ]
        moved = _Board(view.calendar, seats)
        moved.restore(self.ways())
        return moved

    def put(self, seat: _Seat[W], dear: Prices, below: int | None = None) -> bool:
        """Let a course take the cheapest way that is left; whether there is one."""
        if seat.ideal:
            self.set(seat, seat.course.way(dear, below))
        return seat.way is not None

    def set(self, seat: _Seat[W], way: W | None) -> None:
        """Let a course be there and nowhere else."""
        for visit in () if seat.way is None else seat.way.takes:
            self.calendar.leave(visit)
        for visit in () if way is None else way.takes:
            self.calendar.serve(visit)
        seat.way, seat.takes = way, _days(way)

    def restore(self, ways: Sequence[W | None]) -> None:
        """Let all be where they were."""
        changed = [
            (seat, way) for seat, way in zip(self.seats, ways, strict=True) if seat.way is not way
        ]
        for seat, _ in changed:
            self.set(seat, None)
        for seat, way in changed:
            self.set(seat, way)


class _Search(Generic[W]):
    """Two walks over a board, and the best that either met."""

    def __init__(self, board: _Board[W], patient: Callable[[], bool]) -> None:
        self.board, self.patient = board, patient
        self.dice = Random(0)  # noqa: S311  # the same each time
        self.dear = Prices(board.calendar.frame.size)
        self.free = Prices(board.calendar.frame.size)
        self.is_over = False
        self.best = board.score
        self.ways: Sequence[W | None] = board.ways()

    def run(self) -> None:
        """Let the walks take turns as long as there is patience; end at the best."""
        for order in self._orders():
            if not self._goes_on():
                break
            self._put_down(order)
        self.board.restore(self.ways)
        here: Sequence[W | None] = self.ways
        idle = 0
        if self.best.lost and self._goes_on():
            self._all_anew()
            here = self.board.ways()
        while not self.is_over:
            lost = self.best.lost
            if lost:
                here = self._walk(here, self._make_room, TURN)
                idle = 0 if self.best.lost < lost else idle + 1
            self._walk(self.ways, self._save, TURN * max(1, min(idle, MOST_TURNS)))
        self.board.restore(self.ways)

    def _goes_on(self) -> bool:
        """Ask whether there is to be one more try. Asked before each, so that more only adds."""
        self.is_over = self.is_over or not (self._could_be_better() and self.patient())
        return not self.is_over

    def _could_be_better(self) -> bool:
        return any(one.regret or one.is_lost for one in self.board.seats)

    def _walk(
        self, begin: Sequence[W | None], step: Callable[[], bool], tries: int
    ) -> Sequence[W | None]:
        """Go so many steps, and tell where that led to. A step says whether to go on from it."""
        self.board.restore(begin)
        for _ in range(tries):
            if not self._goes_on():
                break
            before = self.board.ways()
            stays = step()
            self._note()
            if not stays:
                self.board.restore(before)
        return self.board.ways()

    def _note(self) -> None:
        score = self.board.score
        if score < self.best:
            self.best, self.ways = score, self.board.ways()

    def _orders(self) -> Iterable[Sequence[_Seat[W]]]:
        """The orders in which all are put down: all there are of a few, some of many."""
        seats = self.board.seats
        if len(seats) <= FEW:
            return permutations(seats)
        return (self.dice.sample(seats, len(seats)) for _ in range(ORDERS))

    def _put_down(self, order: Sequence[_Seat[W]]) -> None:
        """Put all down once more, one after the other."""
        for seat in self.board.seats:
            self.board.set(seat, None)
        for seat in order:
            self.board.put(seat, self.free)
        self._note()

    def _all_anew(self) -> None:
        """Put all down once more, now that some starts are known to be short."""
        for seat in self._lost():
            self._raise(seat)
        for seat in self.board.seats:
            self.board.set(seat, None)
        for seat in sorted(self.board.seats, key=lambda one: one.least):
            self._put_dear(seat)
        self._note()

    def _make_room(self) -> bool:
        """Take up a few, and put them down beside some without a place, around what is dear."""
        before = self.board.score
        taken = [*self._some(self._placed(), COMPANY), *self._some(self._lost(), 2)]
        self.dice.shuffle(taken)
        for one in taken:
            self.board.set(one, None)
        for one in taken:
            self._put_dear(one)
        return self.board.score.lost <= before.lost

    def _put_dear(self, seat: _Seat[W]) -> None:
        self.board.put(seat, self.dear)
        if seat.is_lost:
            self._raise(seat)

    def _raise(self, seat: _Seat[W]) -> None:
        for wanted in seat.course.lacks(self.dear):
            self.dear.add(wanted)

    def _save(self) -> bool:
        """Take up one that costs more than alone, and another, and one without a place if any."""
        dear = [one for one in self.board.seats if one.regret]
        lost = self._some(self._lost(), self.dice.randrange(2))
        if not dear and not lost:
            return True
        seats = self.dice.choices(dear, [one.regret for one in dear]) if dear else []
        first, *others = self._shuffled([*seats, *lost, *(self._company(one) for one in seats)])
        cost = None if first.way is None else first.way.cost
        for one in (first, *others):
            self.board.set(one, None)
        if not self.board.put(first, self.free, below=cost):
            return False
        for one in others:
            self.board.put(one, self.free)
        score = self.board.score
        return score.lost <= self.best.lost and score.cost <= self.best.cost * (1 + DRIFT)

    def _company(self, seat: _Seat[W]) -> _Seat[W]:
        """One that takes some of what a course would take if it were alone, or any other."""
        others = [one for one in self._placed() if one is not seat]
        near = [one for one in others if not seat.ideal.isdisjoint(one.takes)]
        return self.dice.choice((near if self.dice.random() < 0.5 else others) or [seat])

    def _shuffled(self, seats: Iterable[_Seat[W]]) -> list[_Seat[W]]:
        found = list(dict.fromkeys(map(self.board.seats.index, seats)))
        self.dice.shuffle(found)
        return [self.board.seats[number] for number in found]

    def _placed(self) -> list[_Seat[W]]:
        return [one for one in self.board.seats if one.way is not None]

    def _lost(self) -> list[_Seat[W]]:
        return [one for one in self.board.seats if one.is_lost]

    def _some(self, of: Sequence[_Seat[W]], most: int) -> list[_Seat[W]]:
        return self.dice.sample(of, min(most, len(of)))
