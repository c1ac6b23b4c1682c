"""A course that only doses stands out, until something else takes place in it."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Appointment, Task
from models.vocabulary import Role, StepKind, TaskKind, TaskStatus
from scheduler import booking, courses, facts, sessions
from scheduler.authority import Authority, Call
from scheduler.booking import Order
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    figure,
    make_protocol,
    protocol_content,
)
from tests.integration.conftest import Caller

DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
DAY_OF_DOSING = (
    Action.ARRIVE,
    Action.START_DOSING,
    Action.START_RECOVERY,
    Action.DISCHARGE,
    Action.FULFIL,
)


@pytest.fixture
def booked(session: Session, world: World) -> list[Appointment]:
    """Two doses, then a talk, in a course whose protocol flags two doses in a row."""
    content = protocol_content() | {"code": "test-alone", "doses_alone": figure(2, "visits")}
    content["visits"]["dosing"] |= {"gates": [], "checklist": []}
    content["caps"], content["gaps"] = [], []
    content["steps"] = [
        {"key": f"step-{n}", "visit": visit}
        for n, visit in enumerate(("dosing", "dosing", "integration"))
    ]
    course = courses.open_course(
        session, world.patient_id, make_protocol(session, content), by=DOCTOR
    )
    return [
        booking.book(
            session,
            Order(
                patient_id=world.patient_id,
                starts_at=MONDAY_9 + number * DAY,
                course_step_id=step.id,
            ),
            by=DOCTOR,
            now=SUNDAY_NOON,
        )
        for number, step in enumerate(facts.steps_of(session, course.id))
    ]


def take_place(session: Session, visit: Appointment) -> None:
    acts = DAY_OF_DOSING if visit.kind is StepKind.DOSING else (Action.ARRIVE, Action.FULFIL)
    for action in acts:
        sessions.act(session, Call(visit.id, None), action, by=DOCTOR, now=visit.starts_at)
    session.commit()


def task(session: Session) -> TaskStatus | None:
    return session.scalar(select(Task.status).where(Task.kind == TaskKind.ONLY_DOSES))


def flags(desk: Caller, visit: Appointment) -> list[Any]:
    return [one["code"] for one in desk.get(f"/courses/{visit.course_id}").json["flags"]]


def test_it_stands_out_until_something_else_takes_place(
    session: Session, desk: Caller, booked: list[Appointment]
) -> None:
    first, second, talk = booked
    take_place(session, first)
    assert (task(session), flags(desk, first)) == (None, [])
    take_place(session, second)
    assert (task(session), flags(desk, first)) == (TaskStatus.REQUESTED, ["only-doses"])
    take_place(session, talk)
    assert (task(session), flags(desk, first)) == (TaskStatus.COMPLETED, [])


def test_a_dose_that_never_was_counts_for_nothing(
    session: Session, desk: Caller, booked: list[Appointment]
) -> None:
    for visit in booked[:2]:
        take_place(session, visit)
    call = Call(booked[1].id, None, "Another patient's.")
    sessions.correct(session, call, by=DOCTOR, now=booked[1].ends_at)
    session.commit()
    assert (task(session), flags(desk, booked[0])) == (TaskStatus.COMPLETED, [])
