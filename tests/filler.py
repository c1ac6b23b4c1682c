"""Rows without a meaning, in every table that grows: PostgreSQL plans by how many there are.

Nothing reads them but the planner. So no rule holds them together: what would refuse them is taken
away, keys and indexes stay.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

import psycopg
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Time,
    Uuid,
)

from database import access
from database.access import Access
from models import Base
from models.sealed import SealedJson
from tests.plans import FEW

ROWS = 2_000
"""In each table, of each clinic."""


def fill(ways: Access, clinics: Sequence[UUID], but: Iterable[str]) -> None:
    """Fill every table that grows, but those that are full; and let some visits be in groups."""
    full = {*FEW, *but, "message_archive"}
    with access.connect(ways.owner) as connection:
        connection.execute("SET statement_timeout = 0")
        empty = [table for table in Base.metadata.sorted_tables if table.name not in full]
        for name in [*(table.name for table in empty), "appointment", "slot"]:
            _let_anything_in(connection, name)
        for clinic_id in clinics:
            connection.execute("SELECT set_config('afterglow.clinic', %s, false)", [str(clinic_id)])
            for table in empty:
                connection.execute(_insert(table).encode())
            for statement in _GROUPS:
                connection.execute(statement)
        connection.execute("VACUUM ANALYZE")


def _let_anything_in(connection: psycopg.Connection, table: str) -> None:
    found = connection.execute(
        "SELECT quote_ident(conname) FROM pg_constraint "
        "WHERE conrelid = %s::regclass AND contype IN ('f', 'c')",
        [f'"{table}"'],
    ).fetchall()
    for (name,) in found:
        connection.execute(f'ALTER TABLE "{table}" DROP CONSTRAINT {name}')
    connection.execute(f'ALTER TABLE "{table}" DISABLE TRIGGER USER')


def _insert(table: Table) -> str:
    columns = [column for column in table.columns if column.name != "clinic_id"]
    names = ", ".join(f'"{column.name}"' for column in columns)
    values = ", ".join(_value(column) for column in columns)
    return (
        f'INSERT INTO "{table.name}" ({names}) SELECT {values} FROM generate_series(1, {ROWS}) n '
        "ON CONFLICT DO NOTHING"
    )


def _value(column: Column[object]) -> str:
    """Something of its type; of what may be missing every other."""
    told = _sample(column)
    return f"CASE WHEN n % 2 = 0 THEN {told} END" if column.nullable else told


def _sample(column: Column[object]) -> str:
    if isinstance(column.type, Enum):
        codes = ", ".join(f"'{code}'" for code in column.type.enums)
        return f"(ARRAY[{codes}])[1 + n % {len(column.type.enums)}]"
    return next((told for kind, told in _SAMPLES if isinstance(column.type, kind)), "'v' || n")


_SAMPLES = (
    (Uuid, "gen_random_uuid()"),
    (DateTime, "now() + n * interval '1 min'"),
    (Date, "current_date + n"),
    (Time, "time '09:00'"),
    (SmallInteger, "n % 100"),
    (BigInteger, "n"),
    (Integer, "n"),
    (Float, "n"),
    (Boolean, "n % 2 = 0"),
    (LargeBinary, "uuid_send(gen_random_uuid())"),
    (ARRAY, "'{}'"),
    (SealedJson, "to_jsonb('v'::text)"),
    (JSON, "'{}'"),
)
_GROUPS = (
    """
    UPDATE appointment SET group_session_id = gen_random_uuid(), place = 1, places = 6
     WHERE substr(id::text, 1, 1) = '0'
    """,
    "UPDATE slot SET group_session_id = gen_random_uuid() WHERE substr(id::text, 1, 1) = '0'",
)
