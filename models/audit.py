"""The audit trail: who did or read what, when, from where. Append-only, a chain per clinic.

Rows are written by the database function `append_audit_event` alone, which fills in the
sequence and the hash; the service can neither insert, change nor delete them itself. Rules
never read this table.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, LargeBinary, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, references, unique_in_clinic
from models.sealed import sealed, sealed_or_none
from models.vocabulary import AuditOutcome


class AuditEvent(Tenanted):
    """One act (FHIR AuditEvent)."""

    __tablename__ = "audit_event"

    sequence: Mapped[int]
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    """create, read, update, delete, execute (FHIR AuditEvent.action)."""
    entity: Mapped[str]
    """The kind of thing: appointment, patient."""
    entity_id: Mapped[UUID | None]
    patient_id: Mapped[UUID | None]
    facts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Names of what changed and the reason; no clinical text, no contact."""
    outcome: Mapped[AuditOutcome] = mapped_column(server_default=text("'success'"))
    role: Mapped[str | None]
    permission: Mapped[str | None]
    """What let the actor in."""
    address: Mapped[str | None]
    request_id: Mapped[UUID | None]
    agent_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    form: Mapped[int] = mapped_column(SmallInteger)
    """How the hash was made of the line; see scheduler/chain.py."""
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (
        of_clinic(),
        unique_in_clinic("sequence"),
        Index("ix__audit_event__patient", "clinic_id", "patient_id", "at"),
        Index("ix__audit_event__at", "clinic_id", "at", "id"),
        # The database orders its `actor` by code points: it is asked how one begins.
        Index("ix__audit_event__actor", "clinic_id", "actor", "at", "id"),
        Index(
            "ix__audit_event__entity",
            "clinic_id",
            "entity_id",
            "at",
            "id",
            postgresql_where=text("entity_id IS NOT NULL"),
        ),
        Index(
            "ix__audit_event__failed",
            "clinic_id",
            "outcome",
            "at",
            "id",
            postgresql_where=text("outcome <> 'success'"),
        ),
    )


class AuditHead(Tenanted):
    """The last line of the trail at some hour, as it was published: a copy stands elsewhere."""

    __tablename__ = "audit_head"

    sequence: Mapped[int]
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime]

    __table_args__ = (of_clinic(), unique_in_clinic("sequence"))


class BreakGlass(Tenanted):
    """Somebody opened a patient's record in an emergency, for an hour, with why."""

    __tablename__ = "break_glass"

    patient_id: Mapped[UUID]
    asked_by: Mapped[str]
    """As in the trail: whose requests it lets in."""
    practitioner_id: Mapped[UUID | None]
    reason = sealed()
    asked_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    is_repeated: Mapped[bool] = mapped_column(server_default=text("false"))
    """The third of theirs in a week, or one after it."""
    reviewed_by: Mapped[str | None]
    reviewed_at: Mapped[datetime | None]
    justified: Mapped[bool | None]
    review_note = sealed_or_none()
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        of_clinic(),
        references("patient_id", "patient"),
        references("practitioner_id", "practitioner"),
        CheckConstraint("length(reason) >= 10", name="says_why"),
        CheckConstraint(
            "num_nonnulls(reviewed_by, reviewed_at, justified) IN (0, 3)", name="reviewed_whole"
        ),
        Index("ix__break_glass__asked", "clinic_id", "asked_by", "asked_at"),
        Index(
            "ix__break_glass__open",
            "clinic_id",
            "asked_at",
            postgresql_where=text("reviewed_at IS NULL"),
        ),
    )
