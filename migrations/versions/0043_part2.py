"""42 CFR Part 2: courses that fall under it, who sees their patients, and consents to disclosing.

A course falls under it because its protocol says so or because somebody did; its visits follow. From a
transaction that says so (`afterglow.part2` is `hidden`) the patients of such courses are hidden with
all that is theirs, whatever is asked for.

Revision ID: 0043_part2
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import guard, of_clinic, reference, service, worker

revision = "0043_part2"
down_revision = "0042_legal_hold"
branch_labels = None
depends_on = None
phase = "expand"

SHOWN = "(SELECT current_setting('afterglow.part2', true) IS DISTINCT FROM 'hidden')"

MARKED = ("course", "appointment")

NAMES: dict[str, tuple[str, ...]] = {
    # table: its columns that may name such a patient, or something of theirs
    "appointment": ("patient_id",),
    "appointment_event": ("appointment_id",),
    "audit_event": ("patient_id", "entity_id"),
    "calendar_feed": ("schedule_id",),
    "channel_consent": ("patient_id",),
    "checklist_item": ("appointment_id", "incident_id"),
    "clearance": ("patient_id",),
    "consent": ("patient_id",),
    "course": ("patient_id",),
    "course_step": ("course_id",),
    "departure": ("appointment_id",),
    "disclosure_consent": ("patient_id",),
    "eligibility": ("patient_id",),
    "escort": ("appointment_id",),
    "freed_time": ("appointment_id",),
    "group_session": ("id",),
    "health_event": ("patient_id",),
    "incident": ("patient_id",),
    "medicine_ruling": ("reconciliation_id",),
    "message": ("appointment_id", "subject_id", "recipient_id"),
    "message_archive": ("appointment_id", "subject_id", "recipient_id"),
    "observation": ("patient_id",),
    "offer": ("patient_id",),
    "override": ("appointment_id",),
    "patient": ("id",),
    "patient_link": ("patient_id",),
    "proposal": ("patient_id",),
    "questionnaire_draft": ("patient_id",),
    "questionnaire_response": ("patient_id",),
    "readiness_snapshot": ("appointment_id",),
    "reconciliation": ("patient_id",),
    "reply": ("patient_id",),
    "screen": ("patient_id",),
    "screen_decision": ("screen_id",),
    "task": ("patient_id", "appointment_id", "subject_id"),
    "waitlist_entry": ("patient_id",),
}

THEIRS = (
    *("appointment", "clearance", "consent", "course", "eligibility", "health_event", "incident"),
    *("offer", "questionnaire_response", "reconciliation", "reply", "screen", "task"),
    "waitlist_entry",
)
"""What messages, tasks and lines of the trail may be about, and names its patient."""


def upgrade() -> None:
    """Mark, hide, and keep consents."""
    for table in MARKED:
        op.add_column(
            table, sa.Column("part2", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    _marking()
    _consents()
    _hiding()
    _telling()


def downgrade() -> None:
    """Forget it: what was hidden is shown."""
    op.execute("DROP TRIGGER names_no_patient ON webhook_event")
    op.execute("DROP FUNCTION name_no_patient()")
    for table in NAMES:
        op.execute(f"DROP POLICY part2 ON {table}")
    op.execute("DROP FUNCTION part2_ids()")
    op.drop_table("disclosure_consent")
    op.execute("DROP TRIGGER marks_visits ON course")
    op.execute("DROP TRIGGER marks_part2 ON course")
    op.execute("DROP TRIGGER marks_part2 ON appointment")
    for function in ("mark_visits", "mark_course", "mark_visit"):
        op.execute(f"DROP FUNCTION {function}()")
    for table in MARKED:
        op.drop_column(table, "part2")


def _marking() -> None:
    """Let a course follow its protocol, and a visit its course or else its protocol.

    A visit that is booked while its course is marked waits for that.
    """
    op.execute(
        """
        CREATE FUNCTION mark_course() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            IF NOT NEW.part2 THEN
                SELECT content @> '{"part2": true}' INTO NEW.part2 FROM public.protocol_version
                 WHERE clinic_id = NEW.clinic_id AND id = NEW.protocol_version_id;
                NEW.part2 := coalesce(NEW.part2, false);
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION mark_visit() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            IF NEW.course_id IS NULL THEN
                SELECT content @> '{"part2": true}' INTO NEW.part2 FROM public.protocol_version
                 WHERE clinic_id = NEW.clinic_id AND id = NEW.protocol_version_id;
            ELSE
                SELECT part2 INTO NEW.part2 FROM public.course
                 WHERE clinic_id = NEW.clinic_id AND id = NEW.course_id FOR SHARE;
            END IF;
            NEW.part2 := coalesce(NEW.part2, false);
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION mark_visits() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            UPDATE public.appointment SET part2 = NEW.part2, version = version + 1
             WHERE clinic_id = NEW.clinic_id AND course_id = NEW.id;
            RETURN NULL;
        END $$
        """
    )
    for table, function in (("course", "mark_course"), ("appointment", "mark_visit")):
        op.execute(
            f"CREATE TRIGGER marks_part2 BEFORE INSERT OR UPDATE OF part2, protocol_version_id"
            f"{', course_id' if table == 'appointment' else ''} ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {function}()"
        )
    op.execute(
        "CREATE TRIGGER marks_visits AFTER UPDATE ON course FOR EACH ROW "
        "WHEN (OLD.part2 <> NEW.part2) EXECUTE FUNCTION mark_visits()"
    )


def _consents() -> None:
    purpose = sa.Enum(
        *("treatment-payment-operations", "other"),
        name="disclosurepurpose",
        native_enum=False,
        create_constraint=True,
        length=32,
    )
    op.create_table(
        "disclosure_consent",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", purpose, nullable=False),
        sa.Column("recipient", sa.String(), nullable=False),
        sa.Column("signed_on", sa.Date(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=True),
        sa.Column("noted_by", sa.String(), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_by", sa.String(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *of_clinic("disclosure_consent"),
        reference("disclosure_consent", "patient_id", "patient"),
        sa.CheckConstraint(
            "ends_on >= signed_on", name=op.f("ck__disclosure_consent__signed_before_it_ends")
        ),
        sa.CheckConstraint(
            "(withdrawn_at IS NULL) = (withdrawn_by IS NULL)",
            name=op.f("ck__disclosure_consent__withdrawn_by_somebody"),
        ),
    )
    op.create_index(
        "ix__disclosure_consent__patient", "disclosure_consent", ["clinic_id", "patient_id", "id"]
    )
    guard("disclosure_consent", service_may="SELECT, INSERT, UPDATE", worker_may="")
    op.execute(
        "GRANT SELECT (clinic_id, id, recipient), UPDATE (recipient) "
        f"ON disclosure_consent TO {worker()}"
    )


def _hiding() -> None:
    """Hide from the service alone: the worker says nothing to people who may not know.

    What is to be hidden is worked out once for each table of a statement, and never for who may see.
    """
    theirs = " ".join(
        f"UNION ALL SELECT id FROM public.{table} WHERE clinic_id = here AND patient_id = ANY (who)"
        for table in THEIRS
    )
    op.execute(
        f"""
        CREATE FUNCTION part2_ids() RETURNS SETOF uuid
        LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            here CONSTANT uuid := nullif(current_setting('afterglow.clinic', true), '');
            who uuid[];
        BEGIN
            SELECT array_agg(patient_id) INTO who FROM (
                SELECT patient_id FROM public.course WHERE clinic_id = here AND part2
                UNION SELECT patient_id FROM public.appointment WHERE clinic_id = here AND part2
            ) treated;
            IF who IS NULL THEN
                RETURN;
            END IF;
            RETURN QUERY
                SELECT unnest(who)
                UNION ALL SELECT schedule_id FROM public.patient
                           WHERE clinic_id = here AND id = ANY (who)
                UNION ALL SELECT s.id FROM public.course_step s JOIN public.course c
                              ON c.clinic_id = s.clinic_id AND c.id = s.course_id
                           WHERE c.clinic_id = here AND c.patient_id = ANY (who)
                UNION ALL SELECT e.id FROM public.escort e JOIN public.appointment a
                              ON a.clinic_id = e.clinic_id AND a.id = e.appointment_id
                           WHERE a.clinic_id = here AND a.patient_id = ANY (who)
                UNION ALL SELECT group_session_id FROM public.appointment
                           WHERE clinic_id = here AND patient_id = ANY (who)
                             AND group_session_id IS NOT NULL
                {theirs};
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION part2_ids() FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION part2_ids() TO {service()}")
    for table, columns in NAMES.items():
        unnamed = " AND ".join(
            f"({column} IS NULL OR {column} NOT IN (SELECT part2_ids()))" for column in columns
        )
        op.execute(
            f"CREATE POLICY part2 ON {table} AS RESTRICTIVE FOR SELECT TO {service()} "
            f"USING ({SHOWN} OR ({unnamed}))"
        )


def _telling() -> None:
    """Name no such patient to other systems: what has an id is asked for by who may see it."""
    op.execute(
        """
        CREATE FUNCTION name_no_patient() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            told CONSTANT uuid := NEW.data->>'patient_id';
        BEGIN
            IF EXISTS (SELECT FROM public.course
                        WHERE clinic_id = NEW.clinic_id AND patient_id = told AND part2)
               OR EXISTS (SELECT FROM public.appointment
                           WHERE clinic_id = NEW.clinic_id AND patient_id = told AND part2)
            THEN
                NEW.data := NEW.data - 'patient_id';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER names_no_patient BEFORE INSERT ON webhook_event FOR EACH ROW "
        "WHEN (NEW.data ? 'patient_id') EXECUTE FUNCTION name_no_patient()"
    )
