"""History: one line for everything that happens to a visit, never changed, never taken back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, AppointmentEvent
from scheduler.authority import Authority
from scheduler.lifecycle import Action, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """What was done to a visit."""

    action: Action | str
    before: State | None = None
    """None: the visit is new."""
    reason: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


def state_of(appointment: Appointment) -> State:
    """Where the visit stands now."""
    return State(appointment.status, appointment.progress)


def passed_over(overrides: Mapping[str, str]) -> dict[str, object]:
    """The codes of what was passed over; the reasons stand in `override`, for those who may."""
    return {"overridden": sorted(overrides)} if overrides else {}


def record(
    session: Session, appointment: Appointment, happened: Happened, by: Authority, now: datetime
) -> None:
    """Add a line to the visit's history; what it says of the present is read from the visit."""
    before, event_id = happened.before, uuid7()
    session.execute(
        _RECORD,
        {
            "id": event_id,
            "appointment": appointment.id,
            "action": str(happened.action),
            "from_status": None if before is None else before.status.value,
            "to_status": appointment.status.value,
            "progress": None if appointment.progress is None else appointment.progress.value,
            "by": by.name,
            "at": now,
            "reason": AppointmentEvent.reason.sealed_for(session, event_id, happened.reason),
            "facts": json.dumps(dict(happened.facts), default=str),
        },
    )


_RECORD = text(
    """
    INSERT INTO appointment_event (id, appointment_id, action, from_status, to_status, progress,
                                   by, at, reason, facts)
    VALUES (:id, :appointment, :action, :from_status, :to_status, :progress, :by, :at, :reason,
            CAST(:facts AS jsonb))
    """
)
