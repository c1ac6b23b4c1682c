"""The demonstration: an invented clinic, in working order, that a newcomer can look around in.

Its people are read from demo/ as any clinic's are; what time brings (clearances, courses,
visits) is made here, as of now, with the same functions that staff use.
"""

import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

import intake.clinic
from api import keys
from models import (
    Appointment,
    Course,
    CourseStep,
    Patient,
    Practitioner,
    Protocol,
    ProtocolVersion,
    Qualification,
    enter_clinic,
)
from models.vocabulary import Answer, ClearanceOutcome, PractitionerRole, Role, Stage
from notifications import links, reading
from scheduler import booking, clearances, consents, courses, facts, openings, rules, screens
from scheduler.authority import Authority
from scheduler.booking import Order
from scheduler.clearances import NewClearance
from scheduler.consents import NewText
from scheduler.errors import NotReady
from scheduler.openings import Search
from scheduler.permissions import BUNDLES
from scheduler.placing import Named
from scheduler.protocols import SettledBy
from scheduler.screens import NewScreen

FOLDER = Path(__file__).parent / "demo"
BY = Authority("demonstration", BUNDLES[Role.CLINICIAN], None, frozenset({"prescriber"}))
COURSES = 6
"""How many patients are in the middle of a course."""
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What a newcomer needs to look around."""

    clinic_id: UUID
    keys: dict[str, str]
    patient_id: UUID
    birth_date: str
    link: str

    def told(self, url: str) -> dict[str, Any]:
        """As var/demo.json has it."""
        return {
            "url": url,
            "clinic_id": str(self.clinic_id),
            "keys": self.keys,
            "patient": {
                "id": str(self.patient_id),
                "link": self.link,
                "birth_date": self.birth_date,
            },
        }


def make(session: Session, now: datetime) -> UUID:
    """Import the demonstration's clinic and bring it to life. Flushes, never commits."""
    clinic_id = intake.clinic.store(session, intake.clinic.read(FOLDER), BY.name, now)
    _write_texts(session, now)
    patients = session.scalars(select(Patient).order_by(Patient.record_number)).all()
    version_id = session.scalars(
        select(ProtocolVersion.id)
        .join(Protocol, Protocol.id == ProtocolVersion.protocol_id)
        .where(Protocol.code == "kap")
    ).one()
    begun = [
        courses.open_course(session, patient.id, version_id, by=BY)
        for patient in patients[:COURSES]
    ]
    for patient in patients:
        _clear(session, patient.id, now)
    for number, course in enumerate(begun):
        _book_first_visits(session, course, now + (number + 1) * DAY, now)
    return clinic_id


def _write_texts(session: Session, now: datetime) -> None:
    """What patients agree to: a file for each text and language, its first line the title."""
    for path in sorted((FOLDER / "texts").glob("*.txt")):
        code, language = path.stem.split(".")
        title, _, body = path.read_text(encoding="utf-8").partition("\n\n")
        told = NewText(code=code, language=language, title=title, body=body.strip(), renews=False)
        consents.write(session, told, by=BY, now=now)


def open_doors(
    session: Session, clinic_id: UUID, kept: Path, public_url: str, now: datetime
) -> Demonstration:
    """Give out the keys, those kept from the last time if there are any, and a fresh link."""
    enter_clinic(session, clinic_id)
    known = _kept_keys(kept, clinic_id)
    if not known:
        known = _new_keys(session, now)
    appointment = session.scalars(
        select(Appointment)
        .where(Appointment.kind == "dosing", Appointment.status == "booked")
        .order_by(Appointment.starts_at)
        .limit(1)
    ).one_or_none()
    if appointment is None:
        appointment = session.scalars(
            select(Appointment).order_by(Appointment.starts_at.desc()).limit(1)
        ).one()
    patient = facts.one(session, Patient, appointment.patient_id)
    link = links.New(appointment.id, patient.id, now + 30 * DAY)
    [token] = links.mint(reading.raw(session), [link])
    return Demonstration(
        clinic_id, known, patient.id, patient.birth_date.isoformat(), f"{public_url}/p/{token}"
    )


def keep(demonstration: Demonstration, path: Path, url: str) -> None:
    """Write var/demo.json, readable by its owner alone."""
    half = path.with_suffix(".half")
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(demonstration.told(url), file, indent=2)
    half.rename(path)


def _kept_keys(kept: Path, clinic_id: UUID) -> dict[str, str]:
    try:
        told = json.loads(kept.read_text())
    except (OSError, ValueError):
        return {}
    return dict(told["keys"]) if told.get("clinic_id") == str(clinic_id) else {}


def _new_keys(session: Session, now: datetime) -> dict[str, str]:
    prescriber = session.scalars(
        select(Practitioner.id)
        .join(Qualification, Qualification.practitioner_id == Practitioner.id)
        .where(Qualification.role == PractitionerRole.PRESCRIBER)
        .order_by(Practitioner.name)
        .limit(1)
    ).one()
    made = {}
    for role in (Role.ADMIN, Role.SCHEDULER, Role.CLINICIAN):
        behind = prescriber if role is Role.CLINICIAN else None
        _, made[role.value] = keys.issue(session, f"demo {role}", role, behind, now)
    return made


def _clear(session: Session, patient_id: UUID, now: datetime) -> None:
    """Vouch for what every patient of a clinic in working order has settled."""
    codes = {
        gate.code
        for gate in facts.gates_of(session, patient_id)
        if gate.shuts is Stage.BOOKING and gate.settled_by is SettledBy.CLEARANCE
    }
    for code in sorted(codes):
        told = NewClearance(gate=code, outcome=ClearanceOutcome.CLEARED, cleared_at=now)
        clearances.clear(session, patient_id, told, by=BY, now=now)
    answers = {one.code: Answer.ABSENT for one in screens.asked(session, patient_id)}
    screen = NewScreen(screened_at=now, answers=answers, notes={})
    screens.record(session, patient_id, screen, by=BY, now=now)


def _book_first_visits(session: Session, course: Course, start: datetime, now: datetime) -> None:
    """Book a course's first visits, each at the first time that is right."""
    steps = session.scalars(
        select(CourseStep).where(CourseStep.course_id == course.id).order_by(CourseStep.position)
    ).all()
    for step in steps[:5]:
        booked = book_first(session, course.patient_id, step.id, start, now)
        if booked is None:
            return
        start = booked.starts_at + DAY


def book_first(
    session: Session, patient_id: UUID, step_id: UUID, start: datetime, now: datetime
) -> Appointment | None:
    """Book a course's step at its first opening from `start` on; None if there is none yet."""
    course, protocol = facts.course_of(session, facts.one(session, CourseStep, step_id).course_id)
    step = protocol.step(facts.one(session, CourseStep, step_id).key)
    others = facts.other_visits(session, patient_id, course.id)
    zone = ZoneInfo(facts.clinic(session).time_zone)
    start = max(start, rules.earliest(step, others, zone) or start)
    search = Search(start=start, end=start + 14 * DAY, course_step_id=step_id, limit=1)
    found = openings.find(session, search, now).openings
    if not found:
        return None
    order = Order(
        patient_id=patient_id,
        starts_at=found[0].starts_at,
        course_step_id=step_id,
        assignments=tuple(Named(a.role, a.actor.schedule_id) for a in found[0].assignments),
    )
    try:
        return booking.book(session, order, by=BY, now=now)
    except NotReady:
        return None  # a time is free, and a gate of the booking is shut
