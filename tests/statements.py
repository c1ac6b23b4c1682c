"""Statements: what a session asks the database while something is done."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

Heard = tuple[str, Any]
"""A statement with its values; `COMMIT` and `ROLLBACK` have none."""


@contextmanager
def statements(session: Session) -> Iterator[list[str]]:
    """Gather the statements that are sent meanwhile, savepoints and raw ones aside."""
    asked: list[str] = []
    engine = session.get_bind().engine

    def note(*told: Any) -> None:
        asked.append(told[2])

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def overheard(engine: Engine) -> Iterator[list[Heard]]:
    """Gather all that goes to the database through `engine`, raw statements and ends as well.

    The engine has not been used before, or only here.
    """
    heard: list[Heard] = []

    class Cursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
            heard.append((query, params))
            return super().execute(query, params, **more)

        def executemany(self, query: Any, params_seq: Any, **more: Any) -> None:
            rows = list(params_seq)
            heard.extend((query, row) for row in rows)
            super().executemany(query, rows, **more)

    hooks: list[tuple[str, Any]] = [
        ("connect", lambda connection, _: setattr(connection, "cursor_factory", Cursor)),
        ("commit", lambda _: heard.append(("COMMIT", None))),
        ("rollback", lambda _: heard.append(("ROLLBACK", None))),
    ]
    for name, hook in hooks:
        event.listen(engine, name, hook)
    try:
        yield heard
    finally:
        for name, hook in hooks:
            event.remove(engine, name, hook)
        engine.dispose()
