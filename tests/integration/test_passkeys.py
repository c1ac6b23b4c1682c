"""Passkeys: made with a fresh factor, for this site, by a device that knows its owner."""

import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from models import Passkey, UserAccount, enter_clinic
from models.vocabulary import Role, UserStatus
from tests.factories import World, make_world
from tests.integration.conftest import Caller, Clock
from tests.passkey import Device
from tests.staff import Person, make_user


@pytest.fixture
def ann(app: Flask, bound: Connection, session: Session, world: World, clock: Clock) -> Person:
    make_user(session, Role.SCHEDULER)
    return Person.at(app, world, clock)


def options(person: Person) -> str:
    """What the page's form has a device answer."""
    found = re.search(r'data-options="([^"]+)"', person.page)
    assert found, person.page
    return html.unescape(found.group(1))


def register(ann: Person, device: Device) -> int:
    ann.get("/account/passkeys")
    told = device.make(options(ann))
    return ann.post("/account/passkeys", name="My telephone", answer=told).status_code


def ask(person: Person) -> str:
    person.post(f"/sign-in/{person.world.clinic_id}/passkey")
    return options(person)


def answer(person: Person, told: str) -> Any:
    return person.post(f"/sign-in/{person.world.clinic_id}/passkey/answer", answer=told)


@pytest.fixture
def device(ann: Person) -> Device:
    """Ann's, with a passkey; she is signed out again."""
    made = Device()
    ann.sign_in()
    assert register(ann, made) == 303
    assert "My telephone" in ann.get("/account/passkeys").get_data(as_text=True)
    ann.post("/sign-out")
    return made


def test_a_passkey_signs_in_with_nothing_else(ann: Person, device: Device) -> None:
    before = ask(ann)

    assert answer(ann, device.sign(before)).headers["Location"] == "/account"
    assert ann.client.get("/api/v1/session").json["name"] == "Ann Example"


def test_an_answer_is_taken_once(ann: Person, device: Device) -> None:
    told = device.sign(ask(ann))
    away = ann.client.get_cookie("afterglow-away")
    assert away
    assert answer(ann, told).status_code == 303
    ann.client.set_cookie("afterglow-away", away.value)

    assert answer(ann, told).status_code == 422


