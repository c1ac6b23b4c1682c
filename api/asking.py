"""Asking: the parts of requests that several resources share."""

from datetime import time
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from api.fields import Id, Text
from models.vocabulary import StepKind
from scheduler.availability import Hours

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class ReasonedSchema(Schema):
    """Something that may pass over gates and rules."""

    reasons = fields.Dict(
        keys=fields.String(validate=validate.Length(1, 80)),
        values=Text(most=1000, lines=True),
        load_default=dict,
        metadata={"description": "For each rule or gate that is passed over, why."},
    )


class ForSchema(Schema):
    """For whom a visit is, and what for."""

    patient_id = Id(required=True)
    step_kind = fields.Enum(
        StepKind, by_value=True, load_default=None, metadata={"example": "preparation"}
    )
    course_step_id = Id(load_default=None)

    @validates_schema
    def names_one(self, data: dict[str, Any], **_: Any) -> None:
        """Want one of the two ways to say what the visit is for."""
        if (data.get("step_kind") is None) == (data.get("course_step_id") is None):
            raise ValidationError("Give either this or course_step_id.", "step_kind")


def refuse_backwards(data: dict[str, Any]) -> None:
    """Refuse times of the day, `begin` and `until`, that leave none."""
    begin, until = data.get("begin"), data.get("until")
    if begin is not None and until is not None and until <= begin:
        raise ValidationError("It must be later than not_before.", "before")


def hours_wanted(days: list[str], begin: time | None, until: time | None) -> Hours | None:
    """The times of the week that somebody keeps to; None: any."""
    if not days and begin is None and until is None:
        return None
    weekdays = frozenset(map(WEEKDAYS.index, days or WEEKDAYS))
    return Hours(weekdays=weekdays, begin=begin or time.min, end=until)
