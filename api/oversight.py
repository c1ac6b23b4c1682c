"""The audit trail over REST: what was done and read, by whom, searched and taken along."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, validate
from sqlalchemy import Select, func, literal, select

from api import pages, tables, trail
from api.blueprint import Blueprint
from api.caller import by, commit, requires
from api.errors import ProblemSchema
from api.fields import Flag, Id, Instant, Text
from api.pages import PageQuery, page_of
from models import AuditEvent, db, enter_clinic, hide_part2
from models.vocabulary import AuditOutcome
from scheduler import accesses
from scheduler.accesses import Part, Who
from scheduler.audit import Act
from scheduler.permissions import Permission
from scheduler.records import begins_a_formula

blueprint = Blueprint("oversight", __name__, url_prefix="/api/v1", description="Oversight.")

AT_ONCE = 1000
"""Lines of an export that are fetched at once."""


class AuditEventSchema(Schema):
    """One act."""

    id = Id()
    sequence = fields.Integer()
    at = Instant()
    actor = fields.String()
    role = fields.String(allow_none=True)
    permission = fields.String(allow_none=True, metadata={"description": "What let them in."})
    action = fields.String()
    entity = fields.String()
    entity_id = Id(allow_none=True)
    patient_id = Id(allow_none=True)
    outcome = fields.Enum(AuditOutcome, by_value=True)
    address = fields.String(allow_none=True)
    request_id = Id(allow_none=True)
    agent_hash = fields.Function(
        lambda event: (event.agent_hash or b"").hex(),
        metadata={
            "type": "string",
            "description": "Empty: the caller's program said nothing.",
        },
    )
    facts = fields.Dict()
    hash = fields.Function(lambda event: event.hash.hex(), metadata={"type": "string"})


class AuditFilterSchema(Schema):
    """Which acts."""

    start = Instant(data_key="from", load_default=None)
    end = Instant(data_key="to", load_default=None)
    actor = Text(most=200, load_default=None, metadata={"description": "How it begins."})
    action = Text(most=40, load_default=None)
    entity = Text(most=40, load_default=None)
    entity_id = Id(load_default=None)
    patient_id = Id(load_default=None)
    outcome = fields.Enum(AuditOutcome, by_value=True, load_default=None)


class AuditQuery(PageQuery, AuditFilterSchema):
    """Which acts, and how many of them."""


class AuditExportQuery(AuditFilterSchema):
    """Which acts, and how they are written."""

    format = fields.String(
        validate=validate.OneOf(["jsonl", "csv"]),
        load_default="jsonl",
        metadata={"description": "JSON lines, or CSV (RFC 4180) that no sheet reckons with."},
    )


class AccessSchema(Schema):
    """What somebody did with a part of a patient's record on one day."""

    at = Instant(metadata={"description": "The last time."})
    who = fields.Enum(Who, by_value=True)
    name = fields.String(allow_none=True)
    looked = Flag(metadata={"description": "Looked at it; else added to it, changed it."})
    part = fields.Enum(Part, by_value=True)
    emergency = Flag()
    count = fields.Integer()


class AccessesSchema(Schema):
    """Who looked at a patient's record, the newest first."""

    items = fields.List(fields.Nested(AccessSchema))


@blueprint.route("/audit-events", methods=["GET"])
@requires(Permission.AUDIT_READ, step_up=True)
@blueprint.arguments(AuditQuery, location="query")
@blueprint.response(200, page_of(AuditEventSchema))
def list_audit_events(asked: dict[str, Any]) -> dict[str, Any]:
    """List what was done and read, newest first."""
    query = _narrowed(asked)
    return pages.page(query, [AuditEvent.at, AuditEvent.id], asked, newest_first=True)


