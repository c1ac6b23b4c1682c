"""Log lines, and what becomes of them when nobody reads them any more."""

import json
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

LEAKS = """
import logging
import threading
import structlog
import logs
logs.set_up("debug")
logs.catch_the_uncaught()
logging.getLogger("driver").warning("wrote to %s", "Ada Marked")
logging.getLogger("driver").warning("wrote to Ada Marked")
def fail():
    error = ValueError("DETAIL: Key (email)=(Ada Marked)")
    error.add_note("Ada Marked")
    raise error
try:
    fail()
except ValueError as error:
    logging.getLogger("scheduler").exception("job %s raised", "Ada Marked")
    structlog.get_logger().exception("ours")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
try:
    fail()
except ValueError as error:
    raise RuntimeError("for Ada Marked") from error
"""

TWICE = """
import structlog
import logs
from structlog.testing import capture_logs
log = structlog.get_logger()
logs.set_up("error")
log.error("first")
logs.set_up("error")
with capture_logs() as lines:
    log.error("second")
print([line["event"] for line in lines])
"""


def test_who_logged_before_logs_were_set_up_anew_is_heard() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWICE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "['second']\n"


def test_what_libraries_log_and_nobody_catches_loses_its_values() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAKS], cwd=ROOT, capture_output=True, text=True, check=False
    )

    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in told] == [*["library"] * 3, "ours", *["uncaught"] * 2]
    assert told[0]["said"] == "wrote to %s"
    assert told[2]["exception"][0]["exc_type"] == "ValueError"
    assert "Marked" not in done.stderr
    assert "DETAIL" not in done.stderr


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
