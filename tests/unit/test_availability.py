"""Openings against an oracle that looks at every start and tries everybody, minute for minute."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vocabulary import ActorKind, StepKind
from scheduler.actors import Actor, Calendar, Licence, Roster, Site
from scheduler.availability import Hours, Question, Staffing, grid_of, hours_of
from scheduler.hours import Stretch
from scheduler.intervals import GRANULE, Frame, at_least, positions
from scheduler.protocols import Phase, Visit
from scheduler.timeline import DAY, Timeline, epoch_granule
from tests.properties import cases

NEW_YORK = ZoneInfo("America/New_York")
HERE, THERE = UUID(int=901), UUID(int=902)
START = datetime(2027, 3, 13, tzinfo=UTC)  # the clocks change in New York on the 14th
DAYS = 2
ROLES = ("therapist", "prescriber", "monitor")


@dataclass
class Given:
    """A small clinic, and a visit to place in it."""

    actors: list[Actor] = field(default_factory=list)
    opened: dict[UUID, list[Stretch]] = field(default_factory=dict)
    taken: dict[UUID, list[tuple[int, Stretch]]] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    length: timedelta = timedelta(hours=1)
    grid: timedelta = timedelta(minutes=15)
    patient: list[Stretch] = field(default_factory=list)
    only: frozenset[UUID] = frozenset()

    def visit(self) -> Visit:
        return Visit(
            key="v",
            kind=StepKind.DOSING,
            title="V",
            length=self.length,
            phases=self.phases,
            gates=(),
            checklist=(),
            cadence_name="c",
            cadence=(),
            grid=self.grid,
        )

    def calendar(self) -> Calendar:
        timeline = Timeline(START, DAYS)
        for schedule_id, stretches in self.opened.items():
            timeline.set_open(schedule_id, [(HERE, one) for one in stretches])
        for schedule_id, gone in self.taken.items():
            lanes: dict[int, list[tuple[int, int]]] = {}
            for lane, (start, end) in gone:
                spans = lanes.setdefault(lane, [])
                spans.append((epoch_granule(start), epoch_granule(end)))
            timeline.set_taken(schedule_id, lanes)
        return Calendar.over(timeline, Roster(self.actors), START, START + DAYS * DAY)

    def staffing(self) -> Staffing:
        calendar = self.calendar()
        patient = Actor(UUID(int=900), "", ActorKind.PATIENT, None, None, 1)
        spans = [(epoch_granule(start), epoch_granule(end)) for start, end in self.patient]
        calendar.know(patient, {0: spans})
        question = Question(
            visit=self.visit(),
            earliest=START,
            latest=START + DAYS * DAY,
            patient=patient,
            only=self.only,
        )
        return Staffing(question, Site(HERE, "Here", NEW_YORK), calendar)


def minutes(number: int) -> timedelta:
    return timedelta(minutes=5 * number)


@st.composite
def stretches(draw: st.DrawFn, most: int, longest: int) -> list[Stretch]:
    found = []
    for _ in range(draw(st.integers(0, most))):
        first = START + minutes(draw(st.integers(0, DAYS * 288 - 2)))
        last = first + minutes(draw(st.integers(1, longest)))
        found.append((first, min(last, START + DAYS * DAY)))
    return found


@st.composite
def actors(draw: st.DrawFn, number: int) -> Actor:
    kind = draw(st.sampled_from(["practitioner", "practitioner", "room"]))
    lanes = draw(st.integers(1, 2))
    if kind == "room":
        return Actor(UUID(int=number), f"room {number}", ActorKind.ROOM, "dosing", HERE, 1)
    held = draw(st.lists(st.sampled_from(ROLES), min_size=1, max_size=3, unique=True))
    until = draw(st.sampled_from([date(2027, 12, 31), date(2027, 3, 14)]))
    licences = tuple(Licence(role, date(2027, 1, 1), until) for role in held)
    name = f"person {number}"
    return Actor(UUID(int=number), name, ActorKind.PRACTITIONER, None, None, lanes, licences)


@st.composite
def phases(draw: st.DrawFn, length: int) -> Phase:
    first = draw(st.integers(0, length - 1))
    role = draw(st.sampled_from([*ROLES, "room"]))
    present = role != "room" and draw(st.integers(0, 5)) == 0
    return Phase(
        role=role,
        kind="dosing" if role == "room" else None,
        start=minutes(first),
        end=minutes(draw(st.integers(first + 1, length))),
        turnover=minutes(draw(st.integers(0, 3))),
        shared=draw(st.booleans()),
        present=present,
        count=1 if present else draw(st.sampled_from([1, 1, 1, 2])),
        setup=minutes(draw(st.sampled_from([0, 0, 2]))),
    )


@st.composite
def clinics(draw: st.DrawFn) -> Given:
    length = draw(st.integers(1, 8))
    made = Given(
        actors=[draw(actors(number)) for number in range(1, draw(st.integers(1, 5)) + 1)],
        phases=tuple(draw(st.lists(phases(length), min_size=1, max_size=3))),
        length=minutes(length),
        grid=minutes(draw(st.sampled_from([1, 2, 3, 6, 12]))),
        patient=draw(stretches(2, 24)),
    )
    for actor in made.actors:
        made.opened[actor.schedule_id] = draw(stretches(3, 200)) or [(START, START + DAYS * DAY)]
        gone = draw(stretches(3, 30))
        lanes = st.integers(0, actor.lanes - 1)
        made.taken[actor.schedule_id] = [(draw(lanes), one) for one in gone]
    if draw(st.integers(0, 4)) == 0:
        made.only = frozenset({made.actors[0].schedule_id})
    return made


class Oracle:
    """The same question, answered by looking at each start and trying every choice."""

    def __init__(self, made: Given) -> None:
        self.made = made
        size = DAYS * 288
        self.opened = {one: [False] * size for one in made.opened}
        self.busy: dict[UUID, list[set[int]]] = {
            one: [set() for _ in range(size)] for one in made.opened
        }
        for one, found in made.opened.items():
            for start, end in found:
                for number in range(_number(start), _number(end)):
                    self.opened[one][number] = True
        for one, gone in made.taken.items():
            for lane, (start, end) in gone:
                for number in range(_number(start), _number(end)):
                    self.busy[one][number].add(lane)

    def starts(self) -> list[datetime]:
        return [start for start in self._grid() if self._can(start)]

    def could(self, actor: Actor, phase: Phase, start: datetime) -> bool:
        """Whether the actor alone could serve the phase of a visit that starts then."""
        since = start + phase.start - phase.setup
        until = start + phase.end + phase.turnover
        if not self._serves(actor, phase, since) or not self._is_open(actor, since, until):
            return False
        return phase.present or self._is_free(actor, phase, since, until)

    def _grid(self) -> Iterator[datetime]:
        start = START
        while start < START + DAYS * DAY:
            wall = start.astimezone(NEW_YORK)
            if (wall.hour * 60 + wall.minute) % (self.made.grid // timedelta(minutes=1)) == 0:
                yield start
            start += GRANULE

    def _can(self, start: datetime) -> bool:
        made = self.made
        if any(a < start + made.length and start < b for a, b in made.patient):
            return False
        if start + made.length > START + DAYS * DAY:
            return False
        present = [phase for phase in made.phases if phase.present]
        if not all(any(self.could(a, phase, start) for a in made.actors) for phase in present):
            return False
        taking = [phase for phase in made.phases if not phase.present]
        able = [[a for a in made.actors if self.could(a, phase, start)] for phase in taking]
        if not all(able):
            return False
        seats = [phase for phase in taking for _ in range(phase.count)]
        choices = [
            there for phase, there in zip(taking, able, strict=True) for _ in range(phase.count)
        ]
        return any(self._fits(seats, chosen) for chosen in product(*choices))

    def _fits(self, seats: Sequence[Phase], chosen: Sequence[Actor]) -> bool:
        only = self.made.only
        if only and not any(actor.schedule_id in only for actor in chosen):
            return False
        for number, (phase, actor) in enumerate(zip(seats, chosen, strict=True)):
            for other, someone in list(zip(seats, chosen, strict=True))[:number]:
                if someone is actor and _clash(phase, other):
                    return False
        return True

    def _serves(self, actor: Actor, phase: Phase, since: datetime) -> bool:
        if phase.role == "room":
            return actor.kind == phase.kind
        held = [one for one in actor.licences if one.role == phase.role]
        day = since.astimezone(NEW_YORK).date() if held else date.max
        return any(one.valid_from <= day <= one.valid_until for one in held)

    def _is_open(self, actor: Actor, since: datetime, until: datetime) -> bool:
        first, end = _number(since), _number(until)
        opened = self.opened[actor.schedule_id]
        return first >= 0 and end <= len(opened) and all(opened[first:end])

    def _is_free(self, actor: Actor, phase: Phase, since: datetime, until: datetime) -> bool:
        busy = set().union(*self.busy[actor.schedule_id][_number(since) : _number(until)])
        return len(busy) < actor.lanes if phase.shared else not busy


def _number(moment: datetime) -> int:
    return (moment - START) // GRANULE


def _clash(one: Phase, other: Phase) -> bool:
    return (
        one.start - one.setup < other.end + other.turnover
        and other.start - other.setup < one.end + one.turnover
    )


@cases(400)
@given(clinics())
def test_openings_are_the_starts_that_trying_everything_finds(made: Given) -> None:
    found = list(made.staffing().openings())

    assert [opening.starts_at for opening in found] == Oracle(made).starts()


@cases(300)
@given(clinics())
def test_whom_an_opening_names_is_free_then_and_named_once(made: Given) -> None:
    oracle = Oracle(made)
    seats = [p for p in made.phases if not p.present for _ in range(p.count)]
    for opening in made.staffing().openings():
        named = opening.assignments
        assert [one.role for one in named] == [seat.role for seat in seats]
        for seat, one in zip(seats, named, strict=True):
            assert oracle.could(one.actor, seat, opening.starts_at)
            assert len(one.lanes) == (1 if seat.shared else one.actor.lanes)
        for one, other in product(named, named):
            if one is not other and one.actor is other.actor:
                assert one.until <= other.since or other.until <= one.since


@cases(300)
@given(clinics())
def test_what_is_taken_on_a_calendar_is_gone_until_it_is_given_back(made: Given) -> None:
    staffing = made.staffing()
    before = staffing.starts
    opening = next(staffing.openings(), None)
    if opening is None:
        return
    calendar = staffing.calendar
    calendar.take(opening.assignments)
    again = Staffing(staffing.question, staffing.site, calendar)
    named = {(a.actor.schedule_id, a.since, a.lanes) for a in opening.assignments}
    for other in again.openings():
        taken = {(a.actor.schedule_id, a.since, a.lanes) for a in other.assignments}
        assert not named & taken
    calendar.give_back(opening.assignments)

    assert Staffing(staffing.question, staffing.site, calendar).starts == before


@given(st.lists(st.integers(0, 2**30), max_size=6), st.integers(1, 4))
def test_at_least_counts(sets: list[int], count: int) -> None:
    oracle = [n for n in range(31) if sum(bits >> n & 1 for bits in sets) >= count]

    assert list(positions(at_least(count, sets))) == oracle


@pytest.mark.parametrize(
    "zone",
    ["America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"],
)
@pytest.mark.parametrize("grid", [5, 10, 15, 20, 30, 60])
def test_the_grid_is_that_of_the_wall_clock(zone: str, grid: int) -> None:
    frame = Frame(datetime(2026, 10, 2, tzinfo=UTC), 35 * 288)  # clocks change in both halves
    place = ZoneInfo(zone)
    walls = [frame.at(n).astimezone(place) for n in range(frame.size)]
    oracle = [n for n, wall in enumerate(walls) if (wall.hour * 60 + wall.minute) % grid == 0]

    assert list(positions(grid_of(frame, place, timedelta(minutes=grid)))) == oracle


def test_wanted_hours_are_those_of_the_wall_clock() -> None:
    frame = Frame(START, DAYS * 288)
    wanted = Hours(weekdays=frozenset({5, 6}), begin=datetime(2027, 1, 1, 9).time(), end=None)
    walls = [frame.at(n).astimezone(NEW_YORK) for n in range(frame.size)]
    oracle = [n for n, wall in enumerate(walls) if wall.weekday() in {5, 6} and wall.hour >= 9]

    assert list(positions(hours_of(frame, NEW_YORK, wanted))) == oracle


def test_nobody_serves_two_phases_at_once_making_ready_and_turnover_included() -> None:
    both = (Licence("therapist", date.min, date.max), Licence("monitor", date.min, date.max))
    alone = Actor(UUID(int=1), "alone", ActorKind.PRACTITIONER, None, None, 1, both)
    made = Given([alone], {alone.schedule_id: [(START, START + DAY)]}, length=minutes(6))
    plain: Any = {"kind": None, "shared": False, "present": False}
    first = Phase(role="therapist", start=minutes(0), end=minutes(3), turnover=minutes(0), **plain)
    then = Phase(role="monitor", start=minutes(3), end=minutes(6), turnover=minutes(0), **plain)

    for phases_, possible in [
        ((first, then), True),
        ((replace(first, turnover=minutes(1)), then), False),
        ((first, replace(then, setup=minutes(1))), False),
    ]:
        made.phases = phases_
        assert bool(list(made.staffing().openings())) is possible
