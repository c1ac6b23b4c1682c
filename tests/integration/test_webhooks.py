"""Other systems are told: in the change's own transaction, signed, again and again, and safely."""

import base64
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, delete, select, text
from sqlalchemy.orm import Session
from standardwebhooks import WebhookVerificationError
from uuid_utils.compat import uuid7

from database import access
from database.access import Access, connect
from models import (
    Appointment,
    ChecklistItem,
    Message,
    Slot,
    Task,
    Webhook,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEvent,
    WebhookSecret,
    enter_clinic,
)
from models.vocabulary import (
    AppointmentStatus,
    CourseStatus,
    DeliveryState,
    Progress,
    StepKind,
    SwitchedOff,
    TaskKind,
    TaskStatus,
)
from notifications import herald as heralds
from notifications import hooks, queue, reading, signing
from notifications.events import PING, TYPES
from notifications.herald import Herald
from notifications.hooks import Outcome, judge
from notifications.outside import Outside
from scheduler import booking, courses, history
from scheduler.authority import Authority, Call
from scheduler.booking import Order
from scheduler.history import Happened
from scheduler.lifecycle import Action, State
from scheduler.placing import Named
from tests.factories import MONDAY_9, SUNDAY_NOON, World, clear, make_patient, make_world
from tests.receivers import Receiver, receiver

HOME = ip_network("127.0.0.0/8")
DESK = Authority("test")
DAY = timedelta(days=1)
_WAITS = "SELECT FROM pg_locks WHERE NOT granted"


def subscribe(session: Session, url: str, *types: str) -> UUID:
    """Make a webhook, with a secret."""
    webhook = Webhook(id=uuid7(), url=url, event_types=list(types or ("*",)))
    session.add(webhook)
    session.flush()
    signing.renew(reading.raw(session), webhook.id, timedelta(0))
    return webhook.id


def secrets_of(session: Session, webhook_id: UUID) -> list[str]:
    return signing.current(reading.raw(session), webhook_id)


def preparation(patient_id: UUID, starts_at: datetime, **more: Any) -> Order:
    kind = StepKind.PREPARATION
    return Order(patient_id=patient_id, starts_at=starts_at, step_kind=kind, **more)


def book(session: Session, world: World, starts_at: datetime = MONDAY_9) -> Appointment:
    order = preparation(world.patient_id, starts_at)
    return booking.book(session, order, by=DESK, now=SUNDAY_NOON)


def told(session: Session) -> list[str]:
    return list(session.scalars(select(WebhookEvent.type).order_by(WebhookEvent.created_at)))


@dataclass
class Telling:
    """A worker's herald with a clock that the test sets, and a receiver that verifies."""

    herald: Herald
    session: Session
    world: World
    to: Receiver
    id: UUID
    times: list[datetime] = field(default_factory=list)

    def ping(self, webhook_id: UUID | None = None) -> UUID:
        made = hooks.ping(reading.raw(self.session), webhook_id or self.id, SUNDAY_NOON)
        self.session.commit()
        return made

    def sweep(self, after: timedelta = timedelta(0)) -> WebhookDelivery:
        """Time passes, and what is due is told. Returns the oldest delivery."""
        self.times[0] += after
        self.herald.sweep()
        return self.delivery()

    def delivery(self, delivery_id: UUID | None = None) -> WebhookDelivery:
        self.session.rollback()
        self.session.expire_all()
        query = select(WebhookDelivery).order_by(WebhookDelivery.created_at)
        if delivery_id is not None:
            query = query.where(WebhookDelivery.id == delivery_id)
        found = self.session.scalars(query).first()
        assert found is not None
        return found

    @property
    def webhook(self) -> Webhook:
        self.session.rollback()
        self.session.expire_all()
        return self.session.get_one(Webhook, (self.world.clinic_id, self.id))

    def tries(self) -> list[tuple[int | None, str | None]]:
        self.session.rollback()
        rows = self.session.scalars(select(WebhookAttempt).order_by(WebhookAttempt.id))
        return [(one.status, one.error) for one in rows]

    def task(self) -> TaskStatus | None:
        self.session.rollback()
        return self.session.scalar(
            select(Task.status).where(
                Task.kind == TaskKind.CHECK_WEBHOOK, Task.subject_id == self.id
            )
        )


