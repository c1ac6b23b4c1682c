"""iCalendar: events as other calendars write them, turned into hours, leave and busy time.

An event keeps its own wall time and zone; only what is asked for within a window is turned into
instants. Moved and cancelled days of a series (RECURRENCE-ID) are taken out of it and stand as
events of their own. Of an event told twice the later (SEQUENCE) counts.

Pure: no database, no clock, no Flask.
Source: RFC 5545, sections 3.6.1, 3.8.4.4 and 3.8.5.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr
from icalendar import Calendar

from notifications.wall_time import at_wall_time
from scheduler.hours import BadRule, Stretch, check_rule

MOST_EVENTS = 5000
MOST_STRETCHES = 20_000
"""So often the events of one calendar happen within a window, at most."""

AHEAD = timedelta(days=731)
"""How far leave and busy time that recur are written down."""

PAST = timedelta(days=1)
"""How far back."""

_EARLIEST, _LATEST = 1970, 2200


@dataclass(frozen=True, slots=True)
class Fault:
    """What cannot be used in a calendar: where it stands, and what to do."""

    line: int
    name: str
    detail: str


class BadEvent(Exception):
    """A property that cannot be used: its name, and what to do."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name


class NoCalendar(Exception):
    """Something that is no iCalendar at all, or too much of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A VEVENT: one that happens once, or a series."""

    line: int
    uid: str
    """Empty: it has none."""
    start: datetime
    """Wall time."""
    length: timedelta
    """In wall time; nothing if it has no end."""
    zone: tzinfo | None
    """Whose wall time it is. None: floating, that of wherever it is read."""
    rule: str | None
    more: tuple[datetime, ...]
    """Further starts (RDATE)."""
    exceptions: frozenset[datetime]
    summary: str
    location: str
    is_cancelled: bool
    is_free: bool
    """It takes no time of whoever has it in the calendar (TRANSP)."""
    of: datetime | None = None
    """Which start of a series it replaces: an instant, or wall time if that is floating."""
    sequence: int = 0

    @property
    def zone_name(self) -> str | None:
        """The IANA name of its zone; None if it is floating."""
        return None if self.zone is None else getattr(self.zone, "key", str(self.zone))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Recurring working hours: a first start and a rule, in wall time."""

    place: str
    first_start: datetime
    minutes: int
    rule: str | None
    exceptions: tuple[datetime, ...] = ()
    uid: str = ""
    """Of the event that it was read from."""
    zone: str | None = None
    """Whose wall time it is. None: the site's."""


def read(told: str) -> tuple[list[Event], list[Fault]]:
    """Read the events of a calendar, and what in it cannot be used.

    Raises NoCalendar if it is none at all.
    """
    if not told.rstrip().upper().endswith("END:VCALENDAR"):
        raise NoCalendar("This is not iCalendar, or not all of it.")
    _refuse_slow_zones(told)
    try:
        components = list(Calendar.from_ical(told).walk("VEVENT"))
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise NoCalendar("This is not iCalendar.") from error
    if len(components) > MOST_EVENTS:
        raise NoCalendar(f"At most {MOST_EVENTS} events.")
    lines = [n for n, line in enumerate(told.splitlines(), 1) if line.strip() == "BEGIN:VEVENT"]
    events: list[Event] = []
    faults: list[Fault] = []
    for number, component in enumerate(components):
        line = lines[number] if number < len(lines) else 0
        if component.errors:
            faults += [
                Fault(line, name or "VEVENT", f"This cannot be read: {detail}")
                for name, detail in component.errors
            ]
            continue
        try:
            events.append(_event(component, line))
        except BadEvent as bad:
            faults.append(Fault(line, bad.name, str(bad)))
    return list(_settled(events)), faults


def shifts_of(event: Event, zone: ZoneInfo) -> Iterator[Shift]:
    """An event as working hours at a site in `zone`. Raises BadEvent."""
    minutes = event.length // timedelta(minutes=1)
    if not 5 <= minutes <= 1440 or minutes % 5:
        raise BadEvent("DTEND", "Hours last from 5 minutes to a day, in steps of 5.")
    shift = Shift(
        uid=event.uid,
        place=event.location,
        first_start=event.start,
        minutes=minutes,
        rule=event.rule,
        exceptions=tuple(sorted(event.exceptions)),
        zone=None if event.zone_name in {None, zone.key} else event.zone_name,
    )
    if event.rule is not None:
        yield _recurring(shift, event)
    once = event.more if event.rule is not None else (event.start, *event.more)
    for start in once:
        if start not in event.exceptions:
            yield _at_home(replace(shift, first_start=start), event, zone)


