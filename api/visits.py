"""The parts of a visit over REST: readiness, checklist, escort, history, overrides."""

from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, fields, validate
from sqlalchemy import select

from api import edge, pages, preconditions, showing
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Email, Flag, Id, Instant, Phone, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import replacing
from models import (
    Appointment,
    AppointmentEvent,
    Departure,
    Escort,
    Override,
    Patient,
    db,
)
from models.vocabulary import (
    AppointmentStatus,
    GateState,
    Progress,
    Stage,
    WayHome,
)
from scheduler import departures, escorts, evidence, facts, history, lifecycle, sessions
from scheduler.audit import Act
from scheduler.authority import Reasons
from scheduler.departures import Left
from scheduler.errors import NotFound
from scheduler.escorts import NewEscort
from scheduler.permissions import Permission
from scheduler.readiness import Readiness

blueprint = Blueprint("visits", __name__, url_prefix="/api/v1", description="A visit's parts.")


class GateSchema(Schema):
    """How one gate stands, and who can settle it."""

    code = fields.String()
    title = fields.String()
    state = fields.Enum(GateState, by_value=True)
    shuts = fields.Enum(Stage, by_value=True)
    detail = fields.String()
    due_at = Instant()
    who = fields.List(fields.String())
    expires_at = Instant(
        allow_none=True,
        metadata={
            "description": "Of an `expired` gate: ahead, it holds today and lapses before the "
            "visit; past, it has lapsed."
        },
    )


class ReadinessSchema(Schema):
    """May the visit go on to its next stage, and if not, what is missing?"""

    ready = Flag()
    stage = fields.Enum(Stage, by_value=True, allow_none=True)
    gates = fields.List(
        fields.Nested(GateSchema),
        metadata={
            "description": "Those of the protocol, in its order. Then what the service itself asks "
            "of every visit, present only where it speaks against this one: `credentials`, "
            "`minimum-age`."
        },
    )


class EscortSchema(Schema):
    """Who takes the patient home."""

    name = Text(required=True, metadata={"example": "Evan Escort"})
    phone = Phone(required=True)
    email = Email(allow_none=True, load_default=None)
    relation = Text(most=100, required=True)
    way = fields.Enum(
        WayHome,
        by_value=True,
        load_default=WayHome.ESCORT,
        metadata={"description": "One that the protocol allows."},
    )
    may_message = Flag(load_default=False)
    confirmed = Flag(
        load_default=False,
        load_only=True,
        metadata={"description": "Somebody heard from them that they will come."},
    )
    confirmed_at = Instant(dump_only=True, allow_none=True)
    named_by = fields.String(dump_only=True)


class DepartureSchema(Schema):
    """How a patient left after a dose."""

    id = Id(dump_only=True)
    appointment_id = Id(dump_only=True)
    way = fields.Enum(WayHome, by_value=True, required=True)
    accompanied_by = Text(load_default=None, allow_none=True)
    left_at = Instant(metadata={"description": "Now if left out."})
    deviation = Text(
        most=1000,
        lines=True,
        load_default=None,
        allow_none=True,
        metadata={"description": "Why it is otherwise than planned; needed if it is."},
    )
    noted_by = fields.String(dump_only=True)
    noted_at = Instant(dump_only=True)
    replaces = Id(load_default=None, allow_none=True)
    in_error = Flag(
        dump_only=True,
        metadata={"description": "It only says that what it replaces was entered in error."},
    )


class EventSchema(showing.ReasonedSchema):
    """One thing that happened to a visit."""

    id = Id()
    appointment_id = Id()
    action = fields.String()
    from_status = fields.Enum(AppointmentStatus, by_value=True, allow_none=True)
    to_status = fields.Enum(AppointmentStatus, by_value=True)
    progress = fields.Enum(Progress, by_value=True, allow_none=True)
    by = fields.String()
    at = Instant()
    reason = fields.String(allow_none=True)
    facts = fields.Dict()


class OverrideSchema(showing.ReasonedSchema):
    """A gate or a rule that somebody passed over, and why."""

    id = Id(dump_only=True)
    code = fields.String(
        required=True, validate=validate.Length(1, 80), metadata={"example": "fasting"}
    )
    reason = Text(most=1000, lines=True, required=True)
    by = fields.String(dump_only=True)
    at = Instant(dump_only=True)
    starts_at = Instant(dump_only=True)
    replaces = Id(
        dump_only=True,
        allow_none=True,
        metadata={"description": "The one that was entered in error, as this line says; why."},
    )


@blueprint.route("/appointments/<uuid:appointment_id>/readiness", methods=["GET"])
@requires(Permission.APPOINTMENTS_READ)
@blueprint.response(200, ReadinessSchema)
def read_readiness(appointment_id: UUID) -> dict[str, Any]:
    """Say whether a visit may go on, and every gate in the order of the protocol."""
    appointment = facts.one(db.session(), Appointment, appointment_id)
    return told_readiness(
        appointment, evidence.judge(db.session(), [appointment], now())[appointment.id]
    )


@blueprint.route("/appointments/<uuid:appointment_id>/escort", methods=["GET"])
@requires(Permission.ESCORTS_READ)
@blueprint.response(200, EscortSchema)
def read_escort(appointment_id: UUID) -> Escort:
    """Read who takes the patient home."""
    escort = facts.escort_of(db.session(), appointment_id)
    if escort is None:
        raise NotFound("Nobody is named yet.")
    preconditions.tag(escort.version)
    return escort


