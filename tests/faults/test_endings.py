"""Web and worker are asked to end: they finish what they have in hand, begin nothing, and go."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import text
from sqlalchemy.orm import Session

from database import access
from database.access import Access
from models import enter_clinic
from models.vocabulary import Role
from tests.conftest import clean
from tests.crowd import DUE
from tests.factories import MONDAY_9, SUNDAY_NOON, World
from tests.fakes import mail_server
from tests.faults.conftest import Begin
from tests.service import Service, give_keys, running

pytestmark = pytest.mark.faults

WEB_SECONDS, WORKER_SECONDS = 20, 30
"""A statement may take 15 s, a letter 20 s; and then some to end."""


@pytest.fixture
def web(
    database: Access, committed: Session, committed_world: World, tmp_path: Path
) -> Iterator[Service]:
    limited = f"ALTER ROLE {database.service.username} SET lock_timeout = '{{}}'"
    with (
        access.connect(database.owner) as owner,
        mail_server() as mail,
        running(database, tmp_path, mail, SUNDAY_NOON) as service,
    ):
        owner.execute(limited.format("14s"))  # this machine may be slow just then
        give_keys(service, committed, committed_world.clinic_id, SUNDAY_NOON)
        service.more["WEB_WORKERS"] = "1"
        service.start("web")
        # Granian tells one process after the other, and not those that have not started yet.
        service.wait_until(lambda: "Started worker-1" in service.log.read_text(), "it to start")
        yield service
        owner.execute(limited.format(access.LIMITS["lock_timeout"]))
    clean(database)


def test_the_web_answers_what_it_has_in_hand_and_takes_nothing_new(
    web: Service, committed: Session, committed_world: World, database: Access
) -> None:
    order = {
        "patient_id": str(committed_world.patient_id),
        "step_kind": "preparation",
        "starts_at": MONDAY_9.isoformat(),
    }
    answers: list[requests.Response] = []
    caller = threading.Thread(
        target=lambda: answers.append(web.call(Role.SCHEDULER, "POST", "/appointments", order))
    )
    with access.connect(database.owner, autocommit=False) as holder:
        # What a booking writes first and last waits for us; that is how it is in hand for a while.
        holder.execute("LOCK TABLE appointment IN SHARE MODE")
        caller.start()
        web.wait_until(lambda: waiting(database), "the booking to be in hand")
        process = web.processes.pop("web")
        asked = time.monotonic()
        _ask_to_end(web, process)
        assert process.poll() is None
        holder.rollback()
    caller.join(20)
    assert process.wait(WEB_SECONDS) == 0
    assert time.monotonic() - asked < WEB_SECONDS

    [answer] = answers
    assert answer.status_code == 201, answer.text
    enter_clinic(committed, committed_world.clinic_id)
    booked = committed.execute(text("SELECT count(*) FROM appointment")).scalar()
    committed.rollback()
    assert booked == 1


def waiting(database: Access) -> bool:
    with access.connect(database.owner) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            " WHERE NOT granted AND locktype = 'relation' AND datname = current_database()"
        ).fetchall()
    return bool(found[0][0])


def _ask_to_end(web: Service, process: subprocess.Popen[bytes]) -> None:
    """Tell all its processes, as those do who start it, until it takes nothing new.

    Now and then granian overhears one that comes just as a request does; then it takes what comes
    until its parent's patience ends (--workers-kill-timeout), or until it is told once more.
    """
    for _ in range(5):
        os.killpg(process.pid, signal.SIGTERM)
        give_up = time.monotonic() + 1.5
        while time.monotonic() < give_up:
            if refused(web):
                return
            time.sleep(0.05)
    raise AssertionError(f"It takes what comes; {web.log.read_text()[-2000:]}")


def refused(web: Service) -> bool:
    try:
        requests.get(f"{web.url}/health/live", timeout=1)
    except requests.RequestException:
        return True
    return False


def test_a_worker_finishes_its_letters_and_claims_no_more(begin: Begin) -> None:
    trial = begin(60)
    trial.crowd.plan(60)
    trial.mail.pause = 0.5
    trial.service.set_clock(DUE, swept=False)
    trial.start("worker1")
    trial.wait_until_said(4)

    process = trial.service.processes.pop("worker1")
    process.terminate()
    asked = time.monotonic()
    assert process.wait(WORKER_SECONDS) == 0
    assert time.monotonic() - asked < WORKER_SECONDS

    said = trial.said()
    assert trial.count("sending", "uncertain") == 0
    assert trial.count("sent") == len(said)
    assert trial.count("scheduled") == 60 - len(said)
    assert len(said) < 60
    told: Any = trial.service.log.read_text()
    assert "worker.stopped" in told

    trial.mail.pause = 0
    trial.come_to_rest()
    assert trial.verdict("asked to end in the midst").uncertain == 0
