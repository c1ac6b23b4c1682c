"""The clinic over REST: its name and settings, its sites, rooms and devices."""

from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from flask import Response
from marshmallow import Schema, fields, validate
from sqlalchemy import select
from uuid_utils.compat import uuid7

from api import edge, pages, preconditions
from api.blueprint import Blueprint
from api.caller import now, requires
from api.errors import ProblemSchema, invalid
from api.fields import FIRST_YEAR, LAST_YEAR, Day, Email, Id, Phone, Text, Zone, asked_whole, whole
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf, changes_of
from models import Clinic, Device, Room, Schedule, Site, db
from models.vocabulary import ActorKind
from scheduler import facts, public_holidays
from scheduler.audit import Act
from scheduler.permissions import Permission
from scheduler.public_holidays import Holidays

blueprint = Blueprint("clinic", __name__, url_prefix="/api/v1", description="Setting up.")


class ClinicSchema(Schema):
    """The clinic of the key."""

    id = Id(dump_only=True)
    name = Text(metadata={"example": "Harbor & Mesa Practice"})
    email = Email(metadata={"description": "The From address of its messages."})
    phone = Phone()
    front_desk_email = Email(
        allow_none=True, metadata={"description": "Where staff are written to; email if null."}
    )
    sms_from = Phone(
        allow_none=True, metadata={"description": "The number of its text messages; null: none."}
    )
    time_zone = Zone()
    emergency_text = Text(most=500, lines=True)
    settle_minutes = whole(
        0, 60, metadata={"description": "Nothing is said so long after staff act."}
    )
    quiet_from = fields.Time(format="%H:%M", metadata={"pattern": r"^\d{2}:\d{2}$"})
    quiet_until = fields.Time(format="%H:%M", metadata={"pattern": r"^\d{2}:\d{2}$"})
    hold_minutes = whole(1, 1440)
    holds_per_caller = whole(
        1, 1000, metadata={"description": "How many times one caller may hold at once."}
    )
    offer_minutes = whole(
        5, 1440, metadata={"description": "How long an offer of a freed time stands."}
    )
    offers_at_once = whole(
        1, 50, metadata={"description": "To how many; offered to one it is kept meanwhile."}
    )
    on_call_id = Id(
        allow_none=True,
        metadata={"description": "The practitioner who hears of what cannot wait, at any hour."},
    )
    privacy_officer_id = Id(
        allow_none=True, metadata={"description": "The practitioner who hears of break-glass."}
    )
    standby_hours = whole(
        0, 168, metadata={"description": "So near, a freed time is for those on standby alone."}
    )
    standby_at_once = whole(1, 50, metadata={"description": "To how many of those at once."})
    noshow_after_minutes = whole(1, 100_000)
    session_idle_minutes = whole(
        5, 60, metadata={"description": "Who signed in and does nothing so long signs in anew."}
    )
    default_protocol_id = Id(allow_none=True)


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
    is_open = fields.Boolean(metadata={"description": "Whether the site is open on it."})


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


@blueprint.route("/clinic", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.response(200, ClinicSchema)
def read_clinic() -> Clinic:
    """Read the clinic that the key belongs to."""
    clinic = db.session.scalars(select(Clinic)).one()
    preconditions.tag(clinic.version)
    return clinic


@blueprint.route("/clinic", methods=["PATCH"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.arguments(changes_of(ClinicSchema))
@blueprint.response(200, ClinicSchema)
@blueprint.alt_response(412, schema=ProblemSchema, description="stale")
def change_clinic(changes: dict[str, Any]) -> Response:
    """Change the clinic's settings."""
    version = preconditions.seen_version()
    clinic = db.session.scalars(select(Clinic).with_for_update()).one()
    if clinic.version != version:
        raise preconditions.stale("clinic")
    for name, value in changes.items():
        setattr(clinic, name, value)
    clinic.version += 1
    db.session.flush()
    preconditions.tag(clinic.version)
    act = Act(action="update", entity="clinic", facts={"changed": sorted(changes)})
    return edge.done(ClinicSchema, clinic, act)


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
    return ROOMS.add(Room(id=uuid7(), schedule_id=_schedule(ActorKind.ROOM, told), **told))


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
    return DEVICES.add(Device(id=uuid7(), schedule_id=_schedule(ActorKind.DEVICE, told), **told))


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


def _schedule(kind: ActorKind, told: dict[str, Any]) -> UUID:
    schedule = Schedule(id=uuid7(), actor_kind=kind, name=told["name"], lanes=1)
    db.session.add(schedule)
    db.session.flush()
    return schedule.id
