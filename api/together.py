"""Many courses planned beside each other, in one call."""

import time
from typing import Any

from flask import Response, request
from marshmallow import Schema, fields, validate

from api import edge
from api.blueprint import Blueprint
from api.caller import now, requires
from api.errors import ProblemSchema
from api.fields import Id, whole
from api.idempotency import idempotent
from api.proposals import LeftSchema, ProposalSchema, WishesSchema, kept
from models import db
from scheduler import proposing
from scheduler.audit import Act
from scheduler.permissions import Permission
from scheduler.unplanned import Wishes

blueprint = Blueprint(
    "together", __name__, url_prefix="/api/v1/courses", description="Many courses at once."
)

MOST = 50
"""So many courses at once: planning them takes seconds."""


class CourseToPlanSchema(Schema):
    """One of many courses, and what its patient would like."""

    course_id = Id(required=True)
    wishes = fields.Nested(WishesSchema, load_default=Wishes)


class TogetherSchema(Schema):
    """Courses to be planned beside each other."""

    courses = fields.List(
        fields.Nested(CourseToPlanSchema), required=True, validate=validate.Length(1, MOST)
    )
    seconds = whole(
        1, 10, load_default=5, metadata={"description": "How long to look for a better plan."}
    )


class PlannedSchema(Schema):
    """One of many courses: its proposal, or null if it has no place beside the others."""

    course_id = Id()
    proposal = fields.Nested(ProposalSchema, allow_none=True)
    left = fields.List(fields.Nested(LeftSchema))


class PlannedTogetherSchema(Schema):
    """Courses planned beside each other, in the order in which they were named."""

    items = fields.List(fields.Nested(PlannedSchema))
    placed = fields.Integer(metadata={"description": "How many have a place."})


@blueprint.route("/plan", methods=["POST"])
@requires(Permission.COURSES_WRITE)
@blueprint.arguments(TogetherSchema)
@idempotent
@blueprint.response(201, PlannedTogetherSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="course-closed")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def plan_together(told: dict[str, Any]) -> Response:
    """Plan many courses beside each other: as many as have room, at the least they cost together.

    Their proposals do not stand in each other's way; each is accepted for itself. A course
    without one has no place beside the others: ask for it alone to see what would open it.
    """
    until = time.monotonic() + told["seconds"]
    asked = [(one["course_id"], one["wishes"]) for one in told["courses"]]
    found = proposing.find_together(db.session(), asked, now(), lambda: time.monotonic() < until)
    items = []
    for one, raw in zip(found, request.get_json()["courses"], strict=True):
        shown = kept(one, {"wishes": raw.get("wishes", {})})
        proposal = next(iter(shown["items"]), None)
        items.append({"course_id": one.course.id, "proposal": proposal, "left": shown["left"]})
    answer = {"items": items, "placed": sum(one["proposal"] is not None for one in items)}
    counts = {"what": "propose together", "courses": len(items), "placed": answer["placed"]}
    act = Act(action="create", entity="proposal", facts=counts)
    return edge.done(PlannedTogetherSchema, answer, act, status=201)
