"""Staff who sign in: with what, for how long, and what becomes of those who should not."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import argon2
import pytest
from click.testing import CliRunner
from flask import Flask
from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.orm import Session

import cli
from database import access
from database.scratch import SECRET as SHELL
from identity import accounts, passwords
from models import AuditEvent, Message, UserAccount, UserSession, db, enter_clinic
from models.vocabulary import Role, UserStatus
from notifications.channels.smtp import Server, SmtpChannel
from notifications.delivery import Delivery
from scheduler.errors import WeakPassword
from tests.factories import SUNDAY_NOON, World, make_world
from tests.fakes import MailServer, mail_server
from tests.integration.conftest import Caller, Clock, Keyring
from tests.staff import OURS, PASSWORD, Person, make_user

MINUTE = timedelta(minutes=1)
ANOTHER = "copper lamp under window"

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


def user_of(session: Session, email: str = "ann@example.com") -> UserAccount:
    session.expire_all()
    return session.scalars(
        select(UserAccount).where(UserAccount.email.equals(session, email))
    ).one()


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


class TestSigningIn:
    def test_a_password_and_a_code_open_the_doors_of_all_ones_roles(
        self, person: MakePerson, session: Session
    ) -> None:
        make_user(session, Role.SCHEDULER, Role.AUDITOR)
        ann = person().sign_in()

        told = ann.client.get("/api/v1/session").json
        assert (told["name"], told["roles"]) == ("Ann Example", ["scheduler", "auditor"])
        assert {"audit:read", "patients:write"} <= set(told["permissions"])
        assert ann.client.get("/api/v1/audit-events").status_code == 200
        assert ann.client.get("/api/v1/patients").status_code == 200
        assert ann.client.get("/api/v1/users").status_code == 403
        assert "Ann Example" in ann.get("/account").get_data(as_text=True)

    def test_the_trail_names_nobody(self, ann: Person, session: Session) -> None:
        ann.sign_in()
        assert ann.api("POST", "/session/step-up", {"code": "000000"}).status_code == 422

        user = user_of(session)
        acts = session.scalars(select(AuditEvent).order_by(AuditEvent.sequence)).all()
        told = [(act.actor, act.facts["what"]) for act in acts if "what" in act.facts]
        assert told == [(f"user:{user.id}", "password-right"), (f"user:{user.id}", "signed-in")]

    def test_a_password_alone_opens_nothing(self, ann: Person) -> None:
        ann.password()

        assert ann.client.get("/api/v1/session").status_code == 401
        assert ann.client.get("/api/v1/patients").status_code == 401
        assert ann.get("/account").headers["Location"] == "/sign-in/code"

    def test_everybody_sets_up_a_second_factor(
        self, person: MakePerson, session: Session, clock: Clock
    ) -> None:
        make_user(session, totp_secret=None)
        ann = person()
        assert ann.password().headers["Location"] == "/sign-in/second-factor"
        assert ann.get("/sign-in/code").headers["Location"] == "/sign-in/second-factor"
        ann.get("/sign-in/second-factor")
        assert "<svg" in ann.page
        found = re.search(r"<code>(\w+)</code>", ann.page)
        assert found
        ann.secret = found.group(1)
        assert ann.post("/sign-in/second-factor", code="000000").status_code == 422

        ann.post("/sign-in/second-factor", code=ann.right_code())
        codes = re.findall(r"<code>([\w-]+)</code>", ann.page)

        assert len(set(codes)) == 10
        assert ann.client.get("/api/v1/session").status_code == 200
        clock.now += MINUTE
        person(secret=ann.secret).sign_in()

    def test_a_recovery_code_works_once(
        self, person: MakePerson, ann: Person, clock: Clock
    ) -> None:
        ann.sign_in()
        ann.get("/account")
        ann.post("/account/recovery-codes")
        code = re.findall(r"<code>([\w-]+)</code>", ann.page)[0]

        for expected in (303, 422):
            another = person()
            another.password()
            assert another.code(code.upper()).status_code == expected

    def test_the_page_tells_nobody_whether_there_is_an_account(
        self, ann: Person, person: MakePerson
    ) -> None:
        wrong = ann.password("wrong password here")
        nobody = person().password("wrong password here", email="bob@example.com")

        assert wrong.status_code == nobody.status_code == 422
        told = [one.get_data(as_text=True) for one in (wrong, nobody)]
        assert told[0].replace("ann@", "bob@") == told[1]

    def test_sign_in_leads_to_the_clinic_where_it_is_clear_which(
        self, ann: Person, session: Session, world: World
    ) -> None:
        own = f"/sign-in/{world.clinic_id}"
        assert ann.get("/sign-in").headers["Location"] == own
        make_world(session, "Another Practice")
        enter_clinic(session, world.clinic_id)
        session.commit()

        assert ann.get("/sign-in").status_code == 404
        ann.sign_in()
        assert ann.get("/sign-in").headers["Location"] == own

    def test_another_clinics_page_knows_nobody_of_this_one(
        self, ann: Person, session: Session, world: World
    ) -> None:
        other = make_world(session, "Another Practice")
        enter_clinic(session, world.clinic_id)
        session.commit()
        ann.world = other

        assert ann.password().status_code == 422

    def test_the_cookie_is_pinned_to_its_host_over_tls(
        self, app: Flask, ann: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(app.config, "SECURE", True)
        told = ann.password().headers["Set-Cookie"]

        assert told.startswith("__Host-afterglow=")
        for flag in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
            assert flag in told
        assert "Domain" not in told

    def test_the_database_holds_no_token(self, ann: Person, session: Session) -> None:
        ann.sign_in()

        found = session.scalars(select(UserSession.token_hash)).all()
        assert ann.token().encode() not in found
        assert session.scalar(select(func.length(UserSession.token_hash))) == 32


class TestAbuse48Fixation:
    def test_a_preset_cookie_is_not_taken_up_and_the_id_is_new_at_every_step(
        self, ann: Person
    ) -> None:
        ann.client.set_cookie("afterglow", "chosen-by-a-thief")
        ann.password()
        half = ann.token()
        ann.code()
        whole = ann.token()

        assert len({"chosen-by-a-thief", half, whole}) == 3
        for old in ("chosen-by-a-thief", half):
            ann.client.set_cookie("afterglow", old)
            assert ann.client.get("/api/v1/session").status_code == 401

    def test_step_up_renews_it_too(self, ann: Person, clock: Clock) -> None:
        ann.sign_in()
        before = ann.token()
        clock.now += MINUTE

        answer = ann.api("POST", "/session/step-up", {"code": ann.right_code()})

        assert answer.status_code == 200
        assert ann.token() != before
        assert answer.json["csrf_token"] == ann.csrf()
        ann.client.set_cookie("afterglow", before)
        assert ann.client.get("/api/v1/session").status_code == 401


class TestAbuse49EndedSessions:
    def dead(self, one: Person) -> bool:
        return (
            one.client.get("/api/v1/session").status_code == 401
            and one.get("/account").headers["Location"] == "/sign-in"
        )

    def test_after_signing_out(self, ann: Person) -> None:
        token = ann.sign_in().token()
        ann.get("/account")
        ann.post("/sign-out")
        ann.client.set_cookie("afterglow", token)

        assert self.dead(ann)

    @pytest.mark.parametrize("change", [{"status": "disabled"}, {"roles": ["auditor"]}])
    def test_after_a_closed_account_or_other_roles(
        self, ann: Person, admin: Caller, session: Session, change: dict[str, Any]
    ) -> None:
        ann.sign_in()
        user = user_of(session)

        changed = admin("PATCH", f"/users/{user.id}", change, etag='"1"')

        assert changed.status_code == 200
        assert self.dead(ann)

    def test_another_name_ends_nothing(self, ann: Person, admin: Caller, session: Session) -> None:
        ann.sign_in()
        admin("PATCH", f"/users/{user_of(session).id}", {"name": "Ann Else"}, etag='"1"')

        assert not self.dead(ann)

    def test_everywhere_else_after_another_password(
        self, person: MakePerson, ann: Person, clock: Clock
    ) -> None:
        ann.sign_in()
        clock.now += MINUTE
        elsewhere = person().sign_in()
        clock.now += MINUTE
        ann.get("/account")

        told = {"password": PASSWORD, "new": ANOTHER, "again": ANOTHER}
        assert ann.post("/account/password", **told).status_code == 303

        assert self.dead(elsewhere)
        assert not self.dead(ann)
        assert person().password().status_code == 422
        assert person().password(ANOTHER).status_code == 303

    def test_another_password_takes_the_old_one_and_a_fresh_factor(
        self, ann: Person, clock: Clock
    ) -> None:
        ann.sign_in()
        ann.get("/account")
        told = {"password": "not my password", "new": ANOTHER, "again": ANOTHER}
        assert ann.post("/account/password", **told).status_code == 422
        assert ann.post("/account/password", **{**told, "again": "x"}).status_code == 422
        weak = {"password": PASSWORD, "new": "password12345", "again": "password12345"}
        assert ann.post("/account/password", **weak).status_code == 422
        clock.now += 6 * MINUTE
        answer = ann.post("/account/password", **{**told, "password": PASSWORD})
        assert answer.headers["Location"] == "/sign-in/code"

    def test_after_being_idle_as_long_as_the_clinic_says(
        self, ann: Person, admin: Caller, clock: Clock
    ) -> None:
        admin("PATCH", "/clinic", {"session_idle_minutes": 5}, etag='"1"')
        ann.sign_in()
        for _ in range(3):
            clock.now += 4 * MINUTE
            assert not self.dead(ann)
        clock.now += 5 * MINUTE
        assert self.dead(ann)

    def test_after_twelve_hours_however_busy(self, ann: Person, clock: Clock) -> None:
        ann.sign_in()
        for _ in range(71):
            clock.now += 10 * MINUTE
            assert not self.dead(ann)
        clock.now += 10 * MINUTE
        assert self.dead(ann)

    def test_one_ends_another_of_ones_own_and_nobody_elses(
        self, person: MakePerson, ann: Person, session: Session, clock: Clock
    ) -> None:
        make_user(session, email="bob@example.com")
        bob = person(email="bob@example.com").sign_in()
        ann.sign_in()
        clock.now += MINUTE
        elsewhere = person().sign_in()
        listed = ann.client.get("/api/v1/sessions").json["items"]
        other = elsewhere.client.get("/api/v1/session").json["id"]
        foreign = bob.client.get("/api/v1/session").json["id"]

        assert len(listed) == 2
        assert ann.api("DELETE", f"/sessions/{foreign}").status_code == 404
        assert ann.api("DELETE", f"/sessions/{other}").status_code == 204
        assert self.dead(elsewhere)
        assert not self.dead(bob)
        assert ann.api("DELETE", "/session").status_code == 204
        assert self.dead(ann)


class TestAbuse47OtherSites:
    def test_a_cookie_counts_for_changes_only_from_a_page_of_ours(self, ann: Person) -> None:
        ann.sign_in()
        site = {"name": "S", "address": "A", "phone": "+12125550100", "time_zone": "UTC"}
        token = {"X-CSRF-Token": ann.csrf()}
        for headers, status in (
            ({}, 403),
            (OURS, 403),
            (token, 403),
            ({**token, "Sec-Fetch-Site": "cross-site"}, 403),
            ({**token, "Sec-Fetch-Site": "same-site"}, 403),
            ({**token, "Origin": "https://evil.example"}, 403),
            ({**token, "Origin": "null"}, 403),
            ({**OURS, "X-CSRF-Token": "0" * 64}, 403),
            ({**token, **OURS}, 201),
        ):
            answer = ann.client.post("/api/v1/sites", json=site, headers=headers)
            assert answer.status_code == status, headers
        assert (
            ann.client.post(
                "/api/v1/sites",
                json={**site, "name": "T"},
                headers={**token, "Origin": "http://localhost"},
            ).status_code
            == 201
        )

    def test_with_a_key_no_cookie_counts(self, ann: Person) -> None:
        ann.sign_in()
        told = {"Authorization": "Bearer ag_wrong"}

        assert ann.client.get("/api/v1/session", headers=told).status_code == 401

    def test_signing_somebody_in_from_elsewhere_is_refused(self, ann: Person) -> None:
        ann.headers = {"Sec-Fetch-Site": "cross-site"}

        assert ann.password().status_code == 403
        assert ann.token() == ""

    def test_a_form_of_another_session_does_nothing(self, ann: Person) -> None:
        ann.sign_in()
        ann.page = ""

        assert ann.post("/sign-out").headers["Location"] == "/account"
        assert ann.client.get("/api/v1/session").status_code == 200


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
        told = [(act.actor, act.entity_id, act.facts["what"]) for act in acts if act.facts]
        user_id = user_of(session).id
        assert ("nobody", user_id, "sign-in-refused") in told
        assert ("nobody", user_id, "second-factor-refused") in told


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


class TestStepUp:
    def test_people_are_let_at_accounts_only_with_a_fresh_factor(
        self, ann: Person, clock: Clock
    ) -> None:
        ann.sign_in()
        told = {"email": "new@example.com", "name": "New", "roles": ["scheduler"]}
        clock.now += 6 * MINUTE

        refused = ann.api("POST", "/users", told)
        assert (refused.status_code, refused.json["type"]) == (403, "/problems/step-up-needed")
        assert ann.client.get("/api/v1/users").status_code == 200
        ann.api("POST", "/session/step-up", {"code": ann.right_code()})
        assert ann.api("POST", "/users", told).status_code == 201

    def test_every_change_of_an_account_asks_for_it(self, app: Flask) -> None:
        for rule in app.url_map.iter_rules():
            view = app.view_functions[rule.endpoint]
            is_change = (rule.methods or set()) & {"POST", "PATCH", "PUT", "DELETE"}
            if getattr(view, "permission", None) in {"users:manage", "keys:manage"} and is_change:
                assert getattr(view, "step_up", False), rule

    def test_a_key_has_no_session(self, admin: Caller) -> None:
        assert admin.get("/session").status_code == 404
        assert admin.post("/session/step-up", {"code": "123456"}).status_code == 404


class TestAccounts:
    TOLD = {"email": "New@Example.com", "name": "New", "roles": ["scheduler", "clinician"]}  # noqa: RUF012

    def test_an_invitation_makes_an_account_and_writes_to_it(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        made = admin.post("/users", {**self.TOLD, "practitioner_id": str(world.prescriber_id)})

        assert (made.status_code, made.json["status"]) == (201, "invited")
        assert (made.json["email"], made.json["second_factor"]) == ("new@example.com", False)
        assert admin.get(made.headers["Location"]).json == made.json
        [message] = session.scalars(select(Message).where(Message.recipient == "user"))
        assert (message.kind, str(message.recipient_id)) == ("account-invitation", made.json["id"])

    def test_abuse_53_it_never_touches_an_account_that_is_there(
        self, ann: Person, admin: Caller, session: Session
    ) -> None:
        before = user_of(session).password_hash
        answer = admin.post("/users", {**self.TOLD, "email": "ANN@example.com"})

        assert (answer.status_code, answer.json["type"]) == (409, "/problems/already-exists")
        user = user_of(session)
        assert (user.password_hash, user.roles, user.name) == (before, ["admin"], "Ann Example")
        again = admin.post(f"/users/{user.id}/invite", etag='"1"')
        assert (again.status_code, again.json["type"]) == (409, "/problems/wrong-status")

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"roles": []}, "/roles"),
            ({"roles": ["owner"]}, "/roles/0"),
            ({"email": "nobody"}, "/email"),
            ({"status": "active"}, "/status"),
            ({"password_hash": "x"}, "/password_hash"),
            ({"is_admin": True}, "/is_admin"),
        ],
    )
    def test_what_cannot_be_told(self, admin: Caller, change: dict[str, Any], field: str) -> None:
        answer = admin.post("/users", {**self.TOLD, **change})

        assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, field)

    def test_another_clinics_practitioner_is_nobody(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        other = make_world(session, "Another Practice")
        enter_clinic(session, world.clinic_id)
        session.commit()

        told = {**self.TOLD, "practitioner_id": str(other.prescriber_id)}
        assert admin.post("/users", told).status_code == 404

    def test_one_address_may_work_at_two_clinics(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        make_world(session, "Another Practice")
        make_user(session, email="new@example.com")
        enter_clinic(session, world.clinic_id)
        session.commit()

        assert admin.post("/users", self.TOLD).status_code == 201

    def test_nobody_is_made_active_who_has_not_come(self, admin: Caller) -> None:
        made = admin.post("/users", self.TOLD)
        path = f"/users/{made.json['id']}"

        assert admin("PATCH", path, {"status": "active"}, etag='"1"').status_code == 409
        assert admin("PATCH", path, {"status": "disabled"}, etag='"1"').status_code == 200

    def test_somebody_stays_who_can_invite(self, ann: Person, session: Session) -> None:
        ann.sign_in()
        path = f"/users/{user_of(session).id}"

        for change in ({"roles": ["auditor"]}, {"status": "disabled"}):
            answer = ann.api("PATCH", path, change, **{"If-Match": '"1"'})
            assert (answer.status_code, answer.json["type"]) == (422, "/problems/unfit")

    def test_who_lost_every_factor_sets_one_up_anew(
        self, person: MakePerson, ann: Person, admin: Caller, session: Session
    ) -> None:
        ann.sign_in()
        user = user_of(session)
        assert admin.post(f"/users/{user.id}/forget-factors", etag='"1"').status_code == 200

        assert ann.client.get("/api/v1/session").status_code == 401
        assert person().password().headers["Location"] == "/sign-in/second-factor"

    def test_what_takes_a_licence_is_open_to_who_has_one(
        self, person: MakePerson, session: Session, world: World
    ) -> None:
        make_user(session, Role.CLINICIAN, practitioner_id=world.prescriber_id)
        ann = person().sign_in()
        [protocol] = ann.client.get("/api/v1/protocols").json["items"]
        path = f"/protocols/{protocol['id']}/versions"
        content = ann.client.get(f"/api/v1{path}/1").json["content"]
        ann.api("POST", path, {"content": content})

        signed = ann.api("POST", f"{path}/2/sign", **{"If-Match": '"1"'})

        assert signed.status_code == 200
        assert signed.json["signed_by"] == f"user:{user_of(session).id}"


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


class TestLinksByMail:
    """The worker writes the mail and makes the link; so this runs on a database of all."""

    def mailed(self, delivery: Delivery, server: MailServer) -> str:
        """The path that the last mail leads to."""
        delivery.sweep()
        body = server.mails[-1].get_body(("plain",))
        assert body is not None
        found = re.search(r"https://clinic\.example(/\S+)", body.get_content())
        assert found
        return found.group(1)

    @pytest.fixture
    def ann(self, app: Flask, committed: Session, committed_world: World, clock: Clock) -> Person:
        return Person.at(app, committed_world, clock)

    def invite(self, session: Session, world: World) -> UserAccount:
        enter_clinic(session, world.clinic_id)
        told = accounts.Invitation(email="Ann@example.com", name="Ann Example", roles=[Role.ADMIN])
        user = accounts.invite(session, told, SUNDAY_NOON)
        session.commit()
        return user

    def choose(self, ann: Person, path: str, password: str = ANOTHER) -> Any:
        assert ann.get(path).headers["Location"] == "/sign-in/new-password"
        ann.get("/sign-in/new-password")
        return ann.post("/sign-in/new-password", password=password, again=password)

    def test_an_invitation_lets_its_reader_choose_a_password_once(
        self,
        ann: Person,
        committed: Session,
        committed_world: World,
        delivery: Delivery,
        server: MailServer,
    ) -> None:
        self.invite(committed, committed_world)
        path = self.mailed(delivery, server)
        assert ann.password(ANOTHER).status_code == 422
        assert ann.get(path).status_code == 303  # a scanner follows it first
        assert self.choose(ann, path, "password12345").status_code == 422

        chosen = self.choose(ann, path)

        assert chosen.headers["Location"] == f"/sign-in/{committed_world.clinic_id}"
        assert ann.password(ANOTHER).headers["Location"] == "/sign-in/second-factor"
        thief = Person.at(ann.client.application, committed_world, ann.clock)
        assert self.choose(thief, path, "yellow boat near harbor").status_code == 422
        assert thief.get("/sign-in/new-password").status_code == 404
        assert ann.password(ANOTHER).status_code == 303

    def test_abuse_53_the_links_host_is_ours_whatever_the_request_says(
        self,
        ann: Person,
        committed: Session,
        committed_world: World,
        delivery: Delivery,
        server: MailServer,
    ) -> None:
        enter_clinic(committed, committed_world.clinic_id)
        make_user(committed)
        ann.client.post(
            f"/sign-in/{committed_world.clinic_id}/forgot",
            data={"email": "ann@example.com"},
            headers={**OURS, "Host": "evil.example", "X-Forwarded-Host": "evil.example"},
        )
        path = self.mailed(delivery, server)

        assert "evil" not in server.mails[-1].as_string()
        assert self.choose(ann, path).status_code == 303
        assert ann.password().status_code == 422
        assert ann.password(ANOTHER).headers["Location"] == "/sign-in/code"
        delivery.sweep()
        assert server.mails[-1]["Subject"] == "Your account was changed"

    def test_whoever_has_no_account_gets_the_same_answer_and_no_mail(
        self,
        ann: Person,
        committed: Session,
        committed_world: World,
        delivery: Delivery,
        server: MailServer,
    ) -> None:
        enter_clinic(committed, committed_world.clinic_id)
        make_user(committed)
        path = f"/sign-in/{committed_world.clinic_id}/forgot"
        told = [
            ann.post(path, email=email)
            for email in ("bob@example.com", "ann@example.com", "ann@example.com")
        ]

        assert told[0].data == told[1].data == told[2].data
        delivery.sweep()
        assert [mail["To"] for mail in server.mails] == ["Ann Example <ann@example.com>"] * 2
        assert ann.post(path, email="ann@example.com").status_code == 200
        assert ann.post(path, email="ann@example.com").status_code == 429

    @pytest.mark.parametrize("how", ["late", "closed", "invited-again"])
    def test_a_link_that_has_run_out_or_was_taken_back(
        self,
        ann: Person,
        committed: Session,
        committed_world: World,
        delivery: Delivery,
        server: MailServer,
        clock: Clock,
        how: str,
    ) -> None:
        user = self.invite(committed, committed_world)
        path = self.mailed(delivery, server)
        if how == "late":
            clock.now += timedelta(days=3)
        elif how == "closed":
            accounts.change(committed, user, {"status": UserStatus.DISABLED}, clock.now)
        else:
            accounts.invite_again(committed, user, clock.now)
        committed.commit()

        assert self.choose(ann, path).status_code == 422
        assert ann.password(ANOTHER).status_code == 422
        if how == "invited-again":
            assert self.choose(ann, self.mailed(delivery, server)).status_code == 303

    def test_the_worker_sees_no_secret(
        self, committed: Session, committed_world: World, worker_engine: Engine
    ) -> None:
        with worker_engine.connect() as connection:
            for column in ("password_hash", "totp_secret"):
                with pytest.raises(Exception, match="permission denied"):
                    connection.execute(text(f"SELECT {column} FROM user_account"))
                connection.rollback()


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


def test_keys_and_people_are_told_apart_by_name(
    key: Keyring, ann: Person, session: Session
) -> None:
    ann.sign_in()
    patients = key(Role.SCHEDULER).get("/patients").json
    assert ann.client.get("/api/v1/patients").json == patients


def test_the_first_admin_is_invited_from_a_shell(
    database: access.Access,
    committed: Session,
    committed_world: World,
    delivery: Delivery,
    server: MailServer,
    tmp_path: Path,
) -> None:
    owner = database.owner.render_as_string(hide_password=False).replace("+psycopg", "")
    told = {"DATABASE_URL": owner, "AFTERGLOW_SECRET": SHELL, "AFTERGLOW_VAR": str(tmp_path)}
    asked = ["create-admin", "Ann Example", "--email", "Ann@example.com"]

    made = CliRunner().invoke(cli.main, asked, env=told)

    assert (made.exit_code, made.output[:3]) == (0, "ag_"), made.output
    enter_clinic(committed, committed_world.clinic_id)
    assert (user_of(committed).roles, user_of(committed).status) == (["admin"], "invited")
    again = CliRunner().invoke(cli.main, asked, env=told)
    assert again.exit_code == 2
    assert "has an account" in again.output
