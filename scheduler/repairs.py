"""Repairs: from a disruption, or a course whose windows broke, to visits at new times.

Gathers what `repairing` needs, keeps what it finds as a proposal for each patient, and moves the
visits of those whose proposals are accepted. Nothing is kept free for a proposal: whoever lost
a time meanwhile gets a fresh one. Functions here flush and never commit.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import (
    Appointment,
    Closure,
    Course,
    Disruption,
    Patient,
    Practitioner,
    Proposal,
    Qualification,
    Schedule,
    Slot,
)
from models.vocabulary import ActorKind, AppointmentStatus, CourseStatus, Stage
from notifications.wall_time import at_wall_time
from scheduler import (
    booking,
    calendars,
    choosing,
    evidence,
    facts,
    optimum,
    repairing,
    rules,
    warmth,
    written,
)
from scheduler.actors import Actor, Assignment, Calendar, Site
from scheduler.authority import Authority, Call
from scheduler.availability import Question, Staffing
from scheduler.board import REACH, Case, Moved, Repaired, Stuck, Visit
from scheduler.booking import Move, Order, Shift
from scheduler.calendars import Window
from scheduler.errors import CourseClosed, NotFound, Refusal, SlotTaken, Stale, Unfit
from scheduler.placing import Named
from scheduler.protocols import Protocol, Step
from scheduler.readiness import Known
from scheduler.rules import Booked, Candidate
from scheduler.timeline import DAY

LASTS = timedelta(days=1)
"""For how long a proposal may be accepted."""

LONGEST = timedelta(days=92)
"""No disruption is longer."""

PATIENCE = 15.0
"""How many seconds the best answer may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Who or what cannot serve, and when."""

    schedule_id: UUID
    start: datetime
    end: datetime
    reason: str
    best: bool = False
    """Whether to look for the best answer, for some seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapse:
    """A licence that ends: its holder cannot serve in its role any more."""

    qualification_id: UUID
    end: datetime | None = None
    """Until when visits are looked at. None: as far as a disruption may reach."""
    best: bool = False


@dataclass(frozen=True, slots=True)
class Proposed:
    """What is proposed; a proposal for each patient who is concerned."""

    proposals: Sequence[Proposal]
    is_best: bool | None = None
    """Whether no better answer exists; None: nobody asked."""


def disrupt(
    session: Session, trouble: Trouble, *, by: Authority, now: datetime
) -> tuple[Disruption, Proposed]:
    """Close somebody or something for a while, and propose where the visits there could go.

    Refuses with `NotFound`, and with `Unfit` a patient's schedule, a time that is over or too
    long, and the wish for the best answer where CP-SAT is not installed.
    """
    schedule = facts.one(session, Schedule, trouble.schedule_id)
    start, end = trouble.start.astimezone(UTC), trouble.end.astimezone(UTC)
    if schedule.actor_kind is ActorKind.PATIENT:
        raise Unfit("A patient's visits are moved one by one.", field="schedule_id")
    if end <= max(now, start) or end - start > LONGEST:
        raise Unfit(
            f"It must end after it starts and after now, within {LONGEST.days} days.", field="to"
        )
    _refuse_effort(best=trouble.best)
    closure = Closure(
        id=uuid7(), schedule_id=schedule.id, starts_at=start, ends_at=end, reason=trouble.reason
    )
    disruption = Disruption(
        id=uuid7(),
        schedule_id=schedule.id,
        starts_at=start,
        ends_at=end,
        reason=trouble.reason,
        closure_id=closure.id,
        told_by=by.name,
        version=1,
    )
    # Whoever is booking there now is waited for, and seen; whoever comes later sees the closure.
    calendars.lock(session, [schedule.id])
    session.add_all([closure, disruption])
    session.flush()
    return disruption, _propose(session, disruption, _Asked(by, now, trouble.best))


