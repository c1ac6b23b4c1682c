"""Keys: what one may be narrowed to, from where it works, and how it is rotated."""

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from models.vocabulary import Role
from scheduler.permissions import BUNDLES, Permission
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World, clear
from tests.integration.conftest import Caller, Clock, Keyring

DESK = {"name": "front desk", "role": "scheduler"}


def made(admin: Caller, **more: Any) -> dict[str, Any]:
    answer = admin.post("/api-keys", DESK | more)
    assert answer.status_code == 201, answer.json
    return answer.json or {}


def caller(app: Flask, told: dict[str, Any]) -> Caller:
    return Caller(app.test_client(), told["key"])


def pointer(answer: TestResponse) -> str:
    assert answer.status_code == 422, answer.json
    return str(answer.json["errors"][0]["pointer"])


class TestScopes:
    def test_a_narrowed_key_opens_its_doors_alone(self, admin: Caller, app: Flask) -> None:
        told = made(admin, scopes=["appointments:read"])
        narrow = caller(app, told)

        assert told["scopes"] == ["appointments:read"]
        assert admin.get(f"/api-keys/{told['id']}").json["scopes"] == ["appointments:read"]
        assert told["id"] in {one["id"] for one in admin.get("/api-keys").json["items"]}
        assert narrow.get("/appointments").status_code == 200
        for path in ("/patients", "/sites", "/tasks"):
            assert narrow.get(path).status_code == 403
        assert narrow.post("/appointments", {}).status_code == 403

    def test_without_scopes_it_may_what_its_role_may(self, admin: Caller, app: Flask) -> None:
        told = made(admin)

        assert told["scopes"] is None
        assert caller(app, told).get("/patients").status_code == 200

    def test_none_goes_beyond_its_role(self, admin: Caller) -> None:
        beyond = Permission.KEYS_MANAGE
        assert beyond not in BUNDLES[Role.SCHEDULER]

        refused = admin.post("/api-keys", DESK | {"scopes": ["patients:read", beyond]})
        assert pointer(refused) == "/scopes"
        assert "keys:manage" in refused.text
        for wrong in ([], ["patients"], "patients:read", ["*"]):
            assert pointer(admin.post("/api-keys", DESK | {"scopes": wrong})).startswith("/scopes")


class TestNarrowed:
    """Whoever was given a part makes nobody stronger than that."""

    @pytest.fixture
    def narrow(self, admin: Caller, app: Flask) -> Caller:
        scopes = ["keys:manage", "users:manage", "setup:read", "session:own"]
        return caller(app, made(admin, role="admin", scopes=scopes))

    @pytest.mark.parametrize(
        "told",
        [
            {"role": "admin"},
            {"role": "scheduler"},
            {"role": "clinician", "scopes": ["health:read"]},
            {"role": "admin", "scopes": ["keys:manage", "bulk:export"]},
        ],
    )
    def test_it_makes_no_key_that_may_do_more(self, narrow: Caller, told: dict[str, Any]) -> None:
        assert narrow.post("/api-keys", DESK | told).status_code == 403

    def test_it_makes_one_that_may_do_as_much(self, narrow: Caller) -> None:
        assert made(narrow, role="admin", scopes=["setup:read", "keys:manage"])["key"]

    def test_it_is_not_told_the_secret_of_a_stronger_one_by_rotating_it(
        self, admin: Caller, narrow: Caller
    ) -> None:
        path = f"/api-keys/{made(admin, networks=['203.0.113.0/24'])['id']}"

        assert narrow.post(f"{path}/rotate", etag='"1"').status_code == 403
        assert narrow("PATCH", path, {"networks": []}, etag='"1"').status_code == 403
        assert narrow("DELETE", path, etag='"1"').status_code == 204  # to end one is always right

    def test_it_gives_no_role_that_may_do_more(self, admin: Caller, narrow: Caller) -> None:
        told = {"email": "new@example.com", "name": "New", "roles": ["auditor"]}
        assert narrow.post("/users", told).status_code == 403
        path = f"/users/{admin.post('/users', told).json['id']}"

        assert narrow("PATCH", path, {"roles": ["admin"]}, etag='"1"').status_code == 403
        assert narrow("PATCH", path, {"name": "Newer"}, etag='"1"').status_code == 200
        assert narrow("PATCH", path, {"status": "disabled"}, etag='"2"').status_code == 200


