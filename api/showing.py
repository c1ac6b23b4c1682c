"""Showing visits: rows of the database as the documents that callers rely on."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields
from sqlalchemy import func, select

from api.fields import Id, Instant, write_id, write_instant
from models import SERVES, Appointment, Schedule, Site, Slot, db
from models.vocabulary import ActorKind, AppointmentStatus, Progress, SlotStatus, StepKind
from scheduler.actors import Assignment, Opening


class AssignmentSchema(Schema):
    """One actor and the part of the visit it serves."""

    role = fields.String(metadata={"description": "A practitioner role, `room` or `device`."})
    schedule_id = Id()
    name = fields.String()
    starts_at = Instant(data_key="from")
    ends_at = Instant(data_key="to")


class AppointmentSchema(Schema):
    """A visit as callers see it. Instants in UTC; the zone is the site's, by name."""

    id = Id()
    status = fields.Enum(AppointmentStatus, by_value=True)
    kind = fields.Enum(StepKind, by_value=True)
    patient_id = Id()
    course_id = Id(allow_none=True)
    course_step_id = Id(allow_none=True)
    site_id = Id()
    starts_at = Instant()
    ends_at = Instant()
    time_zone = fields.String()
    assignments = fields.List(fields.Nested(AssignmentSchema))
    confirmed_at = Instant(allow_none=True)
    move_requested_at = Instant(allow_none=True)
    suspended_at = Instant(
        allow_none=True,
        metadata={"description": "Since when it does not go ahead: it was not ready in time."},
    )
    held_until = Instant(allow_none=True)
    progress = fields.Enum(Progress, by_value=True, allow_none=True)
    revision = fields.Integer()
    group_session_id = Id(allow_none=True)
    place = fields.Integer(allow_none=True)


class OpeningSchema(Schema):
    """A time at which the visit could be booked, and on whose time."""

    starts_at = Instant()
    ends_at = Instant()
    site_id = Id()
    time_zone = fields.String()
    assignments = fields.List(fields.Nested(AssignmentSchema))
    by_phone = fields.Boolean(
        metadata={
            "description": "Nearer than the visit's notice: to be asked for by phone. Booking it "
            "takes a reason for `short-notice`."
        }
    )
    group_session_id = Id(
        allow_none=True,
        metadata={
            "description": "Of a visit that several patients share: the session in which it is a "
            "place, to be taken at /group-sessions/{id}/places."
        },
    )
    free = fields.Integer(
        allow_none=True, metadata={"description": "How many places of that session are free."}
    )


def appointment(row: Appointment) -> dict[str, Any]:
    """One visit, ready to be written."""
    return appointments([row])[0]


def appointments(rows: Sequence[Appointment]) -> list[dict[str, Any]]:
    """Visits, ready to be written; two queries however many they are."""
    taken = _assignments([row.id for row in rows])
    zones = _zones({row.site_id for row in rows})
    names = set(AppointmentSchema._declared_fields) - {"assignments", "time_zone"}
    return [
        {
            **{name: getattr(row, name) for name in names},
            "assignments": taken[row.id],
            "time_zone": zones[row.site_id],
        }
        for row in rows
    ]


def written(rows: Sequence[Appointment]) -> dict[UUID, dict[str, Any]]:
    """Visits by id as AppointmentSchema has them, written out here: a board holds a thousand."""
    taken = _assignments([row.id for row in rows])
    zones = _zones({row.site_id for row in rows})
    return {row.id: _written(row, taken[row.id], zones[row.site_id]) for row in rows}


def _written(row: Appointment, taken: Sequence[dict[str, Any]], zone: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name in _NAMES:
        if name == "assignments":
            told[name] = [
                {
                    "role": one["role"],
                    "schedule_id": write_id(one["schedule_id"]),
                    "name": one["name"],
                    "from": write_instant(one["starts_at"]),
                    "to": write_instant(one["ends_at"]),
                }
                for one in taken
            ]
        else:
            value = zone if name == "time_zone" else getattr(row, name)
            is_instant = isinstance(value, datetime)
            told[name] = write_instant(value) if is_instant else value
    return told


_NAMES = tuple(AppointmentSchema._declared_fields)


def opening(found: Opening) -> dict[str, Any]:
    """An opening as OpeningSchema has it, written out here: a page holds hundreds of these."""
    return {
        "starts_at": write_instant(found.starts_at),
        "ends_at": write_instant(found.ends_at),
        "site_id": write_id(found.site.site_id),
        "time_zone": found.site.zone.key,
        "assignments": [_assignment(one) for one in found.assignments],
        "by_phone": found.by_phone,
        "group_session_id": found.group_session_id and write_id(found.group_session_id),
        "free": found.free,
    }


def _assignment(one: Assignment) -> dict[str, Any]:
    return {
        "role": one.role,
        "schedule_id": write_id(one.actor.schedule_id),
        "name": one.actor.name,
        "from": write_instant(one.starts_at),
        "to": write_instant(one.ends_at),
    }


def _assignments(ids: Sequence[UUID]) -> dict[UUID, list[dict[str, Any]]]:
    """Who serves each visit, once however many lanes they take; turnover left out."""
    rows = db.session.execute(
        select(
            Appointment.id,
            Slot.role,
            Slot.schedule_id,
            Schedule.name,
            Slot.starts_at,
            func.max(Slot.ends_at).label("ends_at"),
        )
        .join(Schedule, (Schedule.clinic_id == Slot.clinic_id) & (Schedule.id == Slot.schedule_id))
        .join(Appointment, SERVES)
        .where(
            Appointment.id.in_(ids),
            Slot.status != SlotStatus.BUSY_UNAVAILABLE,
            Slot.role != ActorKind.PATIENT,
        )
        .group_by(Appointment.id, Slot.role, Slot.schedule_id, Schedule.name, Slot.starts_at)
        .order_by(Slot.starts_at, Slot.role, Schedule.name)
    )
    found: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        told = row._asdict()
        found[told.pop("id")].append(told)
    return found


def _zones(site_ids: Iterable[UUID]) -> dict[UUID, str]:
    rows = db.session.execute(select(Site.id, Site.time_zone).where(Site.id.in_(site_ids)))
    return dict(rows.all())
