"""Quota: how often somebody may ask, whatever process answers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from flask import Flask
from sqlalchemy import Connection, text, update
from sqlalchemy.orm import Session

from api.quota import Purse
from database.access import Access
from models import ApiKey, Clinic
from models.vocabulary import Role
from tests.factories import SUNDAY_NOON, World
from tests.fakes import MailServer
from tests.integration.conftest import Keyring
from tests.service import give_keys, running


@pytest.fixture
def few(app: Flask, bound: Connection) -> Iterator[int]:
    """Three requests in a minute for each caller, fifteen for the clinic."""
    before = app.config["QUOTA"], app.config["PURSE"]
    app.config.update(QUOTA=3, PURSE=Purse())
    yield 3
    app.config.update(QUOTA=before[0], PURSE=before[1])


def a_while_ago(session: Session, seconds: int) -> None:
    """As if so much time had passed: the buckets were last touched earlier."""
    session.execute(text("UPDATE quota SET at = at - make_interval(secs => :s)"), {"s": seconds})
    session.commit()


class TestCaller:
    def test_is_told_what_is_left_and_refused_beyond(self, key: Keyring, few: int) -> None:
        desk = key(Role.SCHEDULER)

        answers = [desk.get("/sites") for _ in range(few + 1)]

        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        assert {one.headers["RateLimit-Policy"] for one in answers} == {'"default";q=3;w=60'}
        left = [one.headers["RateLimit"].split(";")[1] for one in answers]
        assert left == ["r=2", "r=1", "r=0", "r=0"]
        refused = answers[-1]
        assert refused.json["type"] == "/problems/quota-exceeded"
        assert 1 <= int(refused.headers["Retry-After"]) <= 20
        assert "caller" in refused.json["detail"]

    def test_may_ask_again_after_a_while_and_saves_nothing_beyond_a_minute(
        self, key: Keyring, session: Session, few: int
    ) -> None:
        desk = key(Role.SCHEDULER)
        for _ in range(few + 1):
            desk.get("/sites")

        a_while_ago(session, 20)
        assert [desk.get("/sites").status_code for _ in range(2)] == [200, 429]
        a_while_ago(session, 3600)
        assert [desk.get("/sites").status_code for _ in range(4)] == [200, 200, 200, 429]

    def test_does_not_take_from_another(self, key: Keyring, few: int) -> None:
        desk, doctor = key(Role.SCHEDULER), key(Role.CLINICIAN)
        for _ in range(few + 1):
            desk.get("/sites")

        assert doctor.get("/sites").status_code == 200

    def test_that_is_refused_takes_nothing_from_the_clinic(
        self, key: Keyring, session: Session, few: int
    ) -> None:
        desk = key(Role.SCHEDULER)
        for _ in range(40):
            desk.get("/sites")

        left = session.scalar(text("SELECT tokens FROM quota WHERE holder = ''"))
        assert left is not None
        assert left >= 15 - few - 1

    def test_has_no_more_for_being_called_otherwise(
        self, key: Keyring, session: Session, few: int
    ) -> None:
        desk = key(Role.SCHEDULER)
        for _ in range(few):
            desk.get("/sites")
        session.execute(update(ApiKey).values(name="Another name"))
        session.commit()

        assert desk.get("/sites").status_code == 429

    def test_a_wrong_request_counts_too(self, key: Keyring, few: int) -> None:
        desk = key(Role.SCHEDULER)
        answers = [desk.get("/sites?nonsense=1").status_code for _ in range(few + 1)]
        assert answers == [422, 422, 422, 429]


class TestClinic:
    def test_has_a_limit_of_its_own(
        self, key: Keyring, session: Session, world: World, few: int
    ) -> None:
        session.execute(update(Clinic).values(requests_per_minute=4))
        session.commit()
        one, other = key(Role.SCHEDULER), key(Role.SCHEDULER)

        assert [one.get("/sites").status_code for _ in range(3)] == [200] * 3
        answers = [other.get("/sites") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert "clinic" in answers[-1].json["detail"]


def test_two_processes_keep_to_one_limit(
    database: Access, committed: Session, committed_world: World, tmp_path: Path
) -> None:
    with running(database, tmp_path, MailServer(port=25), SUNDAY_NOON) as service:
        give_keys(service, committed, committed_world.clinic_id, SUNDAY_NOON)
        service.more = {"REQUESTS_PER_MINUTE": "50", "WEB_WORKERS": "2"}
        service.start("web")

        def ask(_: int) -> int:
            told = {"Authorization": f"Bearer {service.secrets[Role.SCHEDULER]}"}
            url = f"{service.url}/api/v1/sites"
            return requests.get(url, headers=told, timeout=30).status_code

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(120)))

    assert set(answers) == {200, 429}
    assert 50 <= answers.count(200) <= 60  # some were earned meanwhile
