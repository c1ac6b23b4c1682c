"""Slots: write the time that a visit takes, and give it back. Called by booking alone."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, GroupSession
from models.vocabulary import ActorKind, AppointmentStatus, SlotStatus
from scheduler.actors import Assignment
from scheduler.placing import Placement, Wish


class _Row(NamedTuple):
    """One slot. Sorts by schedule and lane, the order in which they are written."""

    schedule_id: UUID
    lane: int
    starts_at: datetime
    ends_at: datetime
    role: str
    status: str


def put(session: Session, appointment: Appointment, wish: Wish, placement: Placement) -> None:
    """Take the time on every schedule of the placement, and on the patient's.

    In place of what a moved visit took before. PostgreSQL refuses if any of it is taken.
    """
    if wish.moving is not None:
        free(session, appointment.id)
    held = appointment.status in {AppointmentStatus.PENDING, AppointmentStatus.PROPOSED}
    busy = SlotStatus.BUSY_TENTATIVE if held else SlotStatus.BUSY
    assert wish.patient_schedule_id is not None
    patient = _Row(
        wish.patient_schedule_id,
        0,
        appointment.starts_at,
        appointment.ends_at,
        ActorKind.PATIENT.value,
        busy.value,
    )
    rows = [patient]
    for assignment in placement.assignments:
        rows += _of(assignment, busy)
    _insert(session, rows, appointment=appointment.id)


def put_group(session: Session, group: GroupSession, placement: Placement) -> None:
    """Take the time of a group session's staff and room, in place of what it took before."""
    free_group(session, group.id)
    rows = [row for one in placement.assignments for row in _of(one, SlotStatus.BUSY)]
    _insert(session, rows, group=group.id)


def free_group(session: Session, group_session_id: UUID) -> None:
    """Give back what a group session takes; its places are visits of their own."""
    session.execute(_FREE_GROUP, {"group": group_session_id})


def free(session: Session, appointment_id: UUID) -> None:
    """Give back everything that the visit takes."""
    session.execute(_FREE, {"appointment": appointment_id})


def make_firm(session: Session, appointment_id: UUID) -> None:
    """Turn the tentative slots of a hold into busy ones."""
    session.execute(_MAKE_FIRM, {"appointment": appointment_id})


def _insert(
    session: Session,
    rows: Iterable[_Row],
    *,
    appointment: UUID | None = None,
    group: UUID | None = None,
) -> None:
    ordered = sorted(rows)
    columns = zip(*ordered, strict=True)
    session.execute(
        _INSERT,
        {
            "ids": [uuid7() for _ in ordered],
            "appointment": appointment,
            "group": group,
            **dict(zip(_Row._fields, map(list, columns), strict=True)),
        },
    )


def _of(assignment: Assignment, busy: SlotStatus) -> list[_Row]:
    """A slot on each lane, one more for making ready before it and for the turnover after it."""
    one, beside = assignment, SlotStatus.BUSY_UNAVAILABLE
    parts = (
        (one.since, one.starts_at, beside),
        (one.starts_at, one.ends_at, busy),
        (one.ends_at, one.until, beside),
    )
    return [
        _Row(one.actor.schedule_id, lane, start, end, one.role, status.value)
        for lane in one.lanes
        for start, end, status in parts
        if start < end
    ]


_INSERT = text(
    """
    INSERT INTO slot (id, schedule_id, lane, appointment_id, group_session_id, role, status,
                      starts_at, ends_at, during)
    SELECT row.id, row.schedule_id, row.lane, CAST(:appointment AS uuid), CAST(:group AS uuid),
           row.role, row.status, row.starts_at, row.ends_at,
           tstzrange(row.starts_at, row.ends_at, '[)')
      FROM unnest(CAST(:ids AS uuid[]), CAST(:schedule_id AS uuid[]), CAST(:lane AS integer[]),
                  CAST(:starts_at AS timestamptz[]), CAST(:ends_at AS timestamptz[]),
                  CAST(:role AS text[]), CAST(:status AS text[]))
           AS row (id, schedule_id, lane, starts_at, ends_at, role, status)
    """
)
"""All slots in one statement, in the order of their schedules."""

_FREE = text("DELETE FROM slot WHERE appointment_id = :appointment")

_FREE_GROUP = text("DELETE FROM slot WHERE group_session_id = :group")

_MAKE_FIRM = text(
    "UPDATE slot SET status = 'busy' "
    "WHERE appointment_id = :appointment AND status = 'busy-tentative'"
)
