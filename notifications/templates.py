"""Templates: a letter in words, as a mail or as a text message, in the reader's language.

Placeholders are named and few; there is no template language, because a language can be made
to loop. A clinic may put its own words in the place of ours; `faults` says what is wrong with
them before they are kept.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from string import Template
from uuid import UUID
from zoneinfo import ZoneInfo

from models.vocabulary import Channel, MessageKind, Recipient
from notifications import frame, gsm, languages
from notifications.cadence import QuietHours
from notifications.reading import Letter, Line
from notifications.words import FRAME, SEVERAL, Words, kinds_to, words_for

BETRAYING = re.compile(
    r"ketamin|esketamin|spravato|psychedel|psicod[eé]l|psiloc|mdma|\bdos(e|es|ing|age|is)\b|"
    r"therap|terap|treatment|tratamiento|medicin|medicat|medicam|infus|lozenge|inject|inyec|"
    r"psychi|psiqui|\bmental|depress|depres[ií]|anxi|ansied|trauma|ptsd|suicid|diagnos|"
    r"diagn[oó]s|integration|integraci[oó]n|preparation|preparaci[oó]n|fasting|\bayun|screening|"
    r"clearance|consent|symptom|s[ií]ntoma|\bdrug|\bdroga|f[aá]rmac",
    re.IGNORECASE,
)
"""Words that would tell a stranger why somebody goes there."""

MOST_SEGMENTS = 3
LONGEST_SUBJECT = 120

PLACEHOLDERS = frozenset(
    {
        *("name", "patient", "clinic", "phone", "site", "address", "day", "time", "end_time"),
        *("link", "visits", "count", "emergency", "what"),
    }
)

WITHOUT_GREETING = frozenset({MessageKind.EMERGENCY})

Own = Mapping[tuple[str, str, str, str], Words]
"""A clinic's own words, by kind, recipient, channel and language."""


@dataclass(frozen=True, slots=True)
class Said:
    """A rendered message. A text message has neither a subject nor HTML."""

    subject: str
    body: str
    html: str = ""


@dataclass(frozen=True, slots=True)
class Links:
    """Where a letter's reader can go."""

    pages: Mapping[UUID, str] = field(default_factory=dict)
    """The reader's own page, by the message that speaks of it."""
    unsubscribe: str = ""


class UnknownPlaceholder(Exception):
    """A template asks for something that no letter has."""


def render(letters: Sequence[Letter], links: Links, own: Own | None = None) -> Said:
    """Put one letter, or several to the same reader as one, into words.

    The first letter gives the language, the channel and the signature.
    """
    if letters[0].channel is Channel.SMS:
        return Said("", gsm.plain(_sms(letters, links, own or {})))
    return _mail(letters, links, own or {})


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


def faults(letter: Letter, words: Words) -> dict[str, list[str]]:
    """What is wrong with a clinic's own words for the kind of `letter`, by field.

    `letter` is an invented one with long names, so that lengths are the worst to be expected.
    """
    shipped = words_for(letter.kind, letter.recipient)
    found: dict[str, list[str]] = {"subject": [], "body": []}
    is_sms = letter.channel is Channel.SMS
    for name, told in (("subject", words.subject), ("body", words.sms if is_sms else words.body)):
        found[name] += [f"{word!r} may betray why the reader goes there." for word in betrays(told)]
        try:
            fill(told, _Values(letter, "https://clinic.example/p/" + "x" * 43))
        except UnknownPlaceholder as unknown:
            told_names = ", ".join(sorted(f"${one}" for one in PLACEHOLDERS))
            found[name].append(f"{unknown} There are {told_names}.")
    if not is_sms and not words.subject.strip():
        found["subject"].append("A mail needs a subject.")
    if len(words.subject) > LONGEST_SUBJECT or "\n" in words.subject:
        found["subject"].append(f"At most {LONGEST_SUBJECT} signs on one line.")
    told, ours = (words.sms, shipped.sms) if is_sms else (words.body, shipped.body)
    if "$link" in ours and "$link" not in told:
        found["body"].append("$link is missing: without it the reader cannot answer.")
    if is_sms and not found["body"]:
        length = gsm.measure(
            render(
                [letter],
                Links({letter.message_id: "https://clinic.example/p/" + "x" * 43}),
                {_key(letter): words},
            ).body
        )
        if length.segments > MOST_SEGMENTS:
            found["body"].append(
                f"{length.segments} text messages in {length.alphabet}; at most {MOST_SEGMENTS}."
            )
    return {name: told for name, told in found.items() if told}


