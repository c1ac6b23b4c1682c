"""A whole course, as a clinic lives it: over HTTP, through a mail server, in a browser.

The service runs as its own processes; the clock is set by the test. Every message must arrive
at its minute and once, also across the change of clocks on 14 March 2027.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pytest
import requests
from selenium.webdriver.common.by import By

from models.vocabulary import Role
from notifications.templates import betrays
from tests.browser import Chrome, buttons, chromium, link_in, press, prove
from tests.stories.house import House, at

TEAM = ("Dr. Paula Prescriber", "Mona Monitor, RN", "Tara Therapist")
DESK = "Harbor & Mesa Practice"
CALM = {"systolic": 124, "diastolic": 80, "heart_rate": 68, "oxygen_saturation": 98}
RECOVERED = {"recovery_score": 10, "oriented": 1, "steady_gait": 1, "nausea_controlled": 1}


@dataclass
class Clinic(House):
    """The story's clinic: what is done in it, and what has arrived."""

    patient: dict[str, Any]
    steps: dict[str, str] = field(default_factory=dict)
    visits: dict[str, str] = field(default_factory=dict)
    heard: int = 0

    def book(self, step: str, when: str, **more: Any) -> None:
        """Book a step at a time, on whoever the openings offer."""
        start = at(when)
        found = self.get(
            f"/openings?course_step_id={self.steps[step]}&limit=1"
            f"&from={_query(start)}&to={_query(start + timedelta(minutes=5))}"
        )["items"]
        assert found, f"{step} is not offered at {when}"
        visit = self.post(
            "/appointments",
            {
                "patient_id": self.patient["id"],
                "course_step_id": self.steps[step],
                "starts_at": found[0]["starts_at"],
                "assignments": found[0]["assignments"],
                **more,
            },
        )
        self.visits[step] = visit["id"]

    def step(
        self, step: str, action: str, role: Role = Role.CLINICIAN, **told: Any
    ) -> requests.Response:
        path = f"/appointments/{self.visits[step]}"
        etag = self.service.call(role, "GET", path).headers["ETag"]
        return self.service.call(role, "POST", f"{path}/{action}", told, **{"If-Match": etag})

    def vouch(self, *gates: str, key: str | None = None) -> None:
        """The prescriber vouches for gates, or whoever has the key."""
        who = {} if key is None else {"Authorization": f"Bearer {key}"}
        for gate in gates:
            path = f"/patients/{self.patient['id']}/clearances"
            self.post(path, {"gate": gate, "outcome": "cleared"}, Role.CLINICIAN, **who)

    def hear(self, when: str, *told: str) -> list[Any]:
        """Nothing more arrives until the minute before; these, and no others, at the minute."""
        self.service.set_clock(at(when) - timedelta(minutes=1))
        assert self._new() == [], f"too early for {when}"
        self.service.set_clock(at(when))
        mails = self.service.mail.mails[self.heard :]
        assert sorted(self._new()) == sorted(told), f"at {when}"
        self.heard = len(self.service.mail.mails)
        return mails

    def hear_of(self, when: str, *told: str) -> None:
        """The same of what the worker finds out by looking, rather than what was planned."""
        self.service.set_clock(at(when))
        self.service.wait_until(lambda: len(self._new()) >= len(told), f"{told} at {when}")
        assert sorted(self._new()) == sorted(told), f"at {when}"
        self.heard = len(self.service.mail.mails)

    def is_suspended(self, step: str, when: str) -> None:
        """The worker looks, and finds that it is not ready."""
        self.quiet_until(when)
        path = f"/appointments/{self.visits[step]}"
        self.service.wait_until(lambda: self.get(path)["suspended_at"], f"{step} to be suspended")

    def quiet_until(self, when: str) -> None:
        """Nothing arrives until then."""
        self.service.set_clock(at(when))
        assert self._new() == [], f"before {when}"

    def _new(self) -> list[str]:
        return [
            f"{mail['To'].addresses[0].display_name}: {mail['Subject']}"
            for mail in self.service.mail.mails[self.heard :]
        ]


@pytest.fixture
def clinic(house: House) -> Clinic:
    ada = house.get(f"/patients/{house.patient_named('Ada')}")
    return Clinic(house.service, house.nurse, ada)


