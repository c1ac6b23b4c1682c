"""`afterglow keys`: what the fields of clinics are sealed with, and how far a change has come."""

from uuid import UUID

import click

import clock
import shell
import vault
from database.opening import Opened
from models import enter_clinic, sealed
from scheduler import audit, resealing
from scheduler.audit import Act
from scheduler.authority import Authority
from scheduler.resealing import TABLES, Walk

OPERATOR = Authority("operator:shell")


@click.group()
def keys() -> None:
    """Look after the keys that fields are sealed with."""


@keys.command()
@click.option("--clinic", help="The clinic's id. Default: every clinic.")
def rotate(clinic: str | None) -> None:
    """Give clinics new keys. The worker then seals everything with them; `keys status` tells.

    Nothing has to stop. What was sealed before opens all the while.
    """
    settings = shell.settings()
    now = clock.clock(settings.clock_file)()
    with shell.running(settings) as opened:
        there = shell.clinics(opened)
        chosen = list(there) if clinic is None else [shell.one_clinic(opened, clinic)]
        for clinic_id in chosen:
            with shell.session(opened) as session:
                enter_clinic(session, clinic_id)
                try:
                    number = resealing.renew(session)
                except vault.Forgotten as error:
                    click.echo(f"{there[clinic_id]}: {error}")
                    continue
                made = Act(action="create", entity="clinic_key", facts={"number": number})
                audit.record(session, OPERATOR, made, now)
                session.commit()
            click.echo(f"{there[clinic_id]}: key {number} seals from now on.")
    click.echo("Keep a new backup with its file of keys: older ones lack these.")


@keys.command()
def rewrap() -> None:
    """Wrap every clinic's keys with the first of the master keys.

    Set AFTERGLOW_MASTER_KEY to the new one and the old one, restart web and worker, run this,
    and take the old one away. Nothing is sealed anew.
    """
    settings = shell.settings()
    now = clock.clock(settings.clock_file)()
    with shell.running(settings) as opened:
        for clinic_id, name in shell.clinics(opened).items():
            with shell.session(opened) as session:
                enter_clinic(session, clinic_id)
                changed = vault.rewrap(sealed.psycopg_of(session), clinic_id)
                if changed:
                    done = Act(action="update", entity="clinic_key", facts={"rewrapped": changed})
                    audit.record(session, OPERATOR, done, now)
                session.commit()
            click.echo(f"{name}: {changed} keys rewrapped.")
    click.echo(f"All keys are wrapped with master {settings.masters.first.name}.")


@keys.command()
def status() -> None:
    """Tell which key seals in each clinic, and how far the walk of it has come."""
    settings = shell.settings()
    with shell.running(settings) as opened:
        for clinic_id, name in shell.clinics(opened).items():
            click.echo(f"{name}: {_told(_standing(opened, clinic_id))}")


def _standing(opened: Opened, clinic_id: UUID) -> Walk | None:
    with shell.session(opened) as session:
        enter_clinic(session, clinic_id)
        return resealing.standing(session)


def _told(walk: Walk | None) -> str:
    if walk is None:
        return "no key; it gets one with the first thing that is sealed, unless it was forgotten."
    stuck = f", {walk.stuck} rows do not open" if walk.stuck else ""
    if walk.is_over:
        return f"key {walk.number}; all is sealed with it, {walk.walked} rows anew{stuck}."
    at = 0 if walk.table is None else TABLES.index(walk.table)
    return (
        f"key {walk.number}; table {at + 1} of {len(TABLES)} ({TABLES[at]}), "
        f"{walk.walked} rows sealed anew{stuck}."
    )
