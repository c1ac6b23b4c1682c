"""The herald: tells other systems what happened, one delivery at a time.

While it speaks with another machine no transaction is open and nothing is locked. A try takes
at most SECONDS in all, however slowly the answer drips; of the answer LARGEST bytes are read at
most, and none kept. Only 2xx is a yes; a redirect is a no, and is not followed.
Source: Standard Webhooks 1.0.0, "Deliverability and reliability".
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from typing import Any

import psycopg
import structlog
from psycopg import Connection

from notifications import hooks, queue, signing
from notifications.hooks import Claimed, Letter, Outcome
from notifications.outside import Deadline, Outside, Request, Unreached

SECONDS = 10.0
LARGEST = 64 * 1024
"""Bytes."""

log = structlog.get_logger()


@dataclass(slots=True)
class Herald:
    """Delivers what is due to webhooks. Several may be at it, in one process or in many."""

    connect: Callable[[], Connection[Any]]
    """Opens a connection as the worker; it commits each statement."""
    outside: Outside
    clock: Callable[[], datetime]
    """The machine's: receivers compare the time of a try with their own."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """How often each state came of a try, since it started."""
    at: Callable[[str], None] = lambda _point: None
    """Called at named points of a delivery's way; fault tests end the process there."""
    stop: threading.Event = field(default_factory=threading.Event)
    ticked_at: float = field(default_factory=time.monotonic)
    held_until: float = 0.0
    _busy: threading.Lock = field(default_factory=threading.Lock)
    _held: Connection[Any] | None = None

    def sweep(self) -> int:
        """Deliver everything that is due; say how many tries that took."""
        tries = 0
        with self._busy:
            while not self.stop.is_set() and self._next():
                tries += 1
        return tries

    def next_due(self) -> datetime | None:
        """When the next delivery is due."""
        with self._busy:
            return hooks.next_due(self._connection())

    def close(self) -> None:
        """Let go of the connection."""
        with self._busy:
            self._disconnect()

    def _next(self) -> bool:
        """Try the next delivery that is due; whether there was one."""
        self.ticked_at = time.monotonic()
        try:
            claimed = hooks.claim(self._connection(), self.clock())
            if claimed is not None:
                self.at("webhook-claimed")
                self._deliver(self._connection(), claimed)
        except psycopg.OperationalError:
            self._disconnect()  # the lease ends, and it is sent again
            raise
        return claimed is not None

    def _deliver(self, connection: Connection[Any], claimed: Claimed) -> None:
        queue.enter(connection, claimed.clinic_id)
        letter = hooks.read(connection, claimed)
        if letter is None:
            hooks.put_back(connection, claimed)
            return
        outcome = self._try(connection, letter, claimed)
        self.at("webhook-sent")
        state = hooks.settle(connection, claimed, outcome)
        if state is not None:
            self.outcomes[state] = self.outcomes.get(state, 0) + 1
        log.info(
            "webhook.tried",
            delivery_id=str(claimed.id),
            type=letter.type,
            attempt=claimed.attempts,
            status=outcome.status,
            error=outcome.error,
            ms=round(outcome.took * 1000),
        )

    def _try(self, connection: Connection[Any], letter: Letter, claimed: Claimed) -> Outcome:
        at, begun = self.clock(), time.monotonic()
        status: int | None = None
        error: str | None
        wait = timedelta(0)
        try:
            shared = signing.current(connection, claimed.webhook_id)
            request = _request(letter, claimed, at, shared)
            with Deadline(SECONDS) as deadline:
                answer = self.outside.ask(request, deadline)
                status, wait = answer.status, _wait(answer, at)
                error = _fault(answer)
                deadline.check()
        except Unreached as unreached:
            error = unreached.code
        except psycopg.Error:
            raise
        except Exception:  # whatever is wrong with it, the next one goes out
            log.exception("webhook.broken", delivery_id=str(claimed.id))
            error = "internal"
        took = time.monotonic() - begun
        return Outcome(at=at, took=took, status=status, error=error, wait=wait)

    def _connection(self) -> Connection[Any]:
        if self._held is None or self._held.closed:
            self._held = self.connect()
        return self._held

    def _disconnect(self) -> None:
        if self._held is not None:
            self._held.close()
        self._held = None


def written(letter: Letter) -> bytes:
    """The body: the same bytes at every try."""
    told = {
        "type": letter.type,
        "timestamp": letter.occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": dict(sorted(letter.data.items())),
    }
    return json.dumps(told, separators=(",", ":")).encode()


def _request(letter: Letter, claimed: Claimed, at: datetime, shared: list[str]) -> Request:
    body = written(letter)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Afterglow",
        "Connection": "close",
        **signing.headers(claimed.event_id, at, body, shared),
    }
    return Request("POST", letter.url, headers, body)


def _fault(answer: HTTPResponse) -> str | None:
    """What is wrong with an answer, as a code; None: it is a yes."""
    try:
        told = answer.read(LARGEST + 1)
    except TimeoutError:
        return "timeout"
    except (OSError, HTTPException, ValueError):
        return "broke-off"
    if len(told) > LARGEST:
        return "too-large"
    if answer.status // 100 == 2:
        return None
    return "redirected" if answer.status // 100 == 3 else "refused"


def _wait(answer: HTTPResponse, now: datetime) -> timedelta:
    """For how long the receiver asks not to be tried (RFC 9110, section 10.2.3)."""
    told = answer.headers.get("Retry-After", "").strip()
    if told.isascii() and told.isdigit():
        return timedelta(seconds=min(int(told[:9]), 10**8))
    try:
        return max(parsedate_to_datetime(told).astimezone(UTC) - now, timedelta(0))
    except (ValueError, TypeError, OverflowError):
        return timedelta(0)
