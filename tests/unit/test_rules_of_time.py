"""Time: bits, wall clocks, shifts and cadences. Pure, so the tests are tables and oracles."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vocabulary import MessageKind, Recipient
from notifications.cadence import Anchor, Moment, QuietHours, Rule, Timing, audible, plan
from notifications.wall_time import at_wall_time
from scheduler.hours import Hours, expand
from scheduler.intervals import Frame, positions, runs

NEW_YORK = ZoneInfo("America/New_York")
HOUR = timedelta(hours=1)


@given(st.integers(0, 2**120), st.integers(1, 40))
def test_runs_finds_what_looking_at_each_place_finds(bits: int, length: int) -> None:
    wanted = (1 << length) - 1
    oracle = [place for place in range(121) if bits >> place & wanted == wanted]

    assert list(positions(runs(bits, length))) == oracle


@given(st.integers(-50, 650), st.integers(1, 300))
def test_inside_is_whole_granules_and_touched_is_any_part(first: int, minutes: int) -> None:
    frame = Frame(datetime(2027, 1, 4, tzinfo=UTC), 120)
    start = frame.start + timedelta(minutes=first)
    stretch = (start, start + timedelta(minutes=minutes))
    cells = [(frame.at(n), frame.at(n + 1)) for n in range(frame.size)]

    inside = [n for n, (a, b) in enumerate(cells) if stretch[0] <= a and b <= stretch[1]]
    touched = [n for n, (a, b) in enumerate(cells) if stretch[0] < b and a < stretch[1]]

    assert list(positions(frame.inside([stretch]))) == inside
    assert list(positions(frame.touched([stretch]))) == touched


@pytest.mark.parametrize(
    ("zone", "wall", "instant"),
    [
        ("America/New_York", "2027-03-14T01:59", "2027-03-14T06:59Z"),
        ("America/New_York", "2027-03-14T02:30", "2027-03-14T07:00Z"),  # skipped
        ("America/New_York", "2027-03-14T03:00", "2027-03-14T07:00Z"),
        ("America/New_York", "2026-11-01T01:30", "2026-11-01T05:30Z"),  # twice: the first
        ("Europe/London", "2027-03-28T01:30", "2027-03-28T01:00Z"),
        ("Australia/Lord_Howe", "2026-10-04T02:10", "2026-10-03T15:30Z"),  # half an hour
        ("Australia/Lord_Howe", "2027-04-04T01:45", "2027-04-03T14:45Z"),
        ("Asia/Kolkata", "2027-03-14T02:30", "2027-03-13T21:00Z"),
        ("Pacific/Apia", "2011-12-30T09:00", "2011-12-30T10:00Z"),  # a day that never was
    ],
)
def test_wall_time_at_a_change_of_clocks(zone: str, wall: str, instant: str) -> None:
    found = at_wall_time(datetime.fromisoformat(wall), ZoneInfo(zone))

    assert found == datetime.fromisoformat(instant)


@pytest.mark.parametrize(
    ("evening", "hours"),
    [("2027-03-12", 8), ("2027-03-13", 7), ("2026-10-30", 8), ("2026-10-31", 9)],
)
def test_a_night_shift_has_seven_eight_or_nine_hours(evening: str, hours: int) -> None:
    start = datetime.fromisoformat(f"{evening}T22:00")
    shift = Hours(UUID(int=1), NEW_YORK, start, 8 * HOUR, None, frozenset())
    window = at_wall_time(start, NEW_YORK)

    [(_, (opens, closes))] = expand([shift], window, window + 12 * HOUR)

    assert closes - opens == hours * HOUR


def test_every_second_week_less_its_exceptions() -> None:
    first = datetime(2027, 1, 4, 9, 0)
    rule = "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO"
    gone = frozenset({datetime(2027, 1, 18, 9, 0)})
    shift = Hours(UUID(int=1), NEW_YORK, first, 8 * HOUR, rule, gone)
    start = datetime(2027, 1, 1, tzinfo=UTC)

    found = expand([shift], start, start + timedelta(days=60))

    days = [opens.astimezone(NEW_YORK).strftime("%m-%d %H:%M") for _, (opens, _) in found]
    assert days == ["01-04 09:00", "02-01 09:00", "02-15 09:00", "03-01 09:00"]


QUIET = QuietHours(time(20), time(9), NEW_YORK)
START = at_wall_time(datetime(2027, 3, 15, 10, 0), NEW_YORK)


def at(told: str) -> datetime:
    return at_wall_time(datetime.fromisoformat(told), NEW_YORK)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("2027-03-10T09:00", "2027-03-10T09:00"),  # the end of the quiet hours is not quiet
        ("2027-03-10T08:59", "2027-03-10T09:00"),
        ("2027-03-10T19:59", "2027-03-10T19:59"),
        ("2027-03-10T20:00", "2027-03-10T19:30"),
        ("2027-03-10T23:00", "2027-03-10T19:30"),
        ("2027-03-11T04:00", "2027-03-11T09:00"),
    ],
)
def test_quiet_hours_move_a_message_to_the_nearest_time_of_use(wanted: str, expected: str) -> None:
    moved = audible(
        at(wanted),
        QUIET,
        earliest=at("2027-03-01T00:00"),
        not_after=at("2027-03-20T00:00"),
        kind=MessageKind.REMINDER,
    )
    assert moved == at(expected)


def test_what_finds_no_time_of_use_is_left_unsaid_unless_it_must_be_said() -> None:
    times = {"earliest": at("2027-03-10T23:00"), "not_after": at("2027-03-11T08:00")}
    wanted = at("2027-03-10T23:00")

    assert audible(wanted, QUIET, **times, kind=MessageKind.REMINDER) is None
    assert audible(wanted, QUIET, **times, kind=MessageKind.CANCELLATION) == wanted


def rule(when: Moment, not_after: Moment | None = None) -> Rule:
    return Rule(
        code="r",
        kind=MessageKind.REMINDER,
        to=Recipient.PATIENT,
        when=when,
        not_after=not_after or Moment(anchor=Anchor.START),
    )


@pytest.mark.parametrize(
    ("when", "due"),
    [
        (Moment(days=-7, at="same"), "2027-03-08T10:00"),  # the same wall time, 167 hours before
        (Moment(hours=-72), "2027-03-12T09:00"),  # elapsed: an hour earlier on the wall
        (Moment(hours=-24), "2027-03-14T10:00"),
        (Moment(hours=-3), "2027-03-15T09:00"),  # 07:00 is quiet
        (Moment(days=1, at=time(10)), "2027-03-16T10:00"),
    ],
)
def test_a_day_is_the_same_wall_time_and_hours_elapse(when: Moment, due: str) -> None:
    visit = Timing(START, START + 3 * HOUR, NEW_YORK, at("2027-03-01T12:00"))
    limit = Moment(anchor=Anchor.DUE, hours=12)

    [planned] = plan([rule(when, limit)], visit, QUIET)

    assert planned.due_at == at(due)


def test_what_is_of_no_use_before_its_day_is_not_moved_to_the_evening_before() -> None:
    early = at("2027-03-15T09:00")
    visit = Timing(early, early + HOUR, NEW_YORK, at("2027-03-01T12:00"))
    see_you = rule(Moment(hours=-2), Moment(hours=-1))
    [in_the_evening] = plan([see_you], visit, QUIET)
    of_the_day = replace(see_you, not_before=Moment(days=0, at=time(0)))

    assert in_the_evening.due_at == at("2027-03-14T19:30")
    assert list(plan([of_the_day], visit, QUIET)) == []


def test_times_that_have_passed_are_left_out() -> None:
    visit = Timing(START, START + 3 * HOUR, NEW_YORK, at("2027-03-13T12:00"))
    rules = [rule(Moment(hours=-72)), rule(Moment(hours=-24)), rule(Moment(anchor=Anchor.BOOKING))]

    assert [planned.due_at for planned in plan(rules, visit, QUIET)] == [
        at("2027-03-14T10:00"),
        at("2027-03-13T12:00"),
    ]


def test_hours_elapse_also_from_a_time_that_carries_its_zone() -> None:
    monday = datetime(2027, 3, 15, 10, 0, tzinfo=NEW_YORK)
    visit = Timing(monday, monday + HOUR, NEW_YORK, at("2027-03-01T12:00"))

    [planned] = plan([rule(Moment(hours=-72))], visit, QUIET)

    assert planned.due_at == at("2027-03-12T09:00")