@pytest.fixture
def to(served: ssl.SSLContext) -> Iterator[Receiver]:
    with receiver(served) as there:
        yield there


@pytest.fixture
def telling(
    database: Access,
    to: Receiver,
    trusted: ssl.SSLContext,
    committed: Session,
    committed_world: World,
) -> Iterator[Telling]:
    webhook_id = subscribe(committed, to.url)
    committed.commit()
    times = [datetime.now(UTC) + timedelta(seconds=1)]
    herald = Herald(
        lambda: access.connect(database.worker),
        Outside([HOME], trusted, only_port=443),
        lambda: times[0],
    )
    yield Telling(herald, committed, committed_world, to, webhook_id, times)
    herald.close()


def test_a_booking_is_told_of_signed_and_says_ids_alone(telling: Telling) -> None:
    visit = book(telling.session, telling.world)
    telling.session.commit()

    delivery = telling.sweep()

    [heard] = telling.to.heard
    [secret] = secrets_of(telling.session, telling.id)
    assert heard.verified(secret) == {
        "type": "appointment.booked",
        "timestamp": "2026-03-01T12:00:00Z",
        "data": {
            "appointment_id": str(visit.id),
            "clinic_id": str(telling.world.clinic_id),
            "course_id": None,
            "patient_id": str(telling.world.patient_id),
            "revision": visit.revision,
            "version": visit.version,
        },
    }
    assert heard.headers["content-type"] == "application/json"
    assert heard.id == str(delivery.event_id)
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)
    assert (delivery.last_status, delivery.last_error) == (204, None)
    assert telling.tries() == [(204, None)]
    with pytest.raises(WebhookVerificationError):
        heard.verified("whsec_" + base64.b64encode(b"another" * 5).decode())


def test_what_is_taken_back_was_never_told(telling: Telling) -> None:
    book(telling.session, telling.world)
    assert told(telling.session) == ["appointment.booked"]
    telling.session.rollback()

    assert telling.herald.sweep() == 0
    assert told(telling.session) == []


def test_only_what_was_asked_for_is_told_and_only_while_it_is_on(
    session: Session, world: World
) -> None:
    ours = subscribe(session, "https://a.example.com/", "course.*", "appointment.cancelled")
    subscribe(session, "https://b.example.com/", "appointment.*")
    off = subscribe(session, "https://c.example.com/", "*")
    webhook = session.get_one(Webhook, (world.clinic_id, off))
    webhook.disabled_at, webhook.disabled_why = SUNDAY_NOON, SwitchedOff.BY_HAND
    session.flush()

    visit = book(session, world)
    booking.cancel(session, Call(visit.id, None, "ill"), by=DESK, now=SUNDAY_NOON)

    def to(webhook_id: UUID) -> list[str]:
        rows = session.scalars(
            select(WebhookEvent.type)
            .join(WebhookDelivery, WebhookDelivery.event_id == WebhookEvent.id)
            .where(WebhookDelivery.webhook_id == webhook_id)
        )
        return sorted(rows)

    assert to(ours) == ["appointment.cancelled"]
    assert to(off) == []
    assert told(session) == ["appointment.booked", "appointment.cancelled"]


def test_nothing_is_written_where_nobody_listens(session: Session, world: World) -> None:
    book(session, world)
    assert told(session) == []


def test_a_clinic_s_webhooks_hear_of_that_clinic_alone(session: Session, world: World) -> None:
    subscribe(session, "https://a.example.com/")
    other = make_world(session, "Another Practice")
    book(session, other)
    assert told(session) == []

    enter_clinic(session, world.clinic_id)
    assert told(session) == []


