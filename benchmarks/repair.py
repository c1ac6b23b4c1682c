"""Repair: somebody is away, thirty courses are hit; beside CP-SAT on the same problem.

The clinic has the people and rooms of size S. Half of everybody's every day is taken by others,
then thirty courses of fourteen visits are planned into it. A nurse is away for so long that
all the courses are hit; everything else about the clinic is made by a fixed seed.
"""

import copy
import random
from datetime import timedelta
from statistics import median
from time import perf_counter
from uuid import UUID

from benchmarks.clinics import S, content
from benchmarks.report import Report
from scheduler import optimum, protocols
from scheduler.repairing import Case, Repaired, repair
from scheduler.timeline import DAY
from tests.paper import MONDAY, Paper, struck

COURSES = 30
SECONDS = 20.0
ROUNDS = 5


def run(report: Report) -> None:
    """Time the first full proposal; hold what it repairs and moves against the optimum."""
    paper = Paper(
        days=S.days,
        therapists=S.therapists,
        prescribers=S.prescribers,
        monitors=S.monitors,
        lanes=3,
        dosing_rooms=S.dosing_rooms,
        consulting_rooms=S.consulting_rooms,
    )
    paper.fill(random.Random(7), 1.0)
    cases = paper.cases(protocols.read(content()), COURSES)
    nurse = paper.named("monitor 0")
    away, hit = _hit(paper, cases, nurse)
    visits = sum(len(case.visits) for case in hit)
    broken = sum(visit.is_broken for case in hit for visit in case.visits)
    print(f"  {len(hit)} courses, {visits} visits, {broken} of them broken")
    first = repair(hit, away.calendar(hit))
    millis = median(_timed(away, hit) for _ in range(ROUNDS))
    if not optimum.is_here():
        report.add("repair_30_S_ms", millis, "ms")
        return
    began = perf_counter()
    best, is_best = optimum.best(hit, away.calendar(hit), first, SECONDS)
    seconds = perf_counter() - began
    report.add("repair_30_S_ms", millis, "ms", 1000 * seconds)
    report.add("repair_30_S_stuck", len(first.stuck), "visits", len(best.stuck))
    report.add("repair_30_S_moves", _moves(first), "visits", _moves(best))
    report.add("repair_30_S_cost", first.cost, "points", best.cost)
    report.add("repair_30_S_optimum", float(is_best), "proved")


def _hit(paper: Paper, cases: list[Case], who: UUID) -> tuple[Paper, list[Case]]:
    """The clinic without somebody for so many weeks that every course is hit."""
    start = MONDAY + 14 * DAY
    for weeks in range(1, 12):
        end = start + timedelta(weeks=weeks)
        hit = struck(cases, who, start, end)
        if all(any(visit.is_broken for visit in case.visits) for case in hit):
            break
    away = copy.deepcopy(paper)
    away.shut(who, start, end)
    return away, hit


def _timed(paper: Paper, cases: list[Case]) -> float:
    calendar = paper.calendar(cases)
    began = perf_counter()
    repair(cases, calendar)
    return 1000 * (perf_counter() - began)


def _moves(found: Repaired) -> int:
    """The visits that take place at another time."""
    return sum(one.starts_at != one.visit.at for one in found.moves)
