"""Fetching: what stands at an address that somebody told us, without being led astray.

Whoever may name an address could name one inside the clinic's own network. So a name is looked
up once, every address it has must be a public one, and the connection goes to that very
address; a redirect is looked at in the same way. Nothing is fetched without TLS, none is waited
for longer than SECONDS in all, and no more than LARGEST bytes are read.
Source: RFC 9110, sections 13.1.2 (If-None-Match) and 15.4 (redirects); RFC 6890 (addresses).
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urljoin, urlsplit

from scheduler.feeds import Due, Fetched

SECONDS = 20.0
LARGEST = 2 * 1024 * 1024
"""Bytes."""
MOST_HOPS = 3

TOO_SLOW = "It did not answer, or not in time."

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_MOVED = frozenset({301, 302, 303, 307, 308})
_TUNNELS = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("2002::/16"))
"""Addresses that lead to an IPv4 address which they hide."""


class Unfetched(Exception):
    """It could not be fetched. The message says why, and never where."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches over HTTPS from public addresses, and from `allowed` networks in any way."""

    allowed: Sequence[Network] = ()
    trusted: ssl.SSLContext | None = None
    """Whom to trust over TLS. None: whom this machine trusts."""

    def fetch(self, due: Due) -> Fetched:
        """Fetch a feed, unless it is as we have it. Raises Unfetched."""
        url = due.url
        with _Deadline() as deadline:
            for _ in range(1 + MOST_HOPS):
                answer = self._ask(url, due, deadline)
                deadline.check()
                if answer.status not in _MOVED:
                    fetched = _read(answer)
                    deadline.check()
                    return fetched
                url = urljoin(url, answer.headers.get("Location", ""))
        raise Unfetched("It was redirected too often.")

    def _ask(self, url: str, due: Due, deadline: "_Deadline") -> HTTPResponse:
        try:
            parts = urlsplit(url)
            connection = self._connect(parts, deadline)
            headers = {"Accept": "text/calendar", "User-Agent": "Afterglow"}
            if due.etag:
                headers["If-None-Match"] = due.etag
            if due.last_modified:
                headers["If-Modified-Since"] = due.last_modified
            path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
            connection.request("GET", path, headers=headers)
            return connection.getresponse()
        except ssl.SSLError as error:
            raise Unfetched("Its certificate cannot be trusted.") from error
        except (OSError, HTTPException, ValueError) as error:
            raise Unfetched(TOO_SLOW) from error

    def _connect(self, parts: SplitResult, deadline: "_Deadline") -> HTTPConnection:
        """A connection to the one address that was looked at."""
        is_tls = parts.scheme == "https"
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Unfetched("It was redirected to something that is no web address.")
        port = parts.port or (443 if is_tls else 80)
        address = self._look_up(parts.hostname, port, is_tls=is_tls)
        sock = socket.create_connection((str(address), port), timeout=SECONDS)
        if not is_tls:
            deadline.watch(sock)
            plain = HTTPConnection(parts.hostname, port)
            plain.sock = sock
            return plain
        context = self.trusted or ssl.create_default_context()
        wrapped = context.wrap_socket(
            sock, server_hostname=parts.hostname, do_handshake_on_connect=False
        )
        deadline.watch(wrapped)
        wrapped.do_handshake()
        secure = HTTPSConnection(parts.hostname, port, context=context)
        secure.sock = wrapped
        return secure

    def _look_up(self, host: str, port: int, *, is_tls: bool) -> Address:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unfetched("There is no such host.") from error
        addresses = [ip_address(str(one[4][0]).partition("%")[0]) for one in found]
        ours = [any(_v4(one) in network for network in self.allowed) for one in addresses]
        if not all(mine or is_public(one) for mine, one in zip(ours, addresses, strict=True)):
            raise Unfetched("It is on a network from which nothing is fetched.")
        if not is_tls and not all(ours):
            raise Unfetched("It must be fetched over https.")
        return addresses[0]


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet."""
    plain = _v4(address)
    hidden = any(plain in network for network in _TUNNELS)
    return plain.is_global and not plain.is_multicast and not hidden


def _v4(address: Address) -> Address:
    """An IPv4 address written as one of IPv6 is what it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _read(answer: HTTPResponse) -> Fetched:
    if answer.status == 304:
        return Fetched(None)
    if answer.status != 200:
        raise Unfetched(f"The server answered {answer.status}.")
    try:
        told = answer.read(LARGEST + 1)
    except (OSError, HTTPException, ValueError) as error:
        raise Unfetched(TOO_SLOW) from error
    if len(told) > LARGEST:
        raise Unfetched(f"It is larger than {LARGEST // 1024 // 1024} MB.")
    if answer.length not in {None, 0}:
        raise Unfetched("Its answer broke off.")
    try:
        text = told.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unfetched("It is not UTF-8.") from error
    return Fetched(text, answer.headers.get("ETag"), answer.headers.get("Last-Modified"))


class _Deadline:
    """Ends every connection that is watched once the time is up, however slowly it drips."""

    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self._over = threading.Event()
        self._timer = threading.Timer(SECONDS, self._end)
        self._timer.daemon = True

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._close()

    def watch(self, sock: socket.socket) -> None:
        """Watch this one, and let go of the one before."""
        self._close()
        self._sock = sock

    def check(self) -> None:
        """Raise Unfetched if the time is up: what was read may have been cut off."""
        if self._over.is_set():
            raise Unfetched(TOO_SLOW)

    def _end(self) -> None:
        self._over.set()
        if self._sock is not None:
            with contextlib.suppress(OSError):  # it has ended already
                self._sock.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
