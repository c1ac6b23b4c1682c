"""Whole courses over REST: planned in one call, booked whole or not at all in another."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from models import Appointment, Closure, Proposal, Schedule, Slot, enter_clinic
from models.vocabulary import AppointmentStatus, PractitionerRole
from scheduler import courses, proposals, proposing
from scheduler.authority import Authority
from scheduler.proposals import Acceptance
from scheduler.unplanned import Wishes
from tests.factories import (
    DAY,
    SUNDAY_NOON,
    ZONE,
    World,
    clear,
    figure,
    make_patient,
    make_practitioner,
    make_protocol,
    protocol_content,
)
from tests.groups import make_circle
from tests.integration.conftest import Caller, Clock

NEW_YORK = ZoneInfo(ZONE)
STEPS = ["preparation", "dosing-1", "integration-1", "dosing-2"]


@pytest.fixture
def course(desk: Caller, session: Session, world: World) -> str:
    """A course of four visits, cleared to be booked."""
    clear(session, world.patient_id, ["medical-clearance", "consent"])
    return open_course(desk, world.patient_id, world)


def open_course(desk: Caller, patient_id: UUID, world: World) -> str:
    told = {"patient_id": str(patient_id), "protocol_version_id": str(world.protocol_version_id)}
    return str(desk.post("/courses", told).json["id"])


def propose(desk: Caller, course: str, reasons: Any = None, **wishes: Any) -> Any:
    told = {"wishes": wishes, "reasons": reasons or {}}
    answer = desk.post(f"/courses/{course}/proposals", told)
    assert answer.status_code == 201, answer.json
    return answer.json


def accept(desk: Caller, course: str, proposal: Any, how: str = "accept", **more: Any) -> Any:
    return desk.post(f"/courses/{course}/{how}", {"proposal_id": proposal["id"], **more})


def starts(proposal: Any) -> list[datetime]:
    return [datetime.fromisoformat(step["starts_at"]) for step in proposal["steps"]]


def visits(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Appointment)) or 0


def test_a_course_is_planned_and_booked_in_two_calls(
    desk: Caller, session: Session, course: str
) -> None:
    found = propose(desk, course)

    best = found["items"][0]
    assert [step["key"] for step in best["steps"]] == STEPS
    preparation, dose, integration, second = starts(best)
    assert preparation == datetime(2026, 3, 2, 9, 0, tzinfo=NEW_YORK)
    assert DAY <= dose.date() - preparation.date() <= 14 * DAY
    assert timedelta(hours=24) <= integration - dose <= timedelta(hours=72)
    assert second.astimezone(NEW_YORK).date() >= dose.astimezone(NEW_YORK).date() + 5 * DAY
    assert best["cost"]["therapist_changes"] == best["cost"]["wishes_broken"] == 0
    assert best["cost"]["finish_at"] == best["steps"][-1]["starts_at"]
    assert best["cost"]["is_best"]
    assert found["left"] == []
    assert found["why"] is None
    assert visits(session) == 0

    answer = accept(desk, course, best)

    assert answer.status_code == 201, answer.json
    booked = answer.json["appointments"]
    assert [visit["starts_at"] for visit in booked] == [one["starts_at"] for one in best["steps"]]
    assert {visit["status"] for visit in booked} == {"booked"}
    assert [_people(visit) for visit in booked] == [_people(step) for step in best["steps"]]


def _people(visit: Any) -> set[tuple[str, str]]:
    return {(one["role"], one["schedule_id"]) for one in visit["assignments"]}


def test_proposals_differ_and_the_best_comes_first(
    desk: Caller, session: Session, world: World, course: str
) -> None:
    make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
    session.commit()

    found = propose(desk, course)["items"]

    assert len(found) == 3
    points = [one["cost"]["points"] for one in found]
    assert points == sorted(points)
    assert len({str(one["steps"]) for one in found}) == 3
    with_whom = [
        {
            who["name"]
            for step in one["steps"]
            for who in step["assignments"]
            if "ther" in who["role"]
        }
        for one in found
    ]
    assert all(len(names) == 1 for names in with_whom)  # one therapist throughout
    assert len({next(iter(names)) for names in with_whom}) == 2


def test_wishes_are_kept_where_they_can_be(desk: Caller, course: str) -> None:
    best = propose(
        desk,
        course,
        weekdays=["tuesday", "thursday"],
        not_before="12:00",
        before="15:00",
        not_on=["2026-03-03"],
        earliest="2026-03-02T00:00:00-05:00",
    )["items"][0]

    assert best["cost"]["wishes_broken"] == 0
    walls = [start.astimezone(NEW_YORK) for start in starts(best)]
    assert {wall.weekday() for wall in walls} == {1, 3}
    assert all(12 <= wall.hour < 15 for wall in walls)
    assert walls[0].date().isoformat() == "2026-03-05"


def test_the_same_weekday_and_time_for_visits_of_a_kind(desk: Caller, course: str) -> None:
    loose = propose(desk, course)["items"][0]
    even = propose(desk, course, same_time=True)["items"][0]

    first, second = (start.astimezone(NEW_YORK) for start in (starts(even)[1], starts(even)[3]))
    assert (first.weekday(), first.time()) == (second.weekday(), second.time())
    assert even["cost"]["wishes_broken"] == 0
    assert even["cost"]["points"] >= loose["cost"]["points"]


def test_without_a_way_the_answer_says_what_shuts_it_and_what_would_open_it(
    desk: Caller, session: Session, world: World, course: str
) -> None:
    late = propose(desk, course, latest="2026-03-06T00:00:00-05:00")
    assert late["items"] == []
    assert late["why"]["step"] == "dosing-2"
    assert late["why"]["relaxations"][0]["change"] == "latest"
    assert all(one["finish_at"] for one in late["why"]["relaxations"])

    patient, _ = make_patient(session)
    clear(session, patient, ["medical-clearance"])
    unready = propose(desk, open_course(desk, patient, world))
    assert unready["why"]["step"] == "dosing-1"
    assert unready["why"]["shut_by"] == "consent"
    assert [one["change"] for one in unready["why"]["relaxations"]] == ["consent"]

    session.add(
        Closure(
            schedule_id=world.device,
            starts_at=SUNDAY_NOON,
            ends_at=SUNDAY_NOON + 400 * DAY,
            reason="repair",
        )
    )
    session.commit()
    broken = propose(desk, course)
    assert (broken["why"]["step"], broken["why"]["shut_by"]) == ("dosing-1", "monitor device")


def test_a_gate_is_passed_over_with_a_reason_by_who_may(
    desk: Caller, doctor: Caller, session: Session, world: World
) -> None:
    clear(session, world.patient_id, ["medical-clearance"])
    course = open_course(desk, world.patient_id, world)
    reasons = {"consent": "Signed on paper this morning."}
    best = propose(doctor, course, reasons)["items"][0]
    assert {tuple(one["reasons"].items()) for one in session.scalars(select(Proposal.asked))} == {
        (("consent", "consent"),)
    }, "the words stand in nothing that is not sealed"

    refused = accept(doctor, course, best)
    assert refused.status_code == 422
    assert refused.json["type"] == "/problems/not-ready"
    assert refused.json["course_step_id"] == best["steps"][1]["course_step_id"]
    assert accept(desk, course, best, reasons=reasons).status_code == 403
    assert visits(session) == 0
    assert accept(doctor, course, best, reasons=reasons).status_code == 201


def test_who_was_slower_gets_nothing_learns_who_was_faster_and_what_is_left(
    desk: Caller, session: Session, world: World, course: str
) -> None:
    best = propose(desk, course)["items"][0]
    other, _ = make_patient(session)
    session.commit()
    taken = desk.post(
        "/appointments",
        {
            "patient_id": str(other),
            "step_kind": "integration",
            "starts_at": best["steps"][2]["starts_at"],
        },
    )
    assert taken.status_code == 201

    lost = accept(desk, course, best)

    assert lost.status_code == 409
    assert lost.json["type"] == "/problems/proposal-lost"
    (step,) = lost.json["lost"]
    assert step["key"] == "integration-1"
    assert step["course_step_id"] == best["steps"][2]["course_step_id"]
    assert {by["appointment_id"] for one in step["schedules"] for by in one["taken_by"]} == {
        taken.json["id"]
    }
    assert visits(session) == 1
    again = accept(desk, course, lost.json["proposals"][0])
    assert again.status_code == 201, again.json
    assert visits(session) == 5


def test_a_hold_covers_the_whole_course_and_is_then_booked_as_it_is(
    desk: Caller, session: Session, course: str
) -> None:
    best = propose(desk, course)["items"][0]
    held = accept(desk, course, best, "hold")
    assert held.status_code == 201, held.json
    assert {visit["status"] for visit in held.json["appointments"]} == {"pending"}

    booked = accept(desk, course, best)

    assert booked.status_code == 201, booked.json
    assert [visit["id"] for visit in booked.json["appointments"]] == [
        visit["id"] for visit in held.json["appointments"]
    ]
    assert {visit["status"] for visit in booked.json["appointments"]} == {"booked"}
    assert set(session.scalars(select(Slot.status))) <= {"busy", "busy-unavailable"}


def test_a_hold_that_ran_out_is_booked_anew(
    desk: Caller, session: Session, course: str, clock: Clock
) -> None:
    best = propose(desk, course)["items"][0]
    accept(desk, course, best, "hold")
    clock.now = SUNDAY_NOON + timedelta(hours=1)

    booked = accept(desk, course, best)

    assert booked.status_code == 201, booked.json
    states = session.scalars(select(Appointment.status)).all()
    assert sorted(states) == [AppointmentStatus.BOOKED] * 4 + [AppointmentStatus.CANCELLED] * 4


def test_a_proposal_is_accepted_once_while_it_lasts_and_for_its_course(
    desk: Caller, session: Session, world: World, course: str, clock: Clock
) -> None:
    first, second = propose(desk, course)["items"][:2]
    other = open_course(desk, make_patient(session)[0], world)
    assert accept(desk, other, first).status_code == 404
    clock.now = SUNDAY_NOON + timedelta(hours=25)
    late = accept(desk, course, first)
    assert (late.status_code, late.json["type"]) == (409, "/problems/proposal-closed")
    clock.now = SUNDAY_NOON
    assert accept(desk, course, first).status_code == 201
    again = accept(desk, course, first)
    assert (again.status_code, again.json["type"]) == (409, "/problems/proposal-closed")
    other_way = accept(desk, course, second)
    assert (other_way.status_code, other_way.json["type"]) == (409, "/problems/step-already-booked")
    assert visits(session) == 4
    full = desk.post(f"/courses/{course}/proposals")
    assert (full.status_code, full.json["field"]) == (422, "course_id")


def test_the_rest_of_a_course_is_planned_around_what_is_booked(desk: Caller, course: str) -> None:
    steps = {one["key"]: one["id"] for one in desk.get(f"/courses/{course}").json["steps"]}
    patient = desk.get(f"/courses/{course}").json["patient_id"]
    told = {"patient_id": patient, "course_step_id": steps["preparation"]}
    booked = desk.post("/appointments", {**told, "starts_at": "2026-03-12T09:00:00-04:00"})
    assert booked.status_code == 201, booked.json

    best = propose(desk, course)["items"][0]

    assert [step["key"] for step in best["steps"]] == STEPS[1:]
    assert starts(best)[0] >= datetime(2026, 3, 13, 9, 0, tzinfo=NEW_YORK)
    assert accept(desk, course, best).status_code == 201


def test_by_video_only_who_is_licensed_where_the_patient_is_serves(
    desk: Caller, session: Session, world: World
) -> None:
    content = protocol_content()
    content["code"] = "by-video"
    visit = content["visits"]["integration"]
    visit["place"] = "telehealth"
    visit["phases"] = [phase for phase in visit["phases"] if "role" in phase]
    there = replace(world, protocol_version_id=make_protocol(session, content))
    therapist = PractitionerRole.THERAPIST
    _, jersey = make_practitioner(session, world.site_id, therapist, regions=["US-NJ"])
    patient, _ = make_patient(session, region="US-NJ")
    nowhere, _ = make_patient(session)
    for one in (patient, nowhere):
        clear(session, one, ["medical-clearance", "consent"])
    session.commit()

    best = propose(desk, open_course(desk, patient, there))["items"][0]
    [video] = [step for step in best["steps"] if step["kind"] == "integration"]
    assert _people(video) == {("therapist", str(jersey))}

    unknown = desk.post(f"/courses/{open_course(desk, nowhere, there)}/proposals")
    assert (unknown.status_code, unknown.json["field"]) == (422, "region")


def cleared(desk: Caller, session: Session, world: World, content: dict[str, Any]) -> str:
    """A course of the world's patient, cleared, under this protocol."""
    content["code"] = "another"
    clear(session, world.patient_id, ["medical-clearance", "consent"])
    version_id = make_protocol(session, content)
    session.commit()
    return open_course(desk, world.patient_id, replace(world, protocol_version_id=version_id))


