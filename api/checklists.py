"""Checklists over REST: what is to be done around a visit, or about an incident."""

from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields
from sqlalchemy import select

from api import edge, pages, preconditions
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Id, Instant, Text
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from models import Appointment, ChecklistItem, db
from models.vocabulary import Owner, TaskStatus
from scheduler import checklists, facts, incidents
from scheduler.audit import Act
from scheduler.checklists import Settling
from scheduler.permissions import Permission

blueprint = Blueprint(
    "checklists", __name__, url_prefix="/api/v1", description="What is to be done, and by whom."
)


class ChecklistItemSchema(Schema):
    """One thing to be done around a visit, or about an incident."""

    id = Id()
    appointment_id = Id(allow_none=True)
    incident_id = Id(allow_none=True)
    code = fields.String()
    title = fields.String()
    owner = fields.Enum(Owner, by_value=True)
    gate = fields.String(allow_none=True)
    due_at = Instant()
    status = fields.Enum(TaskStatus, by_value=True)
    answer = fields.String(allow_none=True)
    settled_by = fields.String(allow_none=True)
    settled_at = Instant(allow_none=True)
    etag = fields.Function(lambda item: f'"{item.version}"')


class SettlingSchema(Schema):
    """Tick (completed), waive (cancelled), fail, or open again (requested)."""

    status = fields.Enum(TaskStatus, by_value=True, required=True)
    answer = Text(most=1000, lines=True, load_default=None, allow_none=True)


@blueprint.route("/appointments/<uuid:appointment_id>/checklist", methods=["GET"])
@requires(Permission.CHECKLISTS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ChecklistItemSchema))
def list_checklist(asked: dict[str, Any], appointment_id: UUID) -> dict[str, Any]:
    """List what is to be done before and around a visit, in the order in which it is due."""
    facts.one(db.session(), Appointment, appointment_id)
    query = select(ChecklistItem).where(ChecklistItem.appointment_id == appointment_id)
    return pages.page(query, [ChecklistItem.due_at, ChecklistItem.id], asked)


@blueprint.route("/checklist-items/<uuid:item_id>", methods=["GET"])
@requires(Permission.CHECKLISTS_READ)
@blueprint.response(200, ChecklistItemSchema)
def read_item(item_id: UUID) -> ChecklistItem:
    """Read one item."""
    item = facts.one(db.session(), ChecklistItem, item_id)
    preconditions.tag(item.version)
    return item


@blueprint.route("/checklist-items/<uuid:item_id>", methods=["PATCH"])
@requires(Permission.CHECKLISTS_WRITE)
@conditional
@blueprint.arguments(SettlingSchema)
@blueprint.response(200, ChecklistItemSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def settle_item(told: dict[str, Any], item_id: UUID) -> Response:
    """Tick, waive, fail or re-open an item."""
    session, version = db.session(), preconditions.seen_version()
    item = facts.to_change(session, ChecklistItem, item_id, version)
    settle = checklists.settle if item.incident_id is None else incidents.settle
    item = settle(session, item, Settling(**told), by=by(), now=now())
    preconditions.tag(item.version)
    act = Act(
        action="update",
        entity="checklist_item",
        entity_id=item.appointment_id or item.incident_id,
        patient_id=facts.patient_of_item(session, item),
        facts=_told(item),
    )
    return edge.done(ChecklistItemSchema, item, act)


def _told(item: ChecklistItem) -> dict[str, object]:
    """What the trail tells: what is to be done about an incident would tell what went wrong."""
    if item.incident_id is not None:
        return {"item": str(item.id), "status": item.status}
    return {"code": item.code, "status": item.status}
