"""Clinic keys: what a clinic's sealed fields are sealed with, itself wrapped by the master key.

Read and written by vault/keyring.py; how far a walk has come, by scheduler/resealing.py.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, unique_in_clinic


class ClinicKey(Tenanted):
    """One key of a clinic. The one with the highest number seals; all of them open."""

    __tablename__ = "clinic_key"

    number: Mapped[int]
    """It stands in what it has sealed."""
    master: Mapped[str]
    """The name of the master key that it is wrapped with."""
    wrapped: Mapped[bytes | None] = mapped_column(LargeBinary)
    """None: it was forgotten for ever."""
    wrapped_index: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The key of the clinic's blind index; the same one beside each of its keys."""
    made_in: Mapped[str] = mapped_column(server_default=text("(pg_current_xact_id())::text"))
    """The transaction that made it: until that is over nobody else may use it."""
    retired_at: Mapped[datetime | None]
    """Since when nothing is sealed with it any more, or it is forgotten."""
    walk_table: Mapped[str | None]
    walk_after: Mapped[UUID | None]
    """How far the walk has come that seals everything with this key: up to this row of it."""
    walked: Mapped[int] = mapped_column(server_default=text("0"))
    """How many rows it has sealed anew."""
    stuck: Mapped[int] = mapped_column(server_default=text("0"))
    """How many do not open."""
    walked_at: Mapped[datetime | None]
    """When it was through."""

    __table_args__ = (
        of_clinic(),
        unique_in_clinic("number", name="uq__clinic_key__number"),
        CheckConstraint("num_nulls(wrapped, wrapped_index) IN (0, 2)", name="wrapped_whole"),
    )
