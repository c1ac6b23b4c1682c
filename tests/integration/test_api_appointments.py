"""Visits over REST: booked, moved, made ready, lived through."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, func, select, update
from sqlalchemy.orm import Session

from database import access
from database.access import Access
from models import ApiKey, AuditEvent, Message
from models.vocabulary import PractitionerRole, Role
from tests.factories import DAY, MONDAY_9, World, clear, make_practitioner
from tests.integration.conftest import Caller, Clock, Keyring

NEXT_MONDAY = MONDAY_9 + 7 * DAY


LATER = (MONDAY_9 + timedelta(hours=2)).isoformat()


def order(world: World, **changes: Any) -> dict[str, Any]:
    return {
        "patient_id": str(world.patient_id),
        "step_kind": "preparation",
        "starts_at": MONDAY_9.isoformat(),
        "assignments": [
            {"role": "therapist", "schedule_id": str(world.therapist)},
            {"role": "room", "schedule_id": str(world.consulting_room)},
        ],
        **changes,
    }


class TestBook:
    def test_answers_with_the_visit(self, desk: Caller, world: World) -> None:
        answer = desk.post("/appointments", order(world))

        assert answer.status_code == 201, answer.json
        told = answer.json
        assert (told["status"], told["kind"], told["time_zone"]) == (
            "booked",
            "preparation",
            "America/New_York",
        )
        assert (told["starts_at"], told["ends_at"]) == (
            "2026-03-02T14:00:00Z",
            "2026-03-02T15:00:00Z",
        )
        assert [one["role"] for one in told["assignments"]] == ["room", "therapist"]
        again = desk.get(answer.headers["Location"])
        assert (again.json, again.headers["ETag"]) == (told, answer.headers["ETag"])

    def test_takes_an_opening_as_it_is(self, desk: Caller, world: World) -> None:
        found = desk.get(
            "/openings?step_kind=preparation&from=2026-03-02T00:00:00Z&to=2026-03-03T00:00:00Z&limit=3"
        )
        assert len(found.json["items"]) == 3
        assert found.json["next"].startswith("/api/v1/openings?")
        opening = found.json["items"][1]

        answer = desk.post(
            "/appointments",
            {
                "patient_id": str(world.patient_id),
                "step_kind": "preparation",
                "starts_at": opening["starts_at"],
                "assignments": opening["assignments"],
            },
        )

        assert answer.status_code == 201, answer.json
        following = desk.get(found.json["next"]).json["items"]
        assert following[0]["starts_at"] >= opening["ends_at"]  # the booked time is gone

    def test_of_a_taken_time_says_what_is_free_nearby(self, desk: Caller, world: World) -> None:
        desk.post("/appointments", order(world))

        answer = desk.post("/appointments", order(world))

        assert (answer.status_code, answer.json["type"]) == (409, "/problems/slot-taken")
        assert [one["starts_at"] for one in answer.json["openings"]][:1] == ["2026-03-02T15:00:00Z"]

    def test_names_the_gates_and_the_rules_that_speak_against_it(
        self, desk: Caller, world: World
    ) -> None:
        answer = desk.post("/appointments", order(world, step_kind="dosing", assignments=None))

        assert (answer.status_code, answer.json["type"]) == (422, "/problems/not-ready")
        assert [gate["code"] for gate in answer.json["gates"]] == ["medical-clearance", "consent"]

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"starts_at": "2026-03-02T09:00:00"}, "/starts_at"),
            ({"starts_at": "20260302T090000Z"}, "/starts_at"),
            ({"starts_at": "2026-W10-1T09:00:00Z"}, "/starts_at"),
            ({"starts_at": "9999-12-31T23:59:59-12:00"}, "/starts_at"),
            ({"starts_at": 1_700_000_000}, "/starts_at"),
            ({"patient_id": "{00000000-0000-7000-8000-000000000001}"}, "/patient_id"),
            ({"status": "fulfilled"}, "/status"),
            ({"clinic_id": "00000000-0000-7000-8000-000000000001"}, "/clinic_id"),
            ({"course_step_id": "00000000-0000-7000-8000-000000000001"}, "/step_kind"),
            ({"patient_id": "00000000-0000-7000-8000-000000000001\n"}, "/patient_id"),
            ({"assignments": []}, "/assignments"),
            ({"reasons": {"a": ""}}, "/reasons/a/value"),
        ],
    )
    def test_points_at_what_cannot_be_read(
        self, desk: Caller, world: World, change: dict[str, Any], pointer: str
    ) -> None:
        answer = desk.post("/appointments", order(world, **change))

        assert (answer.status_code, answer.json["type"]) == (422, "/problems/invalid")
        assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]

    def test_another_clinics_patient_is_not_found(self, desk: Caller, world: World) -> None:
        answer = desk.post("/appointments", order(world, patient_id=str(uuid4())))

        assert answer.status_code == 404


class TestIdempotency:
    def test_a_repeated_request_gets_the_same_answer_and_books_once(
        self, desk: Caller, world: World, session: Session
    ) -> None:
        first = desk.post("/appointments", order(world), **{"Idempotency-Key": "a-key-of-mine"})
        again = desk.post("/appointments", order(world), **{"Idempotency-Key": "a-key-of-mine"})

        assert (again.status_code, again.json) == (201, first.json)
        assert again.headers["Location"] == first.headers["Location"]
        assert again.headers["Idempotency-Replayed"] == "true"
        assert session.scalar(select(func.count(func.distinct(Message.appointment_id)))) == 1

    def test_one_key_is_for_one_request(self, desk: Caller, world: World) -> None:
        desk.post("/appointments", order(world), **{"Idempotency-Key": "a-key-of-mine"})
        other = order(world, starts_at=LATER)

        answer = desk.post("/appointments", other, **{"Idempotency-Key": "a-key-of-mine"})

        assert (answer.status_code, answer.json["type"]) == (
            422,
            "/problems/idempotency-key-reused",
        )

    def test_it_is_the_callers_own_however_they_are_called(
        self, key: Keyring, desk: Caller, world: World, session: Session
    ) -> None:
        told = {"Idempotency-Key": "a-key-of-mine"}
        first = desk.post("/appointments", order(world), **told)
        other = key(Role.SCHEDULER).post("/appointments", order(world), **told)
        session.execute(update(ApiKey).values(name="Another name"))
        session.commit()

        assert (other.status_code, other.json["type"]) == (409, "/problems/slot-taken")
        assert desk.post("/appointments", order(world), **told).json == first.json

    def test_it_is_one_doors_alone(self, desk: Caller, world: World) -> None:
        told = {"Idempotency-Key": "a-key-of-mine"}
        assert desk.post("/appointments", order(world), **told).status_code == 201

        answer = desk.post("/appointments/hold", order(world), **told)

        assert (answer.status_code, answer.json["type"]) == (409, "/problems/slot-taken")

    def test_after_a_day_it_is_a_new_one(self, desk: Caller, world: World, clock: Clock) -> None:
        told = {"Idempotency-Key": "a-key-of-mine"}
        first = desk.post("/appointments/hold", order(world), **told)
        clock.now += DAY
        second = desk.post("/appointments/hold", order(world, starts_at=LATER), **told)

        assert (first.status_code, second.status_code) == (201, 201)
        assert second.json["id"] != first.json["id"]
        again = desk.post("/appointments/hold", order(world, starts_at=LATER), **told)
        assert again.json == second.json

    def test_while_the_first_is_running_the_second_is_told_when_to_come_again(
        self, desk: Caller, session: Session, world: World, database: Access
    ) -> None:
        told = {"Idempotency-Key": "a-key-of-mine"}
        key_id = session.scalars(select(ApiKey.id).where(ApiKey.prefix == desk.key[:11])).one()
        scope = f"key:{key_id} POST /api/v1/appointments a-key-of-mine"
        with access.connect(database.owner) as first:
            first.execute(
                "SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"idempotency {scope}"]
            )
            second = desk.post("/appointments", order(world), **told)

        assert (second.status_code, second.json["type"]) == (409, "/problems/still-running")
        assert int(second.headers["Retry-After"]) >= 1
        assert desk.post("/appointments", order(world), **told).status_code == 201

    def test_a_key_must_be_one(self, desk: Caller, world: World) -> None:
        answer = desk.post("/appointments", order(world), **{"Idempotency-Key": "a b"})

        assert answer.status_code == 400


class TestPreconditions:
    @pytest.mark.parametrize(
        ("told", "status"), [(None, 428), ("*", 428), ('W/"1"', 412), ('"2"', 412), ('"1"', 200)]
    )
    def test_a_change_names_what_was_last_seen(
        self, desk: Caller, world: World, told: str | None, status: int
    ) -> None:
        booked = desk.post("/appointments", order(world)).json

        answer = desk.post(f"/appointments/{booked['id']}/cancel", {}, etag=told)

        assert answer.status_code == status

    def test_nothing_new_is_304(self, desk: Caller, world: World) -> None:
        booked = desk.post("/appointments", order(world))
        answer = desk.get(booked.headers["Location"], **{"If-None-Match": booked.headers["ETag"]})
        assert answer.status_code == 304


class TestTheDay:
    def test_an_unready_visit_cannot_begin_and_made_ready_runs_to_its_end(
        self, desk: Caller, doctor: Caller, world: World, session: Session, clock: Clock
    ) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        session.commit()
        booked = desk.post(
            "/appointments",
            order(world, step_kind="dosing", assignments=None, starts_at=NEXT_MONDAY.isoformat()),
        ).json
        path = f"/appointments/{booked['id']}"

        def act(action: str, by: Caller = doctor) -> Any:
            etag = by.get(path).headers["ETag"]
            return by.post(f"{path}/{action}", {}, etag=etag)

        clock.now = NEXT_MONDAY - timedelta(minutes=15)
        refused = act("arrive", desk)
        assert (refused.status_code, refused.json["type"]) == (422, "/problems/not-ready")
        assert [gate["code"] for gate in refused.json["gates"]] == [
            "transport-home",
            "fasting",
            "preparation-done",
        ]

        for item in desk.get(f"{path}/checklist").json["items"]:
            settled = desk(
                "PATCH",
                f"/checklist-items/{item['id']}",
                {"status": "completed"},
                etag=item["etag"],
            )
            assert settled.status_code == 200
        named = desk(
            "PUT",
            f"{path}/escort",
            {
                "name": "Evan Escort",
                "phone": "212 555 0199",
                "relation": "partner",
                "confirmed": True,
            },
        )
        assert named.status_code == 200, named.json
        reason = {"code": "preparation-done", "reason": "Done elsewhere; records seen."}
        assert desk.post(f"{path}/overrides", reason).status_code == 403
        assert doctor.post(f"{path}/overrides", reason).status_code == 201
        readiness = desk.get(f"{path}/readiness").json
        assert (readiness["ready"], readiness["stage"]) == (True, "arrival")

        assert act("arrive", desk).json["status"] == "arrived"
        assert act("start-dosing").status_code == 422
        vitals = {"gate": "vitals", "outcome": "cleared"}
        assert doctor.post(f"/patients/{world.patient_id}/clearances", vitals).status_code == 201
        assert act("start-dosing").json["progress"] == "dosing"
        assert act("fulfil").status_code == 409

        clock.now = NEXT_MONDAY + timedelta(minutes=90)
        assert act("start-recovery").json["progress"] == "recovering"
        refused = act("discharge")
        assert [gate["code"] for gate in refused.json["gates"]] == ["recovery-score", "observation"]
        clock.now = NEXT_MONDAY + timedelta(minutes=110)
        score = {"gate": "recovery-score", "outcome": "cleared"}
        doctor.post(f"/patients/{world.patient_id}/clearances", score)
        assert act("discharge").json["progress"] == "discharged"
        assert act("fulfil").json["status"] == "fulfilled"

        events = [event["action"] for event in desk.get(f"{path}/events").json["items"]]
        assert events[0] == "book"
        assert events[-3:] == ["start-recovery", "discharge", "fulfil"]

    def test_the_board_shows_every_visit_with_its_gates(self, desk: Caller, world: World) -> None:
        desk.post("/appointments", order(world))

        board = desk.get("/readiness?from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z").json

        [row] = board["items"]
        assert row["appointment"]["patient_id"] == str(world.patient_id)
        assert row["readiness"]["ready"] is True
        assert (row["urgency"], row["missing"]) == ("none", [])
        assert row["appointment"] == desk.get(f"/appointments/{row['appointment']['id']}").json

    def test_those_at_most_risk_stand_on_top(
        self, session: Session, desk: Caller, world: World, clock: Clock
    ) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        session.commit()
        days = {}
        for name, day in (("ready", 0), ("soon", 7), ("later", 14)):
            told = order(world, starts_at=(MONDAY_9 + timedelta(days=day)).isoformat())
            if name != "ready":
                told |= {"step_kind": "dosing"}
                del told["assignments"]
            made = desk.post("/appointments", told)
            assert made.status_code == 201, made.json
            days[made.json["id"]] = name
        clock.now = MONDAY_9 + timedelta(days=5, hours=12)  # what is due a day before is soon

        where = "/readiness?from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z"
        rows = desk.get(where).json["items"]

        found = [(days[row["appointment"]["id"]], row["urgency"]) for row in rows]
        assert found == [("soon", "soon"), ("later", "later"), ("ready", "none")]
        assert "fasting" in rows[0]["missing"]

    def test_it_takes_six_queries_however_many_there_are(
        self, session: Session, desk: Caller, world: World
    ) -> None:
        clear(session, world.patient_id, ["medical-clearance", "consent"])
        session.commit()
        asked = []
        engine = session.get_bind().engine

        def count(*told: Any) -> None:
            if told[2].lstrip().startswith(("SELECT", "WITH")):
                asked.append(told[2])

        counts = []
        for number in range(4):
            start = MONDAY_9 + timedelta(days=7 * number)
            told = order(world, starts_at=start.isoformat(), step_kind="dosing")
            del told["assignments"]
            assert desk.post("/appointments", told).status_code == 201
            asked.clear()
            event.listen(engine, "before_cursor_execute", count)
            answer = desk.get("/readiness?from=2026-03-01T00:00:00Z&to=2026-04-25T00:00:00Z")
            event.remove(engine, "before_cursor_execute", count)
            assert len(answer.json["items"]) == number + 1
            counts.append(len(asked))
        assert max(counts) <= 4, asked

    def test_too_long_a_stretch_is_refused(self, desk: Caller) -> None:
        refused = desk.get("/readiness?from=2026-03-01T00:00:00Z&to=2026-06-01T00:00:00Z")
        assert (refused.status_code, refused.json["field"]) == (422, "to")


def test_a_move_and_a_cancellation_say_what_had_left(desk: Caller, world: World) -> None:
    booked = desk.post("/appointments", order(world))
    moved = desk.post(
        f"{booked.headers['Location']}/reschedule",
        {"starts_at": (MONDAY_9 + timedelta(hours=2)).isoformat()},
        etag=booked.headers["ETag"],
    )

    assert moved.status_code == 200, moved.json
    assert (moved.json["starts_at"], moved.json["revision"]) == ("2026-03-02T16:00:00Z", 2)
    assert moved.json["messages_out"] == []
    cancelled = desk.post(
        f"{booked.headers['Location']}/cancel", {"reason": "ill"}, etag=moved.headers["ETag"]
    )
    assert cancelled.json["status"] == "cancelled"
    assert cancelled.json["assignments"] == []


def test_a_held_time_is_confirmed_into_a_booking(desk: Caller, world: World) -> None:
    held = desk.post("/appointments/hold", order(world))
    assert (held.json["status"], held.json["held_until"]) == ("pending", "2026-03-01T12:15:00Z")

    booked = desk.post(f"/appointments/{held.json['id']}/confirm", etag=held.headers["ETag"])

    assert (booked.json["status"], booked.json["held_until"]) == ("booked", None)


def test_messages_can_be_read_but_not_their_links(desk: Caller, world: World) -> None:
    booked = desk.post("/appointments", order(world)).json
    listed = desk.get(f"/appointments/{booked['id']}/messages").json["items"]

    whole = desk.get(f"/messages/{listed[0]['id']}").json

    assert whole["subject"] == "Your appointment on Monday, March 2, 2026"
    assert "(the reader's own link)" in whole["body"]


def test_what_was_done_stands_in_the_chained_audit_trail(
    desk: Caller, admin: Caller, world: World, session: Session
) -> None:
    desk.post("/appointments", order(world))
    desk.get(f"/patients/{world.patient_id}")

    told = admin.get("/audit-events").json["items"]

    assert [(one["action"], one["entity"]) for one in reversed(told)] == [
        ("create", "appointment"),
        ("read", "patient"),
    ]
    chained = session.scalars(select(AuditEvent).order_by(AuditEvent.sequence)).all()
    assert chained[1].previous_hash == chained[0].hash


class TestWhoMay:
    """What is not theirs to say, or not yet, is refused."""

    def test_a_gate_is_vouched_for_by_those_whom_the_protocol_names(
        self, key: Keyring, admin: Caller, world: World
    ) -> None:
        path = f"/patients/{world.patient_id}/clearances"
        vouched = {"gate": "medical-clearance", "outcome": "cleared"}

        unlicensed = key(Role.CLINICIAN)
        for caller, code in ((admin, "forbidden"), (unlicensed, "may-not-override")):
            refused = caller.post(path, vouched)
            assert (refused.status_code, refused.json["type"]) == (403, f"/problems/{code}")
        doctor = key(Role.CLINICIAN, world.prescriber_id)
        assert doctor.post(path, vouched).status_code == 201
        unknown = doctor.post(path, {"gate": "medical-clearence", "outcome": "cleared"})
        assert (unknown.status_code, unknown.json["field"]) == (422, "gate")

    def test_what_rests_on_something_else_is_not_for_anybody_to_vouch_for(
        self, world: World, doctor: Caller
    ) -> None:
        told = {"gate": "fasting", "outcome": "cleared"}
        refused = doctor.post(f"/patients/{world.patient_id}/clearances", told)
        assert (refused.status_code, refused.json["type"]) == (422, "/problems/unfit")
        assert refused.json["field"] == "gate"

    def test_a_visit_that_never_was_is_taken_back_with_a_reason(
        self, desk: Caller, doctor: Caller, world: World, clock: Clock
    ) -> None:
        booked = desk.post("/appointments", order(world))
        path = booked.headers["Location"]

        silent = desk.post(f"{path}/enter-in-error", etag=booked.headers["ETag"])
        assert (silent.status_code, silent.json["field"]) == (422, "reason")
        clock.now = MONDAY_9
        here = desk.post(f"{path}/arrive", etag=booked.headers["ETag"])
        why = {"reason": "another patient of that name"}
        refused = desk.post(f"{path}/enter-in-error", why, etag=here.headers["ETag"])
        assert (refused.status_code, refused.json["type"]) == (403, "/problems/may-not-override")
        taken_back = doctor.post(f"{path}/enter-in-error", why, etag=here.headers["ETag"])
        assert taken_back.json["status"] == "entered-in-error"
        assert taken_back.json["assignments"] == []
        acts = [one["action"] for one in desk.get(f"{path}/events").json["items"]]
        assert acts == ["book", "arrive", "enter-in-error"]
        again = doctor.post(f"{path}/enter-in-error", why, etag=taken_back.headers["ETag"])
        assert (again.status_code, again.json["type"]) == (409, "/problems/wrong-status")

    def test_a_licence_is_asked_for_on_the_day_as_well(
        self, admin: Caller, desk: Caller, world: World, clock: Clock
    ) -> None:
        booked = desk.post("/appointments", order(world))
        path = booked.headers["Location"]
        licences = f"/practitioners/{world.therapist_id}/qualifications"
        [licence] = admin.get(licences).json["items"]
        backwards = {"valid_until": "1999-01-01"}
        where = f"{licences}/{licence['id']}"
        assert admin("PATCH", where, backwards, etag=licence["etag"]).status_code == 422
        ended = admin("PATCH", where, {"valid_until": "2026-03-01"}, etag=licence["etag"])
        assert ended.status_code == 200, ended.json
        elsewhere = f"/practitioners/{world.prescriber_id}/qualifications/{licence['id']}"
        assert admin("PATCH", elsewhere, {}, etag='"2"').status_code == 404

        clock.now = MONDAY_9
        refused = desk.post(f"{path}/arrive", etag=booked.headers["ETag"])
        assert (refused.status_code, refused.json["type"]) == (422, "/problems/not-qualified")
        assert refused.json["roles"] == ["therapist"]

        longer = admin("PATCH", where, {"valid_until": "2026-03-02"}, etag=ended.headers["ETag"])
        assert longer.status_code == 200
        assert desk.post(f"{path}/arrive", etag=booked.headers["ETag"]).status_code == 200

    def test_nobody_arrives_before_the_day(self, desk: Caller, world: World, clock: Clock) -> None:
        booked = desk.post("/appointments", order(world))
        path = booked.headers["Location"]

        early = desk.post(f"{path}/arrive", etag=booked.headers["ETag"])
        assert (early.status_code, early.json["type"]) == (422, "/problems/too-early")
        clock.now = MONDAY_9 - timedelta(hours=3)
        assert desk.post(f"{path}/arrive", etag=booked.headers["ETag"]).status_code == 200


def test_two_who_change_the_escort_do_not_mix_two_people(desk: Caller, world: World) -> None:
    path = f"{desk.post('/appointments', order(world)).headers['Location']}/escort"
    ann = {"name": "Ann Example", "phone": "+12125550198", "relation": "friend"}
    first = desk("PUT", path, ann)

    bob = desk("PUT", path, {**ann, "name": "Bob Example"}, etag=first.headers["ETag"])
    late = desk("PUT", path, {**ann, "phone": "+12125550199"}, etag=first.headers["ETag"])

    assert (bob.status_code, late.status_code) == (200, 412)
    assert desk.get(path).json["name"] == "Bob Example"
    assert desk.get(path).json["phone"] == "+12125550198"


def test_other_people_at_the_same_time_are_nothing_to_the_patient(
    desk: Caller, world: World, session: Session
) -> None:
    booked = desk.post("/appointments", order(world))
    path = booked.headers["Location"]
    confirmed = desk.post(f"{path}/confirm", etag=booked.headers["ETag"])
    make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
    session.commit()

    swapped = desk.post(
        f"{path}/reschedule",
        {"starts_at": booked.json["starts_at"]},
        etag=confirmed.headers["ETag"],
    )

    assert swapped.status_code == 200, swapped.json
    assert swapped.json["confirmed_at"] is not None
    assert (swapped.json["revision"], swapped.json["messages_out"]) == (1, [])


def test_a_course_is_never_said_to_be_unchanged_when_a_step_was_booked(
    desk: Caller, world: World
) -> None:
    course = desk.post(
        "/courses", {"patient_id": str(world.patient_id), "protocol_code": "test-course"}
    )
    assert course.status_code == 201, course.json
    path = course.headers["Location"]
    seen = desk.get(path).headers["ETag"]

    again = desk.get(path, **{"If-None-Match": seen})

    assert again.status_code == 200
