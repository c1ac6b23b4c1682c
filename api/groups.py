"""Group sessions over REST: make, fill, move, cancel and begin them.

A place is an appointment: it is read, confirmed, prepared and cancelled like any other, at
/appointments/{id}; cancelling it is dropping out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, post_load, validate
from sqlalchemy import select

from api import edge, pages, preconditions, showing
from api.acts import ChangedSchema, MoveSchema, WhySchema
from api.appointments import SlotTakenSchema, TimeSchema
from api.asking import ForSchema, ReasonedSchema
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Flag, Id, Instant, whole
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.showing import AppointmentSchema, AssignmentSchema
from api.visits import ReadinessSchema, told_readiness
from models import Appointment, GroupSession, db
from models.vocabulary import StepKind
from scheduler import booking, calendars, evidence, facts, groups, history, seating
from scheduler.audit import Act
from scheduler.authority import Call, Reasons
from scheduler.booking import Move, Order
from scheduler.groups import Moved, Taken, Wanted
from scheduler.lifecycle import Action
from scheduler.permissions import Permission

blueprint = Blueprint(
    "group-sessions", __name__, url_prefix="/api/v1/group-sessions", description="Shared visits."
)


class RatioSchema(Schema):
    """A ratio of the session: how many it has of a kind, and how many its patients need."""

    role = fields.String()
    kind = fields.String(allow_none=True)
    per_patients = fields.Integer()
    seated = fields.Integer()
    needed = fields.Integer()


class GroupSessionSchema(Schema):
    """A visit that several patients share. Its places are appointments of their own."""

    id = Id()
    protocol_version_id = Id()
    visit = fields.String()
    kind = fields.Enum(StepKind, by_value=True)
    site_id = Id()
    time_zone = fields.String()
    starts_at = Instant()
    ends_at = Instant()
    places = fields.Integer()
    free = fields.Integer()
    least = fields.Integer(
        metadata={"description": "With fewer patients it does not take place, says the protocol."}
    )
    staffing = fields.List(fields.Nested(RatioSchema))
    keeps_ratio = Flag()
    cancelled_at = Instant(allow_none=True)
    assignments = fields.List(fields.Nested(AssignmentSchema))


class NewSessionSchema(TimeSchema):
    """What a caller sends to make a session. Unknown fields are refused."""

    visit = fields.String(
        required=True,
        validate=validate.Length(1, 80),
        metadata={"description": "The key of a group visit in the protocol version."},
    )
    protocol_version_id = Id(required=True)
    places = whole(1, 100, load_default=None)
    site_id = Id(load_default=None)

    @post_load
    def wanted(self, data: dict[str, Any], **_: object) -> Wanted:
        named = data.pop("assignments")
        return Wanted(
            **{name: value for name, value in data.items() if name != "reasons"},
            assignments=None if named is None else tuple(named),
            reasons=Reasons(data["reasons"]),
        )


class PlaceSchema(ForSchema, ReasonedSchema):
    """Who takes a place, and what for."""


class MovedSessionSchema(GroupSessionSchema):
    """A session that was moved or cancelled, its places, and what had been said about each."""

    appointments = fields.List(fields.Nested(ChangedSchema))


class PlaceReadinessSchema(Schema):
    """How one place stands."""

    appointment = fields.Nested(AppointmentSchema)
    readiness = fields.Nested(ReadinessSchema)


class SessionReadinessSchema(Schema):
    """May the session take place, and who in it is ready? Each patient's gates are their own."""

    ready = Flag(metadata={"description": "It keeps its ratio, and enough patients have a place."})
    keeps_ratio = Flag()
    has_least = Flag()
    staffing = fields.List(fields.Nested(RatioSchema))
    places = fields.List(fields.Nested(PlaceReadinessSchema))


class ActedSchema(Schema):
    """What became of one place."""

    appointment = fields.Nested(AppointmentSchema)
    refusal = fields.Dict(
        allow_none=True,
        metadata={"description": "Why it was left where it was: `code`, `detail` and facts."},
    )


class ActedSessionSchema(Schema):
    """What became of everybody whom the act concerns."""

    places = fields.List(fields.Nested(ActedSchema))


class SessionQuery(PageQuery):
    """Which sessions. Cancelled ones are left out."""

    start = Instant(data_key="from", load_default=None)
    end = Instant(data_key="to", load_default=None)
    site_id = Id(load_default=None)
    kind = fields.Enum(StepKind, by_value=True, load_default=None)


