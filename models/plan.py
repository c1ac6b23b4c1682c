"""Plans: proposals for the times of many visits, and the disruptions that ask for them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, references
from models.vocabulary import PractitionerRole


class Disruption(Tenanted):
    """Somebody or something that cannot serve for a while: an illness, a room with no water."""

    __tablename__ = "disruption"

    schedule_id: Mapped[UUID]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    reason: Mapped[str]
    closure_id: Mapped[UUID | None]
    """The closure that it made, so that nothing new is booked there."""
    role: Mapped[PractitionerRole | None]
    """In which role alone they cannot serve, for want of a licence. Then nothing is closed: the
    licence's end does that."""
    told_by: Mapped[str]
    group_moves: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    """For each group session that it hits what is proposed instead, and when that was accepted."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        references("schedule_id", "schedule"),
        CheckConstraint("starts_at < ends_at", name="is_real"),
        CheckConstraint("(closure_id IS NULL) = (role IS NOT NULL)", name="closed_or_unlicensed"),
        Index("ix__disruption__starts_at", "clinic_id", "starts_at"),
    )


class Proposal(Tenanted):
    """Dated visits for one patient, to be taken whole or not at all.

    For a course it books what is not booked yet; for a disruption it moves what cannot stay.
    Nothing is kept free for it: who is faster gets the time.
    """

    __tablename__ = "proposal"

    patient_id: Mapped[UUID]
    course_id: Mapped[UUID | None]
    disruption_id: Mapped[UUID | None]
    steps: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    """In the order of the protocol: which step or visit, when, where, with whom."""
    cost: Mapped[dict[str, Any]]
    """What speaks against it, in the terms of the plan."""
    asked: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    """The wishes that it answers, to ask anew if its times are lost."""
    expires_at: Mapped[datetime]
    made_by: Mapped[str]
    accepted_at: Mapped[datetime | None]
    accepted_by: Mapped[str | None]

    __table_args__ = (
        references("patient_id", "patient"),
        references("course_id", "course"),
        references("disruption_id", "disruption"),
        CheckConstraint(
            "course_id IS NOT NULL OR disruption_id IS NOT NULL", name="is_for_something"
        ),
        CheckConstraint("(accepted_at IS NULL) = (accepted_by IS NULL)", name="accepted_by_and_at"),
        Index("ix__proposal__course", "clinic_id", "course_id"),
        Index("ix__proposal__disruption", "clinic_id", "disruption_id"),
        Index("ix__proposal__expires_at", "clinic_id", "expires_at"),
    )
