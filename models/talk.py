"""What a clinic says in its own words, what patients answer, and what staff then do."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, coded, of_clinic, references, unique_in_clinic
from models.sealed import sealed, sealed_or_none
from models.vocabulary import (
    Channel,
    MessageKind,
    Owner,
    Recipient,
    ReplyMeaning,
    TaskKind,
    TaskStatus,
)


class Wording(Tenanted):
    """A clinic's own words for a kind of message. Append-only: the highest number counts."""

    __tablename__ = "wording"

    kind: Mapped[MessageKind]
    recipient: Mapped[Recipient]
    channel: Mapped[Channel]
    language: Mapped[str]
    number: Mapped[int]
    subject: Mapped[str]
    """Empty for a text message."""
    body: Mapped[str]
    """Empty: back to the words that are shipped."""
    written_by: Mapped[str]

    __table_args__ = (
        of_clinic(),
        unique_in_clinic("kind", "recipient", "channel", "language", "number"),
    )


class CadenceOverride(Tenanted):
    """A clinic's own rules in place of a cadence of a protocol. The highest number counts."""

    __tablename__ = "cadence_override"

    protocol_id: Mapped[UUID]
    cadence: Mapped[str]
    number: Mapped[int]
    rules: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    """None: back to the protocol's own."""
    written_by: Mapped[str]

    __table_args__ = (
        references("protocol_id", "protocol"),
        unique_in_clinic("protocol_id", "cadence", "number"),
    )


class ChannelConsent(Tenanted):
    """A patient agreed to a channel, or took it back (FHIR Consent). Append-only."""

    __tablename__ = "channel_consent"

    patient_id: Mapped[UUID]
    channel: Mapped[Channel]
    given: Mapped[bool]
    wording = sealed()
    """What the patient was shown, or wrote."""
    source: Mapped[str]
    """How it reached us: staff, page, sms, email, import."""
    noted_by: Mapped[str]
    at: Mapped[datetime]

    __table_args__ = (
        references("patient_id", "patient"),
        Index("ix__channel_consent__patient", "clinic_id", "patient_id", "channel", "at"),
    )


class Reply(Tenanted):
    """What a patient answered, by text message or on the page."""

    __tablename__ = "reply"

    provider: Mapped[str]
    reference: Mapped[str]
    """The provider's own name for it: a reply that is told twice counts once."""
    channel: Mapped[Channel]
    patient_id: Mapped[UUID | None]
    """None: a number that we do not know."""
    appointment_id: Mapped[UUID | None]
    meaning: Mapped[ReplyMeaning]
    body = sealed()
    at: Mapped[datetime]

    __table_args__ = (
        of_clinic(),
        references("patient_id", "patient"),
        references("appointment_id", "appointment"),
        unique_in_clinic("provider", "reference"),
        Index("ix__reply__appointment", "clinic_id", "appointment_id"),
        Index("ix__reply__at", "clinic_id", "at", "id"),
        Index("ix__reply__patient", "clinic_id", "patient_id", "at", "id"),
        Index("ix__reply__meaning", "clinic_id", "meaning", "at", "id"),
    )


class Task(Tenanted):
    """Something for staff to do because a message cannot (FHIR Task)."""

    __tablename__ = "task"

    kind: Mapped[TaskKind]
    owner: Mapped[Owner]
    urgent: Mapped[bool]
    subject_id: Mapped[UUID]
    """What gave rise to it; of one kind a subject has one task."""
    patient_id: Mapped[UUID | None]
    appointment_id: Mapped[UUID | None]
    message_kind: Mapped[MessageKind | None] = mapped_column(
        coded(MessageKind, "message_kind_is_known")
    )
    """What could not be said, if that is the reason."""
    due_at: Mapped[datetime]
    status: Mapped[TaskStatus]
    note: Mapped[str | None]
    """What it is about, in words and codes of our own."""
    remark = sealed_or_none()
    """What whoever settled it had to say."""
    settled_by: Mapped[str | None]
    settled_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        of_clinic(),
        references("patient_id", "patient"),
        references("appointment_id", "appointment"),
        unique_in_clinic("kind", "subject_id", name="uq__task__once"),
        CheckConstraint(
            "(status = 'requested') = (settled_at IS NULL)", name="settled_unless_requested"
        ),
        Index("ix__task__status", "clinic_id", "status", "due_at", "id"),
        Index(
            "ix__task__open", "clinic_id", "due_at", postgresql_where=text("status = 'requested'")
        ),
    )

    @property
    def said(self) -> str | None:
        """What a reader is shown."""
        return self.remark or self.note


class CalendarFeed(Tenanted):
    """A private calendar to subscribe to. Only the SHA-256 of its token is stored."""

    __tablename__ = "calendar_feed"

    schedule_id: Mapped[UUID]
    """Whose visits it shows: a clinician's, or a patient's."""
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    revoked_at: Mapped[datetime | None]
    made_by: Mapped[str]

    @property
    def version(self) -> int:
        """It changes once: when it is revoked."""
        return 1 if self.revoked_at is None else 2

    __table_args__ = (
        references("schedule_id", "schedule"),
        # 256 random bits: unique across clinics gives no one away, and finds the clinic.
        UniqueConstraint("token_hash", name="uq__calendar_feed__token_hash"),
        Index("ix__calendar_feed__schedule", "clinic_id", "schedule_id", "id"),
    )
