"""The life of a message. Every arrow is one guarded UPDATE: no row, somebody else moved it.

    scheduled -claim-> sending -release-> sending (released) -accepted-> sent -> delivered, failed
        ^                 |                   |- refused for ever -> failed
        |                 |                   |- refused for now -> scheduled, later
        |                 |                   `- reply lost, or the worker died -> uncertain
        |                 `- no longer stands -> superseded, expired, suppressed
        `- lease over before the release: nothing was said

The release is the durable point of no return: it checks, under the row's lock, everything
that could make the message wrong, and commits before a single byte leaves. After it a crash
leaves `uncertain`, which is never sent again blindly.

Whether a message is due is asked of the clinic's clock (`now`); whether a worker is still
alive is asked of the database's own (`clock_timestamp()`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection, Row, text
from uuid_utils.compat import uuid7

from models.vocabulary import AppointmentStatus, Channel, MessageKind

LEASE = timedelta(seconds=60)
"""How long a claimed message is a worker's own, in machine time."""

BACKOFF = (60, 300, 900, 3600, 10800)
"""Seconds until the next try, after the first, second, ... refusal; the last repeats."""

_STANDS: Mapping[MessageKind, tuple[AppointmentStatus, ...]] = {
    MessageKind.CANCELLATION: (AppointmentStatus.CANCELLED,),
    MessageKind.PICK_UP: (
        AppointmentStatus.BOOKED,
        AppointmentStatus.ARRIVED,
        AppointmentStatus.CHECKED_IN,
    ),
    MessageKind.AFTERCARE: (AppointmentStatus.CHECKED_IN, AppointmentStatus.FULFILLED),
    MessageKind.CHECK_BACK: (AppointmentStatus.CHECKED_IN, AppointmentStatus.FULFILLED),
}

RESENT = frozenset({MessageKind.MOVED, MessageKind.CANCELLATION})
"""If uncertain, said once more under the same Message-ID: hearing it twice is harmless, not
hearing it is not. Every other kind stays uncertain, and staff see it."""

RESEND_AFTER = timedelta(minutes=2)


def stands_for(kind: MessageKind) -> tuple[AppointmentStatus, ...]:
    """The statuses in which a visit must be for a message of this kind to be right."""
    return _STANDS.get(kind, (AppointmentStatus.BOOKED,))


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that is ours for a minute."""

    id: UUID
    clinic_id: UUID
    appointment_id: UUID
    kind: MessageKind
    recipient: str
    recipient_id: UUID
    revision: int
    attempts: int
    due_at: datetime
    not_after: datetime
    token: UUID


class Verdict(StrEnum):
    """What the release says."""

    GO = "go"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    LOST = "lost"
    """Not ours any more; whoever has it decides."""


def claim(connection: Connection, channel: Channel, now: datetime, limit: int) -> list[Claimed]:
    """Take up to `limit` due messages of any clinic, the longest due first."""
    token = uuid7()
    rows = connection.execute(
        _CLAIM,
        {"channel": channel, "now": now, "limit": limit, "token": token, "lease": LEASE},
    )
    return sorted((_claimed(row, token) for row in rows), key=lambda one: (one.due_at, one.id))


def enter(connection: Connection, clinic_id: UUID) -> None:
    """Let this transaction see the clinic's rows."""
    connection.execute(_ENTER, {"clinic": str(clinic_id)})


def release(connection: Connection, message: Claimed, now: datetime) -> Verdict:
    """Pass the point of no return, or say why not. The clinic must have been entered.

    Ends a message that no longer stands: superseded, expired or suppressed.
    """
    row = connection.execute(_LOOK, {"id": message.id, "token": message.token}).one_or_none()
    if row is None:
        return Verdict.LOST
    verdict = _judge(row, message, now)
    if verdict is Verdict.GO:
        connection.execute(_RELEASE, {"id": message.id, "lease": LEASE})
    elif verdict is not Verdict.LOST:
        connection.execute(_END, {"id": message.id, "state": verdict.value, "now": now})
    return verdict


def _judge(row: Row[tuple[object, ...]], message: Claimed, now: datetime) -> Verdict:
    if not row.mine:
        return Verdict.LOST
    stands = row.status in stands_for(message.kind) and row.revision == message.revision
    if row.withdrawn or not stands:
        return Verdict.SUPERSEDED
    if message.not_after < now:
        return Verdict.EXPIRED
    if row.silent:
        return Verdict.SUPPRESSED
    return Verdict.GO


