"""Pages: lists in the order of a key, each page beginning where the last one ended.

A cursor holds the key of the last row, signed and bound to the list and its filters: it can
neither be made up nor carried to another list. Nothing is ever counted or skipped over.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
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


class Sort(StrEnum):
    """Which way a list is read."""

    RISING = "asc"
    FALLING = "desc"


class CursorQuery(Schema):
    """How much of a list, and from where."""

    limit = asked_whole(1, LARGEST, load_default=50)
    cursor = fields.String(load_default=None, metadata={"description": "From `next`; opaque."})


class PageQuery(CursorQuery):
    """How much of a list, from where, and which way."""

    sort = fields.Enum(
        Sort,
        by_value=True,
        load_default=None,
        metadata={"description": "Rising or falling in what the list is in the order of."},
    )


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
    """Fetch a page of ORM rows of `query` in the order of `keys`, whose last is unique.

    `newest_first`: where the caller does not say which way.
    """
    falls = newest_first if asked["sort"] is None else asked["sort"] is Sort.FALLING
    columns: list[ColumnElement[Any]] = list(keys)
    if asked["cursor"] is not None:
        last = tuple_(*opened(asked["cursor"]))
        where = tuple_(*columns) < last if falls else tuple_(*columns) > last
        query = query.where(where)
    order = [column.desc() if falls else column for column in columns]
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
    return [_READ[kind][1](value) for kind, value in zip(kinds, told, strict=True)]


def _kind(key: Any) -> str:
    """How a part of a key is read again: as a time, a number, or an id."""
    return next(sign for sign, (kind, _) in _READ.items() if isinstance(key, kind))


_READ: Mapping[str, tuple[type, Callable[[str], Any]]] = {
    "t": (datetime, datetime.fromisoformat),
    "n": (int, int),
    "u": (UUID, UUID),
    "s": (str, str),
}


def _serializer() -> URLSafeSerializer:
    filters = sorted(
        (name, value) for name, value in request.args.items() if name not in {"cursor", "limit"}
    )
    return URLSafeSerializer(
        current_app.config["SECRET_KEY"], salt=f"page, ids as ids {request.path} {filters}"
    )
