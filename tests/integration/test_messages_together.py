"""Several messages near each other: what goes out in one letter, what waits a day."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any

import icalendar
import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from database import access
from models import Appointment, Message, MessageArchive, Reply, Task, enter_clinic
from models.vocabulary import MessageKind, PractitionerRole, Role, StepKind
from notifications import bounces
from notifications import rsvp as rsvps
from notifications.channels.smtp import Server, SmtpChannel
from notifications.delivery import Delivery, returned
from scheduler import booking, notices, replies
from scheduler.authority import Authority, Call
from scheduler.booking import Move, Order
from scheduler.jobs import archive_messages
from scheduler.permissions import BUNDLES
from tests import after
from tests.factories import (
    DAY,
    MONDAY_9,
    SUNDAY_NOON,
    World,
    make_default,
    make_practitioner,
    make_room,
    rule,
)
from tests.fakes import MailServer, mail_server

DESK = Authority("key:desk", BUNDLES[Role.SCHEDULER])
NINE = SUNDAY_NOON + timedelta(hours=2)
HOUR = timedelta(hours=1)


@dataclass
class Post:
    """A worker's delivery whose clock the test sets."""

    delivery: Delivery
    server: MailServer
    session: Session
    world: World
    now: datetime = NINE

    def book(self, at: datetime) -> Appointment:
        enter_clinic(self.session, self.world.clinic_id)
        order = Order(
            patient_id=self.world.patient_id, starts_at=at, step_kind=StepKind.PREPARATION
        )
        appointment = booking.book(self.session, order, by=DESK, now=SUNDAY_NOON)
        self.session.commit()
        return appointment

    def rules(self, *rules: dict[str, Any]) -> None:
        """The clinic's own cadence for these visits, from now on."""
        enter_clinic(self.session, self.world.clinic_id)
        self.session.execute(
            text(
                "INSERT INTO cadence_override "
                "(id, protocol_id, cadence, number, rules, written_by) "
                "SELECT gen_random_uuid(), protocol_id, 'plain', 1, CAST(:rules AS jsonb), 'test' "
                "FROM protocol_version WHERE id = :version"
            ),
            {"rules": json.dumps(rules), "version": self.world.protocol_version_id},
        )
        self.session.commit()

    def sweep(self, at: datetime) -> list[str]:
        """What goes out then, by subject."""
        before = len(self.server.mails)
        self.now = at
        self.delivery.sweep()
        self.session.rollback()
        return [mail["Subject"] for mail in self.server.mails[before:]]

    def messages(self) -> list[Message]:
        self.session.rollback()
        return list(self.session.scalars(select(Message).order_by(Message.due_at, Message.id)))


@pytest.fixture
def post(worker_engine: Engine, committed: Session, committed_world: World) -> Iterator[Post]:
    with mail_server() as server:
        channel = SmtpChannel(Server(host="127.0.0.1", port=server.port, security="none"))
        found = Post(
            Delivery(
                lambda: access.connect(worker_engine.url),
                [channel],
                lambda: found.now,
                "http://clinic.test",
                "secret",
            ),
            server,
            committed,
            committed_world,
        )
        yield found
        found.delivery.close()


def reminder(code: str, **when: Any) -> dict[str, Any]:
    return rule(code, "reminder", when)


def test_confirmations_that_are_due_together_are_one_letter(post: Post) -> None:
    visits = [post.book(MONDAY_9 + n * DAY) for n in (1, 2, 3)]

    assert post.sweep(NINE) == ["Your next 3 appointments"]

    [mail] = post.server.mails
    body = mail.get_body(("plain",))
    assert body is not None
    told = body.get_content()
    for day in ("Tuesday, March 3", "Wednesday, March 4", "Thursday, March 5"):
        assert day in told
    files = [part for part in mail.walk() if part.get_content_type() == "text/calendar"]
    events = [
        event
        for part in files
        for event in icalendar.Calendar.from_ical(part.get_content()).walk("VEVENT")
    ]
    assert [event.decoded("DTSTART") for event in events] == [one.starts_at for one in visits]
    confirmations = [one for one in post.messages() if one.kind is MessageKind.CONFIRMATION]
    assert {one.state for one in confirmations} == {"sent"}
    assert len({one.carried_by for one in confirmations} - {None}) == 1


