"""Messages across both changes of clocks: each once, at its instant, by real workers.

The instants are written out by hand. Two days before is the same wall time, 48 hours elapse,
a wall time that is skipped is the first one after it, of one that comes twice the first counts.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from database.access import Access
from models import enter_clinic
from models.vocabulary import Role, StepKind
from scheduler import booking
from scheduler.authority import Authority
from scheduler.booking import Order
from scheduler.permissions import BUNDLES
from tests.conftest import clean
from tests.factories import make_patient, make_protocol, make_world, protocol_content, rule
from tests.fakes import mail_server
from tests.faults.conftest import Note
from tests.faults.trial import whole
from tests.ledger import Row
from tests.service import Service, running

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
START = datetime(2027, 1, 4, 14, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)

CHANGES = [
    # zone, the Monday after, a wall time of the Sunday, two days before, 48 hours, the Sunday
    ("America/New_York", "2027-03-15", "02:30", "03-13 15:00", "03-13 14:00", "03-14 07:00"),
    ("America/New_York", "2027-11-08", "01:30", "11-06 14:00", "11-06 15:00", "11-07 05:30"),
    ("Europe/London", "2027-03-29", "01:30", "03-27 10:00", "03-27 09:00", "03-28 01:00"),
    ("Europe/London", "2027-11-01", "01:30", "10-30 09:00", "10-30 10:00", "10-31 00:30"),
    ("Australia/Lord_Howe", "2027-04-05", "01:45", "04-02 23:00", "04-02 23:30", "04-03 14:45"),
    ("Australia/Lord_Howe", "2027-10-04", "02:15", "10-01 23:30", "10-01 23:00", "10-02 15:30"),
]

SHORT = {"Australia/Lord_Howe"}
"""Tried in the short run too: half an hour is the hardest."""

pytestmark = pytest.mark.faults


@pytest.fixture
def service(database: Access, tmp_path: Path) -> Iterator[Service]:
    with mail_server() as mail, running(database, tmp_path, mail, START) as service:
        yield service
    clean(database)


@pytest.mark.parametrize(
    ("zone", "day", "wall", "same_wall", "elapsed", "changed"),
    [
        pytest.param(*change, marks=() if change[0] in SHORT else whole, id="-".join(change[:2]))
        for change in CHANGES
    ],
)
def test_each_is_said_once_and_at_its_instant(  # a table
    service: Service,
    service_engine: Engine,
    note: Note,
    zone: str,
    day: str,
    wall: str,
    same_wall: str,
    elapsed: str,
    changed: str,
) -> None:
    starts_at = datetime.fromisoformat(f"{day} 10:00").replace(tzinfo=ZoneInfo(zone))
    with Session(service_engine) as session:
        book(session, zone, wall, starts_at)
    service.start("worker1")
    service.start("worker2")
    expected = sorted(
        datetime.fromisoformat(f"2027-{told}").replace(tzinfo=UTC)
        for told in (same_wall, elapsed, changed)
    )
    expected.append(starts_at.astimezone(UTC) - timedelta(hours=3))

    for number, instant in enumerate(expected):
        service.set_clock(instant - SECOND)
        assert len(told(service)) == number, f"too early for {instant}"
        service.set_clock(instant)
        service.wait_until(partial(_heard, service, number + 1), f"a message at {instant}")
        assert len(told(service)) == number + 1, f"more than one at {instant}"
    service.set_clock(starts_at + timedelta(days=1))

    assert len(told(service)) == len(set(told(service))) == 4
    note(
        Row(
            fault=f"change of clocks, {zone}, {day}",
            tried=4,
            lost=0,
            doubled=0,
            wrong=0,
            uncertain=0,
            late=0,
        )
    )


def _heard(service: Service, number: int) -> bool:
    return len(told(service)) >= number


def told(service: Service) -> list[str]:
    """What the patient has got."""
    return [str(mail["Message-ID"]) for mail in service.mail.mails if "Ada" in str(mail["To"])]


def book(session: Session, zone: str, wall: str, starts_at: datetime) -> None:
    """A visit on the Monday after the change, and four messages around it."""
    world = make_world(session)
    content = protocol_content()
    content["code"] = "across"
    content["cadences"]["plain"] = [
        rule("same-wall", "confirm-request", {"days": -2, "at": "same"}),
        rule("elapsed", "confirm-request", {"hours": -48, "from": "start"}),
        rule("changed", "confirm-request", {"days": -1, "at": wall}),
        rule("hours", "day-of", {"hours": -3, "from": "start"}),
    ]
    version_id = make_protocol(session, content)
    session.execute(
        text(
            "UPDATE clinic SET quiet_from = '00:00', quiet_until = '00:00', time_zone = :zone, "
            "default_protocol_id = (SELECT protocol_id FROM protocol_version WHERE id = :version)"
        ),
        {"zone": zone, "version": version_id},
    )
    session.execute(text("UPDATE site SET time_zone = :zone"), {"zone": zone})
    patient_id, _ = make_patient(session)
    session.commit()
    session.expire_all()
    enter_clinic(session, world.clinic_id)
    order = Order(patient_id=patient_id, starts_at=starts_at, step_kind=StepKind.PREPARATION)
    booking.book(session, order, by=DESK, now=START)
    session.commit()
