"""A cohort of six with one unready, as a front desk lives it: over HTTP and a mail server.

The service runs as its own processes, under the group protocol that Afterglow ships; the clock
is set by the test, across the change of clocks on 8 March 2026.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from api import keys
from database.access import Access
from models.vocabulary import PractitionerRole, Role
from tests.conftest import clean
from tests.factories import (
    ZONE,
    clear,
    make_device,
    make_patient,
    make_practitioner,
    make_protocol,
    make_room,
    make_world,
)
from tests.fakes import mail_server
from tests.service import ROOT, Service, give_keys, running

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn")
BOOKED = ("medical-clearance", "consent")
NOTHING = dict.fromkeys(("1", "2", "3", "4", "5", "6", "6-recent"), 0)
CALM = {"systolic": 124, "diastolic": 80, "heart-rate": 68, "oxygen-saturation": 98}
RECOVERED = {"recovery-score": 10, "oriented": 1, "steady-gait": 1, "nausea-controlled": 1}


def at(told: str) -> datetime:
    """A wall time in New York, as 2026-03-01 12:00."""
    return datetime.fromisoformat(told).replace(tzinfo=ZoneInfo(ZONE))


START = at("2026-03-01 12:00")


@dataclass
class Desk:
    """What the front desk does, for whom, and what patients hear of it."""

    service: Service
    version_id: str
    patients: dict[str, str]
    courses: dict[str, dict[str, str]]
    nurse: str
    """The key of one who watches over them."""
    heard: int = 0

    def call(
        self, method: str, path: str, told: Any = None, role: Role = Role.SCHEDULER, **headers: str
    ) -> Any:
        answer = self.service.call(role, method, path, told, **headers)
        assert answer.ok, answer.text
        return answer.json()

    def act(self, path: str, action: str, told: Any = None, role: Role = Role.SCHEDULER) -> Any:
        etag = self.service.call(role, "GET", path).headers["ETag"]
        return self.call("POST", f"{path}/{action}", told or {}, role, **{"If-Match": etag})

    def make(self, visit: str, when: str) -> str:
        told = {
            "protocol_version_id": self.version_id,
            "visit": visit,
            "starts_at": at(when).isoformat(),
        }
        return f"/group-sessions/{self.call('POST', '/group-sessions', told)['id']}"

    def seat(self, path: str, step: str, **reasons: str) -> dict[str, str]:
        """Give everybody a place; returns each one's visit."""
        return {
            name: self.call(
                "POST",
                f"{path}/places",
                {
                    "patient_id": self.patients[name],
                    "course_step_id": self.courses[name][step],
                    "reasons": reasons,
                },
            )["id"]
            for name in NAMES
        }

    def clear(self, name: str, *gates: str) -> None:
        for gate in gates:
            told = {"gate": gate, "outcome": "cleared"}
            path = f"/patients/{self.patients[name]}/clearances"
            self.call("POST", path, told, Role.CLINICIAN)

    def ask(self, name: str) -> None:
        """The prescriber asks for all that may speak against a dose, and finds nothing."""
        path = f"/patients/{self.patients[name]}"
        asked = self.call("GET", f"{path}/screening", role=Role.CLINICIAN)["conditions"]
        told = [{"condition": one["code"], "answer": "absent"} for one in asked]
        self.call("POST", f"{path}/screens", {"answers": told}, Role.CLINICIAN)

    def measure(self, visit_id: str, **values: float) -> None:
        """The nurse notes what she measured."""
        key = {"Authorization": f"Bearer {self.nurse}"}
        path = f"/appointments/{visit_id}/observations"
        self.call("POST", path, {"values": values}, Role.CLINICIAN, **key)

    def ready(self, name: str, visit_id: str) -> None:
        """The checklist is done and somebody comes to fetch them."""
        for item in self.call("GET", f"/appointments/{visit_id}/checklist")["items"]:
            etag, done = {"If-Match": item["etag"]}, {"status": "completed"}
            self.call("PATCH", f"/checklist-items/{item['id']}", done, Role.CLINICIAN, **etag)
        escort = {"name": f"Friend of {name}", "phone": "+12125550199", "relation": "friend"}
        told: dict[str, Any] = {**escort, "confirmed": True}
        etag = {"If-Match": '"0"'}
        self.call("PUT", f"/appointments/{visit_id}/escort", told, **etag)

    def hear(self, when: str, subject: str, *names: str) -> None:
        """At that time these patients, and nobody else, get a letter that begins so."""
        self.service.set_clock(at(when))
        expected = sorted(f"{name}: {subject}" for name in names)
        self.service.wait_until(lambda: len(self._new()) >= len(names), f"{subject} to {names}")
        heard = [told[: len(one)] for told, one in zip(self._new(), expected, strict=True)]
        assert heard == expected
        self.heard = len(self.service.mail.mails)

    def skip(self, when: str) -> None:
        """Time passes, and whatever is said meanwhile is not what this story is about."""
        self.service.set_clock(at(when))
        self.heard = len(self.service.mail.mails)

    def _new(self) -> list[str]:
        return sorted(
            f"{str(mail['To']).split()[0]}: {mail['Subject']}"
            for mail in self.service.mail.mails[self.heard :]
        )