def test_nobody_serves_two_visits_that_must_have_different_people(
    desk: Caller, session: Session, world: World
) -> None:
    make_practitioner(session, world.site_id, PractitionerRole.PRESCRIBER)
    content = protocol_content()
    rule = {"role": "prescriber", "as": "dosing-1", "severity": "block", "lift": []}
    content["steps"][3]["differs"] = [rule]
    course = cleared(desk, session, world, content)

    best = propose(desk, course)["items"][0]

    assert accept(desk, course, best).status_code == 201
    first, second = (
        {who for role, who in _people(step) if role == "prescriber"}
        for step in best["steps"]
        if step["kind"] == "dosing"
    )
    assert first.isdisjoint(second)


def test_a_plan_is_made_anew_if_somebody_would_serve_more_than_they_may(
    desk: Caller, session: Session, world: World
) -> None:
    _, other = make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
    both = [world.therapist, other]
    session.execute(update(Schedule).where(Schedule.id.in_(both)).values(most_per_week=1))
    course = cleared(desk, session, world, protocol_content())

    best = propose(desk, course)["items"][0]

    assert accept(desk, course, best).status_code == 201
    weeks = Counter(
        (who, start.isocalendar()[:2])
        for start, step in zip(starts(best), best["steps"], strict=True)
        for role, who in _people(step)
        if role == "therapist"
    )
    assert max(weeks.values()) == 1


