"""Together: plan many courses on one calendar, where what one takes the others lack.

Each is planned after those that cost least alone, at the least that is left. Then, as long as
there is patience: a course that costs more than it would alone, or that found no place, is taken
up with a few that stand in its way, and they are planned again in another order. A try that is a
little worse is gone on from, for the way to a better one often leads through it; the best that
was met is what comes out. More courses with a place are better than any price.

The same courses on the same calendar with the same patience come out the same.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Generic, Protocol, TypeVar

from scheduler.actors import Assignment, Calendar
from scheduler.intervals import GRANULE

COMPANY = 3
"""So many that stand in its way are taken up together with a course."""

DRIFT = 0.05
"""By how much of the least regret so far a try may be worse and be gone on from."""

NOWHERE = 2**40
"""What a course without a place counts as: more than all others together."""


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

    def way(self) -> W_co | None:
        """The cheapest way on the calendar as it is now; None: there is none."""
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


def together(
    courses: Iterable[Course[W]], calendar: Calendar, patient: Callable[[], bool]
) -> Together[W]:
    """Plan courses on a calendar, which is used up by it.

    `patient` is asked before each further try whether there is to be one.
    """
    board = _Board(calendar, [_seat(course) for course in courses])
    for seat in sorted(board.seats, key=lambda one: one.least):
        board.put(seat)
    board.improve(patient)
    least = sum(seat.least for seat in board.seats if seat.way is not None)
    return Together(board.ways(), least)


@dataclass(slots=True)
class _Seat(Generic[W]):
    """A course, and where it is."""

    course: Course[W]
    least: int
    """What it would cost alone."""
    ideal: frozenset[tuple[object, int]]
    """What it would then take; nothing if it has no place even so."""
    way: W | None = None
    takes: frozenset[tuple[object, int]] = frozenset()
    """What it takes where it is."""

    @property
    def regret(self) -> int:
        """How much more it costs than alone; the most if it has no place."""
        return NOWHERE if self.way is None else self.way.cost - self.least


def _seat(course: Course[W]) -> _Seat[W]:
    alone = course.way()
    return _Seat(course, 0 if alone is None else alone.cost, _spans(alone))


def _spans(way: Way | None) -> frozenset[tuple[object, int]]:
    """The granules of each schedule that a way takes."""
    return frozenset(
        (one.actor.schedule_id, number)
        for visit in (() if way is None else way.takes)
        for one in visit
        for number in range(
            int(one.since.timestamp()) // GRANULE.seconds,
            int(one.until.timestamp()) // GRANULE.seconds,
        )
    )


@dataclass(slots=True)
class _Board(Generic[W]):
    """A calendar from which every way that is chosen has taken its time."""

    calendar: Calendar
    seats: Sequence[_Seat[W]]
    dice: Random = field(default_factory=lambda: Random(0))  # noqa: S311  # the same each time

    @property
    def regret(self) -> int:
        """How much more all of them cost than each alone; the most for those without a place."""
        return sum(one.regret for one in self.seats)

    def ways(self) -> list[W | None]:
        """Where everybody is."""
        return [one.way for one in self.seats]

    def put(self, seat: _Seat[W]) -> None:
        """Let a course take the cheapest way that is left."""
        self._set(seat, seat.course.way())

    def improve(self, patient: Callable[[], bool]) -> None:
        """Try other orders as long as there is patience; end at the best."""
        best, ways = self.regret, self.ways()
        while self._could_be_better() and patient():
            before = self.ways()
            self._try()
            if self.regret < best:
                best, ways = self.regret, self.ways()
            elif self.regret - best > DRIFT * (best % NOWHERE):
                self._restore(before)
        self._restore(ways)

    def _could_be_better(self) -> list[_Seat[W]]:
        return [one for one in self.seats if one.regret and one.ideal]

    def _try(self) -> None:
        """Take up a course, some that may stand in its way, and one without a place; plan anew."""
        could = self._could_be_better()
        lost = [one for one in could if one.way is None]
        dear = [one for one in could if one.way is not None]
        if lost and (not dear or self.dice.random() < 0.5):
            seat = self.dice.choice(lost)
        else:
            [seat] = self.dice.choices(dear, [one.regret for one in dear])
        others = [one for one in lost if one is not seat]
        taken = [seat, *self._company(seat), *self.dice.sample(others, min(1, len(others)))]
        self.dice.shuffle(taken)
        for one in taken:
            self._set(one, None)
        for one in taken:
            self.put(one)

    def _company(self, seat: _Seat[W]) -> list[_Seat[W]]:
        """A few who take some of what a course would take if it were alone, and one who does not.

        For who does not may hold the next best of all of them.
        """
        near: list[_Seat[W]] = []
        far: list[_Seat[W]] = []
        for one in self.seats:
            if one is not seat and one.way is not None:
                (far if seat.ideal.isdisjoint(one.takes) else near).append(one)
        self.dice.shuffle(near)
        return near[: COMPANY - 1] + self.dice.sample(far, min(1, len(far)))

    def _restore(self, ways: Sequence[W | None]) -> None:
        changed = [
            (seat, way) for seat, way in zip(self.seats, ways, strict=True) if seat.way is not way
        ]
        for seat, _ in changed:
            self._set(seat, None)
        for seat, way in changed:
            self._set(seat, way)

    def _set(self, seat: _Seat[W], way: W | None) -> None:
        for visit in () if seat.way is None else seat.way.takes:
            self.calendar.leave(visit)
        for visit in () if way is None else way.takes:
            self.calendar.serve(visit)
        seat.way, seat.takes = way, _spans(way)
