"""Examples: what the document shows a caller is what a caller may send."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from marshmallow import Schema

from api.examples import example_of
from api.pages import CursorQuery


def _below(kind: type[Schema]) -> Iterator[type[Schema]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def _bodies() -> list[type[Schema]]:
    """Every schema of the API that reads a body, once an application has imported them."""
    ours = {one for one in _below(Schema) if one.__module__.startswith("api.")}
    return sorted(ours - {CursorQuery, *_below(CursorQuery)}, key=lambda one: one.__name__)


def test_every_example_is_taken_by_the_schema_that_shows_it(app: Flask) -> None:
    with app.app_context():
        faults = {
            one.__name__: said
            for one in _bodies()
            if (said := one().validate(example_of(one, asked=True)))
        }
    assert faults == {}


def test_a_schema_that_wants_more_than_its_example_would_be_found(app: Flask) -> None:
    with app.app_context():
        [booked] = [one for one in _bodies() if one.__name__ == "OrderSchema"]
        shown = example_of(booked, asked=True)
        assert booked().validate({**shown, "step_kind": None}) != {}


@pytest.mark.parametrize("method", ["post", "put", "patch"])
def test_no_body_that_is_asked_for_is_shown_empty(app: Flask, method: str) -> None:
    document: dict[str, Any] = app.test_client().get("/api/openapi.json").get_json()
    shown = {
        path: operations[method]["requestBody"]["content"]["application/json"]["example"]
        for path, operations in document["paths"].items()
        if "application/json"
        in operations.get(method, {}).get("requestBody", {}).get("content", {})
    }
    assert shown
    assert [path for path, example in shown.items() if not example] == []
