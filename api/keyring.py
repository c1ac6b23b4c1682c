"""Keys over REST: made, narrowed, rotated and revoked."""

from ipaddress import ip_network
from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, ValidationError, fields, post_load, validate

from api import edge, keys, preconditions
from api.blueprint import Blueprint
from api.caller import now, refuse_to_give, requires
from api.errors import ProblemSchema, invalid
from api.fields import Id, Instant, Text
from api.keys import Holder
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf
from models import ApiKey, Practitioner, db
from models.vocabulary import Role
from scheduler import facts
from scheduler.errors import KeyEnded, Taken
from scheduler.permissions import BUNDLES, Permission

blueprint = Blueprint("api-keys", __name__, url_prefix="/api/v1/api-keys", description="Keys.")


class Network(fields.String):
    """A network in CIDR, or one address."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        told = super()._deserialize(value, attr, data, **kwargs)
        try:
            return str(ip_network(told))
        except ValueError as error:
            raise ValidationError("Write a network as 203.0.113.0/24 or 2001:db8::/32.") from error


def _networks(**told: Any) -> "fields.List[str]":
    return fields.List(
        Network(metadata={"example": "203.0.113.0/24"}),
        validate=validate.Length(max=20),
        metadata={"description": "From where alone it may be used; empty: from anywhere."},
        **told,
    )


class ApiKeySchema(Schema):
    """A caller of the API. Of the key itself only the beginning is kept."""

    id = Id(dump_only=True)
    name = Text(most=80, required=True, metadata={"example": "front desk"})
    role = fields.Enum(Role, by_value=True, required=True)
    practitioner_id = Id(allow_none=True, load_default=None)
    scopes = fields.List(
        fields.String(validate=validate.OneOf(list(Permission))),
        allow_none=True,
        load_default=None,
        validate=validate.Length(1, len(Permission)),
        metadata={"description": "Of what the role may do, that alone; null: all of it."},
    )
    networks = _networks(load_default=list)
    expires_at = Instant(
        load_default=None, metadata={"description": "Within a year; in a year if left out."}
    )
    prefix = fields.String(dump_only=True)
    replaces = Id(
        dump_only=True, allow_none=True, metadata={"description": "The key it was rotated from."}
    )
    last_used_on = fields.Date(dump_only=True, allow_none=True)
    revoked_at = Instant(dump_only=True, allow_none=True)

    @post_load
    def holder(self, told: dict[str, Any], **_: object) -> Holder:
        return Holder(**told)


class NewApiKeySchema(ApiKeySchema):
    """A key just made. `key` is shown this once."""

    key = fields.String(dump_only=True)


class ApiKeyChangeSchema(Schema):
    """What can change about a key."""

    name = Text(most=80, metadata={"example": "front desk"})
    networks = _networks()


KEYS = Shelf(ApiKey, ApiKeySchema)


@blueprint.route("", methods=["GET"])
@requires(Permission.KEYS_MANAGE)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ApiKeySchema))
def list_keys(asked: dict[str, Any]) -> dict[str, Any]:
    """List the keys."""
    return KEYS.page(asked)


@blueprint.route("", methods=["POST"])
@requires(Permission.KEYS_MANAGE, step_up=True)
@blueprint.arguments(ApiKeySchema)
@blueprint.response(201, NewApiKeySchema)
def add_key(holder: Holder) -> Response:
    """Make a key and show it, once. Not repeatable: a secret is not kept to be shown again.

    A key that was narrowed makes none that may do more than itself.
    """
    _refuse_unfit(holder)
    refuse_to_give(keys.granted(holder.role, holder.scopes))
    return _shown(*keys.issue_to(db.session(), holder, now()))


@blueprint.route("/<uuid:key_id>", methods=["GET"])
@requires(Permission.KEYS_MANAGE)
@blueprint.response(200, ApiKeySchema)
def read_key(key_id: UUID) -> Any:
    """Read what is kept of a key."""
    return KEYS.read(key_id)


@blueprint.route("/<uuid:key_id>", methods=["PATCH"])
@requires(Permission.KEYS_MANAGE, step_up=True)
@conditional
@blueprint.arguments(ApiKeyChangeSchema)
@blueprint.response(200, ApiKeySchema)
def change_key(changes: dict[str, Any], key_id: UUID) -> Response:
    """Rename a key, or change from where it may be used."""
    return KEYS.change(key_id, changes, check=_refuse_stronger)


@blueprint.route("/<uuid:key_id>/rotate", methods=["POST"])
@requires(Permission.KEYS_MANAGE, step_up=True)
@conditional
@blueprint.response(201, NewApiKeySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="key-ended, already-exists")
def rotate_key(key_id: UUID) -> Response:
    """Make the key that takes this one's place, and show it, once.

    Both work for a week, so that nobody stands before a shut door; revoke the old one sooner if
    it may be known to others. A key is rotated once: the next time, its successor is.
    """
    key = facts.to_change(db.session(), ApiKey, key_id, preconditions.seen_version())
    _refuse_stronger(key)
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now()):
        raise KeyEnded("This key has ended; make a new one.")
    if facts.is_rotated(db.session(), key_id):
        raise Taken("This key was rotated already; rotate its successor.", field="id")
    return _shown(*keys.rotate(db.session(), key, now()), at="/api/v1/api-keys")


@blueprint.route("/<uuid:key_id>", methods=["DELETE"])
@requires(Permission.KEYS_MANAGE, step_up=True)
@conditional
@blueprint.response(204)
def revoke_key(key_id: UUID) -> Response:
    """Revoke a key. It stops working at once; its row stays, for the audit trail."""
    key = facts.to_change(db.session(), ApiKey, key_id, preconditions.seen_version())
    key.revoked_at = key.revoked_at or now()
    key.version += 1
    return edge.gone(KEYS.act("delete", key))


def _refuse_unfit(holder: Holder) -> None:
    if holder.practitioner_id is not None:
        facts.one(db.session(), Practitioner, holder.practitioner_id)
    beyond = sorted(frozenset(holder.scopes or ()) - BUNDLES[holder.role])
    if beyond:
        invalid("scopes", f"No {holder.role} may do this: {', '.join(beyond)}.")
    if holder.expires_at is not None and not now() < holder.expires_at <= now() + keys.LASTS:
        invalid("expires_at", "Choose a time within a year from now.")


def _refuse_stronger(key: ApiKey) -> None:
    """Refuse a narrowed key the secret, or the networks, of one that may do more than itself."""
    refuse_to_give(keys.granted(Role(key.role), key.scopes))


def _shown(key: ApiKey, secret: str, at: str | None = None) -> Response:
    shown = {**{name: getattr(key, name) for name in ApiKeySchema._declared_fields}, "key": secret}
    preconditions.tag(key.version)
    location = f"{at or request.path}/{key.id}"
    return edge.done(NewApiKeySchema, shown, KEYS.act("create", key), status=201, location=location)
