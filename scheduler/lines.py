"""Lines: everything that gates are judged by, as the database tells it, in one query.

A board of a thousand visits takes as many queries as one visit does.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.vocabulary import (
    Answer,
    ClearanceOutcome,
    EligibilityOutcome,
    HoldOutcome,
    Measure,
    MedicineAction,
    TaskStatus,
    WayHome,
)
from scheduler.measuring import Measured
from scheduler.readiness import Answered, Companion, Duty, Item, Renewal, Vouched
from scheduler.screening import Decided, Medicine, Reconciled, Ruled, Ruling, Screen

Key = UUID | str
"""A row's key. As text it is quicker to read, look up and write: a board names thousands."""


@dataclass(slots=True)
class OfPatient:
    """What gates are judged by that is a patient's; absent is empty."""

    cleared: dict[str, list[Vouched]] = field(default_factory=partial(defaultdict, list))
    """For each gate the latest clearance for each medicine and route."""
    answered: dict[str, Answered] = field(default_factory=dict)
    """For each instrument the last response that counts."""
    happened: dict[str, datetime] = field(default_factory=dict)
    """When something of a kind last happened."""
    duties: list[Duty] = field(default_factory=list)
    """What is still to be done about what went wrong."""
    doses: list[datetime] = field(default_factory=list)
    """The starts of all visits with a dose that took place or are booked."""
    screen: Screen | None = None
    """The latest, with what was decided on it."""
    reconciled: Reconciled | None = None
    """What the patient takes, with what was ruled on it."""
    decided: dict[str, Decided] = field(default_factory=dict)
    ruled: dict[str, Ruled] = field(default_factory=dict)
    eligibility: dict[str | None, Ruling] = field(default_factory=dict)
    """What was decided last about each course; None: about any of them."""

    def eligible(self, course_id: Key | None) -> Ruling | None:
        """What was decided about a course; of a visit outside any, about the patient last."""
        return self.eligibility.get(None if course_id is None else str(course_id))


@dataclass(slots=True)
class OfVisit:
    """What gates are judged by that is a visit's; absent is empty."""

    items: list[Item] = field(default_factory=list)
    """The checklist, as far as gates rest on it."""
    escort: Companion | None = None
    left: WayHome | None = None
    dosed_at: datetime | None = None
    measured: list[Measured] = field(default_factory=list)
    """What was measured and still counts, in the order of time."""
    overridden: dict[str, datetime] = field(default_factory=dict)
    """When gates were last opened by a reason, for the time at which the visit stands now."""


@dataclass(frozen=True, slots=True)
class Lines:
    """What is known about patients and visits, by their keys as text."""

    of_patient: Mapping[str, OfPatient]
    of_visit: Mapping[str, OfVisit]
    renewed: Mapping[str, Sequence[Renewal]]
    """For each gate the versions of its text that end the clearances given to earlier ones."""


class _Line(NamedTuple):
    """A line as the database tells it; what its parts mean depends on `what` it is."""

    what: str
    subject: Any
    code: str
    state: Any
    at: Any
    until: Any
    told: Any
    words: Any


def read(session: Session, patients: Iterable[Key], visits: Iterable[Key]) -> Lines:
    """Read everything that gates of these patients and visits are judged by."""
    of_patient: dict[str, OfPatient] = defaultdict(OfPatient)
    of_visit: dict[str, OfVisit] = defaultdict(OfVisit)
    renewed: dict[str, list[Renewal]] = defaultdict(list)
    asked = {"patients": array(patients), "visits": array(visits)}
    for line in map(_Line._make, session.execute(_LINES, asked).all()):
        take = _OF_PATIENT.get(line.what)
        if take is not None:
            take(of_patient[line.subject], line)
        elif line.what == "renewed":
            renewed[line.code].append(Renewal(line.told, line.at))
        else:
            _OF_VISIT[line.what](of_visit[line.subject], line)
    return Lines(of_patient, of_visit, renewed)


def array(keys: Iterable[Key | None]) -> str:
    """Different keys as PostgreSQL reads an array; psycopg takes far longer to write one."""
    return f"{{{','.join({str(key) for key in keys if key is not None})}}}"


