"""Eight writers on few schedules: sorted advisory locks before the slots, or the slots alone.

Each try takes the same hour on a therapist, a room and a device of few, named in any order,
in the way that the service writes slots. What decides which way is kept: docs/adr/0004.
"""

import random
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
from psycopg.errors import DeadlockDetected, ExclusionViolation, LockNotAvailable

from benchmarks.place import FIRST, place
from benchmarks.report import Report
from database.access import connect, psycopg_url

WRITERS, TRIES = 8, 150
TOGETHER = "INSERT INTO bench_slot SELECT * FROM unnest(%s::uuid[]), tstzrange(%s, %s)"
ONE = "INSERT INTO bench_slot VALUES (%s, tstzrange(%s, %s))"


def run(report: Report) -> None:
    """Each way on a table of its own, made anew."""
    with place() as where:
        rates = {}
        for way in ("locks first", "one insert", "insert each"):
            _make_table(where)
            rates[way], told = _race(way, psycopg_url(where.ways.service))
            print(f"  {way:<12} {told}")
        report.add("contention_locks_first", rates["locks first"], "tries/s", rates["one insert"])


def _make_table(where) -> None:  # type: ignore[no-untyped-def]
    with connect(where.ways.owner) as connection:
        connection.execute("DROP TABLE IF EXISTS bench_slot")
        connection.execute(
            "CREATE TABLE bench_slot (schedule_id uuid, during tstzrange, "
            "EXCLUDE USING gist (schedule_id WITH =, during WITH &&))"
        )
        connection.execute(f'GRANT ALL ON bench_slot TO "{where.ways.service.username}"')


def _race(way: str, url: str) -> tuple[float, str]:
    schedules = [uuid4() for _ in range(6)]
    begun = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as pool:
        heard = list(pool.map(lambda n: _writer(n, way, url, schedules), range(WRITERS)))
    seconds = time.monotonic() - begun
    ends = sum((ends for ends, _ in heard), Counter[str]())
    took = sorted(one for _, times in heard for one in times)
    rate, p50, p99 = WRITERS * TRIES / seconds, statistics.median(took), took[-len(took) // 100]
    told = f"{rate:7.0f} tries/s   p50 {p50 * 1000:6.1f} ms   p99 {p99 * 1000:7.1f} ms"
    return rate, f"{told}   {dict(ends)}"


def _writer(
    number: int, way: str, url: str, schedules: list[UUID]
) -> tuple[Counter[str], list[float]]:
    rng, ends, took = random.Random(number), Counter[str](), []
    with psycopg.connect(url) as connection:
        for _ in range(TRIES):
            wanted = rng.sample(schedules, 3)
            start = FIRST + timedelta(hours=rng.randrange(200))
            begun = time.monotonic()
            try:
                _take(connection, way, wanted, start)
                connection.commit()
                ends["booked"] += 1
            except (ExclusionViolation, DeadlockDetected, LockNotAvailable) as error:
                connection.rollback()
                ends[type(error).__name__] += 1
            took.append(time.monotonic() - begun)
    return ends, took


def _take(connection, way: str, wanted: list[UUID], start) -> None:  # type: ignore[no-untyped-def]
    end = start + timedelta(hours=1)
    if way == "locks first":
        keys = sorted(int.from_bytes(one.bytes[8:], "big", signed=True) for one in wanted)
        connection.execute("SELECT pg_advisory_xact_lock(k) FROM unnest(%s::bigint[]) AS k", [keys])
    if way == "insert each":
        for one in wanted:
            connection.execute(ONE, [one, start, end])
    else:
        connection.execute(TOGETHER, [sorted(wanted), start, end])
