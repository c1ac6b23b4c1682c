"""Invitations: a visit as iCalendar, so that a calendar shows it, moves it and drops it.

One UID for the life of the visit; SEQUENCE rises with each change; CANCEL takes it away. The
instants are in UTC and the words are neutral: calendars are shared.
Source: RFC 5545, RFC 5546 and RFC 6047.
"""

from datetime import datetime
from enum import StrEnum

from icalendar import Calendar, Event, vCalAddress, vText

from notifications.reading import Letter


class Method(StrEnum):
    """What a calendar is asked to do (RFC 5546)."""

    PUBLISH = "PUBLISH"
    REQUEST = "REQUEST"
    CANCEL = "CANCEL"


def calendar(letter: Letter, method: Method, now: datetime) -> bytes:
    """Write the visit of `letter` as iCalendar."""
    event = Event()
    event.add("uid", f"{letter.appointment_id}@afterglow")
    event.add("sequence", letter.revision - 1)
    event.add("dtstamp", now)
    event.add("dtstart", letter.starts_at)
    event.add("dtend", letter.ends_at)
    event.add("summary", f"Appointment at {letter.clinic}")
    event.add("location", f"{letter.site}, {letter.site_address}")
    event.add("class", "PRIVATE")
    event.add("status", "CANCELLED" if method is Method.CANCEL else "CONFIRMED")
    if method is not Method.PUBLISH:
        event.add("organizer", _address(letter.clinic_email, letter.clinic))
        event.add("attendee", _attendee(letter), encode=False)
    written = Calendar()
    written.add("prodid", "-//Afterglow//Appointments//EN")
    written.add("version", "2.0")
    written.add("method", method.value)
    written.add_component(event)
    return bytes(written.to_ical())


def _attendee(letter: Letter) -> vCalAddress:
    attendee = _address(letter.address or "", letter.reader_name)
    attendee.params["CUTYPE"] = vText("INDIVIDUAL")
    attendee.params["ROLE"] = vText("REQ-PARTICIPANT")
    attendee.params["PARTSTAT"] = vText("ACCEPTED")
    attendee.params["RSVP"] = vText("FALSE")
    return attendee


def _address(email: str, name: str) -> vCalAddress:
    address = vCalAddress(f"mailto:{email}")
    address.params["CN"] = vText(name)
    return address