def _cleared(known: OfPatient, line: _Line) -> None:
    given = Vouched(_OUTCOMES[line.state], line.at, line.until, **(line.told or {}))
    known.cleared[line.code].append(given)


def _answered(known: OfPatient, line: _Line) -> None:
    known.answered[line.code] = Answered(line.at, line.state is not None)


def _happened(known: OfPatient, line: _Line) -> None:
    known.happened[line.code] = line.at


def _duty(known: OfPatient, line: _Line) -> None:
    known.duties.append(Duty(line.code, line.words, _STATUSES[line.state], line.at))


def _dose(known: OfPatient, line: _Line) -> None:
    known.doses.append(line.at)


def _screened(known: OfPatient, line: _Line) -> None:
    answers = {code: _ANSWERS[found] for code, found in line.told.items()}
    known.screen = Screen(line.at, line.until, answers, known.decided)


def _decided(known: OfPatient, line: _Line) -> None:
    known.decided[line.code] = Decided(HoldOutcome(line.state), line.at)


def _reconciled(known: OfPatient, line: _Line) -> None:
    taken = tuple(Medicine(one["name"], one["class"]) for one in line.told)
    known.reconciled = Reconciled(line.at, line.until, taken, known.ruled)


def _ruled(known: OfPatient, line: _Line) -> None:
    known.ruled[line.code] = Ruled(MedicineAction(line.state), line.at)


def _eligibility(known: OfPatient, line: _Line) -> None:
    course, until = line.told["course"], line.told["until"]
    day = None if until is None else date.fromisoformat(until)
    ruling = Ruling(EligibilityOutcome(line.state), line.at, line.words, day, line.until)
    known.eligibility[None] = known.eligibility[course] = ruling


def _item(known: OfVisit, line: _Line) -> None:
    known.items.append(Item(line.code, line.words, _STATUSES[line.state], line.at, line.until))


def _escort(known: OfVisit, line: _Line) -> None:
    known.escort = Companion(line.at is not None)


def _left(known: OfVisit, line: _Line) -> None:
    known.left = WayHome(line.code)


def _dosed(known: OfVisit, line: _Line) -> None:
    known.dosed_at = line.at


def _measured(known: OfVisit, line: _Line) -> None:
    values = {_MEASURES[name]: value for name, value in line.told.items()}
    known.measured.append(Measured(line.at, values))


def _overridden(known: OfVisit, line: _Line) -> None:
    known.overridden[line.code] = line.at


_ANSWERS = {one.value: one for one in Answer}
_OUTCOMES = {one.value: one for one in ClearanceOutcome}
_STATUSES = {one.value: one for one in TaskStatus}
_MEASURES = {one.value: one for one in Measure}

_OF_PATIENT: Mapping[str, Callable[[OfPatient, _Line], None]] = {
    "cleared": _cleared,
    "answered": _answered,
    "happened": _happened,
    "duty": _duty,
    "dose": _dose,
    "screened": _screened,
    "decided": _decided,
    "reconciled": _reconciled,
    "ruled": _ruled,
    "eligibility": _eligibility,
}
_OF_VISIT: Mapping[str, Callable[[OfVisit, _Line], None]] = {
    "item": _item,
    "escort": _escort,
    "left": _left,
    "dosed": _dosed,
    "measured": _measured,
    "overridden": _overridden,
}

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
          FROM (SELECT DISTINCT ON (patient_id, gate, medicine, route)
                       clinic_id, patient_id, gate, outcome, cleared_at, valid_until, medicine,
                       route, text_id, id
                  FROM clearance
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
          FROM (SELECT DISTINCT ON (patient_id, instrument) patient_id, instrument, shuts,
                       authored_at, id
                  FROM questionnaire_response q
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
        SELECT 'duty', n.patient_id, i.gate, i.status, greatest(n.noted_at, i.settled_at), NULL,
               NULL, i.title, i.id
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
        SELECT 'item', i.appointment_id, i.gate, i.status, i.due_at, i.settled_at, NULL, i.title,
               i.id
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
    SELECT what, CAST(subject AS text) AS subject, code, state, at, until, told, words
      FROM lines ORDER BY at, id
    """
)
"""Lines of one shape: a board of a thousand visits asks once. Those of a kind in order of time."""
