"""A nurse is ill for three days: thirty courses mended in two calls, each patient told once."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from database.access import Access
from models import Schedule
from models.vocabulary import PractitionerRole, Role
from tests.conftest import clean
from tests.factories import (
    World,
    clear,
    make_device,
    make_patient,
    make_practitioner,
    make_room,
    make_world,
)
from tests.fakes import mail_server
from tests.service import Service, give_keys, running

ZONE = ZoneInfo("America/New_York")
COURSES = 30
AT_ONCE = 5
"""How many doses the nurse watches at once."""


def at(told: str) -> datetime:
    """A wall time in New York."""
    return datetime.fromisoformat(told).replace(tzinfo=ZONE)


START = at("2027-01-04 09:00")
ILL = (at("2027-01-11 00:00"), at("2027-01-14 00:00"))


@dataclass
class Clinic:
    """A clinic with one nurse, and room for five doses at once."""

    service: Service
    world: World
    nurse: UUID
    patients: list[UUID]

    def get(self, path: str) -> Any:
        answer = self.service.call(Role.SCHEDULER, "GET", path)
        assert answer.ok, answer.text
        return answer.json()

    def post(self, path: str, told: Any) -> Any:
        answer = self.service.call(Role.SCHEDULER, "POST", path, told)
        assert answer.ok, answer.text
        return answer.json()

    def visits(self) -> list[dict[str, Any]]:
        found, path = [], "/appointments?status=booked&limit=200"
        while path:
            page = self.get(path)
            found += page["items"]
            path = (page["next"] or "").removeprefix("/api/v1")
        return found


@pytest.fixture
def clinic(database: Access, service_engine: Engine, tmp_path: Path) -> Iterator[Clinic]:
    with mail_server() as mail, running(database, tmp_path, mail, START) as service:
        with Session(service_engine) as session:
            world = make_world(session)
            site = world.site_id
            for _ in range(AT_ONCE):
                make_practitioner(session, site, PractitionerRole.PRESCRIBER)
                make_room(session, site, "dosing")
                make_device(session, site, "monitor")
            for _ in range(2 * AT_ONCE):
                make_practitioner(session, site, PractitionerRole.THERAPIST)
                make_room(session, site, "consulting")
            session.get_one(Schedule, (world.clinic_id, world.monitor)).lanes = AT_ONCE
            patients = [make_patient(session)[0] for _ in range(COURSES)]
            for patient in patients:
                clear(session, patient, ["medical-clearance", "consent"], at=START)
            session.commit()
            give_keys(service, session, world.clinic_id, START)
        service.start("web")
        service.start("worker")
        yield Clinic(service, world, world.monitor, patients)
    clean(database)


def test_a_nurse_is_ill_for_three_days(clinic: Clinic) -> None:
    for number, patient in enumerate(clinic.patients):
        book_course(clinic, number, patient)
    clinic.service.set_clock(at("2027-01-08 10:00"))
    heard = len(clinic.service.mail.mails)

    told = {
        "schedule_id": str(clinic.nurse),
        "from": ILL[0].isoformat(),
        "to": ILL[1].isoformat(),
        "reason": "ill",
    }
    found = clinic.post("/disruptions", told)
    proposal = found["proposal"]
    assert proposal["unrepairable"] == []
    doses = [one for one in proposal["moves"] if one["kind"] == "dosing"]
    assert {one["patient_id"] for one in doses} == {str(one) for one in clinic.patients}
    assert {one["why"] for one in doses} == {"away"}

    done = clinic.post(f"/disruptions/{found['disruption']['id']}/accept", {})
    assert done["refused"] == []
    assert len(done["appointments"]) == len(proposal["moves"])
    for course in courses(clinic).values():
        dose, integration = course["dosing"], course["integration"]
        assert not ILL[0] <= dose < ILL[1]
        assert timedelta(hours=24) <= integration - dose <= timedelta(hours=72)

    clinic.service.set_clock(at("2027-01-08 10:04"))
    letters = Counter(str(mail["To"]) for mail in clinic.service.mail.mails[heard:])
    assert len(letters) == COURSES
    assert set(letters.values()) == {1}


def book_course(clinic: Clinic, number: int, patient: UUID) -> None:
    """A preparation this week, a dose in the first three days of the next, its integration."""
    told = {"patient_id": str(patient), "protocol_code": "test-course"}
    course = clinic.post("/courses", told)
    steps = {one["key"]: one["id"] for one in course["steps"]}
    day, turn = divmod(number, 2 * AT_ONCE)
    dose = at(f"2027-01-{11 + day} 09:00") + (turn >= AT_ONCE) * timedelta(hours=3.5)
    talk = timedelta(hours=turn // AT_ONCE)
    times = {
        "preparation": at(f"2027-01-0{5 + day} 09:00") + talk,
        "dosing-1": dose,
        "integration-1": at(f"2027-01-{13 + day} 09:00") + 3.5 * talk,
    }
    for key, when in times.items():
        clinic.post(
            "/appointments",
            {
                "patient_id": str(patient),
                "course_step_id": steps[key],
                "starts_at": when.isoformat(),
            },
        )


def courses(clinic: Clinic) -> dict[str, dict[str, datetime]]:
    """For each course when its visits are, by kind."""
    found: dict[str, dict[str, datetime]] = {}
    for visit in clinic.visits():
        mine = found.setdefault(visit["course_id"], {})
        mine[visit["kind"]] = datetime.fromisoformat(visit["starts_at"])
    assert len(found) == COURSES
    return found
