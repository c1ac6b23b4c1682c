"""Steps of a course: skip one, take that back, say how one ended; and see when all are done.

Functions here flush and never commit. Each locks the course first: what is decided about its
steps, and the booking of one, happen one after the other.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from models import Course, CourseStep
from models.vocabulary import AppointmentStatus, CourseStatus, Owner, TaskKind
from scheduler import facts, reopening, rules, tasks
from scheduler.authority import Authority, Call
from scheduler.errors import CourseClosed, StepAlreadyBooked, TooEarly, Unfit
from scheduler.protocols import Protocol
from scheduler.tasks import Wanted

SOON = timedelta(days=2)
"""By when what stands out in a course is to be looked at."""


def skip(session: Session, call: Call, *, by: Authority, now: datetime) -> CourseStep:
    """Leave out a step of a course, for a reason. Skipped already, nothing changes.

    `call` names the step. What later steps count from is the time of its last visit, if it had
    one. Refuses with `NotFound`, `Stale`, `CourseClosed`, and with `StepAlreadyBooked` while a
    visit of it stands.
    """
    course, step = _to_change(session, call)
    if step.id in facts.steps_with(session, course.id, rules.STANDING):
        raise StepAlreadyBooked("This step has a visit. Cancel it first, to skip the step.")
    if step.skipped_at is None:
        step.planned_at = facts.last_time_of(session, step.id) or step.planned_at
        step.skipped_at, step.skipped_by, step.skip_reason = now, by.name, call.reason
        _keep(session, course, step, now)
    return step


def unskip(session: Session, call: Call, *, now: datetime) -> CourseStep:
    """Ask for a skipped step after all. Not skipped, nothing changes.

    Refuses with `NotFound`, `Stale` and `CourseClosed`.
    """
    course, step = _to_change(session, call)
    if step.skipped_at is not None:
        with reopening.told_after(session, course.patient_id, now):
            step.skipped_at = step.skipped_by = step.skip_reason = None
            _keep(session, course, step, now)
    return step


def conclude(
    session: Session, call: Call, outcome: str, *, by: Authority, now: datetime
) -> CourseStep:
    """Say how a step ended, which decides the branches after it. May be corrected.

    Refuses with `NotFound`, `Stale` and `CourseClosed`; with `Unfit` for an outcome that the
    protocol does not list; with `TooEarly` before the visit is fulfilled; and with
    `StepAlreadyBooked` where a visit stands that would not be part of the course any more.
    """
    course, step = _to_change(session, call)
    protocol = facts.protocol(session, course.protocol_version_id)
    listed = protocol.step(step.key).outcomes
    if outcome not in listed:
        raise Unfit("The protocol lists no such outcome.", field="outcome", outcomes=list(listed))
    if step.id not in facts.steps_with(session, course.id, [AppointmentStatus.FULFILLED]):
        raise TooEarly("A step has an outcome once its visit is fulfilled.")
    with reopening.told_after(session, course.patient_id, now):  # other steps may belong by it
        step.outcome, step.outcome_by, step.outcome_at = outcome, by.name, now
        session.flush()
        _refuse_cut_off(session, course, protocol)
        _keep(session, course, step, now)
    return step


def course_in_hand(session: Session, appointment_id: UUID) -> Course | None:
    """Lock the course of a visit that is about to be fulfilled. None: it belongs to none."""
    course_id = facts.course_of_visit(session, appointment_id)
    return None if course_id is None else facts.to_change(session, Course, course_id, None)


def settle(session: Session, course: Course, now: datetime) -> None:
    """Complete a course when every step that belongs to it is fulfilled or skipped.

    A step that is asked for again, by a correction, opens it again. What a clinician should look
    at in it is a task as long as it stands.
    """
    if course.status is CourseStatus.REVOKED:
        return
    wanted = Wanted(
        kind=TaskKind.ONLY_DOSES,
        subject_id=course.id,
        due_at=now + SOON,
        owner=Owner.CLINICIAN,
        patient_id=course.patient_id,
    )
    tasks.keep(session, wanted, now, stands=bool(flags(session, course)))
    protocol = facts.protocol(session, course.protocol_version_id)
    steps = facts.steps_of(session, course.id)
    done = facts.steps_with(session, course.id, [AppointmentStatus.FULFILLED])
    part = belonging(protocol, steps)
    is_left = any(
        step.id not in done and step.skipped_at is None and part[step.key] is not False
        for step in steps
    )
    status = CourseStatus.ACTIVE if is_left else CourseStatus.COMPLETED
    if course.status is not status:
        course.status = status
        course.version += 1
    session.flush()


def flags(session: Session, course: Course) -> list[dict[str, str]]:
    """What a clinician should look at in a course: each a code, and what it means."""
    most = facts.protocol(session, course.protocol_version_id).doses_alone
    in_a_row = rules.doses_in_a_row(facts.kinds_done(session, course.id))
    if most is None or in_a_row < most or course.status is CourseStatus.REVOKED:
        return []
    detail = f"{in_a_row} doses in a row, and nothing but doses since."
    return [{"code": TaskKind.ONLY_DOSES.value, "detail": detail}]


def reopen(session: Session, course: Course, step_id: UUID, now: datetime) -> None:
    """Ask for a step again whose visit never was: what came of it never did."""
    step = facts.to_change(session, CourseStep, step_id, None)
    if step.id not in facts.steps_with(session, course.id, [AppointmentStatus.FULFILLED]):
        step.outcome = step.outcome_by = step.outcome_at = None
        _keep(session, course, step, now)


def belonging(protocol: Protocol, steps: Sequence[CourseStep]) -> dict[str, bool | None]:
    """For each step whether it is part of the course; None: not decided yet."""
    outcomes = {step.key: step.outcome for step in steps if step.outcome is not None}
    skipped = {step.key for step in steps if step.skipped_at is not None}
    return {
        step.key: rules.belongs(protocol.step(step.key), protocol, outcomes, skipped)
        for step in steps
    }


def _to_change(session: Session, call: Call) -> tuple[Course, CourseStep]:
    course_id = facts.one(session, CourseStep, call.id).course_id
    course = facts.to_change(session, Course, course_id, None)
    step = facts.to_change(session, CourseStep, call.id, call.version)
    if course.status is CourseStatus.REVOKED:
        raise CourseClosed("The course was discontinued.", course_status=course.status)
    return course, step


def _refuse_cut_off(session: Session, course: Course, protocol: Protocol) -> None:
    steps = facts.steps_of(session, course.id)
    standing = facts.steps_with(session, course.id, rules.STANDING)
    part = belonging(protocol, steps)
    cut_off = [step.key for step in steps if step.id in standing and part[step.key] is False]
    if cut_off:
        raise StepAlreadyBooked(
            "Visits stand that would not be part of the course any more. Cancel them first.",
            steps=cut_off,
        )


def _keep(session: Session, course: Course, step: CourseStep, now: datetime) -> None:
    step.version += 1
    session.flush()
    settle(session, course, now)
