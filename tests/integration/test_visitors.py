"""Whoever comes to a patient's page without being the patient: guesses links, or dates of birth."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models import Appointment, PatientLink
from notifications import links, reading
from tests import after
from tests.factories import MONDAY_9, SUNDAY_NOON, World
from tests.integration.conftest import Clock

DAY = timedelta(days=1)


def visit_of(session: Session, world: World) -> Appointment:
    made = after.open_course(session, world, after.content())
    visit = made.book("preparation", MONDAY_9, SUNDAY_NOON)
    session.commit()
    return visit


def link_to(session: Session, visit: Appointment) -> str:
    """A new link to a visit; each message has one of its own."""
    new = links.New(visit.id, visit.patient_id, MONDAY_9 + DAY)
    [token] = links.mint(reading.raw(session), [new])
    session.commit()
    return str(token)


def guess(client: FlaskClient, year: int, address: str = "203.0.113.9") -> Any:
    found = re.search(r'name="form" value="([^"]+)"', client.get("/p/").text)
    told = {"form": found.group(1) if found else "", "day": "17", "month": "5", "year": str(year)}
    return client.post("/p/birth-date", data=told, environ_base={"REMOTE_ADDR": address})


class TestAbuse54Links:
    def test_one_that_was_guessed_ran_out_or_was_taken_back_gets_the_same_answer(
        self, client: FlaskClient, session: Session, world: World
    ) -> None:
        visit = visit_of(session, world)
        revoked, expired, good = (link_to(session, visit) for _ in range(3))
        for token, change in (
            (revoked, {"revoked_at": SUNDAY_NOON}),
            (expired, {"expires_at": SUNDAY_NOON}),
        ):
            digest = links.digest(token)
            session.execute(
                update(PatientLink).where(PatientLink.token_hash == digest).values(**change)
            )
        session.commit()
        wrong = ("x", "A" * 43, good[:-1], good.swapcase(), f"{good}x", revoked, expired)
        told = {(answer.status_code, answer.data) for answer in map(get(client), wrong)}

        assert len(told) == 1
        assert told.pop()[0] == 404
        assert client.get(f"/p/{good}").status_code == 303


def get(client: FlaskClient) -> Any:
    return lambda token: client.get(f"/p/{token}")


class TestAbuse55DatesOfBirth:
    def test_five_wrong_ones_shut_a_link_to_the_right_one_too(
        self, client: FlaskClient, session: Session, world: World
    ) -> None:
        client.get(f"/p/{link_to(session, visit_of(session, world))}")

        told = [guess(client, 1950 + number).status_code for number in range(5)]
        assert told == [422, 422, 422, 422, 403]
        assert guess(client, 1980).status_code == 403

    def test_one_address_is_slowed_down_whatever_the_link(
        self, client: FlaskClient, session: Session, world: World, clock: Clock
    ) -> None:
        visit = visit_of(session, world)
        told = []
        for number in range(40):
            if number % 4 == 0:
                client.get(f"/p/{link_to(session, visit)}")
            told.append(guess(client, 1900 + number))
        refused = [answer for answer in told if answer.status_code == 429]

        assert len(refused) >= 18
        assert int(refused[0].headers["Retry-After"]) > 0
        assert guess(client, 1980, "198.51.100.7").status_code == 303
        clock.now += 2 * DAY
        assert guess(client, 1980).status_code in {404, 303}

    def test_of_many_at_once_each_costs_its_try(
        self, app: Flask, committed: Session, committed_world: World, clock: Clock
    ) -> None:
        clock.now = SUNDAY_NOON
        token = link_to(committed, visit_of(committed, committed_world))
        clients = [app.test_client() for _ in range(12)]
        for client in clients:
            client.get(f"/p/{token}")
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda n: guess(clients[n], 1950 + n, f"203.0.113.{n}"), range(12)))

        assert committed.scalars(select(PatientLink.tries)).one() == 5


@pytest.fixture(autouse=True)
def on_sunday(clock: Clock) -> None:
    clock.now = SUNDAY_NOON
