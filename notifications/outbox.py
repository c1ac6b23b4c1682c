"""The outbox: messages are planned, and taken back, in the transaction of what causes them.

Whoever books, moves or cancels a visit calls these functions before committing; so a visit
never stands without its messages, and a message never outlives its visit's plan. Nothing is
sent here.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models.vocabulary import Channel, MessageKind, MessageState, Recipient
from notifications import fallback, reading
from notifications.cadence import Anchor, Moment, Planned, QuietHours, Rule, Timing, plan

PROMPT = timedelta(seconds=5)
"""A message due sooner than this wakes the worker; a later one it finds by itself."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody a visit's messages are for."""

    recipient: Recipient
    id: UUID
    channel: Channel | None
    """How they are reached. None: they cannot be written to."""
    quiet: QuietHours


@dataclass(frozen=True, slots=True)
class Subject:
    """A visit, as far as what is said about it goes."""

    appointment_id: UUID
    revision: int
    timing: Timing
    cadence: Sequence[Rule]
    readers: Sequence[Reader]

    def only(self, recipient: Recipient) -> "Subject":
        """The same for some of its readers alone: the others have been told what there is."""
        readers = [one for one in self.readers if one.recipient is recipient]
        return replace(self, readers=readers)


@dataclass(frozen=True, slots=True)
class Out:
    """A message that had left, or may have, before its visit was moved or cancelled."""

    id: UUID
    kind: MessageKind
    state: MessageState
    recipient: Recipient
    recipient_id: UUID


def announce(session: Session, subject: Subject, now: datetime) -> None:
    """Plan everything that is to be said about a visit just booked.

    Calling it again adds what was missing (an escort named since) and repeats nothing.
    """
    _insert(session, subject, _due(subject, subject.cadence), now)


def announce_move(session: Session, subject: Subject, now: datetime, *, elsewhere: bool) -> None:
    """Plan what is to be said about a visit just moved; `supersede` comes first.

    Who knows the old time is told of the new one. Who was told nothing yet gets the ordinary
    confirmation, and who was told exactly this time (moved there and back) hears nothing.
    """
    told = _told(session, subject.appointment_id)
    rules: list[Rule] = []
    for reader in subject.readers:
        mine = [rule for rule in subject.cadence if rule.to is reader.recipient]
        if reader.id in told:
            mine = [rule for rule in mine if rule.kind is not MessageKind.CONFIRMATION]
            if elsewhere or told[reader.id] != subject.timing.starts_at:
                mine.append(_at_once("moved", MessageKind.MOVED, reader.recipient))
        rules += mine
    _insert(session, subject, _due(subject, rules), now)


def hand_over(session: Session, subject: Subject, version: int, now: datetime) -> None:
    """Let those hear of a visit who serve it now, and nobody who does not any more.

    `version` is the visit's: who leaves and comes back has messages of their own again.
    """
    told = {
        row.recipient_id for row in session.execute(_STAFF, {"appointment": subject.appointment_id})
    }
    here = {reader.id for reader in subject.readers if reader.recipient is Recipient.PRACTITIONER}
    for gone in sorted(told - here):
        supersede(session, subject.appointment_id, now, gone)
    new = [reader for reader in subject.readers if reader.id in here - told]
    rules = [replace(rule, code=f"{rule.code}@{version}") for rule in subject.cadence]
    subject = replace(subject, readers=new)
    _insert(session, subject, _due(subject, rules), now)


