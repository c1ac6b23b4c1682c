"""What people type into forms, read strictly and refused kindly."""

import unicodedata
from collections.abc import Mapping
from datetime import date

import phonenumbers
from email_validator import EmailNotValidError, validate_email

BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


class BadForm(Exception):
    """Something typed that cannot be used. The message says what to do."""


def text(form: Mapping[str, str], field: str, what: str, most: int) -> str:
    """Read a line that must be there, at most `most` characters long."""
    told = optional_text(form, field, most)
    if told is None:
        raise BadForm(f"Please tell us {what}.")
    return told


def optional_text(form: Mapping[str, str], field: str, most: int) -> str | None:
    """Read some words, or None. Characters that hide or reorder text are refused."""
    told = unicodedata.normalize("NFC", form.get(field, "")).strip()
    if len(told) > most:
        raise BadForm(f"Please use at most {most} characters.")
    if any(
        (unicodedata.category(c) in {"Cc", "Cs"} and c not in "\r\n\t") or c in BIDI for c in told
    ):
        raise BadForm("Please leave out characters that cannot be seen.")
    return told or None


def is_one_line(told: str) -> bool:
    """Whether words stand in one line, as a name does."""
    return not any(c in told for c in "\r\n\t\u2028\u2029")


def visible(told: str) -> str:
    """Words that came from elsewhere, without the characters that hide or reorder text."""
    normal = unicodedata.normalize("NFC", told)
    return "".join(
        c
        for c in normal
        if (unicodedata.category(c) not in {"Cc", "Cs"} or c in "\n\t") and c not in BIDI
    ).strip()


def phone(form: Mapping[str, str], field: str) -> str:
    """Read a telephone number, of the United States unless it says otherwise; E.164."""
    try:
        number = phonenumbers.parse(form.get(field, ""), "US")
    except phonenumbers.NumberParseException as error:
        raise BadForm("Please enter a telephone number, such as 212 555 0123.") from error
    if not phonenumbers.is_possible_number(number):
        raise BadForm("Please check the telephone number.")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def email(form: Mapping[str, str], field: str) -> str | None:
    """Read an e-mail address, or None for nothing typed."""
    told = form.get(field, "").strip()
    if not told:
        return None
    try:
        return validate_email(told, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise BadForm("Please check the e-mail address.") from error


def birth_date(form: Mapping[str, str]) -> date | None:
    """Read a date from three fields. None if it is not one."""
    try:
        return date(*(int(form.get(part, "")) for part in ("year", "month", "day")))
    except (ValueError, OverflowError):
        return None
