"""Whoever reads the logs learns what happened, and nothing about anybody.

Every door is tried, over real HTTP, with names, numbers, addresses, tokens and keys that can be
found again, as well as what goes wrong on the way; then the log is searched for them.
"""

import json
import re
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from requests.adapters import HTTPAdapter
from sqlalchemy import text
from sqlalchemy.orm import Session
from urllib3.util import Retry

from app import build
from database.access import Access, connect
from models import enter_clinic
from models.vocabulary import Role
from notifications import links
from tests.conftest import clean
from tests.factories import MONDAY_9, SUNDAY_NOON, World, make_patient
from tests.fakes import mail_server
from tests.integration.conftest import settings
from tests.service import Service, give_keys, running

MARK = "Zyxwv"
PHONE = "+12125550177"
MARKED = {
    "given_name": f"{MARK}given",
    "family_name": f"{MARK}family",
    "email": f"{MARK}@example.com".lower(),
    "phone": PHONE,
}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def service(
    database: Access, committed: Session, committed_world: World, tmp_path: Path
) -> Iterator[Service]:
    with mail_server() as mail, running(database, tmp_path, mail, SUNDAY_NOON) as service:
        service.more["LOG_LEVEL"] = "debug"
        give_keys(service, committed, committed_world.clinic_id, SUNDAY_NOON)
        service.start("web")
        service.start("worker")
        yield service
        committed.rollback()
    clean(database)


def lines(service: Service) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")
    ]


def every_route(ways: Access) -> list[tuple[str, str]]:
    """Each door's way in: the method, and the path with a marked word or an id in each gap."""
    app = build(settings(), ways.service, lambda: SUNDAY_NOON)
    found = []
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<uuid:[^>]+>", lambda _: str(uuid4()), rule.rule)
        path = re.sub(r"<int:[^>]+>", "7", path)
        path = re.sub(r"<[^>]+>", f"{MARK}token", path)
        found += [(method, path) for method in rule.methods or () if method != "OPTIONS"]
    return sorted(found)


def test_no_line_of_the_log_names_anybody(
    service: Service, database: Access, committed: Session, committed_world: World
) -> None:
    routes = every_route(database)
    body = {**MARKED, "name": f"{MARK}name", "reason": f"{MARK}reason", "note": f"{MARK}note"}
    key = {"Authorization": f"Bearer {service.secrets[Role.ADMIN]}"}
    with requests.Session() as http:
        # The server ends a connection whose request's body it had no need to read.
        http.mount("http://", HTTPAdapter(max_retries=Retry(3, allowed_methods=None)))
        for method, path in routes:
            for headers in (key, {"Authorization": f"Bearer ag_{MARK}{secrets.token_hex(8)}"}, {}):
                http.request(
                    method,
                    service.url + path,
                    params={"q": f"{MARK}query", "from": f"{MARK}from"},
                    json=body,
                    headers={**headers, "Referer": f"http://x/{MARK}", "User-Agent": MARK},
                    allow_redirects=False,
                    timeout=30,
                )
            http.request(
                method,
                service.url + path,
                data={"birth_date": f"{MARK}born", **MARKED},
                headers={"Cookie": f"visitor={MARK}"},
                allow_redirects=False,
                timeout=30,
            )
    tried = len(lines(service))
    assert tried > 4 * len(routes) - 10

    token = follow_a_real_patient(service, committed, committed_world)
    break_the_database(service, database)

    told = service.log.read_text()
    secret = [token, PHONE[1:], *service.secrets.values()]
    for word in (MARK, MARK.lower(), *secret):
        assert word not in told, told[max(0, told.index(word) - 400) :][:800]
    assert "Traceback" not in told
    events = {line["event"] for line in lines(service)}
    assert {"request", "unexpected", "message.handed-over", "refused"} <= events


def follow_a_real_patient(service: Service, session: Session, world: World) -> str:
    """Somebody with marked names is booked, hears of it by mail, and opens their page."""
    enter_clinic(session, world.clinic_id)
    patient_id, _ = make_patient(session, **MARKED)
    session.execute(text("UPDATE clinic SET settle_minutes = 0"))
    session.commit()
    order = {
        "patient_id": str(patient_id),
        "step_kind": "preparation",
        "starts_at": MONDAY_9.isoformat(),
    }
    booked = service.call(Role.SCHEDULER, "POST", "/appointments", order)
    assert booked.status_code == 201, booked.text
    taken = service.call(Role.SCHEDULER, "POST", "/appointments", order)
    assert taken.status_code in {409, 422}
    token = secrets.token_urlsafe(32)
    session.execute(
        text(
            "INSERT INTO patient_link (id, appointment_id, patient_id, token_hash, expires_at) "
            "VALUES (gen_random_uuid(), :visit, :patient, :digest, :until)"
        ),
        {
            "visit": booked.json()["id"],
            "patient": patient_id,
            "digest": links.digest(token),
            "until": SUNDAY_NOON + timedelta(days=9),
        },
    )
    session.commit()
    requests.get(f"{service.url}/p/{token}", timeout=30)
    service.set_clock(SUNDAY_NOON + timedelta(days=1))
    service.mail.wait_for(1)
    return token


def break_the_database(service: Service, ways: Access) -> None:
    """A fault whose own words quote a row: the answer is a 500, the log keeps where it was."""
    with connect(ways.owner) as connection:
        connection.execute(
            "ALTER TABLE patient ADD CONSTRAINT broken "
            f"CHECK (given_name <> '{MARK}given' OR length(record_number) / 0 > 1) NOT VALID"
        )
        try:
            told = {**MARKED, "record_number": f"{MARK}9", "birth_date": "1980-01-01"}
            told |= {"time_zone": "America/New_York"}
            answer = service.call(Role.ADMIN, "POST", "/patients", told)
            assert answer.status_code == 500, answer.text
            assert MARK not in answer.text
        finally:
            connection.execute("ALTER TABLE patient DROP CONSTRAINT broken")


ILL_FORMED = (
    "",
    f"00-{TRACE}-0000000000000000-01",
    f"00-{'0' * 32}-00f067aa0ba902b7-01",
    f"ff-{TRACE}-00f067aa0ba902b7-01",
    f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
    f"00-{TRACE}-00f067aa0ba902b7-01-{MARK}",
    MARK,
)


def test_each_request_is_one_line_that_says_which_door_who_and_how_long(
    service: Service, committed_world: World
) -> None:
    told_id = str(uuid4())
    answer = service.call(
        Role.SCHEDULER,
        "GET",
        f"/appointments/{uuid4()}?x={MARK}",
        **{"X-Request-Id": told_id, "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
    )
    assert answer.headers["X-Request-Id"] == told_id
    [line] = [line for line in lines(service) if line.get("request_id") == told_id
              and line["event"] == "request"]  # fmt: skip

    assert line["method"] == "GET"
    assert line["route"] == "/api/v1/appointments/<uuid:appointment_id>"
    assert line["status"] == answer.status_code == 404
    assert line["clinic_id"] == str(committed_world.clinic_id)
    assert line["by"] == f"key:{service.secrets[Role.SCHEDULER][3:11]}"
    assert line["trace_id"] == TRACE
    assert 0 < line["ms"] < 30_000
    for told in ILL_FORMED:
        answer = requests.get(
            f"{service.url}/health/live",
            headers={"traceparent": told, "X-Request-Id": f"{MARK}; DROP"},
            timeout=10,
        )
        made = answer.headers["X-Request-Id"]
        [line] = [line for line in lines(service) if line.get("request_id") == made]
        assert "trace_id" not in line
    assert MARK not in service.log.read_text()
