"""Sealing: AES-256-GCM over one field of one row, so that it opens there and nowhere else.

A sealed field is `v1.<key>.<nonce>.<text>`: the number of the clinic's key, 96 random bits, and
what AES-GCM makes of the field with its tag, both in base64 without padding. What it is bound
to (clinic, table, column, row) is not in it: whoever opens it says where it stands.
Source: NIST SP 800-38D, section 8.2.2 (random nonces: at most 2^32 fields under one key).
"""

import base64
import re
import secrets
from typing import NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12


class VaultError(Exception):
    """What is sealed cannot be used. The message is one line, and holds nothing that was sealed."""


class CannotOpen(VaultError):
    """A field was changed, or stood somewhere else when it was sealed."""


class Place(NamedTuple):
    """Where a field stands."""

    clinic: UUID
    table: str
    column: str
    row: UUID | str

    def __str__(self) -> str:
        return f"{self.table}.{self.column} of row {self.row}, clinic {self.clinic}"

    @property
    def bytes(self) -> bytes:
        """What the seal is bound to."""
        return f"{self.clinic}|{self.table}|{self.column}|{self.row}".encode()


class Key:
    """A key of a clinic, ready for use."""

    __slots__ = ("_cipher", "number")

    def __init__(self, number: int, key: bytes) -> None:
        self.number = number
        self._cipher = AESGCM(key)

    def seal(self, place: Place, told: bytes) -> str:
        """Seal a field for its place."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, told, place.bytes)
        return f"v1.{self.number}.{_text(nonce)}.{_text(sealed)}"

    def open(self, place: Place, told: str) -> bytes:
        """Open a field of a place. Raises CannotOpen if it was not sealed for it with this key."""
        try:
            _, _, nonce, sealed = told.split(".")
            return self._cipher.decrypt(_bytes(nonce), _bytes(sealed), place.bytes)
        except (InvalidTag, ValueError) as error:
            raise CannotOpen(
                f"{place} does not open: it was changed, or stood elsewhere when it was sealed."
            ) from error


_BEGINNING = re.compile(r"v1\.[1-9]\d{0,8}\.[\w-]{16}\.[\w-]{22}", re.ASCII)


def is_sealed(told: object) -> bool:
    """Whether it is sealed, and not as somebody wrote it."""
    return isinstance(told, str) and _BEGINNING.match(told) is not None


def number_of(sealed: str) -> int:
    """The number of the key that it is sealed with."""
    return int(sealed.split(".", 2)[1])


def _text(told: bytes) -> str:
    return base64.urlsafe_b64encode(told).rstrip(b"=").decode()


def _bytes(told: str) -> bytes:
    return base64.urlsafe_b64decode(told + "=" * (-len(told) % 4))
