"""The rows of one of many clinics (benchmarks/many.py), as PostgreSQL makes them of few numbers.

How patients are reached is not among them: that is noted of the few who are read by key.
"""

GIVEN = "Ada Ben Chloe Dev Emre Farid Grace Hana Ivan Jun Kofi Lena Mateo Nadia Omar Priya Rosa"
BEGINS = "Al Bar Ca Dor El Far Gar Hal Is Jan Kel Lo Mar Nor Os Per Ro San Tar Vel Wil Yar Zim"
ENDS = "ano berg da ez field ford ham ini ko land man ova ridge son stein ton"
"""Of family names; `Marko` and `Santon` come to more than three hundred."""

OWN = (
    "CREATE TEMP TABLE pair (pair int, therapist uuid, room uuid)",
    "CREATE TEMP TABLE coming (nth int, schedule uuid, patient uuid, course uuid)",
    """
    CREATE TEMP TABLE visit (appointment uuid, nth int, schedule uuid, patient uuid, course uuid,
                             step uuid, position int, key text, visit text, kind text,
                             therapist uuid, room uuid, starts_at timestamptz,
                             ends_at timestamptz, is_over boolean)
    """,
)
"""Row-level security takes no COPY; so all goes by way of tables of the session's own."""

_COMING = """
    INSERT INTO coming
    SELECT n, gen_random_uuid(), gen_random_uuid(), gen_random_uuid()
      FROM generate_series(0, %(patients)s - 1) n
"""
_VISIT = """
    INSERT INTO visit
    SELECT gen_random_uuid(), nth, schedule, patient, course, gen_random_uuid(), position, key,
           visit, v.content #>> ARRAY['visits', visit, 'kind'], therapist, room, starts,
           starts + CASE visit WHEN 'preparation' THEN interval '90 min'
                               WHEN 'dosing' THEN interval '2 h' ELSE interval '1 h' END,
           starts < %(now)s
      FROM coming
      JOIN pair ON pair = nth %% %(pairs)s
      JOIN protocol_version v ON v.id = %(version)s
      CROSS JOIN LATERAL jsonb_array_elements(v.content -> 'steps') WITH ORDINALITY
                         AS step (told, position)
      CROSS JOIN LATERAL (SELECT told ->> 'key' AS key, told ->> 'visit' AS visit,
                                 nth / %(pairs)s / %(places)s * %(steps)s + position::int - 1
                                 + pair %% %(steps)s AS week,
                                 nth / %(pairs)s %% %(places)s AS place) AS parts
      CROSS JOIN LATERAL (
          SELECT (%(first)s::date + 7 * week + place / 4 + (9 + place %% 4 * 2) * interval '1 h')
                 AT TIME ZONE %(zone)s AS starts) AS times
     ORDER BY starts
"""
_SCHEDULES = """
    INSERT INTO schedule (id, actor_kind, name, lanes)
    SELECT schedule, 'patient', 'MRN-' || lpad(nth::text, 6, '0'), 1 FROM coming
"""
_PATIENTS = """
    INSERT INTO patient (id, schedule_id, record_number, given_name, family_name, birth_date,
                         time_zone)
    SELECT patient, schedule, 'MRN-' || lpad(nth::text, 6, '0'),
           given[1 + nth %% cardinality(given)],
           begins[1 + nth %% cardinality(begins)]
           || ends[1 + nth / cardinality(begins) %% cardinality(ends)],
           date '1950-01-01' + nth * 37 %% 18000, %(zone)s
      FROM coming
      CROSS JOIN string_to_array(%(given)s, ' ') AS given
      CROSS JOIN string_to_array(%(begins)s, ' ') AS begins
      CROSS JOIN string_to_array(%(ends)s, ' ') AS ends
"""
"""Nobody is written to: how to reach those who are read by key is noted after."""
_COURSES = """
    INSERT INTO course (id, patient_id, protocol_version_id, status, opened_by)
    SELECT course, patient, %(version)s,
           CASE WHEN every(is_over) THEN 'completed' ELSE 'active' END, 'many'
      FROM visit GROUP BY course, patient
"""
_STEPS = """
    INSERT INTO course_step (id, course_id, key, position, kind, planned_at)
    SELECT step, course, key, position, kind, starts_at FROM visit
"""
_APPOINTMENTS = """
    INSERT INTO appointment (id, patient_id, course_id, course_step_id, protocol_version_id, visit,
                             kind, site_id, status, starts_at, ends_at, booked_by)
    SELECT appointment, patient, course, step, %(version)s, visit, kind, %(site)s,
           CASE WHEN is_over THEN 'fulfilled' ELSE 'booked' END, starts_at, ends_at, 'many'
      FROM visit
"""
_SLOTS = """
    INSERT INTO slot (id, schedule_id, lane, appointment_id, role, status, starts_at, ends_at,
                      during)
    SELECT gen_random_uuid(), taken, 0, appointment, role, 'busy', starts_at, ends_at,
           tstzrange(starts_at, ends_at)
      FROM visit CROSS JOIN LATERAL (VALUES ('patient', schedule), ('therapist', therapist),
                                            ('room', room)) AS parts (role, taken)
"""
_EVENTS = """
    INSERT INTO appointment_event (id, appointment_id, action, from_status, to_status, by, at)
    SELECT gen_random_uuid(), appointment, action, before, after, 'many', at
      FROM visit CROSS JOIN LATERAL (
           VALUES ('book', NULL, 'booked', starts_at - interval '20 d'),
                  ('arrive', 'booked', 'arrived', starts_at),
                  ('fulfil', 'arrived', 'fulfilled', ends_at)) AS acts (action, before, after, at)
     WHERE is_over OR action = 'book'
"""
_CHECKLISTS = """
    INSERT INTO checklist_item (id, appointment_id, code, title, owner, gate, due_at, status,
                                settled_at)
    SELECT gen_random_uuid(), appointment, item ->> 'code', item ->> 'title', item ->> 'owner',
           item ->> 'gate', starts_at - interval '1 d',
           CASE WHEN is_over THEN 'completed' ELSE 'requested' END,
           CASE WHEN is_over THEN starts_at - interval '1 d' END
      FROM visit JOIN protocol_version v ON v.id = %(version)s
      CROSS JOIN LATERAL jsonb_array_elements(
                 v.content #> ARRAY['visits', visit, 'checklist']) AS item
"""
_MESSAGES = """
    INSERT INTO message (id, subject_id, appointment_id, revision, rule, kind, channel, recipient,
                         recipient_id, starts_at, due_at, not_after, state, attempts, released_at,
                         sent_at, done_at)
    SELECT gen_random_uuid(), appointment, appointment, 1, rule, said, 'email', 'patient', patient,
           starts_at, due, starts_at, CASE WHEN due < %(now)s THEN 'sent' ELSE 'scheduled' END,
           CASE WHEN due < %(now)s THEN 1 ELSE 0 END, sent, sent, sent
      FROM visit CROSS JOIN LATERAL (
           VALUES ('on-booking', 'confirmation', starts_at - interval '20 d'),
                  ('three-days', 'reminder', starts_at - interval '3 d'),
                  ('day-before', 'confirm-request', starts_at - interval '1 d')
           ) AS rules (rule, said, due)
      CROSS JOIN LATERAL (SELECT CASE WHEN due < %(now)s THEN due END AS sent) AS out
     WHERE starts_at > %(now)s - interval '7 d'
"""
"""As the worker leaves it: what is over for a week is in the archive."""
_CLEARANCES = """
    INSERT INTO clearance (id, patient_id, gate, outcome, cleared_at, noted_at, cleared_by)
    SELECT gen_random_uuid(), patient, gate, 'cleared', begin, begin, 'many'
      FROM (SELECT patient, min(starts_at) AS begin FROM visit GROUP BY patient) AS courses
      CROSS JOIN unnest(ARRAY['medical-clearance', 'consent']) AS gate
"""
FILL = (
    *(_COMING, _VISIT, _SCHEDULES, _PATIENTS, _COURSES, _STEPS, _APPOINTMENTS, _SLOTS),
    *(_EVENTS, _CHECKLISTS, _MESSAGES, _CLEARANCES),
)
