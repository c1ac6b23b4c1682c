"""The database is restarted, killed and taken from under the workers while messages go out."""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from database import access, embedded, migrating, opening
from database.opening import Opened
from tests.crowd import DUE
from tests.faults.conftest import Begin, Note
from tests.faults.trial import Trial, many, trial, whole
from worker import GONE_QUIET

SECRET = "nothing here is worth a secret"

pytestmark = pytest.mark.faults


@pytest.fixture
def opened() -> Iterator[Opened]:
    """A PostgreSQL of the trial's own, to be maltreated."""
    if "DATABASE_URL" in os.environ:
        pytest.skip("about a server of our own")
    folder = Path(tempfile.mkdtemp(prefix="afterglow-fault-"))
    folder.chmod(0o711)
    found = opening.ways_in(None, folder / "postgres", SECRET)
    assert found.server is not None
    opening.start(found, folder / "postgres", SECRET)
    access.prepare(found.ways)
    migrating.upgrade(found.ways.owner)
    yield found
    embedded.stop(found.server)
    shutil.rmtree(folder, ignore_errors=True)


def restart(opened: Opened) -> None:
    """Stop it as an operator does, and start it again."""
    assert opened.server is not None
    embedded.stop(opened.server)
    opening.start(opened, opened.server.home, SECRET)


def kill(opened: Opened) -> None:
    """SIGKILL to every process of it, and start it again."""
    assert opened.server is not None
    postmaster = psutil.Process(int((opened.server.data / "postmaster.pid").read_text().split()[0]))
    for process in [postmaster, *postmaster.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    opening.start(opened, opened.server.home, SECRET)


@pytest.mark.parametrize(
    ("maltreat", "how"),
    [(restart, "restarted"), (kill, "killed")],
    ids=["restarted", "killed"],
)
def test_postgresql_goes_away_in_the_midst(
    opened: Opened,
    tmp_path: Path,
    note: Note,
    request: pytest.FixtureRequest,
    maltreat: object,
    how: str,
) -> None:
    number = many(120, 1500)
    with trial(opened.ways, tmp_path, number, request.node.name) as tried:
        tried.crowd.plan(number)
        tried.mail.pause = 0.05
        tried.service.set_clock(DUE, swept=False)
        tried.start("worker1", "worker2")
        times = many(2, 6)
        for turn in range(times):
            tried.wait_until_said(min((turn + 1) * number // (times + 2), number - 10))
            time.sleep(tried.rng.uniform(0, 0.1))
            assert callable(maltreat)
            maltreat(opened)

        tried.come_to_rest()

        row = tried.verdict(f"PostgreSQL {how} in the midst, {times} times")
        # The result of a letter is tried again while the database is away, so most are known.
        assert row.uncertain <= 8 * times
        note(row)


@whole
def test_a_database_that_is_silent_is_given_up(
    opened: Opened, tmp_path: Path, note: Note, request: pytest.FixtureRequest
) -> None:
    """Open connections that say nothing, as when a network is cut: the watchdog ends the worker."""
    with trial(opened.ways, tmp_path, 200, request.node.name) as tried:
        tried.crowd.plan(200)
        tried.mail.pause = 0.02
        tried.service.set_clock(DUE, swept=False)
        tried.start("worker1")
        tried.wait_until_said(40)
        with tried.crowd.owner() as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE usename = %s",
                [opened.ways.worker.username],
            ).fetchall()
        for (pid,) in found:
            os.kill(pid, signal.SIGSTOP)
        stuck = tried.service.processes.pop("worker1")
        try:
            assert stuck.wait(90) == GONE_QUIET
        finally:
            for (pid,) in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

        tried.come_to_rest()

        row = tried.verdict("a database that is silent: the watchdog ends the worker")
        assert row.uncertain <= 4
        note(row)


def test_connections_are_cut(begin: Begin, note: Note) -> None:
    number = many(120, 1500)
    tried = begin(number)
    tried.crowd.plan(number)
    tried.mail.pause = 0.02
    tried.service.set_clock(DUE, swept=False)
    tried.start("worker1", "worker2")
    cuts = 0
    while tried.count("scheduled"):
        time.sleep(tried.rng.uniform(0.1, 0.8))
        tried.clock_goes_on()
        cuts += cut(tried)

    tried.come_to_rest()

    row = tried.verdict("the workers' connections cut again and again")
    assert cuts
    assert row.uncertain <= 8
    note(row)


def cut(tried: Trial) -> int:
    """End one of the workers' connections."""
    with psycopg.connect(
        access.psycopg_url(tried.crowd.ways.worker), autocommit=True
    ) as connection:
        found = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE usename = current_user AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
        ).fetchall()
    return len(found)
