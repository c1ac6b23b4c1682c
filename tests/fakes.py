"""The outside world, in our own hands: a mail server and a provider of text messages."""

import asyncio
import base64
import json
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


@dataclass
class MailServer:
    """What arrived, and how the server behaves."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    answer: Callable[[EmailMessage], str] = lambda _mail: "250 OK"
    """What the server says to the final dot; `drop` closes the connection after taking it,
    `gone` before, and `hang` takes it and is silent."""
    welcome: Callable[[str], str] = lambda _address: "250 OK"
    """What it says to a recipient."""
    pause: float = 0.0
    """Seconds it takes over each mail."""
    make: Callable[[], Controller] = field(init=False)
    _running: Controller | None = None

    def open(self) -> None:
        """Take mail."""
        self._running = self.make()
        self._running.start()

    def close(self) -> None:
        """Be gone: connections are refused."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        answer = self.welcome(address)
        if answer[:3] == "250":
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        if self.pause:
            await asyncio.sleep(self.pause)
        answer = self.answer(mail)
        if answer[:3] == "250" or answer in {"drop", "hang"}:
            with self.arrived:
                self.mails.append(mail)
                self.arrived.notify_all()
        if answer == "hang":
            await asyncio.sleep(30)
        if answer in {"drop", "gone"}:
            transport = server.transport
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
        return answer if answer[:1].isdigit() else "421 gone"

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
    kept.make = lambda: Controller(
        kept, hostname="127.0.0.1", port=kept.port, ready_timeout=10, **options
    )
    kept.open()
    try:
        yield kept
    finally:
        kept.close()


@dataclass
class SmsServer:
    """A provider that speaks Twilio's Messages resource, and what it was given."""

    account: str = "AC1"
    token: str = "sms-token"
    port: int = 0
    texts: list[dict[str, str]] = field(default_factory=list)
    """What it took, by parameter, with the `sid` it gave."""
    answer: Callable[[dict[str, str]], str] = lambda _text: "201"
    """What it does with a message: a status (with `:code` for its own error code), `lost` (takes
    it and closes), `refuse-late` (closes before taking it), `hang` (takes it and is silent)."""
    asked: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, text: dict[str, str]) -> str:
        with self._lock:
            sid = f"SM{len(self.texts):032x}"
            now = format_datetime(datetime.now(UTC))
            self.texts.append({**text, "sid": sid, "date_created": now})
            return sid

    def bodies(self) -> list[str]:
        return [text["Body"] for text in self.texts]


class _SmsServer(ThreadingHTTPServer):
    kept: SmsServer


class _SmsHandler(BaseHTTPRequestHandler):
    server: _SmsServer

    def do_POST(self) -> None:
        kept = self.server.kept
        length = int(self.headers["Content-Length"])
        told = {name: one[0] for name, one in parse_qs(self.rfile.read(length).decode()).items()}
        known = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        assert known == f"{kept.account}:{kept.token}"
        answer = kept.answer(told)
        if answer in {"lost", "hang", "refuse-late"}:
            if answer != "refuse-late":
                kept.take(told)
            if answer == "hang":
                kept.over.wait(60)
            self.close_connection = True
            return
        status, _, code = answer.partition(":")
        if status == "201":
            self._say(201, {"sid": kept.take(told), "status": "queued"})
        else:
            self._say(int(status), {"code": int(code or status), "status": int(status)})

    def do_GET(self) -> None:
        kept = self.server.kept
        kept.asked += 1
        to = parse_qs(urlsplit(self.path).query)["To"][0]
        self._say(200, {"messages": [text for text in kept.texts if text["To"] == to]})

    def _say(self, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def sms_server(account: str = "AC1") -> Iterator[SmsServer]:
    """A provider of text messages on a free port of this machine."""
    server = _SmsServer(("127.0.0.1", 0), _SmsHandler)
    server.kept = SmsServer(account=account, port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.kept
    finally:
        server.kept.over.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


@dataclass
class CalendarServer:
    """A web server with a calendar, as other programs publish theirs."""

    told: str = ""
    answer: Callable[[BaseHTTPRequestHandler], bool] = lambda _asked: False
    """Answers in its own way; False: with the calendar."""
    scheme: str = "http"
    port: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request."""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/private-1234/basic.ics"

    @property
    def etag(self) -> str:
        return f'"{zlib.crc32(self.told.encode()):x}"'


class _CalendarHandler(BaseHTTPRequestHandler):
    kept: CalendarServer

    def do_GET(self) -> None:
        self.kept.asked.append(dict(self.headers.items()))
        if self.kept.answer(self):
            return
        is_known = self.headers.get("If-None-Match") == self.kept.etag
        body = b"" if is_known else self.kept.told.encode()
        self.send_response(304 if is_known else 200)
        self.send_header("ETag", self.kept.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def calendar_server(tls: ssl.SSLContext | None = None) -> Iterator[CalendarServer]:
    """A calendar on a free port of this machine."""
    kept = CalendarServer()
    handler = type("Handler", (_CalendarHandler,), {"kept": kept})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    kept.port = server.server_address[1]
    if tls is not None:
        kept.scheme = "https"
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield kept
    finally:
        kept.over.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


def free_port() -> int:
    """A port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
