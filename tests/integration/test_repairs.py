"""Disruptions and repairs over REST: found, shown, accepted wholly or per patient, or lost."""

import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models import Closure, Message
from models.vocabulary import MessageKind, MessageState, PractitionerRole
from scheduler import booking
from scheduler.authority import Authority, Call
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    clear,
    make_patient,
    make_practitioner,
    make_room,
)
from tests.groups import Circle, make_circle
from tests.integration.conftest import Caller

DESK = Authority("desk")
HOUR = timedelta(hours=1)


def book(desk: Caller, patient: UUID, when: Any, **what: Any) -> dict[str, Any]:
    told = {"patient_id": str(patient), "starts_at": when.isoformat(), **what}
    answer = desk.post("/appointments", told)
    assert answer.status_code == 201, answer.json
    assert answer.json is not None
    return dict(answer.json)


def course(desk: Caller, patient: UUID) -> dict[str, Any]:
    """A course with a preparation on Monday, a dose on Wednesday, its integration on Thursday."""
    opened = desk.post("/courses", {"patient_id": str(patient), "protocol_code": "test-course"})
    assert opened.status_code == 201, opened.json
    steps = {one["key"]: one["id"] for one in opened.json["steps"]}
    times = {"preparation": 0 * DAY, "dosing-1": 2 * DAY, "integration-1": 3 * DAY + 3 * HOUR}
    for key, after in times.items():
        book(desk, patient, MONDAY_9 + after, course_step_id=steps[key])
    return {"id": opened.json["id"], "steps": steps}


@pytest.fixture
def whole(session: Session, world: World, desk: Caller) -> dict[str, Any]:
    """A course, and a second therapist for whoever needs one."""
    clear(session, world.patient_id, ["medical-clearance", "consent"])
    made = course(desk, world.patient_id)
    make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
    session.commit()
    return made


def away(desk: Caller, schedule_id: UUID, first: Any, last: Any, **more: Any) -> Any:
    told = {
        "schedule_id": str(schedule_id),
        "from": first.isoformat(),
        "to": last.isoformat(),
        **more,
    }
    return desk.post("/disruptions", told)


def test_an_illness_is_repaired_and_keeps_the_therapist(
    desk: Caller, session: Session, world: World, whole: dict[str, Any]
) -> None:
    answer = away(desk, world.therapist, MONDAY_9 + 2 * DAY, MONDAY_9 + 2 * DAY + 8 * HOUR)
    assert answer.status_code == 201, answer.json
    proposal = answer.json["proposal"]
    assert proposal["unrepairable"] == []
    dose = next(one for one in proposal["moves"] if one["kind"] == "dosing")
    assert dose["why"] == "away"
    assert str(world.therapist) in {one["schedule_id"] for one in dose["assignments"]}
    assert dose["to"] != dose["from"]
    again = desk.get(f"/disruptions/{answer.json['disruption']['id']}").json
    assert again["proposal"]["moves"] == proposal["moves"]

    done = desk.post(f"/disruptions/{answer.json['disruption']['id']}/accept")
    assert done.status_code == 200, done.json
    assert done.json["refused"] == []
    moved = {one["id"]: one["starts_at"] for one in done.json["appointments"]}
    assert moved == {one["appointment_id"]: one["to"] for one in proposal["moves"]}
    assert desk.get(f"/disruptions/{again['disruption']['id']}").json["proposal"]["moves"] == []
    twice = desk.post(f"/disruptions/{again['disruption']['id']}/accept")
    assert twice.json["appointments"] == []


def test_other_people_at_the_same_time_say_nothing_to_the_patient(
    desk: Caller, session: Session, world: World, whole: dict[str, Any]
) -> None:
    make_practitioner(session, world.site_id, PractitionerRole.MONITOR, lanes=2)
    session.commit()
    answer = away(desk, world.monitor, MONDAY_9, MONDAY_9 + 4 * DAY)
    [move] = answer.json["proposal"]["moves"]
    assert move["from"] == move["to"]
    assert str(world.monitor) not in {one["schedule_id"] for one in move["assignments"]}
    done = desk.post(f"/disruptions/{answer.json['disruption']['id']}/accept")
    assert [one["revision"] for one in done.json["appointments"]] == [1]


