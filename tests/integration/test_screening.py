"""Patients are screened, their medicines gone through, and somebody decides on what is held."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import (
    Appointment,
    AuditEvent,
    Course,
    Message,
    Reconciliation,
    Screen,
    ScreenDecision,
    Task,
    enter_clinic,
)
from models.vocabulary import (
    GateState,
    MessageKind,
    MessageState,
    Owner,
    PractitionerRole,
    Recipient,
    Role,
    TaskKind,
    TaskStatus,
)
from notifications import links, reading
from scheduler import booking, courses, evidence, facts, reopening, sessions
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Order
from scheduler.permissions import BUNDLES
from tests.factories import (
    DAY,
    MONDAY_9,
    SOURCE,
    SUNDAY_NOON,
    World,
    figure,
    gate,
    make_practitioner,
    make_protocol,
    make_world,
    protocol_content,
    screen,
)
from tests.integration.conftest import Caller, Clock, Keyring

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
MINUTE = timedelta(minutes=1)
ACTIONS = {"aneurysm": "block", "pregnancy": "block", "glaucoma": "hold", "bladder": "discuss"}


def content() -> dict[str, Any]:
    told = protocol_content() | {"code": "test-screened"}
    lift = {"pregnancy": ["prescriber"], "glaucoma": ["prescriber"]}
    told["screening"] = {
        "conditions": [
            {"code": code, "title": code.capitalize(), "action": action, "source": SOURCE}
            | ({"lift": lift[code]} if code in lift else {})
            for code, action in ACTIONS.items()
        ],
        "medicines": [
            {"code": "stimulants", "title": "S", "action": "hold-dose-day", "source": SOURCE},
            {"code": "hypnotics", "title": "H", "action": "hold-24h", "source": SOURCE},
            {"code": "sprays", "title": "N", "action": "discuss", "source": SOURCE},
        ],
    }
    told["visits"]["dosing"]["gates"] = [
        gate("contraindication-screen", "booking", "screen", ends_on=["pregnancy"]),
        gate("medications", "arrival", "medicines", holds=figure(72, "h")),
    ]
    told["visits"]["dosing"]["checklist"] = []
    told["caps"], told["gaps"] = [], []
    told["steps"] = [{"key": "dosing", "visit": "dosing"}]
    return told


@pytest.fixture
def step_id(session: Session, world: World, clock: Clock, bound: Any) -> UUID:
    """A patient under a protocol that screens; nothing is settled yet."""
    version_id = make_protocol(session, content())
    course = courses.open_course(session, world.patient_id, version_id, by=DESK)
    [step] = facts.steps_of(session, course.id)
    session.commit()
    return step.id


@pytest.fixture
def visit(session: Session, world: World, step_id: UUID) -> Appointment:
    """A dose on Monday at nine, of a patient who was screened on Sunday at noon."""
    screen(session, world.patient_id)
    return book(session, world, step_id)


@pytest.fixture
def nurse(session: Session, world: World, key: Keyring) -> Caller:
    nurse_id, _ = make_practitioner(session, world.site_id, PractitionerRole.MONITOR)
    return key(Role.CLINICIAN, nurse_id)


def book(session: Session, world: World, step_id: UUID, **reasons: str) -> Appointment:
    order = Order(
        patient_id=world.patient_id,
        starts_at=MONDAY_9,
        course_step_id=step_id,
        reasons=Reasons(reasons),
    )
    visit = booking.book(session, order, by=DOCTOR, now=SUNDAY_NOON)
    session.commit()
    return visit


def answers(**found: str) -> list[dict[str, str]]:
    return [{"condition": one, "answer": found.get(one, "absent")} for one in ACTIONS]


def gate_of(caller: Caller, visit: Appointment, code: str) -> tuple[str, str]:
    gates = caller.get(f"/appointments/{visit.id}/readiness").json["gates"]
    return next((one["state"], one["detail"]) for one in gates if one["code"] == code)


GATE_REOPENED = Message.kind == MessageKind.GATE_REOPENED
SETTLE_ANEW = select(Task).where(Task.kind == TaskKind.SETTLE_ANEW)


def courses_of(session: Session) -> UUID:
    return session.scalars(select(Course.id)).one()


def told(session: Session) -> set[Recipient]:
    return set(session.scalars(select(Message.recipient).where(GATE_REOPENED)))


class TestScreens:
    def test_what_is_asked_is_what_the_protocols_say(
        self, nurse: Caller, world: World, step_id: UUID
    ) -> None:
        asked = nurse.get(f"/patients/{world.patient_id}/screening").json
        assert {one["code"]: one["action"] for one in asked["conditions"]} == ACTIONS
        assert [len(one["lift"]) for one in asked["conditions"]] == [0, 1, 1, 0]
        assert [one["code"] for one in asked["medicines"]] == ["stimulants", "hypnotics", "sprays"]

    def test_a_dose_is_booked_once_the_patient_was_screened(
        self, desk: Caller, nurse: Caller, world: World, step_id: UUID
    ) -> None:
        order = {
            "patient_id": str(world.patient_id),
            "course_step_id": str(step_id),
            "starts_at": MONDAY_9.isoformat(),
        }
        refused = desk.post("/appointments", order)
        assert refused.json["type"] == "/problems/not-ready"
        [shut] = refused.json["gates"]
        assert (shut["code"], shut["state"]) == ("contraindication-screen", "open")

        path = f"/patients/{world.patient_id}/screens"
        told = [*answers()[:-1], {"condition": "bladder", "answer": "present", "note": "at night"}]
        made = nurse.post(path, {"answers": told, "note": "on the phone"})
        assert made.status_code == 201, made.json
        assert made.json["screened_by"].startswith("key:clinician")
        assert made.json["answers"][1] == told[-1]
        booked = desk.post("/appointments", order)
        assert booked.status_code == 201, booked.json
        visit = booked.json["id"]
        gates = nurse.get(f"/appointments/{visit}/readiness").json["gates"]
        assert gates[0]["state"] == "met"
        assert gates[0]["detail"].endswith("To discuss: Bladder.")
        assert nurse.get(path).json["items"] == [made.json]

    def test_what_was_found_is_named_to_those_who_treat(
        self, key: Keyring, desk: Caller, nurse: Caller, visit: Appointment, clock: Clock
    ) -> None:
        clock.now = SUNDAY_NOON + MINUTE
        path = f"/patients/{visit.patient_id}/screens"
        nurse.post(path, {"answers": answers(glaucoma="present")})
        board = "/readiness?from=2026-03-01T00:00:00Z&to=2026-03-25T00:00:00Z"
        for who, said in (
            (nurse, "To be decided by prescriber: Glaucoma."),
            (key(Role.ADMIN), "To be decided by prescriber."),
            (desk, "To be decided by prescriber."),
            (key(Role.AUDITOR), "Not settled yet."),
        ):
            assert gate_of(who, visit, "contraindication-screen") == ("open", said)
            [row] = who.get(board).json["items"]
            assert row["readiness"]["gates"][0]["detail"] == said

    def test_a_refusal_names_nothing(
        self, session: Session, desk: Caller, nurse: Caller, world: World, step_id: UUID
    ) -> None:
        screen(session, world.patient_id, "aneurysm")
        session.commit()
        order = {
            "patient_id": str(world.patient_id),
            "course_step_id": str(step_id),
            "starts_at": MONDAY_9.isoformat(),
        }
        refused = desk.post("/appointments", order)
        assert refused.json["gates"][0]["detail"] == "Something speaks against it."
        near = "from=2026-03-02T00:00:00Z&to=2026-03-04T00:00:00Z"
        empty = desk.get(f"/openings?course_step_id={step_id}&{near}")
        assert empty.json["shut_by"][0]["code"] == "contraindication-screen"
        plan = desk.post(f"/courses/{courses_of(session)}/proposals", {"wishes": {}})
        for answer in (refused, empty, plan):
            assert "neurysm" not in answer.text

    def test_a_later_screen_replaces_an_earlier_one(
        self, session: Session, nurse: Caller, visit: Appointment, clock: Clock
    ) -> None:
        path = f"/patients/{visit.patient_id}/screens"
        for minutes, found, expected in (
            (1, {"aneurysm": "present"}, "failed"),
            (2, {"glaucoma": "unknown"}, "open"),
            (3, {}, "met"),
        ):
            clock.now = SUNDAY_NOON + minutes * MINUTE
            assert nurse.post(path, {"answers": answers(**found)}).status_code == 201
            assert gate_of(nurse, visit, "contraindication-screen")[0] == expected
        late = {"answers": answers(aneurysm="present"), "screened_at": SUNDAY_NOON.isoformat()}
        nurse.post(path, late)  # typed in later, and done before
        assert gate_of(nurse, visit, "contraindication-screen")[0] == "met"

    @pytest.mark.parametrize("found", ["aneurysm", "glaucoma"])
    def test_who_has_a_visit_ahead_that_it_shuts_hears_of_it(
        self, session: Session, nurse: Caller, visit: Appointment, clock: Clock, found: str
    ) -> None:
        clock.now = SUNDAY_NOON + MINUTE
        path = f"/patients/{visit.patient_id}/screens"
        nurse.post(path, {"answers": answers(bladder="present")})
        assert told(session) == set()
        nurse.post(path, {"answers": answers(**{found: "present"})})
        who_may_decide = {Recipient.PRACTITIONER} if found == "glaucoma" else set()
        assert told(session) == {Recipient.PATIENT, Recipient.FRONT_DESK} | who_may_decide
        tasks = select(Task.appointment_id).where(Task.kind == TaskKind.SETTLE_ANEW)
        assert session.scalars(tasks).all() == [visit.id]

    def test_a_new_event_ends_it(self, nurse: Caller, visit: Appointment, clock: Clock) -> None:
        clock.now = SUNDAY_NOON + MINUTE
        nurse.post(f"/patients/{visit.patient_id}/health-events", {"kind": "pregnancy"})
        state, detail = gate_of(nurse, visit, "contraindication-screen")
        assert (state, detail) == ("expired", "Ended by pregnancy.")

    @pytest.mark.parametrize(("found", "status"), [("aneurysm", 403), ("pregnancy", 201)])
    def test_a_block_yields_to_a_reason_of_whom_the_protocol_names(
        self,
        nurse: Caller,
        doctor: Caller,
        visit: Appointment,
        clock: Clock,
        found: str,
        status: int,
    ) -> None:
        clock.now = SUNDAY_NOON + MINUTE
        path = f"/patients/{visit.patient_id}/screens"
        nurse.post(path, {"answers": answers(**{found: "present"})})
        reason = {"code": "contraindication-screen", "reason": "weighed with the patient"}
        over = f"/appointments/{visit.id}/overrides"
        assert nurse.post(over, reason).status_code == 403
        assert doctor.post(over, reason).status_code == status
        state, _ = gate_of(nurse, visit, "contraindication-screen")
        assert state == ("overridden" if status == 201 else "failed")
        clock.now += MINUTE
        nurse.post(path, {"answers": answers(**{found: "present"})})
        assert gate_of(nurse, visit, "contraindication-screen")[0] == "failed"  # known anew

    def test_a_block_is_booked_over_only_by_whom_it_names(
        self, session: Session, doctor: Caller, world: World, step_id: UUID
    ) -> None:
        order = {
            "patient_id": str(world.patient_id),
            "course_step_id": str(step_id),
            "starts_at": MONDAY_9.isoformat(),
            "reasons": {"contraindication-screen": "weighed"},
        }
        screen(session, world.patient_id, "aneurysm")
        refused = doctor.post("/appointments", order)
        assert (refused.status_code, refused.json["who"]) == (403, [])
        screen(session, world.patient_id, "pregnancy", at=SUNDAY_NOON)
        assert doctor.post("/appointments", order).status_code == 201

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"answers": answers()[1:]}, "answers"),
            ({"answers": [*answers(), {"condition": "odd", "answer": "absent"}]}, "answers"),
            ({"answers": answers(), "screened_at": "2031-01-01T00:00:00Z"}, "screened_at"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, session: Session, nurse: Caller, world: World, step_id: UUID, body: Any, field: str
    ) -> None:
        refused = nurse.post(f"/patients/{world.patient_id}/screens", body)
        assert (refused.status_code, refused.json["field"]) == (422, field)
        assert session.scalar(select(func.count()).select_from(Screen)) == 0

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"answers": []},
            {"answers": [*answers(), answers()[0]]},
            {"answers": answers(aneurysm="maybe")},
            {"answers": [{"condition": "aneurysm"}]},
            {"answers": answers(), "screened_by": "me"},
            {"answers": answers(), "screened_at": "yesterday"},
            {"answers": {"aneurysm": "absent"}},
            {"answers": answers(), "note": "n" * 2001},
        ],
    )
    def test_what_cannot_be_read_is_refused(
        self, nurse: Caller, world: World, step_id: UUID, body: Any
    ) -> None:
        refused = nurse.post(f"/patients/{world.patient_id}/screens", body)
        assert (refused.status_code, refused.json["type"]) == (422, "/problems/invalid")

    def test_the_audit_trail_holds_no_finding(
        self, session: Session, nurse: Caller, visit: Appointment
    ) -> None:
        nurse.post(f"/patients/{visit.patient_id}/screens", {"answers": answers()})
        line = session.scalars(select(AuditEvent).where(AuditEvent.entity == "screen")).one()
        assert (line.patient_id, line.facts) == (visit.patient_id, {})


class TestHolds:
    @pytest.fixture
    def held(self, nurse: Caller, visit: Appointment, clock: Clock) -> str:
        clock.now = SUNDAY_NOON + MINUTE
        path = f"/patients/{visit.patient_id}/screens"
        return str(nurse.post(path, {"answers": answers(glaucoma="present")}).json["id"])

    def decide(self, by: Caller, visit: Appointment, held: str, outcome: str, **more: str) -> Any:
        told = {"condition": "glaucoma", "outcome": outcome, "reason": "seen by an eye doctor"}
        path = f"/patients/{visit.patient_id}/screens/{held}/decisions"
        return by.post(path, told | more)

    def test_a_prescriber_decides(
        self, session: Session, nurse: Caller, doctor: Caller, visit: Appointment, held: str
    ) -> None:
        told = gate_of(nurse, visit, "contraindication-screen")
        assert told == ("open", "To be decided by prescriber: Glaucoma.")
        refused = self.decide(nurse, visit, held, "go-ahead")
        assert (refused.status_code, refused.json["who"]) == (403, ["prescriber"])
        assert session.scalar(select(func.count()).select_from(ScreenDecision)) == 0
        assert self.decide(doctor, visit, held, "go-ahead").status_code == 201
        assert gate_of(nurse, visit, "contraindication-screen")[0] == "met"
        assert self.decide(doctor, visit, held, "refused").status_code == 201
        assert gate_of(nurse, visit, "contraindication-screen")[0] == "failed"
        [shown] = nurse.get(f"/patients/{visit.patient_id}/screens").json["items"][1:]
        assert [one["outcome"] for one in shown["decisions"]] == ["go-ahead", "refused"]

    def test_a_new_screen_asks_for_a_new_decision(
        self, nurse: Caller, doctor: Caller, visit: Appointment, clock: Clock, held: str
    ) -> None:
        self.decide(doctor, visit, held, "go-ahead")
        clock.now += MINUTE
        path = f"/patients/{visit.patient_id}/screens"
        nurse.post(path, {"answers": answers(glaucoma="present")})
        assert gate_of(nurse, visit, "contraindication-screen")[0] == "open"
        late = self.decide(doctor, visit, held, "go-ahead")
        assert (late.status_code, late.json["type"]) == (409, "/problems/already-exists")

    @pytest.mark.parametrize(
        ("more", "status"),
        [
            ({"condition": "aneurysm"}, 422),  # a block is not decided on
            ({"condition": "odd"}, 422),
            ({"reason": ""}, 422),
            ({"outcome": "maybe"}, 422),
        ],
    )
    def test_nothing_else_is_decided(
        self, doctor: Caller, visit: Appointment, held: str, more: dict[str, str], status: int
    ) -> None:
        told = {"outcome": "go-ahead"} | more
        assert self.decide(doctor, visit, held, told.pop("outcome"), **told).status_code == status

    def test_of_another_patient_there_is_none(
        self, doctor: Caller, visit: Appointment, held: str
    ) -> None:
        told = {"condition": "glaucoma", "outcome": "go-ahead", "reason": "r"}
        for path in (
            f"/patients/{uuid4()}/screens/{held}/decisions",
            f"/patients/{visit.patient_id}/screens/{uuid4()}/decisions",
        ):
            assert doctor.post(path, told).status_code == 404


class TestMedicines:
    TAKEN = (
        {"name": "Methylphenidate", "class": "stimulants", "note": "mornings"},
        {"name": "Zolpidem", "class": "hypnotics"},
        {"name": "Vitamin D"},
    )

    def list(self, by: Caller, visit: Appointment) -> Any:
        path = f"/patients/{visit.patient_id}/reconciliations"
        return by.post(path, {"medicines": list(self.TAKEN)})

    def rule(self, by: Caller, visit: Appointment, line: str, **told: str) -> Any:
        path = f"/patients/{visit.patient_id}/reconciliations/{line}/rulings"
        return by.post(path, {one.rstrip("_"): value for one, value in told.items()})

    def test_what_is_left_out_is_approved_first(
        self, nurse: Caller, doctor: Caller, visit: Appointment
    ) -> None:
        assert gate_of(nurse, visit, "medications")[0] == "open"
        line = self.list(nurse, visit).json["id"]
        told = gate_of(nurse, visit, "medications")
        waiting = "Methylphenidate (hold-dose-day); Zolpidem (hold-24h)"
        assert told == ("open", f"To be approved: {waiting}.")

        by_nurse = self.rule(nurse, visit, line, class_="stimulants", action="hold-dose-day")
        assert (by_nurse.status_code, by_nurse.json["who"]) == (403, ["prescriber"])
        approved = self.rule(doctor, visit, line, class_="stimulants", action="hold-dose-day")
        assert approved.status_code == 201, approved.json
        bare = self.rule(doctor, visit, line, class_="hypnotics", action="discuss")
        assert (bare.status_code, bare.json["field"]) == (422, "reason")
        changed = self.rule(
            doctor, visit, line, class_="hypnotics", action="discuss", reason="half a pill"
        )
        assert changed.status_code == 201
        told = gate_of(nurse, visit, "medications")
        assert told == (
            "met",
            "Gone through. Left out on the day: Methylphenidate. To discuss: Zolpidem.",
        )
        [shown] = nurse.get(f"/patients/{visit.patient_id}/reconciliations").json["items"]
        assert [one["class"] for one in shown["medicines"]] == ["stimulants", "hypnotics", None]
        assert [one["action"] for one in shown["rulings"]] == ["hold-dose-day", "discuss"]

    def test_where_no_protocol_names_it_any_more_a_prescriber_decides_with_a_reason(
        self,
        session: Session,
        nurse: Caller,
        doctor: Caller,
        visit: Appointment,
    ) -> None:
        line = self.list(nurse, visit).json["id"]
        assert visit.course_id is not None
        courses.discontinue(session, Call(visit.course_id, None, "r"), by=DOCTOR, now=SUNDAY_NOON)
        session.commit()
        told = {"class_": "stimulants", "action": "hold-dose-day"}
        refused = self.rule(nurse, visit, line, reason="r", **told)
        assert (refused.status_code, refused.json["who"]) == (403, ["prescriber"])
        bare = self.rule(doctor, visit, line, **told)
        assert (bare.status_code, bare.json["field"]) == (422, "reason")
        assert self.rule(doctor, visit, line, reason="r", **told).status_code == 201

    def test_who_may_approve_it_hears_of_it_and_has_a_task(
        self, session: Session, world: World, nurse: Caller, visit: Appointment
    ) -> None:
        self.list(nurse, visit)
        assert told(session) == {Recipient.FRONT_DESK, Recipient.PRACTITIONER}
        of_staff = Message.recipient == Recipient.PRACTITIONER
        query = select(Message.recipient_id).where(GATE_REOPENED, of_staff)
        assert session.scalars(query).all() == [world.prescriber_id]
        task = session.scalars(SETTLE_ANEW).one()
        assert (task.owner, task.note) == (Owner.CLINICIAN, "medications")
        self.list(nurse, visit)  # another list, on which the same waits
        assert len(session.scalars(query).all()) == 1

    def test_approved_at_once_nobody_hears_of_it(
        self, session: Session, nurse: Caller, doctor: Caller, visit: Appointment
    ) -> None:
        line = self.list(nurse, visit).json["id"]
        self.rule(doctor, visit, line, class_="stimulants", action="hold-dose-day")
        assert reopening.review(session, SUNDAY_NOON) == 0  # one class waits still
        self.rule(doctor, visit, line, class_="hypnotics", action="hold-24h")
        session.commit()
        assert reopening.review(session, SUNDAY_NOON + MINUTE) == 1
        session.expire_all()
        assert session.scalars(SETTLE_ANEW).one().status is TaskStatus.COMPLETED
        states = session.scalars(select(Message.state).where(GATE_REOPENED))
        assert set(states) == {MessageState.SUPERSEDED}

    def test_what_was_settled_before_the_patient_hears_of_as_well(
        self, session: Session, nurse: Caller, visit: Appointment, clock: Clock
    ) -> None:
        path = f"/patients/{visit.patient_id}/reconciliations"
        nurse.post(path, {"medicines": []})
        assert told(session) == set()
        clock.now = SUNDAY_NOON + MINUTE
        self.list(nurse, visit)
        assert told(session) == set(Recipient) - {Recipient.ESCORT, Recipient.USER}

    def test_a_new_list_after_a_reason_is_told(
        self, session: Session, nurse: Caller, visit: Appointment, clock: Clock
    ) -> None:
        reasons = Reasons({"medications": "Told by telephone: none."})
        sessions.override(session, visit.id, reasons, by=DOCTOR, now=SUNDAY_NOON)
        session.commit()
        clock.now = SUNDAY_NOON + MINUTE
        self.list(nurse, visit)
        assert told(session) == set(Recipient) - {Recipient.ESCORT, Recipient.USER}

    def test_a_block_shuts_the_gate_once_it_is_confirmed(
        self, nurse: Caller, doctor: Caller, visit: Appointment
    ) -> None:
        line = self.list(nurse, visit).json["id"]
        self.rule(doctor, visit, line, class_="hypnotics", action="hold-24h")
        self.rule(doctor, visit, line, class_="stimulants", action="block", reason="too much")
        assert gate_of(nurse, visit, "medications") == ("failed", "Not with Methylphenidate.")

    def test_a_new_list_is_approved_anew(
        self, nurse: Caller, doctor: Caller, visit: Appointment, clock: Clock
    ) -> None:
        line = self.list(nurse, visit).json["id"]
        for one, action in (("stimulants", "hold-dose-day"), ("hypnotics", "hold-24h")):
            self.rule(doctor, visit, line, class_=one, action=action)
        assert gate_of(nurse, visit, "medications")[0] == "met"
        clock.now = SUNDAY_NOON + MINUTE
        self.list(nurse, visit)
        assert gate_of(nurse, visit, "medications")[0] == "open"
        late = self.rule(doctor, visit, line, class_="stimulants", action="hold-dose-day")
        assert late.status_code == 409

    @pytest.mark.parametrize(("hours", "expected"), [(72, GateState.MET), (73, GateState.EXPIRED)])
    def test_it_holds_for_three_days_at_the_time_of_the_visit(
        self, session: Session, nurse: Caller, visit: Appointment, hours: int, expected: GateState
    ) -> None:
        at: datetime = MONDAY_9 - timedelta(hours=hours)
        told = {"medicines": [], "reconciled_at": at.isoformat()}
        nurse.post(f"/patients/{visit.patient_id}/reconciliations", told)
        judged = evidence.judge(session, [visit], SUNDAY_NOON)[visit.id].gates
        assert judged[-1].state is expected

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"medicines": [{"name": "A"}, {"name": "B", "class": "odd"}]}, "medicines.1.class"),
            ({"medicines": [], "reconciled_at": "2031-01-01T00:00:00Z"}, "reconciled_at"),
            ({}, None),
            ({"medicines": [{"class": "stimulants"}]}, None),
            ({"medicines": [{"name": " "}]}, None),
            ({"medicines": [{"name": "A"}] * 101}, None),
            ({"medicines": "none"}, None),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, session: Session, nurse: Caller, visit: Appointment, body: Any, field: str | None
    ) -> None:
        refused = nurse.post(f"/patients/{visit.patient_id}/reconciliations", body)
        told: dict[str, Any] = refused.get_json()
        assert (refused.status_code, told.get("field")) == (422, field)
        assert session.scalar(select(func.count()).select_from(Reconciliation)) == 0

    def test_only_what_is_on_the_list_is_ruled_on(
        self, nurse: Caller, doctor: Caller, visit: Appointment
    ) -> None:
        line = self.list(nurse, visit).json["id"]
        odd = self.rule(doctor, visit, line, class_="sprays", action="discuss")
        assert (odd.status_code, odd.json["classes"]) == (422, ["hypnotics", "stimulants"])
        assert self.rule(doctor, visit, line, class_="stimulants", action="odd").status_code == 422
        gone = self.rule(doctor, visit, str(uuid4()), class_="stimulants", action="block")
        assert gone.status_code == 404

    def test_the_patient_reads_what_to_leave_out_and_no_message_says_it(
        self, session: Session, app: Flask, nurse: Caller, doctor: Caller, visit: Appointment
    ) -> None:
        line = self.list(nurse, visit).json["id"]
        self.rule(doctor, visit, line, class_="stimulants", action="hold-dose-day")
        assert "Methylphenidate" not in page(session, app, visit)  # one is not approved yet
        self.rule(doctor, visit, line, class_="hypnotics", action="hold-24h")
        shown = page(session, app, visit)
        assert "<strong>Methylphenidate</strong>: not on the day" in shown
        assert "<strong>Zolpidem</strong>: not in the 24 hours" in shown
        assert "Vitamin D" not in shown
        for message in session.scalars(select(Message.id)):
            assert "Methylphenidate" not in nurse.get(f"/messages/{message}").text


def page(session: Session, app: Flask, visit: Appointment) -> str:
    """The patient's page, to somebody who has given their date of birth."""
    link = links.New(visit.id, visit.patient_id, MONDAY_9 + 7 * DAY)
    [token] = links.mint(reading.raw(session), [link])
    session.commit()
    client = app.test_client()
    asked = client.get(f"/p/{token}", follow_redirects=True).text
    assert "leave out" not in asked
    form = asked.split('name="form" value="')[1].split('"')[0]
    born = {"form": form, "year": "1980", "month": "5", "day": "17"}
    return client.post("/p/birth-date", data=born, follow_redirects=True).text


