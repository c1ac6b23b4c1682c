"""Evidence: the SELECTs that gates are judged by, and nothing else.

What many visits need is asked for all of them at once: a board of a thousand visits takes as
many queries as one visit does.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models import Appointment, CourseStep
from models.vocabulary import (
    Answer,
    AppointmentStatus,
    ClearanceOutcome,
    EligibilityOutcome,
    HoldOutcome,
    Measure,
    MedicineAction,
    Stage,
    StepKind,
    TaskStatus,
    WayHome,
)
from scheduler import facts, readiness, rules
from scheduler.facts import Brief
from scheduler.measuring import Measured
from scheduler.protocols import Protocol, Step
from scheduler.readiness import (
    Answered,
    Companion,
    Duty,
    EarlierStep,
    Item,
    Known,
    Readiness,
    Renewal,
    Vouched,
)
from scheduler.screening import Decided, Medicine, Reconciled, Ruled, Ruling, Screen


@dataclass(frozen=True, slots=True)
class Lines:
    """What gates are judged by, by patient and by visit; absent is empty."""

    cleared: dict[UUID, dict[str, list[Vouched]]] = field(
        default_factory=partial(defaultdict, partial(defaultdict, list))
    )
    """For each patient and gate the latest clearance for each medicine and route."""
    renewed: dict[str, list[Renewal]] = field(default_factory=partial(defaultdict, list))
    """For each gate the versions of its text that end the clearances given to earlier ones."""
    answered: dict[UUID, dict[str, Answered]] = field(default_factory=partial(defaultdict, dict))
    """For each patient and instrument the last response that counts."""
    happened: dict[UUID, dict[str, datetime]] = field(default_factory=partial(defaultdict, dict))
    """For each patient when something of a kind last happened."""
    duties: dict[UUID, list[Duty]] = field(default_factory=partial(defaultdict, list))
    """For each patient what is still to be done about what went wrong."""
    doses: dict[UUID, list[datetime]] = field(default_factory=partial(defaultdict, list))
    """For each patient the starts of all visits with a dose that took place or are booked."""
    items: dict[UUID, list[Item]] = field(default_factory=partial(defaultdict, list))
    """Of each visit the checklist, as far as gates rest on it."""
    escorts: dict[UUID, Companion] = field(default_factory=dict)
    left: dict[UUID, WayHome] = field(default_factory=dict)
    dosed: dict[UUID, datetime] = field(default_factory=dict)
    """When the dose was given, of those visits in which it was."""
    measured: dict[UUID, list[Measured]] = field(default_factory=partial(defaultdict, list))
    """What was measured in each visit and still counts, in the order of time."""
    overridden: dict[UUID, dict[str, datetime]] = field(default_factory=partial(defaultdict, dict))
    """When gates were last opened by a reason, for the time at which each visit stands now."""
    screens: dict[UUID, tuple[datetime, datetime, dict[str, Answer]]] = field(default_factory=dict)
    """For each patient when the latest screen was done, when it was known, and what it found."""
    decided: dict[UUID, dict[str, Decided]] = field(default_factory=partial(defaultdict, dict))
    """For each patient and condition of that screen what was decided last."""
    reconciled: dict[UUID, tuple[datetime, datetime, tuple[Medicine, ...]]] = field(
        default_factory=dict
    )
    """For each patient the same of what they take."""
    ruled: dict[UUID, dict[str, Ruled]] = field(default_factory=partial(defaultdict, dict))
    """For each patient and class of these medicines what was ruled last."""
    eligibility: dict[UUID, Ruling] = field(default_factory=dict)
    """For each course what was decided last; for each patient the same of all their courses."""

    def screen_of(self, patient_id: UUID) -> Screen | None:
        """The latest screen of a patient, with what was decided on it."""
        found = self.screens.get(patient_id)
        return None if found is None else Screen(*found, self.decided[patient_id])

    def reconciled_of(self, patient_id: UUID) -> Reconciled | None:
        """What a patient takes, with what was ruled on it."""
        found = self.reconciled.get(patient_id)
        return None if found is None else Reconciled(*found, self.ruled[patient_id])

    def eligibility_of(self, patient_id: UUID, course_id: UUID | None) -> Ruling | None:
        """What was decided about a course; of a visit outside any, about the patient last."""
        return self.eligibility.get(course_id or patient_id)

    def take(self, row: Sequence[Any]) -> None:
        """Take in a line as the database tells it."""
        what, subject, code, state, at, until, told, words = row
        if what in _OF_SCREENING:
            self._take_of_screening(row)
            return
        match what:
            case "cleared":
                given = Vouched(_OUTCOMES[state], at, until, **(told or {}))
                self.cleared[subject][code].append(given)
            case "answered":
                self.answered[subject][code] = Answered(at, state is not None)
            case "happened":
                self.happened[subject][code] = at
            case "duty":
                self.duties[subject].append(Duty(code, words, _STATUSES[state], at))
            case "dose":
                self.doses[subject].append(at)
            case "item":
                self.items[subject].append(Item(code, words, _STATUSES[state], at))
            case _:
                self._take_the_rest(what, subject, code, at, told)

    def _take_the_rest(
        self, what: str, subject: UUID, code: str, at: datetime | None, told: Any
    ) -> None:
        if what == "escort":
            self.escorts[subject] = Companion(at is not None)
            return
        assert at is not None
        match what:
            case "renewed":
                self.renewed[code].append(Renewal(told, at))
            case "left":
                self.left[subject] = WayHome(code)
            case "dosed":
                self.dosed[subject] = at
            case "measured":
                values = {_MEASURES[name]: value for name, value in told.items()}
                self.measured[subject].append(Measured(at, values))
            case "overridden":
                self.overridden[subject][code] = at

    def _take_of_screening(self, row: Sequence[Any]) -> None:
        what, subject, code, state, at, until, told, words = row
        match what:
            case "screened":
                answers = {one: Answer(found) for one, found in told.items()}
                self.screens[subject] = at, until, answers
            case "decided":
                self.decided[subject][code] = Decided(HoldOutcome(state), at)
            case "reconciled":
                taken = tuple(Medicine(one["name"], one["class"]) for one in told)
                self.reconciled[subject] = at, until, taken
            case "ruled":
                self.ruled[subject][code] = Ruled(MedicineAction(state), at)
            case "eligibility":
                day = None if told["until"] is None else date.fromisoformat(told["until"])
                ruling = Ruling(EligibilityOutcome(state), at, words, day, until)
                self.eligibility[subject] = self.eligibility[UUID(told["course"])] = ruling


_OF_SCREENING = frozenset({"screened", "decided", "reconciled", "ruled", "eligibility"})


def read(session: Session, patient_ids: Sequence[UUID], visit_ids: Sequence[UUID]) -> Lines:
    """Read everything that gates of these patients and visits are judged by, in one query."""
    lines = Lines()
    for row in session.execute(_LINES, {"patients": list(patient_ids), "visits": list(visit_ids)}):
        lines.take(row)
    return lines


_OUTCOMES = {one.value: one for one in ClearanceOutcome}
_STATUSES = {one.value: one for one in TaskStatus}
_MEASURES = {one.value: one for one in Measure}

_LINES = text(
    """
    WITH screens AS (
        SELECT DISTINCT ON (patient_id) * FROM screen
         WHERE patient_id = ANY(CAST(:patients AS uuid[]))
         ORDER BY patient_id, screened_at DESC, created_at DESC, id DESC
    ), reconciliations AS (
        SELECT DISTINCT ON (patient_id) * FROM reconciliation
         WHERE patient_id = ANY(CAST(:patients AS uuid[]))
         ORDER BY patient_id, reconciled_at DESC, created_at DESC, id DESC
    ), lines AS (
        SELECT 'cleared' AS what, c.patient_id AS subject, c.gate AS code, c.outcome AS state,
               c.cleared_at AS at, c.valid_until AS until,
               CASE WHEN num_nonnulls(c.medicine, c.route, t.number) > 0
                    THEN jsonb_build_object('medicine', c.medicine, 'route', c.route,
                                            'text', t.number) END AS told,
               NULL AS words, c.id
          FROM (SELECT DISTINCT ON (patient_id, gate, medicine, route) * FROM clearance
                 WHERE patient_id = ANY(CAST(:patients AS uuid[]))
                 ORDER BY patient_id, gate, medicine, route, cleared_at DESC, created_at DESC,
                          id DESC) AS c
          LEFT JOIN consent_text t ON t.clinic_id = c.clinic_id AND t.id = c.text_id
        UNION ALL
        SELECT 'renewed', NULL, t.code, NULL, t.written_at, NULL, to_jsonb(t.number), NULL, t.id
          FROM consent_text t WHERE t.renews
        UNION ALL
        SELECT 'answered', r.patient_id, r.instrument, CASE WHEN r.shuts THEN 'shuts' END,
               r.authored_at, NULL, NULL, NULL, r.id
          FROM (SELECT DISTINCT ON (patient_id, instrument) * FROM questionnaire_response q
                 WHERE patient_id = ANY(CAST(:patients AS uuid[])) AND NOT in_error
                   AND NOT EXISTS (SELECT FROM questionnaire_response l
                                    WHERE l.clinic_id = q.clinic_id AND l.replaces = q.id)
                 ORDER BY patient_id, instrument, authored_at DESC, id DESC) AS r
        UNION ALL
        SELECT 'happened', e.patient_id, e.kind, NULL, max(e.happened_at), NULL, NULL, NULL,
               NULL
          FROM health_event e
         WHERE e.patient_id = ANY(CAST(:patients AS uuid[])) AND NOT e.in_error
           AND NOT EXISTS (SELECT FROM health_event l
                            WHERE l.clinic_id = e.clinic_id AND l.replaces = e.id)
         GROUP BY e.patient_id, e.kind
        UNION ALL
        SELECT 'duty', n.patient_id, i.gate, i.status, n.noted_at, NULL, NULL, i.title, i.id
          FROM incident n
          JOIN checklist_item i ON i.clinic_id = n.clinic_id AND i.incident_id = n.id
         WHERE n.patient_id = ANY(CAST(:patients AS uuid[])) AND i.gate IS NOT NULL
           AND i.status IN ('requested', 'failed')
        UNION ALL
        SELECT 'dose', a.patient_id, NULL, NULL, a.starts_at, NULL, NULL, NULL, a.id
          FROM appointment a
         WHERE a.patient_id = ANY(CAST(:patients AS uuid[])) AND a.kind = 'dosing'
           AND a.status IN ('pending', 'booked', 'arrived', 'checked-in', 'fulfilled')
        UNION ALL
        SELECT 'item', i.appointment_id, i.gate, i.status, i.due_at, NULL, NULL, i.title, i.id
          FROM checklist_item i
         WHERE i.appointment_id = ANY(CAST(:visits AS uuid[])) AND i.gate IS NOT NULL
        UNION ALL
        SELECT 'escort', e.appointment_id, NULL, NULL, e.confirmed_at, NULL, NULL, NULL, e.id
          FROM escort e
         WHERE e.appointment_id = ANY(CAST(:visits AS uuid[])) AND e.replaced_at IS NULL
        UNION ALL
        SELECT 'left', d.appointment_id, d.way, NULL, d.left_at, NULL, NULL, NULL, d.id
          FROM departure d
         WHERE d.appointment_id = ANY(CAST(:visits AS uuid[]))
           AND NOT EXISTS (SELECT FROM departure l
                            WHERE l.clinic_id = d.clinic_id AND l.replaces = d.id)
        UNION ALL
        SELECT 'dosed', e.appointment_id, NULL, NULL, e.at, NULL, NULL, NULL, e.id
          FROM appointment_event e
         WHERE e.appointment_id = ANY(CAST(:visits AS uuid[])) AND e.action = 'start-dosing'
        UNION ALL
        SELECT 'measured', o.appointment_id, NULL, NULL, o.taken_at, NULL, o.values, NULL, o.id
          FROM observation o
         WHERE o.appointment_id = ANY(CAST(:visits AS uuid[])) AND o.values <> '{}'
           AND NOT EXISTS (SELECT FROM observation l
                            WHERE l.clinic_id = o.clinic_id AND l.replaces = o.id)
        UNION ALL
        SELECT 'overridden', o.appointment_id, o.code, NULL, o.at, NULL, NULL, NULL, o.id
          FROM override o
          JOIN appointment a ON a.clinic_id = o.clinic_id AND a.id = o.appointment_id
         WHERE o.appointment_id = ANY(CAST(:visits AS uuid[])) AND o.revision = a.revision
        UNION ALL
        SELECT 'screened', s.patient_id, NULL, NULL, s.screened_at, s.recorded_at, s.answers, NULL,
               s.id
          FROM screens s
        UNION ALL
        SELECT 'decided', s.patient_id, d.condition, d.outcome, d.decided_at, NULL, NULL, NULL,
               d.id
          FROM screens s
          JOIN screen_decision d ON d.clinic_id = s.clinic_id AND d.screen_id = s.id
        UNION ALL
        SELECT 'reconciled', r.patient_id, NULL, NULL, r.reconciled_at, r.recorded_at,
               r.medicines, NULL, r.id
          FROM reconciliations r
        UNION ALL
        SELECT 'ruled', r.patient_id, m.medicine_class, m.action, m.ruled_at, NULL, NULL, NULL,
               m.id
          FROM reconciliations r
          JOIN medicine_ruling m ON m.clinic_id = r.clinic_id AND m.reconciliation_id = r.id
        UNION ALL
        SELECT 'eligibility', e.patient_id, NULL, e.outcome, e.decided_at, e.lapses_at,
               jsonb_build_object('course', e.course_id,
                                  'until', coalesce(e.deferred_until, e.rescreen_on)),
               e.conditions, e.id
          FROM (SELECT DISTINCT ON (course_id) * FROM eligibility
                 WHERE patient_id = ANY(CAST(:patients AS uuid[]))
                 ORDER BY course_id, decided_at DESC, id DESC) AS e
    )
    SELECT what, subject, code, state, at, until, told, words FROM lines ORDER BY at, id
    """
)
"""Lines of one shape: a board of a thousand visits asks once. Those of a kind in order of time."""


def judge(session: Session, visits: Sequence[Appointment], now: datetime) -> dict[UUID, Readiness]:
    """The readiness of each visit. The number of queries does not depend on how many."""
    given = known(session, visits)
    return {
        visit.id: readiness.assess(
            facts.protocol(session, visit.protocol_version_id).visits[visit.visit].gates,
            given[visit.id],
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
    lines = read(session, [patient_id], [])
    return Known(
        starts_at=_ANY_TIME,
        clearances=lines.cleared[patient_id],
        renewed=lines.renewed,
        medicine=about.visit.medicine,
        route=about.visit.route,
        happened=lines.happened[patient_id],
        duties=lines.duties[patient_id],
        screen=lines.screen_of(patient_id),
        reconciled=lines.reconciled_of(patient_id),
        eligibility=lines.eligibility_of(patient_id, about.course_id),
        earlier=earlier,
        first_of_kind=first,
    )


def before_course(
    session: Session, patient_id: UUID, course_id: UUID, protocol: Protocol
) -> Callable[[Step], Known]:
    """What the booking gates of any step of a course are judged by, in two queries for all."""
    lines = read(session, [patient_id], [])
    placed = _steps(session, [course_id])[course_id]

    def known(step: Step) -> Known:
        earlier, first = _before(placed, protocol, step.position, step.visit.kind)
        return Known(
            starts_at=_ANY_TIME,
            clearances=lines.cleared[patient_id],
            renewed=lines.renewed,
            medicine=step.visit.medicine,
            route=step.visit.route,
            happened=lines.happened[patient_id],
            duties=lines.duties[patient_id],
            screen=lines.screen_of(patient_id),
            reconciled=lines.reconciled_of(patient_id),
            eligibility=lines.eligibility_of(patient_id, course_id),
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


def known(session: Session, visits: Sequence[Appointment]) -> dict[UUID, Known]:
    """Everything that the gates of each visit are judged by."""
    lines = read(session, [visit.patient_id for visit in visits], [visit.id for visit in visits])
    steps = _course_steps(session, visits)
    found = {}
    for visit in visits:
        protocol = facts.protocol(session, visit.protocol_version_id)
        earlier, first = _place_in_course(visit, protocol, steps)
        patient_id, content = visit.patient_id, protocol.visits[visit.visit]
        doses = (at for at in lines.doses[patient_id] if at < visit.starts_at)
        found[visit.id] = Known(
            starts_at=visit.starts_at,
            clearances=lines.cleared[patient_id],
            renewed=lines.renewed,
            medicine=content.medicine,
            route=content.route,
            items=tuple(lines.items[visit.id]),
            escort=lines.escorts.get(visit.id),
            left=lines.left.get(visit.id),
            ways_home=content.ways_home,
            earlier=earlier,
            first_of_kind=first,
            dosed_at=lines.dosed.get(visit.id),
            measured=lines.measured[visit.id],
            answered=lines.answered[patient_id],
            screen=lines.screen_of(patient_id),
            reconciled=lines.reconciled_of(patient_id),
            eligibility=lines.eligibility_of(patient_id, visit.course_id),
            happened=lines.happened[patient_id],
            duties=lines.duties[patient_id],
            last_dosed_at=max(doses, default=None),
            overridden=lines.overridden[visit.id],
        )
    return found


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
