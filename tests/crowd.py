"""A crowd: a clinic with thousands of patients, each with a visit and a message about it.

Written by a few statements instead of thousands of bookings, so that what is measured is the
messages' way out and nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from os import environ
from uuid import UUID

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import intake.clinic
from database import access
from database.access import Access
from database.scratch import scratch
from tests.service import ROOT

NOW = datetime(2027, 1, 4, 14, 0, tzinfo=UTC)
DUE = NOW + timedelta(hours=1)
MONTH = timedelta(days=30)


@dataclass
class Crowd:
    """The clinic, and ways to look at its messages."""

    ways: Access
    clinic_id: UUID

    def connect(self) -> psycopg.Connection:
        """As the worker."""
        return access.connect(self.ways.worker)

    def owner(self) -> psycopg.Connection:
        """As the owner of the tables, seeing the clinic's rows."""
        connection = access.connect(self.ways.owner)
        connection.execute(
            "SELECT set_config('afterglow.clinic', %s, false)", [str(self.clinic_id)]
        )
        return connection

    def waiting_for_locks(self) -> int:
        """How many statements wait for a row that another transaction has."""
        with self.owner() as connection:
            [(number,)] = connection.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            ).fetchall()
        return int(number)

    def calls_to_make(self) -> set[UUID]:
        """The messages that did not reach a patient whom staff are now asked to call."""
        with self.owner() as connection:
            found = connection.execute(
                "SELECT subject_id FROM task WHERE kind = 'call-patient' AND status = 'requested'"
            ).fetchall()
        return {message_id for (message_id,) in found}

    def plan(
        self,
        number: int,
        due_at: datetime = DUE,
        *,
        kind: str = "confirm-request",
        channel: str = "email",
    ) -> None:
        """Plan a message for each of `number` visits, all due at once."""
        self.run(_PLAN, {"number": number, "due": due_at, "kind": kind, "channel": channel})

    def plan_apart(self, number: int, first: datetime, apart: timedelta) -> None:
        """Plan a message for each of `number` visits, due one after the other."""
        self.plan(number, first)
        self.run(_APART, {"first": first, "apart": apart})

    def archive(self, number: int) -> None:
        """Write `number` messages of the last year into the archive, month by month."""
        for month in range(13):
            with self.connect() as connection:
                connection.execute("SELECT keep_message_month(%s)", [DUE - month * MONTH])
        self.run(_ARCHIVE, {"number": number, "until": DUE - timedelta(days=8)})
        with access.connect(self.ways.owner) as connection:
            connection.execute("SET statement_timeout = 0")
            connection.execute("ANALYZE message_archive")

    def clear(self) -> None:
        """Forget all messages."""
        self.run("DELETE FROM message", {})
        self.run("DELETE FROM patient_link", {})
        with access.connect(self.ways.owner) as connection:
            connection.execute("VACUUM ANALYZE message")

    def count(self, state: str) -> int:
        """How many messages are in a state."""
        with self.connect() as connection:
            [(number,)] = connection.execute(
                "SELECT count(*) FROM message WHERE state = %s", [state]
            ).fetchall()
        return int(number)

    def run(self, statement: str, values: dict[str, object]) -> None:
        """Do something to the clinic's rows, as the owner of the tables."""
        with self.owner() as connection:
            connection.execute("SET statement_timeout = 0")
            connection.execute(statement, values)


@contextmanager
def crowd(patients: int) -> Iterator[Crowd]:
    """A fresh database with so many patients, each with one visit."""
    with scratch(environ.get("DATABASE_URL")) as ways:
        yield gather(ways, patients)


def gather(ways: Access, patients: int) -> Crowd:
    """Let so many patients come to the demo's clinic, in an empty database."""
    engine = create_engine(ways.service)
    with Session(engine) as session:
        clinic_id = intake.clinic.store(session, intake.clinic.read(ROOT / "demo"), "crowd", NOW)
        session.commit()
    engine.dispose()
    found = Crowd(ways, clinic_id)
    for statement in (_SCHEDULES, _PATIENTS, _VISITS):
        found.run(statement, {"number": patients, "start": NOW + timedelta(days=1)})
    with access.connect(ways.owner) as connection:
        connection.execute("VACUUM ANALYZE")
    return found


_SCHEDULES = """
    INSERT INTO schedule (id, actor_kind, name, lanes)
    SELECT gen_random_uuid(), 'patient', 'crowd ' || n, 1 FROM generate_series(1, %(number)s) n
"""
_PATIENTS = """
    INSERT INTO patient (id, schedule_id, record_number, given_name, family_name, birth_date,
                         email, phone, time_zone)
    SELECT gen_random_uuid(), id, name, 'Invented', 'Example', '1980-01-01',
           replace(name, ' ', '.') || '@example.com',
           '+1' || (2125550000 + split_part(name, ' ', 2)::int), 'America/New_York'
      FROM schedule WHERE name LIKE 'crowd %%'
"""
_VISITS = """
    INSERT INTO appointment (id, patient_id, protocol_version_id, visit, kind, site_id, status,
                             starts_at, ends_at, revision, booked_by)
    SELECT gen_random_uuid(), p.id, v.id, 'preparation', 'preparation', s.id, 'booked',
           %(start)s, %(start)s + interval '1 hour', 1, 'crowd'
      FROM patient p, (SELECT id FROM protocol_version LIMIT 1) v, (SELECT id FROM site LIMIT 1) s
     WHERE p.record_number LIKE 'crowd %%'
"""
_APART = """
    UPDATE message m SET due_at = %(first)s + (t.turn - 1) * %(apart)s::interval,
           not_after = %(first)s + (t.turn - 1) * %(apart)s::interval + interval '20 h'
      FROM (SELECT id, row_number() OVER (ORDER BY id) AS turn FROM message) t WHERE t.id = m.id
"""
_PLAN = """
    INSERT INTO message (id, subject_id, appointment_id, revision, rule, kind, channel, recipient,
                         recipient_id, starts_at, due_at, not_after, state)
    SELECT gen_random_uuid(), a.id, a.id, 1,
           'r' || (n - 1) / (SELECT count(*) FROM appointment WHERE booked_by = 'crowd'), %(kind)s,
           %(channel)s, 'patient', a.patient_id, a.starts_at, %(due)s,
           %(due)s::timestamptz + interval '20 h', 'scheduled'
      FROM generate_series(1, %(number)s) n
      JOIN (SELECT *, row_number() OVER (ORDER BY id) AS turn
              FROM appointment WHERE booked_by = 'crowd') a
        ON a.turn = (n - 1) %% (SELECT count(*) FROM appointment WHERE booked_by = 'crowd') + 1
"""
_ARCHIVE = """
    INSERT INTO message_archive (id, subject_id, appointment_id, revision, rule, kind, channel,
                                 recipient, recipient_id, starts_at, due_at, not_after, state,
                                 attempts, released_at, sent_at, done_at)
    SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, a.id, a.id, 1,
           'day-before', 'confirm-request', 'email', 'patient',
           a.patient_id, t.at, t.at, t.at, 'sent', 1, t.at, t.at, t.at
      FROM generate_series(1, %(number)s) n
      JOIN (SELECT *, row_number() OVER (ORDER BY id) AS turn
              FROM appointment WHERE booked_by = 'crowd') a
        ON a.turn = (n - 1) %% (SELECT count(*) FROM appointment WHERE booked_by = 'crowd') + 1
     CROSS JOIN LATERAL (SELECT %(until)s::timestamptz - (%(number)s - n) * interval '3 s' AS at) t
"""
