"""Warmth: each clinic's calendars as bits, kept in this process and true to the database.

Reading the slots of a clinic takes tens of milliseconds, asking the bits takes one. So a
process reads a clinic once and then only what changed since: triggers write a line for every
change, with the number of its transaction, and each search first asks for the lines of
transactions that its last look could not see. A booking anywhere is in the next search of
every process, and no lock or counter makes two bookings wait for each other.

A transaction that has itself written something sees what others may never see; it gets a
calendar of its own, and nothing of it is kept.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from scheduler import calendars, facts
from scheduler.actors import Calendar, Known, Roster, Site
from scheduler.calendars import Window
from scheduler.intervals import Frame
from scheduler.timeline import DAY, Timeline, midnight

LINES_KEPT = timedelta(hours=1)
"""How long a line about a change is kept."""

TRUSTED = timedelta(minutes=30)
"""After how long without a look everything is read again: lines may be gone by then."""

SPARE = 8 * DAY
"""How much further than asked is read, so that tomorrow's search finds it there."""

WINDOWS, LONGEST = 2, 100 * DAY
"""Of so many windows, none longer, it is kept what was worked out of them."""

CLINICS = 32
"""How many clinics a process keeps warm; of a clinic of 300 schedules a year takes 12 MB."""


@dataclass(frozen=True, slots=True)
class Around:
    """Where a clinic is, and whom and what can be booked there in a window."""

    sites: Sequence[Site]
    calendar: Calendar
    default_version: UUID | None = None
    """The protocol version by which visits outside courses are booked, if it was asked for."""


@dataclass(frozen=True, slots=True)
class _Change:
    """What changed: slots in a stretch of a schedule, its hours (no stretch), or everything."""

    schedule_id: UUID | None
    starts_at: datetime | None
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Look:
    """What the database says of its changes."""

    horizon: int
    """Every transaction below this number is over: what it changed is seen."""
    is_writing: bool
    at: datetime
    default_version: UUID | None
    changes: Sequence[_Change]


@dataclass(slots=True)
class _Clinic:
    """A clinic's calendars as of its last look."""

    lock: Lock = field(default_factory=Lock)
    roster: Roster = field(default_factory=lambda: Roster(()))
    sites: Sequence[Site] = ()
    timeline: Timeline | None = None
    horizon: int = 2**62
    """Before the first look: above every transaction, so nothing is told."""
    looked_at: datetime | None = None
    known: OrderedDict[Frame, Known] = field(default_factory=OrderedDict)
    """What was worked out of the timeline as it is, by the window."""

    def calendar(self, timeline: Timeline, start: datetime, end: datetime) -> Calendar:
        """The calendar of a window, with what other questions about it have worked out."""
        calendar = Calendar.over(timeline, self.roster, start, end)
        if end - start <= LONGEST:
            calendar.known = self.known.setdefault(calendar.frame, calendar.known)
            self.known.move_to_end(calendar.frame)
            if len(self.known) > WINDOWS:
                self.known.popitem(last=False)
        return calendar


_clinics: OrderedDict[UUID, _Clinic] = OrderedDict()
_guard = Lock()


def around(session: Session, start: datetime, end: datetime) -> Around:
    """The clinic's actors, sites and calendar from `start` to `end`, as the database has them."""
    clinic = _of(session.info["clinic_id"])
    look = _look(session, clinic.horizon)
    if look.is_writing:
        return fresh(session, start, end)
    with clinic.lock:
        timeline = _refresh(session, clinic, look, (start, end))
        calendar = clinic.calendar(timeline, start, end)
        return Around(clinic.sites, calendar, look.default_version)


def fresh(session: Session, start: datetime, end: datetime, but: UUID | None = None) -> Around:
    """The same, read for this question alone; without the time of the visit `but`."""
    actors = calendars.all_actors(session)
    calendar = calendars.load(session, actors, Window(start, end, but))
    return Around(calendars.sites(session), calendar)


def forget() -> None:
    """Let go of everything: the next search reads anew."""
    with _guard:
        _clinics.clear()


