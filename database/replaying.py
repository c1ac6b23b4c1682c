"""Replaying: what `pg_restore` would tell `psql`, within a transaction of our own.

So a restoration can be looked at, and undone, before anybody sees it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import Connection


def replay(connection: Connection[Any], script: Iterator[bytes], names: Mapping[str, str]) -> None:
    """Do what a script of pg_restore says, within the connection's transaction."""
    waiting: list[bytes] = []
    for line in script:
        if line.startswith(b"COPY ") and line.endswith(b" FROM stdin;\n"):
            _do(connection, waiting)
            with connection.cursor().copy(line[:-2]) as copy:
                for row in script:
                    if row == b"\\.\n":
                        break
                    copy.write(row)
        elif not line.startswith(b"\\"):  # a word for psql
            waiting.append(renamed(line, names))
    _do(connection, waiting)


def _do(connection: Connection[Any], waiting: list[bytes]) -> None:
    if waiting:
        connection.execute(b"".join(waiting))
        waiting.clear()


def renamed(line: bytes, names: Mapping[str, str]) -> bytes:
    """Let a line that grants something or makes a policy speak of the roles that are here."""
    if not line.startswith((b"GRANT ", b"REVOKE ", b"CREATE POLICY ", b"ALTER DEFAULT ")):
        return line

    def other(found: re.Match[bytes]) -> bytes:
        return found[1] + b", ".join(
            _quoted(names[told]) if (told := _plain(name)) in names else name
            for name in found[2].split(b", ")
        )

    return _ROLES.sub(other, line)


_ROLES = re.compile(
    rb'\b((?:TO|FROM|FOR ROLE) )((?:"(?:[^"]|"")+"|\w+)(?:, (?:"(?:[^"]|"")+"|\w+))*)'
)


def _plain(name: bytes) -> str:
    told = name.decode()
    return told[1:-1].replace('""', '"') if told.startswith('"') else told


def _quoted(name: str) -> bytes:
    return ('"' + name.replace('"', '""') + '"').encode()
