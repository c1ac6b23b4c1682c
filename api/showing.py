"""Showing visits: rows of the database as the documents that callers rely on."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import orjson
from marshmallow import Schema, fields, post_dump
from sqlalchemy import Row, Text, cast, select

from api.caller import by
from api.fields import Flag, Id, Instant, write_id, write_instant
from models import Appointment, Site, db
from models.vocabulary import AppointmentStatus, GateState, Progress, StepKind
from scheduler import lines
from scheduler.actors import Assignment, Opening
from scheduler.lines import Served
from scheduler.permissions import Permission
from scheduler.readiness import Judged


class AssignmentSchema(Schema):
    """One actor and the part of the visit it serves."""

    role = fields.String(metadata={"description": "A practitioner role, `room` or `device`."})
    schedule_id = Id()
    name = fields.String()
    starts_at = Instant(data_key="from")
    ends_at = Instant(data_key="to")


Granted = frozenset[Permission]
"""What a reader may do."""


def words_of(one: Judged, granted: Granted) -> str:
    """Why a gate stands as it does, as far as it is the reader's to know.

    Those who treat the patient read names of conditions and medicines, and what was measured;
    who may not read about patients reads nothing about their health, here as elsewhere.
    """
    if Permission.PATIENTS_READ not in granted:
        return _BARE[one.state]
    if granted >= _TREATING and one.named is not None:
        return one.named
    return one.detail


_TREATING = {Permission.SCREENING_READ, Permission.HEALTH_READ}

_BARE = {
    GateState.MET: "Settled.",
    GateState.OPEN: "Not settled yet.",
    GateState.EXPIRED: "Settled once; that does not hold for the visit.",
    GateState.FAILED: "Something speaks against it.",
    GateState.OVERRIDDEN: "Passed over with a reason.",
}


class ReasonedSchema(Schema):
    """What says why, in somebody's own words: they may be about a patient's health."""

    _REASONS = ("reason", "skip_reason")

    @post_dump
    def keep_reasons(self, told: dict[str, Any], **_: object) -> dict[str, Any]:
        """Leave the words out for who may not read about patients."""
        hidden = () if by().may(Permission.PATIENTS_READ) else self._REASONS
        return {name: None if name in hidden else value for name, value in told.items()}


class ClinicalSchema(Schema):
    """What anybody may write down who works here, and part of which takes more to read."""

    _CLINICAL: tuple[str, ...] = ()
    _TAKES = Permission.HEALTH_READ

    @post_dump
    def keep_clinical(self, told: dict[str, Any], **_: object) -> dict[str, Any]:
        """Leave out what is not the reader's to know: that there is something, they see."""
        hidden = () if by().may(self._TAKES) else self._CLINICAL
        return {name: value for name, value in told.items() if name not in hidden}


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
    by_phone = Flag(
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
    served = lines.served(db.session(), [row.id for row in rows])
    zones = _zones({row.site_id for row in rows})
    names = set(AppointmentSchema._declared_fields) - {"assignments", "time_zone"}
    return [
        {
            **{name: getattr(row, name) for name in names},
            "assignments": [one._asdict() for one in served[str(row.id)]],
            "time_zone": zones[row.site_id],
        }
        for row in rows
    ]


def columns() -> list[Any]:
    """What `written` needs of visits, to be selected from them and their sites; keys as text."""
    return [Site.__table__.c.time_zone, *map(_column, _OWN)]


def _column(name: str) -> Any:
    column = Appointment.__table__.c[name]
    return cast(column, Text).label(name) if isinstance(_FIELDS[name], Id) else column


def written(rows: Sequence[Row[Any]], assigned: Iterable[orjson.Fragment]) -> list[dict[str, Any]]:
    """Visits as AppointmentSchema has them, written out here: a board holds a thousand.

    Each row begins with `columns`. Instants are left to the writer of JSON.
    """
    own, names = len(_NAMES), (*_NAMES, "assignments")
    return [
        dict(zip(names, (*row[:own], served), strict=True))
        for row, served in zip(rows, assigned, strict=True)
    ]


def assigned(served: Iterable[Served]) -> orjson.Fragment:
    """Who serves a visit, as AssignmentSchema has it, in JSON."""
    shown = [
        {
            "role": one.role,
            "schedule_id": one.schedule_id,
            "name": one.name,
            "from": one.starts_at,
            "to": one.ends_at,
        }
        for one in served
    ]
    return orjson.Fragment(orjson.dumps(shown, option=orjson.OPT_UTC_Z))


_FIELDS = AppointmentSchema._declared_fields
_OWN = tuple(name for name in _FIELDS if name not in {"assignments", "time_zone"})
_NAMES = ("time_zone", *_OWN)


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


def _zones(site_ids: Iterable[UUID]) -> dict[UUID, str]:
    rows = db.session.execute(select(Site.id, Site.time_zone).where(Site.id.in_(site_ids)))
    return dict(rows.all())
