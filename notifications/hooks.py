"""Hooks: the life of a delivery to a webhook, every step one guarded statement.

    pending -> sending -> delivered | failed
       ^          |-> held, while its webhook is switched off

Triggers write events and deliveries, in the transaction of the change. A worker *claims* a due
delivery with a lease, reads what it needs, sends it, and *settles* the result. Whatever dies in
between is sent again when the lease is over, under the same `webhook-id`: at least once, and its
receiver can tell. All times are the machine's: a delivery is between machines.

The functions take a psycopg connection: the worker's own, which commits each statement, or
the one of a session (`reading.raw`), which commits with it.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.errors import UniqueViolation
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from models.vocabulary import DeliveryState, Owner, SwitchedOff, TaskKind
from notifications.events import PING
from notifications.queue import AT_WORK, OPEN
from notifications.reading import HERE

LEASE = timedelta(seconds=60)
"""How long a claimed delivery is a worker's own: six times what a try may take."""

PAUSES = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Seconds until the next try, after the first, second, ... failure: 10 tries in three days."""

LONGEST_WAIT = timedelta(hours=24)
"""The most that a receiver may ask us to wait."""

FAILING_FOR = timedelta(days=5)
"""After so long without one that came through, a webhook is switched off."""

EXHAUSTED_AFTER = timedelta(days=3)
"""The same, where a delivery has failed for the last time."""

GONE = 410

NOTE = (
    "A webhook was switched off because nothing came through, or because it wants no more: see "
    "the webhooks. What is held for it goes out once it is switched on."
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is ours for a minute."""

    id: UUID
    clinic_id: UUID
    webhook_id: UUID
    event_id: UUID
    attempts: int
    claim_token: UUID


