"""The workers' heartbeat: the one table that belongs to no clinic."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func
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
