"""A clinic loses its machine and comes back from last night's backup: nobody hears anything twice.

Real processes: the worker, a mail server, and the commands as an operator gives them.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from database import access
from database.access import Access
from database.scratch import scratch
from tests.crowd import DUE, NOW, Crowd, gather
from tests.fakes import mail_server
from tests.service import ROOT, Service, running

HOUR = timedelta(hours=1)
PATIENTS = 8


@pytest.fixture
def machine() -> Iterator[Access]:
    """A database to which nobody else has a connection."""
    with scratch(os.environ.get("DATABASE_URL")) as ways:
        yield ways


@pytest.fixture
def service(machine: Access, tmp_path: Path) -> Iterator[Service]:
    with mail_server() as mail, running(machine, tmp_path, mail, NOW) as service:
        yield service


@pytest.fixture
def crowd(machine: Access, service: Service) -> Crowd:
    """Each patient is reminded an hour from now, and once more two hours later."""
    crowd = gather(machine, PATIENTS)
    crowd.run("UPDATE clinic SET quiet_from = '00:00', quiet_until = '00:00'", {})
    crowd.plan(PATIENTS)
    crowd.run(
        "UPDATE message SET rule = 'soon' WHERE rule = 'r0'",
        {},
    )
    crowd.plan(PATIENTS, DUE + 2 * HOUR, kind="overview")
    return crowd


def afterglow(service: Service, *arguments: str, fails: int = 0) -> str:
    """Give a command, as from a shell, and return what it said."""
    done = subprocess.run(
        [sys.executable, "-c", "import cli; cli.main()", *arguments],
        cwd=ROOT,
        env=service.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def said(service: Service) -> Counter[str]:
    """How often each message was taken by the mail server."""
    return Counter(str(mail["Message-ID"]) for mail in service.mail.mails)


def states(crowd: Crowd, rule: str) -> Counter[str]:
    with crowd.connect() as connection:
        found = connection.execute("SELECT state FROM message WHERE rule = %s", [rule]).fetchall()
    return Counter(state for (state,) in found)


def test_what_was_said_after_the_backup_is_not_said_again(
    service: Service, crowd: Crowd, tmp_path: Path
) -> None:
    backup = str(tmp_path / "last-night.backup")
    told = afterglow(service, "backup", backup)
    assert "clinics: 1, " in told
    service.start("worker")
    service.set_clock(DUE)
    service.mail.wait_for(PATIENTS)
    assert "Stop web and worker first" in afterglow(
        service, "restore", backup, "--replace", fails=2
    )
    service.stop("worker")
    service.set_clock(DUE + HOUR, swept=False)

    assert "is not empty" in afterglow(service, "restore", backup, fails=2)
    told = afterglow(service, "restore", backup, "--replace")

    assert f"{PATIENTS} messages were due by now" in told
    assert "afterglow resume" in told
    assert states(crowd, "soon") == {"uncertain": PATIENTS}
    assert states(crowd, "r0") == {"scheduled": PATIENTS}
    service.start("worker")
    service.set_clock(DUE + 3 * HOUR)
    assert len(service.mail.mails) == PATIENTS
    assert states(crowd, "r0") == {"scheduled": PATIENTS}
    assert f"{PATIENTS} messages go out at once" in afterglow(service, "resume", "--yes")
    service.wait_until(
        lambda: states(crowd, "r0") == {"sent": PATIENTS}, "what was due later to be sent"
    )
    assert states(crowd, "soon") == {"uncertain": PATIENTS}
    assert set(said(service).values()) == {1}
    assert "Nothing is held" in afterglow(service, "resume")
    with access.connect(crowd.ways.owner) as connection:
        assert acts(connection) == ["execute", "execute"]


def acts(connection: psycopg.Connection) -> list[str]:
    connection.execute("SET afterglow.backup = 'on'")
    found = connection.execute("SELECT action FROM audit_event ORDER BY sequence").fetchall()
    return [action for (action,) in found]


def test_a_visit_that_the_backup_does_not_know_was_had_is_no_noshow_until_somebody_looked(
    service: Service, crowd: Crowd, tmp_path: Path
) -> None:
    backup = str(tmp_path / "last-night.backup")
    afterglow(service, "backup", backup, "--no-verify")
    service.set_clock(NOW + timedelta(days=3), swept=False)  # the visits are over
    afterglow(service, "restore", backup, "--replace")
    service.start("worker")
    service.set_clock(NOW + timedelta(days=3, minutes=10))

    with crowd.owner() as connection:
        found = connection.execute("SELECT DISTINCT status FROM appointment").fetchall()
    assert found == [("booked",)]

    afterglow(service, "resume", "--yes")
    service.stop("worker")
    service.start("worker")  # its jobs run at once

    def missed() -> bool:
        with crowd.owner() as connection:
            return connection.execute("SELECT DISTINCT status FROM appointment").fetchall() == [
                ("noshow",)
            ]

    service.wait_until(missed, "what nobody entered to count as missed")
