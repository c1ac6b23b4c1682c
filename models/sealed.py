"""Sealed columns: what stands in the database as nobody but this clinic can read it.

A model says `note = sealed_or_none()`, and everybody reads and writes `row.note` as they would
any other. What is set is sealed when the row is flushed, for then its clinic is known; what was
stored is opened when it is read. It cannot be asked for in a statement: there is no order in it,
nothing like it, and not twice the same. A row from before there were seals is read as it is.

A row that is changed keeps what it holds in fields that nobody set, sealed or not: to seal them
as well would be to write what was read, over what others have written since. That is for the walk
of scheduler/resealing.py, which looks.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload
from uuid import UUID

import psycopg
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    LargeBinary,
    String,
    event,
    func,
    or_,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, mapped_column, object_session
from sqlalchemy.types import TypeDecorator, TypeEngine
from uuid_utils.compat import uuid7

import vault
from vault import Place

T = TypeVar("T")
Folds = Callable[[str], str]
"""Makes the same of what is to be taken for the same."""


class Plain:
    """What a field is to hold, until the row is flushed."""

    __slots__ = ("told",)

    def __init__(self, told: Any) -> None:
        self.told = told


class SealedText(TypeDecorator[str]):
    """A column for text that takes nothing unsealed."""

    impl: Any = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if value is not None and not vault.is_sealed(value):
            raise TypeError("A sealed column is written through its model, row by row.")
        return value  # type: ignore[no-any-return]


class SealedJson(SealedText):
    """The same for JSON: there it stands as a string."""

    impl = JSONB(none_as_null=True)
    cache_ok = True


class Sealed(Generic[T]):
    """A sealed column of a model."""

    table: str
    name: str
    model: Any
    deferred = False

    def __init__(
        self, kind: type[SealedText], *, nullable: bool, folds: Folds | None = None
    ) -> None:
        self.kind, self.nullable, self.folds = kind, nullable, folds

    @property
    def is_json(self) -> bool:
        """Whether it holds JSON."""
        return self.kind is SealedJson

    @property
    def stored(self) -> str:
        """Under which name the model keeps what is in the database."""
        return f"{self.name}__sealed"

    @property
    def index(self) -> str | None:
        """The column of its blind index, if it can be looked up."""
        return None if self.folds is None else f"{self.name}_index"

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, row: None, owner: type) -> "Sealed[T]": ...
    @overload
    def __get__(self, row: object, owner: type) -> T: ...
    def __get__(self, row: object, owner: type) -> "Sealed[T] | T":
        if row is None:
            return self
        told: Any = getattr(row, self.stored)
        if isinstance(told, Plain):
            told = told.told
        elif vault.is_sealed(told):
            told = self._opened(row, told)
        return told  # type: ignore[no-any-return]

    def __set__(self, row: object, value: T) -> None:
        is_nothing = value is None and self.nullable
        setattr(row, self.stored, None if is_nothing else Plain(value))

    def __eq__(self, other: object) -> bool:
        raise TypeError(f"{self.table}.{self.name} is sealed: no statement can compare it.")

    __hash__ = object.__hash__

    def equals(self, session: Session, *told: str) -> ColumnElement[bool]:
        """Whether the field of a row says the same as one of these, once they are folded.

        What is not sealed yet has no index.
        """
        ring = self._ring_to_seal(session, session.info["clinic_id"])
        index: Any = getattr(self.model, self.index or "")
        plain: Any = type_coerce(getattr(self.model, self.stored), String)
        unsealed = func.lower(plain).in_([self.folded(one).lower() for one in told])
        return or_(index.in_([self.blind(ring, one) for one in told]), index.is_(None) & unsealed)

    def blind(self, ring: vault.Ring, told: str) -> bytes:
        """What the blind index holds for it."""
        return ring.blind(f"{self.table}.{self.name}", self.folded(told))

    def folded(self, told: str) -> str:
        """As it is compared."""
        assert self.folds is not None
        return self.folds(told)

    def place(self, clinic_id: UUID, row_id: UUID) -> Place:
        """Where the field of a row stands."""
        return Place(clinic_id, self.table, self.name, row_id)

    def column(self) -> Any:
        """The column that the mapper is to know."""
        kind: TypeEngine[Any] = self.kind()
        return mapped_column(self.name, kind, nullable=self.nullable, deferred=self.deferred)

    def sealed_for(self, session: Session, row_id: UUID, value: T) -> str | None:
        """What a statement of its own is to write into a row of the session's clinic."""
        if value is None and self.nullable:
            return None
        ring = self._ring_to_seal(session, session.info["clinic_id"])
        return ring.seal(self.place(ring.clinic_id, row_id), self.to_bytes(value))

    def seal(self, row: Any, session: Session) -> None:
        """Seal what was set."""
        told = row.__dict__.get(self.stored)
        if told is None and self.index and self.stored in row.__dict__:
            setattr(row, self.index, None)
        if not isinstance(told, Plain):
            return
        clinic_id = row.clinic_id or session.info["clinic_id"]
        ring = self._ring_to_seal(session, clinic_id)
        sealed = ring.seal(self.place(clinic_id, row.id), self.to_bytes(told.told))
        setattr(row, self.stored, sealed)
        if self.index:
            setattr(row, self.index, self.blind(ring, told.told))

    def to_bytes(self, value: Any) -> bytes:
        """A value as it is sealed."""
        if self.is_json:
            return json.dumps(value, separators=(",", ":"), default=str).encode()
        assert isinstance(value, str)
        return value.encode()

    def from_bytes(self, told: bytes) -> Any:
        """A value as it was before."""
        return json.loads(told) if self.is_json else told.decode()

    def _opened(self, row: Any, told: str) -> Any:
        ring = self._ring(row.clinic_id, vault.number_of(told), object_session(row))
        return self.from_bytes(ring.open(self.place(row.clinic_id, row.id), told))

    def _ring_to_seal(self, session: Session, clinic_id: UUID) -> vault.Ring:
        return vault.kept(clinic_id) or vault.ring_to_seal(psycopg_of(session), clinic_id)

    def _ring(self, clinic_id: UUID, number: int, session: Session | None) -> vault.Ring:
        ring = vault.kept(clinic_id)
        if ring is not None and number in ring.keys:
            return ring
        if session is None:
            raise vault.NoSuchKey(f"{self.table}.{self.name} of a row that has no session.")
        return vault.ring(psycopg_of(session), clinic_id, number)


