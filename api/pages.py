"""Pages: lists in the order of a key, each page beginning where the last one ended.

A cursor holds the key of the last row, signed and bound to the list and its filters: it can
neither be made up nor carried to another list. Nothing is ever counted or skipped over.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from flask import current_app, request
from itsdangerous import BadSignature, URLSafeSerializer
from marshmallow import Schema, fields
from sqlalchemy import ColumnElement, Select, and_, tuple_

from api.fields import asked_whole
from models import db
from scheduler.errors import Unfit

LARGEST = 200


class PageQuery(Schema):
    """How much of a list, and from where."""

    limit = asked_whole(1, LARGEST, load_default=50)
    cursor = fields.String(load_default=None, metadata={"description": "From `next`; opaque."})


@cache
def page_of(item: type[Schema]) -> type[Schema]:
    """The schema of a page of `item`."""
    name = item.__name__.removesuffix("Schema")
    return type(
        f"{name}PageSchema",
        (Schema,),
        {
            "__doc__": f"A page of {name}.",
            "items": fields.List(fields.Nested(item), required=True),
            "next": fields.String(
                allow_none=True, metadata={"description": "The next page; null on the last."}
            ),
        },
    )


def narrowed(
    query: Select[Any], asked: Mapping[str, Any], wanted: Mapping[str, Callable[[Any], Any]]
) -> Select[Any]:
    """Keep to what was asked for: `wanted` makes a condition of each field that is not None."""
    for name, condition in wanted.items():
        if asked[name] is not None:
            query = query.where(condition(asked[name]))
    return query


def begins(column: Any, first: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a column, in the order of its code points, begins so.

    Compared, not matched: under row-level security no index is used for LIKE.
    """
    return and_(column >= first, column < first.concat(_LAST))


_LAST = chr(0x10FFFF)
"""Behind every letter."""


def page(
    query: Select[Any], keys: Sequence[Any], asked: dict[str, Any], *, newest_first: bool = False
) -> dict[str, Any]:
    """Fetch a page of ORM rows of `query` in the order of `keys`, whose last is unique."""
    columns: list[ColumnElement[Any]] = list(keys)
    if asked["cursor"] is not None:
        last = tuple_(*opened(asked["cursor"]))
        where = tuple_(*columns) < last if newest_first else tuple_(*columns) > last
        query = query.where(where)
    order = [column.desc() if newest_first else column for column in columns]
    rows = db.session.scalars(query.order_by(*order).limit(asked["limit"] + 1)).all()
    shown = rows[: asked["limit"]]
    following = None
    if len(rows) > len(shown):
        following = next_url([getattr(shown[-1], column.key or "") for column in columns])
    return {"items": shown, "next": following}


def next_url(keys: Sequence[Any]) -> str:
    """The address of the page that begins after `keys`."""
    told = [key.isoformat() if isinstance(key, datetime) else str(key) for key in keys]
    cursor = _serializer().dumps([[_kind(key) for key in keys], told])
    filters = {name: value for name, value in request.args.items() if name != "cursor"}
    return f"{request.path}?{urlencode({**filters, 'cursor': cursor})}"


def opened(cursor: str) -> list[Any]:
    """The key that a cursor holds; refuses one that is not of this list."""
    try:
        kinds, told = _serializer().loads(cursor)
    except (BadSignature, ValueError) as error:
        raise Unfit("This cursor is not one of this list.", field="cursor") from error
    return [_READ[kind](value) for kind, value in zip(kinds, told, strict=True)]


def _kind(key: Any) -> str:
    """How a part of a key is read again: as a time, a number, or an id."""
    return "t" if isinstance(key, datetime) else "n" if isinstance(key, int) else "s"


def _as_id(value: str) -> Any:
    try:
        return UUID(value)
    except ValueError:
        return value


_READ: Mapping[str, Callable[[str], Any]] = {
    "t": datetime.fromisoformat,
    "n": int,
    "s": _as_id,
}


def _serializer() -> URLSafeSerializer:
    filters = sorted(
        (name, value) for name, value in request.args.items() if name not in {"cursor", "limit"}
    )
    return URLSafeSerializer(
        current_app.config["SECRET_KEY"], salt=f"page {request.path} {filters}"
    )
