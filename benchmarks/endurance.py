"""The long ones: a worker through two hundred thousand messages, claims beside ten million old."""

import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.messages import sink
from benchmarks.place import peak_mb
from benchmarks.report import Report
from models.vocabulary import Channel as ChannelCode
from notifications import queue
from notifications.queue import End, Result
from tests.crowd import DUE, Crowd, crowd
from tests.fakes import MailServer
from tests.service import running

MESSAGES = 200_000
OLD, PLANNED, FEW = 10_000_000, 100_000, 10_000
CLAIMS = 60


def run(report: Report) -> None:
    """Both, on databases of their own."""
    with crowd(5_000) as place:
        history(report, place)
    with crowd(5_000) as place:
        memory(report, place)


def memory(report: Report, place: Crowd) -> None:
    """A real worker's peak memory after a fifth of the messages, and after all of them."""
    place.plan(MESSAGES)
    with sink() as port, TemporaryDirectory(prefix="afterglow-bench-") as folder:
        mail = MailServer(port=port)
        with running(place.ways, Path(folder), mail, DUE) as service:
            service.more["LOG_LEVEL"] = "warning"
            begun = time.monotonic()
            service.start("worker")
            early = None
            while (sent := place.count("sent")) < MESSAGES:
                assert time.monotonic() - begun < 1200, sent
                if early is None and sent > MESSAGES // 5:
                    early = peak_mb(service.processes["worker"].pid)
                if sys.stdout.isatty():
                    print(f"\r  {sent:>7} of {MESSAGES} messages", end="", flush=True)
                time.sleep(1)
            rate = MESSAGES / (time.monotonic() - begun)
            peak = peak_mb(service.processes["worker"].pid)
    print(f"\r  {rate:.0f} a second; {early:.0f} MB after a fifth of them" + " " * 10)
    report.add("memory_worker_200k_mb", peak, "MB", early)
    report.add("memory_worker_mb", peak, "MB")


def history(report: Report, place: Crowd) -> None:
    """Claiming a hundred beside ten million archived and a hundred thousand planned."""
    place.plan(FEW)
    little = _claims(place)
    place.clear()
    begun = time.monotonic()
    place.archive(OLD)
    place.plan(PLANNED)
    print(f"  ({OLD:,} rows of history written in {time.monotonic() - begun:.0f} s)")
    much = _claims(place)
    report.add("claim_10m_history", 1000 / much, "claims/s", 1000 / little)


def _claims(place: Crowd) -> float:
    """The median time in ms of claiming a hundred messages and settling them."""
    took = []
    with place.connect() as connection:
        for _ in range(CLAIMS):
            begun = time.monotonic()
            batch = queue.claim(connection, ChannelCode.EMAIL, DUE, 100)
            queue.settle(connection, [Result(message=one, end=End.SENT) for one in batch], DUE)
            took.append((time.monotonic() - begun) * 1000)
            assert len(batch) == 100
    return median(took)
