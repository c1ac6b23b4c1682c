"""Protocols: the recipes of courses (FHIR PlanDefinition), in signed, immutable versions."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, references, unique_in_clinic


class Protocol(Tenanted):
    """A recipe by name; what it says stands in its versions."""

    __tablename__ = "protocol"

    code: Mapped[str]
    title: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (of_clinic(), unique_in_clinic("code"))


class ProtocolVersion(Tenanted):
    """What a protocol says. Once signed it never changes: a trigger refuses, whoever asks."""

    __tablename__ = "protocol_version"

    protocol_id: Mapped[UUID]
    number: Mapped[int]
    content: Mapped[dict[str, Any]]
    """As scheduler/protocol.schema.json has it: steps, visits, gates, figures with sources."""
    signed_by: Mapped[str | None]
    signed_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("protocol_id", "protocol"),
        unique_in_clinic("protocol_id", "number"),
        CheckConstraint("(signed_by IS NULL) = (signed_at IS NULL)", name="signed_by_and_at"),
    )
