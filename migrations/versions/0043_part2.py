"""42 CFR Part 2: courses that fall under it, whose they are, and consents to disclosing them.

A course falls under it because its protocol says so or because somebody did; its visits follow.

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

MARKED = ("course", "appointment")

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
    _finding()
    _telling()


def downgrade() -> None:
    """Forget it: what was hidden is shown."""
    op.execute("DROP TRIGGER names_no_patient ON webhook_event")
    op.execute("DROP FUNCTION name_no_patient()")
    for trigger, table in (
        ("unnames_patient", "course"),
        ("unnames_patient_anew", "course"),
        ("unnames_patient", "appointment"),
    ):
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    op.execute("DROP FUNCTION unname_patient()")
    for function in ("part2_ids", "part2_visits", "part2_patients"):
        op.execute(f"DROP FUNCTION {function}()")
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


def _finding() -> None:
    """Say whom the policies hide (migration 0044), and what is theirs."""
    theirs = " ".join(
        f"UNION ALL SELECT id FROM public.{table} WHERE clinic_id = here AND patient_id = ANY (who)"
        for table in THEIRS
    )
    _found(
        "part2_patients",
        """
        SELECT patient_id FROM public.course WHERE clinic_id = here AND part2
        UNION SELECT patient_id FROM public.appointment WHERE clinic_id = here AND part2
        """,
    )
    who = (
        "who CONSTANT uuid[] := "
        "coalesce((SELECT array_agg(id) FROM public.part2_patients() AS one(id)), '{}');"
    )
    _found(
        "part2_visits",
        "SELECT id FROM public.appointment WHERE clinic_id = here AND patient_id = ANY (who)",
        who,
    )
    _found(
        "part2_ids",
        f"""
        SELECT unnest(who)
        UNION ALL SELECT schedule_id FROM public.patient WHERE clinic_id = here AND id = ANY (who)
        UNION ALL SELECT s.id FROM public.course_step s JOIN public.course c
                      ON c.clinic_id = s.clinic_id AND c.id = s.course_id
                   WHERE c.clinic_id = here AND c.patient_id = ANY (who)
        UNION ALL SELECT e.id FROM public.escort e JOIN public.appointment a
                      ON a.clinic_id = e.clinic_id AND a.id = e.appointment_id
                   WHERE a.clinic_id = here AND a.patient_id = ANY (who)
        UNION ALL SELECT group_session_id FROM public.appointment
                   WHERE clinic_id = here AND patient_id = ANY (who)
                     AND group_session_id IS NOT NULL
        {theirs}
        """,
        who,
    )


def _found(function: str, query: str, declared: str = "") -> None:
    """Run as the tables' owner: to whom it is asked for they are hidden."""
    op.execute(
        f"""
        CREATE FUNCTION {function}() RETURNS SETOF uuid
        LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
        SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            here CONSTANT uuid := nullif(current_setting('afterglow.clinic', true), '');
            {declared}
        BEGIN
            RETURN QUERY {query};
        END $$
        """
    )
    op.execute(f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {function}() TO {service()}")


def _telling() -> None:
    """Name no such patient to other systems: what has an id is asked for by who may see it.

    Nor in what was written before and is still to be said, or shown.
    """
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
    op.execute(
        """
        CREATE FUNCTION unname_patient() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            UPDATE public.webhook_event SET data = data - 'patient_id'
             WHERE clinic_id = NEW.clinic_id AND data->>'patient_id' = NEW.patient_id::text;
            RETURN NULL;
        END $$
        """
    )
    for trigger, when, of in (
        ("unnames_patient", "AFTER INSERT ON course", "NEW.part2"),
        ("unnames_patient_anew", "AFTER UPDATE ON course", "NEW.part2 AND NOT OLD.part2"),
        ("unnames_patient", "AFTER INSERT ON appointment", "NEW.part2 AND NEW.course_id IS NULL"),
    ):
        op.execute(
            f"CREATE TRIGGER {trigger} {when} FOR EACH ROW WHEN ({of}) "
            "EXECUTE FUNCTION unname_patient()"
        )
