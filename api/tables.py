"""Tables: answers as CSV (RFC 4180) and as JSON lines, safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
import structlog
from flask import Response, request, stream_with_context
from marshmallow import fields, validate

from scheduler.records import begins_a_formula

CSV = "text/csv"
NDJSON = "application/x-ndjson"

log = structlog.get_logger()


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
    """A cell: words that begin like a formula get a quote in front, so that they stay words.

    So do those that begin with such a quote themselves: reading in takes one away. Several values
    stand in a cell as reading in wants them: apart by blanks, or by semicolons if they hold blanks.
    """
    if isinstance(value, str):
        return f"'{value}" if begins_a_formula(value) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        told = [str(one) for one in value]
        return plain(("; " if any(" " in one for one in told) else " ").join(told))
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
    return Response(to_the_end(lines, as_csv=as_csv), headers=told)


def to_the_end(lines: Iterable[str], *, as_csv: bool) -> Iterator[str]:
    """Send lines, within the request's context; what breaks off ends within a line.

    Servers may end it as if it were whole (granian does), but whoever reads it strictly cannot
    take it for that: a quote, or an object of JSON, does not end.
    """
    return stream_with_context(_to_the_end(lines, '"' if as_csv else '{"'))


def _to_the_end(lines: Iterable[str], unfinished: str) -> Iterator[str]:
    try:
        yield from lines
    except Exception:
        log.exception("table.broke-off")
        yield f"{unfinished}This broke off here, and is not whole."
        raise


def _csv_pages(
    columns: Sequence[str], pages: Iterable[Sequence[Mapping[str, Any]]]
) -> Iterator[str]:
    yield written(columns, [])
    for page in pages:
        yield written(columns, page, head=False)


def _ndjson(page: Sequence[Mapping[str, Any]]) -> str:
    rows = (orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in page)
    return b"".join(rows).decode()


def _headers(file: str, media_type: str) -> dict[str, str]:
    told = f"{media_type}; charset=utf-8" + ("; header=present" if media_type == CSV else "")
    return {
        "Content-Type": told,
        "Content-Disposition": f'attachment; filename="{file}"',
        "Vary": "Accept",
    }
