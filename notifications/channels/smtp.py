"""A mail server as a way out. What counts is knowing whether the final dot was answered.

Up to the dot a message is provably not accepted, whatever goes wrong; after it, a lost answer
means that nobody knows (RFC 1047). The conversation is led step by step for that reason.
"""

import contextlib
import re
import smtplib
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from notifications.channels import Accepted, Envelope, Outcome, Refused, Unknown

CONNECT_SECONDS = 5
STEP_SECONDS = 10
IDLE_SECONDS = 30
"""A connection unused for longer is asked whether it is still there."""
MOST_MAILS = 100
"""Over one connection; some servers close it sooner or later, better at a time of our choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where mail is handed over."""

    host: str
    port: int
    security: str
    """none, starttls or tls."""
    username: str | None = None
    password: str | None = None
    trusted: ssl.SSLContext | None = None
    """Whom to trust over TLS. None: whom this machine trusts."""


_PLAIN = re.compile(r"[!-~]+@[!-~]+")
"""An address that can be written on one line, in ASCII, without a blank."""


class _Lost(Exception):
    """The conversation ended before the final dot."""


@dataclass(slots=True)
class SmtpChannel:
    """Hands messages to one mail server over a connection that is kept."""

    server: Server
    _connection: smtplib.SMTP | None = None
    _used_at: float = 0.0
    _mails: int = field(default=0)

    def hand_over(self, envelope: Envelope) -> Outcome:
        """Hand one message over, before the envelope's time to give up."""
        was_kept = self._connection is not None
        outcome = self._try(envelope)
        if was_kept and outcome == _CONNECTION_GONE:
            outcome = self._try(envelope)  # servers close kept connections
        return outcome

    def _try(self, envelope: Envelope) -> Outcome:
        if not (_PLAIN.fullmatch(envelope.sender) and _PLAIN.fullmatch(envelope.recipient)):
            return Refused("smtp-address", for_ever=True)
        try:
            connection = self._ready()
            refusal = self._envelope(connection, envelope)
            _limit(connection, envelope)
        except (OSError, smtplib.SMTPException, _Lost) as error:
            self.close()
            return _before_the_dot(error)
        return refusal or self._content(connection, envelope)

    def close(self) -> None:
        """Say goodbye, if anybody listens."""
        if self._connection is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._connection.quit()
            self._connection.close()
            self._connection = None

    def _ready(self) -> smtplib.SMTP:
        """A connection that is there, greeted and signed in."""
        kept = self._connection
        if kept is not None and (self._mails >= MOST_MAILS or not self._is_there(kept)):
            self.close()
        if self._connection is None:
            self._connection = _connect(self.server)
            self._mails = 0
        return self._connection

    def _is_there(self, connection: smtplib.SMTP) -> bool:
        if time.monotonic() - self._used_at < IDLE_SECONDS:
            return True
        try:
            return connection.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False

    def _envelope(self, connection: smtplib.SMTP, envelope: Envelope) -> Refused | None:
        """Everything up to the content; a refusal if the server does not want it.

        A server that can (RFC 2920) is told sender, recipient and DATA in one breath.
        """
        steps = [
            f"MAIL FROM:<{envelope.sender}>\r\n",
            f"RCPT TO:<{envelope.recipient}>\r\n",
            "DATA\r\n",
        ]
        if connection.has_extn("pipelining"):
            return self._in_one_breath(connection, envelope, steps)
        for step in steps:
            _limit(connection, envelope)
            connection.send(step)
            if (refusal := _heard(connection, step)) is not None:
                with contextlib.suppress(OSError, smtplib.SMTPException):
                    connection.rset()
                return refusal
        return None

    def _in_one_breath(
        self, connection: smtplib.SMTP, envelope: Envelope, steps: Sequence[str]
    ) -> Refused | None:
        _limit(connection, envelope)
        connection.send("".join(steps))
        answers = [_heard(connection, step) for step in steps]
        refusal = next((answer for answer in answers if answer is not None), None)
        if refusal is not None and answers[-1] is None:
            self.close()  # it waits for content that nobody is to get
        elif refusal is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                connection.rset()
        return refusal

    def _content(self, connection: smtplib.SMTP, envelope: Envelope) -> Outcome:
        """The content and the final dot: from here on a lost answer leaves nobody knowing."""
        try:
            connection.send(_stuffed(envelope.content))
            code, _ = connection.getreply()
        except (OSError, smtplib.SMTPException):
            self.close()
            return Unknown("smtp-answer-lost")
        self._used_at = time.monotonic()
        self._mails += 1
        if code == 250:
            return Accepted()
        if code == 421:
            self.close()
        if not 400 <= code <= 599:
            self.close()
            return Unknown("smtp-answer-unclear")
        return Refused(f"smtp-{code}", for_ever=code >= 500)


def _heard(connection: smtplib.SMTP, step: str) -> Refused | None:
    """The server's answer to a step: None if it goes on."""
    code, _ = connection.getreply()
    if code == 421:
        raise _Lost
    if code in {250, 251, 354}:
        return None
    for_ever = code >= 500 and code not in _SIGN_IN
    bad_address = step.startswith("RCPT") and code in _NO_SUCH_ADDRESS
    return Refused(f"smtp-{code}", for_ever=for_ever, bad_address=bad_address)


def _limit(connection: smtplib.SMTP, envelope: Envelope) -> None:
    """Let the next step take no longer than is left; raises _Lost if nothing is."""
    left = envelope.give_up_at - time.monotonic()
    if left <= 0:
        raise _Lost
    if connection.sock is not None:
        connection.sock.settimeout(min(left, STEP_SECONDS))


def greet(server: Server) -> None:
    """Say hello, sign in and say goodbye: whether it would let a letter in, and none is written.

    Raises OSError or SMTPException if it would not.
    """
    with contextlib.closing(_connect(server)) as connection:
        connection.quit()


def _connect(server: Server) -> smtplib.SMTP:
    if server.security == "tls":
        trusted = server.trusted or ssl.create_default_context()
        connection: smtplib.SMTP = smtplib.SMTP_SSL(
            server.host, server.port, timeout=CONNECT_SECONDS, context=trusted
        )
    else:
        connection = smtplib.SMTP(server.host, server.port, timeout=CONNECT_SECONDS)
    try:
        connection.ehlo()
        if server.security == "starttls":
            connection.starttls(context=server.trusted or ssl.create_default_context())
            connection.ehlo()
        if server.username is not None:
            connection.login(server.username, server.password or "")
    except (OSError, smtplib.SMTPException):
        connection.close()
        raise
    return connection


def _before_the_dot(error: Exception) -> Refused:
    """What went wrong before anything could have been accepted; worth another try."""
    code = getattr(error, "smtp_code", None)
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return Refused("smtp-sign-in", for_ever=False)
    return Refused(f"smtp-{code}", for_ever=False) if code else _CONNECTION_GONE


_SIGN_IN = {530, 534, 535, 538}
"""The server wants another sign-in: a fault of the set-up, not of the message."""

_NO_SUCH_ADDRESS = {550, 551, 553}
"""Answers to a recipient that mean the address itself (RFC 5321, 4.2.3)."""

_CONNECTION_GONE = Refused("smtp-unreachable", for_ever=False)


def _stuffed(content: bytes) -> bytes:
    """The content with its leading dots doubled, and the dot that ends it (RFC 5321, 4.5.2)."""
    body = content if content.endswith(b"\r\n") else content + b"\r\n"
    stuffed = body.replace(b"\r\n.", b"\r\n..")
    return (b"." + stuffed if stuffed.startswith(b".") else stuffed) + b".\r\n"
