"""Opening the database: from settings to a migrated database that lets the service in."""

import contextlib
import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.errors import DuplicateDatabase, DuplicateObject
from sqlalchemy import URL, make_url

from database import embedded
from database.access import Access, Unreachable, access, connect


@dataclass(frozen=True, slots=True)
class Opened:
    """The ways into the database, and the server we run for it, if it is ours."""

    ways: Access
    server: embedded.Server | None


def ways_in(database_url: str | None, folder: Path, secret: str) -> Opened:
    """Tell how the database is reached, without touching it.

    `database_url` None: the cluster under `folder`, which somebody else has started.
    """
    if database_url is not None:
        return Opened(access(database_url, secret), None)
    server = embedded.locate(folder)
    password = _password(secret, embedded.OWNER)
    return Opened(access(server.url(password), secret), server)


def start(opened: Opened, folder: Path, secret: str) -> bool:
    """Start our own cluster, if it is ours, with its owner and its database.

    True if this call started it: whoever did stops it.
    """
    if opened.server is None:
        return False
    password = _password(secret, embedded.SUPERUSER)
    started = embedded.start(opened.server, folder, password)
    superuser = make_url(opened.server.url(password, embedded.SUPERUSER, "postgres")).set(
        drivername="postgresql+psycopg"
    )
    owner = sql.Identifier(embedded.OWNER)
    with _let_in(superuser, opened.server) as connection:
        with contextlib.suppress(DuplicateObject):
            connection.execute(sql.SQL("CREATE ROLE {} CREATEROLE").format(owner))
        connection.execute(
            sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(
                owner, sql.Literal(_password(secret, embedded.OWNER))
            )
        )
        with contextlib.suppress(DuplicateDatabase):
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(
                    sql.Identifier(embedded.DATABASE), owner
                )
            )
    return started


def _let_in(superuser: URL, server: embedded.Server) -> psycopg.Connection:
    try:
        return connect(superuser)
    except Unreachable as error:
        if "password authentication failed" not in str(error):
            raise
        raise Unreachable(
            f"The data in {server.data} were made with another secret. Put back the "
            "AFTERGLOW_SECRET or the secret file they were made with, or move them away."
        ) from error


def _password(secret: str, role: str) -> str:
    return hmac.new(secret.encode(), role.encode(), hashlib.sha256).hexdigest()
