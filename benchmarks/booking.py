"""Bookings per second over HTTP, beside pgbench running the same statements.

A booking here is what the service does: sign in by key, enter the clinic, judge gates and
rules, lock, take three slots, write history, checklist and messages, append to the audit
trail. The statements of one such booking are recorded and given to pgbench, which runs them
on the same server with other ids and times.
"""

import http.client
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
from sqlalchemy import event
from sqlalchemy.engine import Engine

from app import build
from benchmarks.place import Place, peak_mb, place, serving
from benchmarks.report import Report
from database import embedded
from database.access import connect, psycopg_url
from models import db
from models.vocabulary import Role
from tests.crowd import NOW
from tests.fakes import MailServer
from tests.integration.conftest import settings
from tests.service import Service

SECONDS = 6.0
_BARE = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
"""A UUID as psycopg writes it, without dashes."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def run(report: Report) -> None:
    """Measure at one and at eight clients."""
    with place() as where, serving(where, MailServer(port=25), "web", WEB_WORKERS="2") as service:
        numbers = count(2000)
        statements = record(where, service, 1999)
        script = pgbench_script(where, statements)
        print(f"  ({len(statements)} statements a booking)")
        load(service, where, numbers, 4, 2.0)  # warm
        for clients in (1, 8):
            rate = load(service, where, numbers, clients, SECONDS)
            bare = pgbench(where, script, clients)
            report.add(f"booking_http_c{clients}", rate, "bookings/s", bare)
        report.add("memory_web_mb", peak_mb(service.processes["web"].pid), "MB")


def load(service: Service, where: Place, numbers: Any, clients: int, seconds: float) -> float:
    """Book for `seconds` with so many clients at once; bookings per second."""
    until = time.monotonic() + seconds

    def client(_number: int) -> int:
        done = 0
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc)
        headers = {
            "Authorization": f"Bearer {service.secrets[Role.SCHEDULER]}",
            "Content-Type": "application/json",
        }
        while time.monotonic() < until:
            body = json.dumps(where.order(next(numbers)))
            connection.request("POST", "/api/v1/appointments", body, headers)
            answer = connection.getresponse()
            told = answer.read()
            assert answer.status == 201, told
            done += 1
        connection.close()
        return done

    begun = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        done = sum(pool.map(client, range(clients)))
    return done / (time.monotonic() - begun)


def record(where: Place, service: Service, number: int) -> list[str]:
    """The statements of one booking, as the service sends them, with their values in place."""
    heard: list[str] = []
    app = build(settings(), where.ways.service, lambda: NOW)
    headers = {"Authorization": f"Bearer {service.secrets[Role.SCHEDULER]}"}
    with connect(where.ways.service) as connection:
        cursor = psycopg.ClientCursor(connection)

        def note(_c: Any, _cur: Any, statement: str, values: Any, *_: Any) -> None:
            told = cursor.mogrify(statement, values)
            heard.append(_BARE.sub(lambda found: str(UUID(found.group())), told))

        def say(told: str) -> Callable[..., None]:
            return lambda *_: heard.append(told)

        client = app.test_client()
        warm = client.post("/api/v1/appointments", json=where.order(number - 1), headers=headers)
        assert warm.status_code == 201, warm.json
        with app.app_context():
            engine = db.engine
        hooks: list[tuple[str, Any]] = [
            ("before_cursor_execute", note),
            ("begin", say("BEGIN")),
            ("commit", say("COMMIT")),
        ]
        for name, hook in hooks:
            event.listen(engine, name, hook)
        answer = client.post("/api/v1/appointments", json=where.order(number), headers=headers)
        assert answer.status_code == 201, answer.json
        _forget(engine)
    return heard


def _forget(engine: Engine) -> None:
    engine.dispose()


def pgbench_script(where: Place, statements: list[str]) -> str:
    """The recorded booking with new ids and the next order's values for each transaction."""
    order, known = where.order(1999), _known(where)
    names: dict[str, str] = {}
    made = {one for sql in statements for one in _UUID.findall(sql)} - known
    for number, one in enumerate(sorted(made)):
        names[one] = f":new{number}"
    fixed = _orders(where, order)
    lines = ["SELECT nextval('bench_number') AS n \\gset"]
    lines.append(
        "SELECT "
        + ", ".join(f"{k} AS {k}" for k in fixed)
        + " FROM bench_order WHERE n = :n \\gset"
    )
    lines.append(
        "SELECT " + ", ".join(f"gen_random_uuid() AS {v[1:]}" for v in names.values()) + " \\gset"
    )
    for sql in statements:
        for told, name in [*names.items(), *((v, f":{k}") for k, v in fixed.items())]:
            sql = sql.replace(told, name)
        lines.append(" ".join(sql.split()) + ";")
    return "\n".join(lines) + "\n"


