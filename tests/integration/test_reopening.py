"""What ends a clearance before its time, and who hears that a gate is open again."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Appointment, Message, Task
from models.vocabulary import GateState, MessageKind, Recipient, Role, TaskKind
from scheduler import booking, courses, evidence, facts
from scheduler.authority import Authority, Call
from scheduler.booking import Move, Order
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

DESK = Authority("key:desk", Role.SCHEDULER)
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
    told["visits"]["dosing"]["checklist"] = []
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


def state(session: Session, visit: Appointment, code: str = "medical-clearance") -> GateState:
    gates = evidence.judge(session, [visit], SUNDAY_NOON)[visit.id].gates
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


_ANEW = Task.kind == TaskKind.SETTLE_ANEW