class TestTheCatalogue:
    """Every type has something that brings it about, and every act has a type or none."""

    WITHOUT = frozenset({"ask-to-move", "name-escort", "override", "incident"})
    """Lines of a visit's history of which nobody else is told."""

    def test_every_act_of_a_visit_has_its_type(self, session: Session, world: World) -> None:
        subscribe(session, "https://a.example.com/")
        visit = book(session, world)
        held = State(AppointmentStatus.PENDING)
        for action in (*Action, "suspend", "resume", *sorted(self.WITHOUT)):
            happened = Happened(action=action, before=State(visit.status))
            history.record(session, visit, happened, DESK, SUNDAY_NOON)
        history.record(
            session, visit, Happened(action=Action.CONFIRM, before=held), DESK, SUNDAY_NOON
        )

        types = told(session)
        # One beside the booking: a held time that was taken is a booking as well.
        assert len(types) == len(Action) + 2 + 2
        assert set(types) == {name for name in TYPES if name.startswith("appointment.")}
        assert types.count("appointment.booked") == 3

    def test_held_time_that_somebody_else_takes_is_let_go(
        self, session: Session, world: World
    ) -> None:
        subscribe(session, "https://a.example.com/", "appointment.released")
        order = preparation(world.patient_id, MONDAY_9)
        held = booking.book(session, replace(order, hold=True), by=DESK, now=SUNDAY_NOON)
        slots = session.scalars(select(Slot).where(Slot.appointment_id == held.id))
        named = tuple(Named(one.role, one.schedule_id) for one in slots if one.role != "patient")
        order = preparation(make_patient(session)[0], MONDAY_9, assignments=named)
        booking.book(session, order, by=DESK, now=SUNDAY_NOON + timedelta(hours=1))

        assert told(session) == ["appointment.released"]

    def test_courses_clearances_items_and_messages(self, session: Session, world: World) -> None:
        self._do_the_rest(session, world)
        others = {name for name in TYPES if not name.startswith("appointment.")} - {PING}
        assert set(told(session)) == others

    def _do_the_rest(self, session: Session, world: World) -> None:
        subscribe(session, "https://a.example.com/", "course.*", "clearance.*")
        subscribe(session, "https://b.example.com/", "checklist-item.*", "message.*")
        course = courses.open_course(session, world.patient_id, world.protocol_version_id, by=DESK)
        for status in (CourseStatus.COMPLETED, CourseStatus.ACTIVE, CourseStatus.REVOKED):
            course.status = status
            session.flush()
        clear(session, world.patient_id, ["consent"])
        book(session, world, MONDAY_9 + DAY)
        item = session.scalars(select(ChecklistItem)).first()
        assert item is not None
        item.status, item.settled_by, item.settled_at = TaskStatus.COMPLETED, "test", SUNDAY_NOON
        session.flush()
        messages = session.scalars(select(Message).order_by(Message.id)).all()
        for message, state in zip(messages, ("failed", "expired"), strict=False):
            session.execute(
                text("UPDATE message SET state = :state WHERE id = :id"),
                {"state": state, "id": message.id},
            )

    def test_what_is_said_is_what_the_catalogue_says(self, session: Session, world: World) -> None:
        self.test_every_act_of_a_visit_has_its_type(session, world)
        self._do_the_rest(session, world)
        hooks.ping(
            reading.raw(session), session.scalars(select(Webhook.id)).first() or uuid7(), MONDAY_9
        )
        rows = session.execute(select(WebhookEvent.type, WebhookEvent.data)).all()
        assert {name for name, _ in rows} == TYPES.keys()
        for name, data in rows:
            assert set(data) == {"clinic_id", *TYPES[name].data}, name
            assert all(_is_id_or_number(value) for value in data.values()), data

    def test_messages_of_another_clinic_s_worker_are_told_to_theirs(
        self, committed: Session, committed_world: World, worker_engine: Engine
    ) -> None:
        """The worker's queue is of all clinics: whatever it has entered, the row's own hears."""
        subscribe(committed, "https://a.example.com/", "message.*")
        book(committed, committed_world)
        committed.commit()
        with worker_engine.begin() as connection:
            connection.execute(text("UPDATE message SET state = 'failed'"))

        committed.rollback()
        assert set(told(committed)) == {"message.failed"}


def _is_id_or_number(value: Any) -> bool:
    return value is None or isinstance(value, int) or bool(UUID(value))


