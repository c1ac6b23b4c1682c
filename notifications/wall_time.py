"""Wall time: what a clock on the wall shows, turned into an instant. The one place for it.

A clock change skips some wall times and repeats others; what then happens is decided here.

Pure: no database, no clock, no Flask.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo


@lru_cache(maxsize=16_384)  # many share their hours, and a zone's rules are slow to ask
def at_wall_time(wall: datetime, zone: ZoneInfo) -> datetime:
    """Turn a wall time (naive) into an instant (UTC).

    Of a wall time that happens twice, the first is taken. One that a clock change skips
    becomes the end of the gap, the first wall time that exists.
    """
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == wall:
        return first
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _change_between(second, first, zone)


def around_gap(wall: datetime, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
    """For a wall time that a clock change skips: the last five minutes before, the first after.

    None: there is such a time.
    """
    after = at_wall_time(wall, zone)
    shown = after.astimezone(zone).replace(tzinfo=None)
    if shown == wall:
        return None
    before = (after - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
    return before.replace(minute=before.minute // 5 * 5, second=0), shown


def _change_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The instant, to the second, at which the zone's offset changes."""
    offset = before.astimezone(zone).utcoffset()
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
