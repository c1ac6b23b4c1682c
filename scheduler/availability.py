"""Availability: when could this visit take place, and on whose time?

Each phase of a visit asks for one actor of a kind, or for several. An actor's free time at a
site is a number with a bit for every five minutes; the actors that could serve a phase are
OR-ed, the phases of the visit AND-ed, and what is left are the starts. For each start that
is wanted, `Staffing.assign` then names the actors.

The same `Staffing` serves a search, a booking that leaves the choice to us and the plan of a
whole course: so a time that is offered can be booked.

Pure: no database, no clock, no Flask. All datetimes are aware.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from itertools import groupby
from uuid import UUID
from zoneinfo import ZoneInfo

from models.vocabulary import ActorKind
from notifications.wall_time import at_wall_time
from scheduler.actors import Actor, Assignment, Calendar, Opening, Site, free_runs, length_of
from scheduler.hours import Stretch
from scheduler.intervals import GRANULE, Frame, at_least, granules, indexes, runs, shifted
from scheduler.protocols import Phase, Visit
from scheduler.rules import Ties

DAY = timedelta(days=1)
_THINGS = frozenset({ActorKind.ROOM, ActorKind.DEVICE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Times of the week that somebody would like, by the site's wall clock."""

    weekdays: frozenset[int] = frozenset(range(7))
    """Monday is 0."""
    begin: time = time(0)
    """Nothing starts before."""
    end: time | None = None
    """Nothing starts at or after; None: the day's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is looked for."""

    visit: Visit
    earliest: datetime
    """Nothing starts before."""
    latest: datetime
    """Nothing starts at or after."""
    patient: Actor | None = None
    """Whose time it takes as well. None: anybody's."""
    prefer: frozenset[UUID] = frozenset()
    """Schedules to choose first: the course's therapist."""
    only: frozenset[UUID] = frozenset()
    """Practitioners' schedules of which one must take part; empty: no matter."""
    hours: Hours | None = None
    """Times of the week to keep to; None: any."""
    ties: Ties = field(default_factory=Ties)
    """Who must serve in a role, and who must not."""
    region: str | None = None
    """The patient's state, where who serves must be licensed. None: no visit by video."""
    any_minute: bool = False
    """Whether a start may lie off the visit's grid: somebody named it."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An actor that could serve a phase, and the starts of the visit at which it can."""

    actor: Actor
    starts: int
    rank: int
    """0 for those the question asks for, 3 for those it does not know."""


@dataclass(frozen=True, slots=True)
class Served:
    """A phase, and who could serve it. Those the question prefers come first."""

    phase: Phase
    candidates: tuple[Candidate, ...]

    @property
    def starts(self) -> int:
        """The starts at which enough actors could serve the phase, taken alone."""
        return at_least(self.phase.count, (one.starts for one in self.candidates))


@dataclass(frozen=True, slots=True)
class Seat:
    """What one actor has to serve, and who could."""

    phase: Phase
    candidates: tuple[Candidate, ...]
    clashes: tuple[int, ...]
    """The numbers of earlier seats that the same actor cannot take as well."""


_ALL_LANES = tuple(tuple(range(lanes)) for lanes in range(65))
"""All lanes of an actor that has so many; nobody has more than 64."""