def test_a_visit_that_falls_away_at_the_last_moment_is_not_in_the_letter(post: Post) -> None:
    visits = [post.book(MONDAY_9 + n * DAY) for n in (1, 2, 3)]

    def cancel(point: str) -> None:
        if point == "claimed" and len(visits) == 3:
            booking.cancel(post.session, Call(visits.pop().id, None), by=DESK, now=SUNDAY_NOON)
            post.session.commit()

    post.delivery.at = cancel
    told = post.sweep(NINE) + post.sweep(NINE + timedelta(seconds=5))

    assert told == ["Your next 2 appointments"]


def test_of_what_can_wait_a_patient_gets_one_letter_a_day(post: Post) -> None:
    post.rules(reminder("early", hours=-30, **{"from": "start"}))
    for hour in (0, 3, 6):  # reminders at 3, 6 and 9 in the morning of the day before, and later
        post.book(MONDAY_9 + 2 * DAY + hour * HOUR)

    day = MONDAY_9 + DAY
    assert post.sweep(day - 2 * HOUR) == []  # 07:00 is night; all of them wait for nine
    assert post.sweep(day) == ["Reminder: your next 3 appointments"]
    assert post.sweep(day + 12 * HOUR) == []


def test_what_comes_on_top_waits_for_the_next_day(post: Post) -> None:
    post.rules(reminder("early", hours=-72, **{"from": "start"}))
    post.book(MONDAY_9 + 4 * DAY)
    day = MONDAY_9 + DAY
    assert post.sweep(day) == ["Reminder: your appointment on Friday, March 6, 2026"]

    enter_clinic(post.session, post.world.clinic_id)
    order = Order(
        patient_id=post.world.patient_id,
        starts_at=MONDAY_9 + 4 * DAY + 3 * HOUR,
        step_kind=StepKind.PREPARATION,
    )
    booking.book(post.session, order, by=DESK, now=day + HOUR)
    post.session.commit()
    assert post.sweep(day + 4 * HOUR) == []
    assert post.sweep(day + DAY) == ["Reminder: your appointment on Friday, March 6, 2026"]


def test_no_telephone_rings_in_a_visit_for_what_can_wait(post: Post) -> None:
    post.rules(reminder("early", hours=-24, **{"from": "start"}))
    post.book(MONDAY_9)
    post.book(MONDAY_9 + DAY)
    post.sweep(NINE)

    assert post.sweep(MONDAY_9) == []
    assert post.sweep(MONDAY_9 + 59 * HOUR / 60) == []
    assert post.sweep(MONDAY_9 + HOUR) == ["Reminder: your appointment on Tuesday, March 3, 2026"]


def test_what_cannot_wait_is_said_all_the_same(post: Post) -> None:
    post.rules(
        reminder("first", hours=-30, **{"from": "start"}),
        rule("ask", "confirm-request", {"hours": -24, "from": "start"}),
    )
    post.book(MONDAY_9 + 2 * DAY + 6 * HOUR)

    assert len(post.sweep(MONDAY_9 + DAY)) == 1
    assert post.sweep(MONDAY_9 + DAY + 6 * HOUR) == ["Will you come on Wednesday, March 4, 2026?"]


def test_a_condition_that_does_not_hold_leaves_it_unsaid(post: Post) -> None:
    asked = {**rule("ask", "confirm-request", {"hours": -24, "from": "start"})}
    asked["if"] = ["unconfirmed"]
    post.rules(asked)
    sure, unsure = post.book(MONDAY_9 + DAY), post.book(MONDAY_9 + DAY + 2 * HOUR)
    booking.confirm(post.session, Call(sure.id, None), by=DESK, now=SUNDAY_NOON)
    post.session.commit()

    post.sweep(MONDAY_9 + 2 * HOUR)

    by_visit = {one.appointment_id: (one.state, one.last_error) for one in post.messages()}
    assert by_visit == {sure.id: ("superseded", "not-needed"), unsure.id: ("sent", None)}


def test_a_weekly_overview_says_a_week_in_one(post: Post) -> None:
    post.rules(rule("week", "overview", {"weekday": "sunday", "at": "17:00"}))
    for n in (7, 9, 11, 14):
        post.book(MONDAY_9 + n * DAY)

    sunday = MONDAY_9 + 6 * DAY + 8 * HOUR - HOUR  # the clocks went forward that morning
    assert post.sweep(sunday - timedelta(minutes=1)) == []
    assert post.sweep(sunday) == ["Your week with us"]
    body = post.server.mails[-1].get_body(("plain",))
    assert body is not None
    assert body.get_content().count("(New York time)") == 3
    carried = [one for one in post.messages() if one.carried_by is not None]
    assert len(carried) == 2


