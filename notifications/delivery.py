"""Delivery: one sweep over what is due on a channel.

Due messages are claimed together and read together; then each goes its own way: put into
words, released, handed over, settled. While a message is handed over no transaction is open.
One bad message never stops the others. With several senders the ways run side by side.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg import Connection

from models.vocabulary import Channel as ChannelCode
from models.vocabulary import MessageState, Recipient
from notifications import fallback, links, mail, queue, reading, templates
from notifications.bounces import Bounce
from notifications.channels import Accepted, Asked, Channel, Envelope, Outcome, Refused, Unknown
from notifications.gathering import Ask, Group, put_together
from notifications.queue import Claimed, End, Result, Verdict, Word
from notifications.stats import Stats

FIRST_CLAIMED, FEWEST_CLAIMED, MOST_CLAIMED = 32, 8, 100
QUICK_SECONDS, SLOW_SECONDS = 2.0, 8.0
"""A batch that took less lets the next one be larger, one that took more makes it smaller, so
that no lease runs out while its message waits for its turn."""
HAND_OVER_SECONDS = 20
"""From the release to the last byte: a third of the lease, so that nobody else can have it."""
MOST_FAULTS = 5
"""Times that a message may fail by our own fault before it is given up."""
AGAIN_SOON = timedelta(seconds=1)
ALARM_BEFORE = timedelta(minutes=15)
"""So long before a message is of no use any more it is for people to say."""
CLOCKS_APART = timedelta(seconds=30)
"""How far a provider's clock may be from ours when it is asked."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many messages a second over a while; a bucket of `burst` evens it out."""

    name: str
    per_second: float
    burst: float


@dataclass(slots=True)
class Sender:
    """A way out with a database connection of its own."""

    channel: Channel
    connection: Connection[Any] | None = None
    clinic_id: UUID | None = None
    """The clinic that the connection has entered."""

    def enter(self, clinic_id: UUID) -> None:
        """See this clinic's rows from now on."""
        if self.connection is not None and self.clinic_id != clinic_id:
            queue.enter(self.connection, clinic_id)
            self.clinic_id = clinic_id


