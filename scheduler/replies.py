"""Replies: what patients answer, and what follows from it in the same transaction.

A reply counts once, however often a provider tells it. A keyword acts at once; everything else
waits in the inbox with a task, and words of crisis alarm people and are answered with the
clinic's emergency text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Appointment, ChannelConsent, Patient, Reply
from models.vocabulary import (
    AppointmentStatus,
    Channel,
    MessageKind,
    OfferState,
    Owner,
    Recipient,
    ReplyMeaning,
    TaskKind,
)
from notifications import answers, fallback, invitation, outbox, reading
from notifications.outbox import Notice
from notifications.rsvp import Rsvp
from scheduler import alarms, booking, checklists, facts, offers, tasks
from scheduler.alarms import Alarm
from scheduler.authority import Authority, Call
from scheduler.errors import OfferGone, Refusal
from scheduler.tasks import Wanted

PATIENT = Authority("patient")
AT_ONCE, TODAY = timedelta(minutes=5), timedelta(hours=4)
USEFUL = timedelta(hours=12)
"""For how long an answer to an answer is of use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A message that came in."""

    provider: str
    reference: str
    channel: Channel
    sender: str
    """A number in E.164."""
    body: str


def hear(session: Session, heard: Heard, now: datetime) -> Reply | None:
    """Take in a reply and act on it. None if it was heard before."""
    patients = facts.patients_at(session, heard.sender)
    asked = facts.last_said(session, [patient.id for patient in patients], heard.channel)
    patient = next((one for one in patients if asked and one.id == asked.recipient_id), None)
    patient = patient or (patients[0] if len(patients) == 1 else None)
    meaning = answers.read(
        heard.body,
        asked.kind if asked else None,
        opted_out=any(heard.channel in one.opted_out for one in patients),
    )
    reply = _keep(
        session,
        Reply(
            id=uuid7(),
            provider=heard.provider,
            reference=heard.reference,
            channel=heard.channel,
            patient_id=patient.id if patient else None,
            appointment_id=asked.appointment_id if asked and patient else None,
            meaning=meaning,
            body=heard.body,
            at=now,
        ),
    )
    if reply is not None:
        _act(session, reply, patients, now)
    return reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a patient wants of a channel, and how we know."""

    channel: Channel
    given: bool
    wording: str
    """What the patient was shown, or wrote."""
    source: str
    noted_by: str
    at: datetime

    def line(self, patient: Patient) -> ChannelConsent:
        """A line of the record of consent."""
        return ChannelConsent(
            id=uuid7(),
            patient_id=patient.id,
            channel=self.channel,
            given=self.given,
            wording=self.wording[:1000],
            source=self.source,
            noted_by=self.noted_by,
            at=self.at,
        )


def grant(session: Session, patient: Patient, wish: Wish) -> None:
    """Note whether a patient wants to be written to on a channel, and act on it at once.

    If not, what waits goes another way. If so, and it is new, it is their last choice.
    """
    session.add(wish.line(patient))
    code = wish.channel.value
    opted_out = [one for one in patient.opted_out if one != code]
    if not wish.given:
        opted_out.append(code)
    elif code not in patient.channels:
        patient.channels = [*patient.channels, code]
    patient.opted_out = opted_out
    patient.version += 1
    session.flush()
    if not wish.given:
        fallback.reroute(reading.raw(session), patient.id, wish.channel, wish.at)


def hear_calendar(session: Session, rsvp: Rsvp, now: datetime) -> Reply | None:
    """Take in what a patient's calendar answered to an invitation of the entered clinic.

    None if it is not about a visit as it stands, or was heard before. Coming confirms. A decline
    asks for another time, as words would; the visit stands until people decide.
    """
    home = facts.clinic(session)
    visit = next(
        (
            one
            for one in facts.upcoming_of_address(session, rsvp.attendee, now)
            if invitation.uid(home.clinic_id, one.id) == rsvp.uid
            and one.revision - 1 == rsvp.sequence
        ),
        None,
    )
    if visit is None:
        return None
    said = "accepted" if rsvp.comes else "declined"
    reply = _keep(
        session,
        Reply(
            id=uuid7(),
            provider="calendar",
            reference=f"{rsvp.uid}:{rsvp.sequence}:{said}",
            channel=Channel.EMAIL,
            patient_id=visit.patient_id,
            appointment_id=visit.id,
            meaning=ReplyMeaning.CONFIRM if rsvp.comes else ReplyMeaning.MOVE,
            body="",
            at=now,
        ),
    )
    if reply is not None and rsvp.comes:
        booking.confirm(session, Call(visit.id, None), by=PATIENT, now=now)
    elif reply is not None:
        _decline(session, reply, visit, now)
    return reply


