"""Who did or read what: every door writes it down, and who is turned away is on it too."""

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

import demonstration
from api import keys, trail
from api.caller import requires
from app import build
from database.access import Access
from models import AuditEvent, db, enter_clinic
from models.vocabulary import AuditOutcome, Role
from scheduler.brakes import AT_ONCE, MOST_KNOWN, SECONDS_EACH, Brake
from scheduler.permissions import BUNDLES, IMPERSONAL, Permission
from tests.factories import World, make_world
from tests.integration.conftest import Caller, Clock, Keyring, settings

AGENT = {"User-Agent": "a browser", "X-Request-Id": "01a222ac-6ea7-7244-8bf2-200432a37e84"}
NOW = datetime(2027, 1, 4, 14, tzinfo=UTC)
TIMES = "from=2027-01-01T00:00:00Z&to=2027-01-20T00:00:00Z"
QUERIES = {
    "/api/v1/readiness": f"?{TIMES}",
    "/api/v1/openings": f"?step_kind=dosing&{TIMES}",
    "/api/v1/message-report": f"?{TIMES}",
    "/api/v1/sites/<uuid:site_id>/holidays": "?year=2027",
    "/api/v1/message-preview": "?kind=reminder",
}
QUERIES |= {
    f"/api/v1/reports/{name}": "?from=2027-01-01&to=2027-02-01"
    for name in (
        *("utilisation", "no-shows", "integration-window"),
        *("deliveries", "readiness", "time-to-first-dose"),
    )
}
"""What some doors want to be told."""


def filled(rule: str, ids: dict[str, str]) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda part: ids[part[1]], rule)


def caller(app: Flask, session: Session, role: Role) -> Caller:
    _, secret = keys.issue(session, str(role), role, None, NOW)
    session.commit()
    return Caller(app.test_client(), secret)


def lines(session: Session) -> list[AuditEvent]:
    session.expire_all()
    return list(session.scalars(select(AuditEvent).order_by(AuditEvent.sequence)))


def last(session: Session) -> AuditEvent:
    return lines(session)[-1]


class TestEveryDoor:
    @pytest.fixture
    def served(self, session: Session, bound: Any, clock: Clock) -> dict[str, UUID]:
        """A clinic with courses and visits, and an id for what parts of addresses name."""
        clock.now = NOW
        clinic_id = demonstration.make(session, NOW)
        enter_clinic(session, clinic_id)
        session.commit()
        known = {name: session.scalar(select(model.id)) for name, model in trail.SUBJECTS.items()}
        return {name: found or uuid4() for name, found in known.items()}

    def test_that_shows_patients_writes_one_line(
        self, app: Flask, session: Session, served: dict[str, UUID]
    ) -> None:
        """Whatever door is added: what is shown, or that there was nothing to show."""
        people = {role: caller(app, session, role) for role in Role}
        walked, shown = 0, 0
        for rule in app.url_map.iter_rules():
            asked = getattr(app.view_functions[rule.endpoint], "permission", None)
            if not isinstance(asked, Permission) or "GET" not in (rule.methods or ()):
                continue
            ids = {part: str(served.get(part, uuid4())) for part in rule.arguments}
            ids |= {"number": "1", "code": "phq-9"} if {"number", "code"} & ids.keys() else {}
            who = next(people[role] for role in Role if asked in BUNDLES[role])
            trail.BRAKE.known.clear()
            before = len(lines(session))
            path = filled(rule.rule, ids)
            answer = who.get(path + QUERIES.get(rule.rule, ""))
            assert answer.status_code in {200, 404}, (path, answer.json)
            answer.get_data()
            written = lines(session)[before:]
            if asked in IMPERSONAL and answer.status_code == 200:
                assert written == [], path
                continue
            assert len(written) == 1, path
            walked, shown = walked + 1, shown + (answer.status_code == 200)
            outcome = AuditOutcome.SUCCESS if answer.status_code == 200 else AuditOutcome.DENIED
            assert (written[0].outcome, written[0].permission) == (outcome, asked), path
            theirs = {"patient_id", "appointment_id", "course_id"} & rule.arguments
            if answer.status_code == 200 and theirs:
                assert written[0].patient_id is not None, path
        assert walked > 45
        assert shown > 30

    def test_of_the_board_writes_one_line_however_many_visits(
        self, app: Flask, session: Session, served: dict[str, UUID]
    ) -> None:
        auditor = caller(app, session, Role.AUDITOR)
        board = auditor.get("/readiness?from=2027-01-01T00:00:00Z&to=2027-02-28T00:00:00Z")

        count = len(board.json["items"])
        assert count > 5
        line = last(session)
        assert (line.action, line.entity, line.patient_id) == ("read", "appointment", None)
        assert line.facts["count"] == count
        assert line.facts["by"] == ["from", "to"]

    def test_that_changes_something_writes_it_with_the_change(
        self, doctor: Caller, desk: Caller, session: Session, world: World
    ) -> None:
        told = {"email": "new@example.com"}
        changed = desk("PATCH", f"/patients/{world.patient_id}", told, etag='"1"', **AGENT)

        assert changed.status_code == 200
        line = last(session)
        assert (line.action, line.facts["changed"]) == ("update", ["email"])
        assert "new@" not in json.dumps(line.facts)

    def test_says_where_from_and_what_let_one_in(
        self, desk: Caller, session: Session, world: World
    ) -> None:
        desk.get(f"/patients/{world.patient_id}", **AGENT)

        line = last(session)
        assert (line.address, str(line.request_id)) == ("127.0.0.1", AGENT["X-Request-Id"])
        assert line.agent_hash == hashlib.sha256(b"a browser").digest()
        assert (line.role, line.permission) == ("scheduler", "patients:read")

    def test_hashes_what_was_searched_for(self, desk: Caller, session: Session) -> None:
        found = []
        for name in ("Rivera", "Rivera", "Other"):
            assert desk.get(f"/patients?q={name}").status_code == 200
            found.append(last(session).facts)

        assert found[0]["search"] == found[1]["search"] != found[2]["search"]
        assert found[0]["by"] == ["q"]
        assert isinstance(found[0]["count"], int)
        assert "Rivera" not in json.dumps(found)

    def test_that_has_nothing_new_and_an_answer_kept_are_reads_too(
        self, doctor: Caller, session: Session, world: World
    ) -> None:
        path = f"/patients/{world.patient_id}"
        etag = doctor.get(path).headers["ETag"]
        before = len(lines(session))
        assert doctor.get(path, **{"If-None-Match": etag}).status_code == 304
        assert len(lines(session)) == before + 1
        for _ in range(2):
            told = {"patient_id": str(world.patient_id), "reason": "They lie on the floor"}
            doctor.post("/break-glass", told, **{"Idempotency-Key": "again-again"})
        assert [line.action for line in lines(session)[before:]] == ["read", "create", "read"]

    def test_of_a_calendar_and_a_link_is_on_it_too(
        self, desk: Caller, session: Session, world: World
    ) -> None:
        made = desk.post(f"/patients/{world.patient_id}/calendar-feeds").json
        desk.client.get(made["url"].removeprefix("http://localhost"))

        line = last(session)
        assert (line.actor, line.entity) == ("calendar", "calendar_feed")
        assert line.patient_id == world.patient_id


