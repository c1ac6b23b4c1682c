"""Clients: each a process of its own, which asks over HTTP or asks the database the same, bare.

One connection stays open. A turn is what somebody does at once: mostly one request. Beside it
stands what the service asked the database in that turn; the bare client asks it again, statement
by statement, fetches what comes, and does nothing with it.
"""

import gc
import json
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import cycle
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Json, Jsonb
from uuid_utils.compat import uuid7

from tests.statements import Heard

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. `{id}` in its path, and its If-Match, are of the answer before it."""

    method: str
    path: str
    body: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody with a key does at once, and the statements that it comes to."""

    key: str
    requests: Sequence[Request]
    heard: Sequence[Heard] = ()
    since: int = 0
    """When it was overheard, in ms of Unix time: ids that are younger are new each time."""


Way = Callable[[Turn], float]
"""Take a turn, and say how many milliseconds it took."""


class OverHttp:
    """A client of the service."""

    def __init__(self, port: int) -> None:
        self.connection = HTTPConnection("127.0.0.1", port)

    def __call__(self, turn: Turn) -> float:
        begun = time.perf_counter()
        before: dict[str, Any] = {}
        for request in turn.requests:
            before = self._answer(turn.key, request, before)
        return (time.perf_counter() - begun) * 1000

    def _answer(self, key: str, request: Request, before: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {key}"} | before.get("headers", {})
        body = None if request.body is None else json.dumps(request.body)
        if body is not None:
            headers["Content-Type"] = "application/json"
        path = request.path.format(**before)
        self.connection.request(request.method, f"/api/v1{path}", body, headers)
        answer = self.connection.getresponse()
        told = answer.read()
        assert answer.status < 300, told
        if request.method == "GET":
            return {}
        etag = answer.headers["ETag"]
        return {"id": json.loads(told)["id"], "headers": {"If-Match": etag}}


class Bare:
    """A client of the database, as the service's role."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url)

    def __call__(self, turn: Turn) -> float:
        statements = list(renewed(turn))
        cursor = self.connection.cursor()
        begun = time.perf_counter()
        for statement, values in statements:
            if statement == "COMMIT":
                self.connection.commit()
            elif statement == "ROLLBACK":
                self.connection.rollback()
            else:
                cursor.execute(statement, values)
                if cursor.description is not None:
                    cursor.fetchall()
        self.connection.rollback()
        return (time.perf_counter() - begun) * 1000


def renewed(turn: Turn) -> Iterator[Heard]:
    """The statements of a turn, with another id for each row that it makes."""
    fresh: dict[str, str] = {}

    def other(told: str) -> str:
        if UUID(told).int >> 80 < turn.since:  # the time is in the id
            return told
        return fresh.setdefault(told, str(uuid7()))

    for statement, values in turn.heard:
        yield statement, _renamed(values, other)


def _renamed(value: Any, other: Callable[[str], str]) -> Any:
    match value:
        case UUID(version=7):
            return UUID(other(str(value)))
        case str():
            return _UUID7.sub(lambda found: other(found.group()), value)
        case list() | tuple():
            return [_renamed(one, other) for one in value]
        case dict():
            return {name: _renamed(one, other) for name, one in value.items()}
        case Json() | Jsonb():
            return type(value)(_renamed(value.obj, other))
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Clients:
    """Some client processes, that ask at the same time."""

    pipes: Sequence[Any]

    def ask(self, way: str, turns: Sequence[Turn], clients: int, seconds: float) -> list[float]:
        """Let so many of them take these turns for so long; how long each took, in ms.

        No two take the same turn.
        """
        asked = self.pipes[:clients]
        for number, pipe in enumerate(asked):
            pipe.send((way, turns[number::clients], seconds))
        answers = [pipe.recv() for pipe in asked]
        wrong = [one for one in answers if isinstance(one, str)]
        assert not wrong, wrong[0]
        return [took for one in answers for took in one]


@contextmanager
def clients(number: int, port: int, url: str) -> Iterator[Clients]:
    """So many client processes."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(number):
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, port, url), daemon=True)
        process.start()
        pipes.append(here)
        processes.append(process)
    try:
        yield Clients(pipes)
    finally:
        for pipe in pipes:
            pipe.send(None)
        for process in processes:
            process.join(10)


def _serve(pipe: Any, port: int, url: str) -> None:
    ways: dict[str, Way] = {"http": OverHttp(port), "bare": Bare(url)}
    gc.disable()
    while (told := pipe.recv()) is not None:
        way, turns, seconds = told
        try:
            pipe.send(list(_for(seconds, ways[way], turns)))
        except Exception as error:  # noqa: BLE001  # whoever asked says so and ends
            pipe.send(repr(error))
        gc.collect()


def _for(seconds: float, way: Way, turns: Sequence[Turn]) -> Iterator[float]:
    until = time.monotonic() + seconds
    for turn in cycle(turns):
        if time.monotonic() > until:
            break
        yield way(turn)
