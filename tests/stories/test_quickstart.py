"""A developer's first hour, as docs/quickstart.md has it, line by line."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.fakes import free_port
from tests.service import ROOT

PAGE = (ROOT / "docs/quickstart.md").read_text()


def blocks(language: str) -> list[str]:
    """What stands in fences of a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A clinic from one command, as the page says."""
    folder = tmp_path_factory.mktemp("quickstart")
    port = str(free_port())
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DATABASE_URL"},
        "AFTERGLOW_VAR": str(folder),
        "PORT": port,
        "WEBHOOK_NETWORKS": "127.0.0.0/8",
        "PYTHONPATH": str(ROOT),
        "PYTHONTZPATH": "",
    }
    command = [sys.executable, "-c", "import cli; cli.main(['up'])"]
    with (folder / "log").open("wb") as log:
        clinic = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            give_up = time.monotonic() + 200
            while not _answers(port) or not (folder / "demo.json").exists():
                assert clinic.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < give_up, (folder / "log").read_text()
                time.sleep(0.2)
            yield environment
        finally:
            clinic.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                clinic.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(clinic.pid, signal.SIGKILL)


def _answers(port: str) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health/live", timeout=5).ok
    except requests.RequestException:
        return False


def run(command: list[str], environment: dict[str, str]) -> str:
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    log = Path(environment["AFTERGLOW_VAR"], "log").read_text()[-2000:]
    assert ended.returncode == 0, (ended.stdout, ended.stderr, log)
    return ended.stdout


def test_with_curl(environment: dict[str, str]) -> None:
    script = "set -euo pipefail\n" + "\n".join(blocks("sh"))
    told = run(["bash", "-c", script], environment)

    assert "Nobody has cleared it yet." in told
    assert '"status": "booked"' in told
    assert "verified appointment.booked" in told  # two programs write there at once


def test_in_python(environment: dict[str, str]) -> None:
    [script] = blocks("python")
    told = run([sys.executable, "-c", script], environment)

    assert re.fullmatch(r"\d+ visits; verified appointment\.booked\n", told)
