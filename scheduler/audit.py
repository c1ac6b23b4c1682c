"""The audit trail, as edges write it: one line for each act, in the act's own transaction."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models.vocabulary import AuditOutcome
from scheduler.authority import Authority


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What was done to what."""

    action: str
    """create, read, update, delete or execute (FHIR AuditEvent.action)."""
    entity: str
    entity_id: UUID | None = None
    patient_id: UUID | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    """Names of fields, codes and reasons; never clinical text or a contact."""
    outcome: AuditOutcome = AuditOutcome.SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an act comes from."""

    address: str | None = None
    request_id: UUID | None = None
    agent_hash: str | None = None
    """SHA-256 of what the caller's program calls itself, in hex."""
    permission: str | None = None
    """What let them in."""


def come_from(session: Session, origin: Origin) -> None:
    """Let every line that `session` writes say where it comes from."""
    session.info["origin"] = origin


def record(session: Session, by: Authority, act: Act, now: datetime) -> None:
    """Append to the clinic's trail. Call it last: it holds the clinic's line until the commit."""
    origin: Origin = session.info.get("origin", Origin())
    session.execute(
        _APPEND,
        {
            "id": uuid7(),
            "at": now,
            "actor": by.name,
            "action": act.action,
            "entity": act.entity,
            "entity_id": act.entity_id,
            "patient_id": act.patient_id,
            "facts": json.dumps(dict(act.facts), default=str),
            "origin": json.dumps(
                {**asdict(origin), "outcome": act.outcome, "role": by.role}, default=str
            ),
        },
    )


_APPEND = text(
    "SELECT append_audit_event(:id, :at, :actor, :action, :entity, CAST(:entity_id AS uuid), "
    "CAST(:patient_id AS uuid), CAST(:facts AS jsonb), CAST(:origin AS jsonb))"
)
