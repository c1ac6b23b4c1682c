"""Integrating: what belongs soon after a dose is booked or done in time, or staff hear of it.

Which visits hang on a dose, and how soon, is protocol data: integrations with a window from it
that ends. Asked again and again: of one occasion there is one message, and the task ends by
itself once nothing is missing.

The 24 to 72 hours of most protocols are custom, not evidence: this warns, it never blocks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from models import Appointment, Site
from models.vocabulary import AppointmentStatus, MessageKind, TaskKind
from scheduler import facts, rules, tasks, telling
from scheduler.protocols import Step
from scheduler.rules import Booked
from scheduler.tasks import Wanted
from scheduler.telling import Said

LOOKED_AT = timedelta(days=30)
"""For how long after a dose anybody looks."""

USEFUL = timedelta(days=3)
"""For how long after the window it is of use to hear of it."""


LOST = frozenset(
    {
        AppointmentStatus.CANCELLED,
        AppointmentStatus.NOSHOW,
        AppointmentStatus.ENTERED_IN_ERROR,
    }
)


@dataclass(frozen=True, slots=True)
class Missing:
    """What is missing after a dose."""

    steps: Sequence[Step]
    due_at: datetime
    """When the first of their windows is over."""
    occasion: str
    """What was missing, and how many visits for it were lost: told again if another is."""


def watch(session: Session, now: datetime) -> int:
    """Look after every dose of late. Returns how many times staff are told something new."""
    doses = facts.doses_over(session, now - LOOKED_AT, now)
    ids = {dose.course_id for dose in doses if dose.course_id is not None}
    known, going_on = facts.visits_of_courses(session, ids), facts.active_courses(session, ids)
    passed = facts.passed_over(session, [one for visits in known.values() for one in visits])
    told = 0
    for dose in doses:
        assert dose.course_id is not None
        visits = known[dose.course_id]
        found = None
        if dose.course_id in going_on:
            found = _missing(session, dose, visits, {code for one, code in passed if one in visits})
        told += _settle(session, dose, found, now)
    return told


def _missing(
    session: Session, dose: Appointment, visits: Mapping[UUID, Booked], excused: Collection[str]
) -> Missing | None:
    key = visits[dose.id].step
    assert key is not None
    protocol = facts.protocol(session, dose.protocol_version_id)
    zone = ZoneInfo(facts.one(session, Site, dose.site_id).time_zone)
    known = list(visits.values())
    steps = rules.unmet_after(key, protocol, known, zone, excused)
    if not steps:
        return None
    ends = [rules.latest(step, known, zone) for step in steps]
    keys = {step.key for step in steps}
    lost = sum(visit.step in keys and visit.status in LOST for visit in known)
    return Missing(
        steps=steps,
        due_at=min((end for end in ends if end is not None), default=dose.ends_at),
        occasion=f"integration:{'+'.join(sorted(keys))}:{lost}",
    )


def _settle(session: Session, dose: Appointment, missing: Missing | None, now: datetime) -> int:
    """Tell of what is missing, once; end the task when nothing is.

    A task that somebody closed by hand opens again only when something else is lost.
    """
    wanted = Wanted(
        kind=TaskKind.BOOK_INTEGRATION,
        subject_id=dose.id,
        due_at=now if missing is None else missing.due_at,
        patient_id=dose.patient_id,
        appointment_id=dose.id,
        note=None if missing is None else ", ".join(step.key for step in missing.steps),
    )
    if missing is None:
        tasks.keep(session, wanted, now, stands=False)
        return 0
    tasks.ask(session, wanted)
    if now > missing.due_at + USEFUL or not _tell(session, dose, missing, now):
        return 0
    tasks.keep(session, wanted, now, stands=True)
    return 1


def _tell(session: Session, dose: Appointment, missing: Missing, now: datetime) -> bool:
    said = Said(
        kind=MessageKind.INTEGRATION_UNBOOKED,
        occasion=missing.occasion,
        due_at=now,
        not_after=missing.due_at + USEFUL,
    )
    return bool(telling.tell(session, dose, said, telling.desk(session), now))
