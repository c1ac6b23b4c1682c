"""Fifty courses are accepted at once, and most of their times collide."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from requests import Response
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from models import Appointment, Proposal, enter_clinic
from models.vocabulary import PractitionerRole, Role
from tests import ledger
from tests.factories import (
    DAY,
    SUNDAY_NOON,
    World,
    clear,
    make_device,
    make_patient,
    make_practitioner,
    make_room,
    make_world,
)
from tests.service import Service, give_keys

COURSES = 50
VISITS = 4
"""Of each course."""

pytestmark = pytest.mark.faults


def test_fifty_collide_and_each_course_wins_or_loses_whole(
    service: Service, service_engine: Engine, record_property: Any
) -> None:
    with Session(service_engine) as session:
        world = make_world(session)
        _grow(session, world)
        patients = [make_patient(session)[0] for _ in range(COURSES)]
        for patient in patients:
            clear(session, patient, ["medical-clearance", "consent"])
        session.commit()
        give_keys(service, session, world.clinic_id, SUNDAY_NOON)
        service.more["WEB_THREADS"] = "16"
        service.start("web")
        asked = [_propose(service, world, number, one) for number, one in enumerate(patients)]

        began = time.monotonic()
        answers = _all_at_once(service, asked)
        took = time.monotonic() - began

        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) == {201, 409}, statuses
        record_property(
            ledger.FIGURE,
            f"{COURSES} acceptances at once: {statuses[201]} courses booked whole, "
            f"{statuses[409]} not at all, in {took:.1f} s together",
        )
        session.rollback()
        enter_clinic(session, world.clinic_id)
        booked = Counter(session.scalars(select(Appointment.course_id)))
        assert set(booked.values()) == {VISITS}
        assert len(booked) == statuses[201] > 1
        assert session.scalars(select(Proposal).where(Proposal.accepted_at.is_not(None))).all()
        taken = {str(one) for one in session.scalars(select(Appointment.id))}
        for answer in answers:
            if answer.status_code == 409:
                _says_who_was_faster(answer.json(), taken)
        loser = next(n for n, answer in enumerate(answers) if answer.status_code == 409)
        _takes_what_is_left(service, asked[loser]["course"])


def _grow(session: Session, world: World) -> None:
    """Two therapists and two rooms of each kind: some courses fit side by side."""
    make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
    for kind in ("dosing", "consulting"):
        make_room(session, world.site_id, kind)
    make_device(session, world.site_id, "monitor")


def _propose(service: Service, world: World, number: int, patient: UUID) -> dict[str, Any]:
    told = {"patient_id": str(patient), "protocol_version_id": str(world.protocol_version_id)}
    course = _post(service, "/courses", told).json()["id"]
    wishes = {"earliest": (SUNDAY_NOON + number % 5 * 10 * DAY).isoformat()}
    found = _post(service, f"/courses/{course}/proposals", {"wishes": wishes}).json()["items"]
    return {"course": course, "proposal_id": found[number % len(found)]["id"]}


def _all_at_once(service: Service, asked: list[dict[str, Any]]) -> list[Response]:
    begin = threading.Barrier(len(asked))

    def accept(one: dict[str, Any]) -> Response:
        begin.wait(30)
        told = {"proposal_id": one["proposal_id"]}
        return service.call(Role.SCHEDULER, "POST", f"/courses/{one['course']}/accept", told)

    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(accept, asked))


def _says_who_was_faster(problem: dict[str, Any], taken: set[str]) -> None:
    assert problem["type"] == "/problems/proposal-lost"
    assert problem["lost"]
    by = {
        one["appointment_id"]
        for step in problem["lost"]
        for schedule in step["schedules"]
        for one in schedule["taken_by"]
    }
    assert by
    assert by <= taken
    assert problem["proposals"]


def _takes_what_is_left(service: Service, course: str) -> None:
    found = _post(service, f"/courses/{course}/proposals", {}).json()["items"]
    _post(service, f"/courses/{course}/accept", {"proposal_id": found[0]["id"]})


def _post(service: Service, path: str, told: Any) -> Response:
    answer = service.call(Role.SCHEDULER, "POST", path, told)
    assert answer.status_code == 201, answer.text
    return answer
