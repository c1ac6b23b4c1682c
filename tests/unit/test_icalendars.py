"""Events as other calendars write them: series, moved days, whole days, zones, floating times."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from scheduler.hours import union
from scheduler.icalendars import (
    AHEAD,
    BadEvent,
    NoCalendar,
    Shift,
    read,
    shifts_of,
    stretches,
)

NEW_YORK = ZoneInfo("America/New_York")
SINCE = datetime(2027, 3, 1, tzinfo=UTC)
UNTIL = datetime(2027, 4, 1, tzinfo=UTC)


def calendar(*events: str) -> str:
    """A calendar of events, each the lines of one, parted by spaces at the line's beginning."""
    told = [f"BEGIN:VEVENT\n{event.strip()}\nEND:VEVENT" for event in events]
    lines = "\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", *told, "END:VCALENDAR"])
    return "\r\n".join(line.strip() for line in lines.splitlines()) + "\r\n"


def times(told: str, zone: ZoneInfo = NEW_YORK) -> list[str]:
    """When the events of March 2027 are, in the zone."""
    events, faults = read(told)
    assert faults == []
    found = sorted(stretch for stretch, _ in stretches(events, zone, SINCE, UNTIL))
    return [
        f"{begin.astimezone(zone):%d %H:%M}-{end.astimezone(zone):%d %H:%M}" for begin, end in found
    ]


WEEKLY = """UID:weekly
    DTSTART;TZID=America/New_York:20270302T090000
    DTEND;TZID=America/New_York:20270302T120000
    RRULE:FREQ=WEEKLY;COUNT=4"""


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [WEEKLY],
            ["02 09:00-02 12:00", "09 09:00-09 12:00", "16 09:00-16 12:00", "23 09:00-23 12:00"],
            id="a series keeps its wall time over a clock change",
        ),
        pytest.param(
            [WEEKLY.replace(";TZID=America/New_York", "").replace("0000\n", "0000Z\n")],
            ["02 04:00-02 07:00", "09 04:00-09 07:00", "16 05:00-16 08:00", "23 05:00-23 08:00"],
            id="a series in UTC keeps UTC",
        ),
        pytest.param(
            [WEEKLY.replace(";TZID=America/New_York", "")],
            ["02 09:00-02 12:00", "09 09:00-09 12:00", "16 09:00-16 12:00", "23 09:00-23 12:00"],
            id="a floating time is that of wherever it is read",
        ),
        pytest.param(
            [WEEKLY.replace("America/New_York", "Eastern Standard Time")],
            ["02 09:00-02 12:00", "09 09:00-09 12:00", "16 09:00-16 12:00", "23 09:00-23 12:00"],
            id="a zone by the name that Windows gives it",
        ),
        pytest.param(
            [WEEKLY + "\nEXDATE;TZID=America/New_York:20270309T090000"],
            ["02 09:00-02 12:00", "16 09:00-16 12:00", "23 09:00-23 12:00"],
            id="a day excepted",
        ),
        pytest.param(
            [WEEKLY + "\nEXDATE:20270309T140000Z"],
            ["02 09:00-02 12:00", "16 09:00-16 12:00", "23 09:00-23 12:00"],
            id="a day excepted by its instant",
        ),
        pytest.param(
            [WEEKLY + "\nEXDATE;VALUE=DATE:20270309,20270316"],
            ["02 09:00-02 12:00", "23 09:00-23 12:00"],
            id="days excepted without a time",
        ),
        pytest.param(
            [WEEKLY + "\nRDATE;TZID=America/New_York:20270305T150000"],
            [
                "02 09:00-02 12:00",
                "05 15:00-05 18:00",
                "09 09:00-09 12:00",
                "16 09:00-16 12:00",
                "23 09:00-23 12:00",
            ],
            id="a day more",
        ),
        pytest.param(
            [
                WEEKLY,
                """UID:weekly
                RECURRENCE-ID;TZID=America/New_York:20270309T090000
                DTSTART;TZID=America/New_York:20270310T130000
                DTEND;TZID=America/New_York:20270310T140000""",
            ],
            ["02 09:00-02 12:00", "10 13:00-10 14:00", "16 09:00-16 12:00", "23 09:00-23 12:00"],
            id="a day of a series moved",
        ),
        pytest.param(
            [
                """UID:weekly
                RECURRENCE-ID:20270309T140000Z
                DTSTART:20270310T180000Z
                DTEND:20270310T190000Z""",
                WEEKLY,
            ],
            ["02 09:00-02 12:00", "10 13:00-10 14:00", "16 09:00-16 12:00", "23 09:00-23 12:00"],
            id="a day moved, told first and by its instant",
        ),
        pytest.param(
            [
                WEEKLY,
                """UID:weekly
                RECURRENCE-ID;TZID=America/New_York:20270309T090000
                DTSTART;TZID=America/New_York:20270309T090000
                DTEND;TZID=America/New_York:20270309T120000
                STATUS:CANCELLED""",
            ],
            ["02 09:00-02 12:00", "16 09:00-16 12:00", "23 09:00-23 12:00"],
            id="a day of a series cancelled",
        ),
        pytest.param(
            [WEEKLY.replace("090000\n", "100000\n", 1) + "\nSEQUENCE:2", WEEKLY + "\nSEQUENCE:1"],
            ["02 10:00-02 12:00", "09 10:00-09 12:00", "16 10:00-16 12:00", "23 10:00-23 12:00"],
            id="of two versions the later counts, wherever it stands",
        ),
        pytest.param([WEEKLY + "\nSTATUS:CANCELLED"], [], id="a series cancelled"),
        pytest.param(
            ["UID:day\nDTSTART;VALUE=DATE:20270314"], ["14 00:00-15 00:00"], id="a whole day"
        ),
        pytest.param(
            ["UID:days\nDTSTART;VALUE=DATE:20270329\nDTEND;VALUE=DATE:20270403"],
            ["29 00:00-03 00:00"],
            id="days that begin within and end after",
        ),
        pytest.param(
            ["UID:days\nDTSTART;VALUE=DATE:20260101\nDTEND;VALUE=DATE:20280101"],
            ["01 00:00-01 00:00"],
            id="two years around it",
        ),
        pytest.param(
            ["UID:long\nDTSTART:20270310T100000Z\nDURATION:PT90M"],
            ["10 05:00-10 06:30"],
            id="a length instead of an end",
        ),
        pytest.param(
            [
                """UID:flight
                DTSTART;TZID=America/New_York:20270310T200000
                DTEND;TZID=Europe/London:20270311T080000"""
            ],
            ["10 20:00-11 03:00"],
            id="an end in another zone",
        ),
        pytest.param(
            ["UID:gap\nDTSTART;TZID=America/New_York:20270314T023000\nDURATION:PT1H"],
            ["14 03:00-14 03:30"],
            id="a start in the gap moves to its end, the end stays on the wall",
        ),
        pytest.param(["UID:moment\nDTSTART:20270310T100000Z"], [], id="a moment takes no time"),
    ],
)
def test_events_take_place(events: list[str], expected: list[str]) -> None:
    assert times(calendar(*events)) == expected


