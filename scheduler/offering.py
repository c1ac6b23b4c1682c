"""Offering: to whom a freed time is offered, and when.

A visit that is cancelled, moved or missed notes its time in its own transaction
(scheduler/waiting.py). The worker looks at one freed time after the other, each in a
transaction of its own, and offers it in the order of docs/waitlist.md.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from functools import cached_property
from itertools import chain, islice
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, Clinic, FreedTime, Offer, WaitlistEntry
from models.vocabulary import MessageKind, OfferState
from scheduler import actors, booking, facts, joining, meetings, offers, openings, rules, warmth
from scheduler.actors import Opening
from scheduler.availability import DAY, Hours, Question, hours_of
from scheduler.errors import AtCapacity, NoOpening, SessionFull, SlotTaken, Stale, WrongStatus
from scheduler.facts import Brief
from scheduler.intervals import GRANULE
from scheduler.joining import Meeting
from scheduler.openings import Search
from scheduler.protocols import Visit
from scheduler.warmth import Around

PAUSE = timedelta(hours=1)
"""After how long a freed time that fitted nobody is looked at again."""

WEEK = timedelta(weeks=1)
FAR = 4
"""Weeks from now in which windows that close differ; those that close later do not."""


def offer_freed_times(session: Session, now: datetime) -> int:
    """End one offer that should not stand, or look at one freed time. Returns whether it did.

    One at a time, so that no transaction gathers the locks of many.
    """
    over = facts.offer_over(session, now)
    if over is not None:
        offer, session_is_gone = over
        offers.end(session, offer, _how_it_ends(offer, now, gone=session_is_gone), now)
        return 1
    freed = facts.freed_to_look_at(session, now)
    if freed is None:
        return 0
    _Looking(session, facts.clinic(session), freed, now).look()
    return 1


def _how_it_ends(offer: Offer, now: datetime, *, gone: bool) -> OfferState:
    if offer.expires_at <= now:
        return OfferState.EXPIRED
    return OfferState.LOST if gone else OfferState.WITHDRAWN


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Somebody who waits, what for, and until when it is of use."""

    entry: WaitlistEntry
    about: Brief
    visit: Appointment | None
    """What would be moved earlier."""

    def search(self, freed: FreedTime, now: datetime) -> Search | None:
        """What of a freed time suits them. None: nothing."""
        entry = self.entry
        start = max(one for one in (freed.starts_at, entry.earliest, now) if one is not None)
        end = min(one for one in (freed.ends_at, entry.latest) if one is not None)
        if self.visit is not None:  # over before the visit that they have begins
            end = min(end, self.visit.starts_at - self.about.visit.length + GRANULE)
        if start >= end:
            return None
        return Search(
            start=start,
            end=end,
            course_step_id=entry.course_step_id,
            practitioner_id=entry.practitioner_id,
            site_id=freed.site_id,
            hours=Hours(
                weekdays=frozenset(entry.weekdays or range(7)),
                begin=entry.begin or time(0),
                end=entry.until,
            ),
            within_notice=entry.standby,
        )


