"""Fifty people want one time at once. One gets it; the others are told, quickly and plainly."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

import intake.clinic
from database.access import Access
from models import Appointment, AppointmentEvent, Message, Patient, Slot, enter_clinic
from models.vocabulary import MessageKind, Role
from tests.conftest import clean
from tests.factories import clear, screen
from tests.fakes import mail_server
from tests.service import ROOT, Service, give_keys, running

START = datetime(2027, 2, 15, 14, 0, tzinfo=UTC)
MANY = 50

pytestmark = pytest.mark.faults


@pytest.fixture
def service(database: Access, service_engine: Engine, tmp_path: Path) -> Iterator[Service]:
    with mail_server() as mail, running(database, tmp_path, mail, START) as service:
        with Session(service_engine) as session:
            files = intake.clinic.read(ROOT / "demo")
            clinic_id = intake.clinic.store(session, files, "import", START)
            for patient_id in session.scalars(select(Patient.id)):
                for_what: dict[str, Any] = {"medicine": "ketamine", "route": "intramuscular"}
                clear(session, patient_id, ["medical-clearance", "consent"], at=START, **for_what)
                screen(session, patient_id, at=START)
            session.commit()
            give_keys(service, session, clinic_id, START)
        service.start("web")
        yield service
    clean(database)


@pytest.mark.parametrize("kind", ["preparation", "dosing"])
def test_of_fifty_at_once_exactly_one_wins(
    service: Service, service_engine: Engine, kind: str
) -> None:
    patients = [
        one["id"]
        for one in service.call(Role.SCHEDULER, "GET", "/patients?limit=200").json()["items"]
    ]
    opening = _opening(service, kind)
    rng = random.Random(50)

    def ask(number: int) -> tuple[int, float]:
        named = rng.sample(opening["assignments"], len(opening["assignments"]))
        told = {
            "patient_id": patients[number % len(patients)],
            "step_kind": kind,
            "starts_at": opening["starts_at"],
            "assignments": named,
        }
        begun = time.monotonic()
        answer = service.call(Role.SCHEDULER, "POST", "/appointments", told)
        return answer.status_code, time.monotonic() - begun

    with ThreadPoolExecutor(MANY) as pool:
        answers = list(pool.map(ask, range(MANY)))

    assert Counter(status for status, _ in answers) == {201: 1, 409: MANY - 1}
    assert max(seconds for _, seconds in answers) < 5
    with Session(service_engine) as session:
        _assert_whole(session, service, len(opening["assignments"]))


def _opening(service: Service, kind: str) -> Any:
    start = START + timedelta(days=7)
    path = f"/openings?step_kind={kind}&from={_z(start)}&to={_z(start + timedelta(days=2))}&limit=1"
    [opening] = service.call(Role.SCHEDULER, "GET", path).json()["items"]
    return opening


def _assert_whole(session: Session, service: Service, served: int) -> None:
    """One visit, everything that belongs to it, and nothing of the other forty-nine."""
    clinic_id = UUID(service.call(Role.ADMIN, "GET", "/clinic").json()["id"])
    enter_clinic(session, clinic_id)
    assert session.scalar(select(func.count()).select_from(Appointment)) == 1
    assert session.scalar(select(func.count()).select_from(AppointmentEvent)) == 1
    slots = session.scalars(select(Slot.role).where(Slot.status == "busy")).all()
    assert len(slots) == served + 1  # and the patient
    assert session.scalar(select(func.count(func.distinct(Message.appointment_id)))) == 1
    confirmed = select(func.count()).where(Message.kind == MessageKind.CONFIRMATION)
    assert session.scalar(confirmed) == 1


def _z(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
