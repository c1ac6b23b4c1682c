"""What is done to a running clinic's database from a shell: migrate, back up, restore, resume."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path

import click
import psycopg

import clock
import shell
import vault
from database import access, backups, migrating
from database.access import Access
from database.backups import Manifest
from database.opening import Opened
from models import enter_clinic
from notifications import queue
from scheduler import audit
from scheduler.audit import Act
from scheduler.authority import Authority
from shell import OneLine

OPERATOR = Authority("operator:shell")
"""Whoever has a shell on the machine: in the audit trail of every clinic."""


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; say what would run. Exit 1 if any.")
def migrate(check: bool) -> None:
    """Bring the database to what this code expects."""
    settings = shell.settings()
    if not check:
        with shell.running(settings) as opened:
            click.echo(f"The database is at {migrating.current(opened.ways.service)}.")
        return
    with shell.reached(settings) as opened, _in_one_line():
        pending = migrating.pending(opened.ways.owner)
    for step in pending:
        click.echo(f"{step.phase:9} {step.revision}: {step.what}")
    if pending:
        click.echo(f"{len(pending)} would run. " + _WHEN[any(one.contracts for one in pending)])
        sys.exit(1)
    click.echo(f"Nothing to do: the database is at {migrating.head()}.")


_WHEN = {
    False: "The version before runs on with them: migrate first, then restart web and worker.",
    True: "One of them takes away what an older version needs: stop every process of it first.",
}


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--verify/--no-verify", default=True, help="Restore it beside, and compare.")
@shell.in_order()
def backup(file: Path, verify: bool) -> None:
    """Back the database up into FILE, which must not be there yet.

    Web and worker go on meanwhile. By default it takes its name only once it was restored into
    a database of its own and holds the same. The keys that it is sealed with are written beside
    it, into FILE.keys.
    """
    settings = shell.settings()
    now = clock.clock(settings.clock_file)()
    keys = backups.keys_of(file)
    for one in (file, keys):
        if one.exists():
            raise OneLine(f"{one} is there already; a backup replaces no other.")
    half = file.with_name(f"{file.name}.unverified")
    _remove(half)
    with shell.reached(settings) as opened, _in_one_line(), Progress("Backing up") as progress:
        manifest = backups.write(opened.ways, half, now, version(), progress)
    try:
        if verify:
            with _in_one_line(), Progress("Verifying", manifest.bytes) as progress:
                backups.verify(half, progress)
        backups.keys_of(half).rename(keys)
        half.rename(file)
    finally:
        _remove(half)
    click.echo(f"{file}: {_told(manifest)}" + ("" if verify else " It was not verified."))
    click.echo(f"{keys}: the clinics' keys, wrapped. Keep them apart from the backup.")
    if manifest.contents.broken_at:
        raise OneLine(
            "It was backed up as it is, but the audit trail does not hang together: "
            + ", ".join(f"{c} from line {n}" for c, n in manifest.contents.broken_at.items())
        )


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Throw away what is in the database.")
@shell.in_order()
def restore(file: Path, replace: bool) -> None:
    """Put the backup FILE into the database, whole or not at all; its keys are in FILE.keys.

    Nothing is said to anybody afterwards until `afterglow resume`: much of what was due may
    have been said already by what was lost.
    """
    settings = shell.settings()
    now = clock.clock(settings.clock_file)()
    doubtful = 0

    def then(connection: psycopg.Connection, manifest: Manifest) -> None:
        nonlocal doubtful
        connection.execute("ALTER TABLE public.message NO FORCE ROW LEVEL SECURITY")
        doubtful = queue.rest(connection, manifest.taken_at, now)
        connection.execute("ALTER TABLE public.message FORCE ROW LEVEL SECURITY")

    with shell.reached(settings) as opened, _in_one_line():
        ways = opened.ways
        access.prepare(ways)
        if connected := backups.others(ways):
            raise OneLine(f"Stop web and worker first: they have {connected} connections.")
        told = backups.read_manifest(file)
        with Progress("Restoring", told.bytes) as progress:
            manifest = backups.restore(ways, file, progress, replace=replace, then=then)
        access.prepare(ways)
        migrating.upgrade(ways.owner)
        wrong = _wrong_master(ways)
        _note(opened, {"restored_from": manifest.taken_at, "sha256": manifest.sha256}, now)
    click.echo(f"{file} is restored and holds what it should: {_told(manifest)}")
    if wrong:
        click.secho(wrong, fg="red")
    click.echo(_NEXT.format(taken_at=f"{manifest.taken_at:%Y-%m-%d %H:%M} UTC", doubtful=doubtful))


_NEXT = """
Nothing is sent, and no job runs, until you say `afterglow resume`. Before that:
  1. Start web and worker. Staff can work; what they plan waits.
  2. What happened since {taken_at} is not here. Enter again what was booked, moved,
     cancelled and had since then; withdraw keys that were withdrawn since then; note who has
     opted out since then (your provider of text messages has a list).
  3. {doubtful} messages were due by now and may have been said: they are `uncertain`, and
     GET /api/v1/messages?state=uncertain lists them.
