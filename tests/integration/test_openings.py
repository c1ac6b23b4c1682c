"""Openings against a real PostgreSQL: what is offered can be booked, and nothing is left out."""

from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Closure, CourseStep
from models.vocabulary import StepKind
from scheduler import booking, courses, openings
from scheduler.actors import Opening
from scheduler.authority import Authority
from scheduler.booking import Order
from scheduler.errors import Refusal
from scheduler.openings import Search
from scheduler.placing import Named
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, ZONE, World, clear, make_patient

DESK = Authority("key:desk")
NEW_YORK = ZoneInfo(ZONE)


def search(world: World, kind: StepKind = StepKind.PREPARATION, days: int = 1) -> Search:
    return Search(start=MONDAY_9 - DAY / 2, end=MONDAY_9 + days * DAY, step_kind=kind, limit=200)


def test_offers_every_quarter_of_an_hour_that_fits_into_the_day(
    session: Session, world: World
) -> None:
    found = openings.find(session, search(world), SUNDAY_NOON)

    walls = [opening.starts_at.astimezone(NEW_YORK) for opening in found.openings]
    assert walls[0] == datetime(2026, 3, 2, 9, 0, tzinfo=NEW_YORK)
    assert walls[28] == datetime(2026, 3, 2, 16, 0, tzinfo=NEW_YORK)  # the last that ends by 17:00
    assert {wall.minute for wall in walls} == {0, 15, 30, 45}


def test_what_is_offered_can_be_booked_and_what_is_not_cannot(
    session: Session, world: World
) -> None:
    stranger, _ = make_patient(session)
    for patient in (stranger, world.patient_id):
        clear(session, patient, ["medical-clearance", "consent"])
    first = openings.find(session, search(world, StepKind.DOSING), SUNDAY_NOON).openings[3]
    _book(session, stranger, StepKind.DOSING, first)

    offered = openings.find(session, search(world, StepKind.PREPARATION), SUNDAY_NOON).openings
    starts = {opening.starts_at: opening for opening in offered}
    start = MONDAY_9 - DAY / 2
    start = start.replace(minute=0)
    tried = 0
    while start < MONDAY_9 + DAY:
        attempt = session.begin_nested()
        if start in starts:
            _book(session, world.patient_id, StepKind.PREPARATION, starts[start])
            tried += 1
        else:
            with pytest.raises(Refusal):
                booking.book(
                    session,
                    Order(
                        patient_id=world.patient_id,
                        starts_at=start,
                        step_kind=StepKind.PREPARATION,
                    ),
                    by=DESK,
                    now=SUNDAY_NOON,
                )
        attempt.rollback()
        start += timedelta(minutes=15)
    assert tried == len(offered) > 10


def test_leave_takes_openings_away_and_an_empty_answer_says_who_is_missing(
    session: Session, world: World
) -> None:
    session.add(
        Closure(
            schedule_id=world.therapist,
            starts_at=MONDAY_9 - DAY,
            ends_at=datetime(2026, 3, 4, 5, 0, tzinfo=UTC),
            reason="leave",
        )
    )
    session.flush()

    found = openings.find(session, search(world), SUNDAY_NOON)

    assert found.openings == []
    assert found.shut_by[0].code == "therapist"
    assert found.shut_by[0].detail == "No therapist is free at any time of the window."
    [later] = found.alternatives
    assert later.change == "later"
    assert later.opening.starts_at == MONDAY_9 + 2 * DAY


def test_pages_go_on_where_the_last_one_ended(session: Session, world: World) -> None:
    whole = openings.find(session, search(world), SUNDAY_NOON).openings
    collected: list[Opening] = []
    after = None
    while True:
        page = openings.find(
            session,
            Search(
                start=MONDAY_9 - DAY / 2,
                end=MONDAY_9 + DAY,
                step_kind=StepKind.PREPARATION,
                limit=7,
                after=after,
            ),
            SUNDAY_NOON,
        )
        collected += page.openings
        if not page.more:
            break
        after = (page.openings[-1].starts_at, page.openings[-1].site.site_id)
    assert [one.starts_at for one in collected] == [one.starts_at for one in whole]


def test_of_a_courses_step_only_times_that_keep_its_rules_are_offered(
    session: Session, world: World
) -> None:
    course = courses.open_course(session, world.patient_id, world.protocol_version_id, by=DESK)
    steps = session.scalars(select(CourseStep).where(CourseStep.course_id == course.id))
    step = {one.key: one.id for one in steps}
    clear(session, world.patient_id, ["medical-clearance", "consent"])
    week = {"start": MONDAY_9, "end": MONDAY_9 + 14 * DAY, "limit": 200}
    wanted = Search(**week, course_step_id=step["dosing-1"])  # type: ignore[arg-type]
    assert openings.find(session, wanted, SUNDAY_NOON).openings == []  # preparation comes first

    first = Order(
        patient_id=world.patient_id, starts_at=MONDAY_9, course_step_id=step["preparation"]
    )
    booking.book(session, first, by=DESK, now=SUNDAY_NOON)

    offered = openings.find(session, wanted, SUNDAY_NOON).openings
    days = {opening.starts_at.astimezone(NEW_YORK).day for opening in offered}
    assert min(days) == 3  # a day after the preparation
    for opening in (offered[0], offered[-1]):
        attempt = session.begin_nested()
        order = Order(
            patient_id=world.patient_id,
            starts_at=opening.starts_at,
            course_step_id=step["dosing-1"],
        )
        booking.book(session, order, by=DESK, now=SUNDAY_NOON)
        attempt.rollback()


def _book(session: Session, patient_id: UUID, kind: StepKind, opening: Opening) -> None:
    booking.book(
        session,
        Order(
            patient_id=patient_id,
            starts_at=opening.starts_at,
            step_kind=kind,
            assignments=tuple(Named(a.role, a.actor.schedule_id) for a in opening.assignments),
        ),
        by=DESK,
        now=SUNDAY_NOON,
    )
