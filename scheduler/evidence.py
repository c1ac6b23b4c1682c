"""Evidence: the SELECTs that gates are judged by, and nothing else.

What many visits need is asked for all of them at once: a board of a thousand visits takes as
many queries as one visit does.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, aliased

from models import (
    Appointment,
    AppointmentEvent,
    ChecklistItem,
    Clearance,
    CourseStep,
    Departure,
    Escort,
    HealthEvent,
    Observation,
    Override,
    QuestionnaireResponse,
)
from models.vocabulary import (
    AppointmentStatus,
    ClearanceOutcome,
    Measure,
    Stage,
    StepKind,
    TaskStatus,
    WayHome,
)
from scheduler import facts, readiness, rules
from scheduler.facts import Brief
from scheduler.lifecycle import Action
from scheduler.measuring import Measured
from scheduler.protocols import Protocol, Step
from scheduler.readiness import Answered, Companion, EarlierStep, Item, Known, Readiness, Vouched


def clearances(
    session: Session, patient_ids: Sequence[UUID]
) -> Mapping[UUID, Mapping[str, Vouched]]:
    """For each patient and gate the latest clearance."""
    rows = session.execute(
        select(
            Clearance.patient_id,
            Clearance.gate,
            Clearance.outcome,
            Clearance.cleared_at,
            Clearance.valid_until,
        )
        .ext(distinct_on(Clearance.patient_id, Clearance.gate))
        .where(Clearance.patient_id.in_(patient_ids))
        .order_by(
            Clearance.patient_id,
            Clearance.gate,
            Clearance.cleared_at.desc(),
            Clearance.created_at.desc(),
            Clearance.id.desc(),
        )
    )
    found: dict[UUID, dict[str, Vouched]] = defaultdict(dict)
    for row in rows:
        outcome = ClearanceOutcome(row.outcome)
        found[row.patient_id][row.gate] = Vouched(outcome, row.cleared_at, row.valid_until)
    return found


def judge(session: Session, visits: Sequence[Appointment], now: datetime) -> dict[UUID, Readiness]:
    """The readiness of each visit. The number of queries does not depend on how many."""
    known = _known(session, visits)
    return {
        visit.id: readiness.assess(
            facts.protocol(session, visit.protocol_version_id).visits[visit.visit].gates,
            known[visit.id],
            readiness.moment(visit.starts_at, now, under_way=visit.progress is not None),
        )
        for visit in visits
    }


def before_booking(session: Session, about: Brief) -> Known | None:
    """What the gates that shut the booking of a visit are judged by. None: there are none."""
    if all(gate.shuts is not Stage.BOOKING for gate in about.visit.gates):
        return None
    earlier, first = None, True
    if about.course_id is not None and about.step is not None:
        earlier, first = steps_before(session, about.course_id, about.step, about.protocol)
    patient_id = about.patient.id
    return Known(
        starts_at=_ANY_TIME,
        clearances=clearances(session, [patient_id]).get(patient_id, {}),
        happened=_happened(session, [patient_id]).get(patient_id, {}),
        earlier=earlier,
        first_of_kind=first,
    )


def before_course(
    session: Session, patient_id: UUID, course_id: UUID, protocol: Protocol
) -> Callable[[Step], Known]:
    """What the booking gates of any step of a course are judged by, in two queries for all."""
    cleared = clearances(session, [patient_id]).get(patient_id, {})
    happened = _happened(session, [patient_id]).get(patient_id, {})
    placed = _steps(session, [course_id])[course_id]

    def known(step: Step) -> Known:
        earlier, first = _before(placed, protocol, step.position, step.visit.kind)
        return Known(
            starts_at=_ANY_TIME,
            clearances=cleared,
            happened=happened,
            earlier=earlier,
            first_of_kind=first,
        )

    return known


_ANY_TIME = datetime.max.replace(tzinfo=UTC)
"""A visit that is not booked has no checklist yet, whose items would be due by its start."""


def unready(session: Session, ids: Sequence[UUID], now: datetime) -> set[UUID]:
    """Those of the visits that a shut gate would keep from beginning."""
    visits = session.scalars(select(Appointment).where(Appointment.id.in_(ids))).all()
    return {
        visit_id
        for visit_id, judged in judge(session, visits, now).items()
        if judged.shut(Stage.ARRIVAL)
    }


def _known(session: Session, visits: Sequence[Appointment]) -> dict[UUID, Known]:
    ids = [visit.id for visit in visits]
    cleared = clearances(session, [visit.patient_id for visit in visits])
    items = _items(session, ids)
    escorts, departures = _escorts(session, ids), _departures(session, ids)
    given = dosed(session, ids)
    measured = measurings(session, ids)
    patient_ids = [visit.patient_id for visit in visits]
    answered = _answered(session, patient_ids)
    happened = _happened(session, patient_ids)
    doses = _doses(session, patient_ids)
    overridden = _overridden(session, visits)
    steps = _course_steps(session, visits)
    known = {}
    for visit in visits:
        protocol = facts.protocol(session, visit.protocol_version_id)
        earlier, first = _place_in_course(visit, protocol, steps)
        known[visit.id] = Known(
            starts_at=visit.starts_at,
            clearances=cleared.get(visit.patient_id, {}),
            items=tuple(items[visit.id]),
            escort=escorts.get(visit.id),
            left=departures.get(visit.id),
            ways_home=protocol.visits[visit.visit].ways_home,
            earlier=earlier,
            first_of_kind=first,
            dosed_at=given.get(visit.id),
            measured=measured.get(visit.id, ()),
            answered=answered.get(visit.patient_id, {}),
            happened=happened.get(visit.patient_id, {}),
            last_dosed_at=max(
                (at for at in doses.get(visit.patient_id, ()) if at < visit.starts_at), default=None
            ),
            overridden=overridden[visit.id],
        )
    return known


@dataclass(frozen=True, slots=True)
class _Placed:
    """A course's step, and what became of it."""

    id: UUID
    key: str
    position: int
    kind: StepKind
    fulfilled: bool
    skipped: bool
    outcome: str | None


