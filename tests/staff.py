"""Somebody of the staff with a browser: what they type, and what they press."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pyotp
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7
from werkzeug.test import TestResponse

from identity import passwords
from models import UserAccount
from models.vocabulary import Role, UserStatus
from tests.factories import World

PASSWORD = "reader thin plank lot"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
ANOTHER = "copper lamp under window"
MINUTE = timedelta(minutes=1)
OURS = {"Sec-Fetch-Site": "same-origin"}


def make_user(session: Session, *roles: Role, email: str = "ann@example.com", **more: Any) -> Any:
    """An account with a password and an app."""
    user = UserAccount(
        **{
            "id": uuid7(),
            "email": email,
            "name": "Ann Example",
            "roles": list(roles or (Role.ADMIN,)),
            "practitioner_id": None,
            "status": UserStatus.ACTIVE,
            "password_hash": passwords.kept(PASSWORD),
            "totp_secret": SECRET,
            "version": 1,
            **more,
        }
    )
    session.add(user)
    session.commit()
    return user


def user_of(session: Session, email: str = "ann@example.com") -> UserAccount:
    """Somebody's account as it stands now."""
    session.expire_all()
    return session.scalars(
        select(UserAccount).where(UserAccount.email.equals(session, email))
    ).one()


@dataclass
class Person:
    """Somebody at a browser of their own."""

    client: FlaskClient
    world: World
    clock: Any
    email: str = "ann@example.com"
    address: str = "10.0.0.1"
    secret: str = SECRET
    page: str = ""
    headers: dict[str, str] = field(default_factory=lambda: dict(OURS))

    @classmethod
    def at(cls, app: Flask, world: World, clock: Any, **more: Any) -> "Person":
        return cls(app.test_client(), world, clock, **more)

    def get(self, path: str) -> TestResponse:
        return self._kept(self.client.get(path, environ_base={"REMOTE_ADDR": self.address}))

    def post(self, path: str, **told: str) -> TestResponse:
        """Send a form with what the last page's forms carry."""
        found = re.search(r'name="form" value="(\w+)"', self.page)
        form = {"form": found.group(1) if found else "", **told}
        return self._kept(
            self.client.post(
                path, data=form, headers=self.headers, environ_base={"REMOTE_ADDR": self.address}
            )
        )

    def password(self, password: str = PASSWORD, email: str | None = None) -> TestResponse:
        path = f"/sign-in/{self.world.clinic_id}"
        return self.post(path, email=email or self.email, password=password)

    def code(self, code: str | None = None) -> TestResponse:
        self.get("/sign-in/code")
        return self.post("/sign-in/code", code=code or self.right_code())

    def right_code(self, at: datetime | None = None) -> str:
        return pyotp.TOTP(self.secret).at(at or self.clock.now)

    def sign_in(self) -> "Person":
        assert self.password().headers["Location"] == "/sign-in/code", self.page
        assert self.code().headers["Location"] == "/account", self.page
        return self

    def api(self, method: str, path: str, json: Any = None, **headers: str) -> TestResponse:
        """Call the API as a page of ours does."""
        told = {**OURS, "X-CSRF-Token": self.csrf(), **headers}
        return self.client.open(f"/api/v1{path}", method=method, json=json, headers=told)

    def csrf(self) -> str:
        told = self.client.get("/api/v1/session").json or {}
        return str(told.get("csrf_token", ""))

    def token(self) -> str:
        cookie = self.client.get_cookie("afterglow")
        return cookie.value if cookie else ""

    def _kept(self, answer: TestResponse) -> TestResponse:
        if answer.mimetype == "text/html":
            self.page = answer.get_data(as_text=True)
        return answer
