"""A course in short: for the patient on their page, and for staff over REST."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import AuditEvent, Patient, enter_clinic
from models.vocabulary import Role, StepKind
from notifications import links, reading, templates
from scheduler import booking
from scheduler.booking import Order
from tests import after
from tests.after import DESK, Course
from tests.factories import MONDAY_9, SUNDAY_NOON, World, figure, make_world
from tests.integration.conftest import Caller, Clock, Keyring

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
ADVICE = [
    {
        "code": "no-driving",
        "words": {"en": "Do not drive", "es": "No conduzca"},
        "for": figure(24, "h"),
    },
    {"code": "rest", "words": {"en": "Rest"}, "for": figure(2, "d")},
]
SECRET = re.compile(
    r"phq|gad-7|score|\bband|severe|moderate|minimal|response|remission|baseline|lower|higher", re.I
)
"""What no patient reads on this page."""


@pytest.fixture
def course(session: Session, world: World, clock: Clock, bound: Any) -> Course:
    """A first visit and a dose took place; an integration is booked, a dose is not."""
    told = after.content()
    told["visits"]["dosing"]["afterwards"] = ADVICE
    made = after.open_course(session, world, told)
    first = made.book("preparation", MONDAY_9, SUNDAY_NOON)
    made.answer(first, "phq-9", 19, MONDAY_9 - HOUR)
    made.answer(first, "gad-7", 12, MONDAY_9 - HOUR)
    made.walk(first)
    dose = made.book("dosing-1", MONDAY_9 + DAY, SUNDAY_NOON)
    made.answer(dose, "phq-9", 17, MONDAY_9 + 2 * HOUR)
    made.walk(dose)
    made.book("integration-1", MONDAY_9 + 3 * DAY, SUNDAY_NOON)
    clock.now = MONDAY_9 + DAY + 6 * HOUR
    session.commit()
    return made


@pytest.fixture
def page(client: FlaskClient, session: Session, course: Course) -> FlaskClient:
    """A browser that followed the link of the dose's visit, and knows the date of birth."""
    return come_in(client, session, course, "dosing-1")


def come_in(client: FlaskClient, session: Session, course: Course, key: str) -> FlaskClient:
    visit = course.visit(key)
    follow(client, session, visit.id, visit.patient_id)
    told = {"form": form_of(client), "day": "17", "month": "5", "year": "1980"}
    assert client.post("/p/birth-date", data=told).status_code == 303
    return client


def follow(client: FlaskClient, session: Session, visit_id: Any, patient_id: Any) -> None:
    new = links.New(visit_id, patient_id, MONDAY_9 + 60 * DAY)
    [token] = links.mint(reading.raw(session), [new])
    session.commit()
    client.get(f"/p/{token}")


def form_of(client: FlaskClient) -> str:
    found = re.search(r'name="form" value="([^"]+)"', client.get("/p/").text)
    assert found is not None
    return found.group(1)


def said(page: FlaskClient) -> str:
    """What stands on the page, without its marks."""
    answer = page.get("/p/so-far")
    assert answer.status_code == 200
    body = answer.text.split("</head>")[1]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


class TestPage:
    def test_it_tells_what_was_and_what_comes(self, page: FlaskClient) -> None:
        told = said(page)
        assert "You have been with us 2 times." in told
        assert "Getting ready together Monday, March 2, 2026" in told
        assert "Session Tuesday, March 3, 2026" in told
        assert "Talk afterwards Thursday, March 5, 2026 9:00 AM (New York time) Main" in told
        assert "Still to arrange: Session (1)." in told
        assert "You filled in 3 questionnaires." in told

    def test_it_tells_nothing_that_a_person_should_tell(self, page: FlaskClient) -> None:
        told = page.get("/p/so-far").text
        assert SECRET.findall(told) == []
        assert not re.search(r"\b(19|17|12)\b", said(page).replace("2026", ""))
        assert templates.betrays(told) == []
        assert "Medicine session" not in told  # the protocol's own title

    def test_what_holds_after_a_dose_is_told_with_its_end(
        self, page: FlaskClient, clock: Clock
    ) -> None:
        told = said(page)
        assert "Do not drive until Wednesday, March 4, 2026, 9:10 AM (New York time)" in told
        assert "Rest until Thursday, March 5, 2026" in told
        clock.now += DAY
        told = said(page)
        assert "Do not drive for 24 hours" in told  # over: what holds after each
        assert "Rest until Thursday, March 5, 2026" in told

    def test_nothing_says_that_a_suspended_visit_takes_place(
        self, page: FlaskClient, session: Session, course: Course, doctor: Caller
    ) -> None:
        assert "not certain yet" not in said(page)
        course.visit("integration-1").suspended_at = MONDAY_9 + 2 * DAY
        session.commit()
        assert "This time is not certain yet. We will call you about it." in said(page)
        [ahead] = doctor.get(f"/courses/{course.id}/summary").json["ahead"]
        assert ahead["is_suspended"] is True

    def test_it_speaks_spanish(self, page: FlaskClient, session: Session, course: Course) -> None:
        patient = session.scalars(select(Patient).where(Patient.id == course.patient_id)).one()
        patient.language = "es"
        session.commit()
        told = said(page)
        assert '<html lang="es">' in page.get("/p/so-far").text
        assert "Ha estado con nosotros 2 veces." in told
        assert "Sesión martes, 3 de marzo de 2026" in told
        assert "No conduzca hasta el miércoles, 4 de marzo de 2026" in told
        assert "Rest hasta el" in told  # no Spanish words are there
        assert "Su tiempo con nosotros" in page.get("/p/").text

    def test_the_page_of_the_visit_leads_to_it(self, page: FlaskClient) -> None:
        shown = page.get("/p/").text
        assert 'href="/p/so-far"' in shown
        assert "Your time with us" in shown

    def test_it_is_sealed_as_its_neighbours_are(self, page: FlaskClient, session: Session) -> None:
        answer = page.get("/p/so-far")
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "<script" not in answer.text
        read = select(func.count()).where(AuditEvent.facts["what"].astext == "summary")
        assert session.scalar(read) == 1


