"""Placing: put a visit on people, a room and devices.

First somebody is found or checked for each phase, without locking anything (`choose`). Then
the schedules are locked in one order, what is taken is read again, and lanes are given out
(`secure`). Between the two somebody may have been faster; then `secure` refuses.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from scheduler import calendars
from scheduler.actors import Actor, Assignment, Calendar, Site, Taken
from scheduler.availability import Question, Staffing, full_days
from scheduler.calendars import Window
from scheduler.errors import (
    AtCapacity,
    NoOpening,
    NotOpen,
    NotQualified,
    SlotTaken,
    UnfitAssignment,
)
from scheduler.intervals import GRANULE
from scheduler.protocols import Phase, Visit
from scheduler.rules import Ties


@dataclass(frozen=True, slots=True)
class Named:
    """An actor that the caller chose for a role: a practitioner role, `room` or `device`."""

    role: str
    schedule_id: UUID


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be placed, and when."""

    visit: Visit
    starts_at: datetime
    patient_schedule_id: UUID | None
    """None: a group session, whose patients are its `company`."""
    named: Sequence[Named] | None
    """None: the choice is ours."""
    prefer: frozenset[UUID] = frozenset()
    """Schedules to choose first."""
    moving: UUID | None = None
    """The visit that is moved: what it takes now is not in its way."""
    leaving: frozenset[UUID] = frozenset()
    """The schedules that it takes now."""
    ties: Ties = field(default_factory=Ties)
    """Who must serve in a role, and who must not, where the choice is ours."""
    region: str | None = None
    """The patient's state, where who serves must be licensed. None: no visit by video."""
    waived: frozenset[str] = frozenset()
    """What the caller gave reasons to pass over; of these `BENDABLE` count here."""
    company: frozenset[UUID] = frozenset()
    """The schedules of the patients who move along; whether they are free is for PostgreSQL."""
    site_id: UUID | None = None
    """Where it takes place; None: no matter."""

    @property
    def patients(self) -> frozenset[UUID]:
        """The schedules of those whom it is for."""
        if self.patient_schedule_id is None:
            return self.company
        return self.company | {self.patient_schedule_id}


@dataclass(frozen=True, slots=True)
class Seat:
    """A place in a group session."""

    group_session_id: UUID
    place: int
    places: int


@dataclass(frozen=True, slots=True)
class Placement:
    """A site, and somebody for each phase that takes a slot."""

    site: Site
    assignments: tuple[Assignment, ...]
    bent: frozenset[str] = frozenset()
    """What had to be passed over."""
    seat: Seat | None = None
    """The place in a group session, which has taken everybody but the patient already."""


HOURS, BUFFERS, LOAD = "hours", "buffers", "load"
BENDABLE = frozenset({HOURS, BUFFERS, LOAD})
"""What staff who name the people may pass over with a reason: opening hours, time to make ready
and clear up, and how much somebody serves at most. What is taken stays taken."""


def choose(session: Session, wish: Wish) -> Placement:
    """Find or check somebody for every phase.

    Refuses with `NoOpening` if the choice is ours and nobody is free together; with
    `UnfitAssignment`, `NotQualified` or `NotOpen` if the caller's choice does not fit.
    Whether the caller's choice is still free is for `secure` to say.
    """
    calendar, sites = _around(session, wish)
    if wish.named is not None:
        return _check(wish, wish.named, calendar, sites)
    question = _question(wish)
    for site in sites:
        found = Staffing(question, site, calendar).assign(calendar.frame.index(wish.starts_at))
        if found is not None:
            return Placement(site, found)
    raise NoOpening("Nobody and no room is free together at that time.")


def secure(session: Session, wish: Wish, placement: Placement, now: datetime) -> Placement:
    """Lock the schedules, read again what is taken, and give out lanes.

    Holds that have run out give way. Refuses with `SlotTaken` and `AtCapacity`, naming the
    schedules.
    """
    ids = {a.actor.schedule_id for a in placement.assignments} | wish.patients
    calendars.lock(session, ids | wish.leaving)
    _refuse_closed(session, placement)
    visit_ends = wish.starts_at + wish.visit.length  # the patient is there all the time
    start = min([wish.starts_at, *(a.since for a in placement.assignments)])
    end = max([visit_ends, *(a.until for a in placement.assignments)])
    window = Window(start, end, wish.moving)
    taken = calendars.taken(session, list(ids), window)
    if any(one.may_give_way for gone in taken.values() for one in gone):
        _give_way(session, ids, (start, end), now)
        taken = calendars.taken(session, list(ids), window)
    return _Securing(wish, placement, taken).secured(_full(session, wish, placement))


