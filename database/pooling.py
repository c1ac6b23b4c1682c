"""Pooling: hand out connections that still lead somewhere, without asking the server each time.

A server that has gone, or has ended a session, closes its side of the socket; on a connection
that nobody uses nothing else ever comes. So a look at the socket tells what a question would,
without the way to the server and back.
"""

import select
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError


def look_first(engine: Engine) -> None:
    """Let an engine's pool replace a connection whose server has hung up before it is used."""
    event.listen(engine, "checkout", _look)


def _look(connection: Any, _record: object, _fairy: object) -> None:
    """Refuse a connection on which something came though nobody asked: its end."""
    if connection.closed or _is_readable(connection.fileno()):
        raise DisconnectionError("The server has hung up.")


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
