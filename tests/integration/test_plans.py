"""No call reads through a table that grows, nor through all that its clinic has in it.

Asked of PostgreSQL: the statements that the service really sends are explained as the service's
role, behind row-level security, in a database with some clinics and a quarter of a million rows.
Where PostgreSQL may neither scan nor hash a table if there is another way, it does so only where
no index leads to the rows.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from api import keys
from app import build
from benchmarks.asking import Turn, renewed
from benchmarks.commonest import CALLS, subjects, turns
from benchmarks.many import TABLES, Clinic, Size, settle
from database import access
from database.access import Access
from database.scratch import scratch
from models import Base, db, enter_clinic
from models.vocabulary import Role
from tests.crowd import NOW
from tests.doors import doors
from tests.filler import fill
from tests.integration.conftest import settings
from tests.plans import is_planned, leads, plan, scans
from tests.statements import Heard, overheard

pytestmark = pytest.mark.xdist_group("plans")

SIZE = Size(clinics=5, large=6)
MOST = 1_500
"""Rows that a scan of a common call may read. The large clinic has eight times as many visits."""

READ_THROUGH = ("/exports/", "/reports/", "/message-report", "/audit-events/export")
"""What is asked for is all that there is, or all of a period."""

READ_IN_ORDER = ("WHERE audit_event.action = ", "WHERE audit_event.entity = ")
"""The trail is read in the order of time until a page is full of one kind of act, or of thing:
there are few kinds, and an index more would make every request dearer."""

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Place:
    """The database, and the common calls with their statements."""

    ways: Access
    large: Clinic
    turns: dict[str, list[Turn]]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with scratch(os.environ.get("DATABASE_URL")) as ways:
        clinics = settle(ways, SIZE, lambda _: None)
        asked = turns(ways, subjects(ways, clinics[0])[:2])
        fill(ways, [one.clinic_id for one in clinics[:2]], [*TABLES, "calendar_change"])
        yield Place(ways, clinics[0], asked)


@pytest.fixture
def service(place: Place) -> Iterator[Connection]:
    """The service's role; nothing that it does here stays."""
    with access.connect(place.ways.service, autocommit=False) as connection:
        yield connection
        connection.rollback()


@pytest.mark.parametrize("call", CALLS)
def test_a_common_call_scans_no_table(place: Place, service: Connection, call: str) -> None:
    assert through(service, statements(place.turns[call])) == []


@pytest.mark.parametrize("call", CALLS)
def test_a_common_call_reads_few_rows(place: Place, service: Connection, call: str) -> None:
    """As PostgreSQL does it when it may choose by what it knows of the tables."""
    known = leads(service)
    for turn in place.turns[call]:
        for statement, values in renewed(turn):
            if is_planned(statement):
                found = scans(plan(service, statement, values, "ANALYZE"), known)
                assert [one for one in found if one.looked_at > MOST] == [], statement


def test_no_list_scans_a_table(place: Place, service: Connection) -> None:
    """Every GET of the API, plain and by each of its filters."""
    app = build(settings(), place.ways.service, lambda: NOW)
    with app.app_context():
        engine = db.engine
    with overheard(engine) as heard:
        ask_all(app, place)
        once = {sql: values for sql, values in heard if is_planned(sql)}
        found = through(service, once.items())
    assert [one for one in found if not any(known in one for known in READ_IN_ORDER)] == []


def ask_all(app: Flask, place: Place) -> None:
    """What comes of it does not matter: there are rows that nobody can read."""
    engine = create_engine(place.ways.service)
    with Session(engine) as session:
        enter_clinic(session, place.large.clinic_id)
        known = {role: keys.issue(session, f"all {role}", role, None, NOW)[1] for role in Role}
        session.commit()
        ids = {
            name: session.scalar(text(f'SELECT id FROM "{name}" LIMIT 1'))  # our own names
            for name, table in Base.metadata.tables.items()
            if {"clinic_id", "id"} <= set(table.columns.keys())
        }
    engine.dispose()
    client = app.test_client()
    for door in doors(app, ids):
        if not any(part in door.rule for part in READ_THROUGH):
            headers = {"Authorization": f"Bearer {known[door.role]}"}
            client.get(door.path, headers=headers)


def statements(taken: Iterable[Turn]) -> list[Heard]:
    return [(sql, values) for turn in taken for sql, values in turn.heard if is_planned(sql)]


def through(connection: Connection, heard: Iterable[Heard]) -> list[str]:
    """What reads a whole table, or all that the clinic has in it, if it may be avoided."""
    known = leads(connection)
    for way in ("seqscan", "hashjoin", "mergejoin"):
        connection.execute(f"SET LOCAL enable_{way} = off")
    return [
        f"{scan.table}: {scan.how}: {' '.join(sql.split())}"
        for sql, values in heard
        for scan in scans(plan(connection, sql, values), known)
        if scan.is_whole
    ]


@pytest.mark.parametrize(
    "index",
    [
        "ix__appointment__starts_at",
        "ix__slot__appointment",
        "ix__message__appointment",
        "ix__patient__family_key",
        "ix__patient_link__appointment",
    ],
)
def test_a_missing_index_is_found(place: Place, service: Connection, index: str) -> None:
    asked = statements(turn for taken in place.turns.values() for turn in taken)
    assert through(service, asked) == []
    service.rollback()
    with without(place.ways, index):
        assert through(service, asked) != []
        service.rollback()


@contextmanager
def without(ways: Access, index: str) -> Iterator[None]:
    with access.connect(ways.owner) as connection:
        row = connection.execute("SELECT pg_get_indexdef(%s::regclass)", [index]).fetchone()
        assert row is not None
        connection.execute(f"DROP INDEX {index}")
        yield
        connection.execute(row[0])
