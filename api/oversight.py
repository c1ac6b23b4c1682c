"""The audit trail over REST: what was done and read, by whom."""

from typing import Any

from marshmallow import Schema, fields
from sqlalchemy import select

from api import pages
from api.blueprint import Blueprint
from api.caller import requires
from api.fields import Id, Instant
from api.pages import PageQuery, page_of
from models import AuditEvent
from scheduler.permissions import Permission

blueprint = Blueprint("oversight", __name__, url_prefix="/api/v1", description="Oversight.")


class AuditEventSchema(Schema):
    """One act."""

    id = Id()
    sequence = fields.Integer()
    at = Instant()
    actor = fields.String()
    action = fields.String()
    entity = fields.String()
    entity_id = Id(allow_none=True)
    patient_id = Id(allow_none=True)
    facts = fields.Dict()
    hash = fields.Function(lambda event: event.hash.hex())


class AuditQuery(PageQuery):
    """Which acts."""

    patient_id = Id(load_default=None)


@blueprint.route("/audit-events", methods=["GET"])
@requires(Permission.AUDIT_READ)
@blueprint.arguments(AuditQuery, location="query")
@blueprint.response(200, page_of(AuditEventSchema))
def list_audit_events(asked: dict[str, Any]) -> dict[str, Any]:
    """List what was done and read, newest first."""
    query = select(AuditEvent)
    if asked["patient_id"] is not None:
        query = query.where(AuditEvent.patient_id == asked["patient_id"])
    return pages.page(query, [AuditEvent.at, AuditEvent.id], asked, newest_first=True)