def relieve(
    session: Session, lapse: Lapse, *, by: Authority, now: datetime
) -> tuple[Disruption, Proposed]:
    """Propose who else serves, or when, the visits that a licence does not cover any more.

    Nothing is closed: its holder can serve in other roles, and in this one if it is renewed.
    Refuses with `NotFound`, and with `Unfit` if another licence covers the day after.
    """
    licence = facts.one(session, Qualification, lapse.qualification_id)
    holder = facts.one(session, Practitioner, licence.practitioner_id)
    first = licence.valid_until + DAY
    if facts.is_licensed(session, holder.id, licence.role, first):
        raise Unfit("Another licence covers the days after it.", field="qualification_id")
    _refuse_effort(best=lapse.best)
    begins = (
        at_wall_time(datetime.combine(first, time(0)), site.zone)
        for site in calendars.sites(session)
    )
    start = max(now, min(begins)).astimezone(UTC)  # where the day comes first
    end = start + LONGEST if lapse.end is None else lapse.end.astimezone(UTC)
    if not start < end <= start + LONGEST:
        raise Unfit(f"It must end after the licence, within {LONGEST.days} days.", field="to")
    disruption = Disruption(
        id=uuid7(),
        schedule_id=holder.schedule_id,
        starts_at=start,
        ends_at=end,
        reason=f"The licence as {licence.role} ends on {licence.valid_until}.",
        role=licence.role,
        told_by=by.name,
        version=1,
    )
    calendars.lock(session, [holder.schedule_id])
    session.add(disruption)
    session.flush()
    return disruption, _propose(session, disruption, _Asked(by, now, lapse.best))


def accept(
    session: Session,
    disruption_id: UUID,
    patients: Collection[UUID] | None,
    *,
    by: Authority,
    now: datetime,
) -> "Accepted":
    """Move the visits of these patients, or of all, as proposed: each patient's all or none.

    Refuses with `NotFound` if one of them has no proposal that is open.
    """
    disruption = facts.to_change(session, Disruption, disruption_id, None)
    waiting = {
        one.patient_id: one
        for one in facts.latest_proposals(session, disruption.id)
        if one.steps and one.accepted_at is None
    }
    if unknown := set(patients or ()) - set(waiting):
        raise NotFound(
            "Of these patients nothing is open.", patients=sorted(str(one) for one in unknown)
        )
    chosen = list(waiting.values() if patients is None else (waiting[one] for one in patients))
    done, refused = _carry_out(session, chosen, by, now)
    fresh = Proposed([])
    if refused:
        fresh = _propose(session, disruption, _Asked(by, now), set(refused))
    return Accepted(disruption, done, refused, fresh)


@dataclass(frozen=True, slots=True)
class Accepted:
    """Whose visits were moved, whose were not and why, and what is proposed to those instead."""

    disruption: Disruption | None
    done: Mapping[UUID, Sequence[Appointment]]
    refused: Mapping[UUID, Refusal]
    fresh: Proposed


def mend(
    session: Session, course_id: UUID, *, best: bool = False, by: Authority, now: datetime
) -> Proposed:
    """Propose new times for the visits of a course that break a rule, were missed or cancelled.

    What was booked so with a reason stands. Refuses with `NotFound` and `CourseClosed`, and with
    `Unfit` the wish for the best answer where CP-SAT is not installed.
    """
    course, protocol = facts.course_of(session, course_id)
    if course.status is not CourseStatus.ACTIVE:
        raise CourseClosed("The course is not active any more.", course_status=course.status)
    _refuse_effort(best=best)
    asked = _Asked(by, now, best)
    visits = facts.visits_to_move(session, [course_id], [], now)
    lost = [
        (step.id, visit)
        for step, visit in facts.steps_lost(session, course_id)
        if not _is_off(session, course, protocol, step.key)
    ]
    broken = _out_of_rule(session, course, protocol, visits)
    return _found(session, asked, _Hit(visits, broken, lost), course_id=course_id)


def accept_mending(
    session: Session, course_id: UUID, proposal_id: UUID, *, by: Authority, now: datetime
) -> Accepted:
    """Move and book what was proposed for a course, all of it or nothing.

    If a time was lost meanwhile, nothing is changed and a fresh proposal comes back.
    """
    facts.to_change(session, Course, course_id, None)
    proposal = facts.one(session, Proposal, proposal_id)
    if proposal.course_id != course_id or "repair" not in proposal.cost:
        raise NotFound("There is no such repair of this course.")
    if proposal.accepted_at is not None or not proposal.steps:
        raise Stale("Of this proposal nothing is open.")
    done, refused = _carry_out(session, [proposal], by, now)
    fresh = mend(session, course_id, by=by, now=now) if refused else Proposed([])
    return Accepted(None, done, refused, fresh)


