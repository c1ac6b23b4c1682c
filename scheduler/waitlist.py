"""The waitlist: who waits for a time, and what would suit them. See docs/waitlist.md."""

from dataclasses import dataclass, field
from datetime import datetime, time
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import CourseStep, Practitioner, Site, WaitlistEntry
from models.vocabulary import AppointmentStatus, WaitingState
from scheduler import facts, waiting
from scheduler.authority import Authority, Call
from scheduler.errors import StepSkipped, Taken, Unfit, WrongStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A wish to wait for a time for a step of a course."""

    course_step_id: UUID
    weekdays: list[int] = field(default_factory=list)
    """Monday is 0; none: any."""
    begin: time | None = None
    until: time | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    site_id: UUID | None = None
    practitioner_id: UUID | None = None
    standby: bool = False


def join(session: Session, wanted: Wanted, *, by: Authority, now: datetime) -> WaitlistEntry:
    """Put a patient on the waitlist. If the step has a visit already, for an earlier time.

    Refuses with `NotFound`, `CourseClosed`, `StepSkipped`; with `Unfit` if the step's visit has
    begun or there is no time left to wait for; with `Taken` if somebody waits for it already.
    """
    about, visit_id, status = facts.step_to_place(session, wanted.course_step_id)
    if facts.one(session, CourseStep, wanted.course_step_id).skipped_at is not None:
        raise StepSkipped("This step was skipped. Take that back first, to wait for it.")
    if status not in {None, AppointmentStatus.BOOKED}:
        raise Unfit("This step has a visit that is held, or has begun.", field="course_step_id")
    if about.visit.group is not None and visit_id is not None:
        raise Unfit(
            "A place in a group session cannot be moved. Cancel it first, to wait for another.",
            field="course_step_id",
        )
    if wanted.latest is not None and wanted.latest <= now:
        raise Unfit("This is over already.", field="latest")
    if wanted.site_id is not None:
        facts.one(session, Site, wanted.site_id)
    if wanted.practitioner_id is not None:
        facts.one(session, Practitioner, wanted.practitioner_id)
    if facts.is_waiting(session, wanted.course_step_id):
        raise Taken("Somebody waits for a time for this step already.", field="course_step_id")
    entry = WaitlistEntry(
        id=uuid7(),
        patient_id=about.patient.id,
        visit_id=visit_id,
        waiting_since=now,
        state=WaitingState.WAITING,
        asked_by=by.name,
        version=1,
        **{name: getattr(wanted, name) for name in Wanted.__dataclass_fields__},
    )
    session.add(entry)
    session.flush()
    waiting.look_again(session, now)
    return entry


def leave(session: Session, call: Call, *, now: datetime) -> WaitlistEntry:
    """Take a patient off the waitlist; an offer that stands ends soon after.

    Refuses with `WrongStatus` if the entry has ended already.
    """
    entry = facts.to_change(session, WaitlistEntry, call.id, call.version)
    if entry.state is not WaitingState.WAITING:
        raise WrongStatus("This entry of the waitlist has ended already.", state=entry.state)
    entry.state, entry.ended_at = WaitingState.WITHDRAWN, now
    entry.version += 1
    session.flush()
    return entry