@dataclass(frozen=True, slots=True)
class Letter:
    """What is sent, and where to."""

    url: str
    type: str
    occurred_at: datetime
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one try."""

    at: datetime
    took: float
    """Seconds."""
    status: int | None = None
    error: str | None = None
    """A code. None: it came through."""
    wait: timedelta = timedelta(0)
    """For how long the receiver asks not to be tried again."""


@dataclass(frozen=True, slots=True)
class End:
    """What follows from a try."""

    state: DeliveryState
    due_at: datetime | None = None
    off: SwitchedOff | None = None
    """Why its webhook is switched off for it."""


def claim(connection: Connection[Any], now: datetime) -> Claimed | None:
    """Take a due delivery of any clinic; None: none is due.

    Of one webhook one is sent at a time, the longest due first; whose turn it is is drawn by
    lot. So one that is slow, or has much to be told, keeps few others waiting.
    """
    while True:
        try:
            with connection.cursor(row_factory=class_row(Claimed)) as cursor:
                cursor.execute(_CLAIM, {"now": now, "token": uuid7(), "lease": LEASE})
                return cursor.fetchone()
        except UniqueViolation:  # somebody else was faster with that webhook
            continue


def read(connection: Connection[Any], claimed: Claimed) -> Letter | None:
    """What is to be sent; None: its webhook is switched off."""
    with connection.cursor(row_factory=class_row(Letter)) as cursor:
        cursor.execute(_READ, {"webhook": claimed.webhook_id, "event": claimed.event_id})
        return cursor.fetchone()


def judge(attempts: int, failing_since: datetime | None, outcome: Outcome) -> End:
    """Say what follows from a try, given how many there were and how long none came through."""
    if outcome.error is None:
        return End(DeliveryState.DELIVERED)
    if outcome.status == GONE:
        return End(DeliveryState.HELD, off=SwitchedOff.GONE)
    failing = outcome.at - (failing_since or outcome.at)
    is_last = attempts > len(PAUSES)
    is_dead = failing >= (EXHAUSTED_AFTER if is_last else FAILING_FOR)
    off = SwitchedOff.FAILING if is_dead else None
    if is_last:
        return End(DeliveryState.FAILED, off=off)
    if is_dead:
        return End(DeliveryState.HELD, off=off)
    pause = timedelta(seconds=PAUSES[attempts - 1] * random.uniform(1, 1.2))  # noqa: S311
    return End(DeliveryState.PENDING, outcome.at + max(pause, min(outcome.wait, LONGEST_WAIT)))


def settle(connection: Connection[Any], claimed: Claimed, outcome: Outcome) -> DeliveryState | None:
    """Write down what came of a try. Returns the state it made; None: it was not ours any more."""
    with connection.transaction():
        row = connection.execute(_LOCK, {"webhook": claimed.webhook_id}).fetchone()
        if row is None:
            return None  # the webhook was removed, and its deliveries with it
        is_off, failing_since = row
        end = judge(claimed.attempts, failing_since, outcome)
        held = end.state is DeliveryState.PENDING and is_off
        state = DeliveryState.HELD if held else end.state
        if not _note(connection, claimed, outcome, End(state, end.due_at)):
            return None
        since = None if outcome.error is None else failing_since or outcome.at
        connection.execute(_SINCE, {"webhook": claimed.webhook_id, "since": since})
        if end.off is not None and not is_off:
            _switch_off(connection, claimed.webhook_id, end.off, outcome.at)
    return state


def put_back(connection: Connection[Any], claimed: Claimed) -> None:
    """Hold a delivery that was not tried, because its webhook is switched off.

    If that was switched on again meanwhile, which lets go of what is held, it is tried after all.
    """
    with connection.transaction():
        row = connection.execute(_LOCK, {"webhook": claimed.webhook_id}).fetchone()
        state = DeliveryState.HELD if row is not None and row[0] else DeliveryState.PENDING
        about = {"id": claimed.id, "token": claimed.claim_token, "state": state.value}
        connection.execute(_PUT_BACK, about)


def reap(connection: Connection[Any]) -> int:
    """Take back what dead workers held: it is sent again."""
    return connection.execute(_REAP).rowcount


def next_due(connection: Connection[Any]) -> datetime | None:
    """When the next delivery is due of which none is being sent. None: none is planned."""
    row = connection.execute(_NEXT_DUE).fetchone()
    due: datetime | None = row[0] if row else None
    return due


def hold(connection: Connection[Any], webhook_id: UUID) -> None:
    """Hold what waits for a webhook that is switched off."""
    connection.execute(_HOLD, {"webhook": webhook_id})


def let_go(connection: Connection[Any], webhook_id: UUID) -> None:
    """Send what was held for a webhook that is switched on again, with all its tries."""
    connection.execute(_LET_GO, {"webhook": webhook_id})
    connection.execute(_WAKE)


def replay(connection: Connection[Any], delivery_id: UUID) -> bool:
    """Send a delivery again at once, with all its tries; whether it could be."""
    done = connection.execute(_REPLAY, {"id": delivery_id}).rowcount == 1
    connection.execute(_WAKE)
    return done


def ping(connection: Connection[Any], webhook_id: UUID, now: datetime) -> UUID:
    """Send a webhook an event that is a test. Returns the delivery's id."""
    event_id, delivery_id = uuid7(), uuid7()
    data = Jsonb({"webhook_id": str(webhook_id)})
    connection.execute(_PING_EVENT, {"event": event_id, "type": PING, "now": now, "data": data})
    connection.execute(_PING, {"delivery": delivery_id, "webhook": webhook_id, "event": event_id})
    connection.execute(_WAKE)
    return delivery_id


def _note(connection: Connection[Any], claimed: Claimed, outcome: Outcome, end: End) -> bool:
    """Write the try and the delivery's state, if it is still ours."""
    noted = connection.execute(
        _SETTLE,
        {
            "id": claimed.id,
            "token": claimed.claim_token,
            "state": end.state.value,
            "due_at": end.due_at,
            "at": outcome.at,
            "status": outcome.status,
            "error": outcome.error,
            "attempt": uuid7(),
            "took": round(outcome.took * 1000),
        },
    )
    return noted.rowcount == 1


