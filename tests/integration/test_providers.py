"""Signing in by another site, with a real one; and everything that a token must not be."""

import html
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask import Flask
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from identity.sessions import FRESH
from models import LinkedIdentity, UserAccount, db
from models.vocabulary import Role
from tests import provider as wicked
from tests.factories import World
from tests.integration.conftest import Caller, Clock
from tests.provider import CLIENT, NOW, SECRET, Provider, provider_site
from tests.staff import Person, make_user


@pytest.fixture
def site() -> Iterator[Provider]:
    with provider_site() as site:
        yield site


@pytest.fixture
def ann(app: Flask, bound: Connection, session: Session, world: World, clock: Clock) -> Person:
    make_user(session, Role.SCHEDULER)
    return Person.at(app, world, clock)


@pytest.fixture
def provider_id(admin: Caller, site: Provider) -> str:
    told = {"name": "Work", "issuer": site.url, "client_id": CLIENT, "client_secret": SECRET}
    made = admin.post("/identity-providers", told)
    assert made.status_code == 201
    assert "secret" not in made.get_data(as_text=True)
    return str(made.json["id"])


@pytest.fixture
def linked(ann: Person, provider_id: str) -> Person:
    """Ann, who has linked her account, and is signed out."""
    ann.sign_in()
    ann.get("/account")
    ann.post(f"/account/providers/{provider_id}")
    assert back(ann).headers["Location"] == "/account?done=linked"
    ann.get("/account")
    ann.post("/sign-out")
    return ann


def leave(person: Person, provider_id: str) -> TestResponse:
    return person.post(f"/sign-in/{person.world.clinic_id}/provider/{provider_id}")


def go(person: Person) -> str:
    """Follow the page to the other site, which sends back to this path."""
    found = re.search(r'href="(http[^"]+)" rel', person.page)
    assert found, person.page
    sent = requests.get(html.unescape(found.group(1)), allow_redirects=False, timeout=10)
    parts = urlsplit(sent.headers["Location"])
    assert f"{parts.scheme}://{parts.netloc}" == "http://localhost"
    return f"{parts.path}?{parts.query}"


def back(person: Person) -> TestResponse:
    return person.get(go(person))


def is_in(person: Person) -> bool:
    return person.client.get("/api/v1/session").status_code == 200


def test_who_has_linked_comes_in_and_gives_their_factor_here(
    linked: Person, provider_id: str, clock: Clock
) -> None:
    leave(linked, provider_id)
    assert back(linked).headers["Location"] == "/sign-in/code"
    assert not is_in(linked)
    clock.now += FRESH

    assert linked.code().headers["Location"] == "/account"
    assert is_in(linked)


@pytest.mark.parametrize("ways", [["client_secret_basic"], ["client_secret_post"]])
def test_a_second_factor_there_spares_the_one_here(
    linked: Person, provider_id: str, site: Provider, ways: list[str]
) -> None:
    site.ways = ways
    site.claims = {"amr": ["pwd", "mfa"], "auth_time": NOW - 60}
    leave(linked, provider_id)

    assert back(linked).headers["Location"] == "/account"
    assert linked.client.get("/api/v1/session").json["factor_at"] == "2026-03-01T11:59:00Z"


@pytest.mark.parametrize("auth_time", [None, NOW - 3600, True, "x", NOW + 3600, -1])
def test_one_that_was_given_long_ago_or_nobody_knows_when_is_not_fresh(
    linked: Person, provider_id: str, site: Provider, auth_time: Any
) -> None:
    site.claims = {"amr": ["mfa"], "auth_time": auth_time}
    leave(linked, provider_id)
    back(linked)

    assert is_in(linked)
    assert linked.get("/account/passkeys").headers["Location"] == "/sign-in/code"


def test_who_has_no_factor_here_gives_theirs_there_anew(
    linked: Person, provider_id: str, site: Provider, session: Session, clock: Clock
) -> None:
    """And sets up no app with one that is stale: whoever finds the browser could."""
    session.scalars(select(UserAccount)).one().totp_secret = None
    session.commit()
    site.claims = {"amr": ["mfa"], "auth_time": NOW}
    leave(linked, provider_id)
    assert back(linked).headers["Location"] == "/account"
    clock.now += 2 * FRESH
    assert linked.get("/sign-in/second-factor").headers["Location"] == "/sign-in/code"
    linked.get("/sign-in/code")
    assert "Sign in by Work anew" in linked.page

    site.claims = {"amr": ["mfa"], "auth_time": NOW + 600, "iat": NOW + 600, "exp": NOW + 900}
    linked.post(f"/sign-in/{linked.world.clinic_id}/provider/{provider_id}", anew="yes")
    assert "prompt=login" in linked.page
    assert back(linked).headers["Location"] == "/account"
    assert linked.get("/sign-in/second-factor").status_code == 200


@pytest.mark.parametrize("amr", [["pwd"], [], "mfa", None, {"mfa": 1}])
def test_what_is_no_second_factor_spares_none(
    linked: Person, provider_id: str, site: Provider, amr: Any
) -> None:
    site.claims = {"amr": amr}
    leave(linked, provider_id)

    assert back(linked).headers["Location"] == "/sign-in/code"


