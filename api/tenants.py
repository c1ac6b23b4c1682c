"""Clinics as whoever runs the service has them: made, limited, suspended, closed, shredded."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from flask import Response, current_app, jsonify
from marshmallow import Schema, fields

from api import operating, pages, preconditions
from api.blueprint import Blueprint
from api.caller import now
from api.errors import ProblemSchema
from api.fields import Email, Flag, Id, Instant, Phone, Text, Zone, asked_whole, whole
from api.operating import by, operates, session
from api.pages import CursorQuery, page_of
from api.preconditions import conditional
from identity.accounts import Invitation
from models.vocabulary import Role, TenancyStatus
from scheduler import tenants
from scheduler.tenants import Hold, Move, OperatorPermission, Seen, Step

blueprint = Blueprint(
    "tenants", __name__, url_prefix="/api/v1/operator", description="Running it for clinics."
)

MOST = 1_000_000_000


class TenancyLimitsSchema(Schema):
    """How much a clinic may use. Null: no more is said. What it has beyond it keeps."""

    requests_per_minute = whole(
        1, MOST, allow_none=True, metadata={"description": "Of all its callers together."}
    )
    most_users = whole(
        1, 100_000, allow_none=True, metadata={"description": "Accounts that are not disabled."}
    )
    most_sites = whole(1, 100_000, allow_none=True)


class FirstAdminSchema(Schema):
    """Who is invited by mail to run the clinic."""

    name = Text(required=True, metadata={"example": "Iris Example"})
    email = Email(required=True)


class NewTenancySchema(TenancyLimitsSchema):
    """A clinic to be made, with nothing in it."""

    name = Text(
        required=True,
        metadata={"example": "Harbor & Mesa Practice", "description": "As patients know it."},
    )
    email = Email(required=True, metadata={"description": "The From address of its messages."})
    phone = Phone(required=True)
    time_zone = Zone(required=True)
    emergency_text = Text(most=500, lines=True)
    admin = fields.Nested(FirstAdminSchema, required=True)


class LegalHoldSchema(Schema):
    """Since when a clinic's records may not be deleted, and why."""

    since = Instant()
    by = fields.String()
    reason = fields.String()


class TenancySchema(TenancyLimitsSchema):
    """A clinic: on what terms it is here, and how big it is. Nothing about its patients."""

    id = Id()
    name = fields.String(attribute="called")
    status = fields.Enum(TenancyStatus, by_value=True)
    since = Instant(metadata={"description": "When it came to that status."})
    by = fields.String(attribute="set_by", metadata={"description": "Who brought it there."})
    reason = fields.String(allow_none=True)
    shred_after = Instant(allow_none=True, metadata={"description": "From when it may be."})
    legal_hold = fields.Nested(
        LegalHoldSchema,
        allow_none=True,
        metadata={"description": "While it stands the clinic is not shredded. Null: none."},
    )
    email = fields.String(allow_none=True, metadata={"description": "Null once it is shredded."})
    phone = fields.String(allow_none=True)
    time_zone = fields.String(allow_none=True)
    users = fields.Integer(allow_none=True, metadata={"description": "Those not disabled."})
    sites = fields.Integer(allow_none=True)
    last_active_on = fields.Date(
        allow_none=True, metadata={"description": "The last day, in UTC, on its audit trail."}
    )
    rows_gone = fields.Function(
        lambda row: sum(row["gone"].values()),
        metadata={"type": "integer", "description": "How many rows were shredded so far."},
    )
    created_at = Instant()


class TenancyQuery(CursorQuery):
    """Which clinics."""

    status = fields.Enum(TenancyStatus, by_value=True, load_default=None)


class TenancyReasonSchema(Schema):
    """Why. The clinic reads it in its audit trail."""

    reason = Text(most=500, required=True)


class TenancyShutSchema(TenancyReasonSchema):
    """Why, and whether it is done while somebody is there for a visit."""

    during_visits = Flag(
        load_default=False,
        metadata={"description": "Also while a patient is at the clinic. Think of who is alone."},
    )


class TenancyShredSchema(TenancyReasonSchema):
    """Why, and the clinic's name typed once more."""

    name = Text(
        required=True,
        metadata={
            "example": "Harbor & Mesa Practice",
            "description": "Exactly as the clinic is called.",
        },
    )


class OperatorEventQuery(Schema):
    """Which lines."""

    limit = asked_whole(1, pages.LARGEST, load_default=50)
    after = asked_whole(
        0, 2**31 - 1, load_default=0, metadata={"description": "Those after this one's sequence."}
    )


