"""What every door of the API has in common, and what it does with what nobody should send."""

import io
import json
import re
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from openapi_spec_validator import validate
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import guards
from api.errors import STATUS
from api.problems import CATALOG
from models import Import, enter_clinic
from models.vocabulary import Role
from scheduler import imports
from scheduler.errors import Refusal
from scheduler.permissions import BUNDLES, MEANS, Permission
from scheduler.tenants import OperatorPermission
from tests.factories import World, make_room, make_world
from tests.integration.conftest import Caller, Keyring

PROBLEM = "application/problem+json"


def test_every_door_names_its_permission(app: Flask) -> None:
    """Also those that are mounted by hand: the map of routes is asked, not the decorators."""
    doors = {
        rule.endpoint: getattr(app.view_functions[rule.endpoint], "permission", None)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1")
    }

    assert len(doors) > 60
    named = Permission | OperatorPermission
    assert [name for name, asked in doors.items() if not isinstance(asked, named)] == []


def test_every_permission_opens_a_door_or_signs_or_shows(app: Flask) -> None:
    asked = {getattr(view, "permission", None) for view in app.view_functions.values()}

    assert set(Permission) - asked == {Permission.CHECKLISTS_SIGN, Permission.PART2_READ}
    assert set(OperatorPermission) <= asked
    assert set(MEANS) == set(Permission)
    assert set(BUNDLES) == set(Role)


def test_every_refusal_has_a_status() -> None:
    assert set(Refusal.__subclasses__()) == set(STATUS)


def test_the_description_is_valid_openapi(app: Flask) -> None:
    told = app.test_client().get("/api/openapi.json").json

    assert told is not None
    validate(told)
    assert told["openapi"].startswith("3.1")
    described = {path for path in told["paths"] if path.startswith("/api/v1")}
    mounted = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1")
    }
    assert described == mounted


def test_the_docs_page_asks_no_other_host(app: Flask) -> None:
    page = app.test_client().get("/api/docs/").get_data(as_text=True)

    assert "swagger-ui" in page
    assert "://" not in page.replace("http://localhost/", "")


@pytest.mark.parametrize("told", ["", "Bearer", "Bearer ag_wrong_key", "Basic YTpi"])
def test_without_a_key_nobody_comes_in(app: Flask, bound: Any, world: World, told: str) -> None:
    answer = app.test_client().get("/api/v1/patients", headers={"Authorization": told})

    assert (answer.status_code, answer.mimetype) == (401, PROBLEM)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_key_in_the_address_does_not_count(app: Flask, admin: Caller) -> None:
    assert app.test_client().get(f"/api/v1/sites?access_token={admin.key}").status_code == 401


def test_a_revoked_key_is_dead_at_once(admin: Caller, app: Flask) -> None:
    made = admin.post("/api-keys", {"name": "short", "role": "scheduler"})
    short = Caller(app.test_client(), made.json["key"])
    assert short.get("/sites").status_code == 200

    admin("DELETE", f"/api-keys/{made.json['id']}", etag='"1"')

    assert short.get("/sites").status_code == 401


@pytest.mark.parametrize(
    ("role", "method", "path"),
    [
        (Role.SCHEDULER, "POST", "/sites"),
        (Role.SCHEDULER, "POST", "/patients/00000000-0000-7000-8000-000000000001/clearances"),
        (Role.CLINICIAN, "GET", "/api-keys"),
        (Role.AUDITOR, "GET", "/patients"),
        (Role.AUDITOR, "POST", "/appointments"),
        (Role.SCHEDULER, "GET", "/audit-events"),
    ],
)
def test_a_role_opens_its_own_doors(key: Keyring, role: Role, method: str, path: str) -> None:
    assert key(role)(method, path, {} if method == "POST" else None).status_code == 403


def test_another_clinic_cannot_be_told_from_nothing(
    session: Session, key: Keyring, world: World
) -> None:
    desk = key(Role.SCHEDULER)
    other = make_world(session, "Another Practice")
    enter_clinic(session, world.clinic_id)
    session.commit()

    for path in ("patients", "practitioners"):
        foreign_id = other.patient_id if path == "patients" else other.prescriber_id
        foreign = desk.get(f"/{path}/{foreign_id}")
        nothing = desk.get(f"/{path}/{uuid4()}")
        assert foreign.status_code == nothing.status_code == 404
        told = [{**(one.json or {}), "instance": ""} for one in (foreign, nothing)]
        assert told[0] == told[1]


