"""What was asked at the booking is asked again on the day, and shown before it comes."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models import Override, Task
from models.vocabulary import PractitionerRole, Role, TaskKind, TaskStatus
from scheduler import booking, courses, facts, notices, sessions
from scheduler.authority import Authority, Call
from scheduler.booking import Move, Order
from scheduler.permissions import BUNDLES
from scheduler.placing import Named
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    make_practitioner,
    make_protocol,
    protocol_content,
)
from tests.integration.conftest import Caller, Clock

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
FIRST, SECOND = MONDAY_9 + 4 * HOUR, MONDAY_9 + 2 * DAY + 4 * HOUR
FRIDAY = date(2026, 2, 27)
BOARD = "/readiness?from=2026-03-02T00:00:00Z&to=2026-03-20T00:00:00Z"


def content(**more: Any) -> dict[str, Any]:
    """Two doses without a gate, 48 hours apart at least."""
    told = protocol_content() | {"code": "test-again"} | more
    told["visits"]["dosing"].update(gates=[], checklist=[])
    told["steps"] = [{"key": f"dosing-{n}", "visit": "dosing"} for n in (1, 2)]
    return told


def book_all(session: Session, world: World, told: dict[str, Any], *times: Any) -> list[UUID]:
    version_id = make_protocol(session, told)
    course = courses.open_course(session, world.patient_id, version_id, by=DESK)
    made = [
        booking.book(
            session,
            Order(patient_id=world.patient_id, starts_at=at, course_step_id=step.id),
            by=DESK,
            now=SUNDAY_NOON,
        ).id
        for step, at in zip(facts.steps_of(session, course.id), times, strict=True)
    ]
    session.commit()
    return made


@pytest.fixture
def two(session: Session, world: World, clock: Clock, bound: Any) -> list[UUID]:
    return book_all(session, world, content(), FIRST, SECOND)


def go(caller: Caller, visit_id: UUID, *acts: str) -> Any:
    """Do one after the other; the answer to the last, or to the first that is refused."""
    path = f"/appointments/{visit_id}"
    answer = None
    for act in acts:
        answer = caller.post(f"{path}/{act}", etag=caller.get(path).headers["ETag"])
        if answer.status_code != 200:
            break
    return answer


def problem(answer: Any) -> str:
    assert answer.status_code >= 400, answer.json
    return str(answer.json["type"]).removeprefix("/problems/")


def end_licences(session: Session, day: date, *roles: str) -> None:
    session.execute(
        text("UPDATE qualification SET valid_until = :day WHERE role = ANY(:roles)"),
        {"day": day, "roles": list(roles)},
    )
    session.commit()


def row_of(desk: Caller, visit_id: UUID) -> dict[str, Any]:
    """The visit on the board, which says the same as the visit alone."""
    rows = {row["appointment"]["id"]: row for row in desk.get(BOARD).json["items"]}
    row: dict[str, Any] = rows[str(visit_id)]
    assert row["readiness"] == desk.get(f"/appointments/{visit_id}/readiness").json
    return row


def open_tasks(session: Session) -> dict[TaskKind, Task]:
    query = select(Task).where(Task.status == TaskStatus.REQUESTED)
    return {one.kind: one for one in session.scalars(query.execution_options(populate_existing=1))}


class TestTheDay:
    @pytest.mark.parametrize(
        ("later", "expected"),
        [
            (10 * HOUR + 59 * MINUTE, None),  # 23:59 of its day
            (11 * HOUR, "too-late"),
            (10 * DAY, "too-late"),
        ],
    )
    def test_nobody_arrives_after_the_day_of_the_visit(
        self, desk: Caller, two: list[UUID], clock: Clock, later: timedelta, expected: str | None
    ) -> None:
        clock.now = FIRST + later
        answer = go(desk, two[0], "arrive")
        assert (None if answer.status_code == 200 else problem(answer)) == expected

    def test_who_came_and_stayed_is_dosed_by_whose_licence_holds_today(
        self, session: Session, doctor: Caller, two: list[UUID], clock: Clock
    ) -> None:
        clock.now = FIRST
        assert go(doctor, two[0], "arrive").status_code == 200
        end_licences(session, date(2026, 3, 2), "monitor")
        clock.now = FIRST + 24 * HOUR
        refused = go(doctor, two[0], "start-dosing")
        assert (problem(refused), refused.json["roles"]) == ("not-qualified", ["monitor"])

    def test_nor_without_who_stands_by_today(
        self, session: Session, doctor: Caller, two: list[UUID], clock: Clock
    ) -> None:
        clock.now = FIRST
        assert go(doctor, two[0], "arrive").status_code == 200
        clock.now = FIRST + 11 * HOUR  # midnight: nobody works then
        assert problem(go(doctor, two[0], "start-dosing")) == "not-open"


class TestGaps:
    @pytest.mark.parametrize(("minutes", "is_given"), [(-1, False), (0, True)])
    def test_a_gap_counts_from_when_the_dose_was_given(
        self, doctor: Caller, two: list[UUID], clock: Clock, minutes: int, is_given: bool
    ) -> None:
        """The first began at its time, and its dose half an hour later."""
        self._dose(doctor, two[0], clock, FIRST)
        clock.now = SECOND
        refused = go(doctor, two[1], "arrive")
        assert (problem(refused), refused.json["rules"][0]["code"]) == (
            "rule-broken",
            "between-doses",
        )
        clock.now = SECOND + (30 + minutes) * MINUTE
        assert (go(doctor, two[1], "arrive", "start-dosing").status_code == 200) is is_given

    def test_nobody_passes_over_it_where_nobody_may(
        self, doctor: Caller, two: list[UUID], clock: Clock
    ) -> None:
        self._dose(doctor, two[0], clock, FIRST)
        clock.now = SECOND
        assert problem(self._reason(doctor, two[1])) == "may-not-override"

    def test_who_may_passes_over_it_with_a_reason(
        self, session: Session, world: World, desk: Caller, doctor: Caller, clock: Clock, bound: Any
    ) -> None:
        told = content()
        told["gaps"][0]["lift"] = ["prescriber"]
        first, second = book_all(session, world, told, FIRST, SECOND)
        self._dose(doctor, first, clock, FIRST)
        clock.now = SECOND

        assert problem(go(doctor, second, "arrive")) == "rule-broken"
        assert problem(self._reason(desk, second)) in {"forbidden", "may-not-override"}
        assert self._reason(doctor, second).status_code == 201
        assert go(doctor, second, "arrive", "start-dosing").status_code == 200
        assert session.scalars(select(Override.code)).all() == ["between-doses"]

    def test_a_cap_counts_doses_that_were_given(
        self, session: Session, world: World, doctor: Caller, clock: Clock, bound: Any
    ) -> None:
        """Not those that are booked: the second is a day late, and too many by now."""
        told = content(gaps=[])
        told["caps"][0]["most"]["value"] = 1
        told["caps"][0]["within"] = {"value": 3, "unit": "d", "source": ["T"]}
        first, second = book_all(session, world, told, FIRST, MONDAY_9 + 3 * DAY)
        self._dose(doctor, first, clock, FIRST)
        session.execute(  # put down a day late
            text("UPDATE appointment SET starts_at = starts_at - interval '1 day' WHERE id = :id"),
            {"id": second},
        )
        session.commit()
        clock.now = MONDAY_9 + 2 * DAY
        assert go(doctor, second, "arrive").json["rules"][0]["code"] == "weekly-doses"

    def test_a_dose_that_never_was_counts_for_nothing(
        self, session: Session, doctor: Caller, two: list[UUID], clock: Clock
    ) -> None:
        self._dose(doctor, two[0], clock, FIRST)
        sessions.correct(
            session,
            Call(two[0], None, "of another patient"),
            by=Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"})),
            now=clock.now,
        )
        session.commit()
        clock.now = SECOND
        assert go(doctor, two[1], "arrive", "start-dosing").status_code == 200

    def _dose(self, doctor: Caller, visit_id: UUID, clock: Clock, at: Any) -> None:
        clock.now = at
        assert go(doctor, visit_id, "arrive").status_code == 200
        clock.now = at + 30 * MINUTE
        acts = ("start-dosing", "start-recovery", "discharge", "fulfil")
        assert go(doctor, visit_id, *acts).status_code == 200

    def _reason(self, caller: Caller, visit_id: UUID) -> Any:
        told = {"code": "between-doses", "reason": "nearly two days"}
        return caller.post(f"/appointments/{visit_id}/overrides", told)


class TestAge:
    @pytest.mark.parametrize(
        ("born", "is_old_enough"), [("2008-03-02", True), ("2008-03-03", False)]
    )
    def test_an_age_that_was_put_right_counts_from_then_on(
        self,
        session: Session,
        desk: Caller,
        doctor: Caller,
        world: World,
        two: list[UUID],
        clock: Clock,
        born: str,
        is_old_enough: bool,
    ) -> None:
        clock.now = FIRST - 2 * HOUR
        self._born(desk, world, born)
        row = row_of(desk, two[0])
        assert row["missing"] == ([] if is_old_enough else ["minimum-age"])
        assert row["readiness"]["ready"] is is_old_enough
        assert row["urgency"] == ("none" if is_old_enough else "soon")
        task = open_tasks(session).get(TaskKind.SETTLE_ANEW)
        assert (task is None) is is_old_enough
        assert task is None or task.note == "minimum-age"

        clock.now = FIRST
        answer = go(doctor, two[0], "arrive")
        if is_old_enough:
            assert answer.status_code == 200
        else:
            assert problem(answer) == "too-young"

    def test_it_is_asked_before_the_dose(
        self, desk: Caller, doctor: Caller, world: World, two: list[UUID], clock: Clock
    ) -> None:
        clock.now = FIRST
        assert go(doctor, two[0], "arrive").status_code == 200
        self._born(desk, world, "2012-01-01")
        assert problem(go(doctor, two[0], "start-dosing")) == "too-young"
        told = {"code": "minimum-age", "reason": "nearly"}
        assert problem(doctor.post(f"/appointments/{two[0]}/overrides", told)) == "not-ready"

    def _born(self, desk: Caller, world: World, day: str) -> None:
        path = f"/patients/{world.patient_id}"
        etag = desk.get(path).headers["ETag"]
        assert desk("PATCH", path, {"birth_date": day}, etag=etag).status_code == 200


class TestState:
    @pytest.fixture
    def by_video(self, session: Session, world: World, clock: Clock, bound: Any) -> UUID:
        told = content() | {"steps": [{"key": "talk", "visit": "preparation"}]}
        visit = told["visits"]["preparation"]
        visit.update(place="telehealth", phases=visit["phases"][:1], checklist=[])
        session.execute(text("UPDATE qualification SET regions = '{US-NY}'"))
        session.execute(text("UPDATE patient SET region = 'US-NY'"))
        [visit_id] = book_all(session, world, told, FIRST)
        return visit_id

    @pytest.mark.parametrize(
        ("region", "is_licensed"), [("US-NY", True), ("US-NJ", False), (None, False)]
    )
    def test_the_state_where_the_patient_is_now_counts(
        self,
        session: Session,
        desk: Caller,
        world: World,
        by_video: UUID,
        clock: Clock,
        region: str | None,
        is_licensed: bool,
    ) -> None:
        path = f"/patients/{world.patient_id}"
        etag = desk.get(path).headers["ETag"]
        assert desk("PATCH", path, {"region": region}, etag=etag).status_code == 200
        assert row_of(desk, by_video)["missing"] == ([] if is_licensed else ["credentials"])
        assert (TaskKind.SETTLE_ANEW in open_tasks(session)) is not is_licensed

        clock.now = FIRST
        answer = go(desk, by_video, "arrive")
        assert (answer.status_code == 200) is is_licensed
        assert is_licensed or problem(answer) == "not-qualified"


class TestLicences:
    def test_a_licence_that_is_ended_early_is_seen_to_at_once(
        self, session: Session, admin: Caller, desk: Caller, world: World, two: list[UUID]
    ) -> None:
        self._ends(admin, world, FRIDAY.isoformat())

        row = row_of(desk, two[0])
        assert (row["missing"], row["readiness"]["ready"]) == (["credentials"], False)
        [gate] = row["readiness"]["gates"]
        assert (gate["state"], gate["shuts"], gate["who"]) == ("failed", "arrival", ["admin"])
        assert gate["detail"] == "No licence that holds on the day: therapist."
        task = open_tasks(session)[TaskKind.RENEW_CREDENTIAL]
        assert task.note == "Visits ahead that nobody may begin: 2, the first on 2026-03-02."
        assert task.urgent

        self._ends(admin, world, "2030-12-31")
        assert row_of(desk, two[0])["missing"] == []
        assert TaskKind.RENEW_CREDENTIAL not in open_tasks(session)

    def test_one_that_ends_after_the_visits_leaves_none(
        self, session: Session, admin: Caller, world: World, two: list[UUID]
    ) -> None:
        self._ends(admin, world, "2026-04-20")
        assert not open_tasks(session)

    def test_the_clock_finds_one_that_ended_and_ends_the_task(
        self, session: Session, world: World, two: list[UUID]
    ) -> None:
        end_licences(session, FRIDAY, "therapist")
        notices.warn_of_credentials(session, SUNDAY_NOON)
        assert open_tasks(session)[TaskKind.RENEW_CREDENTIAL].urgent

        for visit_id in two:
            booking.cancel(session, Call(visit_id, None), by=DESK, now=SUNDAY_NOON)
        notices.warn_of_credentials(session, SUNDAY_NOON)
        assert not open_tasks(session)

    def test_given_to_somebody_else_it_is_ready(
        self, session: Session, desk: Caller, world: World, two: list[UUID]
    ) -> None:
        end_licences(session, FRIDAY, "therapist")
        assert row_of(desk, two[0])["missing"] == ["credentials"]
        _, other = make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
        named = (
            Named("therapist", other),
            Named("prescriber", world.prescriber),
            Named("monitor", world.monitor),
            Named("room", world.dosing_room),
            Named("device", world.device),
        )
        move = Move(starts_at=FIRST, assignments=named)
        booking.reschedule(session, Call(two[0], None), move, by=DESK, now=SUNDAY_NOON)
        session.commit()
        assert row_of(desk, two[0])["missing"] == []

    def test_what_took_place_is_judged_by_its_day(
        self, session: Session, desk: Caller, doctor: Caller, two: list[UUID], clock: Clock
    ) -> None:
        clock.now = FIRST
        acts = ("arrive", "start-dosing", "start-recovery", "discharge", "fulfil")
        assert go(doctor, two[0], *acts).status_code == 200
        end_licences(session, date(2026, 3, 2), "therapist")
        clock.now = FIRST + 30 * DAY
        assert desk.get(f"/appointments/{two[0]}/readiness").json["gates"] == []

    def _ends(self, admin: Caller, world: World, day: str) -> None:
        path = f"/practitioners/{world.therapist_id}/qualifications"
        [licence] = admin.get(path).json["items"]
        answer = admin(
            "PATCH", f"{path}/{licence['id']}", {"valid_until": day}, etag=licence["etag"]
        )
        assert answer.status_code == 200, answer.json
