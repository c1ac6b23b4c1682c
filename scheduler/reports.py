"""Reports: what a clinic's days came to, in figures that name nobody.

What each figure means stands in docs/reports.md. Some are counted by PostgreSQL alone; those
that rest on rules (opening hours, notice, windows) are counted here, by the rules themselves.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache, partial
from math import ceil
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from models import Site
from models.vocabulary import ActorKind, AppointmentStatus
from scheduler import calendars, facts, figures, rules, snapshots
from scheduler.actors import Actor
from scheduler.errors import Unfit
from scheduler.figures import NOWHERE, Cancelled, Dose, Grid, Place
from scheduler.hours import Stretch, union
from scheduler.periods import LONGEST, Period
from scheduler.protocols import Protocol, Step, Visit
from scheduler.rules import Booked

Line = dict[str, Any]
"""One row of a report: what it is about, then its figures."""

LATE = timedelta(hours=24)
"""A cancellation is late if it comes so near the start, where the protocol asks for no notice."""

GRACE = timedelta(hours=1)
"""A snapshot that was taken later than that says nothing of how it stood 48 hours before."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to know."""

    period: Period
    site_id: UUID | None
    now: datetime


Report = Callable[[Session, Grid, Asked], Iterator[Line]]


def lines(session: Session, report: Report, asked: Asked) -> list[Line]:
    """The rows of a report, by part of the period and then by site.

    Refuses with `NotFound` a site that is not there, and with `Unfit` a period that is none.
    """
    if not timedelta(0) < asked.period.until - asked.period.first <= LONGEST:
        raise Unfit(
            f"Ask for 1 to {LONGEST.days} days: `to` is the day after the last.", field="to"
        )
    if asked.site_id is not None:
        facts.one(session, Site, asked.site_id)
    grid = Grid.over(session, asked.period, asked.site_id)
    if not grid.edges:
        return []
    return sorted(report(session, grid, asked), key=_order)


def _order(line: Line) -> tuple[Any, ...]:
    return tuple("" if value is None else str(value) for value in line.values())


def _at(grid: Grid, place: Place) -> Line:
    part = grid.parts[place.part]
    site = grid.sites.get(place.site_id)
    return {
        "period_from": part.first,
        "period_to": part.until,
        "site": None if site is None else site.name,
        "site_id": None if place.site_id == NOWHERE else place.site_id,
    }


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


# How much of the time that there is was used ---------------------------------------------


class Of(StrEnum):
    """Whose time."""

    ROOM = "room"
    ROLE = "role"


@dataclass(slots=True)
class _Use:
    open: float = 0
    booked: float = 0
    turnover: float = 0


def utilisation(session: Session, grid: Grid, _: Asked) -> Iterator[Line]:
    """How much of the time that rooms and roles are open was booked."""
    actors = [
        actor
        for actor in calendars.all_actors(session)
        if actor.actor_kind in {ActorKind.ROOM, ActorKind.PRACTITIONER}
    ]
    known = {actor.schedule_id: actor for actor in actors}
    used: dict[tuple[Place, Of, str, str], _Use] = defaultdict(_Use)
    for key, minutes in _open(session, grid, known):
        used[key].open += minutes
    for one in figures.taken(session, grid, list(known)):
        of = known[one.schedule_id]
        key = (one.place, Of.ROOM, str(of.schedule_id), of.name)
        if of.actor_kind is ActorKind.PRACTITIONER:
            key = (one.place, Of.ROLE, one.role, one.role)
        used[key].booked += one.minutes
        used[key].turnover += one.turnover
    for (place, what, _key, name), use in used.items():
        yield {
            **_at(grid, place),
            "of": what,
            "name": name,
            "open_minutes": round(use.open),
            "booked_minutes": round(use.booked),
            "turnover_minutes": round(use.turnover),
            "share": _share(use.booked, use.open),
            "share_with_turnover": _share(use.booked + use.turnover, use.open),
        }


