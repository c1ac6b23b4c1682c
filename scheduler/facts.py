"""Facts: the SELECTs that rules about patients, courses and visits need, and nothing else.

Rules get plain values from here, so they stay pure and their reads are easy to count. What
many visits need is asked for all of them at once. Who is open and taken is in calendars.py.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import groupby
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, text, true, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, aliased, undefer

from models import (
    SERVES,
    ApiKey,
    Appointment,
    AppointmentEvent,
    Archive,
    AuditEvent,
    BreakGlass,
    BusyFeed,
    CadenceOverride,
    ChannelConsent,
    ChecklistItem,
    Clearance,
    Clinic,
    Consent,
    ConsentText,
    Course,
    CourseStep,
    Departure,
    DisclosureConsent,
    Eligibility,
    Escort,
    FreedTime,
    GroupSession,
    HealthEvent,
    Import,
    Incident,
    InstrumentWording,
    Message,
    MessageArchive,
    Observation,
    Offer,
    Override,
    Patient,
    Practitioner,
    Proposal,
    ProtocolVersion,
    Qualification,
    QuestionnaireDraft,
    QuestionnaireResponse,
    Reconciliation,
    Screen,
    Site,
    Slot,
    Task,
    Tenancy,
    Tenanted,
    UserAccount,
    WaitlistEntry,
)
from models.vocabulary import (
    AppointmentStatus,
    AuditOutcome,
    Channel,
    CourseStatus,
    DisclosurePurpose,
    MessageKind,
    MessageState,
    OfferState,
    Place,
    PractitionerRole,
    Progress,
    Recipient,
    StepKind,
    TaskKind,
    TaskStatus,
    WaitingState,
)
from notifications.cadence import QuietHours, Rule, Timing
from notifications.outbox import Reader, Subject
from scheduler import protocols
from scheduler.errors import CourseClosed, NotFound, NotSigned, Stale, StepSkipped, Unfit
from scheduler.instruments import LIBRARY
from scheduler.protocols import Gate, Protocol, SettledBy, Step, Visit
from scheduler.rules import STANDING, Booked

Row = TypeVar("Row", bound=Tenanted)

_signed: dict[tuple[UUID, UUID], Protocol] = {}
"""Signed versions never change, so each process reads one once; each clinic's apart, so that
nobody learns from it whether another clinic's version exists."""


def one(session: Session, model: type[Row], row_id: UUID) -> Row:
    """Fetch one row of the clinic, or refuse with `NotFound`."""
    found = session.scalar(select(model).where(model.id == row_id))
    if found is None:
        raise NotFound(f"There is no such {_spoken(model)}.")
    return found


Theirs = TypeVar(
    "Theirs",
    Clearance,
    Consent,
    DisclosureConsent,
    HealthEvent,
    QuestionnaireResponse,
    Reconciliation,
    Screen,
)


def one_of(session: Session, model: type[Theirs], row_id: UUID, patient_id: UUID) -> Theirs:
    """Fetch one row of a patient, or refuse with `NotFound`."""
    found = one(session, model, row_id)
    if found.patient_id != patient_id:
        raise NotFound(f"There is no such {_spoken(model)}.")
    return found


def to_change(session: Session, model: type[Row], row_id: UUID, version: int | None) -> Row:
    """Fetch and lock one row, to change it.

    `version` is the one that the caller last saw; None: whatever it is now. Refuses with
    `NotFound`, or with `Stale` if somebody has changed it since. A patient is not locked
    against rows that merely refer to them: whoever has a visit writes such rows, and a patient's
    lock may be followed by a visit's, so the two would wait for each other.
    """
    found = session.scalar(
        select(model)
        .where(model.id == row_id)
        .with_for_update(key_share=model is Patient)
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(f"There is no such {_spoken(model)}.")
    if version is not None and getattr(found, "version", version) != version:
        raise Stale(f"This {_spoken(model)} was changed in the meantime. Read it again.")
    return found


def feed_to_write(session: Session, feed_id: UUID) -> BusyFeed | None:
    """A feed of the clinic, locked; None: there is none any more."""
    query = select(BusyFeed).where(BusyFeed.id == feed_id).with_for_update()
    return session.scalar(query.execution_options(populate_existing=True))


def import_to_read(session: Session) -> Import | None:
    """The file that waits longest to be read, locked.

    None: there is none, or another process is at it.
    """
    query = select(Import).where(Import.ended_at.is_(None)).order_by(Import.id).limit(1)
    return session.scalars(query.with_for_update(skip_locked=True)).first()


def archive_to_write(session: Session) -> Archive | None:
    """The archive that waits longest to be written."""
    query = select(Archive).where(Archive.ended_at.is_(None)).order_by(Archive.id).limit(1)
    return session.scalars(query).first()


def every_row(session: Session, model: Any) -> Iterator[Any]:
    """All rows of a clinic in one table, whole, in the order of their keys; few held at once."""
    key = model.clinic_id if model is Clinic else model.id
    query = select(model).where(model.clinic_id == session.info["clinic_id"]).order_by(key)
    whole = query.options(undefer("*")).execution_options(yield_per=500)
    for row in session.scalars(whole):
        yield row
        session.expunge(row)


def may_be_disclosed(model: Any, on: date) -> ColumnElement[bool]:
    """What of courses, their steps or visits may leave the clinic on a day (42 CFR Part 2).

    That is what does not fall under it, and what is of a patient whose consent to disclosing for
    treatment, payment and operations holds.
    """
    if model is CourseStep:
        return CourseStep.course_id.in_(select(Course.id).where(may_be_disclosed(Course, on)))
    held = select(DisclosureConsent.patient_id).where(_holds(on))
    return or_(~model.part2, model.patient_id.in_(held))


def count_not_disclosed(session: Session, model: Any, on: date) -> int:
    """How many of them may not leave the clinic."""
    kept = select(func.count()).select_from(model).where(~may_be_disclosed(model, on))
    return session.scalars(kept).one()


def disclosed_by(session: Session, rows: Sequence[Any], on: date) -> Mapping[UUID, date | None]:
    """By the id of each of these that falls under 42 CFR Part 2: when its patient let it go.

    None: that was taken back meanwhile.
    """
    named = {row.course_id for row in rows if isinstance(row, CourseStep)}
    falls = select(Course.id, Course.patient_id).where(Course.id.in_(named), Course.part2)
    courses = {row.id: row.patient_id for row in session.execute(falls)} if named else {}
    of_patient = {row.id: row.patient_id for row in rows if getattr(row, "part2", False)}
    of_patient |= {
        row.id: courses[row.course_id]
        for row in rows
        if isinstance(row, CourseStep) and row.course_id in courses
    }
    if not of_patient:
        return {}
    signed = select(
        DisclosureConsent.patient_id, func.max(DisclosureConsent.signed_on).label("day")
    ).where(_holds(on), DisclosureConsent.patient_id.in_(set(of_patient.values())))
    signed = signed.group_by(DisclosureConsent.patient_id)
    days = {row.patient_id: row.day for row in session.execute(signed)}
    return {row_id: days.get(patient_id) for row_id, patient_id in of_patient.items()}


def _holds(on: date) -> ColumnElement[bool]:
    return and_(
        DisclosureConsent.purpose == DisclosurePurpose.CARE,
        DisclosureConsent.signed_on <= on,
        or_(DisclosureConsent.ends_on.is_(None), DisclosureConsent.ends_on >= on),
        DisclosureConsent.withdrawn_at.is_(None),
    )


def has_part2(session: Session) -> bool:
    """Whether any course or visit of the clinic falls under 42 CFR Part 2."""
    course, visit = (exists().where(model.part2) for model in (Course, Appointment))
    return session.scalars(select(or_(course, visit))).one()


def clinic(session: Session) -> Clinic:
    """The clinic of the transaction; a worker may see the rows of others."""
    return session.scalars(
        select(Clinic).where(Clinic.clinic_id == session.info["clinic_id"])
    ).one()


def protocol(session: Session, version_id: UUID) -> Protocol:
    """A signed protocol version, ready to be judged by. Refuses with `NotSigned`."""
    known = session.info["clinic_id"], version_id
    if known not in _signed:
        version = one(session, ProtocolVersion, version_id)
        if version.signed_at is None:
            raise NotSigned("This protocol version is a draft; a clinician must sign it first.")
        _signed[known] = protocols.read(version.content)
    return _signed[known]


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

    def region(self) -> str | None:
        """The state in which who serves must be licensed; None: wherever they like."""
        return region_of(self.patient, self.visit)


def region_of(patient: Patient, visit: Visit) -> str | None:
    """The state in which who serves must be licensed: the patient's, by video. Else None.

    Refuses with `Unfit` where nobody noted in which state the patient is.
    """
    if visit.place is not Place.TELEHEALTH:
        return None
    if patient.region is None:
        raise Unfit(
            "By video only those may serve who are licensed in the state where the patient is: "
            "note it first, as the patient's region.",
            field="region",
        )
    return patient.region


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


DEFAULT_VERSION = """
    SELECT v.id FROM clinic c
      JOIN protocol_version v ON v.clinic_id = c.clinic_id AND v.protocol_id = c.default_protocol_id
     WHERE v.signed_at IS NOT NULL ORDER BY v.number DESC LIMIT 1
"""
"""The version by which visits outside courses are booked: what `visit_of_kind` goes by."""


def visit_of_kind(
    session: Session, kind: StepKind, version_id: UUID | None = None
) -> tuple[UUID, Protocol, Visit]:
    """The clinic's default protocol and its first visit of `kind`; refuses with `Unfit`.

    `version_id`: the default version, if it is known already.
    """
    version_id = version_id or session.scalar(text(DEFAULT_VERSION))
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
    session: Session,
    patient_id: UUID,
    course_id: UUID | None,
    but: UUID | None = None,
    without: Collection[UUID] = (),
) -> list[Booked]:
    """The patient's visits, but for `but` and `without`, and the steps that the course skips.

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
        .where(
            Appointment.patient_id == patient_id,
            Appointment.id.is_distinct_from(but),
            Appointment.id.not_in(without),
        )
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


def visits_of(session: Session, course_id: UUID) -> Sequence[tuple[Appointment, Site]]:
    """The visits of a course that stand, each with its site, in the order of time."""
    rows = session.execute(
        select(Appointment, Site)
        .join(Site, (Site.clinic_id == Appointment.clinic_id) & (Site.id == Appointment.site_id))
        .where(Appointment.course_id == course_id, Appointment.status.in_(STANDING))
        .order_by(Appointment.starts_at, Appointment.id)
    )
    return [(visit, site) for visit, site in rows]


def steps_of(session: Session, course_id: UUID) -> Sequence[CourseStep]:
    """A course's steps, in their order."""
    return session.scalars(
        select(CourseStep).where(CourseStep.course_id == course_id).order_by(CourseStep.position)
    ).all()


