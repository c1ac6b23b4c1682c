"""Openings of busy clinics over HTTP, beside the same asked of PostgreSQL as multiranges."""

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from itertools import cycle
from typing import Any
from urllib.parse import urlencode

import psutil
import psycopg
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from benchmarks.clinics import FIRST, Busy, L, M, S, Size, busy
from benchmarks.place import serving
from benchmarks.plots import HERE, lines
from benchmarks.report import Report
from models import enter_clinic
from models.vocabulary import Role, StepKind
from scheduler import openings, warmth
from scheduler.openings import Search
from tests.crowd import NOW
from tests.fakes import MailServer
from tests.service import Service

TRIES = 60
ROUNDS = 10
DAYS = (14, 90)


def run(report: Report) -> None:
    """Ask for a preparation of 90 minutes (a therapist and a room), and for a dosing visit."""
    times: dict[str, list[tuple[float, float]]] = {}
    for size in (S, M, L):
        with busy(size) as clinic:
            print(f"  {size.name}: {clinic.slots:,} slots")
            times[f"{size.clinicians} clinicians"] = list(_growing(clinic))
            if size is not M:
                _over_http(report, clinic, size)
            if size is L:
                report.add("index_L_mb", _index_mb(clinic), "MB")
    points = [point for found in times.values() for point in found]
    report.add("openings_linear_r2", statistics.correlation(*zip(*points, strict=True)) ** 2, "")
    lines(
        HERE / "openings.png",
        "A page of openings, of days not asked about before",
        "schedules x days asked for",
        "ms of CPU (least)",
        times,
    )


class Client:
    """One connection that stays open."""

    def __init__(self, service: Service) -> None:
        self.connection = HTTPConnection("127.0.0.1", service.port)
        self.headers = {
            "Authorization": f"Bearer {service.secrets[Role.SCHEDULER]}",
            "Content-Type": "application/json",
        }

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        told = None if body is None else json.dumps(body)
        self.connection.request(method, f"/api/v1{path}", told, self.headers)
        answer = self.connection.getresponse()
        read: dict[str, Any] = json.loads(answer.read())
        assert answer.status < 300, read
        return read

    def took(self, path: str) -> float:
        """How long a page takes to come and be read, in ms."""
        begun = time.perf_counter()
        self.connection.request("GET", f"/api/v1{path}", headers=self.headers)
        answer = self.connection.getresponse()
        read = answer.read()
        took = (time.perf_counter() - begun) * 1000
        assert answer.status == 200, read
        assert json.loads(read)["items"], read
        return took


def _growing(clinic: Busy) -> Iterator[tuple[float, float]]:
    """What a search takes of this process at the least, by schedules x days.

    Each time about other days than the last ones, so that nothing about them is known yet.
    """
    weeks = cycle(range(warmth.WINDOWS + 1))
    with _in_process(clinic, time.thread_time) as ask:
        ask(DAYS[-1], warmth.WINDOWS)
        for days in (14, 30, 45, 60, 90):
            least = min(ask(days, next(weeks)) for _ in range(TRIES))
            yield clinic.size.schedules * days, least


def _over_http(report: Report, clinic: Busy, size: Size) -> None:
    with serving(clinic.place(), MailServer(port=25), "web", WEB_WORKERS="1") as service:
        client = Client(service)
        cold = client.took(_search(90, "preparation"))
        for days in DAYS:
            _beside_multiranges(report, client, clinic, days)
        dosing = _median(lambda: client.took(_search(90, "dosing")))
        report.add(f"openings_{size.name}_90d_dosing_ms", dosing, "ms")
        if size is S:
            report.add("openings_S_90d_cold_ms", cold, "ms")
            report.add("openings_S_course_step_ms", _of_a_course(client, clinic), "ms")
            report.add("openings_S_after_booking_ms", _after_bookings(client, clinic), "ms")


