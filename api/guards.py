"""Guards: what may be read at all. JSON says more than our schemas can carry.

Parsers take what they get: nesting without end, a key twice, numbers that are none, letters
that no database stores. All of that is refused here, before anything else looks at it.
"""

import json
import re
import sys
from collections.abc import Callable
from typing import IO, Any, cast
from uuid import UUID

from flask import Flask, Request, Response, current_app, g, request
from structlog.contextvars import bind_contextvars, clear_contextvars
from uuid_utils.compat import uuid7
from werkzeug.exceptions import HTTPException
from werkzeug.utils import cached_property
from werkzeug.wsgi import LimitedStream

from api import trail
from api.errors import BadRequest, BadValue

View = Callable[..., Any]

LARGEST = 256 * 1024
MOST = sys.float_info.max
"""Beyond it a number is none that can be reckoned with; 1e400 reads as infinite."""
DEEPEST = 32
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Uncut(LimitedStream):
    """What came without a length. Werkzeug's own gives out what fits, as if that were all."""

    def readall(self) -> bytes:
        """All of it; raises RequestEntityTooLarge if it goes on."""
        told = super().readall()
        if self.is_exhausted and self._stream.read(1):
            self.on_exhausted()
        return told


class StrictRequest(Request):
    """A request whose JSON is read once, and strictly."""

    max_content_length = LARGEST

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body as it comes; nobody who reads all of it reads a part."""
        found = super().stream
        if self.content_length is None and isinstance(found, LimitedStream):
            uncut = Uncut(self.environ["wsgi.input"], self.max_content_length, is_max=True)
            return cast(IO[bytes], uncut)
        return found

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body as JSON; raises BadRequest for anything that is not plainly that."""
        if "read_json" not in g:
            g.read_json = self._read()
        return g.read_json

    def _read(self) -> Any:
        if not self.is_json:
            raise BadRequest(415, "unsupported-media-type", "Send JSON: application/json.")
        try:
            told = self.get_data(cache=True).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRequest(400, "malformed", "The body is not UTF-8.") from error
        return _parse(told)


def init_app(app: Flask) -> None:
    """Read requests strictly; give each an id; seal what the API answers."""
    app.request_class = StrictRequest
    app.before_request(_begin)
    app.after_request(_seal)


def _begin() -> None:
    g.request_id = _told_id() or uuid7()
    clear_contextvars()  # a thread serves many
    bind_contextvars(request_id=str(g.request_id), **_trace())
    trail.note_origin()
    if request.path.startswith("/api/"):
        _look_over()
    if request.method in WITH_BODY and request.content_length is None:
        request.get_data()  # so that one that is too large is told, whoever would read it


def _look_over() -> None:
    for value in (request.path, *request.args.values(), *request.args.keys()):
        _refuse_odd_letters(value)
    for name, values in request.args.lists():
        if len(values) > 1:  # only the first would count, and nobody hear of it
            raise BadValue(f"/{name}", "Say it once.")
    taken = getattr(current_app.view_functions.get(request.endpoint or ""), "takes", None)
    if taken is not None:
        _refuse_unless(taken)
    elif request.method in WITH_BODY and not request.is_json:
        has_body = bool(request.content_length) or request.headers.get("Transfer-Encoding")
        if has_body:
            raise BadRequest(415, "unsupported-media-type", "Send JSON: application/json.")


def takes(*media_types: str, most: int) -> Callable[[View], View]:
    """Let a view read bodies of these media types, of so many bytes, in place of JSON."""

    def decorate(view: View) -> View:
        view.takes = media_types, most  # type: ignore[attr-defined]
        return view

    return decorate


def _refuse_unless(taken: tuple[tuple[str, ...], int]) -> None:
    media_types, request.max_content_length = taken
    if request.mimetype not in media_types:
        told = " or ".join(media_types)
        raise BadRequest(415, "unsupported-media-type", f"Send {told}.")


def _seal(response: Response) -> Response:
    response.headers["X-Request-Id"] = str(g.get("request_id", ""))
    if request.path.startswith("/api/v1"):
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _told_id() -> UUID | None:
    try:
        return UUID(request.headers.get("X-Request-Id", ""))
    except ValueError:
        return None


def _trace() -> dict[str, str]:
    """The trace that the caller is in (W3C Trace Context), if it is told in the only good form."""
    found = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    if found is None or found["version"] == "ff" or not found["trace"].strip("0"):
        return {}
    return {"trace_id": found["trace"]}


_TRACEPARENT = re.compile(
    "(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def _parse(told: str) -> Any:
    if _depth(told) > DEEPEST:
        raise BadRequest(400, "malformed", f"The JSON nests deeper than {DEEPEST}.")
    try:
        read = json.loads(told, object_pairs_hook=_once, parse_constant=_no_constant)
    except HTTPException:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRequest(400, "malformed", "The body is not JSON.") from error
    _look_at(read)
    return read


def _depth(told: str) -> int:
    """How deep the brackets nest; those inside strings count too, which only errs on one side."""
    deepest = depth = 0
    for letter in told:
        if letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise BadRequest(400, "malformed", "A key stands twice in one object.")
    return read


def _no_constant(name: str) -> Any:
    raise BadRequest(400, "malformed", f"{name} is not JSON.")


def _look_at(read: Any, here: str = "") -> None:
    if isinstance(read, str):
        _refuse_odd_letters(read)
    elif isinstance(read, dict):
        for key, value in read.items():
            _refuse_odd_letters(key)
            _look_at(value, f"{here}/{key}")
    elif isinstance(read, list):
        for number, value in enumerate(read):
            _look_at(value, f"{here}/{number}")
    elif isinstance(read, int | float) and abs(read) > MOST:
        raise BadValue(here or "/", "A number is too large.")


def _refuse_odd_letters(told: str) -> None:
    if "\x00" in told:
        raise BadRequest(422, "invalid", "Text may not hold NUL.")
    if any("\ud800" <= letter <= "\udfff" for letter in told):
        raise BadRequest(422, "invalid", "Text may not hold half of a surrogate pair.")
    if not BIDI.isdisjoint(told):
        raise BadRequest(422, "invalid", "Text may not hold letters that reorder others.")
