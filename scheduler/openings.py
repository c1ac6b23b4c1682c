"""Openings: the free times for a visit, fetched and searched.

Between the facts and the pure search of availability.py: chooses the window, the sites and the
people, keeps to what the course and its gates ask, and explains an empty answer.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from heapq import merge
from itertools import islice
from uuid import UUID

from sqlalchemy.orm import Session

from models import Practitioner
from models.vocabulary import ActorKind, AppointmentStatus, PractitionerRole, Stage, StepKind
from scheduler import ages, calendars, evidence, facts, joining, meetings, readiness, rules, warmth
from scheduler.actors import Actor, Calendar, Opening, Site
from scheduler.availability import Hours, Question, Staffing
from scheduler.calendars import Window
from scheduler.errors import Unfit
from scheduler.facts import Brief
from scheduler.joining import Meeting
from scheduler.protocols import Visit
from scheduler.readiness import Known
from scheduler.rules import Booked, Candidate, Ties
from scheduler.timeline import DAY
from scheduler.warmth import Around

LONGEST_SEARCH = timedelta(days=92)
"""How far one search may reach."""

AHEAD = timedelta(days=28)
"""How far beyond an empty window the nearest opening is looked for."""

BEFORE = timedelta(days=7)
"""How far before an empty window the nearest opening is looked for."""

LOOKED_AT = 300
"""Of how many times that the course shuts the reasons are counted."""


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
    hours: Hours | None = None
    """Times of the week to keep to."""
    within_notice: bool = False
    """Also times that are nearer than the visit's notice, marked as to be asked for by phone."""
    alone: bool = False
    """Of a visit that several patients share: times for one alone, who makes it up."""
    after: tuple[datetime, UUID] | None = None
    """Leave out what comes before, and this start there: a page's end. See `Opening.where`."""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Shut:
    """Something that shuts a window: a role, a room, a rule, a gate, the patient."""

    code: str
    detail: str
    would_open: int
    """How many times would be open but for it."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """The nearest opening if one wish were let go."""

    change: str
    """Which: `practitioner`, `site`, `hours`, `notice` (shorter, with a reason), `alone`,
    `earlier` or `later`."""
    opening: Opening


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found; of an empty one, why, and what is near."""

    openings: Sequence[Opening]
    more: bool
    shut_by: Sequence[Shut] = ()
    """What shuts most first."""
    alternatives: Sequence[Alternative] = ()


def find(session: Session, search: Search, now: datetime) -> Found:
    """List the openings between `start` and `end`, in the order of time.

    What is found could be booked at once and without a reason, but for times within the
    notice where the search asks for them. Refuses with `NotFound`, `CourseClosed` and `Unfit`.
    """
    if not timedelta(0) < search.end - search.start <= LONGEST_SEARCH:
        raise Unfit(f"Search between 0 and {LONGEST_SEARCH.days} days at a time.", field="to")
    around = _around(session, search, now)
    wanted = _wanted(session, search, around.default_version)
    looking = _Looking(session, search, wanted, now, around)
    found = list(islice(looking.openings(), search.limit + 1))
    if found or search.after is not None:
        return Found(found[: search.limit], len(found) > search.limit)
    return Found([], False, looking.shut_by(), _alternatives(session, search, wanted, now))


def first(session: Session, search: Search, now: datetime) -> Opening | None:
    """The first opening that `find` would list, without a word about why there is none."""
    return next(_Looking(session, search, _wanted(session, search), now).openings(), None)


def nearby(session: Session, search: Search, now: datetime, most: int = 3) -> list[Opening]:
    """The openings nearest to `search.start`, within a day either way."""
    wide = replace(
        search,
        start=search.start - timedelta(days=1),
        end=search.start + timedelta(days=1),
    )
    found = _Looking(session, wide, _wanted(session, search), now).openings()
    near = sorted(found, key=lambda found: abs(found.starts_at - search.start))
    return near[:most]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is looked for, and what the patient's course has to say about times."""

    visit: Visit
    about: Brief | None = None
    """None: whoever the patient is, and whatever their course says."""
    prefer: frozenset[UUID] = frozenset()
    """Whom the course knows already."""
    others: Sequence[Booked] = ()
    known: Known | None = None
    """What the gates of the booking are judged by."""
    moving: UUID | None = None
    """The visit that the step has already: it is not in its own way."""

    def region(self) -> str | None:
        """The state in which who serves must be licensed, of a visit by video."""
        return None if self.about is None else self.about.region()

    def objections(self, opening: Opening) -> list[tuple[str, str]]:
        """What would keep the time from being booked without a reason: codes with details."""
        if self.about is None:
            return []
        start, zone = opening.starts_at, opening.site.zone
        found = self._too_young(start.astimezone(zone).date())
        if self.known is not None:
            judged = readiness.assess(self.visit.gates, self.known, start)
            found += [(one.gate.code, one.detail) for one in judged.shut(Stage.BOOKING)]
        who = rules.who_of((one.role, one.actor.schedule_id) for one in opening.assignments)
        candidate = Candidate(self.about.step, self.visit.kind, start, zone, who)
        broken = rules.judge(candidate, self.about.protocol, self.others)
        return found + [(one.code, one.detail) for one in broken]

    def _too_young(self, day: date) -> list[tuple[str, str]]:
        assert self.about is not None
        least = self.about.protocol.minimum_age
        if ages.age_on(day, self.about.patient.birth_date) >= least:
            return []
        return [("too-young", f"The protocol is for people of {least} and older.")]


