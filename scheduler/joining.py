"""Joining: the group sessions in which a visit that several patients share could have a place.

Such a visit takes nobody's time anew: staff and room are the session's. It takes a place, of
which each is a lane of the session's own, and the patient's time.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from uuid import UUID

from models.vocabulary import ActorKind, StepKind
from scheduler.actors import Actor, Assignment, Calendar, Opening, Site
from scheduler.availability import Question, Served, Staffing
from scheduler.intervals import indexes
from scheduler.protocols import Visit
from scheduler.timeline import epoch_granule

PLACE = "place"
"""The role of a place among assignments."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """A group session that is to be held."""

    id: UUID
    kind: StepKind
    site_id: UUID
    starts_at: datetime
    ends_at: datetime
    staff: tuple[Assignment, ...]
    """Who and what it has taken, on no lane."""
    places: int
    taken: int
    """How many of the places are taken."""

    @property
    def actor(self) -> Actor:
        """The session as somebody with a lane for each place."""
        return Actor(self.id, PLACE, ActorKind.ROOM, None, self.site_id, self.places)

    def serves(self, schedules: Iterable[UUID], role: str | None = None) -> bool:
        """Whether one of these schedules is in it, in `role` or in any."""
        wanted = set(schedules)
        return any(
            one.actor.schedule_id in wanted and role in {None, one.role} for one in self.staff
        )


def is_for(visit: Visit, kind: StepKind, start: datetime, end: datetime) -> bool:
    """Whether a group session of that kind, from `start` to `end`, is for such a visit."""
    return visit.group is not None and visit.kind is kind and visit.length == end - start


def know(calendar: Calendar, meetings: Iterable[Meeting]) -> None:
    """Let a calendar know which places of the sessions are taken."""
    for one in meetings:
        span = epoch_granule(one.starts_at), epoch_granule(one.ends_at)
        calendar.know(one.actor, {lane: [span] for lane in range(one.taken)})


def staffing(
    question: Question, site: Site, calendar: Calendar, meetings: Sequence[Meeting]
) -> Staffing:
    """Who could serve a visit; of one that is shared, which of the sessions."""
    if question.visit.group is None:
        return Staffing(question, site, calendar)
    return Joining(question, site, calendar, meetings)


class Joining(Staffing):
    """The sessions in which a visit could have a place, at each start."""

    takes_time = False

    def __init__(
        self, question: Question, site: Site, calendar: Calendar, meetings: Sequence[Meeting]
    ) -> None:
        super().__init__(replace(question, any_minute=True), site, calendar)
        self.meetings = meetings

    @cached_property
    def served(self) -> tuple[Served, ...]:
        """Nobody: all who serve it are taken already, by the session."""
        return ()

    @cached_property
    def _allowed(self) -> tuple[int, ...]:
        return (sum(1 << index for index in self._by_start),)

    @cached_property
    def _by_start(self) -> Mapping[int, list[Meeting]]:
        """The sessions with a free place that suit, by when they start."""
        frame, visit = self.calendar.frame, self.question.visit
        found: dict[int, list[Meeting]] = {}
        for one in self.meetings:
            index = frame.index(one.starts_at)
            if (
                one.site_id == self.site.site_id
                and is_for(visit, one.kind, one.starts_at, one.ends_at)
                and 0 <= index < frame.size
                and self._free_lane(one) is not None
                and self._keeps_ties(one)
            ):
                found.setdefault(index, []).append(one)
        return found

    def _free_lane(self, meeting: Meeting) -> int | None:
        index = self.calendar.frame.index(meeting.starts_at)
        lanes = self.calendar.taken_on(meeting.actor)
        return next((lane for lane, gone in enumerate(lanes) if not gone >> index & 1), None)

    def _keeps_ties(self, meeting: Meeting) -> bool:
        ties = self.question.ties
        return all(meeting.serves(who, role) for role, who in ties.must.items()) and not any(
            meeting.serves(who, role) for role, who in ties.never.items()
        )

    def asked_at(self, index: int, question: Question) -> Staffing:
        """The same for another question about one start."""
        return Joining(question, self.site, self.calendar, self._by_start.get(index, ()))

    def starts_with(self, only: frozenset[UUID], role: str | None = None) -> int:
        """The starts at which one of these schedules takes part, in `role` or in any."""
        return sum(
            1 << index
            for index, meetings in self._by_start.items()
            if any(one.serves(only, role) for one in meetings)
        )

    def starts_by(self, role: str) -> Mapping[UUID, int]:
        """For each schedule that serves in a role the starts at which it does."""
        found: dict[UUID, int] = {}
        for index, meetings in self._by_start.items():
            for who in {
                each.actor.schedule_id
                for one in meetings
                for each in one.staff
                if each.role == role
            }:
                found[who] = found.get(who, 0) | 1 << index
        return found

    def obstacles(self) -> Iterator[tuple[str, int, int]]:
        """List what stands between the question and its sessions."""
        [allowed] = self._allowed
        yield "group-session", (self.wanted & allowed).bit_count(), 0
        if self.question.patient is not None:
            there = self.wanted & allowed
            yield (
                "patient",
                (self.wanted & self.patient_free).bit_count(),
                (there & ~self.patient_free).bit_count(),
            )
        if self.question.only:
            with_them = self.starts_with(self.question.only)
            yield (
                "practitioner",
                (self.wanted & with_them).bit_count(),
                (self.wanted & allowed & ~with_them).bit_count(),
            )

    def openings(self) -> Iterator[Opening]:
        """List the sessions with a free place in the order of time."""
        for index in indexes(self.starts).tolist():
            for one in self._at(index):
                free = sum(not gone >> index & 1 for gone in self.calendar.taken_on(one.actor))
                yield Opening(
                    self.site,
                    one.starts_at,
                    one.ends_at,
                    one.staff,
                    group_session_id=one.id,
                    free=free,
                )

    def assign(self, index: int) -> tuple[Assignment, ...] | None:
        """A session that starts with granule `index`: its staff, and a place; None: there is none.

        Of several the first by which somebody takes part whom the question prefers.
        """
        if not self.starts >> index & 1:
            return None
        prefer = self.question.prefer
        one = min(self._at(index), key=lambda meeting: not meeting.serves(prefer))
        lane = self._free_lane(one)
        assert lane is not None
        place = Assignment(PLACE, one.actor, (lane,), one.starts_at, one.ends_at, one.ends_at)
        return (*one.staff, place)

    def _at(self, index: int) -> list[Meeting]:
        only = self.question.only
        return [one for one in self._by_start[index] if not only or one.serves(only)]
