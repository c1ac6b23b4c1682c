"""The chain of the audit trail, recomputed: is each line as it was written, and all of them there?

Each line's hash is made of the hash before it and of the line's own parts. Pure: lines come from
wherever they are kept, every part as PostgreSQL writes it in letters.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

CLOCK_MAY_STEP = timedelta(minutes=1)
"""So far a clock may be set back by whoever keeps it right."""

NOTHING = b""


@dataclass(frozen=True, slots=True)
class Head:
    """The last line at some time, as it was published."""

    sequence: int
    hash: bytes
    at: str
    """When, in letters: it is shown and no more."""


@dataclass(frozen=True, slots=True)
class Link:
    """A line that others follow."""

    sequence: int = 0
    hash: bytes = NOTHING
    written_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """The first line with which something is wrong."""

    sequence: int
    id: str | None
    """None: the line is not there."""
    wrong: str


def first_fault(
    lines: Iterable[Any], heads: Iterable[Head], last: Link | None = None
) -> Fault | None:
    """Look through lines in their order, those after `last`. None: nothing is wrong."""
    published = defaultdict(list)
    for head in heads:
        published[head.sequence].append(head)
    last = last or Link()
    for line in lines:
        wrong = _wrong(line, last, published.get(line.sequence, ()))
        if wrong is not None:
            return Fault(line.sequence, str(line.id), wrong)
        last = Link(line.sequence, line.hash, line.created_at if line.form > 1 else None)
    return _cut(last, max(published, default=0))


def _cut(last: Link, published: int) -> Fault | None:
    if published <= last.sequence:
        return None
    return Fault(last.sequence + 1, None, f"is missing: the head of line {published} was published")


def _wrong(line: Any, last: Link, heads: Sequence[Head]) -> str | None:
    if line.sequence != last.sequence + 1:
        return f"line {last.sequence + 1} is missing before it"
    if line.previous_hash != last.hash:
        return "does not follow from the line before it"
    if line.hash != hash_of(line):
        return "was changed after it was written"
    for head in heads:
        if head.hash != line.hash:
            return f"is not the line whose head was published at {head.at}: it was rewritten"
    return _wrong_time(line, last)


def _wrong_time(line: Any, last: Link) -> str | None:
    if line.form < 2 or last.written_at is None:
        return None
    back = last.written_at - line.created_at
    return None if back <= CLOCK_MAY_STEP else f"was written {back} before the line before it"


def hash_of(line: Any) -> bytes:
    """The hash that a line must have, in the form in which it was made."""
    told = _FORMS[line.form](line)
    return hashlib.sha256(line.previous_hash + told.encode()).digest()


def _first_form(line: Any) -> str:
    parts = (
        line.clinic_id,
        str(line.sequence),
        line.at_seconds,
        line.actor,
        line.action,
        line.entity,
        line.entity_id,
        line.patient_id,
        line.facts,
    )
    return "|".join(part for part in parts if part is not None)


def _second_form(line: Any) -> str:
    """Each part with its length, so that none flows into the next."""
    parts = (
        line.clinic_id,
        line.id,
        str(line.sequence),
        line.at_seconds,
        line.written_seconds,
        line.actor,
        line.action,
        line.entity,
        line.entity_id,
        line.patient_id,
        line.facts,
        line.outcome,
        line.role,
        line.permission,
        line.address,
        line.request_id,
        line.agent_hash,
    )
    return ",".join("-" if part is None else f"{len(part.encode())}:{part}" for part in parts)


_FORMS = {1: _first_form, 2: _second_form}
