"""The `afterglow` command: what a clinic's engineer does from a shell."""

import contextlib
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click
import honcho.manager
from email_validator import EmailNotValidError, validate_email
from honcho.manager import Manager
from honcho.printer import Printer
from sqlalchemy.orm import Session

import auditing
import checkup
import clock
import config
import demonstration
import intake.clinic
import locksmith
import logs
import operations
import operators
import rehearsal
from api import keys
from database import access
from database.opening import Opened
from identity import accounts
from identity.accounts import Invitation
from models import enter_clinic
from models.vocabulary import Role
from notifications import bounces, delivery
from notifications import rsvp as rsvps
from notifications.rsvp import Rsvp
from scheduler import audit as audit_trail
from scheduler import replies
from scheduler.audit import Act
from scheduler.authority import Authority
from scheduler.errors import Taken
from shell import OneLine
from shell import clinics as _clinics
from shell import one_clinic as _one_clinic
from shell import running as _running
from shell import session as _session
from shell import settings as _settings

PROCFILE = Path(__file__).with_name("Procfile")


@click.group()
def main() -> None:
    """Scheduling for ketamine-assisted therapy."""
    logs.set_up("warning")


@main.command()
def up() -> None:
    """Run a whole clinic on this machine: database, demo, web and worker."""
    settings = _settings()
    _refuse_taken_port(settings.port)
    with _running(settings) as opened:
        found = _demonstration(settings, opened)
        url = settings.public_url
        demonstration.keep(found, settings.var / "demo.json", url)
        sys.exit(_supervise(settings, found))


@main.command()
@click.argument("mail", type=click.File("rb"), default="-")
def inbound(mail: BinaryIO) -> None:
    """Read a mail that came in: a file, or standard input.

    One of ours that came back settles the message it names; what a patient's calendar answered is
    heard. Meant to be called by the mail server for the address that our mails are sent from.
    """
    settings = _settings()
    now = clock.clock(settings.clock_file)()
    told = mail.read()
    bounce, rsvp = bounces.read(told), rsvps.read(told)
    if bounce is not None:
        with _running(settings) as opened, access.connect(opened.ways.worker) as connection:
            click.echo(delivery.returned(connection, bounce, now))
    elif rsvp is not None:
        with _running(settings) as opened:
            click.echo(_hear_calendar(opened, rsvp, now))
    else:
        click.echo("This says nothing about a message of ours.")


@main.command(name="import")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def import_clinic(directory: Path) -> None:
    """Read a clinic from DIRECTORY, whole or not at all."""
    settings = _settings()
    now = clock.clock(settings.clock_file)()
    with _running(settings) as opened, _session(opened) as session:
        try:
            data = intake.clinic.read(directory, now)
        except intake.clinic.ClinicFaults as faults:
            for fault in faults.faults:
                click.echo(str(fault), err=True)
            raise OneLine(f"{len(faults.faults)} faults; nothing was imported.") from faults
        if data.name in _clinics(opened).values():
            raise OneLine(f"There is a clinic called {data.name!r} already; nothing was imported.")
        clinic_id = intake.clinic.store(session, data, "import", now)
        key, secret = keys.issue(session, "first admin", Role.ADMIN, None, now)
        made = Act(action="create", entity="clinic", entity_id=clinic_id, facts={"key": key.id})
        audit_trail.record(session, Authority("cli:import"), made, now)
        session.commit()
    click.echo(f"Imported {data.name}: clinic {clinic_id}\nIts first admin key: {secret}")


@main.command()
@click.argument("name")
@click.option("--clinic", help="The clinic's id; needed only if there are several.")
@click.option("--email", help="Invite somebody called NAME at this address as an admin, too.")
def create_admin(name: str, clinic: str | None, email: str | None) -> None:
    """Make an admin's API key called NAME, and show it once."""
    settings = _settings()
    with _running(settings) as opened, _session(opened) as session:
        enter_clinic(session, _one_clinic(opened, clinic))
        now = clock.clock(settings.clock_file)()
        key, secret = keys.issue(session, name, Role.ADMIN, None, now)
        made = Act(action="create", entity="api_key", entity_id=key.id)
        audit_trail.record(session, Authority("cli:create-admin"), made, now)
        if email is not None:
            _invite(session, name, email, now)
        session.commit()
    click.echo(secret)