def _switch_off(
    connection: Connection[Any], webhook_id: UUID, why: SwitchedOff, now: datetime
) -> None:
    """Switch a webhook off, hold what waits for it, and have somebody look."""
    about = {
        "webhook": webhook_id,
        "why": why.value,
        "now": now,
        "task": uuid7(),
        "kind": TaskKind.CHECK_WEBHOOK.value,
        "owner": Owner.FRONT_DESK.value,
        "note": NOTE,
    }
    connection.execute(_OFF, about)
    connection.execute(_HOLD, about)
    connection.execute(_ASK, about)


_WAITING = f"""
    RECURSIVE waiting AS (
        (SELECT clinic_id, webhook_id FROM webhook_delivery WHERE state = 'pending'
          ORDER BY clinic_id, webhook_id LIMIT 1)
         UNION ALL
        SELECT next.clinic_id, next.webhook_id FROM waiting w CROSS JOIN LATERAL (
            SELECT d.clinic_id, d.webhook_id FROM webhook_delivery d
             WHERE d.state = 'pending' AND (d.clinic_id, d.webhook_id) > (w.clinic_id, w.webhook_id)
             ORDER BY d.clinic_id, d.webhook_id LIMIT 1) next
    ), idle AS (
        SELECT w.clinic_id, w.webhook_id FROM waiting w
         WHERE NOT EXISTS (SELECT FROM webhook_delivery s
                            WHERE s.clinic_id = w.clinic_id AND s.webhook_id = w.webhook_id
                              AND s.state = 'sending')
           AND w.clinic_id {OPEN} AND {AT_WORK}
    )
"""
"""The webhooks for which something waits and nothing is being sent, each found by one step in the
index: many deliveries that wait for one of them cost nothing."""

_CLAIM = f"""
    WITH {_WAITING}, due AS MATERIALIZED (
        SELECT next.clinic_id, next.id FROM (SELECT * FROM idle ORDER BY random()) i
         CROSS JOIN LATERAL (
            SELECT d.clinic_id, d.id FROM webhook_delivery d
             WHERE d.clinic_id = i.clinic_id AND d.webhook_id = i.webhook_id
               AND d.state = 'pending' AND d.due_at <= %(now)s
             ORDER BY d.due_at, d.id LIMIT 1 FOR UPDATE SKIP LOCKED) next
         LIMIT 1
    )
    UPDATE webhook_delivery d
       SET state = 'sending', claim_token = %(token)s, attempts = d.attempts + 1,
           leased_until = clock_timestamp() + %(lease)s, version = d.version + 1
      FROM due WHERE d.clinic_id = due.clinic_id AND d.id = due.id
    RETURNING d.id, d.clinic_id, d.webhook_id, d.event_id, d.attempts, d.claim_token
"""

_NEXT_DUE = f"""
    WITH {_WAITING}
    SELECT min(next.due_at) FROM idle i CROSS JOIN LATERAL (
        SELECT d.due_at FROM webhook_delivery d
         WHERE d.clinic_id = i.clinic_id AND d.webhook_id = i.webhook_id AND d.state = 'pending'
         ORDER BY d.due_at LIMIT 1) next
"""

_READ = f"""
    SELECT w.url, e.type, e.occurred_at, e.data
      FROM webhook w JOIN webhook_event e ON e.clinic_id = w.clinic_id AND e.id = %(event)s
     WHERE w.clinic_id = {HERE} AND w.id = %(webhook)s AND w.disabled_at IS NULL
"""

_LOCK = f"""
    SELECT disabled_at IS NOT NULL, failing_since FROM webhook
     WHERE clinic_id = {HERE} AND id = %(webhook)s FOR NO KEY UPDATE
"""
"""First, as whoever changes a webhook has it: one order of locks, no deadlock."""

