"""The clock process: delivers messages, and does what the passing of time does to clinics.

APScheduler only wakes code and owns no state: its jobs are declared anew at each start, in
memory. What is to be done stands in the database, so any number of workers may run, and any of
them may be killed at any time.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

import clock
import config
import logs
import vault
from archiving import Archiver
from database import access, migrating, opening
from intake.bulk import Importer
from intake.feeds import Refresher
from intake.fetching import Fetcher
from models import enter_clinic
from models.vocabulary import Channel as ChannelCode
from models.vocabulary import TenancyStatus
from notifications import hooks, queue, reading
from notifications.channels import Channel
from notifications.channels.failover import Failover, Provider
from notifications.channels.folder import FolderChannel
from notifications.channels.sms import Account, SmsChannel
from notifications.channels.smtp import Server, SmtpChannel
from notifications.delivery import Delivery, Rate
from notifications.dispatcher import Dispatcher
from notifications.herald import Herald
from notifications.outside import Outside
from scheduler import apart, evidence, heads, tenants
from scheduler.jobs import JOBS, Job

SHREDDED_AT_ONCE = 2000
"""Rows of a clinic that go in one transaction: no other clinic waits long behind it."""

STANDING = (TenancyStatus.ACTIVE, TenancyStatus.SUSPENDED, TenancyStatus.CLOSED)
"""Clinics that are here, whether their doors are open or not."""

WATCHDOG_SECONDS = 30
GONE_QUIET = 70
"""The exit code of a worker that found itself stuck. Whoever supervises starts another."""

log = structlog.get_logger()


@dataclass(slots=True)
class Worker:
    """One worker process."""

    engine: Engine
    clock: Callable[[], datetime]
    deliveries: Sequence[Delivery]
    """One for each channel: a slow one does not hold up the others."""
    dispatchers: Sequence[Dispatcher]
    refresher: Refresher
    importer: Importer
    sweep_seconds: float
    heads: Path
    """Where the heads of the audit trail are written."""
    heralds: Sequence[Herald] = ()
    """One for each webhook that is told at the same time."""
    hook_dispatchers: Sequence[Dispatcher] = ()
    """One for each herald."""
    id: UUID = field(default_factory=uuid7)
    stop: threading.Event = field(default_factory=threading.Event)
    ticked_at: float = field(default_factory=time.monotonic)
    resting_since: datetime | None = None
    archiver: Archiver | None = None
    """Who writes the archives that clinics ask for. None: nobody here."""
    at: Callable[[str], None] = lambda _: None
    """Told of some points on its way. For tests of faults."""

    def run(self) -> None:
        """Work until told to stop; then finish what is in hand."""
        scheduler = self._scheduler()
        dispatching = [
            threading.Thread(target=one.run, name=f"dispatcher-{one.woken_by}", daemon=True)
            for one in (*self.dispatchers, *self.hook_dispatchers)
        ]
        scheduler.start()
        for thread in dispatching:
            thread.start()
        log.info("worker.started", worker_id=str(self.id))
        while not self.stop.wait(1):
            self._watch()
        for dispatcher in (*self.dispatchers, *self.hook_dispatchers):
            dispatcher.delivery.stop.set()
            dispatcher.stop.set()
        self.refresher.stop.set()
        self.importer.stop.set()
        if self.archiver is not None:
            self.archiver.stop.set()
        for thread in dispatching:
            thread.join(20)
        scheduler.shutdown(wait=True)
        for delivery in self.deliveries:
            delivery.close()
        for herald in self.heralds:
            herald.close()
        log.info("worker.stopped", worker_id=str(self.id))

    def sweep(self) -> None:
        """Deliver what is due, and say that we are alive and how far we got."""
        until = self.clock()
        for delivery in self.deliveries:
            delivery.sweep()
        with self.engine.begin() as connection:
            connection.execute(
                _BEAT,
                {
                    "id": self.id,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "until": until,
                    "stats": json.dumps(self._stats()),
                },
            )
        self.ticked_at = time.monotonic()

    def _stats(self) -> dict[str, Any]:
        by_channel = {one.code.value: one.stats.told() for one in self.deliveries}
        hooks_told = Counter[str]()
        for herald in self.heralds:
            hooks_told.update(herald.outcomes)
        own = {"failures": apart.failures(), "webhooks": dict(hooks_told), "audit": heads.broken()}
        return {**by_channel, **own}

    def tidy(self) -> None:
        """Take back what dead workers held, say again what may be, tell what comes too late."""
        if self.rests():
            return
        self.deliveries[0].tidy()  # of every channel
        for delivery in self.deliveries:
            delivery.resolve()
            delivery.alarm()

    def tidy_webhooks(self) -> None:
        """Take back the deliveries that dead workers held: they are sent again."""
        with Session(self.engine) as session, session.begin():
            reaped = hooks.reap(reading.raw(session))
        if reaped:
            log.warning("webhooks.tidied", reaped=reaped)

    def do(self, job: Job) -> None:
        """Run a job for every clinic, each in a transaction of its own."""
        if self.rests():
            return
        for clinic_id in self._clinics(*(STANDING if job.shut_too else ())):
            try:
                while self._do(job, clinic_id) and job.again and not self.stop.is_set():
                    pass
            except Exception:  # one clinic's trouble is not another's
                apart.note_failure(job.name)
                log.exception("job.failed", job=job.name, clinic_id=str(clinic_id))

    def rests(self) -> bool:
        """Whether the database was restored, and nobody has looked through it yet.

        What happened since the backup is not in it: a job would take visits that were had for
        missed, and tell people so.
        """
        with Session(self.engine) as session:
            since = queue.resting_since(reading.raw(session))
        if since != self.resting_since:
            self.resting_since = since
            log.warning("worker.rests" if since else "worker.resumes")
        return since is not None

    def refresh_feeds(self) -> None:
        """Fetch the calendars kept elsewhere that are due."""
        self.refresher.refresh(self._clinics())

    def ship_heads(self) -> None:
        """Write the published heads of the audit trail where they can be kept from here."""
        for clinic_id in self._clinics(*STANDING):
            with Session(self.engine) as session:
                enter_clinic(session, clinic_id)
                heads.ship(session, self.heads)

    def read_in(self) -> None:
        """Read the files that clinics have handed in."""
        self.importer.work(self._clinics())

    def archive(self) -> None:
        """Write the archives that clinics have asked for."""
        if self.archiver is not None and not self.rests():
            self.archiver.work(self._clinics(TenancyStatus.ACTIVE, TenancyStatus.CLOSED))

    def shred(self) -> None:
        """Delete what is left of the clinics whose shredding was ordered.

        Not while we rest: whoever restored a backup may want that clinic back.
        """
        if self.rests():
            return
        for clinic_id in self._clinics(TenancyStatus.SHREDDING):
            while not self.stop.is_set():
                with Session(self.engine) as session, session.begin():
                    gone = tenants.shred(session, clinic_id, SHREDDED_AT_ONCE, self.clock())
                if not gone:
                    break
                self.at("shredding")

    def _clinics(self, *statuses: TenancyStatus) -> Sequence[UUID]:
        """Those of which the doors are open, or that stand as is asked."""
        asked = {"statuses": [one.value for one in statuses or (TenancyStatus.ACTIVE,)]}
        with self.engine.begin() as connection:
            return connection.execute(_CLINICS, asked).scalars().all()

    def _do(self, job: Job, clinic_id: UUID) -> int:
        with Session(self.engine) as session:
            enter_clinic(session, clinic_id)
            if not session.scalar(_ONE_AT_A_TIME, {"job": f"{job.name} {clinic_id}"}):
                return 0  # another worker is at it
            touched = job.run(session, self.clock())
            session.commit()
        if touched:
            log.info("job.done", job=job.name, clinic_id=str(clinic_id), rows=touched)
        return touched

    def _scheduler(self) -> BackgroundScheduler:
        scheduler = BackgroundScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        now = datetime.now(UTC)
        every: list[tuple[str, float, Callable[[], None]]] = [
            ("sweep", self.sweep_seconds, self.sweep),
            ("tidy", 5.0, self.tidy),
            ("tidy-webhooks", 5.0, self.tidy_webhooks),
            ("refresh-feeds", 5 * self.sweep_seconds, self.refresh_feeds),
            ("ship-heads", 60.0, self.ship_heads),
            ("read-in", self.sweep_seconds, self.read_in),
            ("archive", self.sweep_seconds, self.archive),
            ("shred", self.sweep_seconds, self.shred),
        ]
        every += [(job.name, job.every.total_seconds(), partial(self.do, job)) for job in JOBS]
        for name, seconds, run in every:
            scheduler.add_job(run, "interval", id=name, seconds=seconds, next_run_time=now)
        return scheduler

    def _watch(self) -> None:
        """End the process if its clock or its dispatcher has stopped: a fresh one works."""
        oldest = min(self.ticked_at, *(one.ticked_at for one in self.dispatchers))
        # One of them may wait for another's sweep.
        last = max(oldest, *(one.ticked_at for one in self.deliveries))
        for one in self.hook_dispatchers:
            last = min(last, max(one.ticked_at, one.delivery.ticked_at))
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
    vault.unlock(settings.masters)
    with access.connect(ways.worker) as connection:
        vault.refuse_wrong_masters(connection)
    # Parameters may be a person's: they never reach a log by way of an exception.
    engine = create_engine(ways.worker, pool_pre_ping=True, pool_size=5, hide_parameters=True)
    # What a clinic takes along is what it sees, and no more: archives are read as the service.
    service = create_engine(
        ways.service, pool_pre_ping=True, pool_size=2, max_overflow=0, hide_parameters=True
    )
    now = clock.clock(settings.clock_file)

    def unready(clinic_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
        with Session(engine) as session:
            enter_clinic(session, clinic_id)
            return evidence.unready(session, ids, now())

    deliveries = [
        Delivery(
            lambda: access.connect(ways.worker),
            [make() for _ in range(settings.senders)],
            now,
            settings.public_url,
            settings.secret,
            unready,
            code,
            _rate(settings, code),
            at=_signalling(os.environ.get("AFTERGLOW_SIGNAL_AT", "")),
        )
        for code, make in _channels(settings).items()
    ]
    pause = 5.0 if settings.clock_file is None else 0.2
    dispatchers = [
        Dispatcher(one, lambda: access.connect(ways.worker), longest_sleep=pause)
        for one in deliveries
    ]
    refresher = Refresher(engine, now, Fetcher(settings.feed_networks).fetch)
    heralds = [
        Herald(
            lambda: access.connect(ways.worker),
            Outside(settings.webhook_networks, only_port=443),
            lambda: datetime.now(UTC),
            at=_signalling(os.environ.get("AFTERGLOW_SIGNAL_AT", "")),
        )
        for _ in range(settings.heralds)
    ]
    hook_dispatchers = [
        Dispatcher(one, lambda: access.connect(ways.worker), "webhook_due") for one in heralds
    ]
    return Worker(
        engine,
        now,
        deliveries,
        dispatchers,
        refresher,
        Importer(engine, now),
        settings.sweep_seconds,
        settings.heads,
        heralds,
        hook_dispatchers,
        archiver=Archiver(service, now, at=_signalling(os.environ.get("AFTERGLOW_SIGNAL_AT", ""))),
        at=_signalling(os.environ.get("AFTERGLOW_SIGNAL_AT", "")),
    )


def main() -> int:
    """Run a worker until SIGTERM or SIGINT."""
    logs.catch_the_uncaught()
    try:
        settings = config.load()
        logs.set_up(settings.log_level)
        worker = make(settings)
    except (config.BadSetting, access.Unreachable, vault.WrongMaster) as error:
        sys.stderr.write(f"afterglow worker: {error}\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: worker.stop.set())
    signal.signal(signal.SIGINT, lambda *_: worker.stop.set())
    worker.run()
    return 0


def _channels(settings: config.Settings) -> dict[ChannelCode, Callable[[], Channel]]:
    """How each channel is made; every sender has one of its own."""

    def email() -> Channel:
        if not settings.smtp:
            return FolderChannel(settings.outbox)
        return Failover(
            [
                Provider(_name(smtp.host, number), _smtp(smtp))
                for number, smtp in enumerate(settings.smtp)
            ]
        )

    def sms() -> Channel:
        if not settings.sms:
            return FolderChannel(settings.outbox, "txt")
        return Failover(
            [
                Provider(
                    _name(urlsplit(sms.url).hostname or "sms", number),
                    SmsChannel(Account(url=sms.url, account=sms.account, token=sms.token)),
                )
                for number, sms in enumerate(settings.sms)
            ]
        )

    return {ChannelCode.EMAIL: email, ChannelCode.SMS: sms}


def _smtp(smtp: config.Smtp) -> Channel:
    return SmtpChannel(
        Server(
            host=smtp.host,
            port=smtp.port,
            security=smtp.security,
            username=smtp.username,
            password=smtp.password,
        )
    )


def _name(host: str, number: int) -> str:
    """What a provider is called in rows and metrics."""
    return f"{number + 1}:{host}"


def _rate(settings: config.Settings, code: ChannelCode) -> Rate | None:
    per_second = {
        ChannelCode.EMAIL: settings.email_per_second,
        ChannelCode.SMS: settings.sms_per_second,
    }[code]
    return None if per_second is None else Rate(code.value, per_second, max(per_second, 1.0))


def _signalling(wanted: str) -> Callable[[str], None]:
    """For tests of faults: kill or freeze this process, once, at a point of a message's way.

    `wanted` is a point and a signal: `released:SIGKILL`.
    """
    place, _, name = wanted.partition(":")
    still_to_come = [place]

    def at(point: str) -> None:
        if point in still_to_come:
            still_to_come.clear()
            os.kill(os.getpid(), signal.Signals[name])

    return at


_BEAT = text(
    """
    INSERT INTO worker (id, host, pid, seen_at, swept_until, stats)
    VALUES (:id, :host, :pid, clock_timestamp(), :until, CAST(:stats AS jsonb))
    ON CONFLICT (id) DO UPDATE
       SET seen_at = clock_timestamp(), swept_until = :until, stats = CAST(:stats AS jsonb)
    """
)

_CLINICS = text("SELECT id FROM tenancy WHERE status = ANY(:statuses) ORDER BY id")

_ONE_AT_A_TIME = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:job, 0))")

if __name__ == "__main__":
    sys.exit(main())
