"""The clinic over REST: its name and settings."""

from typing import Any

from flask import Response
from marshmallow import Schema, fields
from sqlalchemy import select

from api import edge, preconditions
from api.blueprint import Blueprint
from api.caller import requires
from api.errors import ProblemSchema
from api.fields import Email, Id, Phone, Text, Zone, whole
from api.preconditions import conditional
from api.shelf import changes_of
from models import Clinic, db
from scheduler.audit import Act
from scheduler.permissions import Permission

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
