"""At 21:40 a patient says something that cannot wait: whoever is on call hears within a minute."""

import time
from datetime import date, datetime, timedelta
from typing import Any

from selenium.webdriver.common.by import By

from models.vocabulary import Role
from notifications.templates import betrays
from tests.browser import Chrome, chromium, link_in, press, prove
from tests.stories.house import House, at

EVENING = "2027-02-15 21:40"
OWN_WORDS = {
    "heading": "Since we last spoke",
    "choices": {"0": "No", "1": "Yes"},
}
"""The clinic's, invented here: the questions themselves are not for anybody to print."""


def test_an_answer_in_the_evening_reaches_who_is_on_call(house: House) -> None:
    doctor = _on_call(house, "Dr. Paula Prescriber")
    _enter_words(house)
    patient = house.patient_named("Ada")
    course = house.open_course(patient)
    visit = house.post(
        "/appointments",
        {
            "patient_id": patient,
            "course_step_id": course["steps"][0]["id"],
            "starts_at": at("2027-02-17 10:00").isoformat(),
        },
    )
    house.service.set_clock(at("2027-02-15 09:03"))
    [letter] = house.service.mail.mails
    house.service.set_clock(at("2027-02-15 21:38"))
    heard = len(house.service.mail.mails)

    born = date.fromisoformat(house.get(f"/patients/{patient}")["birth_date"])
    with chromium() as browser:
        browser.get(link_in(letter))
        prove(browser, born)
        house.service.set_clock(at("2027-02-15 21:39"))
        part = _open_the_questions(browser, "Since we last spoke")
        assert "c-ssrs" not in browser.page_source.lower()
        _answer(browser, yes={4})
        house.service.set_clock(at(EVENING))
        sent_at = time.monotonic()
        press(browser, "Send")
        assert "Thank you for your answers" in browser.find_element(By.CLASS_NAME, "done").text
        shown = browser.find_element(By.TAG_NAME, "body").text
        assert "911" in shown  # whom to call in an emergency
        assert part >= 1

    # Not one minute passes on the clinic's clock: it is night, and it is said all the same.
    house.service.wait_until(
        lambda: _to(house, "Dr. Paula Prescriber", heard), "the clinician on call to hear"
    )
    [said] = _to(house, "Dr. Paula Prescriber", heard)
    assert said["Subject"] == "Urgent: please look at what Ada E answered"
    assert betrays(str(said["Subject"])) == []
    assert time.monotonic() - sent_at < 60  # by the wall clock as well
    flagged = [
        one
        for one in house.get("/messages?limit=100", Role.CLINICIAN)["items"]
        if (one["kind"], one["recipient"]) == ("answers-flagged", "practitioner")
    ]
    [to_doctor] = [one for one in flagged if _instant(one["due_at"]) == at(EVENING)]
    assert _instant(to_doctor["sent_at"]) - at(EVENING) < timedelta(minutes=1)

    # It is a task for a clinician, and neither cancels nor moves anything.
    tasks = house.get("/tasks?status=requested")["items"]
    [task] = [one for one in tasks if one["kind"] == "read-answers"]
    assert (task["urgent"], task["owner"]) == (True, "clinician")
    assert house.get(f"/appointments/{visit['id']}")["status"] == "booked"
    scored = house.get(f"/patients/{patient}/questionnaire-responses", Role.CLINICIAN)["items"]
    assert [one["instrument"] for one in scored] == ["c-ssrs"]
    assert house.get(f"/practitioners/{doctor}")["name"] == "Dr. Paula Prescriber"


def _on_call(house: House, name: str) -> str:
    """Let somebody be on call; their id."""
    found = house.get("/practitioners?limit=100")["items"]
    who = next(one["id"] for one in found if one["name"] == name)
    etag = house.service.call(Role.ADMIN, "GET", "/clinic").headers["ETag"]
    told = {"on_call_id": who}
    answer = house.service.call(Role.ADMIN, "PATCH", "/clinic", told, **{"If-Match": etag})
    assert answer.ok, answer.text
    return str(who)


def _enter_words(house: House) -> None:
    shown = house.get("/instruments/c-ssrs")
    words = {
        **OWN_WORDS,
        "items": {one["code"]: f"Invented question {one['code']}" for one in shown["items"]},
    }
    path, seen = "/instruments/c-ssrs/wording", {"If-Match": '"0"'}
    answer = house.service.call(Role.ADMIN, "PUT", path, words, **seen)
    assert answer.ok, answer.text


def _open_the_questions(browser: Chrome, heading: str) -> int:
    """Look through the parts for the one with that heading. Which it is, from 1."""
    for number in range(1, 9):
        browser.find_element(By.PARTIAL_LINK_TEXT, f"Part {number}: begin").click()
        if heading in browser.find_element(By.TAG_NAME, "form").text:
            return number
        browser.find_element(By.LINK_TEXT, "Back").click()
    raise AssertionError(f"no questions under {heading}")


def _answer(browser: Chrome, yes: set[int]) -> None:
    asked = browser.find_elements(By.CLASS_NAME, "question")
    for number in range(1, len(asked) + 1):
        value = int(number in yes)
        browser.find_element(By.CSS_SELECTOR, f"#q{number} input[value='{value}']").click()


def _to(house: House, name: str, since: int) -> list[Any]:
    mails = house.service.mail.mails[since:]
    return [mail for mail in mails if mail["To"].addresses[0].display_name == name]


def _instant(told: str) -> datetime:
    return datetime.fromisoformat(told)
