"""An induction: a high pressure, an escort who cannot come, an enrolment that ends.

Source: facts of the protocol `esketamine`; the figures below are its own.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from selenium.webdriver.common.by import By

from models.vocabulary import Role
from tests.browser import chromium, link_in, press
from tests.stories.house import House, at

CALM = {"systolic": 128, "diastolic": 82, "heart_rate": 72, "oxygen_saturation": 98}
WELL = {"recovery_score": 10, "oriented": 1, "steady_gait": 1, "nausea_controlled": 1}
DESK = "Harbor & Mesa Practice"


def test_an_induction_with_three_troubles(house: House) -> None:
    patient = house.patient_named("Bela")
    steps = {one["key"]: one["id"] for one in house.open_course(patient, "esketamine")["steps"]}
    _evaluate(house, patient, steps["evaluation"])
    house.clear(patient)
    until = at("2027-02-24 23:59").isoformat()
    told = {"gate": "rems-enrolment", "outcome": "cleared", "valid_until": until}
    house.post(f"/patients/{patient}/clearances", told, Role.CLINICIAN)

    first = _book(house, patient, steps["induction-1"], "2027-02-18 10:00")
    second = _book(house, patient, steps["induction-2"], "2027-02-22 10:00")
    _an_enrolment_that_ends(house, patient, steps["induction-3"])
    _a_high_pressure(house, patient, first)
    _an_escort_who_cannot_come(house, patient, second)
    _the_form_that_is_due(house, first)


def _evaluate(house: House, patient: str, step: str) -> None:
    visit = _book(house, patient, step, "2027-02-16 10:00")
    house.service.set_clock(at("2027-02-16 10:00"))
    house.act(visit, "arrive")
    house.service.set_clock(at("2027-02-16 11:00"))
    house.act(visit, "fulfil", Role.CLINICIAN)


def _book(house: House, patient: str, step: str, when: str) -> str:
    told = {"patient_id": patient, "course_step_id": step, "starts_at": at(when).isoformat()}
    return str(house.post("/appointments", told)["id"])


def _an_enrolment_that_ends(house: House, patient: str, step: str) -> None:
    """It ends before the third session: nobody may pass over that, and it cannot be booked."""
    starts_at = at("2027-02-26 10:00").isoformat()
    told: dict[str, Any] = {
        "patient_id": patient,
        "course_step_id": step,
        "starts_at": starts_at,
    }
    refused = house.service.call(Role.SCHEDULER, "POST", "/appointments", told)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/not-ready")
    [gate] = [one for one in refused.json()["gates"] if one["code"] == "rems-enrolment"]
    assert gate["state"] == "expired"
    assert gate["expires_at"] == "2027-02-25T04:59:00Z"
    why = {"reasons": {"rems-enrolment": "The form is in the post."}}
    lifted = house.service.call(Role.CLINICIAN, "POST", "/appointments", told | why)
    assert (lifted.status_code, lifted.json()["type"]) == (403, "/problems/may-not-override")

    house.clear(patient, "rems-enrolment")  # enrolled anew
    assert house.post("/appointments", told)["status"] == "booked"


def _a_high_pressure(house: House, patient: str, visit: str) -> None:
    """165 is on hold: measured again twice, ten minutes apart, and then a prescriber decides."""
    house.service.set_clock(at("2027-02-17 09:00"))
    house.reconcile(patient)
    house.tick(visit, *_BEFORE)
    house.escort(visit)
    house.service.set_clock(at("2027-02-18 09:45"))
    house.clear(patient, "pregnancy-status")
    house.act(visit, "arrive")
    house.screen(patient)
    house.tick(visit, "changes-asked")
    house.measure(visit, **CALM | {"systolic": 165})
    assert house.refused(visit, "start-dosing") == ["vitals"]
    assert house.gates(visit)["vitals"]["detail"].startswith("On hold: systolic.")
    _no_reason_opens_it(house, visit)
    house.service.set_clock(at("2027-02-18 09:50"))
    house.measure(visit, **CALM | {"systolic": 158})  # too soon to count
    assert house.gates(visit)["vitals"]["detail"].startswith("On hold: systolic.")
    house.service.set_clock(at("2027-02-18 09:56"))
    house.measure(visit, **CALM | {"systolic": 158})
    assert house.refused(visit, "start-dosing") == ["vitals"]
    assert house.gates(visit)["vitals"]["detail"] == "Out of range: systolic"

    # Above 140 a prescriber may go on, with a reason that stands on the record; a nurse may not.
    path = f"/appointments/{visit}/overrides"
    why = {"code": "vitals", "reason": "Nervous; her own cuff said 136 this morning."}
    nurse = house.service.call(Role.CLINICIAN, "POST", path, why, **house.as_nurse)
    assert nurse.status_code == 403
    house.post(path, why, Role.CLINICIAN)
    house.act(visit, "start-dosing", Role.CLINICIAN)
    assert house.gates(visit)["vitals"]["state"] == "overridden"
    _observe(house, visit, "2027-02-18 09:56")


def _no_reason_opens_it(house: House, visit: str) -> None:
    why = {"code": "vitals", "reason": "She says that she is fine."}
    answer = house.service.call(Role.CLINICIAN, "POST", f"/appointments/{visit}/overrides", why)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/not-ready")


def _observe(house: House, visit: str, dosed: str, left: str = "escort") -> None:
    """Forty minutes, two hours, and out of the door with somebody."""
    start = at(dosed)
    watch = {one["code"]: one for one in house.get(f"/appointments/{visit}/watch")["items"]}
    assert watch["peak"]["due_at"] == _utc(start + timedelta(minutes=40))
    house.service.set_clock(start + timedelta(minutes=40))
    house.measure(visit, **CALM | {"systolic": 152})
    house.act(visit, "start-recovery", Role.CLINICIAN)
    house.service.set_clock(start + timedelta(minutes=119))
    house.measure(visit, **CALM | WELL | {"systolic": 150})
    told = {"way": left, "accompanied_by": "Evan Escort" if left == "escort" else "Rita Rider"}
    house.post(f"/appointments/{visit}/departure", told, Role.CLINICIAN)
    assert house.refused(visit, "discharge") == ["observation"]
    house.service.set_clock(start + timedelta(minutes=120))
    house.act(visit, "discharge", Role.CLINICIAN)
    house.act(visit, "fulfil", Role.CLINICIAN)


def _an_escort_who_cannot_come(house: House, patient: str, visit: str) -> None:
    """They say so by their own link; a ride with somebody who goes along takes their place."""
    house.service.set_clock(at("2027-02-20 12:00"))
    house.reconcile(patient)
    house.tick(visit, *_BEFORE)
    house.escort(visit)
    house.service.set_clock(at("2027-02-21 10:00"))
    asked = [mail for mail in house.service.mail.mails if "evan.escort" in str(mail["To"])][-1]
    assert asked["Subject"] == "Thank you for taking Bela home on Monday, February 22, 2027"
    with chromium() as browser:
        browser.get(link_in(asked, "e"))
        assert "Hello Evan Escort" in browser.find_element(By.TAG_NAME, "h1").text
        press(browser, "I cannot come")
    open_tasks = house.get("/tasks?status=requested")["items"]
    assert "find-escort" in {one["kind"] for one in open_tasks}
    assert house.gates(visit)["transport-home"]["state"] == "open"
    house.service.set_clock(at("2027-02-21 17:00"))
    house.service.wait_until(
        lambda: house.get(f"/appointments/{visit}")["suspended_at"], "the visit to be suspended"
    )
    house.service.set_clock(at("2027-02-22 09:45"))
    house.clear(patient, "pregnancy-status")
    assert house.refused(visit, "arrive", Role.SCHEDULER) == ["transport-home"]

    house.escort(visit, "Rita Rider", way="ride", relation="neighbour", phone="+12125550198")
    house.act(visit, "arrive")
    assert house.get(f"/appointments/{visit}")["suspended_at"] is None
    house.screen(patient)
    house.tick(visit, "changes-asked")
    house.measure(visit, **CALM)
    house.service.set_clock(at("2027-02-22 10:00"))
    house.act(visit, "start-dosing", Role.CLINICIAN)
    _observe(house, visit, "2027-02-22 10:00", left="ride")


def _the_form_that_is_due(house: House, first: str) -> None:
    """Of the first session it was not sent by the third day; once it is, nobody is reminded."""
    reminded = f"{DESK}: Still to be sent: Bela S, Thursday, February 18, 2027"
    assert house.said().count(reminded) == 1  # on the third day, a Sunday
    house.service.set_clock(at("2027-02-23 09:00"))
    assert house.said().count(reminded) == 2
    house.tick(first, "rems-form-sent")
    house.service.set_clock(at("2027-02-24 09:30"))
    assert house.said().count(reminded) == 2
    [form] = [
        one
        for one in house.get(f"/appointments/{first}/checklist")["items"]
        if one["code"] == "rems-form-sent"
    ]
    assert (form["status"], form["due_at"]) == ("completed", "2027-02-25T17:30:00Z")


_BEFORE = (
    *("consent-read", "questionnaires", "medicines-checked", "escort-named", "holds-read"),
    *("escort-called", "sober", "fasting", "no-nasal-sprays", "rems-form", "room-ready"),
)
"""What is done before the day, by the patient or for them."""


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
