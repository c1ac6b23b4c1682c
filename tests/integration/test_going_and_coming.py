"""A room is taken away while somebody books it: one of both is told, and nothing is half there."""

import time
from datetime import timedelta
from typing import Any

from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from api import keys
from models import Room, Schedule, Slot
from models.vocabulary import Role
from tests.factories import MONDAY_9, SUNDAY_NOON, World, make_patient, make_room
from tests.integration.conftest import Caller, Clock
from tests.integration.test_abuses import another, together
from tests.integration.test_api_appointments import order

ROUNDS = 8
DOING = (Role.ADMIN, Role.SCHEDULER)
GONE, BOOKED = (204, {404, 422}), (409, {201})


def test_of_a_room_that_goes_and_a_visit_that_comes_one_wins(
    app: Flask, clock: Clock, committed: Session, committed_world: World
) -> None:
    clock.now = SUNDAY_NOON
    made = [keys.issue(committed, role, role, None, SUNDAY_NOON) for role in DOING]
    admin, desk = (Caller(app.test_client(), secret) for _, secret in made)
    for number in range(ROUNDS):
        schedule_id = make_room(committed, committed_world.site_id, "consulting")
        patient_id, _ = make_patient(committed)
        [room_id] = committed.scalars(select(Room.id).where(Room.schedule_id == schedule_id))
        committed.commit()
        told = order(
            committed_world,
            patient_id=str(patient_id),
            starts_at=(MONDAY_9 + timedelta(weeks=number)).isoformat(),
            assignments=[
                {"role": "therapist", "schedule_id": str(committed_world.therapist)},
                {"role": "room", "schedule_id": str(schedule_id)},
            ],
            reasons={"hours": "Nobody has said yet when it is open."},
        )

        def goes(
            path: str = f"/rooms/{room_id}", after: float = number % 2 * 0.01 * number
        ) -> TestResponse:
            time.sleep(after)
            return another(admin)("DELETE", path, etag='"1"')

        def comes(told: Any = told) -> TestResponse:
            return another(desk).post("/appointments", told)

        went, came = together(goes, comes)
        status, others = GONE if went.status_code == 204 else BOOKED
        assert went.status_code == status, went.json
        assert came.status_code in others, came.json
        for model in (Schedule.id, Slot.schedule_id):
            found = committed.scalar(select(func.count()).where(model == schedule_id))
            assert bool(found) is (came.status_code == 201), model
        committed.commit()