def _known(where: Place) -> set[str]:
    """Ids that are rows of the database already, and stay as they are."""
    with connect(where.ways.owner) as connection:
        connection.execute(
            "SELECT set_config('afterglow.clinic', %s, false)", [str(where.clinic_id)]
        )
        found = {str(where.clinic_id)}
        for table in (
            "schedule",
            "patient",
            "protocol_version",
            "protocol",
            "site",
            "practitioner",
            "room",
            "device",
        ):
            found |= {str(row[0]) for row in connection.execute(f'SELECT id FROM "{table}"')}
    return found


def _orders(where: Place, order: dict[str, Any]) -> dict[str, str]:
    """Write down many orders for pgbench; returns what stands for them in the recording."""
    with connect(where.ways.owner) as connection:
        connection.execute(
            "SELECT set_config('afterglow.clinic', %s, false)", [str(where.clinic_id)]
        )
        own: dict[UUID, UUID] = dict(
            connection.execute("SELECT id, schedule_id FROM patient").fetchall()
        )
        connection.execute("DROP TABLE IF EXISTS bench_order; DROP SEQUENCE IF EXISTS bench_number")
        connection.execute("CREATE SEQUENCE bench_number START 100000")
        connection.execute(
            "CREATE TABLE bench_order (n int PRIMARY KEY, patient text, own text, therapist text, "
            "room text, starts text, ends text)"
        )
        role = where.ways.service.username
        connection.execute(f'GRANT ALL ON bench_order, bench_number TO "{role}"')
        with connection.cursor().copy("COPY bench_order FROM STDIN") as copy:
            for number in range(100_000, 160_000):
                copy.write_row([number, *_values(where.order(number), own).values()])
    return _values(order, own)


def _values(order: dict[str, Any], own: dict[UUID, UUID]) -> dict[str, str]:
    start = str(order["starts_at"]).replace("T", " ")
    end = f"{start[:11]}{int(start[11:13]) + 1:02d}{start[13:]}"
    return {
        "patient": order["patient_id"],
        "own": str(own[UUID(order["patient_id"])]),
        "therapist": order["assignments"][0]["schedule_id"],
        "room": order["assignments"][1]["schedule_id"],
        "starts": start,
        "ends": end,
    }


def pgbench(where: Place, script: str, clients: int) -> float:
    """Transactions per second of the script on the same server."""
    program = embedded._binaries() / "pgbench"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "booking.sql"
        path.write_text(script)
        told = subprocess.run(
            [
                str(program),
                *("-n", "-M", "simple", "-c", str(clients), "-j", "2"),
                *("-T", str(int(SECONDS)), "-f", str(path)),
                psycopg_url(where.ways.service),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"tps = ([\d.]+)", told.stdout)
    failed = re.search(r"number of failed transactions: (\d+)", told.stdout)
    assert found, told.stderr[-2000:] + told.stdout
    assert failed
    assert failed.group(1) == "0", told.stderr[-2000:]
    return float(found.group(1))
