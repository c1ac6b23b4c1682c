"""Random sequences of what may happen to visits, held against a small model of what is said.

The model knows three rules of a cadence and what staff's acts mean to a patient; it says which
messages leave when the worker looks, exactly. The service is the real one on a real database; a
worker's death is an end without a goodbye at a point of a message's way.
"""

import contextlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from database import access
from database.access import Access
from models import Message, Patient, enter_clinic
from models.vocabulary import Channel, Role, StepKind
from notifications.channels import Accepted, Envelope, Outcome
from notifications.delivery import Delivery
from scheduler import booking, replies
from scheduler.authority import Authority, Call
from scheduler.booking import Move, Order
from scheduler.permissions import BUNDLES
from scheduler.replies import Wish
from tests import factories
from tests.conftest import clean
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, make_patient, make_world

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
HOUR = timedelta(hours=1)
SETTLE = timedelta(minutes=3)
SLOTS = [MONDAY_9 + day * DAY + hour * HOUR for day in range(4) for hour in (0, 3, 6)]
RULES = [
    factories.rule("booked", "confirmation", {"on": "booking"}),
    factories.rule("asked", "confirm-request", {"hours": -24, "from": "start"}),
    factories.rule("see-you", "day-of", {"hours": -3, "from": "start"}),
]
SAID_TWICE_IF_IN_DOUBT = {"moved", "cancelled"}

Key = tuple[int, str, int]
"""A visit, a rule, and a revision of the visit."""


class Died(BaseException):
    """The worker is dead; nothing of it goes on."""


@dataclass
class Sink:
    """A channel that takes everything."""

    taken: list[UUID] = field(default_factory=list)

    def hand_over(self, envelope: Envelope) -> Outcome:
        self.taken.append(UUID(envelope.name[-36:]))
        return Accepted()

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class Visit:
    """What the model knows of a visit."""

    patient: int
    starts_at: datetime
    revision: int = 1
    stands: bool = True
    told: datetime | None = None
    """The start that the patient was told of, or may have been."""


@dataclass
class Due:
    """What is to be said."""

    at: datetime
    not_after: datetime
    tries: int = 0


