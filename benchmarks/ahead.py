"""A clinic with a thousand dosing visits ahead, and all that speaks for and against them.

334 patients in courses of the demo's protocol, three doses each, a week apart; about 25 visits
a day, the first of them under way. Each visit has 14 gates, of every kind there is, and each
kind of evidence lies there in every state: given, lapsing, refused, ended by what happened,
missing, passed over for a reason.
"""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from benchmarks.place import Place
from database import access
from models import enter_clinic
from tests.crowd import NOW
from tests.factories import make_protocol
from tests.service import ROOT

VISITS, GATES, COURSES = 1000, 14, 334
FIRST = datetime(2027, 1, 4, 12, 0, tzinfo=UTC)
"""Two hours before now: whoever came first has had the dose."""
_LEFT_OUT = {"consent", "integration-done", "changes", "incident-care"}
"""Gates of the demo's 18, each of a kind of which there is another."""


ROWS = (
    """SELECT id, status, kind, patient_id, course_id, course_step_id, site_id, starts_at, ends_at,
              confirmed_at, held_until, progress, revision, protocol_version_id, visit
         FROM appointment WHERE booked_by = 'ahead'""",
    """SELECT appointment_id, role, schedule_id, starts_at, ends_at
         FROM slot WHERE role <> 'patient' AND status <> 'busy-unavailable'""",
    """SELECT course_id, id, key, outcome, skipped_at
         FROM course_step WHERE kind IN ('preparation', 'dosing')""",
    "SELECT patient_id, gate, outcome, cleared_at, valid_until FROM clearance",
    "SELECT patient_id, screened_at, recorded_at, answers FROM screen",
    "SELECT screen_id, condition, outcome, decided_at FROM screen_decision",
    "SELECT patient_id, reconciled_at, recorded_at, medicines FROM reconciliation",
    "SELECT reconciliation_id, medicine_class, action, ruled_at FROM medicine_ruling",
    "SELECT course_id, patient_id, outcome, decided_at, lapses_at FROM eligibility",
    "SELECT patient_id, kind, happened_at FROM health_event",
    "SELECT appointment_id, gate, status, due_at, title FROM checklist_item WHERE gate IS NOT NULL",
    "SELECT appointment_id, confirmed_at FROM escort",
    "SELECT patient_id, instrument, shuts, authored_at FROM questionnaire_response",
    "SELECT appointment_id, at FROM appointment_event WHERE action = 'start-dosing'",
    "SELECT appointment_id, taken_at, values FROM observation",
    "SELECT appointment_id, code, at FROM override",
)
"""What a board rests on, bare: the same rows, nothing worked out, nothing written."""


def fill(where: Place) -> None:
    """Let the visits and all that is known about them into the clinic."""
    engine = create_engine(where.ways.service)
    with Session(engine) as session:
        enter_clinic(session, where.clinic_id)
        told = {
            "version": make_protocol(session, _content()),
            "first": FIRST,
            "now": NOW,
            "visits": VISITS,
            "courses": COURSES,
        }
        for statement in _FILL:
            session.execute(text(statement.replace("numbered", _NUMBERED)), told)
        session.commit()
    engine.dispose()
    with access.connect(where.ways.owner) as connection:
        connection.execute("VACUUM ANALYZE")  # as autovacuum does within a minute


def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "demo/protocols/kap.json").read_text("utf-8"))
    dosing = content["visits"]["medicine-session"]
    dosing["gates"] = [one for one in dosing["gates"] if one["code"] not in _LEFT_OUT]
    assert len(dosing["gates"]) == GATES
    return content | {"code": "ahead"}


_NUMBERED = """
    (SELECT id, substring(record_number, '[0-9]+')::int AS nth FROM patient
      WHERE record_number LIKE 'ahead %')"""
