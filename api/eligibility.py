"""Eligibility over REST: whether a course goes on to its doses, and who decided so."""

from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, post_load
from sqlalchemy import select

from api import edge, pages
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Day, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from models import Course, Eligibility, db
from models.vocabulary import EligibilityOutcome
from scheduler import eligibility, facts
from scheduler.audit import Act
from scheduler.eligibility import NewEligibility
from scheduler.permissions import Permission

blueprint = Blueprint(
    "eligibility", __name__, url_prefix="/api/v1/courses", description="Who goes on to doses."
)


class EligibilitySchema(Schema):
    """What was decided about a course. The latest counts; nothing is ever changed."""

    id = Id(dump_only=True)
    course_id = Id(dump_only=True)
    outcome = fields.Enum(EligibilityOutcome, by_value=True, required=True)
    reason = Text(
        most=2000,
        lines=True,
        load_default=None,
        allow_none=True,
        metadata={"description": "Needed unless it is `eligible`."},
    )
    conditions = Text(
        most=2000,
        lines=True,
        load_default=None,
        allow_none=True,
        metadata={"description": "Of `eligible-with-conditions`."},
    )
    deferred_until = Day(
        load_default=None, allow_none=True, metadata={"description": "Of `deferred`."}
    )
    rescreen_on = Day(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "On this day somebody looks again; through it the decision holds."
        },
    )
    remind_at = Instant(
        dump_only=True,
        allow_none=True,
        metadata={"description": "When a task is set, and the patient is written to."},
    )
    decided_by = fields.String(dump_only=True)
    decided_at = Instant(dump_only=True)

    @post_load
    def decision(self, data: dict[str, Any], **_: object) -> NewEligibility:
        return NewEligibility(**data)


@blueprint.route("/<uuid:course_id>/eligibility", methods=["GET"])
@requires(Permission.SCREENING_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(EligibilitySchema))
def list_eligibility(asked: dict[str, Any], course_id: UUID) -> dict[str, Any]:
    """List what was decided about a course, oldest first."""
    facts.one(db.session(), Course, course_id)
    query = select(Eligibility).where(Eligibility.course_id == course_id)
    return pages.page(query, [Eligibility.decided_at, Eligibility.id], asked)


@blueprint.route("/<uuid:course_id>/eligibility", methods=["POST"])
@requires(Permission.SCREENING_WRITE)
@blueprint.arguments(EligibilitySchema)
@idempotent
@blueprint.response(201, EligibilitySchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def decide_eligibility(new: NewEligibility, course_id: UUID) -> Response:
    """Decide whether a course goes on to its doses. Visits that it shuts are told.

    Of a course that is over the last decision still counts for visits outside any course.
    """
    decision = eligibility.decide(db.session(), course_id, new, by=by(), now=now())
    act = Act(
        action="create",
        entity="eligibility",
        entity_id=decision.id,
        patient_id=decision.patient_id,
        facts={"course": str(course_id), "outcome": decision.outcome},
    )
    return edge.done(EligibilitySchema, decision, act, status=201)