class TestStaff:
    def test_each_clinician_gets_the_days_agenda_at_seven(self, post: Post) -> None:
        post.book(MONDAY_9 + HOUR)
        post.book(MONDAY_9 + 4 * HOUR)
        enter_clinic(post.session, post.world.clinic_id)
        assert notices.plan_agendas(post.session, SUNDAY_NOON + 6 * HOUR) >= 1
        assert notices.plan_agendas(post.session, SUNDAY_NOON + 7 * HOUR) == 0
        post.session.commit()

        told = post.sweep(MONDAY_9 - 2 * HOUR)

        assert told.count("Your day: Monday, March 2, 2026") == 1
        agenda = next(mail for mail in post.server.mails if "Your day" in mail["Subject"])
        body = agenda.get_body(("plain",))
        assert body is not None
        assert body.get_content().count("Ada E.") == 2

    def test_a_licence_that_ends_is_told_once_a_step(self, post: Post) -> None:
        enter_clinic(post.session, post.world.clinic_id)
        post.session.execute(text("UPDATE qualification SET valid_until = '2026-03-20'"))
        post.session.commit()

        first = notices.warn_of_credentials(post.session, SUNDAY_NOON)
        assert first > 0
        assert notices.warn_of_credentials(post.session, SUNDAY_NOON + HOUR) == 0
        assert notices.warn_of_credentials(post.session, SUNDAY_NOON + 6 * DAY) == first
        kinds = set(post.session.scalars(select(Task.kind)))
        assert kinds == {"renew-credential"}
        post.session.commit()

    def test_one_that_was_renewed_is_not_told(self, post: Post) -> None:
        enter_clinic(post.session, post.world.clinic_id)
        make_practitioner(post.session, post.world.site_id, PractitionerRole.THERAPIST)
        make_room(post.session, post.world.site_id, "consulting")

        assert notices.warn_of_credentials(post.session, SUNDAY_NOON) == 0
        post.session.rollback()


def test_what_is_over_for_a_week_is_archived_by_its_month(
    post: Post, worker_engine: Engine
) -> None:
    post.book(MONDAY_9 + DAY)
    post.sweep(NINE)
    post.sweep(MONDAY_9)

    with Session(worker_engine) as worker:
        enter_clinic(worker, post.world.clinic_id)
        assert archive_messages(worker, MONDAY_9 + 8 * DAY - HOUR) == 0
        assert archive_messages(worker, MONDAY_9 + 9 * DAY) == 2
        worker.commit()
        kept = worker.scalars(select(MessageArchive).order_by(MessageArchive.due_at)).all()
        assert [one.kind for one in kept] == ["confirmation", "reminder"]
    assert post.messages() == []


DSN = b"""From: MAILER-DAEMON@mx.example
To: desk@clinic.example
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

Sorry.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; ada@example.com
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 no such user

--b
Content-Type: text/rfc822-headers

Message-ID: <%s@clinic.example>
Subject: Your appointment

--b--
"""


def test_a_mail_that_comes_back_is_a_failure_after_all(post: Post) -> None:
    post.book(MONDAY_9 + DAY)
    post.sweep(NINE)
    sent = post.messages()[0]
    bounce = bounces.read(DSN % str(sent.id).encode())
    assert bounce is not None
    assert (bounce.means, bounce.bad_address) == ("failed", True)

    connection = post.delivery.connect()
    assert returned(connection, bounce, NINE) == "The message is failed."
    assert returned(connection, bounce, NINE) == "Nothing new."
    connection.close()

    post.session.rollback()
    unreachable = post.session.scalar(text("SELECT unreachable FROM patient"))
    assert unreachable == ["email"]
    assert bounces.read(b"Subject: hello\n\nI am on holiday.") is None


