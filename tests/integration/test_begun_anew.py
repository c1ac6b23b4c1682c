"""What PostgreSQL ends for another's sake is begun anew, and what it cannot do now is told so.

A request sends most of its statements through SQLAlchemy, and some over the connection beneath it:
it makes no difference which of them was ended.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, create_engine, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from api import keys
from database.access import Access
from models import Room
from models.vocabulary import Role
from tests.factories import SUNDAY_NOON, World
from tests.integration.conftest import Caller, Clock

URL = "https://127.0.0.1:9/hooks"
"""This machine is one of the test's own networks; nobody listens."""

_WAITING = """
    FROM pg_locks l JOIN pg_database d ON d.oid = l.database
   WHERE NOT granted AND d.datname = current_database()
"""
"""Others may have a database of their own in the same server."""

_WAITS = text(f"SELECT EXISTS (SELECT {_WAITING})")

_CUT = text(f"SELECT pg_terminate_backend(pid) {_WAITING}")


@pytest.fixture
def boss(app: Flask, clock: Clock, committed: Session, committed_world: World) -> Caller:
    """The admin of a clinic that every connection sees."""
    clock.now = SUNDAY_NOON
    _, secret = keys.issue(committed, "admin", Role.ADMIN, None, SUNDAY_NOON)
    committed.commit()
    return Caller(app.test_client(), secret)


@pytest.fixture
def owner(database: Access) -> Iterator[Engine]:
    engine = create_engine(database.owner)
    yield engine
    engine.dispose()


def renaming(boss: Caller, committed: Session, world: World) -> Callable[[], TestResponse]:
    """It locks the room, then its schedule: both through SQLAlchemy."""
    room = committed.scalars(select(Room).where(Room.schedule_id == world.consulting_room)).one()
    committed.rollback()
    return lambda: boss("PATCH", f"/rooms/{room.id}", {"name": "Other"}, etag='"1"')


def rotating(boss: Caller, _committed: Session, _world: World) -> Callable[[], TestResponse]:
    """It locks the webhook through SQLAlchemy, then its secret beneath it."""
    made = boss.post("/webhooks", {"url": URL, "event_types": ["*"]})
    path = f"/webhooks/{made.json['id']}/rotate-secret"
    return lambda: boss.post(path, etag=made.headers["ETag"])


ACTS = [(renaming, "room", "schedule"), (rotating, "webhook", "webhook_secret")]
"""What is done, and the tables in which it locks, in this order."""


@pytest.mark.parametrize(("act", "first", "second"), ACTS)
def test_of_two_that_wait_for_each_other_the_request_is_done_after_the_other(
    *,
    boss: Caller,
    owner: Engine,
    committed: Session,
    committed_world: World,
    act: Callable[..., Callable[[], TestResponse]],
    first: str,
    second: str,
) -> None:
    ask = act(boss, committed, committed_world)
    with owner.begin() as other, ThreadPoolExecutor(1) as pool:
        _lock(other, second)
        asked = pool.submit(ask)
        _until_it_waits(owner)
        with suppress(OperationalError):  # on a machine that is too busy, the other is ended
            _lock(other, first)  # now both wait; the one that waits longer finds out
        other.rollback()

    answer = asked.result()
    assert answer.status_code == 200, answer.json
    assert answer.headers["ETag"] == '"2"'


@pytest.mark.parametrize(("act", "_first", "second"), ACTS)
def test_one_that_waits_too_long_is_asked_to_come_again(
    *,
    boss: Caller,
    owner: Engine,
    committed: Session,
    committed_world: World,
    act: Callable[..., Callable[[], TestResponse]],
    _first: str,
    second: str,
) -> None:
    ask = act(boss, committed, committed_world)
    with owner.begin() as other:
        _lock(other, second)
        answer = ask()

    assert (answer.status_code, answer.json["type"]) == (503, "/problems/busy")
    assert answer.headers["Retry-After"] == "1"
    assert ask().status_code == 200


@pytest.mark.parametrize(("act", "_first", "second"), ACTS)
def test_one_whose_connection_is_cut_is_asked_to_come_again(
    *,
    boss: Caller,
    owner: Engine,
    committed: Session,
    committed_world: World,
    act: Callable[..., Callable[[], TestResponse]],
    _first: str,
    second: str,
) -> None:
    ask = act(boss, committed, committed_world)
    with owner.begin() as other, ThreadPoolExecutor(1) as pool:
        _lock(other, second)
        asked = pool.submit(ask)
        _until_it_waits(owner)
        committed.execute(_CUT)  # by a role of the same name: nobody else may
        answer = asked.result()

    assert (answer.status_code, answer.json["type"]) == (503, "/problems/busy")
    assert ask().status_code == 200


def _lock(other: Connection, table: str) -> None:
    other.execute(text(f"LOCK TABLE {table} IN EXCLUSIVE MODE"))


def _until_it_waits(owner: Engine) -> None:
    give_up = time.monotonic() + 10
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(_WAITS):
            assert time.monotonic() < give_up
            time.sleep(0.01)