def _open(
    session: Session, grid: Grid, known: Mapping[UUID, Actor]
) -> Iterator[tuple[tuple[Place, Of, str, str], float]]:
    """The minutes that each is open; one that can be in several places at once has several."""
    found = calendars.open_stretches(session, list(known), grid.start, grid.end)
    for schedule_id, stretches in found.items():
        actor = known[schedule_id]
        by_site: dict[UUID, list[Stretch]] = defaultdict(list)
        for site_id, stretch in stretches:
            by_site[site_id].append(stretch)
        for site_id in by_site.keys() & grid.sites.keys():
            for stretch in union(by_site[site_id]):
                for what, key, name in _counts_as(actor, stretch, grid.sites[site_id].zone):
                    for place, minutes in _cut(grid, site_id, stretch):
                        yield (place, what, key, name), minutes * actor.lanes


def _counts_as(actor: Actor, stretch: Stretch, zone: ZoneInfo) -> Iterator[tuple[Of, str, str]]:
    """As what an open stretch counts: a room as itself, a clinician as each role of theirs."""
    if actor.actor_kind is ActorKind.ROOM:
        yield Of.ROOM, str(actor.schedule_id), actor.name
        return
    day = stretch[0].astimezone(zone).date()
    held = {one.role for one in actor.licences if one.valid_from <= day <= one.valid_until}
    yield from ((Of.ROLE, role, role) for role in held)


def _cut(grid: Grid, site_id: UUID, stretch: Stretch) -> Iterator[tuple[Place, float]]:
    """The minutes of a stretch in each part of the period."""
    edges = grid.edges[site_id]
    start, end = max(stretch[0], edges[0]), min(stretch[1], edges[-1])
    while start < end:
        part = bisect_right(edges, start) - 1
        until = min(end, edges[part + 1])
        yield Place(site_id, part), (until - start).total_seconds() / 60
        start = until


# Who did not come ------------------------------------------------------------------------

CAME = frozenset(
    {AppointmentStatus.ARRIVED, AppointmentStatus.CHECKED_IN, AppointmentStatus.FULFILLED}
)