@dataclass(slots=True)
class Delivery:
    """Delivers what is due on one channel. Threads may call `sweep`; one at a time works."""

    connect: Callable[[], Connection[Any]]
    """Opens a connection as the worker; it commits each statement."""
    channels: Sequence[Channel]
    """As many messages are handed over side by side."""
    clock: Callable[[], datetime]
    public_url: str
    secret: str = ""
    unready: Callable[[UUID, Sequence[UUID]], set[UUID]] = lambda _clinic, ids: set(ids)
    """Which of a clinic's visits have a gate that is shut."""
    code: ChannelCode = ChannelCode.EMAIL
    rate: Rate | None = None
    stats: Stats = field(default_factory=Stats)
    stop: threading.Event = field(default_factory=threading.Event)
    at: Callable[[str], None] = lambda _point: None
    """Called at named points of a message's way; fault tests end the process there."""
    ticked_at: float = field(default_factory=time.monotonic)
    """When a message was last dealt with, for the watchdog: a slow server is not a stuck worker."""
    held_until: float = 0.0
    """By the monotonic clock: nothing is claimed before, the rate is used up."""
    _busy: threading.Lock = field(default_factory=threading.Lock)
    senders: list[Sender] = field(init=False)
    _main: Connection[Any] | None = None
    _size: int = FIRST_CLAIMED

    def __post_init__(self) -> None:
        self.senders = [Sender(channel) for channel in self.channels]

    def sweep(self) -> int:
        """Deliver everything that is due; say how many messages were looked at."""
        with self._busy:
            try:
                return self._sweep()
            except psycopg.OperationalError:
                self._disconnect()
                raise

    def next_due(self) -> datetime | None:
        """When the next message is due."""
        with self._busy:
            return queue.next_due(self._connection(), self.code)

    def tidy(self) -> None:
        """Take back what dead workers held, say again what may be, end what is useless.

        What could not be said in time is for people to say.
        """
        now = self.clock()
        with self._busy:
            connection = self._connection()
            reaped = queue.reap(connection, now)
            resent = queue.resend(connection)
            with connection.transaction():  # nothing ends unsaid without somebody who calls
                expired = queue.expire(connection, now)
                self.at("expired")
                self._have_people_call(expired, now)
        if reaped or resent or expired:
            log.warning("messages.tidied", reaped=reaped, resent=resent, expired=len(expired))

    def alarm(self) -> None:
        """Have people say what soon is of no use and could not be said in a whole round.

        After hours of downtime much is about to expire and goes out in the first round: about
        that nobody needs to call.
        """
        self.sweep()
        if self.stop.is_set():
            return
        now = self.clock()
        with self._busy:
            expiring = queue.expiring(self._connection(), self.code, now, ALARM_BEFORE)
            self._have_people_call(expiring, now)
        if expiring:
            log.error("messages.about-to-expire", number=len(expiring))

    def _have_people_call(self, messages: Sequence[tuple[UUID, UUID]], now: datetime) -> None:
        connection = self._connection()
        for clinic_id, message_id in messages:
            queue.enter(connection, clinic_id)
            with connection.transaction():
                fallback.have_somebody_call(connection, message_id, now)

    def resolve(self) -> None:
        """Ask the provider about what is uncertain, where it can be asked.

        What it has was sent. What it never saw is said, if it still stands.
        """
        channel = self.channels[0]
        if not isinstance(channel, Asked):
            return
        with self._busy:
            connection = self._connection()
            for one in queue.unclear(connection, self.code):
                queue.enter(connection, one.clinic_id)
                letter = reading.letters(connection, [one.id]).get(one.id)
                if letter is None or not letter.address:
                    continue
                seen = channel.find(one.provider, letter.address, one.released_at - CLOCKS_APART)
                if seen is None:
                    continue
                references = [there.reference for there in seen]
                is_there = queue.resolve(
                    connection, one.id, letter.address, references, self.clock()
                )
                log.info("message.resolved", message_id=str(one.id), seen=is_there)

    def close(self) -> None:
        """Let go of channels and connections."""
        with self._busy:
            for channel in self.channels:
                channel.close()
            self._disconnect()

    def _sweep(self) -> int:
        looked_at = 0
        while not self.stop.is_set():
            connection = self._connection()
            size = self._allowed(connection)
            if size == 0:
                break
            batch = queue.claim(connection, self.code, self.clock(), size)
            self.stats.claimed(len(batch))
            if batch:
                self.at("claimed")
            begun = time.monotonic()
            self._deliver(connection, batch)
            looked_at += len(batch)
            if len(batch) < size:
                break
            self._resize(time.monotonic() - begun)
        return looked_at

    def _allowed(self, connection: Connection[Any]) -> int:
        """How many may be claimed now."""
        if self.rate is None:
            return self._size
        if time.monotonic() < self.held_until:
            return 0
        rate = self.rate
        allowed = queue.allowance(connection, rate.name, rate.per_second, rate.burst, self._size)
        if allowed == 0:
            self.held_until = time.monotonic() + 1 / rate.per_second
        return allowed

    def _resize(self, took: float) -> None:
        if took < QUICK_SECONDS:
            self._size = min(self._size * 2, MOST_CLAIMED)
        elif took > SLOW_SECONDS:
            self._size = max(self._size // 2, FEWEST_CLAIMED)

    def _deliver(self, connection: Connection[Any], batch: Sequence[Claimed]) -> None:
        self.ticked_at = time.monotonic()
        groups = put_together(
            connection,
            batch,
            self.clock(),
            Ask(
                page=self._page,
                escort_page=self._escort_page,
                account_page=self._account_page,
                unready=self.unready,
                broken=self._broken,
            ),
        )
        senders = self._ready()
        if len(senders) == 1 or len(groups) == 1:
            for group in groups:
                self._send(senders[0], group)
            return
        waiting = iter(groups)
        turn = threading.Lock()

        def work(sender: Sender) -> None:
            while True:
                with turn:
                    group = next(waiting, None)
                if group is None:
                    return
                self._send(sender, group)

        with ThreadPoolExecutor(len(senders), "sender") as pool:
            for done in [pool.submit(work, sender) for sender in senders]:
                done.result()

    def _send(self, sender: Sender, group: Group) -> None:
        """Take one letter, or several to the same reader, all the way."""
        self.ticked_at = time.monotonic()
        if self.stop.is_set():
            self._settle(sender, group, [Result(message=one, end=End.PUT_BACK) for one in group])
            return
        try:
            envelope = self._write(group)
        except Exception:  # whatever is wrong with it, the next one goes out
            log.exception("message.broken", message_id=str(group.first.id), kind=group.first.kind)
            self._settle(sender, group, [self._broken(one) for one in group])
            return
        try:
            connection = self._connection_of(sender, group)
            version = group.reader_version
            if not queue.release(connection, group.messages, version, self.clock()):
                self._settle(sender, group, [self._refused(connection, one) for one in group])
                return
        except psycopg.Error:  # noted or not, nothing was handed over
            self._settle(sender, group, [self._again_soon(one) for one in group])
            return
        self.at("released")
        begun = time.monotonic()
        try:
            outcome = sender.channel.hand_over(envelope)
        except Exception:  # a fault of ours after the release: nobody knows
            log.exception("channel.broken", message_id=str(group.first.id))
            outcome = Unknown("channel-fault")
        took = time.monotonic() - begun
        self.at("handed-over")
        self._settle(sender, group, [self._result(one, outcome) for one in group], outcome)
        self._note(group, outcome, took)

    def _write(self, group: Group) -> Envelope:
        first, now = group.letters[0], self.clock()
        unsubscribe = ""
        if first.recipient is Recipient.PATIENT and self.code is ChannelCode.EMAIL:
            token = links.unsubscribe_token(self.secret, first.clinic_id, first.reader_id)
            unsubscribe = f"{self.public_url}/u/{token}"
        said = templates.render(group.letters, templates.Links(group.pages, unsubscribe), group.own)
        is_mail = self.code is ChannelCode.EMAIL
        content = (
            mail.build(group.letters, said, now, unsubscribe) if is_mail else said.body.encode()
        )
        useful = min(one.not_after for one in group) - now
        return Envelope(
            name=f"{group.first.kind}-{group.first.id}",
            sender=first.clinic_email if is_mail else (first.sms_from or ""),
            recipient=first.address or "",
            content=content,
            due_at=group.first.due_at,
            give_up_at=time.monotonic() + HAND_OVER_SECONDS,
            valid_seconds=int(useful.total_seconds()),
            callback=f"{self.public_url}/hooks/sms/{first.clinic_id}/status/{group.first.id}",
        )

    def _page(self, token: str) -> str:
        return f"{self.public_url}/p/{token}"

    def _escort_page(self, clinic_id: UUID, escort_id: UUID) -> str:
        return f"{self.public_url}/e/{links.escort_token(self.secret, clinic_id, escort_id)}"

    def _account_page(self, token: str) -> str:
        return f"{self.public_url}/sign-in/new-password/{token}"

    def _refused(self, connection: Connection[Any], message: Claimed) -> Result:
        """What becomes of a message that was not released."""
        now = self.clock()
        verdict = queue.why_not(connection, message, now)
        log.info("message.not-sent", message_id=str(message.id), why=verdict)
        match verdict:
            case Verdict.SUPERSEDED | Verdict.EXPIRED | Verdict.SUPPRESSED:
                return Result(message=message, end=End(verdict.value))
            case _:
                return self._again_soon(message)

    def _again_soon(self, message: Claimed) -> Result:
        return Result(message=message, end=End.AGAIN, due_at=self.clock() + AGAIN_SOON)

    def _result(self, message: Claimed, outcome: Outcome) -> Result:
        now = self.clock()
        match outcome:
            case Accepted(provider, reference):
                return Result(
                    message=message, end=End.SENT, provider=provider, provider_ref=reference
                )
            case Unknown(code, provider):
                return Result(message=message, end=End.UNCERTAIN, code=code, provider=provider)
            case Refused(code, for_ever=True):
                return Result(message=message, end=End.FAILED, code=code)
            case Refused(code, wait_seconds=wait):
                pause = queue.backoff(message.attempts, random.random())  # noqa: S311
                pause = max(pause, timedelta(seconds=wait or 0))
                return Result(message=message, end=End.AGAIN, code=code, due_at=now + pause)
        raise AssertionError(outcome)

    def _broken(self, message: Claimed) -> Result:
        if message.attempts >= MOST_FAULTS:
            return Result(message=message, end=End.FAILED, code="internal")
        again = self.clock() + queue.backoff(message.attempts, random.random())  # noqa: S311
        return Result(message=message, end=End.AGAIN, code="internal", due_at=again)

    def _settle(
        self,
        sender: Sender,
        group: Group,
        results: Sequence[Result],
        outcome: Outcome | None = None,
    ) -> None:
        """Write the results down, also if the database is away for a moment.

        If it stays away, the lease ends and the message counts as uncertain.
        """
        for pause in (0.2, 1.0, 3.0, 10.0, None):
            try:
                self._settle_once(self._connection_of(sender, group), group, results, outcome)
                return
            except psycopg.Error:
                log.warning("message.result-not-kept", message_id=str(group.first.id))
                self._reconnect(sender)
                if pause is None or self.stop.wait(pause):
                    return

    def _settle_once(
        self,
        connection: Connection[Any],
        group: Group,
        results: Sequence[Result],
        outcome: Outcome | None,
    ) -> None:
        now = self.clock()
        if all(one.end is End.SENT for one in results):
            queue.settle(connection, results, now)
            return
        with connection.transaction():
            fallback.after(connection, queue.settle(connection, results, now), now)
            if isinstance(outcome, Refused) and outcome.bad_address and group.to_patient:
                fallback.give_up_address(connection, group.first.recipient_id, self.code, now)

    def _note(self, group: Group, outcome: Outcome, took: float) -> None:
        late = (self.clock() - group.first.due_at).total_seconds()
        told = type(outcome).__name__.lower()
        provider = getattr(outcome, "provider", None) or self.code.value
        self.stats.handed_over(provider, told, took, late)
        for message in group:
            log.info(
                "message.handed-over",
                message_id=str(message.id),
                kind=message.kind,
                outcome=told,
                late=round(late, 3),
            )

    def _connection(self) -> Connection[Any]:
        if self._main is None or self._main.closed:
            self._main = self.connect()
        return self._main

    def _ready(self) -> list[Sender]:
        first = self.senders[0]  # it shares the connection on which letters are put together
        first.connection, first.clinic_id = self._connection(), None
        return self.senders

    def _connection_of(self, sender: Sender, group: Group) -> Connection[Any]:
        if sender.connection is None or sender.connection.closed:
            sender.connection, sender.clinic_id = self.connect(), None
        sender.enter(group.first.clinic_id)
        return sender.connection

    def _reconnect(self, sender: Sender) -> None:
        if sender.connection is not None:
            sender.connection.close()
        sender.connection = None

    def _disconnect(self) -> None:
        for held in (self._main, *(sender.connection for sender in self.senders)):
            if held is not None:
                held.close()
        self._main = None


def returned(connection: Connection[Any], bounce: Bounce, now: datetime) -> str:
    """Settle the message that a returned mail names, in whichever clinic; say what was done."""
    row = connection.execute(_WHOSE, [bounce.message_id]).fetchone()
    if row is None:
        return "There is no such message any more."
    clinic_id, recipient, recipient_id, channel = row
    queue.enter(connection, clinic_id)
    word = Word(
        message_id=bounce.message_id,
        provider="mail",
        reference=str(bounce.message_id),
        status=f"{bounce.means}-{bounce.status}",
        means=bounce.means,
        code=f"bounce-{bounce.status}" if bounce.means is MessageState.FAILED else None,
    )
    with connection.transaction():
        state = queue.receive(connection, word, now)
        if state is MessageState.FAILED:
            fallback.fall_over(connection, [bounce.message_id], now)
            if bounce.bad_address and recipient == Recipient.PATIENT:
                way = ChannelCode(channel)
                fallback.give_up_address(connection, recipient_id, way, now)
    return "Nothing new." if state is None else f"The message is {state}."


_WHOSE = "SELECT clinic_id, recipient, recipient_id, channel FROM message WHERE id = %s"
