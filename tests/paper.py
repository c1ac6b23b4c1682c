"""A clinic on paper: people, rooms, and courses planned in it, without a database."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from models.vocabulary import ActorKind
from scheduler import choosing, planning, protocols
from scheduler.actors import Actor, Assignment, Calendar, Licence, Roster, Site
from scheduler.availability import Question, Staffing
from scheduler.board import Case, Visit, booked
from scheduler.choosing import Asking
from scheduler.problems import Problem, Weights
from scheduler.protocols import Protocol
from scheduler.timeline import DAY, Timeline, epoch_granule
from tests.factories import figure, protocol_content

ZONE = ZoneInfo("America/New_York")
SITE = Site(UUID(int=900), "Main", ZONE)
MONDAY = datetime(2027, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def three_doses() -> Protocol:
    """A preparation and three doses, each with its integration."""
    content = protocol_content()
    content["steps"] = [{"key": "preparation", "visit": "preparation"}]
    before = ("preparation", (1, "d"), (14, "d"))
    for number in range(1, 4):
        dose = f"dosing-{number}"
        content["steps"] += [
            _step(dose, "dosing", before),
            _step(f"integration-{number}", "integration", (dose, (24, "h"), (72, "h"))),
        ]
        before = (dose, (5, "d"), (21, "d"))
    return protocols.read(content)


def _step(key: str, visit: str, after: tuple[str, Any, Any]) -> dict[str, Any]:
    anchor, least, most = after
    window = {"step": anchor, "least": figure(*least), "most": figure(*most)}
    return {"key": key, "visit": visit, "after": [{**window, "severity": "block", "lift": []}]}


@dataclass
class Paper:
    """The clinic, with what is taken in it so far."""

    days: int = 56
    therapists: int = 3
    prescribers: int = 2
    monitors: int = 2
    lanes: int = 2
    """How many patients a monitor watches at once."""
    dosing_rooms: int = 2
    """Each with a device."""
    consulting_rooms: int = 2
    actors: list[Actor] = field(default_factory=list)
    opened: dict[UUID, list[tuple[datetime, datetime]]] = field(default_factory=dict)
    taken: dict[UUID, list[tuple[int, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role, count, lanes in (
            ("therapist", self.therapists, 1),
            ("prescriber", self.prescribers, 1),
            ("monitor", self.monitors, self.lanes),
        ):
            for number in range(count):
                licence = Licence(role, date(2020, 1, 1), date(2030, 1, 1))
                self._add(ActorKind.PRACTITIONER, f"{role} {number}", None, (licence, lanes))
        for kind, what, count in (
            (ActorKind.ROOM, "dosing", self.dosing_rooms),
            (ActorKind.ROOM, "consulting", self.consulting_rooms),
            (ActorKind.DEVICE, "monitor", self.dosing_rooms),
        ):
            for number in range(count):
                self._add(kind, f"{what} {number}", what, (None, 1))

    def _add(
        self, kind: ActorKind, name: str, what: str | None, can: tuple[Licence | None, int]
    ) -> None:
        licence, lanes = can
        licences = () if licence is None else (licence,)
        site = SITE.site_id if what else None
        key = UUID(int=len(self.actors) + 1)
        self.actors.append(Actor(key, name, kind, what, site, lanes, licences))
        self.opened[key] = list(working_days(MONDAY, self.days))

    def named(self, name: str) -> UUID:
        """The schedule of somebody."""
        return next(one.schedule_id for one in self.actors if one.name == name)

    def fill(self, dice: random.Random, share: float) -> None:
        """Take about this share of everybody's days, an afternoon or a morning at a time."""
        for actor in self.actors:
            for start, _ in self.opened[actor.schedule_id]:
                if dice.random() < share:
                    begin = start + dice.choice([0, 4]) * HOUR
                    spans = self.taken.setdefault(actor.schedule_id, [])
                    spans.append((epoch_granule(begin), epoch_granule(begin + 4 * HOUR)))

    def shut(self, schedule_id: UUID, start: datetime, end: datetime) -> None:
        """Let somebody be away."""
        self.opened[schedule_id] = [
            one for one in self.opened[schedule_id] if one[1] <= start or one[0] >= end
        ]

    def calendar(self, cases: Iterable[Case] = (), since: datetime = MONDAY) -> Calendar:
        """Who is open and taken from a day on, the visits of the cases included."""
        timeline = Timeline(MONDAY, self.days)
        for actor in self.actors:
            stretches = [(SITE.site_id, one) for one in self.opened[actor.schedule_id]]
            timeline.set_open(actor.schedule_id, stretches)
            gone = self.taken.get(actor.schedule_id, [])
            timeline.set_taken(actor.schedule_id, dict.fromkeys(range(actor.lanes), gone))
        end = MONDAY + self.days * DAY
        calendar = Calendar.over(timeline, Roster(self.actors), since, end)
        for case in cases:
            calendar.know(case.patient, {})
        for case in cases:
            for visit in case.visits:
                calendar.take(visit.assignments)
        return calendar

    def cases(self, protocol: Protocol, count: int, begun: timedelta | None = None) -> list[Case]:
        """Plan courses one after the other; fewer if there is no room.

        Each as early as can be; with `begun` unhurried, their beginnings spread over so long.
        """
        calendar = self.calendar()
        made = (
            planned(
                calendar,
                protocol,
                number,
                begin=None if begun is None else MONDAY + number * begun // count // DAY * DAY,
            )
            for number in range(count)
        )
        return [case for case in made if case is not None]


