"""Fetching: what stands at an address that somebody told us, without being led astray.

Every address is looked at as notifications/outside.py does, a redirect like the first one.
Nothing is waited for longer than SECONDS in all, and no more than LARGEST bytes are read.
Source: RFC 9110, sections 13.1.2 (If-None-Match) and 15.4 (redirects).
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.parse import urljoin

from notifications.outside import TOO_SLOW, Deadline, Network, Outside, Request, Unreached
from scheduler.feeds import Due, Fetched

SECONDS = 20.0
LARGEST = 2 * 1024 * 1024
"""Bytes."""
MOST_HOPS = 3

_MOVED = frozenset({301, 302, 303, 307, 308})


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
        try:
            return self._fetch(due)
        except Unreached as error:
            raise Unfetched(str(error)) from error

    def _fetch(self, due: Due) -> Fetched:
        outside = Outside(self.allowed, self.trusted)
        url = due.url
        with Deadline(SECONDS) as deadline:
            for _ in range(1 + MOST_HOPS):
                answer = outside.ask(Request("GET", url, _headers(due)), deadline)
                deadline.check()
                if answer.status not in _MOVED:
                    fetched = _read(answer)
                    deadline.check()
                    return fetched
                url = urljoin(url, answer.headers.get("Location", ""))
        raise Unfetched("It was redirected too often.")


def _headers(due: Due) -> dict[str, str]:
    headers = {"Accept": "text/calendar", "User-Agent": "Afterglow"}
    if due.etag:
        headers["If-None-Match"] = due.etag
    if due.last_modified:
        headers["If-Modified-Since"] = due.last_modified
    return headers


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
