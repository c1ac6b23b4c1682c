"""Outcomes: how a patient's scores change, beside the first of the course."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from scheduler import facts, instruments
from scheduler.instruments import LIBRARY, Change


@dataclass(frozen=True, slots=True)
class Point:
    """One response that counts."""

    id: UUID
    at: datetime
    score: int | None
    band: str | None
    flags: Sequence[str]
    baseline_id: UUID | None
    """The first of the same course with a score; of responses outside courses, of those."""
    change: Change | None
    """Beside the baseline. None: this is it, or one of them has no score."""


def scores(
    session: Session, patient_id: UUID, course_id: UUID | None = None
) -> Mapping[str, Sequence[Point]]:
    """By instrument what counts of a patient's responses, oldest first; of one course, or all."""
    baselines: dict[tuple[str, UUID | None], tuple[UUID, int]] = {}
    found: dict[str, list[Point]] = defaultdict(list)
    for row in facts.responses_that_count(session, patient_id):
        known = row.instrument, row.course_id
        change, first = None, baselines.get(known)
        if row.score is not None and first is not None:
            change = instruments.change(LIBRARY[row.instrument], first[1], row.score)
        elif row.score is not None:
            baselines[known] = row.id, row.score
        if course_id in {None, row.course_id}:
            baseline_id = None if first is None else first[0]
            found[row.instrument].append(
                Point(row.id, row.authored_at, row.score, row.band, row.flags, baseline_id, change)
            )
    return found


def told(change: Change) -> dict[str, Any]:
    """A change as callers see it."""
    shown = asdict(change)
    if change.percent is not None:
        shown["percent"] = round(change.percent, 1)
    return shown
