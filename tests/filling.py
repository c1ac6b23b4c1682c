"""Rows in every table there is, for tests of what must forget none: also those of tomorrow.

They make no sense and refer to each other wherever one table refers to another. Their own
database has no CHECKs any more: nobody writes down here what each table wants.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from psycopg.types.range import TimestamptzRange
from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Enum,
    Float,
    LargeBinary,
    Numeric,
    String,
    Table,
    Time,
    TypeDecorator,
    Uuid,
    text,
    type_coerce,
)
from sqlalchemy import Integer as Whole
from sqlalchemy.dialects.postgresql import JSONB, TSTZRANGE
from uuid_utils.compat import uuid7

from models import Base

BASE = datetime(2026, 3, 1, tzinfo=UTC)
_numbers = count(1)


def tenanted() -> list[Table]:
    """Every table that holds rows of clinics, what others refer to first."""
    found = [one for one in Base.metadata.sorted_tables if "clinic_id" in one.columns]
    return sorted(found, key=lambda one: one.name != "clinic")


def forget_checks(connection: Connection) -> None:
    """Let every column hold whatever its type can."""
    connection.execute(
        text(
            """
            DO $$ DECLARE one record; BEGIN
                FOR one IN SELECT conrelid::regclass AS of, conname FROM pg_constraint
                            WHERE contype = 'c' AND conislocal AND conrelid <> 0
                              AND connamespace = 'public'::regnamespace LOOP
                    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', one.of, one.conname);
                END LOOP;
            END $$
            """
        )
    )
    connection.execute(text("SELECT keep_message_month('2026-03-01+00')"))


def fill(connection: Connection, name: str) -> UUID:
    """A clinic with two rows in each table, the second made after the first."""
    clinic_id = uuid7()
    connection.execute(
        text("SELECT set_config('afterglow.clinic', :id, true)"), {"id": str(clinic_id)}
    )
    ids: dict[str, list[UUID]] = {}
    for table in tenanted():
        made = ids.setdefault(table.name, [])
        for number in range(1 if table.name == "clinic" else 2):
            row = _row(table, ids, number) | {"clinic_id": clinic_id}
            if table.name == "clinic":
                row |= {"name": name, "time_zone": "America/New_York"}
            connection.execute(table.insert().values(**row))
            made.append(row.get("id", clinic_id))
    connection.execute(
        text(
            "UPDATE clinic SET default_protocol_id = :protocol, on_call_id = :practitioner, "
            "privacy_officer_id = :practitioner WHERE clinic_id = :clinic"
        ),
        {"clinic": clinic_id, **{name: ids[name][0] for name in ("protocol", "practitioner")}},
    )
    connection.execute(
        text("UPDATE protocol_version SET signed_at = now() WHERE id = :id"),
        {"id": ids["protocol_version"][0]},
    )
    return clinic_id


def _row(table: Table, ids: Mapping[str, list[UUID]], number: int) -> dict[str, Any]:
    refers = {
        key.column_keys[-1]: key.referred_table.name
        for key in table.foreign_key_constraints
        if len(key.column_keys) == 2  # within the clinic
    }
    row: dict[str, Any] = {}
    for column in table.columns:
        if column.name in refers:
            others = ids.get(refers[column.name], [])
            row[column.name] = others[min(number, len(others) - 1)] if others else None
        elif not column.nullable and column.server_default is None:
            row[column.name] = _value(column)
    return row


def _value(column: Column[Any]) -> Any:
    if isinstance(column.type, TypeDecorator):  # past what it makes of what is written
        plain: Any = column.type.impl
        return type_coerce(_of(plain, column), plain)
    return _of(column.type, column)


def _of(kind: Any, column: Column[Any]) -> Any:
    number = next(_numbers)
    moment = BASE + timedelta(minutes=5 * (number % 8000))
    if isinstance(kind, Enum):
        return kind.enums[0] if kind.enum_class is None else next(iter(kind.enum_class))
    for type_, value in (
        (Uuid, uuid7()),
        (String, f"x{number}"),
        (Boolean, False),
        (Whole, number),
        (Numeric, number),
        (Float, 1.5),
        (DateTime, moment),
        (Date, moment.date()),
        (Time, moment.time()),
        (LargeBinary, str(number).encode()),
        (JSONB, {}),
        (ARRAY, []),
        (TSTZRANGE, TimestamptzRange(moment, moment + timedelta(minutes=5))),
    ):
        if isinstance(kind, type_):
            return value
    raise TypeError(f"{column} is {kind!r}: say what it could hold")


def counts(connection: Connection, clinic_id: UUID) -> dict[str, int]:
    """How many rows of a clinic there are, by table, as the catalogue lists tables."""
    connection.execute(
        text("SELECT set_config('afterglow.clinic', :id, true)"), {"id": str(clinic_id)}
    )
    return {
        name: connection.scalar(
            text(f'SELECT count(*) FROM "{name}" WHERE clinic_id = :id'),  # ours
            {"id": clinic_id},
        )
        or 0
        for name in _names(connection)
    }


def contents(connection: Connection, clinic_id: UUID) -> dict[str, list[str]]:
    """Every row of a clinic, in letters."""
    connection.execute(
        text("SELECT set_config('afterglow.clinic', :id, true)"), {"id": str(clinic_id)}
    )
    return {
        name: sorted(
            connection.scalars(
                text(f'SELECT t::text FROM "{name}" t WHERE clinic_id = :id'),  # ours
                {"id": clinic_id},
            )
        )
        for name in _names(connection)
    }


def _names(connection: Connection) -> list[str]:
    return list(
        connection.scalars(
            text(
                "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
                "WHERE a.attname = 'clinic_id' AND c.relkind IN ('r', 'p') "
                "AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace "
                "ORDER BY c.relname"
            )
        )
    )
