"""Another clinic's id beside nobody's: how long the same 404 takes, asked in turn.

That both are answered by the same statements is held by tests/integration/test_matrix.py; here is
what somebody with a stopwatch would find. Each pair is asked one right after the other, in an
order that is drawn; what counts is the difference within pairs.
"""

import random
import statistics
import time
from http.client import HTTPConnection
from uuid import UUID

from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from benchmarks.place import Place, place, serving
from benchmarks.report import Report
from models.vocabulary import Role
from tests.fakes import MailServer
from tests.service import Service
from tests.worlds import furnish

KINDS = ("patients", "appointments", "courses", "rooms", "tasks")
PAIRS = 400


def run(report: Report) -> None:
    """A few doors, by the clinic's own desk."""
    with place() as where:
        theirs = _theirs(where)
        with serving(where, MailServer(port=25), "web") as service:
            for kind in KINDS:
                _race(report, service, kind, str(theirs[kind]))


def _theirs(where: Place) -> dict[str, UUID]:
    """What stands in another clinic."""
    engines = create_engine(where.ways.service), create_engine(where.ways.worker)
    with Session(engines[0]) as service, Session(engines[1]) as worker:
        found = dict(furnish(service, worker, "Their Practice").ids)
    for engine in engines:
        engine.dispose()
    return found


def _race(report: Report, service: Service, kind: str, foreign: str) -> None:
    connection = HTTPConnection("127.0.0.1", service.port)
    head = {"Authorization": f"Bearer {service.secrets[Role.SCHEDULER]}"}
    rng = random.Random(PAIRS)

    def took(told: str) -> float:
        begun = time.perf_counter()
        connection.request("GET", f"/api/v1/{kind}/{told}", headers=head)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 404
        return (time.perf_counter() - begun) * 1e6

    for _ in range(50):
        took(foreign), took(str(uuid7()))
    pairs = []
    for _ in range(PAIRS):
        asked = {"foreign": foreign, "nobody": str(uuid7())}
        order = rng.sample(sorted(asked), 2)
        times = {name: took(asked[name]) for name in order}
        pairs.append((times["foreign"], times["nobody"]))
    theirs, nobodys = (statistics.median(one) for one in zip(*pairs, strict=True))
    apart = statistics.median(one - other for one, other in pairs)
    slower = sum(one > other for one, other in pairs)
    sigmas = (slower - PAIRS / 2) / (PAIRS / 4) ** 0.5
    print(f"  {kind}: {apart:+.0f} us within pairs, slower in {slower} of {PAIRS}: {sigmas:+.1f} s")
    report.add(f"stranger_{kind}_us", theirs, "us", nobodys)
