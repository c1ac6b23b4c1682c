"""What somebody who means no good would try, and no other test tries already.

The whole list, with what is answered and the test of each, is docs/abuses.md.
"""

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from api import keys
from models import AppointmentEvent, Message, Patient, PatientLink, enter_clinic
from models.vocabulary import Channel, MessageKind, Recipient, Role
from notifications import links, reading, templates
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World, make_patient, make_world
from tests.integration.conftest import Caller, Clock
from tests.integration.test_api_appointments import order

PROBLEM = "application/problem+json"
MANY = 8


def together(*acts: Callable[[], TestResponse]) -> list[TestResponse]:
    """What came of acts that are done at the same time."""
    with ThreadPoolExecutor(len(acts)) as pool:
        return [one.result() for one in [pool.submit(act) for act in acts]]


@pytest.fixture
def anybody(app: Flask, clock: Clock, committed: Session, committed_world: World) -> Caller:
    """The desk of a clinic that every connection sees."""
    clock.now = SUNDAY_NOON
    _, secret = keys.issue(committed, "desk", Role.SCHEDULER, None, SUNDAY_NOON)
    committed.commit()
    return Caller(app.test_client(), secret)


def another(caller: Caller) -> Caller:
    """The same caller, at the same time as themselves."""
    return Caller(caller.client.application.test_client(), caller.key)


class TestAbuse4AnotherClinic:
    @pytest.mark.parametrize("name", ["X-Tenant-Id", "X-Clinic-Id", "X-Forwarded-Host", "Host"])
    def test_a_header_names_no_clinic(
        self, desk: Caller, session: Session, world: World, name: str
    ) -> None:
        other = make_world(session, "Another Practice")
        enter_clinic(session, world.clinic_id)
        session.commit()
        told = {name: "elsewhere.example" if "Host" in name else str(other.clinic_id)}

        shown = desk.get("/patients", **told)

        assert [one["id"] for one in shown.json["items"]] == [str(world.patient_id)]
        assert "elsewhere" not in shown.text
        assert desk.get("/clinic", **told).json["id"] == str(world.clinic_id)

    @pytest.mark.parametrize("name", ["tenant_id", "clinic_id"])
    def test_neither_does_a_query_or_a_body(self, desk: Caller, world: World, name: str) -> None:
        assert desk.get(f"/patients?{name}={uuid4()}").status_code == 422
        answer = desk.post("/appointments", order(world, **{name: str(uuid4())}))
        assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, f"/{name}")


class TestAbuse10TwoEditors:
    @pytest.mark.parametrize("what", ["patient", "clinic"])
    def test_one_of_them_wins_and_nothing_is_lost(
        self, anybody: Caller, committed: Session, committed_world: World, what: str
    ) -> None:
        """Most are found and locked in one place; the clinic has one of its own."""
        patient = f"/patients/{committed_world.patient_id}"
        path, name = (patient, "given_name") if what == "patient" else ("/clinic", "name")
        _, secret = keys.issue(committed, "admin", Role.ADMIN, None, SUNDAY_NOON)
        committed.commit()
        editor = Caller(anybody.client, secret)

        def change(number: int) -> Callable[[], TestResponse]:
            me, told = another(editor), {name: f"Ada {number}"}
            return lambda: me("PATCH", path, told, etag='"1"')

        answers = together(*(change(number) for number in range(MANY)))

        assert Counter(one.status_code for one in answers) == {200: 1, 412: MANY - 1}
        [won] = [one for one in answers if one.status_code == 200]
        now = editor.get(path)
        assert (now.json[name], now.headers["ETag"]) == (won.json[name], '"2"')


class TestAbuse11TheSameAtOnce:
    def test_it_is_done_once(self, anybody: Caller, committed: Session) -> None:
        told = {
            "record_number": "R-1",
            "given_name": "Ann",
            "family_name": "Example",
            "birth_date": "1980-01-01",
            "time_zone": "America/New_York",
        }

        def send() -> Callable[[], TestResponse]:
            me = another(anybody)
            return lambda: me.post("/patients", told, **{"Idempotency-Key": "once-and-no-more"})

        answers = together(*(send() for _ in range(MANY)))

        assert {one.status_code for one in answers} <= {201, 409}
        assert len({one.json["id"] for one in answers if one.status_code == 201}) == 1
        waited = [one for one in answers if one.status_code == 409]
        assert {one.json["type"] for one in waited} <= {"/problems/still-running"}
        made = select(func.count()).where(Patient.record_number == "R-1")
        assert committed.scalar(made) == 1


