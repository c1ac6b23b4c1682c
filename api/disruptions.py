"""Disruptions over REST: somebody is away; see what is proposed, and accept it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, ValidationError, fields, validate, validates_schema
from sqlalchemy import select

from api import edge, preconditions, showing
from api.blueprint import Blueprint
from api.caller import READERS, by, now, requires
from api.errors import ProblemSchema
from api.fields import Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.shelf import Shelf
from api.showing import AppointmentSchema, AssignmentSchema
from models import Disruption, Proposal, db
from models.vocabulary import Role, StepKind
from scheduler import facts, repairs
from scheduler.audit import Act
from scheduler.repairs import Accepted, Trouble

blueprint = Blueprint(
    "disruptions", __name__, url_prefix="/api/v1/disruptions", description="What breaks visits."
)


class DisruptionSchema(Schema):
    """Somebody or something that cannot serve for a while."""

    id = Id()
    schedule_id = Id()
    starts_at = Instant(data_key="from")
    ends_at = Instant(data_key="to")
    reason = fields.String()
    told_by = fields.String()
    created_at = Instant()


class NewDisruptionSchema(Schema):
    """Who or what, and for how long. Nothing new is booked there meanwhile."""

    schedule_id = Id(required=True)
    starts_at = Instant(required=True, data_key="from")
    ends_at = Instant(required=True, data_key="to")
    reason = Text(load_default="disruption")
    effort = fields.String(
        load_default="quick",
        validate=validate.OneOf(["quick", "best"]),
        metadata={"description": "`best` looks for seconds; it takes the `plan` extra."},
    )

    @validates_schema
    def ends_after_it_starts(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse time that runs backwards."""
        if data["ends_at"] <= data["starts_at"]:
            raise ValidationError("It must end after it starts.", "to")


class RepairMoveSchema(Schema):
    """A visit with a new time, or with other people at its old one."""

    appointment_id = Id(allow_none=True)
    course_step_id = Id(allow_none=True, metadata={"description": "Of one to be booked anew."})
    patient_id = Id()
    kind = fields.Enum(StepKind, by_value=True)
    old = Instant(data_key="from")
    new = Instant(data_key="to")
    ends_at = Instant()
    site_id = Id()
    assignments = fields.List(fields.Nested(AssignmentSchema))
    why = fields.String(
        metadata={
            "description": "`away`, `nobody-stands-by`, `missed`, `cancelled`, the rule that is "
            "broken, or `follows`: it moves so that another can."
        }
    )


class UnrepairableSchema(Schema):
    """A visit that cannot stay and has nowhere to go: for people to settle."""

    appointment_id = Id(allow_none=True)
    course_step_id = Id(allow_none=True)
    patient_id = Id()
    why = fields.String()
    detail = fields.String()


class RepairSchema(Schema):
    """What is proposed. Nothing is kept free for it."""

    id = Id(allow_none=True, metadata={"description": "Of one course's repair, to accept it by."})
    expires_at = Instant(allow_none=True)
    moves = fields.List(fields.Nested(RepairMoveSchema))
    unrepairable = fields.List(fields.Nested(UnrepairableSchema))
    is_best = fields.Boolean(
        allow_none=True, metadata={"description": "Whether nothing better exists; null: unknown."}
    )


class DisruptedSchema(Schema):
    """A disruption and what is proposed."""

    disruption = fields.Nested(DisruptionSchema)
    proposal = fields.Nested(RepairSchema)
    group_sessions = fields.List(
        Id(),
        metadata={
            "description": "Sessions that are served by who is away. A cohort moves as one: "
            "reschedule each, at its own time with other staff or at another."
        },
    )


class AcceptRepairSchema(Schema):
    """Whose moves; left out: everybody's."""

    patients = fields.List(
        Id(), load_default=None, allow_none=True, validate=validate.Length(min=1, max=500)
    )


class RefusedRepairSchema(Schema):
    """A patient of whom nothing was changed."""

    patient_id = Id()
    code = fields.String()
    detail = fields.String()


class AcceptedRepairSchema(Schema):
    """What was moved, who was not, and a fresh proposal for those."""

    appointments = fields.List(fields.Nested(AppointmentSchema))
    refused = fields.List(fields.Nested(RefusedRepairSchema))
    proposal = fields.Nested(RepairSchema)


SHELF = Shelf(Disruption, DisruptionSchema)