class TestSecrets:
    """Whoever has one of the secrets of the moment can verify, and nobody else."""

    def test_a_secret_is_what_the_standard_asks_for(self, telling: Telling) -> None:
        [secret] = secrets_of(telling.session, telling.id)
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32

    def test_while_one_is_replaced_both_verify(self, telling: Telling) -> None:
        [before] = secrets_of(telling.session, telling.id)
        after = signing.renew(reading.raw(telling.session), telling.id, timedelta(hours=24))
        assert secrets_of(telling.session, telling.id) == [after, before]
        telling.ping()
        telling.sweep()

        [heard] = telling.to.heard
        assert len(heard.headers["webhook-signature"].split(" ")) == 2
        assert heard.verified(before) == heard.verified(after)

        last = signing.renew(reading.raw(telling.session), telling.id, timedelta(hours=1))
        assert secrets_of(telling.session, telling.id) == [last, after]
        telling.session.execute(
            text("UPDATE webhook_secret SET ends_at = now() WHERE ends_at > now()")
        )
        telling.ping()
        telling.sweep()
        heard = telling.to.heard[-1]
        heard.verified(last)
        for old in (before, after):
            with pytest.raises(WebhookVerificationError):
                heard.verified(old)

    def test_a_worker_sees_no_address_and_no_secret_of_a_clinic_it_has_not_entered(
        self, telling: Telling, worker_engine: Engine
    ) -> None:
        telling.ping()
        with worker_engine.connect() as connection:
            for table in (Webhook, WebhookSecret, WebhookEvent, WebhookAttempt):
                assert connection.execute(select(table.id)).all() == []
            assert len(connection.execute(select(WebhookDelivery.id)).all()) == 1


