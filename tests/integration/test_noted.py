"""What is typed in late came to light then: nobody who gave a reason before could know of it."""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from database import migrating
from database.scratch import scratch
from models import Appointment
from models.base import enter_clinic
from models.vocabulary import Role
from scheduler import booking, courses, facts, sessions
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Order
from scheduler.lifecycle import Action
from scheduler.permissions import BUNDLES
from tests.factories import (
    DAY,
    MONDAY_9,
    SOURCE,
    SUNDAY_NOON,
    World,
    clear,
    figure,
    gate,
    make_protocol,
    make_world,
    protocol_content,
)
from tests.integration.conftest import Caller, Clock, Keyring

DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
MINUTE = timedelta(minutes=1)
GATES = ("clearance", "consent", "vitals", "answers", "way-home")
HIGH = dict.fromkeys(("1", "2", "3", "4", "5", "6", "6-recent"), 1)


def content() -> dict[str, Any]:
    told = protocol_content() | {"code": "test-noted", "caps": [], "gaps": []}
    dosing = told["visits"]["dosing"]
    limit = {"measure": "systolic", "pass": {"most": 140}, "source": SOURCE}
    dosing["gates"] = [
        gate("clearance", "arrival", ends_on=["adverse-event"]),
        gate("consent", "arrival"),
        gate("vitals", "dose", "measurement", holds=figure(24, "h"), limits=[limit]),
        gate("answers", "dose", "questionnaire", instrument="c-ssrs", holds=figure(24, "h")),
        gate("way-home", "discharge", "departure"),
    ]
    dosing["checklist"] = []
    dosing["ways_home"] = {"ways": ["escort"], "source": SOURCE}
    told["steps"] = [{"key": "dosing", "visit": "dosing"}]
    return told


@pytest.fixture
def visit(session: Session, world: World, clock: Clock, bound: Any) -> Appointment:
    """A dose given at nine; at half past somebody has passed over all that may be passed over."""
    version_id = make_protocol(session, content())
    clear(session, world.patient_id, ["clearance", "consent"])
    course = courses.open_course(session, world.patient_id, version_id, by=DOCTOR)
    [step] = facts.steps_of(session, course.id)
    order = Order(patient_id=world.patient_id, starts_at=MONDAY_9, course_step_id=step.id)
    visit = booking.book(session, order, by=DOCTOR, now=SUNDAY_NOON)
    sessions.act(session, Call(visit.id, None), Action.ARRIVE, by=DOCTOR, now=MONDAY_9)
    pass_over(session, visit, MONDAY_9)
    for action in (Action.START_DOSING, Action.START_RECOVERY):
        sessions.act(session, Call(visit.id, None), action, by=DOCTOR, now=MONDAY_9)
    pass_over(session, visit, MONDAY_9 + 30 * MINUTE)
    clock.now = MONDAY_9 + 60 * MINUTE
    session.commit()
    return visit


@pytest.fixture
def doctor(key: Keyring, world: World) -> Caller:
    return key(Role.CLINICIAN, world.prescriber_id)


def pass_over(session: Session, visit: Appointment, at: datetime) -> None:
    reasons = Reasons(dict.fromkeys(GATES, "Seen by me."))
    sessions.override(session, visit.id, reasons, by=DOCTOR, now=at)


def state(doctor: Caller, visit: Appointment, code: str) -> str:
    gates = doctor.get(f"/appointments/{visit.id}/readiness").json["gates"]
    return next(str(one["state"]) for one in gates if one["code"] == code)


LATE: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "clearance": ("patients/health-events", "happened_at", {"kind": "adverse-event"}),
    "consent": ("patients/clearances", "cleared_at", {"gate": "consent", "outcome": "refused"}),
    "vitals": ("appointments/observations", "taken_at", {"values": {"systolic": 150}}),
    "answers": (
        "patients/questionnaire-responses",
        "authored_at",
        {"instrument": "c-ssrs", "answers": HIGH},
    ),
    "way-home": (
        "appointments/departure",
        "left_at",
        {"way": "against-advice", "deviation": "Would not wait."},
    ),
}
"""By the gate that it shuts: where it is typed in, and how it says when it was."""


def type_in(doctor: Caller, visit: Appointment, gate: str, at: datetime, **more: Any) -> Any:
    where, when, told = LATE[gate]
    whose, what = where.split("/")
    owner = visit.patient_id if whose == "patients" else visit.id
    made = doctor.post(f"/{whose}/{owner}/{what}", {**told, when: at.isoformat(), **more})
    assert made.status_code == 201, made.json
    return made.json


