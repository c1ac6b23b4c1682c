"""A connection whose server has hung up is replaced before anybody uses it."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from database import pooling
from database.access import Access


@pytest.fixture
def engine(database: Access) -> Iterator[Engine]:
    engine = create_engine(database.service, pool_size=1, max_overflow=0)
    pooling.look_first(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def other(database: Access) -> Iterator[Engine]:
    engine = create_engine(database.service, pool_size=1)
    yield engine
    engine.dispose()


def backend(engine: Engine) -> int:
    with engine.connect() as connection:
        found: int = connection.scalar(text("SELECT pg_backend_pid()"))
        return found


def hang_up(other: Engine, pid: int) -> None:
    """Return once the server process is gone."""
    gone = text("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = :pid")
    with other.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        assert connection.scalar(gone, {"pid": pid})


def test_a_connection_that_works_is_used_again(engine: Engine) -> None:
    assert backend(engine) == backend(engine)


def test_one_that_was_ended_is_replaced_and_nobody_notices(engine: Engine, other: Engine) -> None:
    before = backend(engine)
    hang_up(other, before)
    assert backend(engine) not in {before, 0}


def test_one_that_was_ended_while_in_use_is_not_handed_out_again(
    engine: Engine, other: Engine
) -> None:
    connection = engine.connect()
    before = connection.scalar(text("SELECT pg_backend_pid()"))
    assert before
    hang_up(other, before)
    with pytest.raises(OperationalError):
        connection.scalar(text("SELECT 1"))
    connection.close()
    assert backend(engine) != before
