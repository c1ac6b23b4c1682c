"""Messages: how fast they are claimed, planned, written, handed over, and how late they are."""

import contextlib
import os
import shutil
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from itertools import count
from pathlib import Path
from statistics import median
from uuid import uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from benchmarks import peer
from benchmarks.report import Report
from models import Patient, Schedule, Site, enter_clinic
from models.vocabulary import Channel as ChannelCode
from models.vocabulary import MessageKind, Recipient
from notifications import mail, outbox, queue, templates
from notifications.cadence import Moment, QuietHours, Rule, Timing
from notifications.channels import Accepted, Envelope, Outcome
from notifications.channels.smtp import Server, SmtpChannel
from notifications.delivery import Delivery
from notifications.dispatcher import Dispatcher
from notifications.outbox import Reader, Subject
from notifications.queue import End, Result
from notifications.reading import Letter
from notifications.templates import Links
from tests.crowd import DUE, Crowd, crowd
from tests.fakes import free_port

MANY = 20_000
LETTERS = 3_000
BURST = 1_000
LONE = 200
AHEAD = timedelta(seconds=6)
"""What is due sooner wakes the worker when it is planned; these were planned long before."""


BOOKINGS = 300
DAY = timedelta(days=1)
_SIX = [
    Rule(
        code=f"r{hours}",
        kind=MessageKind.CONFIRM_REQUEST,
        to=Recipient.PATIENT,
        when=Moment(hours=-hours),
        not_after=Moment(hours=-1),
    )
    for hours in (168, 120, 72, 48, 24, 3)
]
_BOOK = text(
    """
    INSERT INTO appointment (id, patient_id, protocol_version_id, visit, kind, site_id, status,
                             starts_at, ends_at, revision, booked_by)
    SELECT :id, :patient, v.id, 'preparation', 'preparation', s.id, 'booked', now(),
           now() + interval '1 hour', 1, 'bare'
      FROM (SELECT id FROM protocol_version LIMIT 1) v, (SELECT id FROM site LIMIT 1) s
    """
)
_TAKE = text(
    """
    INSERT INTO slot (id, schedule_id, lane, appointment_id, role, status, starts_at, ends_at,
                      during)
    SELECT gen_random_uuid(), s, 1, :id, 'therapist', 'busy', CAST(:hour AS timestamptz),
           CAST(:hour AS timestamptz) + interval '1 hour',
           tstzrange(:hour, CAST(:hour AS timestamptz) + interval '1 hour')
      FROM unnest(CAST(:schedules AS uuid[])) s
    """
)


@dataclass
class Nowhere:
    """A channel that takes everything, and notes when."""

    taken: list[tuple[datetime, datetime]] = field(default_factory=list)

    def hand_over(self, envelope: Envelope) -> Outcome:
        """Take it."""
        self.taken.append((envelope.due_at, datetime.now(UTC)))
        return Accepted()

    def close(self) -> None:
        """Nothing is held."""


def run(report: Report) -> None:
    """Everything but the long ones."""
    with crowd(LETTERS) as place:
        claim_result(report, place)
        end_to_end(report, place)
        handover(report, place)
        planning(report, place)
        lateness(report, place)


def planning(report: Report, place: Crowd) -> None:
    """A visit, its three slots and its six messages; beside the same without the messages."""
    engine = create_engine(place.ways.service)
    with Session(engine) as session:
        enter_clinic(session, place.clinic_id)
        patient_id = session.scalars(select(Patient.id).limit(1)).one()
        home = session.scalars(select(Site.time_zone).limit(1)).one()
        schedules = session.scalars(select(Schedule.id).order_by(Schedule.id).limit(3)).all()
        session.commit()
        zone = ZoneInfo(home)
        quiet = QuietHours(time_of_day(0), time_of_day(0), zone)
        reader = Reader(Recipient.PATIENT, patient_id, ChannelCode.EMAIL, quiet)
        timing = Timing(DUE + 30 * DAY, DUE + 30 * DAY + timedelta(hours=1), zone, DUE)

        hours = count()

        def booked(*, announced: bool) -> float:
            begun = time.monotonic()
            for _ in range(BOOKINGS):
                appointment_id = uuid7()
                session.execute(_BOOK, {"id": appointment_id, "patient": patient_id})
                hour = DUE + next(hours) * timedelta(hours=1)
                values = {"id": appointment_id, "hour": hour, "schedules": list(schedules)}
                session.execute(_TAKE, values)
                if announced:
                    subject = Subject(appointment_id, 1, timing, _SIX, [reader])
                    outbox.announce(session, subject, DUE)
                session.commit()
            return BOOKINGS / (time.monotonic() - begun)

        pairs = [(booked(announced=True), booked(announced=False)) for _ in range(5)]
    engine.dispose()
    place.clear()
    with_messages, bare = sorted(pairs, key=lambda pair: pair[0] / pair[1])[2]
    report.add("booking_with_messages", with_messages, "bookings/s", bare)


def claim_result(report: Report, place: Crowd) -> None:
    """Claim and result without hand-over, batches of 100, two workers; beside Procrastinate."""
    place.plan(MANY)

    def work(_number: int) -> int:
        done = 0
        with place.connect() as connection:
            while batch := queue.claim(connection, ChannelCode.EMAIL, DUE, 100):
                queue.settle(connection, [Result(message=one, end=End.SENT) for one in batch], DUE)
                done += len(batch)
        return done

    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        done = sum(pool.map(work, range(2)))
    rate = done / (time.monotonic() - begun)
    assert done == place.count("sent") == MANY
    place.clear()
    report.add("claim_result", rate, "messages/s", peer.rate(place.ways))


