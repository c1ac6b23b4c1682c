"""Actors: who and what a visit can be booked on, and when they are open and taken.

Pure: no database, no clock, no Flask. All datetimes are aware.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from models.vocabulary import ActorKind
from scheduler.hours import Stretch
from scheduler.intervals import Frame
from scheduler.protocols import Phase


@dataclass(frozen=True, slots=True)
class Licence:
    """A role, from one day through another."""

    role: str
    valid_from: date
    valid_until: date


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

    def could_serve(self, phase: Phase) -> bool:
        """Whether the actor is of the kind that `phase` asks for, on any day."""
        if phase.role in {ActorKind.ROOM, ActorKind.DEVICE}:
            return self.actor_kind == phase.role and self.kind == phase.kind
        return any(licence.role == phase.role for licence in self.licences)

    def is_licensed(self, role: str, day: date) -> bool:
        """Whether the actor may act in `role` on `day`. Rooms and devices always may."""
        if role in {ActorKind.ROOM, ActorKind.DEVICE}:
            return True
        return any(
            licence.role == role and licence.valid_from <= day <= licence.valid_until
            for licence in self.licences
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """A stretch of one lane that is gone."""

    schedule_id: UUID
    lane: int
    starts_at: datetime
    ends_at: datetime
    is_tentative: bool = False
    """Held, not booked: it gives way once the hold has run out."""


@dataclass(frozen=True, slots=True)
class Site:
    """A place, and the zone its wall clock keeps."""

    site_id: UUID
    name: str
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class Assignment:
    """One actor for one phase, on one lane or on all."""

    role: str
    actor: Actor
    lanes: tuple[int, ...]
    starts_at: datetime
    ends_at: datetime
    until: datetime
    """Until when the actor stays taken: turnover and charting included."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A time at which the visit could be booked, and whom it would take."""

    site: Site
    starts_at: datetime
    ends_at: datetime
    assignments: tuple[Assignment, ...]


@dataclass(slots=True)
class Calendar:
    """Who is open and who is taken within a frame. Works out each actor's bits once."""

    frame: Frame
    actors: Sequence[Actor]
    open: Mapping[UUID, Sequence[tuple[UUID, Stretch]]]
    """For each schedule its open stretches, closures taken out, with their site."""
    taken: Mapping[UUID, Sequence[Taken]]
    _bits: dict[tuple[UUID, UUID], int] = field(default_factory=dict)
    _lanes: dict[UUID, tuple[int, ...]] = field(default_factory=dict)

    def open_at(self, actor: Actor, site_id: UUID) -> int:
        """The granules in which the actor is open at the site."""
        key = (actor.schedule_id, site_id)
        if key not in self._bits:
            stretches = (
                stretch
                for where, stretch in self.open.get(actor.schedule_id, ())
                if where == site_id
            )
            self._bits[key] = self.frame.inside(stretches)
        return self._bits[key]

    def taken_on(self, actor: Actor) -> tuple[int, ...]:
        """For each lane of the actor, the granules that are gone."""
        if actor.schedule_id not in self._lanes:
            gone = self.taken.get(actor.schedule_id, ())
            self._lanes[actor.schedule_id] = tuple(
                self.frame.touched((t.starts_at, t.ends_at) for t in gone if t.lane == lane)
                for lane in range(actor.lanes)
            )
        return self._lanes[actor.schedule_id]
