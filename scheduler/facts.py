"""Facts: the SELECTs that rules about patients, courses and visits need, and nothing else.

Rules get plain values from here, so they stay pure and their reads are easy to count. What
many visits need is asked for all of them at once. Who is open and taken is in calendars.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import groupby
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session, aliased

from models import (
    SERVES,
    Appointment,
    CadenceOverride,
    ChannelConsent,
    Clinic,
    Course,
    CourseStep,
    Escort,
    GroupSession,
    Message,
    Patient,
    Practitioner,
    ProtocolVersion,
    Qualification,
    Site,
    Slot,
    Task,
    Tenanted,
)
from models.vocabulary import (
    AppointmentStatus,
    Channel,
    CourseStatus,
    MessageKind,
    MessageState,
    PractitionerRole,
    Progress,
    Recipient,
    StepKind,
)
from notifications.cadence import QuietHours, Rule, Timing
from notifications.outbox import Reader, Subject
from scheduler import protocols
from scheduler.errors import CourseClosed, NotFound, NotSigned, Stale, StepSkipped, Unfit
from scheduler.protocols import Gate, Protocol, Step, Visit
from scheduler.rules import STANDING, Booked

Row = TypeVar("Row", bound=Tenanted)

_signed: dict[UUID, Protocol] = {}
"""Signed versions never change, so each process reads one once."""


def one(session: Session, model: type[Row], row_id: UUID) -> Row:
    """Fetch one row of the clinic, or refuse with `NotFound`."""
    found = session.scalar(select(model).where(model.id == row_id))
    if found is None:
        raise NotFound(f"There is no such {_spoken(model)}.")
    return found


def to_change(session: Session, model: type[Row], row_id: UUID, version: int | None) -> Row:
    """Fetch and lock one row, to change it.

    `version` is the one that the caller last saw; None: whatever it is now. Refuses with
    `NotFound`, or with `Stale` if somebody has changed it since.
    """
    found = session.scalar(
        select(model)
        .where(model.id == row_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(f"There is no such {_spoken(model)}.")
    if version is not None and getattr(found, "version", version) != version:
        raise Stale(f"This {_spoken(model)} was changed in the meantime. Read it again.")
    return found


def clinic(session: Session) -> Clinic:
    """The clinic of the transaction."""
    return session.scalars(select(Clinic)).one()


def protocol(session: Session, version_id: UUID) -> Protocol:
    """A signed protocol version, ready to be judged by. Refuses with `NotSigned`."""
    if version_id not in _signed:
        version = one(session, ProtocolVersion, version_id)
        if version.signed_at is None:
            raise NotSigned("This protocol version is a draft; a clinician must sign it first.")
        _signed[version_id] = protocols.read(version.content)
    return _signed[version_id]


@dataclass(frozen=True, slots=True)
class Brief:
    """What a booking is about, before its time is judged."""

    patient: Patient
    course_id: UUID | None
    course_step_id: UUID | None
    protocol_version_id: UUID
    protocol: Protocol
    step: Step | None
    visit: Visit


def brief_of_step(session: Session, patient_id: UUID, course_step_id: UUID) -> Brief:
    """Gather what the booking of a course's step is about.

    Refuses with `NotFound`, with `Unfit` if the course is another patient's, with
    `CourseClosed` and with `StepSkipped`.
    """
    row = session.execute(
        select(CourseStep.key, CourseStep.skipped_at, Course, Patient)
        .join(
            Course, (Course.clinic_id == CourseStep.clinic_id) & (Course.id == CourseStep.course_id)
        )
        .join(Patient, (Patient.clinic_id == Course.clinic_id) & (Patient.id == Course.patient_id))
        .where(CourseStep.id == course_step_id)
        .with_for_update(of=Course, read=True)  # nobody ends the course meanwhile
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such course step.")
    key, skipped_at, course, patient = row
    if patient.id != patient_id:
        raise Unfit("This step belongs to another patient's course.", field="course_step_id")
    if course.status is not CourseStatus.ACTIVE:
        raise CourseClosed("The course is not active any more.", course_status=course.status)
    if skipped_at is not None:
        raise StepSkipped("This step was skipped. Take that back first, to book it after all.")
    read = protocol(session, course.protocol_version_id)
    step = read.step(key)
    return Brief(
        patient, course.id, course_step_id, course.protocol_version_id, read, step, step.visit
    )


def step_to_place(
    session: Session, course_step_id: UUID
) -> tuple[Brief, UUID | None, AppointmentStatus | None]:
    """What a search for a step's time is about, and the live visit that it has, if any.

    Locks nothing. Refuses with `NotFound` and with `CourseClosed`.
    """
    row = session.execute(
        select(CourseStep.key, Course, Patient, Appointment.id, Appointment.status)
        .join(
            Course, (Course.clinic_id == CourseStep.clinic_id) & (Course.id == CourseStep.course_id)
        )
        .join(Patient, (Patient.clinic_id == Course.clinic_id) & (Patient.id == Course.patient_id))
        .outerjoin(
            Appointment,
            (Appointment.clinic_id == CourseStep.clinic_id)
            & (Appointment.course_step_id == CourseStep.id)
            & Appointment.status.in_(STANDING),
        )
        .where(CourseStep.id == course_step_id)
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such course step.")
    key, course, patient, live, status = row
    if course.status is not CourseStatus.ACTIVE:
        raise CourseClosed("The course is not active any more.", course_status=course.status)
    read = protocol(session, course.protocol_version_id)
    step = read.step(key)
    version_id = course.protocol_version_id
    brief = Brief(patient, course.id, course_step_id, version_id, read, step, step.visit)
    return brief, live, status


def brief_of_kind(session: Session, patient_id: UUID, kind: StepKind) -> Brief:
    """Gather what the booking of a visit outside any course is about.

    It follows the clinic's default protocol. Refuses with `NotFound` and `Unfit`.
    """
    patient = one(session, Patient, patient_id)
    version_id, read, visit = visit_of_kind(session, kind)
    return Brief(patient, None, None, version_id, read, None, visit)


def visit_of_kind(session: Session, kind: StepKind) -> tuple[UUID, Protocol, Visit]:
    """The clinic's default protocol and its first visit of `kind`; refuses with `Unfit`."""
    version_id = session.scalar(
        select(ProtocolVersion.id)
        .join(Clinic, Clinic.default_protocol_id == ProtocolVersion.protocol_id)
        .where(ProtocolVersion.signed_at.is_not(None))
        .order_by(ProtocolVersion.number.desc())
        .limit(1)
    )
    if version_id is None:
        raise Unfit("The clinic has no default protocol yet; name a course step instead.")
    read = protocol(session, version_id)
    visit = read.first_visit_of(kind)
    if visit is None:
        raise Unfit(f"The clinic's default protocol has no {kind} visit.", field="step_kind")
    return version_id, read, visit