@pytest.fixture
def desk(database: Access, service_engine: Engine, tmp_path: Path) -> Iterator[Desk]:
    with mail_server() as mail, running(database, tmp_path, mail, START) as service:
        with Session(service_engine) as session:
            world = make_world(session)
            make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
            make_room(session, world.site_id, "group")
            for _ in range(2):
                make_device(session, world.site_id, "monitor")
            content = json.loads((ROOT / "protocols/group.json").read_text())
            version_id = make_protocol(session, content)
            patients = {}
            for name in NAMES:
                patient_id, _ = make_patient(session, given_name=name)
                patients[name] = str(patient_id)
                clear(session, patient_id, BOOKED, medicine="ketamine", route="intramuscular")
            session.commit()
            give_keys(service, session, world.clinic_id, START, clinician=world.prescriber_id)
            nurse_id, _ = make_practitioner(session, world.site_id, PractitionerRole.MONITOR)
            _, nurse = keys.issue(session, "nurse", Role.CLINICIAN, nurse_id, START)
            session.commit()
        service.start("web")
        service.start("worker")
        desk = Desk(service, str(version_id), patients, {}, nurse)
        for name, known in patients.items():
            course = desk.call("POST", "/courses", {"patient_id": known, "protocol_code": "group"})
            desk.courses[name] = {step["key"]: step["id"] for step in course["steps"]}
            desk.ask(name)
        yield desk
    clean(database)


def test_a_cohort_of_six_with_one_unready(desk: Desk) -> None:
    # Sunday: both sessions are made and filled; each of the six hears of their own visits.
    preparation = desk.make("group-preparation", "2026-03-02 13:00")
    dosing = desk.make("group-session", "2026-03-09 10:00")
    staff = [one["role"] for one in desk.call("GET", dosing)["assignments"]]
    assert sorted(staff) == [
        *["device"] * 3,
        "monitor",
        "room",
        *["therapist"] * 2,
    ]
    intake = {"no-intake": "seen before, by the referring clinic"}
    prepared = desk.seat(preparation, "group-preparation", **intake)
    visits = desk.seat(dosing, "group-session-1")
    full = desk.service.call(
        Role.SCHEDULER,
        "POST",
        f"{dosing}/places",
        {"patient_id": desk.patients["Ada"], "step_kind": "dosing"},
    )
    assert full.status_code in {409, 422}
    desk.hear("2026-03-01 12:03", "Your next 2 appointments", *NAMES)

    # Monday: the preparation takes place, for all at once.
    desk.skip("2026-03-02 12:55")
    for visit_id in prepared.values():
        desk.act(f"/appointments/{visit_id}", "arrive")
    told = desk.act(preparation, "fulfil", role=Role.CLINICIAN)
    assert {one["appointment"]["status"] for one in told["places"]} == {"fulfilled"}
    assert len(told["places"]) == 6

    # The room is late that day: the cohort moves by an hour, and each hears of it once.
    desk.skip("2026-03-02 15:00")
    desk.act(dosing, "reschedule", {"starts_at": at("2026-03-09 11:00").isoformat()})
    desk.hear("2026-03-02 15:03", "Your appointment has a new time: Monday, March 9, 2026", *NAMES)

    # The day: everybody comes; the vital signs of one are not in range.
    desk.skip("2026-03-09 10:50")
    for name, visit_id in visits.items():
        desk.ready(name, visit_id)
        desk.clear(name, "pregnancy-status")
        path = f"/patients/{desk.patients[name]}/reconciliations"
        desk.call("POST", path, {"medicines": []}, Role.CLINICIAN)
        path = f"/patients/{desk.patients[name]}/questionnaire-responses"
        desk.call("POST", path, {"instrument": "c-ssrs", "answers": NOTHING}, Role.CLINICIAN)
        desk.act(f"/appointments/{visit_id}", "arrive")
        desk.measure(visit_id, **CALM | ({"systolic": 166} if name == "Finn" else {}))
    board = desk.call("GET", f"{dosing}/readiness")
    assert board["ready"] is True
    assert [one["readiness"]["ready"] for one in board["places"]] == [True] * 5 + [False]
    desk.skip("2026-03-09 11:00")
    begun = desk.act(dosing, "start-dosing", role=Role.CLINICIAN)["places"]
    assert [one["appointment"]["progress"] for one in begun] == ["dosing"] * 5 + ["waiting"]
    assert [gate["code"] for gate in begun[-1]["refusal"]["gates"]] == ["vitals"]

    # Finn goes home; the other five go on to the end.
    desk.act(f"/appointments/{visits['Finn']}", "cancel", {"reason": "blood pressure"})
    assert desk.call("GET", dosing)["free"] == 1
    desk.skip("2026-03-09 13:05")
    assert len(desk.act(dosing, "start-recovery", role=Role.CLINICIAN)["places"]) == 5
    desk.skip("2026-03-09 14:30")
    for name in NAMES[:-1]:
        desk.measure(visits[name], **CALM | RECOVERED)
        left = {"way": "escort", "accompanied_by": f"Friend of {name}"}
        desk.call("POST", f"/appointments/{visits[name]}/departure", left, Role.CLINICIAN)
        desk.act(f"/appointments/{visits[name]}", "discharge", role=Role.CLINICIAN)
    ended = desk.act(dosing, "fulfil", role=Role.CLINICIAN)["places"]
    assert [one["appointment"]["status"] for one in ended] == ["fulfilled"] * 5

    # Finn makes it up with the next cohort, later than the protocol likes: somebody says why.
    other = desk.make("group-session", "2026-03-16 11:00")
    told = {
        "patient_id": desk.patients["Finn"],
        "course_step_id": desk.courses["Finn"]["group-session-1"],
    }
    late = desk.service.call(Role.SCHEDULER, "POST", f"{other}/places", told)
    assert [rule["code"] for rule in late.json()["rules"]] == ["group-session-1-too-late"]
    why = {"group-session-1-too-late": "was not ready a week ago"}
    made_up = desk.call("POST", f"{other}/places", {**told, "reasons": why})
    assert (made_up["place"], made_up["starts_at"]) == (1, "2026-03-16T15:00:00Z")
