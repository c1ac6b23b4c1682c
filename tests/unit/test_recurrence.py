"""Working hours as RFC 5545 and the clocks of five zones have them, as tables.

Source: RFC 5545, section 3.8.5.3 (its examples, an UNTIL in UTC written as wall time); the tz
database.
"""

from calendar import isleap
from collections.abc import Iterator
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from scheduler.hours import BadRule, Hours, _alike, check_rule, expand

SITE = UUID(int=1)
NEW_YORK = "America/New_York"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def days(told: str) -> list[date]:
    """Days written as `1997: sep 2 3 oct 1; 1998: jan 2`."""
    return list(_days(told))


def _days(told: str) -> Iterator[date]:
    for year in told.split(";"):
        number, words = year.split(":")
        month = 0
        for word in words.split():
            if word in MONTHS:
                month = MONTHS.index(word) + 1
            elif "-" in word:
                first, last = map(int, word.split("-"))
                yield from (date(int(number), month, day) for day in range(first, last + 1))
            else:
                yield date(int(number), month, int(word))


RULES = [
    ("1997-09-02", "FREQ=DAILY;COUNT=10", "1997: sep 2-11"),
    ("1997-09-02", "FREQ=DAILY;UNTIL=19971224T000000", "1997: sep 2-30 oct 1-31 nov 1-30 dec 1-23"),
    ("1997-09-02", "FREQ=DAILY;INTERVAL=2", "1997: sep 2 4 6 8 10 12 14 16 18 20 22 24 26 28 30"),
    ("1997-09-02", "FREQ=DAILY;INTERVAL=10;COUNT=5", "1997: sep 2 12 22 oct 2 12"),
    (
        "1998-01-01",
        "FREQ=YEARLY;UNTIL=20000131T140000;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA",
        "1998: jan 1-31; 1999: jan 1-31; 2000: jan 1-31",
    ),
    (
        "1998-01-01",
        "FREQ=DAILY;UNTIL=20000131T140000;BYMONTH=1",
        "1998: jan 1-31; 1999: jan 1-31; 2000: jan 1-31",
    ),
    ("1997-09-02", "FREQ=WEEKLY;COUNT=10", "1997: sep 2 9 16 23 30 oct 7 14 21 28 nov 4"),
    (
        "1997-09-02",
        "FREQ=WEEKLY;UNTIL=19971224T000000",
        "1997: sep 2 9 16 23 30 oct 7 14 21 28 nov 4 11 18 25 dec 2 9 16 23",
    ),
    (
        "1997-09-02",
        "FREQ=WEEKLY;INTERVAL=2;WKST=SU",
        "1997: sep 2 16 30 oct 14 28 nov 11 25 dec 9 23",
    ),
    (
        "1997-09-02",
        "FREQ=WEEKLY;UNTIL=19971007T000000;WKST=SU;BYDAY=TU,TH",
        "1997: sep 2 4 9 11 16 18 23 25 30 oct 2",
    ),
    (
        "1997-09-02",
        "FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH",
        "1997: sep 2 4 9 11 16 18 23 25 30 oct 2",
    ),
    (
        "1997-09-01",
        "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000;WKST=SU;BYDAY=MO,WE,FR",
        "1997: sep 1 3 5 15 17 19 29 oct 1 3 13 15 17 27 29 31 nov 10 12 14 24 26 28 "
        "dec 8 10 12 22",
    ),
    (
        "1997-09-02",
        "FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH",
        "1997: sep 2 4 16 18 30 oct 2 14 16",
    ),
    (
        "1997-09-05",
        "FREQ=MONTHLY;COUNT=10;BYDAY=1FR",
        "1997: sep 5 oct 3 nov 7 dec 5; 1998: jan 2 feb 6 mar 6 apr 3 may 1 jun 5",
    ),
    (
        "1997-09-05",
        "FREQ=MONTHLY;UNTIL=19971224T000000;BYDAY=1FR",
        "1997: sep 5 oct 3 nov 7 dec 5",
    ),
    (
        "1997-09-07",
        "FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
        "1997: sep 7 28 nov 2 30; 1998: jan 4 25 mar 1 29 may 3 31",
    ),
    (
        "1997-09-22",
        "FREQ=MONTHLY;COUNT=6;BYDAY=-2MO",
        "1997: sep 22 oct 20 nov 17 dec 22; 1998: jan 19 feb 16",
    ),
    (
        "1997-09-28",
        "FREQ=MONTHLY;BYMONTHDAY=-3",
        "1997: sep 28 oct 29 nov 28 dec 29; 1998: jan 29 feb 26",
    ),
    (
        "1997-09-02",
        "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15",
        "1997: sep 2 15 oct 2 15 nov 2 15 dec 2 15; 1998: jan 2 15",
    ),
    (
        "1997-09-30",
        "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1",
        "1997: sep 30 oct 1 31 nov 1 30 dec 1 31; 1998: jan 1 31 feb 1",
    ),
    (
        "1997-09-10",
        "FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15",
        "1997: sep 10-15; 1999: mar 10-13",
    ),
    (
        "1997-09-02",
        "FREQ=MONTHLY;INTERVAL=2;BYDAY=TU",
        "1997: sep 2 9 16 23 30 nov 4 11 18 25; 1998: jan 6 13 20 27 mar 3 10 17 24 31",
    ),
    (
        "1997-06-10",
        "FREQ=YEARLY;COUNT=10;BYMONTH=6,7",
        "1997: jun 10 jul 10; 1998: jun 10 jul 10; 1999: jun 10 jul 10; 2000: jun 10 jul 10; "
        "2001: jun 10 jul 10",
    ),
    (
        "1997-03-10",
        "FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3",
        "1997: mar 10; 1999: jan 10 feb 10 mar 10; 2001: jan 10 feb 10 mar 10; "
        "2003: jan 10 feb 10 mar 10",
    ),
    (
        "1997-01-01",
        "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
        "1997: jan 1 apr 10 jul 19; 2000: jan 1 apr 9 jul 18; 2003: jan 1 apr 10 jul 19; "
        "2006: jan 1",
    ),
    ("1997-05-19", "FREQ=YEARLY;BYDAY=20MO", "1997: may 19; 1998: may 18; 1999: may 17"),
    ("1997-05-12", "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "1997: may 12; 1998: may 11; 1999: may 17"),
    (
        "1997-03-13",
        "FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
        "1997: mar 13 20 27; 1998: mar 5 12 19 26; 1999: mar 4 11 18 25",
    ),
    (
        "1997-06-05",
        "FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8",
        "1997: jun 5 12 19 26 jul 3 10 17 24 31 aug 7 14 21 28",
    ),
    (
        "1997-09-02",
        "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
        "1998: feb 13 mar 13 nov 13; 1999: aug 13; 2000: oct 13",
    ),
    (
        "1997-09-13",
        "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
        "1997: sep 13 oct 11 nov 8 dec 13; 1998: jan 10 feb 7 mar 7 apr 11 may 9 jun 13",
    ),
    (
        "1996-11-05",
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
        "1996: nov 5; 2000: nov 7; 2004: nov 2",
    ),
    (
        "1997-09-04",
        "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3",
        "1997: sep 4 oct 7 nov 6",
    ),
    (
        "1997-09-29",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
        "1997: sep 29 oct 30 nov 27 dec 30; 1998: jan 29 feb 26 mar 30",
    ),
    ("1997-08-05", "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", "1997: aug 5 10 19 24"),
    ("1997-08-05", "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "1997: aug 5 17 19 31"),
    ("2007-01-15", "FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "2007: jan 15 30 feb 15 mar 15 30"),
]


@pytest.mark.parametrize(("first", "rule", "told"), RULES, ids=[rule for _, rule, _ in RULES])
def test_the_rfcs_own_examples(first: str, rule: str, told: str) -> None:
    start = datetime.fromisoformat(f"{first}T09:00")
    check_rule(rule, start)
    wanted = days(told)
    zone = ZoneInfo(NEW_YORK)
    shift = Hours(SITE, zone, start, timedelta(hours=8), rule, frozenset())
    end = wanted[-1] + timedelta(days=1)
    ends = datetime(end.year, end.month, end.day, tzinfo=zone)
    if "COUNT" in rule or "UNTIL" in rule:
        ends += timedelta(days=800)  # nothing comes after the last

    found = [opens for _, (opens, _) in expand([shift], start.replace(tzinfo=zone), ends)]

    walls = [moment.astimezone(zone) for moment in found]
    assert [wall.date() for wall in walls] == wanted
    assert {(wall.hour, wall.minute) for wall in walls} == {(9, 0)}


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T170000",
        "FREQ=MINUTELY;INTERVAL=15;COUNT=6",
        "FREQ=MINUTELY;INTERVAL=90;COUNT=4",
        "FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40",
        "FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16",
    ],
)
def test_the_rfcs_examples_within_a_day_are_no_working_hours(rule: str) -> None:
    with pytest.raises(BadRule):
        check_rule(rule, datetime(1997, 9, 2, 9, 0))


def test_an_exception_takes_one_start_away() -> None:
    start = datetime(1997, 9, 2, 9, 0)
    shift = Hours(
        SITE,
        ZoneInfo(NEW_YORK),
        start,
        timedelta(hours=8),
        "FREQ=DAILY;COUNT=4",
        frozenset({datetime(1997, 9, 3, 9, 0), datetime(1997, 9, 4, 10, 0)}),
    )
    begin = datetime(1997, 9, 1, tzinfo=UTC)
    found = [opens.day for _, (opens, _) in expand([shift], begin, begin + timedelta(days=30))]
    assert found == [2, 4, 5]  # an exception at another time is none


CLOCKS = [
    # zone, wall start, hours on the wall, opens, closes, hours there
    (NEW_YORK, "2027-03-12 22:00", 8, "2027-03-13 03:00", "2027-03-13 11:00", 8.0),
    (NEW_YORK, "2027-03-13 22:00", 8, "2027-03-14 03:00", "2027-03-14 10:00", 7.0),
    (NEW_YORK, "2027-11-06 22:00", 8, "2027-11-07 02:00", "2027-11-07 11:00", 9.0),
    (NEW_YORK, "2027-03-14 09:00", 8, "2027-03-14 13:00", "2027-03-14 21:00", 8.0),
    (NEW_YORK, "2027-03-14 02:30", 8, "2027-03-14 07:00", "2027-03-14 14:30", 7.5),
    (NEW_YORK, "2027-11-07 01:30", 8, "2027-11-07 05:30", "2027-11-07 14:30", 9.0),
    ("Europe/London", "2027-03-26 22:00", 8, "2027-03-26 22:00", "2027-03-27 06:00", 8.0),
    ("Europe/London", "2027-03-27 22:00", 8, "2027-03-27 22:00", "2027-03-28 05:00", 7.0),
    ("Europe/London", "2027-10-30 22:00", 8, "2027-10-30 21:00", "2027-10-31 06:00", 9.0),
    ("Europe/London", "2027-03-28 01:30", 8, "2027-03-28 01:00", "2027-03-28 08:30", 7.5),
    ("Europe/London", "2027-10-31 01:30", 8, "2027-10-31 00:30", "2027-10-31 09:30", 9.0),
    ("Australia/Lord_Howe", "2027-10-01 22:00", 8, "2027-10-01 11:30", "2027-10-01 19:30", 8.0),
    ("Australia/Lord_Howe", "2027-10-02 22:00", 8, "2027-10-02 11:30", "2027-10-02 19:00", 7.5),
    ("Australia/Lord_Howe", "2027-04-03 22:00", 8, "2027-04-03 11:00", "2027-04-03 19:30", 8.5),
    (
        "Australia/Lord_Howe",
        "2027-10-03 02:10",
        8,
        "2027-10-02 15:30",
        "2027-10-02 23:10",
        7 + 2 / 3,
    ),
    ("Australia/Lord_Howe", "2027-04-04 01:45", 8, "2027-04-03 14:45", "2027-04-03 23:15", 8.5),
    ("Asia/Kolkata", "2027-03-13 22:00", 8, "2027-03-13 16:30", "2027-03-14 00:30", 8.0),
    ("Asia/Kolkata", "2027-10-30 22:00", 8, "2027-10-30 16:30", "2027-10-31 00:30", 8.0),
    ("Pacific/Apia", "2011-12-28 22:00", 8, "2011-12-29 08:00", "2011-12-29 16:00", 8.0),
    ("Pacific/Apia", "2011-12-29 22:00", 8, "2011-12-30 08:00", "2011-12-30 10:00", 2.0),
    ("Pacific/Apia", "2011-12-30 09:00", 8, None, None, 0.0),
    ("Pacific/Apia", "2011-12-30 22:00", 8, "2011-12-30 10:00", "2011-12-30 16:00", 6.0),
    ("Pacific/Apia", "2011-12-31 09:00", 8, "2011-12-30 19:00", "2011-12-31 03:00", 8.0),
]


@pytest.mark.parametrize(("zone", "wall", "length", "opens", "closes", "there"), CLOCKS)
def test_a_shift_over_a_change_of_clocks(
    zone: str, wall: str, length: int, opens: str | None, closes: str | None, there: float
) -> None:
    start = datetime.fromisoformat(wall)
    shift = Hours(SITE, ZoneInfo(zone), start, timedelta(hours=length), None, frozenset())
    around = start.replace(tzinfo=UTC)

    found = [one for _, one in expand([shift], around - 3 * DAY, around + 3 * DAY)]

    if opens is None or closes is None:
        assert found == []
        return
    [(first, last)] = found
    assert first.astimezone(UTC) == datetime.fromisoformat(f"{opens}+00:00")
    assert last.astimezone(UTC) == datetime.fromisoformat(f"{closes}+00:00")
    assert abs((last - first) / timedelta(hours=1) - there) < 1e-9


DAY = timedelta(days=1)


def test_the_tables_are_long_enough_to_be_believed() -> None:
    assert len(RULES) + len(CLOCKS) >= 60
    assert {zone for zone, *_ in CLOCKS} == {
        NEW_YORK,
        "Europe/London",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "Pacific/Apia",
    }


@pytest.mark.parametrize("year", range(2000, 2200))
def test_a_rule_is_looked_at_in_years_that_are_alike_and_soon_end(year: int) -> None:
    """One that never happens is followed to the end of all years: seconds, from today."""
    alike = _alike(year)

    assert 5 <= MAXYEAR - alike <= 33
    for later in range(6):
        if any(one % 100 == 0 and one % 400 for one in range(year, year + later + 1)):
            break  # a century's end without a leap day: there are no years like these
        days = [datetime(one + later, 1, 1).weekday() for one in (year, alike)]
        assert days[0] == days[1]
        assert isleap(year + later) == isleap(alike + later)
