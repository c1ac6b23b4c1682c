"""The trail: what every door writes about who came, what they saw, and who was turned away.

What changes something writes its own line, with the change (api/edge.py). What shows something
about patients writes one here, before the answer leaves: for whatever door asks for a permission
that is not `IMPERSONAL`, so that a new door is on the trail unless it has nothing to do with
patients. A list is one line, with how many it showed and a hash of what was asked.
"""

import hashlib
import hmac
import time
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from flask import current_app, g, request
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import (
    Appointment,
    BreakGlass,
    ChecklistItem,
    Course,
    Disruption,
    GroupSession,
    Incident,
    Message,
    Offer,
    Patient,
    Task,
    WaitlistEntry,
    db,
    hide_part2,
)
from models.vocabulary import AuditOutcome, Recipient
from scheduler import audit
from scheduler.audit import Act, Origin
from scheduler.authority import Authority
from scheduler.brakes import Brake
from scheduler.permissions import IMPERSONAL, Permission

SUBJECTS: Mapping[str, Any] = {
    "patient_id": Patient,
    "appointment_id": Appointment,
    "course_id": Course,
    "item_id": ChecklistItem,
    "incident_id": Incident,
    "task_id": Task,
    "message_id": Message,
    "offer_id": Offer,
    "entry_id": WaitlistEntry,
    "session_id": GroupSession,
    "disruption_id": Disruption,
    "glass_id": BreakGlass,
}
"""What the parts of an address name, of those that say something about patients."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a request is about."""

    entity: str
    entity_id: UUID | None = None
    patient_id: UUID | None = None


def note_origin(permission: Permission | None = None) -> None:
    """Let every line of this request say where it came from, and what let it in."""
    agent = request.headers.get("User-Agent")
    origin = Origin(
        address=request.remote_addr,
        request_id=g.get("request_id"),
        agent_hash=None if agent is None else hashlib.sha256(agent.encode()).hexdigest(),
        permission=permission,
    )
    audit.come_from(db.session(), origin)
    g.asked = permission


def subject(permission: Permission) -> Subject:
    """What the request is about: as its address has it, else what the permission speaks of."""
    session, told = db.session(), request.view_args or {}
    for name, model in SUBJECTS.items():
        if name in told:
            found = _row(session, model, told[name])
            return Subject(model.__tablename__, told[name], patient_of(session, found))
    asked = request.args.get("patient_id")
    return Subject(_one_of(permission.split(":")[0]), None, _as_id(asked))


def _one_of(things: str) -> str:
    return things if things.endswith("ss") else things.removesuffix("s")


def seen(permission: Permission) -> Act | None:
    """The line about what a door just showed; None if it wrote one, or shows nobody."""
    if "on_trail" in g or permission in IMPERSONAL:
        return None
    about = subject(permission)
    what: dict[str, object] = {"what": (request.endpoint or "").rpartition(".")[2]}
    if "shown" in g:
        what["count"] = g.shown
    what |= search()
    return Act(
        action="read",
        entity=about.entity,
        entity_id=about.entity_id,
        patient_id=about.patient_id,
        facts=what,
    )


def note_shown(answer: Any) -> None:
    """Note how many things a list shows."""
    items = answer.get("items") if isinstance(answer, dict) else None
    if isinstance(items, Sized):
        g.shown = len(items)


def search() -> Mapping[str, object]:
    """By what was searched, and a hash of it.

    Two searches can be compared, and none be read: it may be a name.
    """
    if not request.args:
        return {}
    told = repr(sorted(request.args.items(multi=True)))
    secret = str(current_app.config["SECRET_KEY"]).encode()
    digest = hmac.new(secret, f"search {told}".encode(), hashlib.sha256).hexdigest()
    return {"search": digest[:32], "by": sorted(request.args)}


def turned_away(by: Authority | None, permission: Permission, status: int, now: datetime) -> None:
    """Write, in a transaction of its own, who did not get in, or got nothing."""
    session = db.session()
    session.rollback()
    hide_part2(session, hidden=False)  # the trail knows who was asked for
    if by is None:
        by = _known_by_prefix(session)
    if by is None:
        return
    left_out = BRAKE.let(f"{session.info['clinic_id']} {by.name}", time.monotonic())
    if left_out is None:
        return
    about = subject(permission)
    facts: dict[str, object] = {"status": status, "what": request.endpoint}
    if left_out:
        facts["left_out"] = left_out
    act = Act(
        action=_ACTIONS.get(request.method, "execute"),
        entity=about.entity,
        entity_id=about.entity_id,
        patient_id=about.patient_id,
        facts=facts,
        outcome=AuditOutcome.FAILURE if status >= 500 else AuditOutcome.DENIED,
    )
    note_origin(permission)
    audit.record(session, by, act, now)
    session.commit()


def failed(now: datetime) -> None:
    """Write that somebody who was let in met a fault of ours."""
    by, asked = g.get("authority"), g.get("asked")
    if by is not None and asked is not None:
        turned_away(by, asked, 500, now)


def _known_by_prefix(session: Session) -> Authority | None:
    """Whose key it would be, by its beginning: its clinic is to hear that somebody tried."""
    told = request.authorization
    token = (told.token or "") if told is not None and told.type == "bearer" else ""
    prefix = token[:11]
    if len(token) < 12 or not prefix.startswith("ag_"):
        return None
    key = session.execute(_KEY, {"prefix": prefix}).first()
    if key is None:
        return None
    session.rollback()
    session.info["clinic_id"] = key.clinic_id
    return Authority(f"unknown:{key.name}/{prefix[3:]}")


def _row(session: Session, model: Any, row_id: UUID) -> Any:
    return session.get(model, (session.info["clinic_id"], row_id))


def patient_of(session: Session, row: Any) -> UUID | None:
    """Whose record a row belongs to; None for nobody's, or several people's."""
    if isinstance(row, Patient):
        return row.id
    if isinstance(row, Message) and row.recipient is Recipient.PATIENT:
        return row.recipient_id
    known: UUID | None = getattr(row, "patient_id", None)
    if known is not None or row is None:
        return known
    for name in ("appointment_id", "incident_id"):
        if (other := getattr(row, name, None)) is not None:
            return patient_of(session, _row(session, SUBJECTS[name], other))
    return None


def _as_id(told: str | None) -> UUID | None:
    try:
        return None if told is None else UUID(told)
    except ValueError:
        return None


BRAKE = Brake()

_ACTIONS = {"GET": "read", "HEAD": "read", "POST": "create", "PUT": "update", "PATCH": "update"} | {
    "DELETE": "delete"
}

_KEY = text(
    """
    WITH told AS MATERIALIZED (SELECT set_config('afterglow.prefix', :prefix, true) AS prefix)
    SELECT key.* FROM told CROSS JOIN LATERAL (
        SELECT clinic_id, name FROM api_key WHERE prefix = told.prefix OFFSET 0
    ) AS key
    """
)
"""By the beginning of a key, which is no secret, the clinic that hears of it."""
