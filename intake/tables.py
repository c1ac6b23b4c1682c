"""Tables: CSV files read strictly, cell by cell."""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time
from importlib import resources
from pathlib import Path
from typing import TypeVar

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from intake.faults import Notes
from scheduler import public_holidays

Value = TypeVar("Value")

BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
LONGEST = 500
YEARS = range(1900, 2200)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_WALL = re.compile(r"\d{2}:\d{2}", re.ASCII)


class Bad(Exception):
    """A cell that cannot be read; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table, and where faults in it are noted."""

    file: str
    line: int
    cells: dict[str, str]
    notes: Notes

    def read(self, column: str, how: Callable[[str], Value], fallback: Value) -> Value:
        """Read a cell; note what is wrong with it and go on with `fallback`."""
        try:
            return how(self.cells.get(column, ""))
        except Bad as bad:
            self.fault(column, str(bad))
            return fallback

    def text(self, column: str) -> str:
        """Words that must be there."""
        return self.read(column, words, "")

    def fault(self, column: str, detail: str) -> None:
        """Note a fault in this line."""
        self.notes.add(self.file, self.line, column, detail)


def rows(
    folder: Path, name: str, columns: Sequence[str], notes: Notes, *, required: bool = True
) -> Iterator[Row]:
    """Read a table that has exactly `columns`. UTF-8, with or without a mark."""
    path = folder / name
    try:
        told = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if required:
            notes.add(name, 0, "-", "This file is missing.")
        return
    except (OSError, UnicodeDecodeError):
        notes.add(name, 0, "-", "This file cannot be read as UTF-8.")
        return
    reader = csv.DictReader(io.StringIO(told, newline=""), restkey="", strict=True)
    try:
        if _has_columns(name, reader.fieldnames or (), columns, notes):
            yield from _lines(name, reader, notes)
    except csv.Error as error:
        notes.add(name, reader.line_num, "-", f"This is not CSV: {error}.")


def _has_columns(name: str, found: Sequence[str], columns: Sequence[str], notes: Notes) -> bool:
    for column in columns:
        if column not in found:
            notes.add(name, 1, column, "This column is missing.")
    for column in found:
        if column not in columns:
            notes.add(name, 1, column, "This column is not known.")
    return set(found) == set(columns)


def _lines(name: str, reader: "csv.DictReader[str]", notes: Notes) -> Iterator[Row]:
    for cells in reader:
        if "" in cells or None in cells.values():
            notes.add(name, reader.line_num, "-", "This line has more or fewer cells.")
            continue
        yield Row(name, reader.line_num, {k: v.strip() for k, v in cells.items()}, notes)


def words(told: str) -> str:
    """Words: not blank, not long, nothing in them that cannot be seen."""
    read = optional(told)
    if read is None:
        raise Bad("This may not be blank.")
    return read


def optional(told: str) -> str | None:
    """Words, or None for a blank cell."""
    read = unicodedata.normalize("NFC", told).strip()
    if len(read) > LONGEST:
        raise Bad(f"At most {LONGEST} characters.")
    if any(unicodedata.category(letter) in {"Cc", "Cs"} or letter in BIDI for letter in read):
        raise Bad("Leave out characters that cannot be seen.")
    return read or None


def day(told: str) -> date:
    """A day, as 2027-01-04."""
    try:
        if not _DAY.fullmatch(told):
            raise ValueError  # a week's day is no day of a month
        read = date.fromisoformat(told)
    except ValueError as error:
        raise Bad(f"{told!r} is not a day; write it as 2027-01-04.") from error
    if read.year not in YEARS:
        raise Bad(f"Years run from {YEARS.start} to {YEARS.stop - 1}.")
    return read


def regions(told: str) -> tuple[str, ...]:
    """States with spaces between them: `US-NY US-NJ`. None of a blank cell."""
    return tuple(map(region, told.split()))


def region(told: str) -> str:
    """A state, as ISO 3166-2 writes it: US-NY."""
    if not re.fullmatch(r"[A-Z]{2}-[A-Z0-9]{1,3}", told, re.ASCII):
        raise Bad(f"{told!r} is not a state; write it as US-NY.")
    return told


def holidays(told: str) -> str | None:
    """Whose public holidays a site keeps: a country or a state; none if empty."""
    if told and not public_holidays.is_known(told):
        raise Bad(f"{told!r} has no holidays that we know; write it as US or US-NY.")
    return told or None


def worked(told: str) -> tuple[str, ...]:
    """Names of holidays, separated by semicolons."""
    return tuple(name.strip() for name in told.split(";") if name.strip())


def wall(told: str) -> time:
    """A time of day, as 09:00."""
    try:
        if not _WALL.fullmatch(told):
            raise ValueError  # neither has a clock on the wall a zone
        return time.fromisoformat(told)
    except ValueError as error:
        raise Bad(f"{told!r} is not a time; write it as 09:00.") from error


def email(told: str) -> str:
    """An e-mail address."""
    try:
        return validate_email(told, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise Bad(f"{told!r} is not an e-mail address.") from error


def phone(told: str) -> str:
    """A telephone number; E.164."""
    try:
        number = phonenumbers.parse(told, "US")
    except phonenumbers.NumberParseException as error:
        raise Bad(f"{told!r} is not a telephone number; write it as +12125550123.") from error
    if not phonenumbers.is_possible_number(number):
        raise Bad(f"{told!r} is not a telephone number; write it as +12125550123.")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def zone(told: str) -> str:
    """The name of an IANA zone."""
    if told not in ZONES:
        raise Bad(f"{told!r} is not an IANA zone; write it as America/New_York.")
    return told


def weekdays(told: str) -> str:
    """Days of the week as iCalendar has them, apart by blanks: MO TU WE."""
    found = told.split()
    if not found or not set(found) <= {"MO", "TU", "WE", "TH", "FR", "SA", "SU"}:
        raise Bad(f"{told!r} are not weekdays; write them as MO TU WE TH FR.")
    return ",".join(found)


def lanes(told: str) -> int:
    """How many visits at once."""
    if not re.fullmatch(r"\d{1,2}", told, re.ASCII) or not 1 <= int(told) <= 64:
        raise Bad(f"{told!r} is not a number from 1 to 64.")
    return int(told)


ZONES = frozenset(
    name
    for name in resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    if "/" in name
)
