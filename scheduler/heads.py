"""Heads of the audit trail: published every hour, kept elsewhere, and looked for again.

Who may write to the database as its owner can rewrite the end of a chain, hashes and all. What
was published before and stands elsewhere shows it.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from scheduler import chain
from scheduler.chain import Fault, Head, Link

TAIL = 100
"""Lines at the end of the trail that are looked through every few minutes."""

EVER = datetime.min.replace(tzinfo=UTC)

AT_ONCE = 2000
"""Lines that are fetched at once when all of them are looked through."""

log = structlog.get_logger()

Watched = Callable[[Iterable[Any]], Iterable[Any]]


def publish(session: Session, now: datetime) -> int:
    """Publish where the clinic's trail ends, if it goes on since the last time. Returns 0 or 1."""
    head = session.execute(_PUBLISH, {"id": uuid7(), "now": now}).one_or_none()
    if head is None:
        return 0
    clinic_id = str(session.info["clinic_id"])
    log.info("audit.head", clinic_id=clinic_id, sequence=head.sequence, hash=head.hash.hex())
    return 1


def watch(session: Session, now: datetime) -> int:
    """Look whether the end of the clinic's trail still chains. Returns 1 if it does not."""
    clinic_id: UUID = session.info["clinic_id"]
    fault = tail_fault(session)
    with _turn:
        _broken.discard(clinic_id)
        if fault is not None:
            _broken.add(clinic_id)
    if fault is not None:
        log.error(
            "audit.broken", clinic_id=str(clinic_id), sequence=fault.sequence, wrong=fault.wrong
        )
    return 0 if fault is None else 1


def broken() -> int:
    """In how many clinics the end of the trail did not chain when this process last looked."""
    with _turn:
        return len(_broken)


_broken: set[UUID] = set()
_turn = threading.Lock()


def tail_fault(session: Session) -> Fault | None:
    """What is wrong with the last lines and with the newest head. None: nothing."""
    newest = session.execute(_NEWEST_HEAD).one_or_none()
    heads = [] if newest is None else [Head(newest.sequence, newest.hash, str(newest.at))]
    if newest is not None and newest.hash != newest.found:
        missing = newest.found is None
        wrong = "is missing: its head was published" if missing else "was rewritten since"
        return Fault(newest.sequence, None, wrong)
    before = session.execute(_BEFORE_TAIL, {"tail": TAIL}).one_or_none()
    last = Link() if before is None else Link(before.sequence, before.hash)
    heads = [head for head in heads if head.sequence > last.sequence]
    return chain.first_fault(session.execute(_LINES, {"after": last.sequence}), heads, last)


def verify(
    session: Session, heads: Iterable[Head], *, after: int = 0, watched: Watched = iter
) -> Fault | None:
    """Look through a clinic's whole trail, or what comes after a line that is known to be right.

    `watched` passes lines on, and may show how far it is.
    """
    known = [*published(session), *heads]
    last = session.execute(_LINK, {"sequence": after}).one_or_none()
    if after and last is None:
        return Fault(after, None, "is missing")
    link = Link() if last is None else Link(last.sequence, last.hash)
    connection = session.connection().execution_options(yield_per=AT_ONCE)
    later = [head for head in known if head.sequence > after]
    with connection.execute(_LINES, {"after": after}) as lines:
        return chain.first_fault(watched(lines), later, link)


def length(session: Session) -> int:
    """The number of the clinic's last line."""
    return int(session.execute(_LENGTH).scalar_one())


def published(session: Session, but: Sequence[Head] = ()) -> Sequence[Head]:
    """The heads that the clinic published, oldest first, without `but` and what came before."""
    told = {
        "sequence": max((head.sequence for head in but), default=0),
        "at": max((datetime.fromisoformat(head.at) for head in but), default=EVER),
    }
    rows = session.execute(_HEADS, told)
    return [Head(row.sequence, row.hash, row.at.isoformat()) for row in rows]


def ship(session: Session, folder: Path) -> int:
    """Write what was published since the last time to the clinic's file. Returns how many.

    A trail that was restored goes on from an earlier line, at a later time: that is new as well.
    """
    clinic_id = session.info["clinic_id"]
    path = folder / f"{clinic_id}.jsonl"
    there = read(path).get(clinic_id, ()) if path.exists() else ()
    told = [
        {
            "clinic_id": str(clinic_id),
            "sequence": head.sequence,
            "hash": head.hash.hex(),
            "at": head.at,
        }
        for head in published(session, there)
    ]
    if told:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(one) + "\n" for one in told))
            file.flush()
            os.fsync(file.fileno())
    return len(told)


def read(*paths: Path) -> Mapping[UUID, Sequence[Head]]:
    """Heads from files, or from all files of folders, by clinic. ValueError: one is none."""
    found: dict[UUID, list[Head]] = {}
    for line in (line for path in paths for line in _lines_of(path)):
        try:
            told = json.loads(line)
            head = Head(int(told["sequence"]), bytes.fromhex(told["hash"]), str(told["at"]))
            found.setdefault(UUID(told["clinic_id"]), []).append(head)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no head: {line[:80]}") from error
    return found


def _lines_of(path: Path) -> Iterator[str]:
    for one in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        yield from filter(str.strip, one.read_text(encoding="utf-8").splitlines())


_HERE = "nullif(current_setting('afterglow.clinic', true), '')::uuid"

_LINES = text(
    f"""
    SELECT sequence, id::text AS id, form, previous_hash, hash, created_at,
           clinic_id::text AS clinic_id, extract(epoch FROM at)::text AS at_seconds,
           extract(epoch FROM created_at)::text AS written_seconds, actor, action, entity,
           entity_id::text AS entity_id, patient_id::text AS patient_id, facts::text AS facts,
           outcome, role, permission, address, request_id::text AS request_id,
           encode(agent_hash, 'hex') AS agent_hash
      FROM audit_event WHERE clinic_id = {_HERE} AND sequence > :after ORDER BY sequence
    """  # noqa: S608  # our own words
)
_LINK = text(
    f"SELECT sequence, hash FROM audit_event WHERE clinic_id = {_HERE} AND sequence = :sequence"  # noqa: S608
)
_LENGTH = text(
    f"SELECT coalesce(max(sequence), 0) FROM audit_event WHERE clinic_id = {_HERE}"  # noqa: S608
)
_BEFORE_TAIL = text(
    f"SELECT sequence, hash FROM audit_event WHERE clinic_id = {_HERE} "  # noqa: S608
    "ORDER BY sequence DESC OFFSET :tail LIMIT 1"
)
_HEADS = text(
    f"SELECT sequence, hash, at FROM audit_head WHERE clinic_id = {_HERE} "  # noqa: S608
    "AND (sequence > :sequence OR at > :at) ORDER BY sequence"
)
_NEWEST_HEAD = text(
    f"""
    SELECT head.sequence, head.hash, head.at, line.hash AS found
      FROM audit_head head LEFT JOIN audit_event line USING (clinic_id, sequence)
     WHERE clinic_id = {_HERE} ORDER BY head.sequence DESC LIMIT 1
    """  # noqa: S608
)
_PUBLISH = text(
    f"""
    INSERT INTO audit_head (id, sequence, hash, at)
    SELECT :id, sequence, hash, :now FROM audit_event
     WHERE clinic_id = {_HERE}
       AND sequence > coalesce((SELECT max(sequence) FROM audit_head
                                 WHERE clinic_id = {_HERE}), 0)
     ORDER BY sequence DESC LIMIT 1
    RETURNING sequence, hash
    """  # noqa: S608
)
