"""Lines: everything that gates are judged by, as the database tells it, in one query.

A board of a thousand visits takes as many queries as one visit does.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import sealed
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
from scheduler.readiness import (
    Companion,
    Duty,
    Item,
    Leaving,
    Licence,
    Renewal,
    Shutting,
    Vouched,
)
from scheduler.screening import Decided, Medicine, Reconciled, Ruled, Ruling, Screen

Key = UUID | str
"""A row's key. As text it is quicker to read, look up and write: a board names thousands."""


class Whose(NamedTuple):
    """Where a visit is, and whose."""

    time_zone: str
    birth_date: date
    region: str
    """The state where the patient is. Empty: it is not known."""
    is_over: bool


class Served(NamedTuple):
    """Who or what serves a visit, from when to when."""

    role: str
    schedule_id: str
    name: str
    starts_at: datetime
    ends_at: datetime


@dataclass(slots=True)
class OfPatient:
    """What gates are judged by that is a patient's; absent is empty."""

    cleared: dict[str, list[Vouched]] = field(default_factory=partial(defaultdict, list))
    """For each gate the latest clearance for each medicine and route."""
    answered: dict[str, datetime] = field(default_factory=dict)
    """When each instrument was last filled in, by a response that counts."""
    shut_by: dict[str, list[Shutting]] = field(default_factory=partial(defaultdict, list))
    """For each instrument the answers, sent or not, that shut gates."""
    happened: dict[str, datetime] = field(default_factory=dict)
    """When it last came to light that something of a kind happened."""
    duties: list[Duty] = field(default_factory=list)
    """What is still to be done about what went wrong."""
    doses: dict[str, datetime] = field(default_factory=dict)
    """The starts of all visits with a dose that took place or are booked, by visit."""
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
    left: Leaving | None = None
    dosed_at: datetime | None = None
    measured: list[Measured] = field(default_factory=list)
    """What was measured and still counts, in the order of time."""
    overridden: dict[str, datetime] = field(default_factory=dict)
    """When gates were last opened by a reason, for the time at which the visit stands now."""
    step: str | None = None
    """Which step of its course it is, by key."""
    whose: Whose | None = None
    """None: the visit is not there."""
    served: list[Served] = field(default_factory=list)
    """By whom: once for each lane that they take."""


@dataclass(slots=True)
class OfAll:
    """What gates are judged by that is nobody's in particular."""

    renewed: dict[str, list[Renewal]] = field(default_factory=partial(defaultdict, list))
    """For each gate the versions of its text that end the clearances given to earlier ones."""
    licences: dict[str, list[Licence]] = field(default_factory=partial(defaultdict, list))
    """Of each who serves somebody, by schedule."""


@dataclass(slots=True)
class OfCourse:
    """What became of a course's steps, by their keys; of most nothing yet."""

    fulfilled: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    outcomes: dict[str, str] = field(default_factory=dict)


NOTHING = "[]"
"""What the database tells of whom it knows nothing about."""


@dataclass(frozen=True, slots=True)
class Lines:
    """What is known about patients, visits and courses, as the database told it.

    It is kept as text: the same text says the same, and what was worked out of it holds.
    """

    told: Mapping[str | None, str]
    """By key as text; None: what is nobody's in particular."""

    def of(self, key: Key | None) -> str:
        """What is known about a patient, a visit or a course, to be read by those below."""
        return NOTHING if key is None else self.told.get(str(key), NOTHING)

    @property
    def of_all(self) -> str:
        """What is nobody's in particular, to be read by `of_all`."""
        return self.told.get(None, NOTHING)

    def patient(self, key: Key) -> OfPatient:
        """What is known about a patient."""
        return of_patient(self.of(key))

    def visit(self, key: Key) -> OfVisit:
        """What is known about a visit."""
        return of_visit(self.of(key))


def read(
    session: Session,
    patients: Iterable[Key],
    visits: Iterable[Key] = (),
    courses: Iterable[Key | None] = (),
) -> Lines:
    """Read everything that gates of these patients, visits and courses are judged by."""
    asked = {"patients": array(patients), "visits": array(visits), "courses": array(courses)}
    rows = session.execute(_LINES, asked).all()
    opened = partial(_SEALED.sub, sealed.Opener(session).as_json)
    return Lines({row.subject: opened(row.told) for row in rows})


