"""Many courses on one calendar: nobody twice at once, never fewer than one after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.actors import Actor, Assignment, Calendar
from scheduler.intervals import granules
from scheduler.together import FEW, Prices, Stretch, Together, View, together
from tests.paper import SITE, Paper
from tests.properties import cases

HOUR = timedelta(hours=1)
BUSY_DAY = 14 * 12
"""The granule of Monday at 14:00 UTC, when the paper clinic opens."""


@dataclass(frozen=True)
class Hours:
    """A way: hours of a room."""

    cost: int
    takes: Sequence[Sequence[Assignment]]


@dataclass(frozen=True)
class Wanted:
    """A course that takes some of the day's hours, in one of several ways, each at a price."""

    calendar: Calendar
    room: Actor
    ways: Sequence[tuple[int, tuple[int, ...]]]
    """The price and the hours, the cheapest first."""

    def alone(self) -> Hours | None:
        return self.way(Prices(self.calendar.frame.size))

    def way(self, dear: Prices, below: int | None = None) -> Hours | None:
        for cost, hours in self._cheapest_first(dear):
            if below is not None and cost >= below:
                continue
            if all(self._is_free(hour) for hour in hours):
                return Hours(cost, [[self._hour(hour)] for hour in hours])
        return None

    def lacks(self, dear: Prices) -> Iterator[Stretch]:
        _, hours = self._cheapest_first(dear)[0]
        for hour in hours:
            if not self._is_free(hour):
                at = BUSY_DAY + 12 * hour
                yield Stretch(SITE.site_id, "hour", at, at + 12)

    def _cheapest_first(self, dear: Prices) -> list[tuple[int, tuple[int, ...]]]:
        extra = dear.at(SITE.site_id).get("hour")

        def price(way: tuple[int, tuple[int, ...]]) -> int:
            cost, hours = way
            return cost + sum(
                0 if extra is None else int(extra[BUSY_DAY + 12 * hour]) for hour in hours
            )

        return sorted(self.ways, key=lambda way: (price(way), way))

    def _is_free(self, hour: int) -> bool:
        return not self.calendar.taken_on(self.room)[0] >> (BUSY_DAY + 12 * hour) & 1

    def _hour(self, hour: int) -> Assignment:
        start = self.calendar.frame.at(BUSY_DAY + 12 * hour)
        return Assignment("room", self.room, (0,), start, start + HOUR, start + HOUR)


def patience(tries: int) -> Callable[[], bool]:
    left = iter(range(tries))
    return lambda: next(left, None) is not None


def plan(wanted: Sequence[Sequence[tuple[int, tuple[int, ...]]]], tries: int) -> Together[Hours]:
    calendar = Paper().calendar()
    room = next(one for one in calendar.roster.actors if one.name == "dosing 0")
    return together(views(calendar, room, wanted), patience(tries))


def views(
    calendar: Calendar,
    room: Actor,
    wanted: Sequence[Sequence[tuple[int, tuple[int, ...]]]],
) -> Iterator[View[Hours]]:
    """All there is, at once."""
    yield View([Wanted(calendar, room, one) for one in wanted], calendar)


Score = tuple[int, int]
"""How many have no place, and what the others cost together: the less, the better."""


def score(found: Together[Hours]) -> Score:
    return len(found.ways) - found.placed, found.cost


def best(wanted: Sequence[Sequence[tuple[int, tuple[int, ...]]]]) -> Score:
    """What the best of all orders comes to in which they could choose."""
    return min(_in_order([wanted[n] for n in order]) for order in permutations(range(len(wanted))))


def _in_order(wanted: Sequence[Sequence[tuple[int, tuple[int, ...]]]]) -> Score:
    gone: set[int] = set()
    lost = cost = 0
    for ways in wanted:
        open_ = [one for one in sorted(ways) if gone.isdisjoint(one[1])]
        lost += not open_
        cost += open_[0][0] if open_ else 0
        gone |= set(open_[0][1]) if open_ else set()
    return lost, cost


def test_a_course_that_takes_the_only_time_of_another_gives_it_up() -> None:
    flexible, bound = [(1, (0,)), (3, (1,))], [(2, (0,))]

    hasty = plan([flexible, bound], 0)
    assert (hasty.placed, hasty.cost) == (1, 1)

    found = plan([flexible, bound], 20)
    assert (found.placed, found.cost, found.least) == (2, 5, 3)


WANTED = st.lists(
    st.lists(
        st.tuples(
            st.integers(1, 30),
            st.sets(st.integers(0, 5), min_size=1, max_size=2).map(lambda one: tuple(sorted(one))),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda one: one[0],
    ),
    min_size=1,
    max_size=9,
)


@cases(60)
@given(WANTED, st.integers(0, 60))
def test_nobody_is_there_twice_and_patience_never_makes_it_worse(
    wanted: list[list[tuple[int, tuple[int, ...]]]], tries: int
) -> None:
    found = plan(wanted, tries)

    taken = [one for way in found.ways if way for visit in way.takes for one in visit]
    assert len({one.starts_at for one in taken}) == len(taken)
    assert score(found) <= score(plan(wanted, tries // 2)) <= score(plan(wanted, 0))


@cases(60)
@given(WANTED.filter(lambda wanted: len(wanted) <= FEW))
def test_few_courses_come_out_as_in_the_best_of_all_orders(
    wanted: list[list[tuple[int, tuple[int, ...]]]],
) -> None:
    assert score(plan(wanted, 30)) <= best(wanted)


@pytest.mark.parametrize("tries", [0, 7, 50])
def test_the_same_patience_comes_out_the_same(tries: int) -> None:
    wanted = [[(n + 1, (n % 3,)), (n + 9, (n % 5,)), (n + 20, (n % 6,))] for n in range(8)]

    first, again = plan(wanted, tries), plan(wanted, tries)

    assert [way and way.cost for way in first.ways] == [way and way.cost for way in again.ways]


def test_time_that_was_tried_is_given_back() -> None:
    calendar = Paper().calendar()
    room = next(one for one in calendar.roster.actors if one.name == "dosing 0")
    before = calendar.taken_on(room)
    wanted = [[(1, (0,)), (2, (1,))] for _ in range(3)]

    found = together(views(calendar, room, wanted), patience(10))

    for way in found.ways:
        for visit in way.takes if way is not None else ():
            calendar.leave(visit)
    assert calendar.taken_on(room) == before
    assert found.placed == 2
    assert granules(HOUR) == 12


def ever_further(wanted: Sequence[Sequence[int]], asked: list[int]) -> Iterator[View[Hours]]:
    """For each course its hours, each dearer than the one before; a view ends at an hour."""
    for end in (2, 4, 6, 8):
        asked.append(end)
        calendar = Paper().calendar()
        room = next(one for one in calendar.roster.actors if one.name == "dosing 0")
        yield View(
            [
                Wanted(calendar, room, [(hour + 1, (hour,)) for hour in one if hour < end])
                for one in wanted
            ],
            calendar,
        )


def test_whoever_finds_no_place_is_looked_for_one_further_ahead() -> None:
    asked: list[int] = []

    found = together(ever_further([[0, 1], [0, 1, 5], [0, 2, 3], [4]], asked), patience(20))

    assert found.placed == 4
    assert asked == [2, 4, 6]


def test_it_is_not_looked_further_than_helps() -> None:
    asked: list[int] = []

    found = together(ever_further([[0], [0], [7]], asked), patience(20))

    assert found.placed == 1
    assert asked == [2, 4]
