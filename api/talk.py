"""What patients wrote and want, and what staff do about it, over REST."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, validate
from sqlalchemy import select

from api import edge, pages, preconditions
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Flag, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.patients import PatientSchema
from api.preconditions import conditional
from api.shelf import Shelf
from models import ChannelConsent, Patient, Reply, Task, db
from models.vocabulary import (
    Channel,
    MessageKind,
    Owner,
    ReplyMeaning,
    TaskKind,
    TaskStatus,
)
from scheduler import facts, replies, tasks
from scheduler.audit import Act
from scheduler.authority import Call
from scheduler.permissions import Permission
from scheduler.replies import Wish
from scheduler.tasks import Settled

blueprint = Blueprint(
    "talk", __name__, url_prefix="/api/v1", description="Tasks, replies, consent to channels."
)


class TaskSchema(Schema):
    """Something for staff to do because a message cannot."""

    id = Id()
    kind = fields.Enum(TaskKind, by_value=True)
    owner = fields.Enum(Owner, by_value=True)
    urgent = Flag()
    status = fields.Enum(TaskStatus, by_value=True)
    due_at = Instant()
    patient_id = Id(allow_none=True)
    appointment_id = Id(allow_none=True)
    subject_id = Id()
    message_kind = fields.Enum(MessageKind, by_value=True, allow_none=True)
    note = fields.String(allow_none=True, attribute="said")
    settled_by = fields.String(allow_none=True)
    settled_at = Instant(allow_none=True)


class TaskQuery(PageQuery):
    """Which tasks."""

    status = fields.Enum(TaskStatus, by_value=True, load_default=TaskStatus.REQUESTED)
    owner = fields.Enum(Owner, by_value=True, load_default=None)
    kind = fields.Enum(TaskKind, by_value=True, load_default=None)
    patient_id = Id(load_default=None)
    appointment_id = Id(load_default=None)
    until = Instant(load_default=None, metadata={"description": "Due by then."})


class SettleSchema(Schema):
    """What became of a task."""

    status = fields.Enum(
        TaskStatus,
        by_value=True,
        required=True,
        validate=validate.OneOf([TaskStatus.COMPLETED, TaskStatus.CANCELLED]),
    )
    note = Text(most=2000, lines=True, load_default=None)


class ReplySchema(Schema):
    """What a patient answered, and what it was taken to mean."""

    id = Id()
    at = Instant()
    channel = fields.Enum(Channel, by_value=True)
    patient_id = Id(allow_none=True)
    appointment_id = Id(allow_none=True)
    meaning = fields.Enum(ReplyMeaning, by_value=True)
    body = fields.String()


class ReplyQuery(PageQuery):
    """Which replies."""

    patient_id = Id(load_default=None)
    meaning = fields.Enum(ReplyMeaning, by_value=True, load_default=None)


class ConsentSchema(Schema):
    """A patient agreed to a channel, or took it back."""

    id = Id(dump_only=True)
    channel = fields.Enum(Channel, by_value=True, required=True)
    given = Flag(required=True)
    wording = Text(most=1000, lines=True, required=True)
    source = fields.String(dump_only=True)
    noted_by = fields.String(dump_only=True)
    at = Instant(dump_only=True)


TASKS = Shelf(Task, TaskSchema)


@blueprint.route("/tasks", methods=["GET"])
@requires(Permission.TASKS_READ)
@blueprint.arguments(TaskQuery, location="query")
@blueprint.response(200, page_of(TaskSchema))
def list_tasks(asked: dict[str, Any]) -> dict[str, Any]:
    """List what is to be done, the most pressing first."""
    wanted: dict[str, Callable[[Any], Any]] = {
        "status": Task.status.__eq__,
        "owner": Task.owner.__eq__,
        "kind": Task.kind.__eq__,
        "patient_id": Task.patient_id.__eq__,
        "appointment_id": Task.appointment_id.__eq__,
        "until": lambda value: Task.due_at <= value,
    }
    query = pages.narrowed(select(Task), asked, wanted)
    return pages.page(query, [Task.due_at, Task.id], asked)


@blueprint.route("/tasks/<uuid:task_id>", methods=["GET"])
@requires(Permission.TASKS_READ)
@blueprint.response(200, TaskSchema)
def read_task(task_id: UUID) -> Any:
    """Read a task."""
    return TASKS.read(task_id)


@blueprint.route("/tasks/<uuid:task_id>", methods=["PATCH"])
@requires(Permission.TASKS_WRITE)
@conditional
@blueprint.arguments(SettleSchema)
@blueprint.response(200, TaskSchema)
@blueprint.alt_response(403, schema=ProblemSchema, description="may-not-override")
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def settle_task(told: dict[str, Any], task_id: UUID) -> Response:
    """Note that a task is done, or need not be."""
    call = Call(task_id, preconditions.seen_version())
    settled = Settled(told["status"], told["note"])
    task = tasks.settle(db.session(), call, settled, by=by(), now=now())
    preconditions.tag(task.version)
    return edge.done(TaskSchema, task, TASKS.act("update", task, ["status"]))


@blueprint.route("/replies", methods=["GET"])
@requires(Permission.MESSAGES_CONTENT)
@blueprint.arguments(ReplyQuery, location="query")
@blueprint.response(200, page_of(ReplySchema))
def list_replies(asked: dict[str, Any]) -> dict[str, Any]:
    """List what patients wrote, in order."""
    wanted = {"patient_id": Reply.patient_id.__eq__, "meaning": Reply.meaning.__eq__}
    query = pages.narrowed(select(Reply), asked, wanted)
    return pages.page(query, [Reply.at, Reply.id], asked)


@blueprint.route("/patients/<uuid:patient_id>/channel-consents", methods=["GET"])
@requires(Permission.MESSAGES_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ConsentSchema))
def list_channel_consents(asked: dict[str, Any], patient_id: UUID) -> dict[str, Any]:
    """List what a patient agreed to and took back, oldest first."""
    facts.one(db.session(), Patient, patient_id)
    query = select(ChannelConsent).where(ChannelConsent.patient_id == patient_id)
    return Shelf(ChannelConsent, ConsentSchema).page(asked, query)


@blueprint.route("/patients/<uuid:patient_id>/channel-consents", methods=["POST"])
@requires(Permission.MESSAGES_WRITE)
@blueprint.arguments(ConsentSchema)
@idempotent
@blueprint.response(200, PatientSchema)
def note_consent(told: dict[str, Any], patient_id: UUID) -> Response:
    """Note that a patient agrees to be written to on a channel, or does not any more."""
    patient = facts.to_change(db.session(), Patient, patient_id, None)
    wish = Wish(**told, source="staff", noted_by=by().name, at=now())
    replies.grant(db.session(), patient, wish)
    preconditions.tag(patient.version)
    act = Act(
        action="create",
        entity="channel_consent",
        entity_id=patient_id,
        patient_id=patient_id,
        facts={"channel": wish.channel, "given": wish.given},
    )
    return edge.done(PatientSchema, patient, act)
