"""Tables: answers as CSV (RFC 4180) and as JSON lines, safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from flask import Response, request, stream_with_context
from marshmallow import fields, validate

from scheduler.records import COMMANDS

CSV = "text/csv"
NDJSON = "application/x-ndjson"


def asked_format(*names: str) -> fields.String:
    """The field of a query that names the format of the answer."""
    return fields.String(
        validate=validate.OneOf(names),
        load_default=None,
        metadata={"description": f"{' or '.join(names)}; goes before the Accept header."},
    )


def wants_csv(told: str | None) -> bool:
    """Whether the answer is to be CSV: by `format`, else by the Accept header."""
    if told is not None:
        return told == "csv"
    return request.accept_mimetypes.best_match(["application/json", NDJSON, CSV]) == CSV


def plain(value: Any) -> Any:
    """A cell: words that begin like a formula get a quote in front, so that they stay words."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(COMMANDS) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return plain(" ".join(map(str, value)))
    return value


def written(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, head: bool = True) -> str:
    """Rows as CSV: CRLF, cells quoted where they must be, nothing for what is null."""
    told = io.StringIO()
    writer = csv.writer(told, lineterminator="\r\n")
    if head:
        writer.writerow(columns)
    writer.writerows([plain(row[name]) for name in columns] for row in rows)
    return told.getvalue()


def answer(name: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Response:
    """A whole table as CSV, to be kept as a file."""
    return Response(written(columns, rows), headers=_headers(f"{name}.csv", CSV))


def stream(
    name: str, columns: Sequence[str], pages: Iterable[Sequence[Mapping[str, Any]]], *, as_csv: bool
) -> Response:
    """A long table, page by page: no more than one page is ever held."""
    lines = _csv_pages(columns, pages) if as_csv else map(_ndjson, pages)
    told = _headers(f"{name}.csv", CSV) if as_csv else _headers(f"{name}.ndjson", NDJSON)
    return Response(stream_with_context(lines), headers=told)


def _csv_pages(
    columns: Sequence[str], pages: Iterable[Sequence[Mapping[str, Any]]]
) -> Iterator[str]:
    yield written(columns, [])
    for page in pages:
        yield written(columns, page, head=False)


def _ndjson(page: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in page)


def _headers(file: str, media_type: str) -> dict[str, str]:
    told = f"{media_type}; charset=utf-8" + ("; header=present" if media_type == CSV else "")
    return {
        "Content-Type": told,
        "Content-Disposition": f'attachment; filename="{file}"',
        "Vary": "Accept",
    }
