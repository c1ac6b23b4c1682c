"""Courses over REST: open one for a patient, see how far it is, end it."""

from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, ValidationError, fields, validates_schema
from sqlalchemy import select

from api import edge, preconditions
from api.blueprint import Blueprint
from api.caller import READERS, by, now, requires
from api.fields import Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.shelf import Shelf
from models import Appointment, Course, CourseStep, Protocol, ProtocolVersion, db
from models.appointment import LIVE
from models.vocabulary import AppointmentStatus, CourseStatus, Role, StepKind
from scheduler import courses, facts
from scheduler.audit import Act
from scheduler.authority import Call
from scheduler.errors import NotFound

blueprint = Blueprint("courses", __name__, url_prefix="/api/v1/courses", description="Courses.")


class CourseStepSchema(Schema):
    """One visit that the protocol asks for, and the appointment it has, if any."""

    id = Id()
    key = fields.String()
    position = fields.Integer()
    kind = fields.Enum(StepKind, by_value=True)
    appointment_id = Id(allow_none=True)
    status = fields.Enum(AppointmentStatus, by_value=True, allow_none=True)
    starts_at = Instant(allow_none=True)


class CourseSchema(Schema):
    """One patient under one signed protocol version."""

    id = Id()
    patient_id = Id()
    protocol_version_id = Id()
    status = fields.Enum(CourseStatus, by_value=True)
    opened_by = fields.String()
    created_at = Instant()


class WholeCourseSchema(CourseSchema):
    """A course with its steps."""

    steps = fields.List(fields.Nested(CourseStepSchema))


class NewCourseSchema(Schema):
    """Whom to put under which protocol. By code: its newest signed version."""

    patient_id = Id(required=True)
    protocol_code = fields.String()
    protocol_version_id = Id()

    @validates_schema
    def names_one(self, data: dict[str, Any], **_: Any) -> None:
        """Want one of the two ways to name a protocol."""
        if ("protocol_code" in data) == ("protocol_version_id" in data):
            raise ValidationError("Give either this or protocol_version_id.", "protocol_code")


class ReasonSchema(Schema):
    """Why."""

    reason = Text(most=1000, lines=True, required=True)


class CourseQuery(PageQuery):
    """Which courses."""

    patient_id = Id(load_default=None)


COURSES = Shelf(Course, CourseSchema)


@blueprint.route("", methods=["GET"])
@requires(*READERS)
@blueprint.arguments(CourseQuery, location="query")
@blueprint.response(200, page_of(CourseSchema))
def list_courses(asked: dict[str, Any]) -> dict[str, Any]:
    """List courses, all or a patient's."""
    query = select(Course)
    if asked["patient_id"] is not None:
        query = query.where(Course.patient_id == asked["patient_id"])
    return COURSES.page(asked, query)


@blueprint.route("", methods=["POST"])
@requires(Role.SCHEDULER, Role.CLINICIAN)
@blueprint.arguments(NewCourseSchema)
@idempotent
@blueprint.response(201, WholeCourseSchema)
def open_course(told: dict[str, Any]) -> Response:
    """Open a course: a step for every visit that the protocol asks for."""
    version_id = told.get("protocol_version_id") or _newest(told["protocol_code"])
    course = courses.open_course(db.session(), told["patient_id"], version_id, by=by())
    db.session.refresh(course)
    preconditions.tag(course.version)
    return edge.done(
        WholeCourseSchema,
        _whole(course),
        COURSES.act("create", course),
        status=201,
        location=f"{request.path}/{course.id}",
    )


@blueprint.route("/<uuid:course_id>", methods=["GET"])
@requires(*READERS)
@blueprint.response(200, WholeCourseSchema)
def read_course(course_id: UUID) -> dict[str, Any]:
    """Read a course with its steps and where each stands."""
    course = facts.one(db.session(), Course, course_id)
    preconditions.tag_for_changes(course.version)
    return _whole(course)


@blueprint.route("/<uuid:course_id>/discontinue", methods=["POST"])
@requires(Role.CLINICIAN)
@blueprint.arguments(ReasonSchema)
@idempotent
@blueprint.response(200, WholeCourseSchema)
def discontinue(told: dict[str, Any], course_id: UUID) -> Response:
    """End a course before its time; visits still ahead are cancelled, and who knew is told."""
    call = Call(course_id, preconditions.seen_version(), told["reason"])
    course, cancelled = courses.discontinue(db.session(), call, by=by(), now=now())
    preconditions.tag(course.version)
    act = Act(
        action="update",
        entity="course",
        entity_id=course.id,
        patient_id=course.patient_id,
        facts={"discontinued": True, "cancelled": len(cancelled)},
    )
    return edge.done(WholeCourseSchema, _whole(course), act)


def _newest(code: str) -> UUID:
    found = db.session.scalar(
        select(ProtocolVersion.id)
        .join(Protocol, Protocol.id == ProtocolVersion.protocol_id)
        .where(Protocol.code == code, ProtocolVersion.signed_at.is_not(None))
        .order_by(ProtocolVersion.number.desc())
        .limit(1)
    )
    if found is None:
        raise NotFound(f"There is no signed protocol {code!r}.", field="protocol_code")
    return found


def _whole(course: Course) -> dict[str, Any]:
    facts.one(db.session(), Course, course.id)
    rows = db.session.execute(
        select(
            CourseStep.id,
            CourseStep.key,
            CourseStep.position,
            CourseStep.kind,
            Appointment.id.label("appointment_id"),
            Appointment.status,
            Appointment.starts_at,
        )
        .outerjoin(
            Appointment,
            (Appointment.course_step_id == CourseStep.id) & Appointment.status.in_(_LIVE),
        )
        .where(CourseStep.course_id == course.id)
        .order_by(CourseStep.position)
    )
    shown = {name: getattr(course, name) for name in CourseSchema._declared_fields}
    return {**shown, "steps": [row._asdict() for row in rows]}


_LIVE = [status for status in AppointmentStatus if f"'{status}'" not in LIVE]