def test_who_is_full_leaves_the_whole_course_to_somebody_else(
    desk: Caller, session: Session, world: World, course: str
) -> None:
    make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
    session.commit()
    [full] = {
        who
        for step in propose(desk, course)["items"][0]["steps"]
        for role, who in _people(step)
        if role == "therapist"
    }
    session.execute(update(Schedule).where(Schedule.id == UUID(full)).values(most_per_week=1))
    session.commit()

    best = propose(desk, course)["items"][0]

    assert best["cost"]["therapist_changes"] == 0
    assert full not in {who for step in best["steps"] for _, who in _people(step)}


def test_a_room_is_made_ready_between_two_visits_of_one_day(
    desk: Caller, session: Session, world: World
) -> None:
    content = protocol_content()
    for key in ("preparation", "integration"):
        content["visits"][key]["phases"][1]["turnover"] = 30
    window = content["steps"][2]["after"][0]
    window |= {"step": "preparation", "least": figure(1, "h"), "most": figure(3, "h")}
    content["steps"] = [content["steps"][0], {**content["steps"][2], "key": "after"}]
    course = cleared(desk, session, world, content)

    best = propose(desk, course)["items"][0]

    assert accept(desk, course, best).status_code == 201
    first, second = starts(best)
    assert second - first >= timedelta(minutes=90)


