"""The demo's practice, started for each story."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

import intake.clinic
from api import keys
from database.access import Access
from models import Practitioner
from models.vocabulary import Role
from tests.conftest import clean
from tests.fakes import mail_server
from tests.service import ROOT, give_keys, running
from tests.stories.house import START, House


@pytest.fixture
def house(database: Access, service_engine: Engine, tmp_path: Path) -> Iterator[House]:
    with mail_server() as mail, running(database, tmp_path, mail, START) as service:
        with Session(service_engine) as session:
            read = intake.clinic.read(ROOT / "demo")
            clinic_id = intake.clinic.store(session, read, "import", START)
            session.commit()
            people = select(Practitioner.id)
            doctor = people.where(Practitioner.name == "Dr. Paula Prescriber")
            monitor = people.where(Practitioner.name == "Mona Monitor, RN")
            prescriber_id = session.scalars(doctor).one()
            give_keys(service, session, clinic_id, START, clinician=prescriber_id)
            nurse_id = session.scalars(monitor).one()
            _, nurse = keys.issue(session, "nurse", Role.CLINICIAN, nurse_id, START)
            session.commit()
        service.start("web")
        service.start("worker")
        yield House(service, nurse)
    clean(database)
