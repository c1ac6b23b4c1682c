"""Masters: the keys from outside the database that every clinic's keys are wrapped with.

There are two at most while one takes the place of the other: the first wraps, both unwrap.
"""

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.sealing import KEY_BYTES, NONCE_BYTES, VaultError


class BadMaster(ValueError):
    """A master key that cannot be used. The message says what it must look like."""


class WrongMaster(VaultError):
    """Keys are wrapped with a master that we do not have."""


class Locked(VaultError):
    """Nobody has said which master key to use."""


@dataclass(frozen=True, slots=True)
class Master:
    """One master key; its name gives nothing of it away."""

    key: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return hashlib.sha256(b"afterglow master key: " + self.key).hexdigest()[:12]

    def wrap(self, about: bytes, key: bytes) -> bytes:
        """Wrap a key for what it is about."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self.key).encrypt(nonce, key, about)

    def unwrap(self, about: bytes, wrapped: bytes) -> bytes:
        """Unwrap a key. Raises WrongMaster if it was not wrapped so."""
        nonce, sealed = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            return AESGCM(self.key).decrypt(nonce, sealed, about)
        except (InvalidTag, ValueError) as error:
            raise WrongMaster(
                f"A key ({about.decode()}) does not unwrap with master {self.name}: "
                "the row of clinic_key was changed."
            ) from error


@dataclass(frozen=True, slots=True)
class Masters:
    """The master keys that we have."""

    all: tuple[Master, ...]

    @property
    def first(self) -> Master:
        """The one that wraps."""
        return self.all[0]

    def called(self, name: str) -> Master:
        """The one of that name. Raises WrongMaster if it is not here."""
        for master in self.all:
            if master.name == name:
                return master
        raise WrongMaster(
            f"AFTERGLOW_MASTER_KEY: clinics' keys are wrapped with master {name}, and here is "
            f"{' and '.join(one.name for one in self.all)}. Put that one back, beside the new one."
        )


def read(told: str) -> Masters:
    """Read one key or two, parted by commas or white space. Raises BadMaster."""
    keys = [_key(one) for one in told.replace(",", " ").split()]
    if not 1 <= len(keys) <= 2:
        raise BadMaster(f"there are {len(keys)} keys; give one, or the new one and the old one")
    return Masters(tuple(Master(key) for key in keys))


def made() -> str:
    """A new master key, as it is written."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _key(told: str) -> bytes:
    try:
        key = base64.b64decode(told, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadMaster("it is not base64") from error
    if len(key) != KEY_BYTES or len(set(key)) < 8:
        raise BadMaster(f"it must be {KEY_BYTES} random bytes in base64")
    return key
