"""The outside world, in our own hands: a real mail server that does what a test wants."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


@dataclass
class MailServer:
    """What arrived, and how the server behaves."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    answer: Callable[[EmailMessage], str] = lambda _mail: "250 OK"
    """What the server says to the final dot; `drop` closes the connection after taking it."""

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        answer = self.answer(mail)
        if answer[:3] == "250" or answer == "drop":
            with self.arrived:
                self.mails.append(mail)
                self.arrived.notify_all()
        if answer == "drop":
            transport = server.transport
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
        return answer if answer != "drop" else "421 gone"

    def wait_for(self, count: int, seconds: float = 20) -> list[EmailMessage]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.mails) >= count, seconds), (
                f"{len(self.mails)} of {count} mails arrived"
            )
            return list(self.mails)


@contextmanager
def mail_server(
    *, tls: ssl.SSLContext | None = None, user: tuple[str, str] | None = None
) -> Iterator[MailServer]:
    """A mail server on a free port of this machine; over STARTTLS and with a login if wanted."""
    kept = MailServer()

    def let_in(
        _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any
    ) -> AuthResult:
        told = (
            (data.login.decode(), data.password.decode()) if isinstance(data, LoginPassword) else ()
        )
        return AuthResult(success=told == user, handled=False)

    options: dict[str, Any] = {"tls_context": tls, "require_starttls": True} if tls else {}
    if user:
        options |= {"authenticator": let_in, "auth_required": True, "auth_require_tls": bool(tls)}
    kept.port = free_port()
    controller = Controller(kept, hostname="127.0.0.1", port=kept.port, ready_timeout=10, **options)
    controller.start()
    try:
        yield kept
    finally:
        controller.stop()


def free_port() -> int:
    """A port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