_SETTLE = f"""
    WITH ours AS (
        UPDATE webhook_delivery
           SET state = %(state)s::text, due_at = coalesce(%(due_at)s::timestamptz, due_at),
               leased_until = NULL, claim_token = NULL, last_status = %(status)s::int,
               last_error = %(error)s::text,
               delivered_at = CASE WHEN %(state)s::text = 'delivered' THEN %(at)s::timestamptz
                                   ELSE delivered_at END,
               version = version + 1
         WHERE clinic_id = {HERE} AND id = %(id)s AND claim_token = %(token)s
           AND state = 'sending'
        RETURNING clinic_id, id
    )
    INSERT INTO webhook_attempt (clinic_id, id, delivery_id, at, status, error, took_ms)
    SELECT clinic_id, %(attempt)s, id, %(at)s::timestamptz, %(status)s::int, %(error)s::text,
           %(took)s::int
      FROM ours
"""

_SINCE = f"""
    UPDATE webhook SET failing_since = %(since)s::timestamptz
     WHERE clinic_id = {HERE} AND id = %(webhook)s
       AND failing_since IS DISTINCT FROM %(since)s::timestamptz
"""

_OFF = f"""
    UPDATE webhook SET disabled_at = %(now)s, disabled_why = %(why)s, version = version + 1
     WHERE clinic_id = {HERE} AND id = %(webhook)s
"""

_ASK = f"""
    INSERT INTO task (clinic_id, id, kind, owner, urgent, subject_id, due_at, note, status)
    VALUES ({HERE}, %(task)s, %(kind)s, %(owner)s, false, %(webhook)s, %(now)s, %(note)s,
            'requested')
    ON CONFLICT ON CONSTRAINT uq__task__once DO UPDATE
       SET status = 'requested', settled_by = NULL, settled_at = NULL, due_at = excluded.due_at,
           note = excluded.note, remark = NULL, version = task.version + 1
"""

_PUT_BACK = f"""
    UPDATE webhook_delivery
       SET state = %(state)s, attempts = attempts - 1, leased_until = NULL, claim_token = NULL,
           version = version + 1
     WHERE clinic_id = {HERE} AND id = %(id)s AND claim_token = %(token)s AND state = 'sending'
"""

_REAP = """
    WITH over AS (
        SELECT clinic_id, id FROM webhook_delivery
         WHERE state = 'sending' AND leased_until < clock_timestamp()
         ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED
    )
    UPDATE webhook_delivery d
       SET state = 'pending', leased_until = NULL, claim_token = NULL, last_error = 'worker-gone',
           version = d.version + 1
      FROM over WHERE d.clinic_id = over.clinic_id AND d.id = over.id
"""

_HOLD = f"""
    UPDATE webhook_delivery SET state = 'held', version = version + 1
     WHERE clinic_id = {HERE} AND webhook_id = %(webhook)s AND state = 'pending'
"""

_LET_GO = f"""
    UPDATE webhook_delivery
       SET state = 'pending', attempts = 0, due_at = clock_timestamp(), version = version + 1
     WHERE clinic_id = {HERE} AND webhook_id = %(webhook)s AND state = 'held'
"""

_REPLAY = f"""
    UPDATE webhook_delivery
       SET state = 'pending', attempts = 0, due_at = clock_timestamp(), version = version + 1
     WHERE clinic_id = {HERE} AND id = %(id)s AND state IN ('delivered', 'failed', 'pending')
"""

_PING_EVENT = f"""
    INSERT INTO webhook_event (clinic_id, id, type, occurred_at, data)
    VALUES ({HERE}, %(event)s, %(type)s, %(now)s,
            %(data)s::jsonb || jsonb_build_object('clinic_id', {HERE}))
"""

_PING = f"""
    INSERT INTO webhook_delivery (clinic_id, id, webhook_id, event_id)
    VALUES ({HERE}, %(delivery)s, %(webhook)s, %(event)s)
"""

_WAKE = "SELECT pg_notify('webhook_due', '')"
