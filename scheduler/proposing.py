"""Proposing: several ways to place the visits of a course that are not booked yet.

The best way first; without one, the first step that cannot be placed, what shuts it, and what
would open it. Reads only: proposals.py keeps what is found, and books it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from uuid import UUID

from sqlalchemy.orm import Session

from models import Course
from models.vocabulary import Severity, Stage
from scheduler import grounds, readiness, rules, unplanned
from scheduler.errors import Unfit
from scheduler.grounds import Ground, Way
from scheduler.intervals import granules, positions
from scheduler.problems import leads_of
from scheduler.protocols import Step
from scheduler.together import Prices, Stretch, View, together
from scheduler.unplanned import Left, Unplanned, Wishes

LATER = timedelta(days=28)
"""By how much the end of a course is put off to see whether that opens it."""

ENOUGH = 3
"""So many relaxations are told at most."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """What would open the course if it were let go."""

    change: str
    """A wish (`practitioner`, `not_on`, `latest`, `site`), or the code of a rule or a gate."""
    detail: str
    who: Sequence[str]
    """Who may let it go, if it is not the patient's own wish."""
    finish: datetime
    """When the last visit would then start."""


@dataclass(frozen=True, slots=True)
class Why:
    """Why there is no way: the first step that cannot be placed, and what shuts it."""

    step: str
    shut_by: str
    """A role, a kind of room or device, `patient`, a wish, or the code of a rule or a gate."""
    detail: str
    relaxations: Sequence[Relaxation]
    """The smallest first."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search for ways found: the best first, or why there is none."""

    about: Unplanned
    ways: Sequence[Way]
    why: Why | None = None

    @property
    def course(self) -> Course:
        return self.about.course

    @property
    def left(self) -> Sequence[Left]:
        """What cannot be planned yet."""
        return self.about.left


def find(
    session: Session,
    course_id: UUID,
    wishes: Wishes,
    now: datetime,
    waived: frozenset[str] = frozenset(),
) -> Found:
    """Find up to three different ways to place what of the course is not booked yet.

    `waived`: gates and rules for which the booking will have reasons. Refuses with `NotFound`,
    `CourseClosed`, and with `Unfit` if nothing is left to be placed.
    """
    about = unplanned.of_course(session, course_id, wishes, now, waived)
    ways = _ways(session, about)
    return Found(about, ways, None if ways else _why(session, about))


def find_together(
    session: Session,
    asked: Sequence[tuple[UUID, Wishes]],
    now: datetime,
    patient: Callable[[], bool],
) -> list[Found]:
    """Find a way for each of many courses, so that all of them can be accepted.

    `patient` says whether to look on for more courses with a place, or a better one. A course
    without a way has no place beside the others. Refuses as `find` does, and with `Unfit` two
    courses of one patient.
    """
    abouts = [unplanned.of_course(session, course_id, wishes, now) for course_id, wishes in asked]
    if len({about.patient.id for about in abouts}) < len(abouts):
        raise Unfit("Each patient may have one course here.", field="courses")
    ways = together(_views(session, abouts), patient).ways
    return [
        Found(about, [] if way is None else [_beside_others(way)])
        for about, way in zip(abouts, ways, strict=True)
    ]


def _views(session: Session, abouts: Sequence[Unplanned]) -> Iterator[View[Way]]:
    """The courses on one calendar, and on ever longer ones."""
    begin = min(about.begin for about in abouts).astimezone(UTC)
    end = max(about.begin + next(about.lengths()) for about in abouts).astimezone(UTC)
    furthest = max(about.begin + about.furthest for about in abouts).astimezone(UTC)
    more = unplanned.FURTHER
    while True:
        found, calendar = grounds.shared(session, abouts, begin, end)
        yield View([_Planned(here) for here in found], calendar)
        if end >= furthest:
            return
        end = min(furthest, end + more)
        more *= 2


def _beside_others(way: Way) -> Way:
    """The way, which is not said to be the best there is: it left room for others."""
    return way._replace(plan=replace(way.plan, is_best=False))


@dataclass(frozen=True, slots=True)
class _Planned:
    """A course and the sites at which it could take place, on a calendar shared with others."""

    here: Sequence[Ground]

    def alone(self) -> Way | None:
        """The cheapest way on the calendar as it is before any course is placed."""
        return next(iter(_way(_best(self.here))), None)

    def way(self, dear: Prices, below: int | None = None) -> Way | None:
        """The cheapest way on the calendar as it is now, at these prices."""
        here = [ground.anew(dear.at(ground.site.site_id)) for ground in self.here]
        return next(iter(_way(_best(here, below=below))), None)

    def lacks(self, dear: Prices) -> Iterator[Stretch]:
        """What it would take alone, at these prices, and cannot have now; and all beside it.

        For a visit that begins a little earlier or later would take the same time.
        """
        for ground in self.here:
            site_id = ground.site.site_id
            for one in ground.lacks(dear.at(site_id)):
                length = granules(one.step.visit.length)
                first, end = one.start - length + 1, one.start + length
                yield Stretch(site_id, one.step.visit.key, first, end)


def _ways(session: Session, about: Unplanned) -> list[Way]:
    """The best way, the best with another clinician, and the best that begins another day."""
    best: tuple[Ground, Way] | None = None
    here: list[Ground] = []
    for here in grounds.widening(session, about):
        best = _best(here)
        if best is not None and best[0].is_proven(best[1]):
            break
    if best is None:
        return []
    ground, way = best
    ways: dict[object, Way] = {}
    for one in (way, *_others(here, ground, way)):
        ways.setdefault(tuple((visit.starts_at, visit.assignments) for visit in one.visits), one)
    return sorted(ways.values(), key=lambda one: one.plan.cost)


