"""Patients over REST."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, ValidationError, fields, validate, validates_schema
from sqlalchemy import func, or_, select
from uuid_utils.compat import uuid7

from api import edge, pages, preconditions
from api.blueprint import Blueprint
from api.caller import now, requires
from api.fields import Day, Email, Id, Phone, Region, Text, Zone
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf, changes_of, new_schedule
from models import Patient, db
from models.vocabulary import ActorKind, Channel
from scheduler import facts, reopening
from scheduler.audit import Act
from scheduler.errors import Unfit
from scheduler.permissions import Permission

blueprint = Blueprint("patients", __name__, url_prefix="/api/v1", description="Whom we treat.")


def _channels(**more: Any) -> Any:
    codes = [channel.value for channel in Channel]
    return fields.List(fields.String(validate=validate.OneOf(codes)), **more)


class PatientSchema(Schema):
    """Somebody in our care."""

    id = Id(dump_only=True)
    schedule_id = Id(dump_only=True)
    record_number = Text(most=40, required=True)
    given_name = Text(required=True)
    family_name = Text(required=True)
    birth_date = Day(required=True)
    email = Email(allow_none=True)
    phone = Phone(allow_none=True)
    time_zone = Zone(required=True)
    region = Region(
        allow_none=True,
        metadata={"description": "The state where the patient is during visits by video."},
    )
    language = fields.String(validate=validate.OneOf(["en", "es"]))
    channels = _channels(
        metadata={"description": "How to be reached, best first; see channel-consents."},
    )
    opted_out = _channels(dump_only=True)
    unreachable = _channels(dump_only=True)
    quiet_from = fields.Time(allow_none=True, format="%H:%M")
    quiet_until = fields.Time(allow_none=True, format="%H:%M")

    @validates_schema
    def _check_quiet_hours(self, data: dict[str, Any], **_: object) -> None:
        if ("quiet_from" in data) != ("quiet_until" in data) or (
            data.get("quiet_from") is None
        ) != (data.get("quiet_until") is None):
            raise ValidationError("Quiet hours have a beginning and an end.", "quiet_until")


class PatientQuery(PageQuery):
    """Which patients."""

    q = Text(most=80, load_default=None, metadata={"description": "How a name or number begins."})


PATIENTS = Shelf(Patient, PatientSchema)


@blueprint.route("/patients", methods=["GET"])
@requires(Permission.PATIENTS_READ)
@blueprint.arguments(PatientQuery, location="query")
@blueprint.response(200, page_of(PatientSchema))
def list_patients(asked: dict[str, Any]) -> dict[str, Any]:
    """List the patients, or those whose name or number begins with `q`."""
    query = select(Patient)
    if asked["q"] is not None:
        keys = (Patient.family_key, Patient.given_key, Patient.number_key)
        query = query.where(or_(*(pages.begins(key, func.lower(asked["q"])) for key in keys)))
    return PATIENTS.page(asked, query)


@blueprint.route("/patients", methods=["POST"])
@requires(Permission.PATIENTS_WRITE)
@blueprint.arguments(PatientSchema)
@idempotent
@blueprint.response(201, PatientSchema)
def add_patient(told: dict[str, Any]) -> Response:
    """Add a patient, with a schedule of their own: nobody is in two visits at once."""
    _refuse_without_consent(told.get("channels", ()), None)
    schedule_id = new_schedule(ActorKind.PATIENT, told["record_number"])
    return PATIENTS.add(Patient(id=uuid7(), schedule_id=schedule_id, **told))


@blueprint.route("/patients/<uuid:patient_id>", methods=["GET"])
@requires(Permission.PATIENTS_READ)
@blueprint.response(200, PatientSchema)
def read_patient(patient_id: UUID) -> Response:
    """Read a patient. The audit trail notes who did."""
    patient = PATIENTS.read(patient_id)
    act = Act(action="read", entity="patient", entity_id=patient_id, patient_id=patient_id)
    preconditions.tag(patient.version)
    return edge.done(PatientSchema, patient, act)


@blueprint.route("/patients/<uuid:patient_id>", methods=["PATCH"])
@requires(Permission.PATIENTS_WRITE)
@conditional
@blueprint.arguments(changes_of(PatientSchema))
@blueprint.response(200, PatientSchema)
def change_patient(changes: dict[str, Any], patient_id: UUID) -> Response:
    """Change what is known of a patient. A new address is tried again if the old one failed.

    Where a visit ahead cannot take place any more by their age, or by the state where they are,
    staff have a task at once.
    """
    patient = facts.one(db.session(), Patient, patient_id)
    _refuse_without_consent(changes.get("channels", ()), patient_id)
    fresh = {channel.value for name, channel in _ADDRESSES.items() if name in changes}
    if fresh & set(patient.unreachable):
        changes["unreachable"] = [code for code in patient.unreachable if code not in fresh]
    if not changes.keys() & {"birth_date", "region"}:
        return PATIENTS.change(patient_id, changes)
    ahead = facts.booked_ahead(db.session(), patient_id, now())
    before = reopening.settled(db.session(), ahead, now())
    return PATIENTS.change(
        patient_id, changes, then=lambda _: reopening.tell(db.session(), ahead, before, now())
    )


def _refuse_without_consent(channels: Sequence[str], patient_id: UUID | None) -> None:
    """A text message needs a consent on record; an e-mail address was given for that."""
    given = {Channel.EMAIL}
    if patient_id is not None:
        given |= facts.consented(db.session(), patient_id)
    for channel in channels:
        if Channel(channel) not in given:
            raise Unfit(
                f"Note the patient's consent to {channel} first (channel-consents).",
                field="channels",
            )


_ADDRESSES = {"email": Channel.EMAIL, "phone": Channel.SMS}
