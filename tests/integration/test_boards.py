"""The board: a thousand visits at once say what each says alone."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from models import Appointment
from models.vocabulary import ClearanceOutcome, GateState, Role, StepKind
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
    make_default,
    make_patient,
    make_protocol,
    protocol_content,
)
from tests.integration.conftest import Caller, Clock

DOCTOR = Authority("key:doctor", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
NEXT_MONDAY = MONDAY_9 + 7 * DAY
LAPSES = "It was settled too long before the visit."
BOARD = "/readiness?from=2026-03-01T00:00:00Z&to=2026-04-25T00:00:00Z"


def content() -> dict[str, Any]:
    """A preparation and two doses, behind a gate of every kind that a visit rests on."""
    told = protocol_content() | {"code": "boards", "caps": [], "gaps": []}
    limit = {"measure": "systolic", "pass": {"most": 140}, "source": SOURCE}
    told["visits"]["dosing"]["gates"] = [
        gate("medical-clearance", "arrival", holds=figure(20, "d")),
        gate("consent", "arrival"),
        gate("transport-home", "arrival", "escort"),
        gate("fasting", "arrival", "checklist"),
        gate("preparation-done", "arrival", "steps", kinds=["preparation"]),
        gate("safety", "dose", "questionnaire", instrument="c-ssrs", holds=figure(12, "h")),
        gate("vitals", "dose", "measurement", holds=figure(30, "min"), limits=[limit]),
        gate("observation", "discharge", "observation", minutes=figure(120, "min")),
        gate("way-home", "discharge", "departure"),
    ]
    told["steps"] = [
        {"key": "preparation", "visit": "preparation"},
        {"key": "dosing-1", "visit": "dosing"},
        {"key": "dosing-2", "visit": "dosing"},
    ]
    return told


def in_a_course(session: Session, world: World) -> list[Appointment]:
    """A visit that took place and two ahead: cleared until after the first, consent refused."""
    patient_id, version_id = world.patient_id, make_protocol(session, content())
    clear(session, patient_id, ["medical-clearance"])
    clear(session, patient_id, ["consent"], outcome=ClearanceOutcome.REFUSED)
    course = courses.open_course(session, patient_id, version_id, by=DOCTOR)
    steps = facts.steps_of(session, course.id)
    times = (MONDAY_9, NEXT_MONDAY, NEXT_MONDAY + 14 * DAY)
    done, *ahead = (
        booking.book(
            session,
            Order(patient_id=patient_id, starts_at=at, course_step_id=step.id),
            by=DOCTOR,
            now=SUNDAY_NOON,
        )
        for step, at in zip(steps, times, strict=True)
    )
    for action in (Action.ARRIVE, Action.FULFIL):
        sessions.act(session, Call(done.id, None), action, by=DOCTOR, now=MONDAY_9)
    return ahead


def outside_courses(session: Session, at: Any) -> Appointment:
    """A dosing visit of somebody who was cleared too long ago, and who eats nothing, they say."""
    patient_id, _ = make_patient(session)
    clear(session, patient_id, ["medical-clearance"], at=SUNDAY_NOON - 30 * DAY)
    order = Order(patient_id=patient_id, starts_at=at, step_kind=StepKind.DOSING)
    return booking.book(session, order, by=DOCTOR, now=SUNDAY_NOON)


@pytest.fixture
def visits(session: Session, world: World, clock: Clock, bound: Any) -> list[UUID]:
    """Visits ahead and one under way, with a gate in every state there is."""
    ahead = in_a_course(session, world)
    make_default(session, content())
    passed_over = outside_courses(session, NEXT_MONDAY + DAY)
    under_way = outside_courses(session, MONDAY_9 + DAY)
    clock.now = MONDAY_9 + DAY + timedelta(minutes=5)
    until_the_dose = _codes(session, under_way)[:-2]
    for visit, codes in ((passed_over, ["fasting"]), (under_way, until_the_dose)):
        reasons = Reasons(dict.fromkeys(codes, "for this test"))
        sessions.override(session, visit.id, reasons, by=DOCTOR, now=clock.now)
    for action in (Action.ARRIVE, Action.START_DOSING):
        sessions.act(session, Call(under_way.id, None), action, by=DOCTOR, now=clock.now)
    session.commit()
    return [visit.id for visit in (*ahead, passed_over, under_way)]


def _codes(session: Session, visit: Appointment) -> list[str]:
    return [one.code for one in facts.brief_of(session, visit).visit.gates]


def test_the_board_says_of_each_visit_what_the_visit_says(desk: Caller, visits: list[UUID]) -> None:
    rows = {row["appointment"]["id"]: row for row in desk.get(BOARD).json["items"]}

    assert set(rows) == {str(visit_id) for visit_id in visits}
    for visit_id, row in rows.items():
        assert row["appointment"] == desk.get(f"/appointments/{visit_id}").json
        assert row["readiness"] == desk.get(f"/appointments/{visit_id}/readiness").json
    states = {one["state"] for row in rows.values() for one in row["readiness"]["gates"]}
    assert states == set(GateState)


def test_every_missing_gate_has_somebody_and_a_time(desk: Caller, visits: list[UUID]) -> None:
    for row in desk.get(BOARD).json["items"]:
        gates = {one["code"]: one for one in row["readiness"]["gates"]}
        assert row["missing"]
        assert row["urgency"] != "none"
        for code in row["missing"]:
            assert gates[code]["state"] in {"open", "expired", "failed"}
            assert gates[code]["who"]
            is_last = gates[code]["shuts"] == "discharge"
            by = row["appointment"]["ends_at" if is_last else "starts_at"]
            assert gates[code]["due_at"] <= by


def test_who_is_observed_after_a_dose_is_not_late_for_the_discharge(
    desk: Caller, visits: list[UUID], clock: Clock
) -> None:
    *_, under_way = map(str, visits)
    rows = {row["appointment"]["id"]: row for row in desk.get(BOARD).json["items"]}
    assert rows[under_way]["missing"] == ["observation", "way-home"]
    assert rows[under_way]["urgency"] == "soon"

    clock.now = MONDAY_9 + DAY + timedelta(hours=3)  # its end
    first, *_ = desk.get(BOARD).json["items"]
    assert (first["appointment"]["id"], first["urgency"]) == (under_way, "overdue")


def test_what_lapses_before_the_visit_is_told_from_what_has_lapsed(
    desk: Caller, visits: list[UUID]
) -> None:
    first, second, passed_over, _ = (_clearance(desk, visit_id) for visit_id in visits)

    assert first["state"] == "met"
    assert (second["state"], second["detail"]) == ("expired", LAPSES)
    assert second["expires_at"] == first["expires_at"] == "2026-03-21T12:00:00Z"  # ahead
    assert (passed_over["state"], passed_over["detail"]) == ("expired", LAPSES)
    assert passed_over["expires_at"] < "2026-03-01"  # past


def _clearance(desk: Caller, visit_id: UUID) -> dict[str, Any]:
    gates = desk.get(f"/appointments/{visit_id}/readiness").json["gates"]
    return next(one for one in gates if one["code"] == "medical-clearance")
