"""Schedules over REST: whose time it is, and how many visits a day or a week have room for."""

from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields

from api import preconditions
from api.blueprint import Blueprint
from api.caller import requires
from api.errors import ProblemSchema
from api.fields import Id, whole
from api.preconditions import conditional
from api.shelf import Shelf
from models import Schedule, db
from models.vocabulary import ActorKind
from scheduler import facts
from scheduler.errors import NotFound
from scheduler.permissions import Permission

blueprint = Blueprint("limits", __name__, url_prefix="/api/v1/schedules", description="Time.")


def _most(of: str) -> fields.Integer:
    told = f"Of its visits in a {of}, by the site's calendar; null: as many as there is time for."
    return whole(1, 1000, allow_none=True, metadata={"description": told})


class ScheduleLimitsSchema(Schema):
    """How much is asked of somebody or something at most."""

    most_per_day = _most("day")
    most_per_week = _most("week")


class ScheduleSchema(ScheduleLimitsSchema):
    """The bookable time of a practitioner, a room or a device."""

    id = Id()
    actor_kind = fields.Enum(ActorKind, by_value=True)
    name = fields.String()
    lanes = fields.Integer(metadata={"description": "How many visits it can be in at once."})


SCHEDULES = Shelf(Schedule, ScheduleSchema)


@blueprint.route("/<uuid:schedule_id>", methods=["GET"])
@requires(Permission.SCHEDULES_READ)
@blueprint.response(200, ScheduleSchema)
def read_schedule(schedule_id: UUID) -> Schedule:
    """Read whose time it is, and how many visits it takes at most."""
    schedule = _of_the_clinic(schedule_id)
    preconditions.tag(schedule.version)
    return schedule


@blueprint.route("/<uuid:schedule_id>", methods=["PATCH"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.arguments(ScheduleLimitsSchema)
@blueprint.response(200, ScheduleSchema)
@blueprint.alt_response(412, schema=ProblemSchema, description="stale")
def change_limits(changes: dict[str, Any], schedule_id: UUID) -> Response:
    """Let it have more visits in a day or a week from now on, or fewer. What is booked stays."""
    _of_the_clinic(schedule_id)
    return SCHEDULES.change(schedule_id, changes)


def _of_the_clinic(schedule_id: UUID) -> Schedule:
    """A schedule that is no patient's: theirs is told of by their visits alone."""
    schedule = facts.one(db.session(), Schedule, schedule_id)
    if schedule.actor_kind is ActorKind.PATIENT:
        raise NotFound("There is no such schedule.")
    return schedule
