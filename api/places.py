"""Where visits take place, over REST: sites, rooms and devices."""

from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from flask import Response
from marshmallow import Schema, fields, validate
from sqlalchemy import select
from uuid_utils.compat import uuid7

from api import pages
from api.blueprint import Blueprint
from api.caller import now, requires
from api.errors import ProblemSchema, invalid
from api.fields import FIRST_YEAR, LAST_YEAR, Day, Flag, Id, Phone, Text, Zone, asked_whole
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf, changes_of, new_schedule
from models import Device, Room, Site, db
from models.vocabulary import ActorKind
from scheduler import facts, public_holidays
from scheduler.permissions import Permission
from scheduler.public_holidays import Holidays

blueprint = Blueprint(
    "places", __name__, url_prefix="/api/v1", description="Sites, rooms and devices."
)


class SiteSchema(Schema):
    """A place with an address and a zone."""

    id = Id(dump_only=True)
    name = Text(required=True, metadata={"example": "Harbor House"})
    address = Text(most=500, required=True)
    phone = Phone(required=True)
    time_zone = Zone(required=True)
    holiday_region = fields.String(
        allow_none=True,
        validate=validate.Length(2, 10),
        metadata={
            "example": "US-NY",
            "description": "Whose public holidays it keeps, by ISO 3166; null: nobody's.",
        },
    )
    holidays_worked = fields.List(
        Text(),
        validate=validate.Length(max=50),
        metadata={
            "example": ["Columbus Day"],
            "description": "Names of those on which it is open all the same.",
        },
    )


class HolidayQuery(Schema):
    """Which year."""

    year = asked_whole(FIRST_YEAR, LAST_YEAR, load_default=None)


class HolidaySchema(Schema):
    """A public holiday."""

    day = Day()
    name = fields.String()
    is_open = Flag(metadata={"description": "Whether the site is open on it."})


class HolidaysSchema(Schema):
    """The public holidays of a year."""

    items = fields.List(fields.Nested(HolidaySchema))


class RoomSchema(Schema):
    """A room of a site."""

    id = Id(dump_only=True)
    site_id = Id(required=True)
    schedule_id = Id(dump_only=True)
    name = Text(required=True)
    kind = Text(most=40, required=True, metadata={"example": "dosing"})


class DeviceSchema(RoomSchema):
    """A pump or a monitor of a site."""

    kind = Text(most=40, required=True, metadata={"example": "monitor"})


class PlaceQuery(PageQuery):
    """Where."""

    site_id = Id(load_default=None)


class RenameSchema(Schema):
    """What can change about a room or a device."""

    name = Text(metadata={"example": "Lighthouse"})
    kind = Text(most=40, metadata={"example": "dosing"})


SITES = Shelf(Site, SiteSchema)
ROOMS = Shelf(Room, RoomSchema)
DEVICES = Shelf(Device, DeviceSchema)


@blueprint.route("/sites", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(SiteSchema))
def list_sites(asked: dict[str, Any]) -> dict[str, Any]:
    """List the sites."""
    return SITES.page(asked)


@blueprint.route("/sites", methods=["POST"])
@requires(Permission.SETUP_WRITE)
@blueprint.arguments(SiteSchema)
@idempotent
@blueprint.response(201, SiteSchema)
def add_site(told: dict[str, Any]) -> Response:
    """Add a site."""
    return SITES.add(_kept(Site(id=uuid7(), **told)))