def answer_of_a_calendar(invitation: EmailMessage, told: str, sender: str) -> bytes:
    """What a calendar mails back."""
    [part] = [part for part in invitation.walk() if part.get_content_type() == "text/calendar"]
    [event] = icalendar.Calendar.from_ical(part.get_content()).walk("VEVENT")
    content = "\r\n".join(
        [
            "BEGIN:VCALENDAR",
            "VERSION:2.0",
            "PRODID:-//Invented//Calendar//EN",
            "METHOD:REPLY",
            "BEGIN:VEVENT",
            f"UID:{event['UID']}",
            f"SEQUENCE:{event['SEQUENCE']}",
            "DTSTAMP:20260301T150000Z",
            f"ATTENDEE;PARTSTAT={told}:mailto:{sender}",
            "END:VEVENT",
            "END:VCALENDAR",
            "",
        ]
    )
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, invitation["From"], f"{told}: appointment"
    mail.set_content("See the calendar.")
    mail.add_alternative(content, subtype="calendar", params={"method": "REPLY"})
    return mail.as_bytes()


class TestCalendars:
    def answer(self, post: Post, told: str, *, sender: str | None = None) -> Reply | None:
        mail = post.server.mails[0]
        sender = sender or str(mail["To"].addresses[0].addr_spec).upper()
        rsvp = rsvps.read(answer_of_a_calendar(mail, told, sender))
        if rsvp is None:
            return None
        post.session.rollback()
        enter_clinic(post.session, post.world.clinic_id)
        reply = replies.hear_calendar(post.session, rsvp, post.now)
        post.session.commit()
        return reply

    def test_one_that_accepts_confirms(self, post: Post) -> None:
        visit = post.book(MONDAY_9 + DAY)
        post.sweep(NINE)

        assert self.answer(post, "ACCEPTED") is not None

        post.session.refresh(visit)
        assert visit.confirmed_at == NINE
        assert post.sweep(NINE + HOUR) == []

    def test_one_that_declines_asks_for_another_time_and_is_told_to_drop_it(
        self, post: Post
    ) -> None:
        visit = post.book(MONDAY_9 + DAY)
        post.sweep(NINE)

        assert self.answer(post, "DECLINED") is not None
        assert self.answer(post, "DECLINED") is None  # told twice, heard once

        assert post.sweep(NINE) == ["We will look for another time"]
        [part] = [
            part
            for part in post.server.mails[-1].walk()
            if part.get_content_type() == "text/calendar"
        ]
        told = icalendar.Calendar.from_ical(part.get_content())
        [first] = [
            part
            for part in post.server.mails[0].walk()
            if part.get_content_type() == "text/calendar"
        ]
        [invited] = icalendar.Calendar.from_ical(first.get_content()).walk("VEVENT")
        assert (told["METHOD"], told.walk("VEVENT")[0]["UID"]) == ("CANCEL", invited["UID"])
        post.session.refresh(visit)
        assert visit.status == "booked"  # a calendar cancels nothing; people decide
        assert [task.kind for task in post.session.scalars(select(Task))] == ["move-visit"]

    @pytest.mark.parametrize("told", ["TENTATIVE", "NEEDS-ACTION", "DELEGATED"])
    def test_anything_else_is_no_answer(self, post: Post, told: str) -> None:
        post.book(MONDAY_9 + DAY)
        post.sweep(NINE)
        assert self.answer(post, told) is None

    def test_an_answer_to_an_old_invitation_or_from_a_stranger_counts_for_nothing(
        self, post: Post
    ) -> None:
        visit = post.book(MONDAY_9 + DAY)
        post.sweep(NINE)
        assert self.answer(post, "DECLINED", sender="stranger@example.com") is None
        enter_clinic(post.session, post.world.clinic_id)
        move = booking.Move(starts_at=MONDAY_9 + 2 * DAY)
        booking.reschedule(post.session, Call(visit.id, None), move, by=DESK, now=NINE)
        post.session.commit()
        assert self.answer(post, "DECLINED") is None

    @pytest.mark.parametrize("content", [b"", b"\xff\x00", b"BEGIN:VCALENDAR\nMETHOD:REPLY\n"])
    def test_what_cannot_be_read_is_no_answer(self, content: bytes) -> None:
        mail = EmailMessage()
        mail.set_content("hello")
        mail.add_attachment(content, maintype="text", subtype="calendar")
        assert rsvps.read(mail.as_bytes()) is None
        assert rsvps.read(content) is None


MONDAY_13 = MONDAY_9 + 4 * HOUR
ASK_UNTIL_ONE = rule(
    "ask",
    "confirm-request",
    {"hours": -24, "from": "start"},
    not_after={"hours": -20, "from": "start"},
)