@blueprint.route("/appointments/<uuid:appointment_id>/escort", methods=["PUT"])
@requires(Permission.ESCORTS_WRITE)
@replacing
@blueprint.arguments(EscortSchema)
@blueprint.response(200, EscortSchema)
def name_escort(told: dict[str, Any], appointment_id: UUID) -> Response:
    """Name who takes the patient home, or say that they said yes. If-Match once one is named."""
    new = NewEscort(**told, seen=preconditions.seen_version)
    escort = escorts.name_escort(db.session(), appointment_id, new, by=by(), now=now())
    preconditions.tag(escort.version)
    visit = facts.one(db.session(), Appointment, appointment_id)
    return edge.done(EscortSchema, escort, _act("update", "escort", visit))


@blueprint.route("/appointments/<uuid:appointment_id>/departure", methods=["GET"])
@requires(Permission.OBSERVATIONS_READ)
@blueprint.response(200, DepartureSchema)
def read_departure(appointment_id: UUID) -> Departure:
    """Read how the patient left."""
    departure = facts.departure_of(db.session(), appointment_id)
    if departure is None:
        raise NotFound("Nobody has noted it yet.")
    return departure


@blueprint.route("/appointments/<uuid:appointment_id>/departure", methods=["POST"])
@requires(Permission.SESSIONS_WRITE)
@blueprint.arguments(DepartureSchema)
@idempotent
@blueprint.response(201, DepartureSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status, already-exists")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def note_departure(told: dict[str, Any], appointment_id: UUID) -> Response:
    """Note who stands there to take the patient home, or how they left otherwise."""
    told.setdefault("left_at", now())
    left = Left(**told)
    line = departures.note(db.session(), appointment_id, left, by=by(), now=now())
    visit = facts.one(db.session(), Appointment, appointment_id)
    return edge.done(DepartureSchema, line, _act("create", "departure", visit), status=201)


@blueprint.route("/appointments/<uuid:appointment_id>/events", methods=["GET"])
@requires(Permission.APPOINTMENTS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(EventSchema))
def list_events(asked: dict[str, Any], appointment_id: UUID) -> dict[str, Any]:
    """List what happened to a visit, in order."""
    facts.one(db.session(), Appointment, appointment_id)
    query = select(AppointmentEvent).where(AppointmentEvent.appointment_id == appointment_id)
    return pages.page(query, [AppointmentEvent.at, AppointmentEvent.id], asked)


@blueprint.route("/patients/<uuid:patient_id>/timeline", methods=["GET"])
@requires(Permission.PATIENTS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(EventSchema))
def read_timeline(asked: dict[str, Any], patient_id: UUID) -> dict[str, Any]:
    """List what happened to all visits of a patient, newest first."""
    facts.one(db.session(), Patient, patient_id)
    query = (
        select(AppointmentEvent)
        .join(
            Appointment,
            (Appointment.clinic_id == AppointmentEvent.clinic_id)
            & (Appointment.id == AppointmentEvent.appointment_id),
        )
        .where(Appointment.patient_id == patient_id)
    )
    return pages.page(query, [AppointmentEvent.at, AppointmentEvent.id], asked, newest_first=True)


@blueprint.route("/appointments/<uuid:appointment_id>/overrides", methods=["GET"])
@requires(Permission.APPOINTMENTS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(OverrideSchema))
def list_overrides(asked: dict[str, Any], appointment_id: UUID) -> dict[str, Any]:
    """List what was passed over, by whom and why."""
    facts.one(db.session(), Appointment, appointment_id)
    query = select(Override).where(Override.appointment_id == appointment_id)
    return pages.page(query, [Override.id], asked)


@blueprint.route(
    "/appointments/<uuid:appointment_id>/overrides/<uuid:override_id>", methods=["GET"]
)
@requires(Permission.APPOINTMENTS_READ)
@blueprint.response(200, OverrideSchema)
def read_override(appointment_id: UUID, override_id: UUID) -> Override:
    """Read what was passed over, by whom and why."""
    override = facts.one(db.session(), Override, override_id)
    if override.appointment_id != appointment_id:
        raise NotFound("There is no such override.")
    return override


@blueprint.route("/appointments/<uuid:appointment_id>/overrides", methods=["POST"])
@requires(Permission.OVERRIDES_WRITE)
@blueprint.arguments(OverrideSchema)
@idempotent
@blueprint.response(201, OverrideSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
def add_override(told: dict[str, Any], appointment_id: UUID) -> Response:
    """Open a gate with a reason, for the time at which the visit stands now."""
    reasons = Reasons({told["code"]: told["reason"]})
    [override] = sessions.override(db.session(), appointment_id, reasons, by=by(), now=now())
    visit = facts.one(db.session(), Appointment, appointment_id)
    act = _act("create", "override", visit, {"code": told["code"]})
    return edge.done(
        OverrideSchema, override, act, status=201, location=f"{request.path}/{override.id}"
    )


def told_readiness(appointment: Appointment, judged: Readiness) -> dict[str, Any]:
    """How a visit stands, as ReadinessSchema has it."""
    stage = lifecycle.stage_ahead(history.state_of(appointment), appointment.kind)
    return {
        "ready": stage is not None and not judged.shut(stage),
        "stage": stage,
        "gates": [
            {
                "code": one.gate.code,
                "title": one.gate.title,
                "state": one.state,
                "shuts": one.gate.shuts,
                "detail": showing.words_of(one, by().permissions),
                "due_at": one.due_at,
                "who": one.gate.who,
                "expires_at": one.expires_at,
            }
            for one in judged.gates
        ],
    }


def _act(
    action: str, entity: str, visit: Appointment, more: dict[str, object] | None = None
) -> Act:
    return Act(
        action=action,
        entity=entity,
        entity_id=visit.id,
        patient_id=visit.patient_id,
        facts=more or {},
    )
