"""Doors: every GET of the API, asked plainly and by each of its filters, about what is there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from flask import Flask

from models.vocabulary import Role
from scheduler.permissions import BUNDLES, Permission
from tests.crowd import NOW

Ids = Mapping[str, Any]
"""An id of each kind of thing: `patient`, `appointment`."""


@dataclass(frozen=True, slots=True)
class Door:
    """One way to ask."""

    rule: str
    path: str
    role: Role


def doors(app: Flask, ids: Ids) -> Iterator[Door]:
    """Each GET, without any filter that may be left out, and with each of them alone."""
    described = app.test_client().get("/api/openapi.json").get_json()["paths"]
    for rule in app.url_map.iter_rules():
        permission = getattr(app.view_functions[rule.endpoint], "permission", None)
        if "GET" not in (rule.methods or ()) or permission not in set(Permission):
            continue
        _, path = rule.build({name: _id(name, ids) for name in rule.arguments}) or ("", "")
        role = next(role for role in Role if Permission(permission) in BUNDLES[role])
        for asked in _ways_to_ask(described[_as_described(rule.rule)]["get"], ids):
            yield Door(rule.rule, f"{path}?{urlencode(asked)}", role)


def _ways_to_ask(operation: Mapping[str, Any], ids: Ids) -> Iterator[dict[str, str]]:
    told = {
        one["name"]: one
        for one in operation.get("parameters", ())
        if one.get("in") == "query" and one["name"] not in {"limit", "cursor"}
    }
    needed = {name: _value(one, ids) for name, one in told.items() if one.get("required")}
    yield needed
    for name, one in told.items():
        for value in _values(one, ids):
            yield {**needed, name: value}


def _values(parameter: Mapping[str, Any], ids: Ids) -> list[str]:
    codes = [code for code in parameter["schema"].get("enum", ()) if code is not None]
    return codes or [_value(parameter, ids)]


def _value(parameter: Mapping[str, Any], ids: Ids) -> str:
    name, schema = parameter["name"], parameter["schema"]
    if name.endswith("_id"):
        return str(_id(name, ids))
    if "enum" in schema:
        return str(schema["enum"][0])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if name in _INSTANTS:
        at = NOW + _INSTANTS[name] * _WEEK
        return at.isoformat() if schema.get("format") == "date-time" else f"{at:%Y-%m-%d}"
    return _SAMPLES.get(name, "true" if "boolean" in kinds else "abc")


def _id(name: str, ids: Ids) -> Any:
    kind = name.removesuffix("_id")
    if name in _PARTS:
        return _PARTS[name]
    return ids.get(_TABLES.get(kind, kind)) or uuid4()


def _as_described(rule: str) -> str:
    return "/".join(
        "{" + part[1:-1].rpartition(":")[2] + "}" if part.startswith("<") else part
        for part in rule.split("/")
    )


_WEEK = timedelta(weeks=1)
_INSTANTS = {"from": 0, "to": 1}
_SAMPLES = {"not_before": "09:00", "before": "17:00", "weekdays": "monday", "year": "2027"}
_PARTS = {"number": 1, "code": "phq-9"}
_TABLES = {
    "item": "checklist_item",
    "step": "course_step",
    "entry": "waitlist_entry",
    "session": "group_session",
    "glass": "break_glass",
    "key": "api_key",
    "provider": "identity_provider",
    "import": "import",
    "feed": "busy_feed",
    "hours": "opening_hours",
    "user": "user_account",
    "text": "consent_text",
    "delivery": "webhook_delivery",
}
"""Whose ids parts of addresses are, where they are called otherwise."""