def stretches(
    events: Iterable[Event], zone: ZoneInfo, since: datetime, until: datetime
) -> list[tuple[Stretch, Event]]:
    """When events take place, as instants.

    Floating times and days are those of `zone`. What is over at `since` is left out, and what
    begins at `until` or later.
    Raises NoCalendar if there are too many.
    """
    found: list[tuple[Stretch, Event]] = []
    for event in events:
        for wall in _starts(event, zone, since, until):
            begin, end = (_instant(one, event, zone) for one in (wall, wall + event.length))
            if begin < end and end > since and begin < until:
                found.append(((begin, end), event))
                if len(found) > MOST_STRETCHES:
                    raise NoCalendar(f"Its events happen more than {MOST_STRETCHES:,} times.")
    return found


def reason_of(event: Event) -> str:
    """Why somebody is away, as the calendar has it."""
    return " ".join(event.summary.split())[:200] or "Leave"


def _starts(event: Event, zone: ZoneInfo, since: datetime, until: datetime) -> Iterable[datetime]:
    own = event.zone or zone
    # A day's room on either side: offsets of zones differ by more than a day at most.
    first = since.astimezone(own).replace(tzinfo=None) - event.length - timedelta(days=2)
    last = until.astimezone(own).replace(tzinfo=None) + timedelta(days=2)
    found = {event.start, *event.more}
    if event.rule is not None:
        found |= set(rrulestr(event.rule, dtstart=event.start).between(first, last, inc=True))
    return sorted(one for one in found - event.exceptions if first <= one <= last)


def _instant(wall: datetime, event: Event, zone: ZoneInfo) -> datetime:
    own = event.zone or zone
    if isinstance(own, ZoneInfo):
        return at_wall_time(wall, own)
    return wall.replace(tzinfo=own).astimezone(UTC)


def _recurring(shift: Shift, event: Event) -> Shift:
    """Hours that recur keep their zone, so it must be one that has a name."""
    if event.zone is not None and not isinstance(event.zone, ZoneInfo):
        raise BadEvent("DTSTART", f"Its zone {event.zone_name!r} is not an IANA zone.")
    return shift


def _at_home(shift: Shift, event: Event, zone: ZoneInfo) -> Shift:
    """Hours that are had once, in the site's own wall time."""
    home = _instant(shift.first_start, event, zone).astimezone(zone).replace(tzinfo=None)
    return replace(shift, first_start=home, rule=None, exceptions=(), zone=None)


def _event(told: Any, line: int) -> Event:
    start, zone, is_day = _when(told, "DTSTART")
    rule = _rule(told, start, zone)
    of = _replaced(told)
    if of is not None and "RANGE" in told["RECURRENCE-ID"].params:
        raise BadEvent("RECURRENCE-ID", "RANGE cannot be used; end the series and write a new one.")
    if of is not None and rule is not None:
        raise BadEvent("RRULE", "One day of a series cannot be a series itself.")
    more = list(_dates(told, "RDATE", zone))
    return Event(
        line=line,
        uid=str(told.get("UID", ""))[:255],
        start=start,
        length=_length(told, start, zone, is_day=is_day),
        zone=zone,
        rule=rule,
        more=tuple(sorted(more)),
        exceptions=frozenset(_exceptions(told, (start, *more), zone)),
        summary=str(told.get("SUMMARY", "")),
        location=str(told.get("LOCATION", "")),
        is_cancelled=str(told.get("STATUS", "")).upper() == "CANCELLED",
        is_free=str(told.get("TRANSP", "")).upper() == "TRANSPARENT",
        of=of,
        sequence=int(told.get("SEQUENCE", 0)),
    )


def _settled(events: Iterable[Event]) -> Iterator[Event]:
    """What holds in the end: later versions, and days of a series that were moved or cancelled."""
    by_uid: dict[str, dict[datetime | None, Event]] = defaultdict(dict)
    for event in events:
        if not event.uid:
            yield event
            continue
        known = by_uid[event.uid].get(event.of)
        if known is None or known.sequence <= event.sequence:
            by_uid[event.uid][event.of] = event
    for versions in by_uid.values():
        moved = [of for of in versions if of is not None]
        for of, event in versions.items():
            if not event.is_cancelled:
                yield event if of else _without(event, moved)


def _without(series: Event, moved: Iterable[datetime]) -> Event:
    """A series but for the starts that something else stands for."""
    gone = {_wall("RECURRENCE-ID", one, series.zone) for one in moved}
    return replace(series, exceptions=series.exceptions | gone)


def _replaced(told: Any) -> datetime | None:
    if "RECURRENCE-ID" not in told:
        return None
    wall, zone, _ = _when(told, "RECURRENCE-ID")
    return wall if zone is None else wall.replace(tzinfo=zone).astimezone(UTC)