@blueprint.route("/sites/<uuid:site_id>", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.response(200, SiteSchema)
def read_site(site_id: UUID) -> Any:
    """Read a site."""
    return SITES.read(site_id)


@blueprint.route("/sites/<uuid:site_id>", methods=["PATCH"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.arguments(changes_of(SiteSchema))
@blueprint.response(200, SiteSchema)
def change_site(changes: dict[str, Any], site_id: UUID) -> Response:
    """Change a site."""
    return SITES.change(site_id, changes, check=_kept)


@blueprint.route("/sites/<uuid:site_id>", methods=["DELETE"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.response(204)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def remove_site(site_id: UUID) -> Response:
    """Take a site away that was added by mistake: one that nothing refers to."""
    return SITES.remove(site_id)


@blueprint.route("/sites/<uuid:site_id>/holidays", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.arguments(HolidayQuery, location="query")
@blueprint.response(200, HolidaysSchema)
def list_holidays(asked: dict[str, Any], site_id: UUID) -> dict[str, Any]:
    """List the public holidays that a site keeps, of this year or of another."""
    site = facts.one(db.session(), Site, site_id)
    zone = ZoneInfo(site.time_zone)
    year = asked["year"] or now().astimezone(zone).year
    if site.holiday_region is None:
        return {"items": []}
    kept = Holidays(site.holiday_region, zone, frozenset(site.holidays_worked))
    found = public_holidays.of_year(site.holiday_region, year)
    return {
        "items": [
            {"day": day, "name": name, "is_open": not kept.is_off(day)}
            for day, names in sorted(found.items())
            for name in names
        ]
    }


@blueprint.route("/rooms", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.arguments(PlaceQuery, location="query")
@blueprint.response(200, page_of(RoomSchema))
def list_rooms(asked: dict[str, Any]) -> dict[str, Any]:
    """List the rooms, all or a site's."""
    wanted = {"site_id": Room.site_id.__eq__}
    return ROOMS.page(asked, pages.narrowed(select(Room), asked, wanted))


@blueprint.route("/rooms", methods=["POST"])
@requires(Permission.SETUP_WRITE)
@blueprint.arguments(RoomSchema)
@idempotent
@blueprint.response(201, RoomSchema)
def add_room(told: dict[str, Any]) -> Response:
    """Add a room, with a schedule of its own."""
    return ROOMS.add(
        Room(id=uuid7(), schedule_id=new_schedule(ActorKind.ROOM, told["name"]), **told)
    )


@blueprint.route("/rooms/<uuid:room_id>", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.response(200, RoomSchema)
def read_room(room_id: UUID) -> Any:
    """Read a room."""
    return ROOMS.read(room_id)


@blueprint.route("/rooms/<uuid:room_id>", methods=["PATCH"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.arguments(RenameSchema)
@blueprint.response(200, RoomSchema)
def change_room(changes: dict[str, Any], room_id: UUID) -> Response:
    """Change a room's name or kind."""
    return ROOMS.change(room_id, changes)


@blueprint.route("/rooms/<uuid:room_id>", methods=["DELETE"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.response(204)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def remove_room(room_id: UUID) -> Response:
    """Take a room away that was added by mistake. One that was ever booked stays: close it."""
    return ROOMS.remove(room_id)


@blueprint.route("/devices", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.arguments(PlaceQuery, location="query")
@blueprint.response(200, page_of(DeviceSchema))
def list_devices(asked: dict[str, Any]) -> dict[str, Any]:
    """List the devices, all or a site's."""
    wanted = {"site_id": Device.site_id.__eq__}
    return DEVICES.page(asked, pages.narrowed(select(Device), asked, wanted))


@blueprint.route("/devices", methods=["POST"])
@requires(Permission.SETUP_WRITE)
@blueprint.arguments(DeviceSchema)
@idempotent
@blueprint.response(201, DeviceSchema)
def add_device(told: dict[str, Any]) -> Response:
    """Add a device, with a schedule of its own."""
    return DEVICES.add(
        Device(id=uuid7(), schedule_id=new_schedule(ActorKind.DEVICE, told["name"]), **told)
    )


@blueprint.route("/devices/<uuid:device_id>", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.response(200, DeviceSchema)
def read_device(device_id: UUID) -> Any:
    """Read a device."""
    return DEVICES.read(device_id)


@blueprint.route("/devices/<uuid:device_id>", methods=["PATCH"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.arguments(RenameSchema)
@blueprint.response(200, DeviceSchema)
def change_device(changes: dict[str, Any], device_id: UUID) -> Response:
    """Change a device's name or kind."""
    return DEVICES.change(device_id, changes)


@blueprint.route("/devices/<uuid:device_id>", methods=["DELETE"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.response(204)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def remove_device(device_id: UUID) -> Response:
    """Take a device away that was added by mistake. One that was ever booked stays: close it."""
    return DEVICES.remove(device_id)


def _kept(site: Site) -> Site:
    """Refuse holidays that nobody knows."""
    region = site.holiday_region
    if region is not None and not public_holidays.is_known(region):
        invalid("holiday_region", "No holidays are known there; write it as US or US-NY.")
    if strange := public_holidays.unknown(region, site.holidays_worked or ()):
        known = ", ".join(public_holidays.names(region, public_holidays.SOON)) if region else "none"
        invalid("holidays_worked", f"There is no {strange[0]!r}; there are: {known}.")
    return site
