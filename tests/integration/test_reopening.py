"""What ends a clearance before its time, and who hears that a gate is open again."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from models import Appointment, Message, Task, enter_clinic
from models.vocabulary import (
    ClearanceOutcome,
    GateState,
    HealthEventKind,
    MessageKind,
    MessageState,
    Recipient,
    Role,
    TaskKind,
    TaskStatus,
)
from scheduler import (
    booking,
    clearances,
    courses,
    evidence,
    facts,
    happenings,
    reopening,
    sessions,
    steps,
)
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Move, Order
from scheduler.clearances import NewClearance
from scheduler.happenings import Happened
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    clear,
    figure,
    gate,
    make_protocol,
    protocol_content,
)
from tests.integration.conftest import Caller, Clock, Keyring
from tests.integration.test_consents import wait_for_waiting

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
MINUTE = timedelta(minutes=1)


def content() -> dict[str, Any]:
    told = protocol_content() | {"code": "test-ends"}
    told["visits"]["dosing"]["gates"] = [
        gate(
            "medical-clearance",
            "arrival",
            holds=figure(90, "d"),
            ends_on=["adverse-event", "new-diagnosis"],
            longest_gap=figure(60, "d"),
        ),
        gate("medications", "arrival", holds=figure(72, "h"), ends_on=["new-medication"]),
    ]
    fasting = told["visits"]["dosing"]["checklist"][0]
    told["visits"]["dosing"]["gates"].append(gate("fasting", "arrival", "checklist"))
    told["visits"]["dosing"]["checklist"] = [fasting | {"owner": "front-desk"}]
    told["caps"], told["gaps"] = [], []
    told["steps"] = [{"key": f"dosing-{n}", "visit": "dosing"} for n in (1, 2)]
    return told


@pytest.fixture
def visits(session: Session, world: World, clock: Clock, bound: Any) -> list[Appointment]:
    """Two doses ahead, the second 61 days after the first; the patient is cleared for both."""
    version_id = make_protocol(session, content())
    clear(session, world.patient_id, ["medical-clearance", "medications"])
    course = courses.open_course(session, world.patient_id, version_id, by=DESK)
    made = []
    for step, at in zip(
        facts.steps_of(session, course.id), (MONDAY_9, MONDAY_9 + 63 * DAY), strict=True
    ):
        order = Order(patient_id=world.patient_id, starts_at=at, course_step_id=step.id)
        made.append(booking.book(session, order, by=DESK, now=SUNDAY_NOON))
    session.commit()
    return made


def state(
    session: Session,
    visit: Appointment,
    code: str = "medical-clearance",
    at: datetime = SUNDAY_NOON,
) -> GateState:
    gates = evidence.judge(session, [visit], at)[visit.id].gates
    return next(one.state for one in gates if one.gate.code == code)


def told(session: Session) -> set[Recipient]:
    query = select(Message.recipient).where(Message.kind == MessageKind.GATE_REOPENED)
    return set(session.scalars(query))


class TestEvents:
    @pytest.mark.parametrize(
        ("kind", "after", "expected"),
        [
            ("adverse-event", 1, GateState.EXPIRED),
            ("new-diagnosis", 1, GateState.EXPIRED),
            ("emergency-visit", 1, GateState.MET),  # the protocol does not say so
            ("adverse-event", 0, GateState.EXPIRED),  # not known yet when it was cleared
            ("adverse-event", -1, GateState.EXPIRED),
        ],
    )
    def test_what_ends_it_is_protocol_data(
        self,
        session: Session,
        desk: Caller,
        visits: list[Appointment],
        clock: Clock,
        kind: str,
        after: int,
        expected: GateState,
    ) -> None:
        clock.now = SUNDAY_NOON + 5 * MINUTE
        path = f"/patients/{visits[0].patient_id}/health-events"
        at = SUNDAY_NOON + after * MINUTE
        made = desk.post(path, {"kind": kind, "happened_at": at.isoformat()})
        assert made.status_code == 201, made.json

        assert state(session, visits[0]) is expected
        lapsed = expected is GateState.EXPIRED
        both = {Recipient.PATIENT, Recipient.FRONT_DESK}
        assert told(session) == (both if lapsed else set())
        query = select(Message.id).where(Message.kind == MessageKind.GATE_REOPENED)
        assert len(session.scalars(query).all()) == 2 * lapsed  # one each, for both visits
        open_tasks = session.scalars(select(Task.appointment_id).where(_ANEW)).all()
        assert (visits[0].id in open_tasks) is lapsed

    def test_cleared_again_it_is_settled(
        self, session: Session, desk: Caller, visits: list[Appointment], clock: Clock
    ) -> None:
        clock.now = SUNDAY_NOON + MINUTE
        patient = visits[0].patient_id
        desk.post(f"/patients/{patient}/health-events", {"kind": "adverse-event"})
        clear(session, patient, ["medical-clearance"], at=SUNDAY_NOON + 2 * MINUTE)
        assert state(session, visits[0]) is GateState.MET

    def test_a_slip_is_replaced_and_the_clearance_holds_again(
        self,
        session: Session,
        desk: Caller,
        key: Keyring,
        world: World,
        visits: list[Appointment],
        clock: Clock,
    ) -> None:
        clock.now = SUNDAY_NOON + MINUTE
        path = f"/patients/{visits[0].patient_id}/health-events"
        slip = desk.post(path, {"kind": "adverse-event"}).json
        put_right = {"kind": "adverse-event", "replaces": slip["id"], "in_error": True}
        assert desk.post(path, put_right).status_code == 403
        doctor = key(Role.CLINICIAN, world.prescriber_id)
        assert doctor.post(path, put_right).status_code == 201
        assert doctor.post(path, put_right).json["type"] == "/problems/already-exists"
        assert state(session, visits[0]) is GateState.MET
        assert len(desk.get(path).json["items"]) == 2

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"kind": "adverse-event", "happened_at": "2031-01-01T00:00:00Z"}, "happened_at"),
            ({"kind": "adverse-event", "in_error": True}, "replaces"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, desk: Caller, visits: list[Appointment], body: Any, field: str
    ) -> None:
        refused = desk.post(f"/patients/{visits[0].patient_id}/health-events", body)
        assert (refused.status_code, refused.json["field"]) == (422, field)


class TestGap:
    def test_it_ends_so_long_after_the_last_dose(
        self, session: Session, visits: list[Appointment]
    ) -> None:
        first, second = visits
        assert state(session, first) is GateState.MET  # nothing before it
        assert state(session, second) is GateState.EXPIRED  # 63 days
        booking.reschedule(
            session,
            Call(second.id, None),
            Move(starts_at=MONDAY_9 + 60 * DAY - 4 * DAY),  # a Monday, 56 days
            by=DESK,
            now=SUNDAY_NOON,
        )
        assert state(session, second) is GateState.MET


class TestMoves:
    @pytest.mark.parametrize(
        ("to", "lapses"), [(MONDAY_9 + DAY, False), (MONDAY_9 + 4 * DAY, True)]
    )
    def test_moved_past_what_it_holds_people_hear_at_once(
        self, session: Session, visits: list[Appointment], to: datetime, lapses: bool
    ) -> None:
        """The medicines were gone through on Sunday, which holds for three days."""
        assert state(session, visits[0], "medications") is GateState.MET
        booking.reschedule(
            session, Call(visits[0].id, None), Move(starts_at=to), by=DESK, now=SUNDAY_NOON
        )
        assert (state(session, visits[0], "medications") is GateState.EXPIRED) is lapses
        both = {Recipient.PATIENT, Recipient.FRONT_DESK}
        assert told(session) == (both if lapses else set())

    def test_what_was_passed_over_for_the_old_time_is_told(
        self, session: Session, visits: list[Appointment]
    ) -> None:
        override(session, visits[1], SUNDAY_NOON, "medications")
        assert state(session, visits[1], "medications") is GateState.OVERRIDDEN
        move = Move(starts_at=visits[1].starts_at + DAY)
        booking.reschedule(session, Call(visits[1].id, None), move, by=DESK, now=SUNDAY_NOON)
        assert state(session, visits[1], "medications") is GateState.EXPIRED
        assert told(session) == BOTH


class TestReasons:
    """What was passed over with a reason is settled, until something newer comes to light."""

    def test_what_is_newer_than_the_reason_is_told_as_anything_else(
        self, session: Session, visits: list[Appointment]
    ) -> None:
        happen(session, visits[0], SUNDAY_NOON + MINUTE)
        override(session, visits[0], SUNDAY_NOON + 2 * MINUTE)
        override(session, visits[1], SUNDAY_NOON + 2 * MINUTE)
        assert len(messages(session)) == 2
        happen(session, visits[0], SUNDAY_NOON + 3 * MINUTE)
        assert state(session, visits[0], at=SUNDAY_NOON + 3 * MINUTE) is GateState.EXPIRED
        assert len(messages(session)) == 4
        tasks = select(Task.appointment_id).where(_ANEW, Task.status == TaskStatus.REQUESTED)
        assert set(session.scalars(tasks)) == {visit.id for visit in visits}

    def test_what_the_reason_knew_is_not(self, session: Session, visits: list[Appointment]) -> None:
        override(session, visits[1], SUNDAY_NOON, "medications")
        happen(session, visits[0], SUNDAY_NOON + MINUTE, HealthEventKind.EMERGENCY_VISIT)
        assert messages(session) == []


class TestClearances:
    def test_a_refusal_of_what_was_cleared_is_told(
        self, session: Session, visits: list[Appointment]
    ) -> None:
        vouch(session, visits[0], SUNDAY_NOON + MINUTE, ClearanceOutcome.REFUSED)
        assert state(session, visits[0], at=SUNDAY_NOON + MINUTE) is GateState.FAILED
        assert told(session) == BOTH
        assert len(session.scalars(select(Task.id).where(_ANEW)).all()) == 1

    def test_a_clearance_is_told_to_nobody(
        self, session: Session, visits: list[Appointment]
    ) -> None:
        vouch(session, visits[0], SUNDAY_NOON + MINUTE)
        assert told(session) == set()


class TestChecklists:
    def test_what_was_done_and_fails_is_told(
        self, session: Session, desk: Caller, visits: list[Appointment]
    ) -> None:
        path = f"/appointments/{visits[0].id}/checklist"
        for status, expected in (
            ("completed", set()),
            ("requested", set()),
            ("completed", set()),
            ("failed", BOTH),
        ):
            [item] = desk.get(path).json["items"]
            settled = {"status": status, "answer": "a"}
            done = desk("PATCH", f"/checklist-items/{item['id']}", settled, etag=item["etag"])
            assert done.status_code == 200, done.json
            assert told(session) == expected


class TestDosesThatFallAway:
    """A clearance holds so long after the last dose: of three, the second is not given."""

    @pytest.fixture
    def three(self, session: Session, world: World, clock: Clock, bound: Any) -> list[Appointment]:
        asked = content()
        asked["steps"] = [{"key": f"dosing-{n}", "visit": "dosing"} for n in (1, 2, 3)]
        version_id = make_protocol(session, asked)
        clear(session, world.patient_id, ["medical-clearance"])
        course = courses.open_course(session, world.patient_id, version_id, by=DESK)
        made = []
        for number, step in enumerate(facts.steps_of(session, course.id)):
            at = MONDAY_9 + number * 42 * DAY
            order = Order(patient_id=world.patient_id, starts_at=at, course_step_id=step.id)
            made.append(booking.book(session, order, by=DESK, now=SUNDAY_NOON))
        assert state(session, made[2]) is GateState.MET
        return made

    @pytest.mark.parametrize("how", ["cancel", "move", "noshow", "correct"])
    def test_who_rested_on_it_hears_of_it(
        self, session: Session, three: list[Appointment], how: str
    ) -> None:
        now = three[1].starts_at + MINUTE if how == "noshow" else SUNDAY_NOON
        call = Call(three[1].id, None, "typed in wrongly")
        if how == "cancel":
            booking.cancel(session, call, by=DESK, now=now)
        elif how == "move":
            move = Move(starts_at=three[1].starts_at - 21 * DAY)
            booking.reschedule(session, call, move, by=DESK, now=now)
        elif how == "noshow":
            sessions.act(session, call, Action.NOSHOW, by=DESK, now=now)
        else:
            sessions.correct(session, call, by=DESK, now=now)
        assert state(session, three[2], at=now) is GateState.EXPIRED
        assert told(session) == BOTH
        tasks = select(Task.appointment_id).where(_ANEW)
        assert session.scalars(tasks).all() == [three[2].id]


class TestTasks:
    def task(self, session: Session, visit: Appointment) -> Task:
        query = select(Task).where(_ANEW, Task.subject_id == visit.id)
        return session.scalars(query.execution_options(populate_existing=True)).one()

    def test_it_says_what_is_open_and_ends_once_that_is_settled(
        self, session: Session, visits: list[Appointment]
    ) -> None:
        happen(session, visits[0], SUNDAY_NOON + MINUTE)
        happen(session, visits[0], SUNDAY_NOON + MINUTE, HealthEventKind.NEW_MEDICATION)
        assert self.task(session, visits[0]).note == "medical-clearance, medications"
        vouch(session, visits[0], SUNDAY_NOON + 2 * MINUTE)
        assert reopening.review(session, SUNDAY_NOON + 2 * MINUTE) == 0
        vouch(session, visits[0], SUNDAY_NOON + 2 * MINUTE, gate="medications")
        assert reopening.review(session, SUNDAY_NOON + 3 * MINUTE) == 1
        assert self.task(session, visits[0]).status is TaskStatus.COMPLETED
        states = {message.state for message in messages(session)}
        assert states == {MessageState.SUPERSEDED}  # nobody had heard of it yet

    def test_of_a_visit_that_is_off_it_ends(
        self, session: Session, visits: list[Appointment]
    ) -> None:
        happen(session, visits[0], SUNDAY_NOON + MINUTE)
        booking.cancel(session, Call(visits[0].id, None, "ill"), by=DESK, now=SUNDAY_NOON + MINUTE)
        assert reopening.review(session, SUNDAY_NOON + MINUTE) == 1
        assert self.task(session, visits[0]).status is TaskStatus.COMPLETED

    def test_what_lapses_a_second_time_is_due_as_of_then(
        self, session: Session, visits: list[Appointment]
    ) -> None:
        happen(session, visits[0], SUNDAY_NOON + MINUTE)
        vouch(session, visits[0], SUNDAY_NOON + 2 * MINUTE)
        reopening.review(session, SUNDAY_NOON + 2 * MINUTE)
        later = SUNDAY_NOON + 12 * 60 * MINUTE
        happen(session, visits[0], later)
        task = self.task(session, visits[0])
        assert (task.status, task.due_at) == (TaskStatus.REQUESTED, later + reopening.SOON)

    def test_the_workers_role_may_look(self, worker_engine: Engine, committed_world: World) -> None:
        with Session(worker_engine) as session:
            enter_clinic(session, committed_world.clinic_id)
            assert reopening.review(session, SUNDAY_NOON) == 0


def override(
    session: Session, visit: Appointment, now: datetime, code: str = "medical-clearance"
) -> None:
    reasons = Reasons({code: "Seen by me."})
    sessions.override(session, visit.id, reasons, by=DOCTOR, now=now)


def happen(
    session: Session,
    visit: Appointment,
    now: datetime,
    kind: HealthEventKind = HealthEventKind.ADVERSE_EVENT,
) -> None:
    told = Happened(patient_id=visit.patient_id, kind=kind, happened_at=now)
    happenings.note(session, told, by=DOCTOR, now=now)


def vouch(
    session: Session,
    visit: Appointment,
    now: datetime,
    outcome: ClearanceOutcome = ClearanceOutcome.CLEARED,
    gate: str = "medical-clearance",
) -> None:
    told = NewClearance(gate=gate, outcome=outcome, cleared_at=now)
    clearances.clear(session, visit.patient_id, told, by=DOCTOR, now=now)


def messages(session: Session) -> list[Message]:
    query = select(Message).where(Message.kind == MessageKind.GATE_REOPENED)
    return list(session.scalars(query.execution_options(populate_existing=True)))


BOTH = {Recipient.PATIENT, Recipient.FRONT_DESK}
_ANEW = Task.kind == TaskKind.SETTLE_ANEW


@pytest.mark.parametrize("how", ["override", "cancel"])
def test_who_was_to_hear_with_a_visit_that_ended_hears_of_the_next(
    session: Session, world: World, clock: Clock, bound: Any, how: str
) -> None:
    version_id = make_protocol(session, content())
    clear(session, world.patient_id, ["medical-clearance", "medications"])
    course = courses.open_course(session, world.patient_id, version_id, by=DESK)
    first, second = (
        booking.book(
            session,
            Order(patient_id=world.patient_id, starts_at=at, course_step_id=step.id),
            by=DESK,
            now=SUNDAY_NOON,
        )
        for step, at in zip(
            facts.steps_of(session, course.id), (MONDAY_9, MONDAY_9 + 14 * DAY), strict=True
        )
    )
    now = SUNDAY_NOON + MINUTE
    happen(session, first, now)
    assert {one.appointment_id for one in messages(session)} == {first.id}

    if how == "override":
        override(session, first, now + MINUTE)
    else:
        booking.cancel(session, Call(first.id, None), by=DOCTOR, now=now + MINUTE)
    for minute in (2, 3):
        reopening.review(session, now + minute * MINUTE)

    planned = [one for one in messages(session) if one.state is MessageState.SCHEDULED]
    assert {one.appointment_id for one in planned} == {second.id}
    assert {one.recipient for one in planned} == {Recipient.PATIENT, Recipient.FRONT_DESK}
    assert len(planned) == 2


def test_no_task_ends_while_somebody_asks_for_it_again(
    committed: Session, committed_world: World, service_engine: Engine
) -> None:
    """The clock finds it settled while an event that opens it anew is being noted."""
    world, now = committed_world, SUNDAY_NOON
    version_id = make_protocol(committed, content())
    clear(committed, world.patient_id, ["medical-clearance", "medications"])
    course = courses.open_course(committed, world.patient_id, version_id, by=DESK)
    step = facts.steps_of(committed, course.id)[0]
    order = Order(patient_id=world.patient_id, starts_at=MONDAY_9, course_step_id=step.id)
    visit = booking.book(committed, order, by=DESK, now=now)
    happen(committed, visit, now + MINUTE)
    vouch(committed, visit, now + 2 * MINUTE)
    visit_id = visit.id
    committed.commit()

    def happen_again() -> None:
        with Session(service_engine) as session:
            enter_clinic(session, world.clinic_id)
            happen(session, facts.one(session, Appointment, visit_id), now + 3 * MINUTE)
            session.commit()

    with ThreadPoolExecutor(1) as pool, Session(service_engine) as session:
        enter_clinic(session, world.clinic_id)
        facts.open_tasks(session, TaskKind.SETTLE_ANEW)
        happened = pool.submit(happen_again)
        wait_for_waiting(committed)
        assert reopening.review(session, now + 3 * MINUTE) == 1
        session.commit()
        happened.result(timeout=30)

    committed.expire_all()
    assert committed.scalars(select(Task.status).where(_ANEW)).all() == [TaskStatus.REQUESTED]
    assert {one.recipient for one in messages(committed) if one.state == "scheduled"} == BOTH


def test_a_repair_that_moves_a_visit_past_what_holds_tells_so(
    session: Session, desk: Caller, world: World, visits: list[Appointment]
) -> None:
    first = visits[0].id
    closed = {
        "schedule_id": str(world.therapist),
        "from": MONDAY_9.isoformat(),
        "to": (MONDAY_9 + 3 * DAY - timedelta(hours=1)).isoformat(),
    }
    noted = desk.post("/disruptions", closed)
    assert noted.status_code == 201, noted.json
    done = desk.post(f"/disruptions/{noted.json['disruption']['id']}/accept")
    assert done.status_code == 200, done.json
    assert not done.json["refused"]

    session.expire_all()
    visit = facts.one(session, Appointment, first)
    assert state(session, visit, "medications") is GateState.EXPIRED
    assert told(session) == {Recipient.FRONT_DESK, Recipient.PATIENT}
    notes = session.scalars(select(Task.note).where(Task.kind == TaskKind.SETTLE_ANEW)).all()
    assert notes == ["medications"]


class TestSteps:
    @pytest.fixture
    def dose(self, session: Session, world: World) -> Appointment:
        """A dose on Tuesday, which an integration on Monday comes before."""
        told = protocol_content() | {"code": "test-steps"}
        told["visits"]["dosing"]["gates"] = [
            gate("integrated", "arrival", "steps", kinds=["integration"])
        ]
        told["visits"]["dosing"]["checklist"] = []
        told["steps"] = [{"key": "i", "visit": "integration"}, {"key": "d", "visit": "dosing"}]
        version_id = make_protocol(session, told)
        course = courses.open_course(session, world.patient_id, version_id, by=DESK)
        self.talk, step = facts.steps_of(session, course.id)
        order = Order(patient_id=world.patient_id, starts_at=MONDAY_9 + DAY, course_step_id=step.id)
        return booking.book(session, order, by=DESK, now=SUNDAY_NOON)

    def test_an_integration_that_never_was_opens_what_rests_on_it(
        self, session: Session, world: World, dose: Appointment
    ) -> None:
        order = Order(patient_id=world.patient_id, starts_at=MONDAY_9, course_step_id=self.talk.id)
        talk = booking.book(session, order, by=DESK, now=SUNDAY_NOON)
        for action in (Action.ARRIVE, Action.FULFIL):
            sessions.act(session, Call(talk.id, None), action, by=DOCTOR, now=MONDAY_9)
        assert state(session, dose, "integrated") is GateState.MET
        call = Call(talk.id, None, "of another patient")
        sessions.correct(session, call, by=DOCTOR, now=MONDAY_9 + MINUTE)
        self._is_told(session, dose)

    def test_so_does_one_that_is_asked_for_after_all(
        self, session: Session, dose: Appointment
    ) -> None:
        call = Call(self.talk.id, None, "not wanted")
        steps.skip(session, call, by=DOCTOR, now=SUNDAY_NOON)
        assert state(session, dose, "integrated") is GateState.MET
        assert not told(session)
        steps.unskip(session, Call(self.talk.id, None), now=SUNDAY_NOON + MINUTE)
        self._is_told(session, dose)

    def _is_told(self, session: Session, dose: Appointment) -> None:
        assert state(session, dose, "integrated") is GateState.OPEN
        assert told(session) == {Recipient.FRONT_DESK, Recipient.PATIENT}
        task = session.scalars(select(Task).where(Task.kind == TaskKind.SETTLE_ANEW)).one()
        assert (task.subject_id, task.note) == (dose.id, "integrated")
