"""The service around a transaction of the test's own, and keys to get in."""

import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

import config
from api import keys
from app import build
from database.access import Access
from models import db
from models.vocabulary import Role
from scheduler.permissions import Permission
from tests import MASTER
from tests.conftest import clean
from tests.factories import SUNDAY_NOON, World
from tests.matrix import Place
from tests.staff import Person, make_user
from vault import masters


def settings(**changes: Any) -> config.Settings:
    """Settings for a service under test."""
    return config.Settings(
        **{
            "var": Path("/nonexistent"),
            "database_url": None,
            "port": 8000,
            "public_url": "http://localhost",
            "secret": "for tests",
            "masters": masters.read(MASTER),
            "clock_file": None,
            "web_workers": 1,
            "web_threads": 8,
            "sweep_seconds": 1,
            "smtp": (),
            "sms": (config.Sms(url="http://127.0.0.1:1", account="AC1", token="sms-token"),),
            "email_per_second": None,
            "sms_per_second": None,
            "senders": 1,
            "feed_networks": (),
            "sign_in_networks": (ip_network("127.0.0.0/8"),),
            "requests_per_minute": 1_000_000,
            "webhook_networks": (ip_network("127.0.0.0/8"),),
            "heralds": 1,
            "closed_days": 30,
            "metrics_token": None,
            "trusted_proxies": 0,
            "log_level": "error",
            **changes,
        }
    )


class Clock:
    """A clock that a test sets."""

    now: datetime = SUNDAY_NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="session")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def app(database: Access, clock: Clock) -> Iterator[Flask]:
    app = build(settings(), database.service, clock)
    app.config["TESTING"] = True
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def bound(app: Flask, clock: Clock, session: Session) -> Iterator[Connection]:
    """Requests share the test's connection, each in savepoints of its own.

    What they commit the test sees; what they forget to commit is gone, as in production. No
    app context stays open, or Flask would hand the request the test's session.
    """
    clock.now = SUNDAY_NOON
    connection = session.connection()
    with app.app_context():
        engines = db.engines
    engine = engines[None]
    engines[None] = connection  # a session binds to either
    db.session.session_factory.configure(join_transaction_mode="create_savepoint")
    yield connection
    engines[None] = engine


@pytest.fixture(scope="module")
def place(
    app: Flask, clock: Clock, database: Access, service_engine: Engine, worker_engine: Engine
) -> Iterator[Place]:
    """Two clinics with one of everything, for tests that leave nothing behind."""
    clock.now = SUNDAY_NOON
    with app.app_context():
        engines = db.engines
    engine = engines[None]
    try:
        with Session(service_engine) as session, Session(worker_engine) as worker:
            made = Place(app, session, worker)
        with service_engine.connect() as connection, connection.begin() as outer:
            engines[None] = connection
            db.session.session_factory.configure(join_transaction_mode="create_savepoint")
            yield made.over(connection)
            outer.rollback()
    finally:
        engines[None] = engine
        clean(database)


class Caller:
    """Somebody with a key, and what they send."""

    def __init__(self, client: FlaskClient, key: str) -> None:
        self.client, self.key = client, key

    def __call__(
        self, method: str, path: str, json: Any = None, etag: str | None = None, **headers: str
    ) -> TestResponse:
        told = {"Authorization": f"Bearer {self.key}", **headers}
        if etag is not None:
            told["If-Match"] = etag
        where = path if path.startswith("/api/") else f"/api/v1{path}"
        answer = self.client.open(where, method=method, json=json, headers=told)
        if (made := answer.headers.get("Location", "")).startswith("/api/"):
            doors = self.client.application.url_map.bind("localhost")
            assert doors.test(made, "GET"), f"{where} says that {made} can be read"
        return answer

    def get(self, path: str, **headers: str) -> TestResponse:
        return self("GET", path, **headers)

    def post(self, path: str, json: Any = None, **more: Any) -> TestResponse:
        return self("POST", path, {} if json is None else json, **more)


@pytest.fixture
def client(app: Flask, bound: Connection, world: World) -> FlaskClient:
    """Somebody without a key."""
    return app.test_client()


Keyring = Callable[..., Caller]


@pytest.fixture
def key(app: Flask, bound: Connection, session: Session, world: World) -> Keyring:
    """Make somebody of a role in the test's clinic."""

    def make(
        role: Role,
        practitioner_id: UUID | None = None,
        *,
        name: str | None = None,
        scopes: Iterable[Permission] | None = None,
    ) -> Caller:
        holder = keys.Holder(name or str(role), role, practitioner_id, scopes)
        _, secret = keys.issue_to(session, holder, SUNDAY_NOON)
        session.commit()
        return Caller(app.test_client(), secret)

    return make


@pytest.fixture
def admin(key: Keyring) -> Caller:
    return key(Role.ADMIN)


@pytest.fixture
def desk(key: Keyring) -> Caller:
    return key(Role.SCHEDULER)


@pytest.fixture
def tablet(key: Keyring) -> Caller:
    """A clinician's key that was narrowed: it reads no record, but in an emergency."""
    return key(Role.CLINICIAN, name="tablet", scopes=[Permission.BREAK_GLASS_ASK])


@pytest.fixture
def doctor(key: Keyring, world: World) -> Caller:
    return key(Role.CLINICIAN, world.prescriber_id)


MakePerson = Callable[..., Person]


@pytest.fixture
def person(app: Flask, bound: Connection, world: World, clock: Clock) -> MakePerson:
    """Somebody at a browser of their own."""

    def make(**more: Any) -> Person:
        return Person.at(app, world, clock, **more)

    return make


@pytest.fixture
def ann(person: MakePerson, session: Session) -> Person:
    """An admin with a password and an app, not signed in."""
    make_user(session, Role.ADMIN)
    return person()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and for one name, that nobody but the test trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:hooks.example.test"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.fixture
def served(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def trusted(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))
