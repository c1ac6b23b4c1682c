"""Time as integers: one bit for every five minutes, so that a day of a schedule is one number.

`a & b` is the time that two actors share, `a | b` the time that one of them has, and
`runs(a, k)` the starts from which k bits in a row are set, found in O(log k) operations on
numbers of any length.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

GRANULE = timedelta(minutes=5)
"""What schedules are kept in. Every zone's offset is a multiple of it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A stretch of time cut into granules; bit n is the n-th granule from `start`."""

    start: datetime
    size: int

    @classmethod
    def over(cls, start: datetime, end: datetime) -> "Frame":
        """The frame that covers `start` to `end`; `start` must lie on a granule."""
        return cls(start, max(0, -((start - end) // GRANULE)))

    def at(self, index: int) -> datetime:
        """The instant at which granule `index` begins."""
        return self.start + index * GRANULE

    def index(self, moment: datetime) -> int:
        """The granule that holds `moment`."""
        return (moment - self.start) // GRANULE

    def inside(self, stretches: Iterable[tuple[datetime, datetime]]) -> int:
        """The granules that lie wholly inside one of the stretches."""
        bits = 0
        for start, end in stretches:
            bits |= self._mask(-((self.start - start) // GRANULE), (end - self.start) // GRANULE)
        return bits

    def touched(self, stretches: Iterable[tuple[datetime, datetime]]) -> int:
        """The granules of which a stretch takes any part."""
        bits = 0
        for start, end in stretches:
            bits |= self._mask((start - self.start) // GRANULE, -((self.start - end) // GRANULE))
        return bits

    def marked(self, spans: Iterable[tuple[int, int]]) -> int:
        """The granules `[first, end)` of each span, as far as the frame holds them."""
        bits = 0
        for first, end in spans:
            bits |= self._mask(first, end)
        return bits

    def _mask(self, first: int, end: int) -> int:
        first, end = max(first, 0), min(end, self.size)
        return ((1 << (end - first)) - 1) << first if end > first else 0


def granules(length: timedelta) -> int:
    """How many granules `length` takes, the last one whole."""
    return -(-length // GRANULE)


def at_least(count: int, sets: Iterable[int]) -> int:
    """The positions that are set in `count` of the sets or more."""
    if count == 1:
        found = 0
        for bits in sets:
            found |= bits
        return found
    reached = [0] * count
    for bits in sets:
        for level in range(count - 1, 0, -1):
            reached[level] |= reached[level - 1] & bits
        reached[0] |= bits
    return reached[-1]


def shifted(bits: int, by: int) -> int:
    """The positions, each earlier by `by` granules; later if it is negative."""
    return bits >> by if by >= 0 else bits << -by


def runs(bits: int, length: int) -> int:
    """The positions from which `length` bits in a row are set."""
    reached = 1
    while reached < length and bits:
        step = min(reached, length - reached)
        bits &= bits >> step
        reached += step
    return bits


def positions(bits: int) -> Iterator[int]:
    """The positions of the set bits, rising."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def indexes(bits: int) -> NDArray[np.int64]:
    """The same as an array, rising: for thousands of bits at once."""
    first = max(0, (bits & -bits).bit_length() - 1) // 8 * 8  # what is empty before costs nothing
    bits >>= first
    told = np.frombuffer(bits.to_bytes((bits.bit_length() + 7) // 8, "little"), dtype=np.uint8)
    # As booleans: of those numpy finds the true ones several times as fast as numbers that are set.
    return np.flatnonzero(np.unpackbits(told, bitorder="little").view(np.bool_)) + first
