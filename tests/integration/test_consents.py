"""Consent: written in versions, signed on the patient's page, counted, copied on paper."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, select
from sqlalchemy import text as statement
from sqlalchemy.orm import Session

from models import (
    Appointment,
    AuditEvent,
    Clearance,
    Consent,
    Incident,
    Message,
    Patient,
    Task,
    enter_clinic,
)
from models.vocabulary import ClearanceOutcome, MessageKind, Recipient, Role, TaskKind
from notifications import links, reading
from scheduler import booking, courses, evidence, facts, incidents
from scheduler import consents as signing
from scheduler.authority import Authority
from scheduler.booking import Order
from scheduler.consents import NewText, Signing
from scheduler.errors import Taken
from scheduler.permissions import BUNDLES
from tests import pdf
from tests.factories import (
    DAY,
    MONDAY_9,
    SOURCE,
    SUNDAY_NOON,
    World,
    figure,
    gate,
    make_patient,
    make_protocol,
    make_world,
    protocol_content,
)
from tests.integration.conftest import Caller, Clock, Keyring

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
ASKS = {"for": ["medicine", "route", "text"], "who": ["patient", "clinician"]}
TEXT: dict[str, Any] = {
    "code": "consent",
    "language": "en",
    "title": "What we agree on",
    "body": "First we talk.\nThen we rest.\n\nYou may stop at any time.",
    "renews": False,
}
DUTY = {
    "code": "seen",
    "title": "Seen by a clinician",
    "owner": "clinician",
    "due_after": figure(60, "min"),
}
SPANISH = TEXT | {"language": "es", "title": "Lo que acordamos", "body": "Primero hablamos."}
NAME = "Zażółć Жанна Ελένη"


def content(route: str = "intranasal", **asks: Any) -> dict[str, Any]:
    """A preparation, and two doses behind a consent."""
    told = protocol_content() | {"code": f"test-{route}"}
    dosing = told["visits"]["dosing"]
    dosing["medicine"], dosing["route"] = "esketamine", route
    dosing["gates"] = [
        gate("consent", **{"shuts": "booking", "holds": figure(365, "d"), **ASKS, **asks})
    ]
    dosing["checklist"] = []
    told["caps"], told["gaps"] = [], []
    told["steps"] = [
        {"key": "preparation", "visit": "preparation"},
        {"key": "dosing-1", "visit": "dosing"},
        {"key": "dosing-2", "visit": "dosing"},
    ]
    return told


Make = Callable[..., Appointment]


@pytest.fixture
def make(session: Session, world: World, clock: Clock, bound: Connection) -> Make:
    """Open a course, and book its preparation."""

    def made(told: dict[str, Any] | None = None, at: Any = MONDAY_9) -> Appointment:
        version_id = make_protocol(session, told or content())
        course = courses.open_course(session, world.patient_id, version_id, by=DESK)
        step = facts.steps_of(session, course.id)[0]
        order = Order(patient_id=world.patient_id, starts_at=at, course_step_id=step.id)
        visit = booking.book(session, order, by=DESK, now=clock.now)
        session.commit()
        return visit

    return made


@pytest.fixture
def visit(make: Make) -> Appointment:
    return make()


@pytest.fixture
def text(admin: Caller) -> Any:
    made = admin.post("/consent-texts", TEXT)
    assert made.status_code == 201, made.json
    return made.json


class Page:
    """The patient's page of a visit."""

    def __init__(self, session: Session, client: FlaskClient, visit: Appointment) -> None:
        new = links.New(visit.id, visit.patient_id, MONDAY_9 + 400 * DAY)
        [token] = links.mint(reading.raw(session), [new])
        session.commit()
        self.session, self.client = session, client
        client.get(f"/p/{token}")
        born = {"day": "17", "month": "5", "year": "1980"}
        client.post("/p/birth-date", data={"form": self._form(client.get("/p/").text), **born})

    @staticmethod
    def _form(told: str) -> str:
        found = re.search(r'name="form" value="([^"]+)"', told)
        assert found is not None, told
        return found.group(1)

    def get(self) -> str:
        return self.client.get("/p/").text

    def paper(self, number: int = 1) -> dict[str, str]:
        """The hidden fields of the form of a text."""
        shown = self.client.get(f"/p/papers/{number}")
        assert shown.status_code == 200, shown.text
        return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', shown.text))

    def send(self, **changes: str) -> Any:
        told = {**self.paper(), "agree": "yes", "name": NAME, "do": "sign", **changes}
        return self.client.post("/p/papers/1", data=told)

    def copies(self) -> list[str]:
        return re.findall(r'href="(/p/papers/[0-9a-f-]+\.pdf)"', self.get())


