"""Reading: what a message needs to say, read at the moment it is said.

Addresses and times are never copied into a message, so what goes out is what is true then.
"""

from dataclasses import dataclass
from datetime import datetime, time
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from models.vocabulary import MessageKind, Recipient
from notifications.cadence import QuietHours


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Everything that any template may speak of."""

    message_id: UUID
    appointment_id: UUID
    patient_id: UUID
    kind: MessageKind
    recipient: Recipient
    reader_name: str
    """The given name of a patient; an escort's name as the patient gave it."""
    address: str | None
    """The reader's e-mail address."""
    patient_name: str
    """The patient's given name."""
    clinic: str
    clinic_email: str
    clinic_phone: str
    site: str
    site_address: str
    zone: ZoneInfo
    """The site's."""
    starts_at: datetime
    ends_at: datetime
    revision: int
    quiet: QuietHours
    """The reader's."""


def letter(connection: Connection | Session, message_id: UUID) -> Letter:
    """Read what the message `message_id` of the entered clinic speaks of."""
    row = connection.execute(_LETTER, {"id": message_id}).one()
    to_patient = row.recipient == Recipient.PATIENT
    quiet_zone = row.patient_zone if to_patient else row.site_zone
    return Letter(
        message_id=message_id,
        appointment_id=row.appointment_id,
        patient_id=row.patient_id,
        kind=MessageKind(row.kind),
        recipient=Recipient(row.recipient),
        reader_name=row.given_name if to_patient else (row.escort_name or ""),
        address=row.patient_email if to_patient else row.escort_email,
        patient_name=row.given_name,
        clinic=row.clinic,
        clinic_email=row.clinic_email,
        clinic_phone=row.clinic_phone,
        site=row.site,
        site_address=row.site_address,
        zone=ZoneInfo(row.site_zone),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        revision=row.revision,
        quiet=_quiet(row.quiet_from, row.quiet_until, quiet_zone),
    )


def _quiet(start: time, end: time, zone: str) -> QuietHours:
    return QuietHours(start, end, ZoneInfo(zone))


_LETTER = text(
    """
    SELECT m.kind, m.recipient, m.appointment_id, a.patient_id, a.starts_at, a.ends_at, a.revision,
           p.given_name, p.email AS patient_email, p.time_zone AS patient_zone,
           e.name AS escort_name, e.email AS escort_email,
           c.name AS clinic, c.email AS clinic_email, c.phone AS clinic_phone,
           c.quiet_from, c.quiet_until,
           s.name AS site, s.address AS site_address, s.time_zone AS site_zone
      FROM message m
      JOIN appointment a ON a.clinic_id = m.clinic_id AND a.id = m.appointment_id
      JOIN patient p ON p.clinic_id = m.clinic_id AND p.id = a.patient_id
      JOIN site s ON s.clinic_id = m.clinic_id AND s.id = a.site_id
      JOIN clinic c ON c.clinic_id = m.clinic_id
      LEFT JOIN escort e ON e.clinic_id = m.clinic_id AND e.id = m.recipient_id
     WHERE m.id = :id
    """
)
