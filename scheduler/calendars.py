"""Calendars: the SELECTs that say who is open and who is taken, and nothing else.

Slots are searched by the btree on `(clinic_id, schedule_id, starts_at)`: under row-level
security `during && ...` cannot use its GiST index. A slot is shorter than a day, so those
that reach into a window start at most a day before it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Select, func, select, text
from sqlalchemy.orm import Session

from models import (
    TAKEN_BY,
    Closure,
    Device,
    GroupSession,
    OpeningHours,
    Practitioner,
    Qualification,
    Room,
    Schedule,
    Site,
    Slot,
)
from models.vocabulary import ActorKind, SlotStatus
from scheduler import actors
from scheduler.actors import Actor, Assignment, Calendar, Licence, Roster, Taken
from scheduler.hours import Hours, Stretch, expand, union
from scheduler.intervals import GRANULE
from scheduler.public_holidays import Holidays
from scheduler.timeline import DAY, Timeline, midnight

LONGEST = timedelta(days=2)
"""No slot is longer: a visit and its turnover end within two days. tests/house checks it."""

AT_ONCE = 32
"""How many schedules are read in one go: a year of hundreds would fill the memory meanwhile."""


Entry = TypeVar("Entry", OpeningHours, Closure)


@dataclass(frozen=True, slots=True)
class Window:
    """From when, until when, and which visit's slots are left out."""

    start: datetime
    end: datetime
    but: UUID | None = None


def sites(session: Session, site_id: UUID | None = None) -> list[actors.Site]:
    """The clinic's sites, or the one."""
    query = select(Site.id, Site.name, Site.time_zone).order_by(Site.name)
    if site_id is not None:
        query = query.where(Site.id == site_id)
    return [
        actors.Site(row.id, row.name, ZoneInfo(row.time_zone)) for row in session.execute(query)
    ]


def all_actors(session: Session, only: Collection[UUID] | None = None) -> list[Actor]:
    """Everybody and everything with a schedule but patients, or those of the schedules `only`."""
    query = (
        select(
            Schedule.id,
            Schedule.name,
            Schedule.actor_kind,
            Schedule.lanes,
            Schedule.most_per_day,
            Schedule.most_per_week,
            Practitioner.id.label("practitioner_id"),
            Room.site_id.label("room_site"),
            Room.kind.label("room_kind"),
            Device.site_id.label("device_site"),
            Device.kind.label("device_kind"),
        )
        .outerjoin(
            Practitioner,
            (Practitioner.clinic_id == Schedule.clinic_id)
            & (Practitioner.schedule_id == Schedule.id),
        )
        .outerjoin(Room, (Room.clinic_id == Schedule.clinic_id) & (Room.schedule_id == Schedule.id))
        .outerjoin(
            Device, (Device.clinic_id == Schedule.clinic_id) & (Device.schedule_id == Schedule.id)
        )
        .where(Schedule.actor_kind != ActorKind.PATIENT)
        .order_by(Schedule.name, Schedule.id)
    )
    if only is not None:
        query = query.where(Schedule.id.in_(only))
    rows = session.execute(query).all()
    licences = _licences(session, [row.practitioner_id for row in rows if row.practitioner_id])
    return [
        Actor(
            row.id,
            row.name,
            ActorKind(row.actor_kind),
            row.room_kind or row.device_kind,
            row.room_site or row.device_site,
            row.lanes,
            tuple(licences.get(row.practitioner_id, ())),
            row.practitioner_id,
            row.most_per_day,
            row.most_per_week,
        )
        for row in rows
    ]


def load(
    session: Session, of: Sequence[Actor], window: Window, *, with_taken: bool = True
) -> Calendar:
    """Who of `of` is open, and taken, in the window, read for this question alone."""
    timeline = timeline_of(session, of, window, with_taken=with_taken)
    calendar = Calendar.over(timeline, Roster(of), window.start, window.end)
    if with_taken:
        calendar.loads = loads(session, of, window)
    return calendar


