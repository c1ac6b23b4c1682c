"""Text messages: out through a provider that answers anyhow, and what patients answer."""

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from database import access
from models import Appointment, Message, Patient, Reply, Task, enter_clinic
from models.vocabulary import Channel, MessageKind, Role, StepKind
from notifications import links
from notifications.channels import Accepted, Envelope, Refused, Unknown
from notifications.channels.failover import Failover, Provider
from notifications.channels.sms import Account, SmsChannel
from notifications.delivery import Delivery, Rate
from scheduler import booking
from scheduler.authority import Authority
from scheduler.booking import Order
from scheduler.permissions import BUNDLES
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World, make_patient
from tests.fakes import SmsServer, sms_server
from tests.integration.conftest import Caller, Clock, Keyring

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
NINE = SUNDAY_NOON + timedelta(hours=2)
TUESDAY = MONDAY_9 + DAY
TOKEN = "sms-token"
FROM, TO = "+12125550101", "+12125550123"


@pytest.fixture
def provider() -> Iterator[SmsServer]:
    with sms_server() as server:
        yield server


def way_out(server: SmsServer) -> SmsChannel:
    return SmsChannel(Account(url=server.url, account=server.account, token=server.token))


ENVELOPE = Envelope(
    name="x",
    sender=FROM,
    recipient=TO,
    content="Grüße é".encode(),
    due_at=NINE,
    give_up_at=0,
    callback="https://x.test/hooks",
)


def hand_over(channel: Any, seconds: float = 20) -> Any:
    return channel.hand_over(replace(ENVELOPE, give_up_at=time.monotonic() + seconds))


class TestTheProvider:
    @pytest.mark.parametrize(
        ("answer", "outcome"),
        [
            ("201", Accepted(reference="SM" + "0" * 32)),
            ("400:21610", Refused("sms-21610", for_ever=True)),
            ("400:21211", Refused("sms-21211", for_ever=True, bad_address=True)),
            ("429", Refused("sms-429", for_ever=False, wait_seconds=7.0)),
            ("503", Refused("sms-503", for_ever=False)),
            ("401:20003", Refused("sms-20003", for_ever=False)),
            ("500", Unknown("sms-500")),
            ("lost", Unknown("sms-answer-lost")),
            ("refuse-late", Unknown("sms-answer-lost")),
        ],
    )
    def test_its_answer_decides(self, provider: SmsServer, answer: str, outcome: Any) -> None:
        provider.answer = lambda _text: answer

        assert hand_over(way_out(provider)) == outcome

    def test_it_gets_what_it_needs_and_no_more(self, provider: SmsServer) -> None:
        hand_over(way_out(provider))

        [sent] = provider.texts
        assert (sent["To"], sent["From"], sent["Body"]) == (TO, FROM, "Grüße é")
        assert sent["StatusCallback"] == "https://x.test/hooks"
        assert set(sent) == {
            *("To", "From", "Body", "StatusCallback", "ValidityPeriod", "sid", "date_created"),
        }

    def test_nothing_leaves_after_the_time_to_give_up(self, provider: SmsServer) -> None:
        assert isinstance(hand_over(way_out(provider), seconds=-1), Refused)
        assert provider.texts == []

    def test_one_that_is_silent_leaves_nobody_knowing(self, provider: SmsServer) -> None:
        provider.answer = lambda _text: "hang"

        assert hand_over(way_out(provider), seconds=0.5) == Unknown("sms-answer-lost")

    def test_another_takes_what_one_provably_did_not(self, provider: SmsServer) -> None:
        with sms_server() as second:
            both = Failover([Provider("a", way_out(provider)), Provider("b", way_out(second))])
            provider.answer = lambda _text: "503"
            assert hand_over(both) == Accepted("b", "SM" + "0" * 32)

            provider.answer = lambda _text: "lost"
            assert hand_over(both) == Unknown("sms-answer-lost", "a")
            assert len(second.texts) == 1

    def test_one_that_keeps_failing_is_left_alone(self, provider: SmsServer) -> None:
        with sms_server() as second:
            both = Failover([Provider("a", way_out(provider)), Provider("b", way_out(second))])
            tried: list[str] = []

            def refuse(_text: dict[str, str]) -> str:
                tried.append("a")
                return "503"

            provider.answer = refuse
            for _ in range(8):
                assert isinstance(hand_over(both), Accepted)

        assert len(tried) == 5