@pytest.fixture
def page(session: Session, client: FlaskClient, visit: Appointment, text: Any) -> Page:
    return Page(session, client, visit)


def consents(session: Session) -> list[Consent]:
    session.expire_all()
    return list(session.scalars(select(Consent).order_by(Consent.id)))


def clearances(session: Session) -> list[Clearance]:
    session.expire_all()
    return list(session.scalars(select(Clearance).order_by(Clearance.id)))


def book(session: Session, visit: Appointment, at: Any, now: Any, number: int = 1) -> Appointment:
    """Book a dose of the course; its gate is asked."""
    assert visit.course_id is not None
    step = facts.steps_of(session, visit.course_id)[number]
    order = Order(patient_id=visit.patient_id, starts_at=at, course_step_id=step.id)
    return booking.book(session, order, by=DESK, now=now)


def state(session: Session, visit: Appointment, now: Any = SUNDAY_NOON) -> tuple[str, str]:
    [found] = evidence.judge(session, [visit], now)[visit.id].gates
    return found.state.value, found.detail


class TestTexts:
    def test_versions_are_counted_and_stay(self, admin: Caller, desk: Caller, text: Any) -> None:
        assert (text["number"], text["written_at"]) == (1, "2026-03-01T12:00:00Z")
        again = admin.post("/consent-texts", TEXT | {"title": "Better", "renews": True})
        spanish = admin.post("/consent-texts", SPANISH)
        other = admin.post("/consent-texts", TEXT | {"code": "touch"})
        assert [one.json["number"] for one in (again, spanish, other)] == [2, 3, 1]

        assert desk.get(f"/consent-texts/{text['id']}").json == text
        found = desk.get("/consent-texts?code=consent&language=en").json["items"]
        assert [one["title"] for one in found] == ["What we agree on", "Better"]
        for method in ("PATCH", "PUT", "DELETE"):
            assert admin(method, f"/consent-texts/{text['id']}", TEXT).status_code == 405

    def test_admins_write_them_and_staff_read_them(
        self, desk: Caller, doctor: Caller, key: Keyring, text: Any
    ) -> None:
        for caller in (desk, doctor, key(Role.AUDITOR)):
            assert caller.post("/consent-texts", TEXT).status_code == 403
            assert caller.get(f"/consent-texts/{text['id']}").status_code == 200

    @pytest.mark.parametrize(
        "wrong",
        [
            {"code": "Consent"},
            {"code": ""},
            {"code": "x" * 41},
            {"language": "xx"},
            {"title": ""},
            {"title": "a\nb"},
            {"body": " "},
            {"body": "a\x07b"},
            {"body": "x" * 50_001},
            {"renews": None},
            {"renews": "perhaps"},
            {"number": 7},
            {"written_by": "somebody"},
        ],
    )
    def test_what_cannot_be_is_refused(self, admin: Caller, wrong: Any) -> None:
        assert admin.post("/consent-texts", TEXT | wrong).status_code == 422
        assert admin.get("/consent-texts").json["items"] == []

    def test_sent_again_under_its_key_it_is_one(self, admin: Caller) -> None:
        told = [
            admin.post("/consent-texts", TEXT, **{"Idempotency-Key": "write-it-once"})
            for _ in range(2)
        ]
        assert told[0].json == told[1].json
        assert len(admin.get("/consent-texts").json["items"]) == 1

    def test_another_clinics_are_not_there(
        self, session: Session, admin: Caller, desk: Caller, text: Any, world: World
    ) -> None:
        make_world(session, "Another Practice")
        assert facts.text_as_of(session, "consent", "en", SUNDAY_NOON) is None
        assert facts.last_text(session, "consent") == 0
        enter_clinic(session, world.clinic_id)
        assert desk.get(f"/consent-texts/{uuid4()}").status_code == 404


