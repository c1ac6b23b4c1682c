"""Archiving: everything of a clinic as one file, written by the worker.

A zip: `<table>.jsonl` with a row on each line, and `manifest.json` with how many there are and
their SHA-256. All of it is as of one instant. The file is kept in the database, in pieces, so
that every web process can hand it out; whoever is killed meanwhile leaves nothing to go on
from, for the instant is gone: the next begins anew.
"""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import structlog
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import enter_clinic
from scheduler import archives, facts, part2

PIECE = 1 << 20
FORMAT = 1

log = structlog.get_logger()


class Stopped(Exception):
    """The worker is to end; another will begin anew."""


@dataclass
class Pieces(io.RawIOBase):
    """A file to write to, whose pieces are kept as rows."""

    keep: Callable[[int, bytes], None]
    held: bytearray = field(default_factory=bytearray)
    number: int = 0
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def writable(self) -> bool:
        return True

    def write(self, told: Any) -> int:
        self.held += told
        while len(self.held) >= PIECE:
            self._keep(PIECE)
        return len(told)

    def end(self) -> None:
        """Keep what is left."""
        if self.held:
            self._keep(len(self.held))

    def _keep(self, size: int) -> None:
        piece = bytes(self.held[:size])
        del self.held[:size]
        self.keep(self.number, piece)
        self.number += 1
        self.size += size
        self.digest.update(piece)


@dataclass(frozen=True, slots=True)
class Archiver:
    """Writes the archives that clinics ask for, as the service: it sees what they see."""

    engine: Engine
    clock: Callable[[], datetime]
    stop: threading.Event = field(default_factory=threading.Event)
    at: Callable[[str], None] = lambda _: None
    """Told how far it is. For tests of faults."""

    def work(self, clinics: Iterable[UUID]) -> None:
        """Write every archive that waits; drop those that have expired."""
        for clinic_id in clinics:
            try:
                self._of_clinic(clinic_id)
            except Stopped:
                return
            except Exception:  # one clinic's trouble is not another's
                log.exception("archive.failed", clinic_id=str(clinic_id))

    def _of_clinic(self, clinic_id: UUID) -> None:
        with self._transaction(clinic_id) as session:
            archives.forget(session, self.clock())
        with Session(self.engine.execution_options(isolation_level="REPEATABLE READ")) as snapshot:
            enter_clinic(snapshot, clinic_id)
            if not snapshot.scalar(_MINE, {"name": f"archive {clinic_id}"}):
                return  # another worker is at it
            found = facts.archive_to_write(snapshot)
            if found is not None:
                snapshot.execute(_TAKE_TIME)
                self._write(snapshot, clinic_id, found.id)

    def _write(self, snapshot: Session, clinic_id: UUID, archive_id: UUID) -> None:
        def keep(number: int, piece: bytes) -> None:
            values = {"id": uuid7(), "archive": archive_id, "number": number, "content": piece}
            with self._transaction(clinic_id) as session:
                session.execute(_KEEP, values)

        def note(statement: Any, **values: Any) -> None:
            with self._transaction(clinic_id) as session:
                session.execute(statement, {"id": archive_id, **values})

        note(_EMPTY)
        note(_PROGRESS, done=0)
        file = Pieces(keep)
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "clinic_id": str(clinic_id),
            "taken_at": self.clock().isoformat(),
            "redisclosure_notice": part2.NOTICE if facts.has_part2(snapshot) else None,
            "tables": {},
        }
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as whole:
            for done, (name, model) in enumerate(archives.tables().items(), 1):
                with whole.open(f"{name}.jsonl", "w", force_zip64=True) as lines:
                    manifest["tables"][name] = self._table(snapshot, model, lines)
                note(_PROGRESS, done=done)
                self.at(name)
            whole.writestr("manifest.json", json.dumps(manifest, indent=1))
        file.end()
        now = self.clock()
        ended = {"bytes": file.size, "sha256": file.digest.hexdigest(), "now": now}
        note(_END, **ended, expires=now + archives.KEPT)
        log.info("archive.written", clinic_id=str(clinic_id), bytes=file.size)

    def _table(self, snapshot: Session, model: Any, lines: Any) -> dict[str, Any]:
        rows, digest = 0, hashlib.sha256()
        for row in facts.every_row(snapshot, model):
            line = orjson.dumps(archives.told(row), option=orjson.OPT_APPEND_NEWLINE)
            digest.update(line)
            lines.write(line)
            rows += 1
            if self.stop.is_set():
                raise Stopped
        told = {"rows": rows, "sha256": digest.hexdigest()}
        return {**told, "withheld": archives.withheld(model)}

    @contextmanager
    def _transaction(self, clinic_id: UUID) -> Iterator[Session]:
        with Session(self.engine) as session, session.begin():
            enter_clinic(session, clinic_id)
            yield session


_MINE = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")

_TAKE_TIME = text("SELECT set_config('idle_in_transaction_session_timeout', '10min', true)")
"""A piece is kept between two looks, and its disk may be slow."""

_EMPTY = text("DELETE FROM archive_part WHERE archive_id = :id")

_KEEP = text(
    "INSERT INTO archive_part (id, archive_id, number, content) "
    "VALUES (:id, :archive, :number, :content)"
)

_PROGRESS = text("UPDATE archive SET done = :done, version = version + 1 WHERE id = :id")

_END = text(
    "UPDATE archive SET bytes = :bytes, sha256 = :sha256, ended_at = :now, expires_at = :expires, "
    "version = version + 1 WHERE id = :id"
)
