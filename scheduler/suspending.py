"""Suspending: a visit that is not ready when its protocol asks for it does not go ahead.

It keeps its time, and nothing is cancelled: people are told and decide. Nothing that says it
takes place is said meanwhile. Once what was open is settled it goes ahead by itself.

Functions here flush and never commit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session

from models import Appointment
from models.vocabulary import (
    AppointmentStatus,
    MessageKind,
    Owner,
    Stage,
    TaskKind,
)
from notifications import outbox
from notifications.cadence import Timing, resolve
from scheduler import evidence, facts, history, tasks, telling
from scheduler.apart import apart
from scheduler.authority import Authority
from scheduler.history import Happened
from scheduler.readiness import Judged
from scheduler.tasks import Wanted
from scheduler.telling import Reader, Said

JOB = Authority("job:suspending")
AHEAD = timedelta(days=9)
"""A protocol may ask for readiness a week ahead; the rest is for zones."""


def review(session: Session, now: datetime) -> int:
    """Suspend what is not ready in time, and let go ahead what has become so. Returns how many."""
    booked = facts.booked_soon(session, now, AHEAD)
    visits, zones = [visit for visit, _ in booked], {visit.id: zone for visit, zone in booked}
    changed = apart(session, "suspend-unready", visits, partial(_review, session, zones, now))
    session.execute(_SETTLE_TASKS, {"now": now})
    return changed + _ask_again(session, now)


def _ask_again(session: Session, now: datetime) -> int:
    """Ask what becomes of suspended visits whose time is over, as long as nobody decides.

    Nobody comes late to them, and no job says that the patient did not come. Returns how many.
    """
    over = facts.suspended_and_over(session, now)
    for visit in over:
        tasks.keep(session, _to_decide(visit, due_at=now, note=OVER), now, stands=True)
    return len(over)


OVER = "Its time is over. Move it, cancel it, or note that the patient did not come."
"""What is said of a suspended visit that is over."""


def resume(
    session: Session, visit: Appointment, now: datetime, *, by: Authority, is_here: bool = False
) -> None:
    """Let a visit go ahead that was suspended; whoever heard of the one hears of the other.

    `is_here`: the patient has come. Nobody need tell them, but those of the team who are not at
    the door were told last that the visit stands still.
    """
    before = history.state_of(visit)
    visit.suspended_at = None
    visit.version += 1
    session.flush()
    history.record(session, visit, Happened(action="resume", before=before), by, now)
    outbox.supersede(session, visit.id, now, kind=MessageKind.VISIT_SUSPENDED)
    heard = outbox.heard_last(session, visit.id, *_EITHER)
    readers = _staff(session, visit) if is_here else _everybody(session, visit)
    readers = [one for one in readers if heard.get(one[1]) is MessageKind.VISIT_SUSPENDED]
    said = _said(visit, MessageKind.VISIT_RESUMED, now)
    if is_here:
        said = replace(said, not_after=visit.ends_at)
    telling.tell(session, visit, said, readers, now)


_EITHER = (MessageKind.VISIT_SUSPENDED, MessageKind.VISIT_RESUMED)


def _review(
    session: Session, zones: Mapping[UUID, str], now: datetime, visits: Sequence[Appointment]
) -> int:
    asked = [one for one in visits if _may_change(session, one, ZoneInfo(zones[one.id]), now)]
    judged = evidence.judge(session, asked, now)
    return sum(
        _change(session, visit.id, ZoneInfo(zones[visit.id]), now)
        for visit in asked
        if bool(judged[visit.id].shut(Stage.ARRIVAL)) != (visit.suspended_at is not None)
    )


def _may_change(session: Session, visit: Appointment, zone: ZoneInfo, now: datetime) -> bool:
    """Whether it is suspended, or the time has come at which it must be ready."""
    asked = facts.protocol(session, visit.protocol_version_id).visits[visit.visit].suspend
    if visit.suspended_at is not None or asked is None:
        return visit.suspended_at is not None
    timing = Timing(visit.starts_at, visit.ends_at, zone, said_at=now)
    return resolve(asked, timing) <= now


def _change(session: Session, visit_id: UUID, zone: ZoneInfo, now: datetime) -> bool:
    """Look once more under the lock: the visit may have been moved, or settled, since."""
    visit = facts.to_change(session, Appointment, visit_id, None)
    if visit.status is not AppointmentStatus.BOOKED or not _may_change(session, visit, zone, now):
        return False
    shut = evidence.judge(session, [visit], now)[visit.id].shut(Stage.ARRIVAL)
    if bool(shut) == (visit.suspended_at is not None):
        return False
    if shut:
        _suspend(session, visit, shut, now)
    else:
        resume(session, visit, now, by=JOB)
    return True


def _suspend(session: Session, visit: Appointment, shut: Sequence[Judged], now: datetime) -> None:
    before = history.state_of(visit)
    visit.suspended_at = now
    visit.version += 1
    session.flush()
    told = {"open": [one.gate.code for one in shut]}
    history.record(session, visit, Happened(action="suspend", before=before, facts=told), JOB, now)
    tasks.keep(session, _to_decide(visit, due_at=visit.starts_at), now, stands=True)
    outbox.supersede(session, visit.id, now, kind=MessageKind.VISIT_RESUMED)
    # Staff may have booked it a moment ago and be about to give their reasons.
    settled_at = now + timedelta(minutes=facts.clinic(session).settle_minutes)
    said = _said(visit, MessageKind.VISIT_SUSPENDED, settled_at)
    telling.tell(session, visit, said, _everybody(session, visit), now)


def _to_decide(visit: Appointment, *, due_at: datetime, note: str | None = None) -> Wanted:
    return Wanted(
        kind=TaskKind.DECIDE_VISIT,
        subject_id=visit.id,
        due_at=due_at,
        owner=Owner.FRONT_DESK,
        urgent=True,
        patient_id=visit.patient_id,
        appointment_id=visit.id,
        note=note,
    )


def _everybody(session: Session, visit: Appointment) -> list[Reader]:
    return _staff(session, visit) + telling.patient(session, visit)


def _staff(session: Session, visit: Appointment) -> list[Reader]:
    return telling.desk(session) + telling.team(session, visit)


def _said(visit: Appointment, kind: MessageKind, due_at: datetime) -> Said:
    return Said(
        kind=kind,
        occasion=f"{kind}:{visit.version}",
        due_at=due_at,
        not_after=telling.in_time(visit, due_at),
    )


_SETTLE_TASKS = text(
    """
    UPDATE task t SET status = 'completed', settled_by = 'job:suspending', settled_at = :now,
           version = t.version + 1
     WHERE t.kind = 'decide-visit' AND t.status = 'requested'
       AND NOT EXISTS (SELECT FROM appointment a
                        WHERE a.clinic_id = t.clinic_id AND a.id = t.subject_id
                          AND a.status = 'booked' AND a.suspended_at IS NOT NULL)
    """
)
