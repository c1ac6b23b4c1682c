"""The whole service as real processes: web, worker, database, mail server, and a clock to set."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from api import keys
from database.access import Access
from database.scratch import SECRET
from models import enter_clinic
from models.vocabulary import Role
from tests.fakes import MailServer, free_port

ROOT = Path(__file__).parents[1]


@dataclass
class Service:
    """Running processes, and how to talk to them."""

    ways: Access
    folder: Path
    mail: MailServer
    port: int = field(default_factory=free_port)
    secrets: dict[Role, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    more: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def clock_file(self) -> Path:
        return self.folder / "clock"

    @property
    def log(self) -> Path:
        return self.folder / "service.log"

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DATABASE_URL": self.ways.owner.render_as_string(hide_password=False).replace(
                "+psycopg", ""
            ),
            "AFTERGLOW_SECRET": SECRET,
            "AFTERGLOW_VAR": str(self.folder),
            "AFTERGLOW_CLOCK": str(self.clock_file),
            "AFTERGLOW_PUBLIC_URL": self.url,
            "AFTERGLOW_SWEEP_SECONDS": "0.2",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self.mail.port),
            "SMTP_SECURITY": "none",
            "PORT": str(self.port),
            "PYTHONTZPATH": "",
            "PYTHONWARNINGS": "default",
            "REQUESTS_PER_MINUTE": "1000000000",
            **self.more,
        }

    def start(self, name: str, **more: str) -> None:
        commands = {
            "web": [
                *("-m", "granian", "--interface", "wsgi", "--factory", "--no-ws"),
                *(
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(self.port),
                    "--workers",
                    self.more.get("WEB_WORKERS", "1"),
                ),
                *(
                    "--blocking-threads",
                    self.more.get("WEB_THREADS", "8"),
                    "--no-access-log",
                    "app:create_app",
                ),
            ],
            "worker": ["-m", "worker"],
        }
        with self.log.open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *commands[name.rstrip("0123456789")]],
                cwd=ROOT,
                env={**self.environment(), **more},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if name == "web":
            self.wait_until(self._answers, "the web to answer", seconds=90)

    def kill(self, name: str) -> None:
        """SIGKILL, to the process and all its children."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def stop(self, *names: str) -> None:
        """Ask the processes named, or all, to end, and see that they do."""
        stopped = [self.processes.pop(name) for name in names or tuple(self.processes)]
        for process in stopped:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)  # a frozen one hears nothing
                os.killpg(process.pid, signal.SIGTERM)
        for process in stopped:
            try:
                process.wait(25)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)

    def call(
        self, role: Role, method: str, path: str, json: Any = None, **headers: str
    ) -> requests.Response:
        return requests.request(
            method,
            f"{self.url}/api/v1{path}",
            json=json,
            headers={"Authorization": f"Bearer {self.secrets[role]}", **headers},
            timeout=30,
        )

    def set_clock(self, now: datetime, *, swept: bool = True) -> None:
        """Move everybody to `now`; with `swept`, wait until the worker has looked as of then."""
        half = self.clock_file.with_suffix(".half")
        half.write_text(now.astimezone(UTC).isoformat())
        half.rename(self.clock_file)
        if swept:
            self.wait_until(lambda: self._swept_until(now), f"a sweep as of {now}")

    def wait_until(self, holds: Any, what: str, seconds: float = 30) -> None:
        give_up = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < give_up, (
                f"waited in vain for {what}; {self.log.read_text()[-2000:]}"
            )
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health/live", timeout=5).ok
        except requests.RequestException:
            return False

    def _swept_until(self, now: datetime) -> bool:
        engine = create_engine(self.ways.worker)
        with engine.connect() as connection:
            swept = connection.scalar(text("SELECT max(swept_until) FROM worker"))
        engine.dispose()
        return swept is not None and swept >= now


@contextmanager
def running(
    ways: Access, folder: Path, mail: MailServer, now: datetime, *processes: str
) -> Iterator[Service]:
    """Run the service on a database that has a clinic already."""
    service = Service(ways, folder, mail)
    service.set_clock(now, swept=False)
    try:
        for name in processes:
            service.start(name)
        yield service
    finally:
        service.stop()


def give_keys(
    service: Service, session: Session, clinic_id: Any, now: datetime, **behind: Any
) -> None:
    """Make a key for each role; `behind` names the practitioner behind the clinician's."""
    enter_clinic(session, clinic_id)
    for role in Role:
        _, service.secrets[role] = keys.issue(session, str(role), role, behind.get(role.value), now)
    session.commit()
