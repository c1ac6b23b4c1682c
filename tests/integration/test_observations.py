"""What is measured in a visit: noted, put right, and missed when it is late."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Appointment, Message, Task
from models.vocabulary import MessageKind, Role, TaskKind, TaskStatus
from scheduler import booking, courses, evidence, facts, observing, sessions
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Order
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from tests.factories import MONDAY_9, SOURCE, World, figure, gate, make_protocol, protocol_content
from tests.integration.conftest import Caller, Clock, Keyring

DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
MINUTE = timedelta(minutes=1)
CALM = {"systolic": 124, "diastolic": 80}


def watched_content() -> dict[str, Any]:
    """The course for tests, whose doses are given and watched by what is measured."""
    content = protocol_content() | {"code": "test-watched"}
    dosing = content["visits"]["dosing"]
    limits = [
        {
            "measure": "systolic",
            "pass": {"most": 140},
            "hold": {"from": 160},
            "stop": {"from": 180},
            "source": SOURCE,
        },
        {"measure": "diastolic", "pass": {"most": 90}, "source": SOURCE},
    ]
    dosing["gates"] = [
        gate(
            "vitals",
            "dose",
            "measurement",
            holds=figure(30, "min"),
            limits=limits,
            recheck={"after": figure(10, "min"), "times": 1, "source": SOURCE},
        )
    ]
    dosing["checklist"] = []
    dosing["watch"] = [
        {
            "code": "peak",
            "title": "At the peak",
            "measures": ["systolic", "diastolic"],
            "after_dose": figure(40, "min"),
            "late_after": figure(5, "min"),
        }
    ]
    return content


@pytest.fixture
def visit_id(session: Session, world: World, clock: Clock, bound: Any) -> UUID:
    """A dosing visit whose patient has just come, at nine on Monday."""
    return come(session, world, clock, watched_content())


def come(session: Session, world: World, clock: Clock, content: dict[str, Any]) -> UUID:
    """Book the one dose of a protocol for nine on Monday, and let the patient come then."""
    content["steps"] = [{"key": "dosing", "visit": "dosing"}]
    version_id = make_protocol(session, content)
    step_id = step_of(session, world, version_id)
    order = Order(patient_id=world.patient_id, starts_at=MONDAY_9, course_step_id=step_id)
    visit = booking.book(session, order, by=DOCTOR, now=clock.now)
    clock.now = MONDAY_9
    sessions.act(session, Call(visit.id, None), Action.ARRIVE, by=DOCTOR, now=clock.now)
    session.commit()
    return visit.id


def step_of(session: Session, world: World, version_id: UUID) -> UUID:
    course = courses.open_course(session, world.patient_id, version_id, by=DOCTOR)
    [step] = facts.steps_of(session, course.id)
    return step.id


@pytest.fixture
def nurse(key: Keyring, world: World, session: Session) -> Caller:
    return key(Role.CLINICIAN, world.prescriber_id)


def note(nurse: Caller, visit_id: UUID, values: Any, **more: Any) -> Any:
    return nurse.post(f"/appointments/{visit_id}/observations", {"values": values, **more})


def vitals(desk: Caller, visit_id: UUID) -> Any:
    [found] = desk.get(f"/appointments/{visit_id}/readiness").json["gates"]
    return found


class TestNoting:
    def test_what_is_measured_opens_the_gate(
        self, nurse: Caller, desk: Caller, visit_id: UUID
    ) -> None:
        assert vitals(desk, visit_id)["state"] == "open"

        made = note(nurse, visit_id, CALM | {"oriented": True})

        assert made.status_code == 201, made.json
        assert made.json["values"] == {**CALM, "oriented": 1}
        assert vitals(desk, visit_id)["state"] == "met"
        listed = nurse.get(f"/appointments/{visit_id}/observations").json["items"]
        assert [one["id"] for one in listed] == [made.json["id"]]

    @pytest.mark.parametrize(
        ("told", "pointer"),
        [
            ({"values": {"systolic": 1240}}, "values.systolic"),
            ({"values": {"systolic": -1}}, "values.systolic"),
            ({"values": {}}, "values"),
            ({"values": CALM, "taken_at": "2026-03-02T15:00:00Z"}, "taken_at"),
            ({"values": CALM, "taken_at": "2026-03-02T12:59:00Z"}, "taken_at"),
            ({"values": CALM, "taken_at": "2025-03-02T14:00:00Z"}, "taken_at"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, nurse: Caller, visit_id: UUID, told: Any, pointer: str
    ) -> None:
        refused = nurse.post(f"/appointments/{visit_id}/observations", told)
        assert (refused.status_code, refused.json["field"]) == (422, pointer)

    @pytest.mark.parametrize(
        ("values", "pointer"),
        [
            ({"sistolic": 120}, "/values/sistolic"),
            ({"systolic": "120"}, "/values/systolic"),
            ({"systolic": None}, "/values/systolic"),
            ([120], "/values"),
            ({"systolic": 10**400}, "/values/systolic"),
            ({"systolic": -(10**400)}, "/values/systolic"),
        ],
    )
    def test_what_is_misspelt_is_named(
        self, nurse: Caller, visit_id: UUID, values: Any, pointer: str
    ) -> None:
        refused = note(nurse, visit_id, values)
        assert refused.status_code == 422
        assert pointer in {one["pointer"] for one in refused.json["errors"]}

    def test_only_clinicians_note(self, desk: Caller, key: Keyring, visit_id: UUID) -> None:
        assert note(desk, visit_id, CALM).status_code == 403
        unlicensed = note(key(Role.CLINICIAN), visit_id, CALM)
        assert (unlicensed.status_code, unlicensed.json["type"]) == (
            403,
            "/problems/may-not-override",
        )

    def test_nothing_is_measured_of_who_is_not_here(
        self, nurse: Caller, desk: Caller, world: World
    ) -> None:
        told = {
            "patient_id": str(world.patient_id),
            "step_kind": "preparation",
            "starts_at": MONDAY_9.isoformat(),
        }
        booked = desk.post("/appointments", told).json
        refused = note(nurse, booked["id"], CALM)
        assert (refused.status_code, refused.json["type"]) == (409, "/problems/wrong-status")
        assert note(nurse, uuid4(), CALM).status_code == 404


class TestPuttingRight:
    def test_a_slip_is_replaced_and_stays_to_be_seen(
        self, nurse: Caller, desk: Caller, visit_id: UUID
    ) -> None:
        slip = note(nurse, visit_id, CALM | {"systolic": 184}).json
        assert vitals(desk, visit_id)["state"] == "failed"

        right = note(nurse, visit_id, CALM, replaces=slip["id"])

        assert right.status_code == 201
        assert vitals(desk, visit_id)["state"] == "met"
        listed = nurse.get(f"/appointments/{visit_id}/observations").json["items"]
        by_id = {one["id"]: one for one in listed}
        assert by_id[slip["id"]]["replaced_by"] == right.json["id"]
        again = note(nurse, visit_id, CALM, replaces=slip["id"])
        assert (again.status_code, again.json["type"]) == (409, "/problems/already-exists")

    def test_one_that_never_was_leaves_nothing(
        self, nurse: Caller, desk: Caller, visit_id: UUID
    ) -> None:
        wrong = note(nurse, visit_id, CALM).json
        told = {"replaces": wrong["id"], "taken_at": "2025-03-02T14:00:00Z"}
        assert note(nurse, visit_id, {}, **told).status_code == 201  # whenever it was said to be
        assert vitals(desk, visit_id)["state"] == "open"

    def test_what_was_measured_before_the_desk_saw_them_may_be_written_down(
        self, nurse: Caller, visit_id: UUID
    ) -> None:
        assert note(nurse, visit_id, CALM, taken_at="2026-03-02T13:00:00Z").status_code == 201


class TestHold:
    def test_no_reason_opens_what_is_to_be_measured_again(
        self, nurse: Caller, desk: Caller, visit_id: UUID, clock: Clock
    ) -> None:
        note(nurse, visit_id, CALM | {"systolic": 165})
        told = {"code": "vitals", "reason": "always so before a session"}
        refused = nurse.post(f"/appointments/{visit_id}/overrides", told)
        assert (refused.status_code, refused.json["type"]) == (422, "/problems/not-ready")
        assert refused.json["gates"][0]["detail"].startswith("On hold: systolic. Measure again")

        clock.now += 10 * MINUTE
        note(nurse, visit_id, CALM | {"systolic": 161})
        assert nurse.post(f"/appointments/{visit_id}/overrides", told).status_code == 201
        assert vitals(desk, visit_id)["state"] == "overridden"

        clock.now += MINUTE  # what comes to light afterwards is not what the reason spoke of
        note(nurse, visit_id, CALM | {"systolic": 181})
        assert vitals(desk, visit_id)["state"] == "failed"

    def test_the_value_is_for_those_who_treat(
        self, nurse: Caller, desk: Caller, visit_id: UUID
    ) -> None:
        note(nurse, visit_id, CALM | {"systolic": 165})
        assert vitals(nurse, visit_id)["detail"].startswith("On hold: systolic 165. Measure again")
        assert "165" not in vitals(desk, visit_id)["detail"]

    @pytest.mark.parametrize("better", [138, 150])
    def test_nor_does_what_is_better_a_minute_later(
        self, nurse: Caller, desk: Caller, visit_id: UUID, clock: Clock, better: int
    ) -> None:
        note(nurse, visit_id, CALM | {"systolic": 170})
        on_hold = "On hold: systolic. Measure again at 09:10 EST or later."
        for _ in range(3):
            clock.now += 3 * MINUTE
            note(nurse, visit_id, CALM | {"systolic": better})
            assert vitals(desk, visit_id)["detail"] == on_hold
            assert self._refused(nurse, visit_id) == "/problems/not-ready"

        clock.now += MINUTE
        assert vitals(desk, visit_id)["detail"] == on_hold  # what was too early does not count now
        note(nurse, visit_id, CALM | {"systolic": better})
        assert vitals(desk, visit_id)["state"] == ("met" if better == 138 else "failed")
        assert vitals(desk, visit_id)["detail"] != on_hold

    def test_a_typing_error_is_put_right_at_once(
        self, nurse: Caller, desk: Caller, visit_id: UUID, clock: Clock
    ) -> None:
        wrong = note(nurse, visit_id, CALM | {"systolic": 170}).json
        clock.now += MINUTE
        note(nurse, visit_id, CALM, replaces=wrong["id"])
        assert vitals(desk, visit_id)["state"] == "met"

    def _refused(self, nurse: Caller, visit_id: UUID) -> str:
        etag = nurse.get(f"/appointments/{visit_id}").headers["ETag"]
        begun = nurse.post(f"/appointments/{visit_id}/start-dosing", etag=etag)
        return str(begun.json["type"])


class TestLate:
    def test_who_serves_it_hears_once_and_the_task_ends_with_it(
        self, session: Session, nurse: Caller, visit_id: UUID, clock: Clock
    ) -> None:
        note(nurse, visit_id, CALM)
        begun = sessions.act(
            session, Call(visit_id, None), Action.START_DOSING, by=DOCTOR, now=clock.now
        )
        for minutes, told in ((45, 0), (46, 1), (50, 1)):
            observing.alarm_late(session, clock.now + minutes * MINUTE)
            assert self._readers_told(session) == (told and self._serving(session, begun.id))
        assert self._task(session) is TaskStatus.REQUESTED

        clock.now += 51 * MINUTE
        session.commit()
        note(nurse, visit_id, CALM)
        observing.alarm_late(session, clock.now)

        session.expire_all()
        assert self._task(session) is TaskStatus.COMPLETED

    def test_during_an_infusion_each_is_told_of_as_it_becomes_late(
        self, session: Session, nurse: Caller, world: World, clock: Clock, bound: Any
    ) -> None:
        """Due every ten minutes, and late after five: the next is due by then."""
        infusion = json.loads(Path("protocols/iv-infusion.json").read_text())["visits"]
        [asked] = [one for one in infusion["infusion"]["watch"] if one["code"] == "during"]
        content = watched_content()
        content["visits"]["dosing"] |= {"gates": [], "watch": [asked]}
        visit_id = come(session, world, clock, content)
        begun = sessions.act(
            session, Call(visit_id, None), Action.START_DOSING, by=DOCTOR, now=clock.now
        )
        serving = self._serving(session, begun.id)
        told = {15: 0, 16: 1, 20: 1, 25: 1, 26: 2, 35: 2, 36: 3}
        for minutes, times in told.items():
            observing.alarm_late(session, clock.now + minutes * MINUTE)
            session.expire_all()
            assert self._readers_told(session) == times * serving, minutes
            assert self._tasks(session) == [TaskStatus.REQUESTED] * (minutes > 15), minutes

        clock.now += 37 * MINUTE
        session.commit()
        note(nurse, visit_id, CALM)
        observing.alarm_late(session, clock.now)
        session.expire_all()
        assert self._tasks(session) == [TaskStatus.COMPLETED]
        listed = nurse.get(f"/appointments/{visit_id}/watch").json["items"]
        states = [one["state"] for one in listed]
        assert states == ["missed", "missed", "missed", "done"]

    @pytest.mark.parametrize("ends", ["discharged", "in error"])
    def test_the_task_ends_with_the_visit(
        self, session: Session, nurse: Caller, visit_id: UUID, clock: Clock, ends: str
    ) -> None:
        note(nurse, visit_id, CALM)
        call = Call(visit_id, None, "of another patient")
        sessions.act(session, call, Action.START_DOSING, by=DOCTOR, now=clock.now)
        clock.now += 50 * MINUTE
        observing.alarm_late(session, clock.now)
        assert self._task(session) is TaskStatus.REQUESTED

        if ends == "in error":
            sessions.correct(session, call, by=DOCTOR, now=clock.now)
        else:
            for action in (Action.START_RECOVERY, Action.DISCHARGE):
                sessions.act(session, call, action, by=DOCTOR, now=clock.now)
        observing.alarm_late(session, clock.now)

        session.expire_all()
        assert self._task(session) is TaskStatus.COMPLETED

    def _tasks(self, session: Session) -> list[TaskStatus]:
        query = select(Task.status).where(Task.kind == TaskKind.WATCH_LATE)
        return list(session.scalars(query))

    def _readers_told(self, session: Session) -> int:
        query = select(Message.recipient_id).where(Message.kind == MessageKind.WATCH_LATE)
        return len(session.scalars(query).all())

    def _serving(self, session: Session, visit_id: UUID) -> int:
        return len(facts.practitioners_of(session, visit_id))

    def _task(self, session: Session) -> TaskStatus:
        [status] = self._tasks(session)
        return status


def test_a_reason_without_a_measure_is_no_measure(
    session: Session, nurse: Caller, visit_id: UUID, clock: Clock
) -> None:
    """The cuff is broken, a prescriber decides; what is measured after all counts."""
    reasons = Reasons({"vitals": "the cuff is broken"})
    sessions.override(session, visit_id, reasons, by=DOCTOR, now=clock.now)
    session.commit()
    clock.now += MINUTE
    note(nurse, visit_id, CALM | {"systolic": 150})
    visit = facts.one(session, Appointment, visit_id)
    [found] = evidence.judge(session, [visit], clock.now)[visit_id].gates
    assert found.state == "failed"
