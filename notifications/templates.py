"""Templates: the words. Warm, plain, one thing to do, and nothing that betrays why.

A mail is read over shoulders and kept for years. So no text names a drug, a dose, a diagnosis
or a kind of therapy; what to do stands behind the link. Placeholders are named and few; there
is no template language, because a language can be made to loop.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from string import Template

from babel.dates import format_date, format_time, get_timezone_location

from models.vocabulary import MessageKind, Recipient
from notifications.reading import Letter

BETRAYING = re.compile(
    r"ketamin|esketamin|spravato|psychedel|psiloc|mdma|\bdos(e|es|ing|age)\b|therap|treatment|"
    r"medicin|medicat|infus|lozenge|inject|psychi|mental|depress|anxi|trauma|ptsd|suicid|"
    r"diagnos|integration|preparation|fasting|screening|clearance|consent|symptom|\bdrug",
    re.IGNORECASE,
)
"""Words that would tell a stranger why somebody goes there."""


@dataclass(frozen=True, slots=True)
class Words:
    """One template."""

    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class Said:
    """A rendered message."""

    subject: str
    body: str


class UnknownPlaceholder(Exception):
    """A template asks for something that no letter has."""


PLACEHOLDERS = frozenset(
    {"name", "patient", "clinic", "phone", "site", "address", "day", "time", "end_time", "link"}
)

_SIGNED = "\n\n$clinic\n$phone\n"
_WHERE = "$day\n$time\n$site, $address\n"

TEMPLATES: Mapping[tuple[MessageKind, Recipient], Words] = {
    (MessageKind.CONFIRMATION, Recipient.PATIENT): Words(
        "Your appointment on $day",
        "Hello $name,\n\nyour appointment is booked:\n\n" + _WHERE + "\nEverything about it, and "
        "what to do before you come, is here:\n$link\n\nIf the time does not suit you, tell us on "
        "that page, or call $phone." + _SIGNED,
    ),
    (MessageKind.CHECKLIST_REQUEST, Recipient.PATIENT): Words(
        "A few things before your appointment",
        "Hello $name,\n\nthere are a few things to do before your appointment on $day. "
        "They take some minutes:\n$link\n\nQuestions? Call $phone." + _SIGNED,
    ),
    (MessageKind.REMINDER, Recipient.PATIENT): Words(
        "Reminder: your appointment on $day",
        "Hello $name,\n\nwe look forward to seeing you:\n\n" + _WHERE + "\nPlease check that "
        "your list is done:\n$link\n\nQuestions? Call $phone." + _SIGNED,
    ),
    (MessageKind.CONFIRM_REQUEST, Recipient.PATIENT): Words(
        "Will you come on $day?",
        "Hello $name,\n\nplease tell us that you will come:\n$link\n\n" + _WHERE + "\nIf you "
        "cannot come, the same page lets you ask for another time." + _SIGNED,
    ),
    (MessageKind.DAY_OF, Recipient.PATIENT): Words(
        "See you at $time",
        "Hello $name,\n\nsee you soon:\n\n" + _WHERE + "\nPlease come 15 minutes early. "
        "Your page:\n$link\n\nRunning late? Call $phone." + _SIGNED,
    ),
    (MessageKind.MOVED, Recipient.PATIENT): Words(
        "Your appointment has a new time: $day",
        "Hello $name,\n\nyour appointment was moved. The new time is:\n\n" + _WHERE + "\nThis "
        "replaces the time we told you before. Please look at your page again:\n$link\n\nIf the "
        "new time does not suit you, call $phone." + _SIGNED,
    ),
    (MessageKind.CANCELLATION, Recipient.PATIENT): Words(
        "Your appointment on $day is cancelled",
        "Hello $name,\n\nyour appointment on $day at $time is cancelled. You do not need to come."
        "\n\nTo find another time, call $phone." + _SIGNED,
    ),
    (MessageKind.AFTERCARE, Recipient.PATIENT): Words(
        "How are you today?",
        "Hello $name,\n\nthank you for coming. Take it slowly today.\n\nIf anything worries you, "
        "call $phone. Whom to call in an emergency stands on your page:\n$link" + _SIGNED,
    ),
    (MessageKind.CHECK_BACK, Recipient.PATIENT): Words(
        "Thinking of you",
        "Hello $name,\n\nhow are you? A short note on what you noticed these days is worth "
        "keeping, and worth bringing along next time.\n\nIf you would like to talk sooner, call "
        "$phone." + _SIGNED,
    ),
    (MessageKind.PICK_UP, Recipient.ESCORT): Words(
        "Thank you for taking $patient home on $day",
        "Hello $name,\n\n$patient named you to take them home. Please be there at:\n\n$day\n"
        "$end_time\n$site, $address\n\nIf you cannot come, please call $phone." + _SIGNED,
    ),
    (MessageKind.MOVED, Recipient.ESCORT): Words(
        "A new time to take $patient home: $day",
        "Hello $name,\n\nthe time at which $patient needs you has changed. It is now:\n\n$day\n"
        "$end_time\n$site, $address\n\nIf you cannot come, please call $phone." + _SIGNED,
    ),
    (MessageKind.CANCELLATION, Recipient.ESCORT): Words(
        "You do not need to come on $day",
        "Hello $name,\n\n$patient does not need to be taken home on $day. Thank you for having "
        "been ready." + _SIGNED,
    ),
}


def render(letter: Letter, link: str) -> Said:
    """Fill in the template of a letter. `link` is the way to the reader's page."""
    words = TEMPLATES[letter.kind, letter.recipient]
    values = _values(letter, link)
    return Said(fill(words.subject, values), fill(words.body, values))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values in the place of `$names`; each is put in as it stands, and never read again.

    Raises UnknownPlaceholder.
    """
    try:
        return Template(template).substitute(values)
    except (KeyError, ValueError) as error:
        raise UnknownPlaceholder(f"There is no placeholder {error}.") from error


def betrays(told: str) -> list[str]:
    """The words in `told` that would tell a stranger why somebody goes there."""
    return [found.group() for found in BETRAYING.finditer(told)]


def place_name(zone: str) -> str:
    """A zone by the name of its city: people are told a place, never an offset."""
    return get_timezone_location(zone, locale="en_US", return_city=True)


def _values(letter: Letter, link: str) -> dict[str, str]:
    starts, ends = (at.astimezone(letter.zone) for at in (letter.starts_at, letter.ends_at))
    city = place_name(letter.zone.key)
    return {
        "name": letter.reader_name,
        "patient": letter.patient_name,
        "clinic": letter.clinic,
        "phone": letter.clinic_phone,
        "site": letter.site,
        "address": letter.site_address,
        "day": format_date(starts, "full", locale="en_US"),
        "time": f"{_wall(starts)} ({city} time)",
        "end_time": f"{_wall(ends)} ({city} time)",
        "link": link,
    }


def _wall(at: datetime) -> str:
    told = format_time(at, "short", tzinfo=at.tzinfo, locale="en_US")
    return told.replace("\u202f", " ")
