"""Offers: what comes of a freed time that was offered to one who waits.

Whoever accepts books, or moves their visit, by way of booking.py and is judged like anybody.
Whatever settles an offer locks its freed time first, then the course, then schedules: of many
who accept at once one comes first, and the others find that it is gone.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from models import Appointment, FreedTime, GroupSession, Offer, Patient, WaitlistEntry
from models.vocabulary import MessageKind, OfferState, Recipient, WaitingState
from notifications import outbox
from notifications.outbox import Notice, Out
from scheduler import booking, calendars, facts
from scheduler.authority import Authority, Call, Reasons
from scheduler.booking import Move, Order
from scheduler.errors import AtCapacity, NoOpening, OfferGone, SessionFull, SlotTaken
from scheduler.placing import Named

JOB = booking.OFFERING

USEFUL = timedelta(hours=1)
"""For how long it is at least of use to hear that a time is gone."""

STANDBY = {"short-notice": "The patient is on the waitlist to come at short notice."}


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
    _look_at(freed, now)
    try:
        with session.begin_nested():
            why = Call(offer.appointment_id, None, OfferState.ACCEPTED.value)
            booking.end_proposed(session, why, by=by, now=now)
            booked = _book(session, offer, entry, by, now)
            _refuse_unless_served(session, entry)
    except (SlotTaken, NoOpening, AtCapacity, SessionFull):
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
    _look_at(freed, now)
    _settle(session, offer, OfferState.DECLINED, by, now)
    return offer


def end(session: Session, over: Offer, state: OfferState, now: datetime) -> None:
    """End an offer that should not stand any more, and let its time be looked at."""
    freed = facts.to_change(session, FreedTime, over.freed_time_id, None)
    offer = facts.to_change(session, Offer, over.id, None)
    if offer.state is OfferState.STANDING:
        _look_at(freed, now)
        if _settle(session, offer, state, JOB, now) and state is OfferState.LOST:
            tell_gone(session, offer, now)


def tell_gone(session: Session, offer: Offer, now: datetime) -> None:
    """Tell a patient kindly, and once, that the time is gone and that they stay on the list."""
    visit = facts.one(session, Appointment, offer.appointment_id)
    say(session, visit, MessageKind.OFFER_GONE, max(visit.starts_at, now + USEFUL), now)


def say(
    session: Session, visit: Appointment, kind: MessageKind, not_after: datetime, now: datetime
) -> None:
    """Write to the patient of a proposed visit, once of each kind, if they can be written to."""
    patient = facts.one(session, Patient, visit.patient_id)
    channel = facts.channel_of(patient, facts.clinic(session))
    if channel is not None:
        notice = Notice(
            kind=kind,
            recipient=Recipient.PATIENT,
            recipient_id=patient.id,
            subject_id=visit.id,
            occasion=kind.value,
            due_at=now,
            not_after=not_after,
            channel=channel,
            appointment_id=visit.id,
            revision=visit.revision,
            starts_at=visit.starts_at,
        )
        outbox.notify(session, notice, now)


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


def _settle(
    session: Session, offer: Offer, state: OfferState, by: Authority, now: datetime
) -> Sequence[Out]:
    """End an offer behind the lock of its freed time. Returns what the patient had been told."""
    why = Call(offer.appointment_id, None, state.value)
    out = booking.end_proposed(session, why, by=by, now=now)
    _note(offer, state, by, now)
    session.flush()
    return out


def _look_at(freed: FreedTime, now: datetime) -> None:
    freed.look_at = now
    freed.version += 1


def _note(offer: Offer, state: OfferState, by: Authority, now: datetime) -> None:
    offer.state, offer.settled_at, offer.settled_by = state, now, by.name
    offer.version += 1


def _lock(session: Session, offer: Offer, entry: WaitlistEntry) -> None:
    """Lock at once every schedule that accepting will touch."""
    ids = {UUID(one["schedule_id"]) for one in offer.assignments}
    ids |= facts.schedules_of(session, offer.appointment_id)
    if entry.visit_id is not None:
        ids |= facts.schedules_of(session, entry.visit_id)
    ids.add(facts.one(session, Patient, offer.patient_id).schedule_id)
    calendars.lock(session, ids)


def _book(
    session: Session, offer: Offer, entry: WaitlistEntry, by: Authority, now: datetime
) -> Appointment:
    """Book the step at the time that was offered, with those who were offered, or move it."""
    proposed = facts.one(session, Appointment, offer.appointment_id)
    starts_at = proposed.starts_at
    if proposed.group_session_id is not None:
        _refuse_cancelled(session, proposed.group_session_id)
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
        assignments=None if proposed.group_session_id else named,
        reasons=reasons,
        group_session_id=proposed.group_session_id,
    )
    return booking.book(session, order, by=by, now=now)


def _refuse_cancelled(session: Session, group_session_id: UUID) -> None:
    if facts.one(session, GroupSession, group_session_id).cancelled_at is not None:
        raise NoOpening("This session was cancelled.")


def _refuse_unless_served(session: Session, entry: WaitlistEntry) -> None:
    """Refuse if the patient was taken off the list in the meantime: nothing ended the entry."""
    session.refresh(entry)
    if entry.state is not WaitingState.SERVED:
        raise OfferGone("The patient waits no more.", state=OfferState.WITHDRAWN)
