"""Repairs on paper: no rule broken, nobody twice, nothing moved without need."""

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import optimum, protocols, rules
from scheduler.actors import Actor, Assignment
from scheduler.board import REACH, Board, Case, Repaired, Visit, booked
from scheduler.mending import Search
from scheduler.repairing import repair
from scheduler.rules import Candidate
from scheduler.timeline import DAY
from tests.factories import protocol_content
from tests.paper import HOUR, MONDAY, Paper, struck, three_doses
from tests.properties import cases

PROTOCOL = three_doses()
WEEK = 7 * DAY


@lru_cache(maxsize=8)
def clinic(seed: int) -> tuple[Paper, list[Case]]:
    """A small clinic, half full, with a few courses."""
    paper = Paper(days=49, therapists=2 + seed % 2)
    paper.fill(random.Random(seed), 0.25)
    return paper, paper.cases(PROTOCOL, 4)


def hit(seed: int, who: int, first: int, days: int) -> tuple[Paper, list[Case], Actor]:
    """The same clinic with somebody away."""
    known, cases = clinic(seed)
    paper = copy.deepcopy(known)
    actor = paper.actors[who % len(paper.actors)]
    start, end = MONDAY + first * DAY, MONDAY + (first + days) * DAY
    paper.shut(actor.schedule_id, start, end)
    return paper, struck(cases, actor.schedule_id, start, end), actor


def after(cases: Sequence[Case], found: Repaired) -> list[tuple[Case, Visit, list[Assignment]]]:
    """Where every visit is once the moves are made."""
    moves = {one.visit.id: one for one in found.moves}
    placed = []
    for case in cases:
        for visit in case.visits:
            move = moves.get(visit.id)
            served = list(visit.assignments)
            at = visit.at
            if move is not None:
                at = move.starts_at
                end = at + visit.step.visit.length
                served = [
                    *move.assignments,
                    Assignment("patient", case.patient, (0,), at, end, end),
                ]
            placed.append((case, replace(visit, at=at), served))
    return placed


def check(paper: Paper, cases: Sequence[Case], found: Repaired) -> None:
    """Everything that a proposal promises, by looking at every pair of visits."""
    broken = {one.id for case in cases for one in case.visits if one.is_broken}
    moved = {one.visit.id for one in found.moves}
    stuck = {one.visit.id for one in found.stuck}
    assert broken == (broken & moved) | stuck
    assert not moved & stuck
    if not stuck and all(one.why != "follows" for one in found.moves):
        assert moved == broken
    placed = after(cases, found)
    nobody_is_twice(placed)
    for move in found.moves:
        assert abs(move.starts_at - move.visit.at) <= REACH
        everybody_is_there(paper, move.assignments)
    for case, visit, served in placed:
        if visit.id in moved:
            others = [
                booked(other, theirs, theirs.at, people)
                for other, theirs, people in placed
                if other is case and theirs.id != visit.id
            ]
            who = booked(case, visit, visit.at, served).who
            kind, zone = visit.step.visit.kind, case.site.zone
            candidate = Candidate(visit.step, kind, visit.at, zone, who)
            assert rules.judge(candidate, case.protocol, others) == []


def nobody_is_twice(placed: Sequence[tuple[Case, Visit, list[Assignment]]]) -> None:
    lanes: dict[tuple[UUID, int], list[Assignment]] = {}
    for _, _, served in placed:
        for one in served:
            for lane in one.lanes:
                lanes.setdefault((one.actor.schedule_id, lane), []).append(one)
    for taken in lanes.values():
        for one, other in combinations(taken, 2):
            assert one.until <= other.since or other.until <= one.since


def everybody_is_there(paper: Paper, served: Sequence[Assignment]) -> None:
    for one in served:
        opened = paper.opened[one.actor.schedule_id]
        assert any(start <= one.since and one.until <= end for start, end in opened)


@cases(40)
@given(st.integers(0, 3), st.integers(0, 20), st.integers(0, 30), st.integers(1, 12))
def test_a_proposal_keeps_every_promise(seed: int, who: int, first: int, days: int) -> None:
    paper, hurt, _ = hit(seed, who, first, days)
    found = repair(hurt, paper.calendar(hurt))
    check(paper, hurt, found)
    assert found == repair(hurt, paper.calendar(hurt))
    assert len(found.stuck) <= len(repair(hurt, paper.calendar(hurt), 0).stuck)


