"""Telling: what became of a visit, said once to each who is to hear of it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from models import Appointment, Patient
from models.vocabulary import Channel, MessageKind, Recipient
from notifications import outbox
from notifications.outbox import Notice
from scheduler import facts

Reader = tuple[Recipient, UUID, Channel]

ON_THEIR_WAY = timedelta(hours=1)
"""So long before a visit a patient may have set out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is said of a visit, when, and until when it is of use."""

    kind: MessageKind
    occasion: str
    """Of one occasion each reader is told once."""
    due_at: datetime
    not_after: datetime


def tell(
    session: Session, visit: Appointment, said: Said, readers: Iterable[Reader], now: datetime
) -> int:
    """Plan to say it to each of the readers. Returns to how many it is new."""
    return sum(
        outbox.notify(
            session,
            Notice(
                kind=said.kind,
                recipient=recipient,
                recipient_id=recipient_id,
                subject_id=visit.id,
                occasion=said.occasion,
                due_at=said.due_at,
                not_after=said.not_after,
                appointment_id=visit.id,
                revision=visit.revision,
                starts_at=visit.starts_at,
                channel=channel,
            ),
            now,
        )
        for recipient, recipient_id, channel in readers
    )


def in_time(visit: Appointment, due_at: datetime) -> datetime:
    """Until when it is of use to hear that a visit may not take place: before one sets out."""
    setting_out = visit.starts_at - ON_THEIR_WAY
    return setting_out if due_at <= setting_out else visit.starts_at


def desk(session: Session) -> list[Reader]:
    """The front desk."""
    return [(Recipient.FRONT_DESK, facts.clinic(session).clinic_id, Channel.EMAIL)]


def team(session: Session, visit: Appointment) -> list[Reader]:
    """Who serves the visit."""
    return [
        (Recipient.PRACTITIONER, one, Channel.EMAIL)
        for one in facts.practitioners_of(session, visit.id)
    ]


def of_roles(
    session: Session, visit: Appointment, roles: Collection[str], now: datetime
) -> list[Reader]:
    """Who may act in one of these roles today: of those who serve the visit, else anybody."""
    zone = ZoneInfo(facts.clinic(session).time_zone)
    able = facts.acting_as(session, roles, now.astimezone(zone).date())
    serving = set(facts.practitioners_of(session, visit.id))
    chosen = [one for one in able if one in serving] or able
    return [(Recipient.PRACTITIONER, one, Channel.EMAIL) for one in chosen]


def patient(session: Session, visit: Appointment) -> list[Reader]:
    """The patient, unless they cannot be written to."""
    who = facts.one(session, Patient, visit.patient_id)
    channel = facts.channel_of(who, facts.clinic(session))
    return [] if channel is None else [(Recipient.PATIENT, who.id, channel)]
