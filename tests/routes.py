"""Routes: everything that the service can be asked, read from its own map and its description.

Nothing here knows a route by name. What an id names is told by the word before it in the address
(`/patients/<id>`), or by its name in a query or a body (`NAMES`).
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from flask import Flask

from scheduler import doors
from scheduler.doors import Door

NAMES: Mapping[str, str] = {
    "appointment_id": "appointments",
    "course_id": "courses",
    "course_step_id": "steps",
    "default_protocol_id": "protocols",
    "entity_id": "courses",
    "entry_id": "waitlist",
    "group_sessions": "group-sessions",
    "on_call_id": "practitioners",
    "patient_id": "patients",
    "patients": "patients",
    "practitioner_id": "practitioners",
    "privacy_officer_id": "practitioners",
    "proposal_id": "proposals",
    "protocol_version_id": "protocol-versions",
    "qualification_id": "qualifications",
    "room_id": "rooms",
    "schedule_id": "schedules",
    "site_id": "sites",
    "text_id": "consent-texts",
    "webhook_id": "webhooks",
}
"""What ids in queries and bodies name. `replaces` names something of the kind that is added."""

_PART = re.compile(r"(?P<kind>[\w-]+)/<(?:(?P<converter>\w+):)?(?P<name>\w+)>")


class Unknown(Exception):
    """There is an id of which nobody said what it names."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an address that is filled in."""

    name: str
    kind: str
    is_id: bool


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an id stands in a body (its path) or in a query (its name)."""

    place: tuple[str | int, ...]
    kind: str
    in_query: bool

    @property
    def name(self) -> str:
        return ("?" if self.in_query else "/") + "/".join(map(str, self.place))


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one address."""

    method: str
    rule: str
    endpoint: str
    door: Door
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        return f"{self.method} {self.rule}"

    @property
    def ids(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.is_id)

    def path(self, told: Mapping[str, Any]) -> str:
        """The address with its parts filled in by name."""
        return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(told[found[1]]), self.rule)


def of(app: Flask) -> list[Route]:
    """Every route of the service, each method for itself."""
    found = []
    for rule in app.url_map.iter_rules():
        door = doors.of(app.view_functions[rule.endpoint])
        assert door is not None, rule.endpoint
        parts = tuple(
            Part(one["name"], one["kind"], one["converter"] == "uuid")
            for one in _PART.finditer(rule.rule)
        )
        assert {part.name for part in parts} == rule.arguments, rule.rule
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            found.append(Route(method, rule.rule, rule.endpoint, door, parts))
    return sorted(found, key=lambda route: (route.rule, route.method))


class Description:
    """The OpenAPI document, asked about one route at a time."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    def body(self, route: Route) -> Any:
        """The example of a body that it takes as JSON. None: it takes none."""
        return deepcopy(self._json(route).get("example"))

    def needed(self, route: Route) -> list[str]:
        """The parameters of its query that must be there."""
        return [
            one["name"]
            for one in self._operation(route).get("parameters", ())
            if one.get("in") == "query" and one.get("required")
        ]

    def is_sorted(self, route: Route) -> bool:
        """Whether it is a list that can be read rising or falling."""
        told = self._operation(route).get("parameters", ())
        return any((one.get("in"), one.get("name")) == ("query", "sort") for one in told)

    def file(self, route: Route) -> str:
        """The media type of a file that it takes, if it takes no JSON. Empty: none."""
        content = self._operation(route).get("requestBody", {}).get("content", {})
        return "" if "application/json" in content else next(iter(content), "")

    def is_conditional(self, route: Route) -> bool:
        """Whether it needs If-Match."""
        told = self._operation(route).get("parameters", ())
        return any(one.get("name") == "If-Match" for one in told)

    def slots(self, route: Route) -> list[Slot]:
        """Every id in its query and its body."""
        found = [
            Slot((one["name"],), self._kind(route, one["name"]), in_query=True)
            for one in self._operation(route).get("parameters", ())
            if one.get("in") == "query" and one["schema"].get("format") == "uuid"
        ]
        for place in self._ids(self._json(route).get("schema", {}), ()):
            name = next(part for part in reversed(place) if isinstance(part, str))
            found.append(Slot(place, self._kind(route, name), in_query=False))
        return found

    def _operation(self, route: Route) -> Mapping[str, Any]:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.rule)
        told: Mapping[str, Any] = self.document["paths"].get(path, {})
        operation: Mapping[str, Any] = told.get(route.method.lower(), {})
        return operation

    def _json(self, route: Route) -> Mapping[str, Any]:
        content = self._operation(route).get("requestBody", {}).get("content", {})
        told: Mapping[str, Any] = content.get("application/json", {})
        return told

    def _kind(self, route: Route, name: str) -> str:
        if name == "replaces":
            return route.rule.rpartition("/")[2]
        if name not in NAMES:
            raise Unknown(f"{route.name} takes {name}: say in tests/routes.py what it names.")
        return NAMES[name]

    def _ids(
        self, schema: Mapping[str, Any], here: tuple[str | int, ...]
    ) -> Iterator[tuple[str | int, ...]]:
        while "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        if schema.get("readOnly"):
            return
        if schema.get("format") == "uuid":
            yield here
        for part in (*schema.get("allOf", ()), *schema.get("anyOf", ())):
            yield from self._ids(part, here)
        for name, inner in schema.get("properties", {}).items():
            yield from self._ids(inner, (*here, name))
        if "items" in schema:
            yield from self._ids(schema["items"], (*here, 0))


def put(body: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """A copy of a body with a value at a place, which is made if it is not there."""
    copy = deepcopy(body)
    here = copy
    for part, following in itertools.pairwise(place):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(part, int):
            here.extend([empty] * (part + 1 - len(here)))
            here = here[part]
        else:
            if here.get(part) is None:
                here[part] = empty
            here = here[part]
    last = place[-1]
    if isinstance(last, int):
        here[last : last + 1] = [value]
    else:
        here[last] = value
    return copy


def has(body: Any, place: tuple[str | int, ...]) -> bool:
    """Whether a body has something at a place."""
    for part in place:
        try:
            body = body[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True