@cases(20)
@given(st.integers(0, 3), st.data())
def test_lost_visits_find_a_place_in_their_windows(seed: int, data: st.DataObject) -> None:
    paper, known = clinic(seed)
    chosen = data.draw(st.sampled_from(known))
    visit = data.draw(st.sampled_from(chosen.visits))
    lost = replace(visit, assignments=(), why="missed")
    visits = tuple(lost if one is visit else one for one in chosen.visits)
    hurt = [replace(one, visits=visits) if one is chosen else one for one in known]
    found = repair(hurt, paper.calendar(hurt))
    check(paper, hurt, found)
    assert found.stuck == ()  # its old time is free


def test_nothing_broken_moves_nothing() -> None:
    paper, cases = clinic(0)
    assert repair(cases, paper.calendar(cases)) == Repaired((), (), 0)


def test_another_nurse_at_the_same_time_is_no_move() -> None:
    paper, cases = copy.deepcopy(clinic(0))
    paper.taken.clear()
    nurse = next(one.actor for one in cases[0].visits[1].assignments if one.role == "monitor")
    paper.shut(nurse.schedule_id, MONDAY, MONDAY + 7 * WEEK)
    cases = struck(cases[:1], nurse.schedule_id, MONDAY, MONDAY + 7 * WEEK)
    found = repair(cases, paper.calendar(cases))
    assert found.moves
    assert [one.starts_at for one in found.moves] == [one.visit.at for one in found.moves]
    assert found.cost == 0


def test_a_short_illness_keeps_the_therapist() -> None:
    paper, cases = copy.deepcopy(clinic(1))
    paper.taken.clear()
    case = cases[0]
    assert case.lead is not None
    dose = case.visits[1]
    paper.shut(case.lead, dose.at, dose.at + HOUR)
    cases = struck([case], case.lead, dose.at, dose.at + HOUR)
    found = repair(cases, paper.calendar(cases))
    assert found.moves
    for move in found.moves:
        leads = {one.actor.schedule_id for one in move.assignments if one.role == "therapist"}
        assert leads == {case.lead}


def test_a_day_without_its_only_room_is_spread_over_other_days() -> None:
    paper = Paper(
        days=28, therapists=2, prescribers=1, monitors=1, dosing_rooms=1, consulting_rooms=1
    )
    cases = paper.cases(PROTOCOL, 2)
    assert len(cases) == 2
    day = cases[0].visits[0].at.replace(hour=0)
    room = paper.named("consulting 0")
    paper.shut(room, day, day + DAY)
    cases = struck(cases, room, day, day + DAY)
    found = repair(cases, paper.calendar(cases))
    check(paper, cases, found)
    assert found.moves
    assert found.stuck == ()


def test_a_visit_without_a_place_gets_one_that_another_course_can_do_without() -> None:
    paper = Paper(days=35, therapists=2, prescribers=1, lanes=1)
    paper.fill(random.Random(1), 0.5)
    known = paper.cases(PROTOCOL, 6)
    ill, start = paper.named("prescriber 0"), MONDAY + 7 * DAY
    paper.shut(ill, start, start + 4 * DAY)
    hurt = struck(known, ill, start, start + 4 * DAY)

    alone = repair(hurt, paper.calendar(hurt), 0)
    found = repair(hurt, paper.calendar(hurt))

    assert (len(alone.stuck), len(found.stuck)) == (1, 0)
    [lost] = alone.stuck
    assert any(
        move.why == "follows" and move.case.patient != lost.case.patient for move in found.moves
    )
    check(paper, hurt, found)


def test_what_cannot_be_helped_says_why() -> None:
    paper, cases = copy.deepcopy(clinic(2))
    rooms = [one for one in paper.actors if one.kind == "dosing"]
    for room in rooms:
        paper.shut(room.schedule_id, MONDAY, MONDAY + 7 * WEEK)
        cases = struck(cases, room.schedule_id, MONDAY, MONDAY + 7 * WEEK)
    found = repair(cases, paper.calendar(cases))
    assert found.moves == ()
    assert {one.code for one in found.stuck} == {"no-opening"}


@lru_cache(maxsize=8)
def tight(seed: int) -> tuple[Paper, list[Case]]:
    """A clinic with hardly a lane to spare, in which several courses are under way."""
    paper = Paper(days=70, therapists=4, monitors=2, lanes=1, dosing_rooms=2)
    paper.fill(random.Random(seed), 0.5 + 0.1 * seed)
    return paper, paper.cases(PROTOCOL, 8, 2 * WEEK)


