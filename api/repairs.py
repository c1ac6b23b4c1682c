"""The repair of one course over REST: a dose came late, a visit was missed or cancelled."""

from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, validate

from api import edge
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Id
from api.idempotency import idempotent
from api.repaired import AcceptedRepairSchema, RepairSchema, accepted, shown
from models import Course, db
from scheduler import facts, repairs
from scheduler.audit import Act
from scheduler.permissions import Permission

blueprint = Blueprint(
    "repairs", __name__, url_prefix="/api/v1/courses", description="Repairs of courses."
)


class RepairEffortSchema(Schema):
    """How hard to look."""

    effort = fields.String(
        load_default="quick",
        validate=validate.OneOf(["quick", "best"]),
        metadata={"description": "`best` looks for seconds; it takes the `plan` extra."},
    )


class RepairToAcceptSchema(Schema):
    """Which repair."""

    proposal_id = Id(required=True)


@blueprint.route("/<uuid:course_id>/repair", methods=["POST"])
@requires(Permission.COURSES_WRITE)
@blueprint.arguments(RepairEffortSchema)
@idempotent
@blueprint.response(200, RepairSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="course-closed")
def repair_course(told: dict[str, Any], course_id: UUID) -> Response:
    """Propose times for the visits that break a rule, were missed or cancelled."""
    best = told["effort"] == "best"
    found = repairs.mend(db.session(), course_id, best=best, by=by(), now=now())
    return edge.done(
        RepairSchema, shown(found.proposals, found.is_best), _act("create", "propose", course_id)
    )


@blueprint.route("/<uuid:course_id>/repair/accept", methods=["POST"])
@requires(Permission.COURSES_WRITE)
@blueprint.arguments(RepairToAcceptSchema)
@idempotent
@blueprint.response(200, AcceptedRepairSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="course-closed")
@blueprint.alt_response(412, schema=ProblemSchema, description="stale")
def accept_course_repair(told: dict[str, Any], course_id: UUID) -> Response:
    """Move and book what was proposed: all of it or nothing."""
    done = repairs.accept_mending(db.session(), course_id, told["proposal_id"], by=by(), now=now())
    return edge.done(AcceptedRepairSchema, accepted(done), _act("update", "accept", course_id))


def _act(action: str, what: str, course_id: UUID) -> Act:
    return Act(
        action=action,
        entity="course",
        entity_id=course_id,
        patient_id=facts.one(db.session(), Course, course_id).patient_id,
        facts={"repair": what},
    )