def no_shows(session: Session, grid: Grid, _: Asked) -> Iterator[Line]:
    """How many visits were missed, and how many were cancelled too late to be filled again."""
    counts: dict[tuple[Place, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for some in figures.visits(session, grid):
        counts[some.place, some.kind][_became(some.status)] += some.number
    protocol = cache(partial(facts.protocol, session))
    for one in figures.cancelled(session, grid):
        visit = protocol(one.protocol_version_id).visits[one.visit]
        late = is_late(visit, one, grid.sites[one.place.site_id].zone)
        counts[one.place, one.kind]["late" if late else "early"] += 1
    for (place, kind), number in counts.items():
        due = number["kept"] + number["noshow"] + number["late"]
        yield {
            **_at(grid, place),
            "kind": kind,
            "kept": number["kept"],
            "no_shows": number["noshow"],
            "late_cancellations": number["late"],
            "early_cancellations": number["early"],
            "still_booked": number["booked"],
            "no_show_share": _share(number["noshow"], due),
            "late_cancellation_share": _share(number["late"], due),
        }


def _became(status: str) -> str:
    return "kept" if AppointmentStatus(status) in CAME else status


def is_late(visit: Visit, one: Cancelled, zone: ZoneInfo) -> bool:
    """Whether its time could not have been booked anew without a reason: it was too near.

    That is within the notice of the protocol, or where it has none, within 24 hours.
    """
    soonest, _ = rules.notice_of(visit, one.cancelled_at, zone)
    return one.starts_at < (soonest or one.cancelled_at + LATE)


# What belongs soon after a dose ----------------------------------------------------------


class Integrated(StrEnum):
    """What became of what hangs on a dose."""

    IN_TIME = "in_time"
    OUTSIDE = "outside"
    MISSING = "missing"
    PENDING = "pending"
    NOT_ASKED = "not_asked"


def integration_window(session: Session, grid: Grid, asked: Asked) -> Iterator[Line]:
    """After how many doses everything that hangs on them took place within its window."""
    given = figures.doses(session, grid)
    visits = facts.visits_of_courses(session, {dose.course_id for dose in given})
    protocol = cache(partial(facts.protocol, session))
    counts: dict[Place, dict[Integrated, int]] = defaultdict(lambda: defaultdict(int))
    for dose in given:
        known = list(visits[dose.course_id].values())
        zone = grid.sites[dose.place.site_id].zone
        counts[dose.place][
            integrated(protocol(dose.protocol_version_id), dose, known, zone, asked.now)
        ] += 1
    for place, number in counts.items():
        due = number[Integrated.IN_TIME] + number[Integrated.OUTSIDE] + number[Integrated.MISSING]
        yield {
            **_at(grid, place),
            "doses": sum(number.values()),
            **{str(one): number[one] for one in Integrated},
            "share": _share(number[Integrated.IN_TIME], due),
        }


def integrated(
    protocol: Protocol, dose: Dose, known: Sequence[Booked], zone: ZoneInfo, now: datetime
) -> Integrated:
    """What became of what hangs on a dose: the worst of it, and that only when it is settled."""
    outcomes = {one.step: one.outcome for one in known if one.step and one.outcome}
    skipped = {one.step for one in known if one.is_skipped and one.step}
    found = {
        _one_integrated(step, known, zone, now)
        for step in rules.hanging_on(dose.step, protocol)
        if step.key not in skipped and rules.belongs(step, protocol, outcomes, skipped) is not False
    }
    order = (Integrated.MISSING, Integrated.PENDING, Integrated.OUTSIDE, Integrated.IN_TIME)
    return next((one for one in order if one in found), Integrated.NOT_ASKED)


def _one_integrated(
    step: Step, known: Sequence[Booked], zone: ZoneInfo, now: datetime
) -> Integrated:
    first, end = rules.earliest(step, known, zone), rules.latest(step, known, zone)
    came = [one for one in known if one.step == step.key and one.status in CAME]
    if not came:
        return Integrated.MISSING if end is not None and end <= now else Integrated.PENDING
    in_time = any(
        (first is None or first <= one.starts_at) and (end is None or one.starts_at < end)
        for one in came
    )
    return Integrated.IN_TIME if in_time else Integrated.OUTSIDE


# What became of messages -----------------------------------------------------------------


def deliveries(session: Session, grid: Grid, _: Asked) -> Iterator[Line]:
    """What became of the messages that were due, by kind and channel."""
    for one in figures.said(session, grid):
        yield {
            **_at(grid, one.place),
            "kind": one.kind,
            "channel": one.channel,
            "state": one.state,
            "number": one.number,
            "late_p50_seconds": one.late_p50,
            "late_p99_seconds": one.late_p99,
        }


# Who was ready two days before -----------------------------------------------------------


def readiness(session: Session, grid: Grid, asked: Asked) -> Iterator[Line]:
    """How many visits were ready 48 hours before their start."""
    for one in figures.stood(session, grid, snapshots.AHEAD, GRACE, asked.now):
        yield {
            **_at(grid, one.place),
            "kind": one.kind,
            "visits": one.seen,
            "ready_for_arrival": one.for_arrival,
            "ready_for_dose": one.for_dose,
            "not_noted": one.unseen,
            "share_for_arrival": _share(one.for_arrival, one.seen),
            "share_for_dose": _share(one.for_dose, one.seen),
        }


# How long it takes -----------------------------------------------------------------------


def time_to_first_dose(session: Session, grid: Grid, _: Asked) -> Iterator[Line]:
    """How many days pass from a referral, and from the opening of a course, to its first dose."""
    referred: dict[Place, list[int]] = defaultdict(list)
    opened: dict[Place, list[int]] = defaultdict(list)
    for one in figures.first_doses(session, grid):
        zone = grid.sites[one.place.site_id].zone
        given_on = one.given_at.astimezone(zone).date()
        opened[one.place].append((given_on - one.opened_at.astimezone(zone).date()).days)
        if one.referred_on is not None:
            referred[one.place].append((given_on - one.referred_on).days)
    for place, days in opened.items():
        yield {
            **_at(grid, place),
            "courses": len(days),
            "referred": len(referred[place]),
            "days_from_referral_p50": _percentile(referred[place], 50),
            "days_from_referral_p90": _percentile(referred[place], 90),
            "days_from_opening_p50": _percentile(days, 50),
            "days_from_opening_p90": _percentile(days, 90),
        }


def _percentile(values: Iterable[int], percent: int) -> int | None:
    """The smallest value that so many of a hundred do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)] if ordered else None
