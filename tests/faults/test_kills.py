"""Processes are killed at random while visits are booked and messages go out.

Whatever was answered with 2xx is there, whole. Every message was handed over once, or is
marked uncertain, and of those there are no more than were in hand at a kill.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from database.access import Access
from models import Appointment, AppointmentEvent, ChecklistItem, Message, Slot, enter_clinic
from models.vocabulary import MessageState, PractitionerRole, Role
from tests.conftest import clean
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
from tests.fakes import mail_server
from tests.service import Service, give_keys, running

VISITS, AT_ONCE = 200, 25
SENDERS = 4
"""Messages that one worker has in hand at a time, and so at a kill."""
THE_DAY = MONDAY_9 + 14 * DAY - timedelta(hours=1)  # 09:00, after the clocks went forward
HOURS = (-250, -200, -150, -100)

pytestmark = pytest.mark.faults


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
    """A clinic large enough for two hundred visits on one day."""

    def __init__(self, session: Session, service: Service) -> None:
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
        self.patients = [make_patient(session)[0] for _ in range(VISITS)]
        session.commit()
        give_keys(service, session, self.clinic_id, SUNDAY_NOON)

    def order(self, number: int) -> dict[str, Any]:
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


@pytest.fixture
def service(database: Access, tmp_path: Path) -> Iterator[Service]:
    with mail_server() as mail, running(database, tmp_path, mail, SUNDAY_NOON) as service:
        yield service
    clean(database)


@contextmanager
def killing(service: Service, rng: random.Random, *names: str) -> Iterator[Counter[str]]:
    """Kill one of the processes again and again, and start it again at once."""
    kills: Counter[str] = Counter()
    enough = threading.Event()

    def storm() -> None:
        while not enough.wait(rng.uniform(0.3, 1.8)):
            name = rng.choice(names)
            service.kill(name)
            kills[name] += 1
            service.start(name)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        yield kills
    finally:
        enough.set()
        thread.join(60)


def test_kills_lose_nothing_and_double_nothing(
    service: Service, service_engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    with Session(service_engine) as session:
        place = Place(session, service)
        for name in ("web", "worker1", "worker2"):
            service.start(name)

        with killing(service, rng, "web") as web_kills, ThreadPoolExecutor(4) as pool:
            ids = list(pool.map(lambda n: _book(service, place.order(n), n), range(VISITS)))
        _assert_booked_whole(session, place, ids)
        session.rollback()  # the database ends a transaction that idles

        with killing(service, rng, "worker1", "worker2") as worker_kills:
            service.set_clock(SUNDAY_NOON + timedelta(minutes=4))
            for hours in HOURS:
                for passed in (0, 3, 8):
                    service.set_clock(THE_DAY + timedelta(hours=hours + passed))
        _let_leases_end(service, session)

        uncertain = _assert_said_once(session, place, service)
    kills = sum(worker_kills.values())
    with capsys.disabled():
        print(  # noqa: T201  # what the run tried, for whoever reads the output
            f"\nseed {seed}: {VISITS} visits under {web_kills['web']} kills of the web, "
            f"{5 * VISITS} messages under {kills} kills of workers: lost 0, doubled 0, "
            f"uncertain {uncertain}"
        )
    assert uncertain <= SENDERS * kills


def _book(service: Service, order: dict[str, Any], number: int) -> UUID:
    """Book, and if nobody answers ask again under the same key, as a good client does."""
    give_up = time.monotonic() + 60
    while True:
        try:
            answer = service.call(
                Role.SCHEDULER,
                "POST",
                "/appointments",
                order,
                **{"Idempotency-Key": f"visit-{number:06d}"},
            )
        except requests.ConnectionError:
            assert time.monotonic() < give_up
            time.sleep(0.05)  # the far side is being started: there is no event to wait for
            continue
        if answer.status_code == 409 and answer.json()["type"].endswith("still-running"):
            continue
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])


def _assert_booked_whole(session: Session, place: Place, ids: list[UUID]) -> None:
    enter_clinic(session, place.clinic_id)
    assert len(set(ids)) == VISITS
    assert set(session.scalars(select(Appointment.id))) == set(ids)
    for model, each in ((Slot, 3), (AppointmentEvent, 1), (ChecklistItem, 1), (Message, 5)):
        counted = session.execute(
            select(func.count()).select_from(model).group_by(model.appointment_id)
        ).scalars()
        assert Counter(counted) == {each: VISITS}, model


def _let_leases_end(service: Service, session: Session) -> None:
    """What dead workers held is taken back once their leases end; time passes in the rows.

    The living put down what they have in hand first, so that only the dead's leases end early.
    """
    service.stop("worker1", "worker2")
    session.execute(
        text("UPDATE message SET leased_until = now() - interval '1 s' WHERE state = 'sending'")
    )
    session.commit()
    past_every_backoff = datetime.fromisoformat(service.clock_file.read_text()) + timedelta(hours=4)
    service.set_clock(past_every_backoff, swept=False)
    service.start("worker1")

    def nothing_is_open() -> bool:
        session.rollback()
        states = (MessageState.SENDING, MessageState.SCHEDULED)
        return not session.scalar(select(func.count()).where(Message.state.in_(states)))

    service.wait_until(nothing_is_open, "every message to be settled")


def _assert_said_once(session: Session, place: Place, service: Service) -> int:
    session.rollback()
    arrived = Counter(
        UUID(str(mail["Message-ID"]).strip("<>").split("@")[0]) for mail in service.mail.mails
    )
    assert set(arrived.values()) <= {1}, "said twice"
    states = dict(session.execute(select(Message.id, Message.state)).all())
    assert len(states) == 5 * VISITS
    assert Counter(states.values()).keys() <= {MessageState.SENT, MessageState.UNCERTAIN}
    for message_id, state in states.items():
        if state is MessageState.SENT:
            assert arrived[message_id] == 1, "lost"
    return sum(state is MessageState.UNCERTAIN for state in states.values())
