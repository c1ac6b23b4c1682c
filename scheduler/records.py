"""Records: what the lines of a file say, as CSV (RFC 4180) or as one JSON object a line.

A record is cells by name, all of them text. A line that is none says what is wrong with it; a
file of which the rest cannot be read is refused whole.

Pure: no database, no clock, no Flask.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from models.vocabulary import ImportFormat

COMMANDS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of a formula; the last four are the wide ones.
Exports put a `'` in front, and it is taken away again here.
Source: https://owasp.org/www-community/attacks/CSV_Injection"""


@dataclass(frozen=True, slots=True)
class Record:
    """What a line of a file says."""

    line: int
    """The last one that it takes, from 1."""
    cells: dict[str, str] = field(default_factory=dict)
    fault: str | None = None
    """Why it says nothing. None: it does."""


class NotRecords(Exception):
    """A file that cannot be read; the message says from where on, and why."""


def columns_of(content: str, written: ImportFormat) -> list[str] | None:
    """The columns that a table names. None: every line names its own."""
    if written is ImportFormat.NDJSON:
        return None
    try:
        return next(csv.reader(_lines(content), strict=True), [])
    except csv.Error as error:
        raise NotRecords(f"Line 1 is not CSV: {error}.") from error


def records(content: str, written: ImportFormat) -> Iterator[Record]:
    """Read a file, one record after the other. Raises NotRecords where it ends to be one."""
    return _of_json(content) if written is ImportFormat.NDJSON else _of_csv(content)


def _lines(content: str) -> io.StringIO:
    return io.StringIO(content.removeprefix("\ufeff"), newline="")


def _of_csv(content: str) -> Iterator[Record]:
    reader = csv.DictReader(_lines(content), restkey="", strict=True)
    try:
        for cells in reader:
            if "" in cells or None in cells.values():
                yield Record(reader.line_num, fault="This line has more or fewer cells.")
            else:
                told = {name: _plain(value.strip()) for name, value in cells.items()}
                yield Record(reader.line_num, told)
    except csv.Error as error:
        raise NotRecords(f"Line {max(reader.line_num, 1)} is not CSV: {error}.") from error


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and begins_a_formula(cell) else cell


def begins_a_formula(cell: str) -> bool:
    """Whether a spreadsheet could take it for a formula, or it is a quote that stops it."""
    return cell.lstrip("'").startswith(COMMANDS)


def _of_json(content: str) -> Iterator[Record]:
    for number, line in enumerate(_lines(content), start=1):
        if line.strip():
            yield _object(number, line)


def _object(number: int, line: str) -> Record:
    try:
        told = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return Record(number, fault="This is not a JSON object whose names stand in it once.")
    if not isinstance(told, dict):
        return Record(number, fault="This is not a JSON object.")
    if any(not _is_cell(value) for value in told.values()):
        return Record(number, fault="Values are text, whole numbers or null.")
    return Record(number, {name: _as_text(value) for name, value in told.items()})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError
    return read


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, str) or type(value) is int


def _as_text(value: Any) -> str:
    return "" if value is None else str(value).strip()
