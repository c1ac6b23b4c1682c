"""Keyrings: a clinic's own keys, read from `clinic_key`, unwrapped, and remembered for a minute.

The newest key seals; all of them open. A ring is shared by the whole process once it is known to
be committed: a key that was made in a transaction which fails is never used again. Whoever
rotates, rewraps or forgets keys is therefore heard of everywhere within a minute.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from psycopg import Connection
from psycopg.rows import tuple_row
from uuid_utils.compat import uuid7

from vault.masters import Locked, Masters
from vault.sealing import KEY_BYTES, Key, Place, VaultError, is_sealed, number_of

REMEMBERED = 60.0
"""Seconds for which a process need not look whether a clinic's keys are still the same."""


class Forgotten(VaultError):
    """The clinic's keys were forgotten for ever: nothing of it can be read, or written."""


class NoSuchKey(VaultError):
    """A field is sealed with a key that is not there."""


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys of a clinic."""

    clinic_id: UUID
    keys: Mapping[int, Key]
    current: Key
    index_key: bytes = field(repr=False)

    def seal(self, place: Place, told: bytes) -> str:
        """Seal a field with the newest key."""
        return self.current.seal(place, told)

    def open(self, place: Place, told: str) -> bytes:
        """Open a field. Raises NoSuchKey or CannotOpen."""
        key = self.keys.get(number_of(told))
        if key is None:
            raise NoSuchKey(
                f"{place} is sealed with key {number_of(told)}, which the clinic does not have. "
                "Was the database restored without its keys?"
            )
        return key.open(place, told)

    def is_current(self, told: str) -> bool:
        """Whether a field is sealed with the newest key."""
        return number_of(told) == self.current.number

    def blind(self, kind: str, told: str) -> bytes:
        """What equal words have in common, and nobody can tell the words from (HMAC-SHA256)."""
        return hmac.new(self.index_key, f"{kind}|{told}".encode(), hashlib.sha256).digest()


_masters: Masters | None = None
_kept: dict[UUID, tuple[float, Ring]] = {}
_young: WeakKeyDictionary[Connection[Any], dict[UUID, Ring]] = WeakKeyDictionary()
"""Rings with a key of the connection's own transaction: nobody else may use them yet."""


def unlock(masters: Masters) -> None:
    """Say with which master keys this process unwraps. The roots do, at their start."""
    global _masters  # one for each process, as its environment is
    if _masters != masters:
        _masters = masters
        _kept.clear()


def kept(clinic_id: UUID) -> Ring | None:
    """The clinic's ring, if it was looked at within the last minute."""
    found = _kept.get(clinic_id)
    if found is not None and time.monotonic() - found[0] < REMEMBERED:
        return found[1]
    return None


def ring(connection: Connection[Any], clinic_id: UUID, number: int | None = None) -> Ring:
    """The clinic's ring, with a key of that number. The transaction is in that clinic.

    Raises NoSuchKey if there is none, Forgotten if its keys were forgotten, and WrongMaster if we
    cannot unwrap them.
    """
    found = kept(clinic_id) or _young.get(connection, {}).get(clinic_id)
    if found is None or (number is not None and number not in found.keys):
        found = _read(connection, clinic_id)  # somebody else may have made it since
    if found is None:
        raise NoSuchKey(f"Clinic {clinic_id} has no key. Was the database restored without them?")
    return found


def ring_to_seal(connection: Connection[Any], clinic_id: UUID) -> Ring:
    """The clinic's ring; made, if the clinic has none. The transaction is in that clinic.

    The connection is that of a session, which tells us when its transaction is over.
    """
    found = kept(clinic_id) or _young.get(connection, {}).get(clinic_id)
    return found or _read(connection, clinic_id) or _make(connection, clinic_id)


def open_text(connection: Connection[Any], place: Place, told: str) -> str:
    """Open a field that a statement has read; one from before there were seals is as it is."""
    if not is_sealed(told):
        return told
    return ring(connection, place.clinic, number_of(told)).open(place, told).decode()


def seal_text(connection: Connection[Any], place: Place, told: str) -> str:
    """Seal a field that a statement is to write, on the connection of a session."""
    return ring_to_seal(connection, place.clinic).seal(place, told.encode())


def drop_young(connection: Connection[Any] | None = None) -> None:
    """Forget keys made in a transaction that is over: of a connection, or of all."""
    if connection is None:
        _young.clear()
    else:
        _young.pop(connection, None)


def renew(connection: Connection[Any], clinic_id: UUID) -> int:
    """Give the clinic a new key, which seals from now on. Returns its number.

    The key of the blind index stays: what it has made is looked up by equality.
    """
    now = ring_to_seal(connection, clinic_id)
    number = max(now.keys) + 1
    _add(connection, clinic_id, number, now.index_key)
    _kept.pop(clinic_id, None)
    drop_young(connection)
    return number


