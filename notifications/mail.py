"""Mail: a letter as the bytes that go to a mail server.

Names come from people, so they are cleaned here before they become headers: on some Pythons
an encoded word in a name can smuggle in a header or a body (CVE-2024-6923).
"""

import re
from datetime import datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

from models.vocabulary import MessageKind, Recipient
from notifications import invitation
from notifications.invitation import Method
from notifications.reading import Letter
from notifications.templates import Said

_METHODS = {
    MessageKind.CONFIRMATION: Method.REQUEST,
    MessageKind.MOVED: Method.REQUEST,
    MessageKind.CANCELLATION: Method.CANCEL,
}
"""The kinds that carry an invitation, and what it asks of a calendar."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]|=\?|\?=")


def clean(name: str) -> str:
    """A name or a subject without what could end a header or start another."""
    return " ".join(_UNSAFE.sub(" ", name).split())


def message_id(letter: Letter) -> str:
    """The Message-ID: the same at every try, so that a repeat can be recognised."""
    return f"<{letter.message_id}@{letter.clinic_email.rpartition('@')[2]}>"


def build(letter: Letter, said: Said, now: datetime) -> bytes:
    """Write a letter as mail, lines ended as SMTP wants them."""
    mail = EmailMessage()
    mail["Subject"] = clean(said.subject)
    mail["From"] = _address(letter.clinic, letter.clinic_email)
    mail["To"] = _address(letter.reader_name, letter.address or "")
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = message_id(letter)
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail.set_content(said.body)
    method = _METHODS.get(letter.kind)
    if method is not None and letter.recipient is Recipient.PATIENT:
        mail.add_alternative(
            invitation.calendar(letter, method, now),
            maintype="text",
            subtype="calendar",
            params={"method": method.value, "charset": "UTF-8"},
            cte="base64",
        )
    return mail.as_bytes(policy=policy.SMTP)


def _address(name: str, email: str) -> Address:
    user, _, domain = clean(email).rpartition("@")
    if not user or not domain or " " in email or clean(email) != email:
        raise ValueError("This is not an e-mail address.")  # without it: logs hold no addresses
    return Address(clean(name), user, domain)
