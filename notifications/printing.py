"""Printing: the copy of what a patient signed, as PDF.

Made anew from what is stored each time it is asked for, and the same to the byte: its date is
that of the signature. No network, nothing of the machine's own fonts.

The font has Latin, Greek and Cyrillic letters. A letter that it lacks, or that is written from
right to left, which needs more than a font, stands as its Unicode number in brackets: a name is
never shown as boxes, nor backwards. Loaded by the first copy (paper.py): it takes 21 MB.
"""

import unicodedata
from collections.abc import Container
from importlib.util import find_spec
from pathlib import Path
from zoneinfo import ZoneInfo

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import TTFFont

from notifications import languages
from notifications.paper import Signed, say


def _fonts() -> Path:
    """Where matplotlib keeps the fonts that come with it; it is not loaded for them."""
    spec = find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("mpl-data") / "fonts" / "ttf"


FONT = _fonts() / "DejaVuSans.ttf"
BOLD = _fonts() / "DejaVuSans-Bold.ttf"


def put(signed: Signed) -> bytes:
    """Write the copy, as PDF."""
    sheet = _Sheet(signed)
    sheet.text(signed.clinic, size=10)
    sheet.text(signed.title, bold=True, size=16, after=4)
    for paragraph in signed.body.split("\n\n"):
        sheet.text(paragraph.strip("\n"), after=3)
    sheet.rule()
    for name, told in _lines(signed):
        sheet.line(say(signed.language, name), told)
    sheet.note(say(signed.language, "missing"))
    return sheet.bytes()


def _lines(signed: Signed) -> list[tuple[str, str]]:
    local = signed.signed_at.astimezone(ZoneInfo(signed.time_zone))
    day, clock = languages.day(local, signed.language), languages.clock(local, signed.language)
    address = signed.address or say(signed.language, "unknown")
    version = f"{signed.code}, {signed.number}, {signed.language}"
    return [
        *([("for", signed.what)] if signed.what else []),
        ("ticked", say(signed.language, "agree")),
        ("typed", signed.name),
        ("when", f"{day}, {clock} ({signed.signed_at:%Y-%m-%d %H:%M:%S} UTC)"),
        ("address", address),
        ("version", version),
        ("reference", signed.reference),
    ]


class _Pages(FPDF):
    """Letter paper, each page with its number."""

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("DejaVu", "", 9)
        self.cell(0, 5, f"{self.page_no()} / {{nb}}", align="R")


class _Sheet:
    """Pages to write on from top to bottom."""

    def __init__(self, signed: Signed) -> None:
        self._pdf = pdf = _Pages(format="letter")
        pdf.set_creation_date(signed.signed_at)
        pdf.set_lang(signed.language)
        pdf.add_font("DejaVu", "", FONT)
        pdf.add_font("DejaVu", "B", BOLD)
        pdf.set_margin(22)
        pdf.set_auto_page_break(auto=True, margin=22)
        font = pdf.fonts["dejavu"]
        assert isinstance(font, TTFFont)
        self._letters: Container[int] = font.cmap
        self._is_whole = True
        pdf.set_title(self._printable(signed.title))
        pdf.add_page()

    def text(self, told: str, *, bold: bool = False, size: int = 11, after: float = 0) -> None:
        """Write words over the whole width."""
        self._pdf.set_font("DejaVu", "B" if bold else "", size)
        self._pdf.multi_cell(
            0, size * 0.5, self._printable(told), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )
        self._pdf.ln(after)

    def line(self, name: str, told: str) -> None:
        """Write what is told under its name."""
        self.text(name, bold=True, size=9)
        self.text(told, after=2)

    def note(self, told: str) -> None:
        """Write this if a letter could not be printed."""
        if not self._is_whole:
            self.text(told, size=9)

    def rule(self) -> None:
        """Part what was read from what was signed."""
        pdf = self._pdf
        pdf.ln(3)
        pdf.line(pdf.l_margin, pdf.y, pdf.w - pdf.r_margin, pdf.y)
        pdf.ln(5)

    def bytes(self) -> bytes:
        """The whole file."""
        return bytes(self._pdf.output())

    def _printable(self, told: str) -> str:
        shown = [one if self._has(one) else f"[U+{ord(one):04X}]" for one in told]
        self._is_whole = self._is_whole and all(map(self._has, told))
        return "".join(shown)

    def _has(self, letter: str) -> bool:
        is_leftward = unicodedata.bidirectional(letter) in {"R", "AL"}
        return letter in "\n\t" or (ord(letter) in self._letters and not is_leftward)
