"""Messages over REST: what is planned, what was said, and in which words."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields
from sqlalchemy import Select, and_, select, text

from api import edge, pages, preconditions, trail
from api.blueprint import Blueprint
from api.caller import commit, now, requires
from api.deprecation import deprecated
from api.errors import ProblemSchema
from api.fields import Id, Instant
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from models import Appointment, Message, db
from models.vocabulary import Channel, MessageKind, MessageState, Recipient
from notifications import outbox, queue, reading, templates
from notifications.templates import Links
from scheduler import facts
from scheduler.audit import Act
from scheduler.errors import WrongStatus
from scheduler.permissions import Permission

blueprint = Blueprint("messages", __name__, url_prefix="/api/v1", description="What is said.")

_OUTDATED = datetime(2026, 12, 1, tzinfo=UTC)
_SUNSET = datetime(2027, 12, 1, tzinfo=UTC)

RESEND_WITHIN = timedelta(hours=12)

HIDDEN_LINK = "https://.../p/(the reader's own link)"
"""A link lets its reader act as the patient, so staff are not shown it."""


class MessageSchema(Schema):
    """A planned or sent communication."""

    id = Id()
    kind = fields.Enum(MessageKind, by_value=True)
    rule = fields.String(metadata={"description": "The line of the cadence that planned it."})
    channel = fields.Enum(Channel, by_value=True)
    state = fields.Enum(MessageState, by_value=True)
    due_at = Instant()
    not_after = Instant()
    sent_at = Instant(allow_none=True)
    appointment_id = Id(allow_none=True)
    carried_by = Id(allow_none=True, metadata={"description": "The letter that it went out in."})
    delivered_at = Instant(allow_none=True)
    revision = fields.Integer()
    recipient = fields.Enum(Recipient, by_value=True)
    last_error = fields.String(allow_none=True)


class WholeMessageSchema(MessageSchema):
    """A communication with its words, rendered now: addresses and texts are not kept."""

    subject = fields.String()
    body = fields.String()


class ReportQuery(Schema):
    """Which period."""

    from_ = Instant(data_key="from", required=True)
    to = Instant(required=True)


class ReportLineSchema(Schema):
    """What became of messages of one kind on one channel."""

    kind = fields.String()
    channel = fields.String()
    state = fields.String()
    number = fields.Integer()
    late_p50_seconds = fields.Float(allow_none=True)
    late_p99_seconds = fields.Float(allow_none=True)


class ReportSchema(Schema):
    """What became of the messages of a period."""

    items = fields.List(fields.Nested(ReportLineSchema))


class MessageQuery(PageQuery):
    """Which messages."""

    state = fields.Enum(MessageState, by_value=True, load_default=None)
    appointment_id = Id(load_default=None)
    patient_id = Id(load_default=None, metadata={"description": "Those that are for them."})
    start = Instant(
        data_key="from", load_default=None, metadata={"description": "Due then or later."}
    )
    end = Instant(data_key="to", load_default=None, metadata={"description": "Due before then."})


@blueprint.route("/messages", methods=["GET"])
@requires(Permission.MESSAGES_READ)
@blueprint.arguments(MessageQuery, location="query")
@blueprint.response(200, page_of(MessageSchema))
def list_messages(asked: dict[str, Any]) -> dict[str, Any]:
    """List messages in the order in which they are due."""
    wanted: dict[str, Callable[[Any], Any]] = {
        "state": Message.state.__eq__,
        "appointment_id": Message.appointment_id.__eq__,
        "patient_id": lambda value: and_(
            Message.recipient == Recipient.PATIENT, Message.recipient_id == value
        ),
        "start": lambda value: Message.due_at >= value,
        "end": lambda value: Message.due_at < value,
    }
    return _page(pages.narrowed(select(Message), asked, wanted), asked)


@blueprint.route("/appointments/<uuid:appointment_id>/messages", methods=["GET"])
@requires(Permission.MESSAGES_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(MessageSchema))
def list_messages_of(asked: dict[str, Any], appointment_id: UUID) -> dict[str, Any]:
    """List the messages of one visit."""
    facts.one(db.session(), Appointment, appointment_id)
    return _page(select(Message).where(Message.appointment_id == appointment_id), asked)


@blueprint.route("/messages/<uuid:message_id>", methods=["GET"])
@requires(Permission.MESSAGES_CONTENT)
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


@blueprint.route("/messages/<uuid:message_id>/resend", methods=["POST"])
@requires(Permission.MESSAGES_WRITE)
@conditional
@idempotent
@blueprint.response(200, MessageSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def resend(message_id: UUID) -> Response:
    """Say a failed, expired or uncertain message once more, within the next twelve hours.

    It goes out only if it still stands: nobody is reminded of a visit that was moved.
    """
    message = facts.to_change(db.session(), Message, message_id, preconditions.seen_version())
    connection = reading.raw(db.session())
    if not queue.again(connection, message_id, now(), now() + RESEND_WITHIN):
        raise WrongStatus("This message cannot be said again.", message_state=message.state)
    outbox.wake(db.session())
    db.session.refresh(message)
    preconditions.tag(message.version)
    whose = trail.patient_of(db.session(), message)
    act = Act(action="resend", entity="message", entity_id=message_id, patient_id=whose)
    return edge.done(MessageSchema, message, act)


@blueprint.route("/message-report", methods=["GET"])
@deprecated(_OUTDATED, _SUNSET, "/api/v1/reports/deliveries")
@requires(Permission.MESSAGES_READ)
@blueprint.arguments(ReportQuery, location="query")
@blueprint.response(200, ReportSchema)
def report(asked: dict[str, Any]) -> dict[str, Any]:
    """Count what became of the messages due in a period, by kind and channel; archived included.

    Use /reports/deliveries.
    """
    rows = db.session.execute(_REPORT, {"begin": asked["from_"], "end": asked["to"]}).mappings()
    return {"items": [dict(row) for row in rows]}


_REPORT = text(
    """
    SELECT kind, channel, state, count(*) AS number,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY late) AS late_p50_seconds,
           percentile_cont(0.99) WITHIN GROUP (ORDER BY late) AS late_p99_seconds
      FROM (SELECT kind, channel, state, extract(epoch FROM sent_at - due_at)::float AS late
              FROM message WHERE due_at >= :begin AND due_at < :end
             UNION ALL
            SELECT kind, channel, state, extract(epoch FROM sent_at - due_at)::float
              FROM message_archive WHERE due_at >= :begin AND due_at < :end) said
     GROUP BY kind, channel, state ORDER BY kind, channel, state
    """
)


def _page(query: Select[Message], asked: dict[str, Any]) -> dict[str, Any]:
    return pages.page(query, [Message.due_at, Message.id], asked)