def steps_with(
    session: Session, course_id: UUID, statuses: Collection[AppointmentStatus]
) -> frozenset[UUID]:
    """The steps of a course that have a visit in one of these statuses."""
    return frozenset(
        session.scalars(
            select(Appointment.course_step_id).where(
                Appointment.course_id == course_id, Appointment.status.in_(statuses)
            )
        )
    )


def kinds_done(session: Session, course_id: UUID) -> Sequence[StepKind]:
    """What the visits of a course that took place were for, in the order of time."""
    return session.scalars(
        select(Appointment.kind)
        .where(
            Appointment.course_id == course_id,
            Appointment.status == AppointmentStatus.FULFILLED,
        )
        .order_by(Appointment.starts_at, Appointment.id)
    ).all()


def last_time_of(session: Session, course_step_id: UUID) -> datetime | None:
    """When the last visit that was booked for a step was to start; None: there was none."""
    return session.scalar(
        select(Appointment.starts_at)
        .where(Appointment.course_step_id == course_step_id)
        .order_by(Appointment.id.desc())
        .limit(1)
    )


def courses_in(session: Session, patient_id: UUID) -> Sequence[UUID]:
    """The courses that a patient is in."""
    return session.scalars(
        select(Course.id)
        .where(Course.patient_id == patient_id, Course.status == CourseStatus.ACTIVE)
        .order_by(Course.id)
    ).all()


def course_of_visit(session: Session, appointment_id: UUID) -> UUID | None:
    """The course that a visit belongs to, if any."""
    return session.scalar(select(Appointment.course_id).where(Appointment.id == appointment_id))


def gates_of(session: Session, patient_id: UUID, code: str | None = None) -> list[Gate]:
    """The gates with a code in the protocols that the patient is under, by courses and visits.

    Where none of these has it: in the clinic's own protocol, as it is today. No code: all.
    """
    return [gate for gate, _ in gated(session, patient_id, code)]


def gated(
    session: Session, patient_id: UUID, code: str | None = None
) -> Sequence[tuple[Gate, Visit]]:
    """The same gates, each with the visit that it stands before."""
    own, default = _versions_over(session, patient_id)
    return _gates(session, own, code) or _gates(session, default, code)


def gates_settled_by(
    session: Session, patient_id: UUID, settled_by: SettledBy, *, everywhere: bool = False
) -> list[Gate]:
    """The same, of the gates that are settled in a way. `everywhere`: in both."""
    own, default = (
        [gate for gate, _ in _gates(session, versions, None) if gate.settled_by is settled_by]
        for versions in _versions_over(session, patient_id)
    )
    return [*own, *default] if everywhere else own or default


def _versions_over(session: Session, patient_id: UUID) -> tuple[Sequence[UUID], Sequence[UUID]]:
    """The protocol versions that a patient is under, and the clinic's own."""
    of_courses = _of_active_courses(patient_id)
    of_visits = select(Appointment.protocol_version_id).where(
        Appointment.patient_id == patient_id, Appointment.status.in_(STANDING)
    )
    own = session.scalars(of_courses.union(of_visits)).all()
    return own, session.scalars(text(DEFAULT_VERSION)).all()


def gated_in_courses(session: Session, patient_id: UUID, code: str) -> Sequence[tuple[Gate, Visit]]:
    """The same of the patient's active courses alone."""
    return _gates(session, session.scalars(_of_active_courses(patient_id)).all(), code)


def _of_active_courses(patient_id: UUID) -> Select[UUID]:
    return select(Course.protocol_version_id).where(
        Course.patient_id == patient_id, Course.status == CourseStatus.ACTIVE
    )


