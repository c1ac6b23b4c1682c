"""When somebody works: hours and leave from files, exceptions by hand, public holidays."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Closure, OpeningHours
from models.vocabulary import StepKind
from scheduler import booking, calendars
from scheduler.authority import Authority
from scheduler.booking import Order
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World, make_patient, make_site
from tests.integration.conftest import Caller
from tests.unit.test_icalendars import calendar

NEW_YORK = ZoneInfo("America/New_York")
WEEK = (MONDAY_9 - DAY / 2, MONDAY_9 + 6 * DAY)

TUESDAYS = """UID:tuesdays
    LOCATION:Main Street
    DTSTART;TZID=America/New_York:20260303T080000
    DTEND;TZID=America/New_York:20260303T123000
    RRULE:FREQ=WEEKLY;BYDAY=TU"""

OFF = """UID:off
    SUMMARY:Away
    DTSTART;VALUE=DATE:20260304
    DTEND;VALUE=DATE:20260306"""


def opened(session: Session, schedule_id: UUID, days: int = 7) -> list[str]:
    """When a schedule is open, at New York's clocks."""
    start = MONDAY_9 - DAY / 2
    found = calendars.open_stretches(session, [schedule_id], start, start + days * DAY)
    return [
        f"{begin.astimezone(NEW_YORK):%a %H:%M}-{end.astimezone(NEW_YORK):%H:%M}"
        for _, (begin, end) in sorted(found[schedule_id], key=lambda one: one[1])
    ]


def read_in(caller: Caller, schedule_id: UUID, *events: str, what: str = "", **more: Any) -> Any:
    told = {"what": what or "opening-hours", "calendar": calendar(*events), **more}
    answer = caller.post(f"/schedules/{schedule_id}/import", told)
    assert answer.status_code == 200, answer.json
    return answer.json


def clear_hours(session: Session, schedule_id: UUID) -> None:
    for one in session.scalars(select(OpeningHours).where(OpeningHours.schedule_id == schedule_id)):
        session.delete(one)
    session.flush()


