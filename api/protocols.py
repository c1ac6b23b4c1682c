"""Protocols over REST: recipes, their versions, and the signing of a version."""

from typing import Any
from uuid import UUID

from flask import Response, abort, request
from marshmallow import Schema, fields
from sqlalchemy import func, select
from uuid_utils.compat import uuid7

from api import edge, preconditions
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.fields import CODE, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf
from models import Protocol, ProtocolVersion, db
from models.vocabulary import PractitionerRole
from scheduler import facts, protocols
from scheduler.errors import MayNotOverride, Taken, Unfit
from scheduler.permissions import Permission

MOST_VERSIONS = 1_000_000

blueprint = Blueprint("protocols", __name__, url_prefix="/api/v1/protocols", description="Recipes.")


class ProtocolSchema(Schema):
    """A recipe by name."""

    id = Id(dump_only=True)
    code = fields.String(
        required=True,
        validate=CODE,
        metadata={"example": "kap-six"},
    )
    title = Text(required=True)


class VersionSchema(Schema):
    """What a protocol says. Signed, it never changes."""

    id = Id(dump_only=True)
    protocol_id = Id(dump_only=True)
    number = fields.Integer(dump_only=True)
    content = fields.Dict(
        required=True,
        metadata={
            "description": "As scheduler/protocol.schema.json has it; demo/protocols/ has two.",
            "example": {"code": "kap-six", "title": "Preparation", "visits": {}, "steps": []},
        },
    )
    signed_by = fields.String(dump_only=True, allow_none=True)
    signed_at = Instant(dump_only=True, allow_none=True)


PROTOCOLS = Shelf(Protocol, ProtocolSchema)
VERSIONS = Shelf(ProtocolVersion, VersionSchema)


@blueprint.route("", methods=["GET"])
@requires(Permission.PROTOCOLS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ProtocolSchema))
def list_protocols(asked: dict[str, Any]) -> dict[str, Any]:
    """List the protocols."""
    return PROTOCOLS.page(asked)


@blueprint.route("", methods=["POST"])
@requires(Permission.PROTOCOLS_WRITE)
@blueprint.arguments(ProtocolSchema)
@idempotent
@blueprint.response(201, ProtocolSchema)
def add_protocol(told: dict[str, Any]) -> Response:
    """Begin a protocol; what it says comes with its first version."""
    return PROTOCOLS.add(Protocol(id=uuid7(), **told))


@blueprint.route("/<uuid:protocol_id>", methods=["GET"])
@requires(Permission.PROTOCOLS_READ)
@blueprint.response(200, ProtocolSchema)
def read_protocol(protocol_id: UUID) -> Any:
    """Read a protocol's name."""
    return PROTOCOLS.read(protocol_id)


@blueprint.route("/<uuid:protocol_id>/versions", methods=["GET"])
@requires(Permission.PROTOCOLS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(VersionSchema))
def list_versions(asked: dict[str, Any], protocol_id: UUID) -> dict[str, Any]:
    """List the versions of a protocol."""
    facts.one(db.session(), Protocol, protocol_id)
    query = select(ProtocolVersion).where(ProtocolVersion.protocol_id == protocol_id)
    return VERSIONS.page(asked, query)


@blueprint.route("/<uuid:protocol_id>/versions", methods=["POST"])
@requires(Permission.PROTOCOLS_WRITE)
@blueprint.arguments(VersionSchema)
@idempotent
@blueprint.response(201, VersionSchema)
def add_version(told: dict[str, Any], protocol_id: UUID) -> Response:
    """Draft the next version. Everything wrong with it is listed at once."""
    protocol = facts.to_change(db.session(), Protocol, protocol_id, None)
    wrong = protocols.check(told["content"])
    if wrong:
        raise Unfit(
            "This is not a protocol yet.",
            errors=[
                {"pointer": f"/content{fault.pointer}", "detail": fault.detail} for fault in wrong
            ],
        )
    if told["content"]["code"] != protocol.code:
        raise Unfit(f"The content's code must be {protocol.code!r}.", field="content.code")
    last = db.session.scalar(
        select(func.max(ProtocolVersion.number)).where(ProtocolVersion.protocol_id == protocol_id)
    )
    row = ProtocolVersion(
        id=uuid7(), protocol_id=protocol_id, number=(last or 0) + 1, content=told["content"]
    )
    return VERSIONS.add(row, at=str(row.number))


@blueprint.route("/<uuid:protocol_id>/versions/<int:number>", methods=["GET"])
@requires(Permission.PROTOCOLS_READ)
@blueprint.response(200, VersionSchema)
def read_version(protocol_id: UUID, number: int) -> ProtocolVersion:
    """Read one version."""
    version = _version(protocol_id, number)
    preconditions.tag(version.version)
    return version


@blueprint.route("/<uuid:protocol_id>/versions/<int:number>/sign", methods=["POST"])
@requires(Permission.PROTOCOLS_WRITE)
@conditional
@idempotent
@blueprint.response(200, VersionSchema)
def sign_version(protocol_id: UUID, number: int) -> Response:
    """Sign a version: from here on courses may follow it, and it never changes."""
    version = facts.to_change(
        db.session(),
        ProtocolVersion,
        _version(protocol_id, number).id,
        preconditions.seen_version(),
    )
    if PractitionerRole.PRESCRIBER not in by().practitioner_roles:
        raise MayNotOverride("A prescriber signs protocols.", who=["prescriber"])
    if version.signed_at is not None:
        raise Taken("This version is signed already.")
    version.signed_by, version.signed_at = by().name, now()
    version.version += 1
    db.session.flush()
    preconditions.tag(version.version)
    act = VERSIONS.act("update", version, ["signed_by"])
    return edge.done(VersionSchema, version, act)


def _version(protocol_id: UUID, number: int) -> ProtocolVersion:
    found = None
    if number <= MOST_VERSIONS:
        found = db.session.scalar(
            select(ProtocolVersion).where(
                ProtocolVersion.protocol_id == protocol_id, ProtocolVersion.number == number
            )
        )
    if found is None:
        abort(404, description=f"There is nothing at {request.path}.")
    return found
