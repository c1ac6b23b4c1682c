"""Proposals over REST: a whole course planned in one call, and booked in another."""

from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, fields, post_load, validate, validates_schema
from sqlalchemy import select

from api import caller, edge, pages, showing
from api.asking import WEEKDAYS, ReasonedSchema, hours_wanted, refuse_backwards
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Day, Flag, Id, Instant
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.showing import AppointmentSchema
from models import Course, Proposal, db
from models.vocabulary import StepKind
from scheduler import facts, proposals, proposing
from scheduler.audit import Act
from scheduler.authority import Reasons
from scheduler.errors import ProposalLost, Refusal
from scheduler.permissions import Permission
from scheduler.proposals import Acceptance
from scheduler.proposing import Found
from scheduler.unplanned import Wishes

blueprint = Blueprint(
    "proposals", __name__, url_prefix="/api/v1/courses", description="Whole courses."
)

MOST_DAYS_OFF = 100


class WishesSchema(Schema):
    """What the patient would like. All of it may be left out."""

    weekdays = fields.List(
        fields.String(validate=validate.OneOf(WEEKDAYS)),
        load_default=list,
        metadata={
            "description": "By the site's wall clock. Broken only at a price.",
            "example": ["monday", "thursday"],
        },
    )
    begin = fields.Time(format="%H:%M", load_default=None, data_key="not_before")
    until = fields.Time(
        format="%H:%M",
        load_default=None,
        data_key="before",
        metadata={
            "description": "Nothing starts at or after this wall time, but at a price.",
            "example": "12:00",
        },
    )
    same_time = Flag(
        load_default=False,
        metadata={"description": "Each kind of visit on one weekday at one time, as far as it is."},
    )
    practitioner_id = Id(load_default=None, metadata={"description": "Who is to lead."})
    site_id = Id(load_default=None, metadata={"description": "Nowhere else."})
    earliest = Instant(load_default=None)
    latest = Instant(load_default=None, metadata={"description": "Nothing starts from then on."})
    not_on = fields.List(
        Day(),
        load_default=list,
        validate=validate.Length(max=MOST_DAYS_OFF),
        metadata={"description": "Days on which the patient cannot come."},
    )

    @validates_schema
    def day_runs_forward(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse times of the day that leave none."""
        refuse_backwards(data)

    @post_load
    def wishes(self, data: dict[str, Any], **_: object) -> Wishes:
        hours = hours_wanted(data.pop("weekdays"), data.pop("begin"), data.pop("until"))
        return Wishes(**{**data, "not_on": frozenset(data["not_on"])}, hours=hours)


class AskedSchema(ReasonedSchema):
    """What a plan of the course has to keep to."""

    wishes = fields.Nested(WishesSchema, load_default=Wishes)


class AcceptSchema(ReasonedSchema):
    """Which proposal is taken."""

    proposal_id = Id(required=True)


def _written(**kwargs: Any) -> fields.String:
    """An instant that was written when the proposal was kept."""
    return fields.String(metadata={"format": "date-time"}, **kwargs)


class CostSchema(Schema):
    """What speaks against a proposal. Fewer points are better."""

    points = fields.Integer()
    finish_at = _written()
    therapist_changes = fields.Integer(metadata={"description": "Visits with somebody else."})
    wishes_broken = fields.Integer(metadata={"description": "Visits that break a wish."})
    off_middle_minutes = fields.Integer(
        metadata={"description": "How far gaps are from the middle of their windows, together."}
    )
    idle_room_minutes = fields.Integer(
        metadata={"description": "Room time left beside the visits that is too short for any."}
    )
    is_best = Flag(
        metadata={"description": "Whether nothing cheaper is possible, all choices considered."}
    )


class ProposedAssignmentSchema(Schema):
    """Somebody or something that would serve a visit."""

    role = fields.String()
    schedule_id = Id()
    name = fields.String()
    starts_at = _written(data_key="from", attribute="from")
    ends_at = _written(data_key="to", attribute="to")


class ProposedStepSchema(Schema):
    """One visit of a proposal."""

    course_step_id = Id()
    key = fields.String()
    kind = fields.String(metadata={"enum": [kind.value for kind in StepKind]})
    site_id = Id()
    time_zone = fields.String()
    starts_at = _written()
    ends_at = _written()
    assignments = fields.List(fields.Nested(ProposedAssignmentSchema))
    group_session_id = Id(
        allow_none=True,
        metadata={"description": "Of a visit that is shared: the session in which it is a place."},
    )


class ProposalSchema(Schema):
    """Dated visits for a course, to be taken whole or not at all."""

    id = Id()
    expires_at = Instant()
    cost = fields.Nested(CostSchema)
    steps = fields.List(fields.Nested(ProposedStepSchema))


class LeftSchema(Schema):
    """A step that cannot be planned yet."""

    course_step_id = Id()
    key = fields.String()
    why = fields.String()


class RelaxationSchema(Schema):
    """What would open the course if it were let go."""

    change = fields.String(metadata={"description": "A wish, or the code of a rule or a gate."})
    detail = fields.String()
    who = fields.List(fields.String(), metadata={"description": "Who may let it go."})
    finish_at = Instant(attribute="finish")


class UnplaceableSchema(Schema):
    """Why there is no proposal: the first step that cannot be placed, and what shuts it."""

    step = fields.String()
    shut_by = fields.String(
        metadata={"description": "A role, room, device, `patient`, wish, rule or gate."}
    )
    detail = fields.String()
    relaxations = fields.List(fields.Nested(RelaxationSchema))


class FoundSchema(Schema):
    """Proposals, the best first; without any, why."""

    items = fields.List(fields.Nested(ProposalSchema))
    left = fields.List(fields.Nested(LeftSchema))
    why = fields.Nested(UnplaceableSchema, allow_none=True)


class AcceptedSchema(Schema):
    """What was booked, or is held."""

    appointments = fields.List(fields.Nested(AppointmentSchema))


class LostSchema(ProblemSchema):
    """Somebody was faster: which visits lost their time, to whom, and what is possible now."""

    lost = fields.List(fields.Dict())
    proposals = fields.List(fields.Nested(ProposalSchema))
    left = fields.List(fields.Nested(LeftSchema))
    why = fields.Nested(UnplaceableSchema, allow_none=True)


@blueprint.route("/<uuid:course_id>/proposals", methods=["GET"])
@requires(Permission.COURSES_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ProposalSchema))
def list_proposals(asked: dict[str, Any], course_id: UUID) -> dict[str, Any]:
    """List the ways that were found for a course and can still be accepted, oldest first."""
    facts.one(db.session(), Course, course_id)
    query = select(Proposal).where(
        Proposal.course_id == course_id,
        Proposal.accepted_at.is_(None),
        Proposal.expires_at > now(),
        ~Proposal.cost.has_key("repair"),
    )
    return pages.page(query, [Proposal.id], asked)


@blueprint.route("/<uuid:course_id>/proposals", methods=["POST"])
@requires(Permission.COURSES_WRITE)
@blueprint.arguments(AskedSchema)
@idempotent
@blueprint.response(201, FoundSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="course-closed")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def propose(asked: dict[str, Any], course_id: UUID) -> Response:
    """Plan every visit of the course that is not booked yet, in up to three ways.

    Nothing is kept free: accept one while it lasts, or hold it. Without a way the answer says
    which step cannot be placed, what shuts it, and what would open it.
    """
    told = request.get_json() if request.get_data() else {}
    # What is kept is not sealed: of the reasons, for what there is one. Who accepts says them.
    told = {**told, "reasons": {code: code for code in asked["reasons"]}}
    found = _find(course_id, asked)
    return edge.done(FoundSchema, kept(found, told), _act("propose", found), status=201)


@blueprint.route("/<uuid:course_id>/accept", methods=["POST"])
@requires(Permission.COURSES_WRITE)
@blueprint.arguments(AcceptSchema)
@idempotent
@blueprint.response(201, AcceptedSchema)
@blueprint.alt_response(409, schema=LostSchema, description="proposal-lost, proposal-closed, ...")
@blueprint.alt_response(422, schema=ProblemSchema, description="not-ready, rule-broken, ...")
def accept(told: dict[str, Any], course_id: UUID) -> Response:
    """Book every visit of a proposal, or none."""
    return _accept(told, course_id, hold=False)


@blueprint.route("/<uuid:course_id>/hold", methods=["POST"])
@requires(Permission.COURSES_WRITE)
@blueprint.arguments(AcceptSchema)
@idempotent
@blueprint.response(201, AcceptedSchema)
@blueprint.alt_response(409, schema=LostSchema, description="proposal-lost, proposal-closed, ...")
def hold(told: dict[str, Any], course_id: UUID) -> Response:
    """Keep every time of a proposal for a while, or none; to accept it books them."""
    return _accept(told, course_id, hold=True)


def _accept(told: dict[str, Any], course_id: UUID, *, hold: bool) -> Response:
    wanted = Acceptance(
        course_id=course_id,
        proposal_id=told["proposal_id"],
        reasons=Reasons(told["reasons"]),
        hold=hold,
    )
    try:
        booked = proposals.accept(db.session(), wanted, by=by(), now=now())
    except ProposalLost as refusal:
        db.session.rollback()
        refusal.facts |= _afresh(wanted)
        raise
    act = Act(
        action="create",
        entity="proposal",
        entity_id=wanted.proposal_id,
        patient_id=booked[0].patient_id,
        facts={"what": "hold" if hold else "accept", "visits": len(booked)},
    )
    shown = {"appointments": showing.appointments(booked)}
    return edge.done(AcceptedSchema, shown, act, status=201)


def _afresh(wanted: Acceptance) -> dict[str, Any]:
    """The same asked again, now that somebody was faster; kept, so that it can be accepted."""
    told = facts.one(db.session(), Proposal, wanted.proposal_id).asked
    asked = AskedSchema().load(told)
    asked["reasons"] |= wanted.reasons.given
    try:
        found = _find(wanted.course_id, asked)
    except Refusal:  # nothing is left to be planned: what was lost says why
        return {"proposals": []}
    shown = FoundSchema().dump(kept(found, told))
    caller.commit(_act("propose", found))
    return {"proposals": shown.pop("items"), **shown}


def _find(course_id: UUID, asked: dict[str, Any]) -> Found:
    waived = frozenset(asked["reasons"])
    return proposing.find(db.session(), course_id, asked["wishes"], now(), waived)


def kept(found: Found, told: dict[str, Any]) -> dict[str, Any]:
    """Keep what was found, to be accepted, and show it; `told` is what it answers."""
    made = proposals.keep(db.session(), found, told, by=by(), now=now())
    left = [
        {"course_step_id": one.step.id, "key": one.step.key, "why": one.why} for one in found.left
    ]
    return {"items": made, "left": left, "why": found.why}


def _act(what: str, found: Found) -> Act:
    return Act(
        action="create",
        entity="proposal",
        entity_id=found.course.id,
        patient_id=found.course.patient_id,
        facts={"what": what, "proposals": len(found.ways)},
    )
