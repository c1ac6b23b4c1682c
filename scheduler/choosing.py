"""Choosing: when each step of a course could take place, and who serves what a plan has placed.

Stands between the bits of availability.py and the plans of planning.py: from a calendar it
makes the choices of each step, and on a calendar it seats a plan: names everybody for each visit,
with what the visits before it take already gone.

Pure: no database, no clock, no Flask.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import takewhile
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np

from models.vocabulary import (
    ActorKind,
    AppointmentStatus,
    PractitionerRole,
    Severity,
    Stage,
    StepKind,
)
from notifications.wall_time import at_wall_time
from scheduler import readiness, rules
from scheduler.actors import Assignment, Calendar, Roster, Site
from scheduler.availability import Candidate, Hours, Staffing, days_of, hours_of
from scheduler.intervals import GRANULE, Frame, granules, indexes
from scheduler.joining import PLACE
from scheduler.problems import Array, Choices, Placed, Plan, Problem
from scheduler.protocols import Gate, Phase, Protocol, Step
from scheduler.readiness import Known
from scheduler.rules import Booked

DAY = timedelta(days=1)


def lead_of(protocol: Protocol) -> str:
    """The role whose holder a course should keep: the one most steps are tied by, or therapist."""
    tied = [tie.role for step in protocol.steps for tie in step.same]
    return max(tied, key=tied.count, default=PractitionerRole.THERAPIST.value)


def shortest_of(steps: Iterable[Step]) -> timedelta:
    """The shortest visit of a course: less room time than that is of no use to it."""
    return min((step.visit.length for step in steps), default=timedelta(0))


@dataclass(frozen=True, slots=True)
class Asking:
    """What makes choices of a step's bits."""

    lead: str
    """The role whose holder the course keeps."""
    useful: timedelta
    """Less room time beside a visit than this is lost."""
    shut: int = 0
    """Starts that something else shuts: gates, days on which the patient cannot come."""


def choices_of(step: Step, staffing: Staffing, asking: Asking, disliked: int = 0) -> Choices:
    """When a step could take place, with whom in the lead, and what each start wastes.

    `disliked` are the starts that break a wish. The question of `staffing` keeps to hard limits
    alone; bits are those of its calendar.
    """
    starts = staffing.starts & ~asking.shut
    by_lead: dict[UUID | None, Array] = {}
    for schedule_id, theirs in staffing.starts_by(asking.lead).items():
        if with_them := starts & theirs:
            by_lead[schedule_id] = indexes(with_them)
    if not any(_takes(phase, asking.lead) for phase in step.visit.phases):
        by_lead[None] = indexes(starts)
    wasted = _wasted(staffing, starts, granules(asking.useful))
    return Choices(step, by_lead, indexes(starts & disliked), wasted)


def _takes(phase: Phase, role: str) -> bool:
    return phase.role == role and not phase.present


def days_bits(frame: Frame, site: Site, days: Iterable[date]) -> int:
    """The granules of these wall days of a site."""
    bits = 0
    for day in days:
        bits |= days_of(frame, site.zone, day, day)
    return bits


def behind(frame: Frame, gates: Sequence[Gate], known: Known) -> int:
    """The granules at which a visit that starts then would find its booking shut by a gate."""
    bits, first = 0, 0
    for end in _parts(frame, readiness.turns(gates, known)):
        if readiness.assess(gates, known, frame.at(first)).shut(Stage.BOOKING):
            bits |= ((1 << (end - first)) - 1) << first
        first = end
    return bits