@dataclass(frozen=True)
class Shared:
    """A preparation on Monday that a few patients share, with two of three therapists."""

    circle: Circle
    id: str


@pytest.fixture
def shared(desk: Caller, session: Session, world: World) -> Shared:
    circle = make_circle(session, world, 2)
    session.commit()
    told = {
        "protocol_version_id": str(circle.version_id),
        "visit": "preparation",
        "starts_at": MONDAY_9.isoformat(),
        "assignments": circle.staff(0, 1),
    }
    group = desk.post("/group-sessions", told).json["id"]
    for member in circle.members:
        place = {
            "patient_id": str(member.patient_id),
            "course_step_id": str(member.steps["preparation"]),
        }
        assert desk.post(f"/group-sessions/{group}/places", place).status_code == 201
    return Shared(circle, group)


def staff_of(desk: Caller, shared: Shared) -> set[str]:
    told = desk.get(f"/group-sessions/{shared.id}").json
    return {one["schedule_id"] for one in told["assignments"]}


def test_a_group_session_gets_other_staff_and_its_patients_hear_nothing(
    desk: Caller, session: Session, world: World, shared: Shared
) -> None:
    circle = shared.circle
    [member, _] = circle.members
    alone = {
        "patient_id": str(member.patient_id),
        "course_step_id": str(member.steps["dosing-1"]),
        "starts_at": (MONDAY_9 + 2 * DAY).isoformat(),
        "assignments": [
            *circle.staff(0),
            {"role": "monitor", "schedule_id": str(world.monitor)},
        ],
    }
    dose = desk.post("/appointments", alone)
    assert dose.status_code == 201, dose.json
    before = session.scalar(select(func.count()).select_from(Message))

    answer = away(desk, world.therapist, MONDAY_9, MONDAY_9 + 3 * DAY)

    [move] = answer.json["group_sessions"]
    assert (move["group_session_id"], move["from"], move["why"]) == (shared.id, move["to"], None)
    assert {one["schedule_id"] for one in move["assignments"]} == {
        str(circle.therapists[1]),
        str(circle.therapists[2]),
        str(circle.room),
    }
    assert str(world.therapist) in staff_of(desk, shared)  # it was only tried
    moves = answer.json["proposal"]["moves"]
    assert [one["appointment_id"] for one in moves] == [dose.json["id"]]
    path = f"/disruptions/{answer.json['disruption']['id']}"
    assert desk.get(path).json["group_sessions"] == [move]

    done = desk.post(f"{path}/accept", {"group_sessions": [shared.id]})

    assert done.status_code == 200, done.json
    assert (done.json["moved_groups"], done.json["appointments"]) == ([shared.id], [])
    assert str(world.therapist) not in staff_of(desk, shared)
    assert desk.get(path).json["group_sessions"] == []
    assert session.scalar(select(func.count()).select_from(Message)) == before
    again = desk.post(f"{path}/accept", {"group_sessions": [shared.id]})
    assert again.status_code == 404


def test_without_enough_staff_the_cohort_moves_to_another_day_at_its_hour(
    desk: Caller, world: World, shared: Shared
) -> None:
    answer = away(desk, shared.circle.room, MONDAY_9, MONDAY_9 + DAY)

    [move] = answer.json["group_sessions"]
    assert datetime.fromisoformat(move["to"]) == MONDAY_9 + DAY
    done = desk.post(f"/disruptions/{answer.json['disruption']['id']}/accept")
    assert done.json["moved_groups"] == [shared.id]
    places = desk.get(f"/group-sessions/{shared.id}/places").json["items"]
    assert {datetime.fromisoformat(one["starts_at"]) for one in places} == {MONDAY_9 + DAY}


def test_where_no_time_suits_all_of_them_it_says_why(
    desk: Caller, world: World, shared: Shared
) -> None:
    answer = away(desk, shared.circle.room, MONDAY_9, MONDAY_9 + 40 * DAY)

    [move] = answer.json["group_sessions"]
    assert (move["to"], move["assignments"]) == (None, [])
    assert move["why"]
    assert move["detail"]
    path = f"/disruptions/{answer.json['disruption']['id']}"
    assert desk.post(f"{path}/accept").json["moved_groups"] == []
    assert desk.get(path).json["group_sessions"] == [move]


