"""Messages over REST: what is planned, what was said, and in which words."""

from typing import Any
from uuid import UUID

from marshmallow import Schema, fields
from sqlalchemy import Select, select

from api import pages, preconditions
from api.blueprint import Blueprint
from api.caller import READERS, STAFF, commit, requires
from api.fields import Id, Instant
from api.pages import PageQuery, page_of
from models import Appointment, Message, db
from models.vocabulary import Channel, MessageKind, MessageState, Recipient
from notifications import reading, templates
from notifications.templates import Links
from scheduler import facts
from scheduler.audit import Act

blueprint = Blueprint("messages", __name__, url_prefix="/api/v1", description="What is said.")

HIDDEN_LINK = "https://.../p/(the reader's own link)"
"""A link lets its reader act as the patient, so staff are not shown it."""


class MessageSchema(Schema):
    """A planned or sent communication."""

    id = Id()
    kind = fields.Enum(MessageKind, by_value=True)
    channel = fields.Enum(Channel, by_value=True)
    state = fields.Enum(MessageState, by_value=True)
    due_at = Instant()
    not_after = Instant()
    sent_at = Instant(allow_none=True)
    appointment_id = Id()
    revision = fields.Integer()
    recipient = fields.Enum(Recipient, by_value=True)
    last_error = fields.String(allow_none=True)


class WholeMessageSchema(MessageSchema):
    """A communication with its words, rendered now: addresses and texts are not kept."""

    subject = fields.String()
    body = fields.String()


class MessageQuery(PageQuery):
    """Which messages."""

    state = fields.Enum(MessageState, by_value=True, load_default=None)
    appointment_id = Id(load_default=None)


@blueprint.route("/messages", methods=["GET"])
@requires(*READERS)
@blueprint.arguments(MessageQuery, location="query")
@blueprint.response(200, page_of(MessageSchema))
def list_messages(asked: dict[str, Any]) -> dict[str, Any]:
    """List messages in the order in which they are due."""
    query = select(Message)
    if asked["state"] is not None:
        query = query.where(Message.state == asked["state"])
    if asked["appointment_id"] is not None:
        query = query.where(Message.appointment_id == asked["appointment_id"])
    return _page(query, asked)


@blueprint.route("/appointments/<uuid:appointment_id>/messages", methods=["GET"])
@requires(*READERS)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(MessageSchema))
def list_messages_of(asked: dict[str, Any], appointment_id: UUID) -> dict[str, Any]:
    """List the messages of one visit."""
    facts.one(db.session(), Appointment, appointment_id)
    return _page(select(Message).where(Message.appointment_id == appointment_id), asked)


@blueprint.route("/messages/<uuid:message_id>", methods=["GET"])
@requires(*STAFF)
@blueprint.response(200, WholeMessageSchema)
def read_message(message_id: UUID) -> dict[str, Any]:
    """Read a message with its words, as they would be said now."""
    message = facts.one(db.session(), Message, message_id)
    preconditions.tag(message.version)
    connection = reading.raw(db.session())
    letter = reading.letters(connection, [message_id])[message_id]
    links = Links({message_id: HIDDEN_LINK})
    said = templates.render([letter], links, reading.wordings(connection))
    told = {name: getattr(message, name) for name in MessageSchema._declared_fields}
    commit(
        Act(
            action="read",
            entity="message",
            entity_id=message_id,
            patient_id=letter.patient_id,
        )
    )
    return {**told, "subject": said.subject, "body": said.body}


def _page(query: Select[Message], asked: dict[str, Any]) -> dict[str, Any]:
    return pages.page(query, [Message.due_at, Message.id], asked)
