"""Instruments and responses over REST: what is asked, what was answered, and how it changes."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, fields, post_load, validate
from sqlalchemy import select

from api import edge, pages, preconditions
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Flag, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.showing import ClinicalSchema
from models import Patient, QuestionnaireResponse, db
from scheduler import facts, outcomes, questionnaires, wordings
from scheduler.audit import Act
from scheduler.instruments import LIBRARY, Instrument
from scheduler.permissions import Permission
from scheduler.questionnaires import New
from scheduler.wordings import Wording

blueprint = Blueprint(
    "instruments", __name__, url_prefix="/api/v1", description="Questionnaires and what they say."
)


class ChoiceSchema(Schema):
    """An answer to choose, and what it counts."""

    value = fields.Integer()
    text = fields.String(allow_none=True)


class InstrumentItemSchema(Schema):
    """A question."""

    code = fields.String()
    topic = fields.String(metadata={"description": "What it asks about, for staff."})
    text = fields.String(
        allow_none=True,
        metadata={"description": "As patients read it; null: the clinic has entered no words."},
    )


class BandSchema(Schema):
    """A stretch of scores."""

    least = fields.Integer(data_key="from")
    code = fields.String()


class InstrumentSchema(Schema):
    """A questionnaire in its newest version."""

    code = fields.String()
    version = fields.String()
    title = fields.String()
    heading = fields.String(allow_none=True)
    items = fields.List(fields.Nested(InstrumentItemSchema))
    choices = fields.List(fields.Nested(ChoiceSchema))
    least = fields.Integer(allow_none=True)
    most = fields.Integer(allow_none=True)
    bands = fields.List(fields.Nested(BandSchema))
    flags = fields.List(fields.String())
    can_be_filled_in = Flag(
        metadata={"description": "By patients: there are words for every question."}
    )


class InstrumentsSchema(Schema):
    """All instruments."""

    items = fields.List(fields.Nested(InstrumentSchema))


class InstrumentWordingSchema(Schema):
    """Words that the clinic has checked that it may use."""

    heading = Text(most=1000, lines=True, required=True)
    items = fields.Dict(
        keys=fields.String(),
        values=Text(most=1000),
        required=True,
        validate=validate.Length(max=100),
        metadata={"description": "The question, by item.", "example": {"1": "How often?"}},
    )
    choices = fields.Dict(
        keys=fields.String(),
        values=Text(most=200),
        required=True,
        validate=validate.Length(max=50),
        metadata={"description": "The answer to choose, by its value.", "example": {"0": "Never"}},
    )

    @post_load
    def wording(self, data: dict[str, Any], **_: object) -> Wording:
        return Wording(**data)


class ChangeSchema(Schema):
    """A score beside the baseline's."""

    baseline_id = Id()
    points = fields.Integer()
    percent = fields.Float(allow_none=True)
    is_response = Flag(allow_none=True)
    is_remission = Flag(allow_none=True)


class QuestionnaireResponseSchema(ClinicalSchema):
    """A questionnaire that was filled in, and what it amounts to; to who may not read it, that."""

    _CLINICAL = ("answers", "score", "band", "flags", "change")
    _TAKES = Permission.QUESTIONNAIRES_READ

    id = Id(dump_only=True)
    patient_id = Id(dump_only=True)
    instrument = fields.String(required=True, validate=validate.OneOf(sorted(LIBRARY)))
    instrument_version = fields.String(dump_only=True)
    appointment_id = Id(load_default=None, allow_none=True)
    course_id = Id(
        load_default=None,
        allow_none=True,
        metadata={"description": "The course that it is about; the visit's if left out."},
    )
    answers = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(strict=True),
        load_default=dict,
        validate=validate.Length(max=100),
        metadata={"description": "The value chosen, by item.", "example": {"1": 2, "2": 0}},
    )
    score = fields.Integer(strict=True, load_default=None, allow_none=True)
    band = fields.String(dump_only=True, allow_none=True)
    flags = fields.List(fields.String(), dump_only=True)
    authored_at = Instant(metadata={"description": "When it was filled in; now if left out."})
    authored_by = fields.String(dump_only=True)
    noted_at = Instant(dump_only=True)
    replaces = Id(load_default=None, allow_none=True)
    in_error = Flag(
        load_default=False,
        metadata={"description": "Only to say that what it replaces was entered in error."},
    )
    counts = Flag(
        dump_only=True, metadata={"description": "It was not replaced, and is not in error."}
    )
    change = fields.Nested(ChangeSchema, dump_only=True, allow_none=True)


class ResponseQuery(PageQuery):
    """Which responses."""

    instrument = fields.String(validate=validate.OneOf(sorted(LIBRARY)), load_default=None)