def alone(cases: Sequence[Case], paper: Paper) -> Repaired:
    """What comes of it if each course is mended by itself."""
    search = Search(Board(paper.calendar(cases), cases), cases)
    search.run()
    return search.result()


@cases(60)
@given(st.integers(2, 3), st.integers(0, 1), st.integers(14, 35), st.integers(2, 14))
def test_others_make_room_within_their_rules(seed: int, who: int, first: int, days: int) -> None:
    paper, known = copy.deepcopy(tight(seed))
    nurse = paper.named(f"monitor {who}")
    start, end = MONDAY + first * DAY, MONDAY + (first + days) * DAY
    paper.shut(nurse, start, end)
    hit_cases = struck(known, nurse, start, end)
    found = repair(hit_cases, paper.calendar(hit_cases))
    check(paper, hit_cases, found)
    assert len(found.stuck) <= len(alone(hit_cases, paper).stuck)
    assert found == repair(hit_cases, paper.calendar(hit_cases))


def test_where_each_course_for_itself_is_stuck_others_make_room() -> None:
    """So that the property above is about something."""
    paper, known = copy.deepcopy(tight(3))
    nurse = paper.named("monitor 1")
    start, end = MONDAY + 26 * DAY, MONDAY + 40 * DAY
    paper.shut(nurse, start, end)
    hit_cases = struck(known, nurse, start, end)
    found = repair(hit_cases, paper.calendar(hit_cases))
    assert len(found.stuck) < len(alone(hit_cases, paper).stuck)


@pytest.mark.parametrize("chain", [1, 2, 3])
def test_a_visit_is_saved_by_others_that_give_way_one_for_the_next(chain: int) -> None:
    """There is an hour every ten days; each visit but the first may wait for the next hour."""
    paper = Paper(days=70, therapists=1, consulting_rooms=1)
    therapist = paper.named("therapist 0")
    hours = [MONDAY + number * 10 * DAY + 15 * HOUR for number in range(chain + 2)]
    paper.opened[therapist] = [(start, start + HOUR) for start in hours]
    for room in ("consulting 0", "dosing 0"):
        paper.opened[paper.named(room)] = [(MONDAY, MONDAY + 70 * DAY)]
    content = protocol_content()
    content["steps"] = [{"key": "preparation", "visit": "preparation"}]
    known = paper.cases(protocols.read(content), chain + 1)
    assert [case.visits[0].at for case in known] == hours[:-1]
    paper.shut(therapist, MONDAY, MONDAY + DAY)
    hit_cases = struck(known, therapist, MONDAY, MONDAY + DAY)
    assert len(alone(hit_cases, paper).stuck) == 1
    found = repair(hit_cases, paper.calendar(hit_cases))
    check(paper, hit_cases, found)
    assert found.stuck == ()
    assert [one.starts_at for one in found.moves] == hours[1:]


@pytest.mark.skipif(not optimum.is_here(), reason="the plan extra is not installed")
@pytest.mark.parametrize(("who", "first"), [(0, 7), (2, 14), (5, 10)])
def test_the_optimum_keeps_the_same_promises(who: int, first: int) -> None:
    paper, cases, _ = hit(1, who, first, 4)
    quick = repair(cases, paper.calendar(cases))
    best, _ = optimum.best(cases, paper.calendar(cases), quick, 5.0)
    check(paper, cases, best)
    assert (len(best.stuck), best.cost) <= (len(quick.stuck), quick.cost)


@pytest.mark.skipif(not optimum.is_here(), reason="the plan extra is not installed")
@pytest.mark.parametrize("days", [4, 10])
def test_the_optimum_is_told_the_whole_of_the_first_answer(days: int) -> None:
    """So it never comes back with less, however little time it is given."""
    paper, cases, _ = hit(1, 0, 7, days)
    quick = repair(cases, paper.calendar(cases))
    model = optimum.Model(Board(paper.calendar(cases), cases), cases)
    model.build(quick)
    model.solve(60, as_hinted=True)
    found = model.result()
    assert found is not None
    assert quick.moves
    assert (len(found.stuck), found.cost) == (len(quick.stuck), quick.cost)
    assert len(model.model.proto.solution_hint.vars) == len(model.model.proto.variables)
