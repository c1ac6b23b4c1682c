"""42 CFR Part 2 over REST: the consents to disclosing records that fall under it."""

from datetime import date
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, ValidationError, fields, post_load, validates_schema
from sqlalchemy import select

from api import edge, preconditions
from api.blueprint import Blueprint
from api.caller import by, now, requires, today
from api.errors import ProblemSchema, invalid
from api.fields import Day, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf
from models import DisclosureConsent, Patient, db
from models.vocabulary import DisclosurePurpose
from scheduler import facts, part2
from scheduler.authority import Call
from scheduler.part2 import Signed
from scheduler.permissions import Permission

blueprint = Blueprint(
    "part2",
    __name__,
    url_prefix="/api/v1/patients/<uuid:patient_id>/disclosure-consents",
    description="Consents to disclosing what falls under 42 CFR Part 2.",
)


class DisclosureConsentSchema(Schema):
    """A patient lets records that fall under 42 CFR Part 2 be disclosed."""

    id = Id(dump_only=True)
    patient_id = Id(dump_only=True)
    purpose = fields.Enum(
        DisclosurePurpose,
        by_value=True,
        required=True,
        metadata={
            "description": "`treatment-payment-operations`: the single consent to whoever treats, "
            "pays or helps to operate (42 CFR 2.31(a)(4)(ii)); it lets them into exports. One that "
            "names somebody alone is `other`; it is kept to be read."
        },
    )
    recipient = Text(
        required=True,
        metadata={
            "description": "To whom, as the patient signed it: a name, or a class of people.",
            "example": "My treating providers, health plans and those who help operate them",
        },
    )
    signed_on = Day(
        required=True, metadata={"description": "Today at the latest.", "example": "2026-02-27"}
    )
    ends_on = Day(
        load_default=None,
        allow_none=True,
        metadata={"description": "The last day on which it holds. Null: until it is withdrawn."},
    )
    noted_by = fields.String(dump_only=True)
    withdrawn_at = Instant(dump_only=True, allow_none=True)
    withdrawn_by = fields.String(dump_only=True, allow_none=True)

    @validates_schema
    def ends_after_it_begins(self, data: dict[str, Any], **_: Any) -> None:
        """Want an end that is not before the beginning."""
        ends_on: date | None = data.get("ends_on")
        if ends_on is not None and "signed_on" in data and ends_on < data["signed_on"]:
            raise ValidationError("It would end before it was signed.", "ends_on")

    @post_load
    def signed(self, data: dict[str, Any], **_: object) -> Signed:
        return Signed(**data)


CONSENTS = Shelf(DisclosureConsent, DisclosureConsentSchema)


@blueprint.route("", methods=["GET"])
@requires(Permission.PATIENTS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(DisclosureConsentSchema))
def list_disclosure_consents(asked: dict[str, Any], patient_id: UUID) -> dict[str, Any]:
    """List what a patient signed, those that were withdrawn, too; oldest first."""
    facts.one(db.session(), Patient, patient_id)
    wanted = select(DisclosureConsent).where(DisclosureConsent.patient_id == patient_id)
    return CONSENTS.page(asked, wanted)


@blueprint.route("", methods=["POST"])
@requires(Permission.PATIENTS_WRITE)
@blueprint.arguments(DisclosureConsentSchema)
@idempotent
@blueprint.response(201, DisclosureConsentSchema)
def note_disclosure_consent(told: Signed, patient_id: UUID) -> Response:
    """Note what a patient signed, as far as it is asked for later; the paper is the clinic's."""
    facts.one(db.session(), Patient, patient_id)
    if told.signed_on > today():
        invalid("signed_on", "This day is still to come.")
    return CONSENTS.add(part2.note_consent(db.session(), patient_id, told, by=by()))


@blueprint.route("/<uuid:disclosure_consent_id>", methods=["GET"])
@requires(Permission.PATIENTS_READ)
@blueprint.response(200, DisclosureConsentSchema)
def read_disclosure_consent(patient_id: UUID, disclosure_consent_id: UUID) -> DisclosureConsent:
    """Read one."""
    found = facts.one_of(db.session(), DisclosureConsent, disclosure_consent_id, patient_id)
    preconditions.tag(found.version)
    return found


@blueprint.route("/<uuid:disclosure_consent_id>/withdraw", methods=["POST"])
@requires(Permission.PATIENTS_WRITE)
@conditional
@idempotent
@blueprint.response(200, DisclosureConsentSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def withdraw_disclosure_consent(patient_id: UUID, disclosure_consent_id: UUID) -> Response:
    """Note that the patient took it back. What was disclosed before stays so."""
    facts.one_of(db.session(), DisclosureConsent, disclosure_consent_id, patient_id)
    call = Call(disclosure_consent_id, preconditions.seen_version())
    consent = part2.withdraw(db.session(), call, by=by(), now=now())
    preconditions.tag(consent.version)
    act = CONSENTS.act("update", consent, ["withdrawn_at"])
    return edge.done(DisclosureConsentSchema, consent, act)
