"""Replaying: what `pg_restore` would tell `psql`, within a transaction of our own.

So a restoration can be looked at, and undone, before anybody sees it.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from psycopg import Connection


def replay(connection: Connection[Any], script: Iterator[bytes], names: Mapping[str, str]) -> None:
    """Do what a script of pg_restore says, within the connection's transaction.

    A newer pg_restore sets what an older server does not know: that is left out.
    """
    known = {row[0] for row in connection.execute("SELECT name FROM pg_settings").fetchall()}
    waiting: list[bytes] = []
    for line in script:
        if line.startswith(b"COPY ") and line.endswith(b" FROM stdin;\n"):
            _do(connection, waiting)
            with connection.cursor().copy(line[:-2]) as copy:
                for row in script:
                    if row == b"\\.\n":
                        break
                    copy.write(row)
        elif not line.startswith(b"\\") and _is_known(line, known):  # a word for psql is not
            waiting.append(renamed(line, names))
    _do(connection, waiting)


def _do(connection: Connection[Any], waiting: list[bytes]) -> None:
    if waiting:
        connection.execute(b"".join(waiting))
        waiting.clear()


def _is_known(line: bytes, known: Collection[str]) -> bool:
    """Whether the server knows what a line sets, if it sets anything."""
    found = _SETS.fullmatch(line)
    return found is None or found[1].decode() in known


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


_SETS = re.compile(rb"SET (\w+) = [^;]*;\n")
_ROLES = re.compile(
    rb'\b((?:TO|FROM|FOR ROLE) )((?:"(?:[^"]|"")+"|\w+)(?:, (?:"(?:[^"]|"")+"|\w+))*)'
)


def _plain(name: bytes) -> str:
    told = name.decode()
    return told[1:-1].replace('""', '"') if told.startswith('"') else told


def _quoted(name: str) -> bytes:
    return ('"' + name.replace('"', '""') + '"').encode()