class TestDoors:
    PATHS = ("screening", "screens", "reconciliations")

    def test_who_may_read(self, desk: Caller, key: Keyring, nurse: Caller, world: World) -> None:
        for path in self.PATHS:
            where = f"/patients/{world.patient_id}/{path}"
            assert nurse.get(where).status_code == 200
            for other in (desk, key(Role.AUDITOR)):
                assert other.get(where).status_code == 403

    def test_who_may_write(self, desk: Caller, admin: Caller, world: World, step_id: UUID) -> None:
        body = {"answers": answers()}
        listed: dict[str, Any] = {"medicines": []}
        for caller in (desk, admin):  # an admin has no licence
            patient = f"/patients/{world.patient_id}"
            assert caller.post(f"{patient}/screens", body).status_code == 403
            assert caller.post(f"{patient}/reconciliations", listed).status_code == 403

    def test_another_clinics_patient_is_nobody(
        self, session: Session, world: World, nurse: Caller
    ) -> None:
        other = make_world(session, "Other Practice")
        screened = screen(session, other.patient_id)
        session.commit()
        enter_clinic(session, world.clinic_id)
        patient = f"/patients/{other.patient_id}"
        for path in self.PATHS:
            assert nurse.get(f"{patient}/{path}").status_code == 404
        assert nurse.post(f"{patient}/screens", {"answers": answers()}).status_code == 404
        told = {"condition": "glaucoma", "outcome": "go-ahead", "reason": "r"}
        assert nurse.post(f"{patient}/screens/{screened}/decisions", told).status_code == 404

    @pytest.mark.parametrize(
        ("code", "instead"),
        [("contraindication-screen", "screens"), ("medications", "reconciliations")],
    )
    def test_nobody_vouches_for_these_gates(
        self, doctor: Caller, world: World, step_id: UUID, code: str, instead: str
    ) -> None:
        told = {"gate": code, "outcome": "cleared"}
        refused = doctor.post(f"/patients/{world.patient_id}/clearances", told)
        assert (refused.status_code, refused.json["field"]) == (422, "gate")
        assert f"`{instead}`" in refused.json["detail"]

    def test_where_no_protocol_asks_nothing_is_recorded(self, doctor: Caller, world: World) -> None:
        for path, body in (
            ("screens", {"answers": answers()}),
            ("reconciliations", {"medicines": []}),
        ):
            refused = doctor.post(f"/patients/{world.patient_id}/{path}", body)
            assert refused.json["type"] == "/problems/unfit"