def course_of(session: Session, course_id: UUID) -> tuple[Course, Protocol]:
    """A course and the protocol that it follows."""
    course = one(session, Course, course_id)
    return course, protocol(session, course.protocol_version_id)


def brief_of(session: Session, appointment: Appointment) -> Brief:
    """Gather what an existing visit is about."""
    patient = one(session, Patient, appointment.patient_id)
    read = protocol(session, appointment.protocol_version_id)
    step = None
    if appointment.course_step_id is not None:
        step = read.step(one(session, CourseStep, appointment.course_step_id).key)
    return Brief(
        patient,
        appointment.course_id,
        appointment.course_step_id,
        appointment.protocol_version_id,
        read,
        step,
        read.visits[appointment.visit],
    )


def other_visits(
    session: Session, patient_id: UUID, course_id: UUID | None, but: UUID | None = None
) -> list[Booked]:
    """The patient's visits, without `but`, and the steps that the course skips.

    In the order of time. Who serves each visit comes with it.
    """
    rows = session.execute(
        select(
            Appointment.id,
            Appointment.course_id,
            CourseStep.key,
            CourseStep.outcome,
            Appointment.kind,
            Appointment.status,
            Appointment.starts_at,
            Slot.role,
            Slot.schedule_id,
        )
        .outerjoin(
            CourseStep,
            (CourseStep.clinic_id == Appointment.clinic_id)
            & (CourseStep.id == Appointment.course_step_id),
        )
        .outerjoin(Slot, SERVES & Slot.role.in_(PractitionerRole))
        .where(Appointment.patient_id == patient_id, Appointment.id.is_distinct_from(but))
        .order_by(Appointment.starts_at, Appointment.id)
    ).all()
    skipped = [] if course_id is None else _skipped(session, course_id)
    visits = [_booked(list(its), course_id) for _, its in groupby(rows, key=lambda row: row.id)]
    return sorted([*visits, *skipped], key=lambda visit: visit.starts_at)