class TestAbuse15Confirming:
    def test_twice_at_once_it_is_confirmed_once(
        self, anybody: Caller, committed: Session, committed_world: World
    ) -> None:
        held = anybody.post("/appointments/hold", order(committed_world))
        path = f"/appointments/{held.json['id']}/confirm"

        def confirm() -> Callable[[], TestResponse]:
            me = another(anybody)
            return lambda: me.post(path, etag=held.headers["ETag"])

        answers = together(*(confirm() for _ in range(MANY)))

        assert Counter(one.status_code for one in answers) == {200: 1, 412: MANY - 1}
        happened = committed.scalars(select(AppointmentEvent.action)).all()
        assert Counter(happened) == {"hold": 1, "confirm": 1}
        said = select(func.count()).where(Message.kind == MessageKind.CONFIRMATION)
        assert committed.scalar(said) == 1

    def test_a_hold_that_ran_out_is_gone(self, desk: Caller, world: World, clock: Clock) -> None:
        held = desk.post("/appointments/hold", order(world))
        clock.now += timedelta(hours=1)

        answer = desk.post(f"/appointments/{held.json['id']}/confirm", etag=held.headers["ETag"])

        assert (answer.status_code, answer.json["type"]) == (409, "/problems/hold-expired")


def test_abuse_17_nobody_is_in_two_rooms_at_one_time(desk: Caller, world: World) -> None:
    assert desk.post("/appointments", order(world)).status_code == 201
    assert desk.post("/appointments", order(world, assignments=None)).status_code == 409


@pytest.mark.parametrize(
    "told",
    [
        "2026-03-02T09:00:00",
        "2026-W10-1T09:00:00Z",
        "20260302T090000Z",
        "2026-03-02T09:00:60Z",
        "2026-03-02T09:00Z",
        "2026-02-30T09:00:00Z",
        1_772_442_000,
        None,
    ],
)
def test_abuse_23_what_is_no_instant_is_refused(desk: Caller, world: World, told: Any) -> None:
    answer = desk.post("/appointments", order(world, starts_at=told))
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/starts_at")


class TestAbuse25Lengths:
    @pytest.mark.parametrize("minutes", [0, -5, 4, 1441, 1500, 10**9, 10**30, "60", 1.5])
    def test_of_working_time(self, admin: Caller, world: World, minutes: Any) -> None:
        told = {"site_id": str(world.site_id), "first_start": "2026-03-02T09:00"}
        path = f"/schedules/{world.therapist}/opening-hours"
        answer = admin.post(path, {**told, "minutes": minutes})
        assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/minutes")

    @pytest.mark.parametrize("hours", [0, -1])
    def test_of_a_closure(self, admin: Caller, world: World, hours: int) -> None:
        ends = MONDAY_9 + timedelta(hours=hours)
        told = {"starts_at": MONDAY_9.isoformat(), "ends_at": ends.isoformat(), "reason": "x"}
        assert admin.post(f"/schedules/{world.therapist}/closures", told).status_code == 422


@pytest.mark.parametrize(
    "query",
    ["page=100000000000000000000000000", "offset=10", "sort=name", "order_by=1;DROP TABLE patient"],
)
def test_abuse_27_pages_are_asked_for_in_one_way(desk: Caller, query: str) -> None:
    assert desk.get(f"/patients?{query}").status_code == 422


class TestAbuse28Nul:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/api/v1/instruments/%00", 422),
            ("/api/v1/patients/%00", 422),
            ("/api/v1/patients?q=%00", 422),
            ("/p/%00", 404),
            ("/e/%00", 404),
            ("/u/%00", 404),
            ("/calendar/%00.ics", 404),
            ("/problems/%00", 404),
            ("/p/static/%00", 404),
        ],
    )
    def test_in_an_address(self, desk: Caller, path: str, status: int) -> None:
        told = {"Authorization": f"Bearer {desk.key}"}
        assert desk.client.get(path, headers=told).status_code == status

    @pytest.mark.parametrize("field", ["email", "password"])
    def test_in_the_form_of_signing_in(self, client: FlaskClient, world: World, field: str) -> None:
        told = {"email": "a@example.com", "password": "x" * 12, field: "a\x00@example.com"}
        path, ours = f"/sign-in/{world.clinic_id}", {"Sec-Fetch-Site": "same-origin"}
        assert client.post(path, data=told, headers=ours).status_code == 422
        forgot = client.post(f"{path}/forgot", data=told, headers=ours)
        assert forgot.status_code in {200, 303, 422}