def working_days(first: datetime, days: int) -> Iterable[tuple[datetime, datetime]]:
    """9 to 17 in New York, Monday to Friday."""
    for number in range(days):
        wall = datetime(first.year, first.month, first.day, 9) + number * DAY
        if wall.weekday() < 5:
            start = wall.replace(tzinfo=ZONE).astimezone(UTC)
            yield start, start + 8 * HOUR


def planned(
    calendar: Calendar,
    protocol: Protocol,
    number: int,
    site: Site = SITE,
    begin: datetime | None = None,
) -> Case | None:
    """A course planned on a calendar, whose time it takes there; None: it has no room.

    As early as can be; or begun in the week from `begin` on, and then unhurried.
    """
    patient = Actor(UUID(int=5000 + number), "", ActorKind.PATIENT, None, None, 1)
    calendar.know(patient, {})
    lead = choosing.lead_of(protocol)
    useful = choosing.shortest_of(protocol.steps)
    end = calendar.frame.at(calendar.frame.size)
    questions = {
        step.key: Question(visit=step.visit, earliest=begin or calendar.frame.start, latest=end)
        for step in protocol.steps
    }
    if begin is not None:
        first = protocol.steps[0].key
        questions[first] = replace(questions[first], latest=begin + 7 * DAY)
    choices = [
        choosing.choices_of(
            step, Staffing(questions[step.key], site, calendar), Asking(lead, useful)
        )
        for step in protocol.steps
    ]
    problem = Problem(
        protocol=protocol,
        frame=calendar.frame,
        zone=site.zone,
        choices=choices,
        weights=Weights() if begin is None else Weights(finish=0),
    )
    for _ in range(10):
        plan = planning.plan(problem)
        if plan is None:
            return None
        served: list[tuple[Assignment, ...]] = []
        for place, one in enumerate(plan.placed):
            staffing = Staffing(
                replace(
                    questions[one.step.key],
                    only=frozenset() if one.lead is None else frozenset({one.lead}),
                ),
                site,
                calendar,
            )
            found = staffing.assign(one.start)
            if found is None:
                problem = choosing.but(problem, place, one.lead, [one.start])
                break
            start = calendar.frame.at(one.start)
            over = start + one.step.visit.length
            served.append((*found, Assignment("patient", patient, (0,), start, over, over)))
            calendar.take(served[-1])
        else:
            visits = [
                Visit(
                    id=UUID(int=10_000 + 100 * number + place),
                    step=one.step,
                    at=calendar.frame.at(one.start),
                    assignments=mine,
                    earliest=calendar.frame.start,
                )
                for place, (one, mine) in enumerate(zip(plan.placed, served, strict=True))
            ]
            return Case(
                patient=patient,
                protocol=protocol,
                site=site,
                visits=tuple(visits),
                lead_role=lead,
                lead=plan.lead,
            )
        for mine in served:
            calendar.give_back(mine)
    return None


def ahead(case: Case, now: datetime) -> Case:
    """What is left of a course: its visits so far are fixed."""
    past = [booked(case, one, one.at, one.assignments) for one in case.visits if one.at < now]
    left = tuple(replace(one, earliest=now) for one in case.visits if one.at >= now)
    return replace(case, visits=left, fixed=past)


def struck(
    cases: Sequence[Case], schedule_id: UUID, start: datetime, end: datetime, why: str = "away"
) -> list[Case]:
    """The cases, with those visits broken that need somebody while they are away."""
    return [
        replace(
            case,
            visits=tuple(
                replace(visit, why=why)
                if any(
                    one.actor.schedule_id == schedule_id and one.since < end and one.until > start
                    for one in visit.assignments
                )
                else visit
                for visit in case.visits
            ),
        )
        for case in cases
    ]
