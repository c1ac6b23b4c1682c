"""Messages: everything that is to be said, is being said, or was said.

A message is a row from the moment its visit is booked, written in the booking's own
transaction. It holds ids and times, never an address or a text: both are read at the moment
of sending. Its life is in notifications/queue.py.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, references, unique_in_clinic
from models.vocabulary import Channel, MessageKind, MessageState, Recipient


class Message(Tenanted):
    """One planned or sent communication (FHIR Communication). Its id is its Message-ID."""

    __tablename__ = "message"

    subject_id: Mapped[UUID]
    """What it speaks of: a visit, or for staff a clinician, a licence, another message."""
    appointment_id: Mapped[UUID | None]
    """The visit, if it speaks of one."""
    revision: Mapped[int]
    """The visit's revision that it speaks of."""
    rule: Mapped[str]
    """The cadence rule, or the occasion, that asked for it."""
    kind: Mapped[MessageKind]
    channel: Mapped[Channel]
    recipient: Mapped[Recipient]
    recipient_id: Mapped[UUID]
    starts_at: Mapped[datetime | None]
    """The start of the visit that it speaks of."""
    due_at: Mapped[datetime]
    not_after: Mapped[datetime]
    """Later than this is worse than never."""
    conditions: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """All of them must hold when it is due; see `Condition`."""
    state: Mapped[MessageState]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    claim_token: Mapped[UUID | None]
    leased_until: Mapped[datetime | None]
    """Machine time, not the clinic's clock: a lease is about a process, not about a visit."""
    released_at: Mapped[datetime | None]
    """The durable point of no return: from here on the message may have gone out."""
    carried_by: Mapped[UUID | None]
    """The message within which this one goes out: several visits near each other, one letter."""
    said_again: Mapped[bool] = mapped_column(server_default=text("false"))
    """It was uncertain, and is said once more under the same Message-ID; never twice."""
    withdrawn: Mapped[bool] = mapped_column(server_default=text("false"))
    """The visit was moved or cancelled while the message was out of our hands."""
    provider: Mapped[str | None]
    """Who took it."""
    provider_ref: Mapped[str | None]
    """What the provider calls it."""
    sent_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    done_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    """A code, never an address or a text."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("appointment_id", "appointment"),
        unique_in_clinic(
            "subject_id",
            "revision",
            "rule",
            "channel",
            "recipient_id",
            name="uq__message__once",
        ),
        CheckConstraint(
            "(state = 'sending') = (leased_until IS NOT NULL)", name="leased_iff_sending"
        ),
        CheckConstraint(
            "state <> 'uncertain' OR released_at IS NOT NULL", name="uncertain_was_released"
        ),
        Index(
            "ix__message__due",
            "channel",
            "due_at",
            "id",
            postgresql_where=text("state = 'scheduled'"),
        ),
        Index("ix__message__lease", "leased_until", postgresql_where=text("state = 'sending'")),
        Index(
            "ix__message__uncertain", "released_at", postgresql_where=text("state = 'uncertain'")
        ),
        Index("ix__message__clinic_due", "clinic_id", "due_at", "id"),
        Index("ix__message__appointment", "clinic_id", "appointment_id", "due_at", "id"),
        Index(
            "ix__message__wrong",
            "clinic_id",
            "state",
            "due_at",
            "id",
            postgresql_where=text("state IN ('uncertain', 'failed', 'expired', 'suppressed')"),
        ),
        Index("ix__message__recipient", "clinic_id", "recipient_id", "due_at"),
    )


class MessageArchive(Tenanted):
    """A message whose visit is over for a week: what became of it, for reports.

    Partitioned by the month in which it was due; no partition is ever searched for work.
    """

    __tablename__ = "message_archive"

    subject_id: Mapped[UUID]
    appointment_id: Mapped[UUID | None]
    revision: Mapped[int]
    rule: Mapped[str]
    kind: Mapped[str]
    channel: Mapped[str]
    recipient: Mapped[str]
    recipient_id: Mapped[UUID]
    starts_at: Mapped[datetime | None]
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
    not_after: Mapped[datetime]
    state: Mapped[str]
    attempts: Mapped[int]
    carried_by: Mapped[UUID | None]
    provider: Mapped[str | None]
    provider_ref: Mapped[str | None]
    released_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    done_at: Mapped[datetime | None]
    last_error: Mapped[str | None]

    __table_args__ = (
        Index("ix__message_archive__clinic_due", "clinic_id", "due_at", "id"),
        {"postgresql_partition_by": "RANGE (due_at)"},
    )


class Receipt(Tenanted):
    """What a provider said about a message after taking it. Append-only, each word once."""

    __tablename__ = "receipt"

    message_id: Mapped[UUID]
    provider: Mapped[str]
    event: Mapped[str]
    """What tells this word from any other of the same provider."""
    status: Mapped[str]
    at: Mapped[datetime]

    __table_args__ = (
        of_clinic(),
        unique_in_clinic("provider", "event"),
        Index("ix__receipt__message", "clinic_id", "message_id"),
    )
