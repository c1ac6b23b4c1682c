"""Taking an invitation up by the clinic's own site: once, for the address that was invited."""

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from flask import Flask
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7
from werkzeug.test import TestResponse

from database import access
from identity import accounts
from models import AccountToken, IdentityProvider, LinkedIdentity, UserAccount, enter_clinic
from models.vocabulary import Role, UserStatus
from notifications.channels.smtp import Server, SmtpChannel
from notifications.delivery import Delivery
from tests.factories import SUNDAY_NOON, World
from tests.fakes import MailServer, mail_server
from tests.integration.conftest import Clock
from tests.provider import CLIENT, NOW, SECRET, Provider, provider_site
from tests.staff import Person, make_user

VOUCHED = {"email": "Ann@Example.com", "email_verified": True}
TWO_FACTORS = {"amr": ["pwd", "mfa"], "auth_time": NOW - 60}


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def delivery(server: MailServer, worker_engine: Engine, clock: Clock) -> Iterator[Delivery]:
    clock.now = SUNDAY_NOON
    made = Delivery(
        lambda: access.connect(worker_engine.url),
        [SmtpChannel(Server(host="127.0.0.1", port=server.port, security="none"))],
        clock,
        "https://clinic.example",
    )
    yield made
    made.close()


@pytest.fixture
def site() -> Iterator[Provider]:
    with provider_site() as site:
        site.claims = {**VOUCHED, **TWO_FACTORS}
        yield site


class House:
    """A clinic with a site of its own, that has invited Ann."""

    def __init__(self, app: Flask, session: Session, world: World, clock: Clock) -> None:
        self.app, self.session, self.world, self.clock = app, session, world, clock
        self.provider_id = uuid7()
        self.path = ""

    def person(self) -> Person:
        return Person.at(self.app, self.world, self.clock)

    def reader(self) -> Person:
        """Somebody who follows the link of the invitation, in a browser of their own."""
        person = self.person()
        assert person.get(self.path).headers["Location"] == "/sign-in/new-password"
        person.get("/sign-in/new-password")
        return person

    def leave(self, person: Person) -> TestResponse:
        return person.post(f"/sign-in/new-password/provider/{self.provider_id}")

    def ann(self) -> UserAccount:
        return self.user("ann@example.com")

    def user(self, email: str) -> UserAccount:
        self.session.rollback()
        enter_clinic(self.session, self.world.clinic_id)
        return self.session.scalars(
            select(UserAccount).where(UserAccount.email.equals(self.session, email))
        ).one()

    def linked(self) -> list[Any]:
        self.session.rollback()
        enter_clinic(self.session, self.world.clinic_id)
        return list(self.session.scalars(select(LinkedIdentity.user_id)))


@pytest.fixture
def house(
    app: Flask,
    committed: Session,
    committed_world: World,
    clock: Clock,
    site: Provider,
    delivery: Delivery,
    server: MailServer,
) -> House:
    house = House(app, committed, committed_world, clock)
    enter_clinic(committed, committed_world.clinic_id)
    committed.add(
        IdentityProvider(
            id=house.provider_id,
            name="Work",
            issuer=site.url,
            client_id=CLIENT,
            client_secret=SECRET,
            is_active=True,
            version=1,
        )
    )
    told = accounts.Invitation(email="ann@example.com", name="Ann", roles=[Role.SCHEDULER])
    accounts.invite(committed, told, SUNDAY_NOON)
    committed.commit()
    house.path = mailed(delivery, server)
    return house


def mailed(delivery: Delivery, server: MailServer) -> str:
    """The path that the last mail leads to."""
    delivery.sweep()
    body = server.mails[-1].get_body(("plain",))
    assert body is not None
    found = re.search(r"https://clinic\.example(/\S+)", body.get_content())
    assert found
    return found.group(1)


def back(person: Person) -> TestResponse:
    """Follow the page to the other site, and back."""
    found = re.search(r'href="(http[^"]+)" rel', person.page)
    assert found, person.page
    sent = requests.get(html.unescape(found.group(1)), allow_redirects=False, timeout=10)
    return person.get(sent.headers["Location"].removeprefix("http://localhost"))


def is_in(person: Person) -> bool:
    return person.client.get("/api/v1/session").status_code == 200


def test_who_was_invited_comes_in_by_the_site_and_has_no_password(
    house: House, delivery: Delivery, server: MailServer
) -> None:
    ann = house.reader()
    assert "Sign in by Work instead" in ann.page
    house.leave(ann)

    assert back(ann).headers["Location"] == "/account"

    assert is_in(ann)
    user = house.ann()
    assert (user.status, user.password_hash) == (UserStatus.ACTIVE, None)
    assert user.accepted_at == SUNDAY_NOON
    assert house.linked() == [user.id]
    assert "You have none" in ann.get("/account").get_data(as_text=True)
    later = house.person()
    later.post(f"/sign-in/{house.world.clinic_id}/provider/{house.provider_id}")
    assert back(later).headers["Location"] == "/account"
    before = len(server.mails)
    later.post(f"/sign-in/{house.world.clinic_id}/forgot", email="ann@example.com")
    delivery.sweep()
    assert len(server.mails) == before
    assert later.password().status_code == 422