def _booked(rows: Sequence[Any], course_id: UUID | None) -> Booked:
    """One visit, of which there is a row for each slot of a clinician's."""
    who: dict[str, set[UUID]] = {}
    for row in rows:
        if row.role is not None:
            who.setdefault(row.role, set()).add(row.schedule_id)
    visit = rows[0]
    ours = visit.course_id is not None and visit.course_id == course_id
    return Booked(
        visit.key if ours else None,
        visit.kind,
        visit.status,
        visit.starts_at,
        {role: frozenset(schedules) for role, schedules in who.items()},
        visit.outcome if ours else None,
    )


def _skipped(session: Session, course_id: UUID) -> list[Booked]:
    """The steps that were skipped, when they were planned; if never, when they were skipped."""
    rows = session.execute(
        select(
            CourseStep.key,
            CourseStep.kind,
            func.coalesce(CourseStep.planned_at, CourseStep.skipped_at).label("starts_at"),
        ).where(CourseStep.course_id == course_id, CourseStep.skipped_at.is_not(None))
    )
    return [
        Booked(row.key, row.kind, AppointmentStatus.CANCELLED, row.starts_at, is_skipped=True)
        for row in rows
    ]


def steps_of(session: Session, course_id: UUID) -> Sequence[CourseStep]:
    """A course's steps, in their order."""
    return session.scalars(
        select(CourseStep).where(CourseStep.course_id == course_id).order_by(CourseStep.position)
    ).all()


def fulfilled_steps(session: Session, course_id: UUID) -> frozenset[UUID]:
    """The steps of a course that took place."""
    return frozenset(
        session.scalars(
            select(Appointment.course_step_id).where(
                Appointment.course_id == course_id,
                Appointment.status == AppointmentStatus.FULFILLED,
            )
        )
    )


def standing_steps(session: Session, course_id: UUID) -> frozenset[UUID]:
    """The steps of a course that have a visit which takes place, or took place."""
    return frozenset(
        session.scalars(
            select(Appointment.course_step_id).where(
                Appointment.course_id == course_id, Appointment.status.in_(STANDING)
            )
        )
    )


def last_time_of(session: Session, course_step_id: UUID) -> datetime | None:
    """When the last visit that was booked for a step was to start; None: there was none."""
    return session.scalar(
        select(Appointment.starts_at)
        .where(Appointment.course_step_id == course_step_id)
        .order_by(Appointment.id.desc())
        .limit(1)
    )


def course_of_visit(session: Session, appointment_id: UUID) -> UUID | None:
    """The course that a visit belongs to, if any."""
    return session.scalar(select(Appointment.course_id).where(Appointment.id == appointment_id))


def gates_of(session: Session, patient_id: UUID) -> list[Gate]:
    """The gates of all protocols that the patient is under: of courses, visits, the clinic."""
    of_courses = select(Course.protocol_version_id).where(Course.patient_id == patient_id)
    of_visits = select(Appointment.protocol_version_id).where(Appointment.patient_id == patient_id)
    of_clinic = (
        select(ProtocolVersion.id)
        .join(Clinic, Clinic.default_protocol_id == ProtocolVersion.protocol_id)
        .where(ProtocolVersion.signed_at.is_not(None))
    )
    found = session.scalars(of_courses.union(of_visits, of_clinic)).all()
    return [
        gate
        for version_id in found
        for visit in protocol(session, version_id).visits.values()
        for gate in visit.gates
    ]


def upcoming_of_address(session: Session, email: str, now: datetime) -> Sequence[Appointment]:
    """The booked visits ahead of patients with an e-mail address, written in small letters."""
    return session.scalars(
        select(Appointment)
        .join(
            Patient,
            (Patient.clinic_id == Appointment.clinic_id) & (Patient.id == Appointment.patient_id),
        )
        .where(
            func.lower(Patient.email) == email,
            Appointment.status == AppointmentStatus.BOOKED,
            Appointment.starts_at > now,
        )
        .order_by(Appointment.starts_at)
    ).all()