def test_a_course_from_intake_to_closing(clinic: Clinic) -> None:
    course = clinic.post("/courses", {"patient_id": clinic.patient["id"], "protocol_code": "kap"})
    clinic.steps = {step["key"]: step["id"] for step in course["steps"]}

    # Monday: the intake is booked; what follows cannot be, before somebody vouches for it.
    clinic.book("intake", "2027-02-17 10:00")
    refused = clinic.service.call(
        Role.SCHEDULER,
        "POST",
        "/appointments",
        {
            "patient_id": clinic.patient["id"],
            "course_step_id": clinic.steps["dosing-1"],
            "starts_at": _iso("2027-03-01 10:00"),
        },
    )
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/not-ready")
    clinic.hear("2027-02-15 09:03", "Ada: Your appointment on Wednesday, February 17, 2027")
    clinic.hear("2027-02-15 10:00", "Ada: Still to do before Wednesday, February 17, 2027")
    clinic.hear("2027-02-16 10:00", "Ada: Will you come on Wednesday, February 17, 2027?")
    clinic.hear("2027-02-16 14:00", f"{DESK}: Not confirmed: Ada E, Wednesday, February 17, 2027")
    clinic.hear(  # 07:00 is night
        "2027-02-17 09:00", "Ada: See you on Wednesday, February 17, 2027, 10:00 AM (New York time)"
    )
    clinic.quiet_until("2027-02-17 09:55")
    assert clinic.step("intake", "arrive", Role.SCHEDULER).ok
    clinic.quiet_until("2027-02-17 11:15")
    assert clinic.step("intake", "fulfil").json()["status"] == "fulfilled"
    clinic.clear(clinic.patient["id"])

    # The course is booked as far as its dates are known.
    clinic.book("preparation-1", "2027-02-19 11:00")
    clinic.book("preparation-2", "2027-02-23 11:00")
    clinic.book("dosing-1", "2027-03-01 10:00")
    clinic.book("integration-1", "2027-03-03 11:00")
    clinic.book("dosing-2", "2027-03-15 10:00")
    clinic.hear(
        "2027-02-17 11:18",
        "Ada: Your next 5 appointments",
    )
    clinic.hear("2027-02-18 11:00", "Ada: Reminder: your appointment on Friday, February 19, 2027")
    clinic.hear(
        "2027-02-19 09:00", "Ada: See you on Friday, February 19, 2027, 11:00 AM (New York time)"
    )
    clinic.quiet_until("2027-02-19 10:55")
    assert clinic.step("preparation-1", "arrive", Role.SCHEDULER).ok
    clinic.quiet_until("2027-02-19 12:00")
    assert clinic.step("preparation-1", "fulfil").ok

    # A visit is moved: its old reminders fall silent, the new ones take their place.
    moved = clinic.step(
        "preparation-2", "reschedule", Role.SCHEDULER, starts_at=_iso("2027-02-24 13:00")
    )
    assert moved.ok, moved.text
    assert [one["kind"] for one in moved.json()["messages_out"]] == ["confirmation"]
    clinic.hear(
        "2027-02-19 12:03", "Ada: Your appointment has a new time: Wednesday, February 24, 2027"
    )
    [request] = clinic.hear("2027-02-22 10:00", "Ada: Getting ready for Monday, March 1, 2027")
    clinic.hear(
        "2027-02-23 13:00", "Ada: Reminder: your appointment on Wednesday, February 24, 2027"
    )
    clinic.hear("2027-02-24 10:00", "Ada: Some questions before we meet")
    clinic.hear(
        "2027-02-24 11:00", "Ada: See you on Wednesday, February 24, 2027, 1:00 PM (New York time)"
    )
    clinic.quiet_until("2027-02-24 12:55")
    assert clinic.step("preparation-2", "arrive", Role.SCHEDULER).ok
    clinic.quiet_until("2027-02-24 14:00")
    assert clinic.step("preparation-2", "fulfil").ok

    # Three days before: the reminder; the patient opens the link and does what there is to do.
    clinic.hear("2027-02-26 10:00", "Ada: Reminder: your appointment on Monday, March 1, 2027")
    _fill_in_the_page(clinic, link_in(request))
    clinic.hear("2027-02-27 10:00", f"{DESK}: Not ready: Ada E, Monday, March 1, 2027")
    clinic.hear(
        "2027-02-28 10:00",
        f"{DESK}: Not ready: Ada E, Monday, March 1, 2027",
        "Evan Escort: Thank you for taking Ada home on Monday, March 1, 2027",
    )
    clinic.hear(
        "2027-02-28 13:00", *(f"{one}: Not ready: Ada E, Monday, March 1, 2027" for one in TEAM)
    )
    # On the evening before it is suspended: it keeps its time, and nobody says "see you".
    clinic.is_suspended("dosing-1", "2027-02-28 17:00")
    clinic.hear(
        "2027-02-28 17:03",
        "Ada: Before Monday, March 1, 2027: please call us",
        *(f"{one}: Suspended: Ada E, Monday, March 1, 2027" for one in (DESK, *TEAM)),
    )

    # The day: unready, it cannot begin; made ready, it runs to its end.
    clinic.quiet_until("2027-03-01 09:50")
    refused = clinic.step("dosing-1", "arrive", Role.SCHEDULER)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/not-ready")
    assert [gate["code"] for gate in refused.json()["gates"]] == ["medications", "transport-home"]
    clinic.reconcile(clinic.patient["id"])
    clinic.escort(clinic.visits["dosing-1"])
    assert clinic.step("dosing-1", "arrive", Role.SCHEDULER).ok
    # All were told last that it stands still, and not all of them are at the door.
    clinic.hear_of(
        "2027-03-01 09:51",
        *(f"{one}: Goes ahead: Ada E, Monday, March 1, 2027" for one in (DESK, *TEAM)),
    )
    refused = clinic.step("dosing-1", "start-dosing")
    assert [gate["code"] for gate in refused.json()["gates"]] == [
        "safety-screen",
        "vitals",
        "pregnancy-status",
        "changes",
    ]
    clinic.vouch("pregnancy-status")
    clinic.tick(clinic.visits["dosing-1"])
    clinic.screen(clinic.patient["id"])
    clinic.measure(clinic.visits["dosing-1"], **CALM)
    clinic.quiet_until("2027-03-01 10:10")
    assert clinic.step("dosing-1", "start-dosing").json()["progress"] == "dosing"

    # The peak is forgotten: after ten minutes who serves the visit hears of it, and looks.
    clinic.quiet_until("2027-03-01 10:59")
    clinic.service.set_clock(at("2027-03-01 11:01"))
    clinic.service.wait_until(
        lambda: len(clinic.service.mail.mails) >= clinic.heard + len(TEAM), "all to hear of it"
    )
    alarmed = clinic.service.mail.mails[clinic.heard :]
    assert {mail["Subject"] for mail in alarmed} == {"Please look after Ada E now"}
    open_tasks = clinic.get("/tasks?status=requested")["items"]
    assert "watch-late" in {task["kind"] for task in open_tasks}
    clinic.heard = len(clinic.service.mail.mails)
    clinic.measure(clinic.visits["dosing-1"], **CALM | {"systolic": 146})
    watch = clinic.get(f"/appointments/{clinic.visits['dosing-1']}/watch")["items"]
    assert [(one["code"], one["state"]) for one in watch] == [
        ("before", "done"),
        ("peak", "done"),
        ("later", "ahead"),
        ("leaving", "ahead"),
    ]
    clinic.quiet_until("2027-03-01 11:40")
    clinic.measure(clinic.visits["dosing-1"], **CALM)
    assert clinic.step("dosing-1", "start-recovery").ok
    clinic.measure(clinic.visits["dosing-1"], **CALM | RECOVERED)
    refused = clinic.step("dosing-1", "discharge")
    assert [gate["code"] for gate in refused.json()["gates"]] == ["way-home", "observation"]
    leaving = f"/appointments/{clinic.visits['dosing-1']}/departure"
    clinic.post(leaving, {"way": "escort", "accompanied_by": "Evan Escort"}, Role.CLINICIAN)
    refused = clinic.step("dosing-1", "discharge")
    assert [gate["code"] for gate in refused.json()["gates"]] == ["observation"]
    clinic.quiet_until("2027-03-01 12:10")
    assert clinic.step("dosing-1", "discharge").ok
    assert clinic.step("dosing-1", "fulfil").json()["status"] == "fulfilled"

    # The days after: Ada does not say how she is, so staff are told to call.
    clinic.hear("2027-03-02 10:00", "Ada: How are you today?")
    clinic.hear("2027-03-02 11:00", "Ada: Reminder: your appointment on Wednesday, March 3, 2027")
    clinic.hear("2027-03-02 14:00", "Ada: Are you well? Please answer")
    clinic.hear("2027-03-03 01:00", f"{DESK}: No answer yet: Ada E")
    clinic.hear(
        "2027-03-03 08:00",
        *(f"{one}: No answer yet: Ada E" for one in TEAM),
    )
    clinic.hear(
        "2027-03-03 09:00", "Ada: See you on Wednesday, March 3, 2027, 11:00 AM (New York time)"
    )
    clinic.quiet_until("2027-03-03 10:55")
    assert clinic.step("integration-1", "arrive", Role.SCHEDULER).ok
    clinic.quiet_until("2027-03-03 12:00")
    assert clinic.step("integration-1", "fulfil").ok
    clinic.hear("2027-03-04 10:00", "Ada: Thinking of you")

    # Across the change of clocks: a week before is the same wall time, 72 and 24 hours elapse.
    [both] = clinic.hear("2027-03-08 10:00", "Ada: News about your appointments")
    assert "Reading it takes ten minutes" in both.get_body(("plain",)).get_content()
    clinic.tick(clinic.visits["dosing-2"])
    clinic.escort(clinic.visits["dosing-2"])
    clinic.hear("2027-03-12 09:00", "Ada: Reminder: your appointment on Monday, March 15, 2027")
    clinic.hear("2027-03-13 09:00", f"{DESK}: Not ready: Ada E, Monday, March 15, 2027")
    clinic.hear(
        "2027-03-14 10:00",
        f"{DESK}: Not ready: Ada E, Monday, March 15, 2027",
        "Ada: Will you come on Monday, March 15, 2027?",
        "Evan Escort: Thank you for taking Ada home on Monday, March 15, 2027",
    )
    clinic.hear(
        "2027-03-14 13:00", *(f"{one}: Not ready: Ada E, Monday, March 15, 2027" for one in TEAM)
    )
    clinic.hear("2027-03-14 14:00", f"{DESK}: Not confirmed: Ada E, Monday, March 15, 2027")
    clinic.is_suspended("dosing-2", "2027-03-14 17:00")
    clinic.hear(
        "2027-03-14 17:03",
        "Ada: Before Monday, March 15, 2027: please call us",
        *(f"{one}: Suspended: Ada E, Monday, March 15, 2027" for one in (DESK, *TEAM)),
    )
    clinic.reconcile(clinic.patient["id"])  # what was open is settled, and it goes ahead by itself
    clinic.hear_of(
        "2027-03-14 17:04",
        "Ada: All is settled: see you on Monday, March 15, 2027",
        *(f"{one}: Goes ahead: Ada E, Monday, March 15, 2027" for one in (DESK, *TEAM)),
    )
    clinic.hear(
        "2027-03-15 09:00", "Ada: See you on Monday, March 15, 2027, 10:00 AM (New York time)"
    )

    # The visit is called off on its morning: who knew is told at once, and then nothing more.
    cancelled = clinic.step("dosing-2", "cancel", Role.SCHEDULER, reason="The patient is ill.")
    assert cancelled.json()["status"] == "cancelled"
    clinic.hear(
        "2027-03-15 09:03",
        "Ada: Your appointment on Monday, March 15, 2027 is cancelled",
        "Evan Escort: You do not need to come on Monday, March 15, 2027",
    )
    clinic.quiet_until("2027-03-25 12:00")

    # Nothing that left betrays why Ada comes, and no log line names her.
    for mail in clinic.service.mail.mails:
        told = "\n".join(str(part.get_content()) for part in mail.walk() if not part.is_multipart())
        seen = f"{mail['Subject']}\n{mail['From']}\n{told}".replace("Tara Therapist", "Tara")
        assert betrays(seen) == []
    log = clinic.service.log.read_text()
    assert '"event": "message.handed-over"' in log
    assert betrays(_routes_apart(log)) == []
    for word in ("Ada", "Example", "ada.example", "5550199", "Evan", "is ill"):
        assert word not in log, word
    assert "Traceback" not in log


