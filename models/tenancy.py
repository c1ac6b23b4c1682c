"""Tenancy: on what terms a clinic is here, who runs the service, and what they did.

None of these tables is a clinic's own: a tenancy outlives its clinic, operators have none. All of
them are written by functions of the database alone (migrations 0041 and 0042), which keep the
rules; no role of a process may change a row.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, LargeBinary, SmallInteger, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from models.base import Base
from models.vocabulary import AuditOutcome, TenancyStatus


class Tenancy(Base):
    """On what terms a clinic is here: its state, and how much it may use."""

    __tablename__ = "tenancy"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """The clinic's own."""
    name: Mapped[str]
    """As the clinic was called when it came, and again when it was shredded: for who asks then."""
    status: Mapped[TenancyStatus]
    since: Mapped[datetime]
    """When it came to that status."""
    set_by: Mapped[str]
    """Who brought it there."""
    reason: Mapped[str | None]
    resumed_at: Mapped[datetime | None]
    """When its doors opened again. What was missed while they were shut nobody can tell."""
    shred_after: Mapped[datetime | None]
    """Of one that is closed: from when on it may be shredded."""
    requests_per_minute: Mapped[int | None]
    """How often all its callers together may ask the API at most. None: no more is said."""
    most_users: Mapped[int | None]
    """How many accounts that are not disabled it may have. None: as many as it likes."""
    most_sites: Mapped[int | None]
    held_since: Mapped[datetime | None]
    """Since when its records are under a legal hold, so that it may not be shredded. None: not."""
    held_by: Mapped[str | None]
    hold_reason: Mapped[str | None]
    gone: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """By table: how many of its rows were shredded."""
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint("requests_per_minute >= 1", name="requests_are_some"),
        CheckConstraint("most_users >= 1", name="users_are_some"),
        CheckConstraint("most_sites >= 1", name="sites_are_some"),
        CheckConstraint(
            "status <> 'closed' OR shred_after IS NOT NULL", name="closed_until_a_time"
        ),
        CheckConstraint(
            "num_nulls(held_since, held_by, hold_reason) IN (0, 3)",
            name="held_by_somebody_for_a_reason",
        ),
        CheckConstraint(
            "held_since IS NULL OR status NOT IN ('shredding', 'shredded')", name="held_is_kept"
        ),
    )


class OperatorKey(Base):
    """Somebody who runs the service for clinics. Of the key only its SHA-256 is stored."""

    __tablename__ = "operator_key"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str]
    prefix: Mapped[str]
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_on: Mapped[date | None]
    """The last day, in UTC, on which it was used."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (UniqueConstraint("secret_hash", name="uq__operator_key__secret_hash"),)


class OperatorEvent(Base):
    """One act of an operator. Append-only, one chain for all, as each clinic's trail is one."""

    __tablename__ = "operator_event"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    sequence: Mapped[int]
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    entity: Mapped[str]
    entity_id: Mapped[UUID | None]
    """The clinic or the key that it was about."""
    facts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    outcome: Mapped[AuditOutcome] = mapped_column(server_default=text("'success'"))
    permission: Mapped[str | None]
    address: Mapped[str | None]
    request_id: Mapped[UUID | None]
    agent_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    form: Mapped[int] = mapped_column(SmallInteger)
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (UniqueConstraint("sequence"),)
