"""A text message provider as a way out: Twilio's HTTP interface, which others speak too.

There is no key that would make a repeat harmless, so what counts is knowing whether the
request was written. A connection that could not be made, and an answer that says no, leave the
message provably not accepted; anything lost in between leaves nobody knowing, and `find` asks
the provider later.
Source: the provider's Messages resource, version 2010-04-01.
"""

import base64
import contextlib
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from notifications.channels import Accepted, Envelope, Outcome, Refused, Seen, Unknown

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
LONGEST_ANSWER = 1_000_000
"""Bytes."""

OPTED_OUT = 21610
_BAD_ADDRESS = frozenset({21211, 21214, 21217, 21614})
_TRY_LATER = frozenset({429, 503})
_SHORTEST_VALID, _LONGEST_VALID = 60, 14400
"""Seconds: what the provider takes as a validity period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where text messages are handed over, and as whom."""

    url: str
    """The provider's, without a path: https://..."""
    account: str
    token: str
    trusted: ssl.SSLContext | None = None
    """Whom to trust over TLS. None: whom this machine trusts."""


@dataclass(slots=True)
class SmsChannel:
    """Hands text messages to one account. Each has a connection of its own."""

    account: Account

    def hand_over(self, envelope: Envelope) -> Outcome:
        """Hand one message over, before the envelope's time to give up."""
        form = {
            "To": envelope.recipient,
            "From": envelope.sender,
            "Body": envelope.content.decode(),
            "ValidityPeriod": str(
                min(max(envelope.valid_seconds, _SHORTEST_VALID), _LONGEST_VALID)
            ),
        }
        if envelope.callback:
            form["StatusCallback"] = envelope.callback
        left = envelope.give_up_at - time.monotonic()
        try:
            connection = self._connect(min(left, CONNECT_SECONDS))
        except (OSError, ValueError):
            return Refused("sms-unreachable", for_ever=False)
        try:
            left = envelope.give_up_at - time.monotonic()
            if left <= 0:
                return Refused("sms-too-slow", for_ever=False)
            connection.sock.settimeout(min(left, ANSWER_SECONDS))
            connection.request("POST", self._path(), urlencode(form), self._headers())
            answer = connection.getresponse()
            return _outcome(answer.status, answer, _body(answer))
        except (OSError, HTTPException):
            return Unknown("sms-answer-lost")
        finally:
            connection.close()

    def find(self, _provider: str | None, recipient: str, since: datetime) -> list[Seen] | None:
        """What the provider was given for `recipient` since then. None: it cannot be asked now."""
        asked = urlencode({"To": recipient, "DateSent>": since.date().isoformat(), "PageSize": 200})
        with contextlib.suppress(OSError, HTTPException, ValueError, KeyError, TypeError):
            connection = self._connect(CONNECT_SECONDS)
            try:
                connection.sock.settimeout(ANSWER_SECONDS)
                connection.request("GET", f"{self._path()}?{asked}", headers=self._headers())
                answer = connection.getresponse()
                if answer.status != 200:
                    return None
                found = [
                    Seen(str(one["sid"]), parsedate_to_datetime(one["date_created"]))
                    for one in _body(answer)["messages"]
                ]
                return [one for one in found if one.created_at >= since.replace(microsecond=0)]
            finally:
                connection.close()
        return None

    def close(self) -> None:
        """Nothing is held."""

    def _connect(self, seconds: float) -> HTTPConnection:
        parts = urlsplit(self.account.url)
        if seconds <= 0 or parts.hostname is None:
            raise ValueError("Nowhere to go, or no time left.")
        connection: HTTPConnection
        if parts.scheme == "https":
            trusted = self.account.trusted or ssl.create_default_context()
            connection = HTTPSConnection(
                parts.hostname, parts.port, timeout=seconds, context=trusted
            )
        else:
            connection = HTTPConnection(parts.hostname, parts.port, timeout=seconds)
        connection.connect()
        return connection

    def _path(self) -> str:
        return f"/2010-04-01/Accounts/{self.account.account}/Messages.json"

    def _headers(self) -> dict[str, str]:
        known = base64.b64encode(f"{self.account.account}:{self.account.token}".encode())
        return {
            "Authorization": f"Basic {known.decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }


def _body(answer: HTTPResponse) -> Mapping[str, Any]:
    """What was answered; nothing, if it is no JSON object."""
    told = answer.read(LONGEST_ANSWER)
    with contextlib.suppress(ValueError):
        found = json.loads(told)
        if isinstance(found, dict):
            return found
    return {}


def _outcome(status: int, answer: HTTPResponse, told: Mapping[str, Any]) -> Outcome:
    if status in {200, 201}:
        reference = told.get("sid")
        return Accepted(reference=str(reference) if reference else None)
    if status in _TRY_LATER:
        return Refused(f"sms-{status}", for_ever=False, wait_seconds=_wait(answer))
    if status >= 500:
        return Unknown(f"sms-{status}")  # it may have been taken before the fault
    code = told.get("code") if isinstance(told.get("code"), int) else status
    if status in {401, 403} and code != OPTED_OUT:
        return Refused(f"sms-{code}", for_ever=False)  # the account is at fault, not the message
    return Refused(f"sms-{code}", for_ever=True, bad_address=code in _BAD_ADDRESS)


def _wait(answer: HTTPResponse) -> float | None:
    told = answer.headers.get("Retry-After", "")
    return float(told) if told.isdigit() else None