class Staffing:
    """Who could serve a visit at a site, at each start: the bits behind openings and plans.

    Bit n of every number stands for the visit that starts with granule n of the calendar.
    """

    takes_time = True
    """Whether who serves the visit is taken by it; of a place in a group session, nobody is."""

    def __init__(self, question: Question, site: Site, calendar: Calendar) -> None:
        self.question, self.site, self.calendar = question, site, calendar

    @cached_property
    def served(self) -> tuple[Served, ...]:
        """The visit's phases with their candidates, in the order of the protocol."""
        return tuple(self._serve(phase) for phase in self.question.visit.phases)

    def asked_at(self, index: int, question: Question) -> "Staffing":
        """The same for another question about one start, of those who could serve it then."""
        other = Staffing(question, self.site, self.calendar)
        other.served = tuple(other._of_those(one, 1 << index) for one in self.served)
        return other

    def _of_those(self, served: Served, bit: int) -> Served:
        found = [
            Candidate(one.actor, one.starts, self._rank(one.actor))
            for one in served.candidates
            if one.starts & bit
            and (
                served.phase.present
                or self.question.ties.allow(served.phase.role, one.actor.schedule_id)
            )
        ]
        found.sort(key=lambda one: one.rank)
        return Served(served.phase, tuple(found))

    @cached_property
    def wanted(self) -> int:
        """The starts that the question allows, whoever is free."""
        question, frame = self.question, self.calendar.frame
        starts = frame.inside([(question.earliest, question.latest)])
        if not question.any_minute:
            starts &= grid_of(frame, self.site.zone, question.visit.grid)
        if question.hours is not None:
            starts &= hours_of(frame, self.site.zone, question.hours)
        return starts

    @cached_property
    def patient_free(self) -> int:
        """The starts at which the patient is in no other visit."""
        everywhere = (1 << self.calendar.frame.size) - 1
        if self.question.patient is None:
            return everywhere
        gone = self.calendar.taken_on(self.question.patient)[0]
        return runs(everywhere & ~gone, granules(self.question.visit.length))

    @cached_property
    def starts(self) -> int:
        """The starts for which each phase, taken alone, has somebody, and the patient is free."""
        starts = self.wanted & self.patient_free
        for allowed in self._allowed:
            starts &= allowed
        if self.question.only:
            starts &= self.starts_with(self.question.only)
        return starts

    @cached_property
    def _allowed(self) -> tuple[int, ...]:
        """For each phase the starts at which enough actors could serve it, taken alone."""
        return tuple(
            at_least(phase.count, (starts for _, starts in self._serving(phase)))
            for phase in self.question.visit.phases
        )

    def starts_without(self, gone: Sequence[Assignment], first: int, end: int) -> int:
        """The starts in `[first, end)` that there would be if these assignments were given back.

        Bit 0 stands for `first`. Licences and how much somebody may serve do not count for it.
        """
        whole = (1 << (end - first)) - 1
        starts = (self.wanted & self.patient_free) >> first & whole
        for phase, allowed in zip(self.question.visit.phases, self._allowed, strict=True):
            bits = allowed >> first & whole
            for one in gone:
                if starts & ~bits and self._may_serve(one.actor, phase):
                    bits |= self._without(one, phase, first, end)
            starts &= bits
            if not starts:
                break
        return starts

    def _may_serve(self, actor: Actor, phase: Phase) -> bool:
        return actor.could_serve(phase) and self.question.ties.allow(phase.role, actor.schedule_id)

    def _without(self, gone: Assignment, phase: Phase, first: int, end: int) -> int:
        """The starts in a span at which somebody could serve a phase, but for an assignment."""
        calendar, actor = self.calendar, gone.actor
        frame, whole = calendar.frame, (1 << (end - first + self._size)) - 1
        begin = max(0, frame.index(gone.since) - first)
        theirs = ((1 << max(0, frame.index(gone.until) - first - begin)) - 1) << begin
        lanes = [
            taken >> first & whole & ~(theirs if lane in gone.lanes else 0)
            for lane, taken in enumerate(calendar.taken_on(actor))
        ]
        opened = calendar.open_at(actor, self.site.site_id) >> first & whole
        return shifted(free_runs(opened, lanes, phase), _offset(phase))

    @cached_property
    def _size(self) -> int:
        """For how long the visit takes anybody's time at most, in granules."""
        return max((_offset(one) + length_of(one) for one in self.question.visit.phases), default=0)

    def starts_with(self, only: frozenset[UUID], role: str | None = None) -> int:
        """The starts at which one of these schedules can take part, in `role` or in any."""
        found = 0
        for phase in self.question.visit.phases:
            if not phase.present and role in {None, phase.role}:
                for actor, starts in self._serving(phase):
                    if actor.schedule_id in only:
                        found |= starts
        return found

    def starts_by(self, role: str) -> Mapping[UUID, int]:
        """For each schedule that could serve in a role the starts at which it can."""
        found: dict[UUID, int] = {}
        for phase in self.question.visit.phases:
            if phase.role == role and not phase.present:
                for one in self._serve(phase).candidates:
                    known = found.get(one.actor.schedule_id, 0)
                    found[one.actor.schedule_id] = known | one.starts
        return found

    def obstacles(self) -> Iterator[tuple[str, int, int]]:
        """List what stands between the question and its openings.

        For each role, room, device and the patient: how many starts it alone allows, and how
        many there would be but for it.
        """
        sides = [(_spoken(one.phase), one.starts) for one in self.served]
        if self.question.patient is not None:
            sides.append(("patient", self.patient_free))
        if self.question.only:
            sides.append(("practitioner", self.starts_with(self.question.only)))
        for number, (code, allowed) in enumerate(sides):
            without = self.wanted
            for other, (_, bits) in enumerate(sides):
                if other != number:
                    without &= bits
            yield code, (self.wanted & allowed).bit_count(), (without & ~allowed).bit_count()

    def openings(self) -> Iterator[Opening]:
        """List the openings in the order of time."""
        length = self.question.visit.length
        serve = self._serve_plainly if self.is_plain else self._assign
        for index in indexes(self.starts).tolist():
            start = self.calendar.frame.at(index)
            end = start + length
            found = serve(index, (start, end))
            if found is not None:
                yield Opening(self.site, start, end, found)

    def assign(self, index: int) -> tuple[Assignment, ...] | None:
        """Name an actor for every phase of the visit that starts with granule `index`, or None.

        No actor serves two phases at once. Of several that could, those the question prefers
        come first, then those who serve another phase of the visit already, then by name.
        """
        if not self.starts >> index & 1:
            return None
        start = self.calendar.frame.at(index)
        return self._assign(index, (start, start + self.question.visit.length))

    def _assign(self, index: int, whole: Stretch) -> tuple[Assignment, ...] | None:
        if self.is_plain:
            return self._serve_plainly(index, whole)
        chosen = self._choose(index, ())
        if chosen is None:
            return None
        pairs = zip(self.seats, chosen, strict=True)
        return tuple(self._assignment(seat.phase, actor, index, whole) for seat, actor in pairs)

    def is_stood_by(self, index: int) -> bool:
        """Whether everybody whom the visit merely wants on site works there throughout."""
        return all(one.starts >> index & 1 for one in self.served if one.phase.present)

    @cached_property
    def seats(self) -> tuple[Seat, ...]:
        """What has to be served: a seat for each actor that the visit takes."""
        made: list[Seat] = []
        for served in self.served:
            for _ in range(0 if served.phase.present else served.phase.count):
                clashes = [
                    number for number, seat in enumerate(made) if _overlap(served.phase, seat.phase)
                ]
                made.append(Seat(served.phase, served.candidates, tuple(clashes)))
        return tuple(made)

    @cached_property
    def is_plain(self) -> bool:
        """Whether nobody could take two of the seats, so that each is served for itself."""
        known: set[UUID] = set()
        for seat in self.seats:
            here = {one.actor.schedule_id for one in seat.candidates}
            if known & here:
                return False
            known |= here
        return not self.question.only

    @cached_property
    def _lines(self) -> list[tuple[Phase, list[tuple[bytes, Actor]]]]:
        """For each seat who could serve it, with the starts as bytes: looked at much faster."""
        size = self.calendar.frame.size // 8 + 1
        return [
            (
                seat.phase,
                [(one.starts.to_bytes(size, "little"), one.actor) for one in seat.candidates],
            )
            for seat in self.seats
        ]

    def _serve_plainly(self, index: int, whole: Stretch) -> tuple[Assignment, ...]:
        """Serve each seat with the first who could: what `_choose` comes to where all is plain."""
        byte, bit = index >> 3, 1 << (index & 7)
        found = []
        for phase, could in self._lines:
            for there, actor in could:
                if there[byte] & bit:
                    found.append(self._assignment(phase, actor, index, whole))
                    break
        return tuple(found)

    def _choose(self, index: int, chosen: tuple[Actor, ...]) -> tuple[Actor, ...] | None:
        """Serve what is left beside those `chosen`; None if it cannot be done."""
        if len(chosen) == len(self.seats):
            return chosen if self._has_whom_it_must(chosen) else None
        seat = self.seats[len(chosen)]
        busy = [chosen[number] for number in seat.clashes]
        for one in _in_order(seat.candidates, chosen):
            if one.starts >> index & 1 and not _among(one.actor, busy):
                done = self._choose(index, (*chosen, one.actor))
                if done is not None:
                    return done
        return None

    def _has_whom_it_must(self, chosen: Sequence[Actor]) -> bool:
        only = self.question.only
        return not only or any(actor.schedule_id in only for actor in chosen)

    def _assignment(self, phase: Phase, actor: Actor, index: int, whole: Stretch) -> Assignment:
        # A bound that is the visit's own is the same object: written once, however often shown.
        start, end = whole
        begin = start + phase.start if phase.start else start
        if phase.end != self.question.visit.length:
            end = start + phase.end
        until = end + phase.turnover if phase.turnover else end
        lanes = self._free_lanes(actor, phase, index)
        return Assignment(phase.role, actor, lanes, begin, end, until, phase.setup)

    def _free_lanes(self, actor: Actor, phase: Phase, index: int) -> tuple[int, ...]:
        """The lanes that the phase takes: one if it is shared, else the whole actor."""
        if not phase.shared:
            return _ALL_LANES[actor.lanes]
        wanted = ((1 << length_of(phase)) - 1) << (index + _offset(phase))
        lanes = self.calendar.taken_on(actor)
        return (next(lane for lane, gone in enumerate(lanes) if not gone & wanted),)

    def _serve(self, phase: Phase) -> Served:
        found = [
            Candidate(actor, starts, self._rank(actor)) for actor, starts in self._serving(phase)
        ]
        found.sort(key=lambda one: one.rank)
        return Served(phase, tuple(found))

    def _serving(self, phase: Phase) -> Iterator[tuple[Actor, int]]:
        """Whoever could serve a phase, and at which starts of the visit."""
        ties = self.question.ties
        is_tied = not phase.present and (phase.role in ties.must or phase.role in ties.never)
        for actor in self.calendar.roster.serving(phase):
            if is_tied and not ties.allow(phase.role, actor.schedule_id):
                continue
            starts = self._starts_of(actor, phase)
            if starts:
                yield actor, starts

    def _rank(self, actor: Actor) -> int:
        question = self.question
        if not question.only and not question.prefer:
            return 0
        asked = actor.schedule_id not in question.only
        return 2 * asked + (actor.schedule_id not in question.prefer)

    def _starts_of(self, actor: Actor, phase: Phase) -> int:
        """The starts of the visit at which the actor can serve the phase. Worked out once."""
        if actor.is_capped:
            return self._starts_anew(actor, phase)
        known = self.calendar.worked_out(actor)
        key = (id(phase), self._where)
        found = known.get(key)
        if found is None:  # with the phase, so that no other gets its id meanwhile
            found = known[key] = self._starts_anew(actor, phase), phase
        starts: int = found[0]
        return starts

    @cached_property
    def _where(self) -> tuple[int, str | None]:
        """What the starts of an actor depend on beside the phase."""
        return self.site.site_id.int, self.question.region

    def _starts_anew(self, actor: Actor, phase: Phase) -> int:
        begins = self.calendar.begins(actor, self.site.site_id, phase)
        if begins and phase.role not in _THINGS:
            begins &= self._licensed(actor, phase.role)
        if begins and actor.is_capped and not phase.present:  # to stand by is to serve no visit
            begins &= ~self._full(actor)
        return shifted(begins, _offset(phase))

    def _full(self, actor: Actor) -> int:
        """The days on which the actor serves as many visits as it may."""
        zone = self.site.zone
        starts = self.calendar.loads.get(actor.schedule_id, ())
        return sum(
            days_of(self.calendar.frame, zone, first, last)
            for first, last in full_days(actor, [one.astimezone(zone).date() for one in starts])
        )

    def _licensed(self, actor: Actor, role: str) -> int:
        """The granules of the days on which the actor may act in the role."""
        frame, zone = self.calendar.frame, self.site.zone
        bits = 0
        for licence in actor.licences:
            if licence.covers(role, self.question.region):
                bits |= days_of(frame, zone, licence.valid_from, licence.valid_until)
        return bits


