"""The edge: where a request's work ends. Answer, audit line and commit, in one place."""

from typing import Any

from flask import Response, g, jsonify
from marshmallow import Schema

from api import caller, idempotency
from scheduler.audit import Act


def done(
    schema: type[Schema], thing: Any, act: Act, *, status: int = 200, location: str | None = None
) -> Response:
    """Commit what was done and answer with `thing`.

    The answer is written first: if it is kept for a repeated request, that is part of the
    same transaction, and a 2xx is sent only once all of it is durable.
    """
    body = schema().dump(thing)
    headers = {} if location is None else {"Location": location}
    if "etag" in g:
        headers["ETag"] = g.etag
    idempotency.keep(status, body, headers)
    caller.commit(act)
    answer = jsonify(body)
    answer.status_code = status
    answer.headers.update(headers)
    return answer


def gone(act: Act) -> Response:
    """Commit a removal and answer with nothing."""
    caller.commit(act)
    return Response(status=204)