class TestByHand:
    """A clinician vouches, as before: what they leave out is what the course gives."""

    @pytest.fixture
    def path(self, visit: Appointment) -> str:
        return f"/patients/{visit.patient_id}/clearances"

    def told(self, **more: Any) -> dict[str, Any]:
        return {"gate": "consent", "outcome": "cleared", **more}

    def test_it_is_for_what_the_active_course_gives(
        self, session: Session, doctor: Caller, visit: Appointment, path: str, text: Any
    ) -> None:
        made = doctor.post(path, self.told())
        assert made.status_code == 201, made.json
        found = [made.json[name] for name in ("medicine", "route", "text_id")]
        assert found == ["esketamine", "intranasal", text["id"]]
        dose = book(session, visit, MONDAY_9 + DAY, SUNDAY_NOON)
        assert state(session, dose) == ("met", "Cleared.")

    def test_without_a_text_of_the_clinics_it_counts_as_well(
        self, session: Session, doctor: Caller, visit: Appointment, path: str
    ) -> None:
        assert doctor.post(path, self.told()).json["text_id"] is None
        dose = book(session, visit, MONDAY_9 + DAY, SUNDAY_NOON)
        assert state(session, dose) == ("met", "Cleared.")

    def test_given_last_week_it_is_for_the_text_of_last_week(
        self, admin: Caller, doctor: Caller, path: str, text: Any, clock: Clock
    ) -> None:
        given = clock.now + timedelta(hours=1)
        clock.now += DAY
        admin.post("/consent-texts", TEXT | {"renews": True})
        made = doctor.post(path, self.told(cleared_at=given.isoformat()))
        assert made.json["text_id"] == text["id"]

    def test_of_two_courses_it_says_which(
        self, session: Session, doctor: Caller, make: Make, path: str
    ) -> None:
        make(content("intravenous"), MONDAY_9 + DAY)
        asked = doctor.post(path, self.told())
        assert (asked.status_code, asked.json["field"]) == (422, "route")
        assert [one["route"] for one in asked.json["choices"]] == ["intranasal", "intravenous"]
        made = doctor.post(path, self.told(route="intravenous"))
        assert (made.json["medicine"], made.json["route"]) == ("esketamine", "intravenous")
        refused = doctor.post(path, self.told(outcome="refused"))
        assert (refused.json["medicine"], refused.json["route"]) == (None, None)

    def test_of_an_ended_course_and_an_active_one_it_is_for_the_active(
        self, session: Session, doctor: Caller, make: Make, visit: Appointment, path: str
    ) -> None:
        course, _ = facts.course_of(session, visit.course_id or UUID(int=0))
        make(content("intravenous"), MONDAY_9 + DAY)
        course.status = "revoked"  # type: ignore[assignment]
        session.commit()
        assert doctor.post(path, self.told()).json["route"] == "intravenous"

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"medicine": "ketamine"}, "medicine"),
            ({"route": "oral"}, "route"),
            ({"medicine": "esketamine", "route": "oral"}, "route"),
            ({"outcome": "refused", "route": "oral"}, "route"),
        ],
    )
    def test_what_nobody_asks_is_refused(
        self, session: Session, doctor: Caller, path: str, wrong: Any, field: str
    ) -> None:
        refused = doctor.post(path, self.told(**wrong))
        assert (refused.status_code, refused.json["field"]) == (422, field)
        assert clearances(session) == []

    def test_a_text_is_the_gates_own_and_was_there(
        self, admin: Caller, doctor: Caller, path: str, text: Any
    ) -> None:
        other = admin.post("/consent-texts", TEXT | {"code": "touch"}).json
        before = (SUNDAY_NOON - timedelta(minutes=1)).isoformat()
        for wrong in ({"text_id": other["id"]}, {"text_id": text["id"], "cleared_at": before}):
            refused = doctor.post(path, self.told(**wrong))
            assert (refused.status_code, refused.json["field"]) == (422, "text_id")
        assert doctor.post(path, self.told(text_id=str(uuid4()))).status_code == 404
        for wrong in ({"medicine": "By Mouth"}, {"route": 7}, {"text_id": "x"}):
            assert doctor.post(path, self.told(**wrong)).status_code == 422
        assert doctor.post(path, self.told(text_id=text["id"])).status_code == 201


