"""Everything that the contract describes, tried by a client that wants to break it.

Schemathesis reads the OpenAPI document of a running service and makes up thousands of requests:
right ones, wrong ones, and sequences of them. Two clinics stand side by side, one key of each.
"""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

import operators
from database.access import Access, connect
from models.vocabulary import Role
from tests.factories import SUNDAY_NOON, make_world
from tests.fakes import MailServer
from tests.service import Service, give_keys, running

HERE = Path(__file__).parent
TRIES = 3
CASES = 2000
"""So many must have been tried, in all."""


def tried(service: Service, secret: str, folder: Path, *more: str) -> dict[str, Any]:
    """What came of a run: how many cases, and what failed.

    By one thread: in Python 3.11 `ast` counts how deep it is for all threads together, and two that
    read what lambdas say end each other's run.
    """
    report = folder / "report.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file"),
        *(str(HERE / "schemathesis.toml"), "run", f"{service.url}/api/openapi.json"),
        *("--header", f"Authorization: Bearer {secret}", "--checks", "all"),
        *("--continue-on-failure", "--workers", "1", "--no-color"),
        *("--report", "json", "--report-json-path", str(report), *more),
    ]
    told: dict[str, Any] = {}
    idle: set[str] = set()
    for _ in range(TRIES):
        ended = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONWARNINGS": "default"},
            capture_output=True,
            text=True,
            check=False,
        )
        told = json.loads(report.read_text())
        _, _, failures = ended.stdout.partition(" FAILURES ")  # long warnings follow them
        said = (failures or ended.stdout)[:9000] + ended.stderr[-2000:]
        assert not told["failures"], said
        # Now and then it breaks down by itself, or draws no sequence of calls that leads anywhere.
        idle = {name for name, phase in told["phases"].items() if phase["status"] == "skip"}
        if not told["errors"] and not idle:
            assert ended.returncode == 0, said
            return told
    pytest.fail(f"It broke down or did nothing {TRIES} times: {told['errors']}, {idle}")


@pytest.mark.timeout(1200)
def test_nothing_that_is_described_fails(
    database: Access, committed: Session, tmp_path: Path
) -> None:
    with running(database, tmp_path, MailServer(port=25), SUNDAY_NOON) as service:
        secrets = []
        for _ in range(2):
            world = make_world(committed)
            committed.commit()
            give_keys(service, committed, world.clinic_id, SUNDAY_NOON)
            secrets.append(service.secrets[Role.ADMIN])
        service.start("web")

        first = tried(service, secrets[0], tmp_path, "--max-examples", "3")
        second = tried(service, secrets[1], tmp_path, "--max-examples", "1")
        with connect(database.owner, autocommit=False) as connection:
            operator = operators.issue(connection, "ops", timedelta(days=1), SUNDAY_NOON)
        theirs = ("--include-path-regex", "^/api/v1/operator", "--max-examples", "5")
        third = tried(service, operator, tmp_path, *theirs)  # last: it shuts clinics

        told = service.log.read_text()

    for one in (first, second):
        assert {phase["status"] for phase in one["phases"].values()} == {"success"}, one["phases"]
    assert first["operations"]["tested"] == first["operations"]["total"] > 150
    assert first["test_cases"]["generated"] + second["test_cases"]["generated"] > CASES
    assert first["test_cases"]["with_failures"] == second["test_cases"]["with_failures"] == 0
    assert third["operations"]["tested"] == third["operations"]["selected"] > 10
    assert third["test_cases"]["with_failures"] == 0
    assert '"unexpected"' not in told
