"""Somebody falls ill at the very moment at which visits with them are being booked."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from requests import Response
from sqlalchemy.orm import Session

from models.vocabulary import PractitionerRole, Role
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    make_patient,
    make_practitioner,
    make_room,
)
from tests.service import Service, give_keys

ROUNDS, BOOKINGS = 5, 7
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.faults


def test_every_visit_is_refused_or_seen_by_the_disruption(
    service: Service, committed: Session, committed_world: World
) -> None:
    pairs = [_pair(committed, committed_world) for _ in range(ROUNDS)]
    patients = [make_patient(committed)[0] for _ in range(BOOKINGS)]
    committed.commit()
    give_keys(service, committed, committed_world.clinic_id, SUNDAY_NOON)
    service.more["WEB_THREADS"] = "16"
    service.start("web")

    booked = sum(
        _race(service, MONDAY_9 + day * DAY, pair, patients) for day, pair in enumerate(pairs)
    )

    assert booked >= ROUNDS  # one of each round was there before


def _pair(session: Session, world: World) -> dict[str, UUID]:
    """A therapist and a room of their own."""
    _, therapist = make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
    return {"therapist": therapist, "room": make_room(session, world.site_id, "consulting")}


def _race(service: Service, start: datetime, pair: dict[str, UUID], patients: list[UUID]) -> int:
    """Book the day of a pair while the therapist falls ill. Returns how many were booked."""
    begin = threading.Barrier(len(patients))

    def book(number: int) -> Response:
        told = {
            "patient_id": str(patients[number]),
            "step_kind": "preparation",
            "starts_at": (start + number * HOUR).isoformat(),
            "assignments": [{"role": role, "schedule_id": str(one)} for role, one in pair.items()],
        }
        if number:
            begin.wait(30)
        return service.call(Role.SCHEDULER, "POST", "/appointments", told)

    away = {
        "schedule_id": str(pair["therapist"]),
        "from": start.isoformat(),
        "to": (start + 8 * HOUR).isoformat(),
    }
    first = book(0)
    with ThreadPoolExecutor(len(patients)) as pool:
        racing = [pool.submit(book, number) for number in range(1, len(patients))]
        begin.wait(30)
        found = service.call(Role.SCHEDULER, "POST", "/disruptions", away)
    assert found.status_code == 201, found.text
    broken = found.json()["proposal"]
    seen = {one["appointment_id"] for one in (*broken["moves"], *broken["unrepairable"])}
    answers = [first, *(one.result() for one in racing)]
    booked = [one.json() for one in answers if one.status_code == 201]
    refused = [one.json() for one in answers if one.status_code != 201]
    assert {one["id"] for one in booked} == seen
    assert {one["type"] for one in refused} <= {"/problems/not-open", "/problems/no-opening"}
    return len(booked)