@dataclass(frozen=True)
class _Looking:
    """One look at a freed time: to whom it is offered now."""

    session: Session
    home: Clinic
    freed: FreedTime
    now: datetime
    starts: dict[tuple[UUID, str], int] = field(default_factory=dict)

    @cached_property
    def around(self) -> Around:
        """The clinic's calendars around the time; asked only if somebody waits."""
        return warmth.around(self.session, self.freed.starts_at, self.freed.ends_at + DAY)

    @cached_property
    def site(self) -> actors.Site:
        """Where the time became free."""
        return next(one for one in self.around.sites if one.site_id == self.freed.site_id)

    @cached_property
    def held(self) -> Sequence[Meeting]:
        """The group sessions that begin in the time, with what is free in them."""
        found = meetings.ahead(self.session, self.freed.starts_at, self.freed.ends_at)
        joining.know(self.around.calendar, found)
        return found

    @property
    def is_soon(self) -> bool:
        """Whether only those on standby can come."""
        return self.freed.starts_at <= self.now + timedelta(hours=self.home.standby_hours)

    def look(self) -> None:
        """Offer it, and say when to look again."""
        seen, standing = self.freed.version, self._standing()
        most = self.home.standby_at_once if self.is_soon else self.home.offers_at_once
        room = 0 if self._is_kept(standing) else most - len(standing)
        found = self._fitting()
        chosen = list(islice(found, room))  # read before anything is written: that is quicker
        try:
            freed = facts.to_change(self.session, FreedTime, self.freed.id, seen)
        except Stale:
            return  # somebody answered or joined meanwhile: look anew
        keep = len(chosen) == 1 and not standing
        offers = (self._offer(one, opening, keep=keep) for one, opening in chain(chosen, found))
        deque(islice(filter(None, offers), max(room, 0)), maxlen=0)
        freed.look_at = self._next_look()
        self.session.flush()

    def _standing(self) -> Sequence[Offer]:
        return facts.standing_offers(self.session, self.freed.id)

    def _next_look(self) -> datetime:
        return min((one.expires_at for one in self._standing()), default=self.now + PAUSE)

    def _is_kept(self, standing: Sequence[Offer]) -> bool:
        proposed = (facts.one(self.session, Appointment, one.appointment_id) for one in standing)
        return any(visit.held_until is not None for visit in proposed)

    def _fitting(self) -> Iterator[tuple[_Waiting, Opening]]:
        """Those whom it fits, in fair order, each once with the time that they would get."""
        asked: set[UUID] = set()
        suited = [
            (one, search)
            for one in self._waiting()
            if (search := one.search(self.freed, self.now)) and self._may_suit(one, search)
        ]
        suited.sort(key=lambda pair: self._weeks_left(pair[0]))  # keeps who came first
        for one, search in suited:
            if one.entry.patient_id in asked:
                continue  # with another step of theirs
            opening = openings.first(self.session, search, self.now)
            if opening is not None:
                asked.add(one.entry.patient_id)
                yield one, opening

    def _may_suit(self, one: _Waiting, search: Search) -> bool:
        """Whether some start is wished for at which somebody is free, whatever else is asked."""
        assert search.hours is not None
        frame, visit = self.around.calendar.frame, one.about.visit
        starts = frame.inside([(search.start, search.end)])
        starts &= hours_of(frame, self.site.zone, search.hours)
        if one.visit is None:  # what is moved may be in its own way
            starts &= self._staffed(one.about.protocol_version_id, visit)
        return starts != 0

    def _staffed(self, version_id: UUID, visit: Visit) -> int:
        """The starts at which a visit could be staffed, whoever the patient is. Asked once."""
        known = version_id, visit.key
        if known not in self.starts:
            frame = self.around.calendar.frame
            question = Question(visit=visit, earliest=frame.start, latest=frame.at(frame.size))
            held = [] if visit.group is None else self.held
            found = joining.staffing(question, self.site, self.around.calendar, held)
            self.starts[known] = found.starts
        return self.starts[known]

    def _waiting(self) -> Iterator[_Waiting]:
        """Those who wait and can be asked now, the longest waiting first."""
        for entry, about, visit in facts.waiting_for(self.session, self.freed):
            if (entry.standby or not self.is_soon) and self._can_be_asked(about):
                yield _Waiting(entry, about, visit)

    def _can_be_asked(self, about: Brief) -> bool:
        """Whether the patient can be written to, and is not left alone at this hour."""
        patient = about.patient
        reached = facts.channel_of(patient, self.home) is not None
        return reached and not facts.quiet(patient, self.home).cover(self.now)

    def _weeks_left(self, one: _Waiting) -> int:
        """In how many weeks it is too late for the step, or for the patient."""
        ends = [moment for moment in (self._closes(one.about), one.entry.latest) if moment]
        return min([FAR, *((moment - self.now) // WEEK for moment in ends)])

    def _closes(self, about: Brief) -> datetime | None:
        """When the step's windows are over."""
        step = about.step
        if step is None or all(window.most is None for window in step.windows):
            return None
        others = facts.other_visits(self.session, about.patient.id, about.course_id)
        return rules.latest(step, others, self.site.zone)

    def _offer(self, one: _Waiting, opening: Opening, *, keep: bool) -> bool:
        """Offer a time; with `keep`, and keep it. False: it cannot be kept."""
        until = min(self.now + timedelta(minutes=self.home.offer_minutes), opening.starts_at)
        kept = until if keep else None
        try:
            with self.session.begin_nested():
                visit = booking.propose(self.session, one.about, opening, until=kept, now=self.now)
        except (SlotTaken, AtCapacity, SessionFull, NoOpening, WrongStatus):
            return False
        self.session.add(
            Offer(
                id=uuid7(),
                entry_id=one.entry.id,
                patient_id=one.about.patient.id,
                freed_time_id=self.freed.id,
                appointment_id=visit.id,
                assignments=[
                    {"role": given.role, "schedule_id": str(given.actor.schedule_id)}
                    for given in opening.assignments
                ],
                offered_at=self.now,
                expires_at=until,
                state=OfferState.STANDING,
                version=1,
            )
        )
        self.session.flush()
        offers.say(self.session, visit, MessageKind.OFFER, until, self.now)
        return True
