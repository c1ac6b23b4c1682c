"""A session moves past what a clearance holds: people hear, and a prescriber may pass over it."""

from datetime import date
from typing import Any

from selenium.webdriver.common.by import By

from models.vocabulary import Role
from tests.browser import buttons, chromium, link_in, press, prove
from tests.stories.house import House, at

DESK = "Harbor & Mesa Practice"
WHY = "Seen on Friday by video; bloods and pressure unchanged. The note follows."


def test_a_clearance_that_lapses_by_a_move(house: House) -> None:
    patient = house.patient_named("Ada")
    visits = _a_course_on_its_way(house, patient)
    dose = visits["dosing-1"]
    house.service.set_clock(at("2027-03-13 12:00"))
    house.reconcile(patient)
    house.tick(dose)
    house.escort(dose)
    assert _states(house, dose)["medications"] == "met"

    # Two days later what was settled for three days has lapsed: patient and desk hear at once.
    heard = len(house.service.mail.mails)
    _move(house, dose, "2027-03-17 10:00")
    house.service.set_clock(at("2027-03-13 12:03"))
    said = house.said(heard)
    assert f"{DESK}: Open: Ada E, Wednesday, March 17, 2027" in said
    assert "Ada: Before Wednesday, March 17, 2027: something to settle once more" in said
    gate = house.gates(dose)["medications"]
    assert (gate["state"], gate["expires_at"]) == ("expired", "2027-03-16T17:00:00Z")
    tasks = house.get("/tasks?status=requested")["items"]
    assert (dose, "settle-anew") in {(one["appointment_id"], one["kind"]) for one in tasks}
    row = _on_the_board(house, dose)
    assert {"medications", "transport-home", "fasting"} <= set(row["missing"])

    # Past thirty days the medical clearance is over: the desk may not even put it there.
    answer = _ask_to_move(house, dose, "2027-03-22 10:00", Role.SCHEDULER)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/not-ready")
    [shut] = answer.json()["gates"]
    assert (shut["code"], shut["state"], shut["lift"]) == (
        "medical-clearance",
        "expired",
        ["prescriber"],
    )
    assert house.get(f"/appointments/{dose}")["starts_at"] == "2027-03-17T14:00:00Z"
    reasons = {"medical-clearance": WHY}
    desk = _ask_to_move(house, dose, "2027-03-22 10:00", Role.SCHEDULER, reasons=reasons)
    assert (desk.status_code, desk.json()["type"]) == (403, "/problems/may-not-override")
    moved = _ask_to_move(house, dose, "2027-03-22 10:00", Role.CLINICIAN, reasons=reasons)
    assert moved.status_code == 200, moved.text
    assert _states(house, dose)["medical-clearance"] == "overridden"

    # The reason spoke for that time: for another it is asked for again.
    later = _ask_to_move(house, dose, "2027-03-23 10:00", Role.SCHEDULER)
    assert [one["code"] for one in later.json()["gates"]] == ["medical-clearance"]

    house.service.set_clock(at("2027-03-13 12:10"))
    _the_patient_looks(house, patient, "Monday, March 22, 2027")
    _the_day(house, patient, dose)
    [noted] = house.get(f"/appointments/{dose}/overrides")["items"]
    assert (noted["code"], noted["reason"]) == ("medical-clearance", WHY)


def _a_course_on_its_way(house: House, patient: str) -> dict[str, str]:
    steps = {one["key"]: one["id"] for one in house.open_course(patient)["steps"]}
    visits = {"intake": _book(house, patient, steps["intake"], "2027-02-17 10:00")}
    _take_place(house, visits["intake"], "2027-02-17 10:00", "2027-02-17 11:15")
    house.clear(patient)
    for key, when in (
        ("preparation-1", "2027-02-26 11:00"),
        ("preparation-2", "2027-03-09 11:00"),
        ("dosing-1", "2027-03-15 10:00"),
    ):
        visits[key] = _book(house, patient, steps[key], when)
    _take_place(house, visits["preparation-1"], "2027-02-26 11:00", "2027-02-26 12:00")
    _take_place(house, visits["preparation-2"], "2027-03-09 11:00", "2027-03-09 12:00")
    return visits


def _book(house: House, patient: str, step: str, when: str) -> str:
    told = {"patient_id": patient, "course_step_id": step, "starts_at": at(when).isoformat()}
    return str(house.post("/appointments", told)["id"])


def _take_place(house: House, visit: str, start: str, end: str) -> None:
    house.service.set_clock(at(start))
    house.act(visit, "arrive")
    house.service.set_clock(at(end))
    house.act(visit, "fulfil", Role.CLINICIAN)


def _ask_to_move(house: House, visit: str, when: str, role: Role, **more: Any) -> Any:
    path = f"/appointments/{visit}"
    etag = house.service.call(role, "GET", path).headers["ETag"]
    told = {"starts_at": at(when).isoformat(), **more}
    return house.service.call(role, "POST", f"{path}/reschedule", told, **{"If-Match": etag})


def _move(house: House, visit: str, when: str) -> None:
    answer = _ask_to_move(house, visit, when, Role.SCHEDULER)
    assert answer.ok, answer.text


def _states(house: House, visit: str) -> dict[str, str]:
    return {code: one["state"] for code, one in house.gates(visit).items()}


def _on_the_board(house: House, visit: str) -> Any:
    board = house.get("/readiness?from=2027-03-13T00:00:00Z&to=2027-04-01T00:00:00Z")
    return next(one for one in board["items"] if one["appointment"]["id"] == visit)


def _the_patient_looks(house: House, patient: str, day: str) -> None:
    """The link in the last letter shows the new day, and what is asked for it once more."""
    letters = [one for one in house.service.mail.mails if "ada.example" in str(one["To"])]
    moved = [one for one in letters if "new time" in str(one["Subject"])][-1]
    born = date.fromisoformat(house.get(f"/patients/{patient}")["birth_date"])
    with chromium() as browser:
        browser.get(link_in(moved))
        prove(browser, born)
        assert day in browser.find_element(By.CLASS_NAME, "when").text
        assert buttons(browser, "Done")
        while buttons(browser, "Done"):
            press(browser, "Done")


def _the_day(house: House, patient: str, dose: str) -> None:
    house.service.set_clock(at("2027-03-21 12:00"))
    house.reconcile(patient)
    house.escort(dose)
    house.service.set_clock(at("2027-03-22 09:50"))
    house.clear(patient, "pregnancy-status")
    house.tick(dose)
    house.act(dose, "arrive")
    house.screen(patient)
    house.measure(dose, systolic=124, diastolic=80, heart_rate=70, oxygen_saturation=98)
    house.service.set_clock(at("2027-03-22 10:00"))
    house.act(dose, "start-dosing", Role.CLINICIAN)
    assert house.get(f"/appointments/{dose}")["progress"] == "dosing"
    assert _states(house, dose)["medical-clearance"] == "overridden"
