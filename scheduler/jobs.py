"""Jobs: what the passing of time does to a clinic. One table; the worker runs it.

Every job is idempotent: run twice, or late, it leaves the same. It asks for what is due and
not yet done, never for what happens to be due now. The worker runs a job for one clinic at a
time, in a transaction of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from notifications import queue, reading
from scheduler import (
    booking,
    eligibility,
    heads,
    imports,
    integrating,
    notices,
    observing,
    offering,
    proposals,
    reopening,
    resealing,
    sessions,
    snapshots,
    suspending,
    waiting,
    warmth,
)


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done again and again for each clinic."""

    name: str
    every: timedelta
    run: Callable[[Session, datetime], int]
    """Does it as of an instant of the clinic's clock; says how many rows it touched."""
    again: bool = False
    """Whether to run again at once after it touched something, in a transaction of its own."""
    shut_too: bool = False
    """Whether it runs for a clinic that is suspended or closed, too."""


def forget_answers(session: Session, now: datetime) -> int:
    """Drop the answers kept for repeated requests whose time is over."""
    gone = session.execute(
        text("DELETE FROM idempotency_key WHERE expires_at <= :now RETURNING 1"), {"now": now}
    )
    return len(gone.all())


def forget_changes(session: Session, now: datetime) -> int:
    """Drop the lines about changed calendars that every process has read, or is too late for."""
    gone = session.execute(
        text(
            "DELETE FROM calendar_change WHERE created_at <= clock_timestamp() - :kept RETURNING 1"
        ),
        {"kept": warmth.LINES_KEPT},
    )
    return len(gone.all())


def forget_events(session: Session, now: datetime) -> int:
    """Drop what webhooks were told a month ago, with how it went."""
    return int(session.execute(text("SELECT forget_webhook_events()")).scalar_one())


def archive_messages(session: Session, now: datetime) -> int:
    """Move what is over for a week into the archive of its month."""
    return queue.archive(reading.raw(session), now - ARCHIVE_AFTER)


ARCHIVE_AFTER = timedelta(days=7)

JOBS = (
    Job("release-expired-holds", timedelta(minutes=1), booking.release_expired_holds),
    Job("offer-freed-times", timedelta(seconds=5), offering.offer_freed_times, again=True),
    Job("lapse-waiting", timedelta(minutes=1), waiting.lapse),
    Job("mark-noshows", timedelta(minutes=5), sessions.mark_noshows),
    Job("suspend-unready", timedelta(seconds=15), suspending.review),
    Job("note-readiness", timedelta(minutes=1), snapshots.take, again=True),
    Job("settle-anew", timedelta(seconds=15), reopening.review),
    Job("alarm-late-watches", timedelta(seconds=15), observing.alarm_late),
    Job("watch-integrations", timedelta(minutes=5), integrating.watch),
    Job("plan-agendas", timedelta(minutes=15), notices.plan_agendas),
    Job("warn-of-credentials", timedelta(hours=1), notices.warn_of_credentials),
    Job("look-again", timedelta(minutes=1), eligibility.remind),
    Job("set-tasks", timedelta(minutes=1), notices.set_tasks),
    Job("archive-messages", timedelta(hours=1), archive_messages),
    Job("forget-events", timedelta(hours=1), forget_events, again=True),
    Job("forget-answers", timedelta(hours=1), forget_answers),
    Job("forget-proposals", timedelta(hours=1), proposals.forget),
    Job("watch-audit-trail", timedelta(minutes=5), heads.watch, shut_too=True),
    Job("publish-audit-heads", timedelta(hours=1), heads.publish, shut_too=True),
    Job("forget-imports", timedelta(hours=1), imports.forget),
    Job("seal-anew", timedelta(minutes=1), resealing.walk, again=True),
    Job("forget-changes", timedelta(minutes=10), forget_changes),
)
