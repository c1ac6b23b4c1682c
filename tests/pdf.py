"""Reads back what fpdf2 wrote: the words of a PDF, by the fonts' own tables of letters."""

import re
import zlib


def read(pdf: bytes) -> str:
    """The words, page after page, lines put together by blanks."""
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    objects = {
        int(found[1]): found[2]
        for found in re.finditer(rb"(?s)(?:^|\n)(\d+) 0 obj\n(.*?)\nendobj", pdf)
    }
    letters = {
        alias: _letters(_stream(objects[_reference(objects[number], b"ToUnicode")]))
        for alias, number in _fonts(b"\n".join(objects.values()))
    }
    pages = [told for told in objects.values() if b"/Type /Page\n" in told]
    return " ".join(
        _words(_stream(objects[_reference(page, b"Contents")]), letters) for page in pages
    )


def _fonts(told: bytes) -> set[tuple[bytes, int]]:
    return {(found[1], int(found[2])) for found in re.finditer(rb"/(F\d+) (\d+) 0 R", told)}


def _reference(told: bytes, name: bytes) -> int:
    found = re.search(rb"/" + name + rb" (\d+) 0 R", told)
    assert found is not None, name
    return int(found[1])


def _stream(told: bytes) -> bytes:
    data = told.split(b"stream\n", 1)[1].rsplit(b"\nendstream", 1)[0]
    return zlib.decompress(data) if b"/FlateDecode" in told else data


def _letters(table: bytes) -> dict[int, str]:
    pairs = re.findall(rb"<([0-9A-Fa-f]{4})> <((?:[0-9A-Fa-f]{4})+)>", table)
    return {int(code, 16): bytes.fromhex(told.decode()).decode("utf-16-be") for code, told in pairs}


def _words(content: bytes, letters: dict[bytes, dict[int, str]]) -> str:
    told, font = [], letters[min(letters)]
    for found in re.finditer(rb"(?s)/(F\d+) [\d.]+ Tf|\(((?:\\.|[^\\()])*)\) Tj", content):
        if found[1]:
            font = letters[found[1]]
        else:
            raw = re.sub(rb"(?s)\\(.)", _plain, found[2])
            codes = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
            told.append("".join(font[code] for code in codes))
    return " ".join(told)


def _plain(found: re.Match[bytes]) -> bytes:
    return {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(found[1], found[1])
