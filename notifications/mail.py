"""Mail: letters as the bytes that go to a mail server.

The structure of a mail is made once by the email package, for each shape; each mail is then
that skeleton with its own headers and bodies put in, which is several times faster. Names come
from people, so they are cleaned before they become headers: on some Pythons an encoded word in
a name can smuggle in a header or a body (CVE-2024-6923).
"""

import binascii
import re
from collections.abc import Sequence
from datetime import datetime
from email import policy
from email.header import Header
from email.message import EmailMessage
from email.utils import format_datetime, formataddr
from functools import lru_cache, partial

from models.vocabulary import MessageKind, Recipient
from notifications import invitation
from notifications.invitation import Entry, Method
from notifications.reading import Letter
from notifications.templates import Said

_METHODS = {
    MessageKind.CONFIRMATION: Method.REQUEST,
    MessageKind.MOVED: Method.REQUEST,
    MessageKind.CANCELLATION: Method.CANCEL,
    MessageKind.DECLINED: Method.CANCEL,
}
"""The kinds that carry an invitation, and what it asks of a calendar."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]|=\?|\?=")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ]*")
_LONGEST_LINE = 70


def clean(name: str) -> str:
    """A name or a subject without what could end a header or start another."""
    return " ".join(_UNSAFE.sub(" ", name).split())


def message_id(letter: Letter) -> str:
    """The Message-ID: the same at every try, so that a repeat can be recognised."""
    return f"<{letter.message_id}@{letter.clinic_email.rpartition('@')[2]}>"


def build(letters: Sequence[Letter], said: Said, now: datetime, unsubscribe: str = "") -> bytes:
    """Write letters to one reader as one mail, lines ended as SMTP wants them.

    `unsubscribe` is where one request, without a page in between, stops the reader's mails.
    Source: RFC 8058 (one click), RFC 6047 (invitations), RFC 3834 (automatic mail).
    """
    first = letters[0]
    invited = [one for one in letters if _method(one) is not None]
    shape = _Shape(
        methods=tuple(str(_method(one)) for one in invited),
        apart=len(letters) > 1,
        unsubscribe=bool(unsubscribe),
    )
    values = [
        _subject(said.subject),
        _address(first.clinic, first.clinic_email),
        _address(first.reader_name, first.address or ""),
        format_datetime(now).encode(),
        message_id(first).encode(),
        *([f"<{unsubscribe}>".encode()] if unsubscribe else []),
        _quoted(said.body),
        _quoted(said.html),
        *(_lines64(_calendar(one, now)) for one in invited),
    ]
    pieces = _skeleton(shape)
    assert len(pieces) == len(values) + 1
    told = [pieces[0]]
    for value, piece in zip(values, pieces[1:], strict=True):
        told += [value, piece]
    return b"".join(told)


class _Shape(tuple[tuple[str, ...], bool, bool]):
    """What a mail is made of: invitations, whether they stand apart, how to unsubscribe."""

    __slots__ = ()

    def __new__(cls, methods: tuple[str, ...], apart: bool, unsubscribe: bool) -> "_Shape":
        return super().__new__(cls, (methods, apart, unsubscribe))


_SLOT = "afterglow.slot"


@lru_cache(maxsize=64)
def _skeleton(shape: _Shape) -> list[bytes]:
    """A mail of this shape, cut where the values go."""
    methods, apart, unsubscribe = shape
    mail = EmailMessage()
    for header in ("Subject", "From", "To", "Date", "Message-ID"):
        mail[header] = f"{_SLOT}@example.com" if header in {"From", "To"} else _SLOT
    mail.replace_header("Date", "Mon, 01 Jan 2001 00:00:00 +0000")
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    if unsubscribe:
        mail["List-Unsubscribe"] = _SLOT
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content(_SLOT, cte="quoted-printable")
    mail.add_alternative(_SLOT, subtype="html", cte="quoted-printable")
    for number, method in enumerate(methods, 1):
        add = partial(mail.add_alternative, _SLOT.encode())
        if apart:
            add = partial(mail.add_attachment, _SLOT.encode(), filename=f"appointment-{number}.ics")
        add(
            maintype="text",
            subtype="calendar",
            cte="base64",
            params={"method": method, "charset": "UTF-8"},
        )
    told = mail.as_bytes(policy=policy.SMTP)
    told = told.replace(b"Mon, 01 Jan 2001 00:00:00 +0000", _SLOT.encode())
    told = told.replace(f"{_SLOT}@example.com".encode(), _SLOT.encode())
    told = told.replace(binascii.b2a_base64(_SLOT.encode(), newline=False), _SLOT.encode())
    return told.split(_SLOT.encode())


def _method(letter: Letter) -> Method | None:
    return _METHODS.get(letter.kind) if letter.recipient is Recipient.PATIENT else None


def _calendar(letter: Letter, now: datetime) -> bytes:
    return invitation.calendar([Entry.of(letter)], _METHODS[letter.kind], now)


def _subject(told: str) -> bytes:
    cleaned = clean(told)
    if cleaned.isascii() and len(cleaned) <= _LONGEST_LINE:
        return cleaned.encode()
    return Header(cleaned, "utf-8", header_name="Subject").encode(linesep="\r\n").encode()


def _address(name: str, email: str) -> bytes:
    user, _, domain = email.rpartition("@")
    if not user or not domain or " " in email or clean(email) != email or not email.isascii():
        raise ValueError("This is not an e-mail address.")  # without it: logs hold no addresses
    cleaned = clean(name)
    if _PLAIN_NAME.fullmatch(cleaned) and len(cleaned) + len(email) < _LONGEST_LINE:
        return f"{cleaned} <{email}>".encode()
    if cleaned.isascii() and len(cleaned) + len(email) < _LONGEST_LINE:
        return formataddr((cleaned, email)).encode()
    encoded = Header(cleaned, "utf-8", header_name="Reply-To").encode(linesep="\r\n")
    return f"{encoded}\r\n <{email}>".encode()


def _quoted(told: str) -> bytes:
    """Text as quoted-printable, its lines ended by CRLF; the slot stands before a line's end."""
    lines = binascii.b2a_qp(told.rstrip("\n").encode(), istext=True)
    return lines.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _lines64(told: bytes) -> bytes:
    encoded = binascii.b2a_base64(told, newline=False)
    return b"\r\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76))