def patients_at(session: Session, phone: str) -> Sequence[Patient]:
    """The patients who are reached at a number, locked; a family may share one."""
    return session.scalars(
        select(Patient).where(Patient.phone == phone).order_by(Patient.id).with_for_update()
    ).all()


def last_said(session: Session, patient_ids: Sequence[UUID], channel: Channel) -> Message | None:
    """The last message about a visit that one of the patients got on a channel."""
    if not patient_ids:
        return None
    gone = (
        MessageState.SENDING,
        MessageState.SENT,
        MessageState.DELIVERED,
        MessageState.UNCERTAIN,
    )
    return session.scalars(
        select(Message)
        .where(
            Message.recipient == Recipient.PATIENT,
            Message.recipient_id.in_(patient_ids),
            Message.channel == channel,
            Message.state.in_(gone),
            Message.released_at.is_not(None),
            Message.appointment_id.is_not(None),
        )
        .order_by(Message.released_at.desc())
        .limit(1)
    ).one_or_none()


def consented(session: Session, patient_id: UUID) -> set[Channel]:
    """The channels that a patient agreed to and has not taken back."""
    latest = session.execute(
        select(ChannelConsent.channel, ChannelConsent.given)
        .where(ChannelConsent.patient_id == patient_id)
        .distinct(ChannelConsent.channel)
        .order_by(ChannelConsent.channel, ChannelConsent.at.desc(), ChannelConsent.id.desc())
    )
    return {row.channel for row in latest if row.given}


def serving(session: Session, begin: datetime, end: datetime) -> Sequence[UUID]:
    """The clinicians who have visits that start between `begin` and `end`."""
    return session.scalars(
        select(Practitioner.id)
        .join(
            Slot,
            (Slot.clinic_id == Practitioner.clinic_id)
            & (Slot.schedule_id == Practitioner.schedule_id),
        )
        .join(Appointment, SERVES)
        .where(
            Appointment.starts_at >= begin,
            Appointment.starts_at < end,
            Appointment.status == AppointmentStatus.BOOKED,
        )
        .distinct()
        .order_by(Practitioner.id)
    ).all()


def licences_ending(session: Session, first: date, last: date) -> Sequence[Qualification]:
    """Licences whose last day lies between two days, and that no later one follows."""
    later = aliased(Qualification)
    return session.scalars(
        select(Qualification)
        .where(
            Qualification.valid_until.between(first, last),
            ~exists().where(
                later.clinic_id == Qualification.clinic_id,
                later.practitioner_id == Qualification.practitioner_id,
                later.role == Qualification.role,
                later.valid_until > Qualification.valid_until,
            ),
        )
        .order_by(Qualification.id)
    ).all()


def told_to_staff(session: Session, since: datetime) -> Sequence[Message]:
    """What staff were told about visits since then and has no task yet."""
    kinds = (
        MessageKind.UNCONFIRMED,
        MessageKind.UNREADY,
        MessageKind.SAFETY_UNANSWERED,
        MessageKind.INTEGRATION_UNBOOKED,
    )
    return session.scalars(
        select(Message)
        .where(
            Message.recipient == Recipient.FRONT_DESK,
            Message.recipient_id == select(Clinic.clinic_id).scalar_subquery(),
            Message.due_at >= since,
            Message.kind.in_(kinds),
            Message.released_at.is_not(None),
            ~exists().where(
                Task.clinic_id == Message.clinic_id, Task.subject_id == Message.subject_id
            ),
        )
        .order_by(Message.id)
    ).all()


def patient_of(session: Session, appointment_id: UUID | None) -> UUID | None:
    """Whose visit it is."""
    if appointment_id is None:
        return None
    query = select(Appointment.patient_id).where(Appointment.id == appointment_id)
    return session.scalar(query)


