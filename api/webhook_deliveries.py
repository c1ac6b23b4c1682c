"""Deliveries over REST: what webhooks were told, how it went, and telling it again."""

from datetime import datetime
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields
from sqlalchemy import select

from api import edge, pages, preconditions
from api.blueprint import Blueprint
from api.caller import requires
from api.errors import ProblemSchema
from api.fields import Id, Instant, write_instant
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf
from models import Webhook, WebhookAttempt, WebhookDelivery, WebhookEvent, db
from models.vocabulary import DeliveryState
from notifications import hooks, reading
from scheduler import facts
from scheduler.errors import WrongStatus
from scheduler.permissions import Permission

blueprint = Blueprint(
    "webhook deliveries", __name__, url_prefix="/api/v1", description="What was told."
)


class DeliverySchema(Schema):
    """An event on its way to a webhook."""

    id = Id()
    webhook_id = Id()
    event_id = Id(metadata={"description": "The `webhook-id` of every try."})
    state = fields.Enum(DeliveryState, by_value=True)
    attempts = fields.Integer(metadata={"description": "Tries since it was last asked for."})
    due_at = Instant(metadata={"description": "When it is, or was, tried."})
    last_status = fields.Integer(
        allow_none=True, metadata={"description": "What was answered; null: nothing."}
    )
    last_error = fields.String(
        allow_none=True,
        metadata={"description": "A code, as in docs/webhooks.md; null: it came through."},
    )
    delivered_at = Instant(allow_none=True)
    created_at = Instant()


class WebhookAttemptSchema(Schema):
    """One try."""

    at = Instant()
    status = fields.Integer(allow_none=True)
    error = fields.String(allow_none=True)
    took_ms = fields.Integer()


class WholeDeliverySchema(DeliverySchema):
    """A delivery with what is told, and every try."""

    type = fields.Function(lambda one: _event(one).type, metadata={"type": "string"})
    occurred_at = fields.Function(
        lambda one: write_instant(_event(one).occurred_at),
        metadata={"type": "string", "format": "date-time"},
    )
    data = fields.Function(lambda one: _event(one).data, metadata={"type": "object"})
    tries = fields.Function(
        lambda one: WebhookAttemptSchema(many=True).dump(_tries(one)),
        metadata={"type": "array", "items": {"type": "object"}},
    )


class DeliveryQuery(PageQuery):
    """Which deliveries."""

    webhook_id = Id(load_default=None)
    state = fields.Enum(DeliveryState, by_value=True, load_default=None)
    from_ = Instant(data_key="from", load_default=None)
    to = Instant(load_default=None)


DELIVERIES = Shelf(WebhookDelivery, DeliverySchema)


@blueprint.route("/webhook-deliveries", methods=["GET"])
@requires(Permission.WEBHOOKS_READ)
@blueprint.arguments(DeliveryQuery, location="query")
@blueprint.response(200, page_of(DeliverySchema))
def list_deliveries(asked: dict[str, Any]) -> dict[str, Any]:
    """List what webhooks were told in the last 30 days, the newest first."""
    wanted = {
        "webhook_id": WebhookDelivery.webhook_id.__eq__,
        "state": WebhookDelivery.state.__eq__,
        "from_": lambda at: WebhookDelivery.id >= _first_of(at),
        "to": lambda at: WebhookDelivery.id < _first_of(at),
    }
    query = pages.narrowed(select(WebhookDelivery), asked, wanted)
    return pages.page(query, [WebhookDelivery.id], asked, newest_first=True)


def _first_of(at: datetime) -> UUID:
    """The least id that is made at that time: ids follow time, and the list follows them."""
    return UUID(int=max(int(at.timestamp() * 1000), 0) << 80)


@blueprint.route("/webhook-deliveries/<uuid:delivery_id>", methods=["GET"])
@requires(Permission.WEBHOOKS_READ)
@blueprint.response(200, WholeDeliverySchema)
def read_delivery(delivery_id: UUID) -> WebhookDelivery:
    """Read what a webhook was told, and every try."""
    delivery: WebhookDelivery = DELIVERIES.read(delivery_id)
    return delivery


@blueprint.route("/webhook-deliveries/<uuid:delivery_id>/replay", methods=["POST"])
@requires(Permission.WEBHOOKS_MANAGE)
@conditional
@idempotent
@blueprint.response(200, DeliverySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def replay_delivery(delivery_id: UUID) -> Response:
    """Tell it again at once, whatever came of it before. The `webhook-id` is the same."""
    seen = preconditions.seen_version()
    webhook_id = facts.one(db.session(), WebhookDelivery, delivery_id).webhook_id
    if facts.to_change(db.session(), Webhook, webhook_id, None).disabled_at is not None:
        raise WrongStatus("Its webhook is switched off.")
    delivery = facts.to_change(db.session(), WebhookDelivery, delivery_id, seen)
    if not hooks.replay(reading.raw(db.session()), delivery_id):
        raise WrongStatus("It is being sent at this moment.", delivery_state=delivery.state)
    db.session.refresh(delivery)
    preconditions.tag(delivery.version)
    return edge.done(DeliverySchema, delivery, DELIVERIES.act("execute", delivery))


def _event(delivery: WebhookDelivery) -> WebhookEvent:
    return facts.one(db.session(), WebhookEvent, delivery.event_id)


def _tries(delivery: WebhookDelivery) -> list[WebhookAttempt]:
    query = select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery.id)
    return list(db.session.scalars(query.order_by(WebhookAttempt.id)))