def _others(here: Sequence[Ground], ground: Ground, way: Way) -> Iterator[Way]:
    leads = [lead for lead in leads_of(ground.problem) if lead != way.plan.lead]
    if leads and not ground.about.leads:
        yield from _way(_best(here, leads))
    first = ground.calendar.frame.at(way.plan.placed[0].start).astimezone(way.site.zone).date()
    yield from _way(_best(here, not_first_on=first))


def _way(found: tuple[Ground, Way] | None) -> list[Way]:
    return [] if found is None else [found[1]]


def _best(
    here: Sequence[Ground],
    leads: Sequence[UUID | None] = (),
    *,
    first: int | None = None,
    not_first_on: date | None = None,
    below: int | None = None,
) -> tuple[Ground, Way] | None:
    ways = (
        (ground, ground.way(leads, first=first, not_first_on=not_first_on, below=below))
        for ground in here
    )
    found = [(ground, way) for ground, way in ways if way is not None]
    return min(found, key=lambda one: one[1].plan.rank, default=None)


def _why(session: Session, about: Unplanned) -> Why:
    *_, furthest = about.lengths()
    here = grounds.over(session, about, furthest)
    number = _first_unplaceable(here, len(about.to_place))
    shut = [_shut(ground, number) for ground in here]
    code, detail = shut[0] if shut else ("site", "There is no such site, or it is closed.")
    step = about.to_place[number]
    return Why(step.key, code, detail, list(islice(_relaxations(session, about, step), ENOUGH)))


def _first_unplaceable(here: Sequence[Ground], total: int) -> int:
    """The number of the first step that cannot be placed together with all before it."""
    low, high = 0, total - 1
    while low < high:
        middle = (low + high) // 2
        if _best(here, first=middle + 1) is None:
            high = middle
        else:
            low = middle + 1
    return low


def _shut(ground: Ground, number: int) -> tuple[str, str]:
    """What shuts a step, those before it being placeable: its code, and in words."""
    step = ground.about.to_place[number]
    staffing = ground.staffing(step)
    if not staffing.starts:
        sides = [(free > 0, -opened, code) for code, free, opened in staffing.obstacles()]
        is_free, _, code = min(sides)
        if is_free:
            return code, f"A {code} is never free together with the others."
        return code, f"No {code} is free at any time."
    for code in ground.gates(step):
        if not staffing.starts & ~ground.behind(step, code):
            return code, _gate_detail(ground, step, code, next(positions(staffing.starts)))
    open_starts = staffing.starts & ~ground.shut(step)
    if not open_starts:
        if ground.about.wishes.not_on:
            return "not_on", "Everybody is free together only on days that are ruled out."
        return "too-young", "The patient is too young for the protocol."
    return _shut_by_course(ground, number)


def _gate_detail(ground: Ground, step: Step, code: str, start: int) -> str:
    gates = [gate for gate in step.visit.gates if gate.code == code]
    at = ground.calendar.frame.at(start)
    judged = readiness.assess(gates, ground.known(step), at).shut(Stage.BOOKING)
    return "; ".join(one.detail for one in judged)


def _shut_by_course(ground: Ground, number: int) -> tuple[str, str]:
    """Which rule of the course shuts a step for which everybody is free at times."""
    about = ground.about
    step = about.to_place[number]
    for rule in rules.asked_of(step, about.protocol):
        if replace(ground, about=about.waiving(rule.code)).way(first=number + 1) is not None:
            return rule.code, f"{rule.detail} Everybody is free together at no such time."
    return "course", f"Its rules together leave {step.key} no time at which everybody is free."


def _relaxations(session: Session, about: Unplanned, step: Step) -> Iterator[Relaxation]:
    """What would open the course, one change at a time: wishes first, then rules, then gates."""
    for change, detail, who, other in _changes(about, step):
        *_, furthest = other.lengths()
        best = _best(grounds.over(session, other, furthest))
        if best is not None:
            yield Relaxation(change, detail, who, max(one.starts_at for one in best[1].visits))


def _changes(about: Unplanned, step: Step) -> Iterator[tuple[str, str, Sequence[str], Unplanned]]:
    """The changes to try: what, in words, who may, and the course with it."""
    for change, detail, wishes in _fewer(about.wishes):
        leads = () if wishes.practitioner_id is None else about.leads
        yield change, detail, (), replace(about, wishes=wishes, leads=leads)
    for rule in rules.asked_of(step, about.protocol):
        who = ["anyone"] if rule.severity is Severity.WARN else sorted(rule.lift)
        if who:
            detail = f"Give a reason to pass over: {rule.detail}"
            yield rule.code, detail, who, about.waiving(rule.code)
    for gate in step.visit.gates:
        if gate.shuts is Stage.BOOKING and gate.code not in about.waived:
            detail = f"Settle it, or give a reason to pass over: {gate.title}."
            yield gate.code, detail, sorted({*gate.who, *gate.lift}), about.waiving(gate.code)


def _fewer(wishes: Wishes) -> Iterator[tuple[str, str, Wishes]]:
    """The wishes without one, for each that can shut a course."""
    if wishes.practitioner_id is not None:
        told = "Let somebody else lead the course."
        yield "practitioner", told, replace(wishes, practitioner_id=None)
    if wishes.not_on:
        yield "not_on", "Allow the days that are ruled out.", replace(wishes, not_on=frozenset())
    if wishes.latest is not None:
        told = f"Let the course last up to {LATER.days} days longer."
        yield "latest", told, replace(wishes, latest=wishes.latest + LATER)
    if wishes.site_id is not None:
        yield "site", "Allow other sites.", replace(wishes, site_id=None)