class TestOnThePage:
    def test_a_signature_settles_the_gate(
        self, session: Session, page: Page, visit: Appointment, text: Any, clock: Clock
    ) -> None:
        assert "Read and sign" in page.get()
        clock.now += timedelta(minutes=5)

        answer = page.send()

        assert answer.headers["Location"] == "/p/?done=signed"
        [signed] = consents(session)
        assert (signed.name, signed.gate, signed.text_id) == (NAME, "consent", UUID(text["id"]))
        assert (signed.medicine, signed.route) == ("esketamine", "intranasal")
        assert (signed.patient_id, signed.course_id) == (visit.patient_id, visit.course_id)
        assert (signed.signed_at, signed.language) == (clock.now, "en")
        assert signed.address == "127.0.0.1"
        [clearance] = clearances(session)
        assert clearance.id == signed.clearance_id
        assert (clearance.cleared_by, clearance.outcome) == ("patient", ClearanceOutcome.CLEARED)
        dose = book(session, visit, MONDAY_9 + DAY, clock.now)
        assert state(session, dose) == ("met", "Cleared.")
        assert "Read and sign" not in page.get()
        assert len(page.copies()) == 1

    def test_looking_changes_nothing_and_the_address_tells_nothing(
        self, session: Session, page: Page
    ) -> None:
        page.paper()
        assert (consents(session), clearances(session)) == ([], [])
        shown = page.client.get("/p/papers/1")
        assert shown.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in shown.headers["Content-Security-Policy"]
        assert "esketamine, intranasal" in shown.text  # for what, behind the date of birth
        links_to = re.findall(r'(?:href|action)="([^"]+)"', page.get() + shown.text)
        assert [one for one in links_to if re.search("consent|ketamine|nasal", one)] == []

    def test_pressed_twice_it_is_signed_once(self, session: Session, page: Page) -> None:
        told = {**page.paper(), "agree": "yes", "name": NAME, "do": "sign"}
        answers = [page.client.post("/p/papers/1", data=told) for _ in range(2)]
        assert [one.status_code for one in answers] == [303, 303]
        assert len(consents(session)) == len(clearances(session)) == 1

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"name": ""}, "full name"),
            ({"name": "  \t "}, "full name"),
            ({"name": "\u200e"}, "letters alone"),
            ({"name": "\u200b\u00ad"}, "full name"),  # nothing to be seen
            ({"name": "..."}, "full name"),
            ({"name": "Ada\x00"}, "letters alone"),
            ({"name": "Ada\nExample"}, "letters alone"),
            ({"name": "\u202eadA"}, "letters alone"),
            ({"name": "x" * 201}, "letters alone"),
            ({"agree": ""}, "tick"),
            ({"agree": "no"}, "tick"),
            ({"text": "not-an-id"}, "has changed"),
            ({"text": str(UUID(int=7))}, "has changed"),
            ({"route": "oral"}, "has changed"),
            ({"medicine": ""}, "has changed"),
        ],
    )
    def test_what_is_no_signature_changes_nothing(
        self, session: Session, page: Page, wrong: dict[str, str], said: str
    ) -> None:
        answer = page.send(**wrong)
        assert answer.status_code == 422
        assert said in answer.text
        assert (consents(session), clearances(session)) == ([], [])

    def test_what_was_typed_stays_and_is_escaped(self, page: Page) -> None:
        answer = page.send(name="<script>Ada", agree="")
        assert "&lt;script&gt;Ada" in answer.text

    def test_only_a_form_of_their_own_signs(self, session: Session, page: Page) -> None:
        answer = page.send(form="another site's")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/p/")
        assert consents(session) == []

    def test_nobody_signs_after_the_quarter_of_an_hour_or_without_a_link(
        self, session: Session, page: Page, app: Flask
    ) -> None:
        stranger = app.test_client()
        for path in ("/p/papers/1", f"/p/papers/{uuid4()}.pdf"):
            assert stranger.get(path).status_code == 404
        told = {**page.paper(), "agree": "yes", "name": NAME, "do": "sign"}
        assert stranger.post("/p/papers/1", data=told).status_code == 404
        assert consents(session) == []

    def test_before_the_date_of_birth_nothing_is_shown(
        self, session: Session, client: FlaskClient, visit: Appointment, text: Any
    ) -> None:
        new = links.New(visit.id, visit.patient_id, visit.ends_at)
        [token] = links.mint(reading.raw(session), [new])
        session.commit()
        client.get(f"/p/{token}")
        assert client.get("/p/papers/1").headers["Location"] == "/p/"
        assert client.post("/p/papers/1", data={"name": NAME}).headers["Location"] == "/p/"
        assert client.get(f"/p/papers/{uuid4()}.pdf").status_code == 404
        assert consents(session) == []

    @pytest.mark.parametrize(
        ("remote", "kept"),
        [("198.51.100.7", "198.51.100.7"), ("2001:DB8::1", "2001:db8::1"), ("a\nb", None)],
    )
    def test_the_address_is_the_callers_and_not_what_they_say(
        self, session: Session, page: Page, remote: str, kept: str | None
    ) -> None:
        told = {**page.paper(), "agree": "yes", "name": NAME, "do": "sign"}
        page.client.post(
            "/p/papers/1",
            data=told,
            headers={"X-Forwarded-For": "203.0.113.9"},
            environ_overrides={"REMOTE_ADDR": remote},
        )
        assert [one.address for one in consents(session)] == [kept]

    @pytest.mark.parametrize("number", ["0", "2", "99999999999999999999", "-1", "x"])
    def test_what_is_not_asked_is_not_there(self, page: Page, number: str) -> None:
        assert page.client.get(f"/p/papers/{number}").status_code == 404

    def test_who_does_not_agree_is_called(
        self, session: Session, page: Page, visit: Appointment
    ) -> None:
        told = page.paper() | {"do": "decline"}
        answers = [page.client.post("/p/papers/1", data=told) for _ in range(2)]

        assert answers[0].headers["Location"] == "/p/?done=no"
        assert answers[1].status_code == 303
        [refusal] = clearances(session)
        assert (refusal.outcome, refusal.cleared_by) == (ClearanceOutcome.REFUSED, "patient")
        assert consents(session) == []
        [task] = session.scalars(select(Task).where(Task.kind == TaskKind.CALL_PATIENT)).all()
        assert (task.patient_id, task.due_at) == (visit.patient_id, SUNDAY_NOON + 4 * HOUR)
        assert "We will call you" in page.get()
        assert page.client.get("/p/papers/1").status_code == 404

    def test_where_only_a_clinician_may_vouch_nothing_is_to_be_signed(
        self, session: Session, client: FlaskClient, make: Make, text: Any
    ) -> None:
        page = Page(session, client, make(content(who=["clinician"])))
        assert "Read and sign" not in page.get()
        assert client.get("/p/papers/1").status_code == 404

    def test_the_strictest_of_several_protocols_decides(
        self, session: Session, client: FlaskClient, make: Make, visit: Appointment, text: Any
    ) -> None:
        make(content("intravenous", who=["clinician"]), MONDAY_9 + DAY)
        assert "Read and sign" not in Page(session, client, visit).get()

    def test_without_a_text_there_is_nothing_to_sign(
        self, session: Session, client: FlaskClient, visit: Appointment
    ) -> None:
        assert "Read and sign" not in Page(session, client, visit).get()

    def test_what_would_lapse_before_the_visit_is_not_signed_yet(
        self, session: Session, client: FlaskClient, make: Make, doctor: Caller, text: Any
    ) -> None:
        visit = make(content(shuts="arrival", holds=figure(30, "d")))
        for number, day in ((1, 28), (2, 31)):
            book(session, visit, MONDAY_9 + day * DAY, SUNDAY_NOON, number)
        session.commit()
        page = Page(session, client, visit)
        assert "Read and sign" in page.get()  # for the first of them
        page.send()
        assert "Read and sign" not in page.get()


