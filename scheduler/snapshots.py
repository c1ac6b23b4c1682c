"""Snapshots: how a visit's gates stood two days before it began, noted when it was so far.

Readiness is worked out and never stored. What it was at an instant that has passed cannot be
worked out any more: clearances end, checklists are ticked, visits are moved. So a job looks at
every booked visit once, 48 hours ahead, and writes down what was open. Nothing is decided by it.

Functions here flush and never commit.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment
from models.vocabulary import Stage
from scheduler import evidence, facts
from scheduler.apart import apart

AHEAD = timedelta(hours=48)
"""Elapsed time, whatever the clocks on the wall do meanwhile."""


def take(session: Session, now: datetime) -> int:
    """Note how every visit stands that has come within two days. Returns how many were noted.

    Those that were booked or moved to their time later than that are left out: two days before
    they did not stand there.
    """
    told = {"now": now, "until": now + AHEAD, "ahead": AHEAD}
    ids = session.execute(_DUE, told).scalars().all()
    visits = facts.visits_named(session, ids)
    return apart(session, "note-readiness", visits, partial(_take, session, now))


def _take(session: Session, now: datetime, visits: Sequence[Appointment]) -> int:
    judged = evidence.judge(session, visits, now)
    rows = []
    for visit in visits:
        arrival = [one.gate.code for one in judged[visit.id].shut(Stage.ARRIVAL)]
        dose = [one.gate.code for one in judged[visit.id].shut(Stage.DOSE)]
        rows.append(
            {
                "id": uuid7(),
                "appointment": visit.id,
                "revision": visit.revision,
                "site": visit.site_id,
                "starts_at": visit.starts_at,
                "now": now,
                "arrival": arrival,
                "dose": [code for code in dose if code not in arrival],
            }
        )
    session.execute(_NOTE, rows)
    return len(rows)


_DUE = text(
    """
    SELECT a.id FROM appointment a
     WHERE a.status = 'booked' AND a.starts_at > :now AND a.starts_at <= :until
       AND NOT EXISTS (SELECT FROM readiness_snapshot s
                        WHERE s.appointment_id = a.id AND s.revision = a.revision)
       AND NOT EXISTS (SELECT FROM appointment_event e
                        WHERE e.appointment_id = a.id AND e.at > a.starts_at - :ahead
                          AND e.to_status = 'booked'
                          AND (e.action = 'reschedule' OR e.from_status IS DISTINCT FROM 'booked'))
     ORDER BY a.starts_at, a.id LIMIT 500
    """
)

_NOTE = text(
    """
    INSERT INTO readiness_snapshot (id, appointment_id, revision, site_id, starts_at, taken_at,
                                    before_arrival, before_dose)
    VALUES (:id, :appointment, :revision, :site, :starts_at, :now,
            CAST(:arrival AS text[]), CAST(:dose AS text[]))
    ON CONFLICT (clinic_id, appointment_id, revision) DO NOTHING
    """
)
