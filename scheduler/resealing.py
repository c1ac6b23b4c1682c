"""Resealing: everything that is sealed, sealed with the clinic's newest key.

A new key seals from the moment it is made. What was sealed before, or never, is sealed anew by a
walk through every table, some rows at a time, each time in a transaction of its own that also
notes how far it has come: whoever dies on the way loses nothing, and the next one goes on there.

Functions here flush and never commit.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from psycopg import Connection, sql
from psycopg.errors import UniqueViolation
from psycopg.rows import dict_row
from sqlalchemy import text
from sqlalchemy.orm import Session

import vault
from models import sealed
from models.sealed import Sealed
from vault import Forgotten, Ring, VaultError

log = structlog.get_logger()

BATCH = 500
"""So many rows are looked at in one transaction."""

HEARD_AFTER = timedelta(seconds=2 * vault.REMEMBERED)
"""So long after a key was made every process has heard of it, and what was sealed with the one
before is committed."""

SIGN_IN = frozenset({"user_account", "user_session", "identity_provider"})
"""What lets people in is kept from the worker: it is sealed anew when the key is made."""


@dataclass(frozen=True, slots=True)
class Walk:
    """How far the walk of a clinic's newest key has come."""

    number: int
    table: str | None
    after: UUID | None
    walked: int
    stuck: int
    walked_at: datetime | None
    is_heard_of: bool
    """Whether every process knows the key by now."""

    @property
    def is_over(self) -> bool:
        return self.walked_at is not None


def standing(session: Session) -> Walk | None:
    """How far it has come in the session's clinic. None: it has no key, or none any more."""
    row = session.execute(_STANDING).one_or_none()
    return None if row is None else Walk(*row)


def renew(session: Session) -> int:
    """Give the session's clinic a new key, and seal with it what lets people in.

    Returns the key's number. The worker seals the rest.
    """
    number = vault.renew(sealed.psycopg_of(session), session.info["clinic_id"])
    for table in sorted(SIGN_IN):
        done, stuck = _seal(session, table, (_FIRST, None))
        told = {"number": number, "sealed": done, "stuck": stuck, "table": None, "after": None}
        session.execute(_GO_ON, told)
    return number


def forget(session: Session, clinic_id: UUID) -> int:
    """Forget the keys of the clinic that the session is in, for ever. Returns how many there were.

    Nothing of it that is sealed can be read again, here or in a backup, but with a file of keys
    that was kept beside one.
    """
    return vault.forget(sealed.psycopg_of(session), clinic_id)


def walk(session: Session, _now: datetime) -> int:
    """Go on with the walk in the session's clinic. Returns 0 once there is nothing to do."""
    walk = standing(session)
    if walk is None:
        with suppress(Forgotten):  # else it has nothing sealed yet: now it can
            vault.ring_to_seal(sealed.psycopg_of(session), session.info["clinic_id"])
    if walk is None or walk.is_over or not walk.is_heard_of:
        return 0
    table, after = walk.table or TABLES[0], walk.after or _FIRST
    until = _end(session, table, after)
    done, stuck = _seal(session, table, (after, until))
    told = {"number": walk.number, "sealed": done, "stuck": stuck}
    if until is None and table == TABLES[-1]:
        session.execute(_END, told)
        session.execute(_RETIRE, told)
        return 0
    if until is None:
        table = TABLES[TABLES.index(table) + 1]
    session.execute(_GO_ON, {**told, "table": table, "after": until})
    return done + stuck + 1


TABLES = sorted(sealed.COLUMNS.keys() - SIGN_IN)
"""In the order in which they are walked through."""

_FIRST = UUID(int=0)


def _end(session: Session, table: str, after: UUID) -> UUID | None:
    """The last row of the next ones. None: there are no more than those."""
    ids = text(
        f"SELECT id FROM {table} WHERE id > :after ORDER BY id OFFSET :most LIMIT 1"  # noqa: S608
    )
    found = session.scalar(ids, {"after": after, "most": BATCH - 1})
    return None if found is None else UUID(str(found))


def _seal(session: Session, table: str, between: tuple[UUID, UUID | None]) -> tuple[int, int]:
    """Seal a stretch of a table; say how many rows were sealed anew, and how many do not open."""
    connection, clinic_id = sealed.psycopg_of(session), session.info["clinic_id"]
    ring = vault.ring_to_seal(connection, clinic_id)
    columns, stuck = sealed.COLUMNS[table], 0
    changed = defaultdict[tuple[str, ...], list[dict[str, Any]]](list)
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(*_stale(table, columns, ring, between)).fetchall()
    for row in rows:
        try:
            changes = dict(_changes(ring, columns, clinic_id, row))
        except VaultError as error:
            log.exception("seal.stuck", told=str(error))  # else its words are not logged
            stuck += 1
        else:
            new = {f"new_{name}": told for name, told in changes.items()}
            changed[tuple(changes)].append({**row, **new})
    for names, several in changed.items():
        stuck += _write(connection, table, names, several)
    return len(rows) - stuck, stuck


