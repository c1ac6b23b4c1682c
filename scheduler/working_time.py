"""Working time from files: an iCalendar read into a schedule, and read into it again.

One calendar of hours and one of leave for each schedule. An import makes the schedule what the
file says: events are known by their UID, what is there already stays, what the file leaves out
goes. What was entered by hand, and what feeds tell of, is left alone. So the same file twice
changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Closure, OpeningHours, Schedule
from scheduler import actors, calendars, facts, icalendars
from scheduler.errors import BadCalendar, Unfit
from scheduler.icalendars import BadEvent, Event, Fault, NoCalendar, Shift

Row = OpeningHours | Closure

MOST_FAULTS = 100
"""So many are told at once."""

NAMELESS = "-"
"""Stands for the UID of an event that has none."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did to a schedule."""

    added: int
    removed: int
    kept: int
    visits_outside: Sequence[UUID]
    """Visits and group sessions to come that take time when the schedule is closed now."""


def import_hours(
    session: Session, schedule_id: UUID, told: str, site_id: UUID | None, now: datetime
) -> Imported:
    """Make a schedule open when a calendar says.

    Each event is at the site that its LOCATION names, or all at `site_id`.
    Refuses with `NotFound`, with `Unfit` a site that is none, and with `BadCalendar` all that
    cannot be used.
    """
    facts.one(session, Schedule, schedule_id)
    events, faults = _read(told)
    sites = calendars.sites(session, site_id)
    if not sites:
        raise Unfit("There is no such site.", field="site_id")
    wanted = [
        _hours(schedule_id, site_id, shift)
        for site_id, shift in _shifts(events, sites, faults, is_given=site_id is not None)
    ]
    _refuse(faults)
    old = calendars.imported(session, OpeningHours, schedule_id)
    return _settle(session, schedule_id, old, wanted, now)


def import_leave(
    session: Session, schedule_id: UUID, told: str, zone: str | None, now: datetime
) -> Imported:
    """Close a schedule when a calendar says, as far ahead as is written down.

    Whole days, and times without a zone, are those of `zone`; None: the clinic's.
    Refuses with `NotFound`, and with `BadCalendar` all that cannot be used.
    """
    facts.one(session, Schedule, schedule_id)
    events, faults = _read(told)
    faults += [
        Fault(event.line, "DTEND", "It must end after it starts.")
        for event in events
        if not event.length
    ]
    _refuse(faults)
    own = ZoneInfo(zone or facts.clinic(session).time_zone)
    try:
        found = icalendars.stretches(events, own, now, now + icalendars.AHEAD)
    except NoCalendar as none:
        raise _bad([Fault(0, "RRULE", str(none))]) from none
    wanted = [
        Closure(
            id=uuid7(),
            schedule_id=schedule_id,
            uid=event.uid or NAMELESS,
            starts_at=start,
            ends_at=end,
            reason=icalendars.reason_of(event),
        )
        for (start, end), event in found
    ]
    old = [one for one in calendars.imported(session, Closure, schedule_id) if one.ends_at > now]
    return _settle(session, schedule_id, old, wanted, now)


def settle(session: Session, old: Iterable[Row], wanted: Iterable[Row]) -> tuple[int, int, int]:
    """Let the wanted rows stand instead of the old ones; those that say the same stay.

    Returns how many were added, removed and kept.
    """
    standing: dict[tuple[object, ...], list[Row]] = {}
    for row in old:
        standing.setdefault(_says(row), []).append(row)
    kept, added = 0, []
    for row in wanted:
        if same := standing.get(_says(row)):
            same.pop()
            kept += 1
        else:
            added.append(row)
    gone = [row for rows in standing.values() for row in rows]
    for row in gone:
        session.delete(row)
    session.add_all(added)
    session.flush()
    return len(added), len(gone), kept


def _settle(
    session: Session,
    schedule_id: UUID,
    old: Iterable[Row],
    wanted: Iterable[Row],
    now: datetime,
) -> Imported:
    counts = settle(session, old, wanted)
    return Imported(*counts, calendars.outside(session, schedule_id, now))


def _says(row: Row) -> tuple[object, ...]:
    """Everything that an import decides about a row."""
    if isinstance(row, Closure):
        return row.uid, row.starts_at, row.ends_at, row.reason
    return (
        row.uid,
        row.site_id,
        row.first_start,
        row.minutes,
        row.rule,
        tuple(row.exceptions),
        row.time_zone,
    )


def _read(told: str) -> tuple[list[Event], list[Fault]]:
    try:
        return icalendars.read(told)
    except NoCalendar as none:
        raise _bad([Fault(0, "VCALENDAR", str(none))]) from none


def _shifts(
    events: Iterable[Event],
    sites: Sequence[actors.Site],
    faults: list[Fault],
    *,
    is_given: bool,
) -> Iterable[tuple[UUID, Shift]]:
    named = {site.name: site for site in sites}
    for event in events:
        site = sites[0] if is_given and sites else named.get(event.location)
        if site is None:
            detail = f"{event.location[:80]!r} is not a site; name one, or give site_id."
            faults.append(Fault(event.line, "LOCATION", detail))
            continue
        try:
            yield from ((site.site_id, one) for one in icalendars.shifts_of(event, site.zone))
        except BadEvent as bad:
            faults.append(Fault(event.line, bad.name, str(bad)))


def _hours(schedule_id: UUID, site_id: UUID, shift: Shift) -> OpeningHours:
    return OpeningHours(
        id=uuid7(),
        schedule_id=schedule_id,
        site_id=site_id,
        uid=shift.uid or NAMELESS,
        first_start=shift.first_start,
        minutes=shift.minutes,
        rule=shift.rule,
        exceptions=list(shift.exceptions),
        time_zone=shift.zone,
    )


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        raise _bad(faults)


def _bad(faults: Sequence[Fault]) -> BadCalendar:
    ordered = sorted(faults, key=lambda one: (one.line, one.name))
    return BadCalendar(
        "This calendar cannot be used as it is; nothing was changed. See `errors`.",
        errors=[
            {"pointer": "/calendar", "line": one.line, "property": one.name, "detail": one.detail}
            for one in ordered[:MOST_FAULTS]
        ],
    )
