"""What every `afterglow` command needs: settings, the database, and failures in one line."""

import contextlib
import signal
from collections.abc import Iterator
from uuid import UUID

import click
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

import config
import vault
from database import access, embedded, migrating, opening
from database.opening import Opened


class OneLine(click.ClickException):
    """A failure told in one line."""

    exit_code = 2

    def show(self, file: object = None) -> None:
        click.secho(f"afterglow: {self.message}", fg="red", err=True)


def settings() -> config.Settings:
    """Read the settings."""
    try:
        settings = config.load()
    except config.BadSetting as error:
        raise OneLine(str(error)) from error
    vault.unlock(settings.masters)
    return settings


@contextlib.contextmanager
def running(settings: config.Settings) -> Iterator[Opened]:
    """Have the database up and migrated; if this call started it, stop it in the end."""
    with reached(settings) as opened:
        try:
            access.prepare(opened.ways)
            migrating.upgrade(opened.ways.owner)
            with access.connect(opened.ways.service) as connection:
                vault.refuse_wrong_masters(connection)
        except (access.Unreachable, vault.WrongMaster) as error:
            raise OneLine(str(error)) from error
        yield opened


@contextlib.contextmanager
def reached(settings: config.Settings) -> Iterator[Opened]:
    """Have the database up, as it stands; if this call started it, stop it in the end."""
    folder = settings.var / "postgres"
    try:
        settings.var.mkdir(parents=True, exist_ok=True)
        opened = opening.ways_in(settings.database_url, folder, settings.secret)
        started = opening.start(opened, folder, settings.secret)
    except (access.Unreachable, OSError) as error:
        raise OneLine(str(error)) from error
    try:
        yield opened
    finally:
        if started and opened.server is not None:
            embedded.stop(opened.server)


@contextlib.contextmanager
def in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what is done here as Ctrl-C does: it tidies up behind itself."""

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough: tidying up takes its time
        raise SystemExit(128 + number)

    ends = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is _DEFAULT]
    for one in ends:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in ends:
            signal.signal(one, _DEFAULT)


_DEFAULT = signal.SIG_DFL
"""Somebody who ignores one (nohup) goes on ignoring it."""


@contextlib.contextmanager
def session(opened: Opened) -> Iterator[Session]:
    """A session as the service."""
    engine = create_engine(opened.ways.service)
    try:
        with Session(engine) as session:
            yield session
    finally:
        engine.dispose()


def clinics(opened: Opened) -> dict[UUID, str]:
    """Every clinic's name; the worker's role sees them all."""
    engine = create_engine(opened.ways.worker)
    try:
        with engine.connect() as connection:
            rows = connection.execute(
                text("SELECT clinic_id, name FROM clinic ORDER BY created_at")
            )
            return {row.clinic_id: row.name for row in rows}
    finally:
        engine.dispose()


def one_clinic(opened: Opened, told: str | None) -> UUID:
    """The clinic that was told, or the only one."""
    there = clinics(opened)
    if told is not None:
        with contextlib.suppress(ValueError):
            if UUID(told) in there:
                return UUID(told)
        raise OneLine(f"There is no clinic {told}.")
    if len(there) != 1:
        raise OneLine(f"There are {len(there)} clinics; name one with --clinic.")
    return next(iter(there))
