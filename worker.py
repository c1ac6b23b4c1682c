"""The clock process: delivers messages, and does what the passing of time does to clinics.

APScheduler only wakes code and owns no state: its jobs are declared anew at each start, in
memory. What is to be done stands in the database, so any number of workers may run, and any of
them may be killed at any time.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

import clock
import config
import logs
from database import access, migrating, opening
from models import enter_clinic
from notifications.channels import Channel
from notifications.channels.folder import FolderChannel
from notifications.channels.smtp import Server, SmtpChannel
from notifications.delivery import Delivery
from notifications.dispatcher import Dispatcher
from scheduler.jobs import JOBS, Job

WATCHDOG_SECONDS = 30
GONE_QUIET = 70
"""The exit code of a worker that found itself stuck. Whoever supervises starts another."""

log = structlog.get_logger()


@dataclass(slots=True)
class Worker:
    """One worker process."""

    engine: Engine
    delivery: Delivery
    dispatcher: Dispatcher
    sweep_seconds: float
    id: UUID = field(default_factory=uuid7)
    stop: threading.Event = field(default_factory=threading.Event)
    ticked_at: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Work until told to stop; then finish what is in hand."""
        scheduler = self._scheduler()
        dispatching = threading.Thread(target=self.dispatcher.run, name="dispatcher", daemon=True)
        scheduler.start()
        dispatching.start()
        log.info("worker.started", worker_id=str(self.id))
        while not self.stop.wait(1):
            self._watch()
        self.delivery.stop.set()
        self.dispatcher.stop.set()
        dispatching.join(20)
        scheduler.shutdown(wait=True)
        self.delivery.channel.close()
        log.info("worker.stopped", worker_id=str(self.id))

    def sweep(self) -> None:
        """Deliver what is due, and say that we are alive and how far we got."""
        until = self.delivery.clock()
        self.delivery.sweep()
        with self.engine.begin() as connection:
            connection.execute(
                _BEAT,
                {
                    "id": self.id,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "until": until,
                },
            )
        self.ticked_at = time.monotonic()

    def do(self, job: Job) -> None:
        """Run a job for every clinic, each in a transaction of its own."""
        with self.engine.begin() as connection:
            clinics = connection.execute(text("SELECT clinic_id FROM clinic")).scalars().all()
        for clinic_id in clinics:
            try:
                self._do(job, clinic_id)
            except Exception:  # one clinic's trouble is not another's
                log.exception("job.failed", job=job.name, clinic_id=str(clinic_id))

    def _do(self, job: Job, clinic_id: UUID) -> None:
        with Session(self.engine) as session:
            enter_clinic(session, clinic_id)
            if not session.scalar(_ONE_AT_A_TIME, {"job": f"{job.name} {clinic_id}"}):
                return  # another worker is at it
            touched = job.run(session, self.delivery.clock())
            session.commit()
        if touched:
            log.info("job.done", job=job.name, clinic_id=str(clinic_id), rows=touched)

    def _scheduler(self) -> BackgroundScheduler:
        scheduler = BackgroundScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        now = datetime.now(UTC)
        every: list[tuple[str, float, Callable[[], None]]] = [
            ("sweep", self.sweep_seconds, self.sweep),
            ("tidy", 5.0, self.delivery.tidy),
        ]
        every += [(job.name, job.every.total_seconds(), partial(self.do, job)) for job in JOBS]
        for name, seconds, run in every:
            scheduler.add_job(run, "interval", id=name, seconds=seconds, next_run_time=now)
        return scheduler

    def _watch(self) -> None:
        """End the process if its clock or its dispatcher has stopped: a fresh one works."""
        oldest = min(self.ticked_at, self.dispatcher.ticked_at)
        last = max(oldest, self.delivery.ticked_at)  # one of them may wait for the other's sweep
        if time.monotonic() - last > WATCHDOG_SECONDS:
            log.error("worker.stuck", worker_id=str(self.id))
            os._exit(GONE_QUIET)


def make(settings: config.Settings) -> Worker:
    """Put a worker together, or refuse: Unreachable, in one line."""
    opened = opening.ways_in(settings.database_url, settings.var / "postgres", settings.secret)
    ways = opened.ways
    with access.connect(ways.worker) as connection:
        access.refuse_unsafe_role(connection)
    if (at := migrating.current(ways.worker)) != migrating.head():
        raise access.Unreachable(
            f"The database is at migration {at}, this code is at {migrating.head()}: "
            "run `afterglow migrate`."
        )
    # Parameters may be a person's: they never reach a log by way of an exception.
    engine = create_engine(ways.worker, pool_pre_ping=True, pool_size=5, hide_parameters=True)
    delivery = Delivery(
        engine,
        _channel(settings),
        clock.clock(settings.clock_file),
        settings.public_url,
        at=_ending_at(os.environ.get("AFTERGLOW_DIE_AT")),
    )
    pause = 5.0 if settings.clock_file is None else 0.2
    dispatcher = Dispatcher(delivery, lambda: access.connect(ways.worker), longest_sleep=pause)
    return Worker(engine, delivery, dispatcher, settings.sweep_seconds)


def main() -> int:
    """Run a worker until SIGTERM or SIGINT."""
    try:
        settings = config.load()
        logs.set_up(settings.log_level)
        worker = make(settings)
    except (config.BadSetting, access.Unreachable) as error:
        sys.stderr.write(f"afterglow worker: {error}\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: worker.stop.set())
    signal.signal(signal.SIGINT, lambda *_: worker.stop.set())
    worker.run()
    return 0


def _channel(settings: config.Settings) -> Channel:
    smtp = settings.smtp
    if smtp is None:
        return FolderChannel(settings.outbox)
    return SmtpChannel(
        Server(
            host=smtp.host,
            port=smtp.port,
            security=smtp.security,
            username=smtp.username,
            password=smtp.password,
        )
    )


def _ending_at(wanted: str | None) -> Callable[[str], None]:
    """For tests of faults: end this process, as a crash would, at a point of a message's way."""

    def at(point: str) -> None:
        if point == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


_BEAT = text(
    """
    INSERT INTO worker (id, host, pid, seen_at, swept_until)
    VALUES (:id, :host, :pid, clock_timestamp(), :until)
    ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp(), swept_until = :until
    """
)

_ONE_AT_A_TIME = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:job, 0))")

if __name__ == "__main__":
    sys.exit(main())