class TestWhenItDoesNotComeThrough:
    def test_it_is_tried_again_for_three_days_then_switched_off(self, telling: Telling) -> None:
        telling.to.says(500)
        telling.ping()
        delivery = telling.sweep()
        begun = telling.times[0]
        pauses = []
        while delivery.state is DeliveryState.PENDING:
            assert telling.herald.sweep() == 0
            pauses.append(delivery.due_at - telling.times[0])
            telling.times[0] = delivery.due_at
            delivery = telling.sweep()

        assert len(telling.to.heard) == 1 + len(hooks.PAUSES) == 10
        assert len({one.id for one in telling.to.heard}) == 1
        for pause, asked in zip(pauses, hooks.PAUSES, strict=True):
            assert asked <= pause.total_seconds() <= 1.2 * asked
        assert timedelta(days=3) <= telling.times[0] - begun <= timedelta(days=4)
        assert (delivery.state, delivery.last_status) == (DeliveryState.FAILED, 500)
        assert telling.tries() == [(500, "refused")] * 10
        webhook = telling.webhook
        assert (webhook.disabled_why, webhook.failing_since) == (SwitchedOff.FAILING, begun)
        assert webhook.disabled_at == telling.times[0]
        assert telling.task() is TaskStatus.REQUESTED

    def test_one_that_fails_for_itself_switches_nothing_off(self, telling: Telling) -> None:
        bad = telling.ping()
        event_id = str(telling.delivery(bad).event_id)

        def chokes(asked: BaseHTTPRequestHandler) -> bool:
            if asked.headers["webhook-id"] == event_id:
                asked.send_error(500)
                return True
            return False

        telling.to.answer = chokes
        telling.herald.sweep()
        while (delivery := telling.delivery(bad)).state is DeliveryState.PENDING:
            telling.times[0] = delivery.due_at
            telling.herald.sweep()
            telling.ping()
            telling.herald.sweep()

        assert delivery.state is DeliveryState.FAILED
        assert telling.tries().count((500, "refused")) == 10
        webhook = telling.webhook
        assert (webhook.disabled_at, webhook.failing_since) == (None, None)
        assert telling.task() is None

    def test_after_five_days_of_nothing_but_failures(self) -> None:
        now = datetime(2027, 1, 10, tzinfo=UTC)
        no = Outcome(at=now, took=1.0, status=500, error="refused")
        assert judge(3, now - timedelta(days=4), no).state is DeliveryState.PENDING
        end = judge(3, now - timedelta(days=5), no)
        assert (end.state, end.off) == (DeliveryState.HELD, SwitchedOff.FAILING)
        # The last try of one that fails for itself, while others came through yesterday.
        end = judge(10, now - timedelta(days=1), no)
        assert (end.state, end.off) == (DeliveryState.FAILED, None)
        assert judge(10, None, Outcome(at=now, took=1.0, status=200)).off is None

    def test_one_that_is_gone_is_switched_off_and_what_waits_is_held(
        self, telling: Telling
    ) -> None:
        telling.to.says(410)
        first, second = telling.ping(), telling.ping()
        telling.sweep()

        assert len(telling.to.heard) == 1
        webhook = telling.webhook
        assert (webhook.disabled_why, webhook.version) == (SwitchedOff.GONE, 2)
        for delivery_id in (first, second):
            assert telling.delivery(delivery_id).state is DeliveryState.HELD
        assert telling.task() is TaskStatus.REQUESTED

        telling.to.answer = lambda _asked: False
        assert telling.herald.sweep() == 0
        webhook = telling.webhook
        webhook.disabled_at = webhook.disabled_why = None
        telling.session.flush()
        hooks.let_go(reading.raw(telling.session), telling.id)
        telling.session.commit()
        telling.sweep(after=timedelta(minutes=1))  # the database's clock is the machine's
        for delivery_id in (first, second):
            assert telling.delivery(delivery_id).state is DeliveryState.DELIVERED

    def test_it_waits_as_long_as_it_is_asked_to(self, telling: Telling) -> None:
        telling.to.says(429, Retry_After="600")
        telling.ping()
        assert telling.sweep().due_at == telling.times[0] + timedelta(seconds=600)

        later = telling.times[0] + timedelta(hours=2)
        telling.to.says(503, Retry_After=later.strftime("%a, %d %b %Y %H:%M:%S GMT"))
        due = telling.sweep(timedelta(seconds=600)).due_at
        assert due == later.replace(microsecond=0)

        telling.to.says(503, Retry_After="99999999999999999999")
        due = telling.sweep(timedelta(hours=2)).due_at
        assert due == telling.times[0] + hooks.LONGEST_WAIT

        telling.to.says(503, Retry_After="soon")
        due = telling.sweep(hooks.LONGEST_WAIT).due_at
        assert due < telling.times[0] + timedelta(hours=3)

    def test_a_success_forgets_the_failures_before(self, telling: Telling) -> None:
        telling.to.says(503)
        telling.ping()
        telling.sweep()
        assert telling.webhook.failing_since == telling.times[0]

        telling.to.answer = lambda _asked: False
        assert telling.sweep(timedelta(seconds=6)).state is DeliveryState.DELIVERED
        assert telling.webhook.failing_since is None
        assert telling.tries() == [(503, "refused"), (204, None)]

    def test_what_was_removed_while_it_was_sent_leaves_nothing_behind(
        self, telling: Telling
    ) -> None:
        def meanwhile(_: BaseHTTPRequestHandler) -> bool:
            with Session(telling.session.get_bind()) as other:
                enter_clinic(other, telling.world.clinic_id)
                other.execute(text("DELETE FROM webhook"))
                other.commit()
            return False

        telling.ping()
        telling.to.answer = meanwhile
        assert telling.herald.sweep() == 1
        assert telling.tries() == []

    def test_one_that_is_removed_while_something_happens_spoils_nothing(
        self, telling: Telling, service_engine: Engine, database: Access
    ) -> None:
        """Whatever happens looks for webhooks, and then cannot refer to one that has gone."""
        booked: list[UUID] = []

        def happen() -> None:
            with Session(service_engine) as session:
                enter_clinic(session, telling.world.clinic_id)
                booked.append(book(session, telling.world).id)
                session.commit()

        happening = threading.Thread(target=happen)
        with access.connect(database.owner) as watching:
            telling.session.execute(delete(Webhook).where(Webhook.id == telling.id))
            happening.start()
            while happening.is_alive() and not watching.execute(_WAITS).fetchall():
                happening.join(0.05)
            telling.session.commit()
        happening.join(10)

        assert len(booked) == 1
        assert told(telling.session) == []

    def test_what_was_switched_off_while_it_was_sent_is_held(self, telling: Telling) -> None:
        def meanwhile(asked: BaseHTTPRequestHandler) -> bool:
            webhook = telling.webhook
            webhook.disabled_at, webhook.disabled_why = SUNDAY_NOON, SwitchedOff.BY_HAND
            hooks.hold(reading.raw(telling.session), telling.id)
            telling.session.commit()
            asked.send_error(500)
            return True

        telling.ping()
        telling.to.answer = meanwhile
        assert telling.sweep().state is DeliveryState.HELD


