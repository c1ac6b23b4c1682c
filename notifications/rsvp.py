"""Calendars' answers: what a reader's calendar mails back when an invitation is taken or declined.

Source: RFC 5546, 3.2.3 (REPLY); RFC 6047 (by mail).
"""

import contextlib
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage

from icalendar import Calendar

LARGEST = 200_000
"""Bytes of a calendar that is read."""

_COMES = {"ACCEPTED": True, "DECLINED": False}


@dataclass(frozen=True, slots=True)
class Rsvp:
    """Whether somebody comes."""

    uid: str
    sequence: int
    attendee: str
    """An e-mail address, in small letters."""
    comes: bool


def read(mail: bytes) -> Rsvp | None:
    """Read a mail that a calendar sent. None if it takes or declines nothing."""
    told = message_from_bytes(mail, policy=policy.default)
    assert isinstance(told, EmailMessage)
    for part in told.walk():
        if part.get_content_type() == "text/calendar":
            content = part.get_payload(decode=True)
            if isinstance(content, bytes) and len(content) <= LARGEST:
                with contextlib.suppress(ValueError, KeyError, IndexError, TypeError):
                    return _rsvp(Calendar.from_ical(content))
    return None


def _rsvp(calendar: Calendar) -> Rsvp | None:
    """What a calendar that can be read says; raises what `read` knows how to take."""
    if str(calendar["METHOD"]).upper() != "REPLY":
        return None
    event = calendar.walk("VEVENT")[0]
    attendee = event["ATTENDEE"]
    comes = _COMES.get(str(attendee.params.get("PARTSTAT", "")).upper())
    if comes is None:
        return None
    address = str(attendee).lower().removeprefix("mailto:")
    return Rsvp(str(event["UID"]), int(event.get("SEQUENCE", 0)), address, comes)
