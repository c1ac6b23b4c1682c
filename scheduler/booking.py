"""Booking: the only writer of visits' times and of slots.

Functions here take an open session and `now`, flush, and never commit: the edge that began
the work (a request, a job) ends it. A refusal leaves nothing behind once the edge rolls back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from psycopg.errors import ExclusionViolation, UniqueViolation
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, Override
from models.vocabulary import AppointmentStatus, StepKind
from notifications import links, outbox
from notifications.outbox import Out
from scheduler import (
    calendars,
    checklists,
    escorts,
    facts,
    history,
    judging,
    lifecycle,
    placing,
    reopening,
    rules,
    seating,
    slots,
    waiting,
)
from scheduler.actors import Opening
from scheduler.authority import Authority, Call, Reasons
from scheduler.errors import (
    HoldExpired,
    Refusal,
    SessionFull,
    SlotTaken,
    StepAlreadyBooked,
    TooManyHolds,
    Unfit,
)
from scheduler.facts import Brief
from scheduler.history import Happened
from scheduler.judging import Proposal
from scheduler.lifecycle import Action, State
from scheduler.placing import BENDABLE, Named, Placement, Wish
from scheduler.reopening import Settled
from scheduler.waiting import Stretch

RELEASING, OFFERING = Authority("job:holds"), Authority("job:waitlist")
TRIES = 10
"""How often a choice that is ours is made anew because somebody else was faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A wish to be booked: who, what for, when, and on whose time."""

    patient_id: UUID
    starts_at: datetime
    """Of a place in a group session: when that starts."""
    step_kind: StepKind | None = None
    """For a visit outside any course. Either this or `course_step_id`."""
    course_step_id: UUID | None = None
    assignments: tuple[Named, ...] | None = None
    """Who and where. All of them get the time, or none does. None: the choice is ours."""
    reasons: Reasons = field(default_factory=Reasons)
    hold: bool = False
    """Keep the time for a while instead of booking it."""
    group_session_id: UUID | None = None
    """The session in which it is a place; its time and staff are the session's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts_at", _instant(self.starts_at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A wish to be moved."""

    starts_at: datetime
    assignments: tuple[Named, ...] | None = None
    reasons: Reasons = field(default_factory=Reasons)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts_at", _instant(self.starts_at))


def book(session: Session, order: Order, *, by: Authority, now: datetime) -> Appointment:
    """Book the visit on every schedule, or refuse it whole.

    Refuses with `NotReady` if a booking gate is shut at the start of the visit and with
    `RuleBroken` if the time breaks a course rule, both unless somebody who may gives reasons;
    with `SlotTaken` if any schedule is taken, also when another request takes it in the same
    instant; with `NoOpening` if the choice was ours and nobody is free together; with
    `StepAlreadyBooked`; with `TooManyHolds` for a hold too many; with what `placing.choose` and
    `judging` refuse, and for a place in a group session with what `seating.secure` does.
    """
    if order.hold:
        _refuse_many_holds(session, by, now)
    about = _brief(session, order)
    judging.refuse_impossible(order.starts_at, now)
    if order.group_session_id is None:
        wish = _wish(session, about, order)
        placement = secure(session, wish, now)
    else:
        place = seating.Wanted(order.group_session_id, order.starts_at)
        wish, placement = seating.secure(session, about, place, now)
    # Judged behind the patient's lock: of two visits booked at once, one sees the other.
    proposal = Proposal(
        about=about,
        starts_at=order.starts_at,
        site=placement.site,
        assignments=placement.assignments,
        reasons=order.reasons,
        now=now,
    )
    overrides = {
        **judging.weigh(session, proposal, by),
        **{code: order.reasons.given[code] for code in placement.bent},
    }
    appointment = _new(about, order.starts_at, placement, by)
    if order.hold:
        appointment.status = AppointmentStatus.PENDING
        appointment.held_until = now + timedelta(minutes=facts.clinic(session).hold_minutes)
    _take(session, appointment, wish, placement)
    action = Action.HOLD if order.hold else Action.BOOK
    happened = Happened(action=action, facts=history.passed_over(overrides))
    history.record(session, appointment, happened, by, now)
    _keep_overrides(session, appointment, overrides, by, now)
    checklists.make(session, appointment, about.visit)
    if not order.hold:
        waiting.serve(session, appointment, now)
        outbox.announce(session, facts.subject(session, appointment, about, now), now)
    _settle_session(session, appointment, now)
    return appointment


