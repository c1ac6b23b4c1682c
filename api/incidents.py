"""Incidents over REST: what went wrong, and what is done about it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, validate
from sqlalchemy import Select, exists, select
from sqlalchemy.orm import aliased

from api import edge, pages
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.checklists import ChecklistItemSchema
from api.errors import ProblemSchema
from api.fields import Flag, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.showing import ClinicalSchema
from models import ChecklistItem, Incident, Patient, db
from scheduler import facts, incidents
from scheduler.audit import Act
from scheduler.incidents import Told
from scheduler.permissions import Permission

blueprint = Blueprint(
    "incidents", __name__, url_prefix="/api/v1", description="What went wrong, and what is done."
)


class IncidentSchema(ClinicalSchema):
    """Something that went wrong. What was noted about it, clinicians read."""

    _CLINICAL = ("note",)

    id = Id(dump_only=True)
    patient_id = Id(dump_only=True)
    appointment_id = Id(
        load_default=None,
        allow_none=True,
        metadata={"description": "The visit in which it happened, if it was in one."},
    )
    code = fields.String(
        required=True,
        validate=validate.Length(1, 40),
        metadata={
            "description": "One that the patient's protocol knows.",
            "example": "adverse-event",
        },
    )
    title = fields.String(dump_only=True)
    occurred_at = Instant(metadata={"description": "Now if left out."})
    note = Text(most=4000, lines=True, load_default=None, allow_none=True)
    noted_by = fields.String(dump_only=True)
    noted_at = Instant(dump_only=True)
    health_event_id = Id(dump_only=True, allow_none=True)
    replaces = Id(dump_only=True, allow_none=True)
    in_error = Flag(
        dump_only=True,
        metadata={"description": "It says only that what it replaces was entered in error."},
    )


class TakingBackSchema(Schema):
    """Why something was entered in error."""

    reason = Text(most=1000, lines=True, required=True)


class IncidentQuery(PageQuery):
    """Which incidents."""

    start = Instant(data_key="from", load_default=None)
    end = Instant(data_key="to", load_default=None)


@blueprint.route("/patients/<uuid:patient_id>/incidents", methods=["GET"])
@requires(Permission.INCIDENTS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(IncidentSchema))
def list_incidents(asked: dict[str, Any], patient_id: UUID) -> dict[str, Any]:
    """List what went wrong with a patient, oldest first, without what was taken back."""
    facts.one(db.session(), Patient, patient_id)
    query = _standing().where(Incident.patient_id == patient_id)
    return pages.page(query, [Incident.occurred_at, Incident.id], asked)


@blueprint.route("/incidents", methods=["GET"])
@requires(Permission.INCIDENTS_READ)
@blueprint.arguments(IncidentQuery, location="query")
@blueprint.response(200, page_of(IncidentSchema))
def list_incidents_of_clinic(asked: dict[str, Any]) -> dict[str, Any]:
    """List what went wrong in the clinic, oldest first, without what was taken back."""
    wanted: dict[str, Callable[[Any], Any]] = {
        "start": lambda value: Incident.occurred_at >= value,
        "end": lambda value: Incident.occurred_at < value,
    }
    query = pages.narrowed(_standing(), asked, wanted)
    return pages.page(query, [Incident.occurred_at, Incident.id], asked)


@blueprint.route("/patients/<uuid:patient_id>/incidents", methods=["POST"])
@requires(Permission.INCIDENTS_WRITE)
@blueprint.arguments(IncidentSchema)
@idempotent
@blueprint.response(201, IncidentSchema)
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def record_incident(told: dict[str, Any], patient_id: UUID) -> Response:
    """Write down what went wrong: its checklist starts, and who must know is told."""
    told.setdefault("occurred_at", now())
    incident = incidents.record(
        db.session(), Told(patient_id=patient_id, **told), by=by(), now=now()
    )
    location = f"/api/v1/incidents/{incident.id}"
    return edge.done(
        IncidentSchema, incident, _act("create", incident), status=201, location=location
    )


@blueprint.route("/incidents/<uuid:incident_id>", methods=["GET"])
@requires(Permission.INCIDENTS_READ)
@blueprint.response(200, IncidentSchema)
def read_incident(incident_id: UUID) -> Incident:
    """Read one."""
    return facts.one(db.session(), Incident, incident_id)


@blueprint.route("/incidents/<uuid:incident_id>/checklist", methods=["GET"])
@requires(Permission.CHECKLISTS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ChecklistItemSchema))
def list_what_is_done(asked: dict[str, Any], incident_id: UUID) -> dict[str, Any]:
    """List what is to be done about it, in the order in which it is due.

    Each is settled by `PATCH /checklist-items/{id}`.
    """
    facts.one(db.session(), Incident, incident_id)
    query = select(ChecklistItem).where(ChecklistItem.incident_id == incident_id)
    return pages.page(query, [ChecklistItem.due_at, ChecklistItem.id], asked)


@blueprint.route("/incidents/<uuid:incident_id>/enter-in-error", methods=["POST"])
@requires(Permission.INCIDENTS_WRITE)
@blueprint.arguments(TakingBackSchema)
@idempotent
@blueprint.response(201, IncidentSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists")
def take_back_incident(told: dict[str, Any], incident_id: UUID) -> Response:
    """Note that it was entered in error: what it asked for is off. The line stays to be seen."""
    line = incidents.take_back(db.session(), incident_id, told["reason"], by=by(), now=now())
    location = f"/api/v1/incidents/{line.id}"
    return edge.done(
        IncidentSchema, line, _act("enter-in-error", line), status=201, location=location
    )


def _standing() -> Select[Incident]:
    later = aliased(Incident)
    return select(Incident).where(
        ~Incident.in_error,
        ~exists().where(later.clinic_id == Incident.clinic_id, later.replaces == Incident.id),
    )


def _act(action: str, incident: Incident) -> Act:
    return Act(
        action=action,
        entity="incident",
        entity_id=incident.id,
        patient_id=incident.patient_id,
    )
