"""Calendars: working hours and leave, read from iCalendar files.

Hours are kept as they are, a first start and a rule in wall time. Leave is turned into
instants here, two years ahead.
Source: RFC 5545.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from intake.faults import Notes
from scheduler import icalendars
from scheduler.icalendars import BadEvent, Event, NoCalendar, Shift


@dataclass(frozen=True, slots=True)
class Leave:
    """A stretch of time away."""

    uid: str
    starts_at: datetime
    ends_at: datetime
    reason: str


def shifts(path: Path, file: str, zones: Mapping[str, str], notes: Notes) -> list[Shift]:
    """Read working hours. `zones` maps each site's name to its zone."""
    found: list[Shift] = []
    for event in _events(path, file, notes):
        if event.location not in zones:
            detail = f"{event.location!r} is not a site; name one of sites.csv."
            notes.add(file, event.line, "LOCATION", detail)
            continue
        try:
            found += icalendars.shifts_of(event, ZoneInfo(zones[event.location]))
        except BadEvent as bad:
            notes.add(file, event.line, bad.name, str(bad))
    return found


def leave(path: Path, file: str, zone: str, now: datetime, notes: Notes) -> list[Leave]:
    """Read leave; days without a time are days in `zone`."""
    events = list(_events(path, file, notes))
    for event in events:
        if not event.length:
            notes.add(file, event.line, "DTEND", "It must end after it starts.")
    try:
        found = icalendars.stretches(events, ZoneInfo(zone), now, now + icalendars.AHEAD)
    except NoCalendar as none:
        notes.add(file, 0, "-", str(none))
        return []
    return [
        Leave(event.uid, begin, end, icalendars.reason_of(event)) for (begin, end), event in found
    ]


def _events(path: Path, file: str, notes: Notes) -> Iterator[Event]:
    try:
        events, faults = icalendars.read(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        notes.add(file, 0, "-", "This file is missing.")
        return
    except (OSError, UnicodeDecodeError, NoCalendar):
        notes.add(file, 0, "-", "This file is not iCalendar.")
        return
    for fault in faults:
        notes.add(file, fault.line, fault.name, fault.detail)
    if not events and not faults:
        notes.add(file, 1, "VEVENT", "There is no event in this file.")
    yield from events
