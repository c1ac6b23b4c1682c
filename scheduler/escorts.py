"""Escorts: who takes a patient home, and what they say to it.

Functions here flush and never commit. Who was named and is not any more stays to be seen, and
is told if they had been asked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, Escort
from models.vocabulary import AppointmentStatus, Progress, Recipient, TaskKind, WayHome
from notifications import outbox
from scheduler import checklists, facts, history, tasks
from scheduler.authority import Authority
from scheduler.errors import Stale, Unfit, WrongStatus
from scheduler.history import Happened
from scheduler.tasks import Wanted

ESCORT = Authority("escort")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEscort:
    """Who will take the patient home."""

    name: str
    phone: str
    relation: str
    email: str | None = None
    may_message: bool = False
    way: WayHome = WayHome.ESCORT
    confirmed: bool = False
    """Somebody heard from them that they will come. Staff say so, not the patient."""
    seen: Callable[[], int] | None = None
    """The version of the escort that the caller last saw, asked if one is named already; None:
    whatever it is now."""


def name_escort(
    session: Session, appointment_id: UUID, told: NewEscort, *, by: Authority, now: datetime
) -> Escort:
    """Name, or replace, the escort of a visit; plans what is to be said to them.

    A patient cannot say that the escort said yes: staff hear that from the escort, or they say
    so themselves. Refuses with `Stale` if somebody has changed the escort since `told.seen`, and
    with `Unfit` for a way home that the protocol does not allow.
    """
    appointment = facts.to_change(session, Appointment, appointment_id, None)
    checklists.refuse_unless_ahead(appointment)
    _refuse_way(session, appointment, told.way)
    escort = facts.escort_to_change(session, appointment_id)
    if escort is not None and told.seen is not None and escort.version != told.seen():
        raise Stale("This escort was changed in the meantime. Read it again.")
    same_person = escort is not None and (escort.name, escort.phone) == (told.name, told.phone)
    if escort is None or not same_person:
        version = 0 if escort is None else escort.version
        if escort is not None:
            _replace(session, appointment, escort, now)
        escort = Escort(id=uuid7(), appointment_id=appointment_id, version=version)
        session.add(escort)
    escort.name, escort.phone, escort.email = told.name, told.phone, told.email
    escort.relation, escort.may_message = told.relation, told.may_message
    escort.way, escort.named_by = told.way, by.name
    if told.confirmed and by.is_staff:
        escort.confirmed_at = now
    elif not same_person or (by.is_staff and not told.confirmed):
        escort.confirmed_at = None
    escort.version += 1
    session.flush()
    _tell(session, appointment, escort, now)
    happened = Happened(action="name-escort", before=history.state_of(appointment))
    history.record(session, appointment, happened, by, now)
    return escort


def answer(
    session: Session, escort_id: UUID, *, comes: bool, revision: int | None, now: datetime
) -> Escort:
    """Note what the escort says themselves: that they will come, or cannot.

    Who cannot is for staff to settle with the patient: a task says so. Refuses with `NotFound`,
    with `WrongStatus` once the patient has left, the visit is off, or has another escort, and
    with `Stale` unless it is said of the time at which the visit stands, by its `revision`.
    """
    visit_id = facts.one(session, Escort, escort_id).appointment_id
    appointment = facts.to_change(session, Appointment, visit_id, None)  # first, as who moves it
    escort = facts.to_change(session, Escort, escort_id, None)
    if not is_needed(escort, appointment):
        raise WrongStatus("This is settled otherwise.", visit_status=appointment.status)
    if revision != appointment.revision:
        raise Stale("The visit was moved in the meantime. Look at its time again.")
    escort.confirmed_at = now if comes else None
    escort.version += 1
    session.flush()
    wanted = Wanted(
        kind=TaskKind.FIND_ESCORT,
        subject_id=escort.id,
        due_at=max(now, min(now + timedelta(hours=4), appointment.starts_at)),
        urgent=appointment.starts_at - now < timedelta(days=1),
        patient_id=appointment.patient_id,
        appointment_id=appointment.id,
    )
    tasks.keep(session, wanted, now, stands=not comes)
    action = "escort-comes" if comes else "escort-cannot"
    happened = Happened(action=action, before=history.state_of(appointment))
    history.record(session, appointment, happened, ESCORT, now)
    return escort


def is_needed(escort: Escort, visit: Appointment) -> bool:
    """Whether an escort is still to come: the visit stands, and the patient has not left."""
    has_left = visit.progress is Progress.DISCHARGED
    return escort.replaced_at is None and visit.status in _STANDS and not has_left


_STANDS = frozenset(
    {AppointmentStatus.BOOKED, AppointmentStatus.ARRIVED, AppointmentStatus.CHECKED_IN}
)


def ask_again(session: Session, appointment_id: UUID) -> None:
    """A yes was to the old time of a visit: for the new one it is asked for again."""
    session.execute(_ASK_AGAIN, {"appointment": appointment_id})


def _refuse_way(session: Session, visit: Appointment, way: WayHome) -> None:
    allowed = facts.brief_of(session, visit).visit.ways_home
    ways = [one for one in allowed if one is not WayHome.ALONE]  # nobody is named to
    if way not in ways:
        told = ", ".join(ways)
        raise Unfit(f"The protocol allows: {told}.", field="way")


def _replace(session: Session, visit: Appointment, escort: Escort, now: datetime) -> None:
    """Let somebody go who was named; if they knew, they are told."""
    if visit.status is AppointmentStatus.BOOKED and escort.may_message:
        about = facts.brief_of(session, visit)
        subject = facts.subject(session, visit, about, now).only(Recipient.ESCORT)
        outbox.supersede(session, visit.id, now, recipient_id=escort.id)
        outbox.announce_cancellation(session, subject, now)
    escort.replaced_at = now
    escort.version += 1
    session.flush()


def _tell(session: Session, visit: Appointment, escort: Escort, now: datetime) -> None:
    """Plan the escort's messages, or take them back if they may not be written to."""
    if visit.status is not AppointmentStatus.BOOKED:
        return
    if not escort.may_message:
        outbox.supersede(session, visit.id, now, recipient_id=escort.id)
        return
    about = facts.brief_of(session, visit)
    subject = facts.subject(session, visit, about, now).only(Recipient.ESCORT)
    outbox.announce(session, subject, now)


_ASK_AGAIN = text(
    "UPDATE escort SET confirmed_at = NULL, version = version + 1 "
    "WHERE appointment_id = :appointment AND replaced_at IS NULL"
)
