"""Disruptions over REST: somebody is away; see what is proposed, and accept it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, ValidationError, fields, validate, validates_schema
from sqlalchemy import select

from api import edge, preconditions, repaired
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.examples import ID
from api.fields import Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.repaired import AcceptedRepairSchema, RepairSchema
from api.shelf import Shelf
from api.showing import AssignmentSchema
from models import Disruption, db
from models.vocabulary import PractitionerRole, StepKind
from scheduler import facts, regrouping, repairs
from scheduler.audit import Act
from scheduler.permissions import Permission
from scheduler.repairs import Lapse, Proposed, Trouble

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
    role = fields.Enum(
        PractitionerRole,
        by_value=True,
        allow_none=True,
        metadata={"description": "In which role alone, for want of a licence."},
    )
    told_by = fields.String()
    created_at = Instant()


class NewDisruptionSchema(Schema):
    """Who or what, and for how long. Nothing new is booked there meanwhile.

    Or a licence that ends: then from the day after it on, `to` at most.
    """

    schedule_id = Id(metadata={"description": "Who or what cannot serve.", "example": ID})
    qualification_id = Id(metadata={"description": "Or the licence that ends."})
    starts_at = Instant(data_key="from", metadata={"example": "2027-01-04T14:00:00Z"})
    ends_at = Instant(data_key="to", metadata={"example": "2027-01-18T14:00:00Z"})
    reason = Text(load_default="disruption", metadata={"example": "The nurse is ill."})
    effort = fields.String(
        load_default="quick",
        validate=validate.OneOf(["quick", "best"]),
        metadata={"description": "`best` looks for seconds; it takes the `plan` extra."},
    )

    @validates_schema
    def ends_after_it_starts(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse time that runs backwards, and two causes at once."""
        if "qualification_id" in data:
            for name, key in (("schedule_id", "schedule_id"), ("starts_at", "from")):
                if name in data:
                    raise ValidationError("The licence says so.", key)
            return
        for name, key in _OF_A_SCHEDULE:
            if name not in data:
                raise ValidationError("Give this, or `qualification_id`.", key)
        if data["ends_at"] <= data["starts_at"]:
            raise ValidationError("It must end after it starts.", "to")


_OF_A_SCHEDULE = (("schedule_id", "schedule_id"), ("starts_at", "from"), ("ends_at", "to"))


class GroupMoveSchema(Schema):
    """A group session that is hit, and when and by whom it could be held instead.

    At its own time with other staff, or at another with everybody in it: a cohort moves as one.
    """

    group_session_id = Id()
    kind = fields.Enum(StepKind, by_value=True)
    old = Instant(data_key="from")
    new = Instant(
        data_key="to", allow_none=True, metadata={"description": "Null: nothing was found."}
    )
    ends_at = Instant(allow_none=True)
    site_id = Id(allow_none=True)
    assignments = fields.List(fields.Nested(AssignmentSchema))
    why = fields.String(
        allow_none=True,
        metadata={"description": "What stands against its own time, if nothing was found."},
    )
    detail = fields.String(allow_none=True)


class DisruptedSchema(Schema):
    """A disruption and what is proposed."""

    disruption = fields.Nested(DisruptionSchema)
    proposal = fields.Nested(RepairSchema)
    group_sessions = fields.List(
        fields.Nested(GroupMoveSchema),
        metadata={"description": "Sessions that are served by who is away, but for accepted ones."},
    )


class AcceptRepairSchema(Schema):
    """Whose moves, and those of which group sessions; both left out: all of them."""

    patients = fields.List(
        Id(), load_default=None, allow_none=True, validate=validate.Length(min=1, max=500)
    )
    group_sessions = fields.List(
        Id(), load_default=None, allow_none=True, validate=validate.Length(min=1, max=500)
    )


class RefusedGroupSchema(Schema):
    """A group session of which nothing was changed."""

    group_session_id = Id()
    code = fields.String()
    detail = fields.String()


class AcceptedDisruptionSchema(AcceptedRepairSchema):
    """The same, with the group sessions: which moved, and what is proposed for the others."""

    moved_groups = fields.List(Id())
    refused_groups = fields.List(fields.Nested(RefusedGroupSchema))
    group_sessions = fields.List(fields.Nested(GroupMoveSchema))


SHELF = Shelf(Disruption, DisruptionSchema)


