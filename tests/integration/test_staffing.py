"""Who must be there on the day, with a licence: at the booking, at the door, before the dose."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import Appointment
from models.vocabulary import PractitionerRole, Role, StepKind
from scheduler import booking, sessions
from scheduler.authority import Authority, Call
from scheduler.booking import Order
from scheduler.errors import NoOpening, NotOpen, NotQualified, Refusal
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from scheduler.placing import Named
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    make_default,
    make_practitioner,
)

CONTENT = Path(__file__).parents[2] / "demo/protocols/esketamine.json"
DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
MONDAY = date(2026, 3, 2)
LENGTH = 150
"""Of the session, in minutes: a monitor serves it, a prescriber is on site throughout."""

BEGINS = [(MONDAY - DAY, True), (MONDAY, True), (MONDAY + DAY, False)]
ENDS = [(MONDAY - DAY, False), (MONDAY, True), (MONDAY + DAY, True)]


@pytest.fixture(autouse=True)
def served(session: Session, world: World) -> None:
    """The clinic gives what is asked of its staff as by the REMS, and of gates nothing."""
    content: dict[str, Any] = json.loads(CONTENT.read_text())
    content["visits"]["session"].update(gates=[], checklist=[])
    make_default(session, content)


def order(world: World, *, named: bool = False) -> Order:
    people = (
        Named("monitor", world.monitor),
        Named("room", world.dosing_room),
        Named("device", world.device),
    )
    return Order(
        patient_id=world.patient_id,
        starts_at=MONDAY_9,
        step_kind=StepKind.DOSING,
        assignments=people if named else None,
    )


def book(session: Session, order: Order) -> Appointment:
    return booking.book(session, order, by=DESK, now=SUNDAY_NOON)


def licensed(session: Session, role: str, **days: date) -> None:
    for column, day in days.items():
        session.execute(
            text(f"UPDATE qualification SET {column} = :day WHERE role = :role"),
            {"day": day, "role": role},
        )


def works(session: Session, schedule_id: Any, minutes: int) -> None:
    """Somebody works on weekdays from 9 for so long."""
    session.execute(
        text("UPDATE opening_hours SET minutes = :minutes WHERE schedule_id = :id"),
        {"minutes": minutes, "id": schedule_id},
    )


def go(session: Session, visit: Appointment, *actions: Action) -> None:
    for action in actions:
        call = Call(visit.id, None)
        sessions.act(session, call, action, by=DESK, now=MONDAY_9)


def refused(is_in_time: bool, session: Session, wish: Order, refusal: type[Refusal]) -> None:
    if is_in_time:
        assert book(session, wish).starts_at == MONDAY_9
        return
    with pytest.raises(refusal):
        book(session, wish)


@pytest.mark.parametrize("role", ["monitor", "prescriber"])
@pytest.mark.parametrize("named", [False, True])
class TestBooking:
    @pytest.mark.parametrize(("day", "is_in_time"), BEGINS)
    def test_a_licence_has_begun_on_the_day(
        self, session: Session, world: World, role: str, named: bool, day: date, is_in_time: bool
    ) -> None:
        licensed(session, role, valid_from=day)
        refused(is_in_time, session, order(world, named=named), refusal_of(role, named))

    @pytest.mark.parametrize(("day", "is_in_time"), ENDS)
    def test_a_licence_holds_through_its_last_day(
        self, session: Session, world: World, role: str, named: bool, day: date, is_in_time: bool
    ) -> None:
        licensed(session, role, valid_until=day)
        refused(is_in_time, session, order(world, named=named), refusal_of(role, named))


def refusal_of(role: str, named: bool) -> type[Refusal]:
    if not named:
        return NoOpening
    return NotQualified if role == "monitor" else NotOpen


@pytest.mark.parametrize(("minutes", "is_there"), [(LENGTH - 5, False), (LENGTH, True)])
def test_somebody_is_there_to_the_end(
    session: Session, world: World, minutes: int, is_there: bool
) -> None:
    works(session, world.prescriber, minutes)
    refused(is_there, session, order(world), NoOpening)


@pytest.mark.parametrize("role", ["monitor", "prescriber"])
@pytest.mark.parametrize(
    ("before", "last"), [((), Action.ARRIVE), ((Action.ARRIVE,), Action.START_DOSING)]
)
class TestOnTheDay:
    @pytest.mark.parametrize(("day", "is_in_time"), ENDS)
    def test_a_licence_that_ended_meanwhile_stops_it(
        self,
        session: Session,
        world: World,
        role: str,
        before: tuple[Action, ...],
        last: Action,
        day: date,
        is_in_time: bool,
    ) -> None:
        visit = book(session, order(world))
        go(session, visit, *before)
        licensed(session, role, valid_until=day)
        if is_in_time:
            go(session, visit, last)
            return
        with pytest.raises(NotQualified if role == "monitor" else NotOpen) as stopped:
            go(session, visit, last)
        assert stopped.value.facts["roles"] == [role]

    def test_somebody_else_with_a_licence_will_do(
        self, session: Session, world: World, role: str, before: tuple[Action, ...], last: Action
    ) -> None:
        visit = book(session, order(world))
        go(session, visit, *before)
        licensed(session, role, valid_until=MONDAY - DAY)
        make_practitioner(session, world.site_id, PractitionerRole(role))
        if role == "prescriber":  # who is only on site may be anybody
            go(session, visit, last)
            return
        with pytest.raises(NotQualified):
            go(session, visit, last)


@pytest.mark.parametrize(("minutes", "is_there"), [(LENGTH - 5, False), (LENGTH, True)])
def test_who_has_gone_home_is_not_on_site(
    session: Session, world: World, minutes: int, is_there: bool
) -> None:
    visit = book(session, order(world))
    works(session, world.prescriber, minutes)
    if is_there:
        go(session, visit, Action.ARRIVE, Action.START_DOSING)
        return
    with pytest.raises(NotOpen):
        go(session, visit, Action.ARRIVE)
