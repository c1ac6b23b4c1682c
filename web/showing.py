"""What the patient's page shows: this one visit and its checklist, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from uuid import UUID
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_time, get_timezone_location
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Appointment, ChecklistItem, Escort, Offer, Patient, Site
from models.vocabulary import AppointmentStatus, GateState, MedicineAction, Owner
from notifications import invitation, languages
from notifications.invitation import Entry, Method
from scheduler import consents, evidence, facts, lines, questionnaires, screening, wordings
from scheduler.consents import Ask as Asked
from scheduler.protocols import SettledBy
from scheduler.questionnaires import known
from scheduler.screening import LEFT_OUT
from web.visitor import Visitor
from web.words import ACCESSES, SUMMARY


@dataclass(frozen=True, slots=True)
class Ask:
    """A questionnaire among those that a visit asks for. Its name stands in no address."""

    number: int
    """Which of them, from 1."""
    is_filled: bool
    is_begun: bool


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Medicines that the patient leaves out, as it was approved."""

    names: Sequence[str]
    for_a_day: bool
    """For 24 hours before; else on the day alone."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Something that the patient signed, to take along."""

    id: UUID
    title: str
    language: str
    day: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One visit, as its patient sees it."""

    given_name: str
    day: str
    time: str
    place: str
    """Whose time it is: a city, never an offset."""
    site: Site
    appointment: Appointment
    items: Sequence[ChecklistItem]
    escort: Escort | None
    asks_for_escort: bool
    offer: Offer | None
    """The visit is merely offered, or was."""
    sheets: Mapping[str, Sequence["Ask"]] = field(default_factory=dict)
    """By checklist item the questions that it waits for."""
    left_out: Sequence[LeftOut] = ()
    """What was agreed that they leave out before this visit."""
    so_far: str | None = None
    who_looked: str = ""
    """What the page about the whole course is called, in the patient's language."""
    papers: Sequence[tuple[int, Asked]] = ()
    """What is to be signed, or was declined, each with its number."""
    copies: Sequence[Copy] = ()

    @property
    def is_unsure(self) -> bool:
        """Whether it is suspended: nothing may say that it takes place."""
        return self.is_ahead and self.appointment.suspended_at is not None

    @property
    def is_ahead(self) -> bool:
        return self.appointment.status is AppointmentStatus.BOOKED

    @property
    def is_over(self) -> bool:
        return self.appointment.status in {
            AppointmentStatus.CHECKED_IN,
            AppointmentStatus.FULFILLED,
        }

    @property
    def is_off(self) -> bool:
        return self.appointment.status is AppointmentStatus.CANCELLED


def calendar(session: Session, visitor: Visitor, now: datetime) -> bytes:
    """The visit as iCalendar, for the patient's own calendar."""
    appointment = facts.one(session, Appointment, visitor.link.appointment_id)
    patient = facts.one(session, Patient, visitor.link.patient_id)
    site = facts.one(session, Site, appointment.site_id)
    clinic = visitor.clinic
    entry = Entry(
        clinic_id=clinic.clinic_id,
        appointment_id=appointment.id,
        revision=appointment.revision,
        starts_at=appointment.starts_at,
        ends_at=appointment.ends_at,
        clinic=clinic.name,
        clinic_email=clinic.email,
        place=f"{site.name}, {site.address}",
        language=patient.language,
        is_certain=appointment.suspended_at is None,
    )
    return invitation.calendar([entry], Method.PUBLISH, now)


def visit(session: Session, visitor: Visitor, now: datetime) -> Shown:
    """Gather what the page shows to a visitor who is known."""
    appointment = facts.one(session, Appointment, visitor.link.appointment_id)
    patient = facts.one(session, Patient, visitor.link.patient_id)
    site = facts.one(session, Site, appointment.site_id)
    starts = appointment.starts_at.astimezone(ZoneInfo(site.time_zone))
    items = session.scalars(
        select(ChecklistItem)
        .where(ChecklistItem.appointment_id == appointment.id, ChecklistItem.owner == Owner.PATIENT)
        .order_by(ChecklistItem.due_at, ChecklistItem.id)
    ).all()
    offer = facts.offer_of(session, appointment.id)
    gates = facts.protocol(session, appointment.protocol_version_id).visits[appointment.visit].gates
    return Shown(
        given_name=patient.given_name,
        day=format_date(starts, "full", locale="en_US"),
        time=format_time(starts, "short", tzinfo=starts.tzinfo, locale="en_US"),
        place=get_timezone_location(site.time_zone, locale="en_US", return_city=True),
        site=site,
        appointment=appointment,
        items=items,
        escort=facts.escort_of(session, appointment.id),
        offer=offer,
        sheets=_sheets(session, appointment),
        left_out=_left_out(session, appointment, now),
        so_far=_so_far(appointment, patient),
        who_looked=languages.translate(patient.language, ACCESSES["title"]),
        papers=_papers(session, appointment, now),
        copies=_copies(session, appointment, starts.tzinfo),
        asks_for_escort=offer is None
        and any(gate.settled_by is SettledBy.ESCORT for gate in gates),
    )


def _so_far(visit: Appointment, patient: Patient) -> str | None:
    if visit.course_id is None:
        return None
    return languages.translate(patient.language, SUMMARY["title"])


def _papers(session: Session, visit: Appointment, now: datetime) -> Sequence[tuple[int, Asked]]:
    asked = enumerate(consents.asked_of(session, visit, now), start=1)
    return [(number, ask) for number, ask in asked if ask.is_open or ask.is_refused]


def _copies(session: Session, visit: Appointment, zone: tzinfo | None) -> Sequence[Copy]:
    return [
        Copy(
            id=one.id,
            title=text.title,
            language=text.language,
            day=format_date(one.signed_at.astimezone(zone), "long", locale="en_US"),
        )
        for one, text in facts.consents_of(session, visit)
    ]


def _sheets(session: Session, visit: Appointment) -> Mapping[str, Sequence[Ask]]:
    asked = questionnaires.asked_of(session, visit)
    if not asked:
        return {}
    filled = facts.instruments_filled(session, visit)
    begun = {draft.instrument for draft in facts.drafts_of(session, visit.id)}
    return {
        check.code: [
            Ask(asked.index(code) + 1, code in filled, code in begun)
            for code in check.instruments
            if code in filled or wordings.sheet(session, known(code)) is not None
        ]
        for check in facts.brief_of(session, visit).visit.checklist
        if check.instruments
    }


def _left_out(session: Session, visit: Appointment, now: datetime) -> list[LeftOut]:
    """What was approved, once all of it is and as long as the list holds for this visit."""
    gates = facts.brief_of(session, visit).visit.gates
    if visit.status is not AppointmentStatus.BOOKED or not any(one.medicines for one in gates):
        return []
    told = lines.read(session, [visit.patient_id]).patient(visit.patient_id).reconciled
    return [
        LeftOut(flag.names, flag.action is MedicineAction.HOLD_24H)
        for one in evidence.judge(session, [visit], now)[visit.id].gates
        if one.state is GateState.MET and told is not None
        for flag in screening.flags(one.gate.medicines, told)
        if flag.action in LEFT_OUT
    ]
