"""Imports over REST: hand in a file, and see how far the worker is with its lines."""

from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, fields
from sqlalchemy import select

from api import edge, guards, pages, preconditions, tables
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import BadRequest, ProblemSchema
from api.fields import AskedFlag, Flag, Id, Instant
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from models import Import, ImportFault, db
from models.vocabulary import ImportFormat, ImportKind
from scheduler import facts, imports
from scheduler.audit import Act
from scheduler.imports import File, Standing
from scheduler.permissions import Permission

blueprint = Blueprint("imports", __name__, url_prefix="/api/v1/imports", description="In bulk.")

_FORMATS = {tables.CSV: ImportFormat.CSV, tables.NDJSON: ImportFormat.NDJSON}


class ImportQuery(Schema):
    """What the lines are about."""

    kind = fields.Enum(ImportKind, by_value=True, required=True)
    dry_run = AskedFlag(
        load_default=False,
        metadata={"description": "Only look: every fault is told, and nothing is kept."},
    )


class FileImportSchema(Schema):
    """A file that was handed in, and how far it is read."""

    id = Id()
    kind = fields.Enum(ImportKind, by_value=True)
    format = fields.Enum(ImportFormat, by_value=True)
    dry_run = Flag()
    status = fields.Function(
        imports.standing, metadata={"type": "string", "enum": [str(one) for one in Standing]}
    )
    total = fields.Integer(metadata={"description": "Records in the file."})
    done = fields.Integer(metadata={"description": "Those that were dealt with so far."})
    made = fields.Integer(metadata={"description": "Of them kept; in a dry run, right."})
    faulty = fields.Integer(metadata={"description": "Of them not kept: see its faults."})
    made_by = fields.String()
    handed_in_at = Instant()
    ended_at = Instant(allow_none=True)
    cancelled_by = fields.String(allow_none=True, metadata={"description": "Null: nobody."})


class FileFaultSchema(Schema):
    """Something that is wrong with a line."""

    line = fields.Integer(metadata={"description": "As an editor counts: the header is line 1."})
    field = fields.String(metadata={"description": "The column; - for the line as a whole."})
    detail = fields.String(metadata={"description": "What is wrong, and what to do."})


@blueprint.route("", methods=["GET"])
@requires(Permission.BULK_IMPORT)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(FileImportSchema))
def list_imports(asked: dict[str, Any]) -> dict[str, Any]:
    """List the imports of the last thirty days, oldest first."""
    return pages.page(select(Import), [Import.id], asked)


@blueprint.route("", methods=["POST"])
@requires(Permission.BULK_IMPORT)
@guards.takes(*_FORMATS, most=imports.MOST_BYTES)
@blueprint.arguments(ImportQuery, location="query")
@blueprint.doc(
    requestBody={
        "required": True,
        "description": "10 MB and 50,000 records at most; see docs/bulk.md for the columns.",
        "content": {media_type: {"schema": {"type": "string"}} for media_type in _FORMATS},
    }
)
@idempotent
@blueprint.response(202, FileImportSchema)
@blueprint.alt_response(413, schema=ProblemSchema, description="request-too-large")
@blueprint.alt_response(415, schema=ProblemSchema, description="unsupported-media-type")
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def hand_in(asked: dict[str, Any]) -> Response:
    """Hand in a file. Its lines are read by the worker: right ones are kept, wrong ones told."""
    file = File(asked["kind"], _FORMATS[request.mimetype], _text(), asked["dry_run"])
    made = imports.hand_in(db.session(), file, by(), now())
    preconditions.tag(made.version)
    act = Act(
        action="create",
        entity="import",
        entity_id=made.id,
        facts={"kind": file.kind, "dry_run": file.dry_run, "total": made.total},
    )
    where = f"{request.path}/{made.id}"
    return edge.done(FileImportSchema, made, act, status=202, location=where)


@blueprint.route("/<uuid:import_id>", methods=["GET"])
@requires(Permission.BULK_IMPORT)
@blueprint.response(200, FileImportSchema)
def read_import(import_id: UUID) -> Import:
    """Read how far an import is."""
    found = facts.one(db.session(), Import, import_id)
    preconditions.tag(found.version)
    return found


@blueprint.route("/<uuid:import_id>/cancel", methods=["POST"])
@requires(Permission.BULK_IMPORT)
@idempotent
@blueprint.response(200, FileImportSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def cancel_import(import_id: UUID) -> Response:
    """Read no more lines of a file. What was made of those before stays, and is counted.

    It takes no If-Match: the version rises with every few lines, and whichever it has come to is
    meant.
    """
    found = imports.cancel(db.session(), import_id, by(), now())
    preconditions.tag(found.version)
    told = {"done": found.done, "made": found.made, "total": found.total}
    act = Act(action="cancel", entity="import", entity_id=import_id, facts=told)
    return edge.done(FileImportSchema, found, act)


@blueprint.route("/<uuid:import_id>/faults", methods=["GET"])
@requires(Permission.BULK_IMPORT)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(FileFaultSchema))
def list_faults(asked: dict[str, Any], import_id: UUID) -> dict[str, Any]:
    """List what is wrong with the lines that were read so far, in their order."""
    facts.one(db.session(), Import, import_id)
    query = select(ImportFault).where(ImportFault.import_id == import_id)
    return pages.page(query, [ImportFault.line, ImportFault.id], asked)


def _text() -> str:
    try:
        return request.get_data(cache=True).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(400, "malformed", "The body is not UTF-8.") from error
