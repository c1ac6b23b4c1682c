"""Bulk: files that were handed in are read some lines at a time, and what they say is kept.

Line by line: a line that is right is kept, one that is wrong is told with what to do about it.
So many lines, what became of them and how far the file is read are one transaction: whenever
the worker is killed, another goes on from there, and nothing is lost or there twice.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from uuid import UUID

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from intake import keeping
from intake.faults import Fault, Notes
from intake.keeping import Before, Kind, Made
from intake.tables import Row
from models import Import, ImportFault, enter_clinic
from scheduler import audit, facts, records
from scheduler.audit import Act
from scheduler.authority import Authority
from scheduler.records import Record

AT_ONCE = 200
"""Lines in a transaction: seconds of work are lost with a kill, and locks are held briefly."""

LONGEST = 300
"""A fault says no more than that of what stood in the file."""

MOST_STRANGE = 10
"""So many names that are not known are told of a line: it may hold a hundred thousand."""

_AS_BEFORE = "-", "The columns of this table are wrong: see the first of its lines."
"""Said of every line but that one, or a long table would have as many faults as it has cells."""

log = structlog.get_logger()


@dataclass(slots=True)
class Reading:
    """A file that is being read: where we are, and which keys it has named."""

    import_id: UUID
    kind: Kind
    strange: list[tuple[str, str]]
    """Columns that should not be there, or are not: what is to be told of the next line."""
    lines: Iterator[Record]
    done: int = 0
    seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, found: Import) -> "Reading":
        """Read a file up to where its import stands."""
        assert found.content is not None
        kind = keeping.KINDS[found.kind]
        columns = records.columns_of(found.content, found.format)
        lines = records.records(found.content, found.format)
        reading = cls(found.id, kind, kind.strange(columns), lines)
        for _ in reading.next(found.done):
            pass
        return reading

    def is_at(self, found: Import) -> bool:
        """Whether that import goes on where this reading is."""
        return (self.import_id, self.done) == (found.id, found.done)

    def next(self, number: int) -> list[tuple[Row, list[Fault]]]:
        """The next lines, each with what is wrong with it as far as the file goes."""
        found = [self._read(one) for one in islice(self.lines, number)]
        self.done += len(found)
        return found

    def _read(self, record: Record) -> tuple[Row, list[Fault]]:
        notes = Notes()
        row = Row("", record.line, record.cells, notes)
        for name, detail in self.strange[:MOST_STRANGE]:
            row.fault(name, detail)
        if record.fault is not None:
            row.fault("-", record.fault)
        if self.strange:
            self.strange = [_AS_BEFORE]
        more = () if self.strange else sorted(record.cells.keys() - set(self.kind.columns))
        for name in more[:MOST_STRANGE]:
            row.fault("-", f"{name!r} is not known; use {', '.join(self.kind.columns)}.")
        if not notes.faults:
            key = self.kind.key(row.cells)
            if key in self.seen:
                row.fault(self.kind.named, "An earlier line of this file says the same.")
            self.seen.add(key)
        return row, notes.faults


@dataclass(frozen=True, slots=True)
class Importer:
    """Works off the files that clinics hand in."""

    engine: Engine
    clock: Callable[[], datetime]
    stop: threading.Event = field(default_factory=threading.Event)

    def work(self, clinics: Iterable[UUID]) -> None:
        """Read every file that waits."""
        for clinic_id in clinics:
            try:
                self._of_clinic(clinic_id)
            except Exception:  # one clinic's trouble is not another's
                log.exception("import.failed", clinic_id=str(clinic_id))

    def _of_clinic(self, clinic_id: UUID) -> None:
        reading: Reading | None = None
        while not self.stop.is_set():
            with self._transaction(clinic_id) as session:
                found = facts.import_to_read(session)
                if found is None:
                    return  # there is none, or another worker is at it
                if reading is None or not reading.is_at(found):
                    reading = Reading.of(found)
                read_on(session, found, reading, self.clock())

    @contextmanager
    def _transaction(self, clinic_id: UUID) -> Iterator[Session]:
        with Session(self.engine) as session, session.begin():
            enter_clinic(session, clinic_id)
            yield session


def read_on(session: Session, found: Import, reading: Reading, now: datetime) -> None:
    """Take the next lines of a file: keep what is right, note what is not. Flushes."""
    lines = reading.next(AT_ONCE)
    made = _keep(session, reading.kind, lines, dry_run=found.dry_run)
    faults = [fault for _, wrong in lines for fault in wrong]
    session.add_all(
        ImportFault(import_id=found.id, line=one.line, field=one.field, detail=one.detail[:LONGEST])
        for one in faults
    )
    found.done += len(lines)
    found.faulty += sum(1 for _, wrong in lines if wrong)
    found.made = found.done - found.faulty
    found.version += 1
    if found.done >= found.total or not lines:
        found.content, found.ended_at = None, now
    session.flush()
    _tell(session, found, made, now)


def _keep(
    session: Session, kind: Kind, lines: list[tuple[Row, list[Fault]]], *, dry_run: bool
) -> list[Made]:
    """Keep the lines with which nothing is wrong; all at once, or one by one if that fails."""
    before = kind.look(session, [row.cells for row, wrong in lines if not wrong])
    items = []
    for row, wrong in lines:
        item = None if wrong else _item(kind, row, before)
        if not wrong and item is not None:
            items.append((row, item))
    if dry_run:
        return []
    try:
        with session.begin_nested():
            return kind.keep(session, [item for _, item in items])
    except OperationalError:
        raise  # the database is away: it is none of the lines
    except DBAPIError:
        return [made for row, item in items for made in _alone(session, kind, row, item)]


def _item(kind: Kind, row: Row, before: Before) -> object:
    """What a line says; one that we stumble over is faulty, and the next ones are read."""
    try:
        return kind.read(row, before)
    except Exception:
        log.exception("import.line-broken", line=row.line)
        row.fault("-", "This line cannot be read. Leave it out, and tell whoever runs the service.")
        return None


def _alone(session: Session, kind: Kind, row: Row, item: object) -> list[Made]:
    try:
        with session.begin_nested():
            return kind.keep(session, [item])
    except OperationalError:
        raise
    except DBAPIError:
        row.fault("-", "This cannot be kept beside what is there by now; read it in again.")
        return []


def _tell(session: Session, found: Import, made: list[Made], now: datetime) -> None:
    """A line in the audit trail for each that was made, and one for the file when it is done."""
    by = Authority(found.made_by)
    for one in made:
        act = Act(
            action="create",
            entity=one.entity,
            entity_id=one.id,
            patient_id=one.id if one.entity == "patient" else None,
            facts={"import": found.id},
        )
        audit.record(session, by, act, now)
    if found.ended_at is not None:
        told = {"kind": found.kind, "dry_run": found.dry_run, "made": found.made}
        told |= {"faulty": found.faulty}
        act = Act(action="execute", entity="import", entity_id=found.id, facts=told)
        audit.record(session, by, act, now)