def test_a_fault_of_ours_is_tried_again_and_stops_nobody(telling: Telling) -> None:
    broken = telling.ping()
    other = subscribe(telling.session, telling.to.url)
    telling.session.execute(
        text("UPDATE webhook_secret SET secret = 'whsec_a' WHERE webhook_id = :id"),
        {"id": telling.id},
    )
    telling.session.commit()
    fine = telling.ping(other)
    telling.herald.sweep()

    assert telling.delivery(broken).last_error == "internal"
    assert telling.delivery(broken).state is DeliveryState.PENDING
    assert telling.delivery(fine).state is DeliveryState.DELIVERED


Answer = Callable[[BaseHTTPRequestHandler], bool]


def drips(over: threading.Event, start: bytes, drop: bytes) -> Answer:
    """Answers a little at a time, for ever."""

    def answer(asked: BaseHTTPRequestHandler) -> bool:
        try:
            asked.wfile.write(start)
            while not over.wait(0.05):
                asked.wfile.write(drop)
        except OSError:
            pass
        return True

    return answer


class TestReceiversThatMeanNoGood:
    @pytest.mark.parametrize(
        ("start", "drop", "status"),
        [
            (b"", b"", None),
            (b"HTTP/1.1 200 OK\r\n", b"X-Slow: yes\r\n", 200),
            (b"HTTP/1.1 200 OK\r\n\r\n", b"x", 200),
        ],
    )
    def test_none_is_waited_for_longer_than_ten_seconds_in_all(
        self,
        telling: Telling,
        monkeypatch: pytest.MonkeyPatch,
        start: bytes,
        drop: bytes,
        status: int | None,
    ) -> None:
        assert heralds.SECONDS == 10
        monkeypatch.setattr(heralds, "SECONDS", 0.5)
        telling.to.answer = drips(telling.to.over, start, drop)
        telling.ping()

        delivery = telling.sweep()
        assert delivery.state is DeliveryState.PENDING
        assert (delivery.last_status, delivery.last_error) == (status, "timeout")
        took = telling.session.scalar(select(WebhookAttempt.took_ms))
        assert 400 < (took or 0) < 2000

    def test_no_more_than_64_kb_of_an_answer_are_read(self, telling: Telling) -> None:
        sent = [0]

        def gushes(asked: BaseHTTPRequestHandler) -> bool:
            asked.send_response(200)
            asked.send_header("Content-Length", str(2**30))
            asked.end_headers()
            try:
                while sent[0] < 2**30:
                    sent[0] += asked.wfile.write(b"x" * 65536)
            except OSError:
                pass
            return True

        telling.to.answer = gushes
        telling.ping()
        delivery = telling.sweep()
        assert (delivery.last_status, delivery.last_error) == (200, "too-large")
        assert sent[0] < 64 * 2**20  # what the network held, and no gigabyte

    def test_a_redirect_is_a_no_and_is_not_followed(self, telling: Telling) -> None:
        with receiver() as inside:
            for target in (inside.url, telling.to.url, "file:///etc/passwd"):
                telling.to.says(307, Location=target)
                telling.ping()
                telling.sweep()
            assert inside.heard == []
        assert len(telling.to.heard) == 3
        assert telling.tries() == [(307, "redirected")] * 3

    @pytest.mark.parametrize(
        "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200\r\n" + b"x" * 70000]
    )
    def test_nonsense_is_a_no(self, telling: Telling, answer: bytes) -> None:
        def says(asked: BaseHTTPRequestHandler) -> bool:
            asked.wfile.write(answer)
            asked.close_connection = True
            return True

        telling.to.answer = says
        telling.ping()
        assert telling.sweep().state is DeliveryState.PENDING
        assert telling.tries()[0][1] in {"no-answer", "broke-off"}

    def test_a_slow_one_keeps_nobody_else_waiting(self, telling: Telling, database: Access) -> None:
        asked, go_on = threading.Event(), threading.Event()

        def hangs(_: BaseHTTPRequestHandler) -> bool:
            asked.set()
            return not go_on.wait(20)

        with receiver() as quick:
            other = subscribe(telling.session, quick.url, "course.*")
            telling.to.answer = hangs
            slow = [telling.ping() for _ in range(3)]
            first = threading.Thread(target=telling.herald.sweep)
            first.start()
            assert asked.wait(10)
            beside = Herald(telling.herald.connect, telling.herald.outside, telling.herald.clock)
            mine = [telling.ping(other) for _ in range(3)]
            assert beside.sweep() == 3
            assert len(telling.to.heard) == 1
            assert {telling.delivery(one).state for one in mine} == {DeliveryState.DELIVERED}
            assert beside.next_due() is None
            go_on.set()
            first.join(10)
            assert {telling.delivery(one).state for one in slow} == {DeliveryState.DELIVERED}
            beside.close()