HOUR = timedelta(hours=1)


class TestLanguages:
    def test_the_text_is_the_patients_and_so_are_the_words_around(
        self, session: Session, client: FlaskClient, admin: Caller, visit: Appointment, text: Any
    ) -> None:
        facts.one(session, Patient, visit.patient_id).language = "es"
        session.commit()
        page = Page(session, client, visit)
        assert "What we agree on" in page.get()  # the clinic's own, while there is no other
        admin.post("/consent-texts", SPANISH)

        shown = client.get("/p/papers/1").text

        assert '<html lang="es">' in shown
        assert "He leído esto y estoy de acuerdo" in shown
        assert "Primero hablamos." in shown
        assert "escriba" in page.send(name="").text.lower()
        page.send()
        [signed] = consents(session)
        assert signed.language == "es"
        [copy] = page.copies()
        assert "Primero hablamos." in pdf.read(client.get(copy).data)

    def test_a_version_that_was_renewed_is_not_shown_in_any_language(
        self, session: Session, client: FlaskClient, admin: Caller, visit: Appointment, text: Any
    ) -> None:
        facts.one(session, Patient, visit.patient_id).language = "es"
        session.commit()
        admin.post("/consent-texts", SPANISH)
        admin.post("/consent-texts", TEXT | {"title": "Much better", "renews": True})
        page = Page(session, client, visit)
        assert "Much better" in page.get()
        admin.post("/consent-texts", SPANISH | {"title": "Mucho mejor"})
        assert "Mucho mejor" in page.get()


