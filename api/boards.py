"""The board over REST: the visits of a stretch of time, those at most risk first."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from flask import Response, jsonify
from marshmallow import Schema, fields
from sqlalchemy import Row, select

from api import showing, trail
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Instant
from api.pages import page_of
from api.showing import Granted
from api.visits import ReadinessSchema
from models import Appointment, Site, db
from models.vocabulary import AppointmentStatus, Stage
from scheduler import evidence, lifecycle
from scheduler.errors import Unfit
from scheduler.evidence import Standing
from scheduler.lifecycle import State
from scheduler.permissions import Permission
from scheduler.readiness import Judged, Urgency, urgency

blueprint = Blueprint("boards", __name__, url_prefix="/api/v1", description="Who is ready.")

MOST = 1000
"""Visits that a board shows at most."""

LONGEST = timedelta(days=62)

ON_THE_BOARD = (
    AppointmentStatus.PENDING,
    AppointmentStatus.BOOKED,
    AppointmentStatus.ARRIVED,
    AppointmentStatus.CHECKED_IN,
)


class BoardRowSchema(Schema):
    """One visit on the board."""

    urgency = fields.Enum(Urgency, by_value=True)
    missing = fields.List(
        fields.String(), metadata={"description": "Gates that the visit must still pass, by code."}
    )
    appointment = fields.Nested(showing.AppointmentSchema)
    readiness = fields.Nested(ReadinessSchema)


class BoardQuery(Schema):
    """Which part of the board."""

    start = Instant(data_key="from", required=True)
    end = Instant(data_key="to", required=True)


@blueprint.route("/readiness", methods=["GET"])
@requires(Permission.APPOINTMENTS_READ)
@blueprint.arguments(BoardQuery, location="query")
@blueprint.alt_response(200, schema=page_of(BoardRowSchema))
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def read_board(asked: dict[str, Any]) -> Response:
    """Show the visits of a stretch of time with all their gates, those at most risk first.

    All at once, so that what matters stands on top: a thousand visits, two months at most.
    """
    if not timedelta(0) < asked["end"] - asked["start"] <= LONGEST:
        raise Unfit(f"Ask for {LONGEST.days} days at most.", field="to")
    visits = _visits(asked["start"], asked["end"])
    if len(visits) > MOST:
        raise Unfit(f"More than {MOST} visits: ask for a shorter stretch of time.", field="to")
    at, granted = now(), by().permissions
    found = evidence.stand(db.session(), visits, at)
    stands = [_standing(found[visit.id], _stage(visit), granted) for visit in visits]
    shown = showing.written(visits, (one.assigned for one in stands))
    rows = [_row(visit, one, at) for visit, one in zip(shown, stands, strict=True)]
    rows.sort(key=lambda row: _PRESSING[row["urgency"]])  # and in the order of time, as they came
    told = {"items": rows, "next": None}
    trail.note_shown(told)
    return jsonify(told)


def _visits(start: datetime, end: datetime) -> Sequence[Any]:
    """What is shown of the visits, and what they are judged by; one more than a board shows."""
    visits, sites = Appointment.__table__.c, Site.__table__.c
    query = (
        select(*showing.columns(), visits.protocol_version_id, visits.visit)
        .where(
            sites.clinic_id == visits.clinic_id,
            sites.id == visits.site_id,
            visits.starts_at >= start,
            visits.starts_at < end,
            visits.status.in_(ON_THE_BOARD),
        )
        .order_by(visits.starts_at, visits.id)
        .limit(MOST + 1)
    )
    return db.session.execute(query).all()


_PRESSING = {one: place for place, one in enumerate(Urgency)}


class _Standing(NamedTuple):
    """How a visit stands, whatever the time."""

    missing: list[str]
    due_at: datetime | None
    """When the first of what is missing is due."""
    readiness: orjson.Fragment
    """As ReadinessSchema has it, in JSON."""
    assigned: orjson.Fragment
    """Who serves it, in JSON."""


def _row(shown: dict[str, Any], stands: _Standing, at: datetime) -> dict[str, Any]:
    return {
        "urgency": urgency(stands.due_at, at),
        "missing": stands.missing,
        "appointment": shown,
        "readiness": stands.readiness,
    }


def _stage(visit: Row[Any]) -> Stage | None:
    return lifecycle.stage_ahead(State(visit.status, visit.progress), visit.kind)


@lru_cache(maxsize=evidence.KEPT)
def _standing(found: Standing, stage: Stage | None, granted: Granted) -> _Standing:
    """How a visit stands, to be read by somebody. Kept as long as how it was judged."""
    readiness = found.readiness
    shut = [] if stage is None else readiness.shut(Stage.DOSE if _ahead(stage) else stage)
    told = {
        "ready": stage is not None and not any(readiness.asked(one, stage) for one in shut),
        "stage": stage,
        "gates": [_gate(one, granted) for one in readiness.gates],
    }
    return _Standing(
        missing=[one.gate.code for one in shut],
        due_at=min((one.due_at for one in shut), default=None),
        readiness=orjson.Fragment(orjson.dumps(told, option=orjson.OPT_UTC_Z)),
        assigned=showing.assigned(found.served),
    )


def _ahead(stage: Stage) -> bool:
    """Whether the dose is ahead: then everything up to it is missing, also what is of the day."""
    return stage in {Stage.BOOKING, Stage.ARRIVAL, Stage.DOSE}


def _gate(one: Judged, granted: Granted) -> dict[str, Any]:
    return {
        "code": one.gate.code,
        "title": one.gate.title,
        "state": one.state,
        "shuts": one.gate.shuts,
        "detail": showing.words_of(one, granted),
        "due_at": one.due_at,
        "who": one.gate.who,
        "expires_at": one.expires_at,
    }
