"""Messages: everything that is to be said, is being said, or was said.

A message is a row from the moment its visit is booked, written in the booking's own
transaction. It holds ids and times, never an address or a text: both are read at the moment
of sending. Its life is in notifications/queue.py.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, references, unique_in_clinic
from models.vocabulary import Channel, MessageKind, MessageState, Recipient


class Message(Tenanted):
    """One planned or sent communication (FHIR Communication). Its id is its Message-ID."""

    __tablename__ = "message"

    appointment_id: Mapped[UUID]
    revision: Mapped[int]
    """The visit's revision that it speaks of."""
    rule: Mapped[str]
    """The cadence rule that asked for it."""
    kind: Mapped[MessageKind]
    channel: Mapped[Channel]
    recipient: Mapped[Recipient]
    recipient_id: Mapped[UUID]
    starts_at: Mapped[datetime]
    """The start of the visit that it speaks of."""
    due_at: Mapped[datetime]
    not_after: Mapped[datetime]
    """Later than this is worse than never."""
    state: Mapped[MessageState]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    claim_token: Mapped[UUID | None]
    leased_until: Mapped[datetime | None]
    """Machine time, not the clinic's clock: a lease is about a process, not about a visit."""
    released_at: Mapped[datetime | None]
    """The durable point of no return: from here on the message may have gone out."""
    withdrawn: Mapped[bool] = mapped_column(server_default=text("false"))
    """The visit was moved or cancelled while the message was out of our hands."""
    sent_at: Mapped[datetime | None]
    done_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    """A code, never an address or a text."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("appointment_id", "appointment"),
        unique_in_clinic(
            "appointment_id",
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
    )