Resolver = Callable[..., list[Any]]


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let a name have one answer after the other; returns the hosts that were connected to."""
    real, left, connected = socket.getaddrinfo, list(answers), list[str]()

    def asked(host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
        if not host.endswith(".example.test"):
            return real(host, port, *rest, **more)
        found = left.pop(0) if len(left) > 1 else left[0]
        kind = socket.SOCK_STREAM
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, kind, 6, "", (one, port))
            for one in found
        ]

    connect = socket.create_connection

    def connecting(address: tuple[str, int], **more: Any) -> socket.socket:
        connected.append(address[0])
        return connect(address, **more)

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    monkeypatch.setattr(socket, "create_connection", connecting)
    return connected


class TestAddresses:
    NAME = "hooks.example.test"

    def move(self, telling: Telling, url: str) -> None:
        telling.webhook.url = url
        telling.session.commit()

    def test_the_connection_goes_to_the_address_that_was_looked_at_in_the_name_s_own_name(
        self, telling: Telling, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        connected = resolving(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
        self.move(telling, f"https://{self.NAME}:{telling.to.port}/a?b=c")
        telling.ping()

        assert telling.sweep().state is DeliveryState.DELIVERED
        [heard] = telling.to.heard
        assert heard.path == "/a?b=c"
        assert heard.headers["host"] == f"{self.NAME}:{telling.to.port}"
        assert telling.to.names == [self.NAME]
        assert connected == ["127.0.0.1"]

    def test_the_certificate_must_be_the_name_s(
        self, telling: Telling, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolving(monkeypatch, ["127.0.0.1"])
        self.move(telling, f"https://other.example.test:{telling.to.port}/")
        telling.ping()
        assert telling.sweep().last_error == "bad-certificate"
        assert telling.to.heard == []

    @pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "fd00::1"])
    def test_a_name_that_leads_inside_when_it_counts_is_not_followed(
        self, telling: Telling, monkeypatch: pytest.MonkeyPatch, inside: str
    ) -> None:
        """DNS rebinding: public when it was looked at, inside when it is sent to."""
        connected = resolving(monkeypatch, ["93.184.216.34", inside])
        outside = Outside((), telling.herald.outside.trusted, only_port=443)
        telling.herald.outside = outside
        self.move(telling, f"https://{self.NAME}/")
        telling.ping()

        assert telling.sweep().last_error == "forbidden-network"
        assert (connected, telling.to.heard) == ([], [])

    @pytest.mark.parametrize(
        ("url", "error"),
        [
            ("http://{}/", "not-https"),
            ("https://{}:8443/", "wrong-port"),
            ("https://{}:22/", "wrong-port"),
            ("gopher://{}/", "no-address"),
            ("file:///etc/passwd", "no-address"),
        ],
    )
    def test_public_addresses_are_spoken_to_over_https_at_443_alone(
        self, telling: Telling, monkeypatch: pytest.MonkeyPatch, url: str, error: str
    ) -> None:
        connected = resolving(monkeypatch, ["93.184.216.34"])
        self.move(telling, url.format(self.NAME))
        telling.ping()
        assert telling.sweep().last_error == error
        assert connected == []

    def test_a_resolver_that_hangs_is_not_waited_for(
        self, telling: Telling, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        over = threading.Event()

        def hangs(*_: Any, **__: Any) -> list[Any]:
            over.wait(20)
            return []

        monkeypatch.setattr(heralds, "SECONDS", 0.5)
        telling.ping()
        telling.herald.next_due()  # its connection to the database is there
        telling.session.rollback()
        monkeypatch.setattr(socket, "getaddrinfo", hangs)
        telling.herald.sweep()
        over.set()
        monkeypatch.undo()
        assert telling.tries() == [(None, "timeout")]


def test_what_a_dead_worker_held_is_sent_again_under_the_same_id(telling: Telling) -> None:
    telling.ping()
    worker = telling.herald.connect()
    claimed = hooks.claim(worker, telling.times[0])
    assert claimed is not None
    assert hooks.claim(worker, telling.times[0]) is None
    assert hooks.reap(worker) == 0
    telling.session.execute(text("UPDATE webhook_delivery SET leased_until = now()"))
    telling.session.commit()
    assert hooks.reap(worker) == 1

    delivery = telling.sweep()
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 2)
    queue.enter(worker, telling.world.clinic_id)
    late = Outcome(at=telling.times[0], took=1.0, status=500, error="refused")
    assert hooks.settle(worker, claimed, late) is None
    assert telling.delivery().state is DeliveryState.DELIVERED
    worker.close()


def test_what_was_claimed_for_one_that_was_switched_off_is_held_or_tried(telling: Telling) -> None:
    worker = telling.herald.connect()

    def switched(off: bool) -> None:
        webhook = telling.webhook
        webhook.disabled_at = SUNDAY_NOON if off else None
        webhook.disabled_why = SwitchedOff.BY_HAND if off else None
        telling.session.commit()

    telling.ping()
    for off, state in ((False, DeliveryState.PENDING), (True, DeliveryState.HELD)):
        switched(off=True)
        claimed = hooks.claim(worker, telling.times[0])
        assert claimed is not None
        queue.enter(worker, claimed.clinic_id)
        assert hooks.read(worker, claimed) is None
        switched(off)
        hooks.put_back(worker, claimed)
        assert (telling.delivery().state, telling.delivery().attempts) == (state, 0)
    worker.close()


def test_events_are_forgotten_after_a_month_and_not_before(
    telling: Telling, database: Access, worker_engine: Engine
) -> None:
    old, young = telling.ping(), telling.ping()
    telling.sweep()
    event_id = telling.delivery(old).event_id
    with access.connect(database.owner) as owner:
        queue.enter(owner, telling.world.clinic_id)
        owner.execute(
            "UPDATE webhook_event SET created_at = now() - interval '31 days' WHERE id = %s",
            [event_id],
        )
    with worker_engine.begin() as connection:
        connection.execute(
            text("SELECT set_config('afterglow.clinic', :id, true)"),
            {"id": str(telling.world.clinic_id)},
        )
        assert connection.scalar(text("SELECT forget_webhook_events()")) == 1

    telling.session.rollback()
    assert telling.session.scalars(select(WebhookDelivery.id)).all() == [young]
    assert len(telling.tries()) == 1


def test_progress_is_told_without_what_kind_it_is(session: Session, world: World) -> None:
    subscribe(session, "https://a.example.com/")
    visit = book(session, world)
    visit.status, visit.progress = AppointmentStatus.CHECKED_IN, Progress.DOSING
    happened = Happened(action=Action.START_DOSING, before=State(AppointmentStatus.ARRIVED))
    history.record(session, visit, happened, DESK, SUNDAY_NOON)
    assert told(session)[-1] == "appointment.progressed"


def test_nobody_is_told_while_a_restored_database_rests(telling: Telling, database: Access) -> None:
    telling.ping()
    worker = telling.herald.connect()
    with connect(database.owner) as owner:
        queue.rest(owner, SUNDAY_NOON, SUNDAY_NOON)
        assert hooks.claim(worker, telling.times[0]) is None
        assert hooks.next_due(worker) is None
        queue.resume(owner, SUNDAY_NOON)
    assert hooks.claim(worker, telling.times[0]) is not None
    worker.close()