@pytest.mark.parametrize("code", GATES)
def test_no_reason_passes_over_what_was_typed_in_after_it(
    session: Session, doctor: Caller, visit: Appointment, clock: Clock, code: str
) -> None:
    assert state(doctor, visit, code) in {"met", "overridden"}
    made = type_in(doctor, visit, code, MONDAY_9 + 10 * MINUTE)  # before the reason was given
    assert made["noted_at"] == "2026-03-02T15:00:00Z"
    assert state(doctor, visit, code) == ("expired" if code == "clearance" else "failed")
    pass_over(session, visit, clock.now)
    session.commit()
    assert state(doctor, visit, code) == "overridden"


@pytest.mark.parametrize("code", ["clearance", "vitals", "answers", "way-home"])
def test_nor_over_what_puts_an_earlier_line_right(
    session: Session, doctor: Caller, visit: Appointment, clock: Clock, code: str
) -> None:
    made = type_in(doctor, visit, code, MONDAY_9 + 10 * MINUTE)
    pass_over(session, visit, clock.now)
    session.commit()
    clock.now += MINUTE
    type_in(doctor, visit, code, MONDAY_9 + 10 * MINUTE, replaces=made["id"])
    assert state(doctor, visit, code) in {"expired", "failed"}


def test_what_never_was_takes_no_reason_away(
    session: Session, doctor: Caller, visit: Appointment, clock: Clock
) -> None:
    made = type_in(doctor, visit, "clearance", MONDAY_9 + 10 * MINUTE)
    path = f"/patients/{visit.patient_id}/health-events"
    wrong = {"kind": "adverse-event", "replaces": made["id"], "in_error": True}
    assert doctor.post(path, wrong).status_code == 201
    assert state(doctor, visit, "clearance") == "met"


class TestVouchedForInIgnorance:
    """Who vouches knows of what was noted before, and of nothing else, whenever it happened."""

    @pytest.mark.parametrize(
        ("happened", "noted", "expected"),
        [
            (-1, -1, "met"),
            (-1, 0, "met"),
            (-1, 1, "expired"),
            (0, 1, "expired"),
            (1, 1, "expired"),
        ],
    )
    @pytest.mark.parametrize("is_backdated", [False, True])
    def test_an_event_ends_what_was_given_before_it_was_noted(
        self,
        session: Session,
        doctor: Caller,
        world: World,
        clock: Clock,
        happened: int,
        noted: int,
        expected: str,
        is_backdated: bool,
    ) -> None:
        clock.now = SUNDAY_NOON - 3 * DAY
        visit = self._booked(session, world)
        clear_at = SUNDAY_NOON - DAY
        acts = [
            (noted, self._happen, clear_at + happened * DAY),
            (2 if is_backdated else 0, self._vouch, clear_at),
        ]
        for days, act, at in sorted(acts, key=lambda one: one[0]):
            clock.now = clear_at + days * DAY
            act(doctor, visit, at)
        assert state(doctor, visit, "clearance") == expected

    def _happen(self, doctor: Caller, visit: Appointment, at: datetime) -> None:
        type_in(doctor, visit, "clearance", at)

    def _vouch(self, doctor: Caller, visit: Appointment, at: datetime) -> None:
        told = {"gate": "clearance", "outcome": "cleared", "cleared_at": at.isoformat()}
        made = doctor.post(f"/patients/{visit.patient_id}/clearances", told)
        assert made.status_code == 201, made.json

    def _booked(self, session: Session, world: World) -> Appointment:
        version_id = make_protocol(session, content())
        course = courses.open_course(session, world.patient_id, version_id, by=DOCTOR)
        [step] = facts.steps_of(session, course.id)
        order = Order(
            patient_id=world.patient_id, starts_at=MONDAY_9 + 7 * DAY, course_step_id=step.id
        )
        visit = booking.book(session, order, by=DOCTOR, now=SUNDAY_NOON - 3 * DAY)
        session.commit()
        return visit


def test_of_what_was_there_before_the_database_says_when_it_was_written() -> None:
    with scratch(os.environ.get("DATABASE_URL")) as ways:
        service = create_engine(ways.service)
        ahead = datetime(2096, 1, 1, tzinfo=SUNDAY_NOON.tzinfo)
        with Session(service) as session:
            world = make_world(session)
            clear(session, world.patient_id, ["long-ago"])
            clear(session, world.patient_id, ["by-another-clock"], at=ahead)
            session.commit()
        service.dispose()
        migrating.downgrade(ways.owner, "0025_consent")
        migrating.upgrade(ways.owner)
        found = _noted(create_engine(ways.service), world)
        assert found == {"long-ago": "created", "by-another-clock": "cleared"}


def _noted(service: Engine, world: World) -> dict[str, str]:
    query = text(
        "SELECT gate, CASE noted_at WHEN created_at THEN 'created' WHEN cleared_at THEN 'cleared' "
        "END AS as_of FROM clearance WHERE gate IN ('long-ago', 'by-another-clock')"
    )
    with Session(service) as session:
        enter_clinic(session, world.clinic_id)
        found = {row.gate: row.as_of for row in session.execute(query)}
    service.dispose()
    return found
