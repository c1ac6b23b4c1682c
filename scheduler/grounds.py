"""Grounds: a stretch of time at a site in which a course is to be placed.

Brings together the calendar of the site, the patient's own time and what is unplanned, and has
planning.py find the cheapest plans and choosing.py seat them. Reads only.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from models.vocabulary import ActorKind, Severity, Stage, StepKind
from scheduler import (
    ages,
    calendars,
    choosing,
    facts,
    joining,
    meetings,
    planning,
    readiness,
    rules,
    warmth,
)
from scheduler.actors import Actor, Assignment, Calendar, Site
from scheduler.availability import Question, Staffing, days_of
from scheduler.calendars import Window
from scheduler.choosing import Asking, Refused, Seated, Seating
from scheduler.joining import Meeting
from scheduler.problems import Array, Choices, Placed, Plan, Problem, leads_of
from scheduler.protocols import Step
from scheduler.readiness import Known
from scheduler.unplanned import Unplanned

DAY = timedelta(days=1)

TRIES = 40
"""How often a plan is made anew because its visits cannot be served together."""

ROUNDS = 3
"""How often a plan is made more even."""


class Way(NamedTuple):
    """One way to place the course."""

    site: Site
    plan: Plan
    visits: Sequence[Seated]

    @property
    def cost(self) -> int:
        """What it costs, in points."""
        return self.plan.cost

    @property
    def takes(self) -> Sequence[Sequence[Assignment]]:
        """What each of its visits takes."""
        return [visit.assignments for visit in self.visits]


@dataclass(frozen=True)
class Ground:
    """A stretch of time at a site in which a course is to be placed."""

    about: Unplanned
    site: Site
    calendar: Calendar
    patient: Actor
    meetings: Sequence[Meeting] = ()
    """The group sessions in which shared visits could have a place."""
    dear: Mapping[str, Array] = field(default_factory=dict)
    """For kinds of visits what each granule costs on top, as a start: others want it as well."""

    def anew(self, dear: Mapping[str, Array]) -> "Ground":
        """The same ground with the calendar as it is now; gates and wishes are not asked again."""
        fresh = replace(self, dear=dear)
        fresh.__dict__.update(_shut=self._shut, _kinds=self._kinds, _questions=self._questions)
        return fresh

    @cached_property
    def problem(self) -> Problem:
        """The course as a problem for planning.py."""
        about, frame = self.about, self.calendar.frame
        served = Counter(
            who for visit in about.fixed for who in visit.who.get(about.role, ()) if visit.step
        )
        return Problem(
            protocol=about.protocol,
            frame=frame,
            zone=self.site.zone,
            choices=[self._choices(step) for step in about.to_place],
            fixed=about.fixed,
            served=served,
            earliest=frame.index(about.begin),
            dear=self.dear,
        )

    @cached_property
    def seating(self) -> Seating:
        """Where its plans are seated."""
        about = self.about
        return Seating(
            self.site,
            self.calendar,
            about.protocol,
            about.fixed,
            {step.key: self.staffing(step) for step in about.to_place},
            choosing.shortest_of(about.protocol.steps),
            self._is_shut,
        )

    def _is_shut(self, step: Step, at: datetime, doses: Sequence[datetime]) -> bool:
        """Whether a booking gate is shut then, with these doses of the plan before it."""
        gates = [gate for gate in step.visit.gates if gate.code in self.gates(step)]
        if all(gate.longest_gap is None for gate in gates):
            return False  # nothing that was not asked before
        known = self.about.known(step)
        known = replace(known, doses=(*known.doses, *doses))
        return bool(readiness.assess(gates, known, at).shut(Stage.BOOKING))

    def way(
        self,
        leads: Iterable[UUID | None] = (),
        *,
        first: int | None = None,
        not_first_on: date | None = None,
        below: int | None = None,
    ) -> Way | None:
        """Find the cheapest plan of which every visit can be served.

        `leads`: who may lead, if not all that the wishes allow; `first`: so many steps alone;
        `not_first_on`: a day on which it must not begin; `below`: none that costs as much.
        """
        chosen = tuple(leads) or tuple(self.about.leads)
        problem = replace(self.problem, choices=self.problem.choices[:first])
        if not_first_on is not None:
            problem = choosing.not_first_on(problem, not_first_on)
        found = self._seated(problem, chosen, planning.NEVER if below is None else below)
        if found is None or not self.about.wishes.same_time:
            return found
        return self._more_even(problem, found, chosen)

    def lacks(self, dear: Mapping[str, Array]) -> Iterator[Placed]:
        """The visits of its cheapest plan at these prices that can no longer take place then.

        The ground is as it was when it was first planned on; the calendar is as it is now.
        """
        plan = planning.plan(replace(self.problem, dear=dear), self.about.leads)
        now = self.anew({})
        for one in () if plan is None else plan.placed:
            if not now.staffing(one.step).starts >> one.start & 1:
                yield one

    def staffing(self, step: Step) -> Staffing:
        """Who could serve a step, at each start."""
        return self._staffing[self._asked(step)]

    def is_proven(self, way: Way) -> bool:
        """Whether no plan that ends beyond the ground's time could cost less."""
        late = self.calendar.frame.size - self.problem.earliest
        return self.problem.weights.finish * late >= way.plan.cost

    def shut(self, step: Step) -> int:
        """The starts that a booking gate, the patient's age or their wishes shut."""
        key = self._kind(step)
        if key not in self._shut:
            self._shut[key] = self._shut_anew(step)
        return self._shut[key]

    def _shut_anew(self, step: Step) -> int:
        bits = choosing.days_bits(self.calendar.frame, self.site, self.about.wishes.not_on)
        bits |= self._too_young()
        for code in self.gates(step):
            bits |= self.behind(step, code)
        return bits

    def gates(self, step: Step) -> list[str]:
        """The gates that shut the booking of a step, unless they are waived."""
        about = self.about
        gates = [gate.code for gate in step.visit.gates if gate.shuts is Stage.BOOKING]
        return [code for code in gates if code not in about.waived]

    def behind(self, step: Step, code: str) -> int:
        """The starts at which a gate is shut."""
        gates = [gate for gate in step.visit.gates if gate.code == code]
        return choosing.behind(self.calendar.frame, gates, self.known(step))

    def known(self, step: Step) -> Known:
        """What the gates of a step are judged by before anything of the plan is placed.

        How long ago the last dose is by then is not known where one of the plan comes first:
        that is asked when the plan is seated.
        """
        known = self.about.known(step)
        return replace(known, doses=()) if self._follows_dose(step) else known

    def _follows_dose(self, step: Step) -> bool:
        return any(
            one.visit.kind is StepKind.DOSING and one.position < step.position
            for one in self.about.to_place
        )

    def _too_young(self) -> int:
        """The granules of the days on which the patient is younger than the protocol wants."""
        frame, zone = self.calendar.frame, self.site.zone
        grown = ages.of_age(self.about.patient.birth_date, self.about.protocol.minimum_age)
        first = frame.start.astimezone(zone).date() - DAY
        return days_of(frame, zone, first, grown - DAY) if first < grown else 0

    def _seated(
        self, problem: Problem, leads: Sequence[UUID | None], below: int = planning.NEVER
    ) -> Way | None:
        """Seat the cheapest plan; what refuses it is struck out for that lead alone."""
        open_ = _Open(below)
        open_.add(problem, leads or leads_of(problem))
        for number in range(TRIES):
            found = open_.cheapest()
            if found is None:
                return None
            plan, struck, others = found
            seated = self.seating.seat(plan, struck)
            if not isinstance(seated, Refused):
                is_best = plan.is_best and number == 0  # what was struck out might fit elsewhere
                return Way(self.site, replace(plan, is_best=is_best), seated)
            lead = plan.placed[seated.number].lead
            open_.add(choosing.but(struck, seated.number, lead, seated.starts), [plan.lead])
            open_.add(struck, [one for one in others if one != plan.lead])
        return None

    def _more_even(self, problem: Problem, way: Way, leads: Sequence[UUID | None]) -> Way:
        """Plan again with every visit that is off its kind's usual time as a broken wish."""
        least = way.plan.cost
        usual: choosing.Usual = {}
        for _ in range(ROUNDS):
            before, usual = usual, choosing.usual_of(way.visits, self.site.zone)
            if usual == before:
                break
            way = self._seated(choosing.kept_even(problem, usual), leads) or way
        proven = way.plan.cost == least
        return way._replace(plan=replace(way.plan, is_best=way.plan.is_best and proven))

    def _choices(self, step: Step) -> Choices:
        about, shut = self.about, self.shut(step)
        key = self._asked(step), shut
        made = self._made.get(key)
        if made is None:
            staffing = self.staffing(step)
            asking = Asking(about.role, choosing.shortest_of(about.protocol.steps), shut)
            disliked = choosing.outside(self.calendar.frame, self.site, about.wishes.hours)
            made = self._made[key] = choosing.choices_of(step, staffing, asking, disliked)
        return replace(made, step=step, is_bound=self._is_bound(step))

    def _is_bound(self, step: Step) -> bool:
        """Whether a tie of the protocol binds who leads the step to another step of the plan."""
        keys = {one.key for one in self.about.to_place}
        ties = [
            (one.key, tie.step)
            for one in self.about.to_place
            for tie in one.same
            if tie.role == self.about.role and tie.severity is not Severity.OFF
        ]
        return any(step.key in pair and keys.issuperset(pair) for pair in ties)

    def _kind(self, step: Step) -> object:
        """Steps of one kind ask the same of everybody."""
        if step.key not in self._kinds:
            self._kinds[step.key] = self._kind_anew(step)
        return self._kinds[step.key]

    def _kind_anew(self, step: Step) -> object:
        return self._asked(step), self.known(step).first_of_kind, self._follows_dose(step)

    def _asked(self, step: Step) -> object:
        """What a step asks of everybody but for its gates."""
        if step.key not in self._questions:
            self._questions[step.key] = self._asked_anew(step)
        return self._questions[step.key]

    def _asked_anew(self, step: Step) -> object:
        about = self.about
        ties = rules.ties_of(step, about.protocol, about.fixed, but=(Severity.OFF,))
        named = [
            sorted((role, *map(str, who)) for role, who in one.items())
            for one in (ties.must, ties.never)
        ]
        return step.visit.key, str(named)

    @cached_property
    def _questions(self) -> dict[str, object]:
        return {}

    @cached_property
    def _kinds(self) -> dict[str, object]:
        return {}

    @cached_property
    def _shut(self) -> dict[object, int]:
        return {}

    @cached_property
    def _made(self) -> dict[object, Choices]:
        return {}

    @cached_property
    def _staffing(self) -> dict[object, Staffing]:
        found: dict[object, Staffing] = {}
        for step in self.about.to_place:
            key = self._asked(step)
            if key not in found:
                found[key] = joining.staffing(
                    self._question(step), self.site, self.calendar, self.meetings
                )
        return found

    def _question(self, step: Step) -> Question:
        about, frame = self.about, self.calendar.frame
        earliest, latest = about.begin, about.wishes.latest or frame.at(frame.size)
        soonest, furthest = rules.notice_of(step.visit, about.now, self.site.zone)
        if soonest is not None and "short-notice" not in about.waived:
            earliest = max(earliest, soonest)
        if furthest is not None and "far-ahead" not in about.waived:
            latest = min(latest, furthest)
        return Question(
            visit=step.visit,
            earliest=max(earliest, about.now + timedelta(microseconds=1)).astimezone(UTC),
            latest=latest.astimezone(UTC),
            patient=self.patient,
            region=facts.region_of(about.patient, step.visit),
            ties=rules.ties_of(step, about.protocol, about.fixed, but=(Severity.OFF,)),
        )


