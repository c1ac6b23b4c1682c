"""Openings against a real PostgreSQL: what is offered can be booked, and nothing is left out."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Closure, CourseStep, Slot
from models.vocabulary import PractitionerRole, StepKind
from scheduler import booking, courses, openings
from scheduler.actors import Opening
from scheduler.authority import Authority, Reasons
from scheduler.availability import Hours
from scheduler.booking import Order
from scheduler.errors import NotQualified, Refusal, RuleBroken, Unfit
from scheduler.openings import Search
from scheduler.placing import Named
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    ZONE,
    World,
    clear,
    figure,
    make_default,
    make_patient,
    make_practitioner,
    make_site,
    protocol_content,
)

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


def by_video() -> dict[str, Any]:
    """A protocol whose preparations are held by video."""
    content = protocol_content()
    visit = content["visits"]["preparation"]
    visit["place"] = "telehealth"
    visit["phases"] = [phase for phase in visit["phases"] if "role" in phase]
    return content


class TestByVideo:
    """Only those serve who are licensed where the patient is."""

    @pytest.fixture
    def jersey(self, session: Session, world: World) -> UUID:
        """The schedule of a therapist who is licensed in New Jersey, and nobody else is."""
        make_default(session, by_video())
        _, schedule_id = make_practitioner(
            session, world.site_id, PractitionerRole.THERAPIST, regions=["US-NJ"]
        )
        return schedule_id

    def _wanted(self, world: World, patient_id: UUID) -> Search:
        return replace(search(world), patient_id=patient_id)

    def test_is_offered_and_booked_with_somebody_licensed_in_the_patients_state(
        self, session: Session, world: World, jersey: UUID
    ) -> None:
        patient_id, _ = make_patient(session, region="US-NJ")
        found = openings.find(session, self._wanted(world, patient_id), SUNDAY_NOON).openings
        assert {a.actor.schedule_id for one in found for a in one.assignments} == {jersey}
        _book(session, patient_id, StepKind.PREPARATION, found[0])

        order = Order(
            patient_id=patient_id, starts_at=found[8].starts_at, step_kind=StepKind.PREPARATION
        )
        here = replace(order, assignments=(Named("therapist", world.therapist),))
        with pytest.raises(NotQualified, match="in US-NJ, where the patient is"):
            booking.book(session, here, by=DESK, now=SUNDAY_NOON)
        booking.book(session, order, by=DESK, now=SUNDAY_NOON)
        taken = set(session.scalars(select(Slot.schedule_id).where(Slot.role == "therapist")))
        assert taken == {jersey}

    def test_in_a_state_where_nobody_is_licensed_the_answer_says_so(
        self, session: Session, world: World, jersey: UUID
    ) -> None:
        patient_id, _ = make_patient(session, region="US-TX")
        found = openings.find(session, self._wanted(world, patient_id), SUNDAY_NOON)
        assert found.openings == []
        assert found.shut_by[0].code == "therapist"
        assert "licensed in US-TX" in found.shut_by[0].detail

    def test_of_a_patient_in_no_known_state_the_state_is_asked_for(
        self, session: Session, world: World, jersey: UUID
    ) -> None:
        with pytest.raises(Unfit) as refused:
            openings.find(session, self._wanted(world, world.patient_id), SUNDAY_NOON)
        assert refused.value.facts["field"] == "region"
        assert openings.find(session, search(world), SUNDAY_NOON).openings  # whoever it is for


def test_times_within_the_notice_are_shown_if_asked_for_and_marked(
    session: Session, world: World
) -> None:
    content = protocol_content()
    content["visits"]["preparation"]["notice"] = figure(24, "h")
    make_default(session, content)
    now = MONDAY_9 - timedelta(hours=20)  # the notice ends on Monday at 13:00

    plain = openings.find(session, search(world), now).openings
    assert plain[0].starts_at == MONDAY_9 + timedelta(hours=4)
    assert not any(one.by_phone for one in plain)

    whole = openings.find(session, replace(search(world), within_notice=True), now).openings
    near = [one.starts_at for one in whole if one.by_phone]
    assert near == [MONDAY_9 + n * timedelta(minutes=15) for n in range(16)]
    assert whole[len(near) :] == plain

    order = Order(patient_id=world.patient_id, starts_at=near[0], step_kind=StepKind.PREPARATION)
    with pytest.raises(RuleBroken):
        booking.book(session, order, by=DESK, now=now)
    reasons = Reasons({"short-notice": "asked for by phone"})
    booking.book(session, replace(order, reasons=reasons), by=DESK, now=now)


def test_an_empty_answer_offers_what_is_near(session: Session, world: World) -> None:
    content = protocol_content()
    content["visits"]["preparation"]["notice"] = figure(24, "h")
    make_default(session, content)
    other, schedule_id = make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
    elsewhere = make_site(session)
    away = Closure(
        schedule_id=schedule_id, starts_at=MONDAY_9 - DAY, ends_at=MONDAY_9 + DAY, reason="leave"
    )
    session.add(away)
    session.flush()
    day = Search(
        start=MONDAY_9,
        end=MONDAY_9 + timedelta(hours=8),
        step_kind=StepKind.PREPARATION,
        practitioner_id=other,
        hours=Hours(begin=time(12), end=time(13)),
    )

    def near(search: Search, now: datetime = SUNDAY_NOON - 7 * DAY) -> set[str]:
        found = openings.find(session, search, now)
        assert not found.openings
        assert found.shut_by
        return {one.change for one in found.alternatives}

    assert near(day) == {"practitioner", "earlier", "later"}
    here = replace(day, practitioner_id=None, site_id=elsewhere)
    assert near(here) == {"site"}
    night = replace(day, practitioner_id=None, hours=Hours(begin=time(20)))
    assert near(night) == {"hours"}
    soon = replace(day, practitioner_id=None)
    assert near(soon, MONDAY_9 - timedelta(hours=2)) == {"notice", "later"}


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
