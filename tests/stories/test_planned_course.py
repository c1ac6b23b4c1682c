"""A front desk plans a whole course in one call and books it in another."""

from datetime import datetime, timedelta
from itertools import pairwise

from models.vocabulary import Role
from tests.stories.house import NEW_YORK, House, at

DAY = timedelta(days=1)


def test_a_course_is_planned_and_accepted(house: House) -> None:
    ada = house.patient_named("Ada")
    course = house.open_course(ada)

    # Before anybody vouches for her, the plan says what stands in its way, and nothing is kept.
    unready = house.post(f"/courses/{course['id']}/proposals", {})
    assert unready["items"] == []
    assert (unready["why"]["step"], unready["why"]["shut_by"]) == (
        "preparation-1",
        "medical-clearance",
    )

    # Cleared, she asks for early hours in the middle of the week, and is away for some days.
    house.clear(ada)
    wishes = {
        "weekdays": ["tuesday", "wednesday", "thursday"],
        "before": "14:00",
        "not_on": ["2027-03-02", "2027-03-03", "2027-03-04"],
    }
    found = house.post(f"/courses/{course['id']}/proposals", {"wishes": wishes})
    best, *others = found["items"]
    assert others
    assert found["left"] == []
    assert [step["key"] for step in best["steps"]] == [step["key"] for step in course["steps"]]
    starts = {step["key"]: datetime.fromisoformat(step["starts_at"]) for step in best["steps"]}
    for dose in ("1", "2", "3"):
        after = starts[f"integration-{dose}"] - starts[f"dosing-{dose}"]
        assert timedelta(hours=24) <= after <= timedelta(hours=72)
    for one, other in pairwise(["dosing-1", "dosing-2", "dosing-3"]):
        apart = starts[other].astimezone(NEW_YORK).date() - starts[one].astimezone(NEW_YORK).date()
        assert 7 * DAY <= apart <= 21 * DAY
    walls = [start.astimezone(NEW_YORK) for start in starts.values()]
    off = sum(wall.weekday() not in {1, 2, 3} or wall.hour >= 14 for wall in walls)
    assert best["cost"]["wishes_broken"] == off == 0
    assert not {wall.date().isoformat() for wall in walls} & set(wishes["not_on"])
    therapists = {
        one["name"]
        for step in best["steps"]
        for one in step["assignments"]
        if one["role"] == "therapist"
    }
    assert len(therapists) == 1

    # While she thinks about it, the whole course is held; then she says yes.
    told = {"proposal_id": best["id"]}
    held = house.post(f"/courses/{course['id']}/hold", told)["appointments"]
    assert {visit["status"] for visit in held} == {"pending"}
    house.service.set_clock(at("2027-02-15 09:05"))
    booked = house.post(f"/courses/{course['id']}/accept", told)["appointments"]
    assert [visit["id"] for visit in booked] == [visit["id"] for visit in held]
    assert {visit["status"] for visit in booked} == {"booked"}

    # One letter tells her of it all.
    house.service.set_clock(at("2027-02-15 09:08"))
    assert house.said() == [f"Ada: Your next {len(booked)} appointments"]
    shown = house.get(f"/courses/{course['id']}", Role.CLINICIAN)["steps"]
    assert {step["status"] for step in shown} == {"booked"}
