"""Asking other sites: one request and its answer, by way of notifications/outside.py."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlencode

from notifications.outside import TOO_SLOW, Deadline, Network, Outside, Request, Unreached

SECONDS = 20.0
LARGEST = 256 * 1024
"""Bytes."""

Exchange = Callable[[str, Mapping[str, str] | None, Mapping[str, str]], bytes]
"""Asks an address by GET, or by POST with a form, with these headers; raises Unreached."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks over HTTPS at public addresses, and in `allowed` networks in any way."""

    allowed: Sequence[Network] = ()

    def exchange(
        self, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> bytes:
        """Ask by GET, or by POST with a form. Follows nothing; raises Unreached."""
        body = None if form is None else urlencode(form).encode()
        kind = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
        told = {"Accept": "application/json", "User-Agent": "Afterglow", **kind, **headers}
        with Deadline(SECONDS) as deadline:
            request = Request("GET" if form is None else "POST", url, told, body)
            answer = Outside(self.allowed).ask(request, deadline)
            try:
                read = answer.read(LARGEST + 1)
            except (OSError, HTTPException, ValueError) as error:
                raise Unreached("too-slow", TOO_SLOW) from error
            deadline.check()
        if answer.status != 200 or len(read) > LARGEST:
            raise Unreached("refused", f"The server answered {answer.status}, {len(read)} bytes.")
        return read
