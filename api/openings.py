"""Openings over REST: the free times for a visit."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema

from api import pages, showing
from api.blueprint import Blueprint
from api.caller import STAFF, now, requires
from api.fields import Id, Instant
from api.pages import PageQuery
from api.showing import OpeningSchema
from models import db
from models.vocabulary import StepKind
from scheduler import openings
from scheduler.openings import Search

blueprint = Blueprint("openings", __name__, url_prefix="/api/v1/openings", description="Free time.")


class OpeningQuery(PageQuery):
    """What is looked for."""

    step_kind = fields.Enum(StepKind, by_value=True, load_default=None)
    course_step_id = Id(load_default=None)
    start = Instant(required=True, data_key="from")
    end = Instant(required=True, data_key="to")
    practitioner_id = Id(load_default=None)
    site_id = Id(load_default=None)
    patient_id = Id(load_default=None, metadata={"description": "Whose time it takes as well."})

    @validates_schema
    def names_one(self, data: dict[str, Any], **_: Any) -> None:
        """Want one of the two ways to say what the visit is for."""
        if (data.get("step_kind") is None) == (data.get("course_step_id") is None):
            raise ValidationError("Give either this or course_step_id.", "step_kind")


class OpeningPageSchema(Schema):
    """A page of openings; of an empty answer, why, and what is nearest."""

    items = fields.List(fields.Nested(OpeningSchema), required=True)
    next = fields.String(allow_none=True)
    shut_by = fields.List(
        fields.String(),
        metadata={"description": "Of whom or what there is nobody free in the whole window."},
    )
    nearest = fields.Nested(OpeningSchema, allow_none=True)


@blueprint.route("", methods=["GET"])
@requires(*STAFF)
@blueprint.arguments(OpeningQuery, location="query")
@blueprint.response(200, OpeningPageSchema)
def list_openings(asked: dict[str, Any]) -> dict[str, Any]:
    """List the times at which a visit could be booked, earliest first.

    What is offered can be booked as it is, if nobody is faster.
    """
    cursor = asked.pop("cursor")
    after = None if cursor is None else tuple(pages.opened(cursor))
    found = openings.find(db.session(), Search(**asked, after=after), now())
    last = found.openings[-1] if found.more else None
    answer: dict[str, Any] = {
        "items": [showing.opening(one) for one in found.openings],
        "next": None if last is None else pages.next_url([last.starts_at, last.site.site_id]),
    }
    if not found.openings and after is None:
        answer["shut_by"] = found.shut_by
        answer["nearest"] = None if found.nearest is None else showing.opening(found.nearest)
    return answer
