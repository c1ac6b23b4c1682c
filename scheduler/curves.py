"""Curves: which scores belong to a course, and how each stands beside the course's baseline.

Pure: no database, no clock, no Flask.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from scheduler import instruments
from scheduler.instruments import LIBRARY, Change, Instrument


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One response that counts."""

    id: UUID
    instrument: str
    at: datetime
    score: int | None
    band: str | None
    flags: Sequence[str]
    course_id: UUID | None
    """The course whose visit asked for it, or for which staff entered it."""
    appointment_id: UUID | None
    authored_by: str


@dataclass(frozen=True, slots=True)
class Span:
    """A course in time, in days of the clinic: from its first visit to its last."""

    course_id: UUID
    first_day: date
    last_day: date | None
    """None: the course goes on."""
    first_dose_at: datetime | None

    def covers(self, day: date) -> bool:
        """Whether the course was under way on that day."""
        return self.first_day <= day and (self.last_day is None or day <= self.last_day)


@dataclass(frozen=True, slots=True)
class Point:
    """A response beside the baseline of its course."""

    entry: Entry
    baseline_id: UUID | None
    """Its own id if this is it. None: there is none yet, or this came before it."""
    change: Change | None
    """None: this is the baseline, came before it, or one of them has no score."""


def adopted(entries: Iterable[Entry], spans: Sequence[Span], zone: ZoneInfo) -> list[Entry]:
    """Give what belongs to no course to the one that was under way, of several the newest.

    What was filled in before a course's first visit or after its last, and neither for a visit
    of it nor said to be about it, stays outside.
    """
    newest = sorted(spans, key=lambda span: span.first_day, reverse=True)
    return [
        entry
        if entry.course_id is not None
        else replace(entry, course_id=_under_way(entry.at.astimezone(zone).date(), newest))
        for entry in entries
    ]


def _under_way(day: date, newest: Sequence[Span]) -> UUID | None:
    return next((span.course_id for span in newest if span.covers(day)), None)


def points(entries: Iterable[Entry], spans: Sequence[Span]) -> list[Point]:
    """Put each of a patient's responses beside the baseline of its course, oldest first."""
    doses = {span.course_id: span.first_dose_at for span in spans}
    groups: dict[tuple[str, UUID | None], list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda one: (one.at, one.id)):
        groups[entry.instrument, entry.course_id].append(entry)
    return [
        point
        for (code, course_id), group in groups.items()
        for point in _beside(
            group, baseline(group, doses.get(course_id) if course_id else None), LIBRARY[code]
        )
    ]


def baseline(entries: Sequence[Entry], first_dose_at: datetime | None) -> Entry | None:
    """The last score at or before the first dose; if there is none, or no dose yet, the first.

    What comes closest before anything was given says best where somebody began.
    """
    scored = [entry for entry in entries if entry.score is not None]
    if first_dose_at is not None:
        before = [entry for entry in scored if entry.at <= first_dose_at]
        if before:
            return before[-1]
    return scored[0] if scored else None


def _beside(
    entries: Sequence[Entry], first: Entry | None, instrument: Instrument
) -> Iterable[Point]:
    for entry in entries:
        if first is None or (entry.at, entry.id) < (first.at, first.id):
            yield Point(entry, None, None)
        elif entry.id == first.id or entry.score is None or first.score is None:
            yield Point(entry, first.id, None)
        else:
            change = instruments.change(instrument, first.score, entry.score)
            yield Point(entry, first.id, change)
