"""A real receiver of webhooks, over TLS or not, that answers as a test has it."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook as Verifier


@dataclass
class Heard:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """What it says, if an independent library takes the signature for ours."""
        return Verifier(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """Answers 204 unless told otherwise."""

    answer: Callable[[BaseHTTPRequestHandler], bool] = lambda _asked: False
    """Answers in its own way; False: 204."""
    scheme: str = "http"
    port: int = 0
    heard: list[Heard] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    """The names that were asked for over TLS."""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hooks"

    def says(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer like this from now on."""

        def answer(asked: BaseHTTPRequestHandler) -> bool:
            asked.send_response(status)
            for name, value in headers.items():
                asked.send_header(name.replace("_", "-"), value)
            asked.send_header("Content-Length", str(len(body)))
            asked.end_headers()
            asked.wfile.write(body)
            return True

        self.answer = answer


class _Handler(BaseHTTPRequestHandler):
    kept: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.kept.heard.append(Heard(self.path, headers, body))
        if not self.kept.answer(self):
            self.send_response(204)
            self.end_headers()

    def do_GET(self) -> None:
        """A redirect that was followed would come here."""
        self.do_POST()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what some tests are about."""


@contextmanager
def receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a free port of this machine."""
    kept = Receiver()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"kept": kept}))
    kept.port = server.server_address[1]
    if tls is not None:
        kept.scheme = "https"
        tls.sni_callback = lambda _sock, name, _context: kept.names.append(name)
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
