"""Visits are moved and cancelled at the very moment at which their messages go out."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from models import Message, enter_clinic
from models.vocabulary import MessageKind, MessageState, Role
from tests.factories import DAY, SUNDAY_NOON
from tests.faults.conftest import Note
from tests.faults.place import HOURS, THE_DAY, Place
from tests.faults.trial import many
from tests.ledger import Row
from tests.service import Service

VISITS = many(50, 200)
AT_A_TIME = many(10, 30)
"""Visits that are changed in one race."""

pytestmark = pytest.mark.faults


@dataclass
class Change:
    """A visit was moved or cancelled, and this is what the answer said had left already."""

    appointment_id: UUID
    action: str
    out: set[UUID]


def test_moved_or_cancelled_as_the_message_leaves(
    service: Service, service_engine: Engine, note: Note
) -> None:
    rng = Random(os.environ["FAULT_SEED"])
    service.more["WEB_THREADS"] = "8"
    with Session(service_engine) as session:
        place = Place(session, service, VISITS)
        service.start("web")
        with ThreadPoolExecutor(4) as pool:
            ids = list(pool.map(lambda n: book(service, place.order(n)), range(VISITS)))
        session.rollback()
        service.start("worker1")
        service.start("worker2")
        service.set_clock(SUNDAY_NOON + timedelta(minutes=4))  # all are confirmed
        service.mail.wait_for(VISITS)
        changes: list[Change] = []
        left = list(ids)
        for hours in HOURS:
            batch = [left.pop(rng.randrange(len(left))) for _ in range(AT_A_TIME)]
            service.set_clock(THE_DAY + timedelta(hours=hours) - timedelta(seconds=1))
            service.mail.pause = 0.01
            changes += race(service, batch, THE_DAY + timedelta(hours=hours + 8), rng)
            service.mail.pause = 0
            for minutes in (10, 11):  # what was changed in hand is due again a second later
                service.set_clock(THE_DAY + timedelta(hours=hours + 8, minutes=minutes))
        service.set_clock(THE_DAY + 8 * DAY)
        note(verdict(session, place, service, changes))


def book(service: Service, order: dict[str, Any]) -> UUID:
    answer = service.call(Role.SCHEDULER, "POST", "/appointments", order)
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["id"])


def race(service: Service, batch: list[UUID], due: datetime, rng: Random) -> list[Change]:
    """Let a batch's messages become due, and change each visit some milliseconds from then."""
    begin = threading.Event()
    delays = {one: rng.uniform(0, 1.5) for one in batch}
    actions = {one: rng.choice(["cancel", "reschedule"]) for one in batch}

    def change(one: UUID) -> Change:
        path = f"/appointments/{one}"
        found = service.call(Role.SCHEDULER, "GET", path)
        told = {"reason": "invented"} if actions[one] == "cancel" else {}
        if actions[one] == "reschedule":
            starts_at = datetime.fromisoformat(found.json()["starts_at"])
            told["starts_at"] = (starts_at + 7 * DAY).isoformat()
        begin.wait(30)
        time.sleep(delays[one])
        answer = service.call(
            Role.SCHEDULER,
            "POST",
            f"{path}/{actions[one]}",
            told,
            **{"If-Match": found.headers["ETag"]},
        )
        assert answer.ok, answer.text
        return Change(one, actions[one], {UUID(out["id"]) for out in answer.json()["messages_out"]})

    with ThreadPoolExecutor(len(batch)) as pool:
        waiting = [pool.submit(change, one) for one in batch]
        time.sleep(0.5)  # until all have read their visit; a late one only races less
        service.set_clock(due, swept=False)
        begin.set()
        return [one.result() for one in waiting]


def verdict(session: Session, place: Place, service: Service, changes: list[Change]) -> Row:
    """Everything that left for a visit that was changed had been reported, and was corrected."""
    enter_clinic(session, place.clinic_id)
    service.wait_until(lambda: settled(session), "all to be settled")
    said = [UUID(str(mail["Message-ID"])[1:].split("@")[0]) for mail in service.mail.mails]
    messages = {one.id: one for one in session.scalars(select(Message))}
    wrong, reported = 0, 0
    for change in changes:
        mine = [one for one in messages.values() if one.appointment_id == change.appointment_id]
        last = max(one.revision for one in mine)
        for one in mine:
            is_old = one.kind is MessageKind.CONFIRM_REQUEST and (
                change.action == "cancel" or one.revision < last
            )
            if is_old and one.id in said:
                reported += one.id in change.out
                wrong += one.id not in change.out
        kind = MessageKind.CANCELLATION if change.action == "cancel" else MessageKind.MOVED
        assert [one.state for one in mine if one.kind is kind] == [MessageState.SENT], change
    assert reported, "no message was as far as that: the race was not run"
    row = Row(
        fault="moved or cancelled in the millisecond before the send",
        tried=len(messages),
        lost=sum(
            one.state is MessageState.SENT and one.id not in said for one in messages.values()
        ),
        doubled=len(said) - len(set(said)),
        wrong=wrong,
        uncertain=sum(one.state is MessageState.UNCERTAIN for one in messages.values()),
        late=0,
    )
    assert (row.lost, row.doubled, row.wrong, row.uncertain) == (0, 0, 0, 0), row
    return row


def settled(session: Session) -> bool:
    session.rollback()
    unsettled = [MessageState.SENDING, MessageState.SCHEDULED]
    return not session.scalars(select(Message.id).where(Message.state.in_(unsettled))).first()