@dataclass(frozen=True, slots=True)
class _Asked:
    """On whose word, when, and how hard to look."""

    by: Authority
    now: datetime
    best: bool = False


@dataclass(frozen=True, slots=True)
class _Hit:
    """The visits that are concerned."""

    visits: Sequence[Appointment]
    """All that may move, in the order of time."""
    broken: Mapping[UUID, str]
    """Those that must, and why."""
    lost: Sequence[tuple[UUID, Appointment]] = ()
    """Steps without a visit, each with the last it had."""


def _propose(
    session: Session,
    disruption: Disruption,
    asked: _Asked,
    patients: Collection[UUID] | None = None,
) -> Proposed:
    meeting = facts.visits_meeting(session, disruption.starts_at, disruption.ends_at, asked.now)
    concerned = [one for one in meeting if patients is None or one.patient_id in patients]
    broken = _struck(session, disruption, concerned)
    courses = {one.course_id for one in concerned if one.id in broken and one.course_id}
    visits = facts.visits_to_move(session, courses, list(broken), asked.now)
    return _found(session, asked, _Hit(visits, broken), disruption_id=disruption.id)


def _struck(
    session: Session, disruption: Disruption, visits: Sequence[Appointment]
) -> dict[UUID, str]:
    """The visits that need who is away: for a slot of theirs, or to stand by."""
    slots = facts.slots_of_visits(session, [one.id for one in visits])
    struck = {
        visit.id: "away"
        for visit in visits
        if any(_falls_in(slot, disruption) for slot in slots.get(visit.id, ()))
        and not _is_licensed(session, disruption, visit)
    }
    rest = [one for one in visits if one.id not in struck and _presence(session, one)]
    if rest:
        struck |= dict.fromkeys(_alone(session, rest), "nobody-stands-by")
    return struck


def _falls_in(slot: Slot, disruption: Disruption) -> bool:
    return (
        slot.schedule_id == disruption.schedule_id
        and disruption.role in {None, slot.role}
        and slot.starts_at < disruption.ends_at
        and slot.ends_at > disruption.starts_at
    )


def _is_licensed(session: Session, disruption: Disruption, visit: Appointment) -> bool:
    """Whether by the day at the site a licence covers who serves it in the disruption's role."""
    if disruption.role is None:
        return False
    [site] = calendars.sites(session, visit.site_id)
    day = visit.starts_at.astimezone(site.zone).date()
    return disruption.role not in facts.unlicensed(session, visit, day)


def _presence(session: Session, visit: Appointment) -> bool:
    asked = facts.protocol(session, visit.protocol_version_id).visits[visit.visit]
    return any(phase.present for phase in asked.phases)


def _alone(session: Session, visits: Sequence[Appointment]) -> list[UUID]:
    """Those of the visits for whose whole length nobody stands by any more."""
    last = max(visit.ends_at for visit in visits)
    around = warmth.around(session, visits[0].starts_at, last + DAY)
    sites = {site.site_id: site for site in around.sites}
    found = []
    for visit in visits:
        asked = facts.protocol(session, visit.protocol_version_id).visits[visit.visit]
        standing = tuple(phase for phase in asked.phases if phase.present)
        question = Question(
            visit=replace(asked, phases=standing), earliest=visit.starts_at, latest=visit.ends_at
        )
        staffing = Staffing(question, sites[visit.site_id], around.calendar)
        if not staffing.is_stood_by(around.calendar.frame.index(visit.starts_at)):
            found.append(visit.id)
    return found


def _refuse_effort(*, best: bool) -> None:
    """Refuse to look for the best answer without what it takes."""
    if best and not optimum.is_here():
        raise Unfit("The best answer takes the `plan` extra, which is not here.", field="effort")


def _found(session: Session, asked: _Asked, hit: _Hit, **of: UUID) -> Proposed:
    """Look for new times, and keep what is found as a proposal for each patient."""
    if not hit.broken and not hit.lost:
        return Proposed([])
    gathering = _Gathering(session, hit, asked.now)
    cases = gathering.cases()
    effort = repairing.THOROUGH if asked.best else repairing.EFFORT
    found, is_best = repairing.repair(cases, gathering.calendar(cases), effort), None
    if asked.best:
        calendar = gathering.calendar(cases)
        found, is_best = optimum.best(cases, calendar, found, PATIENCE)
    proposals = [
        _proposal(patient_id, found, asked, of)
        for patient_id in dict.fromkeys(
            UUID(case.patient.name) for case in cases if any(v.is_broken for v in case.visits)
        )
    ]
    session.add_all(proposals)
    session.flush()
    return Proposed(proposals, is_best)


