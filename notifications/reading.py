"""Reading: what messages need to say, read just before it is said.

Addresses and times are never copied into a message, so what goes out is what is true then.
Many messages of a clinic are read at once; the release (notifications/queue.py) then checks,
message by message, that nothing of it has changed since.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
from psycopg import Connection
from psycopg.rows import dict_row
from sqlalchemy.orm import Session

import vault
from models.vocabulary import Channel, Condition, MessageKind, Recipient, UserStatus
from notifications.cadence import QuietHours
from notifications.words import Words
from vault import Place


@dataclass(frozen=True, slots=True)
class Line:
    """A visit among several."""

    starts_at: datetime
    zone: ZoneInfo
    site: str
    patient: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Everything that any template may speak of."""

    message_id: UUID
    clinic_id: UUID
    subject_id: UUID
    appointment_id: UUID | None
    patient_id: UUID | None
    kind: MessageKind
    recipient: Recipient
    channel: Channel
    reader_id: UUID
    reader_name: str
    """The given name of a patient; an escort's name as the patient gave it."""
    reader_version: int
    address: str | None
    """Where the reader is reached on this channel."""
    language: str
    patient_name: str
    """The patient's given name."""
    patient_tag: str
    """How staff know the patient: the given name and an initial."""
    clinic: str
    clinic_email: str
    clinic_phone: str
    sms_from: str | None
    emergency: str
    site: str
    site_address: str
    zone: ZoneInfo
    """The site's; the clinic's where there is no site."""
    starts_at: datetime
    """Of the visit; when the message is due, where there is none."""
    ends_at: datetime
    revision: int
    suspended: bool
    """The visit is, so nothing may say that it takes place."""
    quiet: QuietHours
    """The reader's."""
    silent: bool
    """The reader wants nothing on this channel, or may not be written to."""
    lines: tuple[Line, ...] = ()
    """The visits of a day, for an agenda."""
    what: str = ""
    """What a message to staff is about, where it is no visit."""


def letters(connection: Connection, message_ids: Iterable[UUID]) -> dict[UUID, Letter]:
    """Read what messages of the entered clinic speak of, in one statement."""
    rows = _rows(connection, _LETTERS, {"ids": list(message_ids)})
    for row in rows:
        _open_contacts(connection, row)
    return {row["id"]: _letter(connection, row) for row in rows}


def in_visits(
    connection: Connection, patient_ids: Sequence[UUID], now: datetime
) -> dict[UUID, datetime]:
    """Which of the patients are in a visit at `now`, and until when."""
    rows = _rows(connection, _IN_VISITS, {"patients": list(patient_ids), "now": now})
    return {row["patient_id"]: row["until"] for row in rows}


def raw(session: Session) -> Connection:
    """The psycopg connection of a session, in its transaction and its clinic."""
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    return connection


def _rows(
    connection: Connection, statement: str, values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, values).fetchall()


def wordings(connection: Connection) -> Mapping[tuple[str, str, str, str], Words]:
    """The clinic's own words, by kind, recipient, channel and language."""
    return {
        (row["kind"], row["recipient"], row["channel"], row["language"]): (
            Words(row["subject"], row["body"], row["body"])
        )
        for row in _rows(connection, _WORDINGS, {})
        if row["body"]
    }


def unmet(
    connection: Connection,
    letters: Sequence[Letter],
    wanted: Mapping[UUID, Sequence[str]],
    unready: Callable[[Sequence[UUID]], set[UUID]],
) -> set[UUID]:
    """Those of the messages whose conditions do not all hold.

    `unready` tells which of some visits have a gate that is shut: that is not ours to judge.
    """
    asked = [letter for letter in letters if wanted.get(letter.message_id)]
    if not asked:
        return set()
    ids = [letter.appointment_id for letter in asked if letter.appointment_id is not None]
    holds: dict[UUID, dict[str, Any]] = {
        row["id"]: row for row in _rows(connection, _CONDITIONS, {"ids": ids})
    }
    judged = {
        letter.appointment_id
        for letter in asked
        if letter.appointment_id is not None and Condition.UNREADY in wanted[letter.message_id]
    }
    shut = unready(sorted(judged & holds.keys())) if judged else set()
    for appointment_id, row in holds.items():
        row["unready"] = appointment_id in shut
    return {
        letter.message_id
        for letter in asked
        if letter.appointment_id not in holds
        or not all(
            holds[letter.appointment_id][Condition(code).name.lower()]
            for code in wanted[letter.message_id]
        )
    }


