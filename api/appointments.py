"""Appointments over REST: find, book and hold visits.

The schemas are the contract: they check shapes and words, never rules. A view does three
things in this order: call one function of scheduler/, commit, return.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, post_load, validate
from sqlalchemy import Select, select, union

from api import edge, pages, preconditions, showing
from api.asking import ForSchema, ReasonedSchema
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Id, Instant
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.showing import AppointmentSchema, OpeningSchema
from models import Appointment, Practitioner, Room, Slot, db
from models.vocabulary import AppointmentStatus
from scheduler import booking, facts, history, openings
from scheduler.audit import Act
from scheduler.authority import Reasons
from scheduler.booking import Order
from scheduler.errors import NoOpening, SlotTaken
from scheduler.openings import Search
from scheduler.permissions import Permission
from scheduler.placing import Named

blueprint = Blueprint(
    "appointments", __name__, url_prefix="/api/v1/appointments", description="Visits."
)


class NamedSchema(Schema):
    """Somebody or something chosen for a role. An opening's assignments fit as they are."""

    role = fields.String(required=True, validate=validate.Length(1, 40))
    schedule_id = Id(required=True)
    name = fields.String(load_only=True)
    starts_at = Instant(data_key="from", load_only=True)
    ends_at = Instant(data_key="to", load_only=True)

    @post_load
    def named(self, data: dict[str, Any], **_: object) -> Named:
        return Named(data["role"], data["schedule_id"])


class TimeSchema(ReasonedSchema):
    """When, on whose time, and why in spite of a rule."""

    starts_at = Instant(required=True)
    assignments = fields.List(
        fields.Nested(NamedSchema),
        load_default=None,
        validate=validate.Length(min=1, max=20),
        metadata={"description": "All get the time, or none. Left out: the service chooses."},
    )


class OrderSchema(TimeSchema, ForSchema):
    """What a caller sends to book a visit. Unknown fields are refused."""

    @post_load
    def order(self, data: dict[str, Any], **_: object) -> Order:
        named = data.pop("assignments")
        return Order(
            **{name: value for name, value in data.items() if name != "reasons"},
            assignments=None if named is None else tuple(named),
            reasons=Reasons(data["reasons"]),
        )


class SlotTakenSchema(ProblemSchema):
    """Somebody was faster; what is free nearby."""

    schedule_ids = fields.List(Id())
    openings = fields.List(fields.Nested(OpeningSchema))


class AppointmentQuery(PageQuery):
    """Which visits."""

    start = Instant(data_key="from", load_default=None)
    end = Instant(data_key="to", load_default=None)
    status = fields.Enum(AppointmentStatus, by_value=True, load_default=None)
    practitioner_id = Id(load_default=None)
    room_id = Id(load_default=None)
    patient_id = Id(load_default=None)
    course_id = Id(load_default=None)


@blueprint.route("", methods=["GET"])
@requires(Permission.APPOINTMENTS_READ)
@blueprint.arguments(AppointmentQuery, location="query")
@blueprint.response(200, page_of(AppointmentSchema))
def list_appointments(asked: dict[str, Any]) -> dict[str, Any]:
    """List visits in the order of time."""
    found = pages.page(_query(asked), [Appointment.starts_at, Appointment.id], asked)
    return {**found, "items": showing.appointments(found["items"])}


@blueprint.route("", methods=["POST"])
@requires(Permission.APPOINTMENTS_WRITE)
@blueprint.arguments(OrderSchema)
@idempotent
@blueprint.response(201, AppointmentSchema)
@blueprint.alt_response(409, schema=SlotTakenSchema, description="slot-taken, no-opening")
@blueprint.alt_response(422, schema=ProblemSchema, description="not-ready, rule-broken, ...")
def book_appointment(order: Order) -> Response:
    """Book a visit on everybody's time, or on nobody's."""
    return _book(order)


@blueprint.route("/hold", methods=["POST"])
@requires(Permission.APPOINTMENTS_WRITE)
@blueprint.arguments(OrderSchema)
@idempotent
@blueprint.response(201, AppointmentSchema)
@blueprint.alt_response(
    409, schema=SlotTakenSchema, description="slot-taken, no-opening, too-many-holds"
)
def hold_appointment(order: Order) -> Response:
    """Keep a time for a while; `confirm` turns it into a booking."""
    kept = {name: getattr(order, name) for name in order.__dataclass_fields__}
    return _book(Order(**{**kept, "hold": True}))


@blueprint.route("/<uuid:appointment_id>", methods=["GET"])
@requires(Permission.APPOINTMENTS_READ)
@blueprint.response(200, AppointmentSchema)
@blueprint.alt_response(404, schema=ProblemSchema, description="not-found")
def read_appointment(appointment_id: UUID) -> dict[str, Any]:
    """Read one visit."""
    appointment = facts.one(db.session(), Appointment, appointment_id)
    preconditions.tag(appointment.version)
    return showing.appointment(appointment)


def _book(order: Order) -> Response:
    try:
        appointment = booking.book(db.session(), order, by=by(), now=now())
    except (SlotTaken, NoOpening) as refusal:
        db.session.rollback()
        refusal.facts["openings"] = _nearby(order)
        raise
    preconditions.tag(appointment.version)
    act = Act(
        action="create",
        entity="appointment",
        entity_id=appointment.id,
        patient_id=appointment.patient_id,
        facts=history.passed_over(order.reasons.given),
    )
    location = f"/api/v1/appointments/{appointment.id}"
    return edge.done(
        AppointmentSchema, showing.appointment(appointment), act, status=201, location=location
    )


def _nearby(order: Order) -> list[dict[str, Any]]:
    """What could be booked instead, close by."""
    search = Search(
        start=order.starts_at,
        end=order.starts_at,
        step_kind=order.step_kind,
        course_step_id=order.course_step_id,
        patient_id=order.patient_id,
    )
    near = openings.nearby(db.session(), search, now())
    return [showing.opening(one) for one in near]


def _query(asked: dict[str, Any]) -> Select[Appointment]:
    wanted: dict[str, Callable[[Any], Any]] = {
        "start": lambda value: Appointment.starts_at >= value,
        "end": lambda value: Appointment.starts_at < value,
        "status": Appointment.status.__eq__,
        "patient_id": Appointment.patient_id.__eq__,
        "course_id": Appointment.course_id.__eq__,
        "practitioner_id": lambda value: _served_by(Practitioner, value),
        "room_id": lambda value: _served_by(Room, value),
    }
    return pages.narrowed(select(Appointment), asked, wanted)


def _served_by(model: Any, row_id: UUID) -> Any:
    """Visits that it serves: with a slot of theirs, or with one of their group session's."""

    def taking(by: Any) -> Any:
        here = (model.clinic_id == Slot.clinic_id) & (model.schedule_id == Slot.schedule_id)
        return select(by).join(model, here).where(model.id == row_id, by.is_not(None))

    group = Appointment.group_session_id.in_(taking(Slot.group_session_id))
    own, shared = taking(Slot.appointment_id), select(Appointment.id).where(group)
    return Appointment.id.in_(union(own, shared))
