"""Passwords: what is refused, and how the others are kept."""

from typing import Any

import argon2
import pytest
from sqlalchemy.orm import Session

from identity import accounts, passwords
from scheduler.errors import WeakPassword
from tests.factories import World
from tests.integration.conftest import MakePerson
from tests.staff import PASSWORD, make_user, user_of


class TestPasswords:
    @pytest.mark.parametrize(
        "password",
        [
            "short",
            "elevenchars",
            "password12345",
            "Password2026!!",
            "qwertyuiop123",
            "aaaaaaaaaaaaaaaa",
            "123456789012",
            "annexample2026",
            "harborhouse2026",
            "ann@example.com",
            "ketamineketamine",
            "x" * 129,
        ],
    )
    def test_what_is_guessed_soon_is_refused(self, password: str) -> None:
        around = ["Ann Example", "ann@example.com", "Harbor House", "ketamine"]
        with pytest.raises(WeakPassword):
            passwords.refuse_weak(password, around)

    @pytest.mark.parametrize(
        "password",
        [
            PASSWORD,
            "x9f!kq2Lmz0a",
            "ключ под старым ковром",
            "84729105638201947562",
            PASSWORD + " " + "tulip gravel north spoon " * 4,
        ],
    )
    def test_there_is_no_rule_of_what_it_is_made_of(self, password: str) -> None:
        passwords.refuse_weak(password, ["Ann Example"])

    @pytest.mark.parametrize(("has_factor", "least"), [(False, 15), (True, 12)])
    def test_it_is_longer_where_nothing_stands_beside_it(
        self, session: Session, world: World, has_factor: bool, least: int
    ) -> None:
        user = make_user(session)
        user.totp_secret = "JBSWY3DPEHPK3PXP" if has_factor else None
        session.flush()
        good = "x9f!kq2Lmz0aW7r"

        accounts.refuse_weak(session, user, good[:least])
        with pytest.raises(WeakPassword, match=f"at least {least}"):
            accounts.refuse_weak(session, user, good[: least - 1])

    def test_letters_that_look_the_same_are_the_same(self) -> None:
        kept = passwords.kept("cafe\u0301 on the corner")

        assert passwords.is_right("caf\u00e9 on the corner", kept)
        assert not passwords.is_right("cafe on the corner", kept)

    def test_nobody_takes_as_long_as_somebody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The oracle is whether the hasher runs at all: 50 ms or none."""
        verified = []
        real = argon2.PasswordHasher.verify

        def noted(self: Any, kept: str, told: str) -> Any:
            verified.append(argon2.extract_parameters(kept))
            return real(self, kept, told)

        monkeypatch.setattr(argon2.PasswordHasher, "verify", noted)
        assert not passwords.is_right(PASSWORD, None)
        assert passwords.is_right(PASSWORD, passwords.kept(PASSWORD))

        assert len(verified) == 2
        assert verified[0] == verified[1]
        assert (verified[0].memory_cost, verified[0].time_cost) == (46 * 1024, 1)

    def test_an_old_way_of_keeping_is_renewed_at_the_next_sign_in(
        self, person: MakePerson, session: Session
    ) -> None:
        old = argon2.PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1)
        make_user(session, password_hash=old.hash(PASSWORD))

        person().sign_in()

        assert not passwords.is_old(user_of(session).password_hash or "")