def _refuse_closed(session: Session, placement: Placement) -> None:
    """Refuse time that was closed since it was chosen: a disruption locks what it closes."""
    if HOURS in placement.bent or not placement.assignments:
        return
    start = min(one.since for one in placement.assignments)
    end = max(one.until for one in placement.assignments)
    shut = calendars.closed(
        session, [a.actor.schedule_id for a in placement.assignments], start, end
    )
    for one in placement.assignments:
        for shut_from, shut_until in shut.get(one.actor.schedule_id, ()):
            if shut_from < one.until and shut_until > one.since:
                raise NotOpen(
                    "Somebody or something cannot be booked then any more.",
                    schedule_ids=[str(one.actor.schedule_id)],
                )


@dataclass(frozen=True, slots=True)
class _Securing:
    """Lanes to be given out, behind the locks."""

    wish: Wish
    placement: Placement
    taken: Mapping[UUID, Sequence[Taken]]

    def secured(self, full: Sequence[UUID]) -> Placement:
        """Give out lanes; `full` are the schedules that take no more visits that day."""
        lost = self._patient()
        bent = set(self.placement.bent)
        found = []
        for assignment, phase in zip(
            self.placement.assignments, _taking(self.wish.visit), strict=True
        ):
            kept = self._kept(assignment, phase)
            if not kept.lanes:
                lost.append(assignment.actor.schedule_id)
            if (kept.since, kept.until) != (assignment.since, assignment.until):
                bent.add(BUFFERS)
            found.append(kept)
        if lost:
            raise SlotTaken("That time is taken.", schedule_ids=[str(one) for one in lost])
        if full and LOAD not in self.wish.waived:
            raise AtCapacity(
                "This clinician serves as many visits then as the clinic allows. Give a reason "
                f"for `{LOAD}` in `reasons` to book one more.",
                schedule_ids=[str(one) for one in full],
            )
        return Placement(
            self.placement.site, tuple(found), frozenset(bent | ({LOAD} if full else set()))
        )

    def _patient(self) -> list[UUID]:
        start, patient = self.wish.starts_at, self.wish.patient_schedule_id
        if patient is None:
            return []
        gone = self.taken.get(patient, ())
        return [patient] if _overlapping(gone, start, start + self.wish.visit.length) else []

    def _kept(self, assignment: Assignment, phase: Phase) -> Assignment:
        """The assignment on free lanes; if need be, and may be, without its buffers."""
        gone = self.taken.get(assignment.actor.schedule_id, ())
        lanes = _free_lanes(assignment, phase, gone)
        if lanes or BUFFERS not in self.wish.waived:
            return assignment._replace(lanes=lanes)
        bare = assignment._replace(until=assignment.ends_at, setup=timedelta(0))
        return bare._replace(lanes=_free_lanes(bare, phase, gone))


def absent(session: Session, wish: Wish) -> list[str]:
    """The roles that the visit wants on site throughout, in which nobody is there then.

    Nobody who works there at the time and whose licence holds on the day.
    """
    standing = tuple(phase for phase in wish.visit.phases if phase.present)
    calendar, [site] = _around(session, wish)
    question = _question(replace(wish, visit=replace(wish.visit, phases=standing)))
    index = calendar.frame.index(wish.starts_at)
    served = Staffing(question, site, calendar).served
    return sorted({one.phase.role for one in served if not one.starts >> index & 1})


def make_way(session: Session, wish: Wish, now: datetime) -> None:
    """Cancel the holds that have run out and stand in the patients' way, behind their locks."""
    end = wish.starts_at + wish.visit.length
    _give_way(session, wish.patients, (wish.starts_at, end), now)


def staffed(visit: Visit, patients: int, named: Sequence[Named] | None) -> Visit:
    """A group visit with as many actors in each phase as so many patients ask for.

    Where the caller names them, no more than are named: for fewer patients they may be enough.
    """
    left = None if named is None else Counter(one.role for one in named)
    if left is not None:
        for phase in visit.phases:
            if phase.per_patients is None and not phase.present:
                left[phase.role] -= phase.count
    phases = []
    for phase in visit.phases:
        count = phase.wanted_for(patients)
        if left is not None and phase.per_patients is not None:
            count = max(1, min(count, left[phase.role]))
            left[phase.role] -= count
        phases.append(replace(phase, count=count))
    return replace(visit, phases=tuple(phases))