def _proposal(patient_id: UUID, found: Repaired, asked: _Asked, of: Mapping[str, UUID]) -> Proposal:
    mine = [one for one in found.moves if one.case.patient.name == str(patient_id)]
    stuck = [one for one in found.stuck if one.case.patient.name == str(patient_id)]
    return Proposal(
        id=uuid7(),
        patient_id=patient_id,
        course_id=of.get("course_id"),
        disruption_id=of.get("disruption_id"),
        steps=[_step(one) for one in sorted(mine, key=lambda one: one.starts_at)],
        cost={
            "repair": True,
            "moved": sum(one.starts_at != one.visit.at for one in mine),
            "other_people": sum(one.starts_at == one.visit.at for one in mine),
            "unrepairable": [_stuck(one) for one in stuck],
        },
        expires_at=asked.now + LASTS,
        made_by=asked.by.name,
    )


def _step(one: Moved) -> dict[str, Any]:
    """A move as it is kept, and shown."""
    has_visit = bool(one.visit.assignments)
    start, end = one.starts_at, one.starts_at + one.visit.step.visit.length
    return {
        "appointment_id": str(one.visit.id) if has_visit else None,
        "course_step_id": None if has_visit else str(one.visit.id),
        "kind": one.visit.step.visit.kind.value,
        "from": written.instant(one.visit.at),
        "to": written.instant(start),
        "ends_at": written.instant(end),
        "site_id": str(one.case.site.site_id),
        "why": one.why,
        "assignments": [written.assignment(each) for each in one.assignments],
    }


def _stuck(one: Stuck) -> dict[str, Any]:
    has_visit = bool(one.visit.assignments)
    return {
        "appointment_id": str(one.visit.id) if has_visit else None,
        "course_step_id": None if has_visit else str(one.visit.id),
        "why": one.code,
        "detail": one.detail,
    }


def _carry_out(
    session: Session, proposals: Sequence[Proposal], by: Authority, now: datetime
) -> tuple[Mapping[UUID, Sequence[Appointment]], dict[UUID, Refusal]]:
    late = {one.patient_id: _TOO_LATE for one in proposals if one.expires_at <= now}
    open_ones = {one.patient_id: one for one in proposals if one.patient_id not in late}
    wanted = {
        patient_id: [_shift(patient_id, step) for step in one.steps]
        for patient_id, one in open_ones.items()
    }
    done, refused = booking.reschedule_together(session, wanted, by=by, now=now)
    for patient_id in done:
        one = open_ones[patient_id]
        one.accepted_at, one.accepted_by = now, by.name
    session.flush()
    return done, {**late, **refused}


_TOO_LATE = SlotTaken("The proposal is too old.")


def _shift(patient_id: UUID, step: Mapping[str, Any]) -> Shift:
    named = tuple(Named(one["role"], UUID(one["schedule_id"])) for one in step["assignments"])
    starts_at = datetime.fromisoformat(step["to"])
    move = Move(starts_at=starts_at, assignments=named)
    if step["appointment_id"] is not None:
        return Shift(Call(UUID(step["appointment_id"]), None), move)
    order = Order(
        patient_id=patient_id,
        starts_at=starts_at,
        course_step_id=UUID(step["course_step_id"]),
        assignments=named,
    )
    return Shift(None, move, order)


def _is_off(session: Session, course: Course, protocol: Protocol, key: str) -> bool:
    """Whether the step is not part of the course any more."""
    known = facts.steps_of(session, course.id)
    outcomes = {one.key: one.outcome for one in known if one.outcome}
    skipped = {one.key for one in known if one.skipped_at is not None}
    return rules.belongs(protocol.step(key), protocol, outcomes, skipped) is False