def sealed(folds: Folds | None = None) -> Sealed[str]:
    """Text that is always there. With `folds`, rows can be looked up by it: see `equals`."""
    return Sealed(SealedText, nullable=False, folds=folds)


def sealed_or_none(folds: Folds | None = None, *, deferred: bool = False) -> Sealed[str | None]:
    """Text that may be missing."""
    made = Sealed[str | None](SealedText, nullable=True, folds=folds)
    made.deferred = deferred
    return made


def address(told: str) -> str:
    """An e-mail address as it is compared."""
    return told.strip().casefold()


def number(told: str) -> str:
    """A telephone number as it is compared: it is kept in E.164."""
    return told.strip()


def sealed_json() -> Sealed[Any]:
    """Something that JSON can say."""
    return Sealed(SealedJson, nullable=False)


COLUMNS: dict[str, tuple[Sealed[Any], ...]] = {}
"""By table, those of its columns that are sealed."""


class Opener:
    """Opens what a statement of its own has read in a session's clinic, one field after another."""

    def __init__(self, session: Session) -> None:
        self.session, self.clinic_id = session, session.info["clinic_id"]
        self.ring: vault.Ring | None = None

    def as_json(self, found: re.Match[str]) -> str:
        """What stands in a match's groups: table, column, row, and what is sealed."""
        table, column, row_id, told = found.groups()
        number = vault.number_of(told)
        if self.ring is None or number not in self.ring.keys:
            self.ring = vault.ring(psycopg_of(self.session), self.clinic_id, number)
        opened = self.ring.open(Place(self.clinic_id, table, column, row_id), told).decode()
        return opened if (table, column) in JSON else json.dumps(opened)


JSON: set[tuple[str, str]] = set()
"""The tables and columns of those that hold JSON."""


def attach(model: type) -> None:
    """Let the mapper know of a model's sealed columns, before it looks at the model."""
    found = tuple(one for one in vars(model).values() if isinstance(one, Sealed))
    for one in found:
        one.table, one.model = model.__tablename__, model  # type: ignore[attr-defined]
        setattr(model, one.stored, one.column())
        if one.index:
            setattr(model, one.index, mapped_column(LargeBinary, nullable=True))
        if one.is_json:
            JSON.add((one.table, one.name))
    if found:
        COLUMNS[found[0].table] = found


def seal_when_flushed(base: type) -> None:
    """Let the rows of all models below `base` be sealed when they are written."""

    def seal(_mapper: object, _connection: object, row: Any) -> None:
        columns = COLUMNS.get(row.__tablename__)
        if columns is None:
            return
        if row.id is None:
            row.id = uuid7()  # a seal is bound to it
        session = object_session(row)
        assert session is not None
        for one in columns:
            one.seal(row, session)

    event.listen(base, "before_insert", seal, propagate=True)
    event.listen(base, "before_update", seal, propagate=True)


def psycopg_of(session: Session) -> psycopg.Connection:
    """The psycopg connection of a session, in its transaction and its clinic."""
    return _driver(session.connection())


def _driver(connection: Connection) -> psycopg.Connection:
    found = connection.connection.driver_connection
    assert isinstance(found, psycopg.Connection)
    return found


@event.listens_for(Session, "after_begin")
def _begins(_session: Session, transaction: Any, connection: Connection) -> None:
    if not transaction.nested:
        vault.drop_young(_driver(connection))


@event.listens_for(Session, "after_soft_rollback")
def _rolled_back(_session: Session, _transaction: Any) -> None:
    vault.drop_young()
