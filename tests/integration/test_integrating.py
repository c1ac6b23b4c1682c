"""What belongs soon after a dose: booked or done in time, or staff have a task and a message."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from models import Message, Task, enter_clinic
from models.vocabulary import MessageKind, Role, TaskKind, TaskStatus
from scheduler import booking, courses, facts, integrating, sessions, steps, tasks
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Move
from scheduler.lifecycle import Action
from scheduler.tasks import Settled
from tests import after
from tests.after import DESK, Course
from tests.factories import MONDAY_9, SUNDAY_NOON, World

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DOSE = MONDAY_9 + DAY
OVER = DOSE + 3 * HOUR
CLINICIAN = Authority("key:doctor", Role.CLINICIAN, None, frozenset({"prescriber"}))


@pytest.fixture
def course(session: Session, world: World, bound: Any) -> Course:
    """A dose that was given on a Tuesday at nine."""
    made = after.open_course(session, world)
    made.walk(made.book("preparation", MONDAY_9, SUNDAY_NOON))
    made.walk(made.book("dosing-1", DOSE, SUNDAY_NOON))
    return made


def told(session: Session) -> list[datetime]:
    query = select(Message.due_at).where(Message.kind == MessageKind.INTEGRATION_UNBOOKED)
    return sorted(session.scalars(query))


def task(session: Session) -> Task | None:
    query = select(Task).where(Task.kind == TaskKind.BOOK_INTEGRATION)
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def is_open(session: Session) -> bool:
    found = task(session)
    return found is not None and found.status is TaskStatus.REQUESTED


class TestNothingBooked:
    def test_staff_hear_once_and_have_a_task_until_the_window_is_over(
        self, session: Session, course: Course
    ) -> None:
        assert integrating.watch(session, OVER - timedelta(minutes=1)) == 0  # still here
        assert integrating.watch(session, OVER) == 1
        assert integrating.watch(session, OVER + HOUR) == 0
        assert told(session) == [OVER]
        found = task(session)
        assert found is not None
        assert (found.patient_id, found.note) == (course.patient_id, "integration-1")
        assert found.due_at == DOSE + 72 * HOUR + timedelta(microseconds=1)

    def test_the_task_ends_by_itself_once_it_is_booked(
        self, session: Session, course: Course
    ) -> None:
        integrating.watch(session, OVER)
        course.book("integration-1", DOSE + 2 * DAY, OVER)
        integrating.watch(session, OVER + HOUR)
        assert not is_open(session)

    def test_who_was_skipped_is_not_missed(self, session: Session, course: Course) -> None:
        integrating.watch(session, OVER)
        step = next(s for s in facts.steps_of(session, course.id) if s.key == "integration-1")
        steps.skip(session, Call(step.id, step.version, "declined"), by=CLINICIAN, now=OVER)
        integrating.watch(session, OVER + HOUR)
        assert not is_open(session)

    def test_a_course_that_has_ended_asks_for_nothing(
        self, session: Session, course: Course
    ) -> None:
        call = Call(course.id, facts.course_of(session, course.id)[0].version, "moves away")
        courses.discontinue(session, call, by=CLINICIAN, now=OVER)
        assert integrating.watch(session, OVER) == 0
        assert task(session) is None

    def test_a_task_that_was_closed_by_hand_stays_closed(
        self, session: Session, course: Course
    ) -> None:
        integrating.watch(session, OVER)
        found = task(session)
        assert found is not None
        done = Settled(TaskStatus.COMPLETED)
        tasks.settle(session, Call(found.id, found.version), done, by=DESK, now=OVER)
        integrating.watch(session, OVER + HOUR)
        assert not is_open(session)

    def test_it_is_never_told_when_it_helps_nobody(self, session: Session, course: Course) -> None:
        assert integrating.watch(session, DOSE + 10 * DAY) == 0
        assert (told(session), is_open(session)) == ([], True)
        assert integrating.watch(session, DOSE + 40 * DAY) == 0


class TestBooked:
    def test_in_time_nobody_hears_a_thing(self, session: Session, course: Course) -> None:
        course.book("integration-1", DOSE + 2 * DAY, OVER)
        assert integrating.watch(session, OVER) == 0
        assert task(session) is None

    @pytest.mark.parametrize("lost", [Action.CANCEL, Action.NOSHOW])
    def test_what_is_lost_later_is_told(
        self, session: Session, course: Course, lost: Action
    ) -> None:
        visit = course.book("integration-1", DOSE + 2 * DAY, OVER)
        integrating.watch(session, OVER)
        later = visit.starts_at + HOUR
        if lost is Action.CANCEL:
            booking.cancel(session, Call(visit.id, None, "ill"), by=DESK, now=OVER)
        else:
            sessions.act(session, Call(visit.id, None), lost, by=DESK, now=later)
        assert integrating.watch(session, later) == 1
        assert is_open(session)

    def test_what_is_lost_twice_is_told_twice(self, session: Session, course: Course) -> None:
        integrating.watch(session, OVER)
        visit = course.book("integration-1", DOSE + 2 * DAY, OVER)
        integrating.watch(session, OVER + HOUR)
        booking.cancel(session, Call(visit.id, None, "ill"), by=DESK, now=OVER + HOUR)
        assert integrating.watch(session, OVER + 2 * HOUR) == 1
        assert len(told(session)) == 2
        assert is_open(session)

    def test_a_time_past_the_window_counts_only_with_a_reason(
        self, session: Session, course: Course
    ) -> None:
        visit = course.book("integration-1", DOSE + 2 * DAY, OVER)
        reasons = Reasons({"integration-1-too-late": "nobody is free before"})
        move = Move(starts_at=DOSE + 6 * DAY, reasons=reasons)
        booking.reschedule(session, Call(visit.id, visit.version), move, by=DESK, now=OVER)
        assert integrating.watch(session, OVER) == 0
        visit.revision += 1  # moved again: that reason is about another time
        session.flush()
        assert integrating.watch(session, OVER + HOUR) == 1

    def test_done_is_done(self, session: Session, course: Course) -> None:
        course.walk(course.book("integration-1", DOSE + 2 * DAY, OVER))
        assert integrating.watch(session, DOSE + 3 * DAY) == 0


def test_a_dose_that_was_not_given_asks_for_nothing(
    session: Session, world: World, bound: Any
) -> None:
    made = after.open_course(session, world)
    made.walk(made.book("preparation", MONDAY_9, SUNDAY_NOON))
    dose = made.book("dosing-1", DOSE, SUNDAY_NOON)
    sessions.act(session, Call(dose.id, None), Action.NOSHOW, by=DESK, now=OVER)
    assert integrating.watch(session, OVER) == 0
    assert task(session) is None


def test_the_workers_role_may_look(worker_engine: Engine, committed_world: World) -> None:
    with Session(worker_engine) as session:
        enter_clinic(session, committed_world.clinic_id)
        assert integrating.watch(session, OVER) == 0