def _out_of_rule(
    session: Session, course: Course, protocol: Protocol, visits: Sequence[Appointment]
) -> dict[UUID, str]:
    """The visits that break a rule beside those before them, and which."""
    slots = facts.slots_of_visits(session, [one.id for one in visits])
    excused = facts.passed_over(session, [one.id for one in visits])
    keys = {one.id: one.key for one in facts.steps_of(session, course.id)}
    zones = {site.site_id: site.zone for site in calendars.sites(session)}
    broken: dict[UUID, str] = {}
    for visit in visits:
        others = facts.other_visits(session, visit.patient_id, course.id, visit.id)
        before = [one for one in others if one.starts_at < visit.starts_at]
        assert visit.course_step_id is not None
        step = protocol.step(keys[visit.course_step_id])
        who = rules.who_of((one.role, one.schedule_id) for one in slots.get(visit.id, ()))
        candidate = Candidate(step, visit.kind, visit.starts_at, zones[visit.site_id], who)
        owed = {f"owes-{one.step}" for one in others if one.step is not None}
        wrong = [
            rule.code
            for rule in rules.judge(candidate, protocol, before)
            if rule.code not in owed and (visit.id, rule.code) not in excused
        ]
        whole = [rule.code for rule in rules.judge(candidate, protocol, others)]
        if wrong and not any((visit.id, code) in excused for code in whole):
            broken[visit.id] = next((one for one in whole if one.startswith(step.key)), wrong[0])
    return broken


class _Group(NamedTuple):
    """Whose visits belong together: a patient's of a course, or one of none."""

    patient_id: UUID
    course_id: UUID | None
    alone: UUID | None


@dataclass
class _Gathering:
    """What a repair has to know, read for all visits at once where it can be."""

    session: Session
    hit: _Hit
    now: datetime
    actors: dict[UUID, Actor] = field(default_factory=dict)
    sites: dict[UUID, Site] = field(default_factory=dict)

    def cases(self) -> list[Case]:
        """One for each patient and course, and for each visit of none."""
        self.near = self._near()
        self._slots = facts.slots_of_visits(self.session, [one.id for one in self.near])
        self.actors = {one.schedule_id: one for one in calendars.all_actors(self.session)}
        self.sites = {one.site_id: one for one in calendars.sites(self.session)}
        groups: dict[_Group, list[Appointment]] = defaultdict(list)
        for visit in self.near:
            alone = None if visit.course_id else visit.id
            groups[_Group(visit.patient_id, visit.course_id, alone)].append(visit)
        for _, visit in self.hit.lost:
            groups.setdefault(_Group(visit.patient_id, visit.course_id, None), [])
        return [self._case(group, visits) for group, visits in groups.items()]

    def calendar(self, cases: Iterable[Case]) -> Calendar:
        """Who is open and taken as far as the visits may move, the patients among them."""
        times = [one.starts_at for one in self.near] + [
            visit.starts_at for _, visit in self.hit.lost
        ]
        end = max([*times, self.now]) + REACH + 2 * DAY
        around = warmth.around(self.session, self.now, end)
        calendar = around.calendar
        window = Window(calendar.frame.start, calendar.frame.at(calendar.frame.size))
        calendar.loads = calendars.loads(self.session, calendar.roster.actors, window)
        patients = {case.patient.schedule_id: case.patient for case in cases}
        spans = calendars.taken_spans(self.session, list(patients), window)
        for schedule_id, actor in patients.items():
            calendar.know(actor, spans.get(schedule_id, {}))
        return calendar

    def _near(self) -> list[Appointment]:
        """The visits near enough to one that is broken to have to move with it."""
        times = [one.starts_at for one in self.hit.visits if one.id in self.hit.broken]
        times += [visit.starts_at for _, visit in self.hit.lost]
        first, last = min(times) - 2 * REACH, max(times) + 2 * REACH
        return [one for one in self.hit.visits if first <= one.starts_at <= last]

    def _case(self, group: _Group, rows: Sequence[Appointment]) -> Case:
        session = self.session
        patient = facts.one(session, Patient, group.patient_id)
        lost = [one for one in self.hit.lost if one[1].course_id == group.course_id]
        version_id = (rows[0] if rows else lost[0][1]).protocol_version_id
        protocol = facts.protocol(session, version_id)
        if group.course_id is None:
            protocol = _of_one(protocol, rows[0])
        here = self.sites[(rows[0] if rows else lost[0][1]).site_id]
        actor = Actor(patient.schedule_id, str(patient.id), ActorKind.PATIENT, None, None, 1)
        others = facts.other_visits(
            session, patient.id, group.course_id, without=[one.id for one in self.near]
        )
        known = self._known(group, protocol, rows)
        keys = self._keys(group)
        visits = [
            self._visit(row, protocol.step(keys.get(row.course_step_id, row.visit)), actor, known)
            for row in rows
        ]
        visits += [
            self._lost(step_id, row, protocol.step(keys[step_id]), known) for step_id, row in lost
        ]
        visits.sort(key=lambda one: one.step.position)
        lead_role = choosing.lead_of(protocol)
        return Case(
            patient=actor,
            protocol=protocol,
            site=here,
            visits=tuple(visits),
            fixed=others,
            lead_role=lead_role,
            lead=_lead(lead_role, others, visits),
            region=patient.region,
        )

    def _keys(self, group: _Group) -> dict[UUID | None, str]:
        if group.course_id is None:
            return {}
        return {one.id: one.key for one in facts.steps_of(self.session, group.course_id)}

    def _known(
        self, group: _Group, protocol: Protocol, rows: Sequence[Appointment]
    ) -> Callable[[Step], Known | None]:
        """What booking gates are judged by, of the steps that have any."""
        if group.course_id is None:
            brief = facts.brief_of(self.session, rows[0])
            alone = evidence.before_booking(self.session, brief, rows[0].id)
            return lambda step: alone
        of = evidence.before_course(self.session, group.patient_id, group.course_id, protocol)
        return lambda step: (
            of(step) if any(one.shuts is Stage.BOOKING for one in step.visit.gates) else None
        )

    def _visit(
        self,
        row: Appointment,
        step: Step,
        patient: Actor,
        known: Callable[[Step], Known | None],
    ) -> Visit:
        served = list(
            _assignments(self._slots.get(row.id, ()), {**self.actors, patient.schedule_id: patient})
        )
        return Visit(
            id=row.id,
            step=step,
            at=row.starts_at,
            assignments=tuple(served),
            why=self.hit.broken.get(row.id),
            earliest=self._earliest(step, row.site_id),
            known=known(step),
        )

    def _lost(
        self, step_id: UUID, row: Appointment, step: Step, known: Callable[[Step], Known | None]
    ) -> Visit:
        missed = row.status is AppointmentStatus.NOSHOW
        return Visit(
            id=step_id,
            step=step,
            at=row.starts_at,
            why="missed" if missed else "cancelled",
            earliest=self._earliest(step, row.site_id),
            known=known(step),
        )

    def _earliest(self, step: Step, site_id: UUID) -> datetime:
        """Not in the past, and not within the notice that the visit wants."""
        soonest, _ = rules.notice_of(step.visit, self.now, self.sites[site_id].zone)
        return max(soonest or self.now, self.now + timedelta(microseconds=1))


