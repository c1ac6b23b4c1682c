"""Periods: days on the wall, cut into days, weeks or months, and turned into instants by a zone.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from notifications.wall_time import at_wall_time

LONGEST = timedelta(days=400)
"""A year, and the month before it to hold it against."""


class By(StrEnum):
    """How long the parts of a period are."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Part:
    """Some days of a period; `until` is not one of them."""

    first: date
    until: date


@dataclass(frozen=True, slots=True)
class Period:
    """The days from `first` on, before `until`."""

    first: date
    until: date
    by: By

    def parts(self) -> Sequence[Part]:
        """Its parts. Weeks begin on Mondays; the first and the last may be cut short."""
        return list(self._parts())

    def edges(self, zone: ZoneInfo) -> list[datetime]:
        """The instants at which its parts begin in a zone, and the one at which it ends."""
        days = [part.first for part in self.parts()] + [self.until]
        return [at_wall_time(datetime.combine(day, time.min), zone) for day in days]

    def _parts(self) -> Iterator[Part]:
        first = self.first
        while first < self.until:
            after = min(_next(first, self.by) or self.until, self.until)
            yield Part(first, after)
            first = after


def _next(day: date, by: By) -> date | None:
    """The first day of the next part. None: there is no other."""
    if by is By.DAY:
        return day + timedelta(days=1)
    if by is By.WEEK:
        return day + timedelta(days=7 - day.weekday())
    if by is By.MONTH:
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return None
