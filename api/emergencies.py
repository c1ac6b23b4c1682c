"""Break-glass over REST: opening a record in an emergency, and looking at who did."""

from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, validate
from sqlalchemy import select

from api import edge, pages, preconditions
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import AskedFlag, Flag, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf
from models import BreakGlass, db
from scheduler import emergencies
from scheduler.authority import Call
from scheduler.emergencies import Verdict
from scheduler.permissions import Permission

blueprint = Blueprint(
    "break-glass", __name__, url_prefix="/api/v1/break-glass", description="Emergencies."
)


class BreakGlassSchema(Schema):
    """A record opened in an emergency: one patient's, to be read, for an hour."""

    id = Id(dump_only=True)
    patient_id = Id(required=True)
    reason = Text(most=1000, lines=True, required=True, validate=validate.Length(min=10))
    asked_by = fields.String(dump_only=True)
    asked_at = Instant(dump_only=True)
    expires_at = Instant(dump_only=True)
    is_repeated = Flag(
        dump_only=True,
        metadata={"description": "The third that they asked for within a week, or one after it."},
    )
    reviewed_by = fields.String(dump_only=True, allow_none=True)
    reviewed_at = Instant(dump_only=True, allow_none=True)
    justified = Flag(dump_only=True, allow_none=True)
    review_note = fields.String(dump_only=True, allow_none=True)


class BreakGlassQuery(PageQuery):
    """Which of them."""

    reviewed = AskedFlag(load_default=None)
    patient_id = Id(load_default=None)


class VerdictSchema(Schema):
    """What somebody else thinks of it."""

    justified = Flag(required=True)
    note = Text(most=1000, lines=True, load_default=None)


GLASSES = Shelf(BreakGlass, BreakGlassSchema)


@blueprint.route("", methods=["POST"])
@requires(Permission.BREAK_GLASS_ASK, step_up=True)
@blueprint.arguments(BreakGlassSchema)
@idempotent
@blueprint.response(201, BreakGlassSchema)
@blueprint.alt_response(404, schema=ProblemSchema, description="not-found")
def open_record(told: dict[str, Any]) -> Response:
    """Open a patient's record to yourself for an hour, to be read.

    Whoever is responsible for privacy hears of it at once, and somebody else reviews it.
    """
    glass = emergencies.open_record(db.session(), **told, by=by(), now=now())
    preconditions.tag(glass.version)
    location = f"/api/v1/break-glass/{glass.id}"
    act = GLASSES.act("create", glass)
    return edge.done(BreakGlassSchema, glass, act, status=201, location=location)


@blueprint.route("", methods=["GET"])
@requires(Permission.BREAK_GLASS_REVIEW)
@blueprint.arguments(BreakGlassQuery, location="query")
@blueprint.response(200, page_of(BreakGlassSchema))
def list_openings_of_records(asked: dict[str, Any]) -> dict[str, Any]:
    """List who opened records in emergencies, newest first; `reviewed=false` is to be reviewed."""
    wanted = {
        "reviewed": lambda yes: BreakGlass.reviewed_at.is_not(None) == yes,
        "patient_id": BreakGlass.patient_id.__eq__,
    }
    query = pages.narrowed(select(BreakGlass), asked, wanted)
    return pages.page(query, [BreakGlass.asked_at, BreakGlass.id], asked, newest_first=True)


@blueprint.route("/<uuid:glass_id>", methods=["GET"])
@requires(Permission.BREAK_GLASS_REVIEW)
@blueprint.response(200, BreakGlassSchema)
def read_opening_of_record(glass_id: UUID) -> Any:
    """Read one."""
    return GLASSES.read(glass_id)


@blueprint.route("/<uuid:glass_id>/review", methods=["POST"])
@requires(Permission.BREAK_GLASS_REVIEW)
@conditional
@blueprint.arguments(VerdictSchema)
@idempotent
@blueprint.response(200, BreakGlassSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def review_opening_of_record(told: dict[str, Any], glass_id: UUID) -> Response:
    """Note that you looked at it. Whoever asked for it cannot."""
    call = Call(glass_id, preconditions.seen_version())
    verdict = Verdict(told["justified"], told["note"])
    glass = emergencies.review(db.session(), call, verdict, by=by(), now=now())
    preconditions.tag(glass.version)
    act = GLASSES.act("update", glass, ["reviewed_at"])
    return edge.done(BreakGlassSchema, glass, act)
