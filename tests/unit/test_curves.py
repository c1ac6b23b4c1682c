"""Curves: which scores belong to a course, and what each stands beside."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import curves
from scheduler.curves import Entry, Span

ZONE = ZoneInfo("America/New_York")
DAY = timedelta(days=1)
START = datetime(2026, 3, 2, 14, tzinfo=UTC)
COURSE, LATER = UUID(int=1), UUID(int=2)


def entry(number: int, days: float, score: int | None = 10, **more: object) -> Entry:
    told: dict[str, Any] = {"instrument": "phq-9", "band": None, "flags": ()}
    told |= {"course_id": COURSE, "appointment_id": None, "authored_by": "patient", **more}
    return Entry(id=UUID(int=number), at=START + days * DAY, score=score, **told)


def span(dose: float | None = None, **more: object) -> Span:
    at = None if dose is None else START + dose * DAY
    told: dict[str, Any] = {
        "course_id": COURSE,
        "first_day": date(2026, 3, 2),
        "last_day": None,
        **more,
    }
    return Span(first_dose_at=at, **told)


def changes(entries: list[Entry], spans: list[Span]) -> list[int | None]:
    found = curves.points(entries, spans)
    return [None if one.change is None else one.change.points for one in found]


@pytest.mark.parametrize(
    ("dose", "scores", "expected"),
    [
        (None, [20, 18, 9], [None, -2, -11]),  # nothing was given yet: the first
        (1.5, [20, 18, 9], [None, None, -9]),  # the last before the dose
        (1, [20, 18, 9], [None, None, -9]),  # at the dose is before it
        (-1, [20, 18, 9], [None, -2, -11]),  # all came after it: the first
        (9, [20, 18, 9], [None, None, None]),
        (1.5, [20, None, 9], [None, None, -11]),  # without a score nothing is measured
        (1.5, [None, None, 9], [None, None, None]),
    ],
)
def test_the_baseline_is_the_last_before_the_first_dose(
    dose: float | None, scores: list[int | None], expected: list[int | None]
) -> None:
    entries = [entry(number, number, score) for number, score in enumerate(scores)]
    assert changes(entries, [span(dose)]) == expected


def test_each_course_and_instrument_has_a_baseline_of_its_own() -> None:
    spans = [span(0.5), span(30, course_id=LATER)]  # points come group by group
    entries = [
        entry(1, 0, 20),
        entry(2, 1, 12),
        entry(3, 29, 16, course_id=LATER),
        entry(4, 31, 10, course_id=LATER),
        entry(5, 2, 9, instrument="gad-7"),
        entry(6, 3, 7, course_id=None),
    ]
    assert changes(entries, spans) == [None, -8, None, None, None, -6]


@pytest.mark.parametrize(
    ("hours", "last_day", "course_id"),
    [
        (-9, None, COURSE),  # the morning of the first visit's day
        (-15, None, None),  # the evening before
        (24 * 100, None, COURSE),
        (24 * 7 + 12, date(2026, 3, 9), COURSE),  # the evening of the last visit's day
        (24 * 7 + 20, date(2026, 3, 9), None),
    ],
)
def test_what_belongs_to_none_belongs_to_the_course_under_way(
    hours: int, last_day: date | None, course_id: UUID | None
) -> None:
    stray = entry(1, hours / 24, course_id=None)
    [found] = curves.adopted([stray], [span(last_day=last_day)], ZONE)
    assert found.course_id == course_id


def test_of_two_courses_under_way_the_newer_takes_it() -> None:
    spans = [span(), span(course_id=LATER, first_day=date(2026, 4, 1))]
    days = [entry(1, 10, course_id=None), entry(2, 40, course_id=None), entry(3, 40)]
    found = curves.adopted(days, spans, ZONE)
    assert [one.course_id for one in found] == [COURSE, LATER, COURSE]


@given(st.lists(st.tuples(st.floats(-50, 50), st.integers(0, 27) | st.none())), st.floats(-50, 50))
def test_there_is_one_baseline_and_nothing_is_lost(
    told: list[tuple[float, int | None]], dose: float
) -> None:
    entries = [entry(number, days, score) for number, (days, score) in enumerate(told)]
    found = curves.points(entries, [span(dose)])
    assert sorted(one.entry.id for one in found) == [one.id for one in entries]
    own = [one for one in found if one.entry.id == one.baseline_id]
    assert len(own) == any(score is not None for _, score in told)
    assert all(one.change is None for one in own)
    assert len({one.baseline_id for one in found} - {None}) == len(own)