def full_days(actor: Actor, served: Sequence[date]) -> list[tuple[date, date]]:
    """The stretches of days on which an actor with visits on the days `served` takes no more.

    Disjoint, in no order. A week runs from Monday to Sunday.
    """
    weeks = Counter(day - day.weekday() * DAY for day in served)
    full = {week for week, n in weeks.items() if n >= (actor.most_per_week or n + 1)}
    found = [(week, week + 6 * DAY) for week in full]
    for day, number in Counter(served).items():
        if number >= (actor.most_per_day or number + 1) and day - day.weekday() * DAY not in full:
            found.append((day, day))
    return found


def _in_order(candidates: Sequence[Candidate], there: Sequence[Actor]) -> Iterator[Candidate]:
    """Of equals those first who serve another phase of the visit."""
    if not there:
        yield from candidates
        return
    for _, equals in groupby(candidates, lambda one: one.rank):
        later = []
        for one in equals:
            if _among(one.actor, there):
                yield one
            else:
                later.append(one)
        yield from later


def _overlap(one: Phase, other: Phase) -> bool:
    """Whether the phases take time at once, making ready and turnover included."""
    return (
        one.start - one.setup < other.end + other.turnover
        and other.start - other.setup < one.end + one.turnover
    )


def _among(actor: Actor, others: Sequence[Actor]) -> bool:
    return any(actor is other for other in others)