CUSTOM = """BEGIN:VTIMEZONE
TZID:Our own time
BEGIN:STANDARD
DTSTART:16010101T020000
TZOFFSETFROM:-0400
TZOFFSETTO:-0500
RRULE:FREQ=YEARLY;BYDAY=1SU;BYMONTH=11
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:-0500
TZOFFSETTO:-0400
RRULE:FREQ=YEARLY;BYDAY=2SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
"""


def in_own_zone(clocks: str = CUSTOM) -> str:
    told = calendar(WEEKLY.replace("America/New_York", "Our own time"))
    return told.replace("BEGIN:VEVENT", clocks + "BEGIN:VEVENT", 1)


def test_a_zone_that_a_calendar_describes_itself_is_followed() -> None:
    assert times(in_own_zone()) == times(calendar(WEEKLY))


def test_a_zone_whose_clock_changes_every_second_is_not_waited_for() -> None:
    with pytest.raises(NoCalendar, match="YEARLY"):
        read(in_own_zone(CUSTOM.replace("YEARLY;BYDAY=1SU;BYMONTH=11", "SECONDLY")))
    with pytest.raises(NoCalendar, match="YEARLY"):
        read(in_own_zone(CUSTOM.replace("BYMONTH=11", "BYMONTH=11;BYS\r\n ECOND=1,2,3")))