class TestNetworks:
    def test_it_works_from_there_alone(self, admin: Caller, app: Flask) -> None:
        told = made(admin, networks=["203.0.113.0/24", "2001:db8::1"])
        bearer = {"Authorization": f"Bearer {told['key']}"}

        def status(address: str) -> int:
            where = {"REMOTE_ADDR": address}
            client = app.test_client()
            return client.get("/api/v1/sites", headers=bearer, environ_base=where).status_code

        assert told["networks"] == ["203.0.113.0/24", "2001:db8::1/128"]
        assert [status(one) for one in ("203.0.113.9", "::ffff:203.0.113.9", "2001:db8::1")] == [
            200
        ] * 3
        assert [status(one) for one in ("203.0.114.9", "2001:db8::2", "127.0.0.1")] == [403] * 3
        assert [status(one) for one in ("203.0.113.9:4711", "unix:", "")] == [403] * 3

    def test_a_told_address_counts_for_nothing(self, admin: Caller, app: Flask) -> None:
        """Nobody but a proxy that is trusted says where a caller is."""
        outside = caller(app, made(admin, networks=["203.0.113.0/24"]))

        for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP"):
            refused = outside.get("/sites", **{name: "203.0.113.9"})
            assert refused.status_code == 403
            assert refused.json["type"] == "/problems/address-not-allowed"

    def test_it_can_be_let_in_from_elsewhere(self, admin: Caller, app: Flask) -> None:
        told = made(admin, networks=["203.0.113.0/24"])
        path = f"/api-keys/{told['id']}"

        assert admin("PATCH", path, {"networks": []}).status_code == 428
        changed = admin("PATCH", path, {"networks": ["127.0.0.0/8"], "name": "desk"}, etag='"1"')
        assert (changed.status_code, changed.json["networks"]) == (200, ["127.0.0.0/8"])
        assert caller(app, told).get("/sites").status_code == 200

    @pytest.mark.parametrize("wrong", ["10.0.0.1/8", "example.com", "10.0.0.0/33", "", "::g", 5])
    def test_only_networks_are_taken(self, admin: Caller, wrong: Any) -> None:
        assert pointer(admin.post("/api-keys", DESK | {"networks": [wrong]})) == "/networks/0"


class TestEnd:
    def test_it_ends_when_it_was_said(self, admin: Caller, app: Flask, clock: Clock) -> None:
        ends = SUNDAY_NOON + timedelta(hours=2)
        short = caller(app, made(admin, expires_at=ends.isoformat()))

        clock.now = ends - timedelta(seconds=1)
        assert short.get("/sites").status_code == 200
        clock.now = ends
        assert short.get("/sites").status_code == 401

    @pytest.mark.parametrize("after", [timedelta(0), timedelta(days=-1), timedelta(days=366)])
    def test_it_ends_within_a_year(self, admin: Caller, after: timedelta) -> None:
        ends = (SUNDAY_NOON + after).isoformat()
        assert pointer(admin.post("/api-keys", DESK | {"expires_at": ends})) == "/expires_at"

    def test_the_day_of_its_last_use_is_kept(self, admin: Caller, app: Flask, clock: Clock) -> None:
        told = made(admin)
        assert told["last_used_on"] is None

        clock.now = SUNDAY_NOON + timedelta(days=3)
        assert caller(app, told).get("/sites").status_code == 200
        read = admin.get(f"/api-keys/{told['id']}")
        assert read.json["last_used_on"] == clock.now.date().isoformat()
        assert read.headers["ETag"] == '"1"'  # nobody's change


