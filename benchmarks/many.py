"""Many clinics in one database, one of them much larger than the others, with all they have.

Each pair of a therapist and a room has sixteen places a week, from Monday to Thursday. A patient
comes at one of them for fourteen weeks, a visit a week: their whole course. Block after block of
patients does so, from two years ago until half a year ahead. Written clinic by clinic by a few
statements; what checks and finds the rows is taken away meanwhile and made again over all of them,
as a restored backup has it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import psycopg
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session

from benchmarks.clinics import content
from benchmarks.rows import BEGINS, ENDS, FILL, GIVEN, OWN
from database import access
from database.access import Access
from models import Patient, enter_clinic
from models.vocabulary import PractitionerRole
from tests.crowd import NOW
from tests.factories import (
    ZONE,
    make_practitioner,
    make_protocol,
    make_room,
    make_world,
)

PLACES, STEPS, OF_A_PAIR = 16, 14, 144
"""Places of a pair in a week, visits of a course, and patients that a pair sees in all."""
WEEKS_AGO = 100
FIRST = NOW.date() - timedelta(weeks=WEEKS_AGO)
"""The Monday on which it all began."""
WRITERS = 2

TABLES = (
    "schedule",
    "patient",
    "course",
    "course_step",
    "appointment",
    "slot",
    "appointment_event",
    "checklist_item",
    "message",
    "clearance",
)


@dataclass(frozen=True, slots=True)
class Size:
    """How many clinics, and how many pairs the large one has and each of the others."""

    clinics: int
    large: int
    small: int = 2

    @property
    def visits(self) -> int:
        return (self.large + (self.clinics - 1) * self.small) * OF_A_PAIR * STEPS


ALL = Size(clinics=200, large=99)
"""A million visits, a fifth of them in the large clinic."""


@dataclass(frozen=True, slots=True)
class Clinic:
    """One of them."""

    clinic_id: UUID
    site_id: UUID
    version_id: UUID
    therapists: Sequence[UUID]
    rooms: Sequence[UUID]

    @property
    def visits(self) -> int:
        return len(self.therapists) * OF_A_PAIR * STEPS

    @property
    def known(self) -> list[str]:
        """The record numbers of some who are in the middle of their course: read by key."""
        pairs = len(self.therapists)
        return [_under_way(place % pairs, place, pairs) for place in range(PLACES)]


def _under_way(pair: int, place: int, pairs: int) -> str:
    """Who comes at a place of a pair this week; each pair begins a week after the one before."""
    block = (WEEKS_AGO - pair % STEPS) // STEPS
    return f"MRN-{(block * PLACES + place) * pairs + pair:06}"


def settle(ways: Access, size: Size, told: Callable[[int], object]) -> list[Clinic]:
    """Let them all into an empty database, the large one first.

    `told` hears of each so many visits that were written.
    """
    engine = create_engine(ways.service)
    clinics = [
        _found(engine, number, size.small if number else size.large)
        for number in range(size.clinics)
    ]
    with _unhindered(ways):
        _write(ways, clinics, told)
    for clinic in clinics:
        _get_to_know(engine, clinic)
    engine.dispose()
    _run(ways, "VACUUM ANALYZE")
    return clinics


def _found(engine: Engine, number: int, pairs: int) -> Clinic:
    with Session(engine) as session:
        world = make_world(session, f"Practice {number}")
        version_id = make_protocol(session, content(cleared_days=365))
        session.execute(_DEFAULT, {"version": version_id})
        therapists = [
            make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)[1]
            for _ in range(pairs)
        ]
        rooms = [make_room(session, world.site_id, "consulting") for _ in range(pairs)]
        session.commit()
    return Clinic(world.clinic_id, world.site_id, version_id, therapists, rooms)


def _get_to_know(engine: Engine, clinic: Clinic) -> None:
    """Note how to reach those who are read by key, as the service writes it."""
    with Session(engine) as session:
        enter_clinic(session, clinic.clinic_id)
        for patient in session.scalars(
            select(Patient).where(Patient.record_number.in_(clinic.known))
        ):
            patient.email = f"{patient.record_number}@example.com"
            patient.phone = "+12125550123"
        session.commit()


def _write(ways: Access, clinics: Sequence[Clinic], told: Callable[[int], object]) -> None:
    shares = [clinics[number::WRITERS] for number in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda share: _write_share(ways, share, told), shares))


def _write_share(ways: Access, clinics: Sequence[Clinic], told: Callable[[int], object]) -> None:
    with access.connect(ways.owner, autocommit=False) as connection:
        connection.execute("SET statement_timeout = 0; SET synchronous_commit = off")
        for statement in OWN:
            connection.execute(statement)
        connection.commit()
        for clinic in clinics:
            _write_clinic(connection, clinic)
            connection.commit()
            told(clinic.visits)


def _write_clinic(connection: psycopg.Connection, clinic: Clinic) -> None:
    connection.execute("SELECT set_config('afterglow.clinic', %s, true)", [str(clinic.clinic_id)])
    connection.execute("TRUNCATE pair, coming, visit")
    pairs = zip(range(len(clinic.rooms)), clinic.therapists, clinic.rooms, strict=True)
    connection.cursor().executemany("INSERT INTO pair VALUES (%s, %s, %s)", list(pairs))
    values = {
        "patients": len(clinic.rooms) * OF_A_PAIR,
        "pairs": len(clinic.rooms),
        "places": PLACES,
        "steps": STEPS,
        "first": FIRST,
        "zone": ZONE,
        "now": NOW,
        "version": clinic.version_id,
        "site": clinic.site_id,
        "given": GIVEN,
        "begins": BEGINS,
        "ends": ENDS,
    }
    for statement in FILL:
        connection.execute(statement, values)


@contextmanager
def _unhindered(ways: Access) -> Iterator[None]:
    """Without triggers, constraints and indexes of the tables that are filled; then with them.

    The database makes each again by its own definition, over all rows, and refuses what does not
    hold. To keep them while millions of rows come takes several times as long.
    """
    with access.connect(ways.owner) as connection:
        constraints = connection.execute(_CONSTRAINTS, [list(TABLES)]).fetchall()
        indexes = connection.execute(_INDEXES, [list(TABLES)]).fetchall()
        connection.execute("SET statement_timeout = 0")
        for table, name, _ in reversed(constraints):
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        for table in TABLES:
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        for table in TABLES:
            connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        keys = [
            f"ALTER TABLE {table} ADD CONSTRAINT {name} {told}" for table, name, told in constraints
        ]
        within = [one for one in keys if "FOREIGN KEY" not in one]
        _side_by_side(ways, [*within, *(told for _, told in indexes)])
        connection.execute("SET afterglow.backup = 'on'")  # else it sees no row to check
        for one in keys[len(within) :]:
            connection.execute(one)
        for query, before in ((_CONSTRAINTS, constraints), (_INDEXES, indexes)):
            after = connection.execute(query, [list(TABLES)]).fetchall()
            assert [row[:-1] for row in after] == [row[:-1] for row in before]


def _side_by_side(ways: Access, statements: Sequence[str]) -> None:
    """What locks nothing but its own table, the longest first, on two connections."""

    def make(statement: str) -> None:
        _run(ways, "SET maintenance_work_mem = '512MB'", statement)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(make, sorted(statements, key=lambda one: "EXCLUDE" not in one)))


def _run(ways: Access, *statements: str) -> None:
    with access.connect(ways.owner) as connection:
        connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        for statement in statements:
            connection.execute(statement)


_DEFAULT = text(
    "UPDATE clinic SET default_protocol_id = "
    "(SELECT protocol_id FROM protocol_version WHERE id = :version)"
)

_CONSTRAINTS = """
    SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(c.oid)
      FROM pg_constraint c, CAST(%s::text[] AS regclass[]) filled
     WHERE contype IN ('p', 'u', 'x', 'f') AND (conrelid = ANY(filled) OR confrelid = ANY(filled))
     ORDER BY contype = 'f', conrelid::regclass::text, conname
"""
"""Foreign keys last: each stands on a key of the table that it names."""

_INDEXES = """
    SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
     WHERE i.indrelid = ANY(%s::text[]::regclass[])
       AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
     ORDER BY 1
"""
