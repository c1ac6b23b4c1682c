"""What goes wrong: written down at any time, with a checklist of its own that gates rest on."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import Appointment, ChecklistItem, HealthEvent, Incident, Message, Patient, Task
from models.base import enter_clinic
from models.vocabulary import (
    ClearanceOutcome,
    MessageKind,
    MessageState,
    Recipient,
    Role,
    TaskKind,
    TaskStatus,
    WayHome,
)
from scheduler import (
    booking,
    clearances,
    courses,
    departures,
    facts,
    incidents,
    protocols,
    sessions,
)
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Order
from scheduler.checklists import Settling
from scheduler.clearances import NewClearance
from scheduler.departures import Left
from scheduler.incidents import Told
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from tests.factories import (
    DAY,
    MONDAY_9,
    SOURCE,
    SUNDAY_NOON,
    World,
    clear,
    figure,
    gate,
    make_protocol,
    protocol_content,
)
from tests.integration.conftest import Caller, Clock, Keyring

DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
MINUTE = timedelta(minutes=1)


def duty(code: str, minutes: int, on: str | None = None, owner: str = "clinician") -> Any:
    told = {"code": code, "title": code, "owner": owner, "due_after": figure(minutes, "min")}
    return told if on is None else told | {"gate": on}


def content() -> dict[str, Any]:
    told = protocol_content() | {"code": "test-incidents"}
    dosing = told["visits"]["dosing"]
    dosing["gates"] = [
        gate("clearance", "arrival", ends_on=["adverse-event"]),
        gate("followed-up", "arrival", "incidents"),
        gate("care", "discharge", "incidents"),
    ]
    dosing["checklist"] = []
    told["incidents"] = [
        {
            "code": "crisis",
            "title": "A crisis",
            "urgent": True,
            "health_event": "adverse-event",
            "source": SOURCE,
            "checklist": [
                duty("doctor-told", 5, "care"),
                duty("contact-told", 60, owner="front-desk"),
                duty("reviewed", 1440, "followed-up"),
            ],
        },
        {
            "code": "left",
            "title": "Left too early",
            "on_departure": ["against-advice"],
            "source": SOURCE,
            "checklist": [duty("reached", 60, "followed-up")],
        },
    ]
    told["caps"], told["gaps"] = [], []
    told["steps"] = [{"key": f"dosing-{n}", "visit": "dosing"} for n in (1, 2)]
    return told


@pytest.fixture
def visits(session: Session, world: World, clock: Clock, bound: Any) -> list[Appointment]:
    """A dose under way, and one a week later."""
    version_id = make_protocol(session, content())
    clear(session, world.patient_id, ["clearance"])
    course = courses.open_course(session, world.patient_id, version_id, by=DOCTOR)
    made = []
    for step, at in zip(
        facts.steps_of(session, course.id), (MONDAY_9, MONDAY_9 + 7 * DAY), strict=True
    ):
        order = Order(patient_id=world.patient_id, starts_at=at, course_step_id=step.id)
        made.append(booking.book(session, order, by=DOCTOR, now=SUNDAY_NOON))
    clock.now = MONDAY_9
    for action in (Action.ARRIVE, Action.START_DOSING, Action.START_RECOVERY):
        sessions.act(session, Call(made[0].id, None), action, by=DOCTOR, now=clock.now)
    session.commit()
    return made


@pytest.fixture
def doctor(key: Keyring, world: World) -> Caller:
    return key(Role.CLINICIAN, world.prescriber_id)


def shut(desk: Caller, visit: Appointment) -> dict[str, str]:
    gates = desk.get(f"/appointments/{visit.id}/readiness").json["gates"]
    return {one["code"]: one["state"] for one in gates if one["state"] not in {"met", "overridden"}}


def record(desk: Caller, visit: Appointment, code: str = "crisis", **more: Any) -> Any:
    path = f"/patients/{visit.patient_id}/incidents"
    return desk.post(path, {"code": code, "appointment_id": str(visit.id), **more})


def items(desk: Caller, incident: Any) -> dict[str, Any]:
    listed = desk.get(f"/incidents/{incident['id']}/checklist").json["items"]
    return {one["code"]: one for one in listed}


def settle(who: Caller, item: Any, status: str = "completed", answer: str | None = None) -> Any:
    told = {"status": status, "answer": answer}
    return who("PATCH", f"/checklist-items/{item['id']}", told, etag=item["etag"])


class TestRecording:
    def test_it_starts_its_checklist_and_tells_who_must_know(
        self, session: Session, desk: Caller, visits: list[Appointment]
    ) -> None:
        made = record(desk, visits[0], note="Chest pain.")
        assert made.status_code == 201, made.json
        assert made.json["title"] == "A crisis"
        assert [(one, told["due_at"]) for one, told in items(desk, made.json).items()] == [
            ("doctor-told", "2026-03-02T14:05:00Z"),
            ("contact-told", "2026-03-02T15:00:00Z"),
            ("reviewed", "2026-03-03T14:00:00Z"),
        ]
        told = session.scalars(
            select(Message.recipient).where(Message.kind == MessageKind.INCIDENT)
        ).all()
        assert set(told) == {Recipient.FRONT_DESK, Recipient.PRACTITIONER}
        task = session.scalars(select(Task).where(Task.kind == TaskKind.FOLLOW_INCIDENT)).one()
        assert (task.urgent, task.status) == (True, TaskStatus.REQUESTED)
        events = desk.get(f"/appointments/{visits[0].id}/events").json["items"]
        assert events[-1]["action"] == "incident"

    def test_what_is_urgent_shuts_discharge_and_the_rest_what_comes_next(
        self, desk: Caller, doctor: Caller, visits: list[Appointment]
    ) -> None:
        assert shut(desk, visits[0]) == {}
        made = record(desk, visits[0]).json
        assert shut(desk, visits[0])["care"] == "open"
        leaving = f"/appointments/{visits[0].id}/discharge"
        etag = desk.get(f"/appointments/{visits[0].id}").headers["ETag"]
        refused = doctor.post(leaving, etag=etag)
        assert [one["code"] for one in refused.json["gates"]] == ["care"]

        assert settle(doctor, items(desk, made)["doctor-told"]).status_code == 200
        assert "care" not in shut(desk, visits[0])
        assert doctor.post(leaving, etag=etag).status_code == 200
        # The next dose waits for the rest, and for a clearance given anew.
        assert shut(desk, visits[1]) == {"clearance": "expired", "followed-up": "open"}
        assert settle(doctor, items(desk, made)["reviewed"]).status_code == 200
        assert shut(desk, visits[1]) == {"clearance": "expired"}

    def test_once_all_is_done_the_task_ends_and_stands_again_if_it_is_not(
        self, session: Session, desk: Caller, doctor: Caller, visits: list[Appointment]
    ) -> None:
        made = record(desk, visits[0]).json
        query = select(Task.status).where(Task.kind == TaskKind.FOLLOW_INCIDENT)
        for item in items(desk, made).values():
            assert session.scalar(query) is TaskStatus.REQUESTED
            assert settle(doctor, item).status_code == 200
        assert session.scalar(query) is TaskStatus.COMPLETED
        settle(doctor, items(desk, made)["reviewed"], "requested")
        assert session.scalar(query) is TaskStatus.REQUESTED

    def test_outside_any_visit_it_is_the_patients_protocol_that_knows(
        self, desk: Caller, visits: list[Appointment]
    ) -> None:
        path = f"/patients/{visits[0].patient_id}/incidents"
        made = desk.post(path, {"code": "left"})
        assert made.status_code == 201
        assert made.json["appointment_id"] is None
        assert shut(desk, visits[1])["followed-up"] == "open"

    def test_a_reason_given_before_does_not_speak_about_it(
        self, session: Session, desk: Caller, visits: list[Appointment], clock: Clock
    ) -> None:
        record(desk, visits[0])
        reasons = Reasons({"care": "Done, and written down on paper."})
        clock.now += MINUTE
        sessions.override(session, visits[0].id, reasons, by=DOCTOR, now=clock.now)
        session.commit()
        assert "care" not in shut(desk, visits[0])
        clock.now += MINUTE
        record(desk, visits[0])
        assert shut(desk, visits[0])["care"] == "open"


class TestTrail:
    def test_what_went_wrong_stands_in_no_trail(
        self, session: Session, doctor: Caller, key: Keyring, visits: list[Appointment]
    ) -> None:
        """Auditors read both, and may not know it."""
        made = record(doctor, visits[0], note="Chest pain.").json
        settle(doctor, items(doctor, made)["doctor-told"])
        doctor.post(f"/incidents/{made['id']}/enter-in-error", {"reason": "Another patient."})
        auditor = key(Role.AUDITOR)
        events = auditor.get(f"/appointments/{visits[0].id}/events").json["items"]
        trail = auditor.get("/audit-events").json["items"]

        told = [one["facts"] for one in events if one["action"] == "incident"]
        assert told == [{"incident": made["id"]}]
        assert {one["entity"] for one in trail} >= {"incident", "checklist_item"}
        for word in ("crisis", "doctor-told", "Chest"):
            assert word not in str([*events, *trail])


class TestReading:
    """The desk may have to write it down; what stands in it, clinicians read."""

    def test_the_desk_sees_that_something_was_noted(
        self, desk: Caller, doctor: Caller, key: Keyring, visits: list[Appointment]
    ) -> None:
        note = "12 weeks; was in a psychiatric ward"
        path = f"/patients/{visits[0].patient_id}/health-events"
        made: Any = desk.post(path, {"kind": "pregnancy", "note": note})
        assert made.status_code == 201
        [seen] = desk.get(path).json["items"]
        assert not {"kind", "note"} & {*made.json, *seen}
        assert (seen["id"], seen["noted_by"]) == (made.json["id"], made.json["noted_by"])
        [read] = doctor.get(path).json["items"]
        assert (read["kind"], read["note"]) == ("pregnancy", note)
        assert key(Role.AUDITOR).get(path).status_code == 403

    def test_nor_does_it_read_what_was_noted_of_an_incident(
        self, desk: Caller, doctor: Caller, key: Keyring, visits: list[Appointment]
    ) -> None:
        made = record(desk, visits[0], note="she wanted to jump").json
        path = f"/patients/{visits[0].patient_id}/incidents"
        alone: Any = desk.get(_one(made))
        for shown in (made, desk.get(path).json["items"][0], alone.json):
            assert shown["title"]
            assert "note" not in shown
        assert doctor.get(_one(made)).json["note"] == "she wanted to jump"
        assert key(Role.AUDITOR).get(_one(made)).status_code == 403

    def test_nor_what_was_measured(self, desk: Caller, visits: list[Appointment]) -> None:
        assert desk.get(f"/appointments/{visits[0].id}/observations").status_code == 403
        assert desk.get(f"/appointments/{visits[0].id}/watch").status_code == 200


def _one(incident: Any) -> str:
    return f"/incidents/{incident['id']}"


class TestPutRight:
    def test_taken_back_it_asks_for_nothing_and_ends_no_clearance(
        self, session: Session, desk: Caller, doctor: Caller, visits: list[Appointment]
    ) -> None:
        made = record(desk, visits[0]).json
        path = f"/incidents/{made['id']}/enter-in-error"
        assert desk.post(path, {"reason": "Another patient."}).status_code == 403
        assert doctor.post(path, {"reason": "Another patient."}).status_code == 201
        assert shut(desk, visits[0]) == {}
        assert shut(desk, visits[1]) == {}
        follow = select(Task.status).where(Task.kind == TaskKind.FOLLOW_INCIDENT)
        assert session.scalar(follow) is TaskStatus.COMPLETED
        assert desk.get(f"/patients/{visits[0].patient_id}/incidents").json["items"] == []
        assert doctor.post(path, {"reason": "Again."}).status_code == 409
        assert len(session.scalars(select(Incident)).all()) == 2  # nothing is deleted
        assert len(session.scalars(select(HealthEvent)).all()) == 2

    def test_taken_back_it_is_not_told_any_more(
        self,
        session: Session,
        desk: Caller,
        doctor: Caller,
        visits: list[Appointment],
    ) -> None:
        wrong, right = (record(desk, visits[0]).json for _ in range(2))
        path = f"/incidents/{wrong['id']}/enter-in-error"
        assert doctor.post(path, {"reason": "Written down twice."}).status_code == 201
        told = session.execute(select(Message.rule, Message.state, Message.withdrawn)).all()
        told = [one for one in told if one.rule.startswith("incident:")]
        assert {one.rule: (one.state, one.withdrawn) for one in told} == {
            f"incident:{wrong['id']}": (MessageState.SUPERSEDED, True),
            f"incident:{right['id']}": (MessageState.SCHEDULED, False),
        }

    def test_taken_back_nothing_of_it_is_done_or_asked_for_again(
        self, session: Session, desk: Caller, doctor: Caller, visits: list[Appointment]
    ) -> None:
        made = record(desk, visits[0]).json
        settle(doctor, items(desk, made)["doctor-told"])
        path = f"/incidents/{made['id']}/enter-in-error"
        assert doctor.post(path, {"reason": "Another patient."}).status_code == 201
        for item in items(desk, made).values():
            for status in ("requested", "completed", "failed"):
                refused = settle(doctor, item, status, "After all.")
                assert (refused.status_code, refused.json["type"]) == (
                    409,
                    "/problems/wrong-status",
                )
        assert shut(desk, visits[0]) == shut(desk, visits[1]) == {}
        assert session.scalar(select(Task.status)) is TaskStatus.COMPLETED


class TestLeaving:
    def leave(self, session: Session, visit: Appointment, way: WayHome, clock: Clock) -> Any:
        last = facts.departure_of(session, visit.id)
        left = Left(
            way=way,
            left_at=clock.now,
            deviation="Would not wait.",
            replaces=None if last is None else last.id,
        )
        departures.note(session, visit.id, left, by=DOCTOR, now=clock.now)
        session.commit()

    def test_against_advice_it_starts_by_itself_and_once(
        self, session: Session, desk: Caller, visits: list[Appointment], clock: Clock
    ) -> None:
        self.leave(session, visits[0], WayHome.AGAINST_ADVICE, clock)
        self.leave(session, visits[0], WayHome.AGAINST_ADVICE, clock)  # put right, the same way
        found = desk.get(f"/patients/{visits[0].patient_id}/incidents").json["items"]
        assert [one["code"] for one in found] == ["left"]

    def test_as_planned_nothing_starts(
        self, session: Session, desk: Caller, visits: list[Appointment], clock: Clock
    ) -> None:
        self.leave(session, visits[0], WayHome.ESCORT, clock)
        assert desk.get(f"/patients/{visits[0].patient_id}/incidents").json["items"] == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("told", "field"),
        [
            ({"code": "unknown"}, "code"),
            ({"code": "crisis", "occurred_at": "2030-01-01T00:00:00Z"}, "occurred_at"),
        ],
    )
    def test_what_cannot_be(
        self, session: Session, desk: Caller, visits: list[Appointment], told: Any, field: str
    ) -> None:
        refused = desk.post(f"/patients/{visits[0].patient_id}/incidents", told)
        assert (refused.status_code, refused.json["field"]) == (422, field)
        assert session.scalars(select(Incident)).all() == []

    def test_what_was_in_a_visit_that_had_not_begun(
        self, desk: Caller, visits: list[Appointment], clock: Clock
    ) -> None:
        for visit, at, status in (
            (visits[0], MONDAY_9 - 61 * MINUTE, 422),
            (visits[0], MONDAY_9 - 60 * MINUTE, 201),  # in the waiting room
            (visits[1], MONDAY_9, 422),
        ):
            made = record(desk, visit, occurred_at=at.isoformat())
            assert (made.status_code, made.json.get("field")) == (
                status,
                "occurred_at" if status == 422 else None,
            )

    def test_who_was_not_born(
        self, session: Session, desk: Caller, visits: list[Appointment]
    ) -> None:
        facts.one(session, Patient, visits[0].patient_id).birth_date = date(2003, 5, 17)
        session.commit()
        path = f"/patients/{visits[0].patient_id}"
        for day, status in (("2003-05-16", 422), ("2003-05-17", 201)):
            at = f"{day}T12:00:00Z"
            made = desk.post(f"{path}/incidents", {"code": "crisis", "occurred_at": at})
            assert made.status_code == status
            made = desk.post(f"{path}/health-events", {"kind": "adverse-event", "happened_at": at})
            assert made.status_code == status

    def test_who_came_early_began_early(
        self, session: Session, desk: Caller, visits: list[Appointment], clock: Clock
    ) -> None:
        clock.now = visits[1].starts_at - 120 * MINUTE
        reasons = Reasons({"clearance": "Seen by me.", "followed-up": "Done."})
        sessions.override(session, visits[1].id, reasons, by=DOCTOR, now=clock.now)
        sessions.act(session, Call(visits[1].id, None), Action.ARRIVE, by=DOCTOR, now=clock.now)
        session.commit()
        for minutes, status in ((60, 201), (61, 422)):
            at = clock.now - minutes * MINUTE
            assert record(desk, visits[1], occurred_at=at.isoformat()).status_code == status

    def test_who_left_before_the_dose(
        self, session: Session, doctor: Caller, visits: list[Appointment], clock: Clock
    ) -> None:
        path = f"/appointments/{visits[0].id}/departure"
        told = {"way": "against-advice", "deviation": "Would not wait."}
        clock.now += 10 * MINUTE
        early = {**told, "left_at": (MONDAY_9 - MINUTE).isoformat()}
        refused = doctor.post(path, early)
        assert (refused.status_code, refused.json["field"]) == (422, "left_at")
        assert session.scalars(select(Incident)).all() == []
        at_once = {**told, "left_at": MONDAY_9.isoformat()}
        assert doctor.post(path, at_once).status_code == 201

    def test_who_and_whose(
        self, desk: Caller, key: Keyring, visits: list[Appointment], session: Session
    ) -> None:
        auditor = key(Role.AUDITOR)
        assert record(auditor, visits[0]).status_code == 403
        assert desk.post(f"/patients/{uuid4()}/incidents", {"code": "left"}).status_code == 404
        assert desk.get(f"/incidents/{uuid4()}").status_code == 404
        told = {"code": "left", "appointment_id": str(UUID(int=1))}
        path = f"/patients/{visits[0].patient_id}/incidents"
        assert desk.post(path, told).status_code == 404

    def test_what_a_gate_rests_on_is_waived_by_who_may_pass_over_it(
        self, desk: Caller, doctor: Caller, visits: list[Appointment], key: Keyring, world: World
    ) -> None:
        made = record(desk, visits[0]).json
        therapist = key(Role.CLINICIAN, world.therapist_id)
        item = items(desk, made)["doctor-told"]
        assert settle(desk, item).status_code == 403
        assert settle(therapist, item, "cancelled", "No.").status_code == 403
        assert settle(doctor, item, "cancelled").json["field"] == "answer"
        assert settle(doctor, item, "cancelled", "Told by phone.").status_code == 200
        assert settle(desk, items(desk, made)["contact-told"]).status_code == 200


def test_a_protocol_whose_incidents_rest_on_nothing_is_refused() -> None:
    told = content()
    told["incidents"][0]["checklist"][0]["gate"] = "nowhere"
    [fault] = protocols.check(told)
    assert fault.pointer == "/incidents/0/checklist/0/gate"


class TestWhatComesToLightAfterAReason:
    """A reason speaks about what was known when it was given."""

    def test_a_refusal(
        self, session: Session, desk: Caller, visits: list[Appointment], clock: Clock
    ) -> None:
        record(desk, visits[0])  # it ends the clearance
        reasons = Reasons({"clearance": "Seen by me."})
        sessions.override(session, visits[1].id, reasons, by=DOCTOR, now=clock.now)
        session.commit()
        assert "clearance" not in shut(desk, visits[1])
        told = NewClearance(
            gate="clearance",
            outcome=ClearanceOutcome.REFUSED,
            cleared_at=clock.now + MINUTE,
        )
        clearances.clear(session, visits[1].patient_id, told, by=DOCTOR, now=clock.now + 2 * MINUTE)
        session.commit()
        assert shut(desk, visits[1])["clearance"] == "failed"

    def test_a_duty_that_fails(
        self,
        session: Session,
        desk: Caller,
        doctor: Caller,
        visits: list[Appointment],
        clock: Clock,
    ) -> None:
        made = record(desk, visits[0]).json
        reasons = Reasons({"care": "Told by telephone."})
        sessions.override(session, visits[0].id, reasons, by=DOCTOR, now=clock.now)
        session.commit()
        assert "care" not in shut(desk, visits[0])
        clock.now += MINUTE
        settle(doctor, items(desk, made)["doctor-told"], "failed", "Not reached.")
        assert shut(desk, visits[0])["care"] == "failed"
        path = f"/incidents/{made['id']}/enter-in-error"
        assert doctor.post(path, {"reason": "Another patient."}).status_code == 201
        assert "care" not in shut(desk, visits[0])

    def test_another_incident_and_whoever_relied_on_the_reason_hears_of_it(
        self, session: Session, desk: Caller, visits: list[Appointment], clock: Clock
    ) -> None:
        record(desk, visits[0], "left")
        reasons = Reasons({"followed-up": "Seen by me.", "clearance": "Seen by me."})
        sessions.override(session, visits[1].id, reasons, by=DOCTOR, now=clock.now)
        session.commit()
        reopened = select(Task.note).where(Task.kind == TaskKind.SETTLE_ANEW)
        assert session.scalars(reopened).all() == []  # what it asks for is a task of its own
        clock.now += MINUTE
        record(desk, visits[0], "left")
        assert session.scalars(reopened).all() == ["followed-up"]


def test_one_that_starts_by_a_departure_counts_from_it(
    session: Session, desk: Caller, visits: list[Appointment], clock: Clock
) -> None:
    left_at, clock.now = clock.now, clock.now + 300 * MINUTE
    left = Left(way=WayHome.AGAINST_ADVICE, left_at=left_at, deviation="Would not wait.")
    departures.note(session, visits[0].id, left, by=DOCTOR, now=clock.now)
    session.commit()
    [found] = desk.get(f"/patients/{visits[0].patient_id}/incidents").json["items"]
    assert found["occurred_at"] == "2026-03-02T14:00:00Z"
    assert items(desk, found)["reached"]["due_at"] == "2026-03-02T15:00:00Z"


def test_who_takes_it_back_waits_for_who_settles_something_of_it(
    committed: Session, committed_world: World, service_engine: Engine
) -> None:
    """Else what is asked for again in the same instant would stand, and nothing would end it."""
    patient_id = committed_world.patient_id
    courses.open_course(committed, patient_id, make_protocol(committed, content()), by=DOCTOR)
    told = Told(patient_id=patient_id, code="crisis", occurred_at=SUNDAY_NOON)
    incident = incidents.record(committed, told, by=DOCTOR, now=SUNDAY_NOON)
    item = facts.duties_to_change(committed, incident.id)[0]
    done, again = (Settling(status=one) for one in (TaskStatus.COMPLETED, TaskStatus.REQUESTED))
    incidents.settle(committed, item, done, by=DOCTOR, now=SUNDAY_NOON)
    committed.commit()

    facts.to_change(committed, ChecklistItem, item.id, None)
    with Session(service_engine) as other:
        enter_clinic(other, committed_world.clinic_id)
        other.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            incidents.take_back(other, incident.id, "Twice.", by=DOCTOR, now=SUNDAY_NOON)
    incidents.settle(committed, item, again, by=DOCTOR, now=SUNDAY_NOON)
    committed.commit()
    incidents.take_back(committed, incident.id, "Twice.", by=DOCTOR, now=SUNDAY_NOON)
    committed.commit()
    assert {one.status for one in facts.duties_to_change(committed, incident.id)} == {
        TaskStatus.CANCELLED
    }
