"""What is said, when and in which words, over REST: cadences, wordings, previews."""

from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, validate
from sqlalchemy import func, select
from uuid_utils.compat import uuid7

from api.blueprint import Blueprint
from api.caller import by, requires
from api.fields import Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.shelf import Shelf
from models import CadenceOverride, Protocol, Wording, db
from models.vocabulary import Channel, MessageKind, Recipient
from notifications import gsm, reading, templates
from notifications.languages import LOCALES
from notifications.templates import Links
from notifications.words import Words
from scheduler import facts, protocols
from scheduler.errors import NotFound, Unfit
from scheduler.permissions import Permission

blueprint = Blueprint("words", __name__, url_prefix="/api/v1", description="Words and cadences.")

LINKS = Links(unsubscribe="https://.../u/(a link that stops e-mails)")
PAGE = "https://.../p/(the reader's own link)"


class WordingSchema(Schema):
    """A clinic's own words for a kind of message. An empty body: back to those shipped.

    Placeholders: $name, $patient, $clinic, $phone, $site, $address, $day, $time, $end_time, $link.
    """

    id = Id(dump_only=True)
    kind = fields.Enum(MessageKind, by_value=True, required=True)
    recipient = fields.Enum(Recipient, by_value=True, load_default=Recipient.PATIENT)
    channel = fields.Enum(Channel, by_value=True, load_default=Channel.EMAIL)
    language = fields.String(validate=validate.OneOf(list(LOCALES)), load_default="en")
    subject = Text(most=200, blank=True, load_default="")
    body = Text(most=4000, lines=True, blank=True, required=True)
    number = fields.Integer(dump_only=True)
    written_by = fields.String(dump_only=True)
    created_at = Instant(dump_only=True)


class PreviewQuery(Schema):
    """Which words."""

    kind = fields.Enum(MessageKind, by_value=True, required=True)
    recipient = fields.Enum(Recipient, by_value=True, load_default=Recipient.PATIENT)
    channel = fields.Enum(Channel, by_value=True, load_default=Channel.EMAIL)
    language = fields.String(validate=validate.OneOf(list(LOCALES)), load_default="en")


class PreviewSchema(Schema):
    """A message about an invented visit, as it would be said."""

    subject = fields.String()
    body = fields.String()
    html = fields.String()
    segments = fields.Integer(allow_none=True)
    alphabet = fields.String(allow_none=True)


class CadenceSchema(Schema):
    """A clinic's own rules in place of a protocol's cadence. No rules: back to the protocol's."""

    id = Id(dump_only=True)
    cadence = Text(most=60, required=True)
    rules = fields.List(
        fields.Dict(),
        allow_none=True,
        required=True,
        metadata={
            "example": [
                {
                    "rule": "day-before",
                    "to": "patient",
                    "kind": "reminder",
                    "when": {"from": "start", "hours": -24},
                    "not_after": {"from": "start", "hours": -3},
                }
            ]
        },
    )
    number = fields.Integer(dump_only=True)
    written_by = fields.String(dump_only=True)
    created_at = Instant(dump_only=True)


WORDINGS = Shelf(Wording, WordingSchema)
CADENCES = Shelf(CadenceOverride, CadenceSchema)


@blueprint.route("/wordings", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(WordingSchema))
def list_wordings(asked: dict[str, Any]) -> dict[str, Any]:
    """List the clinic's own words, oldest first; of each kind the last one is said."""
    return WORDINGS.page(asked)


