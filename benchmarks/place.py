"""Where benchmarks are run: a scratch database with an enlarged demo clinic, real processes."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from os import environ
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

import intake.clinic
from database.access import Access
from database.scratch import scratch
from models import Patient, Site
from models.vocabulary import PractitionerRole
from tests.crowd import NOW
from tests.factories import clear, make_patient, make_practitioner, make_room
from tests.fakes import MailServer
from tests.service import ROOT, Service, give_keys, running

FIRST = datetime(2027, 1, 11, 14, 0, tzinfo=UTC)
"""09:00 on a Monday in New York."""
PAIRS = 40
"""Therapists and rooms beside the demo's own."""


@dataclass
class Place:
    """A clinic with room for thousands of visits."""

    ways: Access
    clinic_id: UUID
    therapists: list[UUID]
    rooms: list[UUID]
    patients: list[UUID]

    def order(self, number: int) -> dict[str, Any]:
        """The n-th visit: an hour of a pair, one after the other, on weekdays."""
        slot, pair = divmod(number, PAIRS)
        day, hour = divmod(slot, 8)
        week, weekday = divmod(day, 5)
        start = FIRST + timedelta(days=7 * week + weekday, hours=hour)
        return {
            "patient_id": str(self.patients[number % len(self.patients)]),
            "step_kind": "preparation",
            "starts_at": start.isoformat(),
            "assignments": [
                {"role": "therapist", "schedule_id": str(self.therapists[pair])},
                {"role": "room", "schedule_id": str(self.rooms[pair])},
            ],
        }


@contextmanager
def place() -> Iterator[Place]:
    """A fresh database with the clinic."""
    with scratch(environ.get("DATABASE_URL")) as ways:
        engine = create_engine(ways.service)
        with Session(engine) as session:
            clinic_id = intake.clinic.store(
                session, intake.clinic.read(ROOT / "demo"), "benchmark", NOW
            )
            site_id = session.scalars(select(Site.id).where(Site.name == "Harbor House")).one()
            therapists = [
                make_practitioner(session, site_id, PractitionerRole.THERAPIST)[1]
                for _ in range(PAIRS)
            ]
            rooms = [make_room(session, site_id, "consulting") for _ in range(PAIRS)]
            patients = [make_patient(session)[0] for _ in range(PAIRS * 2)]
            for patient_id in session.scalars(select(Patient.id)).all():
                clear(session, patient_id, ["medical-clearance", "consent"], at=NOW)
            session.commit()
        engine.dispose()
        yield Place(ways, clinic_id, therapists, rooms, patients)


@contextmanager
def serving(where: Place, mail: MailServer, *processes: str, **more: str) -> Iterator[Service]:
    """The service on that database, its clock standing still."""
    with (
        tempfile.TemporaryDirectory(prefix="afterglow-bench-") as folder,
        running(where.ways, Path(folder), mail, NOW) as service,
    ):
        service.more.update({"LOG_LEVEL": "warning", **more})
        engine = create_engine(where.ways.service)
        with Session(engine) as session:
            give_keys(service, session, where.clinic_id, NOW)
        engine.dispose()
        for name in processes:
            service.start(name)
        yield service


def peak_mb(pid: int) -> float:
    """The most resident memory that a process and its children ever had, in MB.

    Where the system does not keep the peak (it does on Linux), what they have now.
    """
    process = psutil.Process(pid)
    return sum(_peak(one) for one in [process, *process.children(recursive=True)]) / 1e6


def _peak(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return float(process.memory_info().rss)
    told = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return float(told["VmHWM"].split()[0]) * 1024
