"""The waitlist over REST: who waits for which time, and what they are offered."""

from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema
from sqlalchemy import select

from api import edge, pages, preconditions
from api.asking import WEEKDAYS
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Flag, Id, Instant
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf
from models import Appointment, FreedTime, Offer, WaitlistEntry, db
from models.vocabulary import OfferState, WaitingState
from scheduler import offers, waitlist
from scheduler.audit import Act
from scheduler.authority import Call
from scheduler.errors import OfferGone
from scheduler.permissions import Permission
from scheduler.waitlist import Wanted

blueprint = Blueprint(
    "waitlist", __name__, url_prefix="/api/v1", description="Who waits, freed times, offers."
)

WALL_TIME: dict[str, Any] = {"format": "%H:%M", "metadata": {"pattern": r"^\d{2}:\d{2}$"}}


class Weekdays(fields.List[str]):
    """Days of the week by name, kept as numbers; Monday is 0."""

    def __init__(self, **kwargs: Any) -> None:
        day = fields.String(validate=validate.OneOf(WEEKDAYS))
        super().__init__(day, validate=validate.Length(max=7), **kwargs)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return [WEEKDAYS[number] for number in value]

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        told = super()._deserialize(value, attr, data, **kwargs)
        return sorted({WEEKDAYS.index(day) for day in told})