@blueprint.route("/wordings", methods=["POST"])
@requires(Permission.SETUP_WRITE)
@blueprint.arguments(WordingSchema)
@idempotent
@blueprint.response(201, WordingSchema)
def add_wording(told: dict[str, Any]) -> Response:
    """Say a kind of message in the clinic's own words from now on."""
    _refuse_unsaid(told["kind"], told["recipient"])
    if told["body"]:
        letter = templates.sample(
            told["kind"], told["recipient"], told["channel"], told["language"]
        )
        wrong = templates.faults(letter, Words(told["subject"], told["body"], told["body"]))
        if wrong:
            raise Unfit(
                "These words cannot be used.",
                errors=[
                    {"pointer": f"/{name}", "detail": detail}
                    for name, details in wrong.items()
                    for detail in details
                ],
            )
    same = [getattr(Wording, name) == told[name] for name in _KEY]
    last = db.session.scalar(select(func.max(Wording.number)).where(*same))
    row = Wording(id=uuid7(), number=(last or 0) + 1, written_by=by().name, **told)
    return WORDINGS.add(row)


_KEY = ("kind", "recipient", "channel", "language")


@blueprint.route("/wordings/<uuid:wording_id>", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.response(200, WordingSchema)
def read_wording(wording_id: UUID) -> Any:
    """Read words of the clinic's own."""
    return WORDINGS.read(wording_id)


@blueprint.route("/message-preview", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.arguments(PreviewQuery, location="query")
@blueprint.response(200, PreviewSchema)
def preview(asked: dict[str, Any]) -> dict[str, Any]:
    """Show a kind of message as it would be said now, about an invented visit."""
    _refuse_unsaid(asked["kind"], asked["recipient"])
    letter = templates.sample(**asked)
    links = Links({letter.message_id: PAGE}, LINKS.unsubscribe)
    said = templates.render([letter], links, reading.wordings(reading.raw(db.session())))
    length = gsm.measure(said.body) if asked["channel"] is Channel.SMS else None
    return {
        "subject": said.subject,
        "body": said.body,
        "html": said.html,
        "segments": length and length.segments,
        "alphabet": length and length.alphabet,
    }


@blueprint.route("/protocols/<uuid:protocol_id>/cadences", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(CadenceSchema))
def list_cadences(asked: dict[str, Any], protocol_id: UUID) -> dict[str, Any]:
    """List the clinic's own cadences of a protocol, oldest first; the last of a name counts."""
    facts.one(db.session(), Protocol, protocol_id)
    query = select(CadenceOverride).where(CadenceOverride.protocol_id == protocol_id)
    return CADENCES.page(asked, query)


@blueprint.route("/protocols/<uuid:protocol_id>/cadences", methods=["POST"])
@requires(Permission.SETUP_WRITE)
@blueprint.arguments(CadenceSchema)
@idempotent
@blueprint.response(201, CadenceSchema)
def add_cadence(told: dict[str, Any], protocol_id: UUID) -> Response:
    """Put the clinic's own rules in place of a cadence, for visits booked or moved from now on."""
    facts.one(db.session(), Protocol, protocol_id)
    if told["rules"] is not None:
        wrong = protocols.check_cadence(told["rules"])
        if wrong:
            raise Unfit(
                "These are not the rules of a cadence.",
                errors=[
                    {"pointer": f"/rules{fault.pointer}", "detail": fault.detail} for fault in wrong
                ],
            )
    same = [
        CadenceOverride.protocol_id == protocol_id,
        CadenceOverride.cadence == told["cadence"],
    ]
    last = db.session.scalar(select(func.max(CadenceOverride.number)).where(*same))
    row = CadenceOverride(
        id=uuid7(),
        protocol_id=protocol_id,
        number=(last or 0) + 1,
        written_by=by().name,
        **told,
    )
    return CADENCES.add(row)


@blueprint.route("/protocols/<uuid:protocol_id>/cadences/<uuid:cadence_id>", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.response(200, CadenceSchema)
def read_cadence(protocol_id: UUID, cadence_id: UUID) -> CadenceOverride:
    """Read rules of the clinic's own."""
    found = facts.one(db.session(), CadenceOverride, cadence_id)
    if found.protocol_id != protocol_id:
        raise NotFound("There is no such cadence.")
    return found


def _refuse_unsaid(kind: MessageKind, recipient: Recipient) -> None:
    if not templates.is_said(kind, recipient):
        raise Unfit(f"{kind} is never said to {recipient}.", field="recipient")
