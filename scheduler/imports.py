"""Imports: files that were handed in, and how far the worker is with them.

Functions here flush and never commit.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Import
from models.vocabulary import ImportFormat, ImportKind
from scheduler import facts, records
from scheduler.authority import Authority
from scheduler.errors import Unfit, WrongStatus
from scheduler.records import NotRecords

MOST_LINES = 50_000
MOST_BYTES = 10 * 1024 * 1024
MOST_OPEN = 10
"""So many files of a clinic may wait at once: each is kept until it was read."""

KEPT = timedelta(days=30)
"""For so long it can be asked what became of a file. Its content is gone when it was read."""


class Standing(StrEnum):
    """Where an import stands (FHIR R4 TaskStatus)."""

    REQUESTED = "requested"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class File:
    """What somebody hands in."""

    kind: ImportKind
    format: ImportFormat
    content: str
    dry_run: bool


def standing(found: Import) -> Standing:
    """Where it stands."""
    if found.ended_at is not None:
        return Standing.CANCELLED if found.cancelled_by is not None else Standing.COMPLETED
    return Standing.IN_PROGRESS if found.done else Standing.REQUESTED


def hand_in(session: Session, file: File, by: Authority, now: datetime) -> Import:
    """Keep a file for the worker. Refuses with `Unfit` what is too long, or no file of records."""
    if session.scalar(_OPEN) >= MOST_OPEN:
        raise Unfit(f"{MOST_OPEN} imports are not done yet: wait for one of them to complete.")
    made = Import(
        id=uuid7(),
        kind=file.kind,
        format=file.format,
        dry_run=file.dry_run,
        content=file.content,
        total=_count(file),
        done=0,
        made=0,
        faulty=0,
        made_by=by.name,
        handed_in_at=now,
        version=1,
    )
    session.add(made)
    session.flush()
    return made


def cancel(session: Session, import_id: UUID, by: Authority, now: datetime) -> Import:
    """Read no more lines of a file. What was made of those before stays.

    It waits for the lines that the worker has in hand: they are kept whole, or not at all.
    Refuses with `WrongStatus` one that has ended.
    """
    found = facts.to_change(session, Import, import_id, None)
    if found.ended_at is not None:
        raise WrongStatus(f"This import is {standing(found)} already.")
    found.content, found.ended_at, found.cancelled_by = None, now, by.name
    found.version += 1
    session.flush()
    return found


def _count(file: File) -> int:
    if "\x00" in file.content:
        raise Unfit("A file of text holds no NUL.")
    try:
        number = sum(1 for _ in records.records(file.content, file.format))
    except NotRecords as error:
        raise Unfit(str(error)) from error
    if not 0 < number <= MOST_LINES:
        raise Unfit(f"Send 1 to {MOST_LINES:,} records, not {number:,}.")
    return number


def forget(session: Session, now: datetime) -> int:
    """Drop what is known of imports that have ended long ago."""
    return len(session.execute(_FORGET, {"before": now - KEPT}).all())


_OPEN = text("SELECT count(*) FROM import WHERE ended_at IS NULL")

_FORGET = text("DELETE FROM import WHERE ended_at < :before RETURNING 1")