class TestTurnedAway:
    def test_who_may_not_or_finds_nothing_is_written_down(
        self, key: Keyring, session: Session, world: World
    ) -> None:
        auditor, nobody = key(Role.AUDITOR), uuid4()
        assert auditor.get(f"/patients/{world.patient_id}").status_code == 403
        line = last(session)
        assert (line.outcome, line.patient_id) == (AuditOutcome.DENIED, world.patient_id)
        assert (line.permission, line.facts["status"]) == ("patients:read", 403)
        assert auditor.get(f"/courses/{nobody}").status_code == 404
        line = last(session)
        assert (line.outcome, line.entity_id, line.patient_id) == ("denied", nobody, None)

    def test_another_clinics_patient_is_nobody(
        self, desk: Caller, session: Session, world: World
    ) -> None:
        other = make_world(session, "Another Practice")
        enter_clinic(session, world.clinic_id)
        session.commit()
        assert desk.get(f"/patients/{other.patient_id}").status_code == 404

        line = last(session)
        assert (line.clinic_id, line.outcome) == (world.clinic_id, "denied")
        assert (line.entity_id, line.patient_id) == (other.patient_id, None)

    def test_a_key_that_ended_or_is_half_right_is_told_to_its_clinic(
        self, app: Flask, admin: Caller, session: Session
    ) -> None:
        made = admin.post("/api-keys", {"name": "short", "role": "scheduler"}).json
        wrong = Caller(app.test_client(), made["prefix"] + "_" + "x" * 43)
        assert wrong.get("/patients").status_code == 401
        line = last(session)
        assert (line.outcome, line.facts["status"]) == ("denied", 401)
        assert line.actor == f"unknown:short/{made['prefix'][3:]}"
        admin("DELETE", f"/api-keys/{made['id']}", etag='"1"')
        assert Caller(app.test_client(), made["key"]).get("/patients").status_code == 401
        assert last(session).actor == f"unknown:short/{made['prefix'][3:]}"
        before = len(lines(session))
        assert Caller(app.test_client(), "ag_00000000_x").get("/patients").status_code == 401
        assert len(lines(session)) == before

    def test_knocking_fills_no_disk(self, key: Keyring, session: Session) -> None:
        stranger = key(Role.AUDITOR)
        before = len(lines(session))
        for _ in range(AT_ONCE + 15):
            assert stranger.get("/patients").status_code == 403
        assert len(lines(session)) == before + AT_ONCE

    def test_a_fault_of_ours_is_written_down_too(
        self, database: Access, committed: Session, committed_world: World
    ) -> None:
        def breaks() -> None:
            raise LookupError("a fault of ours")

        app = build(settings(), database.service, Clock())
        view = requires(Permission.PATIENTS_READ)(breaks)
        app.add_url_rule("/api/v1/breaks", view_func=view)
        assert caller(app, committed, Role.SCHEDULER).get("/breaks").status_code == 500
        line = last(committed)
        assert (line.outcome, line.permission) == (AuditOutcome.FAILURE, "patients:read")
        with app.app_context():
            db.engine.dispose()

    def test_what_was_left_out_is_counted(self) -> None:
        brake = Brake()
        let = [brake.let("a", 0.0) for _ in range(AT_ONCE + 3)]
        assert let == [0] * AT_ONCE + [None] * 3
        assert brake.let("b", 0.0) == 0
        assert brake.let("a", SECONDS_EACH) == 3
        assert brake.let("a", SECONDS_EACH) is None

    def test_nobody_makes_it_remember_without_end(self) -> None:
        brake = Brake()
        for number in range(MOST_KNOWN):
            brake.let(str(number), 0.0)
        assert brake.let("one more", 1.0) is None
        assert brake.let("one more", 2 * AT_ONCE * SECONDS_EACH) == 0
        assert len(brake.known) == 1