def _parts(frame: Frame, turns: Iterable[datetime]) -> list[int]:
    """Where stretches of a frame end within which nothing turns: a turn has a granule alone."""
    ends = {frame.size}
    for turn in turns:
        at = -((frame.start - turn) // GRANULE)  # the first granule at the turn or after it
        ends |= {one for one in (at, at + 1) if 0 < one < frame.size}
    return sorted(ends)


def outside(frame: Frame, site: Site, hours: Hours | None) -> int:
    """The granules that lie outside the hours that somebody wishes for."""
    if hours is None:
        return 0
    return ((1 << frame.size) - 1) & ~hours_of(frame, site.zone, hours)


def _wasted(staffing: Staffing, starts: int, useful: int) -> tuple[Array, Array]:
    """The starts, and how much room time each wastes at the least, in granules."""
    everywhere = indexes(starts)
    rooms = [one for one in staffing.served if _takes(one.phase, ActorKind.ROOM)]
    if not rooms:
        return everywhere, np.zeros_like(everywhere)
    least = np.full(staffing.calendar.frame.size, np.iinfo(np.int64).max)
    for one in rooms[0].candidates:
        here, lost = _wasted_in(staffing, one, rooms[0].phase, useful)
        least[here] = np.minimum(least[here], lost)
    return everywhere, least[everywhere]


def _wasted_in(
    staffing: Staffing, room: Candidate, phase: Phase, useful: int
) -> tuple[Array, Array]:
    """The starts for which a room is free, and what each wastes there. Worked out once."""
    known = {} if room.actor.is_capped else staffing.calendar.worked_out(room.actor)
    key = "wasted", staffing.site.site_id, phase, useful
    if key not in known:
        here = indexes(room.starts)
        free = _free(staffing.calendar, staffing.site, room.actor.schedule_id)
        known[key] = here, _beside(free, here, phase, useful)
    found: tuple[Array, Array] = known[key]
    return found


def _free(calendar: Calendar, site: Site, schedule_id: UUID) -> int:
    actor = calendar.roster.known[schedule_id]
    free = calendar.open_at(actor, site.site_id)
    for gone in calendar.taken_on(actor):
        free &= ~gone
    return free


def _beside(free: int, starts: Array, phase: Phase, useful: int) -> Array:
    """For each start what is left of the free stretch before and after, where it is of no use."""
    begins, ends = indexes(free & ~(free << 1)), indexes(free & ~(free >> 1)) + 1
    first = starts + granules(phase.start - phase.setup)
    last = first + granules(phase.setup + phase.end - phase.start + phase.turnover)
    stretch = np.searchsorted(begins, first, side="right") - 1
    before, after = first - begins[stretch], ends[stretch] - last
    wasted: Array = before * (before < useful) + after * (after < useful)
    return wasted


@dataclass(frozen=True, slots=True)
class Seated:
    """A visit of a plan, and everybody who serves it."""

    step: Step
    starts_at: datetime
    ends_at: datetime
    assignments: tuple[Assignment, ...]

    @property
    def group_session_id(self) -> UUID | None:
        """The group session in which it is a place, if it is one."""
        places = (one.actor.schedule_id for one in self.assignments if one.role == PLACE)
        return next(places, None)


@dataclass(frozen=True, slots=True)
class Refused:
    """A visit of a plan that cannot be served beside the others."""

    number: int
    starts: Sequence[int]
    """Its start, and others of the same lead that cannot be served either."""


def not_first_on(problem: Problem, day: date) -> Problem:
    """The problem without the starts of its first step on a day."""
    first, *others = problem.choices
    there = indexes(days_of(problem.frame, problem.zone, day, day))
    by_lead = {lead: np.setdiff1d(starts, there) for lead, starts in first.by_lead.items()}
    return replace(problem, choices=[replace(first, by_lead=by_lead), *others])


def but(problem: Problem, number: int, lead: UUID | None, starts: Sequence[int]) -> Problem:
    """The problem without some starts of a step with one lead: they cannot be served."""
    choices = list(problem.choices)
    by_lead = dict(choices[number].by_lead)
    by_lead[lead] = np.setdiff1d(by_lead[lead], starts)
    choices[number] = replace(choices[number], by_lead=by_lead)
    return replace(problem, choices=choices)


Usual = Mapping[StepKind, tuple[int, time]]
"""For each kind of visit the weekday and the wall time that most of them have."""


def usual_of(visits: Sequence[Seated], zone: ZoneInfo) -> Usual:
    """When the visits of each kind mostly are, the earlier of equals first."""
    times: dict[StepKind, Counter[tuple[int, time]]] = defaultdict(Counter)
    for one in visits:
        wall = one.starts_at.astimezone(zone)
        times[one.step.visit.kind][wall.weekday(), wall.time()] += 1
    return {kind: max(counted, key=lambda one: counted[one]) for kind, counted in times.items()}


def kept_even(problem: Problem, usual: Usual) -> Problem:
    """The problem in which a visit off its kind's usual time breaks a wish."""

    def unwished(choices: Choices) -> Array:
        weekday, wall = usual[choices.step.visit.kind]
        on = np.fromiter(_each_week(problem.frame, problem.zone, weekday, wall), dtype=np.int64)
        off = [np.setdiff1d(starts, on) for starts in choices.by_lead.values()]
        return np.unique(np.concatenate([choices.unwished, *off]))

    return replace(
        problem,
        choices=[replace(choices, unwished=unwished(choices)) for choices in problem.choices],
    )


def _each_week(frame: Frame, zone: ZoneInfo, weekday: int, wall: time) -> Iterator[int]:
    day = frame.start.astimezone(zone).date()
    day += (weekday - day.weekday()) % 7 * DAY
    while day <= frame.at(frame.size).astimezone(zone).date():
        yield frame.index(at_wall_time(datetime.combine(day, wall), zone))
        day += 7 * DAY


@dataclass(frozen=True, slots=True)
class Seating:
    """Where a plan is seated: the site, its calendar, the course so far."""

    site: Site
    calendar: Calendar
    protocol: Protocol
    fixed: Sequence[Booked]
    staffing: Mapping[str, Staffing]
    """Who could serve each step, at each start."""
    useful: timedelta
    is_shut: Callable[[Step, datetime, Sequence[datetime]], bool]
    """Whether a gate shuts the booking of a step then, with these doses of the plan."""

    def seat(self, plan: Plan, problem: Problem) -> "list[Seated] | Refused":
        """Name everybody for every visit; or say which cannot be served, beside those before it."""
        done: list[Seated] = []
        known = list(self.fixed)
        order = sorted(range(len(plan.placed)), key=lambda n: plan.placed[n].start)
        for number in order:
            one = plan.placed[number]
            start = self.calendar.frame.at(one.start)
            found = self._serve(one.step, start, one.lead, (known, done))
            if found is None:
                starts = problem.choices[number].by_lead[one.lead]
                return Refused(number, self._around(one, starts, (known, done)))
            done.append(Seated(one.step, start, start + one.step.visit.length, found))
            who = rules.who_of((each.role, each.actor.schedule_id) for each in found)
            known.append(
                Booked(one.step.key, one.step.visit.kind, AppointmentStatus.BOOKED, start, who)
            )
        return sorted(done, key=lambda one: one.step.position)

    def _around(
        self,
        refused: Placed,
        starts: Array,
        so_far: tuple[Sequence[Booked], Sequence[Seated]],
    ) -> list[int]:
        """The refused start and those right before and after it that cannot be served either.

        Of whoever serves as much as they may in a week not each start is asked in a plan of its
        own.
        """

        def is_shut(start: int) -> bool:
            moment = self.calendar.frame.at(start)
            return self._serve(refused.step, moment, refused.lead, so_far) is None

        before = reversed(starts[starts < refused.start].tolist())
        after = starts[starts > refused.start].tolist()
        return [*takewhile(is_shut, before), refused.start, *takewhile(is_shut, after)]

    def _serve(
        self,
        step: Step,
        start: datetime,
        lead: UUID | None,
        so_far: tuple[Sequence[Booked], Sequence[Seated]],
    ) -> tuple[Assignment, ...] | None:
        known, done = so_far
        doses = [one.starts_at for one in done if one.step.visit.kind is StepKind.DOSING]
        if self.is_shut(step, start, doses):
            return None
        could = self._who_could(step, start)
        only = frozenset() if lead is None else frozenset({lead})
        question = replace(
            self.staffing[step.key].question,
            earliest=start,
            latest=start + GRANULE,
            any_minute=True,
            patient=None,
            only=only,
            ties=rules.ties_of(step, self.protocol, known, but=(Severity.OFF,)),
        )
        index = self.calendar.frame.index(start)
        if not self.staffing[step.key].takes_time or self._is_by_itself(start, could, done):
            question = replace(question, prefer=only | self._best_known(step, index))
            return self.staffing[step.key].asked_at(index, question).assign(index)
        day = self._day(start, Roster([one.actor for _, one in could]), done)
        index = day.frame.index(start)
        rooms = [one.actor.schedule_id for phase, one in could if _takes(phase, ActorKind.ROOM)]
        question = replace(question, prefer=only | self._best_rooms(step, index, rooms, day))
        return Staffing(question, self.site, day).assign(index)

    def _is_by_itself(
        self, start: datetime, could: Sequence[tuple[Phase, Candidate]], done: Sequence[Seated]
    ) -> bool:
        """Whether no visit of the plan is so near that it could take anybody's time for this one.

        Then who could serve it is known, and need not be worked out again.
        """
        if any(one.actor.is_capped for _, one in could):
            return False
        first = min((start + phase.start - phase.setup for phase, _ in could), default=start)
        last = max((start + phase.end + phase.turnover for phase, _ in could), default=start)
        return not any(
            each.since < last and each.until > first for one in done for each in one.assignments
        )

    def _best_known(self, step: Step, index: int) -> frozenset[UUID]:
        """The rooms that waste least at a start, as far as nothing of the plan is near."""
        staffing = self.staffing[step.key]
        rooms = [one for one in staffing.served if _takes(one.phase, ActorKind.ROOM)]
        lost: dict[UUID, int] = {}
        for room in rooms[0].candidates if rooms else ():
            if room.starts >> index & 1:
                here, wasted = _wasted_in(staffing, room, rooms[0].phase, granules(self.useful))
                lost[room.actor.schedule_id] = int(wasted[np.searchsorted(here, index)])
        return frozenset(room for room, wasted in lost.items() if wasted == min(lost.values()))

    def _who_could(self, step: Step, start: datetime) -> list[tuple[Phase, Candidate]]:
        """Everybody who could serve a part of a step that begins then, whoever else does."""
        index = self.calendar.frame.index(start)
        return [
            (served.phase, one)
            for served in self.staffing[step.key].served
            for one in served.candidates
            if one.starts >> index & 1
        ]

    def _day(self, start: datetime, roster: Roster, done: Sequence[Seated]) -> Calendar:
        """The calendar around a visit, with what the plan's other visits take gone."""
        whole = self.calendar
        day = whole.part(roster, start, start + 2 * DAY)
        served: dict[UUID, list[datetime]] = {}
        for one in done:
            for each in {each.actor.schedule_id for each in one.assignments}:
                served.setdefault(each, []).append(one.starts_at)
        day.loads = {
            schedule_id: [*starts, *served.get(schedule_id, ())]
            for schedule_id, starts in (dict.fromkeys(served, ()) | dict(whole.loads)).items()
        }
        for one in done:
            day.take(one.assignments)
        return day

    def _best_rooms(
        self, step: Step, index: int, rooms: Sequence[UUID], day: Calendar
    ) -> frozenset[UUID]:
        """The rooms that waste least at a start."""
        if len(rooms) < 2:
            return frozenset(rooms)
        phase = next(one for one in step.visit.phases if _takes(one, ActorKind.ROOM))
        start, useful = np.array([index]), granules(self.useful)
        lost = {
            room: int(_beside(_free(day, self.site, room), start, phase, useful)[0])
            for room in rooms
        }
        return frozenset(room for room, wasted in lost.items() if wasted == min(lost.values()))