def _full(session: Session, wish: Wish, placement: Placement) -> list[UUID]:
    """The schedules of the placement that serve as many visits then as they may."""
    found = []
    actors = {one.actor.schedule_id: one for one in placement.assignments}
    window = Window(wish.starts_at, wish.starts_at, wish.moving)
    served = calendars.loads(session, [one.actor for one in actors.values()], window)
    for schedule_id, starts in served.items():
        one, zone = actors[schedule_id], placement.site.zone
        day = one.since.astimezone(zone).date()
        days = full_days(one.actor, [start.astimezone(zone).date() for start in starts])
        if any(first <= day <= last for first, last in days):
            found.append(schedule_id)
    return found


def _question(wish: Wish) -> Question:
    return Question(
        visit=wish.visit,
        earliest=wish.starts_at,
        latest=wish.starts_at + GRANULE,
        prefer=wish.prefer,
        ties=wish.ties,
        region=wish.region,
        any_minute=True,
    )


def _give_way(
    session: Session, ids: Collection[UUID], during: tuple[datetime, datetime], now: datetime
) -> None:
    """Cancel the holds on these schedules that have run out and stand in the way."""
    session.execute(
        _GIVE_WAY,
        {
            "ids": list(ids),
            "start": during[0],
            "end": during[1],
            "earliest": during[0] - calendars.LONGEST,
            "now": now,
        },
    )


def _around(session: Session, wish: Wish) -> tuple[Calendar, list[Site]]:
    needs_all = wish.named is None or any(phase.present for phase in wish.visit.phases)
    only = None if needs_all else [named.schedule_id for named in wish.named or ()]
    found = calendars.all_actors(session, only)
    start, end = calendars.day_around(wish.starts_at, wish.starts_at + wish.visit.length)
    window = Window(start, end, wish.moving)
    ours = wish.named is None  # of the caller's choice, what is taken is asked behind the locks
    calendar = calendars.load(session, found, window, with_taken=ours)
    sites = calendars.sites(session)
    return calendar, [one for one in sites if wish.site_id in {None, one.site_id}]


def _check(
    wish: Wish, named: Sequence[Named], calendar: Calendar, sites: Sequence[Site]
) -> Placement:
    chosen = _match(wish, named, {actor.schedule_id: actor for actor in calendar.roster.actors})
    site = _site_of(wish, chosen, calendar, sites)
    bent = set()
    for assignment in chosen:
        refuse_unlicensed(wish, assignment, site)
        if not _is_open(assignment, site, calendar):
            bent.add(_out_of_hours(wish, assignment, site))
    staffing = Staffing(_question(wish), site, calendar)
    if not staffing.is_stood_by(calendar.frame.index(wish.starts_at)):
        raise NotOpen(
            "The protocol wants somebody on site throughout who is not there then.",
            roles=sorted({phase.role for phase in wish.visit.phases if phase.present}),
        )
    return Placement(site, tuple(chosen), frozenset(bent))


def _match(wish: Wish, named: Sequence[Named], known: Mapping[UUID, Actor]) -> list[Assignment]:
    """Give each phase the next actor that was named for its role."""
    left = list(named)
    chosen = []
    for phase in _taking(wish.visit):
        here = next((one for one in left if one.role == phase.role), None)
        if here is None:
            raise UnfitAssignment(f"The visit needs a {phase.role}.", role=phase.role)
        left.remove(here)
        actor = known.get(here.schedule_id)
        if actor is None or not actor.could_serve(phase):
            what = phase.role if phase.kind is None else f"{phase.kind} {phase.role}"
            raise UnfitAssignment(
                f"This schedule is not one of a {what}.",
                role=phase.role,
                schedule_id=str(here.schedule_id),
            )
        chosen.append(_assignment(wish, phase, actor))
        _refuse_twice(chosen)
    if left:
        raise UnfitAssignment(f"The visit has no use for a {left[0].role}.", role=left[0].role)
    return chosen


def _assignment(wish: Wish, phase: Phase, actor: Actor) -> Assignment:
    begin, end = wish.starts_at + phase.start, wish.starts_at + phase.end
    return Assignment(phase.role, actor, (), begin, end, end + phase.turnover, phase.setup)


