"""Accounts: who makes them, what changes about them, and who stays."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import keys
from api.keys import Holder
from models import Message, enter_clinic
from models.vocabulary import Role
from tests.factories import SUNDAY_NOON, World, make_world
from tests.integration.conftest import Caller, Clock, MakePerson
from tests.staff import MINUTE, Person, make_user, user_of


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

    @pytest.mark.parametrize("more", [{"scopes": ["setup:read"]}, {"expires_at": SUNDAY_NOON}])
    def test_a_key_that_can_invite_nobody_stays_for_nobody(
        self, ann: Person, session: Session, more: dict[str, Any]
    ) -> None:
        keys.issue_to(session, Holder("old", Role.ADMIN, **more), SUNDAY_NOON)
        session.commit()
        ann.sign_in()

        path = f"/users/{user_of(session).id}"
        answer = ann.api("PATCH", path, {"status": "disabled"}, **{"If-Match": '"1"'})
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