class OperatorEventSchema(Schema):
    """An act of an operator."""

    id = Id()
    sequence = fields.Integer()
    at = Instant()
    actor = fields.String()
    action = fields.String()
    entity = fields.String()
    entity_id = Id(allow_none=True)
    facts = fields.Dict()
    permission = fields.String(allow_none=True)
    address = fields.String(allow_none=True)
    request_id = Id(allow_none=True)


class OperatorEventPageSchema(Schema):
    """Lines of the operators' own trail, oldest first."""

    items = fields.List(fields.Nested(OperatorEventSchema), required=True)
    next = fields.Integer(
        allow_none=True, metadata={"description": "`after` of the next page; null on the last."}
    )


@blueprint.route("/clinics", methods=["GET"])
@operates(OperatorPermission.CLINICS_READ)
@blueprint.arguments(TenancyQuery, location="query")
@blueprint.response(200, page_of(TenancySchema))
def list_clinics(asked: dict[str, Any]) -> dict[str, Any]:
    """List the clinics, in the order in which they came; those that were shredded, too."""
    after = None if asked["cursor"] is None else pages.opened(asked["cursor"])[0]
    rows = tenants.page(session(), asked["status"], after, asked["limit"] + 1)
    shown = rows[: asked["limit"]]
    following = pages.next_url([shown[-1]["id"]]) if len(rows) > len(shown) else None
    return {"items": shown, "next": following}


