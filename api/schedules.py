"""Schedules over REST: when an actor is open, and when closed."""

from datetime import timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from flask import Response
from marshmallow import Schema, fields, validate
from sqlalchemy import delete, select
from uuid_utils.compat import uuid7

from api import edge, preconditions
from api.blueprint import Blueprint
from api.caller import now, requires
from api.errors import ProblemSchema, invalid
from api.fields import Flag, Id, Instant, Text, WallTime, Zone, whole
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf, changes_of
from models import Closure, OpeningHours, Schedule, Site, db
from notifications import wall_time
from scheduler import facts, working_time
from scheduler.audit import Act
from scheduler.errors import NonexistentLocalTime, NotFound, Unfit
from scheduler.hours import BadRule, check_rule
from scheduler.permissions import Permission

blueprint = Blueprint("schedules", __name__, url_prefix="/api/v1/schedules", description="Time.")


class OpeningHoursSchema(Schema):
    """One recurring stretch of wall time at a site, as iCalendar has it."""

    id = Id(dump_only=True)
    site_id = Id(required=True)
    first_start = WallTime(required=True)
    minutes = whole(5, 1440, required=True, metadata={"description": "By the clock on the wall."})
    rule = Text(most=500, allow_none=True, metadata={"example": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"})
    exceptions = fields.List(WallTime(), metadata={"description": "Starts that do not take place."})
    time_zone = Zone(
        allow_none=True, metadata={"description": "Whose wall time it is; the site's if null."}
    )
    on_holidays = Flag(
        metadata={"description": "Whether it takes place on the site's public holidays too."},
    )
    uid = fields.String(
        dump_only=True,
        allow_none=True,
        metadata={"description": "Of the imported event; null: entered by hand."},
    )


class ClosureSchema(Schema):
    """Time in which an actor cannot be booked although open."""

    id = Id(dump_only=True)
    starts_at = Instant(required=True)
    ends_at = Instant(required=True)
    reason = Text(required=True)
    uid = fields.String(
        dump_only=True,
        allow_none=True,
        metadata={"description": "Of the imported event; null: not from a file."},
    )
    busy_feed_id = Id(
        dump_only=True,
        allow_none=True,
        metadata={"description": "The calendar elsewhere that it is read from."},
    )


class ImportSchema(Schema):
    """A calendar to be read into a schedule."""

    what = fields.String(
        required=True,
        validate=validate.OneOf(["opening-hours", "closures"]),
        metadata={"description": "What its events are."},
    )
    calendar = fields.String(
        required=True,
        validate=validate.Length(1, 200_000),
        metadata={"description": "The iCalendar file, as it is.", "example": "BEGIN:VCALENDAR..."},
    )
    site_id = Id(
        load_default=None,
        metadata={"description": "Where the hours are; by their LOCATION if left out."},
    )
    time_zone = Zone(
        load_default=None,
        metadata={"description": "Of days and times without a zone, of closures: the clinic's."},
    )


class ImportedSchema(Schema):
    """What an import did."""

    added = fields.Integer()
    removed = fields.Integer()
    kept = fields.Integer()
    visits_outside = fields.List(
        Id(),
        metadata={"description": "Visits and group sessions to come at times that are closed now."},
    )


HOURS = Shelf(OpeningHours, OpeningHoursSchema)
CLOSURES = Shelf(Closure, ClosureSchema)


@blueprint.route("/<uuid:schedule_id>/opening-hours", methods=["GET"])
@requires(Permission.SCHEDULES_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(OpeningHoursSchema))
def list_opening_hours(asked: dict[str, Any], schedule_id: UUID) -> dict[str, Any]:
    """List when the actor is open."""
    facts.one(db.session(), Schedule, schedule_id)
    query = select(OpeningHours).where(OpeningHours.schedule_id == schedule_id)
    return HOURS.page(asked, query)


@blueprint.route("/<uuid:schedule_id>/opening-hours", methods=["POST"])
@requires(Permission.SETUP_WRITE)
@blueprint.arguments(OpeningHoursSchema)
@idempotent
@blueprint.response(201, OpeningHoursSchema)
def add_opening_hours(told: dict[str, Any], schedule_id: UUID) -> Response:
    """Open the actor for a recurring stretch."""
    facts.one(db.session(), Schedule, schedule_id)
    return HOURS.add(_sound(OpeningHours(id=uuid7(), schedule_id=schedule_id, **told)))


@blueprint.route("/<uuid:schedule_id>/opening-hours/<uuid:hours_id>", methods=["GET"])
@requires(Permission.SCHEDULES_READ)
@blueprint.response(200, OpeningHoursSchema)
def read_opening_hours(schedule_id: UUID, hours_id: UUID) -> Any:
    """Read a recurring stretch."""
    return _read(HOURS, schedule_id, hours_id)


@blueprint.route("/<uuid:schedule_id>/opening-hours/<uuid:hours_id>", methods=["PATCH"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.arguments(changes_of(OpeningHoursSchema))
@blueprint.response(200, OpeningHoursSchema)
@blueprint.alt_response(412, schema=ProblemSchema, description="stale")
def change_opening_hours(changes: dict[str, Any], schedule_id: UUID, hours_id: UUID) -> Response:
    """Change a recurring stretch, or except a day from it. Visits that are booked stay booked."""
    _of(HOURS, schedule_id, hours_id)
    return HOURS.change(hours_id, changes, check=_sound)


@blueprint.route("/<uuid:schedule_id>/opening-hours/<uuid:hours_id>", methods=["DELETE"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.response(204)
def remove_opening_hours(schedule_id: UUID, hours_id: UUID) -> Response:
    """Take a recurring stretch away. Visits that are booked stay booked."""
    return _remove(HOURS, schedule_id, hours_id)


@blueprint.route("/<uuid:schedule_id>/closures", methods=["GET"])
@requires(Permission.SCHEDULES_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ClosureSchema))
def list_closures(asked: dict[str, Any], schedule_id: UUID) -> dict[str, Any]:
    """List when the actor is closed although open."""
    facts.one(db.session(), Schedule, schedule_id)
    return CLOSURES.page(asked, select(Closure).where(Closure.schedule_id == schedule_id))


@blueprint.route("/<uuid:schedule_id>/closures", methods=["POST"])
@requires(Permission.SCHEDULES_WRITE)
@blueprint.arguments(ClosureSchema)
@idempotent
@blueprint.response(201, ClosureSchema)
def add_closure(told: dict[str, Any], schedule_id: UUID) -> Response:
    """Close the actor for a while. Visits that are booked stay booked."""
    facts.one(db.session(), Schedule, schedule_id)
    return CLOSURES.add(_real(Closure(id=uuid7(), schedule_id=schedule_id, **told)))


@blueprint.route("/<uuid:schedule_id>/closures/<uuid:closure_id>", methods=["GET"])
@requires(Permission.SCHEDULES_READ)
@blueprint.response(200, ClosureSchema)
def read_closure(schedule_id: UUID, closure_id: UUID) -> Any:
    """Read a closure."""
    return _read(CLOSURES, schedule_id, closure_id)


@blueprint.route("/<uuid:schedule_id>/closures/<uuid:closure_id>", methods=["PATCH"])
@requires(Permission.SCHEDULES_WRITE)
@conditional
@blueprint.arguments(changes_of(ClosureSchema))
@blueprint.response(200, ClosureSchema)
@blueprint.alt_response(412, schema=ProblemSchema, description="stale")
def change_closure(changes: dict[str, Any], schedule_id: UUID, closure_id: UUID) -> Response:
    """Change a closure. Visits that are booked stay booked."""
    _by_hand(_of(CLOSURES, schedule_id, closure_id))
    return CLOSURES.change(closure_id, changes, check=_real)


@blueprint.route("/<uuid:schedule_id>/closures/<uuid:closure_id>", methods=["DELETE"])
@requires(Permission.SCHEDULES_WRITE)
@conditional
@blueprint.response(204)
def remove_closure(schedule_id: UUID, closure_id: UUID) -> Response:
    """Open the actor again."""
    _by_hand(_of(CLOSURES, schedule_id, closure_id))
    return _remove(CLOSURES, schedule_id, closure_id)


@blueprint.route("/<uuid:schedule_id>/import", methods=["POST"])
@requires(Permission.SETUP_WRITE)
@blueprint.arguments(ImportSchema)
@idempotent
@blueprint.response(200, ImportedSchema)
@blueprint.alt_response(422, schema=ProblemSchema, description="bad-calendar")
def import_calendar(told: dict[str, Any], schedule_id: UUID) -> Response:
    """Make the hours or the closures of an actor what an iCalendar says.

    Once more with a newer file: what is in it stands, what it leaves out is taken away, and
    what was entered by hand stays. Visits that are booked stay booked.
    """
    session = db.session()
    if told["what"] == "opening-hours":
        found = working_time.import_hours(
            session, schedule_id, told["calendar"], told["site_id"], now()
        )
    else:
        found = working_time.import_leave(
            session, schedule_id, told["calendar"], told["time_zone"], now()
        )
    counts = {"what": told["what"], "added": found.added, "removed": found.removed}
    act = Act(action="update", entity="schedule", entity_id=schedule_id, facts=counts)
    return edge.done(ImportedSchema, found, act)


def _sound(hours: OpeningHours) -> OpeningHours:
    """Refuse hours that cannot be expanded, and a first start that a clock change skips."""
    site = facts.one(db.session(), Site, hours.site_id)
    zone = ZoneInfo(hours.time_zone or site.time_zone)
    try:
        if hours.rule is not None:
            check_rule(hours.rule, hours.first_start)
    except BadRule as bad:
        invalid("rule", str(bad))
    if (near := wall_time.around_gap(hours.first_start, zone)) is not None:
        told = " or ".join(f"{one:{WallTime.FORMAT}}" for one in near)
        detail = f"Clocks skip this time in {zone.key}; write {told}."
        raise NonexistentLocalTime(detail, field="first_start")
    return hours


def _real(closure: Closure) -> Closure:
    """Refuse time that runs backwards, and a closure without end."""
    if not timedelta(0) < closure.ends_at - closure.starts_at <= timedelta(days=3660):
        invalid("ends_at", "It must end after it starts, within ten years.")
    return closure


def _by_hand(closure: Closure) -> None:
    """Refuse to touch what would come back with the next look at the calendar it is from."""
    if closure.busy_feed_id is not None:
        raise Unfit(
            "This is from a calendar kept elsewhere: change it there, or remove the feed.",
            busy_feed_id=str(closure.busy_feed_id),
        )


def _read(shelf: Shelf, schedule_id: UUID, row_id: UUID) -> Any:
    _of(shelf, schedule_id, row_id)
    return shelf.read(row_id)


def _remove(shelf: Shelf, schedule_id: UUID, row_id: UUID) -> Response:
    _of(shelf, schedule_id, row_id)
    row = facts.to_change(db.session(), shelf.model, row_id, preconditions.seen_version())
    act = shelf.act("delete", row)
    db.session.execute(delete(shelf.model).where(shelf.model.id == row_id))
    return edge.gone(act)


def _of(shelf: Shelf, schedule_id: UUID, row_id: UUID) -> Any:
    """A row of this schedule."""
    row = facts.one(db.session(), shelf.model, row_id)
    if row.schedule_id != schedule_id:
        raise NotFound("There is no such thing on this schedule.")
    return row
