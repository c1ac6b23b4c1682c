"""Messages on their way: a real PostgreSQL, the worker's own role, a real mail server."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import icalendar
import psycopg
import pytest
import vobject
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from database import access
from models import Appointment, Message, enter_clinic
from models.vocabulary import Role, StepKind
from notifications.channels.folder import FolderChannel
from notifications.channels.smtp import Server, SmtpChannel
from notifications.delivery import Delivery
from notifications.outbox import Out
from scheduler import booking
from scheduler.authority import Authority, Call
from scheduler.booking import Move, Order
from scheduler.permissions import BUNDLES
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World, make_patient
from tests.fakes import MailServer, mail_server

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
NINE = SUNDAY_NOON + timedelta(hours=2)  # 09:00 on Sunday in New York: the quiet hours are over
TUESDAY = MONDAY_9 + DAY


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


def as_worker(engine: Engine) -> Callable[[], psycopg.Connection]:
    return lambda: access.connect(engine.url)


@dataclass
class Post:
    """A worker's delivery whose clock the test sets."""

    delivery: Delivery
    session: Session
    now: datetime = NINE

    def sweep(self, at: datetime | None = None) -> None:
        self.now = at or self.now
        self.delivery.sweep()
        self.session.expire_all()

    def states(self) -> list[str]:
        self.session.rollback()
        return [
            f"{message.kind}:{message.state}"
            for message in self.session.scalars(
                select(Message).order_by(Message.due_at, Message.id)
            )
        ]


@pytest.fixture
def post(
    server: MailServer, worker_engine: Engine, committed: Session, committed_world: World
) -> Iterator[Post]:
    channel = SmtpChannel(Server(host="127.0.0.1", port=server.port, security="none"))
    found = Post(
        Delivery(as_worker(worker_engine), [channel], lambda: found.now, "http://clinic.test"),
        committed,
    )
    yield found
    found.delivery.close()


def book(
    session: Session, world: World, at: datetime = TUESDAY, patient: UUID | None = None
) -> Appointment:
    enter_clinic(session, world.clinic_id)
    order = Order(
        patient_id=patient or world.patient_id, starts_at=at, step_kind=StepKind.PREPARATION
    )
    appointment = booking.book(session, order, by=DESK, now=SUNDAY_NOON)
    session.commit()
    return appointment


def invite(mail: EmailMessage) -> Any:
    [part] = [part for part in mail.walk() if part.get_content_type() == "text/calendar"]
    told = icalendar.Calendar.from_ical(part.get_content())
    assert part.get_param("method") == told["METHOD"]
    [event] = told.walk("VEVENT")
    return event


def test_a_message_goes_out_when_it_is_due_and_once(
    post: Post, server: MailServer, committed_world: World
) -> None:
    book(post.session, committed_world)

    post.sweep(NINE - timedelta(seconds=1))
    assert server.mails == []
    post.sweep(NINE)
    post.sweep(NINE + timedelta(hours=1))

    [mail] = server.mails
    assert mail["Subject"] == "Your appointment on Tuesday, March 3, 2026"
    body = mail.get_body(("plain",))
    assert body is not None
    assert "9:00 AM (New York time)" in body.get_content()
    assert "http://clinic.test/p/" in body.get_content()
    assert mail["Auto-Submitted"] == "auto-generated"
    assert post.states() == ["confirmation:sent", "reminder:scheduled"]


def test_two_workers_send_each_message_once(
    post: Post,
    server: MailServer,
    worker_engine: Engine,
    committed_world: World,
) -> None:
    for number in range(20):
        patient, _ = make_patient(post.session)
        book(
            post.session,
            committed_world,
            TUESDAY + number // 4 * DAY * 7 + number % 4 * timedelta(hours=1),
            patient,
        )

    def work(_number: int) -> None:
        channel = SmtpChannel(Server(host="127.0.0.1", port=server.port, security="none"))
        delivery = Delivery(as_worker(worker_engine), [channel], lambda: NINE, "http://clinic.test")
        delivery.sweep()
        delivery.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))

    ids = [mail["Message-ID"] for mail in server.mails]
    assert len(ids) == len(set(ids)) == 20