def _when(told: Any, name: str, zone: tzinfo | None = None) -> tuple[datetime, tzinfo | None, bool]:
    """A property's wall time, its zone, and whether it is a whole day.

    With `zone` as wall time there.
    """
    found = told.get(name)
    if found is None:
        raise BadEvent(name, "This is missing.")
    if isinstance(found, list):
        raise BadEvent(name, "This is told more than once.")
    wall = _wall(name, found.dt, zone)
    own = found.dt.tzinfo if isinstance(found.dt, datetime) else None
    return wall, own, not isinstance(found.dt, datetime)


def _wall(name: str, found: object, zone: tzinfo | None) -> datetime:
    if not isinstance(found, date):
        raise BadEvent(name, "This is neither a day nor a time of a day.")
    if not _EARLIEST <= found.year <= _LATEST:
        raise BadEvent(name, f"The year must be between {_EARLIEST} and {_LATEST}.")
    if not isinstance(found, datetime):
        return datetime.combine(found, time.min)
    if zone is not None and found.tzinfo is not None:
        found = found.astimezone(zone)
    return found.replace(tzinfo=None)


def _length(told: Any, start: datetime, zone: tzinfo | None, *, is_day: bool) -> timedelta:
    if "DTEND" in told:
        length = _when(told, "DTEND", zone)[0] - start
    elif "DURATION" in told:
        length = told["DURATION"].dt
    else:
        length = timedelta(days=1) if is_day else timedelta(0)
    if length < timedelta(0) or length > timedelta(days=3660):
        raise BadEvent("DTEND", "It must end after it starts, within ten years.")
    return length


def _rule(told: Any, start: datetime, zone: tzinfo | None) -> str | None:
    """The RRULE for expansion in wall time: an UNTIL in UTC becomes one in the event's zone."""
    found = told.get("RRULE")
    if found is None:
        return None
    if isinstance(found, list):
        raise BadEvent("RRULE", "More than one rule; write an event for each.")
    for number, until in enumerate(found.get("UNTIL", [])):
        if isinstance(until, datetime):
            found["UNTIL"][number] = _wall("RRULE", until, zone)
    rule: str = found.to_ical().decode()
    try:
        check_rule(rule, start)
    except BadRule as bad:
        raise BadEvent("RRULE", f"{rule!r}: {bad}") from bad
    return rule


def _dates(told: Any, name: str, zone: tzinfo | None) -> Iterator[datetime]:
    """The starts that a property lists."""
    for one in _listed(told, name):
        yield _wall(name, one, zone)


def _exceptions(told: Any, starts: Iterable[datetime], zone: tzinfo | None) -> Iterator[datetime]:
    """The starts that do not take place. A day without a time means whatever starts on it."""
    hours = {start.time() for start in starts}
    for one in _listed(told, "EXDATE"):
        wall = _wall("EXDATE", one, zone)
        if isinstance(one, datetime):
            yield wall
        else:
            yield from (datetime.combine(wall, hour) for hour in hours)


def _listed(told: Any, name: str) -> Iterator[object]:
    found = told.get(name, [])
    for dates in found if isinstance(found, list) else [found]:
        yield from (one.dt for one in dates.dts)


def _refuse_slow_zones(told: str) -> None:
    """Refuse a VTIMEZONE whose clock changes more often than clocks do: it would take for ever."""
    is_zone = False
    for line in re.sub(r"\r?\n[ \t]", "", told).splitlines():
        word = line.strip().upper()
        if word in {"BEGIN:VTIMEZONE", "END:VTIMEZONE"}:
            is_zone = word.startswith("BEGIN")
        elif is_zone and word.startswith("RRULE") and not _YEARLY.fullmatch(word):
            raise NoCalendar("The clocks of a VTIMEZONE change with FREQ=YEARLY.")


_YEARLY = re.compile(
    r"RRULE:(FREQ=YEARLY|(BYMONTH|BYDAY|BYMONTHDAY|INTERVAL|COUNT|UNTIL|WKST)=[A-Z0-9,+-]+)"
    r"(;(FREQ=YEARLY|(BYMONTH|BYDAY|BYMONTHDAY|INTERVAL|COUNT|UNTIL|WKST)=[A-Z0-9,+-]+))*"
)


def names(faults: Sequence[Fault]) -> str:
    """The first few faults in a sentence."""
    told = "; ".join(f"line {one.line}: {one.name}: {one.detail}" for one in faults[:3])
    return told + ("" if len(faults) <= 3 else f"; and {len(faults) - 3} more")
