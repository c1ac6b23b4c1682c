"""Other sites by which staff may sign in, over REST."""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from flask import Response
from marshmallow import Schema, ValidationError, fields, validate
from uuid_utils.compat import uuid7

from api.blueprint import Blueprint
from api.caller import requires
from api.errors import ProblemSchema
from api.fields import Flag, Id, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf
from models import IdentityProvider
from scheduler.permissions import Permission

blueprint = Blueprint(
    "providers", __name__, url_prefix="/api/v1", description="Sites that know who staff are."
)


def _is_issuer(told: str) -> None:
    """Refuse what cannot be an issuer: it is compared with tokens letter by letter."""
    parts = urlsplit(told)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValidationError("Write it as https://accounts.example.org.")
    if parts.query or parts.fragment or parts.username:
        raise ValidationError("Leave out what follows ? or #, and any name before @.")


class IdentityProviderSchema(Schema):
    """A site that speaks OpenID Connect."""

    id = Id(dump_only=True)
    name = Text(most=60, required=True, metadata={"example": "Example login"})
    issuer = fields.String(
        required=True,
        validate=[validate.Length(max=300), _is_issuer],
        metadata={
            "example": "https://accounts.example.org",
            "description": "As its tokens have it, letter by letter.",
        },
    )
    client_id = Text(most=300, required=True)
    client_secret = Text(most=500, required=True, load_only=True)
    is_active = Flag(load_default=True)


class IdentityProviderChangeSchema(Schema):
    """What can change about such a site. The issuer cannot: it is part of who people are."""

    name = Text(most=60, metadata={"example": "Example login"})
    client_id = Text(most=300)
    client_secret = Text(most=500)
    is_active = Flag()


PROVIDERS = Shelf(IdentityProvider, IdentityProviderSchema)


@blueprint.route("/identity-providers", methods=["GET"])
@requires(Permission.USERS_MANAGE)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(IdentityProviderSchema))
def list_providers(asked: dict[str, Any]) -> dict[str, Any]:
    """List the sites by which staff may sign in."""
    return PROVIDERS.page(asked)


@blueprint.route("/identity-providers", methods=["POST"])
@requires(Permission.USERS_MANAGE, step_up=True)
@blueprint.arguments(IdentityProviderSchema)
@idempotent
@blueprint.response(201, IdentityProviderSchema)
def add_provider(told: dict[str, Any]) -> Response:
    """Add one. Nobody comes in by it before they have linked their account with theirs there."""
    return PROVIDERS.add(IdentityProvider(id=uuid7(), **told))


@blueprint.route("/identity-providers/<uuid:provider_id>", methods=["GET"])
@requires(Permission.USERS_MANAGE)
@blueprint.response(200, IdentityProviderSchema)
def read_provider(provider_id: UUID) -> Any:
    """Read one; its secret is never shown."""
    return PROVIDERS.read(provider_id)


@blueprint.route("/identity-providers/<uuid:provider_id>", methods=["PATCH"])
@requires(Permission.USERS_MANAGE, step_up=True)
@conditional
@blueprint.arguments(IdentityProviderChangeSchema)
@blueprint.response(200, IdentityProviderSchema)
@blueprint.alt_response(412, schema=ProblemSchema, description="stale")
def change_provider(changes: dict[str, Any], provider_id: UUID) -> Response:
    """Change one, or let nobody come in by it any more."""
    return PROVIDERS.change(provider_id, changes)
