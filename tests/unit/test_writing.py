"""Answers are JSON whatever is in them."""

import json
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from flask import Flask, jsonify

from api.writing import Writer


class Colour(StrEnum):
    RED = "red"


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__, static_folder=None)
    app.json = Writer(app)
    return app


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ({"b": 1, "a": [None, True, 1.5]}, {"b": 1, "a": [None, True, 1.5]}),
        ({"colour": Colour.RED}, {"colour": "red"}),
        ({Colour.RED: 1}, {"red": 1}),
        (UUID(int=1), str(UUID(int=1))),
        ("tränen\u2028", "tränen\u2028"),
        (2**70, 2**70),
        ("half \ud800", "half \ud800"),
        ({"deep": ["half \udfff"]}, {"deep": ["half \udfff"]}),
    ],
    ids=["plain", "word", "key", "id", "text", "large", "half", "deep"],
)
def test_whatever_is_told_can_be_read(app: Flask, told: Any, read: Any) -> None:
    with app.app_context():
        answer = jsonify(told)
    assert answer.mimetype == "application/json"
    assert json.loads(answer.data) == read


def test_the_order_of_fields_stays(app: Flask) -> None:
    with app.app_context():
        answer = jsonify({"z": 1, "a": 2})
    assert list(json.loads(answer.data)) == ["z", "a"]
