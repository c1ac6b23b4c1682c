"""A clinic with many therapists and rooms, so that hundreds of visits fit into a day."""

from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.vocabulary import PractitionerRole
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    figure,
    make_patient,
    make_practitioner,
    make_protocol,
    make_room,
    make_world,
    protocol_content,
    rule,
)
from tests.service import Service, give_keys

AT_ONCE = 25
THE_DAY = MONDAY_9 + 14 * DAY - timedelta(hours=1)  # 09:00, after the clocks went forward
HOURS = (-250, -200, -150, -100)
"""Before the start of each visit: its messages."""


def busy_protocol() -> dict[str, Any]:
    """Visits of which five messages are sent each, and none at a time of its own."""
    content = protocol_content()
    content["code"] = "busy"
    content["visits"]["preparation"]["minutes"] = figure(60, "min")
    content["cadences"]["plain"] = [
        rule("on-booking", "confirmation", {"on": "booking"}),
        *(rule(f"r{-n}", "confirm-request", {"hours": n, "from": "start"}) for n in HOURS),
    ]
    return content


class Place:
    """Eight hours of visits, `AT_ONCE` of them side by side."""

    def __init__(self, session: Session, service: Service, visits: int) -> None:
        world = make_world(session)
        self.clinic_id = world.clinic_id
        version_id = make_protocol(session, busy_protocol())
        session.execute(
            text(
                "UPDATE clinic SET quiet_from = '00:00', quiet_until = '00:00', "
                "default_protocol_id = (SELECT protocol_id FROM protocol_version WHERE id = :id)"
            ),
            {"id": version_id},
        )
        self.therapists = [
            make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)[1]
            for _ in range(AT_ONCE)
        ]
        self.rooms = [make_room(session, world.site_id, "consulting") for _ in range(AT_ONCE)]
        self.patients = [make_patient(session)[0] for _ in range(visits)]
        session.commit()
        give_keys(service, session, self.clinic_id, SUNDAY_NOON)

    def order(self, number: int) -> dict[str, Any]:
        """What to ask for to book the n-th visit."""
        hour, place = divmod(number, AT_ONCE)
        return {
            "patient_id": str(self.patients[number]),
            "step_kind": "preparation",
            "starts_at": (THE_DAY + timedelta(hours=hour)).isoformat(),
            "assignments": [
                {"role": "therapist", "schedule_id": str(self.therapists[place])},
                {"role": "room", "schedule_id": str(self.rooms[place])},
            ],
        }
