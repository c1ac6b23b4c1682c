"""Staff who sign in: with what, for how long, and from a page of ours alone."""

import re
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import AuditEvent, UserSession, enter_clinic
from models.vocabulary import Role
from tests.factories import World, make_world
from tests.integration.conftest import Caller, Clock, Keyring, MakePerson
from tests.staff import ANOTHER, MINUTE, OURS, PASSWORD, Person, make_user, user_of


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
        assert told == [
            (f"user:{user.id}", what)
            for what in ("password-right", "signed-in", "signed_in.step_up")
        ]

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

    def test_signing_in_anew_ends_the_session_that_this_browser_had(
        self, ann: Person, clock: Clock
    ) -> None:
        before = ann.sign_in().token()
        clock.now += MINUTE
        ann.sign_in()

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

    def test_one_that_was_idle_too_long_is_not_shown_as_if_it_went_on(
        self, ann: Person, person: MakePerson, clock: Clock
    ) -> None:
        ann.sign_in()
        clock.now += 20 * MINUTE

        told = person().sign_in().client.get("/api/v1/sessions").json["items"]
        assert len(told) == 1

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


def test_keys_and_people_are_told_apart_by_name(
    key: Keyring, ann: Person, session: Session
) -> None:
    ann.sign_in()
    patients = key(Role.SCHEDULER).get("/patients").json
    assert ann.client.get("/api/v1/patients").json == patients
