"""Feeds: the busy time of calendars kept elsewhere, asked for again and again.

A feed is taken up in one transaction, fetched outside of any, and what came is written in
another. Whoever takes it up puts off when it is due next, so that a worker that dies meanwhile
only delays it. What was last read stands until something newer could be read whole.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import BusyFeed, Closure
from models.vocabulary import TaskKind
from scheduler import calendars, facts, icalendars, tasks, working_time
from scheduler.hours import union
from scheduler.icalendars import NoCalendar
from scheduler.tasks import Wanted

IN_HAND = timedelta(minutes=2)
"""For how long nobody else takes up a feed that somebody is fetching."""

STALE_AFTER = timedelta(days=1)
"""Staff are told of a feed that could not be read for so long."""

BUSY = "Busy in a calendar kept elsewhere."
"""All that is written down of an event: what it is about is nobody's business here."""

CHECK = (
    "A calendar kept elsewhere cannot be read whole, or visits are booked in its busy time: "
    "see the busy feeds of the schedule."
)


class Due(NamedTuple):
    """A feed that is to be fetched."""

    id: UUID
    url: str
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a server answered."""

    told: str | None
    """None: what we have is still so."""
    etag: str | None = None
    last_modified: str | None = None


def take_up(session: Session, now: datetime) -> Due | None:
    """Take up the feed that is due for longest; None: none is."""
    found = session.execute(_TAKE_UP, {"now": now, "until": now + IN_HAND}).scalar()
    if found is None:
        return None
    feed = facts.one(session, BusyFeed, found)
    return Due(feed.id, feed.url, feed.etag, feed.last_modified)


def keep(session: Session, due: Due, fetched: Fetched, now: datetime) -> int:
    """Close the schedule as the feed says. Returns how many stretches changed."""
    feed = _still(session, due)
    if feed is None:
        return 0
    changed = 0
    feed.fault = None
    if fetched.told is not None:
        try:
            changed = _close(session, feed, fetched.told, now)
        except NoCalendar as none:
            _note(session, feed, str(none), now)
            return 0
        # What could not be read whole is read again, so that its fault is told again.
        is_whole = feed.fault is None
        feed.etag = fetched.etag if is_whole else None
        feed.last_modified = fetched.last_modified if is_whole else None
    feed.read_at, feed.failing_since = now, None
    _put_off(session, feed, now)
    return changed


def fail(session: Session, due: Due, fault: str, now: datetime) -> None:
    """Note why a feed could not be fetched; what was read before stands."""
    feed = _still(session, due)
    if feed is not None:
        _note(session, feed, fault, now)


def settled(session: Session, feed_id: UUID, now: datetime) -> None:
    """Let go of what staff were asked about a feed that is no more."""
    tasks.keep(session, _check(feed_id, now), now, stands=False)


def is_stale(feed: BusyFeed, now: datetime) -> bool:
    """Whether what we know of the calendar is too old to be relied on."""
    return (feed.read_at or feed.created_at) < now - STALE_AFTER


def _still(session: Session, due: Due) -> BusyFeed | None:
    """The feed, locked; None if it was removed or changed while it was fetched."""
    feed = facts.feed_to_write(session, due.id)
    return feed if feed is not None and feed.url == due.url else None


def _close(session: Session, feed: BusyFeed, told: str, now: datetime) -> int:
    events, faults = icalendars.read(told)
    busy = [event for event in events if event.length and not event.is_free]
    since = now - icalendars.PAST
    found = icalendars.stretches(busy, ZoneInfo(feed.time_zone), since, now + icalendars.AHEAD)
    wanted = [
        Closure(
            id=uuid7(),
            schedule_id=feed.schedule_id,
            busy_feed_id=feed.id,
            starts_at=start,
            ends_at=end,
            reason=BUSY,
        )
        for start, end in union(stretch for stretch, _ in found)
    ]
    if faults:
        feed.fault = f"{len(faults)} events cannot be read: {icalendars.names(faults)}"[:500]
    added, removed, _ = working_time.settle(session, calendars.of_feed(session, feed.id), wanted)
    return added + removed


def _note(session: Session, feed: BusyFeed, fault: str, now: datetime) -> None:
    feed.fault = fault[:500]
    feed.failing_since = feed.failing_since or now
    _put_off(session, feed, now)


def _put_off(session: Session, feed: BusyFeed, now: datetime) -> None:
    """Say when it is due next, and tell staff while it cannot be read or stands in the way."""
    feed.due_at = now + timedelta(minutes=feed.every_minutes)
    session.flush()
    tasks.keep(session, _check(feed.id, now), now, stands=_is_wrong(session, feed, now))


def _check(feed_id: UUID, now: datetime) -> Wanted:
    return Wanted(kind=TaskKind.CHECK_CALENDAR, subject_id=feed_id, due_at=now, note=CHECK)


def _is_wrong(session: Session, feed: BusyFeed, now: datetime) -> bool:
    """Whether somebody should look at a feed."""
    if feed.failing_since is not None:
        return is_stale(feed, now)
    return feed.fault is not None or bool(calendars.clashing(session, feed.id, now))


_TAKE_UP = text(
    """
    UPDATE busy_feed SET due_at = :until
     WHERE id = (SELECT id FROM busy_feed WHERE due_at <= :now
                  ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
       AND due_at <= :now
    RETURNING id
    """
)