@blueprint.route("", methods=["GET"])
@requires(Permission.APPOINTMENTS_READ)
@blueprint.arguments(SessionQuery, location="query")
@blueprint.response(200, page_of(GroupSessionSchema))
def list_sessions(asked: dict[str, Any]) -> dict[str, Any]:
    """List the sessions that stand, in the order of time."""
    query = select(GroupSession).where(GroupSession.cancelled_at.is_(None))
    wanted: dict[str, Callable[[Any], Any]] = {
        "start": lambda value: GroupSession.starts_at >= value,
        "end": lambda value: GroupSession.starts_at < value,
        "site_id": GroupSession.site_id.__eq__,
        "kind": GroupSession.kind.__eq__,
    }
    found = pages.page(
        pages.narrowed(query, asked, wanted), [GroupSession.starts_at, GroupSession.id], asked
    )
    return {**found, "items": _shown(found["items"])}


@blueprint.route("", methods=["POST"])
@requires(Permission.APPOINTMENTS_WRITE)
@blueprint.arguments(NewSessionSchema)
@idempotent
@blueprint.response(201, GroupSessionSchema)
@blueprint.alt_response(409, schema=SlotTakenSchema, description="slot-taken, no-opening")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit, not-open, ...")
def make_session(wanted: Wanted) -> Response:
    """Take staff and a room for a session, with empty places."""
    group = groups.make(db.session(), wanted, by=by(), now=now())
    preconditions.tag_for_changes(group.version)
    told = history.passed_over(wanted.reasons.given)
    return edge.done(
        GroupSessionSchema,
        _shown([group])[0],
        _act("create", group, told),
        status=201,
        location=f"/api/v1/group-sessions/{group.id}",
    )


@blueprint.route("/<uuid:session_id>", methods=["GET"])
@requires(Permission.APPOINTMENTS_READ)
@blueprint.response(200, GroupSessionSchema)
@blueprint.alt_response(404, schema=ProblemSchema, description="not-found")
def read_session(session_id: UUID) -> dict[str, Any]:
    """Read one session."""
    group = facts.one(db.session(), GroupSession, session_id)
    preconditions.tag_for_changes(group.version)
    return _shown([group])[0]


@blueprint.route("/<uuid:session_id>/places", methods=["GET"])
@requires(Permission.APPOINTMENTS_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(AppointmentSchema))
def list_places(asked: dict[str, Any], session_id: UUID) -> dict[str, Any]:
    """List everybody who has, had, or is offered a place: their appointments, oldest first."""
    facts.one(db.session(), GroupSession, session_id)
    query = select(Appointment).where(Appointment.group_session_id == session_id)
    found = pages.page(query, [Appointment.id], asked)
    return {**found, "items": showing.appointments(found["items"])}


@blueprint.route("/<uuid:session_id>/places", methods=["POST"])
@requires(Permission.APPOINTMENTS_WRITE)
@blueprint.arguments(PlaceSchema)
@idempotent
@blueprint.response(201, AppointmentSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="session-full, slot-taken, ...")
@blueprint.alt_response(422, schema=ProblemSchema, description="not-ready, rule-broken, ...")
def take_place(told: dict[str, Any], session_id: UUID) -> Response:
    """Give a patient a place: an appointment at the session's time, with gates of its own."""
    group = facts.one(db.session(), GroupSession, session_id)
    reasons = Reasons(told.pop("reasons"))
    order = Order(**told, starts_at=group.starts_at, reasons=reasons, group_session_id=group.id)
    appointment = booking.book(db.session(), order, by=by(), now=now())
    preconditions.tag(appointment.version)
    act = Act(
        action="create",
        entity="appointment",
        entity_id=appointment.id,
        patient_id=appointment.patient_id,
        facts=history.passed_over(reasons.given),
    )
    location = f"/api/v1/appointments/{appointment.id}"
    return edge.done(
        AppointmentSchema, showing.appointment(appointment), act, status=201, location=location
    )


@blueprint.route("/<uuid:session_id>/readiness", methods=["GET"])
@requires(Permission.APPOINTMENTS_READ)
@blueprint.response(200, SessionReadinessSchema)
def read_session_readiness(session_id: UUID) -> dict[str, Any]:
    """Say whether the session may take place, and how each place stands."""
    session = db.session()
    group = facts.one(session, GroupSession, session_id)
    visits = [visit for visit, _ in facts.company(session, group.id)]
    judged = evidence.judge(session, visits, now())
    [told] = _shown([group])
    has_least = len(visits) >= told["least"]
    return {
        "ready": told["keeps_ratio"] and has_least and group.cancelled_at is None,
        "keeps_ratio": told["keeps_ratio"],
        "has_least": has_least,
        "staffing": told["staffing"],
        "places": [
            {"appointment": shown, "readiness": told_readiness(visit, judged[visit.id])}
            for visit, shown in zip(visits, showing.appointments(visits), strict=True)
        ],
    }


