"""Calendar feeds over REST: private addresses at which somebody's visits are subscribed to."""

import secrets
from typing import Any
from uuid import UUID

from flask import Response, current_app
from marshmallow import Schema, fields
from sqlalchemy import select
from uuid_utils.compat import uuid7

from api import edge, preconditions
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Id, Instant
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf
from models import CalendarFeed, Patient, Practitioner, db
from notifications import links
from scheduler import facts
from scheduler.audit import Act
from scheduler.permissions import Permission

blueprint = Blueprint(
    "calendar-feeds", __name__, url_prefix="/api/v1", description="Calendars to subscribe to."
)


class CalendarFeedSchema(Schema):
    """A private calendar to subscribe to, without its address."""

    id = Id()
    schedule_id = Id(metadata={"description": "Whose visits it shows."})
    made_by = fields.String()
    made_at = Instant(attribute="created_at")
    revoked_at = Instant(allow_none=True, metadata={"description": "Since then it shows nothing."})


class NewFeedSchema(Schema):
    """A calendar just made. Its address is shown this once."""

    id = Id()
    url = fields.String()


FEEDS = Shelf(CalendarFeed, CalendarFeedSchema)


@blueprint.route("/practitioners/<uuid:practitioner_id>/calendar-feeds", methods=["GET"])
@requires(Permission.CALENDARS_WITHDRAW)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(CalendarFeedSchema))
def list_practitioner_feeds(asked: dict[str, Any], practitioner_id: UUID) -> dict[str, Any]:
    """List the calendars of a clinician's visits, oldest first."""
    practitioner = facts.one(db.session(), Practitioner, practitioner_id)
    return _page(practitioner.schedule_id, asked)


@blueprint.route("/practitioners/<uuid:practitioner_id>/calendar-feeds", methods=["POST"])
@requires(Permission.CALENDARS_SHARE)
@idempotent
@blueprint.response(201, NewFeedSchema)
def add_practitioner_feed(practitioner_id: UUID) -> Response:
    """Make a calendar of a clinician's visits to subscribe to."""
    practitioner = facts.one(db.session(), Practitioner, practitioner_id)
    return _made(practitioner.schedule_id, None)


@blueprint.route("/patients/<uuid:patient_id>/calendar-feeds", methods=["GET"])
@requires(Permission.CALENDARS_WITHDRAW)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(CalendarFeedSchema))
def list_patient_feeds(asked: dict[str, Any], patient_id: UUID) -> dict[str, Any]:
    """List the calendars of a patient's visits, oldest first."""
    return _page(facts.one(db.session(), Patient, patient_id).schedule_id, asked)


@blueprint.route("/patients/<uuid:patient_id>/calendar-feeds", methods=["POST"])
@requires(Permission.PATIENTS_WRITE)
@idempotent
@blueprint.response(201, NewFeedSchema)
def add_patient_feed(patient_id: UUID) -> Response:
    """Make a calendar of a patient's visits to subscribe to."""
    patient = facts.one(db.session(), Patient, patient_id)
    return _made(patient.schedule_id, patient_id)


@blueprint.route("/calendar-feeds/<uuid:feed_id>", methods=["GET"])
@requires(Permission.CALENDARS_WITHDRAW)
@blueprint.response(200, CalendarFeedSchema)
def read_feed(feed_id: UUID) -> Any:
    """Read whose visits a calendar shows, and whether it still does."""
    return FEEDS.read(feed_id)


@blueprint.route("/calendar-feeds/<uuid:feed_id>", methods=["DELETE"])
@requires(Permission.CALENDARS_WITHDRAW)
@conditional
@blueprint.response(204)
@blueprint.alt_response(412, schema=ProblemSchema, description="stale")
def revoke_feed(feed_id: UUID) -> Response:
    """Close a calendar: its address shows nothing from now on."""
    feed = facts.to_change(db.session(), CalendarFeed, feed_id, preconditions.seen_version())
    feed.revoked_at = feed.revoked_at or now()
    whose = facts.patient_on(db.session(), feed.schedule_id)
    act = Act(action="delete", entity="calendar_feed", entity_id=feed_id, patient_id=whose)
    return edge.gone(act)


def _page(schedule_id: UUID, asked: dict[str, Any]) -> dict[str, Any]:
    return FEEDS.page(asked, select(CalendarFeed).where(CalendarFeed.schedule_id == schedule_id))


def _made(schedule_id: UUID, patient_id: UUID | None) -> Response:
    token = secrets.token_urlsafe(32)
    feed = CalendarFeed(
        id=uuid7(), schedule_id=schedule_id, token_hash=links.digest(token), made_by=by().name
    )
    db.session.add(feed)
    db.session.flush()
    preconditions.tag(feed.version)
    act = Act(action="create", entity="calendar_feed", entity_id=feed.id, patient_id=patient_id)
    told = {"id": feed.id, "url": f"{current_app.config['PUBLIC_URL']}/calendar/{token}.ics"}
    where = f"/api/v1/calendar-feeds/{feed.id}"
    return edge.done(NewFeedSchema, told, act, status=201, location=where)