class TestWhatNoLongerStands:
    def test_a_cancelled_visit_is_not_spoken_of(
        self, post: Post, server: MailServer, committed_world: World
    ) -> None:
        appointment = book(post.session, committed_world)
        booking.cancel(post.session, Call(appointment.id, None), by=DESK, now=SUNDAY_NOON)
        post.session.commit()

        post.sweep(TUESDAY - DAY)

        assert server.mails == []

    def test_a_cancellation_between_claim_and_release_is_in_time(
        self, post: Post, server: MailServer, committed_world: World
    ) -> None:
        appointment = book(post.session, committed_world)

        def cancel(point: str) -> None:
            if point == "claimed":
                changed = booking.cancel(
                    post.session, Call(appointment.id, None), by=DESK, now=SUNDAY_NOON
                )
                assert changed.out == []
                post.session.commit()

        post.delivery.at = cancel
        post.sweep()

        assert server.mails == []
        assert "confirmation:superseded" in post.states()

    def test_after_the_release_the_caller_is_told(
        self, post: Post, server: MailServer, committed_world: World
    ) -> None:
        appointment = book(post.session, committed_world)
        out: list[Out] = []

        def cancel(point: str) -> None:
            if point == "released" and not out:
                changed = booking.cancel(
                    post.session, Call(appointment.id, None), by=DESK, now=NINE
                )
                out.extend(changed.out)
                post.session.commit()

        post.delivery.at = cancel
        post.sweep()
        post.sweep(NINE + timedelta(minutes=3))

        assert [one.kind for one in out] == ["confirmation"]
        assert [mail["Subject"].split()[-1] for mail in server.mails] == ["2026", "cancelled"]

    def test_somebody_who_opted_out_hears_nothing(
        self, post: Post, server: MailServer, committed_world: World
    ) -> None:
        book(post.session, committed_world)
        post.session.execute(text("UPDATE patient SET opted_out = '{email}'"))
        post.session.commit()

        post.sweep()

        assert (server.mails, post.states()[0]) == ([], "confirmation:suppressed")

    def test_what_comes_too_late_is_not_said(
        self, post: Post, server: MailServer, committed_world: World
    ) -> None:
        book(post.session, committed_world)

        post.sweep(TUESDAY - timedelta(minutes=59))

        assert server.mails == []
        assert post.states() == [
            "confirmation:expired",
            "reminder:expired",
            "message-failed:scheduled",  # the desk is told to call
        ]


def test_what_is_found_by_night_waits_for_the_morning(
    post: Post, server: MailServer, committed_world: World
) -> None:
    book(post.session, committed_world)
    night = NINE + timedelta(hours=14)  # 23:00

    post.sweep(night)
    assert server.mails == []
    post.sweep(NINE + DAY)
    assert len(server.mails) == 2


