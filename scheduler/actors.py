"""Actors: who and what a visit can be booked on, and when they are open and taken.

Pure: no database, no clock, no Flask. All datetimes are aware.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from models.vocabulary import ActorKind
from scheduler.intervals import GRANULE, Frame, granules, runs
from scheduler.protocols import Phase
from scheduler.timeline import BYTES, DAY, Timeline, Track, epoch_granule, midnight


@dataclass(frozen=True, slots=True)
class Licence:
    """A role, from one day through another."""

    role: str
    valid_from: date
    valid_until: date
    regions: frozenset[str] = frozenset()
    """The states in which it holds for visits by video."""

    def covers(self, role: str, region: str | None) -> bool:
        """Whether it is one of that role; by video, also in the patient's state `region`."""
        return self.role == role and (region is None or region in self.regions)


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody or something with a schedule."""

    schedule_id: UUID
    name: str
    actor_kind: ActorKind
    kind: str | None
    """Of a room or a device."""
    site_id: UUID | None
    """Where a room or a device stands. A practitioner is where their hours say."""
    lanes: int
    licences: tuple[Licence, ...] = ()
    practitioner_id: UUID | None = None
    most_per_day: int | None = None
    """How many visits it serves on one wall day at most. None: no matter."""
    most_per_week: int | None = None

    @property
    def is_capped(self) -> bool:
        """Whether it serves so many visits at most."""
        return self.most_per_day is not None or self.most_per_week is not None

    def could_serve(self, phase: Phase) -> bool:
        """Whether the actor is of the kind that `phase` asks for, on any day."""
        if phase.role in {ActorKind.ROOM, ActorKind.DEVICE}:
            return self.actor_kind == phase.role and self.kind == phase.kind
        return any(licence.role == phase.role for licence in self.licences)

    def is_licensed(self, role: str, day: date, region: str | None = None) -> bool:
        """Whether the actor may act in `role` on `day`. Rooms and devices always may.

        By video the licence must hold in the patient's state as well: `region`.
        """
        if role in {ActorKind.ROOM, ActorKind.DEVICE}:
            return True
        return any(
            licence.covers(role, region) and licence.valid_from <= day <= licence.valid_until
            for licence in self.licences
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """A stretch of one lane that is gone."""

    schedule_id: UUID
    lane: int
    starts_at: datetime
    ends_at: datetime
    may_give_way: bool = False
    """It may be a hold's that has run out: a held time, or time before or after one."""


@dataclass(frozen=True, slots=True)
class Site:
    """A place, and the zone its wall clock keeps."""

    site_id: UUID
    name: str
    zone: ZoneInfo


class Assignment(NamedTuple):
    """One actor for one phase, on one lane or on all."""

    role: str
    actor: Actor
    lanes: tuple[int, ...]
    starts_at: datetime
    ends_at: datetime
    until: datetime
    """Until when the actor stays taken: turnover and charting included."""
    setup: timedelta = timedelta(0)
    """For how long before the actor is taken already: making ready."""

    @property
    def since(self) -> datetime:
        """From when on the actor is taken."""
        return self.starts_at - self.setup


class Opening(NamedTuple):
    """A time at which the visit could be booked, and whom it would take."""

    site: Site
    starts_at: datetime
    ends_at: datetime
    assignments: tuple[Assignment, ...]
    by_phone: bool = False
    """Whether it is nearer than the visit's notice: to be asked for by phone, with a reason."""
    group_session_id: UUID | None = None
    """The session in which it is a place; its staff are the session's."""
    free: int | None = None
    """How many places of the session are free."""

    @property
    def where(self) -> UUID:
        """What tells openings of one time apart: the session, else the site."""
        return self.group_session_id or self.site.site_id


