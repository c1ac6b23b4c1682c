"""Waiting: what a change of a visit means for those who wait, noted in the same transaction.

Time that is given back is noted for the worker to offer; an entry whose step got its visit
ends. Single statements: every booking and cancellation passes here.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where and when a visit takes place, or did before it was moved."""

    visit_id: UUID
    site_id: UUID
    starts_at: datetime
    ends_at: datetime

    @classmethod
    def of(cls, visit: Appointment) -> "Stretch":
        """The time that a visit takes now."""
        return cls(visit.id, visit.site_id, visit.starts_at, visit.ends_at)


def note_freed(session: Session, stretch: Stretch, now: datetime) -> None:
    """Note that a visit gave back its time; what of it is still ahead can be offered.

    Looked at once the act is settled, so that an undo finds the time free.
    """
    if stretch.ends_at > now:
        session.execute(
            _FREED,
            {
                "id": uuid7(),
                "clinic": session.info["clinic_id"],
                "visit": stretch.visit_id,
                "site": stretch.site_id,
                "starts_at": max(stretch.starts_at, now),
                "ends_at": stretch.ends_at,
                "now": now,
            },
        )


def serve(session: Session, visit: Appointment, now: datetime) -> None:
    """End the entry that waited for a visit of this step: it is booked."""
    if visit.course_step_id is not None:
        session.execute(_SERVED, {"step": visit.course_step_id, "now": now})


def serve_earlier(session: Session, visit: Appointment, now: datetime) -> None:
    """End the entry that waited for an earlier time of this visit: it was moved to one."""
    session.execute(_SERVED_EARLIER, {"visit": visit.id, "now": now})


def lapse(session: Session, now: datetime) -> int:
    """End what is over: entries with nothing to wait for, times that passed. Returns how many."""
    ends = (_SERVED_MEANWHILE, _LAPSED, _PASSED)
    return sum(len(session.execute(end, {"now": now}).all()) for end in ends)


def look_again(session: Session, now: datetime) -> None:
    """Let the worker look at all freed times once more: somebody new is waiting."""
    session.execute(_LOOK_AGAIN, {"now": now})


_FREED = text(
    """
    INSERT INTO freed_time (id, appointment_id, site_id, starts_at, ends_at, look_at)
    SELECT :id, :visit, :site, :starts_at, :ends_at,
           CAST(:now AS timestamptz) + make_interval(mins => settle_minutes)
      FROM clinic WHERE clinic_id = :clinic
    """
)

_SERVED = text(
    """
    UPDATE waitlist_entry SET state = 'served', ended_at = :now, version = version + 1
     WHERE course_step_id = :step AND state = 'waiting'
    """
)

_SERVED_EARLIER = text(
    """
    UPDATE waitlist_entry SET state = 'served', ended_at = :now, version = version + 1
     WHERE visit_id = :visit AND state = 'waiting'
    """
)

_SERVED_MEANWHILE = text(
    """
    UPDATE waitlist_entry w SET state = 'served', ended_at = :now, version = w.version + 1
     WHERE w.state = 'waiting' AND w.visit_id IS NULL
       AND EXISTS (SELECT FROM appointment a
                    WHERE a.clinic_id = w.clinic_id AND a.course_step_id = w.course_step_id
                      AND a.status IN ('booked', 'arrived', 'checked-in', 'fulfilled'))
    RETURNING 1
    """
)
"""Somebody joined the list in the moment in which the step was booked."""

_LAPSED = text(
    """
    UPDATE waitlist_entry w SET state = 'lapsed', ended_at = :now, version = w.version + 1
     WHERE w.state = 'waiting'
       AND (w.latest <= :now
            OR EXISTS (SELECT FROM course_step s
                         JOIN course c ON c.clinic_id = s.clinic_id AND c.id = s.course_id
                        WHERE s.clinic_id = w.clinic_id AND s.id = w.course_step_id
                          AND (c.status <> 'active' OR s.skipped_at IS NOT NULL))
            OR EXISTS (SELECT FROM appointment v
                        WHERE v.clinic_id = w.clinic_id AND v.id = w.visit_id
                          AND v.status <> 'booked'))
    RETURNING 1
    """
)

_PASSED = text(
    """
    UPDATE freed_time SET look_at = NULL WHERE look_at IS NOT NULL AND ends_at <= :now RETURNING 1
    """
)

_LOOK_AGAIN = text(
    """
    WITH ahead AS (
        SELECT clinic_id, id FROM freed_time WHERE look_at IS NOT NULL
         ORDER BY id FOR UPDATE  -- one lock order: no deadlock
    )
    UPDATE freed_time f SET look_at = least(f.look_at, :now), version = f.version + 1
      FROM ahead WHERE f.clinic_id = ahead.clinic_id AND f.id = ahead.id
    """
)
