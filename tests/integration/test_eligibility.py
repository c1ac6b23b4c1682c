"""Whether a course goes on to its doses: who decides, what it shuts, who is reminded when."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from models import (
    Appointment,
    Course,
    Eligibility,
    Message,
    Patient,
    ProtocolVersion,
    Task,
    enter_clinic,
)
from models.vocabulary import (
    EligibilityOutcome,
    MessageKind,
    MessageState,
    PractitionerRole,
    Recipient,
    Role,
    TaskKind,
    TaskStatus,
)
from notifications import reading
from scheduler import booking, courses, eligibility, facts
from scheduler.authority import Authority, Call
from scheduler.booking import Order
from scheduler.eligibility import NewEligibility
from scheduler.permissions import BUNDLES
from tests.factories import (
    MONDAY_9,
    SUNDAY_NOON,
    World,
    gate,
    make_patient,
    make_practitioner,
    make_protocol,
    make_world,
    protocol_content,
)
from tests.integration.conftest import Caller, Clock, Keyring

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
UNTIL = {"outcome": "deferred", "reason": "new medicine", "deferred_until": "2026-03-20"}
ON_THE_DAY = datetime(2026, 3, 20, 13, 0, tzinfo=UTC)  # 09:00 in New York, in summer time by now
NO = {"outcome": "not-eligible", "reason": "glaucoma"}


def content(**more: Any) -> dict[str, Any]:
    told = protocol_content() | {"code": "test-eligibility"}
    named = {"who": ["prescriber"], "lift": ["prescriber"]} | more
    told["visits"]["dosing"]["gates"] = [gate("eligibility", "booking", "eligibility", **named)]
    told["visits"]["dosing"]["checklist"] = []
    told["caps"], told["gaps"] = [], []
    told["steps"] = [{"key": "dosing", "visit": "dosing"}]
    return told


@pytest.fixture
def course(session: Session, world: World, clock: Clock, bound: Any) -> Course:
    version_id = make_protocol(session, content())
    course = courses.open_course(session, world.patient_id, version_id, by=DESK)
    session.commit()
    return course


def order(session: Session, course: Course, at: datetime = MONDAY_9) -> dict[str, str]:
    [step] = facts.steps_of(session, course.id)
    return {
        "patient_id": str(course.patient_id),
        "course_step_id": str(step.id),
        "starts_at": at.isoformat(),
    }


@pytest.fixture
def visit(session: Session, course: Course) -> Appointment:
    """A dose on Monday at nine, booked before anybody decided."""
    [step] = facts.steps_of(session, course.id)
    told = Order(patient_id=course.patient_id, starts_at=MONDAY_9, course_step_id=step.id)
    visit = booking.book(session, told, by=DESK, now=SUNDAY_NOON)
    session.commit()
    return visit


class TestDecisions:
    def test_where_nobody_decided_nothing_is_in_the_way(
        self, session: Session, desk: Caller, course: Course
    ) -> None:
        assert desk.post("/appointments", order(session, course)).status_code == 201

    @pytest.mark.parametrize(
        ("told", "state"),
        [
            ({"outcome": "eligible"}, None),
            ({"outcome": "eligible", "rescreen_on": "2026-03-02"}, None),  # through its day
            (
                {"outcome": "eligible-with-conditions", "reason": "r", "conditions": "an ECG"},
                None,
            ),
            (UNTIL, "failed"),
            (UNTIL | {"deferred_until": "2026-03-02"}, "failed"),
            (NO, "failed"),
        ],
    )
    def test_a_dose_is_booked_unless_it_was_decided_otherwise(
        self,
        session: Session,
        desk: Caller,
        doctor: Caller,
        course: Course,
        told: dict[str, str],
        state: str | None,
    ) -> None:
        made = doctor.post(f"/courses/{course.id}/eligibility", told)
        assert made.status_code == 201, made.json
        booked = desk.post("/appointments", order(session, course))
        if state is None:
            assert booked.status_code == 201
        else:
            assert booked.json["type"] == "/problems/not-ready"
            assert [one["state"] for one in booked.json["gates"]] == [state]
        assert doctor.get(f"/courses/{course.id}/eligibility").json["items"] == [made.json]

    def test_what_is_to_be_looked_at_again_lapses_after_its_day(
        self, session: Session, desk: Caller, doctor: Caller, course: Course
    ) -> None:
        told = {"outcome": "eligible", "rescreen_on": "2026-03-02"}
        doctor.post(f"/courses/{course.id}/eligibility", told)
        after = order(session, course, MONDAY_9 + DAY)
        [shut] = desk.post("/appointments", after).json["gates"]
        assert shut["state"] == "expired"

    def test_the_latest_decision_counts_and_nothing_is_changed(
        self, session: Session, desk: Caller, doctor: Caller, course: Course, clock: Clock
    ) -> None:
        path = f"/courses/{course.id}/eligibility"
        for told in (NO, UNTIL, {"outcome": "eligible"}):
            clock.now += MINUTE
            assert doctor.post(path, told).status_code == 201
        assert desk.post("/appointments", order(session, course)).status_code == 201
        listed = doctor.get(path).json["items"]
        assert [one["outcome"] for one in listed] == ["not-eligible", "deferred", "eligible"]

    def test_a_visit_outside_any_course_does_not_get_around_it(
        self, session: Session, world: World, desk: Caller, doctor: Caller, course: Course
    ) -> None:
        make_protocol_the_clinics_own(session, world, course)
        doctor.post(f"/courses/{course.id}/eligibility", NO)
        told = {
            "patient_id": str(world.patient_id),
            "step_kind": "dosing",
            "starts_at": MONDAY_9.isoformat(),
        }
        assert desk.post("/appointments", told).json["type"] == "/problems/not-ready"
        other, _ = make_patient(session)
        session.commit()
        answer = desk.post("/appointments", told | {"patient_id": str(other)})
        assert answer.status_code == 201, answer.json

    def test_a_visit_that_was_booked_before_cannot_begin_and_people_hear_of_it(
        self, session: Session, desk: Caller, doctor: Caller, visit: Appointment, clock: Clock
    ) -> None:
        doctor.post(f"/courses/{visit.course_id}/eligibility", NO)
        told = select(Message.recipient).where(Message.kind == MessageKind.GATE_REOPENED)
        assert set(session.scalars(told)) == {Recipient.PATIENT, Recipient.FRONT_DESK}
        clock.now = MONDAY_9
        path = f"/appointments/{visit.id}"
        etag = desk.get(path).headers["ETag"]
        refused = desk.post(f"{path}/arrive", etag=etag)
        assert [one["code"] for one in refused.json["gates"]] == ["eligibility"]
        reason = {"code": "eligibility", "reason": "once, with the eye doctor"}
        assert doctor.post(f"{path}/overrides", reason).status_code == 201
        assert desk.post(f"{path}/arrive", etag=etag).status_code == 200

    @pytest.mark.parametrize(
        ("told", "field"),
        [
            ({"outcome": "not-eligible"}, "reason"),
            ({"outcome": "deferred", "deferred_until": "2026-03-20"}, "reason"),
            ({"outcome": "deferred", "reason": "r"}, "deferred_until"),
            ({"outcome": "eligible", "deferred_until": "2026-03-20"}, "deferred_until"),
            ({"outcome": "eligible-with-conditions", "reason": "r"}, "conditions"),
            ({"outcome": "eligible", "conditions": "c"}, "conditions"),
            (UNTIL | {"deferred_until": "2026-03-01"}, "deferred_until"),  # today
            ({"outcome": "eligible", "rescreen_on": "2026-02-28"}, "rescreen_on"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, session: Session, doctor: Caller, course: Course, told: Any, field: str
    ) -> None:
        refused = doctor.post(f"/courses/{course.id}/eligibility", told)
        assert (refused.status_code, refused.json["field"]) == (422, field)
        assert session.scalar(select(func.count()).select_from(Eligibility)) == 0

    @pytest.mark.parametrize(
        "told",
        [
            {},
            {"outcome": "maybe"},
            NO | {"reason": " "},
            NO | {"decided_by": "me"},
            UNTIL | {"deferred_until": "2026-3-20"},
            UNTIL | {"deferred_until": "2026-03-20T00:00:00Z"},
            UNTIL | {"deferred_until": "9999-12-31"},
            NO | {"reason": "r" * 2001},
        ],
    )
    def test_what_cannot_be_read_is_refused(
        self, doctor: Caller, course: Course, told: Any
    ) -> None:
        refused = doctor.post(f"/courses/{course.id}/eligibility", told)
        assert (refused.status_code, refused.json["type"]) == (422, "/problems/invalid")

    def test_what_was_decided_about_a_course_that_is_over_can_be_decided_anew(
        self,
        session: Session,
        world: World,
        desk: Caller,
        doctor: Caller,
        course: Course,
        clock: Clock,
    ) -> None:
        """It still shuts visits outside any course, so somebody must be able to open them."""
        make_protocol_the_clinics_own(session, world, course)
        path = f"/courses/{course.id}/eligibility"
        doctor.post(path, NO)
        courses.discontinue(session, Call(course.id, None, "r"), by=DESK, now=SUNDAY_NOON)
        session.commit()
        told = {
            "patient_id": str(world.patient_id),
            "step_kind": "dosing",
            "starts_at": MONDAY_9.isoformat(),
        }
        assert desk.post("/appointments", told).json["type"] == "/problems/not-ready"
        clock.now += MINUTE
        assert doctor.post(path, {"outcome": "eligible"}).status_code == 201
        assert desk.post("/appointments", told).status_code == 201


def make_protocol_the_clinics_own(session: Session, world: World, course: Course) -> None:
    version = session.get_one(ProtocolVersion, (world.clinic_id, course.protocol_version_id))
    facts.clinic(session).default_protocol_id = version.protocol_id
    session.commit()


class TestWhoDecides:
    def test_a_prescriber_or_whom_the_protocol_names(
        self, session: Session, world: World, key: Keyring, desk: Caller, course: Course
    ) -> None:
        nurse_id, _ = make_practitioner(session, world.site_id, PractitionerRole.MONITOR)
        nurse = key(Role.CLINICIAN, nurse_id)
        path = f"/courses/{course.id}/eligibility"
        refused = nurse.post(path, NO)
        assert (refused.status_code, refused.json["who"]) == (403, ["prescriber"])
        assert desk.post(path, NO).status_code == 403
        assert desk.get(path).status_code == 403  # why is for clinicians
        named = make_protocol(session, content(who=["monitor"]) | {"code": "by-monitors"})
        theirs = courses.open_course(session, world.patient_id, named, by=DESK)
        session.commit()
        assert nurse.post(f"/courses/{theirs.id}/eligibility", NO).status_code == 201

    def test_another_clinics_course_is_none(
        self, session: Session, world: World, doctor: Caller
    ) -> None:
        other = make_world(session, "Other Practice")
        theirs = courses.open_course(session, other.patient_id, other.protocol_version_id, by=DESK)
        session.commit()
        their_id = theirs.id
        enter_clinic(session, world.clinic_id)
        for course_id in (their_id, uuid4()):
            path = f"/courses/{course_id}/eligibility"
            assert doctor.post(path, NO).status_code == 404
            assert doctor.get(path).status_code == 404


def decide(session: Session, course: Course, now: datetime, **told: Any) -> Eligibility:
    new = NewEligibility(**{"outcome": EligibilityOutcome.ELIGIBLE} | told)
    return eligibility.decide(session, course.id, new, by=DOCTOR, now=now)


def deferred(session: Session, course: Course, now: datetime = SUNDAY_NOON) -> Eligibility:
    told = {"outcome": EligibilityOutcome.DEFERRED, "reason": "r"}
    return decide(session, course, now, deferred_until=ON_THE_DAY.date(), **told)


def standing(session: Session) -> list[tuple[UUID, TaskStatus]]:
    query = select(Task.subject_id, Task.status).where(Task.kind == TaskKind.RESCREEN)
    return [(row[0], row[1]) for row in session.execute(query.order_by(Task.subject_id))]


def messages(session: Session) -> list[Message]:
    query = select(Message).where(Message.kind == MessageKind.TALK_AGAIN).order_by(Message.id)
    return list(session.scalars(query.execution_options(populate_existing=True)))


class TestReminders:
    def test_the_day_of_a_deferral_is_a_task_and_a_message_once(
        self, session: Session, course: Course
    ) -> None:
        decision = deferred(session, course)
        assert decision.remind_at == ON_THE_DAY
        assert eligibility.remind(session, ON_THE_DAY - MINUTE) == 0
        assert (standing(session), messages(session)) == ([], [])
        assert eligibility.remind(session, ON_THE_DAY) == 1
        for late in (0, 1, 60 * 24):  # however often it is asked
            assert eligibility.remind(session, ON_THE_DAY + late * MINUTE) == 0
        assert standing(session) == [(decision.id, TaskStatus.REQUESTED)]
        [message] = messages(session)
        assert (message.recipient, message.due_at) == (Recipient.PATIENT, ON_THE_DAY)

    def test_the_day_of_the_re_screening_goes_before_the_end_of_the_deferral(
        self, session: Session, course: Course
    ) -> None:
        told = {"outcome": EligibilityOutcome.DEFERRED, "reason": "r"}
        until, on = ON_THE_DAY.date(), (ON_THE_DAY - 3 * DAY).date()
        decision = decide(
            session, course, SUNDAY_NOON, deferred_until=until, rescreen_on=on, **told
        )
        assert decision.remind_at == ON_THE_DAY - 3 * DAY

    def test_decided_anew_before_nothing_comes_of_it(
        self, session: Session, course: Course
    ) -> None:
        deferred(session, course)
        decide(session, course, SUNDAY_NOON + DAY)
        assert eligibility.remind(session, ON_THE_DAY) == 0
        assert (standing(session), messages(session)) == ([], [])

    def test_decided_anew_afterwards_the_task_is_done_and_the_message_taken_back(
        self, session: Session, course: Course
    ) -> None:
        decision = deferred(session, course)
        eligibility.remind(session, ON_THE_DAY)
        again = deferred(session, course, ON_THE_DAY - DAY)  # of the same day as before
        assert standing(session) == [(decision.id, TaskStatus.COMPLETED)]
        assert [one.state for one in messages(session)] == [MessageState.SUPERSEDED]
        eligibility.remind(session, ON_THE_DAY)
        assert dict(standing(session))[again.id] is TaskStatus.REQUESTED
        assert [one.state for one in messages(session)] == [
            MessageState.SUPERSEDED,
            MessageState.SCHEDULED,
        ]

    @pytest.mark.parametrize("is_asked", [False, True])
    def test_of_a_course_that_is_over_nobody_is_reminded(
        self, session: Session, course: Course, is_asked: bool
    ) -> None:
        decision = deferred(session, course)
        if is_asked:
            eligibility.remind(session, ON_THE_DAY)
        courses.discontinue(session, Call(course.id, None, "r"), by=DESK, now=ON_THE_DAY)
        assert eligibility.remind(session, ON_THE_DAY + MINUTE) == 0
        assert standing(session) == ([(decision.id, TaskStatus.COMPLETED)] if is_asked else [])
        assert all(one.state is MessageState.SUPERSEDED for one in messages(session))

    def test_a_task_that_was_done_stays_done(self, session: Session, course: Course) -> None:
        deferred(session, course)
        eligibility.remind(session, ON_THE_DAY)
        task = session.scalars(select(Task).where(Task.kind == TaskKind.RESCREEN)).one()
        task.status, task.settled_at, task.settled_by = TaskStatus.COMPLETED, ON_THE_DAY, "desk"
        session.flush()
        eligibility.remind(session, ON_THE_DAY + DAY)
        assert [status for _, status in standing(session)] == [TaskStatus.COMPLETED]

    def test_one_of_which_nobody_can_be_told_holds_up_no_other(
        self, session: Session, course: Course
    ) -> None:
        others = [make_patient(session)[0] for _ in range(2)]
        version_id = course.protocol_version_id
        theirs = [courses.open_course(session, one, version_id, by=DESK) for one in others]
        decisions = [deferred(session, one) for one in (course, *theirs)]
        facts.one(session, Patient, others[0]).channels = ["pigeon"]  # as no release writes it
        session.flush()
        with capture_logs() as lines:
            assert eligibility.remind(session, ON_THE_DAY) == 2
        asked = [subject_id for subject_id, _ in standing(session)]
        assert asked == sorted([decisions[0].id, decisions[2].id])
        assert [(one["event"], one["row_id"]) for one in lines] == [
            ("row.failed", str(decisions[1].id))
        ]
        facts.one(session, Patient, others[0]).channels = ["email"]
        assert eligibility.remind(session, ON_THE_DAY + MINUTE) == 1  # late, and not lost

    def test_the_worker_may_do_this(
        self, committed: Session, committed_world: World, worker_engine: Engine
    ) -> None:
        version_id = make_protocol(committed, content())
        course = courses.open_course(committed, committed_world.patient_id, version_id, by=DESK)
        deferred(committed, course)
        committed.commit()
        with Session(worker_engine) as session:
            enter_clinic(session, committed_world.clinic_id)
            assert eligibility.remind(session, ON_THE_DAY) == 1
            [message] = messages(session)
            letter = reading.letters(reading.raw(session), [message.id])[message.id]
            assert letter.address is not None
            assert not letter.silent
            session.commit()
            decided = decide(committed, course, ON_THE_DAY)
            committed.commit()
            assert decided.outcome is EligibilityOutcome.ELIGIBLE
            eligibility.remind(session, ON_THE_DAY)
            assert [status for _, status in standing(session)] == [TaskStatus.COMPLETED]
