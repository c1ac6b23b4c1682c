"""Busy feeds over REST: calendars kept elsewhere whose busy time closes a schedule here."""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from flask import Response
from marshmallow import Schema, ValidationError, fields
from sqlalchemy import delete, func, select
from uuid_utils.compat import uuid7

from api import edge, preconditions
from api.blueprint import Blueprint
from api.caller import now, requires
from api.errors import ProblemSchema
from api.fields import Id, Instant, Zone, whole
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf, changes_of
from models import BusyFeed, Closure, Schedule, db
from scheduler import calendars, facts, feeds
from scheduler.errors import NotFound
from scheduler.permissions import Permission

blueprint = Blueprint(
    "busy feeds", __name__, url_prefix="/api/v1/schedules", description="Calendars elsewhere."
)


class FeedAddress(fields.String):
    """The address of an iCalendar: https, or webcal, which means the same."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or len(value) > 2000 or not value.isascii():
            raise ValidationError(_WRITE)
        told = value.strip()
        if told.lower().startswith("webcal://"):
            told = "https" + told[len("webcal") :]
        _refuse_address(told)
        return told


class BusyFeedSchema(Schema):
    """A calendar kept elsewhere. Whoever has its address can read it: it is never shown again."""

    id = Id(dump_only=True)
    url = FeedAddress(
        required=True,
        load_only=True,
        metadata={"example": "https://calendar.example.com/private-1234/basic.ics"},
    )
    host = fields.Function(lambda feed: urlsplit(feed.url).hostname, metadata={"type": "string"})
    time_zone = Zone(metadata={"description": "Of whole days; the clinic's if left out."})
    every_minutes = whole(5, 1440, metadata={"description": "How often it is asked for."})
    due_at = Instant(dump_only=True, metadata={"description": "When it is asked for next."})
    read_at = Instant(
        dump_only=True,
        allow_none=True,
        metadata={"description": "When it was last read, or found unchanged."},
    )
    failing_since = Instant(dump_only=True, allow_none=True)
    fault = fields.String(dump_only=True, allow_none=True)
    is_stale = fields.Function(
        lambda feed: feeds.is_stale(feed, now()),
        metadata={"type": "boolean", "description": "Not read for a day: do not rely on it."},
    )
    busy = fields.Function(
        lambda feed: _busy(feed),
        metadata={"type": "integer", "description": "Stretches of busy time that it told of."},
    )
    clashes = fields.Function(
        lambda feed: [str(one) for one in calendars.clashing(db.session(), feed.id, now())],
        metadata={
            "type": "array",
            "items": {"type": "string", "format": "uuid"},
            "description": "Visits and group sessions to come in its busy time.",
        },
    )


FEEDS = Shelf(BusyFeed, BusyFeedSchema)


@blueprint.route("/<uuid:schedule_id>/busy-feeds", methods=["GET"])
@requires(Permission.SCHEDULES_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(BusyFeedSchema))
def list_busy_feeds(asked: dict[str, Any], schedule_id: UUID) -> dict[str, Any]:
    """List the calendars elsewhere that close this schedule, and how fresh each is."""
    facts.one(db.session(), Schedule, schedule_id)
    return FEEDS.page(asked, select(BusyFeed).where(BusyFeed.schedule_id == schedule_id))


@blueprint.route("/<uuid:schedule_id>/busy-feeds", methods=["POST"])
@requires(Permission.SCHEDULES_WRITE)
@blueprint.arguments(BusyFeedSchema)
@idempotent
@blueprint.response(201, BusyFeedSchema)
def add_busy_feed(told: dict[str, Any], schedule_id: UUID) -> Response:
    """Let a calendar elsewhere close this schedule. It is asked for within seconds."""
    facts.one(db.session(), Schedule, schedule_id)
    told.setdefault("time_zone", facts.clinic(db.session()).time_zone)
    return FEEDS.add(BusyFeed(id=uuid7(), schedule_id=schedule_id, due_at=now(), **told))


@blueprint.route("/<uuid:schedule_id>/busy-feeds/<uuid:feed_id>", methods=["GET"])
@requires(Permission.SCHEDULES_READ)
@blueprint.response(200, BusyFeedSchema)
def read_busy_feed(schedule_id: UUID, feed_id: UUID) -> BusyFeed:
    """Read how fresh a calendar elsewhere is, and whose visits it clashes with."""
    feed = _of(schedule_id, feed_id)
    preconditions.tag_for_changes(feed.version)
    return feed


@blueprint.route("/<uuid:schedule_id>/busy-feeds/<uuid:feed_id>", methods=["PATCH"])
@requires(Permission.SCHEDULES_WRITE)
@conditional
@blueprint.arguments(changes_of(BusyFeedSchema))
@blueprint.response(200, BusyFeedSchema)
@blueprint.alt_response(412, schema=ProblemSchema, description="stale")
def change_busy_feed(changes: dict[str, Any], schedule_id: UUID, feed_id: UUID) -> Response:
    """Change a feed. It is asked for anew at once; what was read stands until then."""
    _of(schedule_id, feed_id)
    anew = {"due_at": now(), "etag": None, "last_modified": None}
    return FEEDS.change(feed_id, {**changes, **anew}, told=changes)


@blueprint.route("/<uuid:schedule_id>/busy-feeds/<uuid:feed_id>", methods=["DELETE"])
@requires(Permission.SCHEDULES_WRITE)
@conditional
@blueprint.response(204)
def remove_busy_feed(schedule_id: UUID, feed_id: UUID) -> Response:
    """Let a feed go, and with it the time that it closed."""
    _of(schedule_id, feed_id)
    feed = facts.to_change(db.session(), BusyFeed, feed_id, preconditions.seen_version())
    act = FEEDS.act("delete", feed)
    db.session.execute(delete(BusyFeed).where(BusyFeed.id == feed_id))
    feeds.settled(db.session(), feed_id, now())
    return edge.gone(act)


def _of(schedule_id: UUID, feed_id: UUID) -> BusyFeed:
    feed = facts.one(db.session(), BusyFeed, feed_id)
    if feed.schedule_id != schedule_id:
        raise NotFound("There is no such thing on this schedule.")
    return feed


def _busy(feed: BusyFeed) -> int:
    query = select(func.count()).where(Closure.busy_feed_id == feed.id)
    return db.session.scalar(query) or 0


def _refuse_address(told: str) -> None:
    try:
        parts = urlsplit(told)
        port = parts.port
    except ValueError as error:
        raise ValidationError(_WRITE) from error
    if parts.scheme not in {"https", "http"} or not parts.hostname or port == 0:
        raise ValidationError(_WRITE)
    if any(letter <= " " for letter in told):
        raise ValidationError(_WRITE)
    if parts.username is not None or parts.fragment:
        raise ValidationError("Leave out user names, passwords and #.")


_WRITE = "Write it as https://calendar.example.com/private/basic.ics."
