"""Timelines: the open and the taken time of many schedules, as bits over whole days.

A day is 288 granules of five minutes, which is 36 bytes; a schedule over a year is 13 kB. A
window of some days is a slice of bytes that becomes one number. A timeline is either read for
one question or kept warm in a process (scheduler/warmth.py).

Pure: no database, no clock, no Flask. All datetimes are aware.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from scheduler.hours import Stretch
from scheduler.intervals import GRANULE, Frame

DAY = timedelta(days=1)
BYTES = DAY // GRANULE // 8
"""What a day takes of a track."""

Track = bytes | bytearray
"""A bit for every granule of a timeline, the earliest first."""


@dataclass(slots=True)
class Timeline:
    """Who is open and who is taken, day by day (UTC), from `start` for so many `days`."""

    start: datetime
    days: int
    open: dict[tuple[UUID, UUID], Track] = field(default_factory=dict)
    """For each schedule and site the granules in which it is open there."""
    taken: dict[UUID, dict[int, Track]] = field(default_factory=dict)
    """For each schedule the granules that are gone, lane by lane."""

    @property
    def frame(self) -> Frame:
        """The whole timeline's time."""
        return Frame(self.start, self.days * BYTES * 8)

    def set_open(self, schedule_id: UUID, stretches: Iterable[tuple[UUID, Stretch]]) -> None:
        """Let the schedule be open in these stretches, each at its site, and at no other time."""
        by_site = defaultdict(list)
        for site_id, stretch in stretches:
            by_site[site_id].append(stretch)
        for key in [key for key in self.open if key[0] == schedule_id]:
            del self.open[key]
        for site_id, found in by_site.items():
            bits = self.frame.inside(found)
            self.open[schedule_id, site_id] = bits.to_bytes(self.days * BYTES, "little")

    def set_taken(self, schedule_id: UUID, lanes: Mapping[int, Iterable[tuple[int, int]]]) -> None:
        """Let these granules of the schedule be gone, `[first, end)` on each lane, and no others.

        Granules count from the start of the epoch, as PostgreSQL tells them.
        """
        self.taken[schedule_id] = {
            lane: self._marked(bytearray(self.days * BYTES), spans) for lane, spans in lanes.items()
        }

    def set_taken_on(
        self,
        schedule_id: UUID,
        days: tuple[int, int],
        lanes: Mapping[int, Iterable[tuple[int, int]]],
    ) -> None:
        """The same for the days `[first, end)` alone; the others stay as they are.

        What somebody reads meanwhile is whole, the old or the new: tracks are replaced.
        """
        first, end = max(days[0], 0) * BYTES, min(days[1], self.days) * BYTES
        if first >= end:
            return
        known = self.taken.get(schedule_id, {})
        made: dict[int, Track] = {}
        for lane in {*known, *lanes}:
            track = bytearray(known.get(lane, bytes(self.days * BYTES)))
            fresh = self._marked(bytearray(self.days * BYTES), lanes.get(lane, ()))
            track[first:end] = fresh[first:end]
            made[lane] = track
        self.taken[schedule_id] = made

    def day_of(self, moment: datetime) -> int:
        """The number of the day that holds `moment`."""
        return (moment - self.start) // DAY

    def reaches(self, start: datetime, end: datetime) -> bool:
        """Whether the timeline holds all of a window."""
        return self.start <= start and end <= self.start + self.days * DAY

    def _marked(self, track: bytearray, spans: Iterable[tuple[int, int]]) -> bytearray:
        offset = epoch_granule(self.start)
        size = len(track) * 8
        for first, end in spans:
            low, high = max(first - offset, 0), min(end - offset, size)
            if low < high:
                _mark(track, low, high)
        return track


def epoch_granule(moment: datetime) -> int:
    """The number of the granule, from the start of the epoch, that holds `moment`."""
    return (moment - _EPOCH) // GRANULE


def midnight(moment: datetime) -> datetime:
    """The midnight, UTC, at or before `moment`."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _mark(track: bytearray, first: int, end: int) -> None:
    low, high = first >> 3, (end + 7) >> 3
    bits = ((1 << (end - first)) - 1) << (first & 7)
    bits |= int.from_bytes(track[low:high], "little")
    track[low:high] = bits.to_bytes(high - low, "little")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