def confirm(session: Session, call: Call, *, by: Authority, now: datetime) -> Appointment:
    """Turn a hold into a booking; of a booked visit, note that the patient will come.

    Refuses with `HoldExpired` if the time is no longer held.
    """
    appointment = facts.to_change(session, Appointment, call.id, call.version)
    before = history.state_of(appointment)
    after = lifecycle.follow(Action.CONFIRM, before, appointment.kind)
    _refuse_expired(appointment, now)
    was_held = before.status is AppointmentStatus.PENDING
    appointment.status = after.status
    appointment.held_until = None
    if not was_held:
        appointment.confirmed_at = appointment.confirmed_at or now
    appointment.version += 1
    session.flush()
    if was_held:
        slots.make_firm(session, appointment.id)
        waiting.serve(session, appointment, now)
        about = facts.brief_of(session, appointment)
        outbox.announce(session, facts.subject(session, appointment, about, now), now)
    history.record(session, appointment, Happened(action=Action.CONFIRM, before=before), by, now)
    return appointment


@dataclass(frozen=True, slots=True)
class Changed:
    """A visit that was moved or cancelled, and what had been said about it before."""

    appointment: Appointment
    out: Sequence[Out]
    """Messages that had left, or may have: who got them is told of the change."""


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A visit that is on its way to another time."""

    appointment: Appointment
    before: State
    about: Brief
    moved_from: datetime
    site_id: UUID
    given_back: Stretch
    schedules: frozenset[UUID]
    """Whose time it takes until then."""


def reschedule(
    session: Session, call: Call, move: Move, *, by: Authority, now: datetime
) -> Changed:
    """Move a visit to another time, or other people, or refuse and leave it where it is.

    Judged like a new booking. What the patient confirmed or attested for the old time is
    asked again, and the old links close; other people at the same time and place change
    nothing for the patient. Refuses with `HoldExpired` if it is a hold that has run out, and
    with `Unfit` if it is a place in a group session: a cohort moves as one.
    """
    left = _leave(session, call, now)
    with _told(session, left.appointment, now):
        return _arrive(session, left, move, by, now)


@dataclass(frozen=True, slots=True)
class Shift:
    """One of several changes that are made together: a visit moved, or a lost one booked anew."""

    call: Call | None
    """The visit; None: there is none, `order` books it."""
    move: Move
    order: Order | None = None


def reschedule_together(
    session: Session,
    wanted: Mapping[UUID, Sequence[Shift]],
    *,
    by: Authority,
    now: datetime,
) -> tuple[Mapping[UUID, Sequence[Appointment]], Mapping[UUID, Refusal]]:
    """Move many visits at once, each patient's all or none.

    All leave their old times before any takes its new one, so they may change places. Returns
    the visits of each patient who was moved, and for the others what refused them; whoever
    stays keeps the old times, also from those who counted on them.
    """
    _lock_all(session, wanted)
    left, refused = dict(wanted), dict[UUID, Refusal]()
    while left:
        with session.begin_nested() as together:
            done, no = _move_all(session, left, by, now)
            if no:
                together.rollback()
        if not no:
            return done, refused
        refused |= no
        left = {patient: shifts for patient, shifts in left.items() if patient not in no}
    return {}, refused


def _lock_all(session: Session, wanted: Mapping[UUID, Sequence[Shift]]) -> None:
    """Lock every schedule that is left or entered, in one order: see `calendars.lock`."""
    shifts = [one for its in wanted.values() for one in its]
    entered = {named.schedule_id for one in shifts for named in one.move.assignments or ()}
    left = facts.all_schedules_of(session, [one.call.id for one in shifts if one.call])
    calendars.lock(session, entered | left | facts.patient_schedules(session, list(wanted)))


def _move_all(
    session: Session, wanted: Mapping[UUID, Sequence[Shift]], by: Authority, now: datetime
) -> tuple[dict[UUID, list[Appointment]], dict[UUID, Refusal]]:
    refused: dict[UUID, Refusal] = {}
    leaving: dict[UUID, list[tuple[Shift, _Leaving | None]]] = {}
    stood = _standing(session, wanted, now)
    settled = reopening.settled(session, [one for its in stood.values() for one in its], now)
    for patient_id, shifts in wanted.items():
        try:
            leaving[patient_id] = [_depart(session, shift, now) for shift in shifts]
        except Refusal as refusal:
            refused[patient_id] = refusal
    done: dict[UUID, list[Appointment]] = {}
    for patient_id, under_way in leaving.items():
        try:
            with session.begin_nested():
                done[patient_id] = [
                    _settle(session, shift, left, by, now) for shift, left in under_way
                ]
                _tell(session, stood[patient_id], settled, now)
        except Refusal as refusal:
            refused[patient_id] = refusal
    return done, refused


def _standing(
    session: Session, wanted: Mapping[UUID, Sequence[Shift]], now: datetime
) -> dict[UUID, list[Appointment]]:
    """The visits of each patient of which a move may open something anew, before any leaves."""
    found = {}
    for patient_id, shifts in wanted.items():
        moved = facts.visits_named(session, [one.call.id for one in shifts if one.call])
        ahead = facts.booked_ahead(session, patient_id, now)
        found[patient_id] = list({one.id: one for one in (*ahead, *moved)}.values())
    return found


def _depart(session: Session, shift: Shift, now: datetime) -> tuple[Shift, _Leaving | None]:
    """Give back the time of a visit; for the rules it is at its new time already."""
    if shift.call is None:
        return shift, None
    left = _leave(session, shift.call, now)
    slots.free(session, left.appointment.id)
    left.appointment.starts_at = shift.move.starts_at
    left.appointment.ends_at = shift.move.starts_at + left.about.visit.length
    session.flush()
    return shift, left


def _settle(
    session: Session, shift: Shift, left: _Leaving | None, by: Authority, now: datetime
) -> Appointment:
    if left is not None:
        return _arrive(session, left, shift.move, by, now).appointment
    assert shift.order is not None
    return book(session, shift.order, by=by, now=now)


def _leave(session: Session, call: Call, now: datetime) -> _Leaving:
    appointment = facts.to_change(session, Appointment, call.id, call.version)
    before = history.state_of(appointment)
    lifecycle.follow(Action.RESCHEDULE, before, appointment.kind)
    _refuse_expired(appointment, now)
    if appointment.group_session_id is not None:
        raise Unfit(
            "This visit is a place in a group session. Move the session; or cancel the visit and "
            "take a place in another.",
            group_session_id=str(appointment.group_session_id),
        )
    return _left(session, appointment, before)


def _left(session: Session, appointment: Appointment, before: State) -> _Leaving:
    return _Leaving(
        appointment,
        before,
        facts.brief_of(session, appointment),
        appointment.starts_at,
        appointment.site_id,
        Stretch.of(appointment),
        facts.schedules_of(session, appointment.id),
    )


def _arrive(session: Session, left: _Leaving, move: Move, by: Authority, now: datetime) -> Changed:
    appointment, about = left.appointment, left.about
    judging.refuse_impossible(move.starts_at, now)
    wish = replace(
        _wish(session, about, move, appointment.id),
        moving=appointment.id,
        leaving=left.schedules,
    )
    return _carry_out(
        session, _Moving(left, wish, secure(session, wish, now), move.reasons), by, now
    )


@dataclass(frozen=True, slots=True)
class Cohort:
    """A group session on its way to another time: placed there, and everybody locked."""

    move: Move
    placement: Placement
    by: Authority
    now: datetime


def bring_along(session: Session, appointment_id: UUID, cohort: Cohort) -> Changed:
    """Move a place along with its group session. Judged, and said, like any other move."""
    appointment = facts.to_change(session, Appointment, appointment_id, None)
    before = history.state_of(appointment)
    lifecycle.follow(Action.RESCHEDULE, before, appointment.kind)
    left = _left(session, appointment, before)
    patient = left.about.patient.schedule_id
    wish = Wish(left.about.visit, cohort.move.starts_at, patient, None, moving=appointment.id)
    moving = _Moving(left, wish, cohort.placement, cohort.move.reasons)
    with _told(session, appointment, cohort.now):
        return _carry_out(session, moving, cohort.by, cohort.now)


@dataclass(frozen=True, slots=True)
class _Moving:
    """A visit on its way to another time, whose schedules are locked."""

    left: _Leaving
    wish: Wish
    placement: Placement
    reasons: Reasons


def _carry_out(session: Session, moving: _Moving, by: Authority, now: datetime) -> Changed:
    """Move a visit. What lapses by that is the caller's to tell: others may move along."""
    left, wish, placement, reasons = moving.left, moving.wish, moving.placement, moving.reasons
    appointment, about = left.appointment, left.about
    proposal = Proposal(
        about=about,
        starts_at=wish.starts_at,
        site=placement.site,
        assignments=placement.assignments,
        reasons=reasons,
        now=now,
        moving=appointment.id,
    )
    overrides = {
        **judging.weigh(session, proposal, by),
        **{code: reasons.given[code] for code in placement.bent},
    }
    elsewhere = left.site_id != placement.site.site_id
    is_moved = elsewhere or left.moved_from != wish.starts_at
    _shift(appointment, wish, placement)
    appointment.revision += is_moved  # before reasons are kept: they speak for the new time
    _take(session, appointment, wish, placement)
    _keep_overrides(session, appointment, overrides, by, now)
    facts_of_it = {
        "from": left.moved_from,
        "to": wish.starts_at,
        **history.passed_over(overrides),
    }
    happened = Happened(action=Action.RESCHEDULE, before=left.before, facts=facts_of_it)
    history.record(session, appointment, happened, by, now)
    if not is_moved:
        if appointment.status is AppointmentStatus.BOOKED:  # other people: nothing to the patient
            subject = facts.subject(session, appointment, about, now)
            outbox.hand_over(session, subject, appointment.version, now)
        return Changed(appointment, [])
    if appointment.status is AppointmentStatus.BOOKED:
        waiting.note_freed(session, left.given_back, now)
        if appointment.starts_at < left.moved_from:
            waiting.serve_earlier(session, appointment, now)
    appointment.confirmed_at = None
    appointment.move_requested_at = None
    appointment.suspended_at = None
    checklists.renew(session, appointment, about.visit)
    escorts.ask_again(session, appointment.id)
    links.revoke(session, appointment.id, now)
    out = outbox.supersede(session, appointment.id, now)
    if appointment.status is AppointmentStatus.BOOKED:
        subject = facts.subject(session, appointment, about, now)
        outbox.announce_move(session, subject, now, elsewhere=elsewhere)
    return Changed(appointment, out)


