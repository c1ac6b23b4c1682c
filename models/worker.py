"""The workers' own tables, which belong to no clinic: heartbeat, rates, and whether to rest."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from models.base import Base


class Worker(Base):
    """A worker process, and when it last finished a sweep."""

    __tablename__ = "worker"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime]
    """Machine time of the last finished sweep."""
    swept_until: Mapped[datetime]
    """The clinic's clock at the start of that sweep: all that was due by then was looked at."""
    stats: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What it has counted since it started; see notifications/stats.py."""


class SendBucket(Base):
    """How much may still be sent by a provider now: a bucket that fills as time passes."""

    __tablename__ = "send_bucket"

    name: Mapped[str] = mapped_column(primary_key=True)
    tokens: Mapped[float]
    filled_at: Mapped[datetime]
    """Machine time at which it held `tokens`."""


class Restoration(Base):
    """That the database was restored from a backup. Until somebody resumes, the workers rest."""

    __tablename__ = "restoration"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    backed_up_at: Mapped[datetime]
    restored_at: Mapped[datetime]
    """By the clinic's clock: what was due by then may have been said by what was lost."""
    resumed_at: Mapped[datetime | None]
