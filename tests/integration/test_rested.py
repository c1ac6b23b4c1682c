"""A clearance that too long a time without a dose ends, asked before anything is booked."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from models import Appointment
from models.vocabulary import StepKind
from scheduler import booking, courses, openings, proposing
from scheduler.authority import Authority, Call
from scheduler.booking import Move, Order
from scheduler.errors import NotReady
from scheduler.openings import Search
from scheduler.unplanned import Wishes
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    clear,
    figure,
    make_default,
    make_protocol,
    protocol_content,
)

DESK = Authority("key:desk")


def restless(code: str, apart: int = 5) -> dict[str, Any]:
    """A protocol whose clearance ends ten days after a dose; its doses are so many days apart."""
    content = {**protocol_content(), "code": code, "caps": []}
    [clearance, *_] = content["visits"]["dosing"]["gates"]
    clearance["longest_gap"] = figure(10, "d")
    content["steps"][3]["after"][0]["least"] = figure(apart, "d")
    return content


@pytest.fixture
def dosed(session: Session, world: World) -> Appointment:
    """A first dose, on Monday the 2nd; the patient was cleared on the day before."""
    make_default(session, restless("restless"))
    clear(session, world.patient_id, ["medical-clearance", "consent"])
    return dose(session, world, MONDAY_9)


def dose(session: Session, world: World, at: datetime) -> Appointment:
    order = Order(patient_id=world.patient_id, starts_at=at, step_kind=StepKind.DOSING)
    return booking.book(session, order, by=DESK, now=SUNDAY_NOON)


def offered(session: Session, world: World) -> set[int]:
    """The days of March, from the 4th, on which a dose is offered."""
    search = Search(
        start=MONDAY_9 + 2 * DAY,
        end=MONDAY_9 + 19 * DAY,
        step_kind=StepKind.DOSING,
        patient_id=world.patient_id,
        limit=1000,
    )
    return {one.starts_at.day for one in openings.find(session, search, SUNDAY_NOON).openings}


def test_a_dose_too_long_after_the_last_one_is_neither_offered_nor_booked(
    session: Session, world: World, dosed: Appointment
) -> None:
    assert offered(session, world) == {4, 5, 6, 9, 10, 11, 12}  # the 12th at nine is ten days
    with pytest.raises(NotReady) as refused:
        dose(session, world, MONDAY_9 + 11 * DAY)
    gates: Any = refused.value.facts["gates"]
    [gate] = gates
    assert (gate["code"], gate["state"]) == ("medical-clearance", "expired")
    assert gate["detail"] == "More than 10 days since the last dose."

    dose(session, world, MONDAY_9 + 7 * DAY)

    assert offered(session, world) == {4, 5, 6, 11, 12, 13, 16, 17, 18, 19}


def test_a_dose_that_moves_is_not_held_against_itself(
    session: Session, world: World, dosed: Appointment
) -> None:
    later = Move(starts_at=MONDAY_9 + 14 * DAY)

    moved = booking.reschedule(session, Call(dosed.id, 1), later, by=DESK, now=SUNDAY_NOON)

    assert moved.appointment.starts_at == later.starts_at


@pytest.mark.usefixtures("dosed")
class TestPlanned:
    def _find(self, session: Session, world: World, apart: int) -> proposing.Found:
        version: UUID = make_protocol(session, restless("planned", apart))
        course = courses.open_course(session, world.patient_id, version, by=DESK)
        wishes = Wishes(earliest=MONDAY_9 + 4 * DAY)
        return proposing.find(session, course.id, wishes, SUNDAY_NOON)

    def test_doses_of_the_plan_are_doses(self, session: Session, world: World) -> None:
        found = self._find(session, world, 5)

        assert found.ways
        for way in found.ways:
            last = MONDAY_9
            for one in way.visits:
                if one.step.visit.kind is StepKind.DOSING:
                    assert one.starts_at - last <= 10 * DAY
                    last = one.starts_at
            assert last > MONDAY_9 + 10 * DAY  # too late, but for the dose before it

    def test_doses_of_the_plan_too_far_apart_make_none(
        self, session: Session, world: World
    ) -> None:
        found = self._find(session, world, 12)

        assert not found.ways
        assert found.why is not None
        assert found.why.step == "dosing-2"
