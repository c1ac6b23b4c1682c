"""Clinicians and their qualifications over REST."""

from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from flask import Response
from marshmallow import Schema, fields
from sqlalchemy import delete, select
from uuid_utils.compat import uuid7

from api import pages, preconditions
from api.blueprint import Blueprint
from api.caller import now, requires
from api.errors import ProblemSchema
from api.fields import Day, Email, Id, Phone, Region, Text, whole
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf, new_schedule
from models import Practitioner, Qualification, db
from models.vocabulary import ActorKind, PractitionerRole
from scheduler import facts, notices
from scheduler.errors import NotFound, Unfit
from scheduler.permissions import Permission

blueprint = Blueprint(
    "practitioners", __name__, url_prefix="/api/v1", description="Clinicians and their licences."
)


class QualificationSchema(Schema):
    """A licence to act in a role, from one day through another."""

    id = Id(dump_only=True)
    role = fields.Enum(PractitionerRole, by_value=True, required=True)
    licence = Text(most=100, required=True)
    valid_from = Day(required=True)
    valid_until = Day(required=True, metadata={"example": "2029-01-03"})
    regions = fields.List(
        Region(),
        metadata={"description": "The states in which it holds for visits by video."},
    )
    etag = fields.Function(
        lambda row: f'"{row.version}"', metadata={"type": "string", "example": '"1"'}
    )


class QualificationChangeSchema(Schema):
    """What can change about a licence; in which role it holds cannot."""

    valid_until = Day(metadata={"example": "2029-01-03"})
    regions = fields.List(Region())


class PractitionerSchema(Schema):
    """A clinician. `lanes`: how many visits at once, where a protocol lets them be shared."""

    id = Id(dump_only=True)
    schedule_id = Id(dump_only=True)
    name = Text(required=True, metadata={"example": "Dr. Paula Prescriber"})
    email = Email(required=True)
    phone = Phone(allow_none=True)
    lanes = whole(1, 64, load_default=1, load_only=True)


class PractitionerChangeSchema(Schema):
    """What can change about a clinician."""

    name = Text(metadata={"example": "Dr. Paula Prescriber"})
    email = Email()
    phone = Phone(allow_none=True)


class PractitionerQuery(PageQuery):
    """Which clinicians."""

    role = fields.Enum(
        PractitionerRole,
        by_value=True,
        load_default=None,
        metadata={"description": "Whose licence lets them act in it today."},
    )


PRACTITIONERS = Shelf(Practitioner, PractitionerSchema)
QUALIFICATIONS = Shelf(Qualification, QualificationSchema)


@blueprint.route("/practitioners", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.arguments(PractitionerQuery, location="query")
@blueprint.response(200, page_of(PractitionerSchema))
def list_practitioners(asked: dict[str, Any]) -> dict[str, Any]:
    """List the clinicians, all or those of a role."""
    found = pages.narrowed(select(Practitioner), asked, {"role": _acting_in})
    return PRACTITIONERS.page(asked, found)


@blueprint.route("/practitioners", methods=["POST"])
@requires(Permission.SETUP_WRITE)
@blueprint.arguments(PractitionerSchema)
@idempotent
@blueprint.response(201, PractitionerSchema)
def add_practitioner(told: dict[str, Any]) -> Response:
    """Add a clinician, with a schedule of their own."""
    lanes = told.pop("lanes")
    schedule_id = new_schedule(ActorKind.PRACTITIONER, told["name"], lanes)
    return PRACTITIONERS.add(Practitioner(id=uuid7(), schedule_id=schedule_id, **told))


@blueprint.route("/practitioners/<uuid:practitioner_id>", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.response(200, PractitionerSchema)
def read_practitioner(practitioner_id: UUID) -> Any:
    """Read a clinician."""
    return PRACTITIONERS.read(practitioner_id)


@blueprint.route("/practitioners/<uuid:practitioner_id>", methods=["PATCH"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.arguments(PractitionerChangeSchema)
@blueprint.response(200, PractitionerSchema)
def change_practitioner(changes: dict[str, Any], practitioner_id: UUID) -> Response:
    """Change a clinician's name or how to reach them."""
    return PRACTITIONERS.change(practitioner_id, changes)


@blueprint.route("/practitioners/<uuid:practitioner_id>", methods=["DELETE"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.response(204)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def remove_practitioner(practitioner_id: UUID) -> Response:
    """Take a clinician away who was added by mistake, with their licences.

    Who was ever booked, or has a key or an account, stays: let their licences end.
    """
    licences = delete(Qualification).where(Qualification.practitioner_id == practitioner_id)
    return PRACTITIONERS.remove(practitioner_id, licences)


@blueprint.route("/practitioners/<uuid:practitioner_id>/qualifications", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(QualificationSchema))
def list_qualifications(asked: dict[str, Any], practitioner_id: UUID) -> dict[str, Any]:
    """List a clinician's licences."""
    facts.one(db.session(), Practitioner, practitioner_id)
    query = select(Qualification).where(Qualification.practitioner_id == practitioner_id)
    return QUALIFICATIONS.page(asked, query)


@blueprint.route("/practitioners/<uuid:practitioner_id>/qualifications", methods=["POST"])
@requires(Permission.SETUP_WRITE)
@blueprint.arguments(QualificationSchema)
@idempotent
@blueprint.response(201, QualificationSchema)
def add_qualification(told: dict[str, Any], practitioner_id: UUID) -> Response:
    """Add a licence to a clinician."""
    facts.one(db.session(), Practitioner, practitioner_id)
    row = Qualification(id=uuid7(), practitioner_id=practitioner_id, **told)
    return QUALIFICATIONS.add(row)


@blueprint.route(
    "/practitioners/<uuid:practitioner_id>/qualifications/<uuid:qualification_id>",
    methods=["GET"],
)
@requires(Permission.SETUP_READ)
@blueprint.response(200, QualificationSchema)
def read_qualification(practitioner_id: UUID, qualification_id: UUID) -> Qualification:
    """Read a licence."""
    row = _of(practitioner_id, qualification_id)
    preconditions.tag(row.version)
    return row


@blueprint.route(
    "/practitioners/<uuid:practitioner_id>/qualifications/<uuid:qualification_id>",
    methods=["PATCH"],
)
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.arguments(QualificationChangeSchema)
@blueprint.response(200, QualificationSchema)
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def change_qualification(
    changes: dict[str, Any], practitioner_id: UUID, qualification_id: UUID
) -> Response:
    """Let a licence end sooner or later, or hold in other states.

    Whoever serves a visit without one on its day cannot begin it: see to those by a disruption.
    Where there are such visits ahead, staff have a task at once.
    """
    _of(practitioner_id, qualification_id)
    return QUALIFICATIONS.change(
        qualification_id,
        changes,
        check=_refuse_backwards,
        then=lambda licence: notices.see_to_licence(db.session(), licence, now()),
    )


def _acting_in(role: PractitionerRole) -> Any:
    today = now().astimezone(ZoneInfo(facts.clinic(db.session()).time_zone)).date()
    return Practitioner.id.in_(
        select(Qualification.practitioner_id).where(
            Qualification.role == role,
            Qualification.valid_from <= today,
            Qualification.valid_until >= today,
        )
    )


def _of(practitioner_id: UUID, qualification_id: UUID) -> Qualification:
    row = facts.one(db.session(), Qualification, qualification_id)
    if row.practitioner_id != practitioner_id:
        raise NotFound("There is no such qualification.")
    return row


def _refuse_backwards(row: Qualification) -> None:
    if row.valid_until < row.valid_from:
        raise Unfit("It must end after it begins.", field="valid_until")
