"""Make one valid thing; a test names only what it is about.

The protocol below is for tests: its figures mean nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import (
    Clearance,
    Clinic,
    Device,
    OpeningHours,
    Patient,
    Practitioner,
    Protocol,
    ProtocolVersion,
    Qualification,
    Room,
    Schedule,
    Screen,
    Site,
    enter_clinic,
)
from models.vocabulary import ActorKind, ClearanceOutcome, PractitionerRole
from scheduler import screens

SUNDAY_NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)  # what the clock says in most tests
MONDAY_9 = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)  # 09:00 in New York
DAY = timedelta(days=1)
ZONE = "America/New_York"

SOURCE = ["T"]


def figure(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "source": SOURCE}


def gate(code: str, shuts: str, by: str = "clearance", **more: Any) -> dict[str, Any]:
    return {
        "code": code,
        "title": code.replace("-", " ").capitalize(),
        "shuts": shuts,
        "by": by,
        "who": ["clinician"],
        "lift": ["prescriber"],
        **more,
    }


def rule(code: str, kind: str, when: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "rule": code,
        "kind": kind,
        "to": "patient",
        "when": when,
        "not_after": {"hours": -1, "from": "start"},
        "source": SOURCE,
        **more,
    }


def protocol_content() -> dict[str, Any]:
    """A course of preparation, two dosings with their integrations, for tests."""
    return {
        "code": "test-course",
        "title": "A course for tests",
        "sources": {"T": {"title": "Invented for tests", "grade": "D"}},
        "minimum_age": figure(18, "years"),
        "caps": [
            {
                "code": "weekly-doses",
                "kind": "dosing",
                "most": figure(2, "visits"),
                "within": figure(7, "d"),
                "severity": "block",
                "lift": ["prescriber"],
            }
        ],
        "gaps": [
            {
                "code": "between-doses",
                "kind": "dosing",
                "least": figure(48, "h"),
                "severity": "block",
                "lift": [],
            }
        ],
        "visits": {
            "preparation": {
                "kind": "preparation",
                "title": "Preparation",
                "minutes": figure(60, "min"),
                "phases": [
                    {"role": "therapist", "from": 0, "to": 60, "source": SOURCE},
                    {"room": "consulting", "from": 0, "to": 60, "source": SOURCE},
                ],
                "gates": [],
                "checklist": [
                    {
                        "code": "read-guide",
                        "title": "Read the guide",
                        "owner": "patient",
                        "due_before": figure(24, "h"),
                    }
                ],
                "cadence": "plain",
            },
            "dosing": {
                "kind": "dosing",
                "title": "Medicine session",
                "minutes": figure(180, "min"),
                "phases": [
                    {"role": "therapist", "from": 0, "to": 180, "source": SOURCE},
                    {"role": "prescriber", "from": 0, "to": 20, "source": SOURCE},
                    {
                        "role": "prescriber",
                        "from": 20,
                        "to": 180,
                        "present": True,
                        "source": SOURCE,
                    },
                    {"role": "monitor", "from": 0, "to": 180, "shared": True, "source": SOURCE},
                    {"room": "dosing", "from": 0, "to": 180, "turnover": 20, "source": SOURCE},
                    {"device": "monitor", "from": 0, "to": 180, "source": SOURCE},
                ],
                "gates": [
                    gate("medical-clearance", "booking", holds=figure(90, "d")),
                    gate("consent", "booking"),
                    gate("transport-home", "arrival", "escort"),
                    gate("fasting", "arrival", "checklist", who=["patient"]),
                    gate("preparation-done", "arrival", "steps", kinds=["preparation"]),
                    gate("vitals", "dose", holds=figure(30, "min")),
                    gate("recovery-score", "discharge", holds=figure(60, "min")),
                    gate(
                        "observation",
                        "discharge",
                        "observation",
                        minutes=figure(120, "min"),
                        lift=[],
                    ),
                ],
                "checklist": [
                    {
                        "code": "fasting",
                        "title": "I will not eat for six hours before",
                        "owner": "patient",
                        "due_before": figure(24, "h"),
                        "gate": "fasting",
                    },
                    {
                        "code": "call-escort",
                        "title": "Escort called",
                        "owner": "front-desk",
                        "due_before": figure(24, "h"),
                    },
                ],
                "cadence": "full",
            },
            "integration": {
                "kind": "integration",
                "title": "Integration",
                "minutes": figure(60, "min"),
                "phases": [
                    {"role": "therapist", "from": 0, "to": 60, "source": SOURCE},
                    {"room": "consulting", "from": 0, "to": 60, "source": SOURCE},
                ],
                "gates": [],
                "checklist": [],
                "cadence": "plain",
            },
        },
        "cadences": {
            "plain": [
                rule("on-booking", "confirmation", {"on": "booking"}),
                rule("day-before", "reminder", {"hours": -24, "from": "start"}),
            ],
            "full": [
                rule("on-booking", "confirmation", {"on": "booking"}),
                rule("week-before", "checklist-request", {"days": -7, "at": "same"}),
                rule("three-days", "reminder", {"hours": -72, "from": "start"}),
                rule("day-before", "confirm-request", {"hours": -24, "from": "start"}),
                rule(
                    "pick-up",
                    "pick-up",
                    {"hours": -24, "from": "start"},
                    to="escort",
                    not_after={"hours": 0, "from": "end"},
                ),
                rule(
                    "next-day",
                    "aftercare",
                    {"days": 1, "at": "10:00"},
                    not_after={"hours": 12, "from": "due"},
                ),
            ],
        },
        "steps": [
            {"key": "preparation", "visit": "preparation"},
            {
                "key": "dosing-1",
                "visit": "dosing",
                "after": [
                    {
                        "step": "preparation",
                        "least": figure(1, "d"),
                        "most": figure(14, "d"),
                        "severity": "block",
                        "lift": ["prescriber"],
                    }
                ],
            },
            {
                "key": "integration-1",
                "visit": "integration",
                "after": [
                    {
                        "step": "dosing-1",
                        "least": figure(24, "h"),
                        "most": figure(72, "h"),
                        "severity": "warn",
                        "lift": [],
                    }
                ],
            },
            {
                "key": "dosing-2",
                "visit": "dosing",
                "after": [
                    {
                        "step": "dosing-1",
                        "least": figure(5, "d"),
                        "severity": "block",
                        "lift": ["prescriber"],
                    }
                ],
                "owes": {
                    "steps": ["integration-1"],
                    "severity": "warn",
                    "lift": [],
                    "source": SOURCE,
                },
            },
        ],
    }


@dataclass(frozen=True, slots=True)
class World:
    """The ids of a small clinic with one of everything."""

    clinic_id: UUID
    site_id: UUID
    patient_id: UUID
    protocol_version_id: UUID
    prescriber_id: UUID
    therapist_id: UUID
    prescriber: UUID
    """Schedules, from here on."""
    therapist: UUID
    monitor: UUID
    dosing_room: UUID
    consulting_room: UUID
    device: UUID
    patient: UUID


def make_world(session: Session, name: str = "Test Practice") -> World:
    """A clinic in New York, open on weekdays from 9 to 17, entered by `session`."""
    clinic_id = uuid7()
    enter_clinic(session, clinic_id)
    clinic = Clinic(
        clinic_id=clinic_id,
        name=name,
        email="desk@clinic.example.com",
        phone="+12125550100",
        time_zone=ZONE,
    )
    site = Site(
        id=uuid7(), name="Main", address="1 Example Way", phone="+12125550100", time_zone=ZONE
    )
    session.add(clinic)
    session.flush()
    session.add(site)
    session.flush()
    prescriber_id, prescriber = make_practitioner(session, site.id, PractitionerRole.PRESCRIBER)
    therapist_id, therapist = make_practitioner(session, site.id, PractitionerRole.THERAPIST)
    _, monitor = make_practitioner(session, site.id, PractitionerRole.MONITOR, lanes=2)
    patient_id, patient = make_patient(session)
    version_id = make_protocol(session, protocol_content())
    clinic.default_protocol_id = session.get_one(
        ProtocolVersion, (clinic_id, version_id)
    ).protocol_id
    session.flush()
    return World(
        clinic_id=clinic_id,
        site_id=site.id,
        patient_id=patient_id,
        protocol_version_id=version_id,
        prescriber_id=prescriber_id,
        therapist_id=therapist_id,
        prescriber=prescriber,
        therapist=therapist,
        monitor=monitor,
        dosing_room=make_room(session, site.id, "dosing"),
        consulting_room=make_room(session, site.id, "consulting"),
        device=make_device(session, site.id, "monitor"),
        patient=patient,
    )


def make_schedule(session: Session, kind: ActorKind, name: str, lanes: int = 1) -> UUID:
    schedule = Schedule(id=uuid7(), actor_kind=kind, name=name, lanes=lanes)
    session.add(schedule)
    session.flush()
    return schedule.id


def open_weekdays(session: Session, schedule_id: UUID, site_id: UUID) -> None:
    """09:00 to 17:00, Monday to Friday, from 2026 on."""
    session.add(
        OpeningHours(
            id=uuid7(),
            schedule_id=schedule_id,
            site_id=site_id,
            first_start=datetime(2026, 1, 5, 9, 0),
            minutes=480,
            rule="FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR",
        )
    )
    session.flush()


def make_practitioner(
    session: Session,
    site_id: UUID,
    *roles: PractitionerRole,
    lanes: int = 1,
    valid_until: date = date(2030, 12, 31),
    regions: Sequence[str] = (),
) -> tuple[UUID, UUID]:
    """A practitioner and their schedule, open on weekdays."""
    practitioner_id = uuid7()
    name = f"Practitioner {practitioner_id.hex[-4:]}"
    schedule_id = make_schedule(session, ActorKind.PRACTITIONER, name, lanes)
    open_weekdays(session, schedule_id, site_id)
    session.add(
        Practitioner(
            id=practitioner_id,
            schedule_id=schedule_id,
            name=name,
            email=f"{practitioner_id.hex}@clinic.example.com",
        )
    )
    session.flush()
    session.add_all(
        Qualification(
            id=uuid7(),
            practitioner_id=practitioner_id,
            role=role,
            licence="L-1",
            valid_from=date(2020, 1, 1),
            valid_until=valid_until,
            regions=list(regions),
        )
        for role in roles
    )
    session.flush()
    return practitioner_id, schedule_id


def make_room(session: Session, site_id: UUID, kind: str) -> UUID:
    room_id = uuid7()
    schedule_id = make_schedule(session, ActorKind.ROOM, f"Room {room_id.hex[-4:]}")
    open_weekdays(session, schedule_id, site_id)
    session.add(
        Room(id=room_id, site_id=site_id, schedule_id=schedule_id, name=room_id.hex, kind=kind)
    )
    session.flush()
    return schedule_id


def make_device(session: Session, site_id: UUID, kind: str) -> UUID:
    device_id = uuid7()
    schedule_id = make_schedule(session, ActorKind.DEVICE, f"Device {device_id.hex[-4:]}")
    open_weekdays(session, schedule_id, site_id)
    session.add(
        Device(
            id=device_id, site_id=site_id, schedule_id=schedule_id, name=device_id.hex, kind=kind
        )
    )
    session.flush()
    return schedule_id


def make_patient(session: Session, **changes: Any) -> tuple[UUID, UUID]:
    """A patient and their schedule."""
    patient_id = uuid7()
    schedule_id = make_schedule(session, ActorKind.PATIENT, "Patient")
    session.add(
        Patient(
            **{
                "id": patient_id,
                "schedule_id": schedule_id,
                "record_number": patient_id.hex,
                "given_name": "Ada",
                "family_name": "Example",
                "birth_date": date(1980, 5, 17),
                "email": f"{patient_id.hex}@example.com",
                "phone": "+12125550123",
                "time_zone": ZONE,
                **changes,
            }
        )
    )
    session.flush()
    return patient_id, schedule_id


def make_site(session: Session, zone: str = ZONE) -> UUID:
    """Another site of the clinic, where nobody works yet."""
    site = Site(
        id=uuid7(), name="Other", address="2 Example Way", phone="+12125550101", time_zone=zone
    )
    session.add(site)
    session.flush()
    return site.id


def make_default(session: Session, content: dict[str, Any]) -> UUID:
    """A signed version of a protocol that the clinic's visits outside any course follow."""
    version_id = make_protocol(session, {**content, "code": "default"})
    version = session.scalars(select(ProtocolVersion).where(ProtocolVersion.id == version_id)).one()
    session.scalars(select(Clinic)).one().default_protocol_id = version.protocol_id
    session.flush()
    return version_id


