"""Unplanned: what of a course is not booked yet, and what is known about placing it.

Fetches the course, the patient's visits and what gates are judged by. Reads only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from models import Course, CourseStep, Patient, Practitioner
from models.vocabulary import CourseStatus, Severity
from scheduler import choosing, evidence, facts, rules, steps
from scheduler.availability import Hours
from scheduler.errors import CourseClosed, Unfit
from scheduler.protocols import Protocol, Step
from scheduler.readiness import Known
from scheduler.rules import Booked

LEEWAY = timedelta(days=84)
"""How much longer than a course's windows ask it is looked for first."""

FURTHER = timedelta(days=28)
"""How much further after that, and twice as much each time."""

FURTHEST = timedelta(days=366)
"""How far ahead a course is planned at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the patient would like. Days and times of the site's wall clock."""

    hours: Hours | None = None
    """Times of the week; broken only at a price."""
    same_time: bool = False
    """Each kind of visit on one weekday, at one time; broken only at a price."""
    practitioner_id: UUID | None = None
    """Who is to lead the course; somebody else does only at a price."""
    site_id: UUID | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    """Nothing starts at or after it."""
    not_on: frozenset[date] = frozenset()


@dataclass(frozen=True, slots=True)
class Left:
    """A step that cannot be planned yet, and why."""

    step: CourseStep
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplanned:
    """A course as planning sees it."""

    course: Course
    protocol: Protocol
    """Without the rules that are waived."""
    patient: Patient
    rows: Mapping[str, CourseStep]
    """The steps of the course by key."""
    to_place: Sequence[Step]
    left: Sequence[Left]
    fixed: Sequence[Booked]
    """The patient's visits; they stay where they are."""
    known: Callable[[Step], Known]
    """What the gates of a step are judged by."""
    wishes: Wishes
    now: datetime
    leads: Sequence[UUID | None] = ()
    """The schedules of those who may lead; anybody if it is empty."""
    waived: frozenset[str] = field(default_factory=frozenset)
    """Gates and rules for which the booking will have reasons."""

    @property
    def role(self) -> str:
        """The role whose holder the course keeps."""
        return choosing.lead_of(self.protocol)

    @property
    def begin(self) -> datetime:
        """Before when nothing can start."""
        return max(self.now, self.wishes.earliest or self.now)

    def waiving(self, code: str) -> "Unplanned":
        """The same with one more gate or rule waived."""
        protocol = rules.without(self.protocol, {code})
        return replace(
            self,
            protocol=protocol,
            to_place=[protocol.step(step.key) for step in self.to_place],
            waived=self.waived | {code},
        )

    def lengths(self) -> Iterator[timedelta]:
        """How far ahead to look: far enough as a rule, and if that was not, ever further."""
        length, more = _shortest(self.to_place) + LEEWAY, FURTHER
        while self.wishes.latest is None and length < self.furthest:
            yield length
            length, more = length + more, 2 * more
        yield self.furthest

    @property
    def furthest(self) -> timedelta:
        """How far ahead to look at most."""
        latest = self.wishes.latest
        return FURTHEST if latest is None else min(latest - self.begin, FURTHEST)


def of_course(
    session: Session,
    course_id: UUID,
    wishes: Wishes,
    now: datetime,
    waived: frozenset[str] = frozenset(),
) -> Unplanned:
    """Gather what of a course is to be placed, and what stands in its way already.

    Refuses with `NotFound`, `CourseClosed`, and with `Unfit` if there is nothing to place.
    """
    course, protocol = facts.course_of(session, course_id)
    if course.status is not CourseStatus.ACTIVE:
        raise CourseClosed("The course is not active any more.", course_status=course.status)
    if wishes.latest is not None and wishes.latest <= max(now, wishes.earliest or now):
        raise Unfit("It must be later than now, and than `earliest`.", field="wishes.latest")
    patient = facts.one(session, Patient, course.patient_id)
    fixed = facts.other_visits(session, patient.id, course.id)
    rows = facts.steps_of(session, course.id)
    protocol = rules.without(protocol, waived)
    to_place, left = _to_place(session, course, protocol, rows, fixed)
    if not to_place:
        raise Unfit("Every step that can be planned now has its visit already.", field="course_id")
    return Unplanned(
        course=course,
        protocol=protocol,
        patient=patient,
        rows={row.key: row for row in rows},
        to_place=to_place,
        left=left,
        fixed=fixed,
        known=evidence.before_course(session, patient.id, course.id, protocol),
        wishes=wishes,
        now=now,
        leads=_leads(session, wishes),
        waived=waived,
    )


def _leads(session: Session, wishes: Wishes) -> list[UUID | None]:
    if wishes.practitioner_id is None:
        return []
    return [facts.one(session, Practitioner, wishes.practitioner_id).schedule_id]


def _to_place(
    session: Session,
    course: Course,
    protocol: Protocol,
    rows: Sequence[CourseStep],
    fixed: Sequence[Booked],
) -> tuple[list[Step], list[Left]]:
    standing = facts.steps_with(session, course.id, rules.STANDING)
    part = steps.belonging(protocol, rows)
    there = {visit.step for visit in fixed if visit.status in rules.STANDING or visit.is_skipped}
    found: list[Step] = []
    left: list[Left] = []
    for row in rows:
        if row.id in standing or row.skipped_at is not None or part[row.key] is False:
            continue
        step = protocol.step(row.key)
        missing = _missing(step, part, there | {one.key for one in found})
        if part[row.key] is None and step.only_if is not None:
            left.append(Left(row, f"It depends on how {step.only_if.step} ends."))
        elif missing:
            left.append(Left(row, f"It hangs on {missing}, which cannot be planned yet."))
        else:
            found.append(step)
    return found, left


def _missing(step: Step, part: Mapping[str, bool | None], there: set[str | None]) -> str | None:
    """The step that must be placed before this one and is not."""
    owed = step.owes.steps if step.owes is not None else ()
    anchors = [w.step for w in step.windows if w.severity is not Severity.OFF]
    wanted = (key for key in (*anchors, *owed) if part[key] is not False)
    return next((key for key in wanted if key not in there), None)


def _shortest(placed: Sequence[Step]) -> timedelta:
    """The least time from the first visit to the last that the windows ask for."""
    at: dict[str, timedelta] = {}
    for step in placed:
        at[step.key] = max(
            (
                at.get(window.step, timedelta(0)) + window.least.shortest
                for window in step.windows
                if window.least is not None
            ),
            default=timedelta(0),
        )
    return max(at.values(), default=timedelta(0))