@blueprint.route("/audit-events/export", methods=["GET"])
@requires(Permission.AUDIT_EXPORT, step_up=True)
@blueprint.arguments(AuditExportQuery, location="query")
@blueprint.doc(
    responses={
        "200": {
            "description": "In the order in which they were written.",
            "content": {kind: {} for kind in ("application/jsonl", "text/csv")},
        }
    }
)
@blueprint.alt_response(422, schema=ProblemSchema, description="invalid")
def export_audit_events(asked: dict[str, Any]) -> Response:
    """Take the trail along as a file, oldest first; that somebody did stands in it."""
    commit(_exported(asked))
    write, media_type = _WRITERS[asked["format"]]
    headers = {"Content-Disposition": f'attachment; filename="audit-events.{asked["format"]}"'}
    sees_all = by().may(Permission.PART2_READ)
    rows = write(_rows(_narrowed(asked), db.session.info["clinic_id"], sees_all=sees_all))
    lines = tables.to_the_end(rows, as_csv=asked["format"] == "csv")
    return Response(lines, content_type=media_type, headers=headers)


@blueprint.route("/patients/<uuid:patient_id>/accesses", methods=["GET"])
@requires(Permission.ACCESSES_READ)
@blueprint.response(200, AccessesSchema)
def list_accesses(patient_id: UUID) -> dict[str, Any]:
    """Say who looked at a patient's record or changed it, as the patient is told.

    Of the last thousand acts, those of one kind by one person on one day as one.
    """
    return {"items": accesses.of_patient(db.session(), patient_id)}


def _narrowed(asked: Mapping[str, Any]) -> Select[Any]:
    return pages.narrowed(
        select(AuditEvent),
        asked,
        {
            "start": AuditEvent.at.__ge__,
            "end": AuditEvent.at.__lt__,
            "actor": lambda told: pages.begins(AuditEvent.actor.collate("C"), literal(told)),
            "action": AuditEvent.action.__eq__,
            "entity": AuditEvent.entity.__eq__,
            "entity_id": AuditEvent.entity_id.__eq__,
            "patient_id": AuditEvent.patient_id.__eq__,
            "outcome": AuditEvent.outcome.__eq__,
        },
    )


def _exported(asked: Mapping[str, Any]) -> Act:
    return Act(
        action="read",
        entity="audit_event",
        patient_id=asked["patient_id"],
        facts={"what": "export", **trail.search()},
    )


def _rows(query: Select[Any], clinic_id: UUID, *, sees_all: bool) -> Iterator[AuditEvent]:
    """All of them in the order of the chain, as far as it goes now; a stretch at a time.

    The request's own session is over by the time they are taken.
    """
    last = 0
    until: int | None = None
    while True:
        enter_clinic(db.session(), clinic_id)
        hide_part2(db.session(), hidden=not sees_all)
        if until is None:
            until = db.session.scalar(select(func.max(AuditEvent.sequence))) or 0
        rows = db.session.scalars(
            query.where(AuditEvent.sequence > last, AuditEvent.sequence <= until)
            .order_by(AuditEvent.sequence)
            .limit(AT_ONCE)
        ).all()
        db.session.expunge_all()
        db.session.rollback()  # nothing is held while somebody reads slowly
        yield from rows
        if len(rows) < AT_ONCE:
            return
        last = rows[-1].sequence


def _told(event: AuditEvent) -> dict[str, Any]:
    shown: dict[str, Any] = _SCHEMA.dump(event)
    return shown


def _as_json(rows: Iterator[AuditEvent]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(_told(row), ensure_ascii=False) + "\n"


def _as_csv(rows: Iterator[AuditEvent]) -> Iterator[str]:
    names = list(_SCHEMA.fields)
    yield _line(names)
    for row in rows:
        told = _told(row)
        yield _line([_cell(told[name]) for name in names])


def _line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()


def _cell(value: Any) -> str:
    """A value as a sheet may hold it: what would begin a formula there gets a quote before it."""
    if value is None:
        return ""
    told = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return f"'{told}" if begins_a_formula(told) else told


_SCHEMA = AuditEventSchema()

_WRITERS: Mapping[str, tuple[Callable[[Iterator[AuditEvent]], Iterator[str]], str]] = {
    "jsonl": (_as_json, "application/jsonl; charset=utf-8"),
    "csv": (_as_csv, "text/csv; charset=utf-8"),
}
