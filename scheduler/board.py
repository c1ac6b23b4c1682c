"""The board of a repair: whose visits may move, where each of them is, and on whose time.

Times are granules of five minutes, counted from the start of the calendar's frame. Pure: no
database, no clock, no Flask.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from models.vocabulary import ActorKind, AppointmentStatus
from scheduler import rules
from scheduler.actors import Actor, Assignment, Calendar, Site
from scheduler.problems import DAY
from scheduler.protocols import Protocol, Step
from scheduler.readiness import Known
from scheduler.rules import Booked

REACH = timedelta(days=14)
"""How far from its time a visit may be moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What a change costs, in points."""

    moved: int = 10 * DAY
    """For each visit that takes place at another time."""
    lead: int = 24 * DAY
    """For each visit with another therapist than the course's own."""
    away: int = 1
    """For each granule that a visit is away from its time."""


HARM = Harm()


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A visit that may be moved."""

    id: UUID
    step: Step
    at: datetime
    """When it is, or was to be."""
    assignments: tuple[Assignment, ...] = ()
    """Whose time it takes, the patient's among it; nothing if it was missed or cancelled."""
    why: str | None = None
    """Why it cannot stay as it is; None: it can."""
    earliest: datetime
    """Not before: the time of asking, and the notice that the visit wants."""
    known: Known | None = None
    """What the gates of its booking are judged by; None: it has none."""

    @property
    def is_broken(self) -> bool:
        return self.why is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The visits ahead of one patient, of one course or of none."""

    patient: Actor
    protocol: Protocol
    site: Site
    visits: tuple[Visit, ...]
    """In the order of the protocol."""
    fixed: Sequence[Booked] = ()
    """The patient's other visits; those of other cases are not among them."""
    lead_role: str
    lead: UUID | None = None
    """The schedule of the course's own clinician."""
    region: str | None = None
    """The state where the patient is: by video only who is licensed there may serve."""


@dataclass(frozen=True, slots=True)
class Place:
    """When a visit is, and on whose time."""

    start: int
    assignments: tuple[Assignment, ...]

    @property
    def who(self) -> tuple[int, frozenset[tuple[str, UUID]]]:
        """When, and who serves in which role."""
        served = ((one.role, one.actor.schedule_id) for one in self.assignments)
        return self.start, frozenset(served)

    def lead(self, role: str) -> UUID | None:
        """Who serves it in the role."""
        found = (one.actor.schedule_id for one in self.assignments if one.role == role)
        return next(found, None)


@dataclass(frozen=True, slots=True)
class Moved:
    """A visit with a new time, or other people."""

    case: Case
    visit: Visit
    starts_at: datetime
    assignments: tuple[Assignment, ...]
    """Without the patient's."""

    @property
    def why(self) -> str:
        """Why it could not stay; `follows` if it moves for another's sake."""
        return self.visit.why or "follows"


@dataclass(frozen=True, slots=True)
class Stuck:
    """A visit that cannot stay and has nowhere to go."""

    case: Case
    visit: Visit
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Repaired:
    """What is to be changed, and what could not be helped."""

    moves: tuple[Moved, ...]
    stuck: tuple[Stuck, ...]
    cost: int


class Board:
    """Where every visit of every case is, on a calendar that agrees with it."""

    def __init__(self, calendar: Calendar, cases: Sequence[Case]) -> None:
        self.calendar = calendar
        self.case_of = {visit.id: case for case in cases for visit in case.visits}
        self.visits = {visit.id: visit for case in cases for visit in case.visits}
        index = calendar.frame.index
        self.first = {
            visit.id: Place(index(visit.at), visit.assignments) for visit in self.visits.values()
        }
        self.now: dict[UUID, Place | None] = {
            one: place if place.assignments else None for one, place in self.first.items()
        }
        self._done: list[tuple[UUID, Place | None]] = []

    def put(self, visit_id: UUID, place: Place | None) -> None:
        """Let a visit be there; None: nowhere."""
        before = self.now[visit_id]
        self._done.append((visit_id, before))
        self._set(visit_id, place)

    def mark(self) -> int:
        """A point to come back to."""
        return len(self._done)

    def back_to(self, mark: int) -> None:
        """Undo everything since."""
        while len(self._done) > mark:
            self._set(*self._done.pop())

    def is_free(self, assignments: Iterable[Assignment]) -> bool:
        """Whether everybody is open, where opening hours matter, and nobody taken."""
        return all(self._is_free(one) for one in assignments)

    def _is_free(self, one: Assignment) -> bool:
        bits = self.calendar.frame.touched([(one.since, one.until)])
        lanes = self.calendar.taken_on(one.actor)
        return not any(lanes[lane] & bits for lane in one.lanes)

    def _set(self, visit_id: UUID, place: Place | None) -> None:
        before = self.now[visit_id]
        if before is not None:
            self.calendar.leave(before.assignments)
        if place is not None:
            self.calendar.serve(place.assignments)
        self.now[visit_id] = place


def booked(case: Case, visit: Visit, starts_at: datetime, served: Iterable[Assignment]) -> Booked:
    """A visit as the rules see it."""
    who = rules.who_of(
        (one.role, one.actor.schedule_id)
        for one in served
        if one.actor.actor_kind is ActorKind.PRACTITIONER
    )
    status = AppointmentStatus.BOOKED
    return Booked(visit.step.key, visit.step.visit.kind, status, starts_at, who)