def note_wellbeing(
    session: Session, appointment: Appointment, meaning: ReplyMeaning, now: datetime
) -> None:
    """The patient said on the page that they are well, or that they want a call."""
    reply = Reply(
        id=uuid7(),
        provider="page",
        reference=str(uuid7()),
        channel=Channel.EMAIL,
        patient_id=appointment.patient_id,
        appointment_id=appointment.id,
        meaning=meaning,
        body="",
        at=now,
    )
    session.add(reply)
    session.flush()
    if meaning is ReplyMeaning.CALL_ME:
        _ask(session, reply, TaskKind.SAFETY_CHECK, now + TODAY)


def _keep(session: Session, reply: Reply) -> Reply | None:
    columns = {name: getattr(reply, name) for name in _COLUMNS}
    columns[Reply.body.stored] = Reply.body.sealed_for(session, reply.id, reply.body)
    kept = session.execute(
        insert(Reply).values(columns).on_conflict_do_nothing().returning(Reply.id)
    ).scalar()
    return None if kept is None else facts.one(session, Reply, kept)


_COLUMNS = (
    *("id", "provider", "reference", "channel", "patient_id", "appointment_id", "meaning"),
    "at",
)


def _act(session: Session, reply: Reply, patients: Sequence[Patient], now: datetime) -> None:
    _ACTS.get(reply.meaning, _leave_to_people)(session, reply, patients, now)


def _leave_to_people(
    session: Session, reply: Reply, _patients: Sequence[Patient], now: datetime
) -> None:
    _ask(session, reply, TaskKind.READ_REPLY, now + TODAY)


def _opt(session: Session, reply: Reply, patients: Sequence[Patient], now: datetime) -> None:
    """Who shares the number is meant as well."""
    given = reply.meaning is ReplyMeaning.START
    for patient in patients:
        wish = Wish(
            channel=reply.channel,
            given=given,
            wording=reply.body,
            source=reply.channel.value,
            noted_by="patient",
            at=now,
        )
        grant(session, patient, wish)
    kind = MessageKind.OPTED_IN if given else MessageKind.OPTED_OUT
    _answer(session, reply, patients, kind, now)


def _help(session: Session, reply: Reply, patients: Sequence[Patient], now: datetime) -> None:
    _answer(session, reply, patients, MessageKind.HELP, now)


def _wellbeing(session: Session, reply: Reply, patients: Sequence[Patient], now: datetime) -> None:
    if reply.patient_id is None:
        _leave_to_people(session, reply, patients, now)
        return
    if reply.meaning is ReplyMeaning.CALL_ME:
        _ask(session, reply, TaskKind.SAFETY_CHECK, now + TODAY)
    _answer(session, reply, patients, MessageKind.NOTED, now)


def _about_visit(
    session: Session, reply: Reply, patients: Sequence[Patient], now: datetime
) -> None:
    """The patient will come, or asks for another time; if that cannot be, people read it."""
    appointment_id = reply.appointment_id
    visit = None if appointment_id is None else facts.one(session, Appointment, appointment_id)
    if visit is None or visit.status is not AppointmentStatus.BOOKED or visit.starts_at <= now:
        _ask(session, reply, TaskKind.READ_REPLY, now + TODAY)
        return
    try:
        with session.begin_nested():
            if reply.meaning is ReplyMeaning.CONFIRM:
                booking.confirm(session, Call(visit.id, None), by=PATIENT, now=now)
            else:
                checklists.ask_to_move(session, visit.id, by=PATIENT, now=now)
                _ask(session, reply, TaskKind.MOVE_VISIT, now + TODAY)
    except Refusal:
        _ask(session, reply, TaskKind.READ_REPLY, now + TODAY)
        return
    _answer(session, reply, patients, MessageKind.NOTED, now)