@contextmanager
def _told(session: Session, moved: Appointment, now: datetime) -> Iterator[None]:
    """Tell of what lapses by the move of a visit."""
    ahead = _ahead(session, moved, now)
    settled = reopening.settled(session, ahead, now)
    yield
    _tell(session, ahead, settled, now)


def _tell(session: Session, visits: Sequence[Appointment], settled: Settled, now: datetime) -> None:
    booked = [one for one in visits if one.status is AppointmentStatus.BOOKED]
    reopening.tell(session, booked, settled, now)


def _ahead(session: Session, moved: Appointment, now: datetime) -> list[Appointment]:
    """What a move may open anew: the visit itself, and what counts from a dose that moves."""
    if moved.kind is not StepKind.DOSING:
        return [moved]
    ahead = facts.booked_ahead(session, moved.patient_id, now)
    return [moved, *(one for one in ahead if one.id != moved.id)]


def falling_away(
    session: Session, visit: Appointment, now: datetime
) -> AbstractContextManager[None]:
    """Tell of what lapses where a dose falls away meanwhile: a clearance may count from it."""
    if visit.kind is not StepKind.DOSING:
        return nullcontext()
    return reopening.told_after(session, visit.patient_id, now)


def cancel(session: Session, call: Call, *, by: Authority, now: datetime) -> Changed:
    """Cancel a visit: its time is free at once, and who knew of it is told."""
    calendars.lock(session, facts.schedules_of(session, call.id))  # before the row, as bookings do
    appointment = facts.to_change(session, Appointment, call.id, call.version)
    before = history.state_of(appointment)
    after = lifecycle.follow(Action.CANCEL, before, appointment.kind)
    about = facts.brief_of(session, appointment)
    _free(session, appointment)
    with falling_away(session, appointment, now):
        appointment.status, appointment.progress = after.status, after.progress
        appointment.held_until = None
        appointment.revision += 1
        appointment.version += 1
        session.flush()
    happened = Happened(action=Action.CANCEL, before=before, reason=call.reason)
    history.record(session, appointment, happened, by, now)
    if before.status is not AppointmentStatus.PENDING:
        waiting.note_freed(session, Stretch.of(appointment), now)
    links.revoke(session, appointment.id, now)
    out = outbox.supersede(session, appointment.id, now)
    if appointment.starts_at > now:
        outbox.announce_cancellation(session, facts.subject(session, appointment, about, now), now)
    _settle_session(session, appointment, now)
    return Changed(appointment, out)