def announce_cancellation(session: Session, subject: Subject, now: datetime) -> None:
    """Plan to tell those who know of the visit that it is off; `supersede` comes first."""
    told = _told(session, subject.appointment_id)
    rules = [
        _at_once("cancelled", MessageKind.CANCELLATION, reader.recipient)
        for reader in subject.readers
        if reader.id in told
    ]
    _insert(session, subject, _due(subject, rules), now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message on its own, outside any cadence."""

    kind: MessageKind
    recipient: Recipient
    recipient_id: UUID
    subject_id: UUID
    """What it speaks of; of one subject an occasion is said once to each reader."""
    occasion: str
    due_at: datetime
    not_after: datetime
    channel: Channel = Channel.EMAIL
    appointment_id: UUID | None = None
    revision: int = 1
    starts_at: datetime | None = None


def notify(session: Session, notice: Notice, now: datetime) -> bool:
    """Plan a notice, once. Returns whether it is new."""
    planned = reading.raw(session).execute(
        _NOTIFY,
        {
            "id": uuid7(),
            "subject": notice.subject_id,
            "appointment": notice.appointment_id,
            "revision": notice.revision,
            "rule": notice.occasion,
            "kind": notice.kind.value,
            "channel": notice.channel.value,
            "recipient": notice.recipient.value,
            "recipient_id": notice.recipient_id,
            "starts_at": notice.starts_at,
            "due_at": notice.due_at,
            "not_after": notice.not_after,
        },
    )
    if planned.rowcount and notice.due_at <= now + PROMPT:
        wake(session)
    return bool(planned.rowcount)


def supersede(
    session: Session,
    appointment_id: UUID,
    now: datetime,
    recipient_id: UUID | None = None,
    kind: MessageKind | None = None,
) -> list[Out]:
    """Take back everything planned about a visit, and say what can no longer be taken back.

    What is being sent at this moment is marked `withdrawn`: it stops if its point of no
    return is still ahead. `recipient_id` limits this to one reader, `kind` to one kind.
    """
    rows = session.execute(
        _SUPERSEDE,
        {
            "appointment": appointment_id,
            "recipient": recipient_id,
            "kind": None if kind is None else kind.value,
            "now": now,
        },
    )
    return [
        Out(
            row.id,
            MessageKind(row.kind),
            MessageState(row.state),
            Recipient(row.recipient),
            row.recipient_id,
        )
        for row in rows
        if row.released
    ]


def heard_last(
    session: Session, appointment_id: UUID, *kinds: MessageKind
) -> dict[UUID, MessageKind]:
    """By reader which of these they heard last, or may have, of a visit at its present time."""
    told = {"appointment": appointment_id, "kinds": [kind.value for kind in kinds]}
    rows = session.execute(_HEARD_LAST, told)
    return {row.recipient_id: MessageKind(row.kind) for row in rows}


def unheard(session: Session, appointment_id: UUID, kind: MessageKind) -> set[UUID]:
    """The readers who were to hear this of a visit and did not: it was withdrawn before."""
    told = {"appointment": appointment_id, "kind": kind.value}
    return set(session.scalars(_UNHEARD, told))


def take_back(
    session: Session, subject_id: UUID, now: datetime, occasion: str | None = None
) -> None:
    """Take back what is planned about something that is no visit, as far as it is not out yet.

    `occasion` limits this to what is said on that one.
    """
    session.execute(_TAKE_BACK, {"subject": subject_id, "occasion": occasion, "now": now})


def wake(session: Session) -> None:
    """Let the workers look at once when this transaction commits."""
    session.execute(_WAKE)


def _due(subject: Subject, rules: Iterable[Rule]) -> list[tuple[Reader, Planned]]:
    chosen = list(rules)
    return [
        (reader, planned)
        for reader in subject.readers
        for planned in plan(
            (rule for rule in chosen if rule.to is reader.recipient), subject.timing, reader.quiet
        )
    ]


def _at_once(code: str, kind: MessageKind, to: Recipient) -> Rule:
    return Rule(
        code=code,
        kind=kind,
        to=to,
        when=Moment(anchor=Anchor.BOOKING),
        not_after=Moment(anchor=Anchor.START),
    )


def _told(session: Session, appointment_id: UUID) -> dict[UUID, datetime]:
    """The start that each reader was last told of, or may have been told of."""
    rows = session.execute(_TOLD, {"appointment": appointment_id})
    return {row.recipient_id: row.starts_at for row in rows}


def _insert(
    session: Session,
    subject: Subject,
    due: Sequence[tuple[Reader, Planned]],
    now: datetime,
) -> None:
    if not due:
        return
    rows = [_row(reader, planned, now) for reader, planned in due]
    connection = reading.raw(session)
    connection.execute(
        _INSERT,
        {
            "rows": json.dumps(rows),
            "appointment": subject.appointment_id,
            "revision": subject.revision,
            "starts_at": subject.timing.starts_at,
        },
    )
    if any(planned.due_at <= now + PROMPT for _, planned in due):
        wake(session)
    unsaid = [UUID(row["id"]) for row in rows if row["state"] == MessageState.SUPPRESSED]
    if unsaid:
        fallback.fall_over(connection, unsaid, now)


def _row(reader: Reader, planned: Planned, now: datetime) -> dict[str, Any]:
    reached = reader.channel is not None
    return {
        "id": str(uuid7()),
        "rule": planned.rule.code,
        "kind": planned.rule.kind,
        "channel": reader.channel or Channel.EMAIL,
        "recipient": reader.recipient,
        "recipient_id": str(reader.id),
        "due_at": planned.due_at.isoformat(),
        "not_after": planned.not_after.isoformat(),
        "conditions": planned.rule.conditions,
        "state": MessageState.SCHEDULED if reached else MessageState.SUPPRESSED,
        "done_at": None if reached else now.isoformat(),
        "last_error": None if reached else "no-address",
    }


_INSERT = """
    INSERT INTO message (id, subject_id, appointment_id, revision, rule, kind, channel,
                         recipient, recipient_id, starts_at, due_at, not_after, conditions, state,
                         done_at, last_error)
    SELECT row.id, %(appointment)s, %(appointment)s, %(revision)s, row.rule, row.kind, row.channel,
           row.recipient, row.recipient_id, %(starts_at)s, row.due_at, row.not_after,
           row.conditions, row.state, row.done_at, row.last_error
      FROM json_to_recordset(%(rows)s::json)
           AS row (id uuid, rule text, kind text, channel text, recipient text, recipient_id uuid,
                   due_at timestamptz, not_after timestamptz, conditions text[], state text,
                   done_at timestamptz, last_error text)
    ON CONFLICT ON CONSTRAINT uq__message__once DO NOTHING
"""
"""All rows in one statement: six ORM objects cost four times as much, and one document less
than an array for each column."""

_NOTIFY = """
    INSERT INTO message (id, subject_id, appointment_id, revision, rule, kind, channel, recipient,
                         recipient_id, starts_at, due_at, not_after, state)
    VALUES (%(id)s, %(subject)s, %(appointment)s, %(revision)s, %(rule)s, %(kind)s, %(channel)s,
            %(recipient)s, %(recipient_id)s, %(starts_at)s, %(due_at)s, %(not_after)s, 'scheduled')
    ON CONFLICT ON CONSTRAINT uq__message__once DO NOTHING
"""

_WITHDRAW = """
    WITH standing AS (
        SELECT clinic_id, id FROM message
         WHERE {which} AND NOT withdrawn
           AND state IN ('scheduled', 'sending', 'uncertain', 'sent', 'delivered')
         ORDER BY id FOR UPDATE  -- one lock order: no deadlock
    )
    UPDATE message m
       SET withdrawn = true,
           state = CASE WHEN m.state = 'scheduled' THEN 'superseded' ELSE m.state END,
           done_at = CASE WHEN m.state = 'scheduled' THEN :now ELSE m.done_at END,
           version = m.version + 1
      FROM standing
     WHERE m.clinic_id = standing.clinic_id AND m.id = standing.id
    RETURNING m.id, m.kind, m.state, m.recipient, m.recipient_id,
              m.released_at IS NOT NULL AS released
"""

_SUPERSEDE = text(
    _WITHDRAW.format(
        which="appointment_id = :appointment "
        "AND (CAST(:recipient AS uuid) IS NULL OR recipient_id = :recipient) "
        "AND (CAST(:kind AS text) IS NULL OR kind = :kind)"
    )
)

_TAKE_BACK = text(
    _WITHDRAW.format(
        which="appointment_id IS NULL AND subject_id = :subject "
        "AND (CAST(:occasion AS text) IS NULL OR rule = :occasion)"
    )
)

_TOLD = text(
    """
    SELECT DISTINCT ON (recipient_id) recipient_id, starts_at FROM message
     WHERE appointment_id = :appointment AND released_at IS NOT NULL
       AND state IN ('sending', 'uncertain', 'sent', 'delivered')
       AND kind IN ('confirmation', 'moved', 'pick-up')
     ORDER BY recipient_id, revision DESC, id DESC
    """
)

_HEARD_LAST = text(
    """
    SELECT DISTINCT ON (m.recipient_id) m.recipient_id, m.kind FROM message m
      JOIN appointment a ON a.clinic_id = m.clinic_id AND a.id = m.appointment_id
     WHERE m.appointment_id = :appointment AND m.revision = a.revision AND m.kind = ANY(:kinds)
       AND m.released_at IS NOT NULL AND m.state IN ('sending', 'uncertain', 'sent', 'delivered')
     ORDER BY m.recipient_id, m.released_at DESC, m.id DESC
    """
)

_UNHEARD = text(
    """
    SELECT recipient_id FROM message
     WHERE appointment_id = :appointment AND kind = :kind
     GROUP BY recipient_id
    HAVING bool_or(state = 'superseded') AND NOT bool_or(released_at IS NOT NULL)
    """
)

_STAFF = text(
    """
    SELECT DISTINCT recipient_id FROM message
     WHERE appointment_id = :appointment AND recipient = 'practitioner' AND NOT withdrawn
       AND state IN ('scheduled', 'sending', 'uncertain', 'sent', 'delivered')
    """
)

_WAKE = text("SELECT pg_notify('message_due', '')")
