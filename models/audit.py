"""The audit trail: who did or read what, when. Append-only and hash-chained per clinic.

Rows are written by the database function `append_audit_event` alone, which fills in the
sequence and the hash; the service can neither insert, change nor delete them itself. Rules
never read this table.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, unique_in_clinic


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
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (
        of_clinic(),
        unique_in_clinic("sequence"),
        Index("ix__audit_event__patient", "clinic_id", "patient_id", "at"),
    )