def take_back(session: Session, visit: Appointment, after: State, now: datetime) -> None:
    """Undo what a visit stands for: its time is free, and what is planned about it is off.

    What lapses by that for other visits is the caller's to tell.
    """
    was_standing = visit.status is AppointmentStatus.BOOKED
    _free(session, visit)
    about = facts.brief_of(session, visit)
    visit.status, visit.progress, visit.held_until = after.status, after.progress, None
    visit.revision += 1
    visit.version += 1
    session.flush()
    links.revoke(session, visit.id, now)
    outbox.supersede(session, visit.id, now)
    if was_standing and visit.starts_at > now:
        waiting.note_freed(session, Stretch.of(visit), now)
        outbox.announce_cancellation(session, facts.subject(session, visit, about, now), now)
    _settle_session(session, visit, now)


def give_back(session: Session, missed: Appointment, now: datetime) -> None:
    """Free what is still ahead of a visit to which nobody came."""
    if missed.ends_at > now:
        _free(session, missed)
        waiting.note_freed(session, Stretch.of(missed), now)


def propose(
    session: Session, about: Brief, opening: Opening, *, until: datetime | None, now: datetime
) -> Appointment:
    """Set down a time that a patient is offered; with `until`, keep it for them till then.

    It is no step's visit: whoever accepts books one, and is judged then. Refuses with
    `SlotTaken` and `AtCapacity` if the time cannot be kept, and for a place in a group session
    with what `seating.secure` does.
    """
    wish, placement = _offered(session, about, opening, now, keep=until is not None)
    proposed = _new(about, opening.starts_at, placement, OFFERING)
    proposed.course_id = proposed.course_step_id = None
    proposed.status, proposed.held_until = AppointmentStatus.PROPOSED, until
    if until is None:
        session.add(proposed)
        session.flush()
    else:
        _take(session, proposed, wish, placement)
        _settle_session(session, proposed, now)
    history.record(session, proposed, Happened(action=Action.OFFER), OFFERING, now)
    return proposed