@pytest.mark.parametrize(
    ("event", "line", "name"),
    [
        ("UID:a\nSUMMARY:no start", 3, "DTSTART"),
        ("UID:a\nDTSTART:20270310T100000Z\nDTEND:20270310T090000Z", 3, "DTEND"),
        ("UID:a\nDTSTART:18270310T100000Z\nDURATION:PT1H", 3, "DTSTART"),
        ("UID:a\nDTSTART:20270310T100000Z\nDTSTART:20270311T100000Z", 3, "DTSTART"),
        (WEEKLY.replace("WEEKLY", "SECONDLY"), 3, "RRULE"),
        (WEEKLY + "\nRRULE:FREQ=DAILY", 3, "RRULE"),
        (WEEKLY + "\nRECURRENCE-ID:20270302T140000Z", 3, "RRULE"),
        (
            "UID:a\nDTSTART:20270310T100000Z\nDURATION:PT1H\n"
            "RECURRENCE-ID;RANGE=THISANDFUTURE:20270302T140000Z",
            3,
            "RECURRENCE-ID",
        ),
        ("UID:a\nDTSTART:20270310T100000Z\nDURATION:an hour", 3, "DURATION"),
    ],
)
def test_what_cannot_be_used_is_told_and_the_rest_is_read(event: str, line: int, name: str) -> None:
    events, faults = read(calendar(event, WEEKLY.replace("UID:weekly", "UID:good")))

    assert [(one.line, one.name) for one in faults] == [(line, name)]
    assert [one.uid for one in events] == ["good"]


@pytest.mark.parametrize(
    "told",
    [
        "",
        "hello",
        "BEGIN:VEVENT\nEND:VEVENT",
        calendar(WEEKLY)[:-17],
        "BEGIN:X\n" * 3000 + "END:VCALENDAR",
    ],
)
def test_what_is_no_calendar_is_refused(told: str) -> None:
    with pytest.raises(NoCalendar):
        read(told)


def test_too_many_events_are_refused() -> None:
    daily = [
        f"UID:{n}\nDTSTART:20270302T000000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY" for n in range(30)
    ]
    events, _ = read(calendar(*daily))
    with pytest.raises(NoCalendar, match="more than"):
        stretches(events, NEW_YORK, SINCE, SINCE + AHEAD)
    with pytest.raises(NoCalendar, match="At most"):
        read(calendar(*["UID:a"] * 5001))


def hours(event: str, zone: str = "America/New_York") -> list[Shift]:
    (one,), faults = read(calendar(event))
    assert faults == []
    return list(shifts_of(one, ZoneInfo(zone)))


def test_hours_are_kept_as_they_are_told() -> None:
    (shift,) = hours(WEEKLY + "\nLOCATION:Main\nEXDATE;TZID=America/New_York:20270309T090000")

    assert shift == Shift(
        place="Main",
        first_start=datetime(2027, 3, 2, 9),
        minutes=180,
        rule="FREQ=WEEKLY;COUNT=4",
        exceptions=(datetime(2027, 3, 9, 9),),
        uid="weekly",
        zone=None,
    )


def test_hours_that_recur_keep_the_zone_of_whoever_works_elsewhere() -> None:
    (shift,) = hours(WEEKLY, "America/Denver")

    assert (shift.zone, shift.first_start) == ("America/New_York", datetime(2027, 3, 2, 9))


def test_hours_had_once_are_those_of_the_site() -> None:
    (shift,) = hours(WEEKLY.partition("RRULE")[0], "America/Denver")

    assert (shift.zone, shift.first_start) == (None, datetime(2027, 3, 2, 7))


def test_further_days_are_hours_of_their_own() -> None:
    found = hours(
        WEEKLY
        + "\nRDATE;TZID=America/New_York:20270305T150000,20270306T150000"
        + "\nEXDATE;VALUE=DATE:20270306"
    )

    assert [(one.first_start.day, one.rule is None) for one in found] == [(2, False), (5, True)]


@pytest.mark.parametrize(
    "event",
    [
        "UID:a\nDTSTART:20270310T100000Z\nDURATION:PT3M",
        "UID:a\nDTSTART:20270310T100000Z\nDURATION:PT7M",
        "UID:a\nDTSTART;VALUE=DATE:20270310\nDTEND;VALUE=DATE:20270312",
    ],
)
def test_hours_of_a_length_that_nobody_works_are_refused(event: str) -> None:
    with pytest.raises(BadEvent):
        hours(event)


def test_hours_that_recur_in_a_zone_without_a_name_are_refused() -> None:
    (one,), _ = read(in_own_zone())
    with pytest.raises(BadEvent, match="not an IANA zone"):
        list(shifts_of(one, NEW_YORK))


def test_time_that_touches_is_one_stretch() -> None:
    at = [SINCE + hour * timedelta(hours=1) for hour in range(6)]

    assert union([(at[2], at[3]), (at[0], at[1]), (at[1], at[2]), (at[4], at[5])]) == [
        (at[0], at[3]),
        (at[4], at[5]),
    ]