@dataclass
class Post:
    """A worker's delivery of text messages, and of mails, whose clock the test sets."""

    texts: Delivery
    session: Session
    world: World
    now: datetime = NINE
    more: list[Delivery] = field(default_factory=list)

    def sweep(self, at: datetime | None = None) -> None:
        self.now = at or self.now
        self.texts.sweep()
        self.session.expire_all()

    def messages(self) -> list[Message]:
        self.session.rollback()
        return list(self.session.scalars(select(Message).order_by(Message.due_at, Message.id)))

    def states(self) -> list[str]:
        return [f"{one.channel}:{one.kind}:{one.state}" for one in self.messages()]

    def open_tasks(self) -> list[str]:
        self.session.rollback()
        return [str(kind) for kind in self.session.scalars(select(Task.kind).order_by(Task.id))]


@pytest.fixture
def post(
    provider: SmsServer, worker_engine: Engine, committed: Session, committed_world: World
) -> Iterator[Post]:
    committed.execute(text("UPDATE clinic SET sms_from = :number"), {"number": FROM})
    committed.execute(text("UPDATE patient SET channels = '{sms,email}'"))
    committed.commit()
    found = Post(
        Delivery(
            lambda: access.connect(worker_engine.url),
            [Failover([Provider("p", way_out(provider))])],
            lambda: found.now,
            "http://clinic.test",
            "secret",
            code=Channel.SMS,
        ),
        committed,
        committed_world,
    )
    yield found
    found.texts.close()


def book(post: Post, at: datetime = TUESDAY, patient: UUID | None = None) -> Appointment:
    enter_clinic(post.session, post.world.clinic_id)
    order = Order(
        patient_id=patient or post.world.patient_id, starts_at=at, step_kind=StepKind.PREPARATION
    )
    appointment = booking.book(post.session, order, by=DESK, now=SUNDAY_NOON)
    post.session.commit()
    return appointment


class TestOut:
    def test_the_first_channel_that_a_patient_wants_is_taken(
        self, post: Post, provider: SmsServer
    ) -> None:
        book(post)

        post.sweep()

        [told] = provider.bodies()
        assert told.startswith("Test Practice: you are booked, Tue, Mar 3, 9:00 AM (New York time)")
        assert "Reply 1: I will come, 2: another time." in told
        [sent, _] = post.messages()
        assert (sent.state, sent.provider, sent.provider_ref) == ("sent", "p", "SM" + "0" * 32)
        assert provider.texts[0]["StatusCallback"].endswith(
            f"/hooks/sms/{post.world.clinic_id}/status/{sent.id}"
        )

    def test_what_is_refused_for_good_is_said_on_the_next_channel(
        self, post: Post, provider: SmsServer
    ) -> None:
        provider.answer = lambda _text: "400:21211"
        book(post)

        post.sweep()

        assert sorted(post.states()) == [
            "email:confirmation:scheduled",
            "email:reminder:scheduled",
            "sms:confirmation:failed",
            "sms:reminder:suppressed",
        ]
        patient = post.session.get(Patient, (post.world.clinic_id, post.world.patient_id))
        assert patient is not None
        assert patient.unreachable == ["sms"]

    def test_if_no_channel_is_left_somebody_calls(self, post: Post, provider: SmsServer) -> None:
        post.session.execute(text("UPDATE patient SET channels = '{sms}'"))
        post.session.commit()
        provider.answer = lambda _text: "400:30003"
        book(post)

        post.sweep()

        assert post.open_tasks() == ["call-patient"]
        assert "email:message-failed:scheduled" in post.states()

    def test_the_provider_is_asked_about_what_is_uncertain(
        self, post: Post, provider: SmsServer
    ) -> None:
        stranger, _ = make_patient(post.session, phone="+12125550124", email=None, channels=["sms"])
        book(post)
        book(post, TUESDAY + timedelta(hours=2), stranger)
        provider.answer = lambda told: "lost" if told["To"] == TO else "refuse-late"
        post.sweep()
        assert sorted(one.state for one in post.messages())[:2] == ["scheduled", "scheduled"]
        assert sum(one.state == "uncertain" for one in post.messages()) == 2

        post.texts.resolve()
        assert provider.asked == 0  # too early: the answer may still come
        post.session.execute(
            text(
                "UPDATE message SET released_at = now() - interval '3 min' "
                "WHERE state = 'uncertain'"
            )
        )
        post.session.commit()
        post.texts.resolve()

        by_reader = {one.recipient_id: one.state for one in post.messages() if one.released_at}
        assert by_reader == {post.world.patient_id: "sent"}
        provider.answer = lambda _told: "201"
        post.sweep()
        assert len(provider.bodies()) == 2

    def test_a_rate_survives_restarts(
        self, post: Post, provider: SmsServer, worker_engine: Engine
    ) -> None:
        for number in range(5):
            patient, _ = make_patient(
                post.session, channels=["sms"], phone=f"+1212555{1000 + number}"
            )
            book(post, TUESDAY + number * timedelta(hours=1), patient)

        for _ in range(2):  # a worker, and the one after it
            post.texts.rate = Rate("sms", per_second=0.01, burst=3)
            post.texts.held_until = 0
            post.texts.sweep()

        assert len(provider.texts) == 3


