"""Outside: connections to addresses that somebody told us, without being led astray.

Whoever may name an address could name one inside the clinic's own network. So a name is looked
up once, every address it has must be a public one, and the connection goes to one of those very
addresses, under the name's own certificate. No proxy of the environment is asked. Nothing
public is spoken to without TLS, and nothing is waited for longer than a deadline, however slowly
it drips.
Source: RFC 6890 (addresses), RFC 6052 and RFC 3056 (those that hide another).
"""

import contextlib
import queue
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

TOO_SLOW = "It did not answer, or not in time."

_UNICAST = IPv6Network("2000::/3")
"""All of IPv6 that is given out; what lies outside leads to this machine or its networks."""
_NOT_PUBLIC = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("2002::/16"),
    IPv6Network("3fff::/20"),
)
"""What Python's own list lets pass: protocols' own, relays and tunnels of 6to4, examples."""


class Unreached(Exception):
    """It could not be reached. The message says why, and never where."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Deadline:
    """Ends the connection that is watched once the time is up, however slowly it drips."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds
        self._sock: socket.socket | None = None
        self._over = threading.Event()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> "Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._close()

    @property
    def left(self) -> float:
        """Seconds; never none, for a timeout of 0 means something else."""
        return max(self._ends_at - time.monotonic(), 0.001)

    def watch(self, sock: socket.socket) -> None:
        """Watch this one, and let go of the one before."""
        self._close()
        self._sock = sock
        self.check()

    def check(self) -> None:
        """Raise Unreached if the time is up: what was read may have been cut off."""
        if self._over.is_set():
            raise Unreached("timeout", TOO_SLOW)

    def _end(self) -> None:
        self._over.set()
        if self._sock is not None:
            with contextlib.suppress(OSError):  # it has ended already
                self._sock.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of an address."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Outside:
    """Speaks HTTPS with public addresses, and in any way with `allowed` networks."""

    allowed: Sequence[Network] = ()
    trusted: ssl.SSLContext | None = None
    """Whom to trust over TLS. None: whom this machine trusts."""
    only_port: int | None = None
    """The one port of public addresses that may be spoken to. None: any."""

    def ask(self, asked: Request, deadline: Deadline) -> HTTPResponse:
        """Ask once; a redirect is an answer like any other. Raises Unreached."""
        try:
            parts = urlsplit(asked.url)
            connection = self._connect(parts, deadline)
            path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
            connection.request(asked.method, path, asked.body, dict(asked.headers))
            return connection.getresponse()
        except TimeoutError as error:
            raise Unreached("timeout", TOO_SLOW) from error
        except ssl.SSLError as error:
            deadline.check()
            raise Unreached("bad-certificate", "Its certificate cannot be trusted.") from error
        except (OSError, HTTPException, ValueError) as error:
            deadline.check()
            raise Unreached("no-answer", TOO_SLOW) from error

    def look_up(self, url: str, seconds: float) -> Sequence[Address]:
        """The addresses of a URL, if all may be spoken to. Raises Unreached."""
        try:
            parts = urlsplit(url)
            port = _port(parts)
        except ValueError as error:
            raise Unreached("no-address", "It is no web address.") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname or not port:
            raise Unreached("no-address", "It is no web address.")
        found = _resolved(parts.hostname, port, seconds)
        ours = [any(_v4(one) in network for network in self.allowed) for one in found]
        if not all(mine or is_public(one) for mine, one in zip(ours, found, strict=True)):
            raise Unreached("forbidden-network", "It is on a network that is not spoken to.")
        if not all(ours):
            self._refuse_way(parts.scheme, port)
        return found

    def _refuse_way(self, scheme: str, port: int) -> None:
        if scheme != "https":
            raise Unreached("not-https", "It must be spoken to over https.")
        if self.only_port not in {None, port}:
            raise Unreached("wrong-port", f"Only port {self.only_port} is spoken to.")

    def _connect(self, parts: SplitResult, deadline: Deadline) -> HTTPConnection:
        """A connection to one of the addresses that were looked at."""
        found = self.look_up(parts.geturl(), deadline.left)
        host, port = str(parts.hostname), _port(parts)
        sock = _first(found, port, deadline)
        if parts.scheme == "http":
            deadline.watch(sock)
            plain = HTTPConnection(host, port)
            plain.sock = sock
            return plain
        context = self.trusted or _machine_trusts()
        wrapped = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        deadline.watch(wrapped)
        wrapped.do_handshake()
        secure = HTTPSConnection(host, port, context=context)
        secure.sock = wrapped
        return secure


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet."""
    plain = _v4(address)
    if isinstance(plain, IPv6Address) and plain not in _UNICAST:
        return False
    hidden = any(plain in network for network in _NOT_PUBLIC)
    return plain.is_global and not plain.is_multicast and not hidden


def _v4(address: Address) -> Address:
    """An IPv4 address written as one of IPv6 is what it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _port(parts: SplitResult) -> int:
    port = parts.port
    return (443 if parts.scheme == "https" else 80) if port is None else port


def _first(found: Sequence[Address], port: int, deadline: Deadline) -> socket.socket:
    """A connection to the first of the addresses that takes one."""
    last: OSError | None = None
    for address in found:
        try:
            return socket.create_connection((str(address), port), timeout=deadline.left)
        except OSError as error:
            last = error
    assert last is not None
    raise last


def _resolved(host: str, port: int, seconds: float) -> list[Address]:
    """Look a name up, and wait no longer than so many seconds, which the resolver may not know."""
    answer: queue.SimpleQueue[list[Address]] = queue.SimpleQueue()
    looking = threading.Thread(
        target=lambda: answer.put(_asked_resolver(host, port)), name="resolver", daemon=True
    )
    looking.start()
    try:
        found = answer.get(timeout=seconds)
    except queue.Empty as error:
        raise Unreached("timeout", TOO_SLOW) from error
    if not found:
        raise Unreached("no-such-host", "There is no such host.")
    return found


def _asked_resolver(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ip_address(str(one[4][0]).partition("%")[0]) for one in found]


@cache
def _machine_trusts() -> ssl.SSLContext:
    """Whom this machine trusts. Kept: reading it takes longer than a whole request."""
    return ssl.create_default_context()
