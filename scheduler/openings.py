"""Openings: the free times for a visit, fetched and searched.

Between the facts and the pure search of availability.py: chooses the window, the sites and the
people, and explains an empty answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from uuid import UUID

from sqlalchemy.orm import Session

from models import CourseStep, Patient, Practitioner
from models.vocabulary import ActorKind, StepKind
from scheduler import availability, calendars, facts, rules
from scheduler.actors import Actor, Opening
from scheduler.availability import Question
from scheduler.calendars import Window
from scheduler.errors import Unfit
from scheduler.protocols import Protocol, Step, Visit
from scheduler.rules import Booked, Candidate

LONGEST_SEARCH = timedelta(days=92)
"""How far one search may reach."""

AHEAD = timedelta(days=28)
"""How far beyond an empty window the nearest opening is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What somebody is looking for. Either a kind of visit or a step of a course."""

    start: datetime
    end: datetime
    step_kind: StepKind | None = None
    course_step_id: UUID | None = None
    practitioner_id: UUID | None = None
    """One who must take part."""
    site_id: UUID | None = None
    patient_id: UUID | None = None
    """Whose time it takes as well; of a course step, the course's patient."""
    after: tuple[datetime, UUID] | None = None
    """Leave out what comes before, and this start at this site: a page's end."""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found; of an empty one, why, and what is nearest."""

    openings: Sequence[Opening]
    more: bool
    shut_by: Sequence[str] = ()
    """The roles, rooms or devices of which nobody is free at any time of the window."""
    nearest: Opening | None = None


def find(session: Session, search: Search, now: datetime) -> Found:
    """List the openings between `start` and `end`, in the order of time.

    Refuses with `NotFound` and `Unfit`.
    """
    if not timedelta(0) < search.end - search.start <= LONGEST_SEARCH:
        raise Unfit(f"Search between 0 and {LONGEST_SEARCH.days} days at a time.", field="to")
    found = list(islice(_all(session, search, now), search.limit + 1))
    if found or search.after is not None:
        return Found(found[: search.limit], len(found) > search.limit)
    later = replace(search, start=search.end, end=search.end + AHEAD)
    return Found([], False, _shut_by(session, search, now), next(_all(session, later, now), None))


def nearby(session: Session, search: Search, now: datetime, most: int = 3) -> list[Opening]:
    """The openings nearest to `search.start`, within a day either way."""
    wide = replace(
        search,
        start=search.start - timedelta(days=1),
        end=search.start + timedelta(days=1),
    )
    near = sorted(_all(session, wide, now), key=lambda found: abs(found.starts_at - search.start))
    return near[:most]


def _all(session: Session, search: Search, now: datetime) -> Iterator[Opening]:
    wanted = _wanted(session, search)
    start = max(search.start, now).astimezone(UTC)
    if start >= search.end:
        return
    actors = calendars.all_actors(session)
    patient = None if wanted.patient_id is None else _patient(session, wanted.patient_id)
    everybody = [*actors, patient] if patient is not None else actors
    window = Window(_hour_before(start), search.end + timedelta(days=1))
    calendar = calendars.load(session, everybody, window)
    question = Question(
        visit=wanted.visit,
        earliest=start + timedelta(microseconds=1) if start == now else start,
        latest=search.end,
        patient=patient,
        prefer=wanted.prefer,
        only=_only(session, search.practitioner_id),
    )
    sites = calendars.sites(session, search.site_id)
    found = merge(
        *(availability.search(question, site, calendar) for site in sites),
        key=lambda opening: (opening.starts_at, opening.site.site_id),
    )
    for opening in found:
        is_new = search.after is None or (opening.starts_at, opening.site.site_id) > search.after
        if is_new and wanted.keeps_the_rules(opening):
            yield opening


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is looked for, and what the course has to say about times."""

    visit: Visit
    patient_id: UUID | None
    prefer: frozenset[UUID] = frozenset()
    """Whom the course knows already."""
    protocol: Protocol | None = None
    step: Step | None = None
    others: Sequence[Booked] = ()

    def keeps_the_rules(self, opening: Opening) -> bool:
        """Whether a time could be booked without a reason. Asked of course steps alone."""
        if self.protocol is None or self.step is None:
            return True
        candidate = Candidate(self.step, self.visit.kind, opening.starts_at, opening.site.zone)
        return not rules.judge(candidate, self.protocol, self.others)


def _wanted(session: Session, search: Search) -> _Wanted:
    if search.course_step_id is not None:
        found = facts.one(session, CourseStep, search.course_step_id)
        course, protocol = facts.course_of(session, found.course_id)
        step = protocol.step(found.key)
        # A visit that the step has already is being moved: it is not in its own way.
        others = [
            visit
            for visit in facts.other_visits(session, course.patient_id, course.id)
            if visit.step != step.key
        ]
        therapists = facts.therapists_of(session, course.id)
        return _Wanted(step.visit, course.patient_id, therapists, protocol, step, others)
    if search.step_kind is None:
        raise Unfit("Say what the visit is for: a step_kind or a course_step_id.")
    _, _, visit = facts.visit_of_kind(session, search.step_kind)
    return _Wanted(visit, search.patient_id)


def _patient(session: Session, patient_id: UUID) -> Actor:
    patient = facts.one(session, Patient, patient_id)
    return Actor(patient.schedule_id, "", ActorKind.PATIENT, None, None, 1)


def _only(session: Session, practitioner_id: UUID | None) -> frozenset[UUID]:
    if practitioner_id is None:
        return frozenset()
    return frozenset({facts.one(session, Practitioner, practitioner_id).schedule_id})


def _shut_by(session: Session, search: Search, now: datetime) -> list[str]:
    """Which phases, each taken alone, nobody can serve at any time of the window."""
    visit = _wanted(session, search).visit
    actors = calendars.all_actors(session)
    start = max(search.start, now).astimezone(UTC)
    window = Window(_hour_before(start), search.end + timedelta(days=1))
    calendar = calendars.load(session, actors, window)
    shut = []
    for phase in visit.phases:
        alone = replace(visit, phases=(phase,))
        question = Question(visit=alone, earliest=start, latest=search.end)
        sites = calendars.sites(session, search.site_id)
        if not any(next(availability.search(question, site, calendar), None) for site in sites):
            shut.append(phase.role if phase.kind is None else f"{phase.kind} {phase.role}")
    return list(dict.fromkeys(shut))


def _hour_before(start: datetime) -> datetime:
    return start.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