_ACTORS = """
    INSERT INTO schedule (id, actor_kind, name, lanes)
    SELECT gen_random_uuid(), kind, 'ahead ' || role || ' ' || n, 1
      FROM (VALUES ('practitioner', 'therapist', 27), ('practitioner', 'prescriber', 27),
                   ('practitioner', 'monitor', 27), ('room', 'room', 27), ('device', 'device', 27),
                   ('patient', 'patient', :courses)) AS kinds (kind, role, many)
      CROSS JOIN LATERAL generate_series(0, many - 1) AS n
"""
_CLINICIANS = """
    INSERT INTO practitioner (id, schedule_id, name, email)
    SELECT gen_random_uuid(), id, name, replace(name, ' ', '.') || '@example.com'
      FROM schedule WHERE actor_kind = 'practitioner' AND name LIKE 'ahead %'
"""
_LICENCES = """
    INSERT INTO qualification (id, practitioner_id, role, licence, valid_from, valid_until)
    SELECT gen_random_uuid(), id, split_part(name, ' ', 2), 'NY-1', '2020-01-01', '2030-12-31'
      FROM practitioner WHERE name LIKE 'ahead %'
"""
_PATIENTS = """
    INSERT INTO patient (id, schedule_id, record_number, given_name, family_name, birth_date,
                         email, phone, time_zone)
    SELECT gen_random_uuid(), id, name, 'Invented', 'Example', '1980-01-01',
           replace(name, ' ', '.') || '@example.com', '+12125550123', 'America/New_York'
      FROM schedule WHERE name LIKE 'ahead patient %'
"""
_COURSES = """
    INSERT INTO course (id, patient_id, protocol_version_id, status, opened_by)
    SELECT gen_random_uuid(), id, :version, 'active', 'ahead'
      FROM numbered
"""
_STEPS = """
    INSERT INTO course_step (id, course_id, key, position, kind)
    SELECT gen_random_uuid(), c.id, step.told ->> 'key', step.position,
           v.content #>> ARRAY['visits', step.told ->> 'visit', 'kind']
      FROM course c JOIN protocol_version v ON v.id = c.protocol_version_id
      CROSS JOIN LATERAL jsonb_array_elements(v.content -> 'steps') WITH ORDINALITY
                         AS step (told, position)
     WHERE c.opened_by = 'ahead'
"""
_PREPARED = """
    INSERT INTO appointment (id, patient_id, course_id, course_step_id, protocol_version_id, visit,
                             kind, site_id, status, starts_at, ends_at, booked_by)
    SELECT gen_random_uuid(), c.patient_id, c.id, s.id, :version, 'preparation', 'preparation',
           site.id, 'fulfilled', at, at + interval '1 h', 'prepared'
      FROM course c JOIN course_step s ON s.course_id = c.id AND s.kind = 'preparation'
      JOIN numbered p ON p.id = c.patient_id
      CROSS JOIN LATERAL (SELECT :first - s.position * interval '3 d' AS at) AS times
      CROSS JOIN (SELECT id FROM site ORDER BY id LIMIT 1) AS site
     WHERE c.opened_by = 'ahead' AND nth % 3 > 0
"""
_VISITS = """
    INSERT INTO appointment (id, patient_id, course_id, course_step_id, protocol_version_id, visit,
                             kind, site_id, status, progress, starts_at, ends_at, confirmed_at,
                             booked_by)
    SELECT gen_random_uuid(), c.patient_id, c.id, s.id, :version, 'medicine-session', 'dosing',
           site.id,
           CASE WHEN at <= :now THEN 'checked-in' ELSE 'booked' END,
           CASE WHEN at <= :now THEN 'recovering' END, at, at + interval '3 h',
           CASE WHEN nth % 2 = 0 THEN :now - interval '1 d' END, 'ahead'
      FROM course c JOIN course_step s ON s.course_id = c.id AND s.kind = 'dosing'
      JOIN numbered p ON p.id = c.patient_id
      CROSS JOIN LATERAL (SELECT :first + (nth % 40 + substr(s.key, 8)::int * 7 - 7)
                                 * interval '1 d' + nth / 40 * interval '30 min' AS at) AS times
      CROSS JOIN (SELECT id FROM site ORDER BY id LIMIT 1) AS site
     WHERE c.opened_by = 'ahead' ORDER BY at LIMIT :visits
"""
_SLOTS = """
    INSERT INTO slot (id, schedule_id, lane, appointment_id, role, status, starts_at, ends_at,
                      during)
    SELECT gen_random_uuid(), h.id, 0, a.id, part.role, part.status, start, stop,
           tstzrange(start, stop)
      FROM appointment a JOIN course_step s ON s.id = a.course_step_id
      JOIN numbered p ON p.id = a.patient_id
      CROSS JOIN (VALUES ('therapist', 'busy', 0, 180), ('prescriber', 'busy', 0, 20),
                         ('monitor', 'busy', 0, 180), ('room', 'busy', 0, 180),
                         ('room', 'busy-unavailable', 180, 200), ('device', 'busy', 0, 180),
                         ('patient', 'busy', 0, 180)) AS part (role, status, since, until)
      CROSS JOIN LATERAL (SELECT a.starts_at + since * interval '1 min' AS start,
                                 a.starts_at + until * interval '1 min' AS stop) AS times
      JOIN schedule h ON h.name = 'ahead ' || part.role || ' ' || CASE part.role
           WHEN 'patient' THEN nth ELSE (substr(s.key, 8)::int - 1) * 9 + nth / 40 END
     WHERE a.booked_by = 'ahead'
"""
_CLEARANCES = """
    INSERT INTO clearance (id, patient_id, gate, outcome, cleared_at, noted_at, valid_until,
                           cleared_by)
    SELECT gen_random_uuid(), p.id, gate,
           CASE WHEN nth % 20 = 7 THEN 'refused' ELSE 'cleared' END, at, at,
           CASE WHEN nth % 10 = 3 THEN :now + interval '20 d' END, 'ahead'
      FROM numbered p
      CROSS JOIN unnest(ARRAY['medical-clearance', 'consent', 'pregnancy-status'])
                 WITH ORDINALITY AS gates (gate, place)
      CROSS JOIN generate_series(0, 1) AS turn
      CROSS JOIN LATERAL (SELECT :now - turn * interval '40 d' - nth % 15 * interval '1 d' AS at)
                 AS times
     WHERE (nth + place) % 8 > 0
"""
_SCREENS = """
    WITH screened AS (
        INSERT INTO screen (id, patient_id, screened_at, recorded_at, answers, notes, screened_by)
        SELECT gen_random_uuid(), p.id, at, at, jsonb_object_agg(asked ->> 'code',
                   CASE WHEN nth % 9 = 0 AND asked ->> 'action' = 'hold' THEN 'present'
                        ELSE 'absent' END), '{}', 'ahead'
          FROM numbered p
          CROSS JOIN generate_series(0, 1) AS turn
          CROSS JOIN LATERAL (SELECT :now - (turn * 40 + nth % 15) * interval '1 d' AS at)
                             AS times
          JOIN protocol_version v ON v.id = :version
          CROSS JOIN LATERAL jsonb_array_elements(v.content #> '{screening,conditions}') AS asked
         WHERE nth % 8 > 0
         GROUP BY p.id, at
        RETURNING id, screened_at, answers
    )
    INSERT INTO screen_decision (id, screen_id, condition, outcome, reason, decided_by, decided_at)
    SELECT gen_random_uuid(), s.id, found.key, 'go-ahead', 'Seen, and safe.', 'ahead', s.screened_at
      FROM screened s CROSS JOIN LATERAL jsonb_each_text(s.answers) AS found
     WHERE found.value = 'present'
"""
_MEDICINES = """
    WITH taken AS (
        INSERT INTO reconciliation (id, patient_id, reconciled_at, recorded_at, medicines,
                                    reconciled_by)
        SELECT gen_random_uuid(), p.id, :now - nth % 15 * interval '1 d', :now,
               CASE WHEN nth % 3 = 0
                    THEN '[{"name": "zolpidem", "class": "hypnotics", "note": null}]'
                    ELSE '[{"name": "vitamin D", "class": null, "note": null}]' END::jsonb, 'ahead'
          FROM numbered p
         WHERE nth % 7 > 0
        RETURNING id, patient_id, medicines
    )
    INSERT INTO medicine_ruling (id, reconciliation_id, medicine_class, action, ruled_by, ruled_at)
    SELECT gen_random_uuid(), id, medicines #>> '{0,class}', 'hold-24h', 'ahead', :now
      FROM taken WHERE medicines #>> '{0,class}' IS NOT NULL
"""
_ELIGIBILITY = """
    INSERT INTO eligibility (id, course_id, patient_id, outcome, decided_by, decided_at)
    SELECT gen_random_uuid(), c.id, c.patient_id, 'eligible', 'ahead', :now - interval '9 d'
      FROM course c JOIN numbered p ON p.id = c.patient_id
     WHERE c.opened_by = 'ahead' AND nth % 6 > 0
"""
_EVENTS = """
    INSERT INTO health_event (id, patient_id, kind, happened_at, noted_at, noted_by)
    SELECT gen_random_uuid(), id, 'adverse-event', :now - interval '2 d', :now - interval '2 d',
           'ahead'
      FROM numbered
     WHERE nth % 10 = 1
"""
_INCIDENTS = """
    WITH noted AS (
        INSERT INTO incident (id, patient_id, code, title, occurred_at, noted_by, noted_at)
        SELECT gen_random_uuid(), id, 'fall', 'A fall', :now - interval '3 d', 'ahead',
               :now - interval '3 d'
          FROM numbered
         WHERE nth % 25 = 4
        RETURNING id
    )
    INSERT INTO checklist_item (id, incident_id, code, title, owner, gate, due_at, status)
    SELECT gen_random_uuid(), id, 'call', 'Call the patient', 'clinician',
           'incidents-followed-up', :now, 'requested'
      FROM noted
"""
_CHECKLISTS = """
    INSERT INTO checklist_item (id, appointment_id, code, title, owner, gate, due_at, status,
                                settled_at)
    SELECT gen_random_uuid(), a.id, item ->> 'code', item ->> 'title', item ->> 'owner',
           item ->> 'gate',
           a.starts_at - (item #>> '{due_before,value}')::int
                         * ('1 ' || (item #>> '{due_before,unit}'))::interval,
           CASE WHEN done THEN 'completed' ELSE 'requested' END, CASE WHEN done THEN :now END
      FROM appointment a JOIN numbered p ON p.id = a.patient_id
      JOIN protocol_version v ON v.id = a.protocol_version_id
      CROSS JOIN LATERAL jsonb_array_elements(
                 v.content #> '{visits,medicine-session,checklist}') AS item
      CROSS JOIN LATERAL (SELECT nth % 3 = 0 AS done) AS ticked
     WHERE a.booked_by = 'ahead'
"""
_ESCORTS = """
    INSERT INTO escort (id, appointment_id, name, phone, relation, may_message, named_by,
                        confirmed_at)
    SELECT gen_random_uuid(), a.id, 'Evan Escort', '+12125550199', 'partner', false, 'ahead',
           CASE WHEN nth % 2 = 0 THEN :now - interval '1 d' END
      FROM appointment a JOIN numbered p ON p.id = a.patient_id
     WHERE a.booked_by = 'ahead' AND nth % 5 > 0
"""
_ANSWERS = """
    INSERT INTO questionnaire_response (id, patient_id, instrument, instrument_version, answers,
                                        shuts, authored_at, noted_at, authored_by)
    SELECT gen_random_uuid(), id, instrument, '1', '{"1": 0, "2": 0}', false, at, at, 'ahead'
      FROM numbered CROSS JOIN unnest(ARRAY['c-ssrs', 'phq-9']) AS instrument
      CROSS JOIN generate_series(0, 2) AS turn
      CROSS JOIN LATERAL (SELECT :now - turn * interval '7 d' - interval '1 h' AS at) AS times
     WHERE nth % 4 > 0
"""
_DOSED = """
    INSERT INTO appointment_event (id, appointment_id, action, from_status, to_status, progress,
                                   by, at)
    SELECT gen_random_uuid(), id, action, 'booked', status, progress, 'ahead', starts_at
      FROM appointment CROSS JOIN unnest(ARRAY['book', 'arrive', 'start-dosing']) AS action
     WHERE booked_by = 'ahead' AND (action = 'book' OR progress IS NOT NULL)
"""
_MEASURED = """
    INSERT INTO observation (id, appointment_id, patient_id, taken_at, noted_at, values, noted_by)
    SELECT gen_random_uuid(), id, patient_id, at, at,
           '{"systolic": 128, "diastolic": 84, "oxygen-saturation": 97, "recovery-score": 9}',
           'ahead'
      FROM appointment CROSS JOIN generate_series(0, 4) AS turn
      CROSS JOIN LATERAL (SELECT starts_at + (turn * 20 - 10) * interval '1 min' AS at) AS times
     WHERE booked_by = 'ahead' AND progress IS NOT NULL
"""
_OVERRIDES = """
    INSERT INTO override (id, appointment_id, code, reason, by, at, starts_at, revision)
    SELECT gen_random_uuid(), a.id, 'preparation-done', 'Done elsewhere.', 'ahead',
           :now - interval '1 h', a.starts_at, a.revision
      FROM appointment a JOIN numbered p ON p.id = a.patient_id
     WHERE a.booked_by = 'ahead' AND nth % 12 = 6
"""
_FILL = (
    *(_ACTORS, _CLINICIANS, _LICENCES, _PATIENTS, _COURSES, _STEPS, _PREPARED, _VISITS, _SLOTS),
    *(
        _CLEARANCES,
        _SCREENS,
        _MEDICINES,
        _ELIGIBILITY,
        _EVENTS,
        _INCIDENTS,
        _CHECKLISTS,
        _ESCORTS,
        _ANSWERS,
    ),
    *(_DOSED, _MEASURED, _OVERRIDES),
)