class TestRenewal:
    @pytest.mark.parametrize("renews", [True, False])
    def test_what_was_signed_ends_with_a_version_that_renews(
        self,
        session: Session,
        admin: Caller,
        page: Page,
        visit: Appointment,
        clock: Clock,
        renews: bool,
    ) -> None:
        page.send()
        dose = book(session, visit, MONDAY_9 + DAY, clock.now)
        session.commit()
        clock.now += HOUR

        admin.post("/consent-texts", TEXT | {"renews": renews, "title": "Better"})

        met = ("met", "Cleared.")
        expected = ("expired", "The text has changed since.") if renews else met
        assert state(session, dose, clock.now) == expected
        told = session.scalars(
            select(Message.recipient).where(Message.kind == MessageKind.GATE_REOPENED)
        ).all()
        both = {Recipient.PATIENT, Recipient.FRONT_DESK}
        assert set(told) == (both if renews else set())
        tasks = session.scalars(select(Task).where(Task.kind == TaskKind.SETTLE_ANEW)).all()
        assert [task.appointment_id for task in tasks] == [dose.id] * renews
        assert ("Read and sign" in page.get()) is renews
        if renews:
            page.send()
            assert state(session, dose, clock.now) == met
            assert [one.name for one in consents(session)] == [NAME, NAME]

    def test_a_text_that_changed_while_it_was_read_is_not_signed(
        self, session: Session, admin: Caller, page: Page
    ) -> None:
        told = {**page.paper(), "agree": "yes", "name": NAME, "do": "sign"}
        admin.post("/consent-texts", TEXT | {"title": "Better"})

        answer = page.client.post("/p/papers/1", data=told)

        assert answer.status_code == 422
        assert "The text has changed" in answer.text
        assert "Better" in answer.text
        assert consents(session) == []

    def test_another_route_asks_anew(
        self,
        session: Session,
        page: Page,
        visit: Appointment,
        make: Make,
        client: FlaskClient,
    ) -> None:
        page.send()
        other = make(content("intravenous"), MONDAY_9 + 3 * DAY)
        again = Page(session, client, other)
        assert "Read and sign" in again.get()
        again.send()
        assert [one.route for one in consents(session)] == ["intranasal", "intravenous"]
        dose = book(session, other, MONDAY_9 + 4 * DAY, SUNDAY_NOON)
        assert state(session, dose) == ("met", "Cleared.")
        first = book(session, visit, MONDAY_9 + DAY, SUNDAY_NOON)
        assert state(session, first) == ("met", "Cleared.")  # each for its own


