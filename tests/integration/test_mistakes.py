"""A departure or an override that never was: taken back by a line of its own, which stays."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Appointment, Departure, Message, Override, Task
from models.vocabulary import MessageKind, Recipient, Role, TaskKind
from scheduler import booking, courses, facts, sessions
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Order
from scheduler.errors import MayNotOverride, Unfit
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from tests.factories import (
    MONDAY_9,
    SOURCE,
    World,
    figure,
    gate,
    make_protocol,
    protocol_content,
)
from tests.integration.conftest import Caller, Clock, Keyring

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
NURSE = Authority("key:nurse", BUNDLES[Role.CLINICIAN], None, frozenset({"monitor"}))
DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
WRONG = {"reason": "of another patient"}


@pytest.fixture
def path(session: Session, world: World, clock: Clock, bound: Any) -> str:
    """A dose that the desk booked at short notice, for a reason."""
    content = protocol_content() | {"code": "test-mistakes"}
    content["visits"]["dosing"] |= {
        "gates": [
            gate("medical-clearance", "arrival", holds=figure(30, "d"), lift=["prescriber"]),
            gate("way-home", "discharge", "departure"),
        ],
        "checklist": [],
        "notice": figure(2, "d"),
        "ways_home": {"ways": ["escort"], "source": SOURCE},
    }
    content["steps"] = [{"key": "dosing", "visit": "dosing"}]
    course = courses.open_course(
        session, world.patient_id, make_protocol(session, content), by=DESK
    )
    [step] = facts.steps_of(session, course.id)
    order = Order(
        patient_id=world.patient_id,
        starts_at=MONDAY_9,
        course_step_id=step.id,
        reasons=Reasons({"short-notice": "they asked for it"}),
    )
    visit = booking.book(session, order, by=DESK, now=clock.now)
    session.commit()
    return f"/appointments/{visit.id}"


@pytest.fixture
def doctor(key: Keyring, world: World) -> Caller:
    return key(Role.CLINICIAN, world.prescriber_id)


@pytest.fixture
def nurse(key: Keyring, world: World) -> Caller:
    return key(Role.CLINICIAN, world.therapist_id)


def state(caller: Caller, path: str, code: str) -> str:
    gates = caller.get(f"{path}/readiness").json["gates"]
    return next(str(one["state"]) for one in gates if one["code"] == code)


def passed(session: Session, path: str) -> set[str]:
    visit_id = UUID(path.rsplit("/", 1)[1])
    return {code for _, code in facts.passed_over(session, [visit_id])}


class TestOverrides:
    @pytest.fixture
    def given(self, doctor: Caller, path: str) -> str:
        told = {"code": "medical-clearance", "reason": "known to me"}
        made = doctor.post(f"{path}/overrides", told)
        assert state(doctor, path, "medical-clearance") == "overridden"
        return f"{path}/overrides/{made.json['id']}/enter-in-error"

    def test_the_gate_is_judged_without_it_and_people_hear(
        self, session: Session, doctor: Caller, path: str, given: str
    ) -> None:
        taken = doctor.post(given, WRONG)

        assert taken.status_code == 201, taken.json
        assert taken.json["replaces"] == given.split("/")[-2]
        assert state(doctor, path, "medical-clearance") == "open"
        assert passed(session, path) == {"short-notice"}
        listed = doctor.get(f"{path}/overrides").json["items"]
        assert [one["reason"] for one in listed] == [
            "they asked for it",
            "known to me",
            "of another patient",
        ]
        last = doctor.get(f"{path}/events").json["items"][-1]
        assert (last["action"], last["reason"]) == ("take-back-override", WRONG["reason"])
        heard = select(Message.recipient).where(Message.kind == MessageKind.GATE_REOPENED)
        assert set(session.scalars(heard)) >= {Recipient.PATIENT, Recipient.FRONT_DESK}
        task = select(Task.note).where(Task.kind == TaskKind.SETTLE_ANEW)
        assert len(session.scalars(task).all()) == 1

    def test_one_that_was_given_besides_still_speaks(
        self, doctor: Caller, path: str, given: str, clock: Clock
    ) -> None:
        told = {"code": "medical-clearance", "reason": "once more"}
        doctor.post(f"{path}/overrides", told)
        assert doctor.post(given, WRONG).status_code == 201
        assert state(doctor, path, "medical-clearance") == "overridden"

    def test_whoever_may_not_give_it_may_not_take_it_back(
        self, doctor: Caller, nurse: Caller, desk: Caller, path: str, given: str
    ) -> None:
        for caller, why in ((nurse, "may-not-override"), (desk, "forbidden")):
            refused = caller.post(given, WRONG)
            assert (refused.status_code, refused.json["type"]) == (403, f"/problems/{why}")
        assert state(doctor, path, "medical-clearance") == "overridden"

    def test_it_is_taken_back_once(self, doctor: Caller, given: str) -> None:
        assert doctor.post(given, {}).status_code == 422
        line = doctor.post(given, WRONG).json
        again = doctor.post(given, WRONG)
        assert (again.status_code, again.json["type"]) == (409, "/problems/already-exists")
        itself = given.replace(given.split("/")[-2], line["id"])
        assert doctor.post(itself, WRONG).status_code == 409

    def test_of_another_visit_there_is_none(self, doctor: Caller, path: str, given: str) -> None:
        own, wrong = path.rsplit("/", 1)[1], given.split("/")[-2]
        assert doctor.post(given.replace(own, str(uuid4())), WRONG).status_code == 404
        assert doctor.post(given.replace(wrong, str(uuid4())), WRONG).status_code == 404

    def test_a_rule_is_taken_back_by_who_gave_it_or_a_clinician(
        self, session: Session, path: str, clock: Clock
    ) -> None:
        [given] = session.scalars(select(Override)).all()
        call = Call(given.appointment_id, None, "never asked for")
        other = Authority("key:other", BUNDLES[Role.SCHEDULER])
        with pytest.raises(MayNotOverride):
            sessions.take_back(session, call, given.id, by=other, now=clock.now)
        for by in (DESK, NURSE):
            with session.begin_nested() as attempt:
                sessions.take_back(session, call, given.id, by=by, now=clock.now)
                assert passed(session, path) == set()
                attempt.rollback()
        with pytest.raises(Unfit):
            sessions.take_back(
                session, Call(given.appointment_id, None), given.id, by=DESK, now=clock.now
            )


class TestDepartures:
    @pytest.fixture
    def noted(self, session: Session, doctor: Caller, path: str, clock: Clock) -> str:
        """The dose was given at nine, and the patient is noted as having left."""
        clock.now = MONDAY_9
        visit_id = UUID(path.rsplit("/", 1)[1])
        reasons = Reasons({"medical-clearance": "known to me"})
        sessions.override(session, visit_id, reasons, by=DOCTOR, now=clock.now)
        for action in (Action.ARRIVE, Action.START_DOSING, Action.START_RECOVERY):
            sessions.act(session, Call(visit_id, None), action, by=DOCTOR, now=clock.now)
        session.commit()
        made = self._leaves(doctor, path)
        assert state(doctor, path, "way-home") == "met"
        return f"{path}/departure/{made['id']}/enter-in-error"

    def _leaves(self, doctor: Caller, path: str, **more: Any) -> Any:
        told = {"way": "escort", "accompanied_by": "Fay", "deviation": "nobody was named", **more}
        made = doctor.post(f"{path}/departure", told)
        assert made.status_code == 201, made.json
        return made.json

    def test_nobody_left_and_it_can_be_noted_anew(
        self, session: Session, doctor: Caller, path: str, noted: str
    ) -> None:
        taken = doctor.post(noted, WRONG)

        assert taken.status_code == 201, taken.json
        assert (taken.json["in_error"], taken.json["deviation"]) == (True, WRONG["reason"])
        assert doctor.get(f"{path}/departure").status_code == 404
        assert state(doctor, path, "way-home") == "open"
        etag = doctor.get(path).headers["ETag"]
        refused = doctor.post(f"{path}/discharge", etag=etag)
        assert [one["code"] for one in refused.json["gates"]] == ["way-home"]
        last = doctor.get(f"{path}/events").json["items"][-1]
        assert (last["action"], last["reason"]) == ("take-back-departure", WRONG["reason"])

        self._leaves(doctor, path)
        assert state(doctor, path, "way-home") == "met"
        assert len(session.scalars(select(Departure)).all()) == 3

    def test_what_it_had_replaced_does_not_count_again(
        self, doctor: Caller, path: str, noted: str
    ) -> None:
        first = noted.split("/")[-2]
        second = self._leaves(doctor, path, replaces=first)
        old = doctor.post(noted, WRONG)
        assert (old.status_code, old.json["type"]) == (409, "/problems/already-exists")
        assert doctor.post(noted.replace(first, second["id"]), WRONG).status_code == 201
        assert state(doctor, path, "way-home") == "open"

    def test_a_clinician_takes_it_back_once(
        self, desk: Caller, key: Keyring, doctor: Caller, nurse: Caller, path: str, noted: str
    ) -> None:
        assert desk.post(noted, WRONG).status_code == 403
        assert key(Role.CLINICIAN).post(noted, WRONG).json["type"] == "/problems/may-not-override"
        assert doctor.post(noted, {}).status_code == 422
        own, wrong = path.rsplit("/", 1)[1], noted.split("/")[-2]
        assert doctor.post(noted.replace(own, str(uuid4())), WRONG).status_code == 404
        assert doctor.post(noted.replace(wrong, str(uuid4())), WRONG).status_code == 404
        line = nurse.post(noted, WRONG).json
        assert doctor.post(noted, WRONG).status_code == 409
        assert doctor.post(noted.replace(wrong, line["id"]), WRONG).status_code == 409

    def test_of_a_visit_that_is_over_as_well(
        self, session: Session, doctor: Caller, path: str, noted: str, clock: Clock
    ) -> None:
        visit_id = UUID(path.rsplit("/", 1)[1])
        for action in (Action.DISCHARGE, Action.FULFIL):
            sessions.act(session, Call(visit_id, None), action, by=DOCTOR, now=clock.now)
        session.commit()
        assert doctor.post(noted, WRONG).status_code == 201
        self._leaves(doctor, path)
        assert facts.one(session, Appointment, visit_id).status == "fulfilled"
