"""Whole courses of a busy clinic planned over HTTP, and each plan beside CP-SAT's optimum."""

import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from api.proposals import WishesSchema
from benchmarks import optimum
from benchmarks.clinics import DAY, FIRST, Busy, S, busy
from benchmarks.openings import Client
from benchmarks.place import serving
from benchmarks.report import Report
from models import enter_clinic
from scheduler import courses, grounds, planning, unplanned
from scheduler.authority import Authority
from scheduler.problems import Problem
from tests.crowd import NOW
from tests.fakes import MailServer

CASES = 24


def run(report: Report) -> None:
    """Plan courses with and without wishes, none of them booked."""
    with busy(S) as clinic:
        _over_http(report, clinic)
        _beside_optimum(report, clinic)


def _wishes(number: int) -> dict[str, Any]:
    """Every other course has some."""
    found: dict[str, Any] = {"earliest": (FIRST + number % 12 * DAY - DAY / 2).isoformat()}
    if number % 2:
        found["weekdays"] = [("monday", "wednesday", "friday"), ("tuesday", "thursday")][
            number // 2 % 2
        ]
    if number % 3 == 0:
        found["before"] = "13:00"
    return found


def _over_http(report: Report, clinic: Busy) -> None:
    with serving(clinic.place(), MailServer(port=25), "web", WEB_WORKERS="1") as service:
        client = Client(service)
        took = []
        for number in range(CASES):
            patient = {
                "patient_id": str(clinic.waiting[number]),
                "protocol_version_id": str(clinic.version_id),
            }
            course = client.call("POST", "/courses", patient)["id"]
            begun = time.perf_counter()
            found = client.call("POST", f"/courses/{course}/proposals", {"wishes": _wishes(number)})
            took.append((time.perf_counter() - begun) * 1000)
            assert found["items"], json.dumps(found)
        took = took[1:]  # the first finds the calendar cold
        report.add("plan_course_S_ms", statistics.median(took), "ms")
        report.add("plan_course_S_p95_ms", statistics.quantiles(took, n=20)[-1], "ms")


def _beside_optimum(report: Report, clinic: Busy) -> None:
    engine = create_engine(clinic.ways.service)
    with Session(engine) as session:
        enter_clinic(session, clinic.clinic_id)
        ours, theirs, worse, unproven = [], [], 0, 0
        for problem in list(_problems(session, clinic)):
            begun = time.perf_counter()
            plan = planning.plan(problem)
            ours.append((time.perf_counter() - begun) * 1000)
            begun = time.perf_counter()
            cost, is_proven = optimum.cheapest(problem)
            theirs.append((time.perf_counter() - begun) * 1000)
            unproven += not is_proven
            worse += (None if plan is None else plan.cost) != cost
    engine.dispose()
    report.add("plan_one_S_ms", statistics.median(ours), "ms", statistics.median(theirs))
    report.add("plan_other_cost_than_cp_sat", worse, f"of {CASES}")
    report.add("plan_cp_sat_unproven", unproven, f"of {CASES}")


def _problems(session: Session, clinic: Busy) -> Iterator[Problem]:
    """The same courses as planning.py sees them, over the time that it looked at."""
    for number in range(CASES):
        course = courses.open_course(
            session, clinic.waiting[number], clinic.version_id, by=Authority("benchmark")
        )
        wishes = WishesSchema().load(_wishes(number))
        about = unplanned.of_course(session, course.id, wishes, NOW)
        for here in grounds.widening(session, about):
            way = here[0].way()
            if way is not None and here[0].is_proven(way):
                break
        yield here[0].problem
