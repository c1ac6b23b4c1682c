"""A cancelled Friday is filled from the waitlist, over HTTP, in less than a minute of its time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from database.access import Access
from models.vocabulary import Role
from notifications.templates import betrays
from tests.conftest import clean
from tests.factories import World, make_world
from tests.fakes import mail_server
from tests.pages import Page
from tests.service import Service, give_keys, running

NEW_YORK = ZoneInfo("America/New_York")
WEDNESDAY = datetime(2026, 3, 4, 10, 0, tzinfo=NEW_YORK)
FRIDAY = datetime(2026, 3, 6, 9, 0, tzinfo=NEW_YORK)
WISHES: dict[str, dict[str, Any]] = {
    "Vera": {"before": "12:00"},
    "Late": {"weekdays": ["monday"]},
}
HOURS = [FRIDAY + timedelta(hours=number) for number in range(5)]


@dataclass
class Desk:
    """The front desk: what it asks of the service, and what patients get by mail."""

    service: Service
    world: World
    patients: dict[str, str] = field(default_factory=dict)
    """By e-mail address."""

    def get(self, path: str) -> Any:
        answer = self.service.call(Role.SCHEDULER, "GET", path)
        assert answer.ok, answer.text
        return answer.json()

    def post(self, path: str, told: Any, **headers: str) -> Any:
        answer = self.service.call(Role.SCHEDULER, "POST", path, told, **headers)
        assert answer.ok, answer.text
        return answer.json()

    def admits(self, name: str) -> str:
        """A new patient with a course; the id of its first step."""
        address = f"{name.lower()}@example.com"
        told = {
            "record_number": name,
            "given_name": name,
            "family_name": "Example",
            "birth_date": "1980-05-17",
            "email": address,
            "phone": "+12125550123",
            "time_zone": "America/New_York",
        }
        patient = self.post("/patients", told)
        self.patients[address] = patient["id"]
        course = self.post(
            "/courses", {"patient_id": patient["id"], "protocol_code": "test-course"}
        )
        return str(course["steps"][0]["id"])

    def books(self, name: str, at: datetime) -> Any:
        step = self.admits(name)
        told = {
            "patient_id": self.patients[f"{name.lower()}@example.com"],
            "course_step_id": step,
            "starts_at": at.isoformat(),
        }
        return self.post("/appointments", told)

    def friday(self) -> dict[str, str]:
        """Who comes on Friday, by the hour."""
        start = FRIDAY.strftime("%Y-%m-%dT00:00:00Z")
        end = (FRIDAY + timedelta(days=1)).strftime("%Y-%m-%dT00:00:00Z")
        names = {patient_id: address for address, patient_id in self.patients.items()}
        found = self.get(f"/appointments?status=booked&from={start}&to={end}")["items"]
        return {
            datetime.fromisoformat(one["starts_at"]).astimezone(NEW_YORK).strftime("%H:%M"): names[
                one["patient_id"]
            ].split("@")[0]
            for one in found
        }

    def offers(self, number: int) -> dict[str, Page]:
        """Wait for so many offers by mail; whose page is whose."""
        self.service.wait_until(lambda: len(self._mails()) >= number, f"{number} offers")
        for mail in self._mails():
            assert betrays(str(mail)) == []
        return {mail["To"].addresses[0].username: Page(mail) for mail in self._mails()}

    def _mails(self) -> list[Any]:
        mails = self.service.mail.mails
        return [mail for mail in mails if str(mail["Subject"]).startswith("A time is free")]


@pytest.fixture
def desk(database: Access, service_engine: Engine, tmp_path: Path) -> Iterator[Desk]:
    with mail_server() as mail, running(database, tmp_path, mail, WEDNESDAY) as service:
        with Session(service_engine) as session:
            world = make_world(session)
            session.commit()
            give_keys(service, session, world.clinic_id, WEDNESDAY)
        service.start("web")
        service.start("worker")
        yield Desk(service, world)
    clean(database)


def test_a_cancelled_friday_is_filled_in_under_a_minute(desk: Desk) -> None:
    etag = desk.service.call(Role.ADMIN, "GET", "/clinic").headers["ETag"]
    desk.service.call(Role.ADMIN, "PATCH", "/clinic", {"settle_minutes": 0}, **{"If-Match": etag})
    visits = [desk.books(name, at) for name, at in zip("ABCDE", HOURS, strict=True)]
    for name in ("Ruth", "Otto", "Mona", "Ines", "Emil", "Vera", "Late"):
        step = desk.admits(name)
        desk.post("/waitlist", {"course_step_id": step, **WISHES.get(name, {})})
    assert desk.friday().keys() == {"09:00", "10:00", "11:00", "12:00", "13:00"}

    for visit in visits:
        desk.post(
            f"/appointments/{visit['id']}/cancel",
            {"reason": "the therapist is ill, and then is not"},
            **{"If-Match": '"1"'},
        )
    assert desk.friday() == {}
    desk.service.set_clock(WEDNESDAY + timedelta(seconds=10))
    pages = desk.offers(5)
    assert pages.keys() == {"ruth", "otto", "mona", "ines", "emil"}  # the longest waiting
    kept = desk.get("/offers?state=standing")["items"]
    assert [one["kept_until"] == one["expires_at"] for one in kept] == [True] * 5

    desk.service.set_clock(WEDNESDAY + timedelta(seconds=20))
    assert "stay on our list" in pages["otto"].press("offer/decline").text
    for name in ("ruth", "mona", "ines", "emil"):
        assert "The time is yours" in pages[name].press("offer/accept").text
    desk.service.set_clock(WEDNESDAY + timedelta(seconds=40))
    asked = desk.offers(6)
    assert asked.keys() - pages.keys() == {"vera"}
    assert "The time is yours" in asked["vera"].press("offer/accept").text

    desk.service.set_clock(WEDNESDAY + timedelta(seconds=59))
    friday = desk.friday()
    assert friday.keys() == {"09:00", "10:00", "11:00", "12:00", "13:00"}
    assert set(friday.values()) == {"ruth", "mona", "ines", "emil", "vera"}
    waiting = {one["patient_id"] for one in desk.get("/waitlist")["items"]}
    assert waiting == {desk.patients["otto@example.com"], desk.patients["late@example.com"]}
