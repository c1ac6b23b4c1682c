"""Seals: what in a database is sealed with which key, counted; for whoever looks after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql

from models import sealed
from models.sealed import Sealed


@dataclass(frozen=True, slots=True)
class Seals:
    """How things stand in all clinics together; rows of those that are forgotten do not count."""

    forgotten: int
    """Clinics whose keys were forgotten for ever."""
    walking: int
    """Clinics that are being sealed anew."""
    stuck: int
    """Rows that do not open."""
    older: Mapping[str, int]
    """By table, rows with something that another key than the clinic's newest has sealed."""
    plain: Mapping[str, int]
    """By table, rows with something that is not sealed."""


def look(connection: Connection[Any]) -> Seals:
    """Count, in a session that sees every clinic's rows. Reads whole tables."""
    [(forgotten, walking, stuck)] = connection.execute(_KEYS).fetchall()
    older, plain = dict[str, int](), dict[str, int]()
    for table, columns in sealed.COLUMNS.items():
        [(old, open_)] = connection.execute(_counting(table, columns)).fetchall()
        older |= {table: old} if old else {}
        plain |= {table: open_} if open_ else {}
    return Seals(forgotten, walking, stuck, older, plain)


def _counting(table: str, columns: Sequence[Sealed[Any]]) -> sql.Composed:
    """What a JSON column holds is sealed as a string: its quotes do not count."""
    told = [
        sql.SQL("trim('\"' FROM CAST({} AS text))").format(sql.Identifier("t", one.name))
        for one in columns
    ]
    older = [
        sql.SQL("({0} ~ {1} AND split_part({0}, '.', 2) IS DISTINCT FROM k.number)").format(
            one, _SEALED
        )
        for one in told
    ]
    plain = [sql.SQL("{} !~ {}").format(one, _SEALED) for one in told]
    return sql.SQL(_COUNTING).format(
        sql.SQL(" OR ").join(older), sql.SQL(" OR ").join(plain), sql.Identifier(table)
    )


_SEALED = sql.Literal(r"^v1\.\d+\.")

_COUNTING = """
    SELECT count(*) FILTER (WHERE {}), count(*) FILTER (WHERE {})
      FROM {} t
      LEFT JOIN (SELECT clinic_id, CAST(max(number) AS text) AS number,
                        bool_and(wrapped IS NULL) AS is_forgotten
                   FROM clinic_key GROUP BY clinic_id) k ON k.clinic_id = t.clinic_id
     WHERE k.is_forgotten IS NOT TRUE
"""

_KEYS = """
    SELECT count(*) FILTER (WHERE wrapped IS NULL),
           count(*) FILTER (WHERE wrapped IS NOT NULL AND walked_at IS NULL),
           coalesce(sum(stuck) FILTER (WHERE wrapped IS NOT NULL), 0)
      FROM (SELECT DISTINCT ON (clinic_id) * FROM clinic_key
             ORDER BY clinic_id, number DESC) AS newest
"""