@blueprint.route("/<uuid:session_id>/reschedule", methods=["POST"])
@requires(Permission.APPOINTMENTS_WRITE)
@conditional
@blueprint.arguments(MoveSchema)
@idempotent
@blueprint.response(200, MovedSessionSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="slot-taken, wrong-status")
@blueprint.alt_response(422, schema=ProblemSchema, description="not-ready, rule-broken, ...")
def move_session(move: Move, session_id: UUID) -> Response:
    """Move everybody in it, or nobody; at the same time, give it other staff."""
    call = Call(session_id, preconditions.seen_version())
    return _moved("reschedule", groups.move(db.session(), call, move, by=by(), now=now()))


@blueprint.route("/<uuid:session_id>/cancel", methods=["POST"])
@requires(Permission.APPOINTMENTS_WRITE)
@conditional
@blueprint.arguments(WhySchema)
@idempotent
@blueprint.response(200, MovedSessionSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def cancel_session(told: dict[str, Any], session_id: UUID) -> Response:
    """Cancel the session and every place in it."""
    call = Call(session_id, preconditions.seen_version(), told["reason"])
    return _moved("cancel", groups.cancel(db.session(), call, by=by(), now=now()))


def _step(action: Action, said: str) -> Callable[..., Response]:
    """Mount one step of the day for the whole session."""

    @requires(Permission.SESSIONS_WRITE)
    @conditional
    @blueprint.arguments(WhySchema, required=False)
    @idempotent
    @blueprint.response(200, ActedSessionSchema)
    def view(told: dict[str, Any], session_id: UUID) -> Response:
        call = Call(session_id, preconditions.seen_version(), told["reason"])
        taken = groups.act(db.session(), call, action, by=by(), now=now())
        group = facts.one(db.session(), GroupSession, session_id)
        shown = {"places": [_acted(one) for one in taken]}
        return edge.done(ActedSessionSchema, shown, _act("update", group, {"what": action}))

    view.__name__ = f"{action.replace('-', '_')}_session"
    view.__doc__ = f"{said}\n\nWho is not ready is left where they are, and does not stop others."
    mounted: Callable[..., Response] = blueprint.route(
        f"/<uuid:session_id>/{action}", methods=["POST"]
    )(view)
    return mounted


start_dosing = _step(Action.START_DOSING, "Begin, for everybody who came and is ready.")
start_recovery = _step(Action.START_RECOVERY, "The active part is over; everybody recovers.")
fulfil = _step(Action.FULFIL, "The session took place, for everybody who was there.")


def _acted(one: Taken) -> dict[str, Any]:
    refusal = one.refusal
    told = refusal and {"code": refusal.code, "detail": refusal.detail, **refusal.facts}
    return {"appointment": showing.appointment(one.appointment), "refusal": told}


def _moved(what: str, moved: Moved) -> Response:
    group = moved.group
    preconditions.tag_for_changes(group.version)
    visits = showing.appointments([one.appointment for one in moved.changed])
    places = [
        {**visit, "messages_out": one.out} for visit, one in zip(visits, moved.changed, strict=True)
    ]
    shown = {**_shown([group])[0], "appointments": places}
    return edge.done(MovedSessionSchema, shown, _act("update", group, {"what": what}))


def _shown(found: Sequence[GroupSession]) -> list[dict[str, Any]]:
    session = db.session()
    taken = facts.places_taken(session, [group.id for group in found])
    zones = {site.site_id: site.zone.key for site in calendars.sites(session)}
    return [_told(group, len(taken[group.id]), zones[group.site_id]) for group in found]


def _told(group: GroupSession, patients: int, zone: str) -> dict[str, Any]:
    visit = facts.group_visit(db.session(), group)
    assert visit.group is not None
    staff = calendars.staff_of(db.session(), group)
    ratios = seating.ratios(visit, staff, patients)
    own = set(GroupSessionSchema._declared_fields) & set(GroupSession.__table__.columns.keys())
    return {
        **{name: getattr(group, name) for name in own},
        "time_zone": zone,
        "free": group.places - patients,
        "least": visit.group.least,
        "staffing": seating.shown(ratios),
        "keeps_ratio": all(one.is_kept for one in ratios),
        "assignments": [
            {
                "role": one.role,
                "schedule_id": one.actor.schedule_id,
                "name": one.actor.name,
                "starts_at": one.starts_at,
                "ends_at": one.ends_at,
            }
            for one in staff
        ],
    }


def _act(action: str, group: GroupSession, told: Mapping[str, object]) -> Act:
    return Act(action=action, entity="group_session", entity_id=group.id, facts=told)