def sample(kind: MessageKind, recipient: Recipient, channel: Channel, language: str) -> Letter:
    """A letter about an invented visit, with long names: to preview and to measure words by."""
    zone = ZoneInfo("America/New_York")
    starts = datetime(2027, 9, 15, 14, 0, tzinfo=UTC)
    is_sms = channel is Channel.SMS
    line = Line(starts, zone, "Harbor House", "Ada E.")
    return Letter(
        message_id=UUID(int=1),
        clinic_id=UUID(int=2),
        subject_id=UUID(int=3),
        appointment_id=UUID(int=3),
        patient_id=UUID(int=4),
        kind=kind,
        recipient=recipient,
        channel=channel,
        reader_id=UUID(int=4),
        reader_name="Maximiliana",
        reader_version=1,
        address="+12125550199" if is_sms else "maximiliana.example@example.com",
        language=language,
        patient_name="Maximiliana",
        patient_tag="Maximiliana E.",
        clinic="Harbor & Mesa Practice",
        clinic_email="desk@harbormesa.example.com",
        clinic_phone="+12125550100",
        sms_from="+12125550101",
        emergency="In danger call 911; day and night you can also call or text 988.",
        site="Harbor House",
        site_address="12 Example Wharf, Newport",
        zone=zone,
        suspended=False,
        starts_at=starts,
        ends_at=starts + timedelta(hours=3),
        revision=1,
        quiet=QuietHours(time(20), time(9), zone),
        silent=False,
        lines=(line, line) if kind is MessageKind.AGENDA else (),
        what="Theodora Example: NY-123456" if kind is MessageKind.CREDENTIAL_EXPIRING else "",
    )


def is_said(kind: MessageKind, recipient: Recipient) -> bool:
    """Whether there is anything of `kind` to say to `recipient`."""
    return kind in kinds_to(recipient)


def _mail(letters: Sequence[Letter], links: Links, own: Own) -> Said:
    first = letters[0]
    language = first.language
    parts = [_part(group, links, own) for group in _groups(letters)]
    greeting = fill(_say(language, "greeting"), {"name": first.reader_name})
    subject = parts[0].subject
    if len(parts) > 1:
        subject = _say(language, "mixed")
    body = f"\n\n{_say(language, 'also')}\n\n".join(part.body for part in parts)
    if first.kind not in WITHOUT_GREETING:
        body = f"{greeting}\n\n{body}"
    signed = f"{first.clinic}\n{first.clinic_phone}"
    small = []
    if first.recipient is Recipient.PATIENT and links.unsubscribe:
        why = fill(_say(language, "why"), {"clinic": first.clinic})
        small = [why, f"{_say(language, 'unsubscribe')}: {links.unsubscribe}"]
    text = "\n\n".join([body, signed, *(["-- \n" + "\n".join(small)] if small else [])]) + "\n"
    button = _say(language, "button")
    footer = (small[0], _say(language, "unsubscribe"), links.unsubscribe) if small else None
    html = frame.html(subject, f"{body}\n\n{signed}", button, footer, language)
    return Said(subject, text, html)


def _sms(letters: Sequence[Letter], links: Links, own: Own) -> str:
    groups = list(_groups(letters))
    if len(groups) == 1:
        return _part(groups[0], links, own).body
    first = letters[0]
    return fill(
        _say(first.language, "mixed_sms"),
        {"clinic": first.clinic, "link": links.pages.get(first.message_id, first.clinic_phone)},
    )


