"""What is there is found by what people ask for; what was a mistake is taken away."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models import Room, Schedule
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World, clear, make_patient, make_site
from tests.integration.conftest import Caller, Clock
from tests.integration.test_api_appointments import order

Z = "%Y-%m-%dT%H:%M:%SZ"


def ids(caller: Caller, path: str) -> list[str]:
    answer = caller.get(path)
    assert answer.status_code == 200, answer.json
    return [one["id"] for one in answer.json["items"]]


def book(desk: Caller, world: World, **changes: Any) -> dict[str, Any]:
    answer = desk.post("/appointments", order(world, **changes))
    assert answer.status_code == 201, answer.json
    return dict(answer.json or {})


class TestFilters:
    def test_visits_by_course(self, desk: Caller, world: World) -> None:
        new = {
            "patient_id": str(world.patient_id),
            "protocol_version_id": str(world.protocol_version_id),
        }
        course = desk.post("/courses", new).json
        step = {"course_step_id": course["steps"][0]["id"]}
        of_course = {name: value for name, value in order(world).items() if name != "step_kind"}
        one = desk.post("/appointments", {**of_course, **step}).json
        other = book(desk, world, starts_at=(MONDAY_9 + DAY).isoformat())

        assert ids(desk, f"/appointments?course_id={course['id']}") == [one["id"]]
        assert ids(desk, "/appointments") == [one["id"], other["id"]]

    def test_courses_by_how_they_stand(self, desk: Caller, doctor: Caller, world: World) -> None:
        new = {"protocol_version_id": str(world.protocol_version_id)}
        course = desk.post("/courses", {"patient_id": str(world.patient_id), **new}).json
        assert ids(desk, "/courses?status=active") == [course["id"]]
        path = f"/courses/{course['id']}/discontinue"
        assert doctor.post(path, {"reason": "moved away"}, etag='"1"').status_code == 200

        assert ids(desk, "/courses?status=active") == []
        assert ids(desk, f"/courses?status=revoked&patient_id={world.patient_id}") == [course["id"]]

    def test_messages_by_whom_and_when(self, desk: Caller, session: Session, world: World) -> None:
        book(desk, world)
        stranger, _ = make_patient(session)
        session.commit()
        every = desk.get("/messages").json["items"]
        theirs = [one for one in every if one["recipient"] == "patient"]
        assert 0 < len(theirs) <= len(every)

        assert ids(desk, f"/messages?patient_id={world.patient_id}") == [
            one["id"] for one in theirs
        ]
        assert ids(desk, f"/messages?patient_id={stranger}") == []
        last = every[-1]["due_at"]
        assert ids(desk, f"/messages?from={last}") == [
            one["id"] for one in every if one["due_at"] >= last
        ]
        assert ids(desk, f"/messages?to={last}") == [
            one["id"] for one in every if one["due_at"] < last
        ]

    def test_tasks_by_kind_patient_visit_and_when_they_are_due(
        self, desk: Caller, session: Session, world: World
    ) -> None:
        visit = book(desk, world)
        session.execute(
            text(
                "INSERT INTO task (id, kind, owner, urgent, subject_id, patient_id, "
                "appointment_id, due_at, status) VALUES (gen_random_uuid(), 'call-patient', "
                "'front-desk', false, :visit, :patient, :visit, :due, 'requested')"
            ),
            {"visit": visit["id"], "patient": world.patient_id, "due": SUNDAY_NOON},
        )
        session.commit()
        [task] = ids(desk, "/tasks?kind=call-patient")
        after = (SUNDAY_NOON - timedelta(minutes=1)).strftime(Z)

        assert ids(desk, f"/tasks?patient_id={world.patient_id}&kind=call-patient") == [task]
        assert ids(desk, f"/tasks?appointment_id={visit['id']}&kind=call-patient") == [task]
        assert ids(desk, f"/tasks?until={SUNDAY_NOON.strftime(Z)}&kind=call-patient") == [task]
        assert ids(desk, f"/tasks?until={after}&kind=call-patient") == []
        assert ids(desk, f"/tasks?patient_id={world.therapist_id}") == []

    def test_rooms_and_devices_by_site(self, admin: Caller, session: Session, world: World) -> None:
        elsewhere = str(make_site(session))
        session.commit()
        made = {
            name: admin.post(f"/{name}", {"site_id": elsewhere, "name": "A", "kind": "x"}).json[
                "id"
            ]
            for name in ("rooms", "devices")
        }

        for name, one in made.items():
            assert ids(admin, f"/{name}?site_id={elsewhere}") == [one]
            assert one not in ids(admin, f"/{name}?site_id={world.site_id}")
            assert one in ids(admin, f"/{name}")

    def test_practitioners_by_what_they_are_licensed_for_today(
        self, admin: Caller, world: World, clock: Clock
    ) -> None:
        assert ids(admin, "/practitioners?role=prescriber") == [str(world.prescriber_id)]
        assert str(world.therapist_id) in ids(admin, "/practitioners")
        licence = {"role": "prescriber", "licence": "L", "valid_until": "2026-03-10"}
        told = {**licence, "valid_from": "2026-03-05"}
        path = f"/practitioners/{world.therapist_id}/qualifications"
        made = admin.post(path, told)
        assert admin.get(made.headers["Location"]).json == made.json
        assert ids(admin, "/practitioners?role=prescriber") == [str(world.prescriber_id)]

        clock.now = SUNDAY_NOON + 5 * DAY
        assert len(ids(admin, "/practitioners?role=prescriber")) == 2
        clock.now = SUNDAY_NOON + 11 * DAY
        assert len(ids(admin, "/practitioners?role=prescriber")) == 1

    def test_proposals_of_a_course_while_they_can_be_accepted(
        self, desk: Caller, session: Session, world: World, clock: Clock
    ) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        new = {"protocol_version_id": str(world.protocol_version_id)}
        course = desk.post("/courses", {"patient_id": str(world.patient_id), **new}).json
        path = f"/courses/{course['id']}/proposals"
        found = desk.post(path).json["items"]
        assert found

        assert desk.get(path).json["items"] == found
        clock.now = SUNDAY_NOON + 2 * DAY
        assert ids(desk, path) == []

    def test_incidents_of_the_clinic_by_when(
        self, desk: Caller, session: Session, world: World
    ) -> None:
        for number, code in enumerate(("crisis", "fall")):
            session.execute(
                text(
                    "INSERT INTO incident (id, patient_id, code, title, occurred_at, noted_by, "
                    "noted_at) VALUES (gen_random_uuid(), :patient, :code, 'It', :at, 'x', :at)"
                ),
                {
                    "patient": world.patient_id,
                    "code": code,
                    "at": SUNDAY_NOON - (2 - number) * DAY,
                },
            )
        session.commit()
        first, second = ids(desk, "/incidents")
        cut = (SUNDAY_NOON - DAY).strftime(Z)

        assert ids(desk, f"/patients/{world.patient_id}/incidents") == [first, second]
        assert ids(desk, f"/incidents?from={cut}") == [second]
        assert ids(desk, f"/incidents?to={cut}") == [first]


class TestMistakes:
    """What was added by mistake goes; what anything refers to stays."""

    @pytest.fixture
    def place(self, admin: Caller) -> dict[str, str]:
        site = {"name": "New", "address": "1 Way", "phone": "+12125550100"}
        made = admin.post("/sites", {**site, "time_zone": "America/Denver"}).json["id"]
        told = {"site_id": made, "name": "A", "kind": "consulting"}
        return {"sites": made, **{name: admin.post(f"/{name}", told).json["id"] for name in BOTH}}

    @pytest.mark.parametrize("name", ["rooms", "devices"])
    def test_a_room_goes_with_its_hours(
        self, admin: Caller, session: Session, place: dict[str, str], name: str
    ) -> None:
        path = f"/{name}/{place[name]}"
        shown = admin.get(path).json
        hours = {
            "site_id": place["sites"],
            "first_start": "2026-01-05T09:00",
            "minutes": 480,
            "rule": "FREQ=WEEKLY;BYDAY=MO",
        }
        schedule = f"/schedules/{shown['schedule_id']}"
        assert admin.post(f"{schedule}/opening-hours", hours).status_code == 201

        assert admin("DELETE", path, etag='"1"').status_code == 204

        assert admin.get(path).status_code == 404
        assert admin.get(schedule).status_code == 404
        assert session.get(Schedule, (session.info["clinic_id"], shown["schedule_id"])) is None
        assert admin("DELETE", path, etag='"1"').status_code == 404

    def test_a_site_goes_once_nothing_is_there(self, admin: Caller, place: dict[str, str]) -> None:
        path = f"/sites/{place['sites']}"
        refused = admin("DELETE", path, etag='"1"')
        assert (refused.status_code, refused.json["type"]) == (409, "/problems/wrong-status")
        for name in BOTH:
            assert admin("DELETE", f"/{name}/{place[name]}", etag='"1"').status_code == 204

        assert admin("DELETE", path, etag='"1"').status_code == 204

    def test_a_practitioner_goes_with_their_licences_unless_they_did_anything(
        self, admin: Caller, desk: Caller, session: Session, world: World
    ) -> None:
        made = admin.post("/practitioners", {"name": "Twice", "email": "t@example.com"}).json
        path = f"/practitioners/{made['id']}"
        licence = {"role": "therapist", "licence": "L", "valid_from": "2026-01-01"}
        told = {**licence, "valid_until": "2030-01-01"}
        assert admin.post(f"{path}/qualifications", told).status_code == 201
        book(desk, world)

        assert admin("DELETE", path, etag='"1"').status_code == 204
        assert admin.get(path).status_code == 404
        therapist = f"/practitioners/{world.therapist_id}"
        before = admin.get(f"{therapist}/qualifications").json
        assert admin("DELETE", therapist, etag='"1"').status_code == 409
        assert admin.get(f"{therapist}/qualifications").json == before

    def test_what_was_booked_stays_whole(
        self, admin: Caller, desk: Caller, session: Session, world: World
    ) -> None:
        visit = book(desk, world)
        room = session.scalars(select(Room).where(Room.schedule_id == world.consulting_room)).one()
        hours = f"/schedules/{room.schedule_id}/opening-hours"
        before = admin.get(hours).json

        refused = admin("DELETE", f"/rooms/{room.id}", etag='"1"')

        assert (refused.status_code, refused.json["type"]) == (409, "/problems/wrong-status")
        assert admin.get(f"/rooms/{room.id}").status_code == 200
        assert admin.get(hours).json == before
        assert desk.get(f"/appointments/{visit['id']}").status_code == 200

    def test_who_has_not_seen_it_takes_nothing_away(
        self, admin: Caller, desk: Caller, place: dict[str, str]
    ) -> None:
        path = f"/rooms/{place['rooms']}"
        assert admin("DELETE", path).status_code == 428
        assert admin("DELETE", path, etag='"2"').status_code == 412
        assert desk("DELETE", path, etag='"1"').status_code == 403


BOTH = ("rooms", "devices")


class TestLimits:
    def test_a_day_has_room_for_so_many_visits(
        self, admin: Caller, desk: Caller, world: World
    ) -> None:
        path = f"/schedules/{world.therapist}"
        seen = admin.get(path)
        assert (seen.json["actor_kind"], seen.json["most_per_day"]) == ("practitioner", None)
        changed = admin("PATCH", path, {"most_per_day": 1}, etag=seen.headers["ETag"])
        assert (changed.status_code, changed.json["most_per_day"]) == (200, 1)
        assert admin("PATCH", path, {"most_per_day": 2}, etag=seen.headers["ETag"]).status_code == (
            412
        )
        book(desk, world)

        found = desk.get(
            "/openings?step_kind=preparation&from=2026-03-02T00:00:00Z&to=2026-03-03T00:00:00Z"
            f"&practitioner_id={world.therapist_id}"
        )
        assert found.json["items"] == []

    @pytest.mark.parametrize("told", [0, -1, 1001, "x", 1.5, True])
    def test_a_limit_is_a_number(self, admin: Caller, world: World, told: object) -> None:
        path = f"/schedules/{world.therapist}"
        refused = admin("PATCH", path, {"most_per_week": told}, etag='"1"')
        assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (
            422,
            "/most_per_week",
        )

    def test_a_patients_schedule_is_not_shown(
        self, admin: Caller, desk: Caller, world: World
    ) -> None:
        patient = desk.get(f"/patients/{world.patient_id}").json
        assert admin.get(f"/schedules/{patient['schedule_id']}").status_code == 404


def test_what_is_written_about_a_patient_is_read_where_it_says(
    doctor: Caller, admin: Caller, world: World
) -> None:
    patient = f"/patients/{world.patient_id}"
    made = doctor.post(f"{patient}/clearances", {"gate": "medical-clearance", "outcome": "cleared"})
    assert made.status_code == 201, made.json
    assert doctor.get(made.headers["Location"]).json == made.json
    scored = doctor.post(f"{patient}/questionnaire-responses", {"instrument": "madrs", "score": 20})
    assert scored.status_code == 201, scored.json
    assert doctor.get(scored.headers["Location"]).json == scored.json
    words = {
        "kind": "reminder",
        "recipient": "patient",
        "channel": "email",
        "language": "en",
        "subject": "",
        "body": "",
    }
    said = admin.post("/wordings", words)
    assert said.status_code == 201, said.json
    assert admin.get(said.headers["Location"]).json == said.json
    other = made.headers["Location"].replace(str(world.patient_id), str(world.therapist_id))
    assert doctor.get(other).status_code == 404
