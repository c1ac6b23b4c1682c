"""Languages: a message's words, dates and times in the reader's own.

English is written in the code; every other language is a gettext catalogue beside this
module, read once. A text that a catalogue lacks is said in English rather than not at all;
a test keeps the catalogues whole.
"""

import gettext
import io
from collections.abc import Mapping
from datetime import date, datetime, time
from functools import lru_cache
from pathlib import Path
from string import Template

from babel.dates import format_date, format_skeleton, format_time, get_timezone_location
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from notifications.words import FRAME

LOCALES: Mapping[str, str] = {"en": "en_US", "es": "es_US"}
"""The languages that we speak, and whose way of writing dates goes with each."""

FOLDER = Path(__file__).with_name("locale")


def translate(language: str, told: str) -> str:
    """Say `told`, which is English, in `language`."""
    return _catalogue(language).gettext(told) if told else told


def day(at: datetime, language: str) -> str:
    """A day in full: Monday, March 15, 2027."""
    return _day(at.date(), language)


def short_day(at: datetime, language: str) -> str:
    """A day in few signs: Mon, Mar 15."""
    return _short_day(at.date(), language)


def clock(at: datetime, language: str) -> str:
    """A time of day, with the name of its place: people are told a place, never an offset."""
    zone = getattr(at.tzinfo, "key", "UTC")
    return _clock(at.time(), zone, language)


@lru_cache(maxsize=1024)
def _day(day: date, language: str) -> str:
    return _plain(format_date(day, "full", locale=_locale(language)))


@lru_cache(maxsize=1024)
def _short_day(day: date, language: str) -> str:
    return _plain(format_skeleton("MMMEd", day, locale=_locale(language)))


@lru_cache(maxsize=1024)
def _clock(wall: time, zone: str, language: str) -> str:
    told = format_time(wall, "short", locale=_locale(language))
    said = Template(translate(language, FRAME["time"]))
    return _plain(said.substitute(time=told, city=place_name(zone, language)))


@lru_cache(maxsize=512)
def place_name(zone: str, language: str = "en") -> str:
    """A zone by the name of its city."""
    return get_timezone_location(zone, locale=_locale(language), return_city=True)


def _locale(language: str) -> str:
    return LOCALES.get(language, LOCALES["en"])


def _plain(told: str) -> str:
    """Without the narrow blanks that some clients show as boxes."""
    return told.replace("\u202f", " ").replace("\u00a0", " ")


@lru_cache(maxsize=8)
def _catalogue(language: str) -> gettext.NullTranslations:
    path = FOLDER / f"{language}.po"
    if language == "en" or not path.exists():
        return gettext.NullTranslations()
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