class TestRotation:
    def rotated(self, admin: Caller, told: dict[str, Any]) -> dict[str, Any]:
        answer = admin.post(f"/api-keys/{told['id']}/rotate", etag='"1"')
        assert answer.status_code == 201, answer.json
        assert answer.headers["Location"] == f"/api/v1/api-keys/{answer.json['id']}"
        return answer.json or {}

    def test_both_work_for_a_week(self, admin: Caller, app: Flask, clock: Clock) -> None:
        old = made(admin, scopes=["setup:read"], networks=["127.0.0.1"])
        new = self.rotated(admin, old)

        assert new["replaces"] == old["id"]
        assert new["key"] != old["key"]
        for kept in ("name", "role", "practitioner_id", "scopes", "networks"):
            assert new[kept] == old[kept]
        assert [caller(app, one).get("/sites").status_code for one in (old, new)] == [200, 200]
        clock.now = SUNDAY_NOON + timedelta(days=7)
        assert [caller(app, one).get("/sites").status_code for one in (old, new)] == [401, 200]

    def test_the_old_one_can_be_ended_at_once(self, admin: Caller, app: Flask) -> None:
        old = made(admin)
        new = self.rotated(admin, old)

        assert admin("DELETE", f"/api-keys/{old['id']}", etag='"2"').status_code == 204
        assert [caller(app, one).get("/sites").status_code for one in (old, new)] == [401, 200]

    def test_never_more_than_two_live(self, admin: Caller) -> None:
        old = made(admin)
        self.rotated(admin, old)

        again = admin.post(f"/api-keys/{old['id']}/rotate", etag='"2"')
        assert (again.status_code, again.json["type"]) == (409, "/problems/already-exists")

    def test_a_dead_one_is_not_brought_back(self, admin: Caller) -> None:
        told = made(admin)
        admin("DELETE", f"/api-keys/{told['id']}", etag='"1"')

        refused = admin.post(f"/api-keys/{told['id']}/rotate", etag='"2"')
        assert (refused.status_code, refused.json["type"]) == (409, "/problems/key-ended")

    def test_it_takes_the_version_that_was_seen(self, admin: Caller) -> None:
        path = f"/api-keys/{made(admin)['id']}/rotate"

        assert admin.post(path).status_code == 428
        assert admin.post(path, etag='"9"').status_code == 412


class TestReasons:
    def test_who_may_not_read_about_patients_reads_no_reasons(
        self, desk: Caller, doctor: Caller, key: Keyring, booked: dict[str, Any]
    ) -> None:
        """They are free text: auditors learn that a gate was passed over, by whom and when."""
        path = f"/appointments/{booked['id']}"
        told = {"code": "preparation-done", "reason": "Severe panic; prepared at home."}
        assert doctor.post(f"{path}/overrides", told).status_code == 201
        gone = desk.post(f"{path}/cancel", {"reason": "Panic again."}, etag=etag_of(desk, path))
        assert gone.status_code == 200

        auditor = key(Role.AUDITOR)
        for part in ("overrides", "events"):
            assert "panic" in desk.get(f"{path}/{part}").text.lower()
            assert "panic" not in auditor.get(f"{path}/{part}").text.lower()
        events = auditor.get(f"{path}/events").json["items"]
        told_of = [one["facts"] for one in events if one["action"] == "override"]
        assert told_of == [{"overridden": ["preparation-done"]}]
        assert "panic" not in auditor.get("/audit-events").text.lower()


def etag_of(who: Caller, path: str) -> str:
    return str(who.get(path).headers["ETag"])


@pytest.fixture
def booked(session: Session, desk: Caller, world: World) -> dict[str, Any]:
    clear(session, world.patient_id, ["medical-clearance", "consent"])
    session.commit()
    told = {
        "patient_id": str(world.patient_id),
        "step_kind": "dosing",
        "starts_at": (MONDAY_9 + 7 * DAY).isoformat(),
    }
    answer = desk.post("/appointments", told)
    assert answer.status_code == 201, answer.json
    return answer.json or {}
