"""Places in group sessions are found as other times are: one by one, and for whole courses."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from tests.factories import DAY, MONDAY_9, World
from tests.groups import PLACES, Circle, make_circle
from tests.integration.conftest import Caller

WINDOW = "from=2026-03-02T00:00:00Z&to=2026-03-30T00:00:00Z"


@pytest.fixture
def circle(session: Session, world: World) -> Circle:
    return make_circle(session, world)


def meet(desk: Caller, circle: Circle, visit: str, days: int, **more: Any) -> str:
    told = {
        "protocol_version_id": str(circle.version_id),
        "visit": visit,
        "starts_at": (MONDAY_9 + days * DAY).isoformat(),
        **more,
    }
    answer = desk.post("/group-sessions", told)
    assert answer.status_code == 201, answer.json
    made: str = answer.json["id"]
    return made


def join(desk: Caller, group: str, circle: Circle, member: int, step: str) -> Any:
    one = circle.members[member]
    told = {"patient_id": str(one.patient_id), "course_step_id": str(one.steps[step])}
    return desk.post(f"/group-sessions/{group}/places", told)


def found(desk: Caller, circle: Circle, member: int, step: str, more: str = "") -> Any:
    step_id = circle.members[member].steps[step]
    answer = desk.get(f"/openings?course_step_id={step_id}&{WINDOW}{more}")
    assert answer.status_code == 200, answer.json
    return answer.json


def course_of(desk: Caller, circle: Circle, member: int) -> str:
    patient = circle.members[member].patient_id
    [course] = desk.get(f"/courses?patient_id={patient}").json["items"]
    path: str = f"/courses/{course['id']}"
    return path


def propose(desk: Caller, circle: Circle, member: int) -> Any:
    answer = desk.post(f"{course_of(desk, circle, member)}/proposals", {})
    assert answer.status_code == 201, answer.json
    return answer.json


class TestOpenings:
    def test_a_shared_visit_is_offered_the_sessions_with_a_place(
        self, desk: Caller, circle: Circle
    ) -> None:
        first, second = (meet(desk, circle, "preparation", days) for days in (0, 1))
        for member in range(PLACES - 1):
            assert join(desk, first, circle, member, "preparation").status_code == 201

        items = found(desk, circle, 5, "preparation")["items"]
        assert [(one["group_session_id"], one["free"]) for one in items] == [
            (first, 1),
            (second, PLACES),
        ]
        assert {one["role"] for one in items[0]["assignments"]} == {"therapist", "room"}
        taken = join(desk, items[0]["group_session_id"], circle, 5, "preparation")
        assert taken.status_code == 201
        assert taken.json["starts_at"] == items[0]["starts_at"]

    def test_full_cancelled_and_other_sessions_are_not(self, desk: Caller, circle: Circle) -> None:
        full = meet(desk, circle, "preparation", 0, places=1)
        gone = meet(desk, circle, "preparation", 1)
        meet(desk, circle, "dosing", 3)
        assert join(desk, full, circle, 0, "preparation").status_code == 201
        etag = desk.get(f"/group-sessions/{gone}").headers["ETag"]
        cancelled = desk.post(f"/group-sessions/{gone}/cancel", {"reason": "x"}, etag=etag)
        assert cancelled.status_code == 200

        answer = found(desk, circle, 5, "preparation")
        assert answer["items"] == []
        assert answer["shut_by"][0]["code"] == "group-session"
        assert "alone" in {one["change"] for one in answer["alternatives"]}

    def test_the_patients_own_time_counts(self, desk: Caller, circle: Circle) -> None:
        group = meet(desk, circle, "preparation", 0, assignments=circle.staff(1, 2))
        one = circle.members[0]
        told = {
            "patient_id": str(one.patient_id),
            "step_kind": "integration",
            "starts_at": MONDAY_9.isoformat(),
        }
        assert desk.post("/appointments", told).status_code == 201
        assert found(desk, circle, 0, "preparation")["items"] == []
        [other] = found(desk, circle, 1, "preparation")["items"]
        assert other["group_session_id"] == group

    def test_wishes_narrow_them_and_pages_lose_none(self, desk: Caller, circle: Circle) -> None:
        made = [
            meet(desk, circle, "preparation", days, assignments=circle.staff(days % 2 * 2))
            for days in range(4)
        ]
        therapist = desk.get("/practitioners").json["items"]
        own = next(one for one in therapist if one["schedule_id"] == str(circle.therapists[2]))
        theirs = found(desk, circle, 0, "preparation", f"&practitioner_id={own['id']}")["items"]
        assert [one["group_session_id"] for one in theirs] == [made[1], made[3]]
        monday = found(desk, circle, 0, "preparation", "&weekdays=monday")["items"]
        assert [one["group_session_id"] for one in monday] == [made[0]]

        seen, page = [], found(desk, circle, 0, "preparation", "&limit=1")
        while True:
            seen += [one["group_session_id"] for one in page["items"]]
            if page["next"] is None:
                break
            page = desk.get(page["next"].removeprefix("/api/v1")).json
        assert seen == made

    def test_who_makes_it_up_finds_times_alone(self, desk: Caller, circle: Circle) -> None:
        meet(desk, circle, "preparation", 0)
        items = found(desk, circle, 0, "preparation", "&alone=true")["items"]
        assert {one["group_session_id"] for one in items} == {None}
        one = circle.members[0]
        told = {
            "patient_id": str(one.patient_id),
            "course_step_id": str(one.steps["preparation"]),
            "starts_at": items[0]["starts_at"],
            "assignments": [
                {"role": each["role"], "schedule_id": each["schedule_id"]}
                for each in items[0]["assignments"]
            ],
        }
        assert desk.post("/appointments", told).status_code == 201


def cohort(desk: Caller, circle: Circle, **more: Any) -> dict[str, str]:
    """Sessions for the shared visits of the course: a preparation, and doses a fortnight apart."""
    made = {"preparation": meet(desk, circle, "preparation", 0, **more)}
    for number in range(1, 4):
        made[f"dosing-{number}"] = meet(desk, circle, "dosing", 2 + 14 * (number - 1), **more)
    return made


class TestPlans:
    def test_a_course_is_planned_into_the_sessions_and_booked_whole(
        self, desk: Caller, circle: Circle
    ) -> None:
        made = cohort(desk, circle)
        [best, *_] = propose(desk, circle, 0)["items"]
        shared = {
            one["key"]: one["group_session_id"] for one in best["steps"] if one["group_session_id"]
        }
        assert shared == {key: made[key] for key in shared}
        assert set(shared) >= {"preparation", "dosing-1"}

        path = course_of(desk, circle, 0)
        answer = desk.post(f"{path}/accept", {"proposal_id": best["id"]})
        assert answer.status_code == 201, answer.json
        booked = {one["group_session_id"] for one in answer.json["appointments"]}
        assert booked >= set(shared.values())
        assert desk.get(f"/group-sessions/{made['preparation']}").json["free"] == PLACES - 1

    def test_without_sessions_it_says_so(self, desk: Caller, circle: Circle) -> None:
        answer = propose(desk, circle, 0)
        assert answer["items"] == []
        assert answer["why"]["step"] == "preparation"
        assert answer["why"]["shut_by"] == "group-session"

    def test_whose_place_somebody_took_is_told_and_nothing_is_booked(
        self, desk: Caller, circle: Circle
    ) -> None:
        made = cohort(desk, circle, places=1)
        [best, *_] = propose(desk, circle, 0)["items"]
        assert join(desk, made["preparation"], circle, 1, "preparation").status_code == 201

        path = course_of(desk, circle, 0)
        answer = desk.post(f"{path}/accept", {"proposal_id": best["id"]})
        assert (answer.status_code, answer.json["type"]) == (409, "/problems/proposal-lost")
        assert [one["group_session_id"] for one in answer.json["lost"]] == [made["preparation"]]
        patient = circle.members[0].patient_id
        assert desk.get(f"/appointments?patient_id={patient}").json["items"] == []

    def test_places_can_be_held_and_are_then_booked(self, desk: Caller, circle: Circle) -> None:
        made = cohort(desk, circle, places=1)
        [best, *_] = propose(desk, circle, 0)["items"]
        path = course_of(desk, circle, 0)
        held = desk.post(f"{path}/hold", {"proposal_id": best["id"]})
        assert held.status_code == 201, held.json
        assert join(desk, made["preparation"], circle, 1, "preparation").status_code == 409
        answer = desk.post(f"{path}/accept", {"proposal_id": best["id"]})
        assert answer.status_code == 201, answer.json
        assert {one["status"] for one in answer.json["appointments"]} == {"booked"}

    def test_a_session_that_moved_is_lost(self, desk: Caller, circle: Circle) -> None:
        made = cohort(desk, circle)
        [best, *_] = propose(desk, circle, 0)["items"]
        path = f"/group-sessions/{made['preparation']}"
        told = {"starts_at": (MONDAY_9 + timedelta(hours=2)).isoformat()}
        moved = desk.post(f"{path}/reschedule", told, etag=desk.get(path).headers["ETag"])
        assert moved.status_code == 200, moved.json
        answer = desk.post(f"{course_of(desk, circle, 0)}/accept", {"proposal_id": best["id"]})
        assert answer.status_code == 409
        assert [one["key"] for one in answer.json["lost"]] == ["preparation"]
        assert answer.json["proposals"]

    def test_of_two_planned_together_one_gets_the_last_place(
        self, desk: Caller, circle: Circle
    ) -> None:
        cohort(desk, circle, places=1)
        ids = [course_of(desk, circle, member).rsplit("/", 1)[1] for member in (0, 1)]
        answer = desk.post(
            "/courses/plan", {"courses": [{"course_id": one} for one in ids], "seconds": 1}
        )
        assert answer.status_code in {200, 201}, answer.json
        placed = [bool(one["proposal"]) for one in answer.json["items"]]
        assert sorted(placed) == [False, True]
