"""Rehearsal: one invented patient through a whole course, in seconds.

A scratch clinic, a virtual clock, and the code that a real clinic runs on: the same booking,
the same jobs, the same delivery. What is printed is what the patient would get, and when.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from textwrap import indent
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg import Connection
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session

import demonstration
import intake.clinic
from database import access
from database.scratch import scratch
from models import (
    Appointment,
    ChecklistItem,
    CourseStep,
    Patient,
    Protocol,
    ProtocolVersion,
    enter_clinic,
)
from models.vocabulary import (
    Answer,
    AppointmentStatus,
    ClearanceOutcome,
    Measure,
    MessageKind,
    ReplyMeaning,
    Role,
    Stage,
    StepKind,
    TaskStatus,
)
from notifications.channels import Accepted, Envelope, Outcome
from notifications.delivery import Delivery
from notifications.languages import place_name
from notifications.wall_time import at_wall_time
from scheduler import (
    booking,
    checklists,
    clearances,
    courses,
    departures,
    escorts,
    evidence,
    facts,
    medicines,
    observing,
    questionnaires,
    replies,
    screens,
    sessions,
)
from scheduler.authority import Authority, Call
from scheduler.checklists import Settling
from scheduler.clearances import NewClearance
from scheduler.departures import Left
from scheduler.escorts import NewEscort
from scheduler.instruments import LIBRARY
from scheduler.jobs import JOBS
from scheduler.lifecycle import Action
from scheduler.measuring import DueState
from scheduler.medicines import NewReconciliation
from scheduler.observing import Noted
from scheduler.permissions import BUNDLES
from scheduler.protocols import SettledBy
from scheduler.questionnaires import Filled, New
from scheduler.screens import NewScreen

DESK = Authority("key:front-desk", BUNDLES[Role.SCHEDULER])
TEAM = frozenset({"prescriber", "monitor", "therapist"})
DOCTOR = Authority("key:clinicians", BUNDLES[Role.CLINICIAN], None, TEAM)
PATIENT = Authority("patient")
WELL = {
    Measure.SYSTOLIC: 122.0,
    Measure.DIASTOLIC: 78.0,
    Measure.HEART_RATE: 70.0,
    Measure.OXYGEN_SATURATION: 98.0,
    Measure.RESPIRATORY_RATE: 14.0,
    Measure.TEMPERATURE: 36.7,
    Measure.WEIGHT: 70.0,
    Measure.RECOVERY_SCORE: 10.0,
    Measure.ORIENTED: 1.0,
    Measure.STEADY_GAIT: 1.0,
    Measure.NAUSEA_CONTROLLED: 1.0,
}
"""What is measured of the invented patient, who is always well."""
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
A_WEEK_OFF = 8 * DAY
"""So far ahead is the first visit booked."""
FORGETS_TO_CONFIRM = 1
FORGETS_TO_ANSWER = 2
"""Which of the visits with a dose the patient does not confirm, and does not answer after."""


class NoSuchProtocol(Exception):
    """The demonstration has no protocol of that code."""


@dataclass(slots=True)
class Post:
    """A channel that keeps what it is given, for the rehearsal to show."""

    mails: list[tuple[str, EmailMessage]] = field(default_factory=list)

    def hand_over(self, envelope: Envelope) -> Outcome:
        """Take the message."""
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((envelope.name, mail))
        return Accepted()

    def close(self) -> None:
        """Nothing is held."""


def rehearse(database_url: str | None, code: str, start: date, *, brief: bool) -> Iterator[str]:
    """Tell the course of an invented patient, line by line, as it goes.

    Raises NoSuchProtocol.
    """
    files = intake.clinic.read(demonstration.FOLDER)
    codes = [content["code"] for content in files.protocols]
    if code not in codes:
        raise NoSuchProtocol(f"--protocol {code}: there are {', '.join(codes)}.")
    with scratch(database_url) as ways:
        service, worker = create_engine(ways.service), create_engine(ways.worker)
        try:
            connect = partial(access.connect, ways.worker)
            yield from Rehearsal(service, worker, connect, files, brief).run(code, start)
        finally:
            service.dispose()
            worker.dispose()


@dataclass(slots=True)
class Rehearsal:
    """One run, moving from one thing that happens to the next."""

    service: Engine
    worker: Engine
    connect: Callable[[], Connection[Any]]
    """As the worker."""
    files: intake.clinic.ClinicFiles
    brief: bool
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("America/New_York"))
    post: Post = field(default_factory=Post)
    acts: list[tuple[datetime, int, str, UUID]] = field(default_factory=list)
    """What people will do, and when: a heap."""
    clinic_id: UUID | None = None
    patient_id: UUID | None = None
    course_id: UUID | None = None
    day: date | None = None
    doses: int = 0
    """How many visits with a dose are booked."""

    def run(self, code: str, start: date) -> Iterator[str]:
        """Live through the course."""
        self.zone = ZoneInfo(self.files.sites[0]["time_zone"])
        self.now = at_wall_time(datetime.combine(start, time(9, 0)), self.zone)
        yield from self._open(code)
        delivery = Delivery(
            self.connect,
            [self.post],
            lambda: self.now,
            "https://clinic.example",
            "rehearsal",
            self._unready,
        )
        while (following := self._next(delivery)) is not None:
            self.now = max(self.now, following)
            yield from self._deliver(delivery)
            while self.acts and self.acts[0][0] <= self.now:
                _, _, act, appointment_id = heapq.heappop(self.acts)
                yield from getattr(self, f"_{act}")(appointment_id)
            self._jobs()
        yield ""
        yield f"{len(self.post.mails)} messages in all."

    def _open(self, code: str) -> Iterator[str]:
        with Session(self.service) as session:
            self.clinic_id = intake.clinic.store(session, self.files, "rehearsal", self.now)
            patient = session.scalars(
                select(Patient).order_by(Patient.record_number).limit(1)
            ).one()
            version_id, title = session.execute(
                select(ProtocolVersion.id, Protocol.title)
                .join(Protocol, Protocol.id == ProtocolVersion.protocol_id)
                .where(Protocol.code == code)
            ).one()
            course = courses.open_course(session, patient.id, version_id, by=DESK)
            self.patient_id, self.course_id = patient.id, course.id
            name = f"{patient.given_name} {patient.family_name}"
            session.commit()
        where = f"times in {place_name(self.zone.key)}"
        yield f"{title}: {name} (invented), {where}"
        yield from self._book_on(self.now + A_WEEK_OFF)

    def _next(self, delivery: Delivery) -> datetime | None:
        """When something happens next: a message is due, or somebody acts."""
        due = delivery.next_due()
        planned = self.acts[0][0] if self.acts else None
        return min((moment for moment in (due, planned) if moment is not None), default=None)

    def _unready(self, clinic_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
        with self._session() as session:
            return evidence.unready(session, ids, self.now)

    def _jobs(self) -> None:
        for job in JOBS:
            with self._session(self.worker) as session:
                job.run(session, self.now)
                session.commit()

    def _deliver(self, delivery: Delivery) -> Iterator[str]:
        before = len(self.post.mails)
        delivery.sweep()
        for _, mail in self.post.mails[before:]:
            yield self._line(
                "e-mail", f"to {mail['To'].addresses[0].display_name}: {mail['Subject']}"
            )
            body = mail.get_body(("plain",))
            if body is not None:
                words = body.get_content().split("\n-- \n")[0]  # how to stop it is always the same
                told = [line for line in words.splitlines() if line.strip()]
                yield indent("\n".join(told[1:3] if self.brief else told), " " * 20)

    def _book_on(self, first: datetime | None = None) -> Iterator[str]:
        """Book as many of the next steps as can be booked today, from `first` on."""
        with self._session() as session:
            steps = session.scalars(
                select(CourseStep)
                .where(CourseStep.course_id == self.course_id)
                .order_by(CourseStep.position)
            ).all()
            booked = {
                visit.course_step_id: visit
                for visit in session.scalars(
                    select(Appointment).where(Appointment.course_id == self.course_id)
                )
            }
            last = first or self.now
            for step in steps:
                if step.id in booked:
                    last = booked[step.id].starts_at
                    continue
                assert self.patient_id is not None
                visit = demonstration.book_first(
                    session, self.patient_id, step.id, last + 20 * 60 * MINUTE, self.now
                )
                if visit is None:
                    break
                last = visit.starts_at
                asks = facts.brief_of(session, visit).visit.cadence
                self._plan(visit, any(rule.kind is MessageKind.CONFIRM_REQUEST for rule in asks))
                when = visit.starts_at.astimezone(self.zone)
                yield self._line("book", f"{step.key}: {when:%a %d %b %Y, %H:%M}")
            session.commit()

    def _plan(self, visit: Appointment, is_asked: bool) -> None:
        """What people will do around a visit; of some the patient is asked to confirm them."""
        start, end = visit.starts_at, visit.ends_at
        acts = [("prepare", start - 60 * 60 * MINUTE), ("hold", start - 10 * MINUTE)]
        if visit.kind is StepKind.SCREENING:
            acts[0] = ("prepare", start - 40 * 60 * MINUTE)  # late enough to be nudged
        if visit.kind is StepKind.DOSING:
            acts += [("dose", start + 15 * MINUTE), ("recover", start + 100 * MINUTE)]
            self.doses += 1
        forgets = visit.kind is StepKind.DOSING and self.doses == FORGETS_TO_CONFIRM
        if is_asked and not forgets:
            acts.append(("confirm", start - 22 * 60 * MINUTE))
        if visit.kind is StepKind.DOSING and self.doses != FORGETS_TO_ANSWER:
            acts.append(("tell", end + 27 * 60 * MINUTE))
        acts.append(("finish", end))
        for number, (act, at) in enumerate(acts):
            heapq.heappush(self.acts, (max(at, self.now + number * MINUTE), number, act, visit.id))

    def _prepare(self, appointment_id: UUID) -> Iterator[str]:
        """The patient does the list and names an escort; the clinicians clear what they can."""
        with self._session() as session:
            visit = facts.one(session, Appointment, appointment_id)
            before = self._states(session, visit)
            asked = {
                check.code: check.instruments
                for check in facts.brief_of(session, visit).visit.checklist
            }
            for item in session.scalars(
                select(ChecklistItem).where(ChecklistItem.appointment_id == visit.id)
            ):
                by = DOCTOR if item.owner == "clinician" else PATIENT
                by = DESK if item.owner == "front-desk" else by
                if asked.get(item.code):
                    self._fill_in(session, visit, asked[item.code])
                else:
                    done = Settling(status=TaskStatus.COMPLETED)
                    checklists.settle(session, item, done, by=by, now=self.now)
            gates = facts.brief_of(session, visit).visit.gates
            if any(gate.settled_by is SettledBy.ESCORT for gate in gates):
                escort = NewEscort(
                    name="Evan Escort",
                    phone="+12125550199",
                    relation="partner",
                    email="evan.escort@example.com",
                    may_message=True,
                    confirmed=True,
                )
                escorts.name_escort(session, visit.id, escort, by=DESK, now=self.now)
            self._clear(session, visit, {Stage.ARRIVAL})
            session.commit()
            yield self._line("page", f"checklist done for the {visit.kind} visit")
            yield from self._opened(session, visit, before)

    def _confirm(self, appointment_id: UUID) -> Iterator[str]:
        with self._session() as session:
            booking.confirm(session, Call(appointment_id, None), by=PATIENT, now=self.now)
            session.commit()
            yield self._line("page", "the patient says that they will come")

    def _tell(self, appointment_id: UUID) -> Iterator[str]:
        with self._session() as session:
            visit = facts.one(session, Appointment, appointment_id)
            replies.note_wellbeing(session, visit, ReplyMeaning.WELL, self.now)
            session.commit()
            yield self._line("page", "the patient says that they are well")

    def _hold(self, appointment_id: UUID) -> Iterator[str]:
        """The patient arrives; the clinicians clear what is theirs to clear."""
        with self._session() as session:
            visit = facts.one(session, Appointment, appointment_id)
            before = self._states(session, visit)
            self._clear(session, visit, {Stage.DOSE})
            sessions.act(session, Call(visit.id, None), Action.ARRIVE, by=DESK, now=self.now)
            self._note(session, visit)
            session.commit()
            yield self._line("visit", f"{visit.kind}: the patient is here")
            yield from self._opened(session, visit, before)

    def _dose(self, appointment_id: UUID) -> Iterator[str]:
        yield from self._act(appointment_id, Action.START_DOSING, "under way, all gates open")
        with self._session() as session:
            visit = facts.one(session, Appointment, appointment_id)
            due = observing.due(session, [visit], self.now)[visit.id]
            for due_at in {one.due_at for one in due if one.state is DueState.AHEAD}:
                heapq.heappush(self.acts, (due_at, 0, "measure", appointment_id))

    def _measure(self, appointment_id: UUID) -> Iterator[str]:
        """The nurse looks, and notes it."""
        with self._session() as session:
            visit = facts.one(session, Appointment, appointment_id)
            if visit.progress is not None:
                self._note(session, visit)
                session.commit()
                yield self._line("watch", f"{visit.kind}: vital signs noted")

    def _recover(self, appointment_id: UUID) -> Iterator[str]:
        yield from self._act(appointment_id, Action.START_RECOVERY, "recovering")

    def _finish(self, appointment_id: UUID) -> Iterator[str]:
        """The visit ends; an intake clears the way for what follows."""
        with self._session() as session:
            visit = facts.one(session, Appointment, appointment_id)
            before = self._states(session, visit)
            if visit.kind is StepKind.DOSING:
                self._clear(session, visit, {Stage.DISCHARGE})
                self._note(session, visit)
                self._see_off(session, visit)
                sessions.act(
                    session, Call(visit.id, None), Action.DISCHARGE, by=DOCTOR, now=self.now
                )
            sessions.act(session, Call(visit.id, None), Action.FULFIL, by=DOCTOR, now=self.now)
            session.commit()
            yield self._line("visit", f"{visit.kind}: fulfilled")
            yield from self._opened(session, visit, before)
            if visit.kind is StepKind.SCREENING:
                codes = self._clear_way(session, visit)
                session.commit()
                yield self._line("gate", f"cleared for the course: {', '.join(codes)}")
        yield from self._book_on()

    def _act(self, appointment_id: UUID, action: Action, told: str) -> Iterator[str]:
        with self._session() as session:
            visit = sessions.act(
                session, Call(appointment_id, None), action, by=DOCTOR, now=self.now
            )
            session.commit()
            yield self._line("visit", f"{visit.kind}: {told}")

    def _clear(self, session: Session, visit: Appointment, stages: set[Stage]) -> None:
        for gate in facts.brief_of(session, visit).visit.gates:
            if gate.settled_by is SettledBy.CLEARANCE and gate.shuts in stages:
                self._vouch(session, gate.code)
            if gate.settled_by is SettledBy.MEDICINES and gate.shuts in stages:
                taken = NewReconciliation(reconciled_at=self.now, medicines=())
                medicines.reconcile(session, visit.patient_id, taken, by=DOCTOR, now=self.now)
            if gate.instrument is not None and gate.shuts in stages:
                answers = self._calm(gate.instrument)
                new = New(visit.patient_id, gate.instrument, self.now, answers)
                questionnaires.enter(session, new, by=DOCTOR, now=self.now)

    def _fill_in(self, session: Session, visit: Appointment, codes: Sequence[str]) -> None:
        for code in codes:
            filled = Filled(code, self._calm(code))
            questionnaires.send(session, visit, filled, by=PATIENT, now=self.now)

    def _calm(self, code: str) -> dict[str, int]:
        """Answers of somebody who is well."""
        return {item.code: 0 for item in LIBRARY[code].items}

    def _note(self, session: Session, visit: Appointment) -> None:
        """Note of a dosing visit what is ever asked of it: the patient is well."""
        asked = facts.brief_of(session, visit).visit
        measures = {limit.measure for gate in asked.gates for limit in gate.limits}
        measures |= {measure for watch in asked.watch for measure in watch.measures}
        if measures:
            values = {measure: WELL[measure] for measure in measures}
            noted = Noted(values=values, taken_at=self.now)
            observing.note(session, visit.id, noted, by=DOCTOR, now=self.now)

    def _see_off(self, session: Session, visit: Appointment) -> None:
        named = facts.escort_of(session, visit.id)
        if named is not None:
            left = Left(way=named.way, accompanied_by=named.name, left_at=self.now)
            departures.note(session, visit.id, left, by=DOCTOR, now=self.now)

    def _clear_way(self, session: Session, visit: Appointment) -> list[str]:
        protocol = facts.brief_of(session, visit).protocol
        codes = {
            gate.code
            for other in protocol.visits.values()
            for gate in other.gates
            if gate.settled_by is SettledBy.CLEARANCE and gate.shuts is Stage.BOOKING
        }
        for code in sorted(codes):
            self._vouch(session, code)
        answers = {one.code: Answer.ABSENT for one in screens.asked(session, visit.patient_id)}
        if answers:
            screen = NewScreen(screened_at=self.now, answers=answers, notes={})
            screens.record(session, visit.patient_id, screen, by=DOCTOR, now=self.now)
        return sorted(codes)

    def _vouch(self, session: Session, code: str) -> None:
        assert self.patient_id is not None
        told = NewClearance(gate=code, outcome=ClearanceOutcome.CLEARED, cleared_at=self.now)
        clearances.clear(session, self.patient_id, told, by=DOCTOR, now=self.now)

    def _states(self, session: Session, visit: Appointment) -> dict[str, bool]:
        judged = evidence.judge(session, [visit], self.now)[visit.id]
        return {one.gate.code: one.is_shut for one in judged.gates}

    def _opened(
        self, session: Session, visit: Appointment, before: dict[str, bool]
    ) -> Iterator[str]:
        """The gates that opened meanwhile."""
        if visit.status is AppointmentStatus.CANCELLED:
            return
        after = self._states(session, visit)
        opened = [code for code, shut in before.items() if shut and not after[code]]
        if opened:
            yield self._line("gate", f"open now: {', '.join(opened)}")

    def _line(self, what: str, told: str) -> str:
        """A line of the timeline, under a heading for each day."""
        local = self.now.astimezone(self.zone)
        heading = "" if local.date() == self.day else f"\n{local:%A, %d %B %Y}\n"
        self.day = local.date()
        return f"{heading}  {local:%H:%M}  {what:<9}{told}"

    def _session(self, engine: Engine | None = None) -> Session:
        session = Session(engine or self.service)
        assert self.clinic_id is not None
        enter_clinic(session, self.clinic_id)
        return session