"""


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def resume(yes: bool) -> None:
    """Let messages go out and jobs run again after a restoration."""
    settings = shell.settings()
    now = clock.clock(settings.clock_file)()
    with shell.running(settings) as opened, _in_one_line():
        with access.connect(opened.ways.worker) as connection:
            since = queue.resting_since(connection)
            [(due,)] = connection.execute(_DUE, [now]).fetchall()
        if since is None:
            click.echo("Nothing is held.")
            return
        click.echo(f"Held since {since:%Y-%m-%d %H:%M} UTC. {due} messages go out at once.")
        if not yes:
            click.confirm("Is everything that happened since the backup entered again?", abort=True)
        with access.connect(opened.ways.owner) as connection:
            queue.resume(connection, now)
        _note(opened, {"resumed": True}, now)
    click.echo("Messages go out and jobs run again.")


_DUE = "SELECT count(*) FROM message WHERE state = 'scheduled' AND due_at <= %s"

COMMANDS = (migrate, backup, restore, resume)


def version() -> str:
    """Which Afterglow this is."""
    try:
        return metadata.version("afterglow")
    except metadata.PackageNotFoundError:
        return "unknown"


def _remove(half: Path) -> None:
    for one in (half, backups.keys_of(half)):
        one.unlink(missing_ok=True)


def _wrong_master(ways: Access) -> str:
    """What is wrong with the master key, now that the clinics' keys are those of the backup."""
    with access.connect(ways.service) as connection:
        try:
            vault.refuse_wrong_masters(connection)
        except vault.WrongMaster as error:
            return str(error)
    return ""


@dataclass
class Progress:
    """Tells how far long work got: one line that changes for people, one in a while for a log."""

    what: str
    total: int | None = None
    told_at: float = field(default_factory=time.monotonic)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self.told_at < (0.2 if sys.stderr.isatty() else 10):
            return
        self.told_at = now
        of = "" if not self.total else f" of {self.total / 1e6:,.1f}"
        line = f"{self.what}: {done / 1e6:,.1f}{of} MB"
        click.echo(f"\r\033[K{line}" if sys.stderr.isatty() else line, nl=False, err=True)
        if not sys.stderr.isatty():
            click.echo(err=True)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except (backups.BadBackup, access.Unreachable) as error:
        raise OneLine(str(error)) from error


def _note(opened: Opened, facts: dict[str, object], now: datetime) -> None:
    """Write it into every clinic's audit trail."""
    act = Act(action="execute", entity="restoration", facts=facts)
    for clinic_id in shell.clinics(opened):
        with shell.session(opened) as session:
            enter_clinic(session, clinic_id)
            audit.record(session, OPERATOR, act, now)
            session.commit()


def _told(manifest: Manifest) -> str:
    rows = sum(number for number, _ in manifest.contents.tables.values())
    clinics = manifest.contents.tables["clinic"][0]
    return (
        f"{rows:,} rows of {len(manifest.contents.tables)} tables, clinics: {clinics}, "
        f"{manifest.bytes / 1e6:,.1f} MB, as of {manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"Afterglow {manifest.app}, migration {manifest.migration}."
    )
