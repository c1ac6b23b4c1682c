"""Repair: a nurse is away while thirty courses run; beside CP-SAT on the same problem.

The clinic has the people and rooms of size S. Not quite half of everybody's every day is taken
by others, then thirty courses of fourteen visits are planned into it, everything by a fixed seed.
A nurse is ill for a week, or for two; or one of three prescribers is away for two weeks in which
the others have hardly any time left. And once more with so little time left that not even all
thirty courses find a place.
"""

import copy
import random
from statistics import median
from time import perf_counter

from benchmarks.clinics import S, content
from benchmarks.report import Report
from scheduler import optimum, protocols
from scheduler.board import Case, Repaired
from scheduler.repairing import THOROUGH, repair
from scheduler.timeline import DAY
from tests.paper import MONDAY, Paper, struck

COURSES = 30
SECONDS = 20.0
ROUNDS = 5


def run(report: Report) -> None:
    """Time the first full proposal; hold what it repairs and moves against the optimum."""
    paper, cases = _clinic(0.9)
    assert len(cases) == COURSES
    _measure(report, "repair_30_S", _hit(paper, cases, "monitor 0", (14, 7)))
    _measure(report, "repair_30_S_fortnight", _hit(paper, cases, "monitor 0", (14, 14)))
    _measure(report, "repair_30_S_scarce", _hit(paper, cases, "prescriber 0", (21, 14)))
    paper, cases = _clinic(1.0)
    _measure(report, "repair_S_full", _hit(paper, cases, "monitor 1", (21, 14)))


def _clinic(share: float) -> tuple[Paper, list[Case]]:
    """The clinic with so large a share of its half days taken, and the courses planned in it."""
    paper = Paper(
        days=S.days,
        therapists=S.therapists,
        prescribers=S.prescribers,
        monitors=S.monitors,
        lanes=3,
        dosing_rooms=S.dosing_rooms,
        consulting_rooms=S.consulting_rooms,
    )
    paper.fill(random.Random(7), share)
    return paper, paper.cases(protocols.read(content()), COURSES)


def _measure(report: Report, name: str, struck_clinic: tuple[Paper, list[Case]]) -> None:
    away, hit = struck_clinic
    broken = sum(visit.is_broken for case in hit for visit in case.visits)
    visits = sum(len(case.visits) for case in hit)
    print(f"  {len(hit)} courses, {visits} visits, {broken} of them broken")
    first = repair(hit, away.calendar(hit))
    millis = median(_timed(away, hit) for _ in range(ROUNDS))
    if not optimum.is_here():
        report.add(f"{name}_ms", millis, "ms")
        return
    began = perf_counter()
    thorough = repair(hit, away.calendar(hit), THOROUGH)
    best, is_best = optimum.best(hit, away.calendar(hit), thorough, SECONDS)
    report.add(f"{name}_ms", millis, "ms", 1000 * (perf_counter() - began))
    for what, found in (("first", first), ("thorough", thorough), ("best", best)):
        report.add(f"{name}_{what}_stuck", len(found.stuck), "visits")
        report.add(f"{name}_{what}_moves", _moves(found), "visits")
    report.add(f"{name}_best_proved", float(is_best), "")


def _hit(
    paper: Paper, cases: list[Case], name: str, days: tuple[int, int]
) -> tuple[Paper, list[Case]]:
    """The clinic with somebody away from a day on, for so many."""
    start, who = MONDAY + days[0] * DAY, paper.named(name)
    end = start + days[1] * DAY
    away = copy.deepcopy(paper)
    away.shut(who, start, end)
    return away, struck(cases, who, start, end)


def _timed(paper: Paper, cases: list[Case]) -> float:
    calendar = paper.calendar(cases)
    began = perf_counter()
    repair(cases, calendar)
    return 1000 * (perf_counter() - began)


def _moves(found: Repaired) -> int:
    """The visits that take place at another time."""
    return sum(one.starts_at != one.visit.at for one in found.moves)
