"""Reports: each figure counted exactly, at the edges of its period and of its definition."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, Closure, Course, OpeningHours, Room, Site, enter_clinic
from models.vocabulary import PractitionerRole, Role, StepKind
from scheduler import booking, courses, facts, reports, rules, snapshots
from scheduler.authority import Call, Reasons
from scheduler.booking import Move, Order
from scheduler.courses import Terms
from scheduler.jobs import archive_messages
from scheduler.periods import By, Part, Period
from scheduler.reports import Asked
from tests import after
from tests.after import DESK
from tests.factories import (
    MONDAY_9,
    SUNDAY_NOON,
    ZONE,
    World,
    clear,
    figure,
    gate,
    make_default,
    make_patient,
    make_practitioner,
    make_protocol,
    make_room,
    make_site,
    make_world,
    protocol_content,
)
from tests.groups import make_circle
from tests.integration.conftest import Caller, Clock, Keyring
from tests.statements import statements

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MARCH = "from=2026-03-01&to=2026-04-01"


def read(caller: Caller, name: str, query: str = MARCH) -> list[dict[str, Any]]:
    answer = caller.get(f"/reports/{name}?{query}")
    assert answer.status_code == 200, answer.json
    items: list[dict[str, Any]] = answer.json["items"]
    return items


class TestPeriods:
    @pytest.mark.parametrize(
        ("by", "days"),
        [
            (By.DAY, ["03-01", "03-02", "03-03", "03-04"]),
            (By.TOTAL, ["03-01", "03-04"]),
            (By.WEEK, ["03-01", "03-02", "03-04"]),  # the first is a Sunday
            (By.MONTH, ["03-01", "03-04"]),
        ],
    )
    def test_parts_are_whole_or_cut_at_the_ends(self, by: By, days: list[str]) -> None:
        parts = Period(date(2026, 3, 1), date(2026, 3, 4), by).parts()

        told = [date.fromisoformat(f"2026-{day}") for day in days]
        assert parts == [Part(*pair) for pair in pairwise(told)]

    def test_months_end_with_themselves(self) -> None:
        parts = Period(date(2026, 1, 31), date(2026, 3, 2), By.MONTH).parts()

        assert [part.first.isoformat() for part in parts] == [
            "2026-01-31",
            "2026-02-01",
            "2026-03-01",
        ]

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("from=2026-03-01&to=2026-03-01", "to"),
            ("from=2026-03-02&to=2026-03-01", "to"),
            ("from=2026-01-01&to=2027-02-06", "to"),
        ],
    )
    def test_a_period_has_an_end_and_is_not_endless(
        self, admin: Caller, query: str, field: str
    ) -> None:
        answer = admin.get(f"/reports/no-shows?{query}")

        assert (answer.status_code, answer.json["field"]) == (422, field)

    @pytest.mark.parametrize(
        "query",
        [
            "from=2026-03-01",
            "from=2026-03-01T00:00:00Z&to=2026-04-01",
            f"{MARCH}&by=year",
            f"{MARCH}&format=xml",
            f"{MARCH}&site=1",
            "from=2026-02-30&to=2026-04-01",
        ],
    )
    def test_what_cannot_be_asked_is_named(self, admin: Caller, query: str) -> None:
        assert admin.get(f"/reports/no-shows?{query}").status_code == 422

    def test_a_site_of_another_clinic_is_none(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        other = make_world(session, "Another Practice")
        enter_clinic(session, world.clinic_id)
        session.commit()

        foreign = admin.get(f"/reports/no-shows?{MARCH}&site_id={other.site_id}")
        assert foreign.status_code == 404
        assert admin.get(f"/reports/no-shows?{MARCH}&site_id={uuid7()}").status_code == 404

    @pytest.mark.parametrize("role", [Role.ADMIN, Role.AUDITOR, Role.SCHEDULER, Role.CLINICIAN])
    def test_who_may_read_them(self, key: Keyring, role: Role) -> None:
        status = key(role).get(f"/reports/no-shows?{MARCH}").status_code

        assert status == (403 if role is Role.CLINICIAN else 200)


def place(session: Session, world: World) -> tuple[UUID, UUID]:
    """A site of its own with one room, open around the clock, every day."""
    site_id = make_site(session)
    schedule_id = make_room(session, site_id, "consulting")
    session.execute(text("DELETE FROM opening_hours WHERE schedule_id = :id"), {"id": schedule_id})
    session.add(
        OpeningHours(
            id=uuid7(),
            schedule_id=schedule_id,
            site_id=site_id,
            first_start=datetime(2026, 1, 1),
            minutes=1440,
            rule="FREQ=DAILY",
        )
    )
    session.commit()
    return site_id, schedule_id


def take(
    session: Session, world: World, told: tuple[UUID, UUID], start: datetime, **more: Any
) -> Appointment:
    """A visit that takes the room, whatever the rules say of it."""
    site_id, schedule_id = told
    minutes, status = more.get("minutes", 60), more.get("status", "busy")
    visit = Appointment(
        id=uuid7(),
        patient_id=world.patient_id,
        protocol_version_id=world.protocol_version_id,
        visit="preparation",
        kind="preparation",
        site_id=site_id,
        status=more.get("visit_status", "booked"),
        starts_at=start,
        ends_at=start + minutes * MINUTE,
        booked_by="test",
    )
    session.add(visit)
    session.flush()
    session.execute(
        text(
            "INSERT INTO slot (id, schedule_id, lane, appointment_id, role, status, starts_at, "
            "ends_at, during) VALUES (:id, :schedule, 0, :visit, 'room', :status, :start, :end, "
            "tstzrange(:start, :end))"
        ),
        {
            "id": uuid7(),
            "schedule": schedule_id,
            "visit": visit.id,
            "status": status,
            "start": start,
            "end": start + minutes * MINUTE,
        },
    )
    session.commit()
    return visit


def at(day: str, wall: str) -> datetime:
    """A wall time in New York."""
    told = datetime.fromisoformat(f"2026-{day}T{wall}").replace(tzinfo=ZoneInfo(ZONE))
    return told.astimezone(UTC)


class TestUtilisation:
    def test_a_week_of_a_clock_change_is_an_hour_shorter(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        site_id, _ = place(session, world)
        query = f"site_id={site_id}&by=day"

        spring = read(admin, "utilisation", f"from=2026-03-07&to=2026-03-10&{query}")
        autumn = read(admin, "utilisation", f"from=2026-11-01&to=2026-11-02&{query}")

        assert [row["open_minutes"] for row in spring] == [1440, 1380, 1440]
        assert [row["open_minutes"] for row in autumn] == [1500]
        week = read(admin, "utilisation", f"from=2026-03-02&to=2026-03-09&site_id={site_id}")
        assert week[0]["open_minutes"] == 7 * 1440 - 60

    def test_a_visit_over_midnight_is_cut_where_the_site_s_day_ends(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        told = place(session, world)
        take(session, world, told, at("03-10", "23:30"), minutes=90)
        query = f"from=2026-03-10&to=2026-03-12&site_id={told[0]}&by=day"

        rows = read(admin, "utilisation", query)

        assert [row["booked_minutes"] for row in rows] == [30, 60]
        assert rows[0]["share"] == round(30 / 1440, 4)
        outside = read(admin, "utilisation", query.replace("to=2026-03-12", "to=2026-03-11"))
        assert [row["booked_minutes"] for row in outside] == [30]

    def test_turnover_is_told_beside_and_what_is_held_is_not_booked(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        told = place(session, world)
        take(session, world, told, at("03-10", "09:00"))
        take(session, world, told, at("03-10", "10:00"), minutes=20, status="busy-unavailable")
        take(session, world, told, at("03-10", "12:00"), status="busy-tentative")

        [row] = read(admin, "utilisation", f"from=2026-03-10&to=2026-03-11&site_id={told[0]}")

        assert (row["booked_minutes"], row["turnover_minutes"]) == (60, 20)
        assert row["share_with_turnover"] == round(80 / 1440, 4)

    def test_a_closure_is_no_open_time(self, admin: Caller, session: Session, world: World) -> None:
        site_id, schedule_id = place(session, world)
        away = {"starts_at": at("03-10", "08:00"), "ends_at": at("03-10", "20:00")}
        session.add(Closure(id=uuid7(), schedule_id=schedule_id, reason="repairs", **away))
        session.commit()

        [row] = read(admin, "utilisation", f"from=2026-03-10&to=2026-03-11&site_id={site_id}")

        assert row["open_minutes"] == 720

    def test_roles_count_who_may_act_in_them_that_day_on_every_lane(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        site_id = make_site(session)
        make_practitioner(session, site_id, PractitionerRole.MONITOR, lanes=3)
        ending = date(2026, 3, 10)
        both = (PractitionerRole.MONITOR, PractitionerRole.THERAPIST)
        make_practitioner(session, site_id, *both, valid_until=ending)
        session.commit()

        rows = read(admin, "utilisation", f"from=2026-03-10&to=2026-03-12&site_id={site_id}&by=day")

        told = {(row["period_from"][-2:], row["name"]): row["open_minutes"] for row in rows}
        assert told == {
            ("10", "monitor"): 4 * 480,
            ("10", "therapist"): 480,
            ("11", "monitor"): 3 * 480,
        }

    def test_a_group_session_takes_its_room_once(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        circle = make_circle(session, world)
        session.commit()
        made = admin.post(
            "/group-sessions",
            {
                "protocol_version_id": str(circle.version_id),
                "visit": "preparation",
                "starts_at": MONDAY_9.isoformat(),
                "assignments": circle.staff(0, 1),
            },
        )
        assert made.status_code == 201, made.json
        path = f"/group-sessions/{made.json['id']}/places"
        for member in circle.members:
            place = {
                "patient_id": str(member.patient_id),
                "course_step_id": str(member.steps["preparation"]),
            }
            assert admin.post(path, place).status_code == 201

        rows = read(admin, "utilisation")

        start, end = (datetime.fromisoformat(made.json[name]) for name in ("starts_at", "ends_at"))
        booked = [row["booked_minutes"] for row in rows if row["of"] == "room"]
        assert sum(booked) == (end - start) // MINUTE

    def test_what_is_booked_as_a_role_is_the_time_of_its_slots(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        course = after.open_course(session, world)
        visit = course.book("preparation", MONDAY_9, SUNDAY_NOON)
        session.commit()

        rows = {(row["of"], row["name"]): row for row in read(admin, "utilisation")}

        assert rows["role", "therapist"]["booked_minutes"] == 60
        assert rows["role", "therapist"]["share"] == round(
            60 / rows["role", "therapist"]["open_minutes"], 4
        )
        booking.cancel(session, Call(visit.id, None, "off"), by=DESK, now=SUNDAY_NOON)
        session.commit()
        rows = {(row["of"], row["name"]): row for row in read(admin, "utilisation")}
        assert rows["role", "therapist"]["booked_minutes"] == 0


class TestNoShows:
    def test_each_visit_counts_once_by_what_became_of_it(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        told = place(session, world)
        for hour, status in enumerate(
            ["fulfilled", "arrived", "checked-in", "noshow", "booked", "entered-in-error"]
        ):
            take(session, world, told, at("03-10", "08:00") + hour * HOUR, visit_status=status)

        [row] = read(admin, "no-shows", f"{MARCH}&site_id={told[0]}")

        assert (row["kept"], row["no_shows"], row["still_booked"]) == (3, 1, 1)
        assert (row["no_show_share"], row["late_cancellation_share"]) == (0.25, 0.0)

    @pytest.mark.parametrize(
        "days",
        [
            ("03-08", "03-09", 1),  # a day of 23 hours, in New York
            ("03-07", "03-08", 0),
            ("03-09", "03-10", 0),
        ],
    )
    @pytest.mark.parametrize("wall", ["00:00", "23:55"])
    def test_days_are_the_site_s(
        self, admin: Caller, session: Session, world: World, days: tuple[str, str, int], wall: str
    ) -> None:
        first, until, count = days
        told = place(session, world)
        take(session, world, told, at("03-08", wall), visit_status="noshow")

        rows = read(admin, "no-shows", f"from=2026-{first}&to=2026-{until}&site_id={told[0]}")

        assert sum(row["no_shows"] for row in rows) == count

    @pytest.mark.parametrize(
        ("before", "late"), [(24 * HOUR, 0), (24 * HOUR - MINUTE, 1), (-HOUR, 1)]
    )
    def test_late_is_within_a_day_where_no_notice_is_asked(
        self, admin: Caller, session: Session, world: World, before: timedelta, late: int
    ) -> None:
        course = after.open_course(session, world)
        visit = course.book("preparation", MONDAY_9, SUNDAY_NOON)
        booking.cancel(session, Call(visit.id, None, "ill"), by=DESK, now=MONDAY_9 - before)
        session.commit()

        [row] = read(admin, "no-shows")

        assert (row["late_cancellations"], row["early_cancellations"]) == (late, 1 - late)

    @pytest.mark.parametrize(("before", "late"), [(72 * HOUR, 0), (72 * HOUR - MINUTE, 1)])
    def test_late_is_within_the_notice_of_the_protocol(
        self, admin: Caller, session: Session, world: World, before: timedelta, late: int
    ) -> None:
        content = after.content()
        content["visits"]["preparation"]["notice"] = figure(72, "h")
        course = after.open_course(session, world, content)
        start = MONDAY_9 + 7 * DAY - HOUR  # the clocks have changed
        visit = course.book("preparation", start, SUNDAY_NOON)
        booking.cancel(session, Call(visit.id, None, "ill"), by=DESK, now=start - before)
        session.commit()

        assert read(admin, "no-shows")[0]["late_cancellations"] == late

    def test_a_hold_that_ran_out_was_no_visit_and_a_moved_one_is_not_cancelled(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        course = after.open_course(session, world)
        step = facts.steps_of(session, course.id)[0]
        order = Order(
            patient_id=world.patient_id, starts_at=MONDAY_9, course_step_id=step.id, hold=True
        )
        booking.book(session, order, by=DESK, now=SUNDAY_NOON)
        booking.release_expired_holds(session, SUNDAY_NOON + DAY)
        visit = course.book("preparation", MONDAY_9, SUNDAY_NOON)
        move = Move(starts_at=MONDAY_9 + DAY, reasons=Reasons({}))
        booking.reschedule(session, Call(visit.id, None), move, by=DESK, now=MONDAY_9 - HOUR)
        session.commit()

        [row] = read(admin, "no-shows")

        assert (row["late_cancellations"], row["early_cancellations"], row["still_booked"]) == (
            (0, 0, 1)
        )


DOSE = MONDAY_9 + DAY


class TestIntegration:
    """In the course for tests an integration belongs within so many days after the first dose."""

    @pytest.fixture
    def course(self, session: Session, world: World, bound: Any) -> after.Course:
        made = after.open_course(session, world)
        made.walk(made.book("preparation", MONDAY_9, SUNDAY_NOON))
        made.walk(made.book("dosing-1", DOSE, SUNDAY_NOON))
        session.commit()
        return made

    def became(self, caller: Caller) -> dict[str, int]:
        [row] = read(caller, "integration-window")
        names = ("in_time", "outside", "missing", "pending", "not_asked")
        assert row["doses"] == sum(row[name] for name in names)
        return {name: row[name] for name in names if row[name]}

    def test_until_its_window_is_over_it_is_pending_and_then_missing(
        self, admin: Caller, clock: Clock, course: after.Course, session: Session
    ) -> None:
        protocol = facts.protocol(
            session, facts.one(session, Course, course.id).protocol_version_id
        )
        known = list(facts.visits_of_courses(session, [course.id])[course.id].values())
        zone = facts.visits_of(session, course.id)[0][1].time_zone
        over = rules.latest(protocol.step("integration-1"), known, ZoneInfo(zone))
        assert over is not None
        clock.now = over - timedelta(microseconds=1)
        assert self.became(admin) == {"pending": 1}
        clock.now = over
        assert self.became(admin) == {"missing": 1}
        assert read(admin, "integration-window")[0]["share"] == 0.0

    def test_one_that_took_place_within_it_counts_and_one_that_is_booked_does_not_yet(
        self, admin: Caller, clock: Clock, course: after.Course, session: Session
    ) -> None:
        clock.now = DOSE + 5 * HOUR
        visit = course.book("integration-1", DOSE + 2 * DAY, DOSE + 4 * HOUR)
        session.commit()
        assert self.became(admin) == {"pending": 1}

        course.walk(visit)
        session.commit()

        assert self.became(admin) == {"in_time": 1}
        assert read(admin, "integration-window")[0]["share"] == 1.0

    def test_one_that_took_place_after_it_is_outside(
        self, admin: Caller, course: after.Course, session: Session
    ) -> None:
        step = next(one for one in facts.steps_of(session, course.id) if one.key == "integration-1")
        order = Order(
            patient_id=course.patient_id,
            starts_at=DOSE + 9 * DAY,
            course_step_id=step.id,
            reasons=Reasons({"integration-1-too-late": "nobody is free before"}),
        )
        course.walk(booking.book(session, order, by=DESK, now=DOSE + 4 * HOUR))
        session.commit()

        assert self.became(admin) == {"outside": 1}

    def test_what_was_skipped_is_not_asked_for(
        self, admin: Caller, course: after.Course, session: Session
    ) -> None:
        session.execute(
            text(
                "UPDATE course_step SET skipped_at = :now, skipped_by = 'test', "
                "skip_reason = 'declined' WHERE course_id = :id AND key = 'integration-1'"
            ),
            {"now": DOSE, "id": course.id},
        )
        session.commit()

        assert self.became(admin) == {"not_asked": 1}
        assert read(admin, "integration-window")[0]["share"] is None

    def test_a_dose_that_was_entered_in_error_is_none(
        self, admin: Caller, course: after.Course, session: Session
    ) -> None:
        visit = course.visit("dosing-1")
        session.execute(
            text("UPDATE appointment SET status = 'entered-in-error' WHERE id = :id"),
            {"id": visit.id},
        )
        session.commit()

        assert read(admin, "integration-window") == []


class TestDeliveries:
    def test_they_count_where_and_when_they_were_due_also_from_the_archive(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        course = after.open_course(session, world)
        course.book("preparation", MONDAY_9, SUNDAY_NOON)
        session.execute(
            text(
                "UPDATE message SET state = 'sent', sent_at = due_at + interval '30 seconds', "
                "done_at = due_at WHERE kind = 'confirmation'"
            )
        )
        session.commit()
        query = "from=2026-03-01&to=2026-03-02"
        [row] = [one for one in read(admin, "deliveries", query) if one["state"] == "sent"]
        assert (row["kind"], row["number"], row["late_p50_seconds"]) == ("confirmation", 1, 30)
        assert row["site_id"] == str(world.site_id)

    def test_those_in_the_archive_count_the_same(
        self, committed: Session, committed_world: World, worker_engine: Engine
    ) -> None:
        after.open_course(committed, committed_world).book("preparation", MONDAY_9, SUNDAY_NOON)
        committed.execute(
            text("UPDATE message SET state = 'sent', sent_at = due_at, done_at = due_at")
        )
        committed.commit()
        period = Period(date(2026, 2, 1), date(2026, 4, 1), By.DAY)
        asked = Asked(period, None, MONDAY_9)
        before = reports.lines(committed, reports.deliveries, asked)
        committed.commit()

        with Session(worker_engine) as session:
            enter_clinic(session, committed_world.clinic_id)
            assert archive_messages(session, MONDAY_9 + 30 * DAY)
            session.commit()

        assert before
        assert reports.lines(committed, reports.deliveries, asked) == before

    def test_the_old_address_says_that_it_will_go(self, desk: Caller) -> None:
        answer = desk.get("/message-report?from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z")

        assert answer.status_code == 200
        assert answer.headers["Deprecation"].startswith("@")
        sunset = datetime.strptime(answer.headers["Sunset"], "%a, %d %b %Y %H:%M:%S GMT")
        since = datetime.fromtimestamp(int(answer.headers["Deprecation"][1:]), UTC)
        assert sunset.replace(tzinfo=UTC) > since
        assert '</api/v1/reports/deliveries>; rel="successor-version"' in answer.headers["Link"]
        refused = desk.get("/message-report")
        assert (refused.status_code, refused.headers["Sunset"]) == (422, answer.headers["Sunset"])

    def test_the_description_says_so_as_well(self, desk: Caller) -> None:
        told = desk.client.get("/api/openapi.json").json["paths"]["/api/v1/message-report"]["get"]
        answer = desk.get("/message-report?from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z")

        assert told["deprecated"] is True
        shown = told["responses"]["200"]["headers"]
        assert {name: one["example"] for name, one in shown.items()} == {
            name: answer.headers[name] for name in ("Deprecation", "Sunset", "Link")
        }
        desk_told = desk.get("/reports/deliveries?from=2026-03-01&to=2026-04-01")
        assert desk_told.headers.get("Deprecation") is None


class TestReadiness:
    """Two days before its start a visit is looked at once; what comes later changes nothing."""

    START = MONDAY_9 + 7 * DAY - HOUR  # over a change of the clocks: elapsed time counts

    @pytest.fixture
    def visit(self, session: Session, world: World, bound: Any) -> Appointment:
        content = protocol_content() | {"caps": [], "gaps": []}
        content["visits"]["dosing"]["gates"] = [
            gate("medical-clearance", "arrival", holds=figure(90, "d")),
            gate("vitals", "dose"),
        ]
        content["visits"]["dosing"]["checklist"] = []
        make_default(session, content)
        order = Order(patient_id=world.patient_id, starts_at=self.START, step_kind=StepKind.DOSING)
        made = booking.book(session, order, by=DESK, now=SUNDAY_NOON)
        session.commit()
        return made

    def figures(self, caller: Caller) -> tuple[int, int, int, int]:
        rows = read(caller, "readiness")
        names = ("visits", "ready_for_arrival", "ready_for_dose", "not_noted")
        told = [sum(row[name] for row in rows) for name in names]
        return told[0], told[1], told[2], told[3]

    def test_nobody_looks_before_and_everybody_once_after(
        self, session: Session, visit: Appointment
    ) -> None:
        due = self.START - 48 * HOUR
        assert snapshots.take(session, due - timedelta(seconds=1)) == 0
        assert snapshots.take(session, due) == 1
        assert snapshots.take(session, due + MINUTE) == 0

    def test_what_was_open_then_counts_whatever_is_settled_later(
        self, admin: Caller, clock: Clock, session: Session, world: World, visit: Appointment
    ) -> None:
        due = clock.now = self.START - 48 * HOUR
        snapshots.take(session, due)
        clear(session, world.patient_id, ["medical-clearance"], at=due + HOUR)
        clear(session, world.patient_id, ["vitals"], at=due + HOUR)
        session.commit()
        snapshots.take(session, due + 2 * HOUR)
        session.commit()

        assert self.figures(admin) == (1, 0, 0, 0)

    @pytest.mark.parametrize(
        ("gates", "expected"),
        [
            (["medical-clearance"], (1, 1, 0, 0)),
            (["medical-clearance", "vitals"], (1, 1, 1, 0)),
            (["vitals"], (1, 0, 0, 0)),
        ],
    )
    def test_arrival_and_dose_are_told_apart(
        self,
        admin: Caller,
        clock: Clock,
        session: Session,
        world: World,
        visit: Appointment,
        gates: list[str],
        expected: tuple[int, ...],
    ) -> None:
        due = clock.now = self.START - 48 * HOUR
        clear(session, world.patient_id, gates, at=SUNDAY_NOON)
        snapshots.take(session, due)
        session.commit()

        assert self.figures(admin) == expected

    @pytest.mark.parametrize(("late", "seen"), [(HOUR, 1), (HOUR + timedelta(seconds=1), 0)])
    def test_one_that_was_taken_too_late_says_nothing_and_is_told(
        self,
        admin: Caller,
        clock: Clock,
        session: Session,
        visit: Appointment,
        late: timedelta,
        seen: int,
    ) -> None:
        clock.now = self.START - 48 * HOUR + late
        snapshots.take(session, clock.now)
        session.commit()

        assert self.figures(admin)[::3] == (seen, 1 - seen)

    def test_a_visit_that_nobody_looked_at_is_told_once_the_hour_is_over(
        self, admin: Caller, clock: Clock, session: Session, visit: Appointment
    ) -> None:
        clock.now = self.START - 47 * HOUR
        assert self.figures(admin)[::3] == (0, 0)
        clock.now += timedelta(seconds=1)
        assert self.figures(admin)[::3] == (0, 1)

    def test_one_that_was_booked_or_moved_to_its_time_later_did_not_stand_then(
        self, admin: Caller, clock: Clock, session: Session, world: World, visit: Appointment
    ) -> None:
        moved = Move(starts_at=self.START + HOUR, reasons=Reasons({}))
        booking.reschedule(
            session, Call(visit.id, None), moved, by=DESK, now=self.START - 47 * HOUR + MINUTE
        )
        assert snapshots.take(session, self.START - 46 * HOUR) == 0
        clock.now = self.START
        session.commit()

        assert self.figures(admin) == (0, 0, 0, 0)

    def test_one_that_is_moved_out_is_looked_at_before_each_start(
        self, admin: Caller, clock: Clock, session: Session, visit: Appointment
    ) -> None:
        due = self.START - 48 * HOUR
        snapshots.take(session, due)
        moved = Move(starts_at=self.START + 7 * DAY, reasons=Reasons({}))
        booking.reschedule(session, Call(visit.id, None), moved, by=DESK, now=due + HOUR)
        clock.now = due + 7 * DAY
        snapshots.take(session, clock.now)
        session.commit()

        assert self.figures(admin)[0] == 2

    def test_one_that_was_cancelled_before_does_not_count_and_one_after_does(
        self, admin: Caller, clock: Clock, session: Session, visit: Appointment
    ) -> None:
        due = clock.now = self.START - 48 * HOUR
        snapshots.take(session, due)
        booking.cancel(session, Call(visit.id, None, "ill"), by=DESK, now=due + HOUR)
        session.commit()
        assert self.figures(admin)[0] == 1

        session.execute(text("UPDATE appointment SET status = 'entered-in-error'"))
        session.commit()
        assert self.figures(admin)[0] == 0


class TestFirstDose:
    def given(self, session: Session, world: World, referred_on: date | None, number: int) -> None:
        patient_id, _ = make_patient(session)
        version_id = make_protocol(session, after.content(code=f"course-{number}"))
        made = courses.open_course(
            session, patient_id, version_id, by=DESK, terms=Terms(referred_on)
        )
        made.created_at = SUNDAY_NOON - DAY
        session.flush()
        course = after.Course(session, patient_id, made.id)
        course.walk(course.book("preparation", MONDAY_9 + number * HOUR, SUNDAY_NOON))
        course.walk(course.book("dosing-1", DOSE + number * DAY, SUNDAY_NOON))
        session.commit()

    def test_it_counts_days_from_the_referral_and_from_the_opening(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        self.given(session, world, date(2026, 2, 1), 0)  # on the third of March
        self.given(session, world, None, 1)

        [row] = read(admin, "time-to-first-dose")

        assert (row["courses"], row["referred"]) == (2, 1)
        assert (row["days_from_referral_p50"], row["days_from_referral_p90"]) == (30, 30)
        assert (row["days_from_opening_p50"], row["days_from_opening_p90"]) == (3, 4)

    def test_only_the_first_counts_and_only_in_its_own_period(
        self, admin: Caller, session: Session, world: World
    ) -> None:
        self.given(session, world, None, 0)

        rows = read(admin, "time-to-first-dose", "from=2026-03-01&to=2026-03-08&by=day")

        assert [row["period_from"] for row in rows] == ["2026-03-03"]

    def test_a_referral_is_given_with_the_course_and_is_not_to_come(
        self, desk: Caller, world: World
    ) -> None:
        new = {
            "patient_id": str(world.patient_id),
            "protocol_version_id": str(world.protocol_version_id),
        }
        late = desk.post("/courses", {**new, "referred_on": "2026-03-02"})
        assert (late.status_code, late.json["errors"][0]["pointer"]) == (422, "/referred_on")
        made = desk.post("/courses", {**new, "referred_on": "2026-03-01"})
        assert (made.status_code, made.json["referred_on"]) == (201, "2026-03-01")


class TestCsv:
    @pytest.mark.parametrize(
        ("query", "headers"), [("&format=csv", {}), ("", {"Accept": "text/csv"})]
    )
    def test_it_says_the_same(
        self,
        admin: Caller,
        session: Session,
        world: World,
        query: str,
        headers: dict[str, str],
    ) -> None:
        told = place(session, world)
        take(session, world, told, at("03-10", "09:00"))

        answer = admin.get(f"/reports/utilisation?{MARCH}{query}", **headers)

        assert answer.mimetype == "text/csv"
        assert "attachment" in answer.headers["Content-Disposition"]
        text_of_it = answer.get_data(as_text=True)
        assert text_of_it.endswith("\r\n")
        rows = list(csv.DictReader(io.StringIO(text_of_it, newline="")))
        told_in_json = read(admin, "utilisation")
        assert [
            {name: "" if value is None else str(value) for name, value in row.items()}
            for row in told_in_json
        ] == rows

    @pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\uff1d"])
    def test_a_name_is_never_a_formula(
        self, admin: Caller, session: Session, world: World, begin: str
    ) -> None:
        site_id, schedule_id = place(session, world)
        name = f'{begin}HYPERLINK("x", 1)'
        for model in (Site, Room):
            key = {"id": site_id} if model is Site else {"schedule_id": schedule_id}
            session.query(model).filter_by(**key).update({"name": name})
        session.execute(
            text("UPDATE schedule SET name = :name WHERE id = :id"),
            {"name": name, "id": schedule_id},
        )
        session.commit()

        answer = admin.get(f"/reports/utilisation?{MARCH}&site_id={site_id}&format=csv")

        told = io.StringIO(answer.get_data(as_text=True), newline="")
        [row] = csv.DictReader(told)
        assert (row["site"], row["name"]) == (f"'{name}", f"'{name}")


NAMES = (
    "utilisation",
    "no-shows",
    "integration-window",
    "deliveries",
    "readiness",
    "time-to-first-dose",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_queries_does_not_grow(
    session: Session, world: World, bound: Any, name: str
) -> None:
    """But by one for each version of a protocol that this process has not read yet."""
    asked = Asked(Period(date(2026, 3, 1), date(2026, 4, 1), By.DAY), None, MONDAY_9 + 30 * DAY)
    report = getattr(reports, name.replace("-", "_"))

    def count() -> int:
        with statements(session) as told:
            reports.lines(session, report, asked)
        return sum("FROM protocol_version" not in one for one in told)

    TestFirstDose().given(session, world, date(2026, 2, 1), 0)
    count()
    one = count()
    for number in (1, 2, 3):
        TestFirstDose().given(session, world, None, number)
    make_practitioner(session, world.site_id, PractitionerRole.MONITOR)
    session.commit()
    count()

    assert count() <= one <= 10


def test_nobody_is_named(admin: Caller, session: Session, world: World) -> None:
    TestFirstDose().given(session, world, date(2026, 2, 1), 0)
    for name in NAMES:
        told = admin.get(f"/reports/{name}?{MARCH}").get_data(as_text=True)
        for secret in ("Ada", "Example", "+12125550123", str(world.patient_id)):
            assert secret not in told


def test_a_clinic_counts_its_own_alone(admin: Caller, session: Session, world: World) -> None:
    other = make_world(session, "Another Practice")
    TestFirstDose().given(session, other, date(2026, 2, 1), 0)
    enter_clinic(session, world.clinic_id)
    session.commit()

    for name in NAMES[1:]:
        assert read(admin, name) == []
