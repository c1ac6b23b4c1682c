"""Describing: what the OpenAPI document says of each door beyond its schemas.

Decorators of the house leave word of themselves on the view; the blueprint reads it here when
the document is made. So what a door asks for and what its description says are one thing.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from api.examples import example_of

PROBLEM = "application/problem+json"

REFUSALS = {
    "Unauthenticated": "There is no valid key.",
    "Forbidden": "The key does not reach this door.",
    "NotFound": "There is nothing here, or nothing of this clinic.",
    "Stale": "Somebody changed it since; read it again.",
    "PreconditionRequired": "If-Match is missing.",
    "QuotaExceeded": "Asked too often; see Retry-After.",
}
"""Answers that many doors have; written out once, and referred to."""

IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "schema": {"type": "string"},
    "example": '"1"',
    "description": "The ETag that you last read: what you change must be what you saw.",
}
IF_MATCH_ONCE_THERE = {
    **IF_MATCH,
    "required": False,
    "description": "The ETag that you last read; left out while there is none.",
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{8,200}$"},
    "example": "booking-2027-01-04-0001",
    "description": "Repeat a request with the same one and it is done once; the answer is kept.",
}


def describe(view: Callable[..., Any], **told: Any) -> None:
    """Leave word on a view for `tell`."""
    view.__dict__["_apidoc"] = {**view.__dict__.get("_apidoc", {}), **told}


def tell(doc: dict[str, Any], left: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Complete the description of an operation by what its decorators left word of."""
    permission = left.get("permission")
    if permission is None:
        return doc
    if "operator" in left:
        doc["security"] = [{"operator": []}]
    doc["operationId"] = left["name"]
    said = left["docstring"]
    asked = f"Needs the permission `{permission}`."
    if left.get("step_up"):
        asked += " A person gives their second factor anew first: POST /session/step-up."
    said["description"] = f"{said.get('description', '')}\n\n{asked}".strip()
    for mark, header in _HEADERS.items():
        if mark in left:
            doc.setdefault("parameters", []).append(header)
    responses = doc.setdefault("responses", {})
    for status, name in _refused(left):
        responses.setdefault(status, name)
    if "outdated" in left:
        _outdate(doc, left["outdated"])
    _show(doc)
    return doc


_HEADERS = {
    "conditional": IF_MATCH,
    "replacing": IF_MATCH_ONCE_THERE,
    "idempotent": IDEMPOTENCY_KEY,
}
"""By the word that a decorator left: what a door asks for beside the address and the body."""


def _refused(left: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "401", "Unauthenticated"
    yield "403", "Forbidden"
    yield "404", "NotFound"
    yield "429", "QuotaExceeded"
    if {"conditional", "replacing"} & left.keys():
        yield "412", "Stale"
        yield "428", "PreconditionRequired"


def _outdate(doc: dict[str, Any], told: Mapping[str, str]) -> None:
    """Say of an operation that it will go, and which headers of its answers tell when."""
    doc["deprecated"] = True
    for answer in doc["responses"].values():
        if isinstance(answer, dict):  # the others are shared with doors that stay
            answer["headers"] = {
                name: {"schema": {"type": "string"}, "example": value}
                for name, value in told.items()
            }


def _show(doc: dict[str, Any]) -> None:
    """Give bodies an example, in and out."""
    asked = doc.get("requestBody")
    bodies = [(asked, True)] if asked else []
    bodies += [(one, False) for one in doc.get("responses", {}).values() if isinstance(one, dict)]
    for body, is_asked in bodies:
        for kind, content in body.get("content", {}).items():
            if kind == "application/json" and "example" not in content and "schema" in content:
                shown = example_of(content["schema"], asked=is_asked)
                if shown is not None:
                    content["example"] = shown
