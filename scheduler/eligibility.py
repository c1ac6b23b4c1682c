"""Eligibility: whether a course goes on to its doses, decided by whom the protocol names.

A decision stands until the next. One that names a day, because it is deferred until then or to be
looked at again, is a task and a message to the patient on that day, from the row of the decision
itself: replaced before, it never comes due. Functions here flush and never commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Course, Eligibility, Patient
from models.vocabulary import (
    EligibilityOutcome,
    MessageKind,
    Owner,
    PractitionerRole,
    Recipient,
    TaskKind,
)
from notifications import outbox
from notifications.outbox import Notice
from notifications.wall_time import at_wall_time
from scheduler import calendars, facts, reopening, tasks
from scheduler.apart import apart
from scheduler.authority import Authority
from scheduler.errors import Unfit
from scheduler.protocols import SettledBy
from scheduler.tasks import Wanted

REMIND_AT = time(9, 0)
"""At the clinic's wall time."""
USEFUL = timedelta(days=7)
"""For how long it is of use to a patient to hear that it is time to talk again."""
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEligibility:
    """What somebody decided about a course."""

    outcome: EligibilityOutcome
    reason: str | None = None
    conditions: str | None = None
    deferred_until: date | None = None
    rescreen_on: date | None = None

    @property
    def remind_on(self) -> date | None:
        """The day on which somebody looks again: of the re-screening, or else when it ends."""
        return self.rescreen_on or self.deferred_until


def decide(
    session: Session, course_id: UUID, new: NewEligibility, *, by: Authority, now: datetime
) -> Eligibility:
    """Decide whether a course goes on to its doses. What was to come of an earlier decision is off.

    Also of a course that is over: what was decided about it still judges the patient's visits
    outside any. Refuses with `NotFound`, with `MayNotOverride` whoever the protocol does not let
    decide, and with `Unfit` for what does not go together or a day that is not ahead.
    """
    course = facts.to_change(session, Course, course_id, None)
    _lock(session, course.id)
    _refuse_unless_theirs(session, course, by)
    zone = ZoneInfo(facts.clinic(session).time_zone)
    _refuse_unfit(new, now.astimezone(zone).date())
    ahead = facts.booked_ahead(session, course.patient_id, now)
    before = reopening.settled(session, ahead, now)
    earlier = facts.latest_eligibility(session, course.id)
    decision = _decision(course, new, zone, by, now)
    session.add(decision)
    session.flush()
    if earlier is not None:
        _withdraw(session, earlier.id, now)
    reopening.tell(session, ahead, before, now)
    return decision


def _refuse_unless_theirs(session: Session, course: Course, by: Authority) -> None:
    protocol = facts.protocol(session, course.protocol_version_id)
    named = [
        gate.who
        for visit in protocol.visits.values()
        for gate in visit.gates
        if gate.settled_by is SettledBy.ELIGIBILITY
    ]
    for who in named or [(PractitionerRole.PRESCRIBER,)]:
        by.refuse_to_settle(who, "eligibility")


def _refuse_unfit(new: NewEligibility, today: date) -> None:
    if new.reason is None and new.outcome is not EligibilityOutcome.ELIGIBLE:
        raise Unfit("Say why, in `reason`.", field="reason")
    with_conditions = new.outcome is EligibilityOutcome.ELIGIBLE_WITH_CONDITIONS
    if with_conditions != (new.conditions is not None):
        detail = "Conditions belong to eligible-with-conditions, and only to that."
        raise Unfit(detail, field="conditions")
    is_deferred = new.outcome is EligibilityOutcome.DEFERRED
    if is_deferred != (new.deferred_until is not None):
        detail = "A day until when belongs to deferred, and only to that."
        raise Unfit(detail, field="deferred_until")
    for name in ("deferred_until", "rescreen_on"):
        day: date | None = getattr(new, name)
        if day is not None and day <= today:
            raise Unfit("Name a day that is still ahead.", field=name)


def _decision(
    course: Course, new: NewEligibility, zone: ZoneInfo, by: Authority, now: datetime
) -> Eligibility:
    on = new.remind_on
    lapses_on = None if new.rescreen_on is None else new.rescreen_on + DAY
    return Eligibility(
        id=uuid7(),
        course_id=course.id,
        patient_id=course.patient_id,
        outcome=new.outcome,
        reason=new.reason,
        conditions=new.conditions,
        deferred_until=new.deferred_until,
        rescreen_on=new.rescreen_on,
        remind_at=on and at_wall_time(datetime.combine(on, REMIND_AT), zone),
        lapses_at=lapses_on and at_wall_time(datetime.combine(lapses_on, time(0)), zone),
        decided_by=by.name,
        decided_at=now,
    )


def remind(session: Session, now: datetime) -> int:
    """Have people look again at what was decided until today. Returns how many are new.

    Each once. A task whose decision was replaced, or whose course is over, ends by itself.
    """
    told = apart(
        session, "look-again", facts.looked_at_again(session, now), partial(_remind, session, now)
    )
    for decision_id in facts.rescreenings_over(session):
        _withdraw(session, decision_id, now)
    return told


def _remind(session: Session, now: datetime, decisions: Sequence[Eligibility]) -> int:
    told = 0
    for due in decisions:
        _lock(session, due.course_id)  # a new decision waits, or was first
        if facts.still_decides(session, due.id):
            _ask(session, due)
            _tell(session, due, now)
            told += 1
    return told


def _ask(session: Session, due: Eligibility) -> None:
    assert due.remind_at is not None
    tasks.ask(
        session,
        Wanted(
            kind=TaskKind.RESCREEN,
            subject_id=due.id,
            due_at=due.remind_at,
            owner=Owner.CLINICIAN,
            patient_id=due.patient_id,
        ),
    )


def _tell(session: Session, due: Eligibility, now: datetime) -> None:
    assert due.remind_at is not None
    patient = facts.one(session, Patient, due.patient_id)
    channel = facts.channel_of(patient, facts.clinic(session))
    if channel is None:
        return  # the task is there
    outbox.notify(
        session,
        Notice(
            kind=MessageKind.TALK_AGAIN,
            recipient=Recipient.PATIENT,
            recipient_id=patient.id,
            subject_id=due.id,
            occasion="talk-again",
            due_at=due.remind_at,
            not_after=due.remind_at + USEFUL,
            channel=channel,
        ),
        now,
    )


def _lock(session: Session, course_id: UUID) -> None:
    """Let one at a time decide about a course, or remind of it: the worker locks no course."""
    calendars.lock_name(session, f"eligibility of {course_id}")


def _withdraw(session: Session, decision_id: UUID, now: datetime) -> None:
    """Take back what came of a decision, as far as it was not done or said yet."""
    wanted = Wanted(kind=TaskKind.RESCREEN, subject_id=decision_id, due_at=now)
    tasks.keep(session, wanted, now, stands=False)
    outbox.take_back(session, decision_id, now)
