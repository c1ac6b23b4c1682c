"""The dispatcher: a thread that sweeps as soon as something is due.

It is woken by PostgreSQL when something becomes due at once, and otherwise by a timer set to
what is due next. APScheduler calls the same sweep every few seconds in any case, so a
lost wake-up costs seconds and no message.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import psycopg
import structlog
from psycopg.sql import SQL, Identifier

SHORTEST_SLEEP = 0.02
"""Seconds. A due message that another worker holds does not make this one spin."""

log = structlog.get_logger()


class Sweeping(Protocol):
    """What is woken: it does all that is due, and says when the next is."""

    @property
    def stop(self) -> threading.Event:
        """Set: it is to end."""

    @property
    def clock(self) -> Callable[[], datetime]:
        """Its clock."""

    @property
    def held_until(self) -> float:
        """By the monotonic clock: it does nothing before."""

    @property
    def ticked_at(self) -> float:
        """When it was last seen at work, for the watchdog."""

    def sweep(self) -> int:
        """Do everything that is due; say how much was looked at."""

    def next_due(self) -> datetime | None:
        """When the next is due."""


@dataclass(slots=True)
class Dispatcher:
    """Sweeps when woken."""

    delivery: Sweeping
    connect: Callable[[], psycopg.Connection]
    woken_by: str = "message_due"
    """The channel of PostgreSQL's NOTIFY."""
    longest_sleep: float = 5.0
    """Seconds."""
    stop: threading.Event = field(default_factory=threading.Event)
    ticked_at: float = field(default_factory=time.monotonic)
    """When it was last seen at work, for the watchdog."""

    def run(self) -> None:
        """Work until stopped. A lost database is looked for again, every second."""
        while not self.stop.is_set():
            try:
                with contextlib.closing(self.connect()) as listener:
                    listener.execute(SQL("LISTEN {}").format(Identifier(self.woken_by)))
                    self._work(listener)
            except Exception as error:  # noqa: BLE001  # a thread that dies is heard by nobody
                log.warning("dispatcher.stumbled", error=type(error).__name__)
                self.stop.wait(1)

    def _work(self, listener: psycopg.Connection) -> None:
        while not self.stop.is_set():
            self.ticked_at = time.monotonic()
            as_of = self.delivery.clock()
            self.delivery.sweep()
            self._sleep(listener, as_of)

    def _sleep(self, listener: psycopg.Connection, swept: datetime) -> None:
        """Sleep until the next due message, a wake-up, or the longest sleep.

        In small steps, so that stopping never waits long.
        """
        wake_at = time.monotonic() + self._pause(swept)
        while not self.stop.is_set() and (left := wake_at - time.monotonic()) > 0:
            for _ in listener.notifies(timeout=min(left, 0.5), stop_after=1):
                return

    def _pause(self, swept: datetime) -> float:
        due: datetime | None = self.delivery.next_due()
        if due is None:
            return self.longest_sleep
        left = (due - self.delivery.clock()).total_seconds()
        left = max(left, self.delivery.held_until - time.monotonic())
        if left <= 0 and due <= swept:  # another worker has it
            left = SHORTEST_SLEEP
        return min(left, self.longest_sleep)
