"""Spans: lengths of time as protocols tell them, elapsed or in calendar days.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import ceil, floor
from typing import Any

DAY = timedelta(days=1)
TICK = timedelta.resolution

_UNITS = {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": DAY}
_WORDS = {"min": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A length of time as protocols tell it: elapsed, or in calendar days at the site."""

    value: float
    unit: str

    @classmethod
    def read(cls, figure: Mapping[str, Any]) -> "Span":
        """Turn a checked figure into a span."""
        return cls(value=figure["value"], unit=figure["unit"])

    def __str__(self) -> str:
        return f"{self.value:g} {_WORDS[self.unit]}"

    @property
    def elapsed(self) -> timedelta:
        """The span as elapsed time; a day counts 24 hours."""
        return self.value * _UNITS[self.unit]

    @property
    def in_days(self) -> bool:
        """Whether it counts calendar days, so that 7 days later the same hour is in time."""
        return self.unit == "d"

    @property
    def shortest(self) -> timedelta:
        """The least that can pass, by the wall clock, where at least this span must.

        A calendar day later can be a minute past midnight.
        """
        return (ceil(self.value) - 1) * DAY + TICK if self.in_days else self.elapsed

    @property
    def longest(self) -> timedelta:
        """The most that can pass, by the wall clock, where at most this span may.

        A calendar day later can be the last minute of the next day.
        """
        return (floor(self.value) + 1) * DAY - TICK if self.in_days else self.elapsed

    @property
    def fewest_days(self) -> int:
        """The fewest midnights that can lie within at least this span."""
        return ceil(self.value) if self.in_days else self.elapsed // DAY

    @property
    def most_days(self) -> int:
        """The most midnights that can lie within at most this span."""
        return floor(self.value) if self.in_days else -(-self.elapsed // DAY)