def _place_in_course(
    visit: Appointment, protocol: Protocol, steps: Mapping[UUID, Sequence[_Placed]]
) -> tuple[tuple[EarlierStep, ...] | None, bool]:
    """The steps before the visit's own, and whether it is the first of its kind."""
    if visit.course_id is None:
        return None, True
    course = steps[visit.course_id]
    position = next(step.position for step in course if step.id == visit.course_step_id)
    return _before(course, protocol, position, visit.kind)


def steps_before(
    session: Session, course_id: UUID, step: Step, protocol: Protocol
) -> tuple[tuple[EarlierStep, ...], bool]:
    """The same for a step that is not booked yet."""
    placed = _steps(session, [course_id])[course_id]
    return _before(placed, protocol, step.position, step.visit.kind)


def _before(
    course: Sequence[_Placed], protocol: Protocol, position: int, kind: StepKind
) -> tuple[tuple[EarlierStep, ...], bool]:
    """The steps before a position. Those of a branch that was not taken count for nothing."""
    outcomes = {step.key: step.outcome for step in course if step.outcome is not None}
    skipped = {step.key for step in course if step.skipped}
    earlier = tuple(
        EarlierStep(step.key, step.kind, step.fulfilled, step.skipped)
        for step in course
        if step.position < position
        and rules.belongs(protocol.step(step.key), protocol, outcomes, skipped) is not False
    )
    return earlier, all(step.kind is not kind or step.skipped for step in earlier)


def _course_steps(
    session: Session, visits: Sequence[Appointment]
) -> Mapping[UUID, Sequence[_Placed]]:
    course_ids = [visit.course_id for visit in visits if visit.course_id is not None]
    return _steps(session, course_ids) if course_ids else {}


def _steps(session: Session, course_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[_Placed]]:
    rows = session.execute(
        select(
            CourseStep.course_id,
            CourseStep.id,
            CourseStep.key,
            CourseStep.position,
            CourseStep.kind,
            Appointment.id.is_not(None).label("fulfilled"),
            CourseStep.skipped_at.is_not(None).label("skipped"),
            CourseStep.outcome,
        )
        .outerjoin(
            Appointment,
            (Appointment.clinic_id == CourseStep.clinic_id)
            & (Appointment.course_step_id == CourseStep.id)
            & (Appointment.status == AppointmentStatus.FULFILLED),
        )
        .where(CourseStep.course_id.in_(course_ids))
        .order_by(CourseStep.position)
    )
    found: dict[UUID, list[_Placed]] = defaultdict(list)
    for row in rows:
        found[row.course_id].append(_Placed(*row[1:]))
    return found


def _items(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, list[Item]]:
    rows = session.execute(
        select(
            ChecklistItem.appointment_id,
            ChecklistItem.gate,
            ChecklistItem.title,
            ChecklistItem.status,
            ChecklistItem.due_at,
        ).where(ChecklistItem.appointment_id.in_(ids))
    )
    found: dict[UUID, list[Item]] = defaultdict(list)
    for row in rows:
        found[row.appointment_id].append(
            Item(row.gate, row.title, TaskStatus(row.status), row.due_at)
        )
    return found


