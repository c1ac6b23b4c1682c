"""The worker's line of the Procfile: begun anew while somebody supervises it, and only then."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.service import ROOT

LINES = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())

Start = Callable[[int, int], subprocess.Popen[bytes]]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[BinaryIO]:
    """A pipe into which every worker that is begun writes a line; nobody waits to write."""
    os.mkfifo(tmp_path / "told")
    with (tmp_path / "told").open("r+b", buffering=0) as pipe:
        yield pipe


@pytest.fixture
def start(tmp_path: Path, told: BinaryIO) -> Iterator[Start]:
    """Start the line with a worker that ends at once with a code, under a supervisor."""
    begun: list[subprocess.Popen[bytes]] = []

    def run(code: int, supervisor: int) -> subprocess.Popen[bytes]:
        worker = tmp_path / "python"
        worker.write_text(f"#!/bin/sh\necho begun > {told.name}\nexit {code}\n")
        worker.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SUPERVISOR": str(supervisor),
        }
        begun.append(subprocess.Popen(["sh", "-c", LINES["worker"]], env=environment))
        return begun[-1]

    yield run
    for one in begun:
        one.kill()
        one.wait()


def test_one_that_fails_is_begun_anew_until_the_supervisor_is_gone(
    told: BinaryIO, start: Start
) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    line = start(1, supervisor.pid)
    assert [told.readline() for _ in range(3)] == [b"begun\n"] * 3
    supervisor.kill()
    supervisor.communicate()

    assert line.wait(30) == 0


def test_one_that_must_not_be_begun_anew_is_not(told: BinaryIO, start: Start) -> None:
    line = start(2, os.getpid())
    assert told.readline() == b"begun\n"
    assert line.wait(30) == 0
