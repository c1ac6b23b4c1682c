"""Mistakes over REST: a departure or an override that never was, taken back by its own line."""

from typing import Any
from uuid import UUID

from flask import Response

from api import edge
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.idempotency import idempotent
from api.incidents import TakingBackSchema
from api.visits import DepartureSchema, OverrideSchema
from models import Appointment, db
from scheduler import departures, facts, sessions
from scheduler.audit import Act
from scheduler.authority import Call
from scheduler.permissions import Permission

blueprint = Blueprint(
    "mistakes", __name__, url_prefix="/api/v1/appointments", description="What never was."
)


@blueprint.route(
    "/<uuid:appointment_id>/departure/<uuid:departure_id>/enter-in-error", methods=["POST"]
)
@requires(Permission.SESSIONS_WRITE)
@blueprint.arguments(TakingBackSchema)
@idempotent
@blueprint.response(201, DepartureSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists")
def take_back_departure(told: dict[str, Any], appointment_id: UUID, departure_id: UUID) -> Response:
    """Note that nobody left so: entered in error. The line stays to be seen, and opens nothing."""
    call = Call(appointment_id, None, told["reason"])
    line = departures.take_back(db.session(), call, departure_id, by=by(), now=now())
    act = _act("departure", appointment_id, {"replaces": str(departure_id)})
    return edge.done(DepartureSchema, line, act, status=201)


@blueprint.route(
    "/<uuid:appointment_id>/overrides/<uuid:override_id>/enter-in-error", methods=["POST"]
)
@requires(Permission.OVERRIDES_WRITE)
@blueprint.arguments(TakingBackSchema)
@idempotent
@blueprint.response(201, OverrideSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists")
def take_back_override(told: dict[str, Any], appointment_id: UUID, override_id: UUID) -> Response:
    """Note that it was entered in error: the visit is judged without it, and people hear of it."""
    call = Call(appointment_id, None, told["reason"])
    line = sessions.take_back(db.session(), call, override_id, by=by(), now=now())
    act = _act("override", appointment_id, {"code": line.code, "replaces": str(override_id)})
    return edge.done(OverrideSchema, line, act, status=201)


def _act(entity: str, visit_id: UUID, told: dict[str, object]) -> Act:
    visit = facts.one(db.session(), Appointment, visit_id)
    return Act(
        action="enter-in-error",
        entity=entity,
        entity_id=visit.id,
        patient_id=visit.patient_id,
        facts=told,
    )