@pytest.fixture
def patient_of_texts(session: Session, world: World) -> Patient:
    session.execute(
        text("UPDATE clinic SET sms_from = :number, emergency_text = 'Call 911.'"),
        {"number": FROM},
    )
    patient = session.scalars(select(Patient).where(Patient.id == world.patient_id)).one()
    patient.channels = ["sms", "email"]
    session.commit()
    return patient


def write_in(
    client: FlaskClient, world: World, body: str, sid: str = "SM1", token: str = TOKEN
) -> int:
    """A patient's text message, as the provider tells it."""
    path = f"/hooks/sms/{world.clinic_id}/inbound"
    return call(client, path, {"MessageSid": sid, "From": TO, "To": FROM, "Body": body}, token)


def call(client: FlaskClient, path: str, form: dict[str, str], token: str = TOKEN) -> int:
    told = "http://localhost" + path + "".join(name + form[name] for name in sorted(form))
    signed = base64.b64encode(hmac.new(token.encode(), told.encode(), hashlib.sha1).digest())
    headers = {"X-Twilio-Signature": signed.decode()}
    return client.post(path, data=form, headers=headers).status_code


@pytest.mark.usefixtures("patient_of_texts")
class TestReplies:
    def said(self, session: Session) -> list[str]:
        """What was planned as an answer."""
        session.expire_all()
        query = select(Message.kind).where(Message.appointment_id.is_(None)).order_by(Message.id)
        return [str(kind) for kind in session.scalars(query)]

    def asked(self, session: Session, world: World, kind: MessageKind, desk: Caller) -> str:
        """Book a visit and let its message of `kind` be the last that was said."""
        told = {
            "patient_id": str(world.patient_id),
            "step_kind": "preparation",
            "starts_at": MONDAY_9.isoformat(),
        }
        answer = desk.post("/appointments", told)
        assert answer.status_code == 201, answer.json
        session.execute(
            text(
                "UPDATE message SET state = 'sent', kind = :kind, released_at = now(), "
                "sent_at = now(), done_at = now() WHERE rule = 'on-booking'"
            ),
            {"kind": kind.value},
        )
        session.commit()
        return f"/appointments/{answer.json['id']}"

    def test_1_confirms(
        self, client: FlaskClient, session: Session, world: World, desk: Caller
    ) -> None:
        path = self.asked(session, world, MessageKind.CONFIRM_REQUEST, desk)

        assert write_in(client, world, " 1 ") == 200

        assert desk.get(path).json["confirmed_at"] is not None
        assert self.said(session) == ["noted"]

    def test_2_asks_for_another_time(
        self, client: FlaskClient, session: Session, world: World, desk: Caller
    ) -> None:
        path = self.asked(session, world, MessageKind.CONFIRM_REQUEST, desk)

        write_in(client, world, "2")

        assert desk.get(path).json["move_requested_at"] is not None
        [task] = desk.get("/tasks").json["items"]
        assert (task["kind"], task["appointment_id"]) == ("move-visit", path.split("/")[-1])

    def test_after_the_question_how_they_are_1_means_well_and_2_means_call_me(
        self, client: FlaskClient, session: Session, world: World, desk: Caller
    ) -> None:
        path = self.asked(session, world, MessageKind.SAFETY_CHECK, desk)

        write_in(client, world, "1", "SM1")
        write_in(client, world, "2", "SM2")

        assert desk.get(path).json["confirmed_at"] is None
        meanings = [one["meaning"] for one in desk.get("/replies").json["items"]]
        assert meanings == ["well", "call-me"]
        [task] = desk.get("/tasks").json["items"]
        assert (task["kind"], task["owner"], task["urgent"]) == ("safety-check", "clinician", True)

    def test_a_reply_told_twice_counts_once(
        self, client: FlaskClient, session: Session, world: World, desk: Caller
    ) -> None:
        self.asked(session, world, MessageKind.CONFIRM_REQUEST, desk)

        for _ in range(3):
            assert write_in(client, world, "2") == 200

        assert len(desk.get("/replies").json["items"]) == 1
        assert self.said(session) == ["noted"]

    @pytest.mark.parametrize("word", ["STOP", "stop.", "Cancel", "END", "opt out", "BAJA"])
    def test_stop_stops_at_once_with_one_confirmation(
        self,
        client: FlaskClient,
        session: Session,
        world: World,
        desk: Caller,
        word: str,
    ) -> None:
        told = {
            "patient_id": str(world.patient_id),
            "step_kind": "preparation",
            "starts_at": (MONDAY_9 + 3 * DAY).isoformat(),
        }
        visit = desk.post("/appointments", told).json

        write_in(client, world, word)

        session.expire_all()
        channels = {
            (one.kind, one.channel): one.state for one in session.scalars(select(Message)).all()
        }
        assert channels[MessageKind.CONFIRMATION, Channel.SMS] == "suppressed"
        assert channels[MessageKind.CONFIRMATION, Channel.EMAIL] == "scheduled"
        assert channels[MessageKind.OPTED_OUT, Channel.SMS] == "scheduled"
        assert desk.get(f"/appointments/{visit['id']}").json["status"] == "booked"
        patient = desk.get(f"/patients/{world.patient_id}").json
        assert patient["opted_out"] == ["sms"]
        consents = desk.get(f"/patients/{world.patient_id}/channel-consents").json["items"]
        assert [(one["channel"], one["given"], one["wording"]) for one in consents] == [
            ("sms", False, word)
        ]

    def test_start_brings_them_back(
        self, client: FlaskClient, session: Session, world: World, desk: Caller
    ) -> None:
        write_in(client, world, "STOP", "SM1")
        write_in(client, world, "YES", "SM2")

        assert desk.get(f"/patients/{world.patient_id}").json["opted_out"] == []
        assert self.said(session) == ["opted-out", "opted-in"]

    def test_help_is_answered(self, client: FlaskClient, session: Session, world: World) -> None:
        write_in(client, world, "HELP")

        assert self.said(session) == ["help"]

    @pytest.mark.parametrize("told", ["I want to die", "quiero morir", "I can't breathe"])
    def test_words_of_crisis_alarm_people_and_are_answered(
        self, client: FlaskClient, session: Session, world: World, desk: Caller, told: str
    ) -> None:
        self.asked(session, world, MessageKind.CONFIRM_REQUEST, desk)

        write_in(client, world, told)

        assert sorted(self.said(session)) == ["crisis", "crisis", "emergency"]
        [task] = desk.get("/tasks").json["items"]
        assert (task["kind"], task["urgent"]) == ("crisis", True)

    def test_free_words_wait_for_people(
        self, client: FlaskClient, session: Session, world: World, desk: Caller
    ) -> None:
        write_in(client, world, "please stop sending me so many of these")

        [reply] = desk.get("/replies").json["items"]
        assert (reply["meaning"], reply["body"]) == (
            "other",
            "please stop sending me so many of these",
        )
        [task] = desk.get("/tasks").json["items"]
        assert task["kind"] == "read-reply"
        done = desk(
            "PATCH",
            f"/tasks/{task['id']}",
            {"status": "completed", "note": "called"},
            etag=desk.get(f"/tasks/{task['id']}").headers["ETag"],
        )
        assert (done.status_code, done.json["status"]) == (200, "completed")
        assert desk.get("/tasks").json["items"] == []

    def test_a_stranger_is_heard_too(
        self, client: FlaskClient, world: World, desk: Caller, session: Session
    ) -> None:
        path = f"/hooks/sms/{world.clinic_id}/inbound"
        form = {"MessageSid": "SM9", "From": "+12125559999", "To": FROM, "Body": "hello?"}

        assert call(client, path, form) == 200

        assert session.scalars(select(Reply.patient_id)).all() == [None]

    def test_without_the_right_signature_nothing_is_heard(
        self, client: FlaskClient, world: World, session: Session
    ) -> None:
        assert write_in(client, world, "STOP", token="guessed") == 403
        path = f"/hooks/sms/{world.clinic_id}/inbound"
        assert client.post(path, data={"Body": "STOP"}).status_code == 403
        assert session.scalars(select(Reply)).all() == []


