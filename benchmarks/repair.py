"""Repair: somebody is away while thirty courses run; beside CP-SAT on the same problem.

The clinic has the people and rooms of size S. Half of everybody's every day is taken by others,
everything by a fixed seed. In the first two cases thirty courses have begun within four weeks,
and 378 of their visits are ahead when the nurse who serves most of them falls ill, for two weeks
or for four. In the third all 420 are ahead, and one of three prescribers is away for two weeks in
which the others have hardly any time left. In the last there is so little time left that not even
all thirty courses find a place. What the optimum is looked for from is our own thorough answer.
"""

import copy
import random
from datetime import datetime, timedelta
from statistics import median
from time import perf_counter

from benchmarks.clinics import S, content
from benchmarks.report import Report
from scheduler import optimum, protocols
from scheduler.board import Case, Repaired
from scheduler.repairing import THOROUGH, repair
from scheduler.timeline import DAY
from tests.paper import MONDAY, Paper, ahead, struck

COURSES = 30
BEGUN = 24 * DAY
"""Their beginnings are spread over so long."""
NOW = MONDAY + 22 * DAY
SECONDS = 20.0
ROUNDS = 5


def run(report: Report) -> None:
    """Time the first full proposal; hold what it repairs and moves against the optimum."""
    paper, whole = _clinic(1.0, days=120, begun=BEGUN)
    under_way = [ahead(case, NOW) for case in whole]
    for name, weeks in (("repair_30_S", 2), ("repair_30_S_month", 4)):
        _measure(report, name, _hit(paper, under_way, "monitor 0", NOW, weeks), NOW)
    paper, cases = _clinic(0.9)
    assert len(whole) == len(cases) == COURSES
    hit = _hit(paper, cases, "prescriber 0", MONDAY + 21 * DAY, 2)
    _measure(report, "repair_30_S_scarce", hit, MONDAY)
    paper, cases = _clinic(1.0)
    hit = _hit(paper, cases, "monitor 1", MONDAY + 21 * DAY, 2)
    _measure(report, "repair_S_full", hit, MONDAY)


def _clinic(
    share: float, days: int = S.days, begun: timedelta | None = None
) -> tuple[Paper, list[Case]]:
    """The clinic with so large a share of its half days taken, and the courses planned in it."""
    paper = Paper(
        days=days,
        therapists=S.therapists,
        prescribers=S.prescribers,
        monitors=S.monitors,
        lanes=3,
        dosing_rooms=S.dosing_rooms,
        consulting_rooms=S.consulting_rooms,
    )
    paper.fill(random.Random(7), share)
    return paper, paper.cases(protocols.read(content()), COURSES, begun)


def _measure(
    report: Report, name: str, struck_clinic: tuple[Paper, list[Case]], since: datetime
) -> None:
    away, hit = struck_clinic
    broken = [sum(visit.is_broken for visit in case.visits) for case in hit]
    visits = sum(len(case.visits) for case in hit)
    print(
        f"  {len(hit)} courses, {visits} visits ahead,",
        f"{sum(broken)} of them broken in {sum(map(bool, broken))} courses",
    )
    first = repair(hit, away.calendar(hit, since))
    millis = median(_timed(away, hit, since) for _ in range(ROUNDS))
    answers = [("first", first)]
    if not optimum.is_here():
        report.add(f"{name}_ms", millis, "ms")
    else:
        began = perf_counter()
        thorough = repair(hit, away.calendar(hit, since), THOROUGH)
        best, is_best = optimum.best(hit, away.calendar(hit, since), thorough, SECONDS)
        report.add(f"{name}_ms", millis, "ms", 1000 * (perf_counter() - began))
        report.add(f"{name}_best_proved", float(is_best), "")
        answers += [("thorough", thorough), ("best", best)]
    for what, found in answers:
        report.add(f"{name}_{what}_stuck", len(found.stuck), "visits")
        report.add(f"{name}_{what}_moves", _moves(found), "visits")


def _hit(
    paper: Paper, cases: list[Case], name: str, start: datetime, weeks: int
) -> tuple[Paper, list[Case]]:
    """The clinic with somebody away from a day on, for so many weeks."""
    who, end = paper.named(name), start + weeks * 7 * DAY
    away = copy.deepcopy(paper)
    away.shut(who, start, end)
    return away, struck(cases, who, start, end)


def _timed(paper: Paper, cases: list[Case], since: datetime) -> float:
    calendar = paper.calendar(cases, since)
    began = perf_counter()
    repair(cases, calendar)
    return 1000 * (perf_counter() - began)


def _moves(found: Repaired) -> int:
    """The visits that take place at another time."""
    return sum(one.starts_at != one.visit.at for one in found.moves)
