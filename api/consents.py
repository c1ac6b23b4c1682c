"""Consents over REST: the clinic's texts in their versions, and what patients signed."""

from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, post_load, validate
from sqlalchemy import select

from api import edge, pages, preconditions
from api.blueprint import Blueprint
from api.caller import by, commit, now, requires
from api.errors import ProblemSchema
from api.fields import CODE, Flag, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from models import Consent, ConsentText, Patient, db
from notifications import paper
from notifications.languages import LOCALES
from scheduler import consents, facts
from scheduler.audit import Act
from scheduler.consents import NewText
from scheduler.permissions import Permission

blueprint = Blueprint(
    "consents", __name__, url_prefix="/api/v1", description="What patients agree to, and sign."
)

LONGEST = 50_000


class ConsentTextSchema(Schema):
    """A version of what patients agree to. Once written it never changes."""

    id = Id(dump_only=True)
    code = fields.String(
        required=True,
        validate=CODE,
        metadata={"description": "The gate that it is for.", "example": "consent"},
    )
    number = fields.Integer(
        dump_only=True,
        metadata={"description": "Counts the versions of a code, whatever their language."},
    )
    language = fields.String(required=True, validate=validate.OneOf(list(LOCALES)))
    title = Text(required=True)
    body = Text(
        LONGEST,
        lines=True,
        required=True,
        metadata={
            "description": "Plain text; an empty line parts paragraphs.",
            "example": "What we will do together, and what may go wrong.\n\nYou may stop.",
        },
    )
    renews = Flag(
        required=True,
        metadata={
            "description": "Whether consents given to earlier versions end with this one, in every "
            "language. A translation does not renew."
        },
    )
    written_by = fields.String(dump_only=True)
    written_at = Instant(dump_only=True)

    @post_load
    def text(self, data: dict[str, Any], **_: object) -> NewText:
        return NewText(**data)


class ConsentTextQuery(PageQuery):
    """Which texts."""

    code = fields.String(load_default=None, validate=CODE)
    language = fields.String(load_default=None, validate=validate.OneOf(list(LOCALES)))


class SignedConsentSchema(Schema):
    """What a patient signed."""

    id = Id()
    patient_id = Id()
    course_id = Id(allow_none=True)
    appointment_id = Id(metadata={"description": "The visit on whose page it was signed."})
    text_id = Id()
    clearance_id = Id(metadata={"description": "The clearance that was written with it."})
    gate = fields.String()
    medicine = fields.String(allow_none=True)
    route = fields.String(allow_none=True)
    name = fields.String(metadata={"description": "As the patient typed it."})
    language = fields.String()
    signed_at = Instant()
    address = fields.String(allow_none=True)


@blueprint.route("/consent-texts", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.arguments(ConsentTextQuery, location="query")
@blueprint.response(200, page_of(ConsentTextSchema))
def list_consent_texts(asked: dict[str, Any]) -> dict[str, Any]:
    """List the versions of texts, oldest first."""
    wanted = {"code": ConsentText.code.__eq__, "language": ConsentText.language.__eq__}
    return pages.page(pages.narrowed(select(ConsentText), asked, wanted), [ConsentText.id], asked)


@blueprint.route("/consent-texts", methods=["POST"])
@requires(Permission.SETUP_WRITE)
@blueprint.arguments(ConsentTextSchema)
@idempotent
@blueprint.response(201, ConsentTextSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists")
def add_consent_text(told: NewText) -> Response:
    """Write a new version. If it renews, whoever has a visit ahead that it concerns hears of it."""
    text = consents.write(db.session(), told, by=by(), now=now())
    preconditions.tag(text.number)
    act = Act(
        action="create",
        entity="consent-text",
        entity_id=text.id,
        facts={"code": text.code, "number": text.number, "renews": text.renews},
    )
    location = f"/api/v1/consent-texts/{text.id}"
    return edge.done(ConsentTextSchema, text, act, status=201, location=location)


@blueprint.route("/consent-texts/<uuid:text_id>", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.response(200, ConsentTextSchema)
def read_consent_text(text_id: UUID) -> ConsentText:
    """Read one version."""
    text = facts.one(db.session(), ConsentText, text_id)
    preconditions.tag(text.number)
    return text


@blueprint.route("/patients/<uuid:patient_id>/consents", methods=["GET"])
@requires(Permission.CLEARANCES_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(SignedConsentSchema))
def list_consents(asked: dict[str, Any], patient_id: UUID) -> dict[str, Any]:
    """List what a patient signed, oldest first."""
    facts.one(db.session(), Patient, patient_id)
    query = select(Consent).where(Consent.patient_id == patient_id)
    return pages.page(query, [Consent.signed_at, Consent.id], asked)


@blueprint.route("/patients/<uuid:patient_id>/consents/<uuid:consent_id>/copy", methods=["GET"])
@requires(Permission.CLEARANCES_READ)
@blueprint.response(200, {"type": "string", "format": "binary"}, content_type="application/pdf")
def copy_consent(patient_id: UUID, consent_id: UUID) -> Response:
    """The copy of what a patient signed, as PDF."""
    consent = facts.one_of(db.session(), Consent, consent_id, patient_id)
    text = facts.one(db.session(), ConsentText, consent.text_id)
    copy = paper.draw(consents.copy_of(consent, text))
    act = Act(action="read", entity="consent", entity_id=consent.id, patient_id=patient_id)
    commit(act)
    headers = {"Content-Disposition": 'attachment; filename="copy.pdf"'}
    return Response(copy, content_type="application/pdf", headers=headers)
