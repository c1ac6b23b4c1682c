"""Who changes something has seen it as it is: every door that changes asks for If-Match."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from models.vocabulary import Role
from scheduler import doors
from scheduler.doors import Asks
from scheduler.permissions import BUNDLES
from tests.integration.conftest import Caller, Keyring

V1 = "/api/v1"

A_LINE_OF_ITS_OWN = "adds a line that is never changed; of two that say the same one is refused"
THE_PROPOSAL = "names a proposal, which is for the course as it was: what changed since is refused"
ASKS = "works something out anew; nothing that there is changes"
WHATEVER = "ends something of one's own, whatever has become of it"

WITHOUT = {
    "POST /appointments/hold": "makes a visit",
    "POST /appointments/{appointment_id}/departure/{departure_id}/enter-in-error": (
        A_LINE_OF_ITS_OWN
    ),
    "POST /appointments/{appointment_id}/overrides/{override_id}/enter-in-error": A_LINE_OF_ITS_OWN,
    "POST /incidents/{incident_id}/enter-in-error": A_LINE_OF_ITS_OWN,
    "POST /patients/{patient_id}/reconciliations/{line_id}/rulings": A_LINE_OF_ITS_OWN,
    "POST /patients/{patient_id}/screens/{screen_id}/decisions": A_LINE_OF_ITS_OWN,
    "POST /courses/plan": ASKS,
    "POST /courses/{course_id}/repair": ASKS,
    "POST /courses/{course_id}/accept": THE_PROPOSAL,
    "POST /courses/{course_id}/hold": THE_PROPOSAL,
    "POST /courses/{course_id}/repair/accept": THE_PROPOSAL,
    "POST /disruptions/{disruption_id}/accept": THE_PROPOSAL,
    "POST /schedules/{schedule_id}/import": (
        "what a file says takes the place of what the file before it said, and of nothing else"
    ),
    "POST /session/step-up": "a session is one's own, and what is shown is good once",
    "POST /session/step-up/passkey": ASKS,
    "POST /imports/{import_id}/cancel": (
        "its version rises with every few lines; whichever it has come to is meant"
    ),
    "DELETE /session": WHATEVER,
    "DELETE /sessions/{browser_id}": WHATEVER,
    "POST /operator/clinics/{clinic_id}/invite-admin": "writes a mail; the clinic stays as it is",
    "POST /webhooks/{webhook_id}/test": "sends an event; the webhook stays as it is",
}
"""Doors that change something without If-Match, and why. Whoever adds one thinks about it."""


def operations(app: Flask) -> Iterator[tuple[str, str, Any]]:
    """Method, path and view of every door that changes something."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(V1):
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule).removeprefix(V1)
            for method in (rule.methods or set()) & {"POST", "PUT", "PATCH", "DELETE"}:
                yield method, path, app.view_functions[rule.endpoint]


def is_conditional(view: Any) -> bool:
    return bool({"conditional", "replacing"} & view.__dict__.get("_apidoc", {}).keys())


def test_every_door_that_changes_something_asks_for_it_or_says_why_not(app: Flask) -> None:
    found = list(operations(app))
    listed = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule).removeprefix(V1)
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ())
    }
    bare = {
        f"{method} {path}"
        for method, path, view in found
        if not is_conditional(view) and not (method == "POST" and path in listed)
    }

    assert len(found) > 100
    assert bare == set(WITHOUT)


@pytest.fixture
def people(key: Keyring) -> dict[Role, Caller]:
    return {role: key(role) for role in Role}


@pytest.mark.parametrize(
    ("told", "status"), [(None, 428), ("*", 428), ('W/"1"', 412), ("1", 412), ('"1", "2"', 412)]
)
def test_every_one_of_them_refuses_what_is_no_etag(
    app: Flask, people: dict[Role, Caller], told: str | None, status: int
) -> None:
    """Before it looks at anything: nobody learns from it what there is."""
    for method, path, view in operations(app):
        makes = "replacing" in view.__dict__.get("_apidoc", {})
        if not is_conditional(view) or (makes and told is None):
            continue
        door = doors.of(view)
        if door is None or door.asks is Asks.OPERATOR:  # see test_doors.py and test_tenants.py
            continue
        role = next(role for role in Role if view.permission in BUNDLES[role])
        address = re.sub(r"{(\w+)}", lambda part: _some(part[1]), path)

        answer = people[role](method, address, {}, etag=told)

        assert answer.status_code == status, (method, path, answer.json)


def _some(name: str) -> str:
    return {"number": "1", "code": "c-ssrs"}.get(name, str(uuid4()))
