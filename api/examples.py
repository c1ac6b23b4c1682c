"""Examples: what a body could look like, made of the schemas that read and write it.

A field says itself what it could hold (`metadata={"example": ...}`), else its name does, else its
kind. What is sent to us shows what has to be sent and what has an example of its own; where nothing
has to be, all that can be.
"""

from collections.abc import Callable, Mapping
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

BY_NAME: Mapping[str, Any] = {
    # who and what
    "name": "Lighthouse",
    "given_name": "Iris",
    "family_name": "Example",
    "record_number": "R-1001",
    "birth_date": "1984-05-17",
    "relation": "friend",
    "address": "12 Example Wharf, New York, NY 10004",
    "licence": "NY-123456",
    "title": "Preparation",
    "description": "What the record system takes.",
    "emergency_text": "In an emergency call 911. To talk to somebody now, call or text 988.",
    "protocol_code": "kap",
    "visit": "medicine-session",
    "site": "Harbor House",
    "key": "preparation-1",
    "step": "preparation-1",
    "cadence": "standard",
    "rule": "day-before",
    "instrument": "phq-9",
    "condition": "glaucoma",
    "medicine_class": "stimulants",
    "medicine": "esketamine",
    "route": "intranasal",
    "role": "therapist",
    "language": "en",
    "time_zone": "America/New_York",
    "email": "ada.example@example.com",
    "phone": "+12125550123",
    "uid": "20270104-1@calendar.example.com",
    "client_id": "afterglow",
    "client_secret": "what the provider gave you",
    # why, and in whose words
    "reason": "Agreed on by phone.",
    "note": "Said on the phone.",
    "deviation": "The sister came instead of the friend.",
    "accompanied_by": "Evan Escort",
    "body": "See you on $day at $time. $link",
    "subject": "Your appointment",
    "heading": "Over the last two weeks, how often was it so?",
    "wording": "You may write to me by e-mail.",
    "why": "Its time is taken.",
    "text": "Several days",
    "topic": "Sleep",
    "detail": "Nobody has cleared it yet.",
    "outcome": "fulfilled",
    "skip_reason": "Was done elsewhere.",
    # when; what ends comes after what begins
    "ends_at": "2027-01-04T15:30:00Z",
    "end": "2027-01-11T14:00:00Z",
    "latest": "2027-01-29T22:00:00Z",
    "expires_at": "2027-04-04T14:00:00Z",
    "deferred_until": "2027-02-01",
    "rescreen_on": "2027-02-01",
    "minutes": 480,
    "quiet_from": "21:00",
    "quiet_until": "08:00",
    # as answers say it
    "next": "WyIyMDI3LTAxLTA0IiwgMTIzXQ",
    "last_error": "greylisted",
    "actor": "key:front desk/3fa9c1d2",
    "by": "key:front desk/3fa9c1d2",
    "action": "read",
    "entity": "appointment",
    "permission": "appointments:read",
}
"""What a field of this name could hold, whoever has it, unless its kind knows better."""

NAMED: Mapping[type, tuple[type[fields.Field[Any]], ...]] = {
    str: (fields.String, fields.Time, fields.Date, Instant),
    int: (fields.Integer,),
    type(None): (),
}
"""The kinds of field that such a value is one of."""

BY_TYPE = {"array": [], "object": {}, "boolean": True, "integer": 1, "number": 1.5}
"""Of a value that is worked out, by what it says of itself."""

DEEPEST = 9
"""Schemas that hold themselves are shown so deep."""


def example_of(schema: Any, *, asked: bool, depth: int = 0) -> Any:
    """A body of this schema. `asked`: as it is sent to us; otherwise as it is answered."""
    made = schema() if isinstance(schema, type) else schema
    if not isinstance(made, Schema) or depth > DEEPEST:
        return None
    is_shown = _is_asked(made) if asked else _is_answered
    shown = {
        field.data_key or name: _value(name, field, asked, depth)
        for name, field in made.fields.items()
        if is_shown(field)
    }
    return [shown] if made.many else shown


def _is_asked(schema: Schema) -> Callable[[fields.Field[Any]], bool]:
    taken = [field for field in schema.fields.values() if not field.dump_only]
    named = [field for field in taken if field.required or "example" in field.metadata]
    shown = taken if schema.partial or not named else named
    return lambda field: field in shown


def _is_answered(field: fields.Field[Any]) -> bool:
    return not field.load_only


def _value(name: str, field: fields.Field[Any], asked: bool, depth: int) -> Any:
    if "example" in field.metadata:
        return field.metadata["example"]
    if isinstance(field, fields.Nested):
        return example_of(field.schema, asked=asked, depth=depth + 1)
    if isinstance(field, fields.List):
        inner = _value(name, field.inner, asked, depth + 1)
        return [] if inner is None else [inner]
    for one in field.validators:
        if isinstance(one, validate.OneOf):
            return _code(next(iter(one.choices)))
    if isinstance(field, fields.Enum):
        return _code(next(iter(field.enum.__members__.values())))
    return _by_name(name, field)


def _by_name(name: str, field: fields.Field[Any]) -> Any:
    named = BY_NAME.get("by" if name.endswith("_by") else name)
    if isinstance(field, NAMED[type(named)]) and not isinstance(field, fields.UUID):
        return named
    for kind in type(field).__mro__:
        if kind in BY_KIND:
            return BY_KIND[kind]
    return _plain(name, field)


def _plain(name: str, field: fields.Field[Any]) -> Any:
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