_SEALED = re.compile(r'\["sealed", "(\w+)", "(\w+)", "([\w-]{36})", "([\w.-]+)"\]', re.ASCII)
"""As `_LINES` tells what is sealed. Nothing that anybody wrote can look so: their quotes are
escaped."""


def served(session: Session, visits: Iterable[Key]) -> Mapping[str, Sequence[Served]]:
    """Who serves each visit, by its key as text, as `in_order` has it."""
    found: dict[str, list[Served]] = defaultdict(list)
    for key, *told in session.execute(_SERVED, {"visits": array(visits)}):
        found[key].append(Served(*told))
    return defaultdict(tuple, {key: in_order(all_of) for key, all_of in found.items()})


def in_order(served: Iterable[Served]) -> tuple[Served, ...]:
    """Each once, however many lanes they take, in the order of time."""
    return tuple(sorted(set(served), key=lambda one: (one.starts_at, one.role, one.name, one)))


def array(keys: Iterable[Key | None]) -> str:
    """Different keys as PostgreSQL reads an array; psycopg takes far longer to write one."""
    return f"{{{','.join({str(key) for key in keys if key is not None})}}}"


def of_patient(told: str) -> OfPatient:
    """What `told` says about a patient."""
    return _taken(OfPatient(), told, _OF_PATIENT)


def of_visit(told: str) -> OfVisit:
    """What `told` says about a visit."""
    return _taken(OfVisit(), told, _OF_VISIT)


def of_course(told: str) -> OfCourse:
    """What `told` says about a course."""
    return _taken(OfCourse(), told, _OF_COURSE)


@lru_cache(maxsize=64)
def of_all(told: str) -> OfAll:
    """What `told` says about nobody in particular. Kept: all visits of a board rest on it."""
    return _taken(OfAll(), told, _OF_ALL)


_Known = TypeVar("_Known", OfPatient, OfVisit, OfCourse, OfAll)


def _taken(known: _Known, told: str, takers: Mapping[str, Callable[..., None]]) -> _Known:
    for what, *line in orjson.loads(told):
        takers[what](known, *line)
    return known


def _cleared(known: OfPatient, gate: str, outcome: str, at: str, *told: Any) -> None:
    until, *given, noted_at = told
    more = _instant_or_none(until), *given, _instant_or_none(noted_at)
    known.cleared[gate].append(Vouched(_OUTCOMES[outcome], _instant(at), *more))


def _answered(known: OfPatient, instrument: str, at: str) -> None:
    known.answered[instrument] = _instant(at)


def _shut(known: OfPatient, instrument: str, at: str, noted_at: str, looked: list[str]) -> None:
    line = Shutting(_instant(at), _instant(noted_at), frozenset(looked))
    known.shut_by[instrument].append(line)


def _happened(known: OfPatient, kind: str, noted_at: str) -> None:
    known.happened[kind] = _instant(noted_at)


def _duty(known: OfPatient, gate: str, title: str, status: str, noted_at: str) -> None:
    known.duties.append(Duty(gate, title, _STATUSES[status], _instant(noted_at)))


def _doses(known: OfPatient, told: dict[str, str]) -> None:
    known.doses = {visit_id: _instant(at) for visit_id, at in told.items()}


def _screened(known: OfPatient, at: str, recorded_at: str, told: dict[str, str]) -> None:
    answers = {code: _ANSWERS[found] for code, found in told.items()}
    known.screen = Screen(_instant(at), _instant(recorded_at), answers, known.decided)


def _decided(known: OfPatient, condition: str, outcome: str, at: str) -> None:
    known.decided[condition] = Decided(HoldOutcome(outcome), _instant(at))


def _reconciled(known: OfPatient, at: str, recorded_at: str, told: list[dict[str, str]]) -> None:
    taken = tuple(Medicine(one["name"], one["class"]) for one in told)
    known.reconciled = Reconciled(_instant(at), _instant(recorded_at), taken, known.ruled)