def _beside_multiranges(report: Report, client: Client, clinic: Busy, days: int) -> None:
    """Ask over HTTP, ask the search alone, and PostgreSQL, in turns: the machine is noisy."""
    path = _search(days, "preparation")
    asked, alone, baseline = [], [], []
    with _in_process(clinic) as ask:
        ask(days)
        for _ in range(ROUNDS):
            baseline.append(_as_multiranges(clinic, days))
            for _ in range(TRIES // ROUNDS):
                asked.append(client.took(path))
                alone.append(ask(days))
    name, beside = f"openings_{clinic.size.name}_{days}d", statistics.median(baseline)
    report.add(f"{name}_ms", statistics.median(asked), "ms", beside)
    report.add(f"{name}_alone_ms", statistics.median(alone), "ms", beside)


@contextmanager
def _in_process(
    clinic: Busy, clock: Callable[[], float] = time.perf_counter
) -> Iterator[Callable[..., float]]:
    """The same search without HTTP, keys and JSON: how long it takes in ms.

    What changed since the last one is asked for each time.
    """
    engine = create_engine(clinic.ways.service)
    with Session(engine) as session:
        enter_clinic(session, clinic.clinic_id)

        def ask(days: int, weeks: int = 0) -> float:
            session.connection()  # a transaction has begun, as it has where PostgreSQL is asked
            start = FIRST + timedelta(weeks=weeks)
            wanted = Search(
                start=start, end=start + timedelta(days=days), step_kind=StepKind.PREPARATION
            )
            begun = clock()
            found = openings.find(session, wanted, NOW).openings
            took = (clock() - begun) * 1000
            session.rollback()
            assert len(found) == wanted.limit
            return took

        yield ask
    engine.dispose()


def _search(days: int, kind: str, **more: Any) -> str:
    what = {} if "course_step_id" in more else {"step_kind": kind}
    window = {"from": FIRST.isoformat(), "to": (FIRST + timedelta(days=days)).isoformat()}
    return f"/openings?{urlencode({**what, **window, **more})}"


def _of_a_course(client: Client, clinic: Busy) -> float:
    """A course's step: with its rules, its gates and the patient's own time."""
    course = client.call(
        "POST",
        "/courses",
        {"patient_id": str(clinic.waiting[0]), "protocol_version_id": str(clinic.version_id)},
    )
    step = course["steps"][0]["id"]
    return _median(lambda: client.took(_search(14, "", course_step_id=step)))


def _after_bookings(client: Client, clinic: Busy) -> float:
    """A search each time after somebody has booked: what changed is read again."""
    took = []
    for number in range(1, 21):
        found = client.call("GET", _search(90, "preparation", limit=1))["items"][0]
        client.call(
            "POST",
            "/appointments",
            {
                "patient_id": str(clinic.waiting[number]),
                "step_kind": "preparation",
                "starts_at": found["starts_at"],
                "assignments": [
                    {"role": one["role"], "schedule_id": one["schedule_id"]}
                    for one in found["assignments"]
                ],
            },
        )
        took.append(client.took(_search(90, "preparation")))
    return statistics.median(took)


def _as_multiranges(clinic: Busy, days: int) -> float:
    """The first 50 starts of 90 minutes that a therapist and a room share, by PostgreSQL alone."""
    with _connected(clinic) as connection:
        begun = time.perf_counter()
        rows = connection.execute(
            _MULTIRANGES,
            {
                "therapists": clinic.therapists,
                "rooms": clinic.consulting_rooms,
                "start": FIRST,
                "end": FIRST + timedelta(days=days),
            },
        ).fetchall()
        took = (time.perf_counter() - begun) * 1000
    assert len(rows) == 50
    return took


@contextmanager
def _connected(clinic: Busy) -> Iterator[psycopg.Connection[Any]]:
    url = clinic.ways.service.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT set_config('afterglow.clinic', %s, true)", [str(clinic.clinic_id)]
        )
        connection.execute("SET LOCAL jit = off")  # it takes longer than the question
        yield connection


def _index_mb(clinic: Busy) -> float:
    """What this process grows by when it keeps the whole year warm, and is asked about it."""
    engine = create_engine(clinic.ways.service)
    warmth.forget()
    with Session(engine) as session:
        enter_clinic(session, clinic.clinic_id)
        gc.collect()
        before = psutil.Process().memory_info().rss
        kept = warmth.around(session, FIRST, FIRST + timedelta(days=365))
        for days in range(86, 91):
            for kind in (StepKind.PREPARATION, StepKind.DOSING):
                wanted = Search(start=FIRST, end=FIRST + timedelta(days=days), step_kind=kind)
                openings.find(session, wanted, NOW)
        gc.collect()
        grown = psutil.Process().memory_info().rss - before
        assert kept.calendar.timeline.days >= 365
    engine.dispose()
    return float(grown) / 1e6


def _median(measure: Callable[[], float], tries: int = TRIES) -> float:
    return statistics.median(measure() for _ in range(tries))


_MULTIRANGES = """
    WITH days AS (
        SELECT day::date AS day FROM generate_series(%(start)s, %(end)s, interval '1 day') AS day
         WHERE extract(isodow FROM day) < 6
    ), opened AS (
        SELECT range_agg(tstzrange((day + time '09:00') AT TIME ZONE 'America/New_York',
                                   (day + time '17:00') AT TIME ZONE 'America/New_York'))
               * tstzmultirange(tstzrange(%(start)s, %(end)s)) AS time
          FROM days
    ), free AS (
        SELECT s.schedule_id, opened.time - range_agg(s.during) AS time
          FROM slot s, opened
         WHERE s.schedule_id = ANY(%(therapists)s || %(rooms)s)
           AND s.starts_at >= %(start)s::timestamptz - interval '1 day' AND s.starts_at < %(end)s
         GROUP BY s.schedule_id, opened.time
    ), shared AS (
        SELECT t.schedule_id AS therapist, r.schedule_id AS room, part
          FROM free t, free r, unnest(t.time * r.time) AS part
         WHERE t.schedule_id = ANY(%(therapists)s) AND r.schedule_id = ANY(%(rooms)s)
           AND upper(part) - lower(part) >= interval '90 min'
    )
    SELECT DISTINCT ON (start) start, therapist, room
      FROM shared, generate_series(lower(part), upper(part) - interval '90 min',
                                   interval '15 min') AS start
     ORDER BY start LIMIT 50
"""
