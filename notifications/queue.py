"""The queue: the life of a message, every step one guarded statement.

    scheduled -> sending -> sent -> delivered | failed      superseded, expired, suppressed
        ^           |-> uncertain -> sent | scheduled           end it without being said
        '-----------'

A worker *claims* due messages with a lease, *releases* each one durably (the point of no
return: still this revision, not withdrawn, not too late, nobody opted out, nothing changed
since it was read, the lease still ours), hands it over, and *settles* the result. Whatever
dies before the release is said later; whatever dies after it is `uncertain`, and is never
said again blindly. A step that finds the message in another state does nothing.

The functions take a psycopg connection: the worker's own, which commits each statement, or
the one of a session (`reading.raw`), which commits with it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import Connection, Rollback
from psycopg.rows import class_row
from uuid_utils.compat import uuid7

from models.vocabulary import AppointmentStatus, Channel, MessageKind, MessageState, Recipient
from notifications.cadence import ASSURING, CALM
from notifications.reading import HERE

LEASE = timedelta(seconds=60)
"""How long a claimed message is a worker's own, in machine time."""

BACKOFF = (60, 300, 900, 3600, 10800)
"""Seconds until the next try, after the first, second, ... refusal; the last repeats."""

_STANDS: Mapping[MessageKind, tuple[AppointmentStatus, ...]] = {
    MessageKind.CANCELLATION: (
        AppointmentStatus.CANCELLED,
        AppointmentStatus.ENTERED_IN_ERROR,
    ),
    MessageKind.OFFER: (AppointmentStatus.PROPOSED,),
    **dict.fromkeys(
        (MessageKind.PICK_UP, MessageKind.VISIT_RESUMED),
        (AppointmentStatus.BOOKED, AppointmentStatus.ARRIVED, AppointmentStatus.CHECKED_IN),
    ),
    **dict.fromkeys(
        (
            MessageKind.AFTERCARE,
            MessageKind.CHECK_BACK,
            MessageKind.SAFETY_CHECK,
            MessageKind.SAFETY_UNANSWERED,
            MessageKind.INTEGRATION_UNBOOKED,
            MessageKind.WATCH_LATE,
            MessageKind.PAPERWORK_DUE,
        ),
        (AppointmentStatus.CHECKED_IN, AppointmentStatus.FULFILLED),
    ),
    **dict.fromkeys(
        (
            MessageKind.NOTED,
            MessageKind.OFFER_GONE,
            MessageKind.OPTED_OUT,
            MessageKind.OPTED_IN,
            MessageKind.HELP,
            MessageKind.EMERGENCY,
            MessageKind.MESSAGE_FAILED,
            MessageKind.CRISIS,
            MessageKind.ANSWERS_FLAGGED,
            MessageKind.INCIDENT,
        ),
        tuple(AppointmentStatus),
    ),
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
    subject_id: UUID
    appointment_id: UUID | None
    kind: str
    channel: str
    recipient: str
    recipient_id: UUID
    revision: int
    attempts: int
    due_at: datetime
    not_after: datetime
    conditions: list[str]
    claim_token: UUID


class End(StrEnum):
    """What may become of a claimed message."""

    SENT = "sent"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    AGAIN = "again"
    """Provably not accepted; to be tried later if that is of use."""
    PUT_BACK = "put-back"
    """Not tried at all; to be said later."""
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one claimed message."""

    message: Claimed
    end: End
    due_at: datetime | None = None
    """When it is said or tried again."""
    code: str | None = None
    provider: str | None = None
    provider_ref: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a provider, or a mail server far away, says about a message."""

    message_id: UUID
    provider: str
    reference: str
    status: str
    means: MessageState
    """sent, delivered or failed."""
    code: str | None = None


class Verdict(StrEnum):
    """Why a message was not released."""

    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    STALE = "stale"
    """Its reader was changed since it was read: read it again."""
    LOST = "lost"
    """Not ours any more; whoever has it decides."""


def claim(
    connection: Connection[Any], channel: Channel, now: datetime, limit: int
) -> list[Claimed]:
    """Take up to `limit` due messages of any clinic, the longest due first."""
    with connection.cursor(row_factory=class_row(Claimed)) as cursor:
        cursor.execute(
            _CLAIM,
            {
                "channel": channel.value,
                "now": now,
                "limit": limit,
                "token": uuid7(),
                "lease": LEASE,
            },
        )
        return sorted(cursor.fetchall(), key=lambda one: (one.due_at, one.id))


def enter(connection: Connection[Any], clinic_id: UUID) -> None:
    """Let this connection see the clinic's rows, from now on."""
    connection.execute("SELECT set_config('afterglow.clinic', %s, false)", [str(clinic_id)])


def gather(
    connection: Connection[Any],
    carrier: Claimed,
    kinds: Iterable[MessageKind],
    period: tuple[datetime, datetime],
) -> list[Claimed]:
    """Claim what else waits for the reader of `carrier`, to go with it.

    It is of use at the beginning of the period, and due by its end.
    """
    with connection.cursor(row_factory=class_row(Claimed)) as cursor:
        cursor.execute(
            _GATHER,
            {
                "recipient": carrier.recipient_id,
                "channel": carrier.channel,
                "kinds": [kind.value for kind in kinds],
                "now": period[0],
                "until": period[1],
                "token": carrier.claim_token,
                "lease": LEASE,
            },
        )
        return sorted(cursor.fetchall(), key=lambda one: (one.due_at, one.id))


def lock_readers(connection: Connection[Any], readers: Iterable[UUID]) -> None:
    """Let no other worker put letters to these readers together until the transaction ends."""
    names = sorted(f"say {reader}" for reader in readers)
    connection.execute(_LOCK_NAMES, [names])


def calm_today(
    connection: Connection[Any], readers: Sequence[tuple[UUID, datetime]], token: UUID
) -> set[UUID]:
    """Which of the readers have had a message that could wait, since the instant beside each.

    What other workers have in hand counts; what was claimed under `token` is our own.
    """
    found = connection.execute(
        _CALM_TODAY,
        {
            "readers": [reader for reader, _ in readers],
            "since": [since for _, since in readers],
            "kinds": [kind.value for kind in CALM],
            "token": token,
        },
    )
    return {row[0] for row in found.fetchall()}


def release(
    connection: Connection[Any],
    messages: Sequence[Claimed],
    reader_version: int,
    now: datetime,
) -> bool:
    """Pass the point of no return with `messages`, which go out together; all of them or none.

    `reader_version` is the version of the reader that was read. Committed durably when this
    returns. If it is refused, `why_not` says why, for each.
    """
    if len(messages) == 1:
        return _release(connection, messages[0], messages[0], reader_version, now)
    with connection.transaction() as whole:
        for message in messages:
            if not _release(connection, message, messages[0], reader_version, now):
                raise Rollback(whole)
        return True
    return False


def why_not(connection: Connection[Any], message: Claimed, now: datetime) -> Verdict:
    """Say why a message cannot be released now."""
    row = connection.execute(
        _LOOK, {"id": message.id, "clinic": message.clinic_id, "token": message.claim_token}
    ).fetchone()
    if row is None or not row[1]:
        return Verdict.LOST
    withdrawn, _, status, revision, silent = row
    if withdrawn or (
        message.appointment_id is not None
        and (status not in stands_for(MessageKind(message.kind)) or revision != message.revision)
    ):
        return Verdict.SUPERSEDED
    if message.not_after < now:
        return Verdict.EXPIRED
    return Verdict.SUPPRESSED if silent else Verdict.STALE


def settle(
    connection: Connection[Any], results: Sequence[Result], now: datetime
) -> dict[UUID, MessageState]:
    """Write down what became of claimed messages. Returns the state of those that were ours.

    A result that the machine forgets in a crash is found again as `uncertain`, so this does
    not wait for the disk.
    """
    if not results:
        return {}
    rows = connection.execute(
        _SETTLE,
        {
            "clinic": [one.message.clinic_id for one in results],
            "id": [one.message.id for one in results],
            "token": [one.message.claim_token for one in results],
            "outcome": [one.end.value for one in results],
            "due_at": [one.due_at for one in results],
            "code": [one.code for one in results],
            "provider": [one.provider for one in results],
            "provider_ref": [one.provider_ref for one in results],
            "now": now,
        },
    )
    return {row[0]: MessageState(row[1]) for row in rows.fetchall()}


def reap(connection: Connection[Any], now: datetime) -> int:
    """Take back what dead workers held. What they had released is uncertain."""
    return connection.execute(_REAP, {"now": now}).rowcount


def resend(connection: Connection[Any]) -> int:
    """Say once more what may be said twice and is uncertain for a while."""
    kinds = [kind.value for kind in RESENT]
    return connection.execute(_RESEND, {"kinds": kinds, "after": RESEND_AFTER}).rowcount


def expire(connection: Connection[Any], now: datetime) -> list[tuple[UUID, UUID]]:
    """End the scheduled messages whose time of use is over. Returns their clinics and ids."""
    return connection.execute(_EXPIRE, {"now": now}).fetchall()


def expiring(
    connection: Connection[Any], channel: Channel, now: datetime, within: timedelta
) -> list[tuple[UUID, UUID]]:
    """Messages that are due or failed before, and soon of no use. Returns their clinics and ids.

    Those that somebody claims at this moment are not among them.
    """
    asked = {"channel": channel.value, "now": now, "soon": now + within}
    return connection.execute(_EXPIRING, asked).fetchall()


def receive(connection: Connection[Any], word: Word, now: datetime) -> MessageState | None:
    """Let a provider's word about a message settle it. Returns the state it made, if it did.

    Words come late, twice and in any order: each counts once, a better one wins, and one that
    proves acceptance ends all doubt, also while the sender has not written its own result.
    """
    values = {
        "receipt": uuid7(),
        "id": word.message_id,
        "provider": word.provider,
        "event": f"{word.reference}:{word.status}",
        "status": word.status,
        "reference": word.reference,
        "code": word.code,
        "state": word.means.value,
        "from": [state.value for state in _BEFORE[word.means]],
        "now": now,
    }
    if connection.execute(_RECEIPT, values).rowcount == 0:
        return None
    changed = connection.execute(_RECEIVE, values).rowcount
    return word.means if changed else None


def again(
    connection: Connection[Any], message_id: UUID, now: datetime, not_after: datetime
) -> bool:
    """Say a failed, expired or uncertain message once more: somebody of the staff decided so."""
    values = {"id": message_id, "now": now, "not_after": not_after}
    return connection.execute(_AGAIN, values).rowcount == 1


@dataclass(frozen=True, slots=True)
class Unclear:
    """An uncertain message whose provider may be asked."""

    id: UUID
    clinic_id: UUID
    provider: str | None
    released_at: datetime


def unclear(connection: Connection[Any], channel: Channel) -> list[Unclear]:
    """Uncertain messages old enough that their provider must know of them, of any clinic."""
    with connection.cursor(row_factory=class_row(Unclear)) as cursor:
        cursor.execute(_UNCLEAR, {"channel": channel.value, "after": RESEND_AFTER})
        return cursor.fetchall()


def resolve(
    connection: Connection[Any],
    message_id: UUID,
    address: str,
    references: Sequence[str],
    now: datetime,
) -> bool:
    """End the doubt about a message, given what the provider took for its address since then.

    One of `references` that is no other message's is this one's: it was sent. If there is none,
    the provider never had it, and it may be said, if it still stands. Says which.
    """
    with connection.transaction():
        # Several readers may share an address, and several workers may ask.
        connection.execute(_LOCK_NAMES, [[f"resolve {address}"]])
        taken = {row[0] for row in connection.execute(_TAKEN, [list(references)]).fetchall()}
        free = [reference for reference in references if reference not in taken]
        if free:
            connection.execute(_FOUND, {"id": message_id, "reference": free[0], "now": now})
        else:
            connection.execute(_NEVER_SEEN, {"id": message_id, "now": now})
    return bool(free)


def archive(connection: Connection[Any], before: datetime) -> int:
    """Move messages that ended before then, and whose visit is over, into the archive."""
    months = connection.execute(_MONTHS, {"before": before}).fetchall()
    for (month,) in months:
        connection.execute("SELECT keep_message_month(%s)", [month])
    return connection.execute(_ARCHIVE, {"before": before}).rowcount if months else 0


def drop(connection: Connection[Any], reader: UUID, channel: Channel, now: datetime) -> list[UUID]:
    """End what waits for a reader on a channel, unsaid. Returns the ids."""
    values = {"reader": reader, "channel": channel.value, "now": now}
    return [row[0] for row in connection.execute(_DROP, values).fetchall()]


def rest(connection: Connection[Any], backed_up_at: datetime, now: datetime) -> int:
    """Say nothing any more until `resume`: the database was restored from a backup.

    What is due by now may have been said by what was lost since the backup: it is uncertain.
    Returns how many are. As the owner, past row-level security.
    """
    connection.execute(_REST, {"id": uuid7(), "backed_up_at": backed_up_at, "now": now})
    return connection.execute(_DOUBT, {"now": now}).rowcount


def resting_since(connection: Connection[Any]) -> datetime | None:
    """When the database was restored, if nobody has resumed yet."""
    row = connection.execute(_RESTING_SINCE).fetchone()
    since: datetime | None = row[0] if row else None
    return since


def resume(connection: Connection[Any], now: datetime) -> None:
    """Say again what is due. As the owner."""
    connection.execute(_RESUME, {"now": now})


def next_due(connection: Connection[Any], channel: Channel) -> datetime | None:
    """When the next message is due. None: none is planned, or nothing is said for now."""
    row = connection.execute(_NEXT_DUE, [channel.value]).fetchone()
    due: datetime | None = row[0] if row else None
    return due


def allowance(
    connection: Connection[Any], name: str, per_second: float, burst: float, wanted: int
) -> int:
    """Take up to `wanted` places from a bucket that fills at `per_second`, up to `burst`.

    The bucket is a row: what is left of it survives restarts, and all workers share it.
    """
    connection.execute(_BUCKET, {"name": name, "burst": burst})
    values = {"name": name, "rate": per_second, "burst": burst, "wanted": wanted}
    row = connection.execute(_ALLOWANCE, values).fetchone()
    assert row is not None
    return int(row[0])


def backoff(attempts: int, share: float) -> timedelta:
    """How long to wait after so many tries; `share`, 0 to 1, spreads those that failed together."""
    seconds = BACKOFF[min(max(attempts, 1), len(BACKOFF)) - 1]
    return timedelta(seconds=seconds * (0.8 + 0.4 * share))


def _release(
    connection: Connection[Any],
    message: Claimed,
    carrier: Claimed,
    reader_version: int,
    now: datetime,
) -> bool:
    released = connection.execute(
        _RELEASES[Recipient(message.recipient)],
        {
            "id": message.id,
            "clinic": message.clinic_id,
            "token": message.claim_token,
            "lease": LEASE,
            "now": now,
            "carrier": None if carrier is message else carrier.id,
            "stands": [status.value for status in stands_for(MessageKind(message.kind))],
            "assuring": [kind.value for kind in ASSURING],
            "reader": message.recipient_id,
            "version": reader_version,
        },
    )
    return released.rowcount == 1


_COLUMNS = """m.id, m.clinic_id, m.subject_id, m.appointment_id, m.kind, m.channel, m.recipient,
              m.recipient_id, m.revision, m.attempts, m.due_at, m.not_after, m.conditions,
              m.claim_token"""

AT_WORK = "NOT EXISTS (SELECT FROM restoration WHERE resumed_at IS NULL)"
"""Nothing is said, in whatever way, while a database that was restored has not been resumed."""

OPEN = "NOT IN (SELECT id FROM tenancy WHERE status <> 'active')"
"""What is to be said for a clinic that is suspended or closed stands still: it is said once its
doors are open again, if it is of use then."""

_CLAIM = f"""
    WITH due AS MATERIALIZED (
        SELECT clinic_id, id, set_config('synchronous_commit', 'off', true) FROM message
         WHERE state = 'scheduled' AND channel = %(channel)s AND due_at <= %(now)s
           AND clinic_id {OPEN} AND {AT_WORK}
         ORDER BY due_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    UPDATE message m
       SET state = 'sending', claim_token = %(token)s, attempts = m.attempts + 1,
           carried_by = NULL, leased_until = clock_timestamp() + %(lease)s
      FROM due WHERE m.clinic_id = due.clinic_id AND m.id = due.id
    RETURNING {_COLUMNS}
"""
"""A claim that a crash of the machine forgets was not yet released: nothing is lost by not
waiting for the disk."""

_GATHER = f"""
    WITH due AS MATERIALIZED (
        SELECT clinic_id, id FROM message
         WHERE clinic_id = {HERE} AND state = 'scheduled'
           AND recipient_id = %(recipient)s AND channel = %(channel)s
           AND kind = ANY(%(kinds)s) AND due_at <= %(until)s AND not_after >= %(now)s
           AND conditions = '{{}}'
         ORDER BY due_at, id LIMIT 20 FOR UPDATE SKIP LOCKED
    )
    UPDATE message m
       SET state = 'sending', claim_token = %(token)s, attempts = m.attempts + 1,
           carried_by = NULL, leased_until = clock_timestamp() + %(lease)s
      FROM due WHERE m.clinic_id = due.clinic_id AND m.id = due.id
    RETURNING {_COLUMNS}
"""

_LOCK_NAMES = """
    SELECT pg_advisory_xact_lock(hashtextextended(name, 0))
      FROM unnest(%s::text[]) AS name ORDER BY name
"""

_CALM_TODAY = f"""
    SELECT DISTINCT m.recipient_id
      FROM unnest(%(readers)s::uuid[], %(since)s::timestamptz[]) AS asked (reader, since)
      JOIN message m ON m.clinic_id = {HERE} AND m.recipient_id = asked.reader
       AND m.kind = ANY(%(kinds)s)
     WHERE m.due_at >= asked.since - interval '31 d' AND (m.sent_at >= asked.since
        OR (m.due_at >= asked.since AND (m.state = 'uncertain'
            OR (m.state = 'sending' AND m.claim_token <> %(token)s))))
"""

_RELEASE = """
    UPDATE message m
       SET released_at = clock_timestamp(), carried_by = %(carrier)s,
           leased_until = clock_timestamp() + %(lease)s
     WHERE m.clinic_id = %(clinic)s AND m.id = %(id)s AND m.claim_token = %(token)s
       AND m.state = 'sending' AND m.released_at IS NULL AND NOT m.withdrawn
       AND m.leased_until > clock_timestamp() AND m.not_after >= %(now)s
       AND (m.appointment_id IS NULL
            OR EXISTS (SELECT FROM appointment a WHERE a.clinic_id = m.clinic_id
                          AND a.id = m.appointment_id AND a.revision = m.revision
                          AND a.status = ANY(%(stands)s)
                          AND (a.suspended_at IS NULL OR m.kind <> ALL(%(assuring)s))))
"""
"""The row is locked by this statement, and a change of the visit withdraws its messages under
the same lock: one of the two comes first, and the other sees it."""

_RELEASES: Mapping[Recipient, str] = {
    Recipient.PATIENT: _RELEASE
    + """
       AND EXISTS (SELECT FROM patient p WHERE p.clinic_id = m.clinic_id AND p.id = %(reader)s
                      AND p.version = %(version)s
                      AND (m.channel <> ALL(p.opted_out)
                           OR m.kind IN ('opted-out', 'opted-in', 'help', 'emergency')))
    """,
    Recipient.ESCORT: _RELEASE
    + """
       AND EXISTS (SELECT FROM escort e WHERE e.clinic_id = m.clinic_id AND e.id = %(reader)s
                      AND e.version = %(version)s AND e.may_message)
    """,
    Recipient.PRACTITIONER: _RELEASE
    + """
       AND EXISTS (SELECT FROM practitioner w WHERE w.clinic_id = m.clinic_id
                      AND w.id = %(reader)s AND w.version = %(version)s)
    """,
    Recipient.FRONT_DESK: _RELEASE,
    Recipient.USER: _RELEASE
    + """
       AND EXISTS (SELECT FROM user_account u WHERE u.clinic_id = m.clinic_id
                      AND u.id = %(reader)s AND u.version = %(version)s
                      AND u.status <> 'disabled')
    """,
}

_LOOK = """
    SELECT m.withdrawn, m.leased_until > clock_timestamp() AND m.released_at IS NULL AS mine,
           a.status, a.revision,
           CASE m.recipient
                WHEN 'patient' THEN p.id IS NULL OR (m.channel = ANY(p.opted_out)
                     AND m.kind NOT IN ('opted-out', 'opted-in', 'help', 'emergency'))
                WHEN 'escort' THEN e.id IS NULL OR NOT e.may_message
                ELSE false END AS silent
      FROM message m
      LEFT JOIN appointment a ON a.clinic_id = m.clinic_id AND a.id = m.appointment_id
      LEFT JOIN patient p ON p.clinic_id = m.clinic_id AND p.id = m.recipient_id
      LEFT JOIN escort e ON e.clinic_id = m.clinic_id AND e.id = m.recipient_id
     WHERE m.clinic_id = %(clinic)s AND m.id = %(id)s AND m.claim_token = %(token)s
       AND m.state = 'sending'
"""

_SETTLE = """
    WITH result AS MATERIALIZED (
        SELECT r.*, set_config('synchronous_commit', 'off', true)
          FROM unnest(%(clinic)s::uuid[], %(id)s::uuid[], %(token)s::uuid[], %(outcome)s::text[],
                      %(due_at)s::timestamptz[], %(code)s::text[], %(provider)s::text[],
                      %(provider_ref)s::text[])
               AS r (clinic_id, id, token, outcome, due_at, code, provider, provider_ref)
    ), judged AS MATERIALIZED (
        SELECT m.clinic_id, m.id, r.outcome, r.due_at, r.code, r.provider, r.provider_ref,
               CASE WHEN r.outcome NOT IN ('again', 'put-back') THEN r.outcome
                    WHEN m.withdrawn THEN 'superseded'
                    WHEN r.due_at > m.not_after THEN 'expired'
                    ELSE 'scheduled' END AS state
          FROM result r
          JOIN message m ON m.clinic_id = r.clinic_id AND m.id = r.id
           AND m.claim_token = r.token AND m.state = 'sending'
         ORDER BY m.id FOR UPDATE OF m
    )
    UPDATE message m
       SET state = j.state,
           due_at = CASE WHEN j.state = 'scheduled' THEN coalesce(j.due_at, m.due_at)
                         ELSE m.due_at END,
           attempts = m.attempts - CASE WHEN j.outcome = 'put-back' THEN 1 ELSE 0 END,
           released_at = CASE WHEN j.outcome = 'again' THEN NULL ELSE m.released_at END,
           sent_at = CASE WHEN j.state = 'sent' THEN %(now)s::timestamptz END,
           done_at = CASE WHEN j.state NOT IN ('scheduled', 'uncertain')
                          THEN %(now)s::timestamptz END,
           provider = coalesce(j.provider, m.provider),
           provider_ref = coalesce(j.provider_ref, m.provider_ref),
           carried_by = CASE WHEN j.state = 'scheduled' THEN NULL ELSE m.carried_by END,
           leased_until = NULL, claim_token = NULL, last_error = j.code, version = m.version + 1
      FROM judged j WHERE m.clinic_id = j.clinic_id AND m.id = j.id
    RETURNING m.id, m.state
"""

_REAP = """
    WITH over AS (
        SELECT clinic_id, id FROM message
         WHERE state = 'sending' AND leased_until < clock_timestamp()
         ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED
    )
    UPDATE message m
       SET state = CASE WHEN released_at IS NOT NULL THEN 'uncertain'
                        WHEN withdrawn THEN 'superseded' ELSE 'scheduled' END,
           done_at = CASE WHEN released_at IS NULL AND withdrawn THEN %(now)s::timestamptz END,
           last_error = 'worker-gone', leased_until = NULL, claim_token = NULL,
           version = m.version + 1
      FROM over WHERE m.clinic_id = over.clinic_id AND m.id = over.id
"""

_RESEND = """
    WITH unclear AS (
        SELECT clinic_id, id FROM message
         WHERE state = 'uncertain' AND NOT withdrawn AND kind = ANY(%(kinds)s)
           AND channel = 'email'
           AND released_at < clock_timestamp() - %(after)s AND NOT said_again
         ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED
    )
    UPDATE message m
       SET state = 'scheduled', released_at = NULL, carried_by = NULL, said_again = true,
           version = m.version + 1
      FROM unclear WHERE m.clinic_id = unclear.clinic_id AND m.id = unclear.id
"""

_EXPIRE = """
    WITH useless AS (
        SELECT clinic_id, id FROM message WHERE state = 'scheduled' AND due_at <= %(now)s
           AND not_after < %(now)s ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED
    )
    UPDATE message m SET state = 'expired', done_at = %(now)s, version = m.version + 1
      FROM useless WHERE m.clinic_id = useless.clinic_id AND m.id = useless.id
    RETURNING m.clinic_id, m.id
"""

_EXPIRING = """
    SELECT clinic_id, id FROM message
     WHERE state = 'scheduled' AND channel = %(channel)s AND due_at <= %(soon)s
       AND not_after < %(soon)s AND (due_at <= %(now)s OR attempts > 0)
       AND due_at <= not_after - interval '1 min'
     ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED
"""

_DROP = f"""
    WITH waiting AS (
        SELECT clinic_id, id FROM message
         WHERE clinic_id = {HERE} AND recipient_id = %(reader)s
           AND channel = %(channel)s AND state = 'scheduled'
           AND kind NOT IN ('opted-out', 'opted-in', 'help', 'emergency')
         ORDER BY id FOR UPDATE
    )
    UPDATE message m SET state = 'suppressed', done_at = %(now)s, last_error = 'rerouted',
           version = m.version + 1
      FROM waiting WHERE m.clinic_id = waiting.clinic_id AND m.id = waiting.id
    RETURNING m.id
"""

_OVER = f"""
    SELECT clinic_id, id, due_at FROM message
     WHERE clinic_id = {HERE} AND done_at < %(before)s AND due_at < %(before)s
       AND (starts_at IS NULL OR starts_at < %(before)s)
       AND state IN ('sent', 'delivered', 'failed', 'superseded', 'expired', 'suppressed')
     ORDER BY due_at, id LIMIT 10000
"""

_MONTHS = f"SELECT DISTINCT date_trunc('month', due_at, 'UTC') FROM ({_OVER}) over"

_ARCHIVE = f"""
    WITH over AS ({_OVER} FOR UPDATE SKIP LOCKED), gone AS (
        DELETE FROM message m USING over
         WHERE m.clinic_id = over.clinic_id AND m.id = over.id RETURNING m.*
    )
    INSERT INTO message_archive
           (clinic_id, id, created_at, subject_id, appointment_id, revision, rule, kind, channel,
            recipient, recipient_id, starts_at, due_at, not_after, state, attempts, carried_by,
            provider, provider_ref, released_at, sent_at, delivered_at, done_at, last_error)
    SELECT clinic_id, id, created_at, subject_id, appointment_id, revision, rule, kind, channel,
           recipient, recipient_id, starts_at, due_at, not_after, state, attempts, carried_by,
           provider, provider_ref, released_at, sent_at, delivered_at, done_at, last_error
      FROM gone
"""

_BEFORE: Mapping[MessageState, tuple[MessageState, ...]] = {
    MessageState.SENT: (MessageState.SENDING, MessageState.UNCERTAIN),
    MessageState.DELIVERED: (MessageState.SENDING, MessageState.UNCERTAIN, MessageState.SENT),
    MessageState.FAILED: (MessageState.SENDING, MessageState.UNCERTAIN, MessageState.SENT),
}
"""The states that a provider's word may end; every other is final for it."""

_RECEIPT = f"""
    INSERT INTO receipt (clinic_id, id, message_id, provider, event, status, at)
    SELECT m.clinic_id, %(receipt)s, m.id, %(provider)s, %(event)s, %(status)s, %(now)s
      FROM message m WHERE m.clinic_id = {HERE} AND m.id = %(id)s
    ON CONFLICT DO NOTHING
"""

_RECEIVE = f"""
    UPDATE message m
       SET state = %(state)s::text, leased_until = NULL, claim_token = NULL,
           sent_at = CASE WHEN %(state)s::text = 'failed' THEN m.sent_at
                          ELSE coalesce(m.sent_at, %(now)s::timestamptz) END,
           delivered_at = CASE WHEN %(state)s::text = 'delivered' THEN %(now)s::timestamptz
                               ELSE m.delivered_at END,
           done_at = %(now)s::timestamptz, last_error = %(code)s,
           provider_ref = coalesce(m.provider_ref, %(reference)s), version = m.version + 1
     WHERE m.clinic_id = {HERE} AND (m.id = %(id)s OR m.id IN (
               SELECT c.id FROM message w
                 JOIN message c ON c.clinic_id = w.clinic_id AND c.recipient_id = w.recipient_id
                  AND c.carried_by = w.id
                WHERE w.clinic_id = {HERE} AND w.id = %(id)s))
       AND m.released_at IS NOT NULL AND m.state = ANY(%(from)s)
"""

_UNCLEAR = """
    SELECT id, clinic_id, provider, released_at FROM message
     WHERE state = 'uncertain' AND channel = %(channel)s AND carried_by IS NULL
       AND released_at < clock_timestamp() - %(after)s
     ORDER BY released_at LIMIT 50
"""

_TAKEN = f"""
    SELECT provider_ref FROM message WHERE clinic_id = {HERE} AND provider_ref = ANY(%s)
"""

_AGAIN = f"""
    UPDATE message m
       SET state = 'scheduled', due_at = %(now)s, not_after = greatest(m.not_after, %(not_after)s),
           attempts = 0, released_at = NULL, done_at = NULL, carried_by = NULL, last_error = NULL,
           version = m.version + 1
     WHERE m.clinic_id = {HERE} AND m.id = %(id)s AND NOT m.withdrawn
       AND m.state IN ('failed', 'expired', 'uncertain')
"""

_FOUND = f"""
    UPDATE message m SET state = 'sent', provider_ref = %(reference)s, sent_at = %(now)s,
           done_at = %(now)s, version = m.version + 1
     WHERE m.clinic_id = {HERE} AND m.id = %(id)s AND m.state = 'uncertain'
"""

_NEVER_SEEN = f"""
    UPDATE message m
       SET state = CASE WHEN m.withdrawn THEN 'superseded' ELSE 'scheduled' END,
           done_at = CASE WHEN m.withdrawn THEN %(now)s::timestamptz END,
           released_at = NULL, carried_by = NULL, version = m.version + 1
     WHERE m.clinic_id = {HERE} AND m.id = %(id)s AND m.state = 'uncertain'
"""

_NEXT_DUE = f"""
    SELECT min(due_at) FROM message WHERE state = 'scheduled' AND channel = %s
       AND clinic_id {OPEN} AND {AT_WORK}
"""

_REST = """
    INSERT INTO restoration (id, backed_up_at, restored_at)
    VALUES (%(id)s, %(backed_up_at)s, %(now)s)
"""

_DOUBT = """
    UPDATE message m
       SET state = 'uncertain', released_at = coalesce(m.released_at, m.due_at),
           leased_until = NULL, claim_token = NULL, last_error = 'restored',
           version = m.version + 1
     WHERE m.state = 'sending' OR (m.state = 'scheduled' AND m.due_at <= %(now)s)
"""

_RESTING_SINCE = "SELECT max(restored_at) FROM restoration WHERE resumed_at IS NULL"

_RESUME = "UPDATE restoration SET resumed_at = %(now)s WHERE resumed_at IS NULL"

_BUCKET = """
    INSERT INTO send_bucket (name, tokens, filled_at)
    VALUES (%(name)s, %(burst)s, clock_timestamp()) ON CONFLICT DO NOTHING
"""

_ALLOWANCE = """
    WITH there AS MATERIALIZED (
        SELECT name, least(%(burst)s::float, tokens + %(rate)s::float
               * greatest(extract(epoch FROM clock_timestamp() - filled_at), 0)) AS tokens
          FROM send_bucket WHERE name = %(name)s FOR UPDATE
    )
    UPDATE send_bucket b
       SET tokens = there.tokens - least(floor(there.tokens), %(wanted)s),
           filled_at = clock_timestamp()
      FROM there WHERE b.name = there.name
    RETURNING least(floor(there.tokens), %(wanted)s)::int
"""