def _offered(
    session: Session, about: Brief, opening: Opening, now: datetime, *, keep: bool
) -> tuple[Wish, Placement]:
    if opening.group_session_id is not None:
        place = seating.Wanted(opening.group_session_id, opening.starts_at)
        return seating.secure(session, about, place, now)
    placement = Placement(opening.site, opening.assignments)
    wish = Wish(about.visit, opening.starts_at, about.patient.schedule_id, named=())
    return wish, placing.secure(session, wish, placement, now) if keep else placement


def _settle_session(session: Session, visit: Appointment, now: datetime) -> None:
    """Tell the group session in which a visit has a place, if any, that who is in it changed."""
    if visit.group_session_id is not None:
        seating.settle(session, visit.group_session_id, now)


def end_proposed(session: Session, call: Call, *, by: Authority, now: datetime) -> Sequence[Out]:
    """End a proposed visit: what it kept is free. Returns what had been said about it."""
    calendars.lock(session, facts.schedules_of(session, call.id))
    proposed = facts.to_change(session, Appointment, call.id, call.version)
    if proposed.status is AppointmentStatus.PROPOSED:
        _end(session, proposed, Happened(action=Action.END_OFFER, reason=call.reason), by, now)
    return outbox.supersede(session, proposed.id, now)


def release_expired_holds(session: Session, now: datetime) -> int:
    """Cancel every hold of the clinic that has run out. Returns how many."""
    freed = 0
    for appointment_id in facts.expired_holds(session, now):
        calendars.lock(session, facts.schedules_of(session, appointment_id))
        appointment = facts.to_change(session, Appointment, appointment_id, None)
        if appointment.held_until is None or appointment.held_until > now:
            continue  # somebody was faster
        _end(session, appointment, Happened(action=Action.EXPIRE), RELEASING, now)
        freed += 1
    return freed


