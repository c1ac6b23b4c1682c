"""Schedules over REST: when an actor is open, and when closed."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, ValidationError, fields, validates_schema
from sqlalchemy import delete, select
from uuid_utils.compat import uuid7

from api import edge, preconditions
from api.blueprint import Blueprint
from api.caller import READERS, requires
from api.fields import Id, Instant, Text, WallTime, whole
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.shelf import Shelf
from models import Closure, OpeningHours, Schedule, db
from models.vocabulary import Role
from scheduler import facts
from scheduler.errors import NotFound
from scheduler.hours import BadRule, check_rule

blueprint = Blueprint("schedules", __name__, url_prefix="/api/v1/schedules", description="Time.")


class OpeningHoursSchema(Schema):
    """One recurring stretch of wall time at a site, as iCalendar has it."""

    id = Id(dump_only=True)
    site_id = Id(required=True)
    first_start = WallTime(required=True)
    minutes = whole(5, 1440, required=True)
    rule = Text(most=500, allow_none=True, metadata={"example": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"})
    exceptions = fields.List(WallTime(), load_default=list)

    @validates_schema
    def rule_is_one(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse a rule that cannot be expanded."""
        if data.get("rule") is not None:
            try:
                check_rule(data["rule"], data["first_start"])
            except BadRule as bad:
                raise ValidationError(str(bad), "rule") from bad


class ClosureSchema(Schema):
    """Time in which an actor cannot be booked although open."""

    id = Id(dump_only=True)
    starts_at = Instant(required=True)
    ends_at = Instant(required=True)
    reason = Text(required=True)

    @validates_schema
    def ends_after_it_starts(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse time that runs backwards, and a closure without end."""
        if not timedelta(0) < data["ends_at"] - data["starts_at"] <= timedelta(days=3660):
            raise ValidationError("It must end after it starts, within ten years.", "ends_at")


HOURS = Shelf(OpeningHours, OpeningHoursSchema)
CLOSURES = Shelf(Closure, ClosureSchema)


@blueprint.route("/<uuid:schedule_id>/opening-hours", methods=["GET"])
@requires(*READERS)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(OpeningHoursSchema))
def list_opening_hours(asked: dict[str, Any], schedule_id: UUID) -> dict[str, Any]:
    """List when the actor is open."""
    facts.one(db.session(), Schedule, schedule_id)
    query = select(OpeningHours).where(OpeningHours.schedule_id == schedule_id)
    return HOURS.page(asked, query)


@blueprint.route("/<uuid:schedule_id>/opening-hours", methods=["POST"])
@requires(Role.ADMIN)
@blueprint.arguments(OpeningHoursSchema)
@idempotent
@blueprint.response(201, OpeningHoursSchema)
def add_opening_hours(told: dict[str, Any], schedule_id: UUID) -> Response:
    """Open the actor for a recurring stretch."""
    facts.one(db.session(), Schedule, schedule_id)
    return HOURS.add(OpeningHours(id=uuid7(), schedule_id=schedule_id, **told))


@blueprint.route("/<uuid:schedule_id>/opening-hours/<uuid:hours_id>", methods=["DELETE"])
@requires(Role.ADMIN)
@blueprint.response(204)
def remove_opening_hours(schedule_id: UUID, hours_id: UUID) -> Response:
    """Take a recurring stretch away. Visits that are booked stay booked."""
    return _remove(HOURS, schedule_id, hours_id)


@blueprint.route("/<uuid:schedule_id>/closures", methods=["GET"])
@requires(*READERS)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ClosureSchema))
def list_closures(asked: dict[str, Any], schedule_id: UUID) -> dict[str, Any]:
    """List when the actor is closed although open."""
    facts.one(db.session(), Schedule, schedule_id)
    return CLOSURES.page(asked, select(Closure).where(Closure.schedule_id == schedule_id))


@blueprint.route("/<uuid:schedule_id>/closures", methods=["POST"])
@requires(Role.SCHEDULER)
@blueprint.arguments(ClosureSchema)
@idempotent
@blueprint.response(201, ClosureSchema)
def add_closure(told: dict[str, Any], schedule_id: UUID) -> Response:
    """Close the actor for a while. Visits that are booked stay booked."""
    facts.one(db.session(), Schedule, schedule_id)
    return CLOSURES.add(Closure(id=uuid7(), schedule_id=schedule_id, **told))


@blueprint.route("/<uuid:schedule_id>/closures/<uuid:closure_id>", methods=["DELETE"])
@requires(Role.SCHEDULER)
@blueprint.response(204)
def remove_closure(schedule_id: UUID, closure_id: UUID) -> Response:
    """Open the actor again."""
    return _remove(CLOSURES, schedule_id, closure_id)


def _remove(shelf: Shelf, schedule_id: UUID, row_id: UUID) -> Response:
    """Remove a row of this schedule. Such rows never change: their ETag is always "1"."""
    if preconditions.seen_version() != 1:
        raise preconditions.stale(shelf.entity)
    row = facts.one(db.session(), shelf.model, row_id)
    if row.schedule_id != schedule_id:
        raise NotFound("There is no such thing on this schedule.")
    act = shelf.act("delete", row)
    db.session.execute(delete(shelf.model).where(shelf.model.id == row_id))
    return edge.gone(act)
