"""Outcomes over REST: the scores of a course against its doses, in figures and as a picture."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from hashlib import sha256
from importlib import import_module
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from flask import Response
from marshmallow import Schema, fields, validate

from api import preconditions
from api.blueprint import Blueprint
from api.caller import commit, requires
from api.fields import Id, Instant
from api.instruments import BandSchema, ChangeSchema
from models import db
from models.vocabulary import AppointmentStatus
from scheduler import facts, outcomes
from scheduler.audit import Act
from scheduler.curves import Point
from scheduler.instruments import LIBRARY
from scheduler.outcomes import Outcomes
from scheduler.permissions import Permission

blueprint = Blueprint(
    "outcomes", __name__, url_prefix="/api/v1/courses", description="What became of courses."
)


class Format(StrEnum):
    """How a picture is written."""

    SVG = "svg"
    PNG = "png"


MEDIA_TYPES = {Format.SVG: "image/svg+xml", Format.PNG: "image/png"}


class PointSchema(Schema):
    """One response of a course."""

    id = Id()
    appointment_id = Id(allow_none=True, metadata={"description": "The visit that asked for it."})
    authored_at = Instant()
    score = fields.Integer(allow_none=True)
    band = fields.String(allow_none=True)
    flags = fields.List(fields.String())
    change = fields.Nested(
        ChangeSchema,
        allow_none=True,
        metadata={"description": "Null: the baseline itself, or what came before it."},
    )


class CurveSchema(Schema):
    """How what an instrument measures changed over a course."""

    instrument = fields.String()
    title = fields.String()
    least = fields.Integer(allow_none=True)
    most = fields.Integer(allow_none=True)
    bands = fields.List(fields.Nested(BandSchema))
    baseline_id = Id(
        allow_none=True,
        metadata={"description": "The last score at or before the first dose, else the first."},
    )
    points = fields.List(fields.Nested(PointSchema))


class DoseSchema(Schema):
    """A visit of the course in which something is given."""

    appointment_id = Id()
    step = fields.String()
    status = fields.Enum(AppointmentStatus, by_value=True)
    starts_at = Instant()
    dosed_at = Instant(allow_none=True, metadata={"description": "Null: not given yet."})


class CourseOutcomesSchema(Schema):
    """What is measured in a course, and when something was given."""

    course_id = Id()
    patient_id = Id()
    time_zone = fields.String(metadata={"description": "The clinic's."})
    curves = fields.List(fields.Nested(CurveSchema))
    doses = fields.List(fields.Nested(DoseSchema))


class PictureQuery(Schema):
    """Which picture."""

    format = fields.Enum(Format, by_value=True, load_default=Format.SVG)
    instrument = fields.String(
        validate=validate.OneOf(sorted(LIBRARY)),
        load_default=None,
        metadata={"description": "All that were answered if left out."},
    )


@blueprint.route("/<uuid:course_id>/outcomes", methods=["GET"])
@requires(Permission.QUESTIONNAIRES_READ)
@blueprint.response(200, CourseOutcomesSchema)
def read_outcomes(course_id: UUID) -> dict[str, Any]:
    """Read a course's scores, each beside the baseline, and its doses, to draw them together."""
    found = outcomes.of_course(db.session(), course_id)
    shown = _shown(found)
    preconditions.tag(_digest(shown))
    commit(_read(found, "outcomes"))
    return shown


@blueprint.route("/<uuid:course_id>/outcomes/picture", methods=["GET"])
@requires(Permission.QUESTIONNAIRES_READ)
@blueprint.arguments(PictureQuery, location="query")
@blueprint.doc(
    responses={
        "200": {
            "description": "1200 pixels wide, and 504 high with one instrument, 312 more for each "
            "other. It names nobody.",
            "content": {media_type: {} for media_type in MEDIA_TYPES.values()},
        }
    }
)
def read_picture(asked: dict[str, Any], course_id: UUID) -> Response:
    """See the same as a picture: scores against doses, dates in the clinic's zone."""
    found = outcomes.of_course(db.session(), course_id)
    shown = _shown(found)
    preconditions.tag(_digest({**asked, **shown}))
    commit(_read(found, "picture"))  # nothing of the database is held while it is drawn
    curves = {
        code: points for code, points in found.curves.items() if asked["instrument"] in {None, code}
    }
    drawn = _pen()(curves, found.doses, ZoneInfo(shown["time_zone"]), asked["format"].value)
    return Response(drawn, content_type=MEDIA_TYPES[asked["format"]], headers=_ALONE)


_ALONE = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
"""A picture that is opened by itself runs nothing and asks for nothing."""


@cache
def _pen() -> Callable[..., bytes]:
    """What draws. Loaded by the first picture: processes that draw none start without it."""
    draw: Callable[..., bytes] = import_module("api.drawing").draw
    return draw


def _shown(found: Outcomes) -> dict[str, Any]:
    return {
        "course_id": found.course.id,
        "patient_id": found.course.patient_id,
        "time_zone": facts.clinic(db.session()).time_zone,
        "curves": [_curve(code, points) for code, points in sorted(found.curves.items())],
        "doses": found.doses,
    }


def _curve(code: str, points: Sequence[Point]) -> dict[str, Any]:
    instrument = LIBRARY[code]
    return {
        "instrument": code,
        "title": instrument.title,
        "least": instrument.least,
        "most": instrument.most,
        "bands": instrument.bands,
        "baseline_id": next((one.baseline_id for one in points if one.baseline_id), None),
        "points": [_point(one) for one in points],
    }


def _point(point: Point) -> dict[str, Any]:
    entry, change = point.entry, None
    if point.change is not None:
        change = {"baseline_id": point.baseline_id, **outcomes.told(point.change)}
    return {
        "id": entry.id,
        "appointment_id": entry.appointment_id,
        "authored_at": entry.at,
        "score": entry.score,
        "band": entry.band,
        "flags": entry.flags,
        "change": change,
    }


def _digest(shown: dict[str, Any]) -> str:
    """Names a state of what is worked out: the same figures, the same name."""
    return sha256(repr(shown).encode()).hexdigest()[:32]


def _read(found: Outcomes, what: str) -> Act:
    return Act(
        action="read",
        entity="course",
        entity_id=found.course.id,
        patient_id=found.course.patient_id,
        facts={"what": what},
    )