def _groups(letters: Sequence[Letter]) -> list[list[Letter]]:
    """Letters that can be said in one breath: several visits of one kind, or one letter."""
    found = []
    ordered = sorted(letters[1:], key=lambda one: (one.kind != letters[0].kind, one.kind))
    for kind, group in groupby([letters[0], *ordered], key=lambda one: one.kind):
        members = sorted(group, key=lambda one: one.starts_at)
        found += [members] if kind in SEVERAL else [[one] for one in members]
    return found


def _part(group: Sequence[Letter], links: Links, own: Own) -> Said:
    letter = group[0]
    link = links.pages.get(letter.message_id, "")
    if len(group) == 1:
        words = own.get(_key(letter)) or _translated(
            words_for(letter.kind, letter.recipient), letter.language
        )
        values = _Values(letter, link)
    else:
        words = _translated(SEVERAL[letter.kind], letter.language)
        lines = [Line(one.starts_at, one.zone, one.site) for one in group]
        values = _Values(letter, link, lines)
    template = words.sms if letter.channel is Channel.SMS else words.body
    return Said(fill(words.subject, values), fill(template, values))


def _key(letter: Letter) -> tuple[str, str, str, str]:
    return letter.kind.value, letter.recipient.value, letter.channel.value, letter.language


def _translated(words: Words, language: str) -> Words:
    return Words(
        languages.translate(language, words.subject),
        languages.translate(language, words.body),
        languages.translate(language, words.sms),
    )


def _say(language: str, name: str) -> str:
    return languages.translate(language, FRAME[name])


class _Values(dict[str, str]):
    """The values of a letter's placeholders, each worked out when a template asks for it."""

    def __init__(self, letter: Letter, link: str, lines: Sequence[Line] = ()) -> None:
        super().__init__(_plain_values(letter, link))
        self._letter = letter
        self._lines = lines or letter.lines

    def __missing__(self, name: str) -> str:
        self[name] = _WORKED_OUT[name](self._letter, self._lines)
        return self[name]


def _plain_values(letter: Letter, link: str) -> dict[str, str]:
    to_staff = letter.recipient in {Recipient.PRACTITIONER, Recipient.FRONT_DESK}
    return {
        "name": letter.reader_name,
        "patient": letter.patient_tag if to_staff else letter.patient_name,
        "clinic": letter.clinic,
        "phone": letter.clinic_phone,
        "site": letter.site,
        "address": letter.site_address,
        "link": link,
        "emergency": letter.emergency,
        "what": letter.what,
    }


def _day(letter: Letter, _lines: Sequence[Line]) -> str:
    day = languages.short_day if letter.channel is Channel.SMS else languages.day
    return day(letter.starts_at.astimezone(letter.zone), letter.language)


def _visits(letter: Letter, lines: Sequence[Line]) -> str:
    is_sms = letter.channel is Channel.SMS
    return (", " if is_sms else "\n").join(_line(one, letter.language, is_sms) for one in lines)


_WORKED_OUT: Mapping[str, Callable[[Letter, Sequence[Line]], str]] = {
    "day": _day,
    "time": lambda letter, _: languages.clock(
        letter.starts_at.astimezone(letter.zone), letter.language
    ),
    "end_time": lambda letter, _: languages.clock(
        letter.ends_at.astimezone(letter.zone), letter.language
    ),
    "visits": _visits,
    "count": lambda _, lines: str(len(lines) or 1),
}


def _line(line: Line, language: str, is_sms: bool) -> str:
    at = line.starts_at.astimezone(line.zone)
    if is_sms:
        return f"{languages.short_day(at, language)} {languages.clock(at, language)}"
    return fill(
        _say(language, "visit_today" if line.patient else "visit"),
        {
            "day": languages.day(at, language),
            "time": languages.clock(at, language),
            "site": line.site,
            "patient": line.patient,
        },
    )
