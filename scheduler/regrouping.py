"""Regrouping: what becomes of the group sessions of somebody who is away.

A cohort moves as one. What is proposed was tried: the session was given other staff, or moved
with everybody in it, by what moves it for good, and put back. Nothing is kept free for it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from models import Disruption, GroupSession
from models.vocabulary import ActorKind
from scheduler import calendars, facts, groups, placing, warmth, written
from scheduler.actors import Actor, Calendar
from scheduler.authority import Authority, Call
from scheduler.availability import Question, Staffing
from scheduler.booking import Move
from scheduler.calendars import Window
from scheduler.errors import NotFound, Refusal
from scheduler.groups import Moved
from scheduler.intervals import granules, indexes, runs
from scheduler.placing import Named
from scheduler.timeline import DAY

REACH = timedelta(days=14)
"""How far from its time a session may be moved."""

TRIES = 20
"""At so many other times, on days of their own, it is tried at most."""


def propose(session: Session, disruption: Disruption, *, by: Authority, now: datetime) -> None:
    """Look for other staff, or else for another time, for each session that is hit."""
    during = disruption.starts_at, disruption.ends_at
    hit = facts.groups_served(session, disruption.schedule_id, *during)
    disruption.group_moves = [
        _proposed(session, facts.one(session, GroupSession, one), by, now) for one in hit
    ]
    session.flush()


@dataclass(frozen=True, slots=True)
class Regrouped:
    """Which sessions were moved, and which were not and why."""

    done: Sequence[Moved]
    refused: Mapping[UUID, Refusal]


def accept(
    session: Session,
    disruption_id: UUID,
    wanted: Collection[UUID] | None,
    *,
    by: Authority,
    now: datetime,
) -> Regrouped:
    """Move these sessions, or all, as proposed: each with everybody in it or not at all.

    For those that were refused a fresh proposal is made. Refuses with `NotFound` if of one of
    them nothing is proposed.
    """
    disruption = facts.to_change(session, Disruption, disruption_id, None)
    waiting = {
        UUID(one["group_session_id"]): one for one in open_of(session, disruption) if one["to"]
    }
    if unknown := set(wanted or ()) - set(waiting):
        raise NotFound(
            "Of these group sessions nothing is open.",
            group_sessions=sorted(str(one) for one in unknown),
        )
    done: list[Moved] = []
    refused: dict[UUID, Refusal] = {}
    told = {UUID(one["group_session_id"]): one for one in disruption.group_moves}
    for group_id in waiting if wanted is None else wanted:
        try:
            with session.begin_nested():
                call = Call(group_id, None)
                done.append(groups.move(session, call, _move(told[group_id]), by=by, now=now))
            told[group_id] = {**told[group_id], "accepted_at": written.instant(now)}
        except Refusal as refusal:
            refused[group_id] = refusal
            group = facts.one(session, GroupSession, group_id)
            told[group_id] = _proposed(session, group, by, now)
    disruption.group_moves = list(told.values())
    session.flush()
    return Regrouped(done, refused)


def open_of(session: Session, disruption: Disruption) -> list[dict[str, Any]]:
    """What is proposed for the sessions that are still served by who is away.

    One that was accepted is not, nor one that somebody cancelled or moved by hand.
    """
    during = disruption.starts_at, disruption.ends_at
    hit = set(map(str, facts.groups_served(session, disruption.schedule_id, *during)))
    return [one for one in disruption.group_moves if one["group_session_id"] in hit]


def _move(told: Mapping[str, Any]) -> Move:
    named = tuple(Named(one["role"], UUID(one["schedule_id"])) for one in told["assignments"])
    return Move(starts_at=datetime.fromisoformat(told["to"]), assignments=named)


def _proposed(
    session: Session, group: GroupSession, by: Authority, now: datetime
) -> dict[str, Any]:
    """The first time at which the session could be held, its own before any other."""
    before = {
        "group_session_id": str(group.id),
        "kind": group.kind.value,
        "from": written.instant(group.starts_at),
        "accepted_at": None,
    }
    why: Refusal | None = None
    others = islice(_others(session, group, now), TRIES)  # looked for only if its own is shut
    for starts_at in chain([group.starts_at], others):
        try:
            return {**before, **_tried(session, group.id, starts_at, by, now)}
        except Refusal as refusal:
            why = why or refusal
    assert why is not None
    nowhere: dict[str, Any] = {"to": None, "ends_at": None, "site_id": None, "assignments": []}
    return {**before, **nowhere, "why": why.code, "detail": why.detail}


def _tried(
    session: Session, group_id: UUID, starts_at: datetime, by: Authority, now: datetime
) -> dict[str, Any]:
    """Move the session, see who serves it, and put it back."""
    trial = session.begin_nested()
    try:
        moved = groups.move(
            session, Call(group_id, None), Move(starts_at=starts_at), by=by, now=now
        )
        return {
            "to": written.instant(moved.group.starts_at),
            "ends_at": written.instant(moved.group.ends_at),
            "site_id": str(moved.group.site_id),
            "assignments": [
                written.assignment(one) for one in calendars.staff_of(session, moved.group)
            ],
            "why": None,
            "detail": None,
        }
    finally:
        trial.rollback()


def _others(session: Session, group: GroupSession, now: datetime) -> Iterator[datetime]:
    """Other times at which staff, a room and all its patients are free, the nearest days first.

    Of each day that which is nearest to the session's time of day.
    """
    start, end = max(now, group.starts_at - REACH), group.starts_at + REACH
    around = warmth.fresh(session, start, end + DAY, group.id)
    [site] = [one for one in around.sites if one.site_id == group.site_id]
    visit = placing.staffed(facts.group_visit(session, group), group.places, None)
    question = Question(visit=visit, earliest=start.astimezone(UTC), latest=end.astimezone(UTC))
    free = _company_free(session, group, around.calendar)
    starts = Staffing(question, site, around.calendar).starts & runs(free, granules(visit.length))
    wall = group.starts_at.astimezone(site.zone)
    by_day: dict[int, list[tuple[timedelta, datetime]]] = {}
    for index in indexes(starts).tolist():
        moment = around.calendar.frame.at(index)
        there = moment.astimezone(site.zone)
        off = abs(there.replace(tzinfo=None) - datetime.combine(there.date(), wall.time()))
        by_day.setdefault((there.date() - wall.date()).days, []).append((off, moment))
    for _, found in sorted(by_day.items(), key=lambda one: (abs(one[0]), one[0])):
        yield min(found)[1]


def _company_free(session: Session, group: GroupSession, calendar: Calendar) -> int:
    """The granules at which none of the session's patients is in any visit."""
    frame = calendar.frame
    ids = [schedule_id for _, schedule_id in facts.company(session, group.id)]
    spans = calendars.taken_spans(session, ids, Window(frame.start, frame.at(frame.size)))
    free = (1 << frame.size) - 1
    for schedule_id in ids:
        patient = Actor(schedule_id, "", ActorKind.PATIENT, None, None, 1)
        calendar.know(patient, spans.get(schedule_id, {}))
        free &= ~calendar.taken_on(patient)[0]
    return free
