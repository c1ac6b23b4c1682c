"""Clearances over REST: who vouched for what about a patient. Nothing is ever changed."""

from datetime import datetime
from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, fields
from sqlalchemy import select

from api import edge
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import CODE, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.shelf import Shelf
from models import Clearance, Patient, db
from models.vocabulary import ClearanceOutcome
from scheduler import clearances, facts
from scheduler.audit import Act
from scheduler.clearances import NewClearance
from scheduler.permissions import Permission

blueprint = Blueprint("clearances", __name__, url_prefix="/api/v1/patients", description="Gates.")

_LEFT_OUT = "If left out where the protocol asks for it: what the patient's active course gives."


class ClearanceSchema(Schema):
    """Somebody vouched that a gate is settled, does not apply, or must stay shut."""

    id = Id(dump_only=True)
    gate = fields.String(
        required=True,
        validate=CODE,
        metadata={"example": "medical-clearance"},
    )
    outcome = fields.Enum(ClearanceOutcome, by_value=True, required=True)
    cleared_at = Instant(metadata={"description": "When it was settled; now if left out."})
    valid_until = Instant(allow_none=True)
    cleared_by = fields.String(dump_only=True)
    noted_at = Instant(dump_only=True)
    note = Text(most=2000, lines=True, allow_none=True)
    medicine = fields.String(
        allow_none=True,
        validate=CODE,
        metadata={"description": _LEFT_OUT, "example": "esketamine"},
    )
    route = fields.String(
        allow_none=True,
        validate=CODE,
        metadata={"description": _LEFT_OUT, "example": "intranasal"},
    )
    text_id = Id(
        allow_none=True,
        metadata={
            "description": "The version of the clinic's text. If left out where the protocol asks "
            "for it: the one that stood then."
        },
    )


@blueprint.route("/<uuid:patient_id>/clearances", methods=["GET"])
@requires(Permission.CLEARANCES_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ClearanceSchema))
def list_clearances(asked: dict[str, Any], patient_id: UUID) -> dict[str, Any]:
    """List what was vouched for, oldest first."""
    facts.one(db.session(), Patient, patient_id)
    query = select(Clearance).where(Clearance.patient_id == patient_id)
    return Shelf(Clearance, ClearanceSchema).page(asked, query)


@blueprint.route("/<uuid:patient_id>/clearances/<uuid:clearance_id>", methods=["GET"])
@requires(Permission.CLEARANCES_READ)
@blueprint.response(200, ClearanceSchema)
def read_clearance(patient_id: UUID, clearance_id: UUID) -> Clearance:
    """Read who vouched for one gate, and until when."""
    return facts.one_of(db.session(), Clearance, clearance_id, patient_id)


@blueprint.route("/<uuid:patient_id>/clearances", methods=["POST"])
@requires(Permission.CLEARANCES_WRITE)
@blueprint.arguments(ClearanceSchema)
@idempotent
@blueprint.response(201, ClearanceSchema)
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def add_clearance(told: dict[str, Any], patient_id: UUID) -> Response:
    """Vouch for a gate of a patient."""
    cleared_at: datetime = told.pop("cleared_at", now())
    clearance = clearances.clear(
        db.session(), patient_id, NewClearance(cleared_at=cleared_at, **told), by=by(), now=now()
    )
    act = Act(
        action="create",
        entity="clearance",
        entity_id=clearance.id,
        patient_id=patient_id,
        facts={"gate": clearance.gate, "outcome": clearance.outcome},
    )
    return edge.done(
        ClearanceSchema, clearance, act, status=201, location=f"{request.path}/{clearance.id}"
    )
