"""When vital signs are due: every state of every kind of watch, to the minute."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.vocabulary import Measure, Stage
from scheduler.measuring import DueState, Measured, Reading, Zone, baseline, due, read
from scheduler.protocols import Beyond, Limit, Recheck, Watch

DOSE = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NOTHING = timedelta(0)


def watch(code: str, **more: Any) -> Watch:
    plain: dict[str, Any] = {
        "measures": (Measure.SYSTOLIC, Measure.DIASTOLIC),
        "before": None,
        "after": NOTHING,
        "every": None,
        "until": NOTHING,
        "late_after": 5 * MINUTE,
    }
    return Watch(code=code, title=code, **{**plain, **more})


BEFORE = watch("before", before=Stage.DOSE)
PEAK = watch("peak", after=40 * MINUTE, until=40 * MINUTE)
ROW = watch("row", after=10 * MINUTE, every=15 * MINUTE, until=40 * MINUTE)
LEAVING = watch("leaving", before=Stage.DISCHARGE)

AHEAD, NOW, LATE = DueState.AHEAD, DueState.DUE, DueState.LATE
DONE, MISSED = DueState.DONE, DueState.MISSED


def at(minutes: float, *measures: Measure) -> Measured:
    """Taken so long after the dose; everything unless said otherwise."""
    told = measures or (Measure.SYSTOLIC, Measure.DIASTOLIC)
    at = DOSE + minutes * MINUTE
    return Measured(at, dict.fromkeys(told, 120.0), at)


def listed(
    watches: tuple[Watch, ...],
    *measured: Measured,
    now: float,
    stage: Stage | None = Stage.DISCHARGE,
    dosed: bool = True,
) -> list[tuple[str, float, DueState, float | None]]:
    found = due(watches, measured, DOSE if dosed else None, stage, DOSE + now * MINUTE)
    return [
        (
            one.watch.code,
            (one.due_at - DOSE) / MINUTE,
            one.state,
            None if one.done_at is None else (one.done_at - DOSE) / MINUTE,
        )
        for one in found
    ]


def test_before_the_dose_it_is_due_as_soon_as_that_comes_next() -> None:
    assert listed((BEFORE,), now=-20, dosed=False, stage=Stage.ARRIVAL) == []
    assert listed((BEFORE,), now=-20, dosed=False, stage=Stage.DOSE) == [("before", -20, NOW, None)]
    assert listed((BEFORE,), at(-3), now=0, dosed=False, stage=Stage.DOSE) == [
        ("before", -3, DONE, -3)
    ]


@pytest.mark.parametrize(("minutes", "counts"), [(-1, True), (0, False), (1, False)])
def test_before_the_dose_is_not_at_it(minutes: float, counts: bool) -> None:
    assert listed((BEFORE,), at(minutes), now=5) == (
        [("before", minutes, DONE, minutes)] if counts else []
    )


@pytest.mark.parametrize(
    ("now", "state"), [(39, AHEAD), (40, NOW), (44, NOW), (45, NOW), (46, LATE), (600, LATE)]
)
def test_what_has_one_time_is_late_after_that(now: float, state: DueState) -> None:
    assert listed((PEAK,), now=now) == [("peak", 40, state, None)]


@pytest.mark.parametrize(
    ("taken", "counts"), [(34, False), (35, True), (40, True), (41, True), (300, True)]
)
def test_it_counts_from_so_long_before_its_time(taken: float, counts: bool) -> None:
    assert listed((PEAK,), at(taken), now=300) == [
        ("peak", 40, DONE, taken) if counts else ("peak", 40, LATE, None)
    ]


@pytest.mark.parametrize(
    ("now", "states"),
    [
        (9, [AHEAD, AHEAD, AHEAD]),
        (10, [NOW, AHEAD, AHEAD]),
        (15, [NOW, AHEAD, AHEAD]),
        (16, [LATE, AHEAD, AHEAD]),
        (20, [LATE, AHEAD, AHEAD]),  # from now on one counts for the next, if anybody measures
        (25, [LATE, NOW, AHEAD]),
        (30, [LATE, NOW, AHEAD]),
        (31, [LATE, LATE, AHEAD]),
        (35, [LATE, LATE, AHEAD]),
        (45, [LATE, LATE, NOW]),
        (46, [LATE, LATE, LATE]),
        (600, [LATE, LATE, LATE]),
    ],
)
def test_of_a_row_each_is_late_while_nobody_measures(now: float, states: list[DueState]) -> None:
    found = listed((ROW,), now=now)
    assert [one[1] for one in found] == [10, 25, 40]
    assert [one[2] for one in found] == states


@pytest.mark.parametrize(
    ("taken", "now", "states"),
    [
        (19, 19, [DONE, AHEAD, AHEAD]),
        (20, 20, [MISSED, DONE, AHEAD]),
        (20, 46, [MISSED, DONE, LATE]),
        (34, 34, [MISSED, DONE, AHEAD]),
        (35, 35, [MISSED, MISSED, DONE]),
        (600, 600, [MISSED, MISSED, DONE]),
    ],
)
def test_of_a_row_what_was_not_done_is_missed_once_a_later_one_is(
    taken: float, now: float, states: list[DueState]
) -> None:
    assert [one[2] for one in listed((ROW,), at(taken), now=now)] == states


def test_half_of_a_later_one_makes_up_for_nothing() -> None:
    half = at(36, Measure.SYSTOLIC)
    assert [one[2] for one in listed((ROW,), half, now=46)] == [LATE, LATE, LATE]
    whole = at(37, Measure.DIASTOLIC)
    assert [one[2] for one in listed((ROW,), half, whole, now=46)] == [MISSED, MISSED, DONE]


DENSE = watch("dense", after=10 * MINUTE, every=10 * MINUTE, until=30 * MINUTE)
"""Each is due again as soon as the one before it is late."""


@pytest.mark.parametrize(
    ("now", "states"),
    [
        (15, [NOW, AHEAD, AHEAD]),
        (15.1, [LATE, AHEAD, AHEAD]),
        (20, [LATE, NOW, AHEAD]),
        (25, [LATE, NOW, AHEAD]),
        (25.1, [LATE, LATE, AHEAD]),
        (35, [LATE, LATE, NOW]),
        (35.1, [LATE, LATE, LATE]),
    ],
)
def test_of_a_dense_row_each_is_late_as_well(now: float, states: list[DueState]) -> None:
    assert [one[2] for one in listed((DENSE,), now=now)] == states


@pytest.mark.parametrize(
    ("taken", "states"),
    [
        (14.9, [DONE, LATE, AHEAD]),
        (15, [MISSED, DONE, AHEAD]),
        (24.9, [MISSED, DONE, AHEAD]),
        (25, [MISSED, MISSED, DONE]),
    ],
)
def test_of_a_dense_row_one_counts_for_the_nearest(taken: float, states: list[DueState]) -> None:
    assert [one[2] for one in listed((DENSE,), at(taken), now=25.1)] == states


@pytest.mark.parametrize(
    ("taken", "counts_for"), [(5, 0), (19, 0), (20, 1), (34, 1), (35, 2), (90, 2)]
)
def test_of_a_row_one_counts_for_the_nearest(taken: float, counts_for: int) -> None:
    found = listed((ROW,), at(taken), now=90)
    assert [number for number, one in enumerate(found) if one[2] is DONE] == [counts_for]
    assert found[counts_for][3] == taken


def test_a_row_ends_at_its_last_minute() -> None:
    assert len(listed((watch("row", after=NOTHING, every=MINUTE, until=3 * MINUTE),), now=0)) == 4


@pytest.mark.parametrize(
    ("now", "due_at", "state"), [(39, 40, AHEAD), (40, 40, NOW), (50, 50, NOW)]
)
def test_before_leaving_is_after_all_that_has_a_time(
    now: float, due_at: float, state: DueState
) -> None:
    found = listed((LEAVING, PEAK), now=now)
    assert [one for one in found if one[0] == "leaving"] == [("leaving", due_at, state, None)]


@pytest.mark.parametrize(("taken", "counts"), [(39, False), (40, True), (41, True)])
def test_what_was_taken_earlier_is_not_before_leaving(taken: float, counts: bool) -> None:
    [leaving] = [one for one in listed((PEAK, LEAVING), at(taken), now=60) if one[0] == "leaving"]
    assert leaving == (("leaving", taken, DONE, taken) if counts else ("leaving", 60, NOW, None))


def test_before_the_dose_nothing_is_asked_of_what_follows() -> None:
    told = (PEAK, ROW, LEAVING)
    assert listed(told, now=0, dosed=False, stage=Stage.DOSE) == []
    assert listed((LEAVING,), at(0), now=1, dosed=False) == [("leaving", 1, NOW, None)]
    assert listed((LEAVING,), now=1, stage=None) == []
    assert listed((), now=0) == []


def test_all_of_them_in_the_order_of_time() -> None:
    found = listed((LEAVING, PEAK, ROW, BEFORE), at(-2), now=12)
    assert [one[:2] for one in found] == [
        ("before", -2),
        ("row", 10),
        ("row", 25),
        ("leaving", 40),
        ("peak", 40),
        ("row", 40),
    ]


def test_what_is_asked_may_be_taken_piece_by_piece() -> None:
    pieces = (at(41, Measure.SYSTOLIC), at(43, Measure.DIASTOLIC), at(44))
    assert listed((PEAK,), *pieces, now=60) == [("peak", 40, DONE, 43)]
    assert listed((PEAK,), pieces[0], now=60) == [("peak", 40, LATE, None)]


LIMIT = Limit(
    measure=Measure.SYSTOLIC,
    least=90,
    most=140,
    hold=Beyond(80, 160),
    stop=Beyond(70, 180),
    near_baseline=20,
)
RECHECK = Recheck(10 * MINUTE, 2)


@pytest.mark.parametrize(
    ("value", "zone"),
    [
        *((69.9, Zone.STOP), (70, Zone.HOLD), (79.9, Zone.HOLD), (80, Zone.BEYOND)),
        *((89.9, Zone.BEYOND), (90, Zone.BEYOND), (96, Zone.PASS), (95.9, Zone.BEYOND)),
        *((140, Zone.PASS), (140.1, Zone.BEYOND), (159.9, Zone.BEYOND), (160, Zone.HOLD)),
        *((179.9, Zone.HOLD), (180, Zone.STOP)),
    ],
)
def test_a_value_lies_in_one_zone(value: float, zone: Zone) -> None:
    found = read(LIMIT, [of(0, value)], DOSE, 120, None)
    again_at = DOSE if zone >= Zone.HOLD else None  # at once, where nothing says when
    assert found == Reading(LIMIT, value, DOSE, zone, DOSE + MINUTE, again_at, False)


def of(minutes: float, systolic: float | None) -> Measured:
    values = {Measure.DIASTOLIC: 200.0} if systolic is None else {Measure.SYSTOLIC: systolic}
    at = DOSE + minutes * MINUTE
    return Measured(at, values, at + MINUTE)


@pytest.mark.parametrize(
    ("measured", "counts", "again_at", "is_confirmed"),
    [
        ((of(-1, 160),), 0, 9, False),
        ((of(-10, 160), of(0, 160)), 1, 10, False),
        ((of(-20, 160), of(-10, 160), of(0, 160)), 2, 10, True),
        ((of(-20, 160), of(-11, 160), of(0, 160)), 2, 10, False),  # a minute too soon to be one
        ((of(-20, 160), of(-15, 160), of(-10, 160), of(0, 160)), 3, 10, True),  # from the first
        ((of(-20, 160), of(-10, 160), of(0, 185)), 2, 10, True),
        ((of(-20, 160), of(-10, 159), of(0, 160)), 2, 10, False),  # better in between
        ((of(-20, 160), of(-11, 159), of(-10, 160), of(0, 160)), 3, 10, True),  # better too soon
        ((of(-20, 160), of(-10, None), of(0, 160)), 2, 10, False),  # of another measure
        ((of(-20, None), of(-10, 160), of(0, 160)), 2, 10, False),
        ((of(-10, 160), of(0, 160), of(5, 120)), 1, 10, False),  # what came later is not known yet
        ((of(-10, 160), of(0, 160), of(5, 120), of(15, 160)), 1, 10, False),
        ((of(-9, 160), of(0, 120)), 0, 1, False),  # a minute too soon to be better
        ((of(-9, 160), of(0, 159)), 0, 1, False),
        ((of(-10, 160), of(0, 120)), 1, None, False),
        ((of(-11, 160), of(0, 120)), 1, None, False),
        ((of(-9, 160), of(-8, 120), of(0, 120)), 0, 1, False),
        ((of(-10, 160), of(-9, 120), of(0, 120)), 2, None, False),
        ((of(-19, 160), of(-9, 160), of(0, 120)), 1, 1, False),
        ((of(-10, 160), of(-5, 160), of(0, 120)), 1, 5, False),  # after the last, not the first
        ((of(-29, 160), of(-19, 160), of(-9, 160), of(0, 120)), 2, 1, True),
        ((of(-9, 185), of(0, 160)), 0, 1, False),  # from the stop line as well
        ((of(-10, 185), of(0, 160)), 1, 10, False),
        ((of(-10, 185), of(0, 120)), 1, None, False),
        ((of(-10, 160), of(-1, 185), of(0, 120)), 1, 9, False),  # what is worse counts at once
        ((of(-20, 160), of(-10, 160), of(-9, 185), of(0, 160)), 2, 1, False),
        ((of(-9, 120), of(0, 100)), 1, None, False),  # on hold only what is
        ((of(-9, 150), of(0, 120)), 1, None, False),
        ((of(0, 160), of(0, 120)), 0, 10, False),  # of two at once the worse
        ((of(0, 120), of(0, 160)), 1, 10, False),
    ],
)
def test_what_is_on_hold_counts_until_it_is_measured_again(
    measured: tuple[Measured, ...], counts: int, again_at: float | None, is_confirmed: bool
) -> None:
    found = read(LIMIT, measured, DOSE, None, RECHECK)
    assert found is not None
    assert found.value == measured[counts].values[Measure.SYSTOLIC]
    assert (found.taken_at, found.noted_at) == (
        measured[counts].taken_at,
        measured[counts].noted_at,
    )
    assert found.again_at == (None if again_at is None else DOSE + again_at * MINUTE)
    assert found.is_confirmed is is_confirmed


def test_the_last_value_by_then_counts() -> None:
    taken = (of(-2, 110), of(-1, None), of(0, 120), of(1, 130))
    for at, value in ((0, 120), (-1, 110), (1, 130)):
        found = read(LIMIT, taken, DOSE + at * MINUTE, None, RECHECK)
        assert found is not None
        assert found.value == value
    assert read(LIMIT, taken, DOSE - 3 * MINUTE, None, RECHECK) is None
    assert baseline(LIMIT, taken, DOSE) == 120
    assert baseline(LIMIT, taken, None) is None
    assert baseline(LIMIT, (), DOSE) is None
