"""Whoever tries and fails: slowed down, noted, and blamed on nobody."""

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import AuditEvent, db, enter_clinic
from tests.factories import SUNDAY_NOON, World
from tests.integration.conftest import Clock, MakePerson
from tests.staff import ANOTHER, MINUTE, Person, make_user, user_of


class TestAbuse51Stuffing:
    def test_a_thousand_tries_from_one_address_come_to_a_few(
        self, person: MakePerson, session: Session, clock: Clock
    ) -> None:
        thief = person(address="203.0.113.9")
        told = [
            thief.password("wrong password here", email=f"user{number}@example.com").status_code
            for number in range(1000)
        ]

        assert told.count(422) <= 22
        assert set(told) == {422, 429}

    def test_tries_at_one_account_from_many_addresses_come_to_a_few_and_its_owner_comes_in(
        self, person: MakePerson, ann: Person, clock: Clock
    ) -> None:
        ann.sign_in()
        told = []
        for number in range(100):
            thief = person(address=f"203.0.113.{number}")
            told.append(thief.password("wrong password here").status_code)
        clock.now += MINUTE

        assert told.count(422) <= 7
        ann.sign_in()

    def test_each_failure_waits_twice_as_long_and_never_more_than_a_quarter_of_an_hour(
        self, ann: Person, clock: Clock
    ) -> None:
        for _ in range(5):
            assert ann.password("wrong password here").status_code == 422
        waits = []
        for _ in range(13):
            assert ann.password("wrong password here").status_code == 422
            refused = ann.password("wrong password here")
            assert refused.status_code == 429
            waits.append(int(refused.headers["Retry-After"]))
            clock.now += timedelta(seconds=waits[-1])

        assert waits[:4] == [3, 5, 9, 17]
        assert max(waits) == 901
        assert ann.password().status_code == 303

    def test_a_day_later_failures_are_forgotten(self, ann: Person, clock: Clock) -> None:
        for _ in range(6):
            ann.password("wrong password here")
        clock.now += timedelta(days=1, minutes=1)

        assert [ann.password("wrong password here").status_code for _ in range(5)] == [422] * 5

    def test_people_who_share_an_address_do_not_pay_for_each_other_for_ever(
        self, person: MakePerson, clock: Clock
    ) -> None:
        clerk = person()
        for day in range(3):
            told = [
                clerk.password("wrong password here", email=f"u{day}{n}@example.com").status_code
                for n in range(20)
            ]
            assert told == [422] * 20
            clock.now += timedelta(minutes=110)

    def test_a_refusal_is_noted_and_blamed_on_nobody(self, ann: Person, session: Session) -> None:
        ann.password("wrong password here")
        ann.password()
        ann.code("000000")

        acts = session.scalars(select(AuditEvent).order_by(AuditEvent.sequence)).all()
        told = [(act.actor, act.entity_id, act.facts["what"], act.outcome) for act in acts]
        user_id = user_of(session).id
        assert ("nobody", user_id, "sign-in-refused", "denied") in told
        assert ("nobody", user_id, "second-factor-refused", "denied") in told

    def test_so_is_what_fails_within_a_session(self, ann: Person, session: Session) -> None:
        ann.sign_in()
        ann.get("/account")
        told = {"password": "wrong password here", "new": ANOTHER, "again": ANOTHER}
        assert ann.post("/account/password", **told).status_code == 422
        assert ann.api("POST", "/session/step-up", {"code": "000000"}).status_code == 422

        acts = session.scalars(select(AuditEvent).where(AuditEvent.outcome == "denied")).all()
        assert [act.facts["what"] for act in acts] == ["password-refused", "signed_in.step_up"]
        assert acts[1].actor == f"user:{user_of(session).id}"

    def test_a_network_of_ipv6_is_one_address(self, person: MakePerson) -> None:
        """Whoever has one address of it has 2^64."""
        told = [
            person(address=f"2001:db8:0:1::{number:x}")
            .password("wrong password here", email=f"user{number}@example.com")
            .status_code
            for number in range(40)
        ]
        assert told.count(422) <= 22
        elsewhere = person(address="2001:db8:0:2::1")
        assert elsewhere.password("wrong password here").status_code == 422

    def test_who_comes_back_without_having_left_fills_no_trail(
        self, ann: Person, session: Session
    ) -> None:
        """It takes no password and no provider of theirs: anybody could, without end."""
        before = session.scalars(select(func.count()).select_from(AuditEvent)).one()
        path = f"/sign-in/{ann.world.clinic_id}/passkey/answer"
        for _ in range(3):
            assert ann.post(path, answer="{}").status_code == 422

        assert session.scalars(select(func.count()).select_from(AuditEvent)).one() == before


class TestAbuse52SecondFactors:
    def test_a_code_is_taken_once(self, person: MakePerson, ann: Person) -> None:
        code = ann.right_code()
        ann.sign_in()
        again = person()
        again.password()

        assert again.code(code).status_code == 422

    @pytest.mark.parametrize(("steps", "status"), [(-2, 422), (-1, 303), (1, 303), (2, 422)])
    def test_one_step_before_or_after_is_near_enough(
        self, ann: Person, clock: Clock, steps: int, status: int
    ) -> None:
        ann.password()
        code = ann.right_code(clock.now + timedelta(seconds=30 * steps))

        assert ann.code(code).status_code == status

    def test_an_older_code_is_not_taken_after_a_newer_one(
        self, person: MakePerson, ann: Person, clock: Clock
    ) -> None:
        newer, older = ann.right_code(clock.now + MINUTE / 2), ann.right_code()
        ann.password()
        assert ann.code(newer).status_code == 303
        again = person()
        again.password()

        assert again.code(older).status_code == 422

    def test_guessing_is_slowed_at_the_page_and_at_the_api(self, ann: Person) -> None:
        ann.sign_in()
        told = [
            ann.api("POST", "/session/step-up", {"code": f"{n:06}"}).status_code for n in range(20)
        ]
        assert told.count(429) >= 13
        assert ann.code("123456").status_code == 429

    def test_a_new_session_does_not_begin_the_count_anew(
        self, person: MakePerson, ann: Person
    ) -> None:
        told = []
        for _ in range(10):
            ann.password()
            told.append(ann.code("123456").status_code)

        assert told.count(429) >= 4


def test_many_tries_at_once_are_each_counted(
    app: Flask, committed: Session, committed_world: World, clock: Clock
) -> None:
    """Eight browsers at one time: the row's lock makes a line of them."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    clock.now = SUNDAY_NOON
    enter_clinic(committed, committed_world.clinic_id)
    make_user(committed)
    with app.app_context():
        db.session.remove()

    def guess(number: int) -> int:
        thief = Person.at(app, committed_world, clock, address=f"203.0.113.{number}")
        return thief.password("wrong password here").status_code

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(guess, range(24)))

    assert told.count(422) == 6
    assert told.count(429) == 18
