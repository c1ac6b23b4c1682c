"""The audit trail from a shell: is it as it was written?"""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import shell
from database.opening import Opened
from models import enter_clinic
from scheduler import heads as trail_heads
from scheduler import tenants
from scheduler.chain import Head
from shell import OneLine


@click.group()
def audit() -> None:
    """The audit trail: who did or read what."""


@audit.command()
@click.option("--clinic", help="The clinic's id. Default: every clinic.")
@click.option(
    "--heads",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A file or a folder of heads that were published and kept elsewhere.",
)
@click.option("--after", default=0, help="Begin after this line, which is known to be right.")
def verify(clinic: str | None, heads: tuple[Path, ...], after: int) -> None:
    """Recompute the chain of the audit trail, and name the first line that is wrong."""
    settings = shell.settings()
    try:
        kept = trail_heads.read(*heads)
    except (ValueError, OSError) as error:
        raise OneLine(f"--heads: {error}") from error
    with shell.running(settings) as opened:
        clinics = shell.clinics(opened)
        asked = list(clinics) if clinic is None else [shell.one_clinic(opened, clinic)]
        gone = set() if clinic is not None else kept.keys() - clinics.keys()
        if gone:
            gone -= _shredded(opened)
        for one in sorted(gone):
            click.echo(f"{one}: this clinic is not here, and heads of it were published.")
        wrong = [_is_wrong(opened, (one, clinics[one]), kept.get(one, ()), after) for one in asked]
        if clinic is None:
            wrong.append(_operators_are_wrong(opened))
    sys.exit(1 if gone or any(wrong) else 0)


@contextlib.contextmanager
def _as_operators(opened: Opened) -> Iterator[Session]:
    engine = create_engine(opened.ways.operator)
    try:
        with Session(engine) as session:
            yield session
    finally:
        engine.dispose()


def _shredded(opened: Opened) -> set[UUID]:
    """The clinics that are not here because they were shredded: a line of the operators says so."""
    with _as_operators(opened) as session:
        return set(tenants.shredded(session))


def _operators_are_wrong(opened: Opened) -> bool:
    """Look through the trail of whoever runs the service. Whether something is wrong."""
    with _as_operators(opened) as session:
        fault = tenants.first_fault(session)
    if fault is not None:
        click.echo(f"Operators: line {fault.sequence} ({fault.id}) {fault.wrong}.")
    return fault is not None


def _is_wrong(opened: Opened, clinic: tuple[UUID, str], heads: Sequence[Head], after: int) -> bool:
    """Look through a clinic's trail, and say what is found. Whether something is wrong."""
    clinic_id, name = clinic
    with shell.session(opened) as session:
        enter_clinic(session, clinic_id)
        count = max(0, trail_heads.length(session) - after)

        def watched(lines: Iterable[Any]) -> Iterator[Any]:
            with click.progressbar(lines, count, label=name, file=sys.stderr) as shown:
                yield from shown

        fault = trail_heads.verify(session, heads, after=after, watched=watched)
    if fault is None:
        click.echo(f"{name} ({clinic_id}): lines looked at: {count}. All as written.")
        return False
    who = "" if fault.id is None else f" ({fault.id})"
    click.echo(f"{name} ({clinic_id}): line {fault.sequence}{who} {fault.wrong}.")
    return True
