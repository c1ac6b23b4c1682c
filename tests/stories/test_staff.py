"""Somebody new comes to work: invited by mail, with an app, then with a passkey. A real browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions
from selenium.webdriver.support.ui import WebDriverWait
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from database.access import Access
from models.vocabulary import Role
from tests.browser import Chrome, chromium, press
from tests.conftest import clean
from tests.factories import SUNDAY_NOON, World, make_world
from tests.fakes import mail_server
from tests.service import Service, give_keys, running

PASSWORD = "copper lamp under window"


@pytest.fixture
def service(database: Access, service_engine: Engine, tmp_path: Path) -> Iterator[Service]:
    """A passkey belongs to a name: an address in numbers has none."""
    with mail_server() as mail, running(database, tmp_path, mail, SUNDAY_NOON) as service:
        service.more["AFTERGLOW_PUBLIC_URL"] = service.url.replace("127.0.0.1", "localhost")
        with Session(service_engine) as session:
            world: World = make_world(session)
            session.commit()
            give_keys(service, session, world.clinic_id, SUNDAY_NOON)
        service.start("web")
        service.start("worker")
        yield service
    clean(database)


def device(browser: Chrome, *, verified: bool = True) -> None:
    """A device that keeps passkeys, and whose owner it knows."""
    options = VirtualAuthenticatorOptions()
    options.transport = VirtualAuthenticatorOptions.Transport.INTERNAL
    options.has_resident_key = True
    options.has_user_verification = True
    options.is_user_verified = verified
    browser.add_virtual_authenticator(options)


def fill(browser: Chrome, **told: str) -> None:
    for name, value in told.items():
        browser.find_element(By.NAME, name).send_keys(value)


def at(browser: Chrome, path: str) -> None:
    WebDriverWait(browser, 20).until(lambda _: browser.current_url.endswith(path))


@pytest.mark.browser
def test_a_new_colleague_comes_in_and_leaves_the_password_behind(service: Service) -> None:
    told = {"email": "new@example.com", "name": "Nora New", "roles": ["scheduler"]}
    made = service.call(Role.ADMIN, "POST", "/users", told)
    assert made.status_code == 201, service.log.read_text()[-3000:]
    service.wait_until(lambda: service.mail.mails, "the invitation")
    body = service.mail.mails[0].get_body(("plain",))
    assert body is not None
    found = re.search(r"http://localhost\S+", body.get_content())
    assert found

    with chromium(javascript=True) as browser:
        device(browser)
        browser.get(found.group())
        fill(browser, password=PASSWORD, again=PASSWORD)
        press(browser, "Keep it")
        clinic = browser.current_url
        fill(browser, email="New@Example.com", password=PASSWORD)
        press(browser, "Sign in")
        browser.find_element(By.TAG_NAME, "summary").click()
        secret = browser.find_element(By.TAG_NAME, "code").text
        fill(browser, code=pyotp.TOTP(secret).at(SUNDAY_NOON))
        press(browser, "Set up")
        assert len(browser.find_elements(By.TAG_NAME, "code")) == 10
        browser.get(f"{clinic.split('/sign-in')[0]}/account/passkeys")
        fill(browser, name="Nora's telephone")
        press(browser, "Make a passkey")
        assert "Nora's telephone" in browser.find_element(By.CLASS_NAME, "list").text
        browser.get(f"{clinic.split('/sign-in')[0]}/account")
        press(browser, "Sign out")

        press(browser, "Use a passkey")
        at(browser, "/account")
        assert "Nora New" in browser.find_element(By.TAG_NAME, "main").text
        browser.get(f"{clinic.split('/sign-in')[0]}/api/docs/")  # the account's page asks nobody
        called = browser.execute_async_script(
            """
            const done = arguments[0];
            (async () => {
              const told = await (await fetch("/api/v1/session")).json();
              const left = await fetch("/api/v1/session", {
                method: "DELETE", headers: {"X-CSRF-Token": told.csrf_token}});
              const gone = await fetch("/api/v1/session");
              done([told.name, left.status, gone.status]);
            })().catch((error) => done([String(error)]));
            """
        )
        assert called == ["Nora New", 204, 401]
    service.wait_until(lambda: len(service.mail.mails) == 3, "two mails about changes")
    assert {mail["Subject"] for mail in service.mail.mails[1:]} == {"Your account was changed"}
