"""A message is handed over within two seconds of its time, by the machine's own clock."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from database.access import Access
from models.vocabulary import PractitionerRole, StepKind
from scheduler import booking
from scheduler.authority import Authority
from scheduler.booking import Order
from tests.conftest import clean
from tests.factories import make_patient, make_practitioner, make_room, make_world
from tests.fakes import mail_server
from tests.service import Service, running

pytestmark = pytest.mark.faults


@pytest.fixture
def service(database: Access, tmp_path: Path) -> Iterator[Service]:
    now = datetime.now(UTC)
    with mail_server() as mail, running(database, tmp_path, mail, now) as service:
        service.more["AFTERGLOW_CLOCK"] = ""
        service.start("worker")
        yield service
    clean(database)


def test_within_two_seconds_of_its_time(service: Service, service_engine: Engine) -> None:
    with Session(service_engine) as session:
        world = make_world(session)
        # Nothing is quiet, nothing settles: what is booked is said at once.
        session.execute(
            text(
                "UPDATE clinic SET quiet_from = '00:00', quiet_until = '00:00', settle_minutes = 0"
            )
        )
        for _ in range(5):
            make_practitioner(session, world.site_id, PractitionerRole.THERAPIST)
            make_room(session, world.site_id, "consulting")
        session.commit()
        service.wait_until(lambda: _beats(session), "the worker")
        start = _weekday_noon()
        late = []
        for number in range(5):
            patient_id, _ = make_patient(session)
            order = Order(patient_id=patient_id, starts_at=start, step_kind=StepKind.PREPARATION)
            booked_at = datetime.now(UTC)
            booking.book(session, order, by=Authority("test"), now=booked_at)
            session.commit()
            service.mail.wait_for(number + 1, seconds=10)
            late.append((datetime.now(UTC) - booked_at).total_seconds())
    assert max(late) < 2, late


def _beats(session: Session) -> bool:
    session.rollback()
    return bool(session.scalar(text("SELECT count(*) FROM worker")))


def _weekday_noon() -> datetime:
    """17:00 UTC on a weekday a month ahead: open in New York in any season."""
    day = datetime.now(UTC) + timedelta(days=30)
    while day.weekday() > 4:
        day += timedelta(days=1)
    return day.replace(hour=17, minute=0, second=0, microsecond=0)