def _gates(
    session: Session, version_ids: Iterable[UUID], code: str | None
) -> list[tuple[Gate, Visit]]:
    return [
        (gate, visit)
        for version_id in version_ids
        for visit in protocol(session, version_id).visits.values()
        for gate in visit.gates
        if code in {None, gate.code}
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
            Patient.email.equals(session, email),
            Appointment.status == AppointmentStatus.BOOKED,
            Appointment.starts_at > now,
        )
        .order_by(Appointment.starts_at)
    ).all()


def patients_at(session: Session, phone: str) -> Sequence[Patient]:
    """The patients who are reached at a number, locked; a family may share one.

    Not against rows that merely refer to them: a visit may be booked meanwhile.
    """
    return session.scalars(
        select(Patient)
        .where(Patient.phone.equals(session, phone))
        .order_by(Patient.id)
        .with_for_update(key_share=True)
    ).all()


def practitioners_at(session: Session, emails: Iterable[str]) -> Sequence[Practitioner]:
    """Those who have one of these addresses."""
    return session.scalars(
        select(Practitioner).where(Practitioner.email.equals(session, *emails))
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
        .ext(distinct_on(ChannelConsent.channel))
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


def licences_ended(session: Session, now: datetime) -> Sequence[Qualification]:
    """Licences after whose last day there may be visits ahead, or were: a task says so."""
    later = aliased(Qualification)
    has_visits = exists().where(
        Practitioner.clinic_id == Qualification.clinic_id,
        Practitioner.id == Qualification.practitioner_id,
        Slot.clinic_id == Practitioner.clinic_id,
        Slot.schedule_id == Practitioner.schedule_id,
        Slot.role == Qualification.role,
        Slot.starts_at > now,
        Slot.starts_at > Qualification.valid_until,  # since midnight somewhere: looked at again
    )
    has_task = exists().where(
        Task.clinic_id == Qualification.clinic_id,
        Task.subject_id == Qualification.id,
        Task.kind == TaskKind.RENEW_CREDENTIAL,
        Task.status == TaskStatus.REQUESTED,
        Task.note.is_not(None),
    )
    is_followed = exists().where(
        later.clinic_id == Qualification.clinic_id,
        later.practitioner_id == Qualification.practitioner_id,
        later.role == Qualification.role,
        later.valid_until > Qualification.valid_until,
    )
    return session.scalars(
        select(Qualification)
        .where((has_visits & ~is_followed) | has_task)
        .order_by(Qualification.id)
    ).all()


def served_ahead(session: Session, licence: Qualification, now: datetime) -> Sequence[Appointment]:
    """The booked visits ahead that the holder of a licence serves in its role."""
    return session.scalars(
        select(Appointment)
        .join(Slot, SERVES)
        .join(
            Practitioner,
            (Practitioner.clinic_id == Slot.clinic_id)
            & (Practitioner.schedule_id == Slot.schedule_id),
        )
        .where(
            Practitioner.id == licence.practitioner_id,
            Slot.role == licence.role,
            Appointment.status == AppointmentStatus.BOOKED,
            Appointment.starts_at > now,
        )
        .distinct()
        .order_by(Appointment.starts_at, Appointment.id)
    ).all()


def told_to_staff(
    session: Session, kind: MessageKind, task: TaskKind, since: datetime
) -> Sequence[Message]:
    """What the desk was told of a kind since then, of visits that have no such task yet."""
    return session.scalars(
        select(Message)
        .where(
            Message.recipient == Recipient.FRONT_DESK,
            Message.recipient_id == session.info["clinic_id"],
            Message.due_at >= since,
            Message.kind == kind,
            Message.released_at.is_not(None),
            ~exists().where(
                Task.clinic_id == Message.clinic_id,
                Task.subject_id == Message.subject_id,
                Task.kind == task,
            ),
        )
        .order_by(Message.id)
    ).all()


def tasks_about(
    session: Session, kind: TaskKind, subject_ids: Collection[UUID]
) -> Mapping[UUID, Task]:
    """The tasks of a kind, open or settled, by what gave rise to them; locked, as below."""
    query = select(Task).where(Task.kind == kind, Task.subject_id.in_(subject_ids))
    query = query.order_by(Task.id).with_for_update()
    found = session.scalars(query.execution_options(populate_existing=True))
    return {task.subject_id: task for task in found}


def open_tasks(session: Session, kind: TaskKind) -> Sequence[Task]:
    """The tasks of a kind that nobody has settled, locked: none ends while it is asked for."""
    query = select(Task).where(Task.kind == kind, Task.status == TaskStatus.REQUESTED)
    query = query.order_by(Task.id).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).all()


def visits_named(session: Session, ids: Collection[UUID]) -> Sequence[Appointment]:
    """These visits, as they stand."""
    query = select(Appointment).where(Appointment.id.in_(ids)).order_by(Appointment.id)
    return session.scalars(query.execution_options(populate_existing=True)).all()


def acting_as(session: Session, roles: Collection[str], day: date) -> Sequence[UUID]:
    """The clinicians who hold a licence for one of these roles on `day`."""
    return session.scalars(
        select(Qualification.practitioner_id)
        .where(
            Qualification.role.in_(roles),
            Qualification.valid_from <= day,
            Qualification.valid_until >= day,
        )
        .distinct()
        .order_by(Qualification.practitioner_id)
    ).all()


def occasions_of(
    session: Session, kind: MessageKind, visits: Collection[UUID], since: datetime
) -> set[tuple[UUID, str]]:
    """Of which occasions of these visits something of a kind was planned since then.

    Also what is in the archive by now.
    """
    found: set[tuple[UUID, str]] = set()
    for table in (Message, MessageArchive):
        query = select(table.appointment_id, table.rule).where(
            table.kind == kind, table.appointment_id.in_(visits), table.due_at >= since
        )
        found |= {(row.appointment_id, row.rule) for row in session.execute(query)}
    return found


def under_observation(session: Session) -> Sequence[Appointment]:
    """The visits in which a dose was given and nobody is discharged yet."""
    return session.scalars(
        select(Appointment)
        .where(Appointment.progress.in_((Progress.DOSING, Progress.RECOVERING)))
        .order_by(Appointment.id)
    ).all()