def end_to_end(report: Report, place: Crowd) -> None:
    """Claim, read, write, release, result; beside two bare updates by key for each message."""
    place.plan(LETTERS)
    begun = time.monotonic()
    with place.connect() as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM message").fetchall()]
        begun = time.monotonic()
        for one in ids:
            for _ in range(2):
                connection.execute(
                    "UPDATE message SET attempts = attempts + 1 WHERE clinic_id = %s AND id = %s",
                    [place.clinic_id, one],
                )
        bare = len(ids) / (time.monotonic() - begun)
    place.clear()
    place.plan(LETTERS)
    delivery = Delivery(
        place.connect, [Nowhere() for _ in range(4)], lambda: DUE, "https://x.example", "secret"
    )
    begun = time.monotonic()
    delivery.sweep()
    rate = LETTERS / (time.monotonic() - begun)
    delivery.close()
    assert place.count("sent") == LETTERS
    place.clear()
    report.add("message_end_to_end", rate, "messages/s", bare)


def handover(report: Report, place: Crowd) -> None:
    """Writing and handing over alone; beside a bare smtplib loop with ready bytes."""
    letters = [
        replace(
            templates.sample(
                MessageKind.CONFIRM_REQUEST, Recipient.PATIENT, ChannelCode.EMAIL, "en"
            ),
            message_id=uuid4(),
            address=f"patient.{number}@example.com",
        )
        for number in range(LETTERS)
    ]
    with sink() as port:
        ready = _write(letters[0]).content
        bare = _bare(port, ready)
        channel = SmtpChannel(Server(host="127.0.0.1", port=port, security="none"))
        begun = time.monotonic()
        for letter in letters:
            assert isinstance(channel.hand_over(_write(letter)), Accepted)
        ours = LETTERS / (time.monotonic() - begun)
        channel.close()
        report.add("smtp_handover", ours, "messages/s", bare)
        place.plan(LETTERS)
        channels = [
            SmtpChannel(Server(host="127.0.0.1", port=port, security="none")) for _ in range(4)
        ]
        delivery = Delivery(place.connect, channels, lambda: DUE, "https://x.example", "secret")
        begun = time.monotonic()
        delivery.sweep()
        rate = LETTERS / (time.monotonic() - begun)
        delivery.close()
        assert place.count("sent") == LETTERS
        place.clear()
        report.add("smtp_delivery", rate, "messages/s", bare)


def _write(letter: Letter) -> Envelope:
    links = Links({letter.message_id: "https://x.example/p/" + "x" * 43}, "https://x.example/u/x")
    content = mail.build([letter], templates.render([letter], links), DUE, links.unsubscribe)
    return Envelope(
        name=str(letter.message_id),
        sender=letter.clinic_email,
        recipient=letter.address or "",
        content=content,
        due_at=DUE,
        give_up_at=time.monotonic() + 20,
    )


def _bare(port: int, ready: bytes) -> float:
    with smtplib.SMTP("127.0.0.1", port) as connection:
        begun = time.monotonic()
        for number in range(LETTERS):
            connection.sendmail("desk@clinic.example", [f"patient.{number}@example.com"], ready)
        return LETTERS / (time.monotonic() - begun)


def lateness(report: Report, place: Crowd) -> None:
    """From due to handed over while the worker is idle; then a thousand due at once."""
    taken = Nowhere()
    channels = [taken for _ in range(4)]
    delivery = Delivery(
        place.connect, channels, lambda: datetime.now(UTC), "https://x.example", "secret"
    )
    dispatcher = Dispatcher(delivery, place.connect)
    thread = threading.Thread(target=dispatcher.run, daemon=True)
    thread.start()
    start = datetime.now(UTC) + AHEAD
    place.plan_apart(LONE, start, timedelta(milliseconds=50))
    _wait(lambda: len(taken.taken) == LONE)
    late = sorted((at - due).total_seconds() * 1000 for due, at in taken.taken)
    report.add("lateness_p50_ms", median(late), "ms")
    report.add("lateness_p99_ms", late[int(len(late) * 0.99)], "ms")
    place.clear()
    taken.taken.clear()
    at = datetime.now(UTC) + AHEAD
    place.plan(BURST, at)
    _wait(lambda: len(taken.taken) == BURST)
    last = max(moment for _, moment in taken.taken)
    report.add("burst_1000_ms", (last - at).total_seconds() * 1000, "ms")
    dispatcher.stop.set()
    delivery.stop.set()
    thread.join(20)
    delivery.close()
    place.clear()


def _wait(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@contextmanager
def sink() -> Iterator[int]:
    """A mail server that takes everything: Postfix's, which is in C, if there is one."""
    port = free_port()
    found = shutil.which("smtp-sink", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    command = [sys.executable, "-m", "benchmarks.sink", str(port)]
    if found is not None:
        command = [found, "-u", "nobody", f"127.0.0.1:{port}", "1000"]
        if os.geteuid() != 0:
            command = [found, f"127.0.0.1:{port}", "1000"]
    print(f"  (into {Path(command[0]).name if found else 'aiosmtpd, which is slower than we are'})")
    process = subprocess.Popen(command)
    try:
        _wait(lambda: _answers(port))
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), smtplib.SMTP("127.0.0.1", port, timeout=2):
        return True
    return False