def _about_offer(
    session: Session, reply: Reply, patients: Sequence[Patient], now: datetime
) -> None:
    """The patient takes a time that is offered, or lets it go; gone, they are told kindly."""
    offer = None
    if reply.appointment_id is not None:
        offer = facts.offer_of(session, reply.appointment_id)
    if offer is None:
        _ask(session, reply, TaskKind.READ_REPLY, now + TODAY)
        return
    answer = offers.accept if reply.meaning is ReplyMeaning.ACCEPT else offers.decline
    try:
        with session.begin_nested():
            offer = answer(session, Call(offer.id, None), by=PATIENT, now=now)
    except OfferGone:
        if reply.meaning is ReplyMeaning.ACCEPT:
            offers.tell_gone(session, offer, now)
        return
    except Refusal:
        _ask(session, reply, TaskKind.READ_REPLY, now + TODAY)
        return
    if offer.state is OfferState.LOST:
        offers.tell_gone(session, offer, now)
    else:
        _answer(session, reply, patients, MessageKind.NOTED, now)


def _decline(session: Session, reply: Reply, visit: Appointment, now: datetime) -> None:
    checklists.ask_to_move(session, visit.id, by=PATIENT, now=now)
    _ask(session, reply, TaskKind.MOVE_VISIT, now + TODAY)
    outbox.notify(
        session,
        Notice(
            kind=MessageKind.DECLINED,
            recipient=Recipient.PATIENT,
            recipient_id=visit.patient_id,
            subject_id=reply.id,
            occasion=MessageKind.DECLINED.value,
            due_at=now,
            not_after=min(now + USEFUL, visit.starts_at),
            appointment_id=visit.id,
            revision=visit.revision,
            starts_at=visit.starts_at,
        ),
        now,
    )


def _alarm(session: Session, reply: Reply, patients: Sequence[Patient], now: datetime) -> None:
    """Somebody may be in danger: tell the clinicians and the desk, and say whom to call."""
    alarm = Alarm(
        task=TaskKind.CRISIS,
        message=MessageKind.CRISIS,
        subject_id=reply.id,
        about_id=reply.patient_id or reply.id,
        occasion="crisis",
        due_at=now + AT_ONCE,
        patient_id=reply.patient_id,
        appointment_id=reply.appointment_id,
    )
    alarms.sound(session, alarm, now)
    if facts.clinic(session).emergency_text:
        _answer(session, reply, patients, MessageKind.EMERGENCY, now)


def _answer(
    session: Session, reply: Reply, patients: Sequence[Patient], kind: MessageKind, now: datetime
) -> None:
    """Answer once, to the number that wrote."""
    reader = reply.patient_id or (patients[0].id if patients else None)
    if reader is None:
        return
    notice = Notice(
        kind=kind,
        recipient=Recipient.PATIENT,
        recipient_id=reader,
        subject_id=reply.id,
        occasion=kind.value,
        due_at=now,
        not_after=now + USEFUL,
        channel=reply.channel,
    )
    outbox.notify(session, notice, now)


def _ask(session: Session, reply: Reply, kind: TaskKind, due_at: datetime) -> None:
    wanted = Wanted(
        kind=kind,
        subject_id=reply.id,
        due_at=due_at,
        owner=Owner.CLINICIAN if kind in _FOR_CLINICIANS else Owner.FRONT_DESK,
        urgent=kind in _FOR_CLINICIANS,
        patient_id=reply.patient_id,
        appointment_id=reply.appointment_id,
    )
    tasks.ask(session, wanted)


_FOR_CLINICIANS = frozenset({TaskKind.SAFETY_CHECK})

_ACTS: Mapping[ReplyMeaning, Callable[[Session, Reply, Sequence[Patient], datetime], None]] = {
    ReplyMeaning.STOP: _opt,
    ReplyMeaning.START: _opt,
    ReplyMeaning.HELP: _help,
    ReplyMeaning.CRISIS: _alarm,
    ReplyMeaning.CONFIRM: _about_visit,
    ReplyMeaning.MOVE: _about_visit,
    ReplyMeaning.ACCEPT: _about_offer,
    ReplyMeaning.DECLINE: _about_offer,
    ReplyMeaning.WELL: _wellbeing,
    ReplyMeaning.CALL_ME: _wellbeing,
}
