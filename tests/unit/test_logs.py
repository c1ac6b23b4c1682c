"""Log lines, and what becomes of them when nobody reads them any more."""

import os
import subprocess
import sys

from tests.service import ROOT

PROGRAM = """
import sys
import structlog
import logs
logs.set_up("info")
log = structlog.get_logger()
sys.stdin.readline()
for number in range(1000):
    log.info("something.happened", number=number)
print("served on", flush=True)
"""


def test_who_logs_goes_on_when_its_reader_has_died() -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
    ) as process:
        os.close(writer)
        os.close(reader)  # as a killed supervisor does
        told, _ = process.communicate("go\n", timeout=30)

    assert told == "served on\n"
