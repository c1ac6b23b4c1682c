"""A protocol whose visits are shared, and a clinic that can hold them, for tests."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from models.vocabulary import PractitionerRole
from scheduler import courses, facts
from scheduler.authority import Authority
from tests.factories import (
    SOURCE,
    World,
    clear,
    make_patient,
    make_practitioner,
    make_protocol,
    make_room,
    protocol_content,
)

PLACES = 6


def group_content() -> dict[str, Any]:
    """The course for tests, with preparation and dosing shared by six, three to a therapist."""
    content = protocol_content()
    content["code"] = "test-group"
    for key, minutes in (("preparation", 60), ("dosing", 180)):
        visit = content["visits"][key]
        visit["group"] = {"places": PLACES, "least": 4, "source": SOURCE}
        visit["phases"] = [
            {"role": "therapist", "from": 0, "to": minutes, "per_patients": 3, "source": SOURCE},
            {"room": "group", "from": 0, "to": minutes, "turnover": 20, "source": SOURCE},
        ]
    content["visits"]["dosing"]["phases"] += [
        {"role": "monitor", "from": 0, "to": 180, "source": SOURCE},
        {"role": "prescriber", "from": 0, "to": 180, "present": True, "source": SOURCE},
    ]
    return content


@dataclass(frozen=True, slots=True)
class Member:
    """A patient, their schedule, and the steps of their course by key."""

    patient_id: UUID
    schedule_id: UUID
    steps: dict[str, UUID]


@dataclass(frozen=True, slots=True)
class Circle:
    """Who can meet: a group protocol, three therapists, a room, and patients under courses."""

    version_id: UUID
    therapists: tuple[UUID, UUID, UUID]
    room: UUID
    members: tuple[Member, ...]

    def staff(self, *therapists: int) -> list[dict[str, str]]:
        """Assignments for a preparation, with the therapists of these numbers."""
        return [
            *({"role": "therapist", "schedule_id": str(self.therapists[n])} for n in therapists),
            {"role": "room", "schedule_id": str(self.room)},
        ]


def make_circle(session: Session, world: World, members: int = PLACES) -> Circle:
    """Beside the clinic's one therapist two more, a group room, and `members` under courses."""
    version_id = make_protocol(session, group_content())
    more = [
        make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)[1] for _ in range(2)
    ]
    return Circle(
        version_id,
        (world.therapist, more[0], more[1]),
        make_room(session, world.site_id, "group"),
        tuple(make_member(session, version_id) for _ in range(members)),
    )


def make_member(session: Session, version_id: UUID) -> Member:
    """A patient under a course, cleared for booking."""
    patient_id, schedule_id = make_patient(session)
    clear(session, patient_id, ["medical-clearance", "consent"])
    course = courses.open_course(session, patient_id, version_id, by=Authority("key:desk"))
    steps = facts.steps_of(session, course.id)
    return Member(patient_id, schedule_id, {step.key: step.id for step in steps})
