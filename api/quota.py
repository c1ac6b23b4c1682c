"""Quota: how often a caller may ask, and a whole clinic. Token buckets in PostgreSQL.

A bucket holds as many tokens as there are requests in a minute and fills at that rate. A process
takes some at a time and hands them out: the database is asked once for many requests, and all
processes together keep to the limit.

Source: RFC 6585 (429); draft-ietf-httpapi-ratelimit-headers-11.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from uuid import UUID

from flask import Flask, Response, current_app, g
from sqlalchemy import text
from sqlalchemy.orm import Session

from api.errors import BadRequest

CLINIC = ""
"""The holder of the bucket that all callers of a clinic share."""

SHARE = 100
"""A process takes a hundredth of a bucket at a time."""

KEPT = 5.0
"""For so long, in seconds, a process keeps what it took and nobody asked for."""

WINDOW = 60


@dataclass(slots=True)
class _Taken:
    """What a process has of a bucket."""

    here: int
    """Tokens to be handed out yet."""
    there: float
    """What was left in the bucket when they were taken."""
    quota: int
    until: float


@dataclass(slots=True)
class Purse:
    """What this process has of all buckets."""

    taken: dict[tuple[UUID, str], _Taken] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def spend(self, bucket: tuple[UUID, str]) -> _Taken | None:
        """One token of those at hand; None if there is none."""
        with self.lock:
            found = self.taken.get(bucket)
            if found is None or found.here < 1 or found.until < time.monotonic():
                self.taken.pop(bucket, None)
                return None
            found.here -= 1
            return found

    def keep(self, bucket: tuple[UUID, str], got: _Taken) -> None:
        """Keep what was taken, less the one that it was taken for."""
        got.here -= 1
        with self.lock:
            self.taken[bucket] = got


def init_app(app: Flask, per_minute: int) -> None:
    """Let each caller ask `per_minute` times in a minute, and tell them how it stands."""
    app.config.update(QUOTA=per_minute, PURSE=Purse())
    app.after_request(_tell)


def spend(session: Session, clinic_id: UUID, caller: str) -> None:
    """Take a token of the caller's bucket and one of the clinic's.

    The transaction ends with it: nobody waits for a bucket while another request is at work.
    Raises BadRequest (429) if there is none.
    """
    if "quota" in g:
        return  # a request that is begun anew
    quota = current_app.config["QUOTA"]
    mine = _spent(session, (clinic_id, caller), quota, "caller")
    _spent(session, (clinic_id, CLINIC), 5 * quota, "clinic")
    g.quota = mine


def _spent(session: Session, bucket: tuple[UUID, str], quota: int, whose: str) -> _Taken:
    purse: Purse = current_app.config["PURSE"]
    at_hand = purse.spend(bucket)
    if at_hand is not None:
        return at_hand
    with _quickly(session):
        for some in sorted({max(1, quota // SHARE), 1}, reverse=True):
            asked = {"holder": bucket[1], "quota": quota, "some": some}
            found = session.execute(_TAKE, asked).one_or_none()
            if found is not None:
                got = _Taken(some, found.tokens, found.quota, time.monotonic() + KEPT)
                purse.keep(bucket, got)
                return got
        left = session.execute(_LEFT, {"holder": bucket[1], "quota": quota}).one()
    wait = max(1, math.ceil((1 - left.tokens) * WINDOW / left.quota))
    g.quota = _Taken(0, 0, left.quota, 0)
    raise BadRequest(
        429,
        "quota-exceeded",
        f"Too many requests by this {whose}. Try again in {wait} s.",
        {"Retry-After": str(wait)},
    )


@contextmanager
def _quickly(session: Session) -> Iterator[None]:
    """A transaction that waits for no disk: what a crash forgets is in the caller's favour."""
    session.execute(_LAZILY)
    yield
    session.commit()


def _tell(response: Response) -> Response:
    told: Any = g.get("quota")
    if told is not None:
        left = int(told.here + told.there)
        full = math.ceil((told.quota - left) * WINDOW / told.quota)
        response.headers["RateLimit-Policy"] = f'"default";q={told.quota};w={WINDOW}'
        response.headers["RateLimit"] = f'"default";r={left};t={full}'
    return response


_LAZILY = text("SELECT set_config('synchronous_commit', 'off', true)")

_QUOTA = """
    CASE WHEN :holder = ''
         THEN (SELECT least(coalesce(t.requests_per_minute, :quota),
                            coalesce(c.requests_per_minute, t.requests_per_minute, :quota))
                 FROM clinic c JOIN tenancy t ON t.id = c.clinic_id)
         ELSE :quota END
"""

_TAKE = text(
    f"""
    WITH told AS (SELECT CAST({_QUOTA} AS double precision) AS quota)
    INSERT INTO quota AS q (id, holder, tokens, at)
    SELECT gen_random_uuid(), :holder, told.quota - :some, clock_timestamp() FROM told
     WHERE told.quota >= :some
        ON CONFLICT (clinic_id, holder) DO UPDATE
       SET tokens = least((SELECT quota FROM told),
                          q.tokens + extract(epoch FROM clock_timestamp() - q.at)
                                     * (SELECT quota FROM told) / {WINDOW}) - :some,
           at = clock_timestamp()
     WHERE least((SELECT quota FROM told),
                 q.tokens + extract(epoch FROM clock_timestamp() - q.at)
                            * (SELECT quota FROM told) / {WINDOW}) >= :some
    RETURNING tokens, CAST((SELECT quota FROM told) AS bigint) AS quota
    """  # noqa: S608  # only our own words are put in
)
"""Take some, if there are so many. No row: there are not."""

_LEFT = text(
    f"""
    WITH told AS (SELECT CAST({_QUOTA} AS double precision) AS quota)
    SELECT least(told.quota, q.tokens + extract(epoch FROM clock_timestamp() - q.at)
                                        * told.quota / {WINDOW}) AS tokens,
           CAST(told.quota AS bigint) AS quota
      FROM told, quota q WHERE q.holder = :holder
    """  # noqa: S608  # only our own words are put in
)