def _of_one(protocol: Protocol, visit: Appointment) -> Protocol:
    """A protocol's caps and gaps, with the one visit for its only step."""
    step = Step(
        key=visit.visit,
        position=0,
        visit=protocol.visits[visit.visit],
        windows=(),
        owes=None,
    )
    return replace(protocol, steps=(step,))


def _lead(role: str, others: Iterable[Booked], visits: Iterable[Visit]) -> UUID | None:
    """Who led most visits of a course so far."""
    led: Counter[UUID] = Counter()
    for visit in visits:
        led.update(one.actor.schedule_id for one in visit.assignments if one.role == role)
    for other in others:
        if other.step is not None and other.status in rules.STANDING:
            led.update(other.who.get(role, ()))
    return max(led, key=lambda one: (led[one], one), default=None)


def _assignments(slots: Iterable[Slot], actors: Mapping[UUID, Actor]) -> Iterable[Assignment]:
    """Who serves a visit, making ready and turnover included."""
    stretches: dict[tuple[UUID, str, int], list[list[datetime]]] = defaultdict(list)
    for slot in slots:
        mine = stretches[slot.schedule_id, slot.role, slot.lane]
        if mine and mine[-1][1] == slot.starts_at:
            mine[-1][1] = slot.ends_at
        else:
            mine.append([slot.starts_at, slot.ends_at])
    lanes: dict[tuple[UUID, str, datetime, datetime], list[int]] = defaultdict(list)
    for (schedule_id, role, lane), found in stretches.items():
        for start, end in found:
            lanes[schedule_id, role, start, end].append(lane)
    for (schedule_id, role, start, end), taken in lanes.items():
        if schedule_id in actors:
            yield Assignment(role, actors[schedule_id], tuple(taken), start, end, end)
