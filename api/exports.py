"""Exports over REST: everything of a kind, as CSV or JSON lines, streamed in one order.

Each page is read in a transaction of its own and begins after the last key of the one before,
so that no more than a page is held, however much there is and however slowly it is taken.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import Enum
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema
from sqlalchemy import select

from api import tables
from api.blueprint import Blueprint
from api.caller import by, commit, requires, today
from api.fields import write_instant
from models import (
    Appointment,
    Course,
    CourseStep,
    Device,
    Patient,
    Practitioner,
    Qualification,
    Room,
    Site,
    db,
    enter_clinic,
    hide_part2,
)
from scheduler import facts, part2
from scheduler.audit import Act
from scheduler.permissions import Permission

blueprint = Blueprint("exports", __name__, url_prefix="/api/v1/exports", description="In bulk.")

AT_ONCE = 500

NOTICE = "redisclosure_notice"
"""The column of what falls under 42 CFR Part 2: that it may not be disclosed further, and by
what consent it was."""

WITHHELD = (
    " What falls under 42 CFR Part 2 is left out unless the patient's consent to disclosing holds; "
    "the header Withheld-Records says how many."
)

_PLACE = ("id", "site_id", "schedule_id", "name", "kind", "created_at")

KINDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "sites": (
        Site,
        ("id", "name", "address", "phone", "time_zone", "holiday_region", "holidays_worked"),
    ),
    "rooms": (Room, _PLACE),
    "devices": (Device, _PLACE),
    "practitioners": (
        Practitioner,
        ("id", "schedule_id", "name", "email", "phone", "created_at"),
    ),
    "qualifications": (
        Qualification,
        ("id", "practitioner_id", "role", "licence", "valid_from", "valid_until", "regions"),
    ),
    "patients": (
        Patient,
        (
            *("id", "schedule_id", "record_number", "given_name", "family_name", "birth_date"),
            *("email", "phone", "time_zone", "language", "region", "channels", "opted_out"),
            *("unreachable", "quiet_from", "quiet_until", "created_at"),
        ),
    ),
    "courses": (
        Course,
        (
            *("id", "patient_id", "protocol_version_id", "status", "opened_by", "referred_on"),
            *("created_at", "part2", NOTICE),
        ),
    ),
    "course-steps": (
        CourseStep,
        (
            *("id", "course_id", "key", "position", "kind", "planned_at", "skipped_at", "outcome"),
            NOTICE,
        ),
    ),
    "appointments": (
        Appointment,
        (
            *("id", "patient_id", "course_id", "course_step_id", "protocol_version_id", "visit"),
            *("kind", "site_id", "status", "progress", "starts_at", "ends_at", "held_until"),
            *("confirmed_at", "move_requested_at", "suspended_at", "booked_by"),
            *("group_session_id", "place", "created_at", "part2", NOTICE),
        ),
    ),
}


class ExportQuery(Schema):
    """How it is to be written."""

    format = tables.asked_format("ndjson", "csv")


def _mount(name: str, model: Any, columns: tuple[str, ...]) -> Callable[..., Any]:
    def export(asked: dict[str, Any]) -> Response:
        as_csv = tables.wants_csv(asked["format"])
        told: dict[str, Any] = {"kind": name, "format": "csv" if as_csv else "ndjson"}
        taken = Taken(
            model, columns, db.session.info["clinic_id"], by().may(Permission.PART2_READ), today()
        )
        if NOTICE in columns:
            told["withheld"] = facts.count_not_disclosed(db.session(), model, taken.on)
        commit(Act(action="execute", entity="export", facts=told))
        answer = tables.stream(name, columns, _pages(taken), as_csv=as_csv)
        if "withheld" in told:
            answer.headers["Withheld-Records"] = str(told["withheld"])
        return answer

    export.__name__ = f"export_{name.replace('-', '_')}"
    export.__doc__ = (
        f"Take out all {name.replace('-', ' ')}, in the order in which they were made.\n\n"
        "Columns: "
        + ", ".join(columns)
        + ". One that breaks off ends within a line."
        + (WITHHELD if NOTICE in columns else "")
    )
    content = {one: {"schema": {"type": "string"}} for one in (tables.NDJSON, tables.CSV)}
    answer: dict[str, Any] = {"description": "All.", "content": content}
    if NOTICE in columns:
        answer["headers"] = {"Withheld-Records": {"schema": {"type": "integer"}}}
    view = blueprint.doc(responses={"200": answer})(export)
    view = blueprint.arguments(ExportQuery, location="query")(view)
    view = requires(Permission.BULK_EXPORT, step_up=True)(view)
    mounted: Callable[..., Any] = blueprint.route(f"/{name}", methods=["GET"])(view)
    return mounted


@dataclass(frozen=True, slots=True)
class Taken:
    """What is taken out, for whom, and as of which day."""

    model: Any
    columns: Sequence[str]
    clinic_id: UUID
    sees_all: bool
    on: date


def _pages(taken: Taken) -> Iterator[list[dict[str, Any]]]:
    """The rows of a clinic; the request's own session is over by the time they are taken."""
    query = select(taken.model).order_by(taken.model.id).limit(AT_ONCE)
    if NOTICE in taken.columns:
        query = query.where(facts.may_be_disclosed(taken.model, taken.on))
    last: UUID | None = None
    while True:
        enter_clinic(db.session(), taken.clinic_id)
        hide_part2(db.session(), hidden=not taken.sees_all)
        rows = db.session.scalars(
            query if last is None else query.where(taken.model.id > last)
        ).all()
        page = _page(taken, rows)
        if rows:
            last = rows[-1].id
        db.session.expunge_all()
        db.session.rollback()  # nothing of the database is held while this page is taken
        if page:
            yield page
        if len(rows) < AT_ONCE:
            return


def _page(taken: Taken, rows: Sequence[Any]) -> list[dict[str, Any]]:
    told = [name for name in taken.columns if name != NOTICE]
    page = {row.id: {name: _told(getattr(row, name)) for name in told} for row in rows}
    if NOTICE in taken.columns:
        for line in page.values():
            line[NOTICE] = None
        for row_id, signed_on in facts.disclosed_by(db.session(), rows, taken.on).items():
            if signed_on is None:
                del page[row_id]
            else:
                page[row_id][NOTICE] = part2.notice(signed_on)
    return list(page.values())


def _told(value: Any) -> Any:
    if isinstance(value, datetime):
        return write_instant(value)
    if isinstance(value, time):
        return value.strftime("%H:%M")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, UUID) else value


for _name, (_model, _columns) in KINDS.items():
    _mount(_name, _model, _columns)