def postpone(connection: Connection, message: Claimed, due_at: datetime) -> bool:
    """Put a message back unsaid, for later."""
    return _guarded(connection, _POSTPONE, message, due_at=due_at)


def expired(connection: Connection, message: Claimed, now: datetime) -> bool:
    """End a message unsaid: it would come too late."""
    return _guarded(connection, _EXPIRED, message, now=now)


def sent(connection: Connection, message: Claimed, now: datetime) -> bool:
    """Note that the message was accepted."""
    return _guarded(connection, _SENT, message, now=now)


@dataclass(frozen=True, slots=True)
class Retry:
    """When a message is tried again, and why."""

    code: str
    now: datetime
    due_at: datetime


def refused(connection: Connection, message: Claimed, retry: Retry) -> bool:
    """Put back a message that was provably not accepted, to be tried later if that is of use."""
    return _guarded(
        connection, _REFUSED, message, due_at=retry.due_at, code=retry.code, now=retry.now
    )


def failed(connection: Connection, message: Claimed, code: str, now: datetime) -> bool:
    """End a message that will never be accepted."""
    return _guarded(connection, _FAILED, message, now=now, code=code)


def uncertain(connection: Connection, message: Claimed, code: str) -> bool:
    """Note that nobody knows whether the message was accepted."""
    return _guarded(connection, _UNCERTAIN, message, code=code)


def reap(connection: Connection, now: datetime) -> int:
    """Take back what dead workers held. What they had released is uncertain."""
    return len(connection.execute(_REAP, {"now": now}).all())


def resolve(connection: Connection) -> int:
    """Say once more what may be said twice and is uncertain for a while."""
    kinds = [kind.value for kind in RESENT]
    rows = connection.execute(_RESOLVE, {"kinds": kinds, "after": RESEND_AFTER})
    return len(rows.all())


def expire(connection: Connection, now: datetime) -> int:
    """End the scheduled messages whose time of use is over."""
    return len(connection.execute(_EXPIRE, {"now": now}).all())


def next_due(connection: Connection, channel: Channel) -> datetime | None:
    """When the next message is due. None: none is planned."""
    due: datetime | None = connection.execute(_NEXT_DUE, {"channel": channel}).scalar()
    return due


def backoff(attempts: int, share: float) -> timedelta:
    """How long to wait after so many tries; `share`, 0 to 1, spreads those that failed together."""
    seconds = BACKOFF[min(attempts, len(BACKOFF)) - 1]
    return timedelta(seconds=seconds * (0.8 + 0.4 * share))


def _guarded(connection: Connection, statement: object, message: Claimed, **more: object) -> bool:
    values = {"id": message.id, "token": message.token, **more}
    return bool(connection.execute(statement, values).rowcount)  # type: ignore[call-overload]


def _claimed(row: Row[tuple[object, ...]], token: UUID) -> Claimed:
    return Claimed(
        row.id,
        row.clinic_id,
        row.appointment_id,
        MessageKind(row.kind),
        row.recipient,
        row.recipient_id,
        row.revision,
        row.attempts,
        row.due_at,
        row.not_after,
        token,
    )


_CLAIM = text(
    """
    WITH due AS MATERIALIZED (
        SELECT clinic_id, id FROM message
         WHERE state = 'scheduled' AND channel = :channel AND due_at <= :now
         ORDER BY due_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE message m
       SET state = 'sending', claim_token = :token, attempts = m.attempts + 1,
           leased_until = clock_timestamp() + CAST(:lease AS interval)
      FROM due WHERE m.clinic_id = due.clinic_id AND m.id = due.id
    RETURNING m.id, m.clinic_id, m.appointment_id, m.kind, m.recipient, m.recipient_id,
              m.revision, m.attempts, m.due_at, m.not_after
    """
)

_ENTER = text("SELECT set_config('afterglow.clinic', :clinic, true)")

_LOOK = text(
    """
    SELECT m.withdrawn, m.leased_until > clock_timestamp() AS mine, a.status, a.revision,
           CASE m.recipient WHEN 'patient' THEN m.channel = ANY(p.opted_out)
                            ELSE e.id IS NULL OR NOT e.may_message END AS silent
      FROM message m
      JOIN appointment a ON a.clinic_id = m.clinic_id AND a.id = m.appointment_id
      LEFT JOIN patient p ON p.clinic_id = m.clinic_id AND p.id = m.recipient_id
      LEFT JOIN escort e ON e.clinic_id = m.clinic_id AND e.id = m.recipient_id
     WHERE m.id = :id AND m.claim_token = :token AND m.state = 'sending'
       FOR UPDATE OF m
    """
)