@dataclass(frozen=True, slots=True)
class _Looking:
    """One search, under way."""

    session: Session
    search: Search
    wanted: _Wanted
    now: datetime
    around: Around | None = None
    """Whom and what can be booked in the search's window, if that was asked for already."""
    views: list[Staffing] = field(default_factory=list)
    """The sites of the search, each with who could serve there."""

    def openings(self) -> Iterator[Opening]:
        """List what can be booked, in the order of time."""
        for opening in self._staffed():
            if self._is_new(opening) and not self.wanted.objections(opening):
                yield opening

    def shut_by(self) -> list[Shut]:
        """What shuts the window, what shuts most first."""
        staffed = list(islice(self._staffed(), LOOKED_AT))
        if staffed:
            return self._shut_by_course(staffed)
        would_open: Counter[str] = Counter()
        alone: Counter[str] = Counter()
        for view in self.views:
            for code, free, opened in view.obstacles():
                would_open[code] += opened
                alone[code] += free
        found = [
            Shut(code, _why(self._spoken(code), alone[code]), would_open[code]) for code in alone
        ]
        shutting = [one for one in found if one.would_open or not alone[one.code]]
        return sorted(shutting or found, key=lambda one: (alone[one.code] > 0, -one.would_open))

    def _spoken(self, code: str) -> str:
        region = self.wanted.region()
        if region is None or code not in set(PractitionerRole):
            return code
        return f"{code} who is licensed in {region}"

    def _staffed(self) -> Iterator[Opening]:
        """List the times at which everybody is free, whatever the course says."""
        if not self.views:
            self._look()
        if len(self.views) == 1:
            return self._marked(self.views[0])
        return merge(
            *(self._marked(view) for view in self.views),
            key=lambda opening: (opening.starts_at, opening.where),
        )

    def _marked(self, view: Staffing) -> Iterator[Opening]:
        """The openings at a site; those within the notice are to be asked for by phone."""
        soonest, _ = rules.notice_of(self.wanted.visit, self.now, view.site.zone)
        for opening in view.openings():
            is_near = soonest is not None and opening.starts_at < soonest
            yield opening._replace(by_phone=True) if is_near else opening

    def _look(self) -> None:
        question = self._question()
        if question.earliest >= question.latest:
            return
        around = self._around(question)
        patient = self._patient(around)
        held = self._meetings(question)
        joining.know(around.calendar, held)
        for site in around.sites:
            if self.search.site_id in {None, site.site_id}:
                asked = self._at(site, replace(question, patient=patient))
                self.views.append(self._view(asked, site, around.calendar, held))

    def _view(
        self, question: Question, site: Site, calendar: Calendar, held: Sequence[Meeting]
    ) -> Staffing:
        if self.search.alone:
            return Staffing(question, site, calendar)
        return joining.staffing(question, site, calendar, held)

    def _at(self, site: Site, question: Question) -> Question:
        """The question, kept to the notice that the visit asks for by the site's calendar."""
        visit, now = question.visit, self.now
        soonest, furthest = rules.notice_of(visit, now, site.zone)
        if soonest is not None and not self.search.within_notice:
            question = replace(question, earliest=max(question.earliest, soonest))
        if furthest is not None:
            question = replace(question, latest=min(question.latest, furthest))
        return question

    def _question(self) -> Question:
        search, visit = self.search, self.wanted.visit
        return Question(
            visit=visit,
            earliest=max(search.start.astimezone(UTC), self.now + timedelta(microseconds=1)),
            latest=search.end.astimezone(UTC),
            prefer=self.wanted.prefer,
            ties=self._ties(),
            only=_only(self.session, search.practitioner_id),
            hours=search.hours,
            region=self.wanted.region(),
        )

    def _ties(self) -> Ties:
        about = self.wanted.about
        if about is None or about.step is None:
            return Ties()
        return rules.ties_of(about.step, about.protocol, self.wanted.others)

    def _around(self, question: Question) -> Around:
        around = self.around or _around(self.session, self.search, self.now)
        calendar = around.calendar
        window = Window(question.earliest, question.latest, self.wanted.moving)
        calendar.loads = calendars.loads(self.session, calendar.roster.actors, window)
        if self.wanted.moving is not None:
            own = calendars.slots_of(self.session, self.wanted.moving)
            calendar.leave_out(own)
        return around

    def _meetings(self, question: Question) -> list[Meeting]:
        if self.wanted.visit.group is None or self.search.alone:
            return []
        return meetings.ahead(self.session, question.earliest, question.latest)

    def _patient(self, around: Around) -> Actor | None:
        if self.wanted.about is None:
            return None
        patient = self.wanted.about.patient
        frame = around.calendar.frame
        window = Window(frame.start, frame.at(frame.size), self.wanted.moving)
        spans = calendars.taken_spans(self.session, [patient.schedule_id], window)
        actor = Actor(patient.schedule_id, "", ActorKind.PATIENT, None, None, 1)
        around.calendar.know(actor, spans.get(patient.schedule_id, {}))
        return actor

    def _is_new(self, opening: Opening) -> bool:
        after = self.search.after
        return after is None or (opening.starts_at, opening.where) > after

    def _shut_by_course(self, staffed: Iterable[Opening]) -> list[Shut]:
        """The rules and gates that stand against these times, most often in the way first."""
        alone: Counter[str] = Counter()
        times: Counter[str] = Counter()
        details: dict[str, str] = {}
        for opening in staffed:
            against = dict(self.wanted.objections(opening))
            details |= against
            times.update(against.keys())
            if len(against) == 1:
                alone.update(against.keys())
        return [Shut(code, details[code], alone[code]) for code, _ in times.most_common()]


