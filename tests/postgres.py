"""A real, migrated PostgreSQL for tests: DATABASE_URL's server if set, else one of our own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg import sql
from sqlalchemy import make_url

from database import access, embedded, migrating, opening
from database.access import Access

SECRET = "a secret for tests"


@contextmanager
def postgres(*, migrated: bool = True) -> Iterator[Access]:
    """Lend a database; nothing of it is left behind."""
    lend = _on_a_server if "DATABASE_URL" in os.environ else _of_our_own
    with lend() as ways:
        access.prepare(ways)
        if migrated:
            migrating.upgrade(ways.owner)
        yield ways


@contextmanager
def _of_our_own() -> Iterator[Access]:
    folder = Path(tempfile.mkdtemp(prefix="afterglow-test-"))
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
def _on_a_server() -> Iterator[Access]:
    server = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
    name = f"afterglow_test_{os.getpid()}"
    ways = access.access(server.set(database=name).render_as_string(hide_password=False), SECRET)
    with access.connect(server) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield ways
    finally:
        with access.connect(server) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )
            for url in (ways.service, ways.worker):
                connection.execute(
                    sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(url.username or ""))
                )
