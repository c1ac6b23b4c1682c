"""Group sessions: make one, move it with its cohort, cancel it, begin it.

A patient takes a place by `booking.book` and leaves it by `booking.cancel`; what is here
concerns all of them at once. Functions flush and never commit; a refusal leaves nothing behind
once the edge rolls back, so a cohort moves whole or stays where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, GroupSession
from models.vocabulary import AppointmentStatus
from scheduler import (
    booking,
    calendars,
    facts,
    history,
    judging,
    lifecycle,
    placing,
    seating,
    sessions,
    slots,
)
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Changed, Cohort, Move
from scheduler.errors import NotReady, Refusal, Understaffed, Unfit
from scheduler.lifecycle import Action
from scheduler.placing import BENDABLE, Named, Wish
from scheduler.protocols import Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A group session to be made."""

    visit: str
    """The key of a group visit in the protocol version."""
    protocol_version_id: UUID
    starts_at: datetime
    places: int | None = None
    """None: as many as the protocol says; never more."""
    site_id: UUID | None = None
    """None: wherever there is room."""
    assignments: tuple[Named, ...] | None = None
    """Who and where. None: the choice is ours, for as many patients as there are places."""
    reasons: Reasons = field(default_factory=Reasons)


@dataclass(frozen=True, slots=True)
class Moved:
    """A session that was moved or cancelled, and its places with it."""

    group: GroupSession
    changed: Sequence[Changed]


def make(session: Session, wanted: Wanted, *, by: Authority, now: datetime) -> GroupSession:
    """Take staff and a room for a group session, or refuse it whole.

    Refuses with `Unfit` if the visit is none of a group's or has fewer places, and with what
    `placing` and `judging.refuse_impossible` refuse.
    """
    visit = _visit(session, wanted)
    assert visit.group is not None
    places = wanted.places or visit.group.places
    if places > visit.group.places:
        detail = f"The protocol has {visit.group.places} places for this visit at most."
        raise Unfit(detail, field="places")
    judging.refuse_impossible(wanted.starts_at, now)
    wish = Wish(
        placing.staffed(visit, places, wanted.assignments),
        wanted.starts_at,
        None,
        wanted.assignments,
        waived=BENDABLE.intersection(wanted.reasons.given),
        site_id=wanted.site_id,
    )
    placement = booking.secure(session, wish, now)
    group = GroupSession(
        id=uuid7(),
        protocol_version_id=wanted.protocol_version_id,
        visit=visit.key,
        kind=visit.kind,
        site_id=placement.site.site_id,
        starts_at=wanted.starts_at,
        ends_at=wanted.starts_at + visit.length,
        places=places,
        version=1,
        made_by=by.name,
    )
    session.add(group)
    session.flush()
    booking.refusing_taken(session, lambda: slots.put_group(session, group, placement))
    return group


def move(session: Session, call: Call, move: Move, *, by: Authority, now: datetime) -> Moved:
    """Move a session with everybody in it, or give it other staff; or refuse and change nothing.

    Each place is judged at the new time. A refusal that concerns one patient names the visit
    in `appointment_id`. Other staff at the same time are a change of their own: patients hear
    nothing, and it can be made once the session has begun.
    """
    group = facts.one(session, GroupSession, call.id)
    is_later = move.starts_at != group.starts_at
    if is_later:
        judging.refuse_impossible(move.starts_at, now)
    company = facts.company(session, group.id)
    visit = placing.staffed(facts.group_visit(session, group), group.places, move.assignments)
    staff = {one.actor.schedule_id for one in calendars.staff_of(session, group)}
    wish = Wish(
        visit,
        move.starts_at,
        None,
        move.assignments,
        prefer=frozenset(staff),
        moving=group.id,
        leaving=_locks(session, group, company),
        company=frozenset(schedule_id for _, schedule_id in company),
        waived=BENDABLE.intersection(move.reasons.given),
    )
    placement = booking.secure(session, wish, now)
    group = _to_change(session, call)
    elsewhere = group.site_id != placement.site.site_id
    group.starts_at, group.ends_at = move.starts_at, move.starts_at + visit.length
    group.site_id = placement.site.site_id
    session.flush()
    booking.refusing_taken(session, lambda: slots.put_group(session, group, placement))
    taken = tuple(one._replace(lanes=()) for one in placement.assignments)
    cohort = Cohort(move, replace(placement, assignments=taken), by, now)
    changed = [
        _bring_along(session, one, cohort)
        for one, _ in company
        if is_later or elsewhere or one.status is AppointmentStatus.BOOKED
    ]
    seating.settle(session, group.id, now)
    return Moved(group, changed)


def cancel(session: Session, call: Call, *, by: Authority, now: datetime) -> Moved:
    """Cancel a session and every place in it. Refuses whole if somebody is past the dose gate."""
    group = facts.one(session, GroupSession, call.id)
    company = facts.company(session, group.id)
    calendars.lock(session, _locks(session, group, company))
    group = _to_change(session, call)
    changed = [
        booking.cancel(session, Call(one.id, None, call.reason), by=by, now=now)
        for one, _ in company
    ]
    slots.free_group(session, group.id)
    group.cancelled_at = now
    seating.settle(session, group.id, now)
    return Moved(group, changed)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one place when the whole session went a step further."""

    appointment: Appointment
    refusal: Refusal | None = None
    """Why this one was left where it was."""


def act(
    session: Session, call: Call, action: Action, *, by: Authority, now: datetime
) -> list[Taken]:
    """Take everybody who can a step further: one who is not ready does not stop the others.

    Those whom the step does not concern, as they have not come or are past it, are left out.
    """
    group = facts.one(session, GroupSession, call.id)
    calendars.lock(session, {group.id})
    _to_change(session, call)
    concerned = [
        visit
        for visit, _ in facts.company(session, group.id)
        if action in lifecycle.possible(history.state_of(visit), visit.kind)
    ]
    return [_act(session, Call(one.id, None, call.reason), action, by, now) for one in concerned]


def _act(session: Session, call: Call, action: Action, by: Authority, now: datetime) -> Taken:
    try:
        with session.begin_nested():
            return Taken(sessions.act(session, call, action, by=by, now=now))
    except (NotReady, Understaffed) as refusal:
        return Taken(facts.one(session, Appointment, call.id), refusal)


def _bring_along(session: Session, visit: Appointment, cohort: Cohort) -> Changed:
    try:
        return booking.bring_along(session, visit.id, cohort)
    except Refusal as refusal:
        refusal.facts["appointment_id"] = str(visit.id)
        raise


def _visit(session: Session, wanted: Wanted) -> Visit:
    visit = facts.protocol(session, wanted.protocol_version_id).visits.get(wanted.visit)
    if visit is None or visit.group is None:
        raise Unfit("The protocol has no such group visit.", field="visit")
    return visit


def _to_change(session: Session, call: Call) -> GroupSession:
    group = facts.to_change(session, GroupSession, call.id, call.version)
    seating.refuse_cancelled(group)
    return group


def _locks(
    session: Session, group: GroupSession, company: Sequence[tuple[Appointment, UUID]]
) -> frozenset[UUID]:
    """Everything that a change of the whole session waits for."""
    staff = {one.actor.schedule_id for one in calendars.staff_of(session, group)}
    return frozenset({group.id, *staff, *(schedule_id for _, schedule_id in company)})
