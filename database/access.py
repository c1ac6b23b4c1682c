"""Access: who connects to PostgreSQL as whom.

Four roles. The *owner* owns the tables and runs migrations. The *service* serves requests;
it is neither owner nor superuser, so row-level security holds for it. The *worker* delivers
messages; it sees the message queue of all clinics, and otherwise what the service sees. The
*operator* is whoever runs the service for clinics: it may call a few functions and read no
table of a clinic. The last three are named after the database, so that two databases on one
server never share them, and their passwords are derived from the service's secret, so that
nothing has to be kept.
"""

import hashlib
import hmac
from dataclasses import dataclass

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

LIMITS = {
    "timezone": "UTC",
    "lock_timeout": "3s",
    "statement_timeout": "15s",
    "idle_in_transaction_session_timeout": "30s",
}
"""What a forgotten lock or a lost client may cost at most."""


class Unreachable(psycopg.OperationalError):
    """The database cannot be used. The message is one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Access:
    """The four ways into one database."""

    owner: URL
    service: URL
    worker: URL
    operator: URL

    @property
    def processes(self) -> tuple[URL, URL, URL]:
        """Those that the service's own processes come by."""
        return self.service, self.worker, self.operator


def access(owner_url: str, secret: str) -> Access:
    """Derive the four ways in from the owner's URL and the service's secret.

    Raises Unreachable if the URL is not one of PostgreSQL.
    """
    owner = _url(owner_url)
    database = owner.database
    assert database is not None
    return Access(
        owner=owner,
        service=_as(owner, f"{database}_service", secret),
        worker=_as(owner, f"{database}_worker", secret),
        operator=_as(owner, f"{database}_operator", secret),
    )


def prepare(ways: Access) -> None:
    """Make the processes' roles, or renew their passwords and limits.

    Needs an owner who may create roles, unless all exist already and let us in. Raises
    Unreachable, in one line, if the server is not there or the owner may not.
    """
    try:
        with connect(ways.owner) as connection:
            version = connection.info.server_version
            if version < 150000:
                raise Unreachable(f"PostgreSQL {version // 10000} is too old: 15 or newer.")
            for url in ways.processes:
                _prepare_role(connection, url)
    except psycopg.errors.InsufficientPrivilege as error:
        if not _lets_in(ways):
            names = ", ".join(str(url.username) for url in ways.processes)
            raise Unreachable(
                f"DATABASE_URL: {ways.owner.username} may not create the roles {names}. "
                "Let it (ALTER ROLE ... CREATEROLE), or start once as a role that may."
            ) from error


def connect(url: URL, *, autocommit: bool = True) -> psycopg.Connection:
    """Open a plain psycopg connection.

    Raises Unreachable, in one line, if the server does not let us in.
    """
    try:
        return psycopg.connect(psycopg_url(url), autocommit=autocommit, connect_timeout=5)
    except psycopg.OperationalError as error:
        where = url.render_as_string(hide_password=True).replace("+psycopg", "")
        why = str(error).strip().splitlines()[0].removeprefix("connection failed: ")
        raise Unreachable(f"DATABASE_URL: no connection to {where}: {why}") from error


def psycopg_url(url: URL) -> str:
    """The URL as psycopg and PostgreSQL's own programs read it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def refuse_unsafe_role(connection: psycopg.Connection) -> None:
    """Raise Unreachable if this connection's role could pass row-level security.

    A superuser, a role with BYPASSRLS and an owner of tables would see every clinic's rows.
    """
    row = connection.execute(
        """
        SELECT rolsuper OR rolbypassrls,
               EXISTS (SELECT FROM pg_class WHERE relowner = r.oid AND relkind IN ('r', 'p'))
          FROM pg_roles r WHERE rolname = current_user
        """
    ).fetchone()
    assert row is not None
    if row[0] or row[1]:
        raise Unreachable(
            f"The service's role {connection.info.user} is a superuser or owns tables: "
            "row-level security would not hold. It must be neither."
        )


def _url(told: str) -> URL:
    try:
        url = make_url(told)
    except ArgumentError as error:
        raise Unreachable(
            "DATABASE_URL is not a URL. It looks like postgresql://owner:password@host/database"
        ) from error
    if url.get_backend_name() not in {"postgresql", "postgres"} or not url.database:
        raise Unreachable(
            f"DATABASE_URL names {url.get_backend_name()}, database {url.database!r}. It must "
            "name PostgreSQL and a database: postgresql://owner:password@host/database"
        )
    return url.set(drivername="postgresql+psycopg")


def _as(owner: URL, role: str, secret: str) -> URL:
    password = hmac.new(secret.encode(), role.encode(), hashlib.sha256).hexdigest()
    named = owner.set(username=role, password=password)
    return named.update_query_dict({"application_name": f"afterglow-{role.rpartition('_')[2]}"})


def _prepare_role(connection: psycopg.Connection, url: URL) -> None:
    role = sql.Identifier(url.username or "")
    known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [url.username]).fetchone()
    if known is None:
        connection.execute(
            sql.SQL("CREATE ROLE {} NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS").format(role)
        )
    password = sql.Literal(url.password)
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(role, password))
    for name, value in LIMITS.items():
        connection.execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(
                role, sql.Identifier(name), sql.Literal(value)
            )
        )


def _lets_in(ways: Access) -> bool:
    try:
        for url in ways.processes:
            connect(url).close()
    except Unreachable:
        return False
    return True
