"""Delivery: one sweep over what is due, message by message, in four short transactions each.

Claim, release, hand over, result. While a message is handed over no transaction is open and
no connection is held. One bad message never stops the others.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from models.vocabulary import Channel as ChannelCode
from models.vocabulary import Recipient
from notifications import links, mail, queue, reading, templates
from notifications.cadence import audible
from notifications.channels import Accepted, Channel, Envelope, Outcome, Refused, Unknown
from notifications.queue import Claimed, Retry, Verdict
from notifications.reading import Letter

BATCH = 20
LINK_LASTS = timedelta(days=7)
"""After the end of the visit."""
HAND_OVER_SECONDS = 20
"""From the release to the last byte: a third of the lease, so that nobody else can have it."""
MOST_FAULTS = 5
"""Times that a message may fail by our own fault before it is given up."""

log = structlog.get_logger()


@dataclass(slots=True)
class Delivery:
    """Delivers what is due through one channel. Threads may call `sweep`; one at a time works."""

    engine: Engine
    channel: Channel
    clock: Callable[[], datetime]
    public_url: str
    stop: threading.Event = field(default_factory=threading.Event)
    at: Callable[[str], None] = lambda _point: None
    """Called at named points of a message's way; fault tests end the process there."""
    ticked_at: float = field(default_factory=time.monotonic)
    """When a message was last dealt with, for the watchdog: a slow server is not a stuck worker."""
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def sweep(self) -> int:
        """Deliver everything that is due; say how many messages were looked at."""
        with self._busy:
            looked_at = 0
            while not self.stop.is_set():
                with self.engine.begin() as connection:
                    batch = queue.claim(connection, ChannelCode.EMAIL, self.clock(), BATCH)
                self.at("claimed")
                for message in batch:
                    self.ticked_at = time.monotonic()
                    self._deliver(message)
                looked_at += len(batch)
                if len(batch) < BATCH:
                    break
            return looked_at

    def next_due(self) -> datetime | None:
        """When the next message is due."""
        with self.engine.begin() as connection:
            return queue.next_due(connection, ChannelCode.EMAIL)

    def tidy(self) -> None:
        """Take back what dead workers held, say again what may be, end what is useless."""
        now = self.clock()
        with self.engine.begin() as connection:
            reaped = queue.reap(connection, now)
            resolved = queue.resolve(connection)
            expired = queue.expire(connection, now)
        if reaped or resolved or expired:
            log.warning("messages.tidied", reaped=reaped, resolved=resolved, expired=expired)

    def _deliver(self, message: Claimed) -> None:
        if self.stop.is_set():
            self._put_back(message)
            return
        try:
            envelope = self._release(message)
        except Exception:  # whatever is wrong with it, the next one goes out
            log.exception("message.broken", message_id=str(message.id), kind=message.kind)
            self._give_back(message)
            return
        if envelope is None:
            return
        self.at("released")
        try:
            outcome = self.channel.hand_over(envelope)
        except Exception:  # a fault of ours after the release: nobody knows
            log.exception("channel.broken", message_id=str(message.id))
            outcome = Unknown("channel-fault")
        self.at("handed-over")
        self._settle_surely(message, outcome)

    def _release(self, message: Claimed) -> Envelope | None:
        """Read, render and release in one transaction: what cannot be said is never released."""
        now = self.clock()
        with self.engine.begin() as connection:
            queue.enter(connection, message.clinic_id)
            letter = reading.letter(connection, message.id)
            if self._is_put_off(connection, message, letter, now):
                return None
            verdict = queue.release(connection, message, now)
            if verdict is not Verdict.GO:
                log.info("message.not-sent", message_id=str(message.id), why=verdict)
                return None
            said = templates.render(letter, self._link(connection, letter))
            content = mail.build(letter, said, now)
        name = f"{message.kind}-{message.id}"
        return Envelope(
            name,
            letter.clinic_email,
            letter.address or "",
            content,
            message.due_at,
            time.monotonic() + HAND_OVER_SECONDS,
        )

    def _is_put_off(
        self, connection: Connection, message: Claimed, letter: Letter, now: datetime
    ) -> bool:
        """Put off until morning what is found by night; end it if the morning is too late."""
        due_at = audible(
            now, letter.quiet, earliest=now, not_after=message.not_after, kind=message.kind
        )
        if due_at == now:
            return False
        if due_at is not None:
            return queue.postpone(connection, message, due_at)
        return queue.expired(connection, message, now)

    def _link(self, connection: Connection, letter: Letter) -> str:
        if letter.recipient is not Recipient.PATIENT:
            return ""
        token = links.mint(
            connection,
            appointment_id=letter.appointment_id,
            patient_id=letter.patient_id,
            expires_at=letter.ends_at + LINK_LASTS,
        )
        return f"{self.public_url}/p/{token}"

    def _put_back(self, message: Claimed) -> None:
        """Leave a claimed message to another worker: this one is being stopped."""
        with self.engine.begin() as connection:
            queue.enter(connection, message.clinic_id)
            queue.postpone(connection, message, message.due_at)

    def _settle_surely(self, message: Claimed, outcome: Outcome) -> None:
        """Write the result down, also if the database is away for a moment.

        If it stays away, the lease ends and the message counts as uncertain.
        """
        for pause in (0.2, 1.0, 3.0, None):
            try:
                self._settle(message, outcome)
                return
            except SQLAlchemyError:
                log.warning("message.result-not-kept", message_id=str(message.id))
                if pause is None or self.stop.wait(pause):
                    return

    def _settle(self, message: Claimed, outcome: Outcome) -> None:
        now = self.clock()
        with self.engine.begin() as connection:
            queue.enter(connection, message.clinic_id)
            match outcome:
                case Accepted():
                    queue.sent(connection, message, now)
                case Unknown(code):
                    queue.uncertain(connection, message, code)
                case Refused(code, for_ever=True):
                    queue.failed(connection, message, code, now)
                case Refused(code):
                    again = now + queue.backoff(message.attempts, random.random())  # noqa: S311
                    queue.refused(connection, message, Retry(code, now, again))
        late = (now - message.due_at).total_seconds()
        log.info(
            "message.handed-over",
            message_id=str(message.id),
            kind=message.kind,
            outcome=type(outcome).__name__.lower(),
            late=round(late, 3),
        )

    def _give_back(self, message: Claimed) -> None:
        now = self.clock()
        with self.engine.begin() as connection:
            queue.enter(connection, message.clinic_id)
            if message.attempts >= MOST_FAULTS:
                queue.failed(connection, message, "internal", now)
            else:
                again = now + queue.backoff(message.attempts, random.random())  # noqa: S311
                queue.refused(connection, message, Retry("internal", now, again))
