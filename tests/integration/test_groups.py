"""Group sessions over REST: made, filled, moved, begun, cancelled; and who reads them."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import GroupSession, Message, Slot
from models.vocabulary import ClearanceOutcome, MessageKind, MessageState, Role
from notifications import reading
from tests.factories import DAY, MONDAY_9, World, clear
from tests.groups import PLACES, Circle, Member, make_circle, make_member
from tests.integration.conftest import Caller, Clock, Keyring

WEDNESDAY_9 = MONDAY_9 + 2 * DAY
ARRIVAL = ("transport-home", "fasting", "preparation-done")


@pytest.fixture
def circle(session: Session, world: World) -> Circle:
    return make_circle(session, world)


def wanted(circle: Circle, *therapists: int, **changes: Any) -> dict[str, Any]:
    return {
        "protocol_version_id": str(circle.version_id),
        "visit": "preparation",
        "starts_at": MONDAY_9.isoformat(),
        "assignments": circle.staff(*therapists or (0, 1)),
        **changes,
    }


def make(desk: Caller, circle: Circle, *therapists: int, **changes: Any) -> str:
    answer = desk.post("/group-sessions", wanted(circle, *therapists, **changes))
    assert answer.status_code == 201, answer.json
    return f"/group-sessions/{answer.json['id']}"


def place(member: Member, step: str = "preparation", **changes: Any) -> dict[str, Any]:
    return {
        "patient_id": str(member.patient_id),
        "course_step_id": str(member.steps[step]),
        **changes,
    }


def fill(desk: Caller, path: str, members: Any, step: str = "preparation") -> list[Any]:
    answers = [desk.post(f"{path}/places", place(one, step)) for one in members]
    assert {one.status_code for one in answers} <= {201}, [one.json for one in answers]
    return [one.json for one in answers]


def act(caller: Caller, path: str, action: str, told: Any = None) -> Any:
    etag = caller.get(path).headers["ETag"]
    return caller.post(f"{path}/{action}", told, etag=etag)


def slots(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(Slot)).one()


def tasks(desk: Caller, status: str = "requested") -> list[Any]:
    found = desk.get(f"/tasks?status={status}").json["items"]
    return [one for one in found if one["kind"] == "staff-group"]


class TestMake:
    def test_staff_and_room_are_taken_once(
        self, session: Session, desk: Caller, circle: Circle
    ) -> None:
        path = make(desk, circle)

        told = desk.get(path).json
        assert (told["places"], told["free"], told["least"]) == (PLACES, PLACES, 4)
        assert [one["role"] for one in told["assignments"]] == ["room", "therapist", "therapist"]
        assert told["keeps_ratio"] is True
        before = slots(session)
        fill(desk, path, circle.members)
        assert slots(session) == before + PLACES  # each patient's own time and nobody else's
        again = desk.post("/group-sessions", wanted(circle, 0, 2))
        assert (again.status_code, again.json["type"]) == (409, "/problems/slot-taken")
        assert [one["id"] for one in desk.get("/group-sessions").json["items"]] == [told["id"]]

    def test_left_to_us_it_takes_as_many_as_its_places_ask_for(
        self, desk: Caller, circle: Circle
    ) -> None:
        full = desk.get(make(desk, circle, assignments=None)).json
        later = (MONDAY_9 + DAY).isoformat()
        small = desk.get(make(desk, circle, assignments=None, places=3, starts_at=later)).json

        assert [one["role"] for one in full["assignments"]].count("therapist") == 2
        assert [one["role"] for one in small["assignments"]].count("therapist") == 1

    @pytest.mark.parametrize(
        ("changes", "field_or_code"),
        [
            ({"places": 0}, "places"),
            ({"places": 101}, "places"),
            ({"places": 7}, "unfit"),
            ({"places": "6"}, "places"),
            ({"visit": "integration"}, "unfit"),
            ({"visit": "nothing"}, "unfit"),
            ({"visit": ""}, "visit"),
            ({"visit": None}, "visit"),
            ({"protocol_version_id": "x"}, "protocol_version_id"),
            ({"protocol_version_id": str(uuid4())}, "not-found"),
            ({"starts_at": "2026-03-02T09:00:00"}, "starts_at"),
            ({"starts_at": "2026-02-02T14:00:00Z"}, "starts-in-the-past"),
            ({"starts_at": "2026-03-02T14:01:00Z"}, "off-grid"),
            ({"starts_at": "2026-03-07T14:00:00Z"}, "not-open"),
            ({"site_id": str(uuid4()), "assignments": None}, "no-opening"),
            ({"assignments": []}, "assignments"),
            ({"unknown": 1}, "unknown"),
        ],
    )
    def test_what_makes_no_sense_is_refused_and_takes_nothing(
        self,
        session: Session,
        desk: Caller,
        circle: Circle,
        changes: dict[str, Any],
        field_or_code: str,
    ) -> None:
        answer = desk.post("/group-sessions", wanted(circle, **changes))

        assert answer.mimetype == "application/problem+json"
        assert answer.status_code in {404, 409, 422}
        assert field_or_code in str(answer.json), answer.json
        assert slots(session) == 0
        assert session.scalars(select(GroupSession)).all() == []

    def test_only_the_desk_and_clinicians_may(
        self, key: Keyring, desk: Caller, circle: Circle
    ) -> None:
        assert key(Role.AUDITOR).post("/group-sessions", wanted(circle)).status_code == 403
        assert desk.get(f"/group-sessions/{uuid4()}").status_code == 404


class TestPlaces:
    def test_each_is_an_appointment_with_everything_of_its_own(
        self, session: Session, desk: Caller, circle: Circle
    ) -> None:
        path = make(desk, circle)
        visits = fill(desk, path, circle.members)

        assert [one["place"] for one in visits] == [1, 2, 3, 4, 5, 6]
        for one in visits:
            assert [who["role"] for who in one["assignments"]] == ["room", "therapist", "therapist"]
            checklist = desk.get(f"/appointments/{one['id']}/checklist").json["items"]
            assert [item["code"] for item in checklist] == ["read-guide"]
        said = select(Message.appointment_id).where(Message.kind == MessageKind.CONFIRMATION)
        assert len(session.scalars(said).all()) == PLACES
        confirmed = act(desk, f"/appointments/{visits[0]['id']}", "confirm")
        assert confirmed.json["confirmed_at"]

    def test_there_are_no_more_than_there_are(
        self, session: Session, desk: Caller, circle: Circle
    ) -> None:
        path = make(desk, circle)
        visits = fill(desk, path, circle.members)
        late = make_member(session, circle.version_id)

        full = desk.post(f"{path}/places", place(late))
        assert (full.status_code, full.json["type"]) == (409, "/problems/session-full")
        assert act(desk, f"/appointments/{visits[2]['id']}", "cancel").status_code == 200
        assert desk.post(f"{path}/places", place(late)).json["place"] == 3
        assert desk.get(path).json["free"] == 0
        assert len(desk.get(f"{path}/places").json["items"]) == PLACES + 1

    def test_a_patient_is_never_in_two_places(self, desk: Caller, circle: Circle) -> None:
        first = make(desk, circle, 0)
        [member, *_] = circle.members
        fill(desk, first, [member])

        twice = desk.post(f"{first}/places", place(member))
        assert (twice.status_code, twice.json["type"]) == (409, "/problems/step-already-booked")
        other = {"patient_id": str(member.patient_id), "step_kind": "integration"}
        alone = desk.post("/appointments", {**other, "starts_at": MONDAY_9.isoformat()})
        assert (alone.status_code, alone.json["type"]) == (409, "/problems/slot-taken")

    @pytest.mark.parametrize(
        ("changes", "field_or_code", "status"),
        [
            ({"patient_id": str(uuid4())}, "unfit", 422),
            ({"course_step_id": str(uuid4())}, "not-found", 404),
            ({"course_step_id": None}, "course_step_id", 422),
            ({"step_kind": "preparation"}, "course_step_id", 422),
            ({"patient_id": 5}, "patient_id", 422),
            ({"starts_at": MONDAY_9.isoformat()}, "starts_at", 422),
        ],
    )
    def test_a_place_that_makes_no_sense_is_not_given(
        self,
        desk: Caller,
        circle: Circle,
        changes: dict[str, Any],
        field_or_code: str,
        status: int,
    ) -> None:
        path = make(desk, circle)

        answer = desk.post(f"{path}/places", place(circle.members[0], **changes))

        assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
        assert field_or_code in str(answer.json)
        assert desk.get(path).json["free"] == PLACES

    def test_only_visits_of_its_kind_take_place_in_it(self, desk: Caller, circle: Circle) -> None:
        path = make(desk, circle)

        for step in ("dosing-1", "integration-1"):
            answer = desk.post(f"{path}/places", place(circle.members[0], step))
            assert (answer.status_code, answer.json["type"]) == (422, "/problems/unfit")

    def test_a_gate_keeps_one_out_and_nobody_else(
        self, session: Session, desk: Caller, circle: Circle
    ) -> None:
        fill(desk, make(desk, circle), circle.members)
        path = dosing(desk, circle)
        first, *others = circle.members
        clear(session, first.patient_id, ["consent"], outcome=ClearanceOutcome.REFUSED)

        answer = desk.post(f"{path}/places", place(first, "dosing-1"))

        assert (answer.status_code, answer.json["type"]) == (422, "/problems/not-ready")
        fill(desk, path, others, "dosing-1")

    def test_one_place_does_not_move_alone(self, desk: Caller, circle: Circle) -> None:
        [visit] = fill(desk, make(desk, circle), circle.members[:1])

        told = {"starts_at": (MONDAY_9 + DAY).isoformat()}
        answer = act(desk, f"/appointments/{visit['id']}", "reschedule", told)

        assert (answer.status_code, answer.json["type"]) == (422, "/problems/unfit")


def dosing(desk: Caller, circle: Circle, *therapists: int) -> str:
    monitor = next(
        one
        for one in desk.get("/practitioners").json["items"]
        if any(
            q["role"] == "monitor"
            for q in desk.get(f"/practitioners/{one['id']}/qualifications").json["items"]
        )
    )
    staff = [
        *circle.staff(*therapists or (0, 1)),
        {"role": "monitor", "schedule_id": monitor["schedule_id"]},
    ]
    when = WEDNESDAY_9.isoformat()
    return make(desk, circle, visit="dosing", starts_at=when, assignments=staff)


class TestRatio:
    def test_one_patient_too_many_is_staffs_to_settle(self, desk: Caller, circle: Circle) -> None:
        path = make(desk, circle, 0)
        fill(desk, path, circle.members[:3])
        assert (desk.get(path).json["keeps_ratio"], tasks(desk)) == (True, [])

        [fourth] = fill(desk, path, circle.members[3:4])
        told = desk.get(path).json
        assert told["keeps_ratio"] is False
        assert told["staffing"] == [
            {"role": "therapist", "kind": None, "per_patients": 3, "seated": 1, "needed": 2}
        ]
        ready = desk.get(f"{path}/readiness").json
        assert (ready["ready"], ready["keeps_ratio"], ready["has_least"]) == (False, False, True)
        [task] = tasks(desk)
        assert task["subject_id"] == told["id"]

        act(desk, f"/appointments/{fourth['id']}", "cancel")  # somebody drops out
        assert (desk.get(path).json["keeps_ratio"], tasks(desk)) == (True, [])
        assert desk.get(f"{path}/readiness").json["has_least"] is False
        fill(desk, path, circle.members[4:5])
        assert [one["id"] for one in tasks(desk)] == [task["id"]]  # the same, open again

        more = {"starts_at": MONDAY_9.isoformat(), "assignments": circle.staff(0, 1)}
        assert act(desk, path, "reschedule", more).status_code == 200
        assert (desk.get(path).json["keeps_ratio"], tasks(desk)) == (True, [])
        assert desk.get(f"{path}/readiness").json["ready"] is True
        fewer = {"starts_at": MONDAY_9.isoformat(), "assignments": circle.staff(2)}
        assert act(desk, path, "reschedule", fewer).status_code == 200
        assert len(tasks(desk)) == 1

    def test_other_staff_are_nothing_to_the_patients(
        self, session: Session, desk: Caller, circle: Circle
    ) -> None:
        path = make(desk, circle, 0)
        [visit] = fill(desk, path, circle.members[:1])
        told = {"starts_at": MONDAY_9.isoformat(), "assignments": circle.staff(2)}

        assert act(desk, path, "reschedule", told).status_code == 200

        again = desk.get(f"/appointments/{visit['id']}").json
        assert again["revision"] == visit["revision"]
        assert str(circle.therapists[2]) in str(again["assignments"])
        assert session.scalars(select(Message).where(Message.kind == MessageKind.MOVED)).all() == []


class TestMove:
    def test_the_cohort_moves_together_and_each_hears_once(
        self, session: Session, clock: Clock, desk: Caller, circle: Circle
    ) -> None:
        path = make(desk, circle)
        visits = fill(desk, path, circle.members)
        session.query(Message).filter_by(kind=MessageKind.CONFIRMATION).update(
            {"state": MessageState.SENT, "released_at": clock.now}
        )
        later = MONDAY_9 + timedelta(minutes=30)  # over its own time

        answer = act(desk, path, "reschedule", {"starts_at": later.isoformat()})

        assert answer.status_code == 200, answer.json
        moved = answer.json["appointments"]
        assert [one["id"] for one in moved] == [one["id"] for one in visits]
        assert {one["starts_at"] for one in moved} == {"2026-03-02T14:30:00Z"}
        assert {one["revision"] for one in moved} == {2}
        said = session.scalars(select(Message).where(Message.kind == MessageKind.MOVED)).all()
        assert len(said) == len({one.recipient_id for one in said}) == PLACES
        assert desk.get(path).json["starts_at"] == "2026-03-02T14:30:00Z"

    def test_it_moves_whole_or_not_at_all(
        self, session: Session, desk: Caller, circle: Circle
    ) -> None:
        path = make(desk, circle)
        visits = fill(desk, path, circle.members)
        later = (MONDAY_9 + DAY).isoformat()
        busy = {"patient_id": str(circle.members[4].patient_id), "step_kind": "integration"}
        assert desk.post("/appointments", {**busy, "starts_at": later}).status_code == 201

        answer = act(desk, path, "reschedule", {"starts_at": later})

        assert (answer.status_code, answer.json["type"]) == (409, "/problems/slot-taken")
        assert answer.json["appointment_id"] == visits[4]["id"]
        starts = {one["starts_at"] for one in desk.get(f"{path}/places").json["items"]}
        assert starts == {"2026-03-02T14:00:00Z"}
        assert desk.get(path).json["starts_at"] == "2026-03-02T14:00:00Z"
        assert session.scalars(select(Message).where(Message.kind == MessageKind.MOVED)).all() == []

    def test_who_joined_meanwhile_is_not_overlooked(self, desk: Caller, circle: Circle) -> None:
        path = make(desk, circle)
        seen = desk.get(path).headers["ETag"]
        fill(desk, path, circle.members[:1])
        told = {"starts_at": (MONDAY_9 + DAY).isoformat()}

        assert desk.post(f"{path}/reschedule", told).status_code == 428
        assert desk.post(f"{path}/reschedule", told, etag=seen).status_code == 412
        assert desk.post(f"{path}/cancel", {}, etag=seen).status_code == 412

    def test_each_rule_is_judged_for_each(self, desk: Caller, circle: Circle) -> None:
        preparation = make(desk, circle)
        fill(desk, preparation, circle.members)
        path = dosing(desk, circle)
        visits = fill(desk, path, circle.members, "dosing-1")

        same_day = {"starts_at": MONDAY_9.isoformat()}  # the room is theirs then
        assert act(desk, preparation, "reschedule", same_day).status_code == 200
        late = {"starts_at": (WEDNESDAY_9 + timedelta(hours=1)).isoformat()}
        answer = act(desk, preparation, "reschedule", late)
        assert answer.status_code in {409, 422}
        thursday = {"starts_at": (WEDNESDAY_9 + DAY).isoformat(), "assignments": circle.staff(0, 2)}
        answer = act(desk, preparation, "reschedule", thursday)
        assert (answer.status_code, answer.json["type"]) == (422, "/problems/rule-broken")
        assert desk.get(f"/appointments/{visits[0]['id']}").json["revision"] == 1


class TestCancel:
    def test_everybody_is_free_and_told(
        self, session: Session, clock: Clock, desk: Caller, circle: Circle
    ) -> None:
        path = make(desk, circle, 0)
        fill(desk, path, circle.members)
        assert len(tasks(desk)) == 1
        session.query(Message).filter_by(kind=MessageKind.CONFIRMATION).update(
            {"state": MessageState.SENT, "released_at": clock.now}
        )

        answer = act(desk, path, "cancel", {"reason": "the room is flooded"})

        assert answer.status_code == 200, answer.json
        assert {one["status"] for one in answer.json["appointments"]} == {"cancelled"}
        assert (slots(session), tasks(desk)) == (0, [])
        kind = MessageKind.CANCELLATION
        said = session.scalars(select(Message).where(Message.kind == kind)).all()
        assert len(said) == len({one.recipient_id for one in said}) == PLACES
        assert desk.get("/group-sessions").json["items"] == []
        assert act(desk, path, "cancel").status_code == 409
        assert desk.post(f"{path}/places", place(circle.members[0])).status_code == 409
        make(desk, circle, 0)  # the time can be had again


class TestTheDay:
    def test_one_unready_patient_does_not_stop_the_others(
        self, session: Session, clock: Clock, desk: Caller, doctor: Caller, circle: Circle
    ) -> None:
        fill(desk, make(desk, circle), circle.members)
        path = dosing(desk, circle)
        visits = fill(desk, path, circle.members, "dosing-1")
        clock.now = WEDNESDAY_9
        for one in visits:
            arrive(doctor, one["id"])
        for member in circle.members[:-1]:
            clear(session, member.patient_id, ["vitals"], at=WEDNESDAY_9)

        told = {
            one["appointment"]["id"]: one["readiness"]["ready"]
            for one in desk.get(f"{path}/readiness").json["places"]
        }
        answer = act(doctor, path, "start-dosing")

        assert [told[one["id"]] for one in visits] == [True] * 5 + [False]
        assert answer.status_code == 200, answer.json
        *begun, left = answer.json["places"]
        assert {one["appointment"]["progress"] for one in begun} == {"dosing"}
        assert left["appointment"]["progress"] == "waiting"
        assert left["refusal"]["code"] == "not-ready"
        assert [gate["code"] for gate in left["refusal"]["gates"]] == ["vitals"]
        again = act(doctor, path, "start-dosing")
        assert [one["appointment"]["id"] for one in again.json["places"]] == [visits[-1]["id"]]
        assert act(desk, path, "cancel").status_code == 409  # five are past the dose gate
        moved = {"starts_at": (WEDNESDAY_9 + DAY).isoformat()}
        assert act(desk, path, "reschedule", moved).status_code == 409

    def test_nobody_begins_for_whom_there_are_too_few(
        self, session: Session, clock: Clock, desk: Caller, doctor: Caller, circle: Circle
    ) -> None:
        fill(desk, make(desk, circle), circle.members)
        path = dosing(desk, circle, 0)
        visits = fill(desk, path, circle.members, "dosing-1")
        clock.now = WEDNESDAY_9
        for one, member in zip(visits, circle.members, strict=True):
            arrive(doctor, one["id"])
            clear(session, member.patient_id, ["vitals"], at=WEDNESDAY_9)

        answer = act(doctor, path, "start-dosing")

        refused = [one["refusal"]["code"] for one in answer.json["places"] if one["refusal"]]
        assert refused == ["understaffed"] * 3
        alone = act(doctor, f"/appointments/{visits[5]['id']}", "start-dosing")
        assert (alone.status_code, alone.json["type"]) == (422, "/problems/understaffed")
        staff = [
            {"role": one["role"], "schedule_id": one["schedule_id"]}
            for one in desk.get(path).json["assignments"]
        ]
        told = {
            "starts_at": WEDNESDAY_9.isoformat(),
            "assignments": [*staff, *circle.staff(1)[:1]],
        }
        assert act(desk, path, "reschedule", told).status_code == 200  # somebody comes to help
        assert act(doctor, f"/appointments/{visits[5]['id']}", "start-dosing").status_code == 200

    def test_who_missed_it_makes_it_up_alone_or_with_another_group(
        self, clock: Clock, desk: Caller, circle: Circle
    ) -> None:
        path = make(desk, circle)
        missed = fill(desk, path, circle.members[:2])
        clock.now = MONDAY_9 + timedelta(minutes=30)
        for one in missed:
            assert act(desk, f"/appointments/{one['id']}", "noshow").status_code == 200
        other = make(desk, circle, starts_at=(MONDAY_9 + DAY).isoformat())

        fill(desk, other, circle.members[:1])
        told = place(circle.members[1])
        alone = desk.post("/appointments", {**told, "starts_at": WEDNESDAY_9.isoformat()})

        assert alone.status_code == 201, alone.json
        assert (alone.json["group_session_id"], alone.json["place"]) == (None, None)


def arrive(doctor: Caller, visit_id: str) -> None:
    for code in ARRIVAL:
        told = {"code": code, "reason": "seen to"}
        assert doctor.post(f"/appointments/{visit_id}/overrides", told).status_code == 201
    assert act(doctor, f"/appointments/{visit_id}", "arrive").status_code == 200


class TestWhoReads:
    def test_day_lists_openings_boards_and_agendas_know_the_places(
        self, session: Session, desk: Caller, circle: Circle, world: World
    ) -> None:
        fill(desk, make(desk, circle, 0), circle.members[:3])
        day = "from=2026-03-02T00:00:00Z&to=2026-03-03T00:00:00Z"

        mine = desk.get(f"/appointments?{day}&practitioner_id={world.therapist_id}")
        assert len(mine.json["items"]) == 3
        assert len(desk.get(f"/readiness?{day}").json["items"]) == 3
        found = desk.get(
            f"/openings?step_kind=integration&{day}&practitioner_id={world.therapist_id}"
        )
        assert found.json["items"][0]["starts_at"] == "2026-03-02T15:00:00Z"  # not before
        lines = reading._rows(
            reading.raw(session),
            reading._AGENDA,
            {"practitioner": world.therapist_id, "begin": MONDAY_9, "end": MONDAY_9 + DAY},
        )
        assert len(list(lines)) == 3

    def test_a_clinicians_calendar_has_one_entry_and_a_patients_their_own(
        self, admin: Caller, desk: Caller, circle: Circle, world: World
    ) -> None:
        fill(desk, make(desk, circle, 0), circle.members[:3])

        def calendar(whose: str) -> str:
            made = admin.post(f"/{whose}/calendar-feeds")
            assert made.status_code == 201, made.json
            return str(admin.client.get("/calendar" + made.json["url"].split("/calendar")[1]).text)

        assert calendar(f"practitioners/{world.therapist_id}").count("BEGIN:VEVENT") == 1
        own = calendar(f"patients/{circle.members[1].patient_id}")
        assert own.count("BEGIN:VEVENT") == 1
