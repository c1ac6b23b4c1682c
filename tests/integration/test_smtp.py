"""The mail server's other ways: over TLS, with a sign-in, and on a bad day."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from notifications.channels import Accepted, Envelope, Refused, Unknown
from notifications.channels.smtp import Server, SmtpChannel
from tests.fakes import free_port, mail_server

SUBJECT = b"Subject: hello\r\n\r\n.a line that begins with a dot\r\n"


def envelope(**changes: object) -> Envelope:
    told: dict[str, object] = {
        "name": "n",
        "sender": "desk@clinic.example.com",
        "recipient": "ada@example.com",
        "content": SUBJECT,
        "due_at": datetime(2027, 1, 1, tzinfo=UTC),
        "give_up_at": time.monotonic() + 20,
        **changes,
    }
    return Envelope(**told)  # type: ignore[arg-type]


def test_over_starttls_with_a_sign_in(served: ssl.SSLContext, trusted: ssl.SSLContext) -> None:
    with mail_server(tls=served, user=("clinic", "secret")) as server:
        way = {"host": "127.0.0.1", "port": server.port, "security": "starttls"}
        right = SmtpChannel(
            Server(**way, username="clinic", password="secret", trusted=trusted)  # type: ignore[arg-type]
        )
        wrong = SmtpChannel(
            Server(**way, username="clinic", password="guess", trusted=trusted)  # type: ignore[arg-type]
        )

        assert right.hand_over(envelope()) == Accepted()
        assert wrong.hand_over(envelope()) == Refused("smtp-sign-in", for_ever=False)
        right.close()
    [mail] = server.mails
    assert mail.get_content().splitlines() == [".a line that begins with a dot"]


def test_a_certificate_of_nobody_is_not_trusted(served: ssl.SSLContext) -> None:
    with mail_server(tls=served) as server:
        channel = SmtpChannel(Server(host="127.0.0.1", port=server.port, security="starttls"))

        assert channel.hand_over(envelope()) == Refused("smtp-unreachable", for_ever=False)
    assert server.mails == []


@pytest.mark.parametrize("recipient", ["a\r\nRCPT TO:<b@example.com>", "ünï@example.com"])
def test_an_address_that_cannot_be_written_is_refused_for_ever(recipient: str) -> None:
    with mail_server() as server:
        channel = SmtpChannel(Server(host="127.0.0.1", port=server.port, security="none"))

        outcome = channel.hand_over(envelope(recipient=recipient))
        channel.close()

    assert isinstance(outcome, Refused)
    assert outcome.for_ever
    assert server.mails == []


def test_what_woke_up_too_late_is_not_sent() -> None:
    with mail_server() as server:
        channel = SmtpChannel(Server(host="127.0.0.1", port=server.port, security="none"))

        outcome = channel.hand_over(envelope(give_up_at=time.monotonic() - 1))
        channel.close()

    assert outcome == Refused("smtp-unreachable", for_ever=False)
    assert server.mails == []


@pytest.fixture
def mute() -> Iterator[int]:
    """A server that greets, goes along up to the dot, and then says no more."""
    port = free_port()
    listener = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb", buffering=0) as talk:
            talk.write(b"220 here\r\n")
            while line := talk.readline():
                verb = line.split()[0].upper() if line.split() else b""
                if verb == b"DATA":
                    talk.write(b"354 go on\r\n")
                    while talk.readline() not in {b".\r\n", b""}:
                        pass
                    over.wait(20)
                    return
                talk.write(b"250 fine\r\n")

    over = threading.Event()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield port
    over.set()
    listener.close()
    thread.join(5)


def test_silence_after_the_dot_leaves_nobody_knowing(mute: int) -> None:
    channel = SmtpChannel(Server(host="127.0.0.1", port=mute, security="none"))

    outcome = channel.hand_over(envelope(give_up_at=time.monotonic() + 1.5))

    assert outcome == Unknown("smtp-answer-lost")
