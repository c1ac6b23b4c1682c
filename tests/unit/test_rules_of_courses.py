"""Gates and course rules. Pure: tables with their boundaries."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vocabulary import (
    AppointmentStatus,
    ClearanceOutcome,
    GateState,
    Stage,
    StepKind,
    TaskStatus,
)
from scheduler import ages, protocols, rules
from scheduler.choosing import behind
from scheduler.intervals import Frame, positions
from scheduler.readiness import Companion, EarlierStep, Item, Known, Vouched, assess, moment
from scheduler.rules import Booked, Candidate
from tests.factories import protocol_content
from tests.properties import cases

VISIT = datetime(2026, 3, 31, 13, 0, tzinfo=UTC)
TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
ZONE = ZoneInfo("America/New_York")

PROTOCOL = protocols.read(protocol_content())
GATES = {gate.code: gate for gate in PROTOCOL.visits["dosing"].gates}


def state(code: str, at: datetime = VISIT, **known: Any) -> GateState:
    [judged] = assess([GATES[code]], Known(starts_at=VISIT, **known), at).gates
    return judged.state


CLEARED = ClearanceOutcome.CLEARED


@pytest.mark.parametrize(
    ("vouched", "expected"),
    [
        (None, GateState.OPEN),
        (Vouched(CLEARED, VISIT - 90 * DAY), GateState.MET),  # its last instant
        (Vouched(CLEARED, VISIT - 90 * DAY - TICK), GateState.EXPIRED),
        (Vouched(CLEARED, VISIT), GateState.MET),
        (Vouched(CLEARED, VISIT + TICK), GateState.OPEN),  # after the visit began
        (Vouched(CLEARED, VISIT - DAY, valid_until=VISIT), GateState.MET),
        (Vouched(CLEARED, VISIT - DAY, valid_until=VISIT - TICK), GateState.EXPIRED),
        (Vouched(ClearanceOutcome.NOT_APPLICABLE, VISIT - DAY), GateState.MET),
        (Vouched(ClearanceOutcome.REFUSED, VISIT - DAY), GateState.FAILED),
    ],
)
def test_a_clearance_holds_through_its_last_instant(
    vouched: Vouched | None, expected: GateState
) -> None:
    clearances = {} if vouched is None else {"medical-clearance": [vouched]}

    assert state("medical-clearance", clearances=clearances) is expected


def test_the_first_visit_of_a_kind_may_ask_for_a_fresher_clearance() -> None:
    gate = replace(GATES["medical-clearance"], holds_first=30 * DAY)
    old = {"medical-clearance": [Vouched(CLEARED, VISIT - 31 * DAY)]}
    states = [
        assess([gate], Known(starts_at=VISIT, clearances=old, first_of_kind=first), VISIT)
        .gates[0]
        .state
        for first in (True, False)
    ]
    assert states == [GateState.EXPIRED, GateState.MET]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], GateState.OPEN),
        ([TaskStatus.REQUESTED], GateState.OPEN),
        ([TaskStatus.COMPLETED], GateState.MET),
        ([TaskStatus.CANCELLED], GateState.MET),  # waived by staff
        ([TaskStatus.COMPLETED, TaskStatus.REQUESTED], GateState.OPEN),
        ([TaskStatus.COMPLETED, TaskStatus.FAILED], GateState.FAILED),
    ],
)
def test_a_checklist_opens_its_gate_when_all_of_it_is_done(
    statuses: list[TaskStatus], expected: GateState
) -> None:
    items = tuple(Item("fasting", "t", status, VISIT - DAY) for status in statuses)
    other = Item("other", "t", TaskStatus.FAILED, VISIT)

    assert state("fasting", items=(*items, other)) is expected


@pytest.mark.parametrize(
    ("escort", "expected"),
    [(None, GateState.OPEN), (Companion(False), GateState.OPEN), (Companion(True), GateState.MET)],
)
def test_an_escort_counts_once_they_said_yes(escort: Companion | None, expected: GateState) -> None:
    assert state("transport-home", escort=escort) is expected


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        (None, GateState.OPEN),
        ((), GateState.MET),
        ((EarlierStep("p", StepKind.PREPARATION, True),), GateState.MET),
        ((EarlierStep("p", StepKind.PREPARATION, False),), GateState.OPEN),
        ((EarlierStep("i", StepKind.INTEGRATION, False),), GateState.MET),
    ],
)
def test_earlier_steps_count_when_they_took_place(
    earlier: tuple[EarlierStep, ...] | None, expected: GateState
) -> None:
    assert state("preparation-done", earlier=earlier) is expected


@pytest.mark.parametrize(
    ("passed", "expected"),
    [
        (timedelta(minutes=120) - TICK, GateState.OPEN),
        (timedelta(minutes=120), GateState.MET),
    ],
)
def test_observation_runs_from_the_dose(passed: timedelta, expected: GateState) -> None:
    assert state("observation", at=VISIT + passed, dosed_at=VISIT) is expected
    assert state("observation", at=VISIT + passed, dosed_at=None) is GateState.OPEN


def test_an_override_opens_what_is_shut_and_leaves_what_is_met() -> None:
    given = {"transport-home": VISIT - DAY}
    assert state("transport-home", overridden=given) is GateState.OVERRIDDEN
    met = Companion(True)
    assert state("transport-home", escort=met, overridden=given) is GateState.MET


def test_each_stage_asks_its_own_gates_and_those_before_the_dose() -> None:
    ready = assess(GATES.values(), Known(starts_at=VISIT), VISIT)

    asked = {stage: {judged.gate.code for judged in ready.shut(stage)} for stage in Stage}

    assert asked[Stage.BOOKING] == {"medical-clearance", "consent"}
    assert asked[Stage.ARRIVAL] - asked[Stage.BOOKING] == {
        "transport-home",
        "fasting",
        "preparation-done",
    }
    assert asked[Stage.DOSE] - asked[Stage.ARRIVAL] == {"vitals"}
    assert asked[Stage.DISCHARGE] == {"recovery-score", "observation"}


def test_a_visit_is_judged_as_of_its_start_and_once_begun_as_of_now() -> None:
    assert moment(VISIT, VISIT - DAY, under_way=False) == VISIT
    assert moment(VISIT, VISIT + DAY, under_way=False) == VISIT + DAY


def test_of_a_visit_that_begins_early_the_clock_runs_from_now() -> None:
    assert moment(VISIT, VISIT - DAY, under_way=True) == VISIT - DAY


DOSE = datetime(2026, 3, 9, 14, 0, tzinfo=UTC)  # Monday, 10:00 in New York
BOOKED = AppointmentStatus.BOOKED


def broken(step: str, starts_at: datetime, *others: Booked) -> list[str]:
    found = PROTOCOL.step(step)
    candidate = Candidate(found, found.visit.kind, starts_at, ZONE)
    return [rule.code for rule in rules.judge(candidate, PROTOCOL, others)]


def visit(step: str, starts_at: datetime, status: AppointmentStatus = BOOKED) -> Booked:
    return Booked(step, PROTOCOL.step(step).visit.kind, status, starts_at)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (24, []),
        (72, []),
        (24 - 1 / 60, ["integration-1-too-soon"]),
        (72 + 1 / 60, ["integration-1-too-late"]),
    ],
)
def test_a_window_in_hours_elapses(hours: float, expected: list[str]) -> None:
    start = DOSE + timedelta(hours=hours)
    assert broken("integration-1", start, visit("dosing-1", DOSE)) == expected


@pytest.mark.parametrize(
    ("wall", "expected"),
    [
        ("2026-03-13T23:55", ["dosing-2-too-soon"]),
        ("2026-03-14T00:00", []),  # five days later by the calendar, if not by the hour
    ],
)
def test_a_window_in_days_counts_the_calendar(wall: str, expected: list[str]) -> None:
    start = datetime.fromisoformat(wall).replace(tzinfo=ZONE)
    done = (visit("dosing-1", DOSE), visit("integration-1", DOSE + DAY))
    assert broken("dosing-2", start, *done) == expected


def test_a_missed_anchor_counts_from_its_time_and_a_cancelled_one_does_not() -> None:
    later = DOSE + 2 * DAY
    missed = visit("dosing-1", DOSE, AppointmentStatus.NOSHOW)
    cancelled = visit("dosing-1", DOSE, AppointmentStatus.CANCELLED)

    assert broken("integration-1", later, missed) == []
    assert broken("integration-1", later, cancelled) == ["no-dosing-1"]


def test_moving_an_anchor_is_judged_by_what_hangs_on_it() -> None:
    hanging = (
        visit("preparation", DOSE - 3 * DAY),
        visit("integration-1", DOSE + 2 * DAY),
    )
    assert broken("dosing-1", DOSE, *hanging) == []
    assert broken("dosing-1", DOSE - 2 * DAY, *hanging) == ["integration-1-too-late"]
    assert broken("dosing-1", DOSE + DAY + timedelta(hours=1), *hanging) == [
        "integration-1-too-soon"
    ]


def test_doses_keep_their_distance_and_their_number_in_any_week() -> None:
    def dosing(days: float) -> Booked:
        return Booked(None, StepKind.DOSING, BOOKED, DOSE + timedelta(days=days))

    done = (visit("preparation", DOSE - DAY),)
    assert broken("dosing-1", DOSE, *done, dosing(2)) == []
    assert broken("dosing-1", DOSE, *done, dosing(1.99)) == ["between-doses"]
    assert broken("dosing-1", DOSE, *done, dosing(-3), dosing(3)) == ["weekly-doses"]
    assert broken("dosing-1", DOSE, *done, dosing(-3), dosing(4)) == []
    assert broken("dosing-1", DOSE, *done, dosing(-7), dosing(3)) == []


def test_what_is_owed_must_be_booked_or_done() -> None:
    start = DOSE + 7 * DAY
    dose = visit("dosing-1", DOSE)
    assert broken("dosing-2", start, dose) == ["owes-integration-1"]
    assert broken("dosing-2", start, dose, visit("integration-1", DOSE + DAY)) == []


def test_the_earliest_moment_is_where_every_window_is_open() -> None:
    step = PROTOCOL.step("dosing-2")
    found = rules.earliest(step, [visit("dosing-1", DOSE)], ZONE)
    assert found == datetime(2026, 3, 14, tzinfo=ZONE)
    assert rules.earliest(step, [], ZONE) is None


@pytest.mark.parametrize(
    ("break_it", "pointer"),
    [
        (lambda c: c["visits"]["dosing"]["minutes"].pop("source"), "/visits/dosing/minutes"),
        (lambda c: c["steps"][1]["after"][0].update(step="nowhere"), "/steps/1/after/0/step"),
        (
            lambda c: c["steps"][2]["after"][0]["most"].update(value=23),
            "/steps/2/after/0/most",
        ),
        (lambda c: c["visits"]["dosing"].update(cadence="loud"), "/visits/dosing/cadence"),
        (lambda c: c["minimum_age"].update(source=["X"]), "/minimum_age/source"),
        (lambda c: c["steps"][0].update(visit="party"), "/steps/0/visit"),
        (lambda c: c["steps"][1].update(key="preparation"), "/steps/1/key"),
        (lambda c: c["visits"]["dosing"]["phases"][0].update(to=185), "/visits/dosing/phases/0/to"),
    ],
)
def test_a_faulty_protocol_is_told_where(break_it: Any, pointer: str) -> None:
    content = protocol_content()
    assert protocols.check(content) == []
    break_it(content)

    assert pointer in {fault.pointer for fault in protocols.check(content)}


FRAME = Frame(VISIT - 2 * DAY, 4 * 288)
NEAR = st.timedeltas(-3 * DAY, 3 * DAY)


@cases(50)
@given(
    st.dictionaries(
        st.sampled_from(sorted(GATES)),
        st.builds(
            lambda outcome, at, until: Vouched(
                outcome, VISIT + at, None if until is None else VISIT + until
            ),
            st.sampled_from(ClearanceOutcome),
            st.one_of(NEAR, NEAR.map(lambda off: off - 90 * DAY)),
            st.one_of(st.none(), NEAR),
        ),
    ),
    st.booleans(),
)
def test_what_is_behind_a_gate_is_what_judging_every_start_finds(
    clearances: dict[str, Vouched], first: bool
) -> None:
    told = {code: [one] for code, one in clearances.items()}
    known = Known(starts_at=VISIT, clearances=told, first_of_kind=first)
    gates = list(GATES.values())
    oracle = [
        at for at in range(FRAME.size) if assess(gates, known, FRAME.at(at)).shut(Stage.BOOKING)
    ]

    assert list(positions(behind(FRAME, gates, known))) == oracle


@cases(200)
@given(st.dates(date(1930, 1, 1), date(2020, 12, 31)), st.integers(12, 90))
def test_the_day_on_which_somebody_is_so_old_is_the_first_such_day(born: date, years: int) -> None:
    day = ages.of_age(born, years)

    assert ages.age_on(day, born) >= years > ages.age_on(day - DAY, born)


DOSED, TALKED, READIED = StepKind.DOSING, StepKind.INTEGRATION, StepKind.PREPARATION


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([], 0),
        ([READIED], 0),
        ([READIED, DOSED], 1),
        ([DOSED, DOSED, DOSED], 3),
        ([DOSED, DOSED, TALKED], 0),
        ([DOSED, TALKED, DOSED, DOSED], 2),
    ],
)
def test_doses_are_counted_since_anything_else(kinds: list[StepKind], expected: int) -> None:
    assert rules.doses_in_a_row(kinds) == expected