def _refuse_twice(chosen: Sequence[Assignment]) -> None:
    """Refuse the last of `chosen` if it names somebody who serves another phase meanwhile."""
    *before, last = chosen
    for one in before:
        same = one.actor.schedule_id == last.actor.schedule_id
        if same and one.since < last.until and last.since < one.until:
            raise UnfitAssignment(
                f"This schedule is named twice for the same time, as {one.role} and {last.role}.",
                role=last.role,
                schedule_id=str(last.actor.schedule_id),
            )


def _site_of(
    wish: Wish, chosen: Sequence[Assignment], calendar: Calendar, sites: Sequence[Site]
) -> Site:
    """Where the visit takes place: where its room stands, else where its people work then."""
    fixed = {a.actor.site_id for a in chosen if a.actor.site_id is not None}
    if len(fixed) > 1:
        raise UnfitAssignment("The room and the devices stand at different sites.")
    for site in sites:
        if fixed and site.site_id not in fixed:
            continue
        if fixed or all(_is_open(a, site, calendar) for a in chosen) or HOURS in wish.waived:
            return site
    raise NotOpen("These people do not work together at any site then.", roles=[])


def refuse_unlicensed(wish: Wish, assignment: Assignment, site: Site) -> None:
    """Refuse with `NotQualified` who holds no licence on the day, for where the patient is."""
    day = assignment.since.astimezone(site.zone).date()
    if not assignment.actor.is_licensed(assignment.role, day, wish.region):
        where = "" if wish.region is None else f" in {wish.region}, where the patient is"
        raise NotQualified(
            f"No licence as {assignment.role} is valid on {day}{where}.",
            role=assignment.role,
            schedule_id=str(assignment.actor.schedule_id),
        )


def _out_of_hours(wish: Wish, assignment: Assignment, site: Site) -> str:
    """What is passed over, if a reason was given; refuses otherwise."""
    if HOURS in wish.waived:
        return HOURS
    raise NotOpen(
        f"The {assignment.role} is not open at {site.name} then. Give a reason for `{HOURS}` in "
        "`reasons` if they will be there nevertheless.",
        roles=[assignment.role],
        schedule_id=str(assignment.actor.schedule_id),
    )


def _is_open(assignment: Assignment, site: Site, calendar: Calendar) -> bool:
    wanted = calendar.frame.touched([(assignment.since, assignment.until)])
    return not wanted & ~calendar.open_at(assignment.actor, site.site_id)


def _taking(visit: Visit) -> list[Phase]:
    """The phases that take a slot; presence takes none."""
    return [phase for phase in visit.phases if not phase.present for _ in range(phase.count)]


def _free_lanes(assignment: Assignment, phase: Phase, gone: Sequence[Taken]) -> tuple[int, ...]:
    busy = {one.lane for one in _overlapping(gone, assignment.since, assignment.until)}
    free = tuple(lane for lane in range(assignment.actor.lanes) if lane not in busy)
    if phase.shared:
        return free[:1]
    return free if not busy else ()


def _overlapping(gone: Sequence[Taken], start: datetime, end: datetime) -> list[Taken]:
    return [one for one in gone if one.starts_at < end and one.ends_at > start]


_GIVE_WAY = text(
    """
    WITH over AS (
        SELECT clinic_id, id, status FROM appointment
         WHERE status IN ('pending', 'proposed') AND held_until <= :now AND id IN (
             SELECT appointment_id FROM slot
              WHERE schedule_id = ANY(:ids) AND starts_at >= :earliest AND starts_at < :end
                AND ends_at > :start)
         ORDER BY id FOR UPDATE
    ), expired AS (
        UPDATE appointment a SET status = 'cancelled', held_until = NULL,
               revision = revision + 1, version = version + 1
          FROM over WHERE a.clinic_id = over.clinic_id AND a.id = over.id
        RETURNING a.clinic_id, a.id, over.status AS was
    ), told AS (
        INSERT INTO appointment_event (id, appointment_id, action, from_status, to_status, by, at)
        SELECT gen_random_uuid(), id, 'expire', was, 'cancelled', 'job:holds', :now
          FROM expired
    )
    DELETE FROM slot USING expired
     WHERE slot.clinic_id = expired.clinic_id AND slot.appointment_id = expired.id
    """
)
