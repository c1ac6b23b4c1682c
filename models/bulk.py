"""Bulk: files that are read in line by line, and what was wrong with their lines."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, references
from models.sealed import sealed, sealed_or_none
from models.vocabulary import ImportFormat, ImportKind


class Import(Tenanted):
    """A file that was handed in (FHIR Task), worked off by the worker some lines at a time."""

    __tablename__ = "import"

    kind: Mapped[ImportKind]
    format: Mapped[ImportFormat]
    dry_run: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether it is only looked at: every fault is told and nothing is kept."""
    content = sealed_or_none(deferred=True)
    """What was handed in; read when asked for. None once it was read: it is kept no longer."""
    total: Mapped[int]
    """How many records it has."""
    done: Mapped[int] = mapped_column(server_default=text("0"))
    """How many of them were dealt with, in the same transaction as what became of them."""
    made: Mapped[int] = mapped_column(server_default=text("0"))
    """How many of those are kept now; in a dry run, how many would be."""
    faulty: Mapped[int] = mapped_column(server_default=text("0"))
    """How many of those are not, for a fault."""
    made_by: Mapped[str]
    handed_in_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    cancelled_by: Mapped[str | None]
    """Who ended it before all of it was read. None: nobody."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        of_clinic(),
        CheckConstraint("done BETWEEN 0 AND total", name="done_is_part_of_it"),
        CheckConstraint("(content IS NULL) = (ended_at IS NOT NULL)", name="kept_until_it_ends"),
        CheckConstraint("cancelled_by IS NULL OR ended_at IS NOT NULL", name="cancelled_is_ended"),
        Index(
            "ix__import__open",
            "clinic_id",
            "id",
            postgresql_where=text("ended_at IS NULL"),
        ),
    )


class ImportFault(Tenanted):
    """Something that is wrong with a line of a file, and what to do about it."""

    __tablename__ = "import_fault"

    import_id: Mapped[UUID]
    line: Mapped[int]
    field: Mapped[str]
    """The column; `-` for the line as a whole."""
    detail = sealed()
    """It may quote the line."""

    __table_args__ = (
        references("import_id", "import", ondelete="CASCADE"),
        Index("ix__import_fault__import", "clinic_id", "import_id", "id"),
    )
