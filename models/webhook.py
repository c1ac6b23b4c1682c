"""Webhooks: what other systems are told of, to which addresses, and how it went.

Events and deliveries are written by triggers, in the transaction of the change that they tell
of. Their life is in notifications/hooks.py.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, references, unique_in_clinic
from models.sealed import sealed
from models.vocabulary import DeliveryState, SwitchedOff


class Webhook(Tenanted):
    """An address of another system, and what it is told of."""

    __tablename__ = "webhook"

    url: Mapped[str]
    description: Mapped[str | None]
    event_types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """As in notifications/events.py; `appointment.*` is all of a kind, `*` is everything."""
    disabled_at: Mapped[datetime | None]
    disabled_why: Mapped[SwitchedOff | None]
    """None: it is told."""
    failing_since: Mapped[datetime | None]
    """Machine time of the first failure after which nothing has come through."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        of_clinic(),
        CheckConstraint("num_nulls(disabled_at, disabled_why) IN (0, 2)", name="disabled_for_why"),
    )


class WebhookSecret(Tenanted):
    """What an address verifies our signature with. After a rotation two live for a while.

    Written and read by notifications/signing.py alone.
    """

    __tablename__ = "webhook_secret"

    webhook_id: Mapped[UUID]
    secret = sealed()
    ends_at: Mapped[datetime | None]
    """Machine time. None: the current one."""

    __table_args__ = (
        references("webhook_id", "webhook", ondelete="CASCADE"),
        Index(
            "ix__webhook_secret__current",
            "clinic_id",
            "webhook_id",
            unique=True,
            postgresql_where=text("ends_at IS NULL"),
        ),
        Index("ix__webhook_secret__webhook", "clinic_id", "webhook_id"),
    )


class WebhookEvent(Tenanted):
    """Something that happened, as other systems are told of it: ids, and nothing else.

    Append-only. Its id is the `webhook-id` of every try. Kept for a month.
    """

    __tablename__ = "webhook_event"

    type: Mapped[str]
    occurred_at: Mapped[datetime]
    data: Mapped[dict[str, Any]]

    __table_args__ = (of_clinic(), Index("ix__webhook_event__created", "clinic_id", "created_at"))


class WebhookDelivery(Tenanted):
    """One event on its way to one address. All its times are the machine's, not the clinic's."""

    __tablename__ = "webhook_delivery"

    webhook_id: Mapped[UUID]
    event_id: Mapped[UUID]
    state: Mapped[DeliveryState] = mapped_column(server_default=text("'pending'"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    """Tries since it was last asked for."""
    due_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    claim_token: Mapped[UUID | None]
    leased_until: Mapped[datetime | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    """A code, never what was answered."""
    delivered_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("webhook_id", "webhook", ondelete="CASCADE"),
        references("event_id", "webhook_event", ondelete="CASCADE"),
        unique_in_clinic("event_id", "webhook_id", name="uq__webhook_delivery__once"),
        CheckConstraint(
            "(state = 'sending') = (leased_until IS NOT NULL)", name="leased_iff_sending"
        ),
        Index(
            "ix__webhook_delivery__due",
            "clinic_id",
            "webhook_id",
            "due_at",
            "id",
            postgresql_where=text("state = 'pending'"),
        ),
        Index(
            "ix__webhook_delivery__one_at_a_time",
            "clinic_id",
            "webhook_id",
            unique=True,
            postgresql_where=text("state = 'sending'"),
        ),
        Index("ix__webhook_delivery__webhook", "clinic_id", "webhook_id", "id"),
        Index("ix__webhook_delivery__state", "clinic_id", "state", "id"),
    )


class WebhookAttempt(Tenanted):
    """One try of a delivery, and what came of it. Append-only."""

    __tablename__ = "webhook_attempt"

    delivery_id: Mapped[UUID]
    at: Mapped[datetime]
    status: Mapped[int | None]
    """What was answered. None: nothing."""
    error: Mapped[str | None]
    """A code. None: it came through."""
    took_ms: Mapped[int]

    __table_args__ = (
        references("delivery_id", "webhook_delivery", ondelete="CASCADE"),
        Index("ix__webhook_attempt__delivery", "clinic_id", "delivery_id", "id"),
    )