@main.command()
@click.option("--protocol", "code", default="kap", show_default=True, help="A protocol's code.")
@click.option("--start", default=None, help="The day it begins, as 2027-01-04. Default: today.")
@click.option("--brief", is_flag=True, help="Show only the beginning of each message.")
def rehearse(code: str, start: str | None, brief: bool) -> None:
    """Run an invented patient through a whole course, and show what they would get."""
    settings = _settings()
    try:
        day = datetime.now(UTC).date() if start is None else datetime.fromisoformat(start).date()
    except ValueError as error:
        raise OneLine(f"--start {start}: not a day; write it as 2027-01-04.") from error
    try:
        for line in rehearsal.rehearse(settings.database_url, code, day, brief=brief):
            click.echo(line)
    except rehearsal.NoSuchProtocol as error:
        raise OneLine(str(error)) from error


for command in (
    *operations.COMMANDS,
    checkup.doctor,
    auditing.audit,
    locksmith.keys,
    operators.operator,
):
    main.add_command(command)


def _hear_calendar(opened: Opened, rsvp: Rsvp, now: datetime) -> str:
    """Let the clinic that invited hear the answer."""
    for clinic_id in _clinics(opened):
        with _session(opened) as session:
            enter_clinic(session, clinic_id)
            reply = replies.hear_calendar(session, rsvp, now)
            session.commit()
            if reply is not None:
                return f"The patient says: {reply.meaning}."
    return "Nothing new."


def _invite(session: Session, name: str, email: str, now: datetime) -> None:
    """Invite an admin: the worker mails them a link, to var/outbox without a mail server."""
    try:
        address = validate_email(email, check_deliverability=False).normalized
        accounts.invite(session, Invitation(email=address, name=name, roles=[Role.ADMIN]), now)
    except (EmailNotValidError, Taken) as error:
        raise OneLine(f"--email {email}: {error}") from error


def _demonstration(settings: config.Settings, opened: Opened) -> demonstration.Demonstration:
    now = clock.clock(settings.clock_file)()
    clinics = _clinics(opened)
    with _session(opened) as session:
        if clinics:
            clinic_id = next(iter(clinics))
        else:
            click.echo("Making the demo clinic ...")
            clinic_id = demonstration.make(session, now)
        kept = settings.var / "demo.json"
        found = demonstration.open_doors(session, clinic_id, kept, settings.public_url, now)
        session.commit()
    return found


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise OneLine(
                f"Port {port} is in use. Stop what uses it, or choose another: PORT={port + 1}"
            ) from error


def _supervise(settings: config.Settings, found: demonstration.Demonstration) -> int:
    """Run the Procfile's processes until one ends or we are told to stop."""
    environment = {
        **os.environ,
        "PORT": str(settings.port),
        "AFTERGLOW_VAR": str(settings.var),
        "WEB_WORKERS": str(settings.web_workers),
        "WEB_THREADS": str(settings.web_threads),
        "SUPERVISOR": str(os.getpid()),  # once it is gone nobody starts a worker anew
        "PYTHONTZPATH": "",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
    }
    honcho.manager.KILL_WAIT = 30  # the worker may have letters in hand
    manager = Manager(Printer(sys.stdout))
    for line in PROCFILE.read_text().splitlines():
        name, command = line.split(": ", 1)
        manager.add_process(name, command, env=environment, cwd=str(PROCFILE.parent))
    threading.Thread(target=_say_when_ready, args=(settings, found), daemon=True).start()
    manager.loop()
    return int(manager.returncode or 0)


def _say_when_ready(settings: config.Settings, found: demonstration.Demonstration) -> None:
    local = f"http://127.0.0.1:{settings.port}/health/live"
    for _ in range(600):
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(local, timeout=1)  # our own address
            break
        time.sleep(0.1)
    url = settings.public_url
    mail = (
        settings.outbox if not settings.smtp else f"{settings.smtp[0].host}:{settings.smtp[0].port}"
    )
    click.echo(
        f"\n  Afterglow is ready.\n\n"
        f"  API docs      {url}/api/docs\n"
        f"  API key       {found.keys['admin']}\n"
        f"  Patient page  {found.link}\n"
        f"                (date of birth {found.birth_date})\n"
        f"  Messages      {mail}\n"
        f"  All of this   {settings.var / 'demo.json'}\n\n"
        f"  Ctrl-C stops it; the data stays in {settings.var}.\n"
    )