class TestTheServer:
    @pytest.mark.parametrize(
        ("answer", "state"),
        [("451 later", "scheduled"), ("550 never", "failed"), ("drop", "uncertain")],
    )
    def test_its_answer_decides(
        self, post: Post, server: MailServer, committed_world: World, answer: str, state: str
    ) -> None:
        book(post.session, committed_world)
        server.answer = lambda _mail: answer

        post.sweep()

        assert post.states()[0] == f"confirmation:{state}"

    def test_a_refusal_for_now_is_tried_again_later(
        self, post: Post, server: MailServer, committed_world: World
    ) -> None:
        book(post.session, committed_world)
        server.answer = lambda _mail: "451 later"
        post.sweep()
        server.answer = lambda _mail: "250 OK"

        post.sweep(NINE + timedelta(seconds=40))
        assert server.mails == []
        post.sweep(NINE + timedelta(seconds=80))
        assert len(server.mails) == 1

    def test_what_is_uncertain_is_not_said_again_blindly(
        self, post: Post, server: MailServer, committed_world: World
    ) -> None:
        book(post.session, committed_world)
        server.answer = lambda _mail: "drop"
        post.sweep()
        server.answer = lambda _mail: "250 OK"

        post.session.execute(
            text(
                "UPDATE message SET released_at = released_at - interval '1 hour' "
                "WHERE state = 'uncertain'"
            )
        )
        post.session.commit()
        post.delivery.tidy()
        post.sweep(NINE + timedelta(hours=3))

        assert len(server.mails) == 1
        assert post.states()[0] == "confirmation:uncertain"

    def test_a_server_that_is_away_loses_nothing(
        self, post: Post, server: MailServer, committed_world: World
    ) -> None:
        book(post.session, committed_world)
        [sender] = post.delivery.senders
        channel = sender.channel
        sender.channel = SmtpChannel(Server(host="127.0.0.1", port=1, security="none"))
        post.sweep()
        sender.channel = channel
        post.sweep(NINE + timedelta(minutes=2))

        assert len(server.mails) == 1

    def test_a_closed_connection_is_opened_again(
        self, post: Post, server: MailServer, committed_world: World
    ) -> None:
        first = book(post.session, committed_world)
        post.sweep()
        [channel] = post.delivery.channels
        assert isinstance(channel, SmtpChannel)
        assert channel._connection is not None
        assert channel._connection.sock is not None
        channel._connection.sock.shutdown(2)

        booking.cancel(post.session, Call(first.id, None), by=DESK, now=NINE)
        post.session.commit()
        post.sweep(NINE + timedelta(minutes=3))

        assert len(server.mails) == 2


def test_the_invitation_is_updated_in_place_and_taken_back(
    post: Post, server: MailServer, committed_world: World
) -> None:
    appointment = book(post.session, committed_world)
    post.sweep()
    booking.reschedule(
        post.session,
        Call(appointment.id, None),
        Move(starts_at=TUESDAY + timedelta(hours=2)),
        by=DESK,
        now=NINE,
    )
    post.session.commit()
    post.sweep(NINE + timedelta(minutes=3))
    booking.cancel(post.session, Call(appointment.id, None), by=DESK, now=NINE + timedelta(hours=1))
    post.session.commit()
    post.sweep(NINE + timedelta(hours=2))

    events = [invite(mail) for mail in server.mails]
    assert len({event["UID"] for event in events}) == 1
    assert [event["SEQUENCE"] for event in events] == [0, 1, 2]
    assert [event["STATUS"] for event in events] == ["CONFIRMED", "CONFIRMED", "CANCELLED"]
    assert events[1].decoded("DTSTART") == TUESDAY + timedelta(hours=2)


@dataclass
class Client:
    """A calendar that does what invitations ask, read by a library that did not write them.

    Source: RFC 5546, 2.1.5: of two with one UID the higher SEQUENCE counts.
    """

    events: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def take(self, mail: EmailMessage) -> None:
        [part] = [part for part in mail.walk() if part.get_content_type() == "text/calendar"]
        told = vobject.readOne(part.get_content())
        event = told.vevent
        uid, sequence = event.uid.value, int(event.sequence.value)
        assert told.method.value == part.get_param("method")
        if sequence < self.seen.get(uid, 0):
            return
        self.seen[uid] = sequence
        if told.method.value == "CANCEL":
            self.events.pop(uid, None)
        else:
            self.events[uid] = event


def test_a_calendar_has_one_right_event_and_then_none(
    post: Post, server: MailServer, committed_world: World
) -> None:
    client = Client()
    appointment = book(post.session, committed_world)
    post.sweep()
    client.take(server.mails[0])
    [event] = client.events.values()
    assert event.dtstart.value == TUESDAY

    later = TUESDAY + DAY + timedelta(hours=2)
    call = Call(appointment.id, None)
    booking.reschedule(post.session, call, Move(starts_at=later), by=DESK, now=NINE)
    post.session.commit()
    post.sweep(NINE + timedelta(minutes=3))
    client.take(server.mails[1])
    client.take(server.mails[0])  # an old one that comes late changes nothing
    [event] = client.events.values()
    assert (event.dtstart.value, event.dtend.value - event.dtstart.value) == (
        later,
        appointment.ends_at - appointment.starts_at,
    )
    assert event.summary.value == "Appointment at Test Practice"

    booking.cancel(post.session, call, by=DESK, now=NINE + timedelta(hours=1))
    post.session.commit()
    post.sweep(NINE + timedelta(hours=2))
    client.take(server.mails[2])
    client.take(server.mails[1])
    assert client.events == {}


