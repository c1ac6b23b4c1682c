"""One PostgreSQL for the run of each process; one rolled-back transaction for each test."""

import os
import random
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from database.access import Access
from database.scratch import scratch
from models import Base, enter_clinic
from tests import ledger
from tests.factories import World, make_world

os.environ.setdefault("FAULT_SEED", str(random.SystemRandom().randrange(10**6)))
"""Every random choice of the trials under faults comes from it; all test processes share it."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the trials under faults came to."""
    stats = terminalreporter.stats
    reports = [*stats.get("passed", ()), *stats.get("failed", ())]
    for line in ledger.figures(reports):
        terminalreporter.write_line(line)
    if found := ledger.rows(reports):
        terminalreporter.section(f"faults, seed {os.environ['FAULT_SEED']}")
        for line in ledger.table(found):
            terminalreporter.write_line(line)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Say how many cases the properties come to, for the long run's bar."""
    if session.config.option.collectonly:
        found = (item.get_closest_marker("cases") for item in session.items)
        print(f"\ncases: {sum(mark.args[0] for mark in found if mark is not None)}")  # noqa: T201


@pytest.fixture(scope="session")
def database() -> Iterator[Access]:
    """The ways into a real, migrated database."""
    with scratch(os.environ.get("DATABASE_URL")) as ways:
        yield ways


@pytest.fixture(scope="session")
def service_engine(database: Access) -> Iterator[Engine]:
    engine = create_engine(database.service)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def worker_engine(database: Access) -> Iterator[Engine]:
    engine = create_engine(database.worker)
    yield engine
    engine.dispose()


@pytest.fixture
def session(service_engine: Engine) -> Iterator[Session]:
    """A session of the service's role, in a transaction that is always rolled back.

    What is committed inside ends a savepoint. No clinic is entered: `world` does.
    """
    with service_engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        outer.rollback()


@pytest.fixture
def world(session: Session) -> World:
    """A small clinic, entered, with one of everything."""
    return make_world(session)


@pytest.fixture
def committed(database: Access, service_engine: Engine) -> Iterator[Session]:
    """For tests of concurrency and of several processes: real commits, a clean database after."""
    with Session(service_engine) as session:
        yield session
    clean(database)


@pytest.fixture
def committed_world(committed: Session) -> World:
    """A small clinic that everybody can see."""
    world = make_world(committed)
    committed.commit()
    enter_clinic(committed, world.clinic_id)
    return world


def clean(database: Access) -> None:
    """Empty every table."""
    names = ", ".join(f'"{table.name}"' for table in Base.metadata.sorted_tables)
    owner = create_engine(database.owner)
    with owner.begin() as connection:
        connection.execute(text(f"TRUNCATE {names}"))
    owner.dispose()