def _open_contacts(connection: Connection, row: dict[str, Any]) -> None:
    for name, (table, column, whose) in _CONTACTS.items():
        if row[name] is not None:
            place = Place(row["clinic_id"], table, column, row[whose])
            row[name] = vault.open_text(connection, place, row[name])


_CONTACTS = {
    "patient_email": ("patient", "email", "patient_id"),
    "patient_phone": ("patient", "phone", "patient_id"),
    "escort_email": ("escort", "email", "recipient_id"),
    "escort_phone": ("escort", "phone", "recipient_id"),
    "practitioner_email": ("practitioner", "email", "recipient_id"),
    "practitioner_phone": ("practitioner", "phone", "recipient_id"),
    "user_email": ("user_account", "email", "recipient_id"),
}
"""What a letter reads that is sealed: of which table and column, and whose it is."""


def _letter(connection: Connection, row: Mapping[str, Any]) -> Letter:
    recipient, channel = Recipient(row["recipient"]), Channel(row["channel"])
    reader = _READERS[recipient](row)
    family = row["family_name"] or ""
    zone = ZoneInfo(row["site_zone"] or row["clinic_zone"])
    kind = MessageKind(row["kind"])
    return Letter(
        message_id=row["id"],
        clinic_id=row["clinic_id"],
        subject_id=row["subject_id"],
        appointment_id=row["appointment_id"],
        patient_id=row["patient_id"],
        kind=kind,
        recipient=recipient,
        channel=channel,
        reader_id=row["recipient_id"],
        reader_name=reader.name,
        reader_version=reader.version,
        address=reader.phone if channel is Channel.SMS else reader.email,
        language=row["language"] or "en",
        patient_name=row["given_name"] or "",
        patient_tag=f"{row['given_name'] or ''} {family[:1]}.".strip(" ."),
        clinic=row["clinic"],
        clinic_email=row["clinic_email"],
        clinic_phone=row["clinic_phone"],
        sms_from=row["sms_from"],
        emergency=row["emergency_text"],
        site=row["site"] or row["clinic"],
        site_address=row["site_address"] or "",
        zone=zone,
        starts_at=row["starts_at"] or row["due_at"],
        ends_at=row["ends_at"] or row["due_at"],
        revision=row["revision"] or 1,
        suspended=row["suspended_at"] is not None,
        quiet=reader.quiet,
        silent=reader.silent or channel.value in reader.opted_out,
        lines=_agenda(connection, row, zone) if kind is MessageKind.AGENDA else (),
        what=_licence(connection, row) if kind is MessageKind.CREDENTIAL_EXPIRING else "",
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    name: str
    version: int
    email: str | None
    phone: str | None
    quiet: QuietHours
    silent: bool = False
    opted_out: Sequence[str] = field(default_factory=tuple)


def _patient(row: Mapping[str, Any]) -> _Reader:
    own = row["patient_quiet_from"] is not None
    return _Reader(
        row["given_name"] or "",
        row["patient_version"] or 0,
        row["patient_email"],
        row["patient_phone"],
        QuietHours(
            row["patient_quiet_from"] if own else row["quiet_from"],
            row["patient_quiet_until"] if own else row["quiet_until"],
            ZoneInfo(row["patient_zone"] or row["clinic_zone"]),
        ),
        opted_out=() if row["kind"] in _ANSWERS else row["opted_out"] or (),
    )


def _escort(row: Mapping[str, Any]) -> _Reader:
    return _Reader(
        row["escort_name"] or "",
        row["escort_version"] or 0,
        row["escort_email"],
        row["escort_phone"],
        QuietHours(
            row["quiet_from"], row["quiet_until"], ZoneInfo(row["site_zone"] or row["clinic_zone"])
        ),
        silent=not row["may_message"],
    )


def _practitioner(row: Mapping[str, Any]) -> _Reader:
    return _Reader(
        row["practitioner_name"] or "",
        row["practitioner_version"] or 0,
        row["practitioner_email"],
        row["practitioner_phone"],
        _never_quiet(row),
    )


def _front_desk(row: Mapping[str, Any]) -> _Reader:
    email = row["front_desk_email"] or row["clinic_email"]
    return _Reader(row["clinic"], row["clinic_version"], email, None, _never_quiet(row))


def _user(row: Mapping[str, Any]) -> _Reader:
    return _Reader(
        row["user_name"] or "",
        row["user_version"] or 0,
        row["user_email"],
        None,
        _never_quiet(row),
        silent=row["user_status"] == UserStatus.DISABLED,
    )


def _never_quiet(row: Mapping[str, Any]) -> QuietHours:
    return QuietHours(time(0), time(0), ZoneInfo(row["clinic_zone"]))


_READERS = {
    Recipient.PATIENT: _patient,
    Recipient.ESCORT: _escort,
    Recipient.PRACTITIONER: _practitioner,
    Recipient.FRONT_DESK: _front_desk,
    Recipient.USER: _user,
}

_ANSWERS = frozenset(
    {MessageKind.OPTED_OUT, MessageKind.OPTED_IN, MessageKind.HELP, MessageKind.EMERGENCY}
)
"""Said also to somebody who has just opted out: the law asks for one confirmation."""


def _agenda(connection: Connection, row: Mapping[str, Any], zone: ZoneInfo) -> tuple[Line, ...]:
    day = row["due_at"].astimezone(zone).date()
    begin = datetime.combine(day, time(0), zone)
    end = datetime.combine(day, time(23, 59, 59), zone)
    found = _rows(
        connection, _AGENDA, {"practitioner": row["recipient_id"], "begin": begin, "end": end}
    )
    return tuple(
        Line(
            one["starts_at"],
            ZoneInfo(one["time_zone"]),
            one["site"],
            f"{one['given_name']} {one['family_name'][:1]}.",
        )
        for one in found
    )


def _licence(connection: Connection, row: Mapping[str, Any]) -> str:
    found = _rows(connection, _LICENCE, {"id": row["subject_id"]})
    return f"{found[0]['name']}: {found[0]['licence']}" if found else ""


HERE = "(SELECT nullif(current_setting('afterglow.clinic', true), '')::uuid)"
"""The clinic that was entered."""

_LETTERS = f"""
    SELECT m.id, m.clinic_id, m.subject_id, m.kind, m.recipient, m.recipient_id, m.channel,
           m.appointment_id, m.due_at, a.starts_at, a.ends_at, a.revision,
           a.suspended_at,
           p.id AS patient_id, p.given_name, p.family_name, p.version AS patient_version,
           p.email AS patient_email, p.phone AS patient_phone, p.time_zone AS patient_zone,
           p.language, p.opted_out, p.quiet_from AS patient_quiet_from,
           p.quiet_until AS patient_quiet_until,
           e.name AS escort_name, e.email AS escort_email, e.phone AS escort_phone,
           e.version AS escort_version, e.may_message,
           w.name AS practitioner_name, w.email AS practitioner_email,
           w.phone AS practitioner_phone, w.version AS practitioner_version,
           u.name AS user_name, u.email AS user_email, u.version AS user_version,
           u.status AS user_status,
           c.name AS clinic, c.email AS clinic_email, c.phone AS clinic_phone,
           c.front_desk_email, c.sms_from, c.emergency_text, c.time_zone AS clinic_zone,
           c.quiet_from, c.quiet_until, c.version AS clinic_version,
           s.name AS site, s.address AS site_address, s.time_zone AS site_zone
      FROM message m
      JOIN clinic c ON c.clinic_id = m.clinic_id
      LEFT JOIN appointment a ON a.clinic_id = m.clinic_id AND a.id = m.appointment_id
      LEFT JOIN patient p ON p.clinic_id = m.clinic_id AND p.id =
                CASE WHEN a.patient_id IS NOT NULL THEN a.patient_id  -- coalesce() takes no index
                     WHEN m.recipient = 'patient' THEN m.recipient_id
                     ELSE m.subject_id END
      LEFT JOIN site s ON s.clinic_id = m.clinic_id AND s.id = a.site_id
      LEFT JOIN escort e ON e.clinic_id = m.clinic_id AND e.id = m.recipient_id
      LEFT JOIN practitioner w ON w.clinic_id = m.clinic_id AND w.id = m.recipient_id
      LEFT JOIN user_account u ON u.clinic_id = m.clinic_id AND u.id = m.recipient_id
     WHERE m.clinic_id = {HERE} AND m.id = ANY(%(ids)s)
"""

_IN_VISITS = """
SELECT patient_id, max(ends_at) AS until
  FROM appointment
 WHERE patient_id = ANY(%(patients)s) AND status IN ('booked', 'arrived', 'checked-in')
   AND starts_at <= %(now)s AND ends_at > %(now)s
 GROUP BY patient_id
"""

_WORDINGS = """
    SELECT DISTINCT ON (kind, recipient, channel, language)
           kind, recipient, channel, language, subject, body
      FROM wording ORDER BY kind, recipient, channel, language, number DESC
"""

_CONDITIONS = f"""
    SELECT a.id, a.confirmed_at IS NULL AS unconfirmed,
           EXISTS (SELECT FROM checklist_item i WHERE i.clinic_id = a.clinic_id
                      AND i.appointment_id = a.id AND i.owner = 'patient'
                      AND i.status = 'requested') AS checklist_open,
           EXISTS (SELECT FROM checklist_item i
                     JOIN protocol_version v
                       ON v.clinic_id = i.clinic_id AND v.id = a.protocol_version_id
                    CROSS JOIN jsonb_array_elements(
                          v.content -> 'visits' -> a.visit -> 'checklist') AS line
                    WHERE i.clinic_id = a.clinic_id AND i.appointment_id = a.id
                      AND i.owner = 'patient' AND i.status = 'requested'
                      AND line ->> 'code' = i.code AND line ? 'instruments')
               AS questions_open,
           NOT EXISTS (SELECT FROM escort e WHERE e.clinic_id = a.clinic_id
                          AND e.appointment_id = a.id AND e.replaced_at IS NULL)
               AS escort_missing,
           NOT EXISTS (SELECT FROM appointment b WHERE b.clinic_id = a.clinic_id
                          AND b.patient_id = a.patient_id AND b.status = 'fulfilled')
               AS first_visit,
           EXISTS (SELECT FROM appointment b WHERE b.clinic_id = a.clinic_id
                      AND b.patient_id = a.patient_id AND b.status = 'noshow')
               AS earlier_noshow,
           NOT EXISTS (SELECT FROM reply r WHERE r.clinic_id = a.clinic_id
                          AND r.patient_id = a.patient_id AND r.at >= a.starts_at
                          AND (r.appointment_id = a.id
                               OR r.at >= a.ends_at AND r.appointment_id IS NULL)
                          AND r.meaning IN ('well', 'call-me', 'crisis'))
               AS safety_unanswered,
           EXISTS (SELECT FROM course_step this
                     JOIN course_step next ON next.clinic_id = this.clinic_id
                      AND next.course_id = this.course_id AND next.position > this.position
                      AND next.kind = 'integration' AND next.skipped_at IS NULL
                    WHERE this.clinic_id = a.clinic_id AND this.id = a.course_step_id
                      AND NOT EXISTS (SELECT FROM course_step between_them
                                       WHERE between_them.clinic_id = this.clinic_id
                                         AND between_them.course_id = this.course_id
                                         AND between_them.kind = 'dosing'
                                         AND between_them.position > this.position
                                         AND between_them.position < next.position)
                      AND NOT EXISTS (SELECT FROM appointment b
                                       WHERE b.clinic_id = a.clinic_id
                                         AND b.course_step_id = next.id
                                         AND b.status NOT IN ('cancelled', 'noshow',
                                                              'entered-in-error')))
               AS integration_unbooked,
           a.status IN ('checked-in', 'fulfilled')
               AND EXISTS (SELECT FROM checklist_item i WHERE i.clinic_id = a.clinic_id
                              AND i.appointment_id = a.id AND i.status = 'requested'
                              AND i.due_at > a.ends_at) AS paperwork_open
      FROM appointment a WHERE a.clinic_id = {HERE} AND a.id = ANY(%(ids)s)
"""

_AGENDA = f"""
    SELECT DISTINCT a.id, a.starts_at, s.time_zone, s.name AS site, p.given_name, p.family_name
      FROM practitioner w
      JOIN slot t ON t.clinic_id = w.clinic_id AND t.schedule_id = w.schedule_id
      JOIN appointment a ON a.clinic_id = w.clinic_id
       AND (a.id = t.appointment_id OR a.group_session_id = t.group_session_id)
      JOIN site s ON s.clinic_id = a.clinic_id AND s.id = a.site_id
      JOIN patient p ON p.clinic_id = a.clinic_id AND p.id = a.patient_id
     WHERE w.clinic_id = {HERE} AND w.id = %(practitioner)s
       AND a.starts_at BETWEEN %(begin)s AND %(end)s
       AND a.status IN ('booked', 'arrived', 'checked-in')
     ORDER BY a.starts_at
"""

_LICENCE = f"""
    SELECT w.name, q.licence FROM qualification q
      JOIN practitioner w ON w.clinic_id = q.clinic_id AND w.id = q.practitioner_id
     WHERE q.clinic_id = {HERE} AND q.id = %(id)s
"""