def test_one_broken_message_does_not_stop_the_others(
    post: Post, server: MailServer, committed_world: World
) -> None:
    stranger, _ = make_patient(post.session, email="not an address")
    book(post.session, committed_world, TUESDAY, stranger)
    book(post.session, committed_world, TUESDAY + timedelta(hours=1))

    post.sweep()

    assert len(server.mails) == 1


def test_one_that_cannot_even_be_read_does_not_stop_the_others(
    post: Post, server: MailServer, committed_world: World
) -> None:
    stranger, _ = make_patient(post.session)
    book(post.session, committed_world, TUESDAY, stranger)
    book(post.session, committed_world, TUESDAY + timedelta(hours=1))
    post.session.execute(
        text("UPDATE patient SET time_zone = 'Nowhere/City' WHERE id = :id"), {"id": stranger}
    )
    post.session.commit()

    post.sweep()

    assert len(server.mails) == 1
    broken = select(Message.last_error).where(
        Message.recipient_id == stranger, Message.last_error.is_not(None)
    )
    assert post.session.scalars(broken).all() == ["internal"]


def test_names_cannot_write_headers(post: Post, server: MailServer, committed_world: World) -> None:
    evil = "Ann\r\nBcc: x@example.com =?utf-8?q?a=0D=0ABcc=3A_y=40example=2Ecom?="
    stranger, _ = make_patient(post.session, given_name=evil)
    book(post.session, committed_world, TUESDAY, stranger)

    post.sweep()

    [mail] = server.mails
    assert mail["Bcc"] is None
    assert "Bcc" in str(mail["To"])


def test_a_dead_workers_messages_are_taken_back(
    post: Post, server: MailServer, committed_world: World, worker_engine: Engine
) -> None:
    book(post.session, committed_world)

    class Dead(Exception):
        pass

    def die(_point: str) -> None:
        raise Dead

    post.delivery.at = die
    with pytest.raises(Dead):
        post.sweep()
    post.delivery.at = lambda _point: None
    post.sweep()
    assert server.mails == []  # it is still the dead worker's

    post.session.execute(
        text("UPDATE message SET leased_until = now() - interval '1 s' WHERE state = 'sending'")
    )
    post.session.commit()
    post.delivery.tidy()
    post.sweep()

    assert len(server.mails) == 1


def test_a_folder_takes_messages_too(
    worker_engine: Engine, committed: Session, committed_world: World, tmp_path: Path
) -> None:
    book(committed, committed_world)
    delivery = Delivery(
        as_worker(worker_engine), [FolderChannel(tmp_path / "out")], lambda: NINE, "http://x.test"
    )

    delivery.sweep()
    delivery.close()

    [written] = (tmp_path / "out").iterdir()
    assert written.suffix == ".eml"
    assert b"X-Auto-Response-Suppress" in written.read_bytes()


def test_the_worker_sees_the_queue_of_every_clinic_and_nothing_else(
    worker_engine: Engine, committed: Session, committed_world: World
) -> None:
    book(committed, committed_world)

    with worker_engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM message")) == 2
        assert connection.scalar(text("SELECT count(*) FROM patient")) == 0
        assert connection.scalar(text("SELECT count(*) FROM appointment")) == 0


def test_stopping_ends_the_sweep_after_the_batch(post: Post) -> None:
    post.delivery.stop = threading.Event()
    post.delivery.stop.set()

    assert post.delivery.sweep() == 0