def test_what_soon_is_of_no_use_is_for_people_to_say(post: Post) -> None:
    post.rules(ASK_UNTIL_ONE)
    post.book(MONDAY_9 + DAY)
    post.server.answer = lambda _: "451 not now"
    post.sweep(MONDAY_9)
    post.delivery.alarm()
    assert tasks_of(post) == []

    post.now = MONDAY_13 - timedelta(minutes=14)
    post.delivery.alarm()
    post.delivery.alarm()
    assert tasks_of(post) == ["call-patient"]
    assert "expired" not in {message.state for message in post.messages()}

    post.now = MONDAY_13 + timedelta(minutes=1)
    post.delivery.tidy()
    assert tasks_of(post) == ["call-patient"]
    assert "expired" in {message.state for message in post.messages()}


def test_nobody_dies_between_the_end_of_a_message_and_the_call(post: Post) -> None:
    post.rules(rule("ask", "confirm-request", {"hours": -24, "from": "start"}))
    post.book(MONDAY_9 + DAY)
    post.now = MONDAY_9 + DAY - HOUR + timedelta(minutes=1)

    class Dead(Exception):
        pass

    def die(point: str) -> None:
        raise Dead(point)

    post.delivery.at = die
    with pytest.raises(Dead):
        post.delivery.tidy()
    assert tasks_of(post) == []
    assert "expired" not in {message.state for message in post.messages()}

    post.delivery.at = lambda _: None
    post.delivery.tidy()
    assert tasks_of(post) == ["call-patient"]
    assert "expired" in {message.state for message in post.messages()}


def test_nobody_calls_about_what_is_found_late_and_said_at_once(post: Post) -> None:
    post.rules(ASK_UNTIL_ONE)
    post.book(MONDAY_9 + DAY)
    post.sweep(NINE)
    post.now = MONDAY_13 - timedelta(minutes=14)

    post.delivery.tidy()  # as a worker that starts after a downtime does first of all
    post.delivery.alarm()

    assert tasks_of(post) == []
    assert {message.state for message in post.messages()} == {"sent"}


def tasks_of(post: Post) -> list[str]:
    post.session.rollback()
    return [str(task.kind) for task in post.session.scalars(select(Task))]


def test_visits_that_are_moved_together_are_told_in_one_letter(post: Post) -> None:
    visits = [post.book(MONDAY_9 + n * DAY) for n in (1, 2, 3)]
    post.sweep(NINE)
    for visit in visits[:2]:
        move = Move(starts_at=visit.starts_at + 7 * DAY)
        booking.reschedule(post.session, Call(visit.id, None), move, by=DESK, now=NINE)
    booking.cancel(post.session, Call(visits[2].id, None), by=DESK, now=NINE)
    post.session.commit()

    [subject] = post.sweep(NINE + timedelta(minutes=5))

    body = post.server.mails[-1].get_body(("plain",))
    assert body is not None
    told = body.get_content()
    assert "new times" in told
    assert "Tuesday, March 10" in told
    assert "Wednesday, March 11" in told
    assert "Thursday, March 5" in told
    assert "cancelled" in told
    assert subject


def test_questions_are_spoken_of_while_they_are_open(post: Post) -> None:
    """Not once they are answered, and not where something else on the list is open."""
    told = after.content(code="default")
    told["cadences"]["plain"] = [
        rule(
            "ask",
            "questionnaire-due",
            {"hours": -72, "from": "start"},
            **{"if": ["questions-open"]},
        )
    ]
    told["visits"]["integration"]["checklist"] = [
        {k: v for k, v in after.questions("phq-9").items() if k != "instruments"}
    ]
    enter_clinic(post.session, post.world.clinic_id)
    make_default(post.session, told)
    post.session.commit()
    answered, _ = post.book(MONDAY_9 + 3 * DAY), post.book(MONDAY_9 + 7 * DAY)
    enter_clinic(post.session, post.world.clinic_id)
    other = Order(
        patient_id=post.world.patient_id,
        starts_at=MONDAY_9 + 8 * DAY,
        step_kind=StepKind.INTEGRATION,
    )
    booking.book(post.session, other, by=DESK, now=SUNDAY_NOON)
    course = after.Course(post.session, post.world.patient_id, answered.id)
    for code in ("phq-9", "gad-7"):
        course.answer(answered, code, 3, SUNDAY_NOON)
    post.session.commit()

    assert post.sweep(MONDAY_9) == []
    assert post.sweep(MONDAY_9 + 4 * DAY) == ["Some questions before we meet"]
    assert post.sweep(MONDAY_9 + 5 * DAY) == []
