"""Granian beside gunicorn, serving the same bookings: which one runs in production."""

import subprocess
import sys
from itertools import count

from benchmarks.booking import load
from benchmarks.place import peak_mb, place, serving
from benchmarks.report import Report
from tests.fakes import MailServer, free_port
from tests.service import ROOT

SECONDS = 6.0


def run(report: Report) -> None:
    """Two processes of four threads each, eight clients."""
    with place() as where, serving(where, MailServer(port=25)) as service:
        numbers = count()
        rates = {}
        for name in ("gunicorn", "granian"):
            command = _commands(service.port)[name]
            with service.log.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, *command],
                    cwd=ROOT,
                    env=service.environment(),
                    stdout=log,
                    stderr=log,
                )
            try:
                service.wait_until(service._answers, name)
                load(service, where, numbers, 8, 2.0)
                rates[name] = load(service, where, numbers, 8, SECONDS)
                print(f"  {name}: {peak_mb(process.pid):.0f} MB")
            finally:
                process.terminate()
                process.wait(20)
            service.port = free_port()
        report.add("booking_granian_c8", rates["granian"], "bookings/s", rates["gunicorn"])


def _commands(port: int) -> dict[str, list[str]]:
    return {
        "gunicorn": [
            *("-m", "gunicorn", "-w", "2", "-k", "gthread", "--threads", "4"),
            *("-b", f"127.0.0.1:{port}", "app:create_app()"),
        ],
        "granian": [
            *("-m", "granian", "--interface", "wsgi", "--factory", "--no-ws", "--host"),
            *("127.0.0.1", "--port", str(port), "--workers", "2", "--blocking-threads", "4"),
            *("--no-access-log", "app:create_app"),
        ],
    }
