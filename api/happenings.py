"""What happened to a patient, over REST: it ends clearances before their time."""

from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import fields
from sqlalchemy import select

from api import edge, pages
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Flag, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.showing import ClinicalSchema
from models import HealthEvent, Patient, db
from models.vocabulary import HealthEventKind
from scheduler import facts, happenings
from scheduler.audit import Act
from scheduler.happenings import Happened
from scheduler.permissions import Permission

blueprint = Blueprint(
    "happenings", __name__, url_prefix="/api/v1/patients", description="What happened to patients."
)


class HealthEventSchema(ClinicalSchema):
    """Something that happened to a patient. What it was, clinicians read."""

    _CLINICAL = ("kind", "note")

    id = Id(dump_only=True)
    patient_id = Id(dump_only=True)
    kind = fields.Enum(HealthEventKind, by_value=True, required=True)
    happened_at = Instant(metadata={"description": "Now if left out."})
    note = Text(most=2000, lines=True, load_default=None, allow_none=True)
    noted_by = fields.String(dump_only=True)
    noted_at = Instant(dump_only=True)
    replaces = Id(load_default=None, allow_none=True)
    in_error = Flag(
        load_default=False,
        metadata={"description": "Only to say that what it replaces was entered in error."},
    )


class ShownHealthEventSchema(HealthEventSchema):
    """Something that happened to a patient; to the desk, that something did."""

    kind = fields.Enum(HealthEventKind, by_value=True, dump_only=True)


@blueprint.route("/<uuid:patient_id>/health-events", methods=["GET"])
@requires(Permission.INCIDENTS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ShownHealthEventSchema))
def list_health_events(asked: dict[str, Any], patient_id: UUID) -> dict[str, Any]:
    """List what happened to a patient, oldest first."""
    facts.one(db.session(), Patient, patient_id)
    query = select(HealthEvent).where(HealthEvent.patient_id == patient_id)
    return pages.page(query, [HealthEvent.happened_at, HealthEvent.id], asked)


@blueprint.route("/<uuid:patient_id>/health-events/<uuid:event_id>", methods=["GET"])
@requires(Permission.INCIDENTS_READ)
@blueprint.response(200, ShownHealthEventSchema)
def read_health_event(patient_id: UUID, event_id: UUID) -> HealthEvent:
    """Read one thing that happened."""
    return facts.one_of(db.session(), HealthEvent, event_id, patient_id)


@blueprint.route("/<uuid:patient_id>/health-events", methods=["POST"])
@requires(Permission.INCIDENTS_WRITE)
@blueprint.arguments(HealthEventSchema)
@idempotent
@blueprint.response(201, ShownHealthEventSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def add_health_event(told: dict[str, Any], patient_id: UUID) -> Response:
    """Write down what happened. Clearances that it ends are open again, and people hear of it."""
    told.setdefault("happened_at", now())
    happened = Happened(patient_id=patient_id, **told)
    line = happenings.note(db.session(), happened, by=by(), now=now())
    act = Act(
        action="create",
        entity="health-event",
        entity_id=line.id,
        patient_id=patient_id,
        facts={"replaces": str(line.replaces)} if line.replaces else {},
    )
    location = f"{request.path}/{line.id}"
    return edge.done(ShownHealthEventSchema, line, act, status=201, location=location)