def _end(
    session: Session, tentative: Appointment, happened: Happened, by: Authority, now: datetime
) -> None:
    """End a visit that was only held or proposed."""
    before = history.state_of(tentative)
    after = lifecycle.follow(Action(happened.action), before, tentative.kind)
    _free(session, tentative)
    tentative.status = after.status
    tentative.held_until = None
    tentative.revision += 1
    tentative.version += 1
    session.flush()
    history.record(session, tentative, replace(happened, before=before), by, now)
    _settle_session(session, tentative, now)


def _refuse_many_holds(session: Session, by: Authority, now: datetime) -> None:
    """Count the caller's holds behind a lock of theirs: of two at once, one sees the other."""
    calendars.lock_name(session, f"holds of {by.name}")
    held, most = facts.holds_of(session, by.name, now), facts.clinic(session).holds_per_caller
    if len(held) >= most:
        raise TooManyHolds(
            f"You hold {len(held)} times already; the clinic allows {most} at once. Confirm or "
            "cancel some, or wait until one runs out.",
            held=len(held),
            most=most,
            next_expires_at=held[0].isoformat().replace("+00:00", "Z"),
        )


def refusing_taken(session: Session, write: Callable[[], None]) -> None:
    """Write slots in a savepoint; what is taken, PostgreSQL refuses in our words."""
    try:
        with session.begin_nested():  # keeps the session usable
            write()
    except IntegrityError as error:
        raise _why(error) from error


def _instant(moment: datetime) -> datetime:
    """In UTC: an hour added to a time that carries a zone is an hour on its wall, not elapsed."""
    return moment.astimezone(UTC)


def _refuse_expired(appointment: Appointment, now: datetime) -> None:
    if appointment.held_until is not None and appointment.held_until <= now:
        raise HoldExpired("The time was held for a while and is not any more. Book it anew.")


def _free(session: Session, appointment: Appointment) -> None:
    """Give the visit's time back, behind the same locks as taking it."""
    calendars.lock(session, facts.schedules_of(session, appointment.id))
    slots.free(session, appointment.id)


