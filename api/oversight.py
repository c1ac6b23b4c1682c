"""Keys and the audit trail over REST: who may come in, and what was done."""

from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, fields
from sqlalchemy import select

from api import edge, keys, pages, preconditions
from api.blueprint import Blueprint
from api.caller import now, requires
from api.fields import Id, Instant, Text
from api.pages import PageQuery, page_of
from api.shelf import Shelf
from models import ApiKey, AuditEvent, Practitioner, db
from models.vocabulary import Role
from scheduler import facts
from scheduler.permissions import Permission

blueprint = Blueprint("oversight", __name__, url_prefix="/api/v1", description="Oversight.")


class ApiKeySchema(Schema):
    """A caller of the API. Of the key itself only the beginning is kept."""

    id = Id(dump_only=True)
    name = Text(most=80, required=True)
    role = fields.Enum(Role, by_value=True, required=True)
    practitioner_id = Id(allow_none=True, load_default=None)
    prefix = fields.String(dump_only=True)
    expires_at = Instant(dump_only=True)
    revoked_at = Instant(dump_only=True, allow_none=True)


class NewApiKeySchema(ApiKeySchema):
    """A key just made. `key` is shown this once."""

    key = fields.String(dump_only=True)


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


KEYS = Shelf(ApiKey, ApiKeySchema)


@blueprint.route("/api-keys", methods=["GET"])
@requires(Permission.KEYS_MANAGE)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ApiKeySchema))
def list_keys(asked: dict[str, Any]) -> dict[str, Any]:
    """List the keys."""
    return KEYS.page(asked)


@blueprint.route("/api-keys", methods=["POST"])
@requires(Permission.KEYS_MANAGE)
@blueprint.arguments(ApiKeySchema)
@blueprint.response(201, NewApiKeySchema)
def add_key(told: dict[str, Any]) -> Response:
    """Make a key and show it, once. Not repeatable: a secret is not kept to be shown again."""
    if told["practitioner_id"] is not None:
        facts.one(db.session(), Practitioner, told["practitioner_id"])
    key, secret = keys.issue(
        db.session(), told["name"], told["role"], told["practitioner_id"], now()
    )
    shown = {**{name: getattr(key, name) for name in ApiKeySchema._declared_fields}, "key": secret}
    preconditions.tag(key.version)
    location = f"{request.path}/{key.id}"
    return edge.done(NewApiKeySchema, shown, KEYS.act("create", key), status=201, location=location)


@blueprint.route("/api-keys/<uuid:key_id>", methods=["GET"])
@requires(Permission.KEYS_MANAGE)
@blueprint.response(200, ApiKeySchema)
def read_key(key_id: UUID) -> Any:
    """Read what is kept of a key."""
    return KEYS.read(key_id)


@blueprint.route("/api-keys/<uuid:key_id>", methods=["DELETE"])
@requires(Permission.KEYS_MANAGE)
@blueprint.response(204)
def revoke_key(key_id: UUID) -> Response:
    """Revoke a key. It stops working at once; its row stays, for the audit trail."""
    key = facts.to_change(db.session(), ApiKey, key_id, preconditions.seen_version())
    key.revoked_at = key.revoked_at or now()
    key.version += 1
    return edge.gone(KEYS.act("delete", key))


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