class _Open:
    """Plans that nobody has tried to seat yet, each with its problem and who may lead it."""

    def __init__(self, below: int) -> None:
        self._below = below
        self._plans: list[tuple[int, int, Plan, Problem, Sequence[UUID | None]]] = []
        self._made = count()

    def add(self, problem: Problem, leads: Sequence[UUID | None]) -> None:
        """Add the cheapest plan that one of `leads` leads, if there is one."""
        plan = planning.plan(problem, leads, below=self._below) if leads else None
        if plan is not None:
            heappush(self._plans, (plan.rank, next(self._made), plan, problem, leads))

    def cheapest(self) -> tuple[Plan, Problem, Sequence[UUID | None]] | None:
        """Take the cheapest plan away; None if none is left."""
        if not self._plans:
            return None
        _, _, plan, problem, leads = heappop(self._plans)
        return plan, problem, leads


def widening(session: Session, about: Unplanned) -> Iterator[list[Ground]]:
    """The sites at which the course could take place, over ever longer stretches of time."""
    for length in about.lengths():
        yield over(session, about, length)


def over(session: Session, about: Unplanned, length: timedelta) -> list[Ground]:
    """The sites at which the course could take place, over one stretch of time."""
    begin = about.begin.astimezone(UTC)
    [found], _ = shared(session, [about], begin, begin + length)
    return found


