"""Courses over REST: open one for a patient, see how far it is, end it."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, ValidationError, fields, validate, validates_schema
from sqlalchemy import select

from api import edge, pages, preconditions, showing
from api.blueprint import Blueprint
from api.caller import by, now, requires, today
from api.errors import ProblemSchema, invalid
from api.fields import Day, Flag, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf
from models import Appointment, Course, CourseStep, Protocol, ProtocolVersion, db
from models.appointment import LIVE
from models.vocabulary import AppointmentStatus, CourseStatus, StepKind
from scheduler import courses, facts, part2, steps
from scheduler.audit import Act
from scheduler.authority import Call
from scheduler.courses import Terms
from scheduler.errors import NotFound
from scheduler.permissions import Permission

blueprint = Blueprint("courses", __name__, url_prefix="/api/v1/courses", description="Courses.")


class CourseStepSchema(showing.ReasonedSchema):
    """One visit that the protocol asks for, and the appointment it has, if any."""

    id = Id()
    key = fields.String()
    position = fields.Integer()
    kind = fields.Enum(StepKind, by_value=True)
    appointment_id = Id(allow_none=True)
    status = fields.Enum(AppointmentStatus, by_value=True, allow_none=True)
    starts_at = Instant(allow_none=True)
    planned_at = Instant(
        allow_none=True,
        metadata={"description": "When it was to start; of a skipped step, what counts later."},
    )
    belongs = Flag(
        allow_none=True,
        metadata={"description": "Whether it is part of the course; null: not decided yet."},
    )
    skipped = Flag()
    skipped_by = fields.String(allow_none=True)
    skip_reason = fields.String(allow_none=True)
    outcomes = fields.List(fields.String(), metadata={"description": "How it can end."})
    outcome = fields.String(allow_none=True)
    outcome_by = fields.String(allow_none=True)
    etag = fields.Function(
        lambda step: f'"{step["version"]}"', metadata={"type": "string", "example": '"1"'}
    )


class CourseSchema(Schema):
    """One patient under one signed protocol version."""

    id = Id()
    patient_id = Id()
    protocol_version_id = Id()
    status = fields.Enum(CourseStatus, by_value=True)
    opened_by = fields.String()
    created_at = Instant()
    referred_on = Day(allow_none=True, metadata={"description": "The day of the referral."})
    part2 = Flag(
        metadata={
            "description": "Whether it falls under 42 CFR Part 2: its patient is hidden from who "
            "may not `part2:read`, and it is not disclosed without a consent."
        }
    )


class CourseFlagSchema(Schema):
    """Something that stands out in a course."""

    code = fields.String()
    detail = fields.String()


class WholeCourseSchema(CourseSchema):
    """A course with its steps."""

    flags = fields.List(
        fields.Nested(CourseFlagSchema),
        metadata={"description": "What a clinician should look at."},
    )
    steps = fields.List(fields.Nested(CourseStepSchema))


class NewCourseSchema(Schema):
    """Whom to put under which protocol. By code: its newest signed version."""

    patient_id = Id(required=True)
    protocol_code = fields.String(metadata={"example": "kap"})
    protocol_version_id = Id()
    referred_on = Day(
        load_default=None,
        allow_none=True,
        metadata={"description": "The day of the referral, today at the latest; for reports."},
    )
    part2 = Flag(
        load_default=False,
        metadata={
            "description": "Whether it falls under 42 CFR Part 2; false: as its protocol says."
        },
    )

    @validates_schema
    def names_one(self, data: dict[str, Any], **_: Any) -> None:
        """Want one of the two ways to name a protocol."""
        if ("protocol_code" in data) == ("protocol_version_id" in data):
            raise ValidationError("Give either this or protocol_version_id.", "protocol_code")


class CourseChangeSchema(Schema):
    """What can change about a course."""

    part2 = Flag(required=True, metadata={"description": "Whether it falls under 42 CFR Part 2."})


class ReasonSchema(Schema):
    """Why."""

    reason = Text(most=1000, lines=True, required=True)


class OutcomeSchema(Schema):
    """How a step ended."""

    outcome = fields.String(
        required=True,
        validate=validate.Length(1, 40),
        metadata={"description": "One of those that the protocol lists for the step."},
    )


class CourseQuery(PageQuery):
    """Which courses."""

    patient_id = Id(load_default=None)
    status = fields.Enum(CourseStatus, by_value=True, load_default=None)


COURSES = Shelf(Course, CourseSchema)


@blueprint.route("", methods=["GET"])
@requires(Permission.COURSES_READ)
@blueprint.arguments(CourseQuery, location="query")
@blueprint.response(200, page_of(CourseSchema))
def list_courses(asked: dict[str, Any]) -> dict[str, Any]:
    """List courses, all or a patient's, or those that stand in a certain way."""
    wanted = {"patient_id": Course.patient_id.__eq__, "status": Course.status.__eq__}
    return COURSES.page(asked, pages.narrowed(select(Course), asked, wanted))


@blueprint.route("", methods=["POST"])
@requires(Permission.COURSES_WRITE)
@blueprint.arguments(NewCourseSchema)
@idempotent
@blueprint.response(201, WholeCourseSchema)
def open_course(told: dict[str, Any]) -> Response:
    """Open a course: a step for every visit that the protocol asks for."""
    version_id = told.get("protocol_version_id") or _newest(told["protocol_code"])
    if told["referred_on"] is not None and told["referred_on"] > today():
        invalid("referred_on", "This day is still to come.")
    terms = Terms(told["referred_on"], told["part2"])
    course = courses.open_course(db.session(), told["patient_id"], version_id, by=by(), terms=terms)
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
@requires(Permission.COURSES_READ)
@blueprint.response(200, WholeCourseSchema)
def read_course(course_id: UUID) -> dict[str, Any]:
    """Read a course with its steps and where each stands."""
    course = facts.one(db.session(), Course, course_id)
    preconditions.tag_for_changes(course.version)
    return _whole(course)


