"""Whole courses of a busy clinic planned over HTTP, and each plan beside CP-SAT's optimum."""

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from api.proposals import WishesSchema
from benchmarks import optimum, plots
from benchmarks.clinics import DAY, FIRST, Busy, S, Size, busy
from benchmarks.openings import Client
from benchmarks.place import serving
from benchmarks.report import Report
from models import enter_clinic
from scheduler import courses, grounds, planning, proposing, unplanned
from scheduler.authority import Authority
from scheduler.problems import Problem
from tests.crowd import NOW
from tests.fakes import MailServer

CASES = 24
PROVEN, VISITS = 6, 6
"""So many courses cut to so many visits: as much as CP-SAT can prove in a minute."""
WHOLE, SECONDS = 4, 20.0
"""So many whole courses, of which CP-SAT looks for the best for so long."""


def run(report: Report) -> None:
    """Plan courses with and without wishes, none of them booked."""
    with busy(S) as clinic:
        _over_http(report, clinic)
        _beside_optimum(report, clinic)
    _by_size()


def wishes(number: int) -> dict[str, Any]:
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
            found = client.call("POST", f"/courses/{course}/proposals", {"wishes": wishes(number)})
            took.append((time.perf_counter() - begun) * 1000)
            assert found["items"], json.dumps(found)
        took = took[1:]  # the first finds the calendar cold
        report.add("plan_course_S_ms", statistics.median(took), "ms")
        report.add("plan_course_S_p95_ms", statistics.quantiles(took, n=20)[-1], "ms")


def _beside_optimum(report: Report, clinic: Busy) -> None:
    """The first visits, of which CP-SAT can prove the optimum; and whole, as far as it gets."""
    engine = create_engine(clinic.ways.service)
    with Session(engine) as session:
        enter_clinic(session, clinic.clinic_id)
        problems = list(_problems(session, clinic))
    engine.dispose()
    tries = [_Beside(_first(problem), 120) for problem in problems[:PROVEN]]
    assert all(one.is_proven for one in tries)
    mine, theirs = (statistics.median(each) for each in zip(*(o.took for o in tries), strict=True))
    report.add(f"plan_{VISITS}_visits_S_ms", mine, "ms", theirs)
    other = sum(one.ours != one.theirs for one in tries)
    report.add("plan_other_than_optimum", other, f"of {PROVEN}")
    tries = [_Beside(problem, SECONDS) for problem in problems[:WHOLE]]
    mine, theirs = (statistics.median(each) for each in zip(*(o.took for o in tries), strict=True))
    report.add("plan_whole_S_ms", mine, "ms", theirs)
    known = [one for one in tries if one.theirs is not None]
    dearer = sum(one.ours > one.theirs for one in known if one.theirs is not None)
    report.add("plan_dearer_than_cp_sat", dearer, f"of {len(known)}")


def _first(problem: Problem) -> Problem:
    return replace(problem, choices=problem.choices[:VISITS])


class _Beside:
    """A plan, and what CP-SAT finds in so many seconds."""

    def __init__(self, problem: Problem, seconds: float) -> None:
        begun = time.perf_counter()
        plan = planning.plan(problem)
        between = time.perf_counter()
        self.theirs, self.is_proven = optimum.cheapest(problem, seconds)
        self.took = (between - begun) * 1000, (time.perf_counter() - between) * 1000
        assert plan is not None
        self.ours = plan.cost


def _by_size() -> None:
    """Draw the time that plans take in clinics of several sizes."""
    alone, whole = [], []
    for times in (0.5, 1.0, 2.0, 4.0):
        size = _times(times)
        with busy(size) as clinic:
            took = list(_proposals(clinic))[1:]  # the first finds the calendar cold
        plan, find = (statistics.median(each) for each in zip(*took, strict=True))
        alone.append((size.clinicians, plan))
        whole.append((size.clinicians, find))
    plots.lines(
        plots.HERE / "courses.png",
        "A course of 14 visits, planned in a busy clinic",
        "clinicians",
        "ms",
        {"one plan": alone, "three proposals, everybody named": whole},
    )


def _times(times: float) -> Size:
    """A clinic so many times as large as S."""
    one, two, three, four, five = (
        max(1, round(number * times))
        for number in (
            S.therapists,
            S.prescribers,
            S.monitors,
            S.dosing_rooms,
            S.consulting_rooms,
        )
    )
    return Size(f"{times:g} S", one, two, three, four, five, S.days)


def _proposals(clinic: Busy) -> Iterator[tuple[float, float]]:
    """How long a plan, and how long three proposals take, in ms."""
    engine = create_engine(clinic.ways.service)
    with Session(engine) as session:
        enter_clinic(session, clinic.clinic_id)
        ids = [opened(session, clinic, number) for number in range(6)]
        session.commit()
    for number, course_id in enumerate(ids):
        told = WishesSchema().load(wishes(number))
        with Session(engine) as session:
            enter_clinic(session, clinic.clinic_id)
            about = unplanned.of_course(session, course_id, told, NOW)
            problem = next(grounds.widening(session, about))[0].problem
            begun = time.perf_counter()
            planning.plan(problem)
            between = time.perf_counter()
            proposing.find(session, course_id, told, NOW)
            yield (between - begun) * 1000, (time.perf_counter() - between) * 1000
    engine.dispose()


def opened(session: Session, clinic: Busy, number: int) -> UUID:
    """A course of one who waits, of which nothing is booked."""
    by = Authority("benchmark")
    return courses.open_course(session, clinic.waiting[number], clinic.version_id, by=by).id


def _problems(session: Session, clinic: Busy) -> Iterator[Problem]:
    """The same courses as planning.py sees them, over the time that it looked at."""
    for number in range(CASES):
        told = WishesSchema().load(wishes(number))
        about = unplanned.of_course(session, opened(session, clinic, number), told, NOW)
        for here in grounds.widening(session, about):
            way = here[0].way()
            if way is not None and here[0].is_proven(way):
                break
        yield here[0].problem
