"""Screens over REST: what speaks against a dose, asked of a patient and decided on."""

from collections import defaultdict
from collections.abc import Sequence
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
from models import Patient, Screen, ScreenDecision, db
from models.vocabulary import (
    Answer,
    ConditionAction,
    HoldOutcome,
    MedicineAction,
)
from scheduler import facts, medicines, screens
from scheduler.audit import Act
from scheduler.permissions import Permission
from scheduler.screens import NewDecision, NewScreen

MOST = 200

blueprint = Blueprint(
    "screening", __name__, url_prefix="/api/v1/patients", description="What speaks against a dose."
)


class ConditionSchema(Schema):
    """A condition that a protocol screens for."""

    code = fields.String()
    title = fields.String()
    action = fields.Enum(ConditionAction, by_value=True)
    lift = fields.Function(
        lambda one: sorted(one.lift),
        metadata={
            "type": "array",
            "items": {"type": "string"},
            "description": "Who decides on a hold, or may pass over a block.",
        },
    )


class MedicineClassSchema(Schema):
    """A class of medicines that a protocol names."""

    code = fields.String()
    title = fields.String()
    action = fields.Enum(MedicineAction, by_value=True)


class ScreeningSchema(Schema):
    """What is asked of a patient under the protocols that they are under."""

    conditions = fields.List(fields.Nested(ConditionSchema))
    medicines = fields.List(fields.Nested(MedicineClassSchema))


class ScreenDecisionSchema(Schema):
    """What was decided about a condition that is on hold."""

    id = Id(dump_only=True)
    condition = fields.String(required=True, validate=validate.Length(1, 40))
    outcome = fields.Enum(HoldOutcome, by_value=True, required=True)
    reason = Text(most=2000, lines=True, required=True)
    decided_by = fields.String(dump_only=True)
    decided_at = Instant(dump_only=True)

    @post_load
    def decision(self, data: dict[str, Any], **_: object) -> NewDecision:
        return NewDecision(**data)


class AnswerSchema(Schema):
    """What was found of one condition."""

    condition = fields.String(required=True, validate=validate.Length(1, 40))
    answer = fields.Enum(Answer, by_value=True, required=True)
    note = Text(most=1000, lines=True, load_default=None, allow_none=True)


class ScreenSchema(Schema):
    """A screen: every condition answered."""

    id = Id(dump_only=True)
    patient_id = Id(dump_only=True)
    screened_at = Instant(metadata={"description": "When it was done; now if left out."})
    answers = fields.List(
        fields.Nested(AnswerSchema), required=True, validate=validate.Length(1, MOST)
    )
    note = Text(most=2000, lines=True, load_default=None, allow_none=True)
    screened_by = fields.String(dump_only=True)
    decisions = fields.List(fields.Nested(ScreenDecisionSchema), dump_only=True)

    @post_load
    def screen(self, data: dict[str, Any], **_: object) -> NewScreen:
        told = data["answers"]
        answers = {one["condition"]: one["answer"] for one in told}
        if len(answers) != len(told):
            raise ValidationError("Answer each condition once.", "answers")
        return NewScreen(
            screened_at=data.get("screened_at", now()),
            answers=answers,
            notes={one["condition"]: one["note"] for one in told if one["note"] is not None},
            note=data["note"],
        )


@blueprint.route("/<uuid:patient_id>/screening", methods=["GET"])
@requires(Permission.SCREENING_READ)
@blueprint.response(200, ScreeningSchema)
def read_screening(patient_id: UUID) -> dict[str, Any]:
    """List what is to be asked of a patient, and what follows from it."""
    session = db.session()
    facts.one(session, Patient, patient_id)
    return {
        "conditions": screens.asked(session, patient_id),
        "medicines": medicines.asked(session, patient_id),
    }


@blueprint.route("/<uuid:patient_id>/screens", methods=["GET"])
@requires(Permission.SCREENING_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ScreenSchema))
def list_screens(asked: dict[str, Any], patient_id: UUID) -> dict[str, Any]:
    """List the screens of a patient, oldest first, each with what was decided on it."""
    facts.one(db.session(), Patient, patient_id)
    query = select(Screen).where(Screen.patient_id == patient_id)
    found = pages.page(query, [Screen.screened_at, Screen.id], asked)
    return {**found, "items": _shown(found["items"])}


@blueprint.route("/<uuid:patient_id>/screens/<uuid:screen_id>", methods=["GET"])
@requires(Permission.SCREENING_READ)
@blueprint.response(200, ScreenSchema)
def read_screen(patient_id: UUID, screen_id: UUID) -> dict[str, Any]:
    """Read one screen, with what was decided on it."""
    return _shown([facts.one_of(db.session(), Screen, screen_id, patient_id)])[0]


@blueprint.route("/<uuid:patient_id>/screens", methods=["POST"])
@requires(Permission.SCREENING_WRITE)
@blueprint.arguments(ScreenSchema)
@idempotent
@blueprint.response(201, ScreenSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def add_screen(new: NewScreen, patient_id: UUID) -> Response:
    """Write down a screen. It replaces the one before; visits that it shuts are told."""
    screen = screens.record(db.session(), patient_id, new, by=by(), now=now())
    act = Act(action="create", entity="screen", entity_id=screen.id, patient_id=patient_id)
    location = f"{request.path}/{screen.id}"
    return edge.done(ScreenSchema, _shown([screen])[0], act, status=201, location=location)


@blueprint.route("/<uuid:patient_id>/screens/<uuid:screen_id>/decisions", methods=["POST"])
@requires(Permission.SCREENING_WRITE)
@blueprint.arguments(ScreenDecisionSchema)
@idempotent
@blueprint.response(201, ScreenDecisionSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def add_decision(new: NewDecision, patient_id: UUID, screen_id: UUID) -> Response:
    """Decide about a condition that is on hold. A later decision replaces an earlier one."""
    screen = facts.one_of(db.session(), Screen, screen_id, patient_id)
    decision = screens.decide(db.session(), screen, new, by=by(), now=now())
    act = Act(
        action="create",
        entity="screen_decision",
        entity_id=decision.id,
        patient_id=patient_id,
        facts={"screen": str(screen_id), "outcome": decision.outcome},
    )
    return edge.done(ScreenDecisionSchema, decision, act, status=201)


def _shown(rows: Sequence[Screen]) -> list[dict[str, Any]]:
    query = (
        select(ScreenDecision)
        .where(ScreenDecision.screen_id.in_([row.id for row in rows]))
        .order_by(ScreenDecision.decided_at, ScreenDecision.id)
    )
    decided: dict[UUID, list[ScreenDecision]] = defaultdict(list)
    for one in db.session.scalars(query):
        decided[one.screen_id].append(one)
    return [
        {
            **{column.key: getattr(row, column.key) for column in Screen.__table__.columns},
            "answers": [
                {"condition": code, "answer": Answer(answer), "note": row.notes.get(code)}
                for code, answer in sorted(row.answers.items())
            ],
            "decisions": decided[row.id],
        }
        for row in rows
    ]