def _brief(session: Session, order: Order) -> Brief:
    if order.course_step_id is not None:
        return facts.brief_of_step(session, order.patient_id, order.course_step_id)
    if order.step_kind is None:
        raise Unfit("Say what the visit is for: a step_kind or a course_step_id.")
    return facts.brief_of_kind(session, order.patient_id, order.step_kind)


def _wish(session: Session, about: Brief, order: Order | Move, moving: UUID | None = None) -> Wish:
    wish = Wish(
        about.visit,
        order.starts_at,
        about.patient.schedule_id,
        order.assignments,
        region=about.region(),
    )
    if order.assignments is not None:
        return replace(wish, waived=BENDABLE.intersection(order.reasons.given))
    if about.course_id is None or about.step is None:
        return wish
    others = facts.other_visits(session, about.patient.id, about.course_id, moving)
    return replace(
        wish,
        prefer=facts.therapists_of(session, about.course_id),
        ties=rules.ties_of(about.step, about.protocol, others),
    )


def _new(about: Brief, starts_at: datetime, placement: Placement, by: Authority) -> Appointment:
    seat = placement.seat
    return Appointment(
        id=uuid7(),
        group_session_id=None if seat is None else seat.group_session_id,
        place=None if seat is None else seat.place,
        places=None if seat is None else seat.places,
        patient_id=about.patient.id,
        course_id=about.course_id,
        course_step_id=about.course_step_id,
        protocol_version_id=about.protocol_version_id,
        visit=about.visit.key,
        kind=about.visit.kind,
        site_id=placement.site.site_id,
        status=AppointmentStatus.BOOKED,
        starts_at=starts_at,
        ends_at=starts_at + about.visit.length,
        booked_by=by.name,
        revision=1,
        version=1,
    )


def _shift(appointment: Appointment, wish: Wish, placement: Placement) -> None:
    appointment.starts_at = wish.starts_at
    appointment.ends_at = wish.starts_at + wish.visit.length
    appointment.site_id = placement.site.site_id
    appointment.version += 1


def secure(session: Session, wish: Wish, now: datetime) -> Placement:
    """Choose and lock. If the choice is ours and somebody was faster, choose again."""
    if wish.named is not None:
        return placing.secure(session, wish, placing.choose(session, wish), now)
    tries = TRIES
    while True:
        tries -= 1
        placement = placing.choose(session, wish)
        try:
            with session.begin_nested():  # gives the locks back
                return placing.secure(session, wish, placement, now)
        except SlotTaken:
            if tries == 0:
                raise


def _take(session: Session, appointment: Appointment, wish: Wish, placement: Placement) -> None:
    """Write the visit and its slots. PostgreSQL has the last word."""

    def write() -> None:
        session.add(appointment)
        session.flush()
        slots.put(session, appointment, wish, placement)

    refusing_taken(session, write)


def _why(error: IntegrityError) -> Exception:
    """Put PostgreSQL's refusal into our words, where we have some."""
    if isinstance(error.orig, ExclusionViolation):
        return SlotTaken("That time is taken.")
    name = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    if name in {"uq__appointment__place", "ck__appointment__place_is_there"}:
        return SessionFull("Every place of this session is taken.")
    if isinstance(error.orig, UniqueViolation) and name == "uq__appointment__live_step":
        return StepAlreadyBooked("This step of the course is booked already.")
    return error


def _keep_overrides(
    session: Session,
    appointment: Appointment,
    overrides: Mapping[str, str],
    by: Authority,
    now: datetime,
) -> None:
    session.add_all(
        Override(
            id=uuid7(),
            appointment_id=appointment.id,
            code=code,
            reason=reason,
            by=by.name,
            at=now,
            starts_at=appointment.starts_at,
            revision=appointment.revision,
        )
        for code, reason in overrides.items()
    )
