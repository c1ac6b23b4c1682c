"""The ten commonest calls beside the same statements bare, among two hundred clinics."""

import statistics
import sys
import time
from collections.abc import Sequence
from os import environ
from threading import Lock

from benchmarks.asking import Clients, Turn, clients
from benchmarks.commonest import subjects, turns
from benchmarks.many import ALL, settle
from benchmarks.place import Place, serving
from benchmarks.report import Report
from database.access import psycopg_url
from database.scratch import scratch
from tests.fakes import MailServer

CLIENTS = (1, 8)
ROUNDS = 3
SECONDS = {"http": 1.2, "bare": 0.8}
"""How long a way is measured in each round."""
WARM = 0.6
QUANTILES = {"p50": 50, "p95": 95, "p99": 99}


def run(report: Report) -> None:
    """Load, serve as in production, ask both ways by turns: the machine is noisy."""
    with scratch(environ.get("DATABASE_URL")) as ways:
        begun = time.monotonic()
        clinics = settle(ways, ALL, Bar(ALL.visits))
        report.add("calls_loaded_visits", ALL.visits, "visits")
        report.add("calls_loading_s", time.monotonic() - begun, "s")
        asked = turns(ways, subjects(ways, clinics[0]))
        where = Place(ways, clinics[0].clinic_id, [], [], [])
        with (
            serving(where, MailServer(port=25), "web", WEB_WORKERS="2", WEB_THREADS="4") as service,
            clients(max(CLIENTS), service.port, psycopg_url(ways.service)) as crowd,
        ):
            print(_HEAD)
            for name, made in asked.items():
                crowd.ask("http", made, max(CLIENTS), WARM)
                crowd.ask("bare", made, max(CLIENTS), WARM)
                for number in CLIENTS:
                    _beside(report, crowd, name, made, number)


def _beside(report: Report, crowd: Clients, name: str, made: Sequence[Turn], number: int) -> None:
    took: dict[str, list[float]] = {way: [] for way in SECONDS}
    for _ in range(ROUNDS):
        for way, seconds in SECONDS.items():
            took[way] += crowd.ask(way, made, number, seconds)
    cuts = {way: statistics.quantiles(found, n=100) for way, found in took.items()}
    pairs = {name: tuple(cuts[way][at - 1] for way in SECONDS) for name, at in QUANTILES.items()}
    for what, (ours, bare) in pairs.items():
        report.note(f"calls_{name}_c{number}_{what}_ms", ours, "ms", bare)
    cells = "".join(
        f"{ours:8.1f} {bare:7.1f} {ours / bare:5.1f} |" for ours, bare in pairs.values()
    )
    statements = statistics.median(len(turn.heard) for turn in made)
    print(f"  {name:<10}{number:>3} |{cells}{len(took['http']):>7}{statements:>5.0f}", flush=True)


_HEAD = (
    f"  {'call':<10}{'at':>3} |"
    + "".join(f"{what + ' ms':>8} {'bare':>7} {'ratio':>5} |" for what in QUANTILES)
    + f"{'asked':>7}{'sql':>5}"
)


class Bar:
    """How far it is."""

    def __init__(self, whole: int, width: int = 40) -> None:
        self.whole, self.width, self.done, self.lock = whole, width, 0, Lock()

    def __call__(self, more: int) -> None:
        with self.lock:
            self.done += more
            part = self.done / self.whole
            if not sys.stdout.isatty() and part < 1:
                return
            bar = "#" * round(part * self.width)
            print(f"\r  [{bar:<{self.width}}] {self.done:,} of {self.whole:,} visits", end="")
            if part >= 1:
                print("; indexes and constraints ...", flush=True)
