"""Opening hours: when is an actor there? Recurring wall time, turned into instants.

A stretch that begins on a public holiday of the site does not take place, unless the hours say
that it does.

A shift is kept as iCalendar has it and expanded in naive wall time, then each bound is turned
into an instant by the site's zone. So a shift from 09:00 to 17:00 is that on every day of
the year, and one over the night of a clock change is an hour shorter or longer.

Pure: no database, no clock, no Flask.
Source: RFC 5545, section 3.3.10.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, datetime, timedelta
from functools import lru_cache
from uuid import UUID
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr

from notifications.wall_time import at_wall_time
from scheduler.public_holidays import Holidays

Stretch = tuple[datetime, datetime]
"""A start and an end, aware; the end is not part of it."""


@dataclass(frozen=True, slots=True)
class Hours:
    """One recurring stretch in which an actor is at a site."""

    site_id: UUID
    zone: ZoneInfo
    """The site's, or where the actor's own clock hangs."""
    first_start: datetime
    """Wall time in `zone`."""
    length: timedelta
    """In wall time."""
    rule: str | None
    exceptions: frozenset[datetime]
    holidays: Holidays | None = None
    """The site's public holidays, on which there are no such hours. None: they matter not."""


def expand(
    hours: Iterable[Hours], start: datetime, end: datetime
) -> Iterator[tuple[UUID, Stretch]]:
    """List the stretches, with their site, that reach into `start` to `end`."""
    for shift in hours:
        first = start.astimezone(shift.zone).replace(tzinfo=None) - shift.length
        last = end.astimezone(shift.zone).replace(tzinfo=None)
        for wall in _starts(shift, first, last):
            opens = at_wall_time(wall, shift.zone)
            closes = at_wall_time(wall + shift.length, shift.zone)
            if shift.holidays is not None and shift.holidays.close(opens):
                continue
            if opens < closes and opens < end and closes > start:
                yield shift.site_id, (opens, closes)


def union(found: Iterable[Stretch]) -> list[Stretch]:
    """The same time, in stretches that do not touch."""
    whole: list[Stretch] = []
    for begin, end in sorted(found):
        if whole and begin <= whole[-1][1]:
            whole[-1] = whole[-1][0], max(end, whole[-1][1])
        else:
            whole.append((begin, end))
    return whole


class BadRule(Exception):
    """A recurrence rule that cannot be followed. The message says what to write instead."""


def check_rule(rule: str, first_start: datetime) -> None:
    """Refuse a rule that is none, that recurs within a day, or that never happens.

    Raises BadRule. What it lets pass can be expanded quickly, whatever it says.
    """
    if not _PLAIN.fullmatch(rule):
        raise BadRule("Write an RRULE value such as FREQ=WEEKLY;BYDAY=MO,TU.")
    parts = dict(part.split("=", 1) for part in rule.split(";"))
    if parts.get("FREQ") not in {"DAILY", "WEEKLY", "MONTHLY", "YEARLY"}:
        raise BadRule("FREQ must be DAILY, WEEKLY, MONTHLY or YEARLY.")
    if any(name.startswith(("BYHOUR", "BYMINUTE", "BYSECOND")) for name in parts):
        raise BadRule("Write one rule for each time of the day.")
    parts.pop("COUNT", None)
    try:
        rrulestr(rule, dtstart=first_start)
        late = first_start.replace(year=_alike(first_start.year))
        parts["UNTIL"] = f"{late + FIRST_WITHIN:%Y%m%dT%H%M%S}"
        told = ";".join(f"{name}={value}" for name, value in parts.items())
        found = next(iter(rrulestr(told, dtstart=late)), None)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRule("Write an RRULE value such as FREQ=WEEKLY;BYDAY=MO,TU.") from error
    if found is None:
        raise BadRule("This rule does not happen within its first five years.")


def _alike(year: int) -> int:
    """A year with the same days of the week, near the end of all years.

    A rule that never happens is followed until there are no more years, whatever its UNTIL: from
    here that is soon. Of 28 years in a row one has the same weekdays and distance to a leap year.
    """
    weekday = datetime(year, 1, 1).weekday()
    alike = range(MAXYEAR - 33, MAXYEAR - 5)
    return next(
        one for one in alike if (one - year) % 4 == 0 and datetime(one, 1, 1).weekday() == weekday
    )


FIRST_WITHIN = timedelta(days=5 * 366)

_PLAIN = re.compile(r"[A-Z]+=[A-Z0-9,+-]+(;[A-Z]+=[A-Z0-9,+-]+)*")


def _starts(shift: Hours, first: datetime, last: datetime) -> Iterator[datetime]:
    year, month = first.year, first.month
    while (year, month) <= (last.year, last.month):
        for wall in _starts_of_month(shift, year, month):
            if first <= wall <= last:
                yield wall
        year, month = _next_month(year, month)


@lru_cache(maxsize=16_384)
def _starts_of_month(shift: Hours, year: int, month: int) -> tuple[datetime, ...]:
    """The shift's starts within a month. Kept: a rule counts from its beginning each time."""
    first = datetime(year, month, 1)
    after = datetime(*_next_month(year, month), 1)
    if shift.rule is None:
        found = [shift.first_start] if first <= shift.first_start < after else []
    else:
        found = _rule(shift, after).between(first, after, inc=True)
    return tuple(wall for wall in found if wall < after and wall not in shift.exceptions)


def _rule(shift: Hours, after: datetime) -> rrule:
    """The rule, going on no further than `after`: one that never happens again still ends."""
    assert shift.rule is not None
    read = rrulestr(shift.rule, dtstart=shift.first_start)
    assert isinstance(read, rrule)
    if "COUNT=" in shift.rule or "UNTIL=" in shift.rule:
        return read
    return read.replace(until=after)


def _next_month(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == 12 else (year, month + 1)