class TestWhatCannotBeRead:
    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"[" * 100_000, 400),
            (b'{"name": "a", "name": "b"}', 400),
            (b'{"name": NaN}', 400),
            (b"{", 400),
            (b"\xff\xfe", 400),
            (b'{"name": "a\\u0000b"}', 422),
            (b'{"name": "\\ud800"}', 422),
            ('{"name": "\u202egpj.exe"}'.encode(), 422),
            (b'"' + b"x" * 300_000 + b'"', 413),
            (b"null", 422),
            (b"[]", 422),
            (b'{"name": "Ann\\nBcc: x"}', 422),
        ],
    )
    def test_is_refused_and_never_a_fault_of_ours(
        self, admin: Caller, body: bytes, status: int
    ) -> None:
        answer = admin.client.post(
            "/api/v1/sites",
            data=body,
            headers={"Authorization": f"Bearer {admin.key}", "Content-Type": "application/json"},
        )

        assert (answer.status_code, answer.mimetype) == (status, PROBLEM), answer.json

    @pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "-1" + "0" * 400])
    @pytest.mark.parametrize(
        ("path", "body", "pointer"),
        [
            ("/protocols/{protocol}/versions", '{"content": {"a": [1, %s]}}', "/content/a/1"),
            ("/patients/{patient}/questionnaire-responses", '{"score": %s}', "/score"),
            ("/patients/{patient}/questionnaire-responses", '{"answers": {"1": %s}}', "/answers/1"),
            ("/protocols", "%s", "/"),
        ],
    )
    def test_a_number_beyond_all_is_named(
        self, doctor: Caller, world: World, number: str, path: str, body: str, pointer: str
    ) -> None:
        [protocol] = doctor.get("/protocols").json["items"]
        answer = doctor.client.post(
            f"/api/v1{path}".format(protocol=protocol["id"], patient=world.patient_id),
            data=body % number,
            headers={"Authorization": f"Bearer {doctor.key}", "Content-Type": "application/json"},
        )
        assert (answer.status_code, answer.mimetype) == (422, PROBLEM)
        assert answer.json is not None
        assert [one["pointer"] for one in answer.json["errors"]] == [pointer]

    @pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "multipart/form-data"])
    def test_only_json_is_read(self, admin: Caller, media_type: str) -> None:
        answer = admin.client.post(
            "/api/v1/sites",
            data=json.dumps({"name": "x"}),
            headers={"Authorization": f"Bearer {admin.key}", "Content-Type": media_type},
        )

        assert (answer.status_code, answer.mimetype) == (415, PROBLEM)

    @pytest.mark.parametrize(
        "zone", ["localtime", "../../etc/passwd", "posix/America/New_York", "UTC+25", "Nowhere", 5]
    )
    def test_zones_are_names_of_places(self, admin: Caller, zone: object) -> None:
        site = {"name": "S", "address": "A", "phone": "+12125550100", "time_zone": zone}

        assert admin.post("/sites", site).status_code == 422

    @pytest.mark.parametrize(
        "query", ["limit=0", "limit=-1", "limit=1000000000", "limit=x", "cursor=abc", "limt=5"]
    )
    def test_pages_have_bounds(self, admin: Caller, query: str) -> None:
        assert admin.get(f"/sites?{query}").status_code == 422

    def test_a_parameter_stands_once(self, admin: Caller) -> None:
        answer = admin.get("/appointments?status=booked&status=cancelled")

        assert (answer.status_code, answer.json["type"]) == (422, "/problems/invalid")
        assert answer.json["errors"] == [{"pointer": "/status", "detail": "Say it once."}]

    def test_a_cursor_belongs_to_its_list(self, admin: Caller) -> None:
        for number in range(3):
            site = {
                "name": f"S{number}",
                "address": "A",
                "phone": "+12125550100",
                "time_zone": "America/Denver",
            }
            assert admin.post("/sites", site).status_code == 201
        cursor = admin.get("/sites?limit=2").json["next"].split("cursor=")[1]

        assert len(admin.get(f"/sites?limit=2&cursor={cursor}").json["items"]) == 2
        assert admin.get(f"/rooms?limit=2&cursor={cursor}").status_code == 422

    def test_a_cursor_belongs_to_what_was_asked_for(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        for _ in range(2):
            make_room(session, world.site_id, "consulting")
        session.commit()
        following = admin.get(f"/rooms?site_id={world.site_id}&limit=1").json["next"]

        assert admin.get(following).status_code == 200
        assert admin.get(following.replace("limit=1", "limit=2")).status_code == 200
        for wrong in (
            f"{following}0",
            following.replace(str(world.site_id), str(uuid4())),
            following.replace(f"site_id={world.site_id}&", ""),
        ):
            assert admin.get(wrong).status_code == 422, wrong

    @pytest.mark.parametrize(
        ("path", "media_type", "body"),
        [
            ("/sites", "application/json", b'{"name": "A"}'.ljust(guards.LARGEST + 1)),
            (
                "/imports?kind=sites",
                "text/csv",
                b"name\n" + b"Annex\n" * (imports.MOST_BYTES // 6),
            ),
        ],
    )
    def test_a_body_that_does_not_say_how_long_it_is_is_never_cut_off(
        self, admin: Caller, session: Session, path: str, media_type: str, body: bytes
    ) -> None:
        """What fits would be taken for all of it."""
        answer = admin.client.post(
            f"/api/v1{path}",
            headers={"Authorization": f"Bearer {admin.key}", "Content-Type": media_type},
            input_stream=io.BytesIO(body),
            environ_overrides={
                "wsgi.input_terminated": True,
                "HTTP_TRANSFER_ENCODING": "chunked",
            },
        )

        assert (answer.status_code, answer.json["type"]) == (413, "/problems/request-too-large")
        assert session.scalars(select(Import.id)).all() == []

    def test_one_of_exactly_the_largest_size_is_read_to_its_end(self, admin: Caller) -> None:
        answer = admin.client.post(
            "/api/v1/sites",
            headers={
                "Authorization": f"Bearer {admin.key}",
                "Content-Type": "application/json",
            },
            input_stream=io.BytesIO(b'{"name": "A"}'.ljust(guards.LARGEST)),
            environ_overrides={"wsgi.input_terminated": True},
        )

        assert {one["pointer"] for one in answer.json["errors"]} >= {"/address"}

    def test_a_method_that_is_not_there_says_which_are(self, admin: Caller) -> None:
        answer = admin("DELETE", "/sites")

        assert (answer.status_code, answer.mimetype) == (405, PROBLEM)
        assert "POST" in answer.headers["Allow"]

    def test_a_method_cannot_be_smuggled(self, admin: Caller) -> None:
        answer = admin.get("/sites", **{"X-HTTP-Method-Override": "DELETE"})

        assert answer.status_code == 200

    def test_quotes_in_a_search_are_letters(self, desk: Caller) -> None:
        assert desk.get("/patients?q=%27%20OR%20%271%27=%271").json["items"] == []
        assert desk.get("/patients?q=%25").json["items"] == []


def test_set_up_from_nothing_to_a_bookable_clinic(admin: Caller, doctor: Caller) -> None:
    site = admin.post(
        "/sites",
        {"name": "New", "address": "1 Way", "phone": "212 555 0100", "time_zone": "America/Denver"},
    )
    assert (site.status_code, site.json["phone"]) == (201, "+12125550100")
    room = admin.post("/rooms", {"site_id": site.json["id"], "name": "R", "kind": "consulting"})
    person = admin.post("/practitioners", {"name": "New Therapist", "email": "n@example.com"})
    licence = {
        "role": "therapist",
        "licence": "T",
        "valid_from": "2026-01-01",
        "valid_until": "2030-01-01",
    }
    path = f"/practitioners/{person.json['id']}/qualifications"
    assert admin.post(path, licence).status_code == 201
    for schedule_id in (room.json["schedule_id"], person.json["schedule_id"]):
        hours = {
            "site_id": site.json["id"],
            "first_start": "2026-01-05T09:00",
            "minutes": 480,
            "rule": "FREQ=WEEKLY;BYDAY=MO",
        }
        assert admin.post(f"/schedules/{schedule_id}/opening-hours", hours).status_code == 201

    found = admin.get(
        f"/openings?step_kind=preparation&site_id={site.json['id']}"
        "&from=2026-03-02T00:00:00Z&to=2026-03-03T00:00:00Z"
    )

    assert found.json["items"][0]["starts_at"] == "2026-03-02T16:00:00Z"
    changed = admin("PATCH", f"/sites/{site.json['id']}", {"name": "Newer"}, etag='"1"')
    assert (changed.json["name"], changed.headers["ETag"]) == ("Newer", '"2"')
    path = f"/schedules/{room.json['schedule_id']}/opening-hours"
    [kept] = admin.get(path).json["items"]
    hours = {"site_id": site.json["id"], "first_start": "2026-01-05T09:00", "minutes": 60}
    for rule in (
        "X",
        "FREQ=SECONDLY",
        "FREQ=HOURLY",
        "FREQ=DAILY;BYHOUR=9,10",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;COUNT=3;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY\nRRULE:FREQ=WEEKLY",
    ):
        answer = admin.post(path, {**hours, "rule": rule})
        assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/rule"), rule
    elsewhere = f"/schedules/{person.json['schedule_id']}/opening-hours/{kept['id']}"
    assert admin("DELETE", elsewhere, etag='"1"').status_code == 404
    assert admin("DELETE", f"{path}/{kept['id']}").status_code == 428
    assert admin("DELETE", f"{path}/{kept['id']}", etag='"1"').status_code == 204
    assert admin.get(path).json["items"] == []


def test_a_protocol_is_drafted_and_signed_by_a_prescriber(
    doctor: Caller, desk: Caller, world: World
) -> None:
    [protocol] = doctor.get("/protocols").json["items"]
    path = f"/protocols/{protocol['id']}/versions"
    content = doctor.get(f"{path}/1").json["content"]
    broken = json.loads(json.dumps(content))
    del broken["visits"]["dosing"]["minutes"]["source"]
    answer = doctor.post(path, {"content": broken})
    assert answer.status_code == 422
    assert answer.json["errors"][0]["pointer"] == "/content/visits/dosing/minutes"

    draft = doctor.post(path, {"content": content})
    assert (draft.status_code, draft.json["number"], draft.json["signed_at"]) == (201, 2, None)
    course = {"patient_id": str(world.patient_id), "protocol_version_id": draft.json["id"]}
    assert desk.post("/courses", course).json["type"] == "/problems/not-signed"
    signed = doctor.post(f"{path}/2/sign", etag='"1"')
    assert (signed.status_code, signed.json["signed_by"].startswith("key:clinician/")) == (
        200,
        True,
    )
    assert doctor.post(f"{path}/2/sign", etag='"2"').status_code == 409

    opened = desk.post("/courses", course)
    assert opened.status_code == 201
    assert [step["key"] for step in opened.json["steps"]] == [
        "preparation",
        "dosing-1",
        "integration-1",
        "dosing-2",
    ]
    ended = doctor.post(
        f"/courses/{opened.json['id']}/discontinue", {"reason": "moved away"}, etag='"1"'
    )
    assert ended.json["status"] == "revoked"


def test_health_says_what_is_missing(app: Flask, bound: Any) -> None:
    client = app.test_client()

    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").json == {"status": "not ready", "failing": ["worker"]}
    assert b"afterglow_http_request_duration_seconds" in client.get("/metrics").data


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer another"}, 401),
        ({"Authorization": "Basic Zm9yLXByb21ldGhldXM="}, 401),
        ({"Authorization": "Bearer for-prometheus"}, 200),
    ],
)
def test_metrics_are_read_by_their_token_where_one_is_set(
    app: Flask, bound: Any, monkeypatch: pytest.MonkeyPatch, sent: dict[str, str], status: int
) -> None:
    monkeypatch.setitem(app.config, "METRICS_TOKEN", "for-prometheus")
    answer = app.test_client().get("/metrics", headers=sent)
    assert answer.status_code == status
    assert (b"afterglow_http_request" in answer.data) is (status == 200)


def test_the_type_of_a_problem_leads_to_its_page(app: Flask) -> None:
    client = app.test_client()
    told = client.get("/api/v1/patients").json["type"]

    page = client.get(told)

    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "What to do:" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert all(code in client.get("/problems/").text for code in CATALOG)
    assert client.get("/problems/nothing-like-it").status_code == 404