def timeline_of(
    session: Session, of: Sequence[Actor], window: Window, *, with_taken: bool = True
) -> Timeline:
    """The bits of these actors over the days that the window touches."""
    first = midnight(window.start)
    timeline = Timeline(first, -((first - window.end) // DAY))
    whole = Window(first, first + timeline.days * DAY, window.but)
    ids = [actor.schedule_id for actor in of]
    for begin in range(0, len(ids), AT_ONCE):
        _read_into(session, timeline, ids[begin : begin + AT_ONCE], whole, with_taken=with_taken)
    return timeline


def _read_into(
    session: Session, timeline: Timeline, ids: Sequence[UUID], window: Window, *, with_taken: bool
) -> None:
    opened = open_stretches(session, ids, window.start, window.end)
    for schedule_id, stretches in opened.items():
        timeline.set_open(schedule_id, stretches)
    if with_taken:
        for schedule_id, lanes in taken_spans(session, ids, window).items():
            timeline.set_taken(schedule_id, lanes)


def open_stretches(
    session: Session, ids: Sequence[UUID], start: datetime, end: datetime
) -> Mapping[UUID, list[tuple[UUID, Stretch]]]:
    """For each schedule when it is open, closures taken out, with the site."""
    shut = closed(session, ids, start, end)
    return {
        schedule_id: [
            (site_id, part)
            for site_id, stretch in expand(hours, start, end)
            for part in _without(stretch, shut[schedule_id])
        ]
        for schedule_id, hours in _hours(session, ids).items()
    }


Spans = Mapping[UUID, Mapping[int, Sequence[tuple[int, int]]]]
"""For each schedule and lane the granules that are gone, from the start of the epoch."""


def taken_spans(session: Session, ids: Sequence[UUID], window: Window) -> Spans:
    """The slots of many schedules that reach into a window, lane by lane."""
    found: dict[UUID, dict[int, list[tuple[int, int]]]] = defaultdict(dict)
    told = {"ids": list(ids), "but": window.but, "earliest": window.start - LONGEST}
    rows = session.execute(_SPANS, {**told, "start": window.start, "end": window.end})
    for schedule_id, lane, firsts, ends in rows:
        found[schedule_id][lane] = list(zip(firsts, ends, strict=True))
    return found


def taken(
    session: Session, schedule_ids: Sequence[UUID], window: Window
) -> Mapping[UUID, Sequence[Taken]]:
    """For each schedule the slots that reach into the window."""
    may_give_way = Slot.status != SlotStatus.BUSY
    query = select(Slot.schedule_id, Slot.lane, Slot.starts_at, Slot.ends_at, may_give_way).where(
        Slot.schedule_id.in_(schedule_ids),
        Slot.starts_at >= window.start - LONGEST,
        Slot.starts_at < window.end,
        Slot.ends_at > window.start,
    )
    if window.but is not None:
        query = query.where(TAKEN_BY.is_distinct_from(window.but))
    found: dict[UUID, list[Taken]] = defaultdict(list)
    for row in session.execute(query):
        found[row.schedule_id].append(Taken(*row))
    return found


def loads(session: Session, of: Iterable[Actor], window: Window) -> dict[UUID, list[datetime]]:
    """For each actor that serves so many visits at most: the starts of those around a window.

    Whole weeks: a day's visits count into its week, wherever the window begins.
    """
    capped = [actor.schedule_id for actor in of if actor.is_capped]
    if not capped:
        return {}
    query = (
        select(Slot.schedule_id, TAKEN_BY, func.min(Slot.starts_at))
        .where(
            Slot.schedule_id.in_(capped),
            Slot.starts_at >= window.start - 8 * DAY,
            Slot.starts_at < window.end + 8 * DAY,
        )
        .group_by(Slot.schedule_id, TAKEN_BY)
    )
    if window.but is not None:
        query = query.where(TAKEN_BY.is_distinct_from(window.but))
    found: dict[UUID, list[datetime]] = defaultdict(list)
    for schedule_id, _, starts_at in session.execute(query):
        found[schedule_id].append(starts_at)
    return found


def slots_of(session: Session, appointment_id: UUID) -> Sequence[Taken]:
    """Everything that a visit takes."""
    query = select(Slot.schedule_id, Slot.lane, Slot.starts_at, Slot.ends_at)
    rows = session.execute(query.where(Slot.appointment_id == appointment_id))
    return [Taken(*row) for row in rows]


def imported(session: Session, model: type[Entry], schedule_id: UUID) -> Sequence[Entry]:
    """A schedule's opening hours or closures that were read from a file."""
    query = select(model).where(model.schedule_id == schedule_id, model.uid.is_not(None))
    return session.scalars(query).all()


def of_feed(session: Session, feed_id: UUID) -> Sequence[Closure]:
    """The closures that a calendar elsewhere told of."""
    return session.scalars(select(Closure).where(Closure.busy_feed_id == feed_id)).all()


def outside(session: Session, schedule_id: UUID, now: datetime) -> list[UUID]:
    """Whose time to come on a schedule reaches outside of when it is open, the earliest first."""
    rows = session.execute(_to_come(now).where(Slot.schedule_id == schedule_id)).all()
    if not rows:
        return []
    end = max(row.ends_at for row in rows)
    opened = open_stretches(session, [schedule_id], now, end).get(schedule_id, [])
    whole = union(stretch for _, stretch in opened)
    found = (
        row.by
        for row in rows
        if not any(
            start <= max(row.starts_at, now) and row.ends_at <= until for start, until in whole
        )
    )
    return list(dict.fromkeys(found))


def clashing(session: Session, feed_id: UUID, now: datetime) -> list[UUID]:
    """Whose time to come falls into what a feed closed, the earliest first."""
    query = _to_come(now).join(
        Closure,
        (Closure.clinic_id == Slot.clinic_id)
        & (Closure.schedule_id == Slot.schedule_id)
        & (Closure.starts_at < Slot.ends_at)
        & (Closure.ends_at > Slot.starts_at),
    )
    rows = session.execute(query.where(Closure.busy_feed_id == feed_id))
    return list(dict.fromkeys(row.by for row in rows))


def _to_come(now: datetime) -> Select[Any, datetime, datetime]:
    """Time that visits and group sessions take, turnover and charting left out."""
    return (
        select(TAKEN_BY.label("by"), Slot.starts_at, Slot.ends_at)
        .where(Slot.ends_at > now, Slot.status != SlotStatus.BUSY_UNAVAILABLE)
        .order_by(Slot.starts_at)
    )


class Claim(NamedTuple):
    """Time on lanes of a schedule that somebody would like to take."""

    number: int
    """Of the visit that it is for."""
    schedule_id: UUID
    since: datetime
    until: datetime
    lanes: int


class Lost(NamedTuple):
    """A claim that cannot be met, and the visits that took its time."""

    number: int
    schedule_id: UUID
    taken_by: Sequence[UUID]


def lost(
    session: Session, claims: Sequence[Claim], now: datetime, own: Sequence[UUID] = ()
) -> list[Lost]:
    """Say which of the claims cannot be met any more, in their order.

    The visits `own` are not in the way, nor are holds that have run out.
    """
    columns = dict(zip(Claim._fields, map(list, zip(*claims, strict=True)), strict=True))
    rows = session.execute(_LOST, {**columns, "own": list(own), "longest": LONGEST, "now": now})
    return sorted(Lost(*row) for row in rows)


def be_patient(session: Session) -> None:
    """Wait longer for locks than a single booking does, to the end of the transaction.

    Who takes the time of a whole course may stand in a queue of those who do the same.
    """
    session.execute(text("SET LOCAL lock_timeout = '12s'"))


def lock(session: Session, schedule_ids: Collection[UUID]) -> None:
    """Wait until nobody else is booking on these schedules; held to the end of the transaction.

    Always in one order, so two bookings never wait for each other. A schedule's lock is the
    random half of its id.
    """
    keys = sorted({int.from_bytes(one.bytes[8:], "big", signed=True) for one in schedule_ids})
    session.execute(_LOCK, {"keys": keys})


def lock_name(session: Session, name: str) -> None:
    """Wait until nobody else of the clinic has this name; held to the transaction's end.

    Taken before any schedule's lock.
    """
    session.execute(_LOCK_NAME, {"name": f"{session.info['clinic_id']} {name}"})


_LOCK_NAME = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")

_SPANS = text(
    """
    SELECT schedule_id, lane,
           array_agg(floor(extract(epoch FROM starts_at) / 300)::integer),
           array_agg(ceil(extract(epoch FROM ends_at) / 300)::integer)
      FROM slot
     WHERE schedule_id = ANY(:ids) AND starts_at >= :earliest AND starts_at < :end
       AND ends_at > :start
       AND coalesce(appointment_id, group_session_id) IS DISTINCT FROM CAST(:but AS uuid)
     GROUP BY schedule_id, lane
    """
)
"""A row for each lane, whatever its number of slots: half a million rows would take seconds."""

_LOST = text(
    """
    SELECT claim.number, claim.schedule_id,
           array_agg(DISTINCT coalesce(slot.appointment_id, slot.group_session_id))
      FROM unnest(CAST(:number AS integer[]), CAST(:schedule_id AS uuid[]),
                  CAST(:since AS timestamptz[]), CAST(:until AS timestamptz[]),
                  CAST(:lanes AS integer[]))
           AS claim (number, schedule_id, since, until, lanes)
      JOIN schedule ON schedule.id = claim.schedule_id
      JOIN slot ON slot.schedule_id = claim.schedule_id AND slot.starts_at < claim.until
           AND slot.ends_at > claim.since AND slot.starts_at >= claim.since - :longest
      LEFT JOIN appointment ON appointment.id = slot.appointment_id
     WHERE (appointment.held_until IS NULL OR appointment.held_until > :now)
       AND (appointment.id IS NULL OR appointment.id <> ALL(CAST(:own AS uuid[])))
     GROUP BY claim.number, claim.schedule_id, claim.since, claim.lanes, schedule.lanes
    HAVING count(DISTINCT slot.lane) > schedule.lanes - claim.lanes
    """
)

_LOCK = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")


def day_around(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """A window on granules that holds a visit with some room on either side."""
    first = start.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    return first, end + timedelta(hours=6) + GRANULE


def _licences(session: Session, practitioner_ids: Sequence[UUID]) -> Mapping[UUID, list[Licence]]:
    found: dict[UUID, list[Licence]] = defaultdict(list)
    if practitioner_ids:
        rows = session.execute(
            select(
                Qualification.practitioner_id,
                Qualification.role,
                Qualification.valid_from,
                Qualification.valid_until,
                Qualification.regions,
            ).where(Qualification.practitioner_id.in_(practitioner_ids))
        )
        for row in rows:
            licence = Licence(row.role, row.valid_from, row.valid_until, frozenset(row.regions))
            found[row.practitioner_id].append(licence)
    return found


def _hours(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, list[Hours]]:
    rows = session.execute(
        select(
            OpeningHours.schedule_id,
            OpeningHours.site_id,
            Site.time_zone,
            OpeningHours.first_start,
            OpeningHours.minutes,
            OpeningHours.rule,
            OpeningHours.exceptions,
            OpeningHours.time_zone.label("own_zone"),
            OpeningHours.on_holidays,
            Site.holiday_region,
            Site.holidays_worked,
        )
        .join(Site, (Site.clinic_id == OpeningHours.clinic_id) & (Site.id == OpeningHours.site_id))
        .where(OpeningHours.schedule_id.in_(ids))
    )
    found: dict[UUID, list[Hours]] = defaultdict(list)
    for row in rows:
        found[row.schedule_id].append(
            Hours(
                row.site_id,
                ZoneInfo(row.own_zone or row.time_zone),
                row.first_start,
                timedelta(minutes=row.minutes),
                row.rule,
                frozenset(row.exceptions),
                None if row.on_holidays else _holidays(row),
            )
        )
    return found


def _holidays(site: Any) -> Holidays | None:
    if site.holiday_region is None:
        return None
    worked = frozenset(site.holidays_worked)
    return Holidays(site.holiday_region, ZoneInfo(site.time_zone), worked)


def closed(
    session: Session, ids: Sequence[UUID], start: datetime, end: datetime
) -> Mapping[UUID, list[Stretch]]:
    """For each schedule its closures that reach into a window, in the order of time."""
    rows = session.execute(
        select(Closure.schedule_id, Closure.starts_at, Closure.ends_at)
        .where(Closure.schedule_id.in_(ids), Closure.starts_at < end, Closure.ends_at > start)
        .order_by(Closure.starts_at)
    )
    found: dict[UUID, list[Stretch]] = defaultdict(list)
    for row in rows:
        found[row.schedule_id].append((row.starts_at, row.ends_at))
    return found


def _without(stretch: Stretch, closures: Sequence[Stretch]) -> list[Stretch]:
    """What is left of an open stretch; `closures` in the order of time."""
    start, end = stretch
    left = []
    for shut_from, shut_until in closures:
        if shut_until <= start or shut_from >= end:
            continue
        if start < shut_from:
            left.append((start, shut_from))
        start = max(start, shut_until)
    if start < end:
        left.append((start, end))
    return left


def staff_of(session: Session, group: GroupSession) -> tuple[Assignment, ...]:
    """Who and what a group session has taken. On no lane: it is the session's, taken once."""
    return staff_of_each(session, [group])[group.id]


def staff_of_each(
    session: Session, groups: Sequence[GroupSession]
) -> Mapping[UUID, tuple[Assignment, ...]]:
    """The same for many sessions at once."""
    rows = session.execute(
        select(
            Slot.group_session_id,
            Slot.schedule_id,
            Slot.role,
            func.min(Slot.starts_at),
            func.max(Slot.ends_at),
        )
        .where(
            Slot.group_session_id.in_([one.id for one in groups]),
            Slot.status == SlotStatus.BUSY,
        )
        .group_by(Slot.group_session_id, Slot.schedule_id, Slot.role)
        .order_by(Slot.role, Slot.schedule_id)
    ).all()
    known = {one.schedule_id: one for one in all_actors(session, [row[1] for row in rows])}
    found: dict[UUID, tuple[Assignment, ...]] = {one.id: () for one in groups}
    for group_id, schedule_id, role, start, end in rows:
        assert group_id is not None
        found[group_id] += (Assignment(role, known[schedule_id], (), start, end, end),)
    return found
