"""Random walks over the life of a dosing visit, each asked of a real PostgreSQL.

Whoever does whatever, at whatever time: no state without its events; nothing begins or ends
while something that keeps the patient safe is open, by an account that is kept apart from the
rules (walks/account.py); and whatever came of it can be taken back.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from models.vocabulary import AppointmentStatus
from scheduler import protocols
from scheduler.authority import PATIENT, Authority
from scheduler.lifecycle import Action
from tests.integration.walks.day import DESK, DOCTOR, GATES, NURSE, PEOPLE, content
from tests.integration.walks.walk import Start, Step, Walk, set_out
from tests.properties import cases

ACTS = [
    Action.ARRIVE,
    Action.START_DOSING,
    Action.START_RECOVERY,
    Action.DISCHARGE,
    Action.FULFIL,
    Action.NOSHOW,
]
DEEDS = [
    "clear",
    "write",
    "agree",
    "screen",
    "decide",
    "reconcile",
    "rule",
    "go_on",
    "fill_in",
    "put_right",
    "escort",
    "tick",
    "measure",
    "override",
    "withdraw",
    "leave",
    "stay",
    "go_wrong",
    "look_after",
    "born",
    "license",
    "review",
    "move",
    "cancel",
]
OFTEN = ["measure", "override", "withdraw", "screen", "go_on", "go_on"]
TRIED = [*ACTS, *ACTS, *DEEDS, *OFTEN, "fill_in", "fill_in", "put_right"]
NUMBERS = st.integers(0, len(GATES) - 1)

SETTLED: list[Step] = [
    ("clear", 0, 0, DOCTOR),
    ("agree", 0, 0, PATIENT),
    ("screen", 0, 0, NURSE),
    ("reconcile", 0, 0, NURSE),
    ("fill_in", 0, 0, PATIENT),
    ("escort", 0, 0, DESK),
    ("tick", 0, 0, PATIENT),
]
"""What is to be done before the day; each alone keeps the visit from beginning."""
LOOKED: Step = ("review", 0, 24 * 60, DESK)
"""The clock looks on Monday, two hours before the visit."""
DAY: list[Step] = [
    (Action.ARRIVE, 0, 90, DESK),
    ("measure", 0, 15, NURSE),
    (Action.START_DOSING, 0, 5, DOCTOR),
    (Action.START_RECOVERY, 0, 90, DOCTOR),
    ("leave", 0, 30, NURSE),
    (Action.DISCHARGE, 0, 1, DOCTOR),
    (Action.FULFIL, 0, 1, DOCTOR),
]
IN_TIME = [*SETTLED, LOOKED, *DAY]
LATE = [LOOKED, *SETTLED, ("review", 0, 1, DESK), *DAY]
"""The visit is suspended, and goes ahead again at the next look."""

steps = st.lists(
    st.tuples(
        st.sampled_from(TRIED),
        NUMBERS,
        st.sampled_from([0, 1, 5, 29, 30, 31, 119, 120, 121, 24 * 60]),
        st.sampled_from(PEOPLE),
    ),
    max_size=30,
)
Stray = tuple[int, str, int, Authority]
"""Before which step, what is tried, a number of its own, and who tries it."""
strays: st.SearchStrategy[list[Stray]] = st.lists(
    st.tuples(st.integers(0, 14), st.sampled_from(TRIED), NUMBERS, st.sampled_from(PEOPLE)),
    max_size=6,
)


@pytest.fixture
def start(committed: Session) -> Start:
    """What every walk finds; it leaves nothing there."""
    start = set_out(committed)
    committed.commit()
    return start


@contextmanager
def walking(engine: Engine, start: Start) -> Iterator[Walk]:
    """A walk of which nothing stays."""
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield Walk(session, start)
        outer.rollback()


def test_the_protocol_of_the_walks_is_one_that_can_be_signed() -> None:
    assert protocols.check(content()) == []


@pytest.mark.timeout(0)
@cases(100)
@given(settled=st.sets(st.sampled_from(SETTLED)), walk=steps)
def test_no_walk_gets_past_what_is_open_and_each_can_be_taken_back(
    service_engine: Engine, start: Start, settled: set[Step], walk: list[Step]
) -> None:
    with walking(service_engine, start) as here:
        for step in (*(one for one in SETTLED if one in settled), *walk):
            here.go(step)
        here.take_back()


@pytest.mark.timeout(0)
@cases(100)
@given(plan=st.sampled_from([IN_TIME, LATE]), strays=strays)
def test_nor_does_a_day_that_goes_astray(
    service_engine: Engine,
    start: Start,
    plan: list[Step],
    strays: list[Stray],
) -> None:
    """A good day, with strays in between: so that many walks reach the end."""
    walk = list(plan)
    for place, what, number, by in sorted(strays, key=lambda one: -one[0]):
        walk.insert(place, (what, number, 1, by))
    with walking(service_engine, start) as here:
        for step in walk:
            here.go(step)
        here.take_back()


@pytest.mark.parametrize("plan", [IN_TIME, LATE], ids=["in time", "late"])
def test_a_good_day_ends_well(service_engine: Engine, start: Start, plan: list[Step]) -> None:
    with walking(service_engine, start) as here:
        for step in plan:
            here.go(step)
        assert here.visit.status is AppointmentStatus.FULFILLED
        assert here.course.status == "completed"
        here.take_back()
