"""Preconditions: who changes something must have seen it as it is (RFC 9110, section 13).

The ETag of a resource is its row's version, strong. A change names it in If-Match.
"""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Response, abort, g, make_response, request

from api.describing import describe
from api.errors import BadRequest
from scheduler.errors import Stale

_ETAG = re.compile(r'^"(\d{1,9})"$')


View = Callable[..., Any]


def conditional(view: View) -> View:
    """Mark a door whose change is made to what the caller last saw: it needs If-Match.

    One that is missing or cannot match is refused before anything is looked up.
    """

    @wraps(view)
    def told(*args: Any, **kwargs: Any) -> Any:
        g.is_conditional = True
        seen_version()
        return view(*args, **kwargs)

    describe(told, conditional=True)
    return told


def replacing(view: View) -> View:
    """Mark a door that makes something, or puts it in another's place: then it needs If-Match."""

    @wraps(view)
    def told(*args: Any, **kwargs: Any) -> Any:
        g.is_conditional = True
        if "If-Match" in request.headers:
            seen_version()
        return view(*args, **kwargs)

    describe(told, replacing=True)
    return told


def seen_version() -> int:
    """The version that the caller last saw: 428 without one, 412 for one that cannot match."""
    if "is_conditional" not in g:  # the description would not say that it needs If-Match
        raise RuntimeError(f"{request.endpoint} is not marked as conditional")
    told = request.headers.get("If-Match")
    if told is None or told.strip() == "*":
        raise BadRequest(
            428, "precondition-required", "Say what you last saw: If-Match with the ETag you got."
        )
    found = _ETAG.match(told.strip())
    if found is None:
        raise Stale("If-Match must name one strong ETag, as you got it.")
    return int(found.group(1))


def tag(version: int | str) -> None:
    """Give the answer the ETag of a resource's version; 304 if the caller has it already.

    A version in letters is that of something worked out: a digest of all that it shows.
    """
    g.etag = f'"{version}"'
    if request.method == "GET" and g.etag in request.headers.get("If-None-Match", ""):
        answer: Response = make_response("", 304)
        answer.headers["ETag"] = g.etag
        abort(answer)


def tag_for_changes(version: int) -> None:
    """The same for a resource that shows more than its row: never 304, the rest may be new."""
    g.etag = f'"{version}"'


def add_etag(response: Any) -> Any:
    """Put the ETag that a view named on its answer."""
    if "etag" in g and response.status_code < 300:
        response.headers["ETag"] = g.etag
    return response


def stale(what: str) -> Stale:
    """The refusal of a change to something that has changed meanwhile."""
    return Stale(f"This {what} was changed in the meantime. Read it again.")