def _of(clinic_id: UUID) -> _Clinic:
    with _guard:
        clinic = _clinics.setdefault(clinic_id, _Clinic())
        _clinics.move_to_end(clinic_id)
        if len(_clinics) > CLINICS:
            _clinics.popitem(last=False)
    return clinic


def _look(session: Session, seen: int) -> _Look:
    rows = session.execute(_LOOK, {"seen": seen}).all()
    first = rows[0]
    changes = [_Change(row.schedule_id, row.starts_at, row.ends_at) for row in rows if row.changed]
    return _Look(first.horizon, first.is_writing, first.at, first.default_version, changes)


def _refresh(
    session: Session, clinic: _Clinic, look: _Look, wanted: tuple[datetime, datetime]
) -> Timeline:
    timeline = clinic.timeline
    is_old = clinic.looked_at is None or look.at - clinic.looked_at > TRUSTED
    everything = any(change.schedule_id is None for change in look.changes)
    if timeline is None or is_old or everything or not timeline.reaches(*wanted):
        timeline = _read(session, clinic, wanted)
        clinic.known.clear()
    elif look.changes:
        clinic.known.clear()
        _read_again(session, timeline, clinic.roster, look.changes)
    clinic.timeline = timeline
    clinic.horizon = look.horizon if is_old else max(clinic.horizon, look.horizon)
    clinic.looked_at = look.at
    return timeline


def _read(session: Session, clinic: _Clinic, wanted: tuple[datetime, datetime]) -> Timeline:
    """Read the clinic whole, as far as it was kept before and as far as is asked."""
    start, end = midnight(wanted[0]), wanted[1] + SPARE
    known = clinic.timeline
    if known is not None:
        end = max(end, known.start + known.days * DAY)
    clinic.roster = Roster(calendars.all_actors(session))
    clinic.sites = calendars.sites(session)
    return calendars.timeline_of(session, clinic.roster.actors, Window(start, end))


def _read_again(
    session: Session, timeline: Timeline, roster: Roster, changes: Sequence[_Change]
) -> None:
    known = {actor.schedule_id for actor in roster.actors}
    first, last = timeline.start, timeline.start + timeline.days * DAY
    reopened = [one.schedule_id for one in changes if one.schedule_id and one.starts_at is None]
    if reopened:
        found = calendars.open_stretches(session, reopened, first, last)
        for schedule_id in reopened:
            timeline.set_open(schedule_id, found.get(schedule_id, ()))
    retaken = [one for one in changes if one.starts_at is not None and one.schedule_id in known]
    if retaken:
        _retake(session, timeline, retaken)


def _retake(session: Session, timeline: Timeline, changes: Sequence[_Change]) -> None:
    """Read the days again on which slots changed."""
    days = {
        one.schedule_id: (timeline.day_of(one.starts_at), timeline.day_of(one.ends_at) + 1)
        for one in changes
        if one.schedule_id is not None and one.starts_at is not None and one.ends_at is not None
    }
    first = timeline.start + min(begin for begin, _ in days.values()) * DAY
    last = timeline.start + max(end for _, end in days.values()) * DAY
    spans = calendars.taken_spans(session, list(days), Window(first, last))
    for schedule_id, stretch in days.items():
        timeline.set_taken_on(schedule_id, stretch, spans.get(schedule_id, {}))


_LOOK = text(
    f"""
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
           pg_current_xact_id_if_assigned() IS NOT NULL AS is_writing,
           clock_timestamp() AS at, ({facts.DEFAULT_VERSION}) AS default_version, changed.*
      FROM (SELECT 1) AS always
      LEFT JOIN (
          SELECT schedule_id, min(starts_at) AS starts_at, max(ends_at) AS ends_at,
                 true AS changed
            FROM calendar_change WHERE by_transaction >= :seen
           GROUP BY schedule_id, starts_at IS NULL
      ) AS changed ON true
    """  # noqa: S608  # a statement of ours in another
)
"""One row at least. A line is of a transaction that the last look may not have seen.

Every search looks, and most ask for the default version: one way to the server and back."""