class Roster:
    """Everybody and everything that can be booked, in the order of names."""

    def __init__(self, actors: Iterable[Actor]) -> None:
        self.actors = tuple(actors)
        self.known = {actor.schedule_id: actor for actor in self.actors}
        self._serving: dict[tuple[str, str | None], tuple[Actor, ...]] = {}

    def serving(self, phase: Phase) -> Sequence[Actor]:
        """Those of the kind that `phase` asks for. Looked up once, then known."""
        key = (phase.role, phase.kind)
        if key not in self._serving:
            found = (actor for actor in self.actors if actor.could_serve(phase))
            self._serving[key] = tuple(found)
        return self._serving[key]


@dataclass(slots=True)
class Known:
    """What was worked out of a timeline for one window: the same for every question about it.

    By the numbers of schedules and sites, which are found much faster than their UUIDs.
    """

    opened: dict[tuple[int, int], int] = field(default_factory=dict)
    lanes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    begins: dict[int, dict[object, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class Calendar:
    """Who is open and who is taken in a window of whole days. Slices each actor's bits once.

    A calendar is one question's own: time can be taken and given back on it for trial. What it
    works out of whom nobody has tried anything with may be known from other questions, and is
    there for the next.
    """

    frame: Frame
    roster: Roster
    timeline: Timeline
    known: Known = field(default_factory=Known)
    loads: dict[UUID, list[datetime]] = field(default_factory=dict)
    """For each schedule that serves so many visits at most: the starts of those it has."""
    tried: set[UUID] = field(default_factory=set)
    """The schedules whose time is another here than on the timeline."""
    _lanes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _begins: dict[int, dict[object, Any]] = field(default_factory=dict)
    """Of whose time is not as on the timeline: what is gone, and what was worked out of that."""

    @classmethod
    def over(cls, timeline: Timeline, roster: Roster, start: datetime, end: datetime) -> "Calendar":
        """The calendar of the days that `start` to `end` touches."""
        first = midnight(start)
        return cls(Frame.over(first, midnight(end - GRANULE) + DAY), roster, timeline)

    def part(self, roster: Roster, start: datetime, end: datetime) -> "Calendar":
        """The same for fewer days and actors, with what was taken here for trial gone."""
        part = Calendar.over(self.timeline, roster, start, end)
        first = (part.frame.start - self.frame.start) // GRANULE
        whole = (1 << part.frame.size) - 1
        for actor in roster.actors:
            if actor.schedule_id in self.tried:
                lanes = self.taken_on(actor)
                part._lanes[actor.schedule_id.int] = tuple(gone >> first & whole for gone in lanes)
        return part

    def open_at(self, actor: Actor, site_id: UUID) -> int:
        """The granules in which the actor is open at the site."""
        key = (actor.schedule_id.int, site_id.int)
        bits = self.known.opened.get(key)
        if bits is None:
            bits = self._slice(self.timeline.open.get((actor.schedule_id, site_id)))
            self.known.opened[key] = bits
        return bits

    def taken_on(self, actor: Actor) -> tuple[int, ...]:
        """For each lane of the actor, the granules that are gone."""
        number = actor.schedule_id.int
        lanes = self._lanes.get(number)
        if lanes is None:
            lanes = self.known.lanes.get(number)
        if lanes is None:
            tracks = self.timeline.taken.get(actor.schedule_id, {})
            lanes = tuple(self._slice(tracks.get(lane)) for lane in range(actor.lanes))
            self.known.lanes[number] = lanes
        return lanes

    def worked_out(self, actor: Actor) -> dict[object, Any]:
        """What was worked out of an actor's time, until some of it is taken or given back.

        Not of one who serves so many visits at most: that depends on more than the time.
        """
        number = actor.schedule_id.int
        here = self._begins if number in self._lanes else self.known.begins
        found = here.get(number)
        if found is None:
            found = here.setdefault(number, {})
        return found

    def begins(self, actor: Actor, site_id: UUID, phase: Phase) -> int:
        """Where a stretch as long as the phase begins that the actor has to give."""
        known = self.worked_out(actor)
        key = (site_id.int, length_of(phase), phase.shared, phase.present)
        if key not in known:
            opened = self.open_at(actor, site_id)
            known[key] = free_runs(opened, self.taken_on(actor), phase) if opened else 0
        bits: int = known[key]
        return bits

    def know(self, actor: Actor, lanes: Mapping[int, Iterable[tuple[int, int]]]) -> None:
        """Let the taken time of an actor that the timeline does not hold be this.

        Granules `[first, end)` on each lane, counted from the start of the epoch.
        """
        offset = epoch_granule(self.frame.start)
        self._lanes[actor.schedule_id.int] = tuple(
            self.frame.marked((first - offset, end - offset) for first, end in lanes.get(lane, ()))
            for lane in range(actor.lanes)
        )
        self._begins.pop(actor.schedule_id.int, None)

    def leave_out(self, gone: Iterable[Taken]) -> None:
        """Let these stretches be free: they are of the visit that is moved."""
        for one in gone:
            actor = self.roster.known.get(one.schedule_id)
            if actor is not None and one.lane < actor.lanes:
                bits = self.frame.touched([(one.starts_at, one.ends_at)])
                self._change(actor, one.lane, self.taken_on(actor)[one.lane] & ~bits)

    def take(self, assignments: Iterable[Assignment]) -> None:
        """Let the time of these assignments be gone, on this calendar alone."""
        for actor, lane, bits in self._spans(assignments):
            self._change(actor, lane, self.taken_on(actor)[lane] | bits)

    def give_back(self, assignments: Iterable[Assignment]) -> None:
        """Let the time of these assignments be free again, on this calendar alone."""
        for actor, lane, bits in self._spans(assignments):
            self._change(actor, lane, self.taken_on(actor)[lane] & ~bits)

    def serve(self, assignments: Sequence[Assignment]) -> None:
        """Take the time of a visit for trial, and count it for those who serve so many at most."""
        self.take(assignments)
        for schedule_id, since in served_from(assignments).items():
            if schedule_id in self.loads:
                self.loads[schedule_id].append(since)

    def leave(self, assignments: Sequence[Assignment]) -> None:
        """Undo `serve`."""
        self.give_back(assignments)
        for schedule_id, since in served_from(assignments).items():
            if since in self.loads.get(schedule_id, ()):
                self.loads[schedule_id].remove(since)

    def _spans(self, assignments: Iterable[Assignment]) -> Iterator[tuple[Actor, int, int]]:
        for one in assignments:
            bits = self.frame.touched([(one.since, one.until)])
            for lane in one.lanes:
                yield one.actor, lane, bits

    def _change(self, actor: Actor, lane: int, bits: int) -> None:
        lanes = self.taken_on(actor)
        self._lanes[actor.schedule_id.int] = (*lanes[:lane], bits, *lanes[lane + 1 :])
        self.tried.add(actor.schedule_id)
        self._begins.pop(actor.schedule_id.int, None)

    def _slice(self, track: Track | None) -> int:
        if track is None:
            return 0
        first = (self.frame.start - self.timeline.start) // DAY * BYTES
        return int.from_bytes(track[first : first + self.frame.size // 8], "little")


def served_from(assignments: Iterable[Assignment]) -> Mapping[UUID, datetime]:
    """For each schedule from when on it serves a visit."""
    found: dict[UUID, datetime] = {}
    for one in assignments:
        known = found.get(one.actor.schedule_id, one.since)
        found[one.actor.schedule_id] = min(known, one.since)
    return found


def length_of(phase: Phase) -> int:
    """For how many granules an actor is taken by a phase, making ready and turnover included."""
    return granules(phase.setup + phase.end - phase.start + phase.turnover)


def free_runs(opened: int, lanes: Sequence[int], phase: Phase) -> int:
    """Where a stretch as long as the phase begins that is open, and free on the lanes it takes."""
    length = length_of(phase)
    if phase.present:
        return runs(opened, length)
    if not phase.shared:
        for gone in lanes:
            opened &= ~gone
        return runs(opened, length)
    found = 0
    for gone in lanes:
        found |= runs(opened & ~gone, length)
    return found
