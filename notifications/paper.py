"""Paper: the copy of what a patient signed, and the words around a signature."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import import_module

from notifications import languages

WORDS: Mapping[str, str] = {
    "read": "Please read this, and sign below",
    "for": "This is about",
    "agree": "I have read this and agree",
    "name": "Your full name",
    "sign": "Sign",
    "decline": "I do not agree",
    "back": "Back",
    "typed": "Signed by typing the name",
    "ticked": "Ticked",
    "when": "Signed on",
    "address": "From the network address",
    "unknown": "not known",
    "version": "Text, version and language",
    "reference": "Reference",
    "missing": "Letters that cannot be printed stand as their Unicode numbers in brackets.",
    "no_tick": "Please tick that you have read this and agree.",
    "no_name": "Please type your full name.",
    "odd_name": "Please type your name in letters alone, at most 200.",
    "changed": "The text has changed. Please read it as it is now.",
}
"""By a name of ours what is said, in English."""


def say(language: str, name: str) -> str:
    """One of the words around a signature, in a language."""
    return languages.translate(language, WORDS[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What was signed, by whom, when and from where."""

    reference: str
    clinic: str
    code: str
    number: int
    language: str
    title: str
    body: str
    name: str
    what: str
    """The medicine and the route, where it was given for one."""
    signed_at: datetime
    time_zone: str
    address: str | None


def draw(signed: Signed) -> bytes:
    """Write the copy, as PDF."""
    return _press()(signed)


@cache
def _press() -> Callable[[Signed], bytes]:
    """What writes it. Loaded by the first copy: processes that write none start without it."""
    put: Callable[[Signed], bytes] = import_module("notifications.printing").put
    return put
