"""Idempotency: a POST that is sent again gets the same answer, and is done once.

The answer is kept in the same transaction as what was done, so either both are there or
neither. Two requests with one key at the same time cannot both be at it.
Source: draft-ietf-httpapi-idempotency-key-header.
"""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from flask import Response, g, jsonify, request
from sqlalchemy import select, text
from uuid_utils.compat import uuid7

from api.caller import by, now
from api.describing import describe
from api.errors import BadRequest
from models import IdempotencyKey, db

KEPT = timedelta(hours=24)
_KEY = re.compile(r'^"?([A-Za-z0-9._:-]{8,200})"?$')


def idempotent(view: Callable[..., Any]) -> Callable[..., Any]:
    """Let the caller repeat the request under one Idempotency-Key.

    Stands under `requires`. Without the header the view runs as it is. What the view refuses
    is not kept: it changed nothing, and may be right the next time.
    """

    @wraps(view)
    def once(*args: Any, **kwargs: Any) -> Any:
        told = request.headers.get("Idempotency-Key")
        if told is None:
            return view(*args, **kwargs)
        found = _KEY.match(told.strip())
        if found is None:
            raise BadRequest(
                400, "malformed-idempotency-key", "Use 8 to 200 letters, digits and -_.: for it."
            )
        key, fingerprint = found.group(1), _fingerprint()
        scope = {"caller": by().caller, "route": f"{request.method} {request.path}", "key": key}
        _wait_for_nobody(scope)
        kept = db.session.scalar(
            select(IdempotencyKey).filter_by(**scope).where(IdempotencyKey.expires_at > now())
        )
        if kept is not None:
            return _again(kept, fingerprint)
        g.idempotency = {**scope, "fingerprint": fingerprint}
        return view(*args, **kwargs)

    describe(once, idempotent=True)
    return once


def keep(status: int, body: Any, headers: dict[str, str]) -> None:
    """Keep the answer for a repeated request. Edges call it just before they commit."""
    if "idempotency" not in g:
        return
    db.session.execute(
        text(
            "DELETE FROM idempotency_key WHERE caller = :caller AND route = :route AND key = :key"
        ),
        {name: g.idempotency[name] for name in ("caller", "route", "key")},
    )
    db.session.add(
        IdempotencyKey(
            id=uuid7(),
            **g.idempotency,
            status=status,
            headers=headers,
            body=body,
            expires_at=now() + KEPT,
        )
    )
    db.session.flush()


def _again(kept: IdempotencyKey, fingerprint: bytes) -> Response:
    if kept.fingerprint != fingerprint:
        raise BadRequest(422, "idempotency-key-reused", "This key was used for another request.")
    answer = jsonify(kept.body)
    answer.status_code = kept.status
    answer.headers.update(kept.headers)
    answer.headers["Idempotency-Replayed"] = "true"
    return answer


def _wait_for_nobody(scope: dict[str, str]) -> None:
    name = " ".join(("idempotency", *scope.values()))
    if not db.session.scalar(_LOCK, {"name": name}):
        raise BadRequest(
            409,
            "still-running",
            "The first request with this key is still running.",
            {"Retry-After": "1"},
        )


def _fingerprint() -> bytes:
    if request.mimetype and not request.is_json:
        return hashlib.sha256(request.query_string + b"\0" + request.get_data()).digest()
    read = request.get_json() if request.get_data() else None
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).digest()


_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
