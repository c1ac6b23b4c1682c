"""The clinic's clock: the one place that reads the time. Only the roots use it."""

import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

zoneinfo.reset_tzpath(to=())  # one copy of the zone rules: the pinned tzdata, on every machine

Clock = Callable[[], datetime]
"""Tells the time, aware, in UTC."""


def clock(stand_in: Path | None) -> Clock:
    """Make the clock: the machine's, or one that a file stands in for.

    A file holds an RFC 3339 instant and is read at every question, so that a rehearsal or a
    test moves all processes through time together.
    """
    if stand_in is None:
        return _machine
    return lambda: datetime.fromisoformat(stand_in.read_text().strip()).astimezone(UTC)


def _machine() -> datetime:
    return datetime.now(UTC)
