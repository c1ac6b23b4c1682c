"""A database for a while: for tests, benchmarks and rehearsals. Nothing of it is left behind."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg import sql
from sqlalchemy import make_url

from database import access, embedded, migrating, opening
from database.access import Access

SECRET = "nothing here is worth a secret"  # noqa: S105  # it guards a database of minutes


@contextmanager
def scratch(database_url: str | None, *, migrated: bool = True) -> Iterator[Access]:
    """Lend a database: a new one on the server of `database_url`, else on a server of our own."""
    lend = _of_our_own() if database_url is None else _on_a_server(database_url)
    with lend as ways:
        access.prepare(ways)
        if migrated:
            migrating.upgrade(ways.owner)
        yield ways


@contextmanager
def _of_our_own() -> Iterator[Access]:
    folder = Path(tempfile.mkdtemp(prefix="afterglow-scratch-"))
    folder.chmod(0o711)  # so that the server's account can reach its own data
    home = folder / "postgres"
    opened = opening.ways_in(None, home, SECRET)
    assert opened.server is not None
    try:
        opening.start(opened, home, SECRET)
        yield opened.ways
    finally:
        embedded.stop(opened.server)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _on_a_server(database_url: str) -> Iterator[Access]:
    server = make_url(database_url).set(drivername="postgresql+psycopg")
    name = f"afterglow_scratch_{secrets.token_hex(6)}"
    url = server.set(database=name).render_as_string(hide_password=False)
    ways = access.access(url, SECRET)
    with access.connect(server) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield ways
    finally:
        with access.connect(server) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )
            for url_of_role in ways.processes:
                role = sql.Identifier(url_of_role.username or "")
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(role))
