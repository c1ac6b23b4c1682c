"""What belongs soon after a dose: booked or done in time, or staff have a task and a message."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from models import Appointment, Message, Task, enter_clinic
from models.vocabulary import MessageKind, MessageState, Role, TaskKind, TaskStatus
from scheduler import booking, courses, facts, integrating, sessions, steps, tasks
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Move
from scheduler.jobs import archive_messages
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from scheduler.tasks import Settled
from tests import after
from tests.after import DESK, Course
from tests.factories import (
    MONDAY_9,
    SUNDAY_NOON,
    World,
    figure,
    make_patient,
    make_protocol,
    make_site,
)
from tests.statements import statements

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DOSE = MONDAY_9 + DAY
OVER = DOSE + 3 * HOUR
CLINICIAN = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))


@pytest.fixture
def course(session: Session, world: World, bound: Any) -> Course:
    """A dose that was given on a Tuesday at nine."""
    return given(after.open_course(session, world))


def given(made: Course, number: int = 0) -> Course:
    """Take a course through its dose: each patient an hour and a day after the one before."""
    made.walk(made.book("preparation", MONDAY_9 + number * HOUR, SUNDAY_NOON))
    made.walk(made.book("dosing-1", DOSE + number * DAY, SUNDAY_NOON))
    return made


@pytest.fixture
def two(session: Session, world: World, bound: Any) -> Course:
    return with_two(session, world)


def with_two(session: Session, world: World) -> Course:
    """The same, where a second integration belongs within nine days after the dose."""
    told = after.content()
    later = {"step": "dosing-1", "most": figure(9, "d"), "severity": "warn", "lift": []}
    told["steps"].insert(3, {"key": "integration-2", "visit": "integration", "after": [later]})
    return given(after.open_course(session, world, told))


def move_out(session: Session, visit: Appointment, days: int, now: datetime) -> None:
    """Let it stand so many days after the dose, and nobody has given a reason for that time."""
    reasons = Reasons({"integration-1-too-late": "nobody is free before"})
    move = Move(starts_at=DOSE + days * DAY, reasons=reasons)
    booking.reschedule(session, Call(visit.id, visit.version), move, by=DESK, now=now)
    visit.revision += 1  # that reason is about another time
    session.flush()


def skip(session: Session, course: Course, key: str, now: datetime) -> Any:
    step = next(s for s in facts.steps_of(session, course.id) if s.key == key)
    return steps.skip(session, Call(step.id, step.version, "declined"), by=CLINICIAN, now=now)


def close(session: Session, now: datetime) -> None:
    found = task(session)
    assert found is not None
    done = Settled(TaskStatus.COMPLETED)
    tasks.settle(session, Call(found.id, found.version), done, by=DESK, now=now)


OF_IT = Message.kind == MessageKind.INTEGRATION_UNBOOKED


def told(session: Session) -> list[datetime]:
    return sorted(session.scalars(select(Message.due_at).where(OF_IT)))


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
        skip(session, course, "integration-1", OVER)
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
        close(session, OVER)
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

    def test_moved_out_of_its_window_it_is_told_anew(
        self, session: Session, course: Course
    ) -> None:
        integrating.watch(session, OVER)
        visit = course.book("integration-1", DOSE + 2 * DAY, OVER)
        for number, days in enumerate((6, 6), start=2):  # and a second time, to the same time
            integrating.watch(session, OVER + number * HOUR)
            assert not is_open(session)
            move_out(session, visit, days, OVER + number * HOUR)
            assert integrating.watch(session, OVER + number * HOUR + MINUTE) == 1
            assert integrating.watch(session, OVER + number * HOUR + 2 * MINUTE) == 0
            assert is_open(session)
            assert len(told(session)) == number
            back = Move(starts_at=DOSE + 2 * DAY)
            booking.reschedule(session, Call(visit.id, None), back, by=DESK, now=OVER + 2 * HOUR)

    def test_moved_out_of_its_window_it_is_told_although_the_task_was_closed_by_hand(
        self, session: Session, course: Course
    ) -> None:
        integrating.watch(session, OVER)
        close(session, OVER)
        visit = course.book("integration-1", DOSE + 2 * DAY, OVER)
        integrating.watch(session, OVER + HOUR)
        move_out(session, visit, 6, OVER + HOUR)
        assert integrating.watch(session, OVER + 2 * HOUR) == 1
        assert is_open(session)

    def test_asked_for_after_all_it_is_told_anew(self, session: Session, course: Course) -> None:
        integrating.watch(session, OVER)
        step = skip(session, course, "integration-1", OVER)
        integrating.watch(session, OVER + HOUR)
        steps.unskip(session, Call(step.id, step.version), now=OVER + HOUR)
        assert integrating.watch(session, OVER + 2 * HOUR) == 1
        assert is_open(session)

    def test_done_is_done(self, session: Session, course: Course) -> None:
        course.walk(course.book("integration-1", DOSE + 2 * DAY, OVER))
        assert integrating.watch(session, DOSE + 3 * DAY) == 0


class TestTwo:
    """Two integrations belong after one dose: it is one task, and one message."""

    def note(self, session: Session) -> str | None:
        found = task(session)
        assert found is not None
        return found.note

    def test_it_is_told_once_and_says_what_is_missing(self, session: Session, two: Course) -> None:
        assert integrating.watch(session, OVER) == 1
        assert self.note(session) == "integration-1, integration-2"
        two.book("integration-1", DOSE + 2 * DAY, OVER)
        assert integrating.watch(session, OVER + HOUR) == 0
        assert self.note(session) == "integration-2"
        two.book("integration-2", DOSE + 3 * DAY, OVER)
        assert integrating.watch(session, OVER + 2 * HOUR) == 0
        assert (is_open(session), len(told(session))) == (False, 1)

    def test_what_comes_to_be_missing_beside_the_other_is_told(
        self, session: Session, two: Course
    ) -> None:
        visit = two.book("integration-1", DOSE + 2 * DAY, OVER)
        assert integrating.watch(session, OVER) == 1
        assert self.note(session) == "integration-2"
        booking.cancel(session, Call(visit.id, None, "ill"), by=DESK, now=OVER)
        assert integrating.watch(session, OVER + HOUR) == 1
        step = skip(session, two, "integration-1", OVER)
        assert integrating.watch(session, OVER + 2 * HOUR) == 0
        assert self.note(session) == "integration-2"
        steps.unskip(session, Call(step.id, step.version), now=OVER)
        assert integrating.watch(session, OVER + 3 * HOUR) == 1
        assert self.note(session) == "integration-1, integration-2"

    def test_what_is_lost_while_its_own_window_is_open_is_told(
        self, session: Session, two: Course
    ) -> None:
        """The window of the first has been over for too long to speak of it."""
        visit = two.book("integration-2", DOSE + 8 * DAY, OVER)
        integrating.watch(session, OVER)
        later = DOSE + 7 * DAY
        booking.cancel(session, Call(visit.id, None, "ill"), by=DESK, now=later)
        assert integrating.watch(session, later) == 1

    def test_it_is_not_told_again_once_the_message_is_in_the_archive(
        self, worker_engine: Engine, committed: Session, committed_world: World
    ) -> None:
        course = with_two(committed, committed_world)
        course.book("integration-1", DOSE + 2 * DAY, OVER)
        assert integrating.watch(committed, OVER) == 1
        [message] = committed.scalars(select(Message).where(OF_IT))
        message.state, message.done_at = MessageState.SENT, OVER
        committed.commit()
        later = DOSE + 8 * DAY
        with Session(worker_engine) as session:
            enter_clinic(session, committed_world.clinic_id)
            assert archive_messages(session, later) > 0
            assert told(session) == []
            assert integrating.watch(session, later) == 0
            assert told(session) == []


def test_it_takes_as_many_statements_however_many_doses_there_are(
    session: Session, world: World, bound: Any
) -> None:
    version_id = make_protocol(session, after.content())
    counts = []
    for number in range(3):
        patient_id, _ = make_patient(session)
        opened = courses.open_course(session, patient_id, version_id, by=DESK)
        given(Course(session, patient_id, opened.id), number)
        now = OVER + number * DAY
        assert integrating.watch(session, now) == 1
        session.expire_all()
        with statements(session) as asked:
            assert integrating.watch(session, now + HOUR) == 0
        counts.append(len(asked))
    assert counts == [counts[0]] * 3
    assert counts[0] <= 11


def test_a_dose_of_which_nobody_can_say_when_holds_up_no_other(
    session: Session, world: World, course: Course
) -> None:
    patient_id, _ = make_patient(session)
    version_id = facts.course_of(session, course.id)[0].protocol_version_id
    opened = courses.open_course(session, patient_id, version_id, by=DESK)
    given(Course(session, patient_id, opened.id), 1)
    bad = course.visit("dosing-1")
    bad.site_id = make_site(session, zone="Nowhere/At_All")  # as no release lets anybody
    session.flush()
    with capture_logs() as lines:
        assert integrating.watch(session, OVER + DAY) == 1
    assert [(one["event"], one["row_id"]) for one in lines] == [("row.failed", str(bad.id))]


def test_after_a_dose_that_never_was_nothing_is_missing(session: Session, course: Course) -> None:
    integrating.watch(session, OVER)
    dose = course.visit("dosing-1")
    wrong = Call(dose.id, None, "another patient's")
    sessions.correct(session, wrong, by=CLINICIAN, now=OVER + HOUR)
    assert integrating.watch(session, OVER + 2 * HOUR) == 0
    assert not is_open(session)


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