def therapists_of(session: Session, course_id: UUID, step: Step | None = None) -> frozenset[UUID]:
    """The schedules that the course knows already, to be chosen first.

    Those that served its visits as therapist so far; where the protocol ties `step` to who
    served an earlier one, those instead, and nobody from whom it must differ.
    """
    rows = session.execute(
        select(CourseStep.key, Slot.role, Slot.schedule_id)
        .join(Appointment, SERVES)
        .join(
            CourseStep,
            (CourseStep.clinic_id == Appointment.clinic_id)
            & (CourseStep.id == Appointment.course_step_id),
        )
        .where(Appointment.course_id == course_id, Slot.role.in_(PractitionerRole))
        .distinct()
    ).all()
    same = {(tie.step, tie.role) for tie in step.same} if step else set()
    differs = {(tie.step, tie.role) for tie in step.differs} if step else set()
    free_of_ties = "therapist" not in {role for _, role in same}
    wanted = {
        row.schedule_id
        for row in rows
        if (row.key, row.role) in same or (free_of_ties and row.role == "therapist")
    }
    return frozenset(wanted - {r.schedule_id for r in rows if (r.key, r.role) in differs})


def schedules_of(session: Session, appointment_id: UUID) -> frozenset[UUID]:
    """The schedules on which a visit itself takes time, and the group session it has a place in.

    Whoever frees or takes a place locks its session as if that were a schedule.
    """
    of_it = select(Slot.schedule_id).where(Slot.appointment_id == appointment_id)
    session_of_it = select(Appointment.group_session_id).where(
        Appointment.id == appointment_id, Appointment.group_session_id.is_not(None)
    )
    return frozenset(session.scalars(of_it.union(session_of_it)))


def expired_holds(session: Session, now: datetime) -> Sequence[UUID]:
    """Holds that have run out."""
    return session.scalars(
        select(Appointment.id)
        .where(Appointment.status == AppointmentStatus.PENDING, Appointment.held_until <= now)
        .order_by(Appointment.id)
    ).all()


def visits_ahead(session: Session, course_id: UUID) -> Sequence[UUID]:
    """The course's visits that have not begun."""
    ahead = (AppointmentStatus.PENDING, AppointmentStatus.BOOKED, AppointmentStatus.ARRIVED)
    return session.scalars(
        select(Appointment.id)
        .where(Appointment.course_id == course_id, Appointment.status.in_(ahead))
        .order_by(Appointment.id)
    ).all()


def missed(session: Session, now: datetime) -> Sequence[Appointment]:
    """Booked visits that ended longer ago than the clinic waits."""
    patience = timedelta(minutes=clinic(session).noshow_after_minutes)
    return session.scalars(
        select(Appointment)
        .where(
            Appointment.status == AppointmentStatus.BOOKED,
            Appointment.ends_at <= now - patience,
        )
        .order_by(Appointment.id)
        .limit(200)
    ).all()


def subject(session: Session, appointment: Appointment, about: Brief, now: datetime) -> Subject:
    """A visit as its messages see it, said from the end of the clinic's settling time on."""
    home = clinic(session)
    zone, cadence = _zone_and_cadence(session, appointment, about.visit)
    patient = about.patient
    readers = [
        Reader(Recipient.PATIENT, patient.id, channel_of(patient, home), quiet(patient, home))
    ]
    told = {rule.to for rule in cadence}
    if Recipient.ESCORT in told:
        readers += _escort(session, appointment, home, ZoneInfo(zone))
    always = QuietHours(time(0), time(0), ZoneInfo(home.time_zone))
    if Recipient.PRACTITIONER in told:
        serving = practitioners_of(session, appointment.id)
        readers += [Reader(Recipient.PRACTITIONER, one, Channel.EMAIL, always) for one in serving]
    if Recipient.FRONT_DESK in told:
        readers.append(Reader(Recipient.FRONT_DESK, home.clinic_id, Channel.EMAIL, always))
    timing = Timing(
        appointment.starts_at,
        appointment.ends_at,
        ZoneInfo(zone),
        now + timedelta(minutes=home.settle_minutes),
    )
    return Subject(appointment.id, appointment.revision, timing, cadence, readers)


def channel_of(patient: Patient, home: Clinic) -> Channel | None:
    """How a patient is written to: the first way they want that is open. None: there is none."""
    open_ways = {
        Channel.EMAIL: bool(patient.email),
        Channel.SMS: bool(patient.phone and home.sms_from),
    }
    shut = {*patient.opted_out, *patient.unreachable}
    wanted = (Channel(code) for code in patient.channels if code not in shut)
    return next((channel for channel in wanted if open_ways[channel]), None)