def rewrap(connection: Connection[Any], clinic_id: UUID) -> int:
    """Wrap the clinic's keys with the first master. Returns how many were not."""
    masters, changed = _unlocked(), 0
    first = masters.first
    for number, master, wrapped, index in _rows(connection, _FOR_REWRAPPING, [clinic_id]):
        if master == first.name:
            continue
        old = masters.called(master)
        data = old.unwrap(_about(clinic_id, number, "data"), wrapped)
        blind = old.unwrap(_about(clinic_id, number, "index"), index)
        connection.execute(
            _REWRAP,
            {
                "clinic": clinic_id,
                "number": number,
                "master": first.name,
                "wrapped": first.wrap(_about(clinic_id, number, "data"), data),
                "index": first.wrap(_about(clinic_id, number, "index"), blind),
            },
        )
        changed += 1
    return changed


def forget(connection: Connection[Any], clinic_id: UUID) -> int:
    """Forget the clinic's keys for ever: what is sealed stays sealed. Returns how many there were.

    The rows stay, empty: they say that it was done, and keep anybody from making new ones.
    """
    rows = _rows(connection, _FORGET, [clinic_id])
    _kept.pop(clinic_id, None)
    drop_young()
    return len(rows)


def refuse_wrong_masters(connection: Connection[Any]) -> None:
    """Raise WrongMaster unless we have every master that keys of any clinic are wrapped with."""
    for (name,) in _rows(connection, "SELECT * FROM masters_in_use()", []):
        _unlocked().called(name)


def _read(connection: Connection[Any], clinic_id: UUID) -> Ring | None:
    rows = _rows(connection, _KEYS, [clinic_id])
    if not rows:
        return None
    there = [row for row in rows if row[2] is not None]
    if not there:
        raise Forgotten(f"The keys of clinic {clinic_id} were forgotten for ever.")
    masters, keys, index_key = _unlocked(), dict[int, Key](), b""
    for number, master, wrapped, index, _ in there:
        unwrap = masters.called(master).unwrap
        keys[number] = Key(number, unwrap(_about(clinic_id, number, "data"), wrapped))
        index_key = unwrap(_about(clinic_id, number, "index"), index)
    found = Ring(clinic_id, keys, keys[max(keys)], index_key)
    if any(row[4] for row in there):
        _young.setdefault(connection, {})[clinic_id] = found
    else:
        _kept[clinic_id] = time.monotonic(), found
    return found


def _make(connection: Connection[Any], clinic_id: UUID) -> Ring:
    _add(connection, clinic_id, 1, secrets.token_bytes(KEY_BYTES))
    return ring(connection, clinic_id)


def _add(connection: Connection[Any], clinic_id: UUID, number: int, index_key: bytes) -> None:
    master = _unlocked().first
    connection.execute(
        _ADD,
        {
            "clinic": clinic_id,
            "id": uuid7(),
            "number": number,
            "master": master.name,
            "wrapped": master.wrap(
                _about(clinic_id, number, "data"), secrets.token_bytes(KEY_BYTES)
            ),
            "index": master.wrap(_about(clinic_id, number, "index"), index_key),
        },
    )


def _unlocked() -> Masters:
    if _masters is None:
        raise Locked("No master key was given to this process.")
    return _masters


def _about(clinic_id: UUID, number: int, kind: str) -> bytes:
    return f"{clinic_id}|{number}|{kind}".encode()


def _rows(connection: Connection[Any], statement: str, values: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(statement, values).fetchall()


_KEYS = """
    SELECT number, master, wrapped, wrapped_index,
           made_in IS NOT DISTINCT FROM pg_current_xact_id_if_assigned()::text
      FROM clinic_key WHERE clinic_id = %s ORDER BY number
"""

_ADD = """
    INSERT INTO clinic_key (clinic_id, id, number, master, wrapped, wrapped_index)
    VALUES (%(clinic)s, %(id)s, %(number)s, %(master)s, %(wrapped)s, %(index)s)
    ON CONFLICT ON CONSTRAINT uq__clinic_key__number DO NOTHING
"""
"""Of two who make the first key at once, both then read that of whoever was first."""

_FOR_REWRAPPING = """
    SELECT number, master, wrapped, wrapped_index FROM clinic_key
     WHERE clinic_id = %s AND wrapped IS NOT NULL ORDER BY number FOR UPDATE
"""

_REWRAP = """
    UPDATE clinic_key SET master = %(master)s, wrapped = %(wrapped)s, wrapped_index = %(index)s
     WHERE clinic_id = %(clinic)s AND number = %(number)s
"""

_FORGET = """
    UPDATE clinic_key SET wrapped = NULL, wrapped_index = NULL, retired_at = clock_timestamp()
     WHERE clinic_id = %s AND wrapped IS NOT NULL RETURNING number
"""