class EntrySchema(Schema):
    """A patient waits for a time for a step of a course, and this is what would suit."""

    id = Id(dump_only=True)
    patient_id = Id(dump_only=True)
    course_step_id = Id(required=True)
    visit_id = Id(
        dump_only=True,
        allow_none=True,
        metadata={"description": "The visit that would be moved earlier; null: none is booked."},
    )
    weekdays = Weekdays(load_default=list, metadata={"description": "None: any."})
    begin = fields.Time(load_default=None, allow_none=True, data_key="not_before", **WALL_TIME)
    until = fields.Time(load_default=None, allow_none=True, data_key="before", **WALL_TIME)
    earliest = Instant(load_default=None, allow_none=True)
    latest = Instant(load_default=None, allow_none=True)
    site_id = Id(load_default=None, allow_none=True)
    practitioner_id = Id(load_default=None, allow_none=True)
    standby = Flag(
        load_default=False,
        metadata={"description": "Can come at short notice: the same day, within the notice."},
    )
    state = fields.Enum(WaitingState, by_value=True, dump_only=True)
    waiting_since = Instant(dump_only=True)
    ended_at = Instant(dump_only=True, allow_none=True)
    asked_by = fields.String(dump_only=True)

    @validates_schema
    def runs_forward(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse wishes that leave no time."""
        for first, last, name in (("earliest", "latest", "latest"), ("begin", "until", "before")):
            begin, end = data.get(first), data.get(last)
            if begin is not None and end is not None and end <= begin:
                raise ValidationError("It must be later than what it ends.", name)

    @post_load
    def wanted(self, data: dict[str, Any], **_: object) -> Wanted:
        return Wanted(**data)


class EntryQuery(PageQuery):
    """Which entries."""

    state = fields.Enum(WaitingState, by_value=True, load_default=WaitingState.WAITING)
    patient_id = Id(load_default=None)
    course_step_id = Id(load_default=None)


class OfferSchema(Schema):
    """A freed time, offered to one who waits."""

    id = Id()
    entry_id = Id()
    patient_id = Id()
    freed_time_id = Id()
    appointment_id = Id(metadata={"description": "The proposed visit: when and where."})
    group_session_id = Id(
        allow_none=True, metadata={"description": "The session of which it is a place; null: none."}
    )
    site_id = Id()
    starts_at = Instant()
    ends_at = Instant()
    kept_until = Instant(
        allow_none=True, metadata={"description": "Until when the time is kept; null: it is not."}
    )
    offered_at = Instant()
    expires_at = Instant()
    state = fields.Enum(OfferState, by_value=True)
    settled_at = Instant(allow_none=True)
    settled_by = fields.String(allow_none=True)
    visit_id = Id(allow_none=True, metadata={"description": "What was booked, or moved."})
    etag = fields.Function(
        lambda offer: f'"{offer["version"]}"', metadata={"type": "string", "example": '"1"'}
    )


class OfferQuery(PageQuery):
    """Which offers."""

    state = fields.Enum(OfferState, by_value=True, load_default=None)
    patient_id = Id(load_default=None)
    entry_id = Id(load_default=None)


class FreedTimeSchema(Schema):
    """A stretch that a visit gave back, and that is offered until it has passed."""

    id = Id()
    appointment_id = Id(metadata={"description": "The visit that gave it back."})
    site_id = Id()
    starts_at = Instant()
    ends_at = Instant()
    look_at = Instant(
        allow_none=True, metadata={"description": "When it is next looked at; null: it is over."}
    )


ENTRIES = Shelf(WaitlistEntry, EntrySchema)


@blueprint.route("/waitlist", methods=["GET"])
@requires(Permission.WAITLIST_READ)
@blueprint.arguments(EntryQuery, location="query")
@blueprint.response(200, page_of(EntrySchema))
def list_entries(asked: dict[str, Any]) -> dict[str, Any]:
    """List who waits, the longest waiting first."""
    wanted = {
        "state": WaitlistEntry.state.__eq__,
        "patient_id": WaitlistEntry.patient_id.__eq__,
        "course_step_id": WaitlistEntry.course_step_id.__eq__,
    }
    query = pages.narrowed(select(WaitlistEntry), asked, wanted)
    return pages.page(query, [WaitlistEntry.waiting_since, WaitlistEntry.id], asked)


@blueprint.route("/waitlist", methods=["POST"])
@requires(Permission.WAITLIST_WRITE)
@blueprint.arguments(EntrySchema)
@idempotent
@blueprint.response(201, EntrySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists, course-closed")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def add_entry(wanted: Wanted) -> Response:
    """Let a patient wait for a time; if the step has a visit already, for an earlier one."""
    entry = waitlist.join(db.session(), wanted, by=by(), now=now())
    preconditions.tag(entry.version)
    return edge.done(
        EntrySchema,
        entry,
        ENTRIES.act("create", entry),
        status=201,
        location=f"{request.path}/{entry.id}",
    )


@blueprint.route("/waitlist/<uuid:entry_id>", methods=["GET"])
@requires(Permission.WAITLIST_READ)
@blueprint.response(200, EntrySchema)
def read_entry(entry_id: UUID) -> Any:
    """Read one entry."""
    return ENTRIES.read(entry_id)


@blueprint.route("/waitlist/<uuid:entry_id>/withdraw", methods=["POST"])
@requires(Permission.WAITLIST_WRITE)
@conditional
@idempotent
@blueprint.response(200, EntrySchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def withdraw_entry(entry_id: UUID) -> Response:
    """Take a patient off the list; what they are offered now ends with it."""
    call = Call(entry_id, preconditions.seen_version())
    entry = waitlist.leave(db.session(), call, now=now())
    preconditions.tag(entry.version)
    return edge.done(EntrySchema, entry, ENTRIES.act("update", entry, ["state"]))


@blueprint.route("/freed-times", methods=["GET"])
@requires(Permission.WAITLIST_READ)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(FreedTimeSchema))
def list_freed_times(asked: dict[str, Any]) -> dict[str, Any]:
    """List the times that became free and are not over, the next first."""
    query = select(FreedTime).where(FreedTime.look_at.is_not(None), FreedTime.ends_at > now())
    return pages.page(query, [FreedTime.starts_at, FreedTime.id], asked)


@blueprint.route("/offers", methods=["GET"])
@requires(Permission.WAITLIST_READ)
@blueprint.arguments(OfferQuery, location="query")
@blueprint.response(200, page_of(OfferSchema))
def list_offers(asked: dict[str, Any]) -> dict[str, Any]:
    """List offers, oldest first."""
    wanted = {
        "state": Offer.state.__eq__,
        "patient_id": Offer.patient_id.__eq__,
        "entry_id": Offer.entry_id.__eq__,
    }
    query = pages.narrowed(select(Offer), asked, wanted)
    found = pages.page(query, [Offer.id], asked)
    return {**found, "items": _shown(found["items"])}


@blueprint.route("/offers/<uuid:offer_id>", methods=["GET"])
@requires(Permission.WAITLIST_READ)
@blueprint.response(200, OfferSchema)
def read_offer(offer_id: UUID) -> dict[str, Any]:
    """Read one offer."""
    offer = Shelf(Offer, OfferSchema).read(offer_id)
    return _shown([offer])[0]


@blueprint.route("/offers/<uuid:offer_id>/accept", methods=["POST"])
@requires(Permission.WAITLIST_WRITE)
@conditional
@idempotent
@blueprint.response(200, OfferSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="offer-gone")
@blueprint.alt_response(422, schema=ProblemSchema, description="not-ready, rule-broken, ...")
def accept_offer(offer_id: UUID) -> Response:
    """Accept for the patient: book the time, or move the visit that they have."""
    call = Call(offer_id, preconditions.seen_version())
    offer = offers.accept(db.session(), call, by=by(), now=now())
    if offer.state is OfferState.LOST:
        raise OfferGone("This time is taken. The patient stays on the list.", state=offer.state)
    return _settled("accept", offer)


@blueprint.route("/offers/<uuid:offer_id>/decline", methods=["POST"])
@requires(Permission.WAITLIST_WRITE)
@conditional
@idempotent
@blueprint.response(200, OfferSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="offer-gone")
def decline_offer(offer_id: UUID) -> Response:
    """Let it go for the patient, who stays on the list; the next one is asked."""
    call = Call(offer_id, preconditions.seen_version())
    return _settled("decline", offers.decline(db.session(), call, by=by(), now=now()))


def _settled(what: str, offer: Offer) -> Response:
    preconditions.tag(offer.version)
    act = Act(
        action="update",
        entity="offer",
        entity_id=offer.id,
        patient_id=offer.patient_id,
        facts={"what": what},
    )
    return edge.done(OfferSchema, _shown([offer])[0], act)


def _shown(found: list[Offer]) -> list[dict[str, Any]]:
    """Offers with the time and place of their proposed visits, in one query."""
    ids = [offer.appointment_id for offer in found]
    query = select(Appointment).where(Appointment.id.in_(ids))
    visits = {visit.id: visit for visit in db.session.scalars(query)}
    return [
        {
            **{column.key: getattr(offer, column.key) for column in Offer.__table__.columns},
            "group_session_id": visits[offer.appointment_id].group_session_id,
            "site_id": visits[offer.appointment_id].site_id,
            "starts_at": visits[offer.appointment_id].starts_at,
            "ends_at": visits[offer.appointment_id].ends_at,
            "kept_until": visits[offer.appointment_id].held_until,
        }
        for offer in found
    ]