def test_a_refused_answer_ends_the_asking(ann: Person, device: Device) -> None:
    asked = ask(ann)
    assert answer(ann, "{}").status_code == 422

    assert answer(ann, device.sign(asked)).status_code == 422


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "https://evil.example"},
        {"host": "evil.example"},
        {"verified": False},
        {"id": b"another" * 4},
        {"key": Device().key},
        {"count": -1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_device_must_not_do_opens_nothing(
    ann: Person, device: Device, session: Session, change: dict[str, Any]
) -> None:
    assert answer(ann, device.sign(ask(ann))).status_code == 303
    ann.get("/account")
    ann.post("/sign-out")
    for name, value in change.items():
        setattr(device, name, value)

    assert answer(ann, device.sign(ask(ann))).status_code == 422
    assert ann.token() == ""


@pytest.mark.parametrize(
    "told", ["", "x", "[]", "{}", "[" * 20_000, '{"rawId": 5}', '{"rawId": "AA"}']
)
def test_what_is_no_answer_is_refused_kindly(ann: Person, device: Device, told: str) -> None:
    ask(ann)

    assert answer(ann, told).status_code == 422


@pytest.mark.parametrize("told", ["", "x", "[]", "{}", "[" * 20_000, '{"rawId": 5}'])
def test_nor_is_one_made_of_what_is_no_answer(ann: Person, told: str) -> None:
    ann.sign_in()
    ann.get("/account/passkeys")

    assert ann.post("/account/passkeys", name="x", answer=told).status_code == 422


def test_a_device_that_makes_the_same_one_again_is_told_so(ann: Person, device: Device) -> None:
    """It is asked not to; a device that is nobody's friend does all the same."""
    answer(ann, device.sign(ask(ann)))

    assert register(ann, device) == 422


@pytest.mark.parametrize("change", [{"origin": "https://evil.example"}, {"verified": False}])
def test_none_is_made_for_another_site_or_without_its_owner(
    ann: Person, session: Session, change: dict[str, Any]
) -> None:
    ann.sign_in()

    assert register(ann, Device(**change)) == 422
    assert session.scalars(select(Passkey)).all() == []


def test_one_is_made_and_removed_with_a_fresh_factor_alone(
    ann: Person, device: Device, clock: Clock, session: Session
) -> None:
    answer(ann, device.sign(ask(ann)))
    [passkey] = session.scalars(select(Passkey))
    ann.get("/account/passkeys")
    told = Device().make(options(ann))
    clock.now += timedelta(minutes=6)
    assert ann.get("/account/passkeys").headers["Location"] == "/sign-in/code"
    for path, form in (
        ("/account/passkeys", {"name": "x", "answer": told}),
        (f"/account/passkeys/{passkey.id}/remove", {}),
    ):
        ann.get("/account")
        assert ann.post(path, **form).headers["Location"] == "/sign-in/code"
    ann.code()
    ann.get("/account/passkeys")
    assert ann.post(f"/account/passkeys/{passkey.id}/remove").status_code == 303
    ann.post("/sign-out")

    assert answer(ann, device.sign(ask(ann))).status_code == 422


def test_it_opens_no_account_that_is_closed_nor_one_of_another_clinic(
    ann: Person, device: Device, admin: Caller, session: Session, world: World
) -> None:
    other = make_world(session, "Another Practice")
    enter_clinic(session, world.clinic_id)
    session.commit()
    ann.world = other
    assert answer(ann, device.sign(ask(ann))).status_code == 422
    ann.world = world
    user = session.scalars(select(UserAccount)).one()
    closed = admin("PATCH", f"/users/{user.id}", {"status": UserStatus.DISABLED}, etag='"1"')
    assert closed.status_code == 200

    assert answer(ann, device.sign(ask(ann))).status_code == 422


def test_a_passkey_of_another_person_cannot_be_removed(
    app: Flask, ann: Person, device: Device, session: Session, world: World, clock: Clock
) -> None:
    make_user(session, email="bob@example.com")
    bob = Person.at(app, world, clock, email="bob@example.com").sign_in()
    [passkey] = session.scalars(select(Passkey))
    bob.get("/account/passkeys")

    assert bob.post(f"/account/passkeys/{passkey.id}/remove").status_code == 422
    assert answer(ann, device.sign(ask(ann))).status_code == 303


class TestSteppingUp:
    """Somebody whose only factor here is a passkey shows it anew."""

    @pytest.fixture
    def stale(self, ann: Person, device: Device, session: Session, clock: Clock) -> Person:
        """Ann, without an app, who signed in some minutes ago."""
        user = session.scalars(select(UserAccount)).one()
        user.totp_secret = None
        session.commit()
        assert answer(ann, device.sign(ask(ann))).headers["Location"] == "/account"
        clock.now += timedelta(minutes=6)
        return ann

    def asked(self, ann: Person) -> str:
        told = ann.api("POST", "/session/step-up/passkey")
        assert told.status_code == 200, told.json
        return json.dumps(told.json["options"])

    def step_up(self, ann: Person, told: str) -> Any:
        return ann.api("POST", "/session/step-up", {"passkey": json.loads(told)})

    def test_over_rest(self, stale: Person, device: Device) -> None:
        before, csrf = stale.token(), stale.csrf()
        asked = self.asked(stale)
        [allowed] = json.loads(asked)["allowCredentials"]

        done = self.step_up(stale, device.sign(asked))

        assert (done.status_code, done.json["factor_at"]) == (200, "2026-03-01T12:06:00Z"), (
            done.json
        )
        assert allowed["id"] == json.loads(device.sign(asked))["id"]
        assert stale.token() != before
        assert done.json["csrf_token"] != csrf
        assert stale.get("/account/passkeys").status_code == 200

    def test_on_the_page(self, stale: Person, device: Device) -> None:
        assert stale.get("/account/passkeys").headers["Location"] == "/sign-in/code"
        stale.get("/sign-in/code")
        assert 'name="code"' not in stale.page
        stale.post("/sign-in/code/passkey")
        told = device.sign(options(stale))

        shown = stale.post("/sign-in/code/passkey/answer", answer=told)

        assert shown.headers["Location"] == "/account"
        assert stale.get("/account/passkeys").status_code == 200

    def test_an_answer_is_good_once_and_for_what_was_asked(
        self, stale: Person, device: Device
    ) -> None:
        first = device.sign(self.asked(stale))
        assert self.step_up(stale, first).status_code == 200
        assert self.step_up(stale, first).status_code == 422
        older = self.asked(stale)
        self.asked(stale)
        assert self.step_up(stale, device.sign(older)).status_code == 422

    def test_a_refused_answer_ends_the_asking(self, stale: Person, device: Device) -> None:
        asked = self.asked(stale)
        assert self.step_up(stale, "{}").status_code == 422
        refused = self.step_up(stale, device.sign(asked))

        assert (refused.status_code, refused.json["type"]) == (422, "/problems/not-proven")

    @pytest.mark.parametrize(
        "change",
        [
            {"origin": "https://evil.example"},
            {"host": "evil.example"},
            {"verified": False},
            {"key": Device().key},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_what_a_device_must_not_do_is_no_factor(
        self, stale: Person, device: Device, change: dict[str, Any]
    ) -> None:
        for name, value in change.items():
            setattr(device, name, value)

        assert self.step_up(stale, device.sign(self.asked(stale))).status_code == 422

    def test_nor_is_somebody_elses_passkey(
        self, app: Flask, stale: Person, session: Session, world: World, clock: Clock
    ) -> None:
        make_user(session, email="bob@example.com")
        bob = Person.at(app, world, clock, email="bob@example.com").sign_in()
        bobs = Device()
        assert register(bob, bobs) == 303

        assert self.step_up(stale, bobs.sign(self.asked(stale))).status_code == 422

    @pytest.mark.parametrize("body", [{}, {"code": "123456", "passkey": {}}, {"passkey": "x"}])
    def test_it_is_one_or_the_other(self, stale: Person, body: dict[str, Any]) -> None:
        refused = stale.api("POST", "/session/step-up", body)

        assert (refused.status_code, refused.json["type"]) == (422, "/problems/invalid")

    def test_who_has_none_is_told_so(self, ann: Person) -> None:
        ann.sign_in()

        assert ann.api("POST", "/session/step-up/passkey").status_code == 422

    def test_a_passkey_is_a_second_factor_after_a_password(
        self, stale: Person, device: Device, clock: Clock
    ) -> None:
        stale.get("/account")
        stale.post("/sign-out")
        assert stale.password().headers["Location"] == "/sign-in/code"
        assert stale.get("/sign-in/second-factor").headers["Location"] == "/sign-in/code"

        stale.get("/sign-in/code")
        stale.post("/sign-in/code/passkey")
        shown = stale.post("/sign-in/code/passkey/answer", answer=device.sign(options(stale)))

        assert shown.headers["Location"] == "/account"

    def test_no_app_takes_its_place_without_it(self, stale: Person) -> None:
        """Who finds a browser where somebody is signed in sets up no app of their own."""
        assert stale.get("/sign-in/second-factor").headers["Location"] == "/sign-in/code"
        stale.get("/sign-in/code")
        assert stale.post("/sign-in/second-factor", code="123456").headers["Location"] == (
            "/sign-in/code"
        )
