"""Operators from a shell: their keys are made here and nowhere else, as the database's owner."""

import json
import secrets
from datetime import datetime, timedelta

import click
import psycopg
from uuid_utils.compat import uuid7

import clock
import shell
from api import keys
from database import access
from database.opening import Opened
from shell import OneLine


@click.group()
def operator() -> None:
    """Whoever runs the service for clinics: keys to /api/v1/operator."""


@operator.command()
@click.argument("name")
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 365))
def create(name: str, days: int) -> None:
    """Make a key for NAME, and show it once."""
    settings = shell.settings()
    now = clock.clock(settings.clock_file)()
    with shell.running(settings) as opened, _as_owner(opened) as connection:
        secret = issue(connection, name, timedelta(days=days), now)
    click.echo(secret)


@operator.command(name="list")
def list_keys() -> None:
    """List the keys that still work."""
    settings = shell.settings()
    now = clock.clock(settings.clock_file)()
    with shell.running(settings) as opened, _as_owner(opened) as connection:
        for prefix, name, ends, used in connection.execute(_LIST, {"now": now}).fetchall():
            last = "never used" if used is None else f"last used {used}"
            click.echo(f"{prefix}  {name}  until {ends:%Y-%m-%d}  {last}")


@operator.command()
@click.argument("prefix")
def revoke(prefix: str) -> None:
    """Revoke the key that begins with PREFIX. It stops working at once."""
    settings = shell.settings()
    now = clock.clock(settings.clock_file)()
    with shell.running(settings) as opened, _as_owner(opened) as connection:
        row = connection.execute(_REVOKE, {"prefix": prefix, "now": now}).fetchone()
        if row is None:
            raise OneLine(f"There is no key {prefix} that works.")
        _note(connection, "delete", {"id": row[0], "name": row[1], "prefix": prefix}, now)
    click.echo(f"Revoked {prefix}.")


def issue(connection: psycopg.Connection, name: str, lasts: timedelta, now: datetime) -> str:
    """Make a key, with its line in the operators' trail; returns it, which is never seen again."""
    prefix = f"op_{secrets.token_hex(4)}"
    secret = f"{prefix}_{secrets.token_urlsafe(32)}"
    values = {
        "id": uuid7(),
        "name": name,
        "prefix": prefix,
        "hash": keys.digest(secret),
        "ends": now + lasts,
    }
    connection.execute(_CREATE, values)
    _note(connection, "create", values, now)
    return secret


def _as_owner(opened: Opened) -> psycopg.Connection:
    """A transaction as the tables' owner: no process of the service may make a key."""
    return access.connect(opened.ways.owner, autocommit=False)


def _note(connection: psycopg.Connection, what: str, key: dict[str, object], now: datetime) -> None:
    told = json.dumps({"name": key["name"], "prefix": key["prefix"]})
    connection.execute(_NOTE, {"now": now, "what": what, "id": key["id"], "told": told})


_CREATE = """
    INSERT INTO operator_key (id, name, prefix, secret_hash, expires_at)
    VALUES (%(id)s, %(name)s, %(prefix)s, %(hash)s, %(ends)s)
"""
_LIST = """
    SELECT prefix, name, expires_at, last_used_on FROM operator_key
     WHERE revoked_at IS NULL AND expires_at > %(now)s ORDER BY id
"""
_REVOKE = """
    UPDATE operator_key SET revoked_at = %(now)s
     WHERE prefix = %(prefix)s AND revoked_at IS NULL AND expires_at > %(now)s RETURNING id, name
"""
_NOTE = """
    SELECT append_operator_event(%(now)s, 'operator:shell', %(what)s, 'operator_key', %(id)s,
                                 %(told)s::jsonb, '{}')
"""
