"""The waitlist: who waits, to whom a freed time is offered, and what comes of an offer.

A visit that is cancelled, moved or missed notes its time in its own transaction
(scheduler/waiting.py). The worker looks at one freed time after the other, each in a
transaction of its own, and offers it in the order of docs/waitlist.md. Whoever accepts books,
or moves their visit, by way of booking.py and is judged like anybody.

Whatever settles an offer locks its freed time first, then the course, then schedules: of many
who accept at once one comes first, and the others find that it is gone.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from itertools import chain, islice
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import (
    Appointment,
    Clinic,
    CourseStep,
    FreedTime,
    Offer,
    Practitioner,
    Site,
    WaitlistEntry,
)
from models.vocabulary import (
    AppointmentStatus,
    MessageKind,
    OfferState,
    Recipient,
    WaitingState,
)
from notifications import outbox
from notifications.outbox import Notice, Out
from scheduler import actors, booking, calendars, facts, openings, rules, waiting, warmth
from scheduler.actors import Opening
from scheduler.authority import Authority, Call, Reasons
from scheduler.availability import DAY, Hours, Question, Staffing, hours_of
from scheduler.booking import Move, Order
from scheduler.errors import (
    AtCapacity,
    NoOpening,
    OfferGone,
    SlotTaken,
    StepSkipped,
    Taken,
    Unfit,
    WrongStatus,
)
from scheduler.facts import Brief
from scheduler.intervals import GRANULE
from scheduler.openings import Search
from scheduler.placing import Named
from scheduler.protocols import Visit
from scheduler.warmth import Around

JOB = booking.OFFERING

PAUSE = timedelta(hours=1)
"""After how long a freed time that fitted nobody is looked at again."""

WEEK = timedelta(weeks=1)
FAR = 4
"""Weeks from now in which windows that close differ; those that close later do not."""

STANDBY = {"short-notice": "The patient is on the waitlist to come at short notice."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A wish to wait for a time for a step of a course."""

    course_step_id: UUID
    weekdays: list[int] = field(default_factory=list)
    """Monday is 0; none: any."""
    begin: time | None = None
    until: time | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    site_id: UUID | None = None
    practitioner_id: UUID | None = None
    standby: bool = False


def join(session: Session, wanted: Wanted, *, by: Authority, now: datetime) -> WaitlistEntry:
    """Put a patient on the waitlist. If the step has a visit already, for an earlier time.

    Refuses with `NotFound`, `CourseClosed`, `StepSkipped`; with `Unfit` if the step's visit has
    begun or there is no time left to wait for; with `Taken` if somebody waits for it already.
    """
    about, visit_id, status = facts.step_to_place(session, wanted.course_step_id)
    if facts.one(session, CourseStep, wanted.course_step_id).skipped_at is not None:
        raise StepSkipped("This step was skipped. Take that back first, to wait for it.")
    if status not in {None, AppointmentStatus.BOOKED}:
        raise Unfit("This step has a visit that is held, or has begun.", field="course_step_id")
    if wanted.latest is not None and wanted.latest <= now:
        raise Unfit("This is over already.", field="latest")
    if wanted.site_id is not None:
        facts.one(session, Site, wanted.site_id)
    if wanted.practitioner_id is not None:
        facts.one(session, Practitioner, wanted.practitioner_id)
    if facts.is_waiting(session, wanted.course_step_id):
        raise Taken("Somebody waits for a time for this step already.", field="course_step_id")
    entry = WaitlistEntry(
        id=uuid7(),
        patient_id=about.patient.id,
        visit_id=visit_id,
        waiting_since=now,
        state=WaitingState.WAITING,
        asked_by=by.name,
        version=1,
        **{name: getattr(wanted, name) for name in Wanted.__dataclass_fields__},
    )
    session.add(entry)
    session.flush()
    waiting.look_again(session, now)
    return entry


def leave(session: Session, call: Call, *, now: datetime) -> WaitlistEntry:
    """Take a patient off the waitlist; an offer that stands ends soon after.

    Refuses with `WrongStatus` if the entry has ended already.
    """
    entry = facts.to_change(session, WaitlistEntry, call.id, call.version)
    if entry.state is not WaitingState.WAITING:
        raise WrongStatus("This entry of the waitlist has ended already.", state=entry.state)
    entry.state, entry.ended_at = WaitingState.WITHDRAWN, now
    entry.version += 1
    session.flush()
    return entry


