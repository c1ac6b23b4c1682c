"""What is in a database, in figures: enough to tell whether another holds the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql

FOR_A_BACKUP = {
    "afterglow.backup": "on",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": "60s",
}
"""How a session of the owner reads whole tables, and takes its time."""

_PLAINLY = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "search_path": "public",
}
"""How rows are written out, so that the same row is the same text on every server."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Every table's number of rows and a sum over them; every clinic's end of the audit trail.

    The keys of clinics are left out: they are kept apart, and may be forgotten there.
    """

    tables: Mapping[str, tuple[int, str]]
    audit_heads: Mapping[str, tuple[int, str]]
    """By clinic: the last line's number and hash."""
    broken_at: Mapping[str, int]
    """By clinic: the first line of the trail that does not follow from the one before."""

    def differences(self, other: "Contents") -> Iterator[str]:
        """What `other` holds otherwise, each in a sentence."""
        for table in sorted({*self.tables, *other.tables}):
            here, there = self.tables.get(table, _NONE), other.tables.get(table, _NONE)
            if here != there:
                same = " and not the same ones" if here[0] == there[0] else ""
                yield f"{table}: {there[0]} rows instead of {here[0]}{same}."
        for clinic in sorted({*self.audit_heads, *other.audit_heads}):
            if self.audit_heads.get(clinic) != other.audit_heads.get(clinic):
                yield f"audit trail of clinic {clinic}: it does not end in the same line."
        for clinic, line in sorted(other.broken_at.items()):
            if self.broken_at.get(clinic) != line:
                yield f"audit trail of clinic {clinic}: broken at line {line}."


_NONE = (0, "there is no such table")


def look(connection: Connection[Any]) -> Contents:
    """Count and sum up, within the connection's transaction.

    Raises ValueError for a table of which this session would not see every row.
    """
    settle(connection, FOR_A_BACKUP | _PLAINLY)
    hidden = [row[0] for row in connection.execute(_HIDDEN).fetchall()]
    if hidden:
        raise ValueError(f"A backup may not read {', '.join(hidden)}: run `afterglow migrate`.")
    names = [row[0] for row in connection.execute(_TABLES).fetchall()]
    return Contents(
        tables={name: _counted(connection, name) for name in names},
        audit_heads={row[0]: (row[1], row[2]) for row in connection.execute(_HEADS).fetchall()},
        broken_at=dict(connection.execute(_BREAKS).fetchall()),
    )


def settle(connection: Connection[Any], settings: Mapping[str, str]) -> None:
    """Let these settings hold until the transaction ends."""
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, true)", [name, value])


def _counted(connection: Connection[Any], name: str) -> tuple[int, str]:
    row = connection.execute(
        sql.SQL(
            "SELECT count(*), coalesce(sum(hashtextextended(CAST(t AS text), 0)), 0) "
            "FROM ONLY {} AS t"
        ).format(sql.Identifier(name))
    ).fetchone()
    assert row is not None
    return int(row[0]), str(row[1])


_TABLES = """
    SELECT relname FROM pg_class
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'clinic_key'
     ORDER BY relname
"""

_HIDDEN = """
    SELECT relname FROM pg_class c
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relforcerowsecurity
       AND relrowsecurity
       AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user)
       AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid
                          AND polname = 'backed_up')
     ORDER BY relname
"""

_HEADS = """
    SELECT DISTINCT ON (clinic_id) clinic_id::text, sequence, encode(hash, 'hex')
      FROM audit_event ORDER BY clinic_id, sequence DESC
"""

_BREAKS = """
    SELECT clinic_id::text, min(sequence)
      FROM (SELECT clinic_id, sequence, previous_hash,
                   row_number() OVER trail AS number,
                   lag(hash, 1, ''::bytea) OVER trail AS expected
              FROM audit_event WINDOW trail AS (PARTITION BY clinic_id ORDER BY sequence)) line
     WHERE sequence <> number OR previous_hash <> expected
     GROUP BY clinic_id
"""
"""Whether the lines hang together. That each says what was hashed is for the trail's own check."""