@blueprint.route("/<uuid:course_id>", methods=["PATCH"])
@requires(Permission.COURSES_DECIDE)
@conditional
@blueprint.arguments(CourseChangeSchema)
@blueprint.response(200, WholeCourseSchema)
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def change_course(told: dict[str, Any], course_id: UUID) -> Response:
    """Say whether a course falls under 42 CFR Part 2; its visits follow it."""
    call = Call(course_id, preconditions.seen_version())
    course = part2.mark(db.session(), call, falls=told["part2"])
    preconditions.tag(course.version)
    act = COURSES.act("update", course, ["part2"])
    act = replace(act, facts={**act.facts, "part2": course.part2})
    return edge.done(WholeCourseSchema, _whole(course), act)


@blueprint.route("/<uuid:course_id>/discontinue", methods=["POST"])
@requires(Permission.COURSES_DECIDE)
@conditional
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


@blueprint.route("/<uuid:course_id>/steps/<uuid:step_id>", methods=["GET"])
@requires(Permission.COURSES_READ)
@blueprint.response(200, CourseStepSchema)
def read_step(course_id: UUID, step_id: UUID) -> dict[str, Any]:
    """Read one step of a course and where it stands."""
    course = facts.one(db.session(), Course, course_id)
    shown = _step(course, step_id)
    preconditions.tag_for_changes(shown["version"])
    return shown


@blueprint.route("/<uuid:course_id>/steps/<uuid:step_id>/skip", methods=["POST"])
@requires(Permission.COURSES_DECIDE)
@conditional
@blueprint.arguments(ReasonSchema)
@idempotent
@blueprint.response(200, CourseStepSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="step-already-booked, course-closed")
def skip_step(told: dict[str, Any], course_id: UUID, step_id: UUID) -> Response:
    """Leave out a step; later ones count from the time that was planned for it."""
    call = _call(course_id, step_id, told["reason"])
    steps.skip(db.session(), call, by=by(), now=now())
    return _changed(course_id, step_id, "skip")


@blueprint.route("/<uuid:course_id>/steps/<uuid:step_id>/unskip", methods=["POST"])
@requires(Permission.COURSES_DECIDE)
@conditional
@idempotent
@blueprint.response(200, CourseStepSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="course-closed")
def unskip_step(course_id: UUID, step_id: UUID) -> Response:
    """Ask for a skipped step after all."""
    steps.unskip(db.session(), _call(course_id, step_id), now=now())
    return _changed(course_id, step_id, "unskip")


@blueprint.route("/<uuid:course_id>/steps/<uuid:step_id>/outcome", methods=["POST"])
@requires(Permission.COURSES_DECIDE)
@conditional
@blueprint.arguments(OutcomeSchema)
@idempotent
@blueprint.response(200, CourseStepSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="step-already-booked, course-closed")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit, too-early")
def conclude_step(told: dict[str, Any], course_id: UUID, step_id: UUID) -> Response:
    """Say how a fulfilled step ended, which decides the branches after it."""
    call = _call(course_id, step_id)
    steps.conclude(db.session(), call, told["outcome"], by=by(), now=now())
    return _changed(course_id, step_id, "outcome")


def _call(course_id: UUID, step_id: UUID, reason: str | None = None) -> Call:
    if facts.one(db.session(), CourseStep, step_id).course_id != course_id:
        raise NotFound("There is no such step in this course.")
    return Call(step_id, preconditions.seen_version(), reason)


def _changed(course_id: UUID, step_id: UUID, what: str) -> Response:
    course = facts.one(db.session(), Course, course_id)
    shown = _step(course, step_id)
    preconditions.tag(shown["version"])
    act = Act(
        action="update",
        entity="course_step",
        entity_id=step_id,
        patient_id=course.patient_id,
        facts={"what": what},
    )
    return edge.done(CourseStepSchema, shown, act)


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
    shown = {name: getattr(course, name) for name in CourseSchema._declared_fields}
    return {**shown, "flags": steps.flags(db.session(), course), "steps": _steps(course)}


def _step(course: Course, step_id: UUID) -> dict[str, Any]:
    found = next((step for step in _steps(course) if step["id"] == step_id), None)
    if found is None:
        raise NotFound("There is no such step in this course.")
    return found


def _steps(course: Course) -> list[dict[str, Any]]:
    """A course's steps, each with the visit that it has, if any."""
    session = db.session()
    protocol = facts.protocol(session, course.protocol_version_id)
    rows = facts.steps_of(session, course.id)
    part = steps.belonging(protocol, rows)
    live = select(Appointment).where(
        Appointment.course_id == course.id, Appointment.status.in_(_LIVE)
    )
    visits = {visit.course_step_id: visit for visit in session.scalars(live)}
    return [
        {
            **{column.key: getattr(row, column.key) for column in CourseStep.__table__.columns},
            **_visit(visits.get(row.id)),
            "belongs": part[row.key],
            "skipped": row.skipped_at is not None,
            "outcomes": protocol.step(row.key).outcomes,
        }
        for row in rows
    ]


def _visit(visit: Appointment | None) -> dict[str, Any]:
    if visit is None:
        return {"appointment_id": None, "status": None, "starts_at": None}
    return {"appointment_id": visit.id, "status": visit.status, "starts_at": visit.starts_at}


_LIVE = [status for status in AppointmentStatus if f"'{status}'" not in LIVE]