def offer_freed_times(session: Session, now: datetime) -> int:
    """End one offer that should not stand, or look at one freed time. Returns whether it did.

    One at a time, so that no transaction gathers the locks of many.
    """
    over = facts.offer_over(session, now)
    if over is not None:
        is_late = over.expires_at <= now
        _end(session, over, OfferState.EXPIRED if is_late else OfferState.WITHDRAWN, JOB, now)
        return 1
    freed = facts.freed_to_look_at(session, now)
    if freed is None:
        return 0
    around = warmth.around(session, freed.starts_at, freed.ends_at + DAY)
    _Looking(session, facts.clinic(session), freed, now, around).look()
    return 1


def accept(session: Session, call: Call, *, by: Authority, now: datetime) -> Offer:
    """Book what is offered, or move the visit there; others who were offered it are told.

    The offer is `accepted`, or `lost` if its time was not kept and is taken. Refuses with
    `OfferGone` if it does not stand any more, and with what booking refuses: it stays then.
    """
    freed, offer = _in_hand(session, call, now)
    entry = facts.one(session, WaitlistEntry, offer.entry_id)
    # The course before the schedules, as bookings do.
    facts.brief_of_step(session, offer.patient_id, entry.course_step_id)
    rivals = [one for one in facts.standing_offers(session, freed.id) if one.id != offer.id]
    _lock(session, offer, entry)
    freed.look_at = now
    try:
        with session.begin_nested():
            why = Call(offer.appointment_id, None, OfferState.ACCEPTED.value)
            booking.end_proposed(session, why, by=by, now=now)
            booked = _book(session, offer, entry, by, now)
    except (SlotTaken, NoOpening, AtCapacity):
        session.refresh(offer)
        _settle(session, offer, OfferState.LOST, by, now)
        return offer
    offer.visit_id = booked.id
    _note(offer, OfferState.ACCEPTED, by, now)
    session.flush()
    for rival in rivals:
        if _settle(session, rival, OfferState.LOST, JOB, now):
            tell_gone(session, rival, now)
    return offer


def decline(session: Session, call: Call, *, by: Authority, now: datetime) -> Offer:
    """Let an offer go; the patient stays on the list. Refuses with `OfferGone`."""
    freed, offer = _in_hand(session, call, now)
    freed.look_at = now
    _settle(session, offer, OfferState.DECLINED, by, now)
    return offer


def tell_gone(session: Session, offer: Offer, now: datetime) -> None:
    """Tell a patient kindly, and once, that the time is gone and that they stay on the list."""
    visit = facts.one(session, Appointment, offer.appointment_id)
    about = facts.brief_of(session, visit)
    channel = facts.channel_of(about.patient, facts.clinic(session))
    if channel is not None:
        outbox.notify(
            session,
            Notice(
                kind=MessageKind.OFFER_GONE,
                recipient=Recipient.PATIENT,
                recipient_id=offer.patient_id,
                subject_id=visit.id,
                occasion=MessageKind.OFFER_GONE.value,
                due_at=now,
                not_after=max(visit.starts_at, now + PAUSE),
                channel=channel,
                appointment_id=visit.id,
                revision=visit.revision,
                starts_at=visit.starts_at,
            ),
            now,
        )


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


@dataclass(frozen=True, slots=True)
class _Looking:
    """One look at a freed time: to whom it is offered now."""

    session: Session
    home: Clinic
    freed: FreedTime
    now: datetime
    around: Around
    starts: dict[tuple[UUID, str], int] = field(default_factory=dict)

    @property
    def site(self) -> actors.Site:
        """Where the time became free."""
        return next(one for one in self.around.sites if one.site_id == self.freed.site_id)

    @property
    def is_soon(self) -> bool:
        """Whether only those on standby can come."""
        return self.freed.starts_at <= self.now + timedelta(hours=self.home.standby_hours)

    def look(self) -> None:
        """Offer it, and say when to look again."""
        standing = self._standing()
        most = self.home.standby_at_once if self.is_soon else self.home.offers_at_once
        room = 0 if self._is_kept(standing) else most - len(standing)
        found = self._fitting()
        chosen = list(islice(found, room))  # read before anything is written: that is quicker
        freed = facts.to_change(self.session, FreedTime, self.freed.id, None)
        if self._standing() != standing:
            return  # somebody answered meanwhile: look anew
        keep = len(chosen) == 1 and not standing
        offers = (self._offer(one, opening, keep=keep) for one, opening in chain(chosen, found))
        deque(islice(filter(None, offers), max(room, 0)), maxlen=0)
        freed.look_at = self._next_look()
        self.session.flush()

    def _standing(self) -> Sequence[Offer]:
        return facts.standing_offers(self.session, self.freed.id)

    def _next_look(self) -> datetime | None:
        if self.freed.ends_at <= self.now:
            return None
        return min((one.expires_at for one in self._standing()), default=self.now + PAUSE)

    def _is_kept(self, standing: Sequence[Offer]) -> bool:
        return any(facts.schedules_of(self.session, one.appointment_id) for one in standing)

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
            self.starts[known] = Staffing(question, self.site, self.around.calendar).starts
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
        except (SlotTaken, AtCapacity):
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
        self._say(one, visit, until)
        return True

    def _say(self, one: _Waiting, visit: Appointment, until: datetime) -> None:
        channel = facts.channel_of(one.about.patient, self.home)
        assert channel is not None  # or they would not have been asked
        notice = Notice(
            kind=MessageKind.OFFER,
            recipient=Recipient.PATIENT,
            recipient_id=one.about.patient.id,
            subject_id=visit.id,
            occasion=MessageKind.OFFER.value,
            due_at=self.now,
            not_after=until,
            channel=channel,
            appointment_id=visit.id,
            revision=visit.revision,
            starts_at=visit.starts_at,
        )
        outbox.notify(self.session, notice, self.now)


