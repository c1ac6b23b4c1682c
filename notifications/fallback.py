"""Falling over: what cannot be said on one channel is said on the next, or by a human voice.

A message that failed for good, or whose reader wants no more on its channel, gets a twin on the
reader's next channel, in the transaction that ends it. If no channel is left and the reader must
know, a task asks staff to call: nobody can opt out of that.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection
from uuid_utils.compat import uuid7

from models.vocabulary import Channel, MessageKind, MessageState, Owner, Recipient, TaskKind
from notifications import queue
from notifications.reading import HERE

MUST_KNOW = (
    MessageKind.CONFIRMATION,
    MessageKind.CONFIRM_REQUEST,
    MessageKind.MOVED,
    MessageKind.CANCELLATION,
    MessageKind.PICK_UP,
    MessageKind.SAFETY_CHECK,
)
"""What is told by phone if it cannot be written."""

CALL_WITHIN = timedelta(hours=4)


def after(connection: Connection[Any], states: Mapping[UUID, MessageState], now: datetime) -> None:
    """See to it that what ended unsaid is said in another way, given the states it ended in."""
    fall_over(connection, [id for id, state in states.items() if state in _ANOTHER_WAY], now)
    for message_id, state in states.items():
        if state is MessageState.EXPIRED:
            have_somebody_call(connection, message_id, now)


_ANOTHER_WAY = frozenset({MessageState.FAILED, MessageState.SUPPRESSED})


def fall_over(connection: Connection[Any], message_ids: Iterable[UUID], now: datetime) -> None:
    """Give each of the ended messages a twin on the next channel, or have somebody call."""
    for message_id in message_ids:
        values = {"id": message_id, "twin": uuid7(), "now": now}
        if connection.execute(_TWIN, values).rowcount == 0:
            have_somebody_call(connection, message_id, now)


def give_up_address(
    connection: Connection[Any], patient_id: UUID, channel: Channel, now: datetime
) -> None:
    """Note that an address was refused for good, and take what waits for it elsewhere."""
    connection.execute(_UNREACHABLE, {"patient": patient_id, "channel": channel.value})
    reroute(connection, patient_id, channel, now)


def reroute(connection: Connection[Any], patient_id: UUID, channel: Channel, now: datetime) -> None:
    """End what waits for a patient on a channel, and say it on the next one at its own time."""
    fall_over(connection, queue.drop(connection, patient_id, channel, now), now)


def have_somebody_call(connection: Connection[Any], message_id: UUID, now: datetime) -> None:
    """Set a task to call a patient about what a message should say, once, if they must know."""
    task = connection.execute(
        _CALL,
        {
            "task": uuid7(),
            "id": message_id,
            "kind": TaskKind.CALL_PATIENT.value,
            "owner": Owner.FRONT_DESK.value,
            "kinds": [kind.value for kind in MUST_KNOW],
            "within": CALL_WITHIN,
            "now": now,
        },
    )
    if task.rowcount:
        connection.execute(
            _TELL_DESK,
            {
                "notice": uuid7(),
                "id": message_id,
                "kind": MessageKind.MESSAGE_FAILED.value,
                "recipient": Recipient.FRONT_DESK.value,
                "now": now,
                "until": now + timedelta(days=2),
            },
        )


_TWIN = f"""
    INSERT INTO message (clinic_id, id, subject_id, appointment_id, revision, rule, kind, channel,
                         recipient, recipient_id, starts_at, due_at, not_after, conditions, state)
    SELECT m.clinic_id, %(twin)s, m.subject_id, m.appointment_id, m.revision, m.rule, m.kind,
           next.channel, m.recipient, m.recipient_id, m.starts_at, greatest(m.due_at, %(now)s),
           m.not_after, m.conditions, 'scheduled'
      FROM message m
      JOIN patient p ON p.clinic_id = m.clinic_id AND p.id = m.recipient_id
      JOIN clinic c ON c.clinic_id = m.clinic_id
      JOIN LATERAL (
          SELECT wanted.channel FROM unnest(p.channels) WITH ORDINALITY AS wanted (channel, place)
           WHERE wanted.channel <> m.channel
             AND wanted.channel <> ALL(p.opted_out) AND wanted.channel <> ALL(p.unreachable)
             AND CASE wanted.channel WHEN 'email' THEN p.email IS NOT NULL
                      ELSE p.phone IS NOT NULL AND c.sms_from IS NOT NULL END
             AND NOT EXISTS (SELECT FROM message t WHERE t.clinic_id = m.clinic_id
                                AND t.subject_id = m.subject_id AND t.revision = m.revision
                                AND t.rule = m.rule AND t.recipient_id = m.recipient_id
                                AND t.channel = wanted.channel)
           ORDER BY wanted.place LIMIT 1
      ) AS next ON true
     WHERE m.clinic_id = {HERE} AND m.id = %(id)s AND m.recipient = 'patient'
       AND m.not_after > %(now)s
       AND NOT m.withdrawn
    ON CONFLICT ON CONSTRAINT uq__message__once DO NOTHING
"""

_CALL = f"""
    INSERT INTO task (clinic_id, id, kind, owner, urgent, subject_id, patient_id, appointment_id,
                      message_kind, due_at, status)
    SELECT m.clinic_id, %(task)s, %(kind)s, %(owner)s, true, m.id, a.patient_id, a.id, m.kind,
           least(greatest(m.due_at, %(now)s) + %(within)s, greatest(m.not_after, %(now)s)),
           'requested'
      FROM message m
      JOIN appointment a ON a.clinic_id = m.clinic_id AND a.id = m.appointment_id
     WHERE m.clinic_id = {HERE} AND m.id = %(id)s AND m.kind = ANY(%(kinds)s) AND NOT m.withdrawn
       AND (m.starts_at > %(now)s OR m.kind = 'safety-check')
    ON CONFLICT ON CONSTRAINT uq__task__once DO NOTHING
"""

_TELL_DESK = f"""
    INSERT INTO message (clinic_id, id, subject_id, appointment_id, revision, rule, kind, channel,
                         recipient, recipient_id, starts_at, due_at, not_after, state)
    SELECT m.clinic_id, %(notice)s, m.id, m.appointment_id, 1, 'failed', %(kind)s, 'email',
           %(recipient)s, m.clinic_id, m.starts_at, %(now)s, %(until)s, 'scheduled'
      FROM message m WHERE m.clinic_id = {HERE} AND m.id = %(id)s
    ON CONFLICT ON CONSTRAINT uq__message__once DO NOTHING
"""

_UNREACHABLE = f"""
    UPDATE patient SET unreachable = array_append(unreachable, %(channel)s), version = version + 1
     WHERE clinic_id = {HERE} AND id = %(patient)s AND %(channel)s <> ALL(unreachable)
"""