def _escorts(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, Companion]:
    rows = session.execute(
        select(Escort.appointment_id, Escort.confirmed_at).where(
            Escort.appointment_id.in_(ids), Escort.replaced_at.is_(None)
        )
    )
    return {row.appointment_id: Companion(row.confirmed_at is not None) for row in rows}


def _departures(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, WayHome]:
    """How the patients of visits left, of those of whom it was noted."""
    later = aliased(Departure)
    rows = session.execute(
        select(Departure.appointment_id, Departure.way).where(
            Departure.appointment_id.in_(ids),
            ~exists().where(later.clinic_id == Departure.clinic_id, later.replaces == Departure.id),
        )
    )
    return {row.appointment_id: row.way for row in rows}


def dosed(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, datetime]:
    """When the dose was given, of those visits in which it was."""
    rows = session.execute(
        select(AppointmentEvent.appointment_id, AppointmentEvent.at).where(
            AppointmentEvent.appointment_id.in_(ids),
            AppointmentEvent.action == Action.START_DOSING,
        )
    )
    return {row.appointment_id: row.at for row in rows}


def measurings(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Measured]]:
    """For each visit what was measured and still counts, in the order of time."""
    later = aliased(Observation)
    rows = session.execute(
        select(Observation.appointment_id, Observation.taken_at, Observation.values)
        .where(
            Observation.appointment_id.in_(ids),
            Observation.values != {},
            ~exists().where(
                later.clinic_id == Observation.clinic_id, later.replaces == Observation.id
            ),
        )
        .order_by(Observation.taken_at, Observation.id)
    )
    found: dict[UUID, list[Measured]] = defaultdict(list)
    for row in rows:
        values = {Measure(code): value for code, value in row.values.items()}
        found[row.appointment_id].append(Measured(row.taken_at, values))
    return found


def _answered(
    session: Session, patient_ids: Sequence[UUID]
) -> Mapping[UUID, Mapping[str, Answered]]:
    """For each patient and instrument the last response that counts."""
    response = QuestionnaireResponse
    rows = session.execute(
        select(response.patient_id, response.instrument, response.authored_at, response.shuts)
        .ext(distinct_on(response.patient_id, response.instrument))
        .where(response.patient_id.in_(patient_ids), facts.response_counts())
        .order_by(
            response.patient_id,
            response.instrument,
            response.authored_at.desc(),
            response.id.desc(),
        )
    )
    found: dict[UUID, dict[str, Answered]] = defaultdict(dict)
    for row in rows:
        found[row.patient_id][row.instrument] = Answered(row.authored_at, row.shuts)
    return found


def _happened(
    session: Session, patient_ids: Sequence[UUID]
) -> Mapping[UUID, Mapping[str, datetime]]:
    """For each patient when something of a kind last happened, as far as it counts."""
    later = aliased(HealthEvent)
    rows = session.execute(
        select(HealthEvent.patient_id, HealthEvent.kind, func.max(HealthEvent.happened_at))
        .where(
            HealthEvent.patient_id.in_(patient_ids),
            ~HealthEvent.in_error,
            ~exists().where(
                later.clinic_id == HealthEvent.clinic_id, later.replaces == HealthEvent.id
            ),
        )
        .group_by(HealthEvent.patient_id, HealthEvent.kind)
    )
    found: dict[UUID, dict[str, datetime]] = defaultdict(dict)
    for patient_id, kind, at in rows:
        found[patient_id][kind] = at
    return found


def _doses(session: Session, patient_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[datetime]]:
    """For each patient the starts of all visits with a dose that took place or are booked."""
    rows = session.execute(
        select(Appointment.patient_id, Appointment.starts_at).where(
            Appointment.patient_id.in_(patient_ids),
            Appointment.kind == StepKind.DOSING,
            Appointment.status.in_(rules.STANDING),
        )
    )
    found: dict[UUID, list[datetime]] = defaultdict(list)
    for row in rows:
        found[row.patient_id].append(row.starts_at)
    return found


def _overridden(
    session: Session, visits: Sequence[Appointment]
) -> Mapping[UUID, Mapping[str, datetime]]:
    """When gates were last opened by a reason, for the time at which each visit stands now."""
    revisions = {visit.id: visit.revision for visit in visits}
    rows = session.execute(
        select(Override.appointment_id, Override.code, Override.revision, Override.at)
        .where(Override.appointment_id.in_(revisions))
        .order_by(Override.at)
    )
    found: dict[UUID, dict[str, datetime]] = defaultdict(dict)
    for row in rows:
        if row.revision == revisions[row.appointment_id]:
            found[row.appointment_id][row.code] = row.at
    return found
