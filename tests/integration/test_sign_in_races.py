"""Two at once, each on a connection of their own: what one ends the other does not begin."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from identity import accounts, begun, factors
from models import enter_clinic
from models.vocabulary import TokenPurpose, UserStatus
from notifications import links, reading
from scheduler.errors import NotProven, Unfit
from tests.factories import SUNDAY_NOON, World
from tests.integration.conftest import Clock
from tests.staff import ANOTHER, Person, make_user, user_of

WAITS = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")

MakePerson = Callable[[], Person]


@pytest.fixture
def person(app: Flask, committed: Session, committed_world: World, clock: Clock) -> MakePerson:
    """Somebody at a browser of their own; what they do is committed."""
    clock.now = SUNDAY_NOON
    return lambda: Person.at(app, committed_world, clock)


def meanwhile(session: Session, act: Callable[[], Any]) -> Any:
    """Do `act` while what `session` did stands uncommitted; commit once it waits, or is done."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(act)
        while not doing.done() and not session.scalar(WAITS):
            pass
        session.commit()
        return doing.result(20)


def at_once(acts: list[Callable[[], Any]]) -> list[int]:
    with ThreadPoolExecutor(len(acts)) as pool:
        return sorted(answer.status_code for answer in pool.map(lambda act: act(), acts))


def test_who_knew_the_old_password_does_not_slip_in_beside_the_new_one(
    person: MakePerson, committed: Session
) -> None:
    make_user(committed)
    thief = person()
    accounts.change_password(committed, user_of(committed), ANOTHER, SUNDAY_NOON, but=uuid4())

    assert meanwhile(committed, thief.password).status_code == 422
    assert thief.get("/sign-in/code").headers["Location"] == "/sign-in"


def test_of_two_who_set_up_a_second_factor_at_once_one_does(
    person: MakePerson, committed: Session
) -> None:
    make_user(committed, totp_secret=None)
    thief, secret = person(), factors.new_secret()
    thief.password()
    thief.get("/sign-in/second-factor")
    thief.secret = thief.page.partition("<code>")[2].partition("<")[0]
    accounts.enrol(committed, user_of(committed), secret, 1)

    told = meanwhile(
        committed, lambda: thief.post("/sign-in/second-factor", code=thief.right_code())
    )
    assert told.status_code == 422
    assert user_of(committed).totp_secret == secret


def test_of_two_admins_who_close_each_others_account_one_stays(
    committed: Session, committed_world: World, service_engine: Engine
) -> None:
    make_user(committed)
    make_user(committed, email="bob@example.com")
    closed = {"status": UserStatus.DISABLED}
    accounts.change(committed, user_of(committed), closed, SUNDAY_NOON)

    def close_bob() -> None:
        with Session(service_engine) as session:
            enter_clinic(session, committed_world.clinic_id)
            accounts.change(session, user_of(session, "bob@example.com"), closed, SUNDAY_NOON)
            session.commit()

    with pytest.raises(Unfit):
        meanwhile(committed, close_bob)
    assert user_of(committed, "bob@example.com").status is UserStatus.ACTIVE


@pytest.mark.parametrize("kind", ["app", "recovery"])
def test_abuse_52_of_four_who_give_one_code_at_once_one_comes_in(
    person: MakePerson, committed: Session, kind: str
) -> None:
    user = make_user(committed)
    people = [person() for _ in range(4)]
    for one in people:
        one.password()
        one.get("/sign-in/code")
    [code, *_] = factors.new_codes(committed, user.id)
    committed.commit()
    if kind == "app":
        code = people[0].right_code()

    told = at_once([partial(one.post, "/sign-in/code", code=code) for one in people])
    assert told == [303, 422, 422, 422]


def test_abuse_53_of_two_who_use_one_link_at_once_one_chooses_the_password(
    person: MakePerson, committed: Session, committed_world: World, worker_engine: Engine
) -> None:
    user = make_user(committed)
    link = links.AccountLink(user.id, TokenPurpose.RESET, SUNDAY_NOON + timedelta(hours=1))
    with Session(worker_engine) as session:
        enter_clinic(session, committed_world.clinic_id)
        token = links.mint_account(reading.raw(session), link)
        session.commit()
    people = [person(), person()]
    for one in people:
        one.get(f"/sign-in/new-password/{token}")

    chosen = {"password": ANOTHER, "again": ANOTHER}
    told = at_once([partial(one.post, "/sign-in/new-password", **chosen) for one in people])
    assert told == [303, 422]


def test_what_comes_back_twice_at_once_is_taken_once(
    committed: Session, committed_world: World, service_engine: Engine
) -> None:
    token = begun.begin(committed, "provider", {"state": "x"}, SUNDAY_NOON)
    committed.commit()
    assert begun.take(committed, "provider", token, SUNDAY_NOON) == {"state": "x"}

    def take_too() -> None:
        with Session(service_engine) as session:
            enter_clinic(session, committed_world.clinic_id)
            begun.take(session, "provider", token, SUNDAY_NOON)

    with pytest.raises(NotProven):
        meanwhile(committed, take_too)
