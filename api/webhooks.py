"""Webhooks over REST: which addresses are told of what. Docs: docs/webhooks.md."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from flask import Response, current_app, json
from marshmallow import Schema, ValidationError, fields, validate
from sqlalchemy import delete, func, select, text
from uuid_utils.compat import uuid7

from api import edge, preconditions
from api.blueprint import Blueprint
from api.caller import now, requires
from api.errors import ProblemSchema, invalid
from api.fields import Id, Instant, Text, whole, write_instant
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf, changes_of
from api.webhook_deliveries import DELIVERIES, DeliverySchema
from models import Webhook, WebhookDelivery, WebhookSecret, db
from models.vocabulary import SwitchedOff, TaskKind
from notifications import events, hooks, reading, signing
from notifications.outside import Unreached
from scheduler import facts, tasks
from scheduler.errors import TooManyWebhooks, WrongStatus
from scheduler.permissions import Permission
from scheduler.tasks import Wanted

blueprint = Blueprint(
    "webhooks", __name__, url_prefix="/api/v1", description="Other systems that are told."
)

MOST = 20
"""Webhooks of one clinic."""

LOOK_UP_SECONDS = 5.0


class HookAddress(fields.String):
    """The address of a receiver: https, without a user's name."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or len(value) > 2000 or not value.isascii():
            raise ValidationError(_WRITE)
        if any(letter <= " " or letter == "\x7f" for letter in value):
            raise ValidationError(_WRITE)
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError as error:
            raise ValidationError(_WRITE) from error
        if parts.scheme not in {"https", "http"} or not parts.hostname or port == 0:
            raise ValidationError(_WRITE)
        if "@" in parts.netloc or parts.fragment:
            raise ValidationError("Leave out user names, passwords and #.")
        return value


class WebhookSchema(Schema):
    """An address of another system, and what it is told of."""

    id = Id(dump_only=True)
    url = HookAddress(
        required=True,
        metadata={
            "example": "https://ehr.example.com/hooks/afterglow",
            "description": "https at port 443, and public: looked up here, and before each try.",
        },
    )
    description = Text(200, allow_none=True)
    event_types = fields.List(
        fields.String(validate=validate.OneOf(sorted(events.SUBSCRIBABLE))),
        required=True,
        validate=validate.Length(1, len(events.SUBSCRIBABLE)),
        metadata={
            "example": ["appointment.*", "course.completed"],
            "description": "Types of the catalogue, all of a kind as `appointment.*`, or `*`.",
        },
    )
    enabled = fields.Function(
        lambda webhook: webhook.disabled_at is None, metadata={"type": "boolean"}
    )
    disabled_at = Instant(dump_only=True, allow_none=True)
    disabled_why = fields.Enum(SwitchedOff, by_value=True, dump_only=True, allow_none=True)
    failing_since = Instant(
        dump_only=True,
        allow_none=True,
        metadata={"description": "The first failure after which nothing has come through."},
    )
    previous_secret_until = fields.Function(
        lambda webhook: _previous_until(webhook.id),
        metadata={
            "type": ["string", "null"],
            "format": "date-time",
            "description": "So long there are two signatures, of the secret before as well.",
        },
    )
    created_at = Instant(dump_only=True)


class WebhookWithSecretSchema(WebhookSchema):
    """A webhook and its new secret, which is shown this once."""

    secret = fields.String(
        metadata={
            "example": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=",
            "description": "Absent from an answer that is repeated under an Idempotency-Key.",
        }
    )


class RotationSchema(Schema):
    """How a secret is replaced."""

    keep_hours = whole(
        0,
        168,
        load_default=24,
        metadata={"description": "For how long the one before signs as well."},
    )


class EventTypeSchema(Schema):
    """A type of event."""

    type = fields.String()
    meaning = fields.String()
    data = fields.List(fields.String(), metadata={"description": "What its `data` holds."})


class EventTypesSchema(Schema):
    """All types of events."""

    items = fields.List(fields.Nested(EventTypeSchema))


WEBHOOKS = Shelf(Webhook, WebhookSchema)