def test_who_has_linked_ends_it_with_a_fresh_factor(
    linked: Person, provider_id: str, site: Provider, clock: Clock
) -> None:
    clock.now += FRESH / 2
    linked.sign_in()
    assert "Sign in by Work no more" in linked.get("/account").get_data(as_text=True)
    clock.now += 2 * FRESH
    path = f"/account/providers/{provider_id}/remove"
    assert linked.post(path).headers["Location"] == "/sign-in/code"
    linked.code()
    linked.get("/account")
    assert linked.post(path).headers["Location"] == "/account?done=unlinked"
    linked.get("/account")
    assert linked.post(path).status_code == 422
    linked.post("/sign-out")
    site.claims = {"amr": ["mfa"]}
    leave(linked, provider_id)

    assert back(linked).status_code == 422


def test_who_is_let_set_up_every_factor_anew_links_anew(
    linked: Person, provider_id: str, site: Provider, admin: Caller, session: Session
) -> None:
    """A thief who was in may have linked an account of their own."""
    user = session.scalars(select(UserAccount)).one()
    assert admin.post(f"/users/{user.id}/forget-factors", etag='"1"').status_code == 200
    site.claims = {"amr": ["mfa"]}
    leave(linked, provider_id)

    assert back(linked).status_code == 422
    assert linked.token() == ""


def test_nothing_of_the_database_is_held_while_another_site_is_asked(
    app: Flask, linked: Person, provider_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take a minute to answer; a transaction is ended after half of one."""
    ask, held = app.config["EXCHANGE"], []

    def noted(*told: Any) -> Any:
        held.append(db.session().in_transaction())
        return ask(*told)

    monkeypatch.setitem(app.config, "EXCHANGE", noted)
    leave(linked, provider_id)
    assert back(linked).headers["Location"] == "/sign-in/code"
    assert held == [False] * 4


def test_leaving_for_a_site_that_does_not_answer_counts_as_a_try(
    ann: Person, provider_id: str, site: Provider
) -> None:
    site.described = {"jwks_uri": None}
    told = [leave(ann, provider_id).status_code for _ in range(30)]

    assert told.count(422) <= 22
    assert 429 in told


def test_an_address_links_nobody(ann: Person, provider_id: str, site: Provider) -> None:
    site.claims = {"email": "ann@example.com", "email_verified": True}
    leave(ann, provider_id)

    assert back(ann).status_code == 422
    assert ann.token() == ""


def test_another_name_there_is_somebody_else(
    linked: Person, provider_id: str, site: Provider
) -> None:
    site.subject = "bob-at-work"
    leave(linked, provider_id)

    assert back(linked).status_code == 422


def test_one_account_there_is_one_person_here(
    app: Flask, linked: Person, session: Session, world: World, clock: Clock, provider_id: str
) -> None:
    make_user(session, email="bob@example.com")
    bob = Person.at(app, world, clock, email="bob@example.com").sign_in()
    bob.get("/account")
    bob.post(f"/account/providers/{provider_id}")

    assert back(bob).status_code == 422
    [link] = session.scalars(select(LinkedIdentity))
    assert (
        link.user_id
        == session.scalars(
            select(UserAccount.id).where(UserAccount.email.equals(session, "ann@example.com"))
        ).one()
    )


def test_a_link_is_made_in_the_browser_that_asked_for_it_alone(
    app: Flask, ann: Person, session: Session, world: World, clock: Clock, provider_id: str
) -> None:
    """A thief begins, and has Ann come back: she would be linked with the thief's account there."""
    make_user(session, email="thief@example.com")
    thief = Person.at(app, world, clock, email="thief@example.com").sign_in()
    thief.get("/account")
    thief.post(f"/account/providers/{provider_id}")
    path = go(thief)
    ann.sign_in()
    assert ann.get(path).status_code == 422
    away = thief.client.get_cookie("afterglow-away")
    assert away
    ann.client.set_cookie("afterglow-away", away.value)

    assert ann.get(path).status_code == 422
    assert session.scalars(select(LinkedIdentity)).all() == []


class TestAbuse57Tokens:
    @pytest.mark.parametrize(
        "claims",
        [
            {"iss": "https://evil.example"},
            {"iss": None},
            {"aud": "another-client"},
            {"aud": None},
            {"aud": [CLIENT, "another"]},
            {"aud": [CLIENT, "another"], "azp": "another"},
            {"azp": "another"},
            {"nonce": "of-another-sign-in"},
            {"nonce": None},
            {"exp": NOW - 61},
            {"exp": None},
            {"exp": "soon"},
            {"nbf": NOW + 3600},
            {"iat": NOW + 3600},
            {"iat": None},
            {"sub": None},
            {"sub": ""},
            {"sub": ["ann-at-work"]},
            {"sub": "x" * 256},
        ],
        ids=str,
    )
    def test_with_a_wrong_claim_opens_nothing(
        self, linked: Person, provider_id: str, site: Provider, claims: dict[str, Any]
    ) -> None:
        site.claims = {"amr": ["mfa"], **claims}
        leave(linked, provider_id)

        assert back(linked).status_code == 422
        assert linked.token() == ""

    @pytest.mark.parametrize(
        "sign",
        [
            wicked.unsigned,
            wicked.confused,
            wicked.strange,
            wicked.brought,
            wicked.climbing,
            wicked.of_another_kind,
            lambda _site, _claims: "x",
            lambda _site, _claims: None,
            lambda site, claims: site.signed(claims)[:-4] + "AAAA",
        ],
        ids=lambda sign: sign.__name__,
    )
    def test_signed_in_a_wrong_way_opens_nothing(
        self, linked: Person, provider_id: str, site: Provider, sign: Any
    ) -> None:
        site.claims, site.sign = {"amr": ["mfa"]}, sign
        leave(linked, provider_id)

        assert back(linked).status_code == 422
        assert linked.token() == ""

    def test_a_token_for_several_that_says_it_was_given_to_us_is_one_for_us(
        self, linked: Person, provider_id: str, site: Provider
    ) -> None:
        site.claims = {"amr": ["mfa"], "aud": [CLIENT, "another"], "azp": CLIENT}
        leave(linked, provider_id)

        assert back(linked).headers["Location"] == "/account"


class TestWhoComesBack:
    def test_works_once(self, linked: Person, provider_id: str, site: Provider) -> None:
        site.claims = {"amr": ["mfa"]}
        leave(linked, provider_id)
        path = go(linked)
        assert linked.get(path).status_code == 303
        linked.client.delete_cookie("afterglow")

        assert linked.get(path).status_code == 422
        assert linked.token() == ""

    def test_in_their_browser_alone(
        self, app: Flask, linked: Person, world: World, clock: Clock, provider_id: str
    ) -> None:
        leave(linked, provider_id)
        path = go(linked)
        stranger = Person.at(app, world, clock)

        assert stranger.get(path).status_code == 422

    @pytest.mark.parametrize(
        "change", ["state=x", "code=", "code=stolen", "iss=https://evil.example"]
    )
    def test_with_what_fits_together_alone(
        self, linked: Person, provider_id: str, change: str
    ) -> None:
        leave(linked, provider_id)
        name, _, value = change.partition("=")
        path = re.sub(rf"{name}=[^&]*", f"{name}={value}", go(linked))

        assert linked.get(path).status_code == 422

    def test_within_ten_minutes(self, linked: Person, provider_id: str, clock: Clock) -> None:
        leave(linked, provider_id)
        path = go(linked)
        clock.now += 2 * FRESH

        assert linked.get(path).status_code == 422

    def test_to_a_site_that_is_still_used(
        self, linked: Person, provider_id: str, admin: Caller
    ) -> None:
        leave(linked, provider_id)
        path = go(linked)
        off = admin("PATCH", f"/identity-providers/{provider_id}", {"is_active": False}, etag='"1"')
        assert off.status_code == 200

        assert linked.get(path).status_code == 422
        assert leave(linked, provider_id).status_code == 422

    def test_not_to_an_account_that_is_closed(
        self, linked: Person, provider_id: str, admin: Caller, session: Session
    ) -> None:
        user = session.scalars(select(UserAccount)).one()
        admin("PATCH", f"/users/{user.id}", {"status": "disabled"}, etag='"1"')
        leave(linked, provider_id)

        assert back(linked).status_code == 422


@pytest.mark.parametrize(
    "described",
    [
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"authorization_endpoint": 5},
    ],
    ids=str,
)
def test_a_site_that_describes_itself_wrongly_is_not_gone_to(
    linked: Person, provider_id: str, site: Provider, described: dict[str, Any]
) -> None:
    site.described = described

    assert leave(linked, provider_id).status_code == 422