def _in_hand(session: Session, call: Call, now: datetime) -> tuple[FreedTime, Offer]:
    """An offer that stands, locked behind its freed time; refuses with `OfferGone`."""
    seen = facts.one(session, Offer, call.id)
    freed = facts.to_change(session, FreedTime, seen.freed_time_id, None)
    offer = facts.to_change(session, Offer, call.id, None)
    if offer.state is OfferState.STANDING and offer.expires_at > now:
        return freed, facts.to_change(session, Offer, call.id, call.version)
    lost = offer.state is OfferState.LOST
    raise OfferGone(
        "Somebody was faster. The patient stays on the list."
        if lost
        else "This offer does not stand any more.",
        state=OfferState.EXPIRED if offer.state is OfferState.STANDING else offer.state,
    )


def _end(session: Session, over: Offer, state: OfferState, by: Authority, now: datetime) -> None:
    freed = facts.to_change(session, FreedTime, over.freed_time_id, None)
    offer = facts.to_change(session, Offer, over.id, None)
    if offer.state is OfferState.STANDING:
        freed.look_at = now
        _settle(session, offer, state, by, now)


def _settle(
    session: Session, offer: Offer, state: OfferState, by: Authority, now: datetime
) -> Sequence[Out]:
    """End an offer behind the lock of its freed time. Returns what the patient had been told."""
    why = Call(offer.appointment_id, None, state.value)
    out = booking.end_proposed(session, why, by=by, now=now)
    _note(offer, state, by, now)
    session.flush()
    return out


def _note(offer: Offer, state: OfferState, by: Authority, now: datetime) -> None:
    offer.state, offer.settled_at, offer.settled_by = state, now, by.name
    offer.version += 1


def _lock(session: Session, offer: Offer, entry: WaitlistEntry) -> None:
    """Lock at once every schedule that accepting will touch."""
    ids = {UUID(one["schedule_id"]) for one in offer.assignments}
    ids |= facts.schedules_of(session, offer.appointment_id)
    if entry.visit_id is not None:
        ids |= facts.schedules_of(session, entry.visit_id)
    ids.add(
        facts.brief_of(
            session, facts.one(session, Appointment, offer.appointment_id)
        ).patient.schedule_id
    )
    calendars.lock(session, ids)


def _book(
    session: Session, offer: Offer, entry: WaitlistEntry, by: Authority, now: datetime
) -> Appointment:
    """Book the step at the time that was offered, with those who were offered, or move it."""
    starts_at = facts.one(session, Appointment, offer.appointment_id).starts_at
    named = tuple(Named(one["role"], UUID(one["schedule_id"])) for one in offer.assignments)
    reasons = Reasons(STANDBY if entry.standby else {})
    if entry.visit_id is not None:
        move = Move(starts_at=starts_at, assignments=named, reasons=reasons)
        call = Call(entry.visit_id, None)
        return booking.reschedule(session, call, move, by=by, now=now).appointment
    order = Order(
        patient_id=offer.patient_id,
        starts_at=starts_at,
        course_step_id=entry.course_step_id,
        assignments=named,
        reasons=reasons,
    )
    return booking.book(session, order, by=by, now=now)