@blueprint.route("/webhook-event-types", methods=["GET"])
@requires(Permission.WEBHOOKS_READ)
@blueprint.response(200, EventTypesSchema)
def list_event_types() -> dict[str, Any]:
    """List what webhooks can be told of."""
    return {
        "items": [
            {"type": name, "meaning": one.meaning, "data": ["clinic_id", *one.data]}
            for name, one in events.TYPES.items()
        ]
    }


@blueprint.route("/webhooks", methods=["GET"])
@requires(Permission.WEBHOOKS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(WebhookSchema))
def list_webhooks(asked: dict[str, Any]) -> dict[str, Any]:
    """List the clinic's webhooks."""
    return WEBHOOKS.page(asked)


@blueprint.route("/webhooks", methods=["POST"])
@requires(Permission.WEBHOOKS_MANAGE)
@blueprint.arguments(WebhookSchema)
@idempotent
@blueprint.response(201, WebhookWithSecretSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="too-many-webhooks")
def add_webhook(told: dict[str, Any]) -> Response:
    """Tell another system of what happens from now on. The answer alone shows the secret."""
    _refuse_address(told)
    session = db.session()
    session.execute(_ONE_AT_A_TIME)
    if (session.scalar(select(func.count()).select_from(Webhook)) or 0) >= MOST:
        raise TooManyWebhooks(f"A clinic has at most {MOST} webhooks.", most=MOST)
    webhook = Webhook(id=uuid7(), **{**told, "event_types": _each_once(told["event_types"])})
    session.add(webhook)
    session.flush()
    secret = signing.renew(reading.raw(session), webhook.id, timedelta(0))
    return _with_secret(WEBHOOKS.add(webhook), secret)


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["GET"])
@requires(Permission.WEBHOOKS_READ)
@blueprint.response(200, WebhookSchema)
def read_webhook(webhook_id: UUID) -> Webhook:
    """Read a webhook: what it is told of, and whether that comes through."""
    webhook = facts.one(db.session(), Webhook, webhook_id)
    preconditions.tag_for_changes(webhook.version)
    return webhook


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["PATCH"])
@requires(Permission.WEBHOOKS_MANAGE)
@conditional
@blueprint.arguments(changes_of(WebhookSchema))
@blueprint.response(200, WebhookSchema)
@blueprint.alt_response(412, schema=ProblemSchema, description="stale")
def change_webhook(changes: dict[str, Any], webhook_id: UUID) -> Response:
    """Change where it is, or what it is told of from now on."""
    _refuse_address(changes)
    if "event_types" in changes:
        changes["event_types"] = _each_once(changes["event_types"])
    return WEBHOOKS.change(webhook_id, changes)


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["DELETE"])
@requires(Permission.WEBHOOKS_MANAGE)
@conditional
@blueprint.response(204)
def remove_webhook(webhook_id: UUID) -> Response:
    """Let a webhook go, and with it what it was to be told, and how that went."""
    webhook = facts.to_change(db.session(), Webhook, webhook_id, preconditions.seen_version())
    act = WEBHOOKS.act("delete", webhook)
    db.session.execute(delete(Webhook).where(Webhook.id == webhook_id))
    _settle_task(webhook_id)
    return edge.gone(act)


@blueprint.route("/webhooks/<uuid:webhook_id>/rotate-secret", methods=["POST"])
@requires(Permission.WEBHOOKS_MANAGE)
@conditional
@blueprint.arguments(RotationSchema)
@idempotent
@blueprint.response(200, WebhookWithSecretSchema)
def rotate_secret(told: dict[str, Any], webhook_id: UUID) -> Response:
    """Replace the secret. For a while each try carries two signatures, of both."""
    keep = timedelta(hours=told["keep_hours"])
    version = preconditions.seen_version()
    webhook = facts.to_change(db.session(), Webhook, webhook_id, version)
    secret = signing.renew(reading.raw(db.session()), webhook_id, keep)
    return _with_secret(_changed(webhook, ["secret"]), secret)


