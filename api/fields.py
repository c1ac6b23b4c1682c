"""The marshmallow fields of the house. Each reads one spelling, and writes it."""

import re
import unicodedata
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib import resources
from typing import Any
from uuid import UUID

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from marshmallow import ValidationError, fields, validate

_RFC3339 = re.compile(
    r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,6})?([Zz]|[+-]\d{2}:\d{2})\Z"
)
_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_DAY = re.compile(r"^\d{4}-\d{2}-\d{2}\Z")
FIRST_YEAR, LAST_YEAR = 2000, 2199
CODE = [validate.Regexp(r"^[a-z0-9]+(-[a-z0-9]+)*$(?!\n)"), validate.Length(max=40)]
"""A code as protocol files write one."""


class Instant(fields.AwareDateTime):
    """A point in time: RFC 3339 with an offset, never without one; written in UTC with `Z`.

    Written in UTC here, not by the database: psycopg returns the time zone of the
    connection, which an environment variable (PGTZ) can change.
    """

    def _serialize(
        self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any
    ) -> str | float | None:
        return None if value is None else write_instant(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        if not isinstance(value, str) or not _RFC3339.match(value):
            raise ValidationError("Write it as 2027-01-04T09:00:00-05:00, with an offset.")
        try:
            read = datetime.fromisoformat(value.upper().replace(" ", "T"))
            instant = read.astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise ValidationError("There is no such time.") from error
        if not FIRST_YEAR <= instant.year <= LAST_YEAR:
            raise ValidationError(f"Years run from {FIRST_YEAR} to {LAST_YEAR}.")
        return instant


@lru_cache(maxsize=8192)
def write_instant(value: datetime) -> str:
    """An instant as the API writes it. Kept: a page of openings names few, many times."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


write_id = lru_cache(maxsize=8192)(str)
"""A key as the API writes it. Kept for the same reason."""


class Id(fields.UUID):
    """A UUID in its one canonical spelling."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> UUID:
        if not isinstance(value, str) or not _UUID.match(value):
            raise ValidationError("Not a valid UUID.")
        return UUID(value)


class Text(fields.String):
    """Words: NFC, without control characters, stripped, and not empty unless `blank`.

    One line, or `lines`.
    """

    def __init__(
        self, most: int = 200, *, lines: bool = False, blank: bool = False, **kwargs: Any
    ) -> None:
        self.most, self.allowed, self.blank = most, "\n\t" if lines else "", blank
        super().__init__(**kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("Not a valid string.")
        told = unicodedata.normalize("NFC", value).strip()
        if not told and not self.blank:
            raise ValidationError("This may not be empty.")
        if len(told) > self.most:
            raise ValidationError(f"At most {self.most} characters.")
        odd = (letter for letter in told if unicodedata.category(letter) == "Cc")
        if any(letter not in self.allowed for letter in odd):
            raise ValidationError("Leave out control characters.")
        return told


class WallTime(fields.String):
    """What a clock on the wall shows on a day, without a zone: 2027-01-04T09:00."""

    FORMAT = "%Y-%m-%dT%H:%M"

    def __init__(self, **kwargs: Any) -> None:
        shown = {"pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}$", "example": "2027-01-04T09:00"}
        super().__init__(metadata=shown, **kwargs)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else str(value.strftime(self.FORMAT))

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            read = datetime.strptime(value, self.FORMAT)
        except (TypeError, ValueError) as error:
            raise ValidationError("Write it as 2027-01-04T09:00, without a zone.") from error
        if len(value) != len("2027-01-04T09:00") or not FIRST_YEAR <= read.year <= LAST_YEAR:
            raise ValidationError("Write it as 2027-01-04T09:00, without a zone.")
        return read


class Zone(fields.String):
    """The name of an IANA zone, as Area/City. Checked against the list that instants use."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or value not in ZONES:
            raise ValidationError("Not an IANA zone; write it as America/New_York.")
        return value


class Email(fields.String):
    """An e-mail address that could be written to."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("Not a valid e-mail address.")
        try:
            return validate_email(value, check_deliverability=False).normalized
        except EmailNotValidError as error:
            raise ValidationError("Not a valid e-mail address.") from error


class Phone(fields.String):
    """A telephone number, kept as E.164; without a country it is one of the United States."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("Write it as +12125550123.")
        try:
            number = phonenumbers.parse(value, "US")
        except phonenumbers.NumberParseException as error:
            raise ValidationError("Write it as +12125550123.") from error
        if not phonenumbers.is_possible_number(number):
            raise ValidationError("There is no such telephone number.")
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


class Region(fields.String):
    """A state or province as ISO 3166-2 writes it: US-NY."""

    PATTERN = r"^[A-Z]{2}-[A-Z0-9]{1,3}$"

    def __init__(self, metadata: dict[str, Any] | None = None, **kwargs: Any) -> None:
        shown = {"pattern": self.PATTERN, "example": "US-NY", **(metadata or {})}
        super().__init__(metadata=shown, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(self.PATTERN[1:-1], value, re.ASCII):
            raise ValidationError("Write it as US-NY: country and state by ISO 3166-2.")
        return value


class Day(fields.Date):
    """A day, as 1980-05-17."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> date:
        if not isinstance(value, str) or not _DAY.match(value):
            raise ValidationError("Write it as 1980-05-17.")
        try:
            read = date.fromisoformat(value)
        except ValueError as error:
            raise ValidationError("There is no such day.") from error
        if not 1900 <= read.year <= LAST_YEAR:
            raise ValidationError(f"Years run from 1900 to {LAST_YEAR}.")
        return read


def whole(least: int, most: int, **kwargs: Any) -> fields.Integer:
    """A whole number, written as JSON writes one, from `least` to `most`."""
    return _Whole(least, most, **kwargs)


def asked_whole(least: int, most: int, **kwargs: Any) -> fields.Integer:
    """A whole number in a query, where everything is a string."""
    return _AskedWhole(least, most, **kwargs)


class Flag(fields.Boolean):
    """True or false, written as JSON writes them: `"off"` and `0` are neither."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("Write true or false.")
        return value


class AskedFlag(Flag):
    """The same in a query, where everything is a string."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        told = {"true": True, "false": False}.get(value) if isinstance(value, str) else value
        return super()._deserialize(told, attr, data, **kwargs)


class _Whole(fields.Integer):
    def __init__(self, least: int, most: int, **kwargs: Any) -> None:
        self.least, self.most = least, most
        kwargs["metadata"] = {"minimum": least, "maximum": most, **kwargs.pop("metadata", {})}
        super().__init__(strict=True, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError("Not a whole number.")
        if not self.least <= value <= self.most:
            raise ValidationError(f"From {self.least} to {self.most}.")
        return value


class _AskedWhole(_Whole):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        plain = isinstance(value, str) and re.fullmatch(r"\d{1,10}", value, re.ASCII)
        return super()._deserialize(int(value) if plain else value, attr, data, **kwargs)


def _zones() -> frozenset[str]:
    listed = resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return frozenset(
        name for name in listed if "/" in name and name.split("/")[0] not in {"posix", "right"}
    ) | {"UTC"}


ZONES = _zones()