def test_a_session_that_somebody_moved_by_hand_is_not_open_any_more(
    desk: Caller, world: World, shared: Shared
) -> None:
    answer = away(desk, world.therapist, MONDAY_9, MONDAY_9 + HOUR)
    assert len(answer.json["group_sessions"]) == 1
    etag = desk.get(f"/group-sessions/{shared.id}").headers["ETag"]
    instead = {"starts_at": MONDAY_9.isoformat(), "assignments": shared.circle.staff(1, 2)}
    moved = desk.post(f"/group-sessions/{shared.id}/reschedule", instead, etag=etag)
    assert moved.status_code == 200, moved.json

    path = f"/disruptions/{answer.json['disruption']['id']}"
    assert desk.get(path).json["group_sessions"] == []
    assert desk.post(f"{path}/accept").json["moved_groups"] == []


def test_a_session_whose_new_staff_are_taken_meanwhile_is_proposed_anew(
    desk: Caller, world: World, shared: Shared
) -> None:
    circle = shared.circle
    answer = away(desk, world.therapist, MONDAY_9, MONDAY_9 + HOUR)
    third = away(desk, circle.therapists[2], MONDAY_9, MONDAY_9 + HOUR)
    assert third.json["group_sessions"] == []

    done = desk.post(f"/disruptions/{answer.json['disruption']['id']}/accept").json

    assert done["moved_groups"] == []
    assert [one["group_session_id"] for one in done["refused_groups"]] == [shared.id]
    [fresh] = done["group_sessions"]
    assert fresh["from"] != fresh["to"]


def test_the_best_answer_is_looked_for_if_asked_and_said_to_be_proven(
    desk: Caller, session: Session, world: World, whole: dict[str, Any]
) -> None:
    window = (MONDAY_9 + 2 * DAY, MONDAY_9 + 2 * DAY + 8 * HOUR)
    quick = away(desk, world.therapist, *window).json
    assert quick["proposal"]["is_best"] is None

    best = away(desk, world.therapist, *window, effort="best")

    assert best.status_code == 201, best.json
    found = best.json["proposal"]
    assert found["is_best"] is True
    assert found["unrepairable"] == []
    assert 0 < len(found["moves"]) <= len(quick["proposal"]["moves"])
    done = desk.post(f"/disruptions/{best.json['disruption']['id']}/accept")
    assert len(done.json["appointments"]) == len(found["moves"])


