"""Messages per second to a mail server on this machine, beside a bare smtplib loop.

Ours is the worker's whole way: claim, release with its checks and a fresh link, build, hand
over, result. The loop sends one prepared message again and again over one connection.
"""

import smtplib
import subprocess
import sys
import time
from functools import partial

from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from benchmarks.booking import load
from benchmarks.place import NOW, peak_mb, place, serving
from benchmarks.report import Report
from database import access
from models import Message, enter_clinic
from models.vocabulary import MessageState
from notifications.channels.smtp import Server, SmtpChannel
from notifications.delivery import Delivery
from tests.fakes import MailServer, free_port

MAILS = 600


def run(report: Report) -> None:
    """Deliver the confirmations of many visits."""
    port = free_port()
    sink = subprocess.Popen([sys.executable, "-m", "benchmarks.sink", str(port)])
    try:
        with place() as where, serving(where, MailServer(port=25), "web") as service:
            load(service, where, iter(range(10**6)), 4, 6.0)
            ours, prepared = _deliver(where, port)
            bare = _bare(port, prepared)
            report.add("smtp_delivery", ours, "messages/s", bare)
            service.start("worker", SMTP_PORT=str(port))
            service.set_clock(NOW)
            report.add("memory_worker_mb", peak_mb(service.processes["worker"].pid), "MB")
    finally:
        sink.terminate()
        sink.wait(10)


def _deliver(where, port: int) -> tuple[float, bytes]:  # type: ignore[no-untyped-def]
    kept: list[bytes] = []

    class Channel(SmtpChannel):
        """Ours, keeping one message for the bare loop."""

        def hand_over(self, envelope):  # type: ignore[no-untyped-def]
            kept[:] = [envelope.content]
            return super().hand_over(envelope)

    channels = [Channel(Server(host="127.0.0.1", port=port, security="none")) for _ in range(4)]
    now = NOW.replace(minute=10)
    connect = partial(access.connect, where.ways.worker)
    delivery = Delivery(connect, channels, lambda: now, "https://clinic.example", "secret")
    begun = time.monotonic()
    done = delivery.sweep()
    took = time.monotonic() - begun
    delivery.close()
    engine = create_engine(where.ways.worker)
    with Session(engine) as session:
        enter_clinic(session, where.clinic_id)
        sent = session.scalar(select(func.count()).where(Message.state == MessageState.SENT))
    engine.dispose()
    assert sent == done > MAILS // 2, (sent, done)
    return done / took, kept[0]


def _bare(port: int, prepared: bytes) -> float:
    with smtplib.SMTP("127.0.0.1", port) as connection:
        begun = time.monotonic()
        for _ in range(MAILS):
            connection.sendmail("a@clinic.example", ["b@example.com"], prepared)
        return MAILS / (time.monotonic() - begun)
