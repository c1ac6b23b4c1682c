"""Reconciliations over REST: what a patient takes, and what is left out for a dose."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, fields, post_load, validate
from sqlalchemy import select

from api import edge, pages
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from models import MedicineRuling, Patient, Reconciliation, db
from models.vocabulary import MedicineAction
from scheduler import facts, medicines
from scheduler.audit import Act
from scheduler.medicines import Listed, NewReconciliation, NewRuling
from scheduler.permissions import Permission

MOST = 100

blueprint = Blueprint(
    "medicines", __name__, url_prefix="/api/v1/patients", description="What patients take."
)


class MedicineSchema(Schema):
    """Something that a patient takes."""

    name = Text(required=True, metadata={"example": "Lamotrigine"})
    medicine_class = fields.String(
        data_key="class",
        load_default=None,
        allow_none=True,
        validate=validate.Length(1, 40),
        metadata={"description": "A class that the protocol names, if it is of one."},
    )
    note = Text(most=1000, lines=True, load_default=None, allow_none=True)


class MedicineRulingSchema(Schema):
    """What is done about the medicines of a class: as the protocol says, or otherwise."""

    id = Id(dump_only=True)
    medicine_class = fields.String(data_key="class", required=True, validate=validate.Length(1, 40))
    action = fields.Enum(MedicineAction, by_value=True, required=True)
    reason = Text(
        most=2000,
        lines=True,
        load_default=None,
        allow_none=True,
        metadata={"description": "Needed where it is otherwise than the protocol says."},
    )
    ruled_by = fields.String(dump_only=True)
    ruled_at = Instant(dump_only=True)

    @post_load
    def ruling(self, data: dict[str, Any], **_: object) -> NewRuling:
        return NewRuling(**data)


class ReconciliationSchema(Schema):
    """All that a patient takes, as somebody went through it."""

    id = Id(dump_only=True)
    patient_id = Id(dump_only=True)
    reconciled_at = Instant(metadata={"description": "When it was done; now if left out."})
    medicines = fields.List(
        fields.Nested(MedicineSchema),
        required=True,
        validate=validate.Length(max=MOST),
        metadata={"description": "Empty: nothing."},
    )
    note = Text(most=2000, lines=True, load_default=None, allow_none=True)
    reconciled_by = fields.String(dump_only=True)
    rulings = fields.List(fields.Nested(MedicineRulingSchema), dump_only=True)

    @post_load
    def reconciliation(self, data: dict[str, Any], **_: object) -> NewReconciliation:
        return NewReconciliation(
            reconciled_at=data.get("reconciled_at", now()),
            medicines=[Listed(**one) for one in data["medicines"]],
            note=data["note"],
        )


@blueprint.route("/<uuid:patient_id>/reconciliations", methods=["GET"])
@requires(Permission.SCREENING_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ReconciliationSchema))
def list_reconciliations(asked: dict[str, Any], patient_id: UUID) -> dict[str, Any]:
    """List what a patient took, oldest first, each list with what was ruled on it."""
    facts.one(db.session(), Patient, patient_id)
    query = select(Reconciliation).where(Reconciliation.patient_id == patient_id)
    found = pages.page(query, [Reconciliation.reconciled_at, Reconciliation.id], asked)
    return {**found, "items": _shown(found["items"])}


@blueprint.route("/<uuid:patient_id>/reconciliations/<uuid:line_id>", methods=["GET"])
@requires(Permission.SCREENING_READ)
@blueprint.response(200, ReconciliationSchema)
def read_reconciliation(patient_id: UUID, line_id: UUID) -> dict[str, Any]:
    """Read one list of what a patient took, with what was ruled on it."""
    return _shown([facts.one_of(db.session(), Reconciliation, line_id, patient_id)])[0]


@blueprint.route("/<uuid:patient_id>/reconciliations", methods=["POST"])
@requires(Permission.SCREENING_WRITE)
@blueprint.arguments(ReconciliationSchema)
@idempotent
@blueprint.response(201, ReconciliationSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def add_reconciliation(new: NewReconciliation, patient_id: UUID) -> Response:
    """Write down all that a patient takes. It replaces the list before."""
    line = medicines.reconcile(db.session(), patient_id, new, by=by(), now=now())
    act = Act(action="create", entity="reconciliation", entity_id=line.id, patient_id=patient_id)
    location = f"{request.path}/{line.id}"
    return edge.done(ReconciliationSchema, _shown([line])[0], act, status=201, location=location)


@blueprint.route("/<uuid:patient_id>/reconciliations/<uuid:line_id>/rulings", methods=["POST"])
@requires(Permission.SCREENING_WRITE)
@blueprint.arguments(MedicineRulingSchema)
@idempotent
@blueprint.response(201, MedicineRulingSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def add_ruling(new: NewRuling, patient_id: UUID, line_id: UUID) -> Response:
    """Approve what follows from the medicines of a class, or put something else in its place."""
    line = facts.one_of(db.session(), Reconciliation, line_id, patient_id)
    ruling = medicines.rule(db.session(), line, new, by=by(), now=now())
    act = Act(
        action="create",
        entity="medicine_ruling",
        entity_id=ruling.id,
        patient_id=patient_id,
        facts={"reconciliation": str(line_id), "action": ruling.action},
    )
    return edge.done(MedicineRulingSchema, ruling, act, status=201)


def _shown(rows: Sequence[Reconciliation]) -> list[dict[str, Any]]:
    query = (
        select(MedicineRuling)
        .where(MedicineRuling.reconciliation_id.in_([row.id for row in rows]))
        .order_by(MedicineRuling.ruled_at, MedicineRuling.id)
    )
    ruled: dict[UUID, list[MedicineRuling]] = defaultdict(list)
    for one in db.session.scalars(query):
        ruled[one.reconciliation_id].append(one)
    return [
        {
            **{name.key: getattr(row, name.key) for name in Reconciliation.__table__.columns},
            "medicines": [
                {"name": one["name"], "medicine_class": one["class"], "note": one["note"]}
                for one in row.medicines
            ],
            "rulings": ruled[row.id],
        }
        for row in rows
    ]