class TestReceipts:
    def status(self, client: FlaskClient, message: Message, told: str, code: str = "") -> int:
        path = f"/hooks/sms/{message.clinic_id}/status/{message.id}"
        form = {"MessageSid": "SM1", "MessageStatus": told}
        return call(client, path, {**form, **({"ErrorCode": code} if code else {})})

    @pytest.mark.parametrize(
        ("before", "told", "after"),
        [
            ("sent", ["delivered"], "delivered"),
            ("uncertain", ["sent"], "sent"),
            ("uncertain", ["delivered", "sent", "queued"], "delivered"),
            ("sending", ["delivered"], "delivered"),
            ("sent", ["undelivered"], "failed"),
            ("sent", ["delivered", "undelivered"], "delivered"),
            ("sent", ["sent", "delivered", "delivered"], "delivered"),
        ],
    )
    def test_words_in_any_order_settle_it(
        self,
        client: FlaskClient,
        session: Session,
        world: World,
        desk: Caller,
        before: str,
        told: list[str],
        after: str,
    ) -> None:
        order = {
            "patient_id": str(world.patient_id),
            "step_kind": "preparation",
            "starts_at": MONDAY_9.isoformat(),
        }
        desk.post("/appointments", order)
        session.execute(
            text(
                "UPDATE message SET state = CAST(:state AS text), released_at = now(), "
                "leased_until = CASE WHEN CAST(:state AS text) = 'sending' "
                "THEN now() + interval '1 min' END"
            ),
            {"state": before},
        )
        session.commit()
        message = session.scalars(select(Message)).first()
        assert message is not None

        for word in told:
            assert self.status(client, message, word, "30003") == 200

        session.expire_all()
        assert message.state == after


def test_one_request_stops_the_mails(
    client: FlaskClient, session: Session, world: World, key: Keyring, clock: Clock
) -> None:
    secret = client.application.config["SECRET_KEY"]
    token = links.unsubscribe_token(secret, world.clinic_id, world.patient_id)
    desk = key(Role.SCHEDULER)

    shown = client.get(f"/u/{token}")
    assert (shown.status_code, "No more e-mails" in shown.text) == (200, True)
    assert desk.get(f"/patients/{world.patient_id}").json["opted_out"] == []
    for _ in range(2):
        stopped = client.post(f"/u/{token}", data={"List-Unsubscribe": "One-Click"})
        assert stopped.status_code == 200
    assert desk.get(f"/patients/{world.patient_id}").json["opted_out"] == ["email"]
    assert client.get(f"/u/{token[:-2]}xx").status_code == 404
