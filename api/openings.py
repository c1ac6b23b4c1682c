"""Openings over REST: the free times for a visit."""

from typing import Any

from flask import Response, jsonify
from marshmallow import Schema, ValidationError, fields, validate, validates_schema
from webargs.fields import DelimitedList

from api import pages, showing
from api.asking import WEEKDAYS, hours_wanted, refuse_backwards
from api.blueprint import Blueprint
from api.caller import now, refuse_what_is_hidden, requires
from api.fields import AskedFlag, Id, Instant
from api.pages import CursorQuery
from api.showing import OpeningSchema
from models import CourseStep, Patient, db
from models.vocabulary import StepKind
from scheduler import openings
from scheduler.openings import Found, Search
from scheduler.permissions import Permission

blueprint = Blueprint("openings", __name__, url_prefix="/api/v1/openings", description="Free time.")


class OpeningQuery(CursorQuery):
    """What is looked for."""

    step_kind = fields.Enum(StepKind, by_value=True, load_default=None)
    course_step_id = Id(load_default=None)
    start = Instant(required=True, data_key="from")
    end = Instant(required=True, data_key="to")
    practitioner_id = Id(load_default=None)
    site_id = Id(load_default=None)
    patient_id = Id(load_default=None, metadata={"description": "Whose time it takes as well."})
    weekdays = DelimitedList(
        fields.String(validate=validate.OneOf(WEEKDAYS)),
        load_default=list,
        metadata={"description": "Only these, by the site's wall clock: `monday,friday`."},
    )
    begin = fields.Time(
        format="%H:%M",
        load_default=None,
        data_key="not_before",
        metadata={"description": "Wall time: `09:00`."},
    )
    until = fields.Time(
        format="%H:%M",
        load_default=None,
        data_key="before",
        metadata={"description": "Nothing starts at or after this wall time."},
    )
    within_notice = AskedFlag(
        load_default=False,
        metadata={"description": "Also times nearer than the visit's notice, as `by_phone`."},
    )

    alone = AskedFlag(
        load_default=False,
        metadata={
            "description": "Of a visit that several patients share: not its sessions, but times "
            "for one alone, who makes it up."
        },
    )

    @validates_schema
    def names_one(self, data: dict[str, Any], **_: Any) -> None:
        """Want one of the two ways to say what the visit is for."""
        if (data.get("step_kind") is None) == (data.get("course_step_id") is None):
            raise ValidationError("Give either this or course_step_id.", "step_kind")

    @validates_schema
    def day_runs_forward(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse times of the day that leave none."""
        refuse_backwards(data)


class ShutSchema(Schema):
    """Something that shuts a window."""

    code = fields.String(metadata={"description": "A role, room, device, rule, gate or `patient`."})
    detail = fields.String()
    would_open = fields.Integer(metadata={"description": "How many times would be open without."})


class AlternativeSchema(Schema):
    """The nearest opening if one wish were let go."""

    change = fields.String(
        metadata={
            "description": "`practitioner`, `site`, `hours`, `notice`, `alone`, `earlier`, `later`."
        }
    )
    opening = fields.Nested(OpeningSchema)


class OpeningPageSchema(Schema):
    """A page of openings; of an empty answer, why, and what is near."""

    items = fields.List(fields.Nested(OpeningSchema), required=True)
    next = fields.String(allow_none=True)
    shut_by = fields.List(fields.Nested(ShutSchema), metadata={"description": "Worst first."})
    alternatives = fields.List(fields.Nested(AlternativeSchema))


@blueprint.route("", methods=["GET"])
@requires(Permission.OPENINGS_READ)
@blueprint.arguments(OpeningQuery, location="query")
@blueprint.alt_response(200, schema=OpeningPageSchema)
def list_openings(asked: dict[str, Any]) -> Response:
    """List the times at which a visit could be booked, earliest first.

    What is offered can be booked as it is, if nobody is faster. An empty answer says what shuts
    the window, and what would be open if one wish were let go.
    """
    refuse_what_is_hidden(Patient, asked["patient_id"])
    refuse_what_is_hidden(CourseStep, asked["course_step_id"])
    cursor = asked.pop("cursor")
    after = None if cursor is None else tuple(pages.opened(cursor))
    hours = hours_wanted(asked.pop("weekdays"), asked.pop("begin"), asked.pop("until"))
    search = Search(**asked, hours=hours, after=after)
    found = openings.find(db.session(), search, now())
    last = found.openings[-1] if found.more else None
    answer: dict[str, Any] = {
        "items": [showing.opening(one) for one in found.openings],
        "next": None if last is None else pages.next_url([last.starts_at, last.where]),
    }
    if not found.openings and after is None:
        answer |= _explained(found)
    return jsonify(answer)


def _explained(found: Found) -> dict[str, Any]:
    return {
        "shut_by": ShutSchema(many=True).dump(found.shut_by),
        "alternatives": [
            {"change": one.change, "opening": showing.opening(one.opening)}
            for one in found.alternatives
        ],
    }
