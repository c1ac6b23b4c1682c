"""Calendars: working hours and leave, read from iCalendar files.

Hours are kept as they are, a first start and a rule in wall time. Leave is turned into
instants here, two years ahead.
Source: RFC 5545.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr
from icalendar import Calendar

from intake.faults import Notes
from notifications.wall_time import at_wall_time
from scheduler.hours import BadRule, check_rule

LEAVE_AHEAD = timedelta(days=731)
"""How far recurring leave is written down."""

_EARLIEST, _LATEST = 1970, 2200


@dataclass(frozen=True, slots=True)
class Shift:
    """Recurring working hours at a site, in its wall time."""

    site: str
    first_start: datetime
    minutes: int
    rule: str | None
    exceptions: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """A stretch of time away."""

    starts_at: datetime
    ends_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class _Event:
    """A VEVENT and where it stands."""

    file: str
    line: int
    told: Any
    notes: Notes

    def fault(self, name: str, detail: str) -> None:
        self.notes.add(self.file, self.line, name, detail)


class _Bad(Exception):
    """A property that cannot be used: its name, and what to do."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name


def shifts(path: Path, file: str, zones: Mapping[str, str], notes: Notes) -> list[Shift]:
    """Read working hours. `zones` maps each site's name to its zone."""
    found = []
    for event in _events(path, file, notes):
        try:
            found.append(_shift(event, zones))
        except _Bad as bad:
            event.fault(bad.name, str(bad))
    return found


def leave(path: Path, file: str, zone: str, now: datetime, notes: Notes) -> list[Leave]:
    """Read leave; days without a time are days in `zone`."""
    found: list[Leave] = []
    for event in _events(path, file, notes):
        try:
            found += _leaves(event, ZoneInfo(zone), now)
        except _Bad as bad:
            event.fault(bad.name, str(bad))
    return found


def _events(path: Path, file: str, notes: Notes) -> Iterator[_Event]:
    try:
        told = path.read_text(encoding="utf-8")
        read = Calendar.from_ical(told)
    except FileNotFoundError:
        notes.add(file, 0, "-", "This file is missing.")
        return
    except (OSError, ValueError, KeyError, IndexError):
        notes.add(file, 0, "-", "This file is not iCalendar.")
        return
    starts = [n for n, line in enumerate(told.splitlines(), 1) if line.strip() == "BEGIN:VEVENT"]
    events = read.walk("VEVENT")
    if not events:
        notes.add(file, 1, "VEVENT", "There is no event in this file.")
    for number, told_event in enumerate(events):
        event = _Event(file, starts[number] if number < len(starts) else 0, told_event, notes)
        if told_event.errors:
            for name, detail in told_event.errors:
                event.fault(name or "VEVENT", f"This cannot be read: {detail}")
        else:
            yield event


def _shift(event: _Event, zones: Mapping[str, str]) -> Shift:
    site = str(event.told.get("LOCATION", ""))
    if site not in zones:
        raise _Bad("LOCATION", f"{site!r} is not a site; name one of sites.csv.")
    zone = zones[site]
    start, end = _wall(event, "DTSTART", zone), _end(event, zone)
    minutes = (end - start) // timedelta(minutes=1)
    if not 5 <= minutes <= 1440 or minutes % 5:
        raise _Bad("DTEND", "Hours last from 5 minutes to a day, in steps of 5.")
    return Shift(site, start, minutes, _rule(event, start, zone), _exceptions(event, zone))


def _leaves(event: _Event, zone: ZoneInfo, now: datetime) -> Iterator[Leave]:
    start, end = _wall(event, "DTSTART", zone.key), _end(event, zone.key)
    if end <= start:
        raise _Bad("DTEND", "It must end after it starts.")
    reason = str(event.told.get("SUMMARY", "Leave"))[:200]
    rule = _rule(event, start, zone.key)
    starts = [start]
    if rule is not None:
        horizon = (now + LEAVE_AHEAD).astimezone(zone).replace(tzinfo=None)
        starts = rrulestr(rule, dtstart=start).between(start, horizon, inc=True)
    exceptions = _exceptions(event, zone.key)
    for first in starts:
        ends_at = at_wall_time(first + (end - start), zone)
        if first not in exceptions and ends_at > now:
            yield Leave(at_wall_time(first, zone), ends_at, reason)


def _wall(event: _Event, name: str, zone: str) -> datetime:
    """A start or an end as wall time in `zone`. Without a zone of its own it is that already."""
    found = event.told.get(name)
    if found is None:
        raise _Bad(name, "This is missing.")
    if isinstance(found, list):
        raise _Bad(name, "This is told more than once.")
    return _as_wall(name, found.dt, zone)


def _as_wall(name: str, found: object, zone: str) -> datetime:
    if not isinstance(found, date):
        raise _Bad(name, "This is neither a day nor a time of a day.")
    if not _EARLIEST <= found.year <= _LATEST:
        raise _Bad(name, f"The year must be between {_EARLIEST} and {_LATEST}.")
    if not isinstance(found, datetime):
        return datetime.combine(found, datetime.min.time())
    if found.tzinfo is None:
        return found
    told = getattr(found.tzinfo, "key", str(found.tzinfo))
    if told not in {zone, "UTC"}:
        raise _Bad(name, f"Its zone is {told}; the site's is {zone}.")
    return found.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def _end(event: _Event, zone: str) -> datetime:
    if "DTEND" in event.told:
        return _wall(event, "DTEND", zone)
    start = _wall(event, "DTSTART", zone)
    if "DURATION" in event.told:
        length: timedelta = event.told["DURATION"].dt
        return start + length
    if not isinstance(event.told["DTSTART"].dt, datetime):
        return start + timedelta(days=1)
    raise _Bad("DTEND", "This is missing, and so is DURATION.")


def _rule(event: _Event, start: datetime, zone: str) -> str | None:
    """The RRULE for expansion in wall time: an UNTIL in UTC becomes one in the site's time."""
    found = event.told.get("RRULE")
    if found is None:
        return None
    if isinstance(found, list):
        raise _Bad("RRULE", "More than one rule; write an event for each.")
    for number, until in enumerate(found.get("UNTIL", [])):
        if isinstance(until, datetime) and until.tzinfo is not None:
            wall = until.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
            found["UNTIL"][number] = wall
    told: str = found.to_ical().decode()
    try:
        check_rule(told, start)
    except BadRule as bad:
        raise _Bad("RRULE", f"{told!r}: {bad}") from bad
    return told


def _exceptions(event: _Event, zone: str) -> tuple[datetime, ...]:
    found = event.told.get("EXDATE", [])
    lists = found if isinstance(found, list) else [found]
    return tuple(_as_wall("EXDATE", one.dt, zone) for dates in lists for one in dates.dts)