def quiet(patient: Patient, home: Clinic) -> QuietHours:
    """When a patient is left alone: their own hours, or the clinic's, in the patient's zone."""
    zone = ZoneInfo(patient.time_zone)
    if patient.quiet_from is not None and patient.quiet_until is not None:
        return QuietHours(patient.quiet_from, patient.quiet_until, zone)
    return QuietHours(home.quiet_from, home.quiet_until, zone)


def practitioners_of(session: Session, appointment_id: UUID) -> Sequence[UUID]:
    """The clinicians who serve a visit."""
    return session.scalars(
        select(Practitioner.id)
        .join(
            Slot,
            (Slot.clinic_id == Practitioner.clinic_id)
            & (Slot.schedule_id == Practitioner.schedule_id),
        )
        .join(Appointment, SERVES)
        .where(Appointment.id == appointment_id)
        .distinct()
        .order_by(Practitioner.id)
    ).all()


def _escort(
    session: Session, appointment: Appointment, home: Clinic, zone: ZoneInfo
) -> list[Reader]:
    escort = session.scalar(select(Escort).where(Escort.appointment_id == appointment.id))
    if escort is None or not escort.may_message:
        return []
    channel = Channel.EMAIL if escort.email else None
    if channel is None and home.sms_from:
        channel = Channel.SMS
    hours = QuietHours(home.quiet_from, home.quiet_until, zone)
    return [Reader(Recipient.ESCORT, escort.id, channel, hours)]


def _zone_and_cadence(
    session: Session, appointment: Appointment, visit: Visit
) -> tuple[str, tuple[Rule, ...]]:
    """The zone of a visit's site, and its cadence: the clinic's own if it has one."""
    latest = (
        select(CadenceOverride.rules)
        .join(ProtocolVersion, ProtocolVersion.protocol_id == CadenceOverride.protocol_id)
        .where(
            ProtocolVersion.id == appointment.protocol_version_id,
            CadenceOverride.cadence == visit.cadence_name,
        )
        .order_by(CadenceOverride.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    zone, own = session.execute(
        select(Site.time_zone, latest).where(Site.id == appointment.site_id)
    ).one()
    return zone, visit.cadence if own is None else tuple(map(Rule.read, own))


def _spoken(model: type[Tenanted]) -> str:
    return str(model.__tablename__).replace("_", " ")


def company(session: Session, group_session_id: UUID) -> Sequence[tuple[Appointment, UUID]]:
    """The visits that have a place in a group session, and their patients' schedules."""
    rows = session.execute(
        select(Appointment, Patient.schedule_id)
        .join(
            Patient,
            (Patient.clinic_id == Appointment.clinic_id) & (Patient.id == Appointment.patient_id),
        )
        .where(Appointment.group_session_id == group_session_id, Appointment.status.in_(STANDING))
        .order_by(Appointment.place)
    )
    return [(row.Appointment, row.schedule_id) for row in rows]


def places_taken(session: Session, group_session_ids: Sequence[UUID]) -> Mapping[UUID, set[int]]:
    """The numbers of the places that are taken in each session."""
    rows = session.execute(
        select(Appointment.group_session_id, Appointment.place).where(
            Appointment.group_session_id.in_(group_session_ids), Appointment.status.in_(STANDING)
        )
    )
    found: dict[UUID, set[int]] = {one: set() for one in group_session_ids}
    for row in rows:
        found[row.group_session_id].add(row.place)
    return found


def treated(session: Session, group_session_id: UUID) -> int:
    """How many patients of a session are past the dose gate and not discharged yet."""
    query = select(func.count()).where(
        Appointment.group_session_id == group_session_id,
        Appointment.progress.in_((Progress.DOSING, Progress.RECOVERING)),
    )
    return session.scalars(query).one()


def group_of(session: Session, appointment_id: UUID) -> UUID | None:
    """The group session in which a visit has a place, if any."""
    query = select(Appointment.group_session_id).where(Appointment.id == appointment_id)
    return session.scalar(query)


def group_visit(session: Session, group: GroupSession) -> Visit:
    """The visit that a group session is held for."""
    return protocol(session, group.protocol_version_id).visits[group.visit]
