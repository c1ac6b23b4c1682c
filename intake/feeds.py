"""Feeds: fetches what is due, for every clinic, and hands it to be kept."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from intake.fetching import Unfetched
from models import enter_clinic
from scheduler import feeds
from scheduler.feeds import Due, Fetched

AT_ONCE = 4
"""Clinics that are served side by side: a slow host keeps few waiting."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Refresher:
    """Keeps the feeds of clinics fresh. No transaction is open while one is fetched."""

    engine: Engine
    clock: Callable[[], datetime]
    fetch: Callable[[Due], Fetched]
    """Raises Unfetched."""
    stop: threading.Event = field(default_factory=threading.Event)

    def refresh(self, clinics: Iterable[UUID]) -> None:
        """Fetch every feed of these clinics that is due."""
        with ThreadPoolExecutor(AT_ONCE, "feeds") as pool:
            for _ in pool.map(self._of_clinic, clinics):
                pass

    def _of_clinic(self, clinic_id: UUID) -> None:
        try:
            while not self.stop.is_set() and self._next(clinic_id):
                pass
        except Exception:  # one clinic's trouble is not another's
            log.exception("feeds.failed", clinic_id=str(clinic_id))

    def _next(self, clinic_id: UUID) -> bool:
        """Fetch the feed that is due for longest; whether there was one."""
        with self._transaction(clinic_id) as session:
            due = feeds.take_up(session, self.clock())
        if due is None:
            return False
        try:
            fetched = self.fetch(due)
        except Unfetched as fault:
            with self._transaction(clinic_id) as session:
                feeds.fail(session, due, str(fault), self.clock())
            log.warning("feed.unfetched", feed_id=str(due.id), why=str(fault))
            return True
        with self._transaction(clinic_id) as session:
            changed = feeds.keep(session, due, fetched, self.clock())
        if changed:
            log.info("feed.changed", feed_id=str(due.id), rows=changed)
        return True

    @contextmanager
    def _transaction(self, clinic_id: UUID) -> Iterator[Session]:
        with Session(self.engine) as session, session.begin():
            enter_clinic(session, clinic_id)
            yield session
