"""What is done to a visit over REST: move, cancel, confirm, and the steps of its day."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, post_load

from api import edge, preconditions, showing
from api.appointments import SlotTakenSchema, TimeSchema
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Id, Text
from api.idempotency import idempotent
from api.preconditions import conditional
from api.showing import AppointmentSchema
from models import Appointment, db
from models.vocabulary import MessageKind, MessageState, Recipient
from scheduler import booking, sessions
from scheduler.audit import Act
from scheduler.authority import Call, Reasons
from scheduler.booking import Changed, Move
from scheduler.lifecycle import Action
from scheduler.permissions import Permission

blueprint = Blueprint(
    "acts", __name__, url_prefix="/api/v1/appointments", description="What is done to a visit."
)


class MoveSchema(TimeSchema):
    """Where to move a visit."""

    @post_load
    def move(self, data: dict[str, Any], **_: object) -> Move:
        named = data["assignments"]
        return Move(
            starts_at=data["starts_at"],
            assignments=None if named is None else tuple(named),
            reasons=Reasons(data["reasons"]),
        )


class WhySchema(Schema):
    """Why, if there is something to say."""

    reason = Text(most=1000, lines=True, load_default=None)


class OutSchema(Schema):
    """A message that had left, or may have, before the change."""

    id = Id()
    kind = fields.Enum(MessageKind, by_value=True)
    state = fields.Enum(MessageState, by_value=True)
    recipient = fields.Enum(Recipient, by_value=True)


class ChangedSchema(AppointmentSchema):
    """A visit that was moved or cancelled, and what had been said about it."""

    messages_out = fields.List(fields.Nested(OutSchema))


@blueprint.route("/<uuid:appointment_id>/reschedule", methods=["POST"])
@requires(Permission.APPOINTMENTS_WRITE)
@conditional
@blueprint.arguments(MoveSchema)
@idempotent
@blueprint.response(200, ChangedSchema)
@blueprint.alt_response(409, schema=SlotTakenSchema, description="slot-taken, wrong-status")
def reschedule(move: Move, appointment_id: UUID) -> Response:
    """Move a visit. Who knew of the old time is told of the new one."""
    call = Call(appointment_id, preconditions.seen_version())
    return _changed("reschedule", booking.reschedule(db.session(), call, move, by=by(), now=now()))


@blueprint.route("/<uuid:appointment_id>/cancel", methods=["POST"])
@requires(Permission.APPOINTMENTS_WRITE)
@conditional
@blueprint.arguments(WhySchema)
@idempotent
@blueprint.response(200, ChangedSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def cancel(told: dict[str, Any], appointment_id: UUID) -> Response:
    """Cancel a visit. Its time is free at once; who knew of it is told."""
    call = Call(appointment_id, preconditions.seen_version(), told["reason"])
    return _changed("cancel", booking.cancel(db.session(), call, by=by(), now=now()))


@blueprint.route("/<uuid:appointment_id>/confirm", methods=["POST"])
@requires(Permission.APPOINTMENTS_WRITE)
@conditional
@idempotent
@blueprint.response(200, AppointmentSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="hold-expired, wrong-status")
def confirm(appointment_id: UUID) -> Response:
    """Turn a hold into a booking; of a booked visit, note that the patient will come."""
    call = Call(appointment_id, preconditions.seen_version())
    return _acted("confirm", booking.confirm(db.session(), call, by=by(), now=now()))


def _step(action: Action, permission: Permission) -> Callable[..., Response]:
    """Mount one step of the day."""

    @requires(permission)
    @conditional
    @blueprint.arguments(WhySchema, required=False)
    @idempotent
    @blueprint.response(200, AppointmentSchema)
    @blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
    @blueprint.alt_response(422, schema=ProblemSchema, description="not-ready")
    def view(told: dict[str, Any], appointment_id: UUID) -> Response:
        call = Call(appointment_id, preconditions.seen_version(), told["reason"])
        return _acted(action, sessions.act(db.session(), call, action, by=by(), now=now()))

    view.__name__ = action.replace("-", "_")
    view.__doc__ = f"{_SAID[action]}\n\nRefused with the gates that are shut, if any are."
    mounted: Callable[..., Response] = blueprint.route(
        f"/<uuid:appointment_id>/{action}", methods=["POST"]
    )(view)
    return mounted


_SAID = {
    Action.ARRIVE: "The patient is in the building.",
    Action.START_DOSING: "Begin; the clock of observation runs from here.",
    Action.START_RECOVERY: "The active part is over; the patient recovers.",
    Action.DISCHARGE: "The patient may leave.",
    Action.FULFIL: "The visit took place.",
    Action.NOSHOW: "The patient did not come.",
}

arrive = _step(Action.ARRIVE, Permission.APPOINTMENTS_WRITE)
start_dosing = _step(Action.START_DOSING, Permission.SESSIONS_WRITE)
start_recovery = _step(Action.START_RECOVERY, Permission.SESSIONS_WRITE)
discharge = _step(Action.DISCHARGE, Permission.SESSIONS_WRITE)
fulfil = _step(Action.FULFIL, Permission.SESSIONS_WRITE)
noshow = _step(Action.NOSHOW, Permission.APPOINTMENTS_WRITE)


@blueprint.route("/<uuid:appointment_id>/enter-in-error", methods=["POST"])
@requires(Permission.APPOINTMENTS_WRITE)
@conditional
@blueprint.arguments(WhySchema)
@idempotent
@blueprint.response(200, AppointmentSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def enter_in_error(told: dict[str, Any], appointment_id: UUID) -> Response:
    """Note that a visit never was, or not as it stands. Everything that was written stays."""
    call = Call(appointment_id, preconditions.seen_version(), told["reason"])
    return _acted("enter-in-error", sessions.correct(db.session(), call, by=by(), now=now()))


def _changed(what: str, changed: Changed) -> Response:
    appointment = changed.appointment
    preconditions.tag(appointment.version)
    shown = {**showing.appointment(appointment), "messages_out": changed.out}
    return edge.done(ChangedSchema, shown, _act(what, appointment))


def _acted(what: str, appointment: Appointment) -> Response:
    preconditions.tag(appointment.version)
    return edge.done(AppointmentSchema, showing.appointment(appointment), _act(what, appointment))


def _act(what: str, appointment: Appointment) -> Act:
    return Act(
        action="update",
        entity="appointment",
        entity_id=appointment.id,
        patient_id=appointment.patient_id,
        facts={"what": what},
    )
