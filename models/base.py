"""The declarative base: names, keys, codes, and the clinic that every row belongs to.

A row's key is `(clinic_id, id)`. `clinic_id` is filled in by PostgreSQL from the clinic that
the transaction is set to, never by a caller; row-level security lets a transaction see that
clinic's rows and no others. `id` is a UUIDv7, so keys and pages follow time.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    DateTime,
    Enum,
    ForeignKeyConstraint,
    MetaData,
    UniqueConstraint,
    event,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, registry
from uuid_utils.compat import uuid7

from models import sealed

CLINIC_OF_TRANSACTION = text("nullif(current_setting('afterglow.clinic', true), '')::uuid")
"""`current_setting` answers '' rather than NULL after a transaction that had set it."""


class Base(DeclarativeBase):
    """What every table shares: a UUIDv7, and the instant of its insert.

    Tables inherit this class, not `db.Model`: mypy can read it, and the legacy
    `Model.query` stays out of the house.
    """

    registry = registry(
        metadata=MetaData(
            naming_convention={
                "pk": "pk__%(table_name)s",
                "fk": "fk__%(table_name)s__%(column_0_N_name)s",
                "ix": "ix__%(table_name)s__%(column_0_N_name)s",
                "uq": "uq__%(table_name)s__%(column_0_N_name)s",
                "ck": "ck__%(table_name)s__%(constraint_name)s",
            }
        ),
        type_annotation_map={
            datetime: DateTime(timezone=True),
            dict[str, Any]: JSONB,
            StrEnum: Enum(
                StrEnum,
                values_callable=lambda codes: [code.value for code in codes],
                native_enum=False,  # text + CHECK: a new code is one cheap migration
                create_constraint=True,
                length=32,
            ),
        },
    )


class Tenanted(Base):
    """A table whose rows belong to a clinic: every table but the worker's heartbeat."""

    __abstract__ = True

    clinic_id: Mapped[UUID] = mapped_column(primary_key=True, server_default=CLINIC_OF_TRANSACTION)
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    def __init_subclass__(cls, **more: Any) -> None:
        sealed.attach(cls)
        super().__init_subclass__(**more)


sealed.seal_when_flushed(Tenanted)


def coded(codes: type[StrEnum], name: str) -> Enum:
    """Store `codes` in a column whose CHECK is called `name`: for a table with two such columns."""
    return Enum(
        codes,
        values_callable=lambda members: [member.value for member in members],
        native_enum=False,
        create_constraint=True,
        length=32,
        name=name,
    )


def references(
    column: str, table: str, *, ondelete: str | None = None, name: str | None = None
) -> ForeignKeyConstraint:
    """Make `column` point at a row of `table` in the same clinic.

    A plain foreign key would accept another clinic's row: PostgreSQL checks foreign keys
    without row-level security.
    """
    return ForeignKeyConstraint(
        ["clinic_id", column],
        [f"{table}.clinic_id", f"{table}.id"],
        name=name,
        ondelete=ondelete,
    )


def of_clinic() -> ForeignKeyConstraint:
    """Make the row's clinic a real one; for tables that reference nothing else."""
    return ForeignKeyConstraint(["clinic_id"], ["clinic.clinic_id"])


def unique_in_clinic(*columns: str, name: str | None = None) -> UniqueConstraint:
    """Make `columns` unique within a clinic; across clinics they may repeat."""
    return UniqueConstraint("clinic_id", *columns, name=name)


def enter_clinic(session: Session, clinic_id: UUID) -> None:
    """Let every transaction of `session` see this clinic's rows, and no others.

    The setting lives as long as a transaction, so a pooled connection cannot carry it to
    the next user; the listener below sets it again when the session begins another.
    """
    session.info["clinic_id"] = clinic_id
    if session.in_transaction():
        _set_clinic(session, None, session.connection())


def hide_part2(session: Session, *, hidden: bool) -> None:
    """Hide who has a course under 42 CFR Part 2 from every transaction of `session`, or show them.

    All that is theirs is hidden with them, by row-level security (migration 0044).
    """
    was = session.info.get("part2_hidden", False)
    session.info["part2_hidden"] = hidden
    if was != hidden and session.in_transaction():
        _set_clinic(session, None, session.connection())


@event.listens_for(Session, "after_begin")
def _set_clinic(session: Session, transaction: Any, connection: Any) -> None:
    clinic_id = session.info.get("clinic_id")
    is_savepoint = transaction is not None and transaction.nested
    if clinic_id is not None and not is_savepoint:
        sight = "hidden" if session.info.get("part2_hidden") else ""
        connection.execute(_SET_CLINIC, {"clinic": str(clinic_id), "sight": sight})


_SET_CLINIC = text(
    "SELECT set_config('afterglow.clinic', :clinic, true), "
    "set_config('afterglow.part2', :sight, true)"
)

db = SQLAlchemy(model_class=Base)