def draft_to_change(
    session: Session, appointment_id: UUID, instrument: str
) -> QuestionnaireDraft | None:
    """What a visit's patient has answered of an instrument so far, locked."""
    return session.scalar(
        select(QuestionnaireDraft)
        .where(
            QuestionnaireDraft.appointment_id == appointment_id,
            QuestionnaireDraft.instrument == instrument,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def drafts_of(session: Session, appointment_id: UUID) -> Sequence[QuestionnaireDraft]:
    """What a visit's patient has begun to answer."""
    query = select(QuestionnaireDraft).where(QuestionnaireDraft.appointment_id == appointment_id)
    return session.scalars(query).all()


def response_counts() -> ColumnElement[bool]:
    """Holds for responses that say something and were not replaced by another."""
    later = aliased(QuestionnaireResponse)
    is_replaced = exists().where(
        later.clinic_id == QuestionnaireResponse.clinic_id,
        later.replaces == QuestionnaireResponse.id,
    )
    return ~QuestionnaireResponse.in_error & ~is_replaced


def booked_ahead(session: Session, patient_id: UUID, now: datetime) -> Sequence[Appointment]:
    """The visits of a patient that are booked and still ahead."""
    return session.scalars(
        select(Appointment)
        .where(
            Appointment.patient_id == patient_id,
            Appointment.status == AppointmentStatus.BOOKED,
            Appointment.starts_at > now,
        )
        .order_by(Appointment.starts_at, Appointment.id)
    ).all()


def protocol_over(session: Session, patient_id: UUID, visit: Appointment | None) -> Protocol:
    """The protocol that a patient is under: of a visit, or of the latest course.

    Without any it is the clinic's own, as it is today. Refuses with `Unfit` if there is none.
    """
    if visit is not None:
        return protocol(session, visit.protocol_version_id)
    latest = (
        select(Course.protocol_version_id)
        .where(Course.patient_id == patient_id)
        .order_by(Course.id.desc())
        .limit(1)
    )
    version_id = session.scalar(latest) or session.scalar(text(DEFAULT_VERSION))
    if version_id is None:
        raise Unfit("This patient is under no protocol; name the visit.", field="appointment_id")
    return protocol(session, version_id)


def is_incident_replaced(session: Session, incident_id: UUID) -> bool:
    """Whether an incident was taken back."""
    return session.scalars(select(exists().where(Incident.replaces == incident_id))).one()


def is_rotated(session: Session, key_id: UUID) -> bool:
    """Whether another key takes a key's place."""
    return session.scalars(select(exists().where(ApiKey.replaces == key_id))).one()


def duties_to_change(session: Session, incident_id: UUID) -> Sequence[ChecklistItem]:
    """What is to be done about an incident, all of it locked."""
    return session.scalars(
        select(ChecklistItem)
        .where(ChecklistItem.incident_id == incident_id)
        .order_by(ChecklistItem.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()


def patient_of_item(session: Session, item: ChecklistItem) -> UUID | None:
    """Whom a checklist item is about."""
    if item.incident_id is None:
        return patient_of(session, item.appointment_id)
    return one(session, Incident, item.incident_id).patient_id


def next_due_of_incident(session: Session, incident_id: UUID) -> datetime | None:
    """When the next thing is due about an incident. None: all is done."""
    return session.scalar(
        select(func.min(ChecklistItem.due_at)).where(
            ChecklistItem.incident_id == incident_id,
            ChecklistItem.status.in_((TaskStatus.REQUESTED, TaskStatus.FAILED)),
        )
    )


def latest_screen(session: Session, patient_id: UUID) -> Screen | None:
    """The screen of a patient that counts."""
    return session.scalars(
        select(Screen)
        .where(Screen.patient_id == patient_id)
        .order_by(Screen.screened_at.desc(), Screen.created_at.desc(), Screen.id.desc())
        .limit(1)
    ).one_or_none()


def latest_reconciliation(session: Session, patient_id: UUID) -> Reconciliation | None:
    """The list of what a patient takes that counts."""
    return session.scalars(
        select(Reconciliation)
        .where(Reconciliation.patient_id == patient_id)
        .order_by(
            Reconciliation.reconciled_at.desc(),
            Reconciliation.created_at.desc(),
            Reconciliation.id.desc(),
        )
        .limit(1)
    ).one_or_none()


def latest_eligibility(session: Session, course_id: UUID) -> Eligibility | None:
    """What was decided last about a course."""
    return session.scalars(
        select(Eligibility)
        .where(Eligibility.course_id == course_id)
        .order_by(Eligibility.decided_at.desc(), Eligibility.id.desc())
        .limit(1)
    ).one_or_none()


def _decides() -> ColumnElement[bool]:
    """Holds for decisions about a course under way that no later one replaced."""
    later = aliased(Eligibility)
    is_replaced = exists().where(
        later.clinic_id == Eligibility.clinic_id,
        later.course_id == Eligibility.course_id,
        tuple_(later.decided_at, later.id) > tuple_(Eligibility.decided_at, Eligibility.id),
    )
    is_active = exists().where(
        Course.clinic_id == Eligibility.clinic_id,
        Course.id == Eligibility.course_id,
        Course.status == CourseStatus.ACTIVE,
    )
    return ~is_replaced & is_active


def still_decides(session: Session, decision_id: UUID) -> bool:
    """Whether a decision about a course stands."""
    query = select(exists().where(Eligibility.id == decision_id, _decides()))
    return session.scalars(query).one()


def looked_at_again(session: Session, now: datetime) -> Sequence[Eligibility]:
    """The decisions that stand, whose day has come, and of which nobody has a task yet."""
    is_asked = exists().where(
        Task.clinic_id == Eligibility.clinic_id,
        Task.kind == TaskKind.RESCREEN,
        Task.subject_id == Eligibility.id,
    )
    return session.scalars(
        select(Eligibility)
        .where(Eligibility.remind_at <= now, ~is_asked, _decides())
        .order_by(Eligibility.id)
    ).all()


def rescreenings_over(session: Session) -> Sequence[UUID]:
    """The decisions of which somebody has a task, and that do not stand any more."""
    return session.scalars(
        select(Eligibility.id)
        .join(Task, (Task.clinic_id == Eligibility.clinic_id) & (Task.subject_id == Eligibility.id))
        .where(Task.kind == TaskKind.RESCREEN, Task.status == TaskStatus.REQUESTED, ~_decides())
        .order_by(Eligibility.id)
    ).all()


def is_event_replaced(session: Session, event_id: UUID) -> bool:
    """Whether another line stands in the place of this one."""
    return session.scalars(select(exists().where(HealthEvent.replaces == event_id))).one()


def responses_that_count(session: Session, patient_id: UUID) -> Sequence[QuestionnaireResponse]:
    """A patient's responses that were not replaced, oldest first."""
    return session.scalars(
        select(QuestionnaireResponse)
        .where(QuestionnaireResponse.patient_id == patient_id, response_counts())
        .order_by(QuestionnaireResponse.authored_at, QuestionnaireResponse.id)
    ).all()


def courses_of(session: Session, patient_id: UUID) -> Sequence[Course]:
    """A patient's courses, in the order in which they were opened."""
    query = select(Course).where(Course.patient_id == patient_id)
    return session.scalars(query.order_by(Course.created_at, Course.id)).all()


def doses_of(
    session: Session, patient_id: UUID
) -> Sequence[tuple[Appointment, str, datetime | None]]:
    """The visits with a dose in a patient's courses that stand: their steps, and when it was given.

    In the order of time. None: it was not given yet.
    """
    given = (
        select(func.min(AppointmentEvent.at))
        .where(
            AppointmentEvent.clinic_id == Appointment.clinic_id,
            AppointmentEvent.appointment_id == Appointment.id,
            AppointmentEvent.action == "start-dosing",
        )
        .scalar_subquery()
    )
    rows = session.execute(
        select(Appointment, CourseStep.key, given)
        .join(
            CourseStep,
            (CourseStep.clinic_id == Appointment.clinic_id)
            & (CourseStep.id == Appointment.course_step_id),
        )
        .where(
            Appointment.patient_id == patient_id,
            Appointment.kind == StepKind.DOSING,
            Appointment.status.in_(STANDING),
        )
        .order_by(Appointment.starts_at, Appointment.id)
    )
    return [(visit, key, at) for visit, key, at in rows]


def spans_of(session: Session, patient_id: UUID) -> Mapping[UUID, tuple[datetime, datetime]]:
    """By course the start of the first and the end of the last of a patient's visits that came."""
    came = (AppointmentStatus.ARRIVED, AppointmentStatus.CHECKED_IN, AppointmentStatus.FULFILLED)
    rows = session.execute(
        select(
            Appointment.course_id, func.min(Appointment.starts_at), func.max(Appointment.ends_at)
        )
        .where(
            Appointment.patient_id == patient_id,
            Appointment.course_id.is_not(None),
            Appointment.status.in_(came),
        )
        .group_by(Appointment.course_id)
    )
    return {course_id: (start, end) for course_id, start, end in rows if course_id is not None}


def is_response_replaced(session: Session, response_id: UUID) -> bool:
    """Whether another response stands in the place of this one."""
    query = select(exists().where(QuestionnaireResponse.replaces == response_id))
    return session.scalars(query).one()


def instruments_filled(session: Session, visit: Appointment) -> set[str]:
    """The instruments that were filled in for a visit, and hold at its time.

    What was filled in since it stands at that time does; of what is older an instrument says how
    long it holds, if it does not always.
    """
    rows = session.execute(
        select(
            QuestionnaireResponse.instrument,
            QuestionnaireResponse.authored_at,
            QuestionnaireResponse.revision,
        ).where(QuestionnaireResponse.appointment_id == visit.id, response_counts())
    )
    return {
        code
        for code, authored_at, revision in rows
        if revision == visit.revision or LIBRARY[code].does_hold(authored_at, visit.starts_at)
    }


def items_to_change(
    session: Session, appointment_id: UUID, codes: Collection[str]
) -> Sequence[ChecklistItem]:
    """Some items of a visit's checklist, locked."""
    return session.scalars(
        select(ChecklistItem)
        .where(ChecklistItem.appointment_id == appointment_id, ChecklistItem.code.in_(codes))
        .order_by(ChecklistItem.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()


def instrument_wording(session: Session, instrument: str) -> InstrumentWording | None:
    """The clinic's own words for an instrument: those that it entered last."""
    return session.scalars(
        select(InstrumentWording)
        .where(InstrumentWording.instrument == instrument)
        .order_by(InstrumentWording.number.desc())
        .limit(1)
    ).one_or_none()


def text_as_of(session: Session, code: str, language: str, at: datetime) -> ConsentText | None:
    """The text of a gate that stood at a time: in this language, else in the clinic's own.

    The newest from the last version on that renewed; where that was written in neither, in any.
    """
    then = (ConsentText.code == code) & (ConsentText.written_at <= at)
    renewed = select(func.coalesce(func.max(ConsentText.number), 0)).where(then, ConsentText.renews)
    return session.scalars(
        select(ConsentText)
        .where(then, ConsentText.number >= renewed.scalar_subquery())
        .order_by(
            (ConsentText.language == language).desc(),
            (ConsentText.language == CLINICS_LANGUAGE).desc(),
            ConsentText.number.desc(),
        )
        .limit(1)
    ).one_or_none()


CLINICS_LANGUAGE = "en"
"""What a clinic speaks to whoever has told no other."""


def last_text(session: Session, code: str) -> int:
    """The number of the last version of a gate's text; 0: there is none yet."""
    query = select(func.coalesce(func.max(ConsentText.number), 0)).where(ConsentText.code == code)
    return session.scalars(query).one()


def booked_of_cleared(session: Session, code: str, now: datetime) -> Sequence[Appointment]:
    """The booked visits ahead of everybody for whom a gate was ever cleared."""
    was_cleared = exists().where(
        Clearance.clinic_id == Appointment.clinic_id,
        Clearance.patient_id == Appointment.patient_id,
        Clearance.gate == code,
    )
    return session.scalars(
        select(Appointment)
        .where(
            Appointment.status == AppointmentStatus.BOOKED, Appointment.starts_at > now, was_cleared
        )
        .order_by(Appointment.starts_at, Appointment.id)
    ).all()


def consents_of(session: Session, visit: Appointment) -> Sequence[tuple[Consent, ConsentText]]:
    """What a visit's patient has signed for its course, or for the visit alone, newest first."""
    own = (
        Consent.appointment_id == visit.id
        if visit.course_id is None
        else Consent.course_id == visit.course_id
    )
    rows = session.execute(
        select(Consent, ConsentText)
        .join(
            ConsentText,
            (ConsentText.clinic_id == Consent.clinic_id) & (ConsentText.id == Consent.text_id),
        )
        .where(Consent.patient_id == visit.patient_id, own)
        .order_by(Consent.signed_at.desc(), Consent.id.desc())
    )
    return [(row.Consent, row.ConsentText) for row in rows]


def live_visits(session: Session, course_id: UUID) -> Mapping[UUID, Appointment]:
    """The course's visits that stand or took place, by step."""
    query = select(Appointment).where(
        Appointment.course_id == course_id, Appointment.status.in_(STANDING)
    )
    return {one.course_step_id: one for one in session.scalars(query) if one.course_step_id}


def is_replaced(session: Session, observation_id: UUID) -> bool:
    """Whether another observation stands in the place of this one."""
    query = select(exists().where(Observation.replaces == observation_id))
    return session.scalars(query).one()


def is_override_replaced(session: Session, override_id: UUID) -> bool:
    """Whether an override was taken back."""
    return session.scalars(select(exists().where(Override.replaces == override_id))).one()


def doses_given(session: Session, patient_id: UUID, but: UUID) -> Sequence[datetime]:
    """When doses were given to a patient, in other visits than `but`.

    Of a visit of which nobody noted when, as of one from another system, its start.
    """
    query = (
        select(func.coalesce(AppointmentEvent.at, Appointment.starts_at))
        .select_from(Appointment)
        .outerjoin(
            AppointmentEvent,
            (AppointmentEvent.clinic_id == Appointment.clinic_id)
            & (AppointmentEvent.appointment_id == Appointment.id)
            & (AppointmentEvent.action == "start-dosing"),
        )
        .where(
            Appointment.patient_id == patient_id,
            Appointment.id != but,
            Appointment.kind == StepKind.DOSING,
            Appointment.status.in_((AppointmentStatus.CHECKED_IN, AppointmentStatus.FULFILLED)),
        )
        .order_by(Appointment.starts_at, Appointment.id)
    )
    return session.scalars(query).all()


def unlicensed(session: Session, visit: Appointment, day: date) -> Sequence[str]:
    """The roles in which somebody serves a visit without a licence that holds on `day`."""
    holds = (
        select(Qualification.id)
        .join(
            Practitioner,
            (Practitioner.clinic_id == Qualification.clinic_id)
            & (Practitioner.id == Qualification.practitioner_id),
        )
        .where(
            Practitioner.schedule_id == Slot.schedule_id,
            Qualification.role == Slot.role,
            Qualification.valid_from <= day,
            Qualification.valid_until >= day,
        )
    )
    return session.scalars(
        select(Slot.role)
        .join(Appointment, SERVES)
        .where(
            Appointment.id == visit.id,
            Slot.role.in_(PractitionerRole),
            ~holds.correlate(Slot).exists(),
        )
        .distinct()
        .order_by(Slot.role)
    ).all()


def is_licensed(session: Session, practitioner_id: UUID, role: PractitionerRole, day: date) -> bool:
    """Whether a clinician holds a licence for a role on `day`."""
    held = exists().where(
        Qualification.practitioner_id == practitioner_id,
        Qualification.role == role,
        Qualification.valid_from <= day,
        Qualification.valid_until >= day,
    )
    return session.scalars(select(held)).one()


def patient_of(session: Session, appointment_id: UUID | None) -> UUID | None:
    """Whose visit it is."""
    if appointment_id is None:
        return None
    query = select(Appointment.patient_id).where(Appointment.id == appointment_id)
    return session.scalar(query)


def patient_on(session: Session, schedule_id: UUID) -> UUID | None:
    """Whose own schedule it is. None: no patient's."""
    return session.scalar(select(Patient.id).where(Patient.schedule_id == schedule_id))


def lines_about(session: Session, patient_id: UUID, most: int) -> Sequence[AuditEvent]:
    """The last lines of the audit trail about what was done with a patient's record, newest first.

    To come in is nothing done with it, nor is what came to nothing.
    """
    return session.scalars(
        select(AuditEvent)
        .where(
            AuditEvent.patient_id == patient_id,
            AuditEvent.outcome == AuditOutcome.SUCCESS,
            AuditEvent.action != "execute",
        )
        .order_by(AuditEvent.at.desc(), AuditEvent.sequence.desc())
        .limit(most)
    ).all()


def names_of_users(session: Session) -> Mapping[str, str]:
    """What whoever has an account is called, by the id under which the trail has them."""
    found = session.execute(select(UserAccount.id, UserAccount.name))
    return {str(one.id): one.name for one in found}


def open_glass(
    session: Session, asked_by: str, patient_id: UUID, now: datetime
) -> BreakGlass | None:
    """What opens a patient's record to somebody by break-glass. None: nothing does, now."""
    return session.scalars(
        select(BreakGlass)
        .where(
            BreakGlass.asked_by == asked_by,
            BreakGlass.patient_id == patient_id,
            BreakGlass.asked_at <= now,
            BreakGlass.expires_at > now,
        )
        .order_by(BreakGlass.asked_at.desc())
        .limit(1)
    ).first()


def glasses_since(session: Session, asked_by: str, since: datetime) -> int:
    """How often somebody has asked for a record by break-glass since."""
    return session.scalars(
        select(func.count())
        .select_from(BreakGlass)
        .where(BreakGlass.asked_by == asked_by, BreakGlass.asked_at > since)
    ).one()


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


def doses_over(
    session: Session, since: datetime, now: datetime
) -> Sequence[tuple[Appointment, str]]:
    """The visits of courses in which a dose was given, and that ended between then and now.

    With their sites' zones.
    """
    came = (AppointmentStatus.CHECKED_IN, AppointmentStatus.FULFILLED)
    rows = session.execute(
        select(Appointment, Site.time_zone)
        .join(Site, (Site.clinic_id == Appointment.clinic_id) & (Site.id == Appointment.site_id))
        .where(
            Appointment.kind == StepKind.DOSING,
            Appointment.course_id.is_not(None),
            Appointment.status.in_(came),
            Appointment.starts_at >= since,
            Appointment.ends_at <= now,
        )
        .order_by(Appointment.starts_at, Appointment.id)
    )
    return [(visit, zone) for visit, zone in rows]


def visits_of_courses(
    session: Session, course_ids: Collection[UUID]
) -> Mapping[UUID, Mapping[UUID, Booked]]:
    """By course its visits by id, whatever became of them, and the steps that it skips.

    Who serves them is left out: many courses are looked at in one go.
    """
    found: dict[UUID, dict[UUID, Booked]] = {one: {} for one in course_ids}
    rows = session.execute(
        select(CourseStep, Appointment)
        .outerjoin(
            Appointment,
            (Appointment.clinic_id == CourseStep.clinic_id)
            & (Appointment.course_step_id == CourseStep.id),
        )
        .where(CourseStep.course_id.in_(course_ids))
        .order_by(CourseStep.position, Appointment.starts_at, Appointment.id)
    )
    for step, visit in rows:
        if visit is not None:
            booked = Booked(step.key, step.kind, visit.status, visit.starts_at, {}, step.outcome)
            found[step.course_id][visit.id] = booked
        if step.skipped_at is not None:
            at = step.planned_at or step.skipped_at
            gone = Booked(step.key, step.kind, AppointmentStatus.CANCELLED, at, is_skipped=True)
            found[step.course_id][step.id] = gone
    return found


def active_courses(session: Session, ids: Collection[UUID]) -> set[UUID]:
    """Those of these courses that go on."""
    query = select(Course.id).where(Course.id.in_(ids), Course.status == CourseStatus.ACTIVE)
    return set(session.scalars(query))


def expired_holds(session: Session, now: datetime) -> Sequence[UUID]:
    """Holds that have run out."""
    return session.scalars(
        select(Appointment.id)
        .where(Appointment.status == AppointmentStatus.PENDING, Appointment.held_until <= now)
        .order_by(Appointment.id)
    ).all()


def held(session: Session, course_id: UUID, now: datetime) -> Mapping[UUID | None, Appointment]:
    """For each step of a course whose time is held the visit that holds it."""
    rows = session.scalars(
        select(Appointment).where(
            Appointment.course_id == course_id,
            Appointment.status == AppointmentStatus.PENDING,
            Appointment.held_until > now,
        )
    )
    return {visit.course_step_id: visit for visit in rows}


def who_booked(session: Session, appointment_ids: Collection[UUID]) -> Mapping[UUID, str]:
    """For each of the visits who booked it."""
    rows = session.execute(
        select(Appointment.id, Appointment.booked_by).where(Appointment.id.in_(appointment_ids))
    )
    return {row.id: row.booked_by for row in rows}


def visits_ahead(session: Session, course_id: UUID) -> Sequence[UUID]:
    """The course's visits that have not begun."""
    ahead = (AppointmentStatus.PENDING, AppointmentStatus.BOOKED, AppointmentStatus.ARRIVED)
    return session.scalars(
        select(Appointment.id)
        .where(Appointment.course_id == course_id, Appointment.status.in_(ahead))
        .order_by(Appointment.id)
    ).all()


def missed(session: Session, now: datetime) -> Sequence[Appointment]:
    """Booked visits that ended longer ago than the clinic waits.

    Not those that ended while the clinic's doors were shut: nobody could note who came.
    """
    home = clinic(session)
    patience = timedelta(minutes=home.noshow_after_minutes)
    resumed = select(Tenancy.resumed_at).where(Tenancy.id == home.clinic_id).scalar_subquery()
    return session.scalars(
        select(Appointment)
        .where(
            Appointment.status == AppointmentStatus.BOOKED,
            Appointment.suspended_at.is_(None),  # it is not the patient who let that one down
            Appointment.ends_at <= now - patience,
            func.coalesce(resumed < Appointment.ends_at, true()),
        )
        .order_by(Appointment.id)
        .limit(200)
    ).all()


def suspended_and_over(session: Session, now: datetime) -> Sequence[Appointment]:
    """Suspended visits whose time is over, and of which no open task says so."""
    return session.scalars(
        select(Appointment)
        .where(
            Appointment.status == AppointmentStatus.BOOKED,
            Appointment.suspended_at.is_not(None),
            Appointment.ends_at <= now,
            ~exists().where(
                Task.clinic_id == Appointment.clinic_id,
                Task.subject_id == Appointment.id,
                Task.kind == TaskKind.DECIDE_VISIT,
                Task.status == TaskStatus.REQUESTED,
            ),
        )
        .order_by(Appointment.id)
        .limit(200)
    ).all()


def booked_soon(
    session: Session, now: datetime, ahead: timedelta
) -> Sequence[tuple[Appointment, str]]:
    """The booked visits that have not ended and begin within a while, with their sites' zones."""
    rows = session.execute(
        select(Appointment, Site.time_zone)
        .join(Site, (Site.clinic_id == Appointment.clinic_id) & (Site.id == Appointment.site_id))
        .where(
            Appointment.status == AppointmentStatus.BOOKED,
            Appointment.starts_at <= now + ahead,
            Appointment.ends_at > now,
        )
        .order_by(Appointment.id)
    )
    return [(visit, zone) for visit, zone in rows]


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


def escort_of(session: Session, appointment_id: UUID) -> Escort | None:
    """Who is named to take a visit's patient home."""
    return session.scalar(_escort_named(appointment_id))


def escort_to_change(session: Session, appointment_id: UUID) -> Escort | None:
    """The same, locked."""
    query = _escort_named(appointment_id).with_for_update()
    return session.scalar(query.execution_options(populate_existing=True))


def _escort_named(appointment_id: UUID) -> Select[Escort]:
    return select(Escort).where(
        Escort.appointment_id == appointment_id, Escort.replaced_at.is_(None)
    )


def done_at(session: Session, appointment_id: UUID, action: str) -> datetime | None:
    """When something was last done to a visit, as its history has it."""
    return session.scalar(
        select(func.max(AppointmentEvent.at)).where(
            AppointmentEvent.appointment_id == appointment_id, AppointmentEvent.action == action
        )
    )


def departure_of(session: Session, appointment_id: UUID) -> Departure | None:
    """How a visit's patient left, as it was noted last and not taken back."""
    later = aliased(Departure)
    return session.scalar(
        select(Departure).where(
            Departure.appointment_id == appointment_id,
            ~Departure.in_error,
            ~exists().where(later.clinic_id == Departure.clinic_id, later.replaces == Departure.id),
        )
    )


def _escort(
    session: Session, appointment: Appointment, home: Clinic, zone: ZoneInfo
) -> list[Reader]:
    escort = escort_of(session, appointment.id)
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


def holds_of(session: Session, caller: str, now: datetime) -> Sequence[datetime]:
    """Until when each time is held that a caller holds, the first to run out first."""
    found = session.scalars(
        select(Appointment.held_until)
        .where(
            Appointment.status == AppointmentStatus.PENDING,
            Appointment.held_until > now,
            Appointment.booked_by == caller,
        )
        .order_by(Appointment.held_until)
    )
    return [until for until in found if until is not None]


def freed_to_look_at(session: Session, now: datetime) -> FreedTime | None:
    """A freed time at which it is time to look: of several the one that begins first.

    None if nobody waits: a clinic without a waitlist pays nothing for it.
    """
    return session.scalars(
        select(FreedTime)
        .where(
            FreedTime.look_at <= now,
            FreedTime.ends_at > now,
            exists().where(
                WaitlistEntry.clinic_id == FreedTime.clinic_id,
                WaitlistEntry.state == WaitingState.WAITING,
            ),
        )
        .order_by(FreedTime.starts_at, FreedTime.id)
        .limit(1)
    ).one_or_none()


def waiting_for(
    session: Session, freed: FreedTime
) -> list[tuple[WaitlistEntry, Brief, Appointment | None]]:
    """Those who wait, whom a freed time may suit, and who have no offer to think about.

    With what they wait for, and the visit that would be moved. Nobody is offered a freed time
    twice. The longest waiting first.
    """
    offered = exists().where(
        Offer.clinic_id == WaitlistEntry.clinic_id,
        ((Offer.entry_id == WaitlistEntry.id) & (Offer.freed_time_id == freed.id))
        | ((Offer.patient_id == WaitlistEntry.patient_id) & (Offer.state == OfferState.STANDING)),
    )
    rows = session.execute(
        select(WaitlistEntry, CourseStep.key, Course, Patient, Appointment)
        .join(
            CourseStep,
            (CourseStep.clinic_id == WaitlistEntry.clinic_id)
            & (CourseStep.id == WaitlistEntry.course_step_id),
        )
        .join(
            Course, (Course.clinic_id == CourseStep.clinic_id) & (Course.id == CourseStep.course_id)
        )
        .join(Patient, (Patient.clinic_id == Course.clinic_id) & (Patient.id == Course.patient_id))
        .outerjoin(
            Appointment,
            (Appointment.clinic_id == WaitlistEntry.clinic_id)
            & (Appointment.course_step_id == WaitlistEntry.course_step_id)
            & Appointment.status.in_(STANDING),
        )
        .where(
            WaitlistEntry.state == WaitingState.WAITING,
            Course.status == CourseStatus.ACTIVE,
            CourseStep.skipped_at.is_(None),
            WaitlistEntry.visit_id.is_not_distinct_from(Appointment.id),
            func.coalesce(WaitlistEntry.site_id, freed.site_id) == freed.site_id,
            func.coalesce(WaitlistEntry.latest, freed.ends_at) > freed.starts_at,
            func.coalesce(WaitlistEntry.earliest, freed.starts_at) < freed.ends_at,
            ~offered,
        )
        .order_by(WaitlistEntry.waiting_since, WaitlistEntry.id)
    ).all()
    return [
        (entry, _brief(key, course, patient, entry.course_step_id, read), visit)
        for entry, key, course, patient, visit in rows
        for read in (protocol(session, course.protocol_version_id),)
    ]


def _brief(key: str, course: Course, patient: Patient, step_id: UUID, read: Protocol) -> Brief:
    step = read.step(key)
    version_id = course.protocol_version_id
    return Brief(patient, course.id, step_id, version_id, read, step, step.visit)


def standing_offers(session: Session, freed_time_id: UUID) -> Sequence[Offer]:
    """The offers of a freed time that stand."""
    return session.scalars(
        select(Offer)
        .where(Offer.freed_time_id == freed_time_id, Offer.state == OfferState.STANDING)
        .order_by(Offer.id)
    ).all()


def offer_over(session: Session, now: datetime) -> tuple[Offer, bool] | None:
    """An offer that stands and should not, and whether its group session is gone.

    It has run out, its patient waits no more, or the session was cancelled or moved.
    """
    is_gone = func.coalesce(
        GroupSession.cancelled_at.is_not(None) | (GroupSession.starts_at != Appointment.starts_at),
        False,
    )
    row = session.execute(
        select(Offer, is_gone.label("is_gone"))
        .join(
            WaitlistEntry,
            (WaitlistEntry.clinic_id == Offer.clinic_id) & (WaitlistEntry.id == Offer.entry_id),
        )
        .join(
            Appointment,
            (Appointment.clinic_id == Offer.clinic_id) & (Appointment.id == Offer.appointment_id),
        )
        .outerjoin(
            GroupSession,
            (GroupSession.clinic_id == Appointment.clinic_id)
            & (GroupSession.id == Appointment.group_session_id),
        )
        .where(
            Offer.state == OfferState.STANDING,
            (Offer.expires_at <= now) | (WaitlistEntry.state != WaitingState.WAITING) | is_gone,
        )
        .order_by(Offer.expires_at, Offer.id)
        .limit(1)
    ).one_or_none()
    return None if row is None else (row.Offer, row.is_gone)


def offer_of(session: Session, appointment_id: UUID) -> Offer | None:
    """The offer of which a proposed visit is the time, also when it is over."""
    return session.scalar(select(Offer).where(Offer.appointment_id == appointment_id))


def is_waiting(session: Session, course_step_id: UUID) -> bool:
    """Whether somebody waits for a time for a step."""
    found = select(WaitlistEntry.id).where(
        WaitlistEntry.course_step_id == course_step_id,
        WaitlistEntry.state == WaitingState.WAITING,
    )
    return session.scalar(found) is not None


MOVABLE = (AppointmentStatus.PENDING, AppointmentStatus.BOOKED)
"""Visits that have not begun and take place as things are."""


def visits_meeting(
    session: Session, start: datetime, end: datetime, now: datetime
) -> Sequence[Appointment]:
    """The visits ahead that take anybody's time between `start` and `end`, in the order of time."""
    return session.scalars(
        select(Appointment)
        .where(
            Appointment.status.in_(MOVABLE),
            Appointment.starts_at > now,
            Appointment.group_session_id.is_(None),  # a cohort moves as one
            func.coalesce(Appointment.held_until, func.greatest(now, end)) > now,
            exists().where(
                Slot.clinic_id == Appointment.clinic_id,
                Slot.appointment_id == Appointment.id,
                Slot.starts_at >= start - timedelta(days=2),
                Slot.starts_at < end,
                Slot.ends_at > start,
            ),
        )
        .order_by(Appointment.starts_at, Appointment.id)
    ).all()


def groups_between(session: Session, start: datetime, end: datetime) -> Sequence[GroupSession]:
    """The group sessions that start in `[start, end)` and are to be held, in the order of time."""
    return session.scalars(
        select(GroupSession)
        .where(
            GroupSession.cancelled_at.is_(None),
            GroupSession.starts_at >= start,
            GroupSession.starts_at < end,
        )
        .order_by(GroupSession.starts_at, GroupSession.id)
    ).all()


def groups_of(session: Session, ids: Collection[UUID]) -> Sequence[GroupSession]:
    """Those of these group sessions that are to be held."""
    return session.scalars(
        select(GroupSession).where(GroupSession.id.in_(ids), GroupSession.cancelled_at.is_(None))
    ).all()


def groups_served(
    session: Session, schedule_id: UUID, start: datetime, end: datetime
) -> Sequence[UUID]:
    """The group sessions that take a schedule's time between `start` and `end`, in that order."""
    return session.scalars(
        select(GroupSession.id)
        .where(
            GroupSession.cancelled_at.is_(None),
            exists().where(
                Slot.clinic_id == GroupSession.clinic_id,
                Slot.group_session_id == GroupSession.id,
                Slot.schedule_id == schedule_id,
                Slot.starts_at >= start - timedelta(days=2),
                Slot.starts_at < end,
                Slot.ends_at > start,
            ),
        )
        .order_by(GroupSession.starts_at, GroupSession.id)
    ).all()


def visits_to_move(
    session: Session, course_ids: Collection[UUID], ids: Collection[UUID], now: datetime
) -> Sequence[Appointment]:
    """The visits ahead of these courses, and these visits, in the order of time."""
    return session.scalars(
        select(Appointment)
        .where(
            Appointment.status.in_(MOVABLE),
            Appointment.starts_at > now,
            Appointment.group_session_id.is_(None),
            Appointment.course_id.in_(course_ids) | Appointment.id.in_(ids),
        )
        .order_by(Appointment.starts_at, Appointment.id)
    ).all()


def slots_of_visits(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Slot]]:
    """Everything that these visits take, lane by lane in the order of time."""
    rows = session.scalars(
        select(Slot)
        .where(Slot.appointment_id.in_(ids))
        .order_by(Slot.appointment_id, Slot.schedule_id, Slot.role, Slot.lane, Slot.starts_at)
    ).all()
    return {one: list(its) for one, its in groupby(rows, key=lambda row: row.appointment_id)}


def steps_lost(session: Session, course_id: UUID) -> Sequence[tuple[CourseStep, Appointment]]:
    """The steps that had a visit which was missed or cancelled and have none now, with it."""
    lost = (AppointmentStatus.NOSHOW, AppointmentStatus.CANCELLED)
    standing = aliased(Appointment)
    rows = session.execute(
        select(CourseStep, Appointment)
        .join(
            Appointment,
            (Appointment.clinic_id == CourseStep.clinic_id)
            & (Appointment.course_step_id == CourseStep.id),
        )
        .where(
            CourseStep.course_id == course_id,
            CourseStep.skipped_at.is_(None),
            Appointment.status.in_(lost),
            ~exists().where(
                standing.clinic_id == CourseStep.clinic_id,
                standing.course_step_id == CourseStep.id,
                standing.status.in_(STANDING),
            ),
        )
        .order_by(CourseStep.position, Appointment.id)
    ).all()
    latest = {step.id: (step, visit) for step, visit in rows}
    return list(latest.values())


def passed_over(session: Session, ids: Collection[UUID]) -> set[tuple[UUID, str]]:
    """What was passed over with a reason for these visits at their present times."""
    later = aliased(Override)
    rows = session.execute(
        select(Override.appointment_id, Override.code)
        .join(
            Appointment,
            (Appointment.clinic_id == Override.clinic_id)
            & (Appointment.id == Override.appointment_id),
        )
        .where(
            Override.appointment_id.in_(ids),
            Override.revision == Appointment.revision,
            Override.replaces.is_(None),
            ~exists().where(later.clinic_id == Override.clinic_id, later.replaces == Override.id),
        )
    )
    return {(row.appointment_id, row.code) for row in rows}


def latest_proposals(session: Session, disruption_id: UUID) -> Sequence[Proposal]:
    """Of each patient the newest proposal that a disruption led to."""
    return session.scalars(
        select(Proposal)
        .ext(distinct_on(Proposal.patient_id))
        .where(Proposal.disruption_id == disruption_id)
        .order_by(Proposal.patient_id, Proposal.id.desc())
    ).all()


def all_schedules_of(session: Session, ids: Collection[UUID]) -> frozenset[UUID]:
    """The schedules on which these visits take time."""
    return frozenset(
        session.scalars(select(Slot.schedule_id).where(Slot.appointment_id.in_(ids)).distinct())
    )


def patient_schedules(session: Session, ids: Collection[UUID]) -> frozenset[UUID]:
    """The schedules of these patients."""
    return frozenset(session.scalars(select(Patient.schedule_id).where(Patient.id.in_(ids))))


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
    """The numbers of the places in each session that are taken, or kept for who was offered one."""
    is_kept = (Appointment.status == AppointmentStatus.PROPOSED) & (
        Appointment.held_until.is_not(None)
    )
    rows = session.execute(
        select(Appointment.group_session_id, Appointment.place).where(
            Appointment.group_session_id.in_(group_session_ids),
            Appointment.status.in_(STANDING) | is_kept,
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