def test_without_cp_sat_the_best_answer_is_refused_and_nothing_is_closed(
    desk: Caller, session: Session, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ortools", None)  # as if it were not installed

    answer = away(desk, world.therapist, MONDAY_9, MONDAY_9 + DAY, effort="best")

    assert answer.status_code == 422, answer.json
    assert "plan" in answer.json["detail"]
    assert session.scalar(select(Closure.id)) is None


def test_a_place_in_a_group_is_not_moved_alone_when_nobody_stands_by(
    desk: Caller, doctor: Caller, session: Session, world: World
) -> None:
    circle = make_circle(session, world, 1)
    session.commit()
    told = {
        "protocol_version_id": str(circle.version_id),
        "visit": "dosing",
        "starts_at": MONDAY_9.isoformat(),
    }
    made = desk.post("/group-sessions", told)
    assert made.status_code == 201, made.json
    [member] = circle.members
    taken = {
        "patient_id": str(member.patient_id),
        "course_step_id": str(member.steps["dosing-1"]),
        "reasons": {"no-preparation": "Invented for the test."},
    }
    place = doctor.post(f"/group-sessions/{made.json['id']}/places", taken)
    assert place.status_code == 201, place.json

    answer = away(desk, world.prescriber, MONDAY_9, MONDAY_9 + DAY)

    assert answer.json["proposal"]["moves"] == []
    assert answer.json["proposal"]["unrepairable"] == []


def test_nothing_new_is_booked_into_a_disruption(
    desk: Caller, session: Session, world: World
) -> None:
    answer = away(desk, world.consulting_room, MONDAY_9, MONDAY_9 + DAY, reason="no water")
    assert answer.json["proposal"]["moves"] == []
    assert session.scalar(select(Closure.reason)) == "no water"
    told = {
        "patient_id": str(world.patient_id),
        "step_kind": "preparation",
        "starts_at": MONDAY_9.isoformat(),
    }
    assert desk.post("/appointments", told).status_code == 409


def test_a_room_without_a_second_is_told_as_unrepairable(
    desk: Caller, session: Session, world: World, whole: dict[str, Any]
) -> None:
    answer = away(desk, world.dosing_room, MONDAY_9, MONDAY_9 + 60 * DAY)
    [stuck] = answer.json["proposal"]["unrepairable"]
    assert stuck["why"] == "no-opening"
    assert answer.json["proposal"]["moves"] == []
    done = desk.post(f"/disruptions/{answer.json['disruption']['id']}/accept")
    assert done.json["appointments"] == []


def test_who_stands_by_is_missed_too(
    desk: Caller, session: Session, world: World, whole: dict[str, Any]
) -> None:
    """The prescriber has a slot for 20 minutes, and must be on site to the end."""
    afterwards = MONDAY_9 + 2 * DAY + HOUR
    answer = away(desk, world.prescriber, afterwards, afterwards + HOUR)
    [dose] = [one for one in answer.json["proposal"]["moves"] if one["kind"] == "dosing"]
    assert dose["why"] == "nobody-stands-by"


def test_a_time_lost_meanwhile_refuses_that_patient_alone_and_proposes_anew(
    desk: Caller, session: Session, world: World, whole: dict[str, Any]
) -> None:
    other, _ = make_patient(session)
    third, _ = make_patient(session)
    make_room(session, world.site_id, "consulting")
    session.commit()
    who = {"therapist": world.therapist, "room": world.consulting_room}
    named = [{"role": role, "schedule_id": str(one)} for role, one in who.items()]
    book(desk, other, MONDAY_9 + 2 * HOUR, step_kind="preparation", assignments=named)
    answer = away(desk, world.therapist, MONDAY_9, MONDAY_9 + 8 * HOUR)
    moves = answer.json["proposal"]["moves"]
    assert {one["patient_id"] for one in moves} == {str(world.patient_id), str(other)}
    lost = next(one for one in moves if one["patient_id"] == str(other))
    named = [{k: one[k] for k in ("role", "schedule_id")} for one in lost["assignments"]]
    told = {
        "patient_id": str(third),
        "step_kind": "preparation",
        "starts_at": lost["to"],
        "assignments": named,
    }
    assert desk.post("/appointments", told).status_code == 201
    done = desk.post(f"/disruptions/{answer.json['disruption']['id']}/accept").json
    assert [one["patient_id"] for one in done["refused"]] == [str(other)]
    assert done["refused"][0]["code"] == "slot-taken"
    assert {one["patient_id"] for one in done["appointments"]} == {str(world.patient_id)}
    [fresh] = done["proposal"]["moves"]
    assert (fresh["patient_id"], fresh["appointment_id"]) == (str(other), lost["appointment_id"])
    again = desk.post(
        f"/disruptions/{answer.json['disruption']['id']}/accept", {"patients": [str(other)]}
    )
    assert [one["id"] for one in again.json["appointments"]] == [lost["appointment_id"]]


def test_a_late_dose_draws_its_integration_after_it(
    desk: Caller, session: Session, world: World, whole: dict[str, Any]
) -> None:
    dose = next(
        one
        for one in desk.get("/appointments").json["items"]
        if one["course_step_id"] == whole["steps"]["dosing-1"]
    )
    etag = desk.get(f"/appointments/{dose['id']}").headers["ETag"]
    told = {
        "starts_at": (MONDAY_9 + 7 * DAY).isoformat(),
        "reasons": {"integration-1-too-soon": "the patient had a cold"},
    }
    moved = desk.post(f"/appointments/{dose['id']}/reschedule", told, etag=etag)
    assert moved.status_code == 200, moved.json
    answer = desk.post(f"/courses/{whole['id']}/repair")
    assert answer.status_code == 200, answer.json
    [move] = answer.json["moves"]
    assert (move["kind"], move["why"]) == ("integration", "integration-1-too-soon")
    told = {"proposal_id": answer.json["id"]}
    assert desk.post(f"/courses/{whole['id']}/accept", told).status_code == 404
    done = desk.post(f"/courses/{whole['id']}/repair/accept", {"proposal_id": answer.json["id"]})
    assert done.status_code == 200, done.json
    assert [one["starts_at"] for one in done.json["appointments"]] == [move["to"]]
    assert desk.post(f"/courses/{whole['id']}/repair").json["moves"] == []
    late = desk.post(f"/courses/{whole['id']}/repair/accept", {"proposal_id": answer.json["id"]})
    assert late.status_code == 412


def test_a_cancelled_visit_is_booked_anew(
    desk: Caller, session: Session, world: World, whole: dict[str, Any]
) -> None:
    visit = next(
        one
        for one in desk.get("/appointments").json["items"]
        if one["course_step_id"] == whole["steps"]["integration-1"]
    )
    booking.cancel(session, Call(UUID(visit["id"]), None, "ill"), by=DESK, now=SUNDAY_NOON)
    session.commit()
    answer = desk.post(f"/courses/{whole['id']}/repair")
    [move] = answer.json["moves"]
    assert (move["appointment_id"], move["why"]) == (None, "cancelled")
    assert move["course_step_id"] == whole["steps"]["integration-1"]
    done = desk.post(f"/courses/{whole['id']}/repair/accept", {"proposal_id": answer.json["id"]})
    assert [one["course_step_id"] for one in done.json["appointments"]] == [move["course_step_id"]]


def test_a_patient_is_told_of_all_moves_at_once(
    desk: Caller, session: Session, world: World, whole: dict[str, Any]
) -> None:
    session.execute(
        update(Message)
        .where(Message.kind == MessageKind.CONFIRMATION)
        .values(state=MessageState.SENT, released_at=SUNDAY_NOON, done_at=SUNDAY_NOON)
    )
    session.commit()
    answer = away(desk, world.therapist, MONDAY_9 + 2 * DAY, MONDAY_9 + 4 * DAY)
    moves = answer.json["proposal"]["moves"]
    desk.post(f"/disruptions/{answer.json['disruption']['id']}/accept")
    told = session.execute(
        select(Message.due_at).where(
            Message.kind == MessageKind.MOVED, Message.state == MessageState.SCHEDULED
        )
    ).all()
    assert len(told) == sum(one["from"] != one["to"] for one in moves)
    assert len({row.due_at for row in told}) == 1  # so they go out as one letter


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"schedule_id": None}, 422, "schedule_id"),
        ({"schedule_id": str(uuid4())}, 404, None),
        ({"from": "yesterday"}, 422, "from"),
        ({"to": "2026-03-01T00:00:00Z"}, 422, "to"),
        ({"to": "2027-03-01T00:00:00Z"}, 422, "to"),
        ({"effort": "heroic"}, 422, "effort"),
        ({"reason": "x" * 5000}, 422, "reason"),
        ({"more": 1}, 422, "more"),
    ],
)
def test_bad_disruptions_are_refused_and_change_nothing(
    desk: Caller, session: Session, world: World, change: Any, status: int, field: str | None
) -> None:
    told = {
        "schedule_id": str(world.therapist),
        "from": MONDAY_9.isoformat(),
        "to": (MONDAY_9 + DAY).isoformat(),
        **change,
    }
    answer = desk.post("/disruptions", told)
    assert answer.status_code == status, answer.json
    if field is not None:
        assert field in str(answer.json)
    assert session.scalar(select(Closure.id)) is None


def test_strangers_are_refused(desk: Caller, world: World, whole: dict[str, Any]) -> None:
    assert away(desk, world.patient, MONDAY_9, MONDAY_9 + DAY).status_code == 422
    assert desk.post(f"/disruptions/{uuid4()}/accept").status_code == 404
    assert desk.post(f"/courses/{uuid4()}/repair").status_code == 404
    made = away(desk, world.therapist, MONDAY_9, MONDAY_9 + DAY).json["disruption"]["id"]
    stranger = desk.post(f"/disruptions/{made}/accept", {"patients": [str(uuid4())]})
    assert stranger.status_code == 404
    bad = desk.post(f"/disruptions/{made}/accept", {"patients": "all"})
    assert bad.status_code == 422
    unknown = desk.post(f"/courses/{whole['id']}/repair/accept", {"proposal_id": str(uuid4())})
    assert unknown.status_code == 404