@blueprint.route("", methods=["GET"])
@requires(*READERS)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(DisruptionSchema))
def list_disruptions(asked: dict[str, Any]) -> dict[str, Any]:
    """List disruptions."""
    return SHELF.page(asked, select(Disruption))


@blueprint.route("", methods=["POST"])
@requires(Role.SCHEDULER, Role.CLINICIAN)
@blueprint.arguments(NewDisruptionSchema)
@idempotent
@blueprint.response(201, DisruptedSchema)
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def report_disruption(told: dict[str, Any]) -> Response:
    """Close somebody or something for a while, and see where the visits there could go."""
    trouble = Trouble(
        schedule_id=told["schedule_id"],
        start=told["starts_at"],
        end=told["ends_at"],
        reason=told["reason"],
        best=told["effort"] == "best",
    )
    disruption, found = repairs.disrupt(db.session(), trouble, by=by(), now=now())
    db.session.refresh(disruption)
    preconditions.tag(disruption.version)
    return edge.done(
        DisruptedSchema,
        _told(disruption, shown(found.proposals, found.is_best)),
        SHELF.act("create", disruption),
        status=201,
        location=f"{request.path}/{disruption.id}",
    )


@blueprint.route("/<uuid:disruption_id>", methods=["GET"])
@requires(*READERS)
@blueprint.response(200, DisruptedSchema)
def read_disruption(disruption_id: UUID) -> dict[str, Any]:
    """Read a disruption, and what is proposed and not accepted yet."""
    disruption = facts.one(db.session(), Disruption, disruption_id)
    preconditions.tag(disruption.version)
    latest = facts.latest_proposals(db.session(), disruption_id)
    waiting = [one for one in latest if one.accepted_at is None]
    return _told(disruption, shown(waiting))


@blueprint.route("/<uuid:disruption_id>/accept", methods=["POST"])
@requires(Role.SCHEDULER, Role.CLINICIAN)
@blueprint.arguments(AcceptRepairSchema)
@idempotent
@blueprint.response(200, AcceptedRepairSchema)
@blueprint.alt_response(404, schema=ProblemSchema, description="not-found")
def accept_repair(told: dict[str, Any], disruption_id: UUID) -> Response:
    """Move the visits as proposed: of each patient all or none."""
    done = repairs.accept(db.session(), disruption_id, told["patients"], by=by(), now=now())
    act = Act(
        action="execute",
        entity="disruption",
        entity_id=disruption_id,
        facts={"accepted": len(done.done), "refused": len(done.refused)},
    )
    return edge.done(AcceptedRepairSchema, accepted(done), act)


def _told(disruption: Disruption, proposal: dict[str, Any]) -> dict[str, Any]:
    during = disruption.starts_at, disruption.ends_at
    groups = facts.groups_served(db.session(), disruption.schedule_id, *during)
    return {"disruption": disruption, "proposal": proposal, "group_sessions": groups}


def accepted(done: Accepted) -> dict[str, Any]:
    """What an acceptance led to, ready to be written."""
    moved = [one for its in done.done.values() for one in its]
    return {
        "appointments": showing.appointments(moved),
        "refused": [
            {"patient_id": patient_id, "code": refusal.code, "detail": refusal.detail}
            for patient_id, refusal in done.refused.items()
        ],
        "proposal": shown(done.fresh.proposals, done.fresh.is_best),
    }


def shown(proposals: Sequence[Proposal], is_best: bool | None = None) -> dict[str, Any]:
    """Proposals, one for each patient, as one repair."""
    return {
        "id": proposals[0].id if len(proposals) == 1 else None,
        "expires_at": min((one.expires_at for one in proposals), default=None),
        "moves": [_move(one, step) for one in proposals for step in one.steps],
        "unrepairable": [
            {**each, "patient_id": one.patient_id}
            for one in proposals
            for each in one.cost["unrepairable"]
        ],
        "is_best": is_best,
    }


def _move(proposal: Proposal, step: dict[str, Any]) -> dict[str, Any]:
    read = datetime.fromisoformat
    return {
        **step,
        "patient_id": proposal.patient_id,
        "kind": StepKind(step["kind"]),
        "old": read(step["from"]),
        "new": read(step["to"]),
        "ends_at": read(step["ends_at"]),
        "assignments": [
            {**each, "starts_at": read(each["from"]), "ends_at": read(each["to"])}
            for each in step["assignments"]
        ],
    }