class TestWhoComesIn:
    def test_nobody_without_a_link(self, client: FlaskClient, course: Course) -> None:
        assert client.get("/p/so-far").status_code == 404

    def test_nobody_before_the_date_of_birth(
        self, client: FlaskClient, session: Session, course: Course
    ) -> None:
        visit = course.visit("dosing-1")
        follow(client, session, visit.id, visit.patient_id)
        answer = client.get("/p/so-far")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/p/")

    def test_a_visit_without_a_course_has_none(
        self, client: FlaskClient, session: Session, world: World, clock: Clock, bound: Any
    ) -> None:
        order = Order(
            patient_id=world.patient_id, starts_at=MONDAY_9, step_kind=StepKind.PREPARATION
        )
        visit = booking.book(session, order, by=DESK, now=clock.now)
        follow(client, session, visit.id, visit.patient_id)
        told = {"form": form_of(client), "day": "17", "month": "5", "year": "1980"}
        client.post("/p/birth-date", data=told)
        assert client.get("/p/so-far").status_code == 303
        assert "/p/so-far" not in client.get("/p/").text

    def test_a_course_that_has_just_begun(
        self, client: FlaskClient, session: Session, world: World, clock: Clock, bound: Any
    ) -> None:
        told = after.content()
        told["visits"]["dosing"]["afterwards"] = ADVICE
        made = after.open_course(session, world, told)
        made.book("preparation", MONDAY_9, SUNDAY_NOON)
        shown = said(come_in(client, session, made, "preparation"))
        assert "Your first visit is still ahead of you." in shown
        assert "You have not filled in any questionnaires yet." in shown
        assert "Do not drive for 24 hours" in shown
        assert "Rest for 2 days" in shown
        assert "Still to arrange: Session (2), Talk afterwards (1)." in shown


class TestOverRest:
    def test_staff_see_the_same(self, doctor: Caller, course: Course) -> None:
        found = doctor.get(f"/courses/{course.id}/summary").json
        assert [one["kind"] for one in found["took_place"]] == ["preparation", "dosing"]
        assert found["took_place"][1]["title"] == "Medicine session"
        assert [one["kind"] for one in found["ahead"]] == ["integration"]
        assert found["ahead"][0]["time_zone"] == "America/New_York"
        assert found["to_arrange"] == [{"kind": "dosing", "count": 1}]
        assert [one["instrument"] for one in found["questionnaires"]] == [
            "gad-7",
            "phq-9",
            "phq-9",
        ]
        assert {one["code"]: one["lasts"] for one in found["afterwards"]} == {
            "no-driving": "24 hours",
            "rest": "2 days",
        }
        assert found["afterwards"][0]["until"] == "2026-03-04T14:10:00Z"

    def test_what_staff_enter_is_not_the_patients(self, doctor: Caller, course: Course) -> None:
        told = {"instrument": "madrs", "score": 20, "course_id": str(course.id)}
        where = f"/patients/{course.patient_id}/questionnaire-responses"
        assert doctor.post(where, told).status_code == 201
        assert len(doctor.get(f"/courses/{course.id}/summary").json["questionnaires"]) == 3

    def test_doors(
        self, key: Keyring, session: Session, world: World, doctor: Caller, course: Course
    ) -> None:
        assert key(Role.AUDITOR).get(f"/courses/{course.id}/summary").status_code == 403
        other = make_world(session, "Another Practice")
        theirs = after.open_course(session, other)
        enter_clinic(session, world.clinic_id)
        session.commit()
        for course_id in (theirs.id, uuid4()):
            assert doctor.get(f"/courses/{course_id}/summary").status_code == 404