def test_a_time_that_a_group_took_is_lost(
    desk: Caller, session: Session, world: World, course: str
) -> None:
    best = propose(desk, course)["items"][0]
    circle = make_circle(session, world, 0)
    session.commit()
    told = {
        "protocol_version_id": str(circle.version_id),
        "visit": "preparation",
        "starts_at": best["steps"][0]["starts_at"],
        "assignments": circle.staff(0, 1),
    }
    group = desk.post("/group-sessions", told)
    assert group.status_code == 201, group.json

    lost = accept(desk, course, best)

    assert lost.json["type"] == "/problems/proposal-lost"
    [step] = lost.json["lost"]
    assert [one["taken_by"] for one in step["schedules"]] == [
        [{"group_session_id": group.json["id"]}]
    ]


@pytest.mark.parametrize(
    ("wishes", "pointer"),
    [
        ({"weekdays": ["someday"]}, "/wishes/weekdays/0"),
        ({"not_before": "9 am"}, "/wishes/not_before"),
        ({"not_before": "12:00", "before": "09:00"}, "/wishes/before"),
        ({"earliest": "2026-03-02T09:00:00"}, "/wishes/earliest"),
        ({"not_on": ["2026-02-30"]}, "/wishes/not_on/0"),
        ({"practitioner_id": "me"}, "/wishes/practitioner_id"),
        ({"color": "blue"}, "/wishes/color"),
        ("soon", "/wishes"),
    ],
)
def test_bad_wishes_are_named(desk: Caller, course: str, wishes: Any, pointer: str) -> None:
    answer = desk.post(f"/courses/{course}/proposals", {"wishes": wishes})
    assert answer.status_code == 422
    assert pointer in [fault["pointer"].removesuffix("/_schema") for fault in answer.json["errors"]]


def test_wishes_that_make_no_sense_are_refused(desk: Caller, course: str) -> None:
    path = f"/courses/{course}/proposals"
    past = desk.post(path, {"wishes": {"latest": "2026-02-01T00:00:00-05:00"}})
    assert (past.status_code, past.json["field"]) == (422, "wishes.latest")
    nobody = desk.post(path, {"wishes": {"practitioner_id": str(UUID(int=7))}})
    assert nobody.status_code == 404
    assert desk.post(f"/courses/{UUID(int=7)}/proposals").status_code == 404
    assert desk.post(f"/courses/{course}/accept", {}).status_code == 422
    unknown = desk.post(f"/courses/{course}/accept", {"proposal_id": str(UUID(int=7))})
    assert unknown.status_code == 404


