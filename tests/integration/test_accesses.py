"""Looking at the trail: narrowed, taken along, and told to the patient it is about."""

import csv
import io
import json
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from api import oversight
from models.vocabulary import Role
from scheduler import audit
from scheduler.audit import Act
from scheduler.authority import Authority
from tests import after
from tests.factories import MONDAY_9, SUNDAY_NOON, World
from tests.integration.conftest import Caller, Clock, MakePerson
from tests.integration.test_summaries import come_in
from tests.staff import make_user

BY = Authority("key:somebody/1")


class TestLooking:
    def test_the_trail_is_narrowed(
        self, admin: Caller, desk: Caller, session: Session, world: World
    ) -> None:
        desk.get(f"/patients/{world.patient_id}")
        desk.get(f"/patients/{world.patient_id}/screening")
        wanted = {
            f"patient_id={world.patient_id}": 2,
            "outcome=denied": 1,
            "actor=key:scheduler": 2,
            "actor=key:nobody": 0,
            "actor=%25": 0,
            "action=read&entity=patient": 2,
            f"entity_id={world.patient_id}": 2,
            "from=2026-03-01T12:00:01Z": 0,
            "to=2026-03-01T12:00:00Z": 0,
        }
        for query, count in wanted.items():
            found = admin.get(f"/audit-events?{query}").json["items"]
            assert len([one for one in found if one["role"] == "scheduler"]) == count, query
        assert admin.get("/audit-events?outcome=perhaps").status_code == 422

    def test_it_is_taken_along_in_lines_and_in_a_sheet(
        self, admin: Caller, desk: Caller, session: Session, world: World
    ) -> None:
        act = Act(action="read", entity="=HYPERLINK(1)", facts={"what": 'x,\n"y"'})
        audit.record(session, Authority("@SUM(1)"), act, SUNDAY_NOON)
        audit.record(session, Authority("-1+1"), act, SUNDAY_NOON)
        session.commit()
        answer = admin.get("/audit-events/export?format=jsonl")
        told = [json.loads(line) for line in answer.text.splitlines()]
        assert [one["sequence"] for one in told] == list(range(1, len(told) + 1))
        assert (told[0]["actor"], told[-1]["facts"]["what"]) == ("@SUM(1)", "export")
        answer = admin.get("/audit-events/export?format=csv&entity=%3DHYPERLINK(1)")
        assert answer.content_type.startswith("text/csv")
        assert "attachment" in answer.headers["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["actor"] for row in rows] == ["'@SUM(1)", "'-1+1"]
        assert {row["entity"] for row in rows} == {"'=HYPERLINK(1)"}
        assert desk.get("/audit-events/export").status_code == 403

    def test_a_long_trail_is_taken_along_whole(
        self, admin: Caller, session: Session, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(oversight, "AT_ONCE", 3)
        for _ in range(7):
            audit.record(session, BY, Act(action="read", entity="patient"), SUNDAY_NOON)
        session.commit()
        assert len(admin.get("/audit-events/export").text.splitlines()) == 8

    def test_who_looked_is_told_in_plain_words(
        self,
        admin: Caller,
        doctor: Caller,
        desk: Caller,
        tablet: Caller,
        session: Session,
        world: World,
    ) -> None:
        for _ in range(3):
            desk.get(f"/patients/{world.patient_id}")
        doctor.get(f"/patients/{world.patient_id}/screening")
        tablet.post(
            "/break-glass",
            {"patient_id": str(world.patient_id), "reason": "Nobody else is here"},
        )
        tablet.get(f"/patients/{world.patient_id}/screening")
        session.commit()

        found = admin.get(f"/patients/{world.patient_id}/accesses").json["items"]
        told = {(one["who"], one["part"], one["looked"], one["count"]) for one in found}
        assert ("scheduler", "details", True, 3) in told
        assert ("clinician", "health", True, 1) in told
        assert [one["who"] for one in found if one["emergency"]] == ["clinician"]
        assert {one["name"] for one in found} == {"scheduler", "clinician", "tablet"}
        assert "/" not in "".join(one["name"] for one in found)
        assert admin.get(f"/patients/{uuid4()}/accesses").status_code == 404
        assert desk.get(f"/patients/{world.patient_id}/accesses").status_code == 403

    def test_people_are_told_by_name_and_not_by_their_number(
        self, admin: Caller, person: MakePerson, session: Session, world: World
    ) -> None:
        make_user(session, Role.SCHEDULER)
        ann = person().sign_in()
        assert ann.client.get(f"/api/v1/patients/{world.patient_id}").status_code == 200

        [seen] = admin.get(f"/patients/{world.patient_id}/accesses").json["items"]
        assert (seen["who"], seen["name"]) == ("scheduler", "Ann Example")

    def test_what_was_done_about_them_is_told_too(
        self, admin: Caller, desk: Caller, session: Session, world: World
    ) -> None:
        feed = desk.post(f"/patients/{world.patient_id}/calendar-feeds").json
        gone = desk("DELETE", f"/calendar-feeds/{feed['id']}", etag='"1"')
        assert gone.status_code == 204
        made = after.open_course(session, world, after.content())
        session.commit()
        repaired = desk.post(f"/courses/{made.id}/repair")
        assert repaired.status_code == 200, repaired.json

        found = admin.get(f"/patients/{world.patient_id}/accesses").json["items"]
        told = [(one["part"], one["looked"], one["count"]) for one in found]
        assert told == [("plan", False, 1), ("visits", False, 2)]


class TestPage:
    def test_who_looked_is_shown_to_the_patient(
        self, client: FlaskClient, desk: Caller, session: Session, world: World, clock: Clock
    ) -> None:
        made = after.open_course(session, world, after.content())
        made.book("preparation", MONDAY_9, SUNDAY_NOON)
        desk.get(f"/patients/{world.patient_id}")
        session.commit()
        come_in(client, session, made, "preparation")

        assert 'href="/p/who-looked"' in client.get("/p/").text
        told = client.get("/p/who-looked")
        assert told.status_code == 200
        assert "Looked at your details" in told.text
        assert "scheduler, front desk" in told.text
        assert "Looked at your visits" in told.text
        assert "key:" not in told.text
        assert "127.0.0.1" not in told.text
        assert told.headers["Cache-Control"] == "no-store"

    def test_it_speaks_spanish(
        self, client: FlaskClient, desk: Caller, session: Session, world: World, clock: Clock
    ) -> None:
        made = after.open_course(session, world, after.content())
        made.book("preparation", MONDAY_9, SUNDAY_NOON)
        told = desk("PATCH", f"/patients/{world.patient_id}", {"language": "es"}, etag='"1"')
        assert told.status_code == 200
        come_in(client, session, made, "preparation")

        assert "Cambió sus datos" in client.get("/p/who-looked").text
        assert '<html lang="es">' in client.get("/p/who-looked").text

    def test_nobody_else_sees_it(self, client: FlaskClient) -> None:
        assert client.get("/p/who-looked").status_code == 404