class Model:
    """What should happen, in a few lines."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self.waiting: dict[Key, Due] = {}
        self.silent: set[int] = set()

    def book(self, patient: int, start: datetime, now: datetime) -> None:
        self.visits.append(Visit(patient, start))
        self._plan(len(self.visits) - 1, ["booked", "asked", "see-you"], now)

    def move(self, number: int, start: datetime, now: datetime) -> None:
        visit = self.visits[number]
        self._forget(number)
        visit.starts_at, visit.revision = start, visit.revision + 1
        news = "booked" if visit.told is None else "moved"
        self._plan(number, [news] if visit.told != start else [], now)
        self._plan(number, ["asked", "see-you"], now)

    def cancel(self, number: int, now: datetime) -> None:
        visit = self.visits[number]
        self._forget(number)
        visit.stands, visit.revision = False, visit.revision + 1
        if visit.told is not None:
            self._plan(number, ["cancelled"], now)

    def opt(self, patient: int, given: bool) -> None:
        if given:
            self.silent.discard(patient)
            return
        self.silent.add(patient)
        for key in [key for key in self.waiting if self.visits[key[0]].patient == patient]:
            del self.waiting[key]

    def due(self, now: datetime) -> set[Key]:
        """What leaves when a worker looks at `now`; what comes too late is forgotten."""
        late = {key for key, due in self.waiting.items() if due.at <= now and due.not_after < now}
        for key in late:
            del self.waiting[key]
        return {key for key, due in self.waiting.items() if due.at <= now}

    def said(self, key: Key) -> None:
        """It was said, or nobody knows."""
        del self.waiting[key]
        if key[1] in {"booked", "moved"}:
            self.visits[key[0]].told = self.visits[key[0]].starts_at

    def _forget(self, number: int) -> None:
        for key in [key for key in self.waiting if key[0] == number]:
            del self.waiting[key]

    def _plan(self, number: int, rules: list[str], now: datetime) -> None:
        visit = self.visits[number]
        if visit.patient in self.silent:
            return
        start, first = visit.starts_at, now + SETTLE
        useful = {
            "booked": (first, start - HOUR),
            "moved": (first, start),
            "cancelled": (first, start),
            "asked": (start - 24 * HOUR, start - HOUR),
            "see-you": (start - 3 * HOUR, start - HOUR),
        }
        for name in rules:
            at, not_after = useful[name]
            if first <= at <= not_after:
                self.waiting[number, name, visit.revision] = Due(at, not_after)


class Messages(RuleBasedStateMachine):
    """The service and the model, side by side."""

    database: Access
    service: Engine
    worker: Engine

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.now = SUNDAY_NOON
        self.sink = Sink()
        self.ids: list[UUID] = []
        self.said: Counter[Key] = Counter()
        self.in_doubt: set[Key] = set()
        self.dies_at = ""
        self.delivery = self._new_worker()

    @initialize()
    def begin(self) -> None:
        clean(self.database)
        with Session(self.service) as session:
            world = make_world(session)
            self.clinic_id = world.clinic_id
            self.patients = [world.patient_id, make_patient(session)[0]]
            session.execute(text("UPDATE clinic SET quiet_from = '00:00', quiet_until = '00:00'"))
            session.execute(
                text(
                    "INSERT INTO cadence_override "
                    "(id, protocol_id, cadence, number, rules, written_by) "
                    "SELECT gen_random_uuid(), protocol_id, 'plain', 1, "
                    "CAST(:rules AS jsonb), 'test' FROM protocol_version WHERE id = :version"
                ),
                {"rules": json.dumps(RULES), "version": world.protocol_version_id},
            )
            session.commit()

    @rule(patient=st.integers(0, 1), data=st.data())
    def book(self, patient: int, data: st.DataObject) -> None:
        if not (free := self._free()):
            return
        start = data.draw(st.sampled_from(free))
        with self._session() as session:
            order = Order(
                patient_id=self.patients[patient],
                starts_at=start,
                step_kind=StepKind.PREPARATION,
            )
            self.ids.append(booking.book(session, order, by=DESK, now=self.now).id)
            session.commit()
        self.model.book(patient, start, self.now)

    @precondition(lambda self: self._standing())
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self._standing()))
        if not (free := self._free()):
            return
        start = data.draw(st.sampled_from(free))
        with self._session() as session:
            call = Call(self.ids[number], None)
            booking.reschedule(session, call, Move(starts_at=start), by=DESK, now=self.now)
            session.commit()
        self.model.move(number, start, self.now)

    @precondition(lambda self: self._standing())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self._standing()))
        with self._session() as session:
            booking.cancel(session, Call(self.ids[number], None), by=DESK, now=self.now)
            session.commit()
        self.model.cancel(number, self.now)

    @rule(patient=st.integers(0, 1), given=st.booleans())
    def opt(self, patient: int, given: bool) -> None:
        with self._session() as session:
            row = session.get_one(Patient, (self.clinic_id, self.patients[patient]))
            wish = Wish(
                channel=Channel.EMAIL,
                given=given,
                wording="invented",
                source="test",
                noted_by="test",
                at=self.now,
            )
            replies.grant(session, row, wish)
            session.commit()
        self.model.opt(patient, given)

    @rule(minutes=st.sampled_from([1, 4, 50, 300, 1300]))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        expected = self.model.due(self.now)
        told = self._look()
        assert told == Counter(expected)
        for key in expected:
            self.model.said(key)

    @rule(
        minutes=st.sampled_from([4, 300, 1300]),
        point=st.sampled_from(["claimed", "released", "handed-over"]),
    )
    def a_worker_dies(self, minutes: int, point: str) -> None:
        self.now += timedelta(minutes=minutes)
        expected = self.model.due(self.now)
        self.dies_at = point
        told = self._look()
        self.dies_at = ""
        self._bury()
        released = self._in_hand(expected)
        assert set(told) == (released if point == "handed-over" else set())
        assert not (released and point == "claimed")  # a letter to staff may have been in hand
        for key in released:
            due = self.model.waiting[key]
            due.tries += 1
            if key[1] in SAID_TWICE_IF_IN_DOUBT and due.tries == 1:
                self.in_doubt.add(key)  # said once more, under the same Message-ID
            else:
                self.model.said(key)

    def teardown(self) -> None:
        for _ in range(30):  # whatever is left is said, or comes too late
            self.time_passes(300)
        assert not self.model.waiting
        with self._session() as session:
            states = set(session.scalars(select(Message.state)))
            assert not states & {"scheduled", "sending"}, states
        for key, times in self.said.items():
            assert times <= (2 if key in self.in_doubt else 1), (key, times)
        self.delivery.close()

    def _free(self) -> list[datetime]:
        taken = {one.starts_at for one in self.model.visits if one.stands}
        return [slot for slot in SLOTS if slot > self.now and slot not in taken]

    def _standing(self) -> list[int]:
        return [
            number
            for number, one in enumerate(self.model.visits)
            if one.stands and one.starts_at > self.now
        ]

    def _look(self) -> Counter[Key]:
        """Let the worker look; what patients were told, by the keys of the model."""
        before = len(self.sink.taken)
        with contextlib.suppress(Died):
            self.delivery.sweep()
        self.delivery.tidy()
        carriers = self.sink.taken[before:]
        with self._session() as session:
            rows = session.scalars(
                select(Message).where(
                    (Message.id.in_(carriers)) | (Message.carried_by.in_(carriers)),
                    Message.recipient == "patient",
                    Message.state != "uncertain",  # was in the letter before, not in this one
                )
            ).all()
            told = Counter(
                self._key(row)
                for row in rows
                for _ in range(carriers.count(row.carried_by or row.id))
            )
        self.said += told
        return told

    def _bury(self) -> None:
        """The dead worker's leases end, doubts grow old, another worker takes over."""
        self.delivery.close()
        with access.connect(self.database.owner) as owner:
            owner.execute("SELECT set_config('afterglow.clinic', %s, false)", [str(self.clinic_id)])
            owner.execute(
                "UPDATE message SET leased_until = now() - interval '1 s', "
                "released_at = released_at - interval '5 min' WHERE state = 'sending'"
            )
        with self._session() as session:
            self.held = {
                self._key(row)
                for row in session.scalars(
                    select(Message).where(
                        Message.state == "sending",
                        Message.released_at.is_not(None),
                        Message.recipient == "patient",
                    )
                )
            }
        self.delivery = self._new_worker()
        self.delivery.tidy()

    def _in_hand(self, expected: set[Key]) -> set[Key]:
        """What the dead one had released."""
        assert self.held <= expected
        return self.held

    def _key(self, row: Message) -> Key:
        assert row.appointment_id is not None
        return self.ids.index(row.appointment_id), row.rule, row.revision

    def _new_worker(self) -> Delivery:
        def at(point: str) -> None:
            if point == self.dies_at:
                raise Died

        return Delivery(
            lambda: access.connect(self.worker.url),
            [self.sink],
            lambda: self.now,
            "http://clinic.test",
            "secret",
            at=at,
        )

    def _session(self) -> Session:
        session = Session(self.service)
        enter_clinic(session, self.clinic_id)
        return session


def _on(database: Access, service: Engine, worker: Engine) -> type[Messages]:
    ways = {"database": database, "service": service, "worker": worker}
    return type("OnDatabase", (Messages,), ways)


def test_what_is_said_is_what_the_model_says(
    database: Access, service_engine: Engine, worker_engine: Engine
) -> None:
    try:
        run_state_machine_as_test(
            _on(database, service_engine, worker_engine),
            settings=settings(
                max_examples=300 if os.environ.get("FAULTS") == "whole" else 12,
                stateful_step_count=16,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        clean(database)
