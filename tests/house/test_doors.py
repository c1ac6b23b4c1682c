"""Every route says what it asks for, or the service does not start."""

import pytest
from flask import Flask
from sqlalchemy import make_url
from werkzeug.routing import Rule

from app import build
from scheduler import doors
from scheduler.doors import Asks, Door, Unmarked
from scheduler.permissions import Permission
from tests.factories import SUNDAY_NOON
from tests.integration.conftest import settings


@pytest.fixture(scope="module")
def app() -> Flask:
    """The service, which has asked no database anything yet."""
    nowhere = make_url("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    return build(settings(), nowhere, lambda: SUNDAY_NOON)


def test_every_route_says_what_it_asks_for(app: Flask) -> None:
    """All of them: pages, calls of providers, calendars, health and the docs as well."""
    found = {rule.endpoint: doors.of(app.view_functions[rule.endpoint]) for rule in _rules(app)}

    assert len(found) > 250
    assert [name for name, door in found.items() if not isinstance(door, Door)] == []
    assert {door.asks for door in found.values() if door is not None} == set(Asks)


def test_an_open_door_says_why_and_another_which_permission(app: Flask) -> None:
    for name, view in app.view_functions.items():
        door = doors.of(view)
        assert door is not None
        if door.asks is Asks.NOTHING:
            assert door.why.endswith("."), name
        if door.asks is Asks.PERMISSION:
            assert isinstance(door.why, Permission), name
            assert door.why == getattr(view, "permission", None), name


def test_the_api_is_open_to_nobody(app: Flask) -> None:
    for rule in _rules(app):
        if rule.rule.startswith("/api/v1"):
            door = doors.of(app.view_functions[rule.endpoint])
            assert door is not None
            assert door.asks is not Asks.NOTHING, rule.rule


def test_with_a_route_that_says_nothing_it_does_not_start() -> None:
    marked = doors.public("Why.")(lambda: "")
    with pytest.raises(Unmarked, match=r"at pages\.new\. Put @requires"):
        doors.refuse_unmarked({"pages.old": marked, "pages.new": lambda: ""})


def _rules(app: Flask) -> list[Rule]:
    return list(app.url_map.iter_rules())