def make_protocol(session: Session, content: dict[str, Any]) -> UUID:
    """A signed version of a protocol."""
    protocol = Protocol(id=uuid7(), code=content["code"], title=content["title"])
    session.add(protocol)
    session.flush()
    version = ProtocolVersion(
        id=uuid7(),
        protocol_id=protocol.id,
        number=1,
        content=content,
        signed_by="test",
        signed_at=SUNDAY_NOON,
    )
    session.add(version)
    session.flush()
    return version.id


def screen(session: Session, patient_id: UUID, *present: str, at: datetime = SUNDAY_NOON) -> UUID:
    """Ask a patient for all that the clinic's protocols ask; what is not named is absent."""
    asked = screens.asked(session, patient_id, everywhere=True)
    line = Screen(
        id=uuid7(),
        patient_id=patient_id,
        screened_at=at,
        recorded_at=at,
        answers={one.code: "present" if one.code in present else "absent" for one in asked},
        notes={},
        screened_by="test",
    )
    session.add(line)
    session.flush()
    return line.id


def clear(
    session: Session,
    patient_id: UUID,
    gates: Sequence[str],
    at: datetime = SUNDAY_NOON,
    outcome: ClearanceOutcome = ClearanceOutcome.CLEARED,
    **given_for: Any,
) -> None:
    session.add_all(
        Clearance(
            id=uuid7(),
            patient_id=patient_id,
            gate=code,
            outcome=outcome,
            cleared_at=at,
            cleared_by="test",
            noted_at=at,
            **given_for,
        )
        for code in gates
    )
    session.flush()