def shared(
    session: Session, abouts: Sequence[Unplanned], begin: datetime, end: datetime
) -> tuple[list[list[Ground]], Calendar]:
    """For each course the sites at which it could take place, maybe none; all on one calendar."""
    around = warmth.around(session, begin, end + DAY)
    calendar = around.calendar
    window = Window(calendar.frame.start, calendar.frame.at(calendar.frame.size))
    calendar.loads = calendars.loads(session, calendar.roster.actors, window)
    people = {
        about.patient.schedule_id: Actor(
            about.patient.schedule_id, "", ActorKind.PATIENT, None, None, 1
        )
        for about in abouts
    }
    spans = calendars.taken_spans(session, list(people), window)
    for schedule_id, patient in people.items():
        calendar.know(patient, spans.get(schedule_id, {}))
    held = _meetings(session, abouts, begin, end)
    joining.know(calendar, held)
    found = [
        [
            Ground(about, site, calendar, people[about.patient.schedule_id], held)
            for site in around.sites
            if about.wishes.site_id in {None, site.site_id}
        ]
        for about in abouts
    ]
    return found, calendar


def _meetings(
    session: Session, abouts: Sequence[Unplanned], begin: datetime, end: datetime
) -> list[Meeting]:
    """The group sessions ahead, if anybody is to have a place in one."""
    if all(step.visit.group is None for about in abouts for step in about.to_place):
        return []
    return meetings.ahead(session, begin, end)