def _ruled(known: OfPatient, medicine_class: str, action: str, at: str) -> None:
    known.ruled[medicine_class] = Ruled(MedicineAction(action), _instant(at))


def _eligibility(known: OfPatient, course_id: str | None, outcome: str, *told: Any) -> None:
    at, conditions, until, lapses_at = told
    ruling = Ruling(
        EligibilityOutcome(outcome),
        _instant(at),
        conditions,
        None if until is None else date.fromisoformat(until),
        _instant_or_none(lapses_at),
    )
    known.eligibility[None] = known.eligibility[course_id] = ruling


def _item(known: OfVisit, gate: str, title: str, status: str, *told: Any) -> None:
    due_at, marked_at = told
    item = Item(gate, title, _STATUSES[status], _instant(due_at), _instant_or_none(marked_at))
    known.items.append(item)


def _escort(known: OfVisit, confirmed: bool) -> None:
    known.escort = Companion(confirmed)


def _left(known: OfVisit, way: str, noted_at: str) -> None:
    known.left = Leaving(WayHome(way), _instant(noted_at))


def _dosed(known: OfVisit, at: str) -> None:
    known.dosed_at = _instant(at)


def _measured(known: OfVisit, at: str, noted_at: str, told: dict[str, float]) -> None:
    values = {_MEASURES[name]: value for name, value in told.items()}
    known.measured.append(Measured(_instant(at), values, _instant(noted_at)))


def _overridden(known: OfVisit, gate: str, at: str) -> None:
    known.overridden[gate] = _instant(at)


def _stands(known: OfVisit, step: str | None, time_zone: str, born: str, *told: Any) -> None:
    known.step, known.whose = step, Whose(time_zone, date.fromisoformat(born), *told)


def _served(known: OfVisit, role: str, schedule_id: str, name: str, *during: str) -> None:
    known.served.append(Served(role, schedule_id, name, *map(_instant, during)))


def _renewed(known: OfAll, gate: str, number: int, written_at: str) -> None:
    known.renewed[gate].append(Renewal(number, _instant(written_at)))


def _licence(known: OfAll, schedule_id: str, role: str, since: str, *told: Any) -> None:
    until, regions = told
    days = date.fromisoformat(since), date.fromisoformat(until)
    known.licences[schedule_id].append(Licence(role, *days, tuple(regions)))


def _fulfilled(known: OfCourse, key: str) -> None:
    known.fulfilled.add(key)


def _skipped(known: OfCourse, key: str) -> None:
    known.skipped.add(key)


def _ended(known: OfCourse, key: str, outcome: str) -> None:
    known.outcomes[key] = outcome


def _instant(told: str) -> datetime:
    return datetime.fromisoformat(told)


def _instant_or_none(told: str | None) -> datetime | None:
    return None if told is None else datetime.fromisoformat(told)


_ANSWERS = {one.value: one for one in Answer}
_OUTCOMES = {one.value: one for one in ClearanceOutcome}
_STATUSES = {one.value: one for one in TaskStatus}
_MEASURES = {one.value: one for one in Measure}

_OF_PATIENT: Mapping[str, Callable[..., None]] = {
    "cleared": _cleared,
    "answered": _answered,
    "shut": _shut,
    "happened": _happened,
    "duty": _duty,
    "doses": _doses,
    "screened": _screened,
    "decided": _decided,
    "reconciled": _reconciled,
    "ruled": _ruled,
    "eligibility": _eligibility,
}
_OF_VISIT: Mapping[str, Callable[..., None]] = {
    "item": _item,
    "escort": _escort,
    "left": _left,
    "dosed": _dosed,
    "measured": _measured,
    "overridden": _overridden,
    "stands": _stands,
    "served": _served,
}
_OF_ALL: Mapping[str, Callable[..., None]] = {"renewed": _renewed, "licence": _licence}
_OF_COURSE: Mapping[str, Callable[..., None]] = {
    "fulfilled": _fulfilled,
    "skipped": _skipped,
    "ended": _ended,
}