def to_sign(session: Session, world: World, told: dict[str, Any]) -> tuple[UUID, Signing]:
    """A visit whose patient is asked to sign, and what they send; everybody sees it."""
    version_id = make_protocol(session, told)
    course = courses.open_course(session, world.patient_id, version_id, by=DESK)
    step = facts.steps_of(session, course.id)[0]
    order = Order(patient_id=world.patient_id, starts_at=MONDAY_9, course_step_id=step.id)
    visit_id = booking.book(session, order, by=DESK, now=SUNDAY_NOON).id
    text = signing.write(session, NewText(**TEXT), by=DESK, now=SUNDAY_NOON)
    pair = ("esketamine", "intranasal")
    session.commit()
    return visit_id, Signing(number=1, text_id=text.id, pair=pair, name=NAME, address=None)


def test_of_two_who_sign_at_once_one_does(
    committed: Session, committed_world: World, service_engine: Engine
) -> None:
    """A link pressed twice, or the pages of two visits: the second waits, and finds it signed."""
    world = committed_world
    visit_id, told = to_sign(committed, world, content())
    ready = Barrier(2)

    def sign(_: int) -> str:
        with Session(service_engine) as session:
            enter_clinic(session, world.clinic_id)
            visit = facts.one(session, Appointment, visit_id)
            ready.wait()
            try:
                signing.sign(session, visit, told, now=SUNDAY_NOON)
            except Taken:
                return "found it signed"
            session.commit()
            return "signed"

    with ThreadPoolExecutor(2) as two:
        assert sorted(two.map(sign, range(2))) == ["found it signed", "signed"]
    assert len(consents(committed)) == len(clearances(committed)) == 1


def test_who_signs_and_who_notes_an_incident_do_not_wait_for_each_other(
    committed: Session, committed_world: World, service_engine: Engine
) -> None:
    """One has the visit and would write about the patient, the other the other way round."""
    world, told = committed_world, content()
    told["incidents"] = [
        {"code": "fall", "title": "A fall", "source": SOURCE, "checklist": [DUTY]},
    ]
    visit_id, asked = to_sign(committed, world, told)
    starts_at = facts.one(committed, Appointment, visit_id).starts_at
    noted = incidents.Told(
        patient_id=world.patient_id,
        code="fall",
        occurred_at=starts_at,
        appointment_id=visit_id,
    )

    def sign() -> None:
        with Session(service_engine) as session:
            enter_clinic(session, world.clinic_id)
            visit = facts.one(session, Appointment, visit_id)
            signing.sign(session, visit, asked, now=SUNDAY_NOON)
            session.commit()

    with ThreadPoolExecutor(1) as pool, Session(service_engine) as session:
        enter_clinic(session, world.clinic_id)
        facts.to_change(session, Appointment, visit_id, None)
        signed = pool.submit(sign)
        wait_for_waiting(committed)
        incidents.record(session, noted, by=DESK, now=starts_at)
        session.commit()
        signed.result(timeout=30)
    assert len(consents(committed)) == len(committed.scalars(select(Incident)).all()) == 1


def wait_for_waiting(session: Session, seconds: float = 30) -> None:
    """Return once somebody waits for a row that somebody else has."""
    waiting = statement(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    )
    end = time.monotonic() + seconds
    while not session.scalar(waiting):
        assert time.monotonic() < end, "nobody waits"