class TestImport:
    """A file is read in, and read in again."""

    def test_hours_are_added_to_those_entered_by_hand(
        self, session: Session, world: World, admin: Caller
    ) -> None:
        by_hand = opened(session, world.therapist)

        answer = read_in(admin, world.therapist, TUESDAYS, site_id=str(world.site_id))

        assert answer == {"added": 1, "removed": 0, "kept": 0, "visits_outside": []}
        assert set(opened(session, world.therapist)) == {*by_hand, "Tue 08:00-12:30"}

    def test_the_same_file_again_changes_nothing_and_a_newer_one_what_it_says(
        self, session: Session, world: World, admin: Caller
    ) -> None:
        clear_hours(session, world.therapist)
        here = {"site_id": str(world.site_id)}
        fridays = TUESDAYS.replace("tuesdays", "fridays").replace("TU", "FR")
        fridays = fridays.replace("20260303", "20260306")
        read_in(admin, world.therapist, TUESDAYS, fridays, **here)
        before = {one.id for one in session.scalars(select(OpeningHours))}

        again = read_in(admin, world.therapist, TUESDAYS, fridays, **here)
        assert (again["added"], again["removed"], again["kept"]) == (0, 0, 2)
        assert {one.id for one in session.scalars(select(OpeningHours))} == before

        moved = TUESDAYS.replace("123000", "110000") + "\nEXDATE;VALUE=DATE:20260310"
        newer = read_in(admin, world.therapist, moved, **here)
        assert (newer["added"], newer["removed"], newer["kept"]) == (1, 2, 0)
        assert opened(session, world.therapist, 16) == ["Tue 08:00-11:00"] * 2

    def test_each_event_may_be_at_the_site_that_it_names(
        self, session: Session, world: World, admin: Caller
    ) -> None:
        clear_hours(session, world.therapist)
        other = make_site(session, "America/Denver")
        there = TUESDAYS.replace("Main Street", "Other")

        read_in(admin, world.therapist, there)

        [row] = session.scalars(
            select(OpeningHours).where(OpeningHours.schedule_id == world.therapist)
        )
        assert (row.site_id, row.time_zone, row.uid) == (other, "America/New_York", "tuesdays")
        assert opened(session, world.therapist) == ["Tue 08:00-12:30"]

    def test_leave_closes_and_what_is_left_out_of_a_newer_file_opens_again(
        self, session: Session, world: World, admin: Caller
    ) -> None:
        week = opened(session, world.therapist)

        first = read_in(admin, world.therapist, OFF, what="closures")
        assert first["added"] == 1
        days = {one[:3] for one in opened(session, world.therapist)}
        assert days == {"Mon", "Tue", "Fri"}

        assert read_in(admin, world.therapist, OFF, what="closures")["kept"] == 1
        later = OFF.replace("UID:off", "UID:other").replace("0304", "0401").replace("0306", "0402")
        assert read_in(admin, world.therapist, later, what="closures")["removed"] == 1
        assert opened(session, world.therapist) == week

    def test_visits_that_are_outside_now_are_named_and_stay(
        self, session: Session, world: World, admin: Caller
    ) -> None:
        patient_id, _ = make_patient(session)
        start = MONDAY_9 + 2 * DAY
        order = Order(patient_id=patient_id, starts_at=start, step_kind=StepKind.PREPARATION)
        visit = booking.book(session, order, by=Authority("key:desk"), now=SUNDAY_NOON)
        session.commit()

        answer = read_in(admin, world.therapist, OFF, what="closures")

        assert answer["visits_outside"] == [str(visit.id)]
        session.refresh(visit)
        assert visit.starts_at == start

    def test_every_fault_is_told_and_nothing_changed(
        self, session: Session, world: World, admin: Caller
    ) -> None:
        before = opened(session, world.therapist)
        bad = [
            TUESDAYS.replace("WEEKLY", "HOURLY").replace("tuesdays", "a"),
            TUESDAYS.replace("Main Street", "Nowhere").replace("tuesdays", "b"),
            TUESDAYS.replace("123000", "080300").replace("tuesdays", "c"),
        ]
        told = {"what": "opening-hours", "calendar": calendar(TUESDAYS, *bad)}

        answer = admin.post(f"/schedules/{world.therapist}/import", told)

        assert answer.status_code == 422
        assert answer.json["type"] == "/problems/bad-calendar"
        faults = [(one["line"], one["property"]) for one in answer.json["errors"]]
        named = {name for _, name in faults}
        assert {"RRULE", "LOCATION"} <= named
        assert opened(session, world.therapist) == before

    @pytest.mark.parametrize(
        ("told", "status"),
        [
            ({"what": "opening-hours", "calendar": "hello"}, 422),
            ({"what": "opening-hours", "calendar": ""}, 422),
            ({"what": "hours", "calendar": calendar(TUESDAYS)}, 422),
            ({"what": "closures"}, 422),
            ({"what": "closures", "calendar": calendar(OFF), "time_zone": "Mars/Base"}, 422),
            (
                {"what": "opening-hours", "calendar": calendar(TUESDAYS), "site_id": str(uuid4())},
                422,
            ),
        ],
    )
    def test_bad_input_changes_nothing(
        self, session: Session, world: World, admin: Caller, told: dict[str, Any], status: int
    ) -> None:
        answer = admin.post(f"/schedules/{world.therapist}/import", told)

        assert answer.status_code == status, answer.json
        assert session.scalars(select(Closure)).all() == []
        uids = session.scalars(select(OpeningHours.uid)).all()
        assert set(uids) == {None}

    def test_there_must_be_such_a_schedule(self, admin: Caller) -> None:
        told = {"what": "closures", "calendar": calendar(OFF)}
        assert admin.post(f"/schedules/{uuid4()}/import", told).status_code == 404


