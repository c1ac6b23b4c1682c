"""The readiness board: a thousand visits with fourteen gates each, beside a bare SELECT."""

import statistics
import time

import psycopg

from benchmarks import ahead
from benchmarks.ahead import VISITS
from benchmarks.openings import Client
from benchmarks.place import Place, place, serving
from benchmarks.report import Report
from tests.fakes import MailServer

TRIES = 100
PATH = "/readiness?from=2027-01-01T00:00:00Z&to=2027-03-02T00:00:00Z"


def run(report: Report) -> None:
    """Ask for the board over HTTP and for the same rows bare, in turns: the machine is noisy."""
    with place() as where:
        ahead.fill(where)
        with serving(where, MailServer(port=25), "web", WEB_WORKERS="1") as service:
            client, asked, bare = Client(service), [], []
            assert len(client.call("GET", PATH)["items"]) == VISITS
            for _ in range(TRIES):
                asked.append(client.took(PATH))
                bare.append(_bare(where))
    _add(report, "min", min(asked), min(bare))
    _add(report, "p50", statistics.median(asked), statistics.median(bare))
    _add(report, "p95", *(statistics.quantiles(one, n=20)[-1] for one in (asked, bare)))


def _add(report: Report, name: str, asked: float, bare: float) -> None:
    report.add(f"board_1000_{name}_ms", asked, "ms", bare)


def _bare(where: Place) -> float:
    """The same rows, fetched and nothing done with them."""
    url = where.ways.service.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT set_config('afterglow.clinic', %s, true)", [str(where.clinic_id)]
        )
        begun = time.perf_counter()
        for query in ahead.ROWS:
            connection.execute(query).fetchall()
        return (time.perf_counter() - begun) * 1000