_TAKEN = """
        SELECT s.appointment_id AS id, s.clinic_id, s.role, s.schedule_id, s.starts_at, s.ends_at,
               s.id AS slot_id
          FROM slot s
         WHERE s.appointment_id = ANY(CAST(:visits AS uuid[])) AND s.role <> 'patient'
           AND s.status <> 'busy-unavailable'
        UNION ALL
        SELECT a.id, s.clinic_id, s.role, s.schedule_id, s.starts_at, s.ends_at, s.id
          FROM appointment a
          JOIN slot s ON s.clinic_id = a.clinic_id AND s.group_session_id = a.group_session_id
         WHERE a.id = ANY(CAST(:visits AS uuid[])) AND s.role <> 'patient'
           AND s.status <> 'busy-unavailable'
"""
"""The time that visits take of staff, rooms and devices, in sessions that they share as well;
turnover left out."""

_SERVED = text(
    """
    WITH taken AS (
        {taken}
    )
    SELECT CAST(t.id AS text) AS id, t.role, CAST(t.schedule_id AS text) AS schedule_id, h.name,
           t.starts_at, t.ends_at
      FROM taken t
      JOIN schedule h ON h.clinic_id = t.clinic_id AND h.id = t.schedule_id
    """.replace("{taken}", _TAKEN)
)

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
    ), shutting AS (
        SELECT clinic_id, patient_id, instrument, authored_at, noted_at, id
          FROM questionnaire_response
         WHERE patient_id = ANY(CAST(:patients AS uuid[])) AND shuts
        UNION ALL
        SELECT clinic_id, patient_id, instrument, shut_at, shut_at, id
          FROM questionnaire_draft
         WHERE patient_id = ANY(CAST(:patients AS uuid[])) AND shut_at IS NOT NULL
    ), taken AS (
        {taken}
    ), lines AS (
        SELECT c.patient_id AS subject, c.cleared_at AS at, c.id,
               json_build_array('cleared', c.gate, c.outcome, c.cleared_at, c.valid_until,
                                c.medicine, c.route, t.number,
                                CASE c.outcome WHEN 'refused' THEN c.noted_at END) AS line
          FROM (SELECT DISTINCT ON (patient_id, gate, medicine, route)
                       clinic_id, patient_id, gate, outcome, cleared_at, noted_at, valid_until,
                       medicine, route, text_id, id
                  FROM clearance
                 WHERE patient_id = ANY(CAST(:patients AS uuid[]))
                 ORDER BY patient_id, gate, medicine, route, cleared_at DESC, created_at DESC,
                          id DESC) AS c
          LEFT JOIN consent_text t ON t.clinic_id = c.clinic_id AND t.id = c.text_id
        UNION ALL
        SELECT NULL, t.written_at, t.id,
               json_build_array('renewed', t.code, t.number, t.written_at)
          FROM consent_text t WHERE t.renews
        UNION ALL
        SELECT NULL, NULL, q.id,
               json_build_array('licence', r.schedule_id, q.role, q.valid_from, q.valid_until,
                                q.regions)
          FROM qualification q
          JOIN practitioner r ON r.clinic_id = q.clinic_id AND r.id = q.practitioner_id
         WHERE CAST(:visits AS uuid[]) <> '{}'
        UNION ALL
        SELECT r.patient_id, r.authored_at, r.id,
               json_build_array('answered', r.instrument, r.authored_at)
          FROM (SELECT DISTINCT ON (patient_id, instrument) patient_id, instrument, authored_at, id
                  FROM questionnaire_response q
                 WHERE patient_id = ANY(CAST(:patients AS uuid[])) AND NOT in_error
                   AND NOT EXISTS (SELECT FROM questionnaire_response l
                                    WHERE l.clinic_id = q.clinic_id AND l.replaces = q.id
                                      AND l.replaces IS NOT NULL)
                 ORDER BY patient_id, instrument, authored_at DESC, id DESC) AS r
        UNION ALL
        SELECT q.patient_id, q.authored_at, q.id,
               json_build_array('shut', q.instrument, q.authored_at, q.noted_at, ARRAY(
                   SELECT unnest(l.roles) FROM questionnaire_response l
                    WHERE l.clinic_id = q.clinic_id AND l.patient_id = q.patient_id
                      AND l.instrument = q.instrument
                      AND (l.replaces = q.id
                           OR (l.authored_at >= q.authored_at AND NOT l.in_error
                               AND l.noted_at > q.noted_at
                               AND NOT EXISTS (SELECT FROM questionnaire_response n
                                                WHERE n.clinic_id = l.clinic_id
                                                  AND n.replaces = l.id
                                                  AND n.replaces IS NOT NULL)))))
          FROM shutting q
        UNION ALL
        SELECT e.patient_id, max(e.noted_at), NULL,
               json_build_array('happened', e.kind, max(e.noted_at))
          FROM health_event e
         WHERE e.patient_id = ANY(CAST(:patients AS uuid[])) AND NOT e.in_error
           AND NOT EXISTS (SELECT FROM health_event l
                            WHERE l.clinic_id = e.clinic_id AND l.replaces = e.id
                              AND l.replaces IS NOT NULL)
         GROUP BY e.patient_id, e.kind
        UNION ALL
        SELECT n.patient_id, n.noted_at, i.id,
               json_build_array('duty', i.gate, i.title, i.status,
                                greatest(n.noted_at, i.marked_at))
          FROM incident n
          JOIN checklist_item i ON i.clinic_id = n.clinic_id AND i.incident_id = n.id
         WHERE n.patient_id = ANY(CAST(:patients AS uuid[])) AND i.gate IS NOT NULL
           AND i.status IN ('requested', 'failed')
        UNION ALL
        SELECT a.patient_id, NULL, NULL,
               json_build_array('doses', json_object_agg(a.id, a.starts_at ORDER BY a.starts_at))
          FROM appointment a
         WHERE a.patient_id = ANY(CAST(:patients AS uuid[])) AND a.kind = 'dosing'
           AND a.status IN ('pending', 'booked', 'arrived', 'checked-in', 'fulfilled')
         GROUP BY a.patient_id
        UNION ALL
        SELECT i.appointment_id, i.due_at, i.id,
               json_build_array('item', i.gate, i.title, i.status, i.due_at, i.marked_at)
          FROM checklist_item i
         WHERE i.appointment_id = ANY(CAST(:visits AS uuid[])) AND i.gate IS NOT NULL
        UNION ALL
        SELECT e.appointment_id, NULL, e.id,
               json_build_array('escort', e.confirmed_at IS NOT NULL)
          FROM escort e
         WHERE e.appointment_id = ANY(CAST(:visits AS uuid[])) AND e.replaced_at IS NULL
        UNION ALL
        SELECT d.appointment_id, d.left_at, d.id, json_build_array('left', d.way, d.noted_at)
          FROM departure d
         WHERE d.appointment_id = ANY(CAST(:visits AS uuid[])) AND NOT d.in_error
           AND NOT EXISTS (SELECT FROM departure l
                            WHERE l.clinic_id = d.clinic_id AND l.replaces = d.id
                              AND l.replaces IS NOT NULL)
        UNION ALL
        SELECT e.appointment_id, e.at, e.id, json_build_array('dosed', e.at)
          FROM appointment_event e
         WHERE e.appointment_id = ANY(CAST(:visits AS uuid[])) AND e.action = 'start-dosing'
        UNION ALL
        SELECT o.appointment_id, o.taken_at, o.id,
               json_build_array('measured', o.taken_at, o.noted_at, o.values)
          FROM observation o
         WHERE o.appointment_id = ANY(CAST(:visits AS uuid[])) AND o.values <> '{}'
           AND NOT EXISTS (SELECT FROM observation l
                            WHERE l.clinic_id = o.clinic_id AND l.replaces = o.id
                              AND l.replaces IS NOT NULL)
        UNION ALL
        SELECT o.appointment_id, o.at, o.id, json_build_array('overridden', o.code, o.at)
          FROM override o
          JOIN appointment a ON a.clinic_id = o.clinic_id AND a.id = o.appointment_id
         WHERE o.appointment_id = ANY(CAST(:visits AS uuid[])) AND o.revision = a.revision
           AND o.replaces IS NULL
           AND NOT EXISTS (SELECT FROM override l
                            WHERE l.clinic_id = o.clinic_id AND l.replaces = o.id
                              AND l.replaces IS NOT NULL)
        UNION ALL
        SELECT s.patient_id, s.screened_at, s.id,
               json_build_array('screened', s.screened_at, s.recorded_at,
                                CASE jsonb_typeof(s.answers) WHEN 'string'
                                THEN json_build_array('sealed', 'screen', 'answers', s.id,
                                                      s.answers)
                                ELSE CAST(s.answers AS json) END)
          FROM screens s
        UNION ALL
        SELECT s.patient_id, d.decided_at, d.id,
               json_build_array('decided', d.condition, d.outcome, d.decided_at)
          FROM screens s
          JOIN screen_decision d ON d.clinic_id = s.clinic_id AND d.screen_id = s.id
        UNION ALL
        SELECT r.patient_id, r.reconciled_at, r.id,
               json_build_array('reconciled', r.reconciled_at, r.recorded_at,
                                CASE jsonb_typeof(r.medicines) WHEN 'string'
                                THEN json_build_array('sealed', 'reconciliation', 'medicines', r.id,
                                                      r.medicines)
                                ELSE CAST(r.medicines AS json) END)
          FROM reconciliations r
        UNION ALL
        SELECT r.patient_id, m.ruled_at, m.id,
               json_build_array('ruled', m.medicine_class, m.action, m.ruled_at)
          FROM reconciliations r
          JOIN medicine_ruling m ON m.clinic_id = r.clinic_id AND m.reconciliation_id = r.id
        UNION ALL
        SELECT e.patient_id, e.decided_at, e.id,
               json_build_array('eligibility', e.course_id, e.outcome, e.decided_at,
                                CASE WHEN e.conditions ~ '^v1[.][0-9]+[.][A-Za-z0-9_-]{16}[.]'
                                THEN json_build_array('sealed', 'eligibility', 'conditions', e.id,
                                                      e.conditions)
                                ELSE to_json(e.conditions) END,
                                coalesce(e.deferred_until, e.rescreen_on), e.lapses_at)
          FROM (SELECT DISTINCT ON (course_id) * FROM eligibility
                 WHERE patient_id = ANY(CAST(:patients AS uuid[]))
                 ORDER BY course_id, decided_at DESC, id DESC) AS e
        UNION ALL
        SELECT a.id, NULL, NULL,
               json_build_array('stands', k.key, s.time_zone, p.birth_date,
                                coalesce(p.region, ''), a.status = 'fulfilled')
          FROM appointment a
          JOIN site s ON s.clinic_id = a.clinic_id AND s.id = a.site_id
          JOIN patient p ON p.clinic_id = a.clinic_id AND p.id = a.patient_id
          LEFT JOIN course_step k ON k.clinic_id = a.clinic_id AND k.id = a.course_step_id
         WHERE a.id = ANY(CAST(:visits AS uuid[]))
        UNION ALL
        SELECT t.id, t.starts_at, t.slot_id,
               json_build_array('served', t.role, t.schedule_id, h.name, t.starts_at, t.ends_at)
          FROM taken t
          JOIN schedule h ON h.clinic_id = t.clinic_id AND h.id = t.schedule_id
        UNION ALL
        SELECT s.course_id, NULL, s.id, json_build_array('fulfilled', s.key)
          FROM course_step s
          JOIN appointment a ON a.clinic_id = s.clinic_id AND a.course_step_id = s.id
                            AND a.status = 'fulfilled'
         WHERE s.course_id = ANY(CAST(:courses AS uuid[]))
        UNION ALL
        SELECT s.course_id, NULL, s.id, json_build_array('skipped', s.key)
          FROM course_step s
         WHERE s.course_id = ANY(CAST(:courses AS uuid[])) AND s.skipped_at IS NOT NULL
        UNION ALL
        SELECT s.course_id, NULL, s.id, json_build_array('ended', s.key, s.outcome)
          FROM course_step s
         WHERE s.course_id = ANY(CAST(:courses AS uuid[])) AND s.outcome IS NOT NULL
    )
    SELECT CAST(subject AS text) AS subject, CAST(json_agg(line ORDER BY at, id) AS text) AS told
      FROM lines GROUP BY subject
    """.replace("{taken}", _TAKEN)
)
"""What there is of each patient, visit and course, in the order of time: a board asks once."""