@blueprint.route("/clinics", methods=["POST"])
@operates(OperatorPermission.CLINICS_WRITE)
@blueprint.arguments(NewTenancySchema)
@blueprint.response(201, TenancySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists")
def found_clinic(told: dict[str, Any]) -> Response:
    """Make a clinic and invite its first admin by mail.

    Sent twice it is refused the second time: a name is a clinic's own. Where the first answer was
    lost, look whether the admin was invited (`users`), and else do that.
    """
    admin = told.pop("admin")
    made = tenants.found(session(), told, by(), now())
    session().commit()
    operating.invite(made, Invitation(**admin, roles=[Role.ADMIN]))
    return _done(made, status=201, headers={"Location": f"/api/v1/operator/clinics/{made}"})


@blueprint.route("/clinics/<uuid:clinic_id>", methods=["GET"])
@operates(OperatorPermission.CLINICS_READ)
@blueprint.response(200, TenancySchema)
def read_tenancy(clinic_id: UUID) -> Mapping[str, Any]:
    """Read on what terms a clinic is here."""
    found = tenants.one(session(), clinic_id)
    preconditions.tag_for_changes(found["version"])
    return found


@blueprint.route("/clinics/<uuid:clinic_id>", methods=["PATCH"])
@operates(OperatorPermission.CLINICS_WRITE)
@conditional
@blueprint.arguments(TenancyLimitsSchema(partial=True))
@blueprint.response(200, TenancySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def limit_clinic(told: dict[str, Any], clinic_id: UUID) -> Response:
    """Change what a clinic may use. It holds at once; what it has beyond it keeps."""
    tenants.limit(session(), _seen(clinic_id), told, by(), now())
    return _done(clinic_id)


@blueprint.route("/clinics/<uuid:clinic_id>/invite-admin", methods=["POST"])
@operates(OperatorPermission.CLINICS_WRITE)
@blueprint.arguments(FirstAdminSchema)
@blueprint.response(200, TenancySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def invite_first_admin(told: dict[str, Any], clinic_id: UUID) -> Response:
    """Write to the first admin once more, or to another, while nobody has come yet."""
    tenants.refuse_once_begun(session(), clinic_id, by(), now())
    session().commit()
    operating.invite(clinic_id, Invitation(**told, roles=[Role.ADMIN]))
    return _done(clinic_id)


@blueprint.route("/clinics/<uuid:clinic_id>/suspend", methods=["POST"])
@operates(OperatorPermission.CLINICS_WRITE)
@conditional
@blueprint.arguments(TenancyShutSchema)
@blueprint.response(200, TenancySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status, visits-under-way")
def suspend_clinic(told: dict[str, Any], clinic_id: UUID) -> Response:
    """Shut a clinic's doors: nobody signs in, no key works, nothing is said until it resumes."""
    return _moved(clinic_id, Move.SUSPEND, told)


@blueprint.route("/clinics/<uuid:clinic_id>/resume", methods=["POST"])
@operates(OperatorPermission.CLINICS_WRITE)
@conditional
@blueprint.arguments(TenancyReasonSchema)
@blueprint.response(200, TenancySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def resume_clinic(told: dict[str, Any], clinic_id: UUID) -> Response:
    """Open a suspended clinic's doors. What was to be said and is still of use is said now."""
    return _moved(clinic_id, Move.RESUME, told)


@blueprint.route("/clinics/<uuid:clinic_id>/close", methods=["POST"])
@operates(OperatorPermission.CLINICS_WRITE)
@conditional
@blueprint.arguments(TenancyShutSchema)
@blueprint.response(200, TenancySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status, visits-under-way")
def close_clinic(told: dict[str, Any], clinic_id: UUID) -> Response:
    """Close a clinic. Its admins can still take out all of it; after `shred_after` it may go."""
    ends = now() + timedelta(days=current_app.config["CLOSED_DAYS"])
    return _moved(clinic_id, Move.CLOSE, {**told, "shred_after": ends})


@blueprint.route("/clinics/<uuid:clinic_id>/reopen", methods=["POST"])
@operates(OperatorPermission.CLINICS_WRITE)
@conditional
@blueprint.arguments(TenancyReasonSchema)
@blueprint.response(200, TenancySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def reopen_clinic(told: dict[str, Any], clinic_id: UUID) -> Response:
    """Open a closed clinic's doors again, as if it had been suspended."""
    return _moved(clinic_id, Move.REOPEN, told)


@blueprint.route("/clinics/<uuid:clinic_id>/hold", methods=["POST"])
@operates(OperatorPermission.CLINICS_SHRED)
@conditional
@blueprint.arguments(TenancyReasonSchema)
@blueprint.response(200, TenancySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def hold_clinic(told: dict[str, Any], clinic_id: UUID) -> Response:
    """Put a clinic's records under a legal hold: it is not shredded until that is lifted."""
    return _held(clinic_id, Hold(stands=True, reason=told["reason"]))


@blueprint.route("/clinics/<uuid:clinic_id>/release", methods=["POST"])
@operates(OperatorPermission.CLINICS_SHRED)
@conditional
@blueprint.arguments(TenancyReasonSchema)
@blueprint.response(200, TenancySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def release_clinic(told: dict[str, Any], clinic_id: UUID) -> Response:
    """Lift the legal hold on a clinic's records."""
    return _held(clinic_id, Hold(stands=False, reason=told["reason"]))


@blueprint.route("/clinics/<uuid:clinic_id>/shred", methods=["POST"])
@operates(OperatorPermission.CLINICS_SHRED)
@conditional
@blueprint.arguments(TenancyShredSchema)
@blueprint.response(202, TenancySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status, legal-hold")
@blueprint.alt_response(422, schema=ProblemSchema, description="too-early, unfit")
def shred_clinic(told: dict[str, Any], clinic_id: UUID) -> Response:
    """Delete every row of a closed clinic, for good. The worker does it; there is no way back."""
    return _moved(clinic_id, Move.SHRED, told, status=202)


@blueprint.route("/events", methods=["GET"])
@operates(OperatorPermission.EVENTS_READ)
@blueprint.arguments(OperatorEventQuery, location="query")
@blueprint.response(200, OperatorEventPageSchema)
def list_operator_events(asked: dict[str, Any]) -> dict[str, Any]:
    """List what operators did, oldest first."""
    rows = tenants.events(session(), asked["after"], asked["limit"] + 1)
    shown = rows[: asked["limit"]]
    return {"items": shown, "next": shown[-1]["sequence"] if len(rows) > len(shown) else None}


def _moved(clinic_id: UUID, move: Move, told: Mapping[str, Any], status: int = 200) -> Response:
    tenants.move(session(), _seen(clinic_id), Step(move, told), by(), now())
    return _done(clinic_id, status=status)


def _held(clinic_id: UUID, hold: Hold) -> Response:
    tenants.hold(session(), _seen(clinic_id), hold, by(), now())
    return _done(clinic_id)


def _seen(clinic_id: UUID) -> Seen:
    return Seen(clinic_id, preconditions.seen_version())


def _done(
    clinic_id: UUID, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Commit what was done, with its lines in both trails, and answer with how it stands now."""
    found = tenants.one(session(), clinic_id)
    body = TenancySchema().dump(found)
    session().commit()
    preconditions.tag_for_changes(found["version"])
    answer = jsonify(body)
    answer.status_code = status
    answer.headers.update(headers or {})
    return answer