@blueprint.route("/webhooks/<uuid:webhook_id>/disable", methods=["POST"])
@requires(Permission.WEBHOOKS_MANAGE)
@conditional
@idempotent
@blueprint.response(200, WebhookSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def disable_webhook(webhook_id: UUID) -> Response:
    """Switch it off: what waits for it is held, and what happens from now on is not told."""
    webhook = facts.to_change(db.session(), Webhook, webhook_id, preconditions.seen_version())
    if webhook.disabled_at is not None:
        raise WrongStatus("This webhook is switched off already.")
    webhook.disabled_at, webhook.disabled_why = now(), SwitchedOff.BY_HAND
    hooks.hold(reading.raw(db.session()), webhook_id)
    return _changed(webhook, ["enabled"])


@blueprint.route("/webhooks/<uuid:webhook_id>/enable", methods=["POST"])
@requires(Permission.WEBHOOKS_MANAGE)
@conditional
@idempotent
@blueprint.response(200, WebhookSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def enable_webhook(webhook_id: UUID) -> Response:
    """Switch it on again, after its address was looked at; what was held goes out at once."""
    version = preconditions.seen_version()
    _refuse_address({"url": facts.one(db.session(), Webhook, webhook_id).url})
    webhook = facts.to_change(db.session(), Webhook, webhook_id, version)
    if webhook.disabled_at is None:
        raise WrongStatus("This webhook is switched on.")
    webhook.disabled_at = webhook.disabled_why = webhook.failing_since = None
    hooks.let_go(reading.raw(db.session()), webhook_id)
    _settle_task(webhook_id)
    return _changed(webhook, ["enabled"])


@blueprint.route("/webhooks/<uuid:webhook_id>/test", methods=["POST"])
@requires(Permission.WEBHOOKS_MANAGE)
@idempotent
@blueprint.response(202, DeliverySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def test_webhook(webhook_id: UUID) -> Response:
    """Send it a `ping`. How that went stands in the delivery that is answered."""
    webhook = facts.one(db.session(), Webhook, webhook_id)
    if webhook.disabled_at is not None:
        raise WrongStatus("This webhook is switched off.")
    delivery_id = hooks.ping(reading.raw(db.session()), webhook_id, now())
    delivery = facts.one(db.session(), WebhookDelivery, delivery_id)
    preconditions.tag(delivery.version)
    return edge.done(
        DeliverySchema,
        delivery,
        DELIVERIES.act("create", delivery),
        status=202,
        location=f"/api/v1/webhook-deliveries/{delivery_id}",
    )


def _changed(webhook: Webhook, named: list[str]) -> Response:
    """Commit a change of a webhook and answer with it."""
    webhook.version += 1
    db.session.flush()
    preconditions.tag(webhook.version)
    return edge.done(WebhookSchema, webhook, WEBHOOKS.act("update", webhook, named))


def _with_secret(answer: Response, secret: str) -> Response:
    """Put the secret into an answer that was kept, for the case of a repetition, without it."""
    answer.set_data(json.dumps({**(answer.get_json() or {}), "secret": secret}))
    return answer


def _refuse_address(told: Mapping[str, Any]) -> None:
    """Refuse an address that nothing would be sent to."""
    if "url" not in told:
        return
    try:
        current_app.config["OUTSIDE"].look_up(told["url"], LOOK_UP_SECONDS)
    except Unreached as why:
        invalid("url", str(why))


def _each_once(types: list[str]) -> list[str]:
    return list(dict.fromkeys(types))


def _previous_until(webhook_id: UUID) -> str | None:
    until = db.session.scalar(
        select(WebhookSecret.ends_at).where(
            WebhookSecret.webhook_id == webhook_id, WebhookSecret.ends_at > func.clock_timestamp()
        )
    )
    return None if until is None else write_instant(until)


def _settle_task(webhook_id: UUID) -> None:
    wanted = Wanted(kind=TaskKind.CHECK_WEBHOOK, subject_id=webhook_id, due_at=now())
    tasks.keep(db.session(), wanted, now(), stands=False)


_WRITE = "Write it as https://ehr.example.com/hooks/afterglow."

_ONE_AT_A_TIME = text(
    "SELECT pg_advisory_xact_lock(hashtextextended("
    "'webhooks ' || current_setting('afterglow.clinic', true), 0))"
)