def _changes(
    ring: Ring, columns: tuple[Sealed[Any], ...], clinic_id: UUID, row: dict[str, Any]
) -> Iterator[tuple[str, str | bytes]]:
    for one in columns:
        told, place = row[one.name], one.place(clinic_id, row["id"])
        if one.is_json and told is not None:
            told = told.strip('"')  # sealed it is a string, and else it is told as it is written
        if told is None or (vault.is_sealed(told) and ring.is_current(told)):
            continue
        plain = ring.open(place, told) if vault.is_sealed(told) else told.encode()
        made = ring.seal(place, plain)
        yield one.name, json.dumps(made) if one.is_json else made
        if one.index:
            yield one.index, one.blind(ring, plain.decode())


def _stale(
    table: str, columns: tuple[Sealed[Any], ...], ring: Ring, between: tuple[UUID, UUID | None]
) -> tuple[sql.Composed, dict[str, Any]]:
    """The statement that finds rows with something that the newest key has not sealed."""
    read = [sql.SQL("CAST({0} AS text) AS {0}").format(sql.Identifier(one.name)) for one in columns]
    stale = [
        sql.SQL("CAST({} AS text) NOT LIKE {}").format(
            sql.Identifier(one.name), sql.Placeholder("json" if one.is_json else "text")
        )
        for one in columns
    ]
    statement = sql.SQL(
        "SELECT id, {} FROM {} WHERE clinic_id = %(clinic)s AND id > %(after)s "
        "AND (%(until)s::uuid IS NULL OR id <= %(until)s) AND ({}) ORDER BY id"
    ).format(sql.SQL(", ").join(read), sql.Identifier(table), sql.SQL(" OR ").join(stale))
    (after, until), sealed_so = between, f"v1.{ring.current.number}.%"
    told_so = {"text": sealed_so, "json": f'"{sealed_so}'}
    return statement, {"clinic": ring.clinic_id, "after": after, "until": until, **told_so}


def _write(
    connection: Connection[Any], table: str, names: Sequence[str], rows: list[dict[str, Any]]
) -> int:
    """Write what was sealed, where nobody has changed it meanwhile. Returns how many could not be.

    Those whose address somebody else has, though they are written otherwise, are left as they are.
    """
    try:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(_writing(table, names, rows[0]), rows)
    except UniqueViolation:
        if len(rows) > 1:
            return sum(_write(connection, table, names, [row]) for row in rows)
        [row] = rows
        told = f"{table} of row {row['id']}: another row of the clinic has the same address."
        log.exception("seal.stuck", told=told)
        return 1
    return 0


def _writing(table: str, names: Sequence[str], row: dict[str, Any]) -> sql.Composed:
    becomes = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(f"new_{name}"))
        for name in names
    ]
    was = [
        sql.SQL("CAST({} AS text) = {}").format(sql.Identifier(name), sql.Placeholder(name))
        for name in names
        if name in row
    ]
    return sql.SQL("UPDATE {} SET {} WHERE id = %(id)s AND {}").format(
        sql.Identifier(table), sql.SQL(", ").join(becomes), sql.SQL(" AND ").join(was)
    )


_STANDING = text(
    """
    SELECT number, walk_table, walk_after, walked, stuck, walked_at,
           created_at < clock_timestamp() - make_interval(secs => :heard)
      FROM clinic_key WHERE wrapped IS NOT NULL ORDER BY number DESC LIMIT 1
    """
).bindparams(heard=HEARD_AFTER.total_seconds())

_GO_ON = text(
    """
    UPDATE clinic_key SET walk_table = :table, walk_after = :after, walked = walked + :sealed,
           stuck = stuck + :stuck
     WHERE number = :number
    """
)

_END = text(
    """
    UPDATE clinic_key SET walk_table = NULL, walk_after = NULL, walked = walked + :sealed,
           stuck = stuck + :stuck, walked_at = clock_timestamp()
     WHERE number = :number
    """
)

_RETIRE = text(
    """
    UPDATE clinic_key k SET retired_at = clock_timestamp()
     WHERE number < :number AND retired_at IS NULL
       AND NOT EXISTS (SELECT FROM clinic_key n WHERE n.clinic_id = k.clinic_id
                          AND n.number = :number AND n.stuck > 0)
    """
)
"""What does not open stays with the key before: somebody has to look at it."""