def _spoken(phase: Phase) -> str:
    return phase.role if phase.kind is None else f"{phase.kind} {phase.role}"


def _offset(phase: Phase) -> int:
    """How many granules after the visit's start the phase begins to take time."""
    return (phase.start - phase.setup) // GRANULE


@lru_cache(maxsize=64)
def grid_of(frame: Frame, zone: ZoneInfo, grid: timedelta) -> int:
    """The granules that begin on a multiple of `grid` by the wall clock of `zone`."""
    step = granules(grid)
    bits = 0
    for first, end in _even_days(frame, zone):
        wall = frame.at(first).astimezone(zone)
        since_midnight = (wall.hour * 60 + wall.minute) // (GRANULE // timedelta(minutes=1))
        begin = first + -since_midnight % step
        if begin < end:
            bits |= _every(step, -(-(end - begin) // step)) << begin
    return bits


@lru_cache(maxsize=256)
def days_of(frame: Frame, zone: ZoneInfo, first: date, last: date) -> int:
    """The granules of the wall days from `first` through `last`."""
    begin = _midnight(first, zone)
    end = _midnight(last + DAY, zone) if last < date.max - DAY else frame.at(frame.size)
    return frame.inside([(begin, end)])


@lru_cache(maxsize=64)
def hours_of(frame: Frame, zone: ZoneInfo, hours: Hours) -> int:
    """The granules that lie in the wanted times of the week."""
    day = frame.start.astimezone(zone).date() - DAY
    last = frame.at(frame.size).astimezone(zone).date()
    stretches = []
    while day <= last:
        if day.weekday() in hours.weekdays:
            begin = at_wall_time(datetime.combine(day, hours.begin), zone)
            end = _midnight(day + DAY, zone)
            if hours.end is not None:
                end = at_wall_time(datetime.combine(day, hours.end), zone)
            stretches.append((begin, end))
        day += DAY
    return frame.inside(stretches)


def _even_days(frame: Frame, zone: ZoneInfo) -> Iterator[tuple[int, int]]:
    """Parts of the frame in each of which the zone's offset stays the same, as granules."""
    day = DAY // GRANULE
    first = 0
    while first < frame.size:
        end = min(first + day, frame.size)
        if _offset_at(frame, zone, first) == _offset_at(frame, zone, end - 1):
            yield first, end
        else:
            yield from ((one, one + 1) for one in range(first, end))
        first = end


def _offset_at(frame: Frame, zone: ZoneInfo, index: int) -> timedelta | None:
    return frame.at(index).astimezone(zone).utcoffset()


def _every(step: int, times: int) -> int:
    """So many bits, `step` apart, from bit 0 on."""
    return ((1 << step * times) - 1) // ((1 << step) - 1)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return at_wall_time(datetime.combine(day, time(0)), zone).astimezone(UTC)
