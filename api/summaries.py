"""Summaries over REST: what a patient sees of their course, for staff who speak with them."""

from typing import Any
from uuid import UUID

from marshmallow import Schema, fields

from api.blueprint import Blueprint
from api.caller import commit, now, requires
from api.fields import Flag, Id, Instant
from models import db
from models.vocabulary import CourseStatus, StepKind
from scheduler import summaries
from scheduler.audit import Act
from scheduler.permissions import Permission
from scheduler.summaries import Summary

blueprint = Blueprint(
    "summaries", __name__, url_prefix="/api/v1/courses", description="Courses in short."
)


class SeenVisitSchema(Schema):
    """A visit of the course."""

    appointment_id = Id()
    kind = fields.Enum(StepKind, by_value=True)
    title = fields.String()
    starts_at = Instant()
    time_zone = fields.String(attribute="zone.key")
    is_suspended = Flag()


class ToArrangeSchema(Schema):
    """Visits that the course asks for and that are not booked yet."""

    kind = fields.Enum(StepKind, by_value=True)
    count = fields.Integer()


class FilledSchema(Schema):
    """A questionnaire that the patient sent."""

    instrument = fields.String()
    authored_at = Instant(attribute="at")


class AdvisedSchema(Schema):
    """What the patient does or leaves for a while after a dose."""

    code = fields.String(attribute="advice.code")
    words = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        attribute="advice.words",
        metadata={"description": "By language, as the patient reads them."},
    )
    lasts = fields.Function(
        lambda one: str(one.advice.lasts), metadata={"type": "string", "example": "24 hours"}
    )
    until = Instant(
        allow_none=True, metadata={"description": "While it holds, after the last dose."}
    )


class CourseSummarySchema(Schema):
    """A course in short: what its patient sees of it. No score stands here."""

    course_id = Id()
    patient_id = Id()
    status = fields.Enum(CourseStatus, by_value=True)
    took_place = fields.List(fields.Nested(SeenVisitSchema))
    ahead = fields.List(fields.Nested(SeenVisitSchema))
    to_arrange = fields.List(fields.Nested(ToArrangeSchema))
    questionnaires = fields.List(fields.Nested(FilledSchema))
    afterwards = fields.List(fields.Nested(AdvisedSchema))


@blueprint.route("/<uuid:course_id>/summary", methods=["GET"])
@requires(Permission.PATIENTS_READ)
@blueprint.response(200, CourseSummarySchema)
def read_summary(course_id: UUID) -> dict[str, Any]:
    """Read what has taken place in a course, what comes next, and what the patient filled in."""
    found = summaries.of_course(db.session(), course_id, now())
    shown = _shown(found)
    commit(
        Act(
            action="read",
            entity="course",
            entity_id=course_id,
            patient_id=found.course.patient_id,
            facts={"what": "summary"},
        )
    )
    return shown


def _shown(found: Summary) -> dict[str, Any]:
    return {
        "course_id": found.course.id,
        "patient_id": found.course.patient_id,
        "status": found.course.status,
        "took_place": found.took_place,
        "ahead": found.ahead,
        "to_arrange": [{"kind": kind, "count": count} for kind, count in found.to_arrange.items()],
        "questionnaires": found.filled,
        "afterwards": found.afterwards,
    }