def test_a_site_on_our_own_network_is_not_asked(
    app: Flask, linked: Person, provider_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from identity.asking import Asker  # noqa: PLC0415

    monkeypatch.setitem(app.config, "EXCHANGE", Asker(()).exchange)

    assert leave(linked, provider_id).status_code == 422


def test_linking_takes_a_fresh_factor(ann: Person, provider_id: str, clock: Clock) -> None:
    ann.sign_in()
    clock.now += 2 * FRESH
    ann.get("/account")

    answer = ann.post(f"/account/providers/{provider_id}")
    assert answer.headers["Location"] == "/sign-in/code"


@pytest.mark.parametrize(
    "issuer",
    [
        "accounts.example.org",
        "ftp://accounts.example.org",
        "https://user@accounts.example.org",
        "https://accounts.example.org?x=1",
        "https://accounts.example.org#x",
        "https://" + "x" * 300,
    ],
)
def test_what_cannot_be_an_issuer(admin: Caller, issuer: str) -> None:
    told = {"name": "W", "issuer": issuer, "client_id": "c", "client_secret": "s"}
    answer = admin.post("/identity-providers", told)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/issuer")


def test_sites_are_listed_without_their_secret(admin: Caller, provider_id: str) -> None:
    [one] = admin.get("/identity-providers").json["items"]
    assert admin.get(f"/identity-providers/{provider_id}").json == one
    assert set(one) == {"id", "name", "issuer", "client_id", "is_active"}
