"""Archives: everything that a clinic has, in one file that its admins take along.

Which tables there are is told by the models, and a test compares them with the database: a table
that a later migration adds is in it by itself. Functions here flush and never commit.
"""

import base64
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import inspect, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Archive, ArchivePart, Base
from scheduler.authority import Authority
from scheduler.errors import NotFound, Unfit

KEPT = timedelta(days=7)
"""So long an archive can be fetched."""

NOT_TAKEN = frozenset({ArchivePart.__tablename__})
"""The archives themselves."""

WITHHELD = frozenset(
    {
        "challenge",
        "client_secret",
        "code_hash",
        "email_index",
        "password_hash",
        "phone_index",
        "secret",
        "secret_hash",
        "token_hash",
        "totp_pending",
        "totp_secret",
        "wrapped",
        "wrapped_index",
    }
)
"""Columns by which somebody comes in, or something is found or opened here: they are of no use
elsewhere, and of ill use anywhere."""

WITHHELD_OF: Mapping[str, frozenset[str]] = {"idempotency_key": frozenset({"body"})}
"""By table, those that are called as harmless ones of others are. An answer that is kept for a
repeated request may show what is shown once: the address of a calendar, say."""


class Standing(StrEnum):
    """Where an archive stands (FHIR R4 TaskStatus)."""

    REQUESTED = "requested"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"


def standing(found: Archive) -> Standing:
    """Where it stands."""
    if found.ended_at is not None:
        return Standing.COMPLETED
    return Standing.IN_PROGRESS if found.done else Standing.REQUESTED


def ask(session: Session, by: Authority, now: datetime) -> Archive:
    """Have one written by the worker. Refuses with `Unfit` while another is."""
    if session.scalar(_OPEN):
        raise Unfit("An archive is being written already: wait until it is completed.")
    asked = Archive(
        id=uuid7(), asked_by=by.name, asked_at=now, total=len(tables()), done=0, version=1
    )
    session.add(asked)
    session.flush()
    return asked


def piece(session: Session, archive_id: UUID, number: int) -> bytes | None:
    """A piece of the file, counted from 0; None after the last."""
    content: bytes | None = session.scalar(_PART, {"id": archive_id, "number": number})
    return content


def refuse_unless_ready(found: Archive, now: datetime) -> None:
    """Refuse one that is not written yet, with `Unfit`, or is gone, with `NotFound`."""
    if found.expires_at is None:
        raise Unfit("This archive is being written: `done` of `total` tables are.")
    if found.expires_at <= now:
        raise NotFound("This archive has expired; ask for another.")


def forget(session: Session, now: datetime) -> int:
    """Drop those that can be fetched no more."""
    return len(session.execute(_FORGET, {"now": now}).all())


def tables() -> Mapping[str, Any]:
    """By its name the class of each table that holds rows of clinics."""
    found = {
        mapper.local_table.name: mapper.class_  # type: ignore[attr-defined]
        for mapper in Base.registry.mappers
        if "clinic_id" in mapper.columns
    }
    return {name: found[name] for name in sorted(found.keys() - NOT_TAKEN)}


def withheld(model: Any) -> list[str]:
    """The columns of a table that are left out."""
    return sorted({column.name for column in inspect(model).columns} & _left_out(model))


def told(row: Any) -> dict[str, Any]:
    """A row as it stands in the file: what is no JSON in the letters that PostgreSQL would use."""
    return dict(_cells(row))


def _left_out(model: Any) -> frozenset[str]:
    return WITHHELD | WITHHELD_OF.get(model.__tablename__, frozenset())


def _cells(row: Any) -> Iterator[tuple[str, Any]]:
    left_out = _left_out(type(row))
    for attribute in inspect(type(row)).column_attrs:
        name = str(attribute.columns[0].name)  # it may know how it is quoted
        if name not in left_out:
            # By the column's own name, where the model has one: so it is as people read it.
            key = name if hasattr(type(row), name) else attribute.key
            yield name, _plain(getattr(row, key))


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float | str | dict):
        return value
    return str(value)


_OPEN = text("SELECT EXISTS (SELECT FROM archive WHERE ended_at IS NULL)")

_PART = text("SELECT content FROM archive_part WHERE archive_id = :id AND number = :number")

_FORGET = text("DELETE FROM archive WHERE expires_at <= :now RETURNING 1")
