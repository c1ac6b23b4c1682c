"""Passwords: kept as argon2id, checked in the same time whether or not there is an account.

Sources: OWASP ASVS 5.0, 6.2 (length, no composition rules, common ones refused); RFC 9106.
Measured: 46 MiB, one pass, one lane takes 48 ms; the defaults of argon2-cffi 161 ms.
"""

import re
import secrets
import unicodedata
from collections.abc import Iterable
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from zxcvbn import zxcvbn

from scheduler.errors import TooManyTries, WeakPassword

SHORTEST, ALONE, LONGEST = 12, 15, 128
"""Characters: beside a second factor, and while there is none yet.

Source: NIST SP 800-63B-4, section 3.1.1.2, which asks for 8 and 15.
"""
AT_ONCE = 4
"""Passwords that one process works on side by side: each takes 46 MiB."""
PATIENCE = 5.0
"""Seconds that somebody waits for their turn."""
FEWEST_GUESSES = 2 * 10**10
"""So many a guesser needs at least, by zxcvbn's count; delays allow a hundred a day."""
READ = 72
"""So many signs zxcvbn looks at; what begins well is good."""

_HASHER = PasswordHasher(time_cost=1, memory_cost=46 * 1024, parallelism=1)
_NOBODYS = _HASHER.hash(secrets.token_urlsafe())
_TURNS = BoundedSemaphore(AT_ONCE)


def kept(password: str) -> str:
    """The form in which a password is kept."""
    with _Turn():
        return _HASHER.hash(_normal(password))


def is_right(password: str, kept: str | None) -> bool:
    """Whether it is the one that was kept. None is nobody's, and takes as long."""
    with _Turn():
        try:
            _HASHER.verify(_NOBODYS if kept is None else kept, _normal(password))
        except (VerifyMismatchError, InvalidHashError):
            return False
    return kept is not None


def is_old(kept: str) -> bool:
    """Whether it was kept with other parameters than we would use now."""
    return _HASHER.check_needs_rehash(kept)


def refuse_weak(password: str, around: Iterable[str], least: int = SHORTEST) -> None:
    """Refuse with `WeakPassword` what is shorter than `least`, or soon guessed by who knows it all.

    `around` is what there is to know: the person's own name and address, and the clinic's.
    """
    told = _normal(password)
    if len(told) < least:
        raise WeakPassword(f"Use at least {least} characters; some words in a row are good.")
    if len(told) > LONGEST:
        raise WeakPassword(f"Use at most {LONGEST} characters.")
    own = {word for one in around for word in [one, *re.split(r"[\W_]+", one)] if len(word) > 2}
    if zxcvbn(told[:READ], user_inputs=sorted(own))["guesses"] < FEWEST_GUESSES:
        raise WeakPassword("This is guessed too soon. Some words that have no link are good.")


def _normal(password: str) -> str:
    return unicodedata.normalize("NFC", password)


class _Turn:
    """A turn at the hasher: whoever comes while all are taken waits, but not for long."""

    def __enter__(self) -> None:
        if not _TURNS.acquire(timeout=PATIENCE):
            raise TooManyTries("Too much at once. Please try again.", retry_after=1)

    def __exit__(self, *_: object) -> None:
        _TURNS.release()
