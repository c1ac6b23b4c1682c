"""The ten commonest calls: what a front desk, a clinician and a portal ask all day.

| call | who asks it, and when |
|---|---|
| day | every screen of the desk begins with the visits of the day |
| visit | whoever clicks on one of them |
| board | who is ready today: open all day, asked again and again |
| readiness | what one visit still waits for |
| openings | each time somebody looks for a time |
| booking | and takes one; cancelled after, so that the time is free for the next |
| search | somebody calls and says their name |
| patient | and is looked up |
| course | where they are in their course |
| messages | "did you get our reminder?" |

All are asked of one clinic: of the largest, where each has most to look through.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from flask.testing import FlaskClient
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from api import keys
from app import build
from benchmarks.asking import Request, Turn
from benchmarks.many import Clinic
from database.access import Access
from models import Appointment, Patient, db, enter_clinic
from models.vocabulary import AppointmentStatus, Role
from tests.crowd import NOW
from tests.factories import ZONE
from tests.integration.conftest import settings
from tests.statements import overheard

DAY = timedelta(days=1)
HERE = ZoneInfo(ZONE)
FRIDAY = datetime(2027, 1, 22, 9, 0, tzinfo=HERE)
"""On Fridays nobody has a visit yet."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A patient whom somebody asks about, in the middle of their course."""

    key: str
    patient_id: UUID
    course_id: UUID
    visit_id: UUID
    """Their next visit."""
    name: str
    therapist: UUID
    room: UUID
    free_at: datetime
    """When this therapist and this room have time."""


def subjects(ways: Access, clinic: Clinic) -> list[Subject]:
    """Some patients of a clinic, and a key to ask with."""
    engine = create_engine(ways.service)
    with Session(engine) as session:
        enter_clinic(session, clinic.clinic_id)
        _, key = keys.issue(session, "benchmark", Role.SCHEDULER, None, NOW)
        session.commit()
        found = session.scalars(
            select(Patient)
            .where(Patient.record_number.in_(clinic.known))
            .order_by(Patient.record_number)
        ).all()
        pairs = list(zip(clinic.therapists, clinic.rooms, strict=True))
        asked = [
            Subject(
                key,
                patient.id,
                *_next_visit(session, patient.id),
                patient.family_name,
                *pairs[number % len(pairs)],
                FRIDAY + timedelta(weeks=number // len(pairs)),
            )
            for number, patient in enumerate(found)
        ]
    engine.dispose()
    return asked


def _next_visit(session: Session, patient_id: UUID) -> tuple[UUID, UUID]:
    found = session.execute(
        select(Appointment.course_id, Appointment.id)
        .where(
            Appointment.patient_id == patient_id,
            Appointment.status == AppointmentStatus.BOOKED,
        )
        .order_by(Appointment.starts_at)
        .limit(1)
    ).one()
    return found.course_id, found.id


def _get(path: str, **asked: Any) -> Sequence[Request]:
    told = {name.removesuffix("_"): value for name, value in asked.items()}
    return [Request("GET", f"{path}?{urlencode(told)}" if told else path)]


def _today() -> dict[str, str]:
    midnight = NOW.astimezone(HERE).replace(hour=0, minute=0)
    return {"from_": midnight.isoformat(), "to": (midnight + DAY).isoformat()}


def _booking(one: Subject) -> Sequence[Request]:
    order = {
        "patient_id": str(one.patient_id),
        "step_kind": "preparation",
        "starts_at": one.free_at.isoformat(),
        "assignments": [
            {"role": "therapist", "schedule_id": str(one.therapist)},
            {"role": "room", "schedule_id": str(one.room)},
        ],
    }
    return [
        Request("POST", "/appointments", order),
        Request("POST", "/appointments/{id}/cancel", {"reason": "Measured."}),
    ]


CALLS: Mapping[str, Callable[[Subject], Sequence[Request]]] = {
    "day": lambda one: _get("/appointments", **_today()),
    "visit": lambda one: _get(f"/appointments/{one.visit_id}"),
    "board": lambda one: _get("/readiness", **_today()),
    "readiness": lambda one: _get(f"/appointments/{one.visit_id}/readiness"),
    "openings": lambda one: _get(
        "/openings",
        step_kind="preparation",
        from_=(NOW + DAY).isoformat(),
        to=(NOW + 15 * DAY).isoformat(),
    ),
    "search": lambda one: _get("/patients", q=one.name[:4].lower()),
    "patient": lambda one: _get(f"/patients/{one.patient_id}"),
    "course": lambda one: _get(f"/courses/{one.course_id}"),
    "messages": lambda one: _get(f"/appointments/{one.visit_id}/messages"),
    "booking": _booking,
}
"""Booking last: what is asked again bare knows nothing of what changed since."""


def turns(ways: Access, asked: Sequence[Subject]) -> dict[str, list[Turn]]:
    """Each call about each of them, with what the service asks the database in it."""
    app = build(settings(), ways.service, lambda: NOW)
    with app.app_context():
        engine = db.engine
    client = app.test_client()
    found = {}
    with overheard(engine) as heard:
        for name, call in CALLS.items():
            plain = [Turn(one.key, call(one)) for one in asked]
            for turn in plain:
                _take(client, turn)  # what a process keeps, it keeps from here on
            found[name] = [_listened(client, turn, heard) for turn in plain]
    return found


def _listened(client: FlaskClient, turn: Turn, heard: list[Any]) -> Turn:
    heard.clear()
    since = time.time_ns() // 1_000_000
    _take(client, turn)
    return replace(turn, heard=tuple(heard), since=since)


def _take(client: FlaskClient, turn: Turn) -> None:
    before: dict[str, Any] = {}
    headers = {"Authorization": f"Bearer {turn.key}"}
    for request in turn.requests:
        answer = client.open(
            f"/api/v1{request.path.format(**before)}",
            method=request.method,
            json=request.body,
            headers=headers,
        )
        assert answer.status_code < 300, answer.text
        if request.method != "GET":
            headers["If-Match"] = answer.headers["ETag"]
            before = {"id": answer.get_json()["id"]}
