"""Bounces: what mail servers far away send back about a mail that we had handed over.

A delivery status notification names the mail in the headers that it returns; our Message-ID is
the message's id. Mail that is none is left to people.
Source: RFC 3464 (delivery status), RFC 6522 (reports).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from uuid import UUID

from models.vocabulary import MessageState

_OURS = re.compile(r"<?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@", re.IGNORECASE)
_NO_SUCH_ADDRESS = re.compile(r"5\.1\.\d+|5\.2\.1")
"""Status codes that mean the address itself (RFC 3463)."""


@dataclass(frozen=True, slots=True)
class Bounce:
    """What became of one of our mails."""

    message_id: UUID
    means: MessageState
    status: str
    bad_address: bool


def read(mail: bytes) -> Bounce | None:
    """Read a mail that came back. None if it says nothing final about a mail of ours."""
    told = message_from_bytes(mail, policy=policy.default)
    assert isinstance(told, EmailMessage)
    ours = next(_returned_ids(told), None)
    if ours is None:
        return None
    for fields in _recipients(told):
        action, status = fields.get("action", "").strip().lower(), fields.get("status", "").strip()
        if action == "failed":
            bad = _NO_SUCH_ADDRESS.match(status) is not None
            return Bounce(ours, MessageState.FAILED, status, bad)
        if action in {"delivered", "relayed"}:
            means = MessageState.DELIVERED if action == "delivered" else MessageState.SENT
            return Bounce(ours, means, status, bad_address=False)
    return None


def _returned_ids(told: EmailMessage) -> Iterator[UUID]:
    """Our ids in the headers of the mail that was returned."""
    for part in told.walk():
        if part.get_content_type() == "text/rfc822-headers":
            returned = str(part.get_payload(decode=False))
        elif part.get_content_type() == "message/rfc822":
            returned = "\n".join(
                f"{name}: {value}" for inner in part.iter_parts() for name, value in inner.items()
            )
        else:
            continue
        for line in returned.splitlines():
            if line.lower().startswith("message-id:") and (found := _OURS.search(line)):
                yield UUID(found.group(1))


def _recipients(told: EmailMessage) -> Iterator[dict[str, str]]:
    """The fields of each recipient in the report."""
    for part in told.walk():
        if part.get_content_type() != "message/delivery-status":
            continue
        for block in part.iter_parts():
            yield {name.lower(): str(value) for name, value in block.items()}
