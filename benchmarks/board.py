"""The readiness board: a thousand visits with fourteen gates each, beside a bare SELECT."""

import statistics
import time
from typing import Any

import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from benchmarks.openings import Client
from benchmarks.place import FIRST, Place, place, serving
from benchmarks.report import Report
from models import enter_clinic
from tests.factories import SOURCE, figure, gate, make_protocol, protocol_content
from tests.fakes import MailServer

VISITS, GATES, TRIES = 1000, 14, 60


def run(report: Report) -> None:
    """Ask for the board over HTTP and for the same rows bare, in turns: the machine is noisy."""
    with place() as where:
        _fill(where)
        with serving(where, MailServer(port=25), "web", WEB_WORKERS="1") as service:
            client, asked, bare = Client(service), [], []
            path = "/readiness?from=2027-01-01T00:00:00Z&to=2027-02-28T00:00:00Z"
            for _ in range(TRIES):
                asked.append(client.took(path))
                bare.append(_bare(where))
    beside = statistics.median(bare)
    report.add("board_1000_p50_ms", statistics.median(asked), "ms", beside)
    report.add("board_1000_p95_ms", statistics.quantiles(asked, n=20)[-1], "ms", beside)


def _content() -> dict[str, Any]:
    content = protocol_content() | {"code": "bench-board"}
    dosing = content["visits"]["dosing"]
    limit = {"measure": "systolic", "pass": {"most": 140}, "source": SOURCE}
    dosing["gates"] = [
        *(gate(f"clearance-{n}", "arrival", holds=figure(90, "d")) for n in range(8)),
        gate("transport-home", "arrival", "escort"),
        gate("fasting", "arrival", "checklist"),
        gate("safety", "dose", "questionnaire", instrument="c-ssrs", holds=figure(12, "h")),
        gate("vitals", "dose", "measurement", holds=figure(30, "min"), limits=[limit]),
        gate("observation", "discharge", "observation", minutes=figure(120, "min")),
        gate("way-home", "discharge", "departure"),
    ]
    assert len(dosing["gates"]) == GATES
    return content


def _fill(where: Place) -> None:
    engine = create_engine(where.ways.service)
    with Session(engine) as session:
        enter_clinic(session, where.clinic_id)
        version_id = make_protocol(session, _content())
        told = {"version": version_id, "first": FIRST, "visits": VISITS}
        for statement in _FILL:
            session.execute(text(statement), told)
        session.commit()
    engine.dispose()


_FILL = (
    """
    INSERT INTO appointment (id, patient_id, protocol_version_id, visit, kind, site_id, status,
                             starts_at, ends_at, booked_by)
    SELECT gen_random_uuid(), p.id, :version, 'dosing', 'dosing', s.id, 'booked', at,
           at + interval '3 h', 'benchmark'
      FROM (SELECT n, CAST(:first AS timestamptz) + n * interval '1 h' AS at
              FROM generate_series(0, :visits - 1) AS n) AS visits
      JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n, count(*) OVER () AS many
              FROM patient) AS p ON p.n = visits.n % p.many
      CROSS JOIN (SELECT id FROM site ORDER BY id LIMIT 1) AS s
    """,
    """
    INSERT INTO clearance (id, patient_id, gate, outcome, cleared_at, cleared_by)
    SELECT gen_random_uuid(), p.id, 'clearance-' || n, 'cleared',
           CAST(:first AS timestamptz) - interval '9 d', 'benchmark'
      FROM patient p CROSS JOIN generate_series(0, 6) AS n
    """,
    """
    INSERT INTO checklist_item (id, appointment_id, code, title, owner, gate, due_at, status)
    SELECT gen_random_uuid(), id, 'fasting', 'Nothing eaten', 'patient', 'fasting',
           starts_at - interval '24 h', 'requested'
      FROM appointment WHERE booked_by = 'benchmark'
    """,
    """
    INSERT INTO escort (id, appointment_id, name, phone, relation, may_message, named_by)
    SELECT gen_random_uuid(), id, 'Evan Escort', '+12125550199', 'partner', false, 'benchmark'
      FROM appointment WHERE booked_by = 'benchmark'
    """,
)


def _bare(where: Place) -> float:
    """The same rows, fetched and nothing done with them."""
    url = where.ways.service.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT set_config('afterglow.clinic', %s, true)", [str(where.clinic_id)]
        )
        begun = time.perf_counter()
        for table, column in (
            ("appointment", "booked_by = 'benchmark'"),
            ("clearance", "cleared_by = 'benchmark'"),
            ("checklist_item", "gate IS NOT NULL"),
            ("escort", "named_by = 'benchmark'"),
        ):
            connection.execute(f"SELECT * FROM {table} WHERE {column}").fetchall()
        return (time.perf_counter() - begun) * 1000
