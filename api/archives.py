"""Archives over REST: have everything of the clinic written into one file, and fetch it."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from flask import Response, request, stream_with_context
from marshmallow import Schema, fields
from sqlalchemy import select

from api import edge, pages, preconditions
from api.blueprint import Blueprint
from api.caller import by, commit, now, requires
from api.errors import ProblemSchema
from api.fields import Id, Instant
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from models import Archive, db, enter_clinic
from scheduler import archives, facts
from scheduler.archives import Standing
from scheduler.audit import Act
from scheduler.permissions import Permission

blueprint = Blueprint("archives", __name__, url_prefix="/api/v1/archives", description="In bulk.")

ZIP = "application/zip"


class ArchiveSchema(Schema):
    """A file with everything that the clinic has, and how far it is written."""

    id = Id()
    status = fields.Function(
        archives.standing, metadata={"type": "string", "enum": [str(one) for one in Standing]}
    )
    total = fields.Integer(metadata={"description": "Tables in all."})
    done = fields.Integer(metadata={"description": "Those that are written."})
    bytes = fields.Integer(allow_none=True)
    sha256 = fields.String(allow_none=True, metadata={"description": "Of the whole file."})
    asked_by = fields.String()
    asked_at = Instant()
    ended_at = Instant(allow_none=True)
    expires_at = Instant(
        allow_none=True, metadata={"description": "Until when it can be fetched; a week."}
    )


@blueprint.route("", methods=["GET"])
@requires(Permission.CLINIC_EXPORT)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ArchiveSchema))
def list_archives(asked: dict[str, Any]) -> dict[str, Any]:
    """List the archives that are there, oldest first."""
    return pages.page(select(Archive), [Archive.id], asked)


@blueprint.route("", methods=["POST"])
@requires(Permission.CLINIC_EXPORT, step_up=True)
@idempotent
@blueprint.response(202, ArchiveSchema)
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def ask_for_archive() -> Response:
    """Have an archive written: every row of the clinic, and nothing by which somebody comes in.

    A zip with a file of JSON lines for each table, and `manifest.json` with their counts and
    SHA-256. It holds patients' records: whoever fetches it answers for it.
    """
    asked = archives.ask(db.session(), by(), now())
    preconditions.tag(asked.version)
    where = f"{request.path}/{asked.id}"
    return edge.done(ArchiveSchema, asked, _act("create", asked.id), status=202, location=where)


@blueprint.route("/<uuid:archive_id>", methods=["GET"])
@requires(Permission.CLINIC_EXPORT)
@blueprint.response(200, ArchiveSchema)
def read_archive(archive_id: UUID) -> Archive:
    """Read how far an archive is."""
    found = facts.one(db.session(), Archive, archive_id)
    preconditions.tag(found.version)
    return found


@blueprint.route("/<uuid:archive_id>/content", methods=["GET"])
@requires(Permission.CLINIC_EXPORT, step_up=True)
@blueprint.doc(
    responses={
        "200": {
            "description": "The file. An answer that breaks off is not whole; see `sha256`.",
            "content": {ZIP: {"schema": {"type": "string", "format": "binary"}}},
        }
    }
)
@blueprint.alt_response(422, schema=ProblemSchema, description="unfit")
def fetch_archive(archive_id: UUID) -> Response:
    """Fetch an archive that is completed."""
    found = facts.one(db.session(), Archive, archive_id)
    archives.refuse_unless_ready(found, now())
    clinic_id, size = found.clinic_id, str(found.bytes)
    commit(_act("read", archive_id))
    headers = {
        "Content-Type": ZIP,
        "Content-Length": size,
        "Content-Disposition": f'attachment; filename="archive-{archive_id}.zip"',
    }
    return Response(stream_with_context(_pieces(clinic_id, archive_id)), headers=headers)


@blueprint.route("/<uuid:archive_id>", methods=["DELETE"])
@requires(Permission.CLINIC_EXPORT, step_up=True)
@conditional
@blueprint.response(204)
def remove_archive(archive_id: UUID) -> Response:
    """Remove an archive before it expires."""
    found = facts.to_change(db.session(), Archive, archive_id, preconditions.seen_version())
    db.session.delete(found)
    return edge.gone(_act("delete", archive_id))


def _pieces(clinic_id: UUID, archive_id: UUID) -> Iterator[bytes]:
    """Its pieces, each read in a transaction of its own."""
    number = 0
    while True:
        enter_clinic(db.session(), clinic_id)
        piece = archives.piece(db.session(), archive_id, number)
        db.session.rollback()
        if piece is None:
            return
        yield piece
        number += 1


def _act(action: str, archive_id: UUID) -> Act:
    return Act(action=action, entity="archive", entity_id=archive_id)
