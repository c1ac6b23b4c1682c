"""Webhooks over REST: set up, looked at, tested, replayed; and the addresses that are refused."""

import socket
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from api.webhooks import MOST
from models import (
    IdempotencyKey,
    Task,
    Webhook,
    WebhookDelivery,
    WebhookSecret,
    enter_clinic,
)
from models.vocabulary import DeliveryState, Role, SwitchedOff, TaskKind, TaskStatus
from notifications.outside import Outside
from scheduler import tasks
from scheduler.tasks import Wanted
from tests.factories import MONDAY_9, SUNDAY_NOON, World, make_world
from tests.integration.conftest import Caller, Keyring

URL = "https://127.0.0.1:9/hooks"
"""This machine is one of the test's own networks; nobody listens."""


@pytest.fixture
def made(admin: Caller) -> Any:
    answer = admin.post("/webhooks", {"url": URL, "event_types": ["appointment.*"]})
    assert answer.status_code == 201, answer.json
    return answer


def book(desk: Caller, world: World) -> Any:
    told = {
        "patient_id": str(world.patient_id),
        "step_kind": "preparation",
        "starts_at": MONDAY_9.isoformat(),
    }
    return desk.post("/appointments", told).json


class TestSettingUp:
    def test_the_secret_is_shown_once(self, admin: Caller, made: Any, session: Session) -> None:
        told = made.json
        assert told["secret"].startswith("whsec_")
        assert (told["enabled"], told["disabled_why"], told["failing_since"]) == (True, None, None)
        path = f"/webhooks/{told['id']}"
        assert made.headers["Location"] == f"/api/v1{path}"
        read = admin.get(path)
        assert read.headers["ETag"] == made.headers["ETag"]
        listed = admin.get("/webhooks").json["items"]
        for shown in (read.json, *listed):
            assert shown == {name: value for name, value in told.items() if name != "secret"}
        audit = session.execute(text("SELECT action, entity, facts::text FROM audit_event")).all()
        assert ("create", "webhook") in {(row.action, row.entity) for row in audit}
        assert told["secret"] not in str(audit)

    def test_an_answer_that_is_repeated_has_no_secret_and_none_is_kept(
        self, admin: Caller, session: Session
    ) -> None:
        told = {"url": URL, "event_types": ["*"]}
        first = admin.post("/webhooks", told, **{"Idempotency-Key": "one-and-only"})
        again = admin.post("/webhooks", told, **{"Idempotency-Key": "one-and-only"})
        assert again.status_code == 201
        shown = dict(first.json or {})
        secret = shown.pop("secret")
        assert again.json == shown
        assert len(admin.get("/webhooks").json["items"]) == 1
        kept = [one.body for one in session.scalars(select(IdempotencyKey))]
        assert shown in kept
        assert secret not in str(kept)

    def test_it_is_changed_by_whoever_has_seen_it(self, admin: Caller, made: Any) -> None:
        path = f"/webhooks/{made.json['id']}"
        change = {"description": "The EHR", "event_types": ["course.*", "course.*"]}
        assert admin("PATCH", path, change).status_code == 428
        changed = admin("PATCH", path, change, etag='"1"')
        assert changed.json["event_types"] == ["course.*"]
        assert changed.json["description"] == "The EHR"
        assert admin("PATCH", path, change, etag='"1"').status_code == 412

    def test_it_is_removed_with_all_that_it_was_told(
        self, admin: Caller, desk: Caller, made: Any, world: World, session: Session
    ) -> None:
        book(desk, world)
        assert len(admin.get("/webhook-deliveries").json["items"]) == 1
        path = f"/webhooks/{made.json['id']}"
        assert admin("DELETE", path, etag='"1"').status_code == 204
        assert admin.get(path).status_code == 404
        for table in (WebhookDelivery, WebhookSecret):
            assert session.scalars(select(table.id)).all() == []

    def test_a_clinic_has_twenty_at_most(self, admin: Caller) -> None:
        told = {"url": URL, "event_types": ["*"]}
        for _ in range(MOST):
            assert admin.post("/webhooks", told).status_code == 201
        refused = admin.post("/webhooks", told)
        assert (refused.status_code, refused.json["most"]) == (409, 20)
        assert refused.json["type"] == "/problems/too-many-webhooks"

    @pytest.mark.parametrize(
        ("told", "field"),
        [
            ({"event_types": ["*"]}, "/url"),
            ({"url": URL}, "/event_types"),
            ({"url": URL, "event_types": []}, "/event_types"),
            ({"url": URL, "event_types": ["appointment.eaten"]}, "/event_types/0"),
            ({"url": URL, "event_types": ["ping"]}, "/event_types/0"),
            ({"url": URL, "event_types": "*"}, "/event_types"),
            ({"url": URL, "event_types": ["*"], "secret": "whsec_mine"}, "/secret"),
            ({"url": URL, "event_types": ["*"], "version": 7}, "/version"),
            ({"url": URL, "event_types": ["*"], "disabled_at": None}, "/disabled_at"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, admin: Caller, told: dict[str, Any], field: str
    ) -> None:
        answer = admin.post("/webhooks", told)
        assert answer.status_code == 422
        assert [one["pointer"] for one in answer.json["errors"]] == [field]

    def test_the_catalogue_says_what_there_is(self, admin: Caller) -> None:
        items = admin.get("/webhook-event-types").json["items"]
        booked = next(one for one in items if one["type"] == "appointment.booked")
        assert booked["data"][:2] == ["clinic_id", "appointment_id"]
        assert all(one["meaning"] for one in items)

    @pytest.mark.parametrize("role", [Role.SCHEDULER, Role.CLINICIAN, Role.AUDITOR])
    def test_it_is_the_admin_s(self, key: Keyring, made: Any, role: Role) -> None:
        other = key(role)
        assert other.get("/webhooks").status_code == 403
        assert other.get("/webhook-deliveries").status_code == 403
        assert other.post("/webhooks", {"url": URL, "event_types": ["*"]}).status_code == 403
        assert other.post(f"/webhooks/{made.json['id']}/test").status_code == 403

    def test_another_clinic_s_cannot_be_told_from_nothing(
        self, session: Session, admin: Caller, made: Any, world: World
    ) -> None:
        other = make_world(session, "Another Practice")
        foreign_id = uuid7()
        session.add(Webhook(id=foreign_id, url=URL, event_types=["*"]))
        session.flush()
        enter_clinic(session, world.clinic_id)
        session.commit()
        assert other.clinic_id != world.clinic_id
        for path in ("", "/test", "/enable", "/disable", "/rotate-secret"):
            told = []
            for webhook_id in (foreign_id, uuid4()):
                method = "POST" if path else "GET"
                answer = admin(
                    method, f"/webhooks/{webhook_id}{path}", {} if path else None, etag='"1"'
                )
                told.append({**(answer.json or {}), "instance": ""})
                assert answer.status_code == 404
            assert told[0] == told[1]


class TestAddressesThatAreRefused:
    """As it is saved; what it leads to is looked at again before each try."""

    @pytest.fixture
    def public_only(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(app.config, "OUTSIDE", Outside((), only_port=443))

    @pytest.mark.usefixtures("public_only")
    @pytest.mark.parametrize(
        "url",
        [
            "http://127.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://017700000001/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::1]/",
            "https://[::]/",
            "https://[::127.0.0.1]/",
            "https://localhost/",
            "https://169.254.169.254/latest/meta-data/",
            "https://0/",
            "https://0.0.0.0/",
            "https://10.0.0.1/",
            "https://172.16.0.1/",
            "https://192.168.1.1/",
            "https://100.64.0.1/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://[fe80::1%25lo]/",
            "https://[ff02::1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[64:ff9b:1::a00:1]/",
            "https://[2002:7f00:1::]/",
            "https://[2001:db8::1]/",
            "https://8.8.8.8:22/",
            "https://8.8.8.8:8443/",
            "http://8.8.8.8/",
            "http://8.8.8.8:443/",
            "https://user@8.8.8.8/",
            "https://user:pass@8.8.8.8/",
            "https://@8.8.8.8/",
            "https://8.8.8.8/#part",
            "https://8.8.8.8:0/",
            "https://8.8.8.8:99999/",
            "https://8.8.8.8 /",
            "https://8.8.8.8/\r\nX: y",
            "https:///path",
            "https://",
            "//8.8.8.8/",
            "file:///etc/passwd",
            "gopher://8.8.8.8/",
            "ftp://8.8.8.8/",
            "javascript:alert(1)",
            "https://[/",
            "https://b\u00fccher.example/",
            "https://8.8.8.8/" + "a" * 2000,
            "",
            7,
            None,
        ],
    )
    def test_inside_or_not_over_https_or_no_address(self, admin: Caller, url: Any) -> None:
        answer = admin.post("/webhooks", {"url": url, "event_types": ["*"]})
        assert answer.status_code == 422, answer.json
        assert [one["pointer"] for one in answer.json["errors"]] == ["/url"]

    @pytest.mark.usefixtures("public_only")
    def test_a_name_counts_by_every_address_it_has(
        self, admin: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = socket.getaddrinfo
        addresses = ["93.184.216.34"]

        def asked(host: str, port: int, *rest: Any, **more: Any) -> Any:
            if host != "hooks.example.test":
                return real(host, port, *rest, **more)
            if not addresses:
                raise socket.gaierror(socket.EAI_NONAME, "unknown")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", asked)
        told = {"url": "https://hooks.example.test/a", "event_types": ["*"]}
        made = admin.post("/webhooks", told)
        assert made.status_code == 201
        path = f"/webhooks/{made.json['id']}"

        for now in (["93.184.216.34", "10.0.0.1"], []):
            addresses[:] = now
            assert admin.post("/webhooks", told).status_code == 422
            changed = admin("PATCH", path, {"url": told["url"]}, etag='"1"')
            assert changed.status_code == 422
            assert changed.json["errors"][0]["pointer"] == "/url"
        assert admin("PATCH", path, {"description": None}, etag='"1"').status_code == 200


class TestActing:
    def test_a_secret_is_replaced_with_time_to_change(
        self, admin: Caller, made: Any, session: Session
    ) -> None:
        path = f"/webhooks/{made.json['id']}/rotate-secret"
        turned = admin.post(path, {"keep_hours": 2}, etag='"1"')
        assert turned.json["secret"] not in {None, made.json["secret"]}
        assert turned.json["previous_secret_until"] is not None
        assert admin.post(path, {}, etag='"1"').status_code == 412
        assert admin.post(path, {"keep_hours": 169}, etag='"2"').status_code == 422
        at_once = admin.post(path, {"keep_hours": 0}, etag='"2"')
        assert at_once.json["previous_secret_until"] is None
        assert len(session.scalars(select(WebhookSecret.id)).all()) == 2

    def test_a_test_is_a_ping(self, admin: Caller, made: Any) -> None:
        sent = admin.post(f"/webhooks/{made.json['id']}/test")
        assert (sent.status_code, sent.json["state"]) == (202, "pending")
        whole = admin.get(sent.headers["Location"]).json
        assert (whole["type"], whole["tries"]) == ("ping", [])
        assert whole["data"]["webhook_id"] == made.json["id"]

    def test_switched_off_it_is_told_nothing_and_on_again_what_was_held(
        self, admin: Caller, desk: Caller, made: Any, world: World, session: Session
    ) -> None:
        path = f"/webhooks/{made.json['id']}"
        booked = book(desk, world)
        off = admin.post(f"{path}/disable", etag='"1"')
        assert (off.json["enabled"], off.json["disabled_why"]) == (False, "by-hand")
        assert admin.post(f"{path}/disable", etag='"2"').status_code == 409
        assert admin.post(f"{path}/test").status_code == 409
        visit = f"/appointments/{booked['id']}"
        seen = desk.get(visit).headers["ETag"]
        cancelled = desk.post(f"{visit}/cancel", {"reason": "ill"}, etag=seen)
        assert cancelled.status_code == 200, cancelled.json
        [held] = admin.get("/webhook-deliveries").json["items"]
        assert held["state"] == "held"
        replay = f"/webhook-deliveries/{held['id']}/replay"
        assert admin.post(replay, etag='"2"').status_code == 409

        wanted = Wanted(
            kind=TaskKind.CHECK_WEBHOOK,
            subject_id=session.scalars(select(Webhook.id)).one(),
            due_at=SUNDAY_NOON,
        )
        tasks.ask(session, wanted)
        on = admin.post(f"{path}/enable", etag='"2"')
        assert (on.json["enabled"], on.json["disabled_why"]) == (True, None)
        assert admin.post(f"{path}/enable", etag='"3"').status_code == 409
        [let_go] = admin.get("/webhook-deliveries?state=pending").json["items"]
        assert let_go["id"] == held["id"]
        assert session.scalars(select(Task.status).where(Task.kind == wanted.kind)).all() == [
            TaskStatus.COMPLETED
        ]

    def test_what_was_told_can_be_told_again(
        self, admin: Caller, made: Any, session: Session
    ) -> None:
        sent = admin.post(f"/webhooks/{made.json['id']}/test").json
        path = f"/webhook-deliveries/{sent['id']}"
        session.execute(text("UPDATE webhook_delivery SET state = 'failed', attempts = 10"))
        etag = admin.get(path).headers["ETag"]
        assert admin.post(f"{path}/replay").status_code == 428
        again = admin.post(f"{path}/replay", etag=etag)
        assert (again.json["state"], again.json["attempts"]) == ("pending", 0)
        assert again.json["event_id"] == sent["event_id"]
        assert admin.post(f"{path}/replay", etag=etag).status_code == 412
        session.execute(text("UPDATE webhook_delivery SET state = 'sending', leased_until = now()"))
        assert admin.post(f"{path}/replay", etag=again.headers["ETag"]).status_code == 409

    def test_deliveries_are_found_by_webhook_state_and_time(
        self, admin: Caller, made: Any, session: Session
    ) -> None:
        path = "/webhook-deliveries"
        for _ in range(3):
            admin.post(f"/webhooks/{made.json['id']}/test")
        first = session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)).first()
        assert first is not None
        first.state = DeliveryState.DELIVERED
        session.flush()

        def found(query: str) -> int:
            return len(admin.get(f"{path}?{query}").json["items"])

        assert found(f"webhook_id={made.json['id']}") == 3
        assert found(f"webhook_id={uuid4()}") == 0
        assert (found("state=delivered"), found("state=pending")) == (1, 2)
        assert found("from=2020-01-01T00:00:00Z") == 3
        assert found("to=2020-01-01T00:00:00Z") == 0
        assert admin.get(f"{path}?state=eaten").status_code == 422
        page = admin.get(f"{path}?limit=2").json
        assert len(page["items"]) == 2
        assert len(admin.get(page["next"]).json["items"]) == 1
        assert page["items"][0]["created_at"] >= page["items"][1]["created_at"]


def test_metrics_count_what_is_on_its_way(admin: Caller, made: Any) -> None:
    admin.post(f"/webhooks/{made.json['id']}/test")
    told = admin.client.get("/metrics").get_data(as_text=True)
    assert 'afterglow_webhook_deliveries{state="pending"} 1.0' in told
    assert "afterglow_webhook_deliveries_oldest_due_seconds" in told


def test_why_it_was_switched_off_is_shown(admin: Caller, made: Any, session: Session) -> None:
    webhook = session.scalars(select(Webhook)).one()
    webhook.disabled_at, webhook.disabled_why = SUNDAY_NOON, SwitchedOff.FAILING
    session.flush()
    assert admin.get(f"/webhooks/{made.json['id']}").json["disabled_why"] == "failing"