class TestByHand:
    """Hours and closures are read one by one, and changed by whoever has seen them as they are."""

    def hours(self, world: World, **more: Any) -> dict[str, Any]:
        return {
            "site_id": str(world.site_id),
            "first_start": "2026-03-07T10:00",
            "minutes": 120,
            "rule": "FREQ=WEEKLY;INTERVAL=2;BYDAY=SA",
            **more,
        }

    def test_a_day_is_excepted_from_hours(
        self, session: Session, world: World, admin: Caller
    ) -> None:
        path = f"/schedules/{world.therapist}/opening-hours"
        made = admin.post(path, self.hours(world))
        assert made.status_code == 201, made.json
        assert "Sat 10:00-12:00" in opened(session, world.therapist)
        path += f"/{made.json['id']}"
        seen = admin.get(path)
        assert seen.json["exceptions"] == []

        changed = admin(
            "PATCH", path, {"exceptions": ["2026-03-07T10:00"]}, etag=seen.headers["ETag"]
        )

        assert changed.status_code == 200
        assert "Sat 10:00-12:00" not in opened(session, world.therapist)
        stale = admin("PATCH", path, {"minutes": 60}, etag=seen.headers["ETag"])
        assert stale.status_code == 412
        assert admin("PATCH", path, {"minutes": 60}).status_code == 428

    @pytest.mark.parametrize(
        ("changes", "pointer"),
        [
            ({"rule": "FREQ=SECONDLY"}, "/rule"),
            ({"rule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "/rule"),
            ({"time_zone": "posix/Europe/Berlin"}, "/time_zone"),
            ({"minutes": 3}, "/minutes"),
            ({"on_holidays": "yes"}, "/on_holidays"),
            ({"uid": "mine"}, "/uid"),
        ],
    )
    def test_hours_that_make_no_sense_are_refused(
        self, world: World, admin: Caller, changes: dict[str, Any], pointer: str
    ) -> None:
        answer = admin.post(
            f"/schedules/{world.therapist}/opening-hours", self.hours(world, **changes)
        )

        assert answer.status_code == 422
        assert [one["pointer"] for one in answer.json["errors"]] == [pointer]

    @pytest.mark.parametrize(
        ("changes", "near"),
        [
            ({"first_start": "2026-03-08T02:30"}, "2026-03-08T01:55 or 2026-03-08T03:00"),
            (
                {"first_start": "2026-03-29T02:30", "time_zone": "Europe/Berlin"},
                "2026-03-29T01:55 or 2026-03-29T03:00",
            ),
        ],
    )
    def test_a_time_that_clocks_skip_is_refused_with_its_neighbours(
        self, world: World, admin: Caller, changes: dict[str, Any], near: str
    ) -> None:
        answer = admin.post(
            f"/schedules/{world.therapist}/opening-hours", self.hours(world, **changes)
        )

        assert answer.status_code == 422
        assert answer.json["type"] == "/problems/nonexistent-local-time"
        assert answer.json["field"] == "first_start"
        assert near in answer.json["detail"]

    def test_hours_may_be_by_the_clock_of_where_somebody_works_from(
        self, session: Session, world: World, admin: Caller
    ) -> None:
        clear_hours(session, world.therapist)
        told = self.hours(world, time_zone="Europe/London", rule="FREQ=DAILY")
        assert admin.post(f"/schedules/{world.therapist}/opening-hours", told).status_code == 201

        # 10:00 in London is 05:00 in New York, and 06:00 once New York has moved its clocks.
        found = opened(session, world.therapist, 9)
        assert found[:1] == ["Sat 05:00-07:00"]
        assert found[1:3] == ["Sun 06:00-08:00", "Mon 06:00-08:00"]

    def test_a_closure_is_changed(self, session: Session, world: World, desk: Caller) -> None:
        path = f"/schedules/{world.therapist}/closures"
        told = {
            "starts_at": MONDAY_9.isoformat(),
            "ends_at": (MONDAY_9 + DAY).isoformat(),
            "reason": "flu",
        }
        made = desk.post(path, told)
        path += f"/{made.json['id']}"
        etag = desk.get(path).headers["ETag"]

        backwards = desk("PATCH", path, {"ends_at": MONDAY_9.isoformat()}, etag=etag)
        assert backwards.status_code == 422
        assert backwards.json["errors"][0]["pointer"] == "/ends_at"
        longer = {"ends_at": (MONDAY_9 + 3 * DAY).isoformat()}
        assert desk("PATCH", path, longer, etag=etag).status_code == 200

        assert {one[:3] for one in opened(session, world.therapist)} == {"Thu", "Fri"}
        assert desk("DELETE", path, etag=etag).status_code == 412
        assert desk("DELETE", path, etag=desk.get(path).headers["ETag"]).status_code == 204

    def test_what_is_on_another_schedule_is_not_here(self, world: World, admin: Caller) -> None:
        made = admin.post(f"/schedules/{world.therapist}/opening-hours", self.hours(world))
        elsewhere = f"/schedules/{world.prescriber}/opening-hours/{made.json['id']}"

        assert admin.get(elsewhere).status_code == 404
        assert admin("PATCH", elsewhere, {"minutes": 60}, etag='"1"').status_code == 404
        assert admin("DELETE", elsewhere, etag='"1"').status_code == 404


class TestHolidays:
    """A site closes on the public holidays of its region."""

    CHRISTMAS = datetime(2026, 12, 25, tzinfo=NEW_YORK)

    def site(self, caller: Caller, world: World, **changes: Any) -> Any:
        path = f"/sites/{world.site_id}"
        etag = caller.get(path).headers["ETag"]
        return caller("PATCH", path, changes, etag=etag)

    def is_open(self, session: Session, schedule_id: UUID, day: datetime) -> bool:
        found = calendars.open_stretches(session, [schedule_id], day, day + DAY)
        return bool(found[schedule_id])

    def test_nobody_is_there_on_a_holiday_unless_they_say_so(
        self, session: Session, world: World, admin: Caller
    ) -> None:
        assert self.is_open(session, world.therapist, self.CHRISTMAS)

        assert self.site(admin, world, holiday_region="US-NY").status_code == 200

        assert not self.is_open(session, world.therapist, self.CHRISTMAS)
        assert self.is_open(session, world.therapist, self.CHRISTMAS - 4 * DAY)
        told = {
            "site_id": str(world.site_id),
            "first_start": "2026-12-25T09:00",
            "minutes": 60,
            "on_holidays": True,
        }
        assert admin.post(f"/schedules/{world.therapist}/opening-hours", told).status_code == 201
        assert self.is_open(session, world.therapist, self.CHRISTMAS)

    def test_a_holiday_on_which_the_site_works_is_open(
        self, session: Session, world: World, admin: Caller
    ) -> None:
        columbus = datetime(2026, 10, 12, tzinfo=NEW_YORK)
        self.site(admin, world, holiday_region="US-NY")
        assert not self.is_open(session, world.therapist, columbus)

        changed = self.site(admin, world, holidays_worked=["Columbus Day"])

        assert changed.status_code == 200
        assert self.is_open(session, world.therapist, columbus)
        listed = admin.get(f"/sites/{world.site_id}/holidays?year=2026").json["items"]
        named = {one["name"]: one["is_open"] for one in listed}
        assert named["Columbus Day"]
        assert not named["Christmas Day"]
        assert {"day": "2026-12-25", "name": "Christmas Day", "is_open": False} in listed

    def test_a_day_off_in_place_of_a_sunday_goes_by_the_holidays_name(
        self, session: Session, world: World, admin: Caller
    ) -> None:
        observed = datetime(2027, 7, 5, tzinfo=NEW_YORK)  # the 4th is a Sunday
        self.site(admin, world, holiday_region="US")
        assert not self.is_open(session, world.therapist, observed)

        self.site(admin, world, holidays_worked=["Independence Day"])

        assert self.is_open(session, world.therapist, observed)

    @pytest.mark.parametrize(
        ("changes", "pointer", "says"),
        [
            ({"holiday_region": "US-XX"}, "/holiday_region", "US-NY"),
            ({"holiday_region": "Mars"}, "/holiday_region", "US-NY"),
            (
                {"holiday_region": "US-NY", "holidays_worked": ["Pi Day"]},
                "/holidays_worked",
                "Columbus Day",
            ),
            ({"holidays_worked": ["Christmas Day"]}, "/holidays_worked", "none"),
        ],
    )
    def test_holidays_that_nobody_knows_are_refused(
        self, world: World, admin: Caller, changes: dict[str, Any], pointer: str, says: str
    ) -> None:
        answer = self.site(admin, world, **changes)

        assert answer.status_code == 422
        [fault] = answer.json["errors"]
        assert fault["pointer"] == pointer
        assert says in fault["detail"]

    def test_a_site_without_a_region_keeps_none(self, world: World, desk: Caller) -> None:
        assert desk.get(f"/sites/{world.site_id}/holidays").json == {"items": []}
        assert desk.get(f"/sites/{world.site_id}/holidays?year=soon").status_code == 422

    def test_nothing_is_offered_on_a_holiday(self, world: World, admin: Caller) -> None:
        self.site(admin, world, holiday_region="US-NY")
        day = datetime(2026, 5, 25, tzinfo=NEW_YORK)  # Memorial Day
        asked = {"from": day.isoformat(), "to": (day + timedelta(days=2)).isoformat()}
        told = "&".join(f"{name}={value}" for name, value in asked.items())

        found = admin.get(f"/openings?step_kind=preparation&{told.replace('+', '%2B')}").json

        days = {one["starts_at"][:10] for one in found["items"]}
        assert days == {"2026-05-26"}