@blueprint.route("", methods=["GET"])
@requires(Permission.COURSES_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(DisruptionSchema))
def list_disruptions(asked: dict[str, Any]) -> dict[str, Any]:
    """List disruptions."""
    return SHELF.page(asked, select(Disruption))


@blueprint.route("", methods=["POST"])
@requires(Permission.COURSES_WRITE)
@blueprint.arguments(NewDisruptionSchema)
@idempotent
@blueprint.response(201, DisruptedSchema)
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def report_disruption(told: dict[str, Any]) -> Response:
    """Close somebody or something for a while, and see where the visits there could go.

    Of a licence that ends nothing is closed: see who else could serve, or when.
    """
    disruption, found = _disrupt(told)
    regrouping.propose(db.session(), disruption, by=by(), now=now())
    db.session.refresh(disruption)
    preconditions.tag(disruption.version)
    return edge.done(
        DisruptedSchema,
        _told(disruption, repaired.shown(found.proposals, found.is_best)),
        SHELF.act("create", disruption),
        status=201,
        location=f"{request.path}/{disruption.id}",
    )


@blueprint.route("/<uuid:disruption_id>", methods=["GET"])
@requires(Permission.COURSES_READ)
@blueprint.response(200, DisruptedSchema)
def read_disruption(disruption_id: UUID) -> dict[str, Any]:
    """Read a disruption, and what is proposed and not accepted yet."""
    disruption = facts.one(db.session(), Disruption, disruption_id)
    preconditions.tag(disruption.version)
    latest = facts.latest_proposals(db.session(), disruption_id)
    waiting = [one for one in latest if one.accepted_at is None]
    return _told(disruption, repaired.shown(waiting))


@blueprint.route("/<uuid:disruption_id>/accept", methods=["POST"])
@requires(Permission.COURSES_WRITE)
@blueprint.arguments(AcceptRepairSchema)
@idempotent
@blueprint.response(200, AcceptedDisruptionSchema)
@blueprint.alt_response(404, schema=ProblemSchema, description="not-found")
def accept_repair(told: dict[str, Any], disruption_id: UUID) -> Response:
    """Move the visits as proposed: of each patient all or none, and of each session."""
    session, patients, groups = db.session(), told["patients"], told["group_sessions"]
    if patients is not None or groups is not None:
        patients, groups = patients or [], groups or []
    moved = regrouping.accept(session, disruption_id, groups, by=by(), now=now())
    done = repairs.accept(session, disruption_id, patients, by=by(), now=now())
    act = Act(
        action="execute",
        entity="disruption",
        entity_id=disruption_id,
        facts={
            "accepted": len(done.done) + len(moved.done),
            "refused": len(done.refused) + len(moved.refused),
        },
    )
    shown_groups = {
        "moved_groups": [one.group.id for one in moved.done],
        "refused_groups": [
            {"group_session_id": group_id, "code": refusal.code, "detail": refusal.detail}
            for group_id, refusal in moved.refused.items()
        ],
        "group_sessions": _groups(facts.one(session, Disruption, disruption_id)),
    }
    return edge.done(AcceptedDisruptionSchema, {**repaired.accepted(done), **shown_groups}, act)


def _disrupt(told: dict[str, Any]) -> tuple[Disruption, Proposed]:
    best = told["effort"] == "best"
    if "qualification_id" in told:
        lapse = Lapse(qualification_id=told["qualification_id"], end=told.get("ends_at"), best=best)
        return repairs.relieve(db.session(), lapse, by=by(), now=now())
    trouble = Trouble(
        schedule_id=told["schedule_id"],
        start=told["starts_at"],
        end=told["ends_at"],
        reason=told["reason"],
        best=best,
    )
    return repairs.disrupt(db.session(), trouble, by=by(), now=now())


def _told(disruption: Disruption, proposal: dict[str, Any]) -> dict[str, Any]:
    groups = _groups(disruption)
    return {"disruption": disruption, "proposal": proposal, "group_sessions": groups}


def _groups(disruption: Disruption) -> list[dict[str, Any]]:
    """What is proposed for group sessions and not accepted yet, ready to be written."""
    return [
        {
            **one,
            "kind": StepKind(one["kind"]),
            "old": datetime.fromisoformat(one["from"]),
            "new": one["to"] and datetime.fromisoformat(one["to"]),
            "ends_at": one["ends_at"] and datetime.fromisoformat(one["ends_at"]),
            "assignments": repaired.read_assignments(one["assignments"]),
        }
        for one in regrouping.open_of(db.session(), disruption)
    ]