@blueprint.route("/instruments", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.response(200, InstrumentsSchema)
def list_instruments() -> dict[str, Any]:
    """List the questionnaires that there are, in their words."""
    return {"items": [_shown(one) for one in LIBRARY.values()]}


@blueprint.route("/instruments/<code>", methods=["GET"])
@requires(Permission.SETUP_READ)
@blueprint.response(200, InstrumentSchema)
def read_instrument(code: str) -> dict[str, Any]:
    """Read one questionnaire. Its ETag is that of the clinic's words for it."""
    instrument = questionnaires.known(code)
    preconditions.tag_for_changes(wordings.number(db.session(), code))
    return _shown(instrument)


@blueprint.route("/instruments/<code>/wording", methods=["PUT"])
@requires(Permission.SETUP_WRITE)
@conditional
@blueprint.arguments(InstrumentWordingSchema)
@idempotent
@blueprint.response(200, InstrumentSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def put_wording(wording: Wording, code: str) -> Response:
    """Enter the words of a questionnaire whose words are not shipped."""
    instrument = questionnaires.known(code)
    seen = preconditions.seen_version()
    row = wordings.word(db.session(), instrument, wording, seen, by=by())
    preconditions.tag_for_changes(row.number)
    act = Act(action="update", entity="instrument", entity_id=row.id, facts={"code": code})
    return edge.done(InstrumentSchema, _shown(instrument), act)


@blueprint.route("/patients/<uuid:patient_id>/questionnaire-responses", methods=["GET"])
@requires(Permission.QUESTIONNAIRES_READ)
@blueprint.arguments(ResponseQuery, location="query")
@blueprint.response(200, page_of(QuestionnaireResponseSchema))
def list_responses(asked: dict[str, Any], patient_id: UUID) -> dict[str, Any]:
    """List what a patient filled in, oldest first, each beside the baseline."""
    facts.one(db.session(), Patient, patient_id)
    query = select(QuestionnaireResponse).where(QuestionnaireResponse.patient_id == patient_id)
    wanted = {"instrument": QuestionnaireResponse.instrument.__eq__}
    order = [QuestionnaireResponse.authored_at, QuestionnaireResponse.id]
    found = pages.page(pages.narrowed(query, asked, wanted), order, asked)
    return {**found, "items": _beside_baseline(patient_id, found["items"])}


@blueprint.route(
    "/patients/<uuid:patient_id>/questionnaire-responses/<uuid:response_id>", methods=["GET"]
)
@requires(Permission.QUESTIONNAIRES_READ)
@blueprint.response(200, QuestionnaireResponseSchema)
def read_questionnaire_response(patient_id: UUID, response_id: UUID) -> dict[str, Any]:
    """Read one of them, beside the baseline."""
    response = facts.one_of(db.session(), QuestionnaireResponse, response_id, patient_id)
    return _beside_baseline(patient_id, [response])[0]


@blueprint.route("/patients/<uuid:patient_id>/questionnaire-responses", methods=["POST"])
@requires(Permission.QUESTIONNAIRES_WRITE)
@blueprint.arguments(QuestionnaireResponseSchema)
@idempotent
@blueprint.response(201, QuestionnaireResponseSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def add_response(told: dict[str, Any], patient_id: UUID) -> Response:
    """Enter what was filled in on paper or worked out elsewhere, or put an entry right."""
    told.setdefault("authored_at", now())
    response = questionnaires.enter(
        db.session(), New(patient_id=patient_id, **told), by=by(), now=now()
    )
    act = Act(
        action="create",
        entity="questionnaire-response",
        entity_id=response.id,
        patient_id=patient_id,
        facts={"instrument": response.instrument},
    )
    [shown] = _beside_baseline(patient_id, [response])
    location = f"{request.path}/{response.id}"
    return edge.done(QuestionnaireResponseSchema, shown, act, status=201, location=location)


def _shown(instrument: Instrument) -> dict[str, Any]:
    sheet = wordings.sheet(db.session(), instrument)
    texts = {} if sheet is None else {item.code: item.text for item in sheet.items}
    chosen = dict(sheet.items[0].choices) if sheet is not None else {}
    return {
        "code": instrument.code,
        "version": instrument.version,
        "title": instrument.title,
        "heading": None if sheet is None else sheet.heading,
        "items": [
            {"code": item.code, "topic": item.topic, "text": texts.get(item.code)}
            for item in instrument.items
        ],
        "choices": [
            {"value": one.value, "text": chosen.get(one.value)} for one in instrument.choices
        ],
        "least": instrument.least,
        "most": instrument.most,
        "bands": instrument.bands,
        "flags": [flag.code for flag in instrument.flags],
        "can_be_filled_in": sheet is not None,
    }


def _beside_baseline(
    patient_id: UUID, responses: Sequence[QuestionnaireResponse]
) -> list[dict[str, Any]]:
    by_id = outcomes.of_patient(db.session(), patient_id)
    shown = []
    for one in responses:
        point = by_id.get(one.id)
        told = {column.key: getattr(one, column.key) for column in one.__table__.columns}
        change = None
        if point is not None and point.change is not None:
            change = {"baseline_id": point.baseline_id, **outcomes.told(point.change)}
        shown.append({**told, "counts": point is not None, "change": change})
    return shown