class TestAbuse30Letters:
    def person(self, name: str) -> dict[str, str]:
        return {
            "record_number": "R-1",
            "given_name": name,
            "family_name": "Example",
            "birth_date": "1980-01-01",
            "time_zone": "America/New_York",
        }

    @pytest.mark.parametrize("letter", "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    def test_that_reorder_others_are_refused(self, desk: Caller, letter: str) -> None:
        assert desk.post("/patients", self.person(f"Ann{letter}")).status_code == 422

    @pytest.mark.parametrize(
        ("told", "kept"),
        [
            ("A\u030asa", "\u00c5sa"),
            ("\U0001f469\u200d\u2695\ufe0f", "\U0001f469\u200d\u2695\ufe0f"),
            ("Z" + "\u0317\u0300" * 60, None),
            ("\u0410nna", "\u0410nna"),
        ],
        ids=["combined", "joined", "heaped", "lookalike"],
    )
    def test_of_other_kinds_are_kept_as_people_write_them(
        self, desk: Caller, told: str, kept: str | None
    ) -> None:
        made = desk.post("/patients", self.person(told))
        assert made.status_code == 201, made.json
        shown = desk.get(made.headers["Location"]).json["given_name"]
        assert kept is None or shown == kept


class TestAbuse31Size:
    @pytest.mark.parametrize(
        ("path", "kind", "body"),
        [
            ("/api/v1/patients", "application/json", b'"' + b"x" * 300_000 + b'"'),
            ("/api/v1/imports?kind=sites", "text/csv", b"name,address\n" * 1_000_000),
            ("/sign-out", "application/x-www-form-urlencoded", b"form=" + b"x" * 300_000),
        ],
    )
    def test_in_pieces_without_a_length_it_is_as_much_too_large(
        self, admin: Caller, path: str, kind: str, body: bytes
    ) -> None:
        """Werkzeug cuts it off in silence: half a file would be read in as if it were whole."""
        answer = admin.client.open(
            path,
            method="POST",
            headers={"Authorization": f"Bearer {admin.key}", "Content-Type": kind},
            input_stream=BytesIO(body),
            environ_overrides={"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True},
        )
        assert answer.status_code == 413

    def test_a_word_of_a_hundred_thousand_letters_is_refused(self, desk: Caller) -> None:
        told = TestAbuse30Letters().person("x" * 100_000)
        answer = desk.post("/patients", told)
        assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/given_name")


@pytest.mark.parametrize(
    "told", ["text/plain", "application/x-www-form-urlencoded", "application/xml", None]
)
def test_abuse_33_what_is_not_json_is_not_read(desk: Caller, told: str | None) -> None:
    headers = {"Authorization": f"Bearer {desk.key}"}
    answer = desk.client.post(
        "/api/v1/patients", data=b'{"given_name": "Ann"}', content_type=told, headers=headers
    )
    assert (answer.status_code, answer.mimetype) == (415, PROBLEM)


class TestAbuse35Sql:
    @pytest.mark.parametrize("told", ["' OR '1'='1", "'; DROP TABLE patient; --", "%", "_", "\\"])
    def test_in_a_search_it_is_letters(self, desk: Caller, world: World, told: str) -> None:
        answer = desk.client.get(
            "/api/v1/patients",
            query_string={"q": told},
            headers={"Authorization": f"Bearer {desk.key}"},
        )
        assert (answer.status_code, (answer.json or {})["items"]) == (200, [])
        assert len(desk.get("/patients").json["items"]) == 1

    @pytest.mark.parametrize(
        "query", ["cursor=' OR 1=1", "status=' OR 1=1", "patient_id=' OR 1=1", "from=' OR 1=1"]
    )
    def test_in_a_filter_it_is_refused(self, desk: Caller, query: str) -> None:
        assert desk.get(f"/appointments?{query}").status_code == 422

    @pytest.mark.parametrize(
        "name", ["If-None-Match", "X-Request-Id", "traceparent", "User-Agent", "Idempotency-Key"]
    )
    def test_in_a_header_it_has_no_effect(self, desk: Caller, name: str) -> None:
        assert desk.get("/patients", **{name: "'; DROP TABLE patient; --"}).status_code == 200
        assert len(desk.get("/patients").json["items"]) == 1


@pytest.mark.parametrize(
    "told",
    [
        "{{7*7}}",
        "{{''.__class__}}",
        "{% for x in range(9) %}y{% endfor %}",
        "((unknown))",
        "%(name)s",
        "{0.__class__}",
    ],
)
def test_abuse_38_what_looks_like_a_template_is_said_as_it_stands(admin: Caller, told: str) -> None:
    words = {"kind": "reminder", "language": "en", "subject": "Hello", "body": f"$link {told}"}
    assert admin.post("/wordings", words).status_code == 201
    assert told in admin.get("/message-preview?kind=reminder").json["body"]


@pytest.mark.parametrize("told", ["${x}", "$x", "${link.__class__}", "$_"])
def test_abuse_38_what_asks_for_anything_else_is_refused(admin: Caller, told: str) -> None:
    words = {"kind": "reminder", "language": "en", "subject": "Hello", "body": f"$link {told}"}
    assert admin.post("/wordings", words).status_code == 422


EVIL = "<script>alert(1)</script>"


class TestAbuse39Markup:
    def test_it_is_text_on_the_patients_page(
        self, client: FlaskClient, session: Session, desk: Caller, world: World
    ) -> None:
        patient_id, _ = make_patient(session, given_name=EVIL, family_name=EVIL)
        session.commit()
        visit = desk.post("/appointments", order(world, patient_id=str(patient_id))).json
        told = {"name": EVIL, "phone": "212 555 0123", "relation": EVIL}
        path = f"/appointments/{visit['id']}/escort"
        assert desk("PUT", path, told, etag='"0"').status_code in {200, 201}
        link(client, session, visit["id"], patient_id)

        shown = prove(client)

        assert EVIL not in shown.text
        assert "&lt;script&gt;" in shown.text
        policy = shown.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "unsafe-inline" not in policy

    def test_it_is_text_in_a_mail(self) -> None:
        letter = templates.sample(MessageKind.REMINDER, Recipient.PATIENT, Channel.EMAIL, "en")
        evil = replace(letter, reader_name=EVIL, patient_name=EVIL, clinic=EVIL)
        said = templates.render([evil], templates.Links({evil.message_id: "https://x/p/y"}, ""))
        assert EVIL in said.body
        assert "<script" not in said.html


def link(client: FlaskClient, session: Session, visit_id: Any, patient_id: Any) -> str:
    """A patient follows the link to a visit."""
    new = links.New(visit_id, patient_id, MONDAY_9 + DAY)
    [token] = links.mint(reading.raw(session), [new])
    session.commit()
    assert client.get(f"/p/{token}").status_code == 303
    return token


def form_of(client: FlaskClient) -> str:
    """What the form that asks for the date of birth carries."""
    found = re.search(r'name="form" value="([^"]+)"', client.get("/p/").text)
    assert found is not None
    return found[1]


def told(client: FlaskClient, form: str, born: str, **more: Any) -> TestResponse:
    """They say when they were born."""
    year, month, day = born.split("-")
    parts = {"form": form, "year": year, "month": month, "day": day}
    return client.post("/p/birth-date", data=parts, **more)


def prove(client: FlaskClient, born: str = "1980-05-17", **more: Any) -> TestResponse:
    """The same; what is shown then."""
    answer = told(client, form_of(client), born, **more)
    return client.get("/p/") if answer.status_code == 303 else answer


class TestAbuse54Links:
    @pytest.fixture
    def token(self, session: Session, desk: Caller, client: FlaskClient, world: World) -> str:
        visit = desk.post("/appointments", order(world)).json
        return link(client, session, visit["id"], world.patient_id)

    def test_what_is_no_link_looks_like_one_that_was(
        self, app: Flask, session: Session, token: str, clock: Clock
    ) -> None:
        stranger = app.test_client()
        wrong = [token[:-1], token.swapcase(), f"{token}A", "x", "0" * 43, token[::-1]]
        answers = [stranger.get(f"/p/{one}") for one in wrong]
        clock.now += 3 * DAY
        answers.append(stranger.get(f"/p/{token}"))  # it has run out
        clock.now -= 3 * DAY
        assert stranger.get(f"/p/{token}").status_code == 303
        session.execute(text("UPDATE patient_link SET revoked_at = now()"))
        session.commit()
        answers.append(stranger.get(f"/p/{token}"))

        assert {one.status_code for one in answers} == {404}
        assert len({one.get_data() for one in answers}) == 1
        assert not any("Set-Cookie" in one.headers for one in answers)


class TestAbuse55BirthDates:
    def test_five_wrong_ones_shut_a_link(
        self, session: Session, desk: Caller, client: FlaskClient, world: World
    ) -> None:
        visit = desk.post("/appointments", order(world)).json
        link(client, session, visit["id"], world.patient_id)
        form = form_of(client)

        days = (10, 11, 12, 13, 14, 15, 17)  # the right one comes too late
        tried = [told(client, form, f"1980-05-{day}").status_code for day in days]

        assert tried == [422] * 4 + [403] * 3
        assert session.scalars(select(PatientLink.tries)).all() == [5]

    def test_behind_many_links_they_are_slowed(
        self, session: Session, desk: Caller, client: FlaskClient, world: World, clock: Clock
    ) -> None:
        visit = desk.post("/appointments", order(world)).json
        tried = Counter[int]()
        for _ in range(6):
            link(client, session, visit["id"], world.patient_id)
            tried.update(prove(client, f"1980-05-{day}").status_code for day in range(10, 14))

        assert tried == {422: 21, 429: 3}
        late = prove(client)
        assert (late.status_code, late.headers["Retry-After"]) == (429, "3")
        clock.now += timedelta(minutes=1)
        assert "March" in prove(client).text
