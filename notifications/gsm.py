"""Text messages: how long one is, and what makes it longer.

A text of the GSM 7-bit alphabet has 160 places; one other character, and there are 70. So
typographic marks and accents that the alphabet lacks are written plainly, when that keeps a
text within it.
Source: 3GPP TS 23.038.
"""

import unicodedata
from dataclasses import dataclass

BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENDED = frozenset("^{}\\[~]|€\f")
"""These take two places each."""

_PLAINLY = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": "-",
        "\u2026": "...",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2022": "-",
    }
)


@dataclass(frozen=True, slots=True)
class Length:
    """How long a text message is."""

    alphabet: str
    """GSM-7 or UCS-2."""
    places: int
    segments: int
    """What is paid for, and what may arrive in pieces."""


def measure(told: str) -> Length:
    """Count the places and segments that `told` takes."""
    if all(sign in BASIC or sign in EXTENDED for sign in told):
        widths = [2 if sign in EXTENDED else 1 for sign in told]
        return Length("GSM-7", sum(widths), _segments(widths, alone=160, each=153))
    widths = [2 if ord(sign) > 0xFFFF else 1 for sign in told]
    return Length("UCS-2", sum(widths), _segments(widths, alone=70, each=67))


def plain(told: str) -> str:
    """Write `told` within the GSM alphabet if that takes no more than plainer signs."""
    simple = "".join(
        sign if sign in BASIC or sign in EXTENDED else _base(sign)
        for sign in unicodedata.normalize("NFC", told).translate(_PLAINLY)
    )
    return simple if measure(simple).alphabet == "GSM-7" else told


def _base(sign: str) -> str:
    """A letter without the marks that it carries."""
    return "".join(
        part for part in unicodedata.normalize("NFD", sign) if not unicodedata.combining(part)
    )


def _segments(widths: list[int], *, alone: int, each: int) -> int:
    if sum(widths) <= alone:
        return 1
    segments, filled = 1, 0
    for width in widths:  # a sign of two places is never split
        if filled + width > each:
            segments, filled = segments + 1, 0
        filled += width
    return segments
