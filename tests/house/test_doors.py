"""Every route says what it asks for, or the service does not start.

Which permission that is, is said beside the route, and whose it is in scheduler/permissions.py.
Who comes in by it at last stands here a second time, by hand.
"""

import re

import pytest
from flask import Flask
from sqlalchemy import make_url
from werkzeug.routing import Rule

from app import build
from models.vocabulary import Role
from scheduler import doors
from scheduler.doors import Asks, Door, Unmarked
from scheduler.permissions import BUNDLES, Permission
from tests import routes
from tests.factories import SUNDAY_NOON
from tests.integration.conftest import settings

A, S, C, U = Role.ADMIN, Role.SCHEDULER, Role.CLINICIAN, Role.AUDITOR
ANY, CHANGE = r"\w+", "(POST|PUT|PATCH|DELETE)"

WHO = (
    ({A, S, C, U}, f"{ANY} /sessions?(/.*)?"),
    ({C}, "POST /break-glass"),
    ({A, U}, f"{ANY} /(audit-events|break-glass)(/.*)?"),
    ({A, C, U}, "GET /patients/<>/accesses"),
    # The clinic itself, who works there, and what leaves it.
    ({A}, f"{ANY} /(api-keys|archives|exports|identity-providers|imports|users)(/.*)?"),
    ({A}, rf"{ANY} /webhook(s|-[\w-]+)(/.*)?"),
    ({A}, f"{CHANGE} /(clinic|consent-texts|devices|instruments|rooms|sites|wordings)(/.*)?"),
    ({A}, f"{CHANGE} /practitioners(/<>(/qualifications(/<>)?)?)?"),
    ({A}, f"{CHANGE} /schedules/<>(/import|/opening-hours(/<>)?)?"),
    ({A}, "POST /protocols/<>/cadences"),
    ({A, C}, "POST /protocols(/<>/versions(/<>/sign)?)?"),
    ({A, C}, "POST /practitioners/<>/calendar-feeds"),
    ({A, S}, f"{CHANGE} /schedules/<>/(busy-feeds|closures)(/<>)?"),
    ({A, S}, "(POST /patients(/<>/calendar-feeds)?|PATCH /patients/<>)"),
    ({A, S, U}, "GET /reports/.*"),
    # What is known of somebody's health, and decided on it.
    ({S, C}, "POST /patients/<>/questionnaire-responses"),
    ({C}, f"{ANY} /patients/<>/(questionnaire-responses|reconciliations|screening|screens)(/.*)?"),
    ({C}, f"{ANY} /courses/<>/(discontinue|eligibility|outcomes.*|steps/<>/(outcome|skip|unskip))"),
    ({C}, f"{ANY} /appointments/<>/observations(/<>)?"),
    ({C}, "POST /(appointments|group-sessions)/<>/(start-dosing|start-recovery|discharge|fulfil)"),
    ({C}, "POST /appointments/<>/(departure|overrides)(/<>/enter-in-error)?"),
    ({C}, "POST /patients/<>/clearances"),
    ({S, C}, "GET /patients/<>/(clearances|consents)(/.*)?"),
    ({S, C}, f"{ANY} /patients/<>/(health-events|incidents)(/<>)?"),
    ({S, C}, f"{ANY} /(incidents|checklist-items)(/.*)?"),
    ({S, C}, "GET /appointments/<>/(checklist|departure|watch)"),
    ({S, C}, "GET /(messages/<>|replies)"),
    # People, and how to reach them.
    ({A, S, C, U}, "GET /patients/<>/channel-consents"),
    ({A, S, C}, "GET /patients(/<>(/(calendar-feeds|timeline))?)?"),
    ({A, S, C}, "POST /patients/<>/channel-consents"),
    ({A, S, C}, f"{ANY} /(tasks|openings|calendar-feeds)(/<>)?"),
    ({A, S, C}, f"{ANY} /appointments/<>/escort"),
    ({A, S, C}, "GET /courses/<>/summary"),
    ({A, S, C}, "GET /practitioners/<>/calendar-feeds"),
    ({A, S, C}, "GET /patients/<>/disclosure-consents(/<>)?"),
    ({A, S}, "POST /patients/<>/disclosure-consents(/<>/withdraw)?"),
    ({C}, "PATCH /courses/<>"),
    # How the clinic runs.
    ({A, S, C}, f"{CHANGE} /(appointments|courses|disruptions|group-sessions|messages)(/.*)?"),
    ({A, S, C}, f"{CHANGE} /(offers|waitlist)(/.*)?"),
    ({A, S, C, U}, "GET /appointments(/<>(/(events|messages|overrides(/<>)?|readiness))?)?"),
    ({A, S, C, U}, "GET /courses(/<>(/(proposals|steps/<>))?)?"),
    ({A, S, C, U}, "GET /group-sessions(/<>(/(places|readiness))?)?"),
    ({A, S, C, U}, "GET /(disruptions|freed-times|messages|message-report|offers|waitlist)(/<>)?"),
    ({A, S, C, U}, "GET /(clinic|readiness|message-preview)"),
    ({A, S, C, U}, "GET /(consent-texts|devices|instruments|rooms|sites|wordings)(/.*)?"),
    ({A, S, C, U}, "GET /(practitioners|protocols|schedules)(/.*)?"),
)
"""Who comes in, by method and address; of several lines the first one counts."""

TO_SEE = {"read", "content"}
TO_CHANGE = {"write", "sign", "decide", "ask", "share"}
"""What permissions let one do that are for one of both alone."""


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


def test_each_door_opens_to_whom_it_is_written_for(app: Flask) -> None:
    """A door that was given another permission, and a role that was, are both seen here."""
    faults = []
    for route in routes.of(app):
        if route.door.asks is Asks.PERMISSION:
            asked = f"{route.method} {re.sub('<[^>]+>', '<>', route.rule).removeprefix('/api/v1')}"
            may = {role for role in Role if route.door.why in BUNDLES[role]}
            told = next((who for who, door in WHO if re.fullmatch(door, asked)), set[Role]())
            if may != told:
                faults.append(f"{asked}: {sorted(may)}, not {sorted(told)}")
    assert not faults, "\n".join(faults)


def test_no_door_that_changes_something_asks_for_leave_to_look(app: Flask) -> None:
    for route in routes.of(app):
        if route.door.asks is Asks.PERMISSION:
            _, _, act = route.door.why.partition(":")
            assert act not in (TO_CHANGE if route.method == "GET" else TO_SEE), route.name


def _rules(app: Flask) -> list[Rule]:
    return list(app.url_map.iter_rules())
