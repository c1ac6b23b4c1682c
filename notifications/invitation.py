"""Invitations: visits as iCalendar, so that a calendar shows them, moves them and drops them.

One UID for the life of a visit; SEQUENCE rises with each change; CANCEL takes it away. The
instants are in UTC and the words are neutral: calendars are shared.
Source: RFC 5545, RFC 5546 and RFC 6047.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from string import Template
from typing import Self
from uuid import UUID, uuid5

from icalendar import Calendar, Event, vCalAddress, vText

from notifications import languages
from notifications.reading import Letter
from notifications.words import FRAME


class Method(StrEnum):
    """What a calendar is asked to do (RFC 5546)."""

    PUBLISH = "PUBLISH"
    REQUEST = "REQUEST"
    CANCEL = "CANCEL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A visit as a calendar shows it."""

    clinic_id: UUID
    appointment_id: UUID
    revision: int
    starts_at: datetime
    ends_at: datetime
    clinic: str
    clinic_email: str
    place: str
    language: str = "en"
    attendee: tuple[str, str] | None = None
    """Name and e-mail address."""
    summary: str | None = None
    """None: an appointment at the clinic."""
    is_certain: bool = True
    """False: it is suspended, and may not take place."""

    @classmethod
    def of(cls, letter: Letter) -> Self:
        """The visit that a letter speaks of, with its reader invited."""
        assert letter.appointment_id is not None
        return cls(
            clinic_id=letter.clinic_id,
            appointment_id=letter.appointment_id,
            revision=letter.revision,
            starts_at=letter.starts_at,
            ends_at=letter.ends_at,
            clinic=letter.clinic,
            clinic_email=letter.clinic_email,
            place=f"{letter.site}, {letter.site_address}",
            language=letter.language,
            attendee=(letter.reader_name, letter.address or ""),
            is_certain=not letter.suspended,
        )

    @property
    def uid(self) -> str:
        """The same for the life of the visit, unlike any other anywhere, and saying nothing."""
        return uid(self.clinic_id, self.appointment_id)

    @property
    def sequence(self) -> int:
        """Rises with each change of the visit."""
        return self.revision - 1


def uid(clinic_id: UUID, appointment_id: UUID) -> str:
    """What calendars know a visit by."""
    return str(uuid5(clinic_id, str(appointment_id)))


def calendar(entries: Iterable[Entry], method: Method, now: datetime) -> bytes:
    """Write visits as iCalendar. A REQUEST or a CANCEL speaks of one."""
    written = Calendar()
    written.add("prodid", "-//Afterglow//Appointments//EN")
    written.add("version", "2.0")
    written.add("method", method.value)
    for entry in entries:
        written.add_component(_event(entry, method, now))
    return bytes(written.to_ical())


def _event(entry: Entry, method: Method, now: datetime) -> Event:
    event = Event()
    event.add("uid", entry.uid)
    event.add("sequence", entry.sequence)
    event.add("dtstamp", now)
    event.add("dtstart", entry.starts_at)
    event.add("dtend", entry.ends_at)
    event.add("summary", entry.summary or _summary(entry))
    event.add("location", entry.place)
    event.add("class", "PRIVATE")
    standing = "CONFIRMED" if entry.is_certain else "TENTATIVE"
    event.add("status", "CANCELLED" if method is Method.CANCEL else standing)
    if method is not Method.PUBLISH and entry.attendee is not None:
        event.add("organizer", _address(entry.clinic_email, entry.clinic))
        event.add("attendee", _attendee(*entry.attendee), encode=False)
    return event


def _summary(entry: Entry) -> str:
    told = languages.translate(entry.language, FRAME["appointment"])
    return Template(told).substitute(clinic=entry.clinic)


def _attendee(name: str, email: str) -> vCalAddress:
    attendee = _address(email, name)
    attendee.params["CUTYPE"] = vText("INDIVIDUAL")
    attendee.params["ROLE"] = vText("REQ-PARTICIPANT")
    attendee.params["PARTSTAT"] = vText("ACCEPTED")
    attendee.params["RSVP"] = vText("FALSE")
    return attendee


def _address(email: str, name: str) -> vCalAddress:
    address = vCalAddress(f"mailto:{email}")
    address.params["CN"] = vText(name)
    return address