def _answer_the_questions(browser: Chrome) -> None:
    """All but one, kept for later; then the last one, and sent."""
    browser.find_element(By.PARTIAL_LINK_TEXT, "Part 1: begin").click()
    assert "phq" not in browser.current_url
    for number in range(1, 9):
        browser.find_element(By.CSS_SELECTOR, f"#q{number} input[value='1']").click()
    press(browser, "Keep, and go on later")
    assert "Kept" in browser.find_element(By.CLASS_NAME, "done").text
    browser.find_element(By.PARTIAL_LINK_TEXT, "Part 1: go on").click()
    assert len(browser.find_elements(By.CSS_SELECTOR, "input:checked")) == 8
    press(browser, "Send")
    assert "marked" in browser.find_element(By.CLASS_NAME, "problem").text
    assert len(browser.find_elements(By.CSS_SELECTOR, ".missing")) == 1
    browser.find_element(By.CSS_SELECTOR, "#q9 input[value='0']").click()
    press(browser, "Send")
    assert "Thank you for your answers" in browser.find_element(By.CLASS_NAME, "done").text


def _fill_in_the_page(clinic: Clinic, link: str) -> None:
    """The patient on the phone, without JavaScript: prove, tick, name, confirm."""
    with chromium() as browser:
        browser.get(link)
        assert link.rsplit("/", 1)[1] not in browser.current_url
        assert "Ada" not in browser.page_source  # nothing personal before the date of birth
        assert "Harbor & Mesa Practice" in browser.find_element(By.TAG_NAME, "body").text

        born = date.fromisoformat(clinic.patient["birth_date"])
        prove(browser, date(1990, 1, 1))
        assert "4 tries left" in browser.find_element(By.CLASS_NAME, "problem").text
        prove(browser, born)
        assert browser.find_element(By.TAG_NAME, "h1").text == "Hello Ada"
        assert "10:00" in browser.find_element(By.CLASS_NAME, "when").text
        assert "New York time" in browser.find_element(By.CLASS_NAME, "when").text

        while buttons(browser, "Done"):
            press(browser, "Done")
        _answer_the_questions(browser)
        ticked = browser.find_elements(By.CLASS_NAME, "ticked")
        assert len(ticked) == len(browser.find_elements(By.CSS_SELECTOR, ".list li")) == 8
        for name, told in (
            ("name", "Evan Escort"),
            ("relation", "partner"),
            ("phone", "not a number"),
            ("email", "evan.escort@example.com"),
        ):
            browser.find_element(By.NAME, name).send_keys(told)
        browser.find_element(By.NAME, "may_message").click()
        press(browser, "Save")
        assert "telephone number" in browser.find_element(By.CLASS_NAME, "problem").text
        phone = browser.find_element(By.NAME, "phone")
        phone.clear()
        phone.send_keys("212 555 0199")
        browser.find_element(By.NAME, "may_message").click()
        press(browser, "Save")
        assert "Evan Escort" in browser.find_element(By.TAG_NAME, "main").text
        press(browser, "I will come")
        assert "We know that you will come" in browser.find_element(By.CLASS_NAME, "done").text

        asked = [
            json.loads(entry["message"])["message"]["params"]["request"]["url"]
            for entry in browser.get_log("performance")  # type: ignore[no-untyped-call]
            if '"Network.requestWillBeSent"' in entry["message"]
        ]
        assert asked
        assert {url.split("/")[2] for url in asked if url.startswith("http")} == {
            clinic.service.url.split("/")[2]
        }


def _routes_apart(log: str) -> str:
    """The log without the names of the API's own doors, which are the same for every visit."""
    return re.sub(r'"route": "[^"]*"', "", log)


def _iso(told: str) -> str:
    return at(told).isoformat()


def _query(moment: datetime) -> str:
    return moment.isoformat().replace("+", "%2B")