class TestCopies:
    @pytest.fixture
    def signed(self, session: Session, page: Page) -> Consent:
        page.send()
        [signed] = consents(session)
        return signed

    def test_staff_and_patient_get_the_same_paper(
        self, session: Session, desk: Caller, page: Page, signed: Consent, clock: Clock
    ) -> None:
        path = f"/patients/{signed.patient_id}/consents"
        [listed] = desk.get(path).json["items"]
        assert (listed["id"], listed["name"], listed["route"]) == (
            str(signed.id),
            NAME,
            "intranasal",
        )
        first = desk.get(f"{path}/{signed.id}/copy")
        assert (first.status_code, first.mimetype) == (200, "application/pdf")
        clock.now += DAY
        etag = desk.get(f"/patients/{signed.patient_id}").headers["ETag"]
        changed = {"family_name": "Renamed"}
        assert desk("PATCH", path.rsplit("/", 1)[0], changed, etag=etag).status_code == 200
        assert desk.get(f"{path}/{signed.id}/copy").data == first.data
        clock.now -= DAY
        [copy] = page.copies()
        own = page.client.get(copy)
        assert own.data == first.data
        assert own.headers["Cache-Control"] == "no-store"
        told = pdf.read(first.data)
        for words in (NAME, "What we agree on", "You may stop", "127.0.0.1", str(signed.id)):
            assert words in told

    def test_reading_it_is_on_the_record(
        self, session: Session, desk: Caller, signed: Consent
    ) -> None:
        desk.get(f"/patients/{signed.patient_id}/consents/{signed.id}/copy")
        found = session.scalars(
            select(AuditEvent).where(AuditEvent.entity == "consent", AuditEvent.action == "read")
        ).all()
        assert [(one.entity_id, one.patient_id) for one in found] == [
            (signed.id, signed.patient_id)
        ]

    def test_it_is_found_under_its_patient_alone(
        self,
        session: Session,
        desk: Caller,
        key: Keyring,
        client: FlaskClient,
        page: Page,
        signed: Consent,
    ) -> None:
        other, _ = make_patient(session)
        session.commit()
        path = f"/patients/{other}/consents"
        assert desk.get(path).json["items"] == []
        for wrong in (f"{path}/{signed.id}/copy", f"{path}/{uuid4()}/copy"):
            assert desk.get(wrong).status_code == 404
        assert desk.get(f"/patients/{uuid4()}/consents").status_code == 404
        own = f"/patients/{signed.patient_id}/consents"
        assert key(Role.AUDITOR).get(own).status_code == 403
        assert key(Role.AUDITOR).get(f"{own}/{signed.id}/copy").status_code == 403
        assert client.get(f"/p/papers/{uuid4()}.pdf").status_code == 404

    def test_another_clinic_sees_none_of_it(
        self, session: Session, key: Keyring, signed: Consent, world: World
    ) -> None:
        consent_id, patient_id = signed.id, signed.patient_id
        make_world(session, "Another Practice")
        elsewhere = key(Role.CLINICIAN)
        path = f"/patients/{patient_id}/consents"
        assert elsewhere.get(path).status_code == 404
        assert elsewhere.get(f"{path}/{consent_id}/copy").status_code == 404
        assert session.scalars(select(Consent)).all() == []

    def test_a_page_of_another_course_does_not_offer_it(
        self, session: Session, client: FlaskClient, make: Make, signed: Consent
    ) -> None:
        other = Page(session, client, make(content("intravenous"), MONDAY_9 + DAY))
        assert other.copies() == []
        assert client.get(f"/p/papers/{signed.id}.pdf").status_code == 404


def test_nothing_of_it_is_said_in_messages_or_the_audit_trail(
    session: Session, page: Page, visit: Appointment
) -> None:
    page.send()
    lines = session.scalars(select(AuditEvent)).all()
    assert lines
    told = " ".join(f"{one.action} {one.entity} {one.facts}" for one in lines)
    assert not re.search(r"ketamine|nasal", told)
