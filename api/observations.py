"""Observations over REST: what is measured in a visit, and what is due to be measured."""

from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, ValidationError, fields, post_load, validate
from sqlalchemy import select

from api import edge, pages
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from models import Appointment, Observation, db
from models.vocabulary import Measure
from scheduler import facts, observing
from scheduler.audit import Act
from scheduler.errors import NotFound
from scheduler.measuring import KINDS, DueState
from scheduler.observing import Noted
from scheduler.permissions import Permission

blueprint = Blueprint(
    "observations", __name__, url_prefix="/api/v1/appointments", description="What is measured."
)


class Values(fields.Dict):
    """Numbers by measure; what is yes or no may be told as that."""

    def __init__(self, **kwargs: Any) -> None:
        told = ", ".join(f"{measure} ({KINDS[measure].unit})" for measure in Measure)
        super().__init__(
            keys=fields.String(),
            values=fields.Raw(),
            metadata={
                "description": f"By measure: {told}. Yes is 1 or true.",
                "example": {"systolic": 128, "diastolic": 82},
                "additionalProperties": {"type": ["number", "boolean"]},
            },
            **kwargs,
        )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError("Give values by measure.")
        return {_measure(code): _number(code, told) for code, told in value.items()}


def _measure(code: str) -> Measure:
    try:
        return Measure(code)
    except ValueError as error:
        known = ", ".join(Measure)
        raise ValidationError({code: [f"No such measure. Known are {known}."]}) from error


def _number(code: str, told: Any) -> float:
    if not isinstance(told, int | float):
        raise ValidationError({code: ["Give a number."]})
    return float(told)


class ObservationSchema(Schema):
    """What was measured at one moment."""

    id = Id(dump_only=True)
    appointment_id = Id(dump_only=True)
    patient_id = Id(dump_only=True)
    taken_at = Instant(metadata={"description": "When it was measured; now if left out."})
    values = Values(required=True)
    note = Text(most=1000, lines=True, load_default=None, allow_none=True)
    noted_by = fields.String(dump_only=True)
    noted_at = Instant(dump_only=True)
    replaces = Id(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "An observation that was entered in error; `values` {} if there is "
            "nothing to put in its place."
        },
    )
    replaced_by = Id(dump_only=True, allow_none=True)

    @post_load
    def noted(self, data: dict[str, Any], **_: object) -> Noted:
        return Noted(
            values=data["values"],
            taken_at=data.get("taken_at", now()),
            note=data["note"],
            replaces=data["replaces"],
        )


class DueSchema(Schema):
    """One measuring that the protocol asks for."""

    code = fields.String(attribute="watch.code")
    title = fields.String(attribute="watch.title")
    measures = fields.List(fields.Enum(Measure, by_value=True), attribute="watch.measures")
    due_at = Instant()
    state = fields.Enum(DueState, by_value=True)
    done_at = Instant(allow_none=True)


class WatchSchema(Schema):
    """What is due to be measured, in the order of time."""

    items = fields.List(fields.Nested(DueSchema), validate=validate.Length(max=500))


@blueprint.route("/<uuid:appointment_id>/observations", methods=["GET"])
@requires(Permission.HEALTH_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ObservationSchema))
def list_observations(asked: dict[str, Any], appointment_id: UUID) -> dict[str, Any]:
    """List what was measured in a visit, with what was replaced, oldest first."""
    facts.one(db.session(), Appointment, appointment_id)
    query = select(Observation).where(Observation.appointment_id == appointment_id)
    found = pages.page(query, [Observation.taken_at, Observation.id], asked)
    return {**found, "items": _shown(found["items"])}


@blueprint.route("/<uuid:appointment_id>/observations/<uuid:observation_id>", methods=["GET"])
@requires(Permission.HEALTH_READ)
@blueprint.response(200, ObservationSchema)
def read_observation(appointment_id: UUID, observation_id: UUID) -> dict[str, Any]:
    """Read one line of what was measured."""
    line = facts.one(db.session(), Observation, observation_id)
    if line.appointment_id != appointment_id:
        raise NotFound("There is no such observation.")
    return _shown([line])[0]


@blueprint.route("/<uuid:appointment_id>/observations", methods=["POST"])
@requires(Permission.SESSIONS_WRITE)
@blueprint.arguments(ObservationSchema)
@idempotent
@blueprint.response(201, ObservationSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status, already-exists")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def add_observation(noted: Noted, appointment_id: UUID) -> Response:
    """Write down what was measured, or what takes the place of an earlier line."""
    line = observing.note(db.session(), appointment_id, noted, by=by(), now=now())
    act = Act(
        action="create",
        entity="observation",
        entity_id=line.id,
        patient_id=line.patient_id,
        facts={"replaces": str(line.replaces)} if line.replaces else {},
    )
    location = f"{request.path}/{line.id}"
    return edge.done(ObservationSchema, _shown([line])[0], act, status=201, location=location)


@blueprint.route("/<uuid:appointment_id>/watch", methods=["GET"])
@requires(Permission.OBSERVATIONS_READ)
@blueprint.response(200, WatchSchema)
def read_watch(appointment_id: UUID) -> dict[str, Any]:
    """List what is due to be measured in a visit under way, and what is late."""
    visit = facts.one(db.session(), Appointment, appointment_id)
    return {"items": observing.due(db.session(), [visit], now())[visit.id]}


def _shown(lines: list[Observation]) -> list[dict[str, Any]]:
    ids = [line.id for line in lines]
    query = select(Observation.replaces, Observation.id).where(Observation.replaces.in_(ids))
    by_whom = {row.replaces: row.id for row in db.session.execute(query)}
    return [
        {
            **{column.key: getattr(line, column.key) for column in Observation.__table__.columns},
            "replaced_by": by_whom.get(line.id),
        }
        for line in lines
    ]
