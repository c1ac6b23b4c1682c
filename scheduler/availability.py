"""Availability: when could this visit take place, and on whose time?

Each phase of a visit asks for one actor of a kind. An actor's free time at a site is a
number with a bit for every five minutes; the actors that could serve a phase are OR-ed, the
phases of the visit AND-ed, and what is left are the starts. For each start that is wanted,
`assign` then names the actors.

The same `assign` serves a booking that leaves the choice to us and, with the actors given,
one that does not: so a time that is offered can be booked.

Pure: no database, no clock, no Flask. All datetimes are aware.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from scheduler.actors import Actor, Assignment, Calendar, Opening, Site
from scheduler.intervals import GRANULE, Frame, granules, positions, runs
from scheduler.protocols import Phase, Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is looked for."""

    visit: Visit
    earliest: datetime
    """Nothing starts before."""
    latest: datetime
    """Nothing starts at or after."""
    grid: timedelta = timedelta(minutes=15)
    """Starts lie on multiples of it by the site's wall clock."""
    patient: Actor | None = None
    """Whose time it takes as well. None: anybody's."""
    prefer: frozenset[UUID] = frozenset()
    """Schedules to choose first: the course's therapist."""
    only: frozenset[UUID] = frozenset()
    """Practitioners' schedules of which one must take part; empty: no matter."""


def search(question: Question, site: Site, calendar: Calendar) -> Iterator[Opening]:
    """List the openings of a visit at a site, in the order of time."""
    starts = _starts(question, site, calendar)
    for index in positions(starts):
        start = calendar.frame.at(index)
        if not _on_grid(start, question.grid, site.zone):
            continue
        found = assign(question, site, calendar, start)
        if found is not None:
            yield Opening(site, start, start + question.visit.length, found)


def assign(
    question: Question, site: Site, calendar: Calendar, start: datetime
) -> tuple[Assignment, ...] | None:
    """Name an actor for every phase of a visit that starts at `start`, or None.

    No actor serves two phases at once. Of several that could, those the question prefers come
    first, then those who serve another phase of the visit already, then the order of names.
    """
    if not is_stood_by(question.visit, site, calendar, start):
        return None
    phases = [phase for phase in question.visit.phases if not phase.present]
    return _Attempt(question, site, calendar, start).place(phases, ())


def is_stood_by(visit: Visit, site: Site, calendar: Calendar, start: datetime) -> bool:
    """Whether everybody whom the visit merely wants on site works there throughout."""
    return all(
        any(_stands_by(actor, phase, site, calendar, start) for actor in calendar.actors)
        for phase in visit.phases
        if phase.present
    )


def free_lanes(
    actor: Actor, phase: Phase, site: Site, calendar: Calendar, start: datetime
) -> tuple[int, ...]:
    """The lanes that the phase would take of the actor at `start`; empty if it cannot.

    A shared phase takes one lane, any other takes the whole actor.
    """
    if not actor.is_licensed(phase.role, start.astimezone(site.zone).date()):
        return ()
    wanted = _wanted(phase, calendar.frame, start)
    if wanted & ~calendar.open_at(actor, site.site_id):
        return ()
    free = [lane for lane, gone in enumerate(calendar.taken_on(actor)) if not wanted & gone]
    if phase.shared:
        return tuple(free[:1])
    return tuple(free) if len(free) == actor.lanes else ()


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One start, to be staffed by trying actors in turn."""

    question: Question
    site: Site
    calendar: Calendar
    start: datetime

    def place(
        self, phases: Sequence[Phase], placed: tuple[Assignment, ...]
    ) -> tuple[Assignment, ...] | None:
        """Serve the remaining phases beside those `placed`; None if it cannot be done."""
        if not phases:
            return placed if self._has_whom_it_must(placed) else None
        for assignment in self._choices(phases[0], placed):
            done = self.place(phases[1:], (*placed, assignment))
            if done is not None:
                return done
        return None

    def _has_whom_it_must(self, placed: Sequence[Assignment]) -> bool:
        only = self.question.only
        return not only or any(a.actor.schedule_id in only for a in placed)

    def _choices(self, phase: Phase, placed: Sequence[Assignment]) -> Iterator[Assignment]:
        begin, end = self.start + phase.start, self.start + phase.end
        until = end + phase.turnover
        busy = {a.actor.schedule_id for a in placed if a.starts_at < until and begin < a.until}
        there = {a.actor.schedule_id for a in placed}
        for actor in self._in_order(phase, there):
            if actor.schedule_id not in busy:
                lanes = free_lanes(actor, phase, self.site, self.calendar, self.start)
                if lanes:
                    yield Assignment(phase.role, actor, lanes, begin, end, until)

    def _in_order(self, phase: Phase, there: set[UUID]) -> Iterable[Actor]:
        question = self.question
        return sorted(
            (actor for actor in self.calendar.actors if actor.could_serve(phase)),
            key=lambda actor: (
                actor.schedule_id not in question.only,
                actor.schedule_id not in question.prefer,
                actor.schedule_id not in there,
                actor.name,
            ),
        )


def _stands_by(actor: Actor, phase: Phase, site: Site, calendar: Calendar, start: datetime) -> bool:
    """Whether the actor works at the site throughout the phase; taken or not is no matter."""
    return (
        actor.could_serve(phase)
        and actor.is_licensed(phase.role, start.astimezone(site.zone).date())
        and not _wanted(phase, calendar.frame, start) & ~calendar.open_at(actor, site.site_id)
    )


def _wanted(phase: Phase, frame: Frame, start: datetime) -> int:
    """The granules of a phase; -1, which nobody has, if the frame does not hold them all."""
    first = (start + phase.start - frame.start) // GRANULE
    length = granules(phase.end + phase.turnover - phase.start)
    if first < 0 or first + length > frame.size:
        return -1
    return ((1 << length) - 1) << first


def _starts(question: Question, site: Site, calendar: Calendar) -> int:
    """The starts for which each phase, taken alone, has somebody."""
    frame = calendar.frame
    starts = frame.inside([(question.earliest, question.latest)])
    if question.patient is not None:
        gone = calendar.taken_on(question.patient)[0]
        free = ((1 << frame.size) - 1) & ~gone
        starts &= runs(free, granules(question.visit.length))
    for phase in question.visit.phases:
        served = 0
        for actor in calendar.actors:
            if actor.could_serve(phase):
                served |= _runs_of(actor, phase, site, calendar)
        starts &= served >> (phase.start // GRANULE)
    return starts


def _runs_of(actor: Actor, phase: Phase, site: Site, calendar: Calendar) -> int:
    length = granules(phase.end + phase.turnover - phase.start)
    opened = calendar.open_at(actor, site.site_id)
    if phase.present:
        return runs(opened, length)
    lanes = calendar.taken_on(actor)
    if not phase.shared:
        gone = 0
        for lane in lanes:
            gone |= lane
        return runs(opened & ~gone, length)
    found = 0
    for lane in lanes:
        found |= runs(opened & ~lane, length)
    return found


def _on_grid(start: datetime, grid: timedelta, zone: ZoneInfo) -> bool:
    wall = start.astimezone(zone)
    return (wall.hour * 60 + wall.minute) % (grid // timedelta(minutes=1)) == 0