def _around(session: Session, search: Search, now: datetime) -> Around:
    """Whom and what can be booked in the window of a search, as far as it lies ahead."""
    start = max(search.start.astimezone(UTC), now)
    return warmth.around(session, start, max(start, search.end.astimezone(UTC)) + DAY)


def _wanted(session: Session, search: Search, version_id: UUID | None = None) -> _Wanted:
    if search.course_step_id is not None:
        return _wanted_of_step(session, search.course_step_id)
    if search.step_kind is None:
        raise Unfit("Say what the visit is for: a step_kind or a course_step_id.")
    if search.patient_id is None:
        _, _, visit = facts.visit_of_kind(session, search.step_kind, version_id)
        return _Wanted(visit)
    about = facts.brief_of_kind(session, search.patient_id, search.step_kind)
    return _Wanted(
        about.visit,
        about,
        others=facts.other_visits(session, search.patient_id, None),
        known=evidence.before_booking(session, about),
    )


def _wanted_of_step(session: Session, course_step_id: UUID) -> _Wanted:
    about, moving, status = facts.step_to_place(session, course_step_id)
    if status not in {None, AppointmentStatus.PENDING, AppointmentStatus.BOOKED}:
        raise Unfit("This step has its visit already, and it has begun.", field="course_step_id")
    assert about.course_id is not None
    return _Wanted(
        about.visit,
        about,
        facts.therapists_of(session, about.course_id),
        facts.other_visits(session, about.patient.id, about.course_id, moving),
        evidence.before_booking(session, about, moving),
        moving,
    )


def _only(session: Session, practitioner_id: UUID | None) -> frozenset[UUID]:
    if practitioner_id is None:
        return frozenset()
    return frozenset({facts.one(session, Practitioner, practitioner_id).schedule_id})


def _alternatives(
    session: Session, search: Search, wanted: _Wanted, now: datetime
) -> list[Alternative]:
    """The nearest opening for each wish that could be let go."""
    found = []
    for change, other in _relaxed(search, wanted, now).items():
        found_then = _Looking(session, other, wanted, now).openings()
        opening = _last(found_then) if change == "earlier" else next(found_then, None)
        if opening is not None:
            found.append(Alternative(change, opening))
    return found


def _last(openings: Iterator[Opening]) -> Opening | None:
    return next(iter(deque(openings, maxlen=1)), None)


def _relaxed(search: Search, wanted: _Wanted, now: datetime) -> Mapping[str, Search]:
    """The search with one wish less, for each wish that it has."""
    relaxed = {}
    if search.practitioner_id is not None:
        relaxed["practitioner"] = replace(search, practitioner_id=None)
    if search.site_id is not None:
        relaxed["site"] = replace(search, site_id=None)
    if search.hours is not None:
        relaxed["hours"] = replace(search, hours=None)
    if wanted.visit.notice is not None and not search.within_notice:
        relaxed["notice"] = replace(search, within_notice=True)
    if wanted.visit.group is not None and not search.alone:
        relaxed["alone"] = replace(search, alone=True)
    if search.start > now:
        relaxed["earlier"] = replace(search, start=search.start - BEFORE, end=search.start)
    relaxed["later"] = replace(search, start=search.end, end=search.end + AHEAD)
    return relaxed


def _why(code: str, free: int) -> str:
    if free == 0:
        return f"No {code} is free at any time of the window."
    return f"A {code} is free at {free} times of the window, never together with the others."
