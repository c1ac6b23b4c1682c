"""Proposals: keep the ways that were found for a course, and book one of them, whole.

A proposal keeps nothing free. Who accepts it gets every visit of it or none: all schedules are
locked at once, so that of two who accept what collides one sees the other's visits and is told
which of its own lost their time, to whom.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, Course, Proposal
from models.vocabulary import AppointmentStatus, CourseStatus
from scheduler import booking, calendars, facts, written
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Order
from scheduler.calendars import Claim, Lost
from scheduler.choosing import Seated
from scheduler.errors import (
    CourseClosed,
    NotFound,
    ProposalClosed,
    ProposalLost,
    Refusal,
    StepAlreadyBooked,
)
from scheduler.grounds import Way
from scheduler.intervals import GRANULE
from scheduler.joining import PLACE
from scheduler.placing import Named
from scheduler.proposing import Found
from scheduler.rules import STANDING

LASTS = timedelta(hours=24)
"""How long a proposal can be accepted."""

KEPT = timedelta(days=7)
"""How long one that was not is kept after that."""


def keep(
    session: Session, found: Found, asked: Mapping[str, Any], *, by: Authority, now: datetime
) -> list[Proposal]:
    """Keep each of the ways that were found, to be accepted; the best first.

    `asked` is what they answer, as the edge will want to ask it again.
    """
    made = [
        Proposal(
            id=uuid7(),
            patient_id=found.course.patient_id,
            course_id=found.course.id,
            steps=[_step(found, way, visit) for visit in way.visits],
            cost=_cost(found, way),
            asked=dict(asked),
            expires_at=now + LASTS,
            made_by=by.name,
        )
        for way in found.ways
    ]
    session.add_all(made)
    session.flush()
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """A wish to have all visits of a proposal."""

    course_id: UUID
    proposal_id: UUID
    reasons: Reasons = field(default_factory=Reasons)
    hold: bool = False
    """Keep the times for a while instead of booking them."""


def accept(
    session: Session, told: Acceptance, *, by: Authority, now: datetime
) -> list[Appointment]:
    """Book, or hold, every visit of a proposal, or none.

    Times that are held for it already are booked as they are. Refuses with `ProposalLost` if
    any time is taken, with `ProposalClosed`, `CourseClosed`, and with whatever refuses one of
    the visits, which then is named.
    """
    proposal = facts.one(session, Proposal, told.proposal_id)
    if proposal.course_id != told.course_id or is_repair(proposal):
        raise NotFound("There is no such proposal for this course.")
    claims = _claims(proposal)
    _refuse_gone(session, proposal, claims, now)  # without waiting for anybody
    facts.to_change(session, Course, told.course_id, None)
    proposal = facts.to_change(session, Proposal, told.proposal_id, None)
    calendars.be_patient(session)
    groups = {one for one in map(_group_of, proposal.steps) if one is not None}
    calendars.lock(session, {claim.schedule_id for claim in claims} | groups)
    held = _refuse_gone(session, proposal, claims, now)
    booked = [
        _book(session, order, held.get(order.course_step_id), by=by, now=now)
        for order in _orders(proposal, told)
    ]
    if not told.hold:
        proposal.accepted_at, proposal.accepted_by = now, by.name
        session.flush()
    return booked


def is_repair(proposal: Proposal) -> bool:
    """Whether it moves visits that are booked, and so is accepted elsewhere: see repairs.py."""
    return "repair" in proposal.cost


def forget(session: Session, now: datetime) -> int:
    """Drop the proposals that nobody accepted while they could be."""
    gone = session.execute(
        text("DELETE FROM proposal WHERE accepted_at IS NULL AND expires_at <= :then RETURNING 1"),
        {"then": now - KEPT},
    )
    return len(gone.all())


def _step(found: Found, way: Way, visit: Seated) -> dict[str, Any]:
    """A visit of a plan as it is kept, ready to be shown and to be booked."""
    return {
        "course_step_id": str(found.about.rows[visit.step.key].id),
        "key": visit.step.key,
        "kind": visit.step.visit.kind.value,
        "site_id": str(way.site.site_id),
        "time_zone": way.site.zone.key,
        "starts_at": written.instant(visit.starts_at),
        "ends_at": written.instant(visit.ends_at),
        "patient_schedule_id": str(found.about.patient.schedule_id),
        "group_session_id": visit.group_session_id and str(visit.group_session_id),
        "assignments": [
            {
                **written.assignment(one),
                "since": written.instant(one.since),
                "until": written.instant(one.until),
                "lanes": len(one.lanes),
            }
            for one in visit.assignments
            if one.role != PLACE
        ],
    }


def _cost(found: Found, way: Way) -> dict[str, Any]:
    price, minutes = way.plan.price, GRANULE // timedelta(minutes=1)
    return {
        "points": way.plan.cost,
        "finish_at": written.instant(max(visit.starts_at for visit in way.visits)),
        "therapist_changes": price.other_lead,
        "wishes_broken": price.wishes,
        "off_middle_minutes": price.off_middle * minutes,
        "idle_room_minutes": price.idle * minutes,
        "is_best": way.plan.is_best,
    }


def _refuse_gone(
    session: Session, proposal: Proposal, claims: Sequence[Claim], now: datetime
) -> Mapping[UUID | None, Appointment]:
    """Refuse what cannot be accepted any more; otherwise say which steps are held already."""
    assert proposal.course_id is not None
    course = facts.one(session, Course, proposal.course_id)
    if course.status is not CourseStatus.ACTIVE:
        raise CourseClosed("The course is not active any more.", course_status=course.status)
    if proposal.accepted_at is not None:
        raise ProposalClosed("This proposal was accepted already.")
    if proposal.expires_at <= now:
        raise ProposalClosed("This proposal has expired. Ask for a new one.")
    held = facts.held(session, course.id, now)
    booked = facts.steps_with(session, course.id, STANDING - {AppointmentStatus.PENDING})
    if any(UUID(step["course_step_id"]) in booked for step in proposal.steps):
        raise StepAlreadyBooked(
            "Steps of this course were booked meanwhile. Ask for a new proposal."
        )
    lost = calendars.lost(session, claims, now, [visit.id for visit in held.values()])
    gone = [_gone(step) for step in _without_place(session, proposal, held)]
    if not lost and not gone:
        return held
    who = facts.who_booked(session, {visit for one in lost for visit in one.taken_by})
    raise ProposalLost(
        "Somebody was faster: not all of these times are free any more. Nothing was booked.",
        lost=[
            *(
                _lost(proposal.steps[number], list(its), who)
                for number, its in groupby(lost, key=lambda one: one.number)
            ),
            *gone,
        ],
    )


def _without_place(
    session: Session, proposal: Proposal, held: Mapping[UUID | None, Appointment]
) -> Iterator[Mapping[str, Any]]:
    """The steps whose group session is full, cancelled, or at another time now."""
    wanted = {one for one in map(_group_of, proposal.steps) if one is not None}
    groups = {one.id: one for one in facts.groups_of(session, wanted)}
    taken = facts.places_taken(session, list(wanted))
    for step in proposal.steps:
        group_id = _group_of(step)
        if group_id is None:
            continue
        group, mine = groups.get(group_id), UUID(step["course_step_id"]) in held
        left = 0 if group is None else group.places - len(taken[group_id]) + mine
        if (
            group is None
            or not left
            or group.starts_at != datetime.fromisoformat(step["starts_at"])
        ):
            yield step


def _gone(step: Mapping[str, Any]) -> dict[str, Any]:
    """A visit that has lost its place in a group session."""
    names = ("course_step_id", "key", "kind", "starts_at", "group_session_id")
    return {**{name: step[name] for name in names}, "schedules": []}


def _lost(step: Mapping[str, Any], lost: Sequence[Lost], who: Mapping[UUID, str]) -> dict[str, Any]:
    names = {one["schedule_id"]: one["name"] for one in step["assignments"]}
    return {
        **{name: step[name] for name in ("course_step_id", "key", "kind", "starts_at")},
        "schedules": [
            {
                "schedule_id": str(one.schedule_id),
                "name": names.get(str(one.schedule_id), "patient"),
                "taken_by": [
                    {"appointment_id": str(visit), "booked_by": who[visit]}
                    if visit in who
                    else {"group_session_id": str(visit)}
                    for visit in one.taken_by
                ],
            }
            for one in lost
        ],
    }


def _claims(proposal: Proposal) -> list[Claim]:
    return [claim for number, step in enumerate(proposal.steps) for claim in _of(number, step)]


def _of(number: int, step: Mapping[str, Any]) -> list[Claim]:
    start, end = map(datetime.fromisoformat, (step["starts_at"], step["ends_at"]))
    patient = Claim(number, UUID(step["patient_schedule_id"]), start, end, 1)
    if _group_of(step) is not None:  # who serves it is the session's
        return [patient]
    others = [
        Claim(
            number,
            UUID(one["schedule_id"]),
            datetime.fromisoformat(one["since"]),
            datetime.fromisoformat(one["until"]),
            one["lanes"],
        )
        for one in step["assignments"]
    ]
    return [patient, *others]


def _orders(proposal: Proposal, told: Acceptance) -> Iterator[Order]:
    for step in proposal.steps:
        yield Order(
            patient_id=proposal.patient_id,
            course_step_id=UUID(step["course_step_id"]),
            starts_at=datetime.fromisoformat(step["starts_at"]),
            assignments=_named(step),
            reasons=told.reasons,
            hold=told.hold,
            group_session_id=_group_of(step),
        )


def _named(step: Mapping[str, Any]) -> tuple[Named, ...] | None:
    """Who serves a visit; None: a group session does."""
    if _group_of(step) is not None:
        return None
    return tuple(Named(one["role"], UUID(one["schedule_id"])) for one in step["assignments"])


def _group_of(step: Mapping[str, Any]) -> UUID | None:
    """The group session in which a visit is a place, if it is one."""
    told = step.get("group_session_id")
    return None if told is None else UUID(told)


def _book(
    session: Session, order: Order, held: Appointment | None, *, by: Authority, now: datetime
) -> Appointment:
    """Book one visit, or make firm what is held for it; a refusal says which visit it was."""
    try:
        if held is not None and not order.hold and held.starts_at == order.starts_at:
            return booking.confirm(session, Call(held.id, None), by=by, now=now)
        return booking.book(session, order, by=by, now=now)
    except Refusal as refusal:
        refusal.facts["course_step_id"] = str(order.course_step_id)
        refusal.facts["starts_at"] = order.starts_at.isoformat()
        raise