_RELEASE = text(
    """
    UPDATE message SET released_at = clock_timestamp(),
           leased_until = clock_timestamp() + CAST(:lease AS interval)
     WHERE id = :id
    """
)

_END = text(
    """
    UPDATE message SET state = :state, leased_until = NULL, claim_token = NULL, done_at = :now,
           version = version + 1
     WHERE id = :id
    """
)

_POSTPONE = text(
    """
    UPDATE message
       SET state = CASE WHEN withdrawn THEN 'superseded' ELSE 'scheduled' END,
           done_at = CASE WHEN withdrawn THEN CAST(:due_at AS timestamptz) END,
           due_at = :due_at, attempts = attempts - 1, leased_until = NULL, claim_token = NULL,
           version = version + 1
     WHERE id = :id AND claim_token = :token AND state = 'sending' AND released_at IS NULL
    """
)

_EXPIRED = text(
    """
    UPDATE message
       SET state = CASE WHEN withdrawn THEN 'superseded' ELSE 'expired' END, done_at = :now,
           leased_until = NULL, claim_token = NULL, version = version + 1
     WHERE id = :id AND claim_token = :token AND state = 'sending' AND released_at IS NULL
    """
)

_SENT = text(
    """
    UPDATE message SET state = 'sent', sent_at = :now, done_at = :now, leased_until = NULL,
           claim_token = NULL, last_error = NULL, version = version + 1
     WHERE id = :id AND claim_token = :token AND state = 'sending'
    """
)

_REFUSED = text(
    """
    UPDATE message
       SET state = CASE WHEN withdrawn THEN 'superseded'
                        WHEN CAST(:due_at AS timestamptz) > not_after THEN 'expired'
                        ELSE 'scheduled' END,
           done_at = CASE WHEN withdrawn OR CAST(:due_at AS timestamptz) > not_after
                          THEN CAST(:now AS timestamptz) END,
           due_at = :due_at, released_at = NULL, leased_until = NULL, claim_token = NULL,
           last_error = :code, version = version + 1
     WHERE id = :id AND claim_token = :token AND state = 'sending'
    """
)

_FAILED = text(
    """
    UPDATE message SET state = 'failed', done_at = :now, leased_until = NULL, claim_token = NULL,
           last_error = :code, version = version + 1
     WHERE id = :id AND claim_token = :token AND state = 'sending'
    """
)

_UNCERTAIN = text(
    """
    UPDATE message SET state = 'uncertain', leased_until = NULL, claim_token = NULL,
           last_error = :code, version = version + 1
     WHERE id = :id AND claim_token = :token AND state = 'sending'
    """
)

_REAP = text(
    """
    WITH over AS (
        SELECT clinic_id, id FROM message
         WHERE state = 'sending' AND leased_until < clock_timestamp()
         ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED
    )
    UPDATE message m
       SET state = CASE WHEN released_at IS NOT NULL THEN 'uncertain'
                        WHEN withdrawn THEN 'superseded' ELSE 'scheduled' END,
           done_at = CASE WHEN released_at IS NULL AND withdrawn
                          THEN CAST(:now AS timestamptz) END,
           last_error = 'worker-gone', leased_until = NULL, claim_token = NULL,
           version = m.version + 1
      FROM over WHERE m.clinic_id = over.clinic_id AND m.id = over.id
    RETURNING m.id
    """
)

_RESOLVE = text(
    """
    WITH unclear AS (
        SELECT clinic_id, id FROM message
         WHERE state = 'uncertain' AND NOT withdrawn AND kind = ANY(:kinds)
           AND released_at < clock_timestamp() - CAST(:after AS interval) AND attempts < 2
         ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED
    )
    UPDATE message m SET state = 'scheduled', released_at = NULL, version = m.version + 1
      FROM unclear WHERE m.clinic_id = unclear.clinic_id AND m.id = unclear.id
    RETURNING m.id
    """
)

_EXPIRE = text(
    """
    WITH useless AS (
        SELECT clinic_id, id FROM message WHERE state = 'scheduled' AND due_at <= :now
           AND not_after < :now ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED
    )
    UPDATE message m SET state = 'expired', done_at = :now, version = m.version + 1
      FROM useless WHERE m.clinic_id = useless.clinic_id AND m.id = useless.id
    RETURNING m.id
    """
)

_NEXT_DUE = text("SELECT min(due_at) FROM message WHERE state = 'scheduled' AND channel = :channel")
