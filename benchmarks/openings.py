"""Openings over HTTP for the demo clinic: the first page, over 14 and over 90 days."""

import statistics
import time
from datetime import timedelta

import requests

from benchmarks.place import FIRST, place, serving
from benchmarks.report import Report
from models.vocabulary import Role
from tests.fakes import MailServer

TRIES = 15


def run(report: Report) -> None:
    """Ask for a dosing visit, the hardest to place."""
    with place() as where, serving(where, MailServer(port=25), "web") as service:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {service.secrets[Role.SCHEDULER]}"
        for number in range(200):
            answer = session.post(f"{service.url}/api/v1/appointments", json=where.order(number))
            assert answer.status_code == 201, answer.text
        for days in (14, 90):
            end = FIRST + timedelta(days=days)
            path = (
                f"{service.url}/api/v1/openings?step_kind=dosing"
                f"&from={FIRST:%Y-%m-%dT%H:%M:%SZ}&to={end:%Y-%m-%dT%H:%M:%SZ}"
            )
            took = []
            for _ in range(TRIES):
                begun = time.perf_counter()
                answer = session.get(path)
                took.append((time.perf_counter() - begun) * 1000)
                assert len(answer.json()["items"]) == 50, answer.text
            report.add(f"openings_demo_{days}d_ms", statistics.median(took), "ms")