def test_without_a_second_factor_there_one_is_set_up_here(house: House, site: Provider) -> None:
    site.claims = VOUCHED
    ann = house.reader()
    house.leave(ann)
    assert back(ann).headers["Location"] == "/sign-in/code"
    assert not is_in(ann)
    assert ann.get("/sign-in/code").headers["Location"] == "/sign-in/second-factor"

    ann.get("/sign-in/second-factor")
    shown = re.search(r"<code>(\w+)</code>", ann.page)
    assert shown
    ann.secret = shown.group(1)
    ann.post("/sign-in/second-factor", code=ann.right_code())
    assert is_in(ann)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"email": "ann@example.com"},
        {"email": "ann@example.com", "email_verified": False},
        {"email": "ann@example.com", "email_verified": "true"},
        {"email": "ann@example.com", "email_verified": 1},
        {"email": "bob@example.com", "email_verified": True},
        {"email": ["ann@example.com"], "email_verified": True},
        {"email_verified": True},
    ],
    ids=str,
)
def test_the_site_vouches_for_the_address_that_was_invited_or_nothing_happens(
    house: House, site: Provider, claims: dict[str, Any]
) -> None:
    site.claims = {**TWO_FACTORS, **claims}
    ann = house.reader()
    house.leave(ann)

    assert back(ann).status_code == 422

    assert not is_in(ann)
    assert (house.ann().status, house.linked()) == (UserStatus.INVITED, [])
    assert "Choose a password" in house.reader().page


def test_abuse_53_an_invitation_is_taken_up_once(house: House) -> None:
    ann, other = house.reader(), house.reader()
    house.leave(ann)
    house.leave(other)
    assert back(ann).status_code == 303

    assert back(other).status_code == 422
    assert not is_in(other)
    assert other.get("/sign-in/new-password").status_code == 404
    assert house.leave(other).status_code == 422


def test_abuse_53_an_account_that_is_there_is_never_touched(house: House, site: Provider) -> None:
    enter_clinic(house.session, house.world.clinic_id)
    bob = make_user(house.session, Role.ADMIN, email="bob@example.com")
    kept = (bob.id, bob.roles, bob.password_hash, bob.version)
    house.session.add(
        LinkedIdentity(
            id=uuid7(), user_id=bob.id, provider_id=house.provider_id, subject=site.subject
        )
    )
    house.session.commit()
    ann = house.reader()
    house.leave(ann)

    assert back(ann).status_code == 422

    assert not is_in(ann)
    assert house.ann().status is UserStatus.INVITED
    found = house.user("bob@example.com")
    assert (found.id, found.roles, found.password_hash, found.version) == kept
    assert house.linked() == [kept[0]]


@pytest.mark.parametrize("how", ["late", "closed", "invited-again", "came-otherwise"])
def test_what_was_taken_back_meanwhile_lets_nobody_in(house: House, how: str) -> None:
    ann = house.reader()
    house.leave(ann)
    user = house.ann()
    if how == "late":
        house.session.execute(update(AccountToken).values(expires_at=SUNDAY_NOON))
    elif how == "closed":
        accounts.change(house.session, user, {"status": UserStatus.DISABLED}, SUNDAY_NOON)
    elif how == "invited-again":
        accounts.invite_again(house.session, user, SUNDAY_NOON)
    else:
        reader = house.reader()
        chosen = "copper lamp under window"
        reader.post("/sign-in/new-password", password=chosen, again=chosen)
    house.session.commit()

    assert back(ann).status_code == 422

    assert not is_in(ann)
    assert house.linked() == []


def test_a_link_for_a_new_password_leads_to_no_site(
    house: House, delivery: Delivery, server: MailServer
) -> None:
    enter_clinic(house.session, house.world.clinic_id)
    make_user(house.session, email="bob@example.com")
    house.person().post(f"/sign-in/{house.world.clinic_id}/forgot", email="bob@example.com")
    house.path = mailed(delivery, server)
    bob = house.reader()

    assert "instead" not in bob.page
    assert house.leave(bob).status_code == 422


def test_an_admin_brings_back_who_can_sign_in_no_more(
    house: House, delivery: Delivery, server: MailServer
) -> None:
    """Their site is gone: the admin vouches for them, and they choose a password."""
    ann = house.reader()
    house.leave(ann)
    back(ann)

    accounts.forget_factors(house.session, house.ann(), SUNDAY_NOON)
    house.session.commit()

    assert not is_in(ann)
    delivery.sweep()
    [told] = [mail for mail in server.mails if "new-password" in mail.as_string()][-1:]
    body = told.get_body(("plain",))
    assert body is not None
    found = re.search(r"https://clinic\.example(/\S+new-password\S+)", body.get_content())
    assert found
    house.path = found.group(1)
    chosen = "copper lamp under window"
    reader = house.reader()
    assert reader.post("/sign-in/new-password", password=chosen, again=chosen).status_code == 303
    assert reader.password(chosen).headers["Location"] == "/sign-in/second-factor"
