"""Examples: what a body could look like, made of the schemas that read and write it.

A field says itself what it could hold (`metadata={"example": ...}`); for the rest its kind does.
"""

from collections.abc import Mapping
from datetime import date, time
from enum import Enum
from typing import Any

from marshmallow import Schema, fields, validate

from api.fields import Day, Email, Id, Instant, Phone, Region, WallTime, Zone

ID = "0192f0c1-2d3e-7abc-8def-0123456789ab"

BY_KIND: Mapping[type[fields.Field[Any]], Any] = {
    Id: ID,
    Instant: "2027-01-04T14:00:00Z",
    Day: "2027-01-04",
    Zone: "America/New_York",
    Email: "ada.example@example.com",
    Phone: "+12125550123",
    Region: "US-NY",
    WallTime: "09:00",
    fields.Date: date(2027, 1, 4).isoformat(),
    fields.Time: time(9, 0).strftime("%H:%M"),
    fields.Boolean: True,
    fields.Float: 1.5,
    fields.Dict: {},
    fields.UUID: ID,
}

BY_TYPE = {"array": [], "object": {}, "boolean": True, "integer": 1, "number": 1.5}
"""Of a value that is worked out, by what it says of itself."""

DEEPEST = 9
"""Schemas that hold themselves are shown so deep."""


def example_of(schema: Any, *, asked: bool, depth: int = 0) -> Any:
    """A body of this schema. `asked`: as it is sent to us; otherwise as it is answered."""
    made = schema() if isinstance(schema, type) else schema
    if not isinstance(made, Schema) or depth > DEEPEST:
        return None
    shown = {
        field.data_key or name: _value(name, field, asked, depth)
        for name, field in made.fields.items()
        if _is_shown(field, asked, is_change=bool(made.partial))
    }
    return [shown] if made.many else shown


def _is_shown(field: fields.Field[Any], asked: bool, *, is_change: bool) -> bool:
    if asked:
        return not field.dump_only and (field.required or is_change)
    return not field.load_only


def _value(name: str, field: fields.Field[Any], asked: bool, depth: int) -> Any:
    if "example" in field.metadata:
        return field.metadata["example"]
    if isinstance(field, fields.Nested):
        return example_of(field.schema, asked=asked, depth=depth + 1)
    if isinstance(field, fields.List):
        inner = _value(name, field.inner, asked, depth + 1)
        return [] if inner is None else [inner]
    if isinstance(field, fields.Enum):
        return _code(next(iter(field.enum.__members__.values())))
    for kind in type(field).__mro__:
        if kind in BY_KIND:
            return BY_KIND[kind]
    return _plain(name, field)


def _plain(name: str, field: fields.Field[Any]) -> Any:
    for one in field.validators:
        if isinstance(one, validate.OneOf):
            return _code(next(iter(one.choices)))
    if isinstance(field, fields.Integer):
        return field.metadata.get("minimum", 1)
    if "enum" in field.metadata:
        return next(iter(field.metadata["enum"]))
    if field.metadata.get("format") == "date-time":
        return BY_KIND[Instant]
    told = field.metadata.get("type", "string")
    return _words(name) if told == "string" else BY_TYPE[told]


def _words(name: str) -> str:
    return name.replace("_", "-") if name in {"code", "gate", "key", "kind"} else f"Some {name}."


def _code(one: Any) -> Any:
    return one.value if isinstance(one, Enum) else one
