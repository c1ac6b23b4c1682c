"""Calendars kept warm say what the database says, whoever wrote it, whenever it was committed."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from models import Appointment, Closure, OpeningHours, Slot, enter_clinic
from models.vocabulary import PractitionerRole, StepKind
from scheduler import booking, openings, warmth
from scheduler.authority import Authority, Call
from scheduler.booking import Order
from scheduler.errors import Refusal
from scheduler.openings import Search
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    make_patient,
    make_practitioner,
    make_room,
)

DESK = Authority("key:desk")
WINDOW = (SUNDAY_NOON, SUNDAY_NOON + 20 * DAY)


@pytest.fixture
def reader(service_engine: Engine, committed_world: World) -> Iterator[Session]:
    """A session that searches, as another process has it."""
    warmth.forget()
    with Session(service_engine) as session:
        enter_clinic(session, committed_world.clinic_id)
        yield session


def picture(around: warmth.Around) -> dict[str, object]:
    """Everything that a search would see."""
    calendar = around.calendar
    return {
        actor.name: (
            [calendar.open_at(actor, site.site_id) for site in around.sites],
            calendar.taken_on(actor),
            actor.licences,
        )
        for actor in calendar.roster.actors
    }


def assert_true(reader: Session) -> None:
    """What is kept warm is what a fresh look sees."""
    assert picture(warmth.around(reader, *WINDOW)) == picture(warmth.fresh(reader, *WINDOW))
    reader.rollback()


def book(session: Session, world: World, start: datetime) -> Appointment:
    order = Order(
        patient_id=make_patient(session)[0], starts_at=start, step_kind=StepKind.PREPARATION
    )
    return booking.book(session, order, by=DESK, now=SUNDAY_NOON)


def leave(world: World, start: datetime) -> Closure:
    return Closure(
        schedule_id=world.therapist, starts_at=start, ends_at=start + DAY, reason="leave"
    )


def test_a_booking_is_in_the_next_search_and_a_cancellation_too(
    reader: Session, committed: Session, committed_world: World
) -> None:
    search = Search(start=MONDAY_9, end=MONDAY_9 + DAY, step_kind=StepKind.PREPARATION)
    assert openings.find(reader, search, SUNDAY_NOON).openings[0].starts_at == MONDAY_9
    reader.rollback()

    visit = book(committed, committed_world, MONDAY_9)
    assert openings.find(reader, search, SUNDAY_NOON).openings[0].starts_at == MONDAY_9
    reader.rollback()
    committed.commit()
    first = openings.find(reader, search, SUNDAY_NOON).openings[0]
    assert first.starts_at == MONDAY_9 + timedelta(hours=1)
    reader.rollback()

    booking.cancel(committed, Call(visit.id, None), by=DESK, now=SUNDAY_NOON)
    committed.commit()
    assert openings.find(reader, search, SUNDAY_NOON).openings[0].starts_at == MONDAY_9


def test_a_transaction_that_began_early_and_ends_late_is_not_missed(
    reader: Session, committed: Session, committed_world: World, service_engine: Engine
) -> None:
    assert_true(reader)
    book(committed, committed_world, MONDAY_9)  # has its number, is not over
    with Session(service_engine) as other:
        enter_clinic(other, committed_world.clinic_id)
        other.add(leave(committed_world, MONDAY_9 + 2 * DAY))
        other.commit()
    assert_true(reader)
    assert_true(reader)

    committed.commit()
    assert_true(reader)
    assert reader.scalars(select(Slot.id).limit(1)).one_or_none() is not None


def test_what_a_transaction_wrote_itself_is_seen_by_it_and_kept_nowhere(
    reader: Session, committed: Session, committed_world: World
) -> None:
    search = Search(start=MONDAY_9, end=MONDAY_9 + DAY, step_kind=StepKind.PREPARATION)
    book(committed, committed_world, MONDAY_9)
    found = openings.find(committed, search, SUNDAY_NOON).openings
    assert found[0].starts_at == MONDAY_9 + timedelta(hours=1)
    committed.rollback()

    assert openings.find(reader, search, SUNDAY_NOON).openings[0].starts_at == MONDAY_9
    assert_true(reader)


class Days:
    """What may happen at a clinic, one thing after another."""

    def __init__(self, session: Session, world: World, seed: int) -> None:
        self.session, self.world, self.dice = session, world, random.Random(seed)
        self.visits: list[UUID] = []

    def happen(self) -> None:
        """One or two things, of any kind."""
        acts = [self.one_more_visit] * 4
        acts += [self.one_less, self.leave, self.back, self.hours, self.somebody_new]
        for _ in range(self.dice.randrange(1, 3)):
            self.dice.choice(acts)()
        self.session.flush()

    def one_more_visit(self) -> None:
        start = MONDAY_9 + self.dice.randrange(14) * DAY
        start += self.dice.randrange(8) * timedelta(hours=1)
        self.visits.append(book(self.session, self.world, start).id)

    def one_less(self) -> None:
        if self.visits:
            visit = self.visits.pop(self.dice.randrange(len(self.visits)))
            booking.cancel(self.session, Call(visit, None), by=DESK, now=SUNDAY_NOON)

    def leave(self) -> None:
        self.session.add(leave(self.world, MONDAY_9 + self.dice.randrange(14) * DAY))

    def back(self) -> None:
        if row := self.session.scalars(select(Closure).limit(1)).one_or_none():
            self.session.delete(row)

    def hours(self) -> None:
        row = self.session.scalars(select(OpeningHours).limit(1)).one()
        row.minutes = self.dice.choice([60, 240, 480])

    def somebody_new(self) -> None:
        make_practitioner(self.session, self.world.site_id, PractitionerRole.THERAPIST)
        make_room(self.session, self.world.site_id, "consulting")


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_in_whatever_order(
    reader: Session, committed: Session, committed_world: World, seed: int
) -> None:
    """Acts of every kind, committed or taken back; after each the calendars are compared."""
    days = Days(committed, committed_world, seed)
    assert_true(reader)
    for _ in range(25):
        known = list(days.visits)
        try:
            days.happen()
            keep = days.dice.random() < 0.75
        except Refusal:
            keep = False
        if keep:
            committed.commit()
        else:
            assert_true(reader)
            committed.rollback()
            days.visits = known
        assert_true(reader)
