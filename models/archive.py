"""Archives: everything of a clinic, taken out as one file."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, references, unique_in_clinic


class Archive(Tenanted):
    """One that was asked for (FHIR Task); the worker writes it, table by table."""

    __tablename__ = "archive"

    asked_by: Mapped[str]
    asked_at: Mapped[datetime]
    total: Mapped[int]
    """How many tables there are."""
    done: Mapped[int] = mapped_column(server_default=text("0"))
    """How many of them are written."""
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    """Of the whole file."""
    ended_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    """Until when it can be fetched; then it is gone."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        of_clinic(),
        CheckConstraint("done BETWEEN 0 AND total", name="done_is_part_of_it"),
        CheckConstraint(
            "num_nonnulls(bytes, sha256, ended_at, expires_at) IN (0, 4)", name="ended_whole"
        ),
        Index(
            "ix__archive__open",
            "clinic_id",
            "id",
            postgresql_where=text("ended_at IS NULL"),
        ),
    )


class ArchivePart(Tenanted):
    """A piece of an archive's file."""

    __tablename__ = "archive_part"

    archive_id: Mapped[UUID]
    number: Mapped[int]
    content: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (
        references("archive_id", "archive", ondelete="CASCADE"),
        unique_in_clinic("archive_id", "number"),
    )
