"""Processes are killed at random while visits are booked and messages go out.

Whatever was answered with 2xx is there, whole. Every message was handed over once, or is
marked uncertain, and of those there are no more than were in hand at a kill.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import requests
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from models import Appointment, AppointmentEvent, ChecklistItem, Message, Slot, enter_clinic
from models.vocabulary import MessageState, Role
from tests.factories import SUNDAY_NOON
from tests.faults.conftest import Note
from tests.faults.place import HOURS, THE_DAY, Place
from tests.faults.trial import many
from tests.ledger import Row
from tests.service import Service

VISITS = many(75, 200)
SENDERS = 4
"""Messages that one worker has in hand at a time, and so at a kill."""

pytestmark = pytest.mark.faults


@contextmanager
def killing(service: Service, rng: random.Random, *names: str) -> Iterator[Counter[str]]:
    """Kill one of the processes again and again, and start it again at once."""
    kills: Counter[str] = Counter()
    enough = threading.Event()

    def storm() -> None:
        while not enough.wait(rng.uniform(1.0, 3.0)):
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
    service: Service, service_engine: Engine, note: Note
) -> None:
    rng = random.Random(os.environ["FAULT_SEED"])
    with Session(service_engine) as session:
        place = Place(session, service, VISITS)
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
    note(
        Row(
            fault=f"booking and sending: {web_kills['web']} kills of the web, {kills} of 2 workers",
            tried=5 * VISITS,
            lost=0,
            doubled=0,
            wrong=0,
            uncertain=uncertain,
            late=0,
        )
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