def test_what_nobody_accepted_is_forgotten(
    worker_engine: Engine, committed: Session, committed_world: World
) -> None:
    course = courses.open_course(
        committed,
        committed_world.patient_id,
        committed_world.protocol_version_id,
        by=Authority("key:desk"),
    )
    clear(committed, committed_world.patient_id, ["medical-clearance", "consent"])
    found = proposing.find(committed, course.id, Wishes(), SUNDAY_NOON)
    desk = Authority("key:desk")
    best, *others = proposals.keep(committed, found, {}, by=desk, now=SUNDAY_NOON)
    told = Acceptance(course_id=course.id, proposal_id=best.id)
    proposals.accept(committed, told, by=desk, now=SUNDAY_NOON)
    committed.commit()

    with Session(worker_engine) as session:
        enter_clinic(session, committed_world.clinic_id)
        assert proposals.forget(session, SUNDAY_NOON + 7 * DAY) == 0
        assert proposals.forget(session, SUNDAY_NOON + 8 * DAY) == len(others) > 0
        assert session.scalars(select(Proposal.id)).all() == [best.id]


class TestTogether:
    """Many courses are planned beside each other, so that all of them can be accepted."""

    def opened(self, desk: Caller, session: Session, count: int) -> list[str]:
        patients = [make_patient(session)[0] for _ in range(count)]
        for patient in patients:
            clear(session, patient, ["medical-clearance", "consent"])
        session.commit()
        return [
            desk.post("/courses", {"patient_id": str(one), "protocol_code": "test-course"}).json[
                "id"
            ]
            for one in patients
        ]

    def test_every_proposal_can_be_accepted_beside_the_others(
        self, session: Session, world: World, desk: Caller
    ) -> None:
        courses = self.opened(desk, session, 4)
        told = {"courses": [{"course_id": one} for one in courses], "seconds": 1}

        answer = desk.post("/courses/plan", told)

        assert answer.status_code == 201, answer.json
        found = answer.json
        assert [one["course_id"] for one in found["items"]] == courses
        assert found["placed"] == sum(one["proposal"] is not None for one in found["items"]) > 1
        for one in found["items"]:
            if one["proposal"] is not None:
                assert one["proposal"]["cost"]["is_best"] is False
                taken = {"proposal_id": one["proposal"]["id"]}
                done = desk.post(f"/courses/{one['course_id']}/accept", taken)
                assert done.status_code == 201, done.json

    def test_wishes_are_each_courses_own(
        self, session: Session, world: World, desk: Caller
    ) -> None:
        first, second = self.opened(desk, session, 2)
        later = (SUNDAY_NOON + 30 * DAY).isoformat()
        told = {
            "courses": [
                {"course_id": first},
                {"course_id": second, "wishes": {"earliest": later, "before": "12:00"}},
            ],
            "seconds": 1,
        }

        early, late = desk.post("/courses/plan", told).json["items"]

        assert early["proposal"]["steps"][0]["starts_at"] < later
        assert all(step["starts_at"] > later for step in late["proposal"]["steps"])

    @pytest.mark.parametrize("first", [0, 1])
    def test_a_site_that_is_not_there_has_no_place_for_one_alone(
        self, session: Session, world: World, desk: Caller, first: int
    ) -> None:
        asked: list[dict[str, Any]] = [{"course_id": one} for one in self.opened(desk, session, 2)]
        asked[first] |= {"wishes": {"site_id": str(uuid4())}}

        answer = desk.post("/courses/plan", {"courses": asked, "seconds": 1})

        assert answer.status_code == 201, answer.json
        assert [one["proposal"] is None for one in answer.json["items"]] == [not first, bool(first)]

    def test_bad_requests_are_refused(self, session: Session, world: World, desk: Caller) -> None:
        [course] = self.opened(desk, session, 1)
        one = {"course_id": course}
        for told, status in (
            ({"courses": []}, 422),
            ({"courses": [one, one]}, 422),
            ({"courses": [one] * 51}, 422),
            ({"courses": [{"course_id": str(uuid4())}]}, 404),
            ({"courses": [one], "seconds": 60}, 422),
            ({"courses": [{**one, "wishes": {"weekdays": ["someday"]}}]}, 422),
            ({"courses": [{**one, "reasons": {}}]}, 422),
        ):
            assert desk.post("/courses/plan", told).status_code == status, told
        assert session.scalars(select(Proposal)).all() == []
