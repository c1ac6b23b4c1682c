"""42 CFR Part 2: courses that fall under it, who sees them, and consents to disclosing them.

A course falls under it because its protocol says so or because somebody did; its visits follow. From a
transaction that says so (`afterglow.part2` is `hidden`) such a course and what hangs on it are
hidden, whatever is asked for.

Revision ID: 0043_part2
"""

from collections.abc import Iterator

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

HANGS_ON: dict[str, str] = {
    # table: what it names of a course or a visit
    "appointment_event": "appointment_id",
    "checklist_item": "appointment_id",
    "consent": "course_id, appointment_id",
    "course_step": "course_id",
    "departure": "appointment_id",
    "eligibility": "course_id",
    "escort": "appointment_id",
    "freed_time": "appointment_id",
    "incident": "appointment_id",
    "message": "appointment_id, subject_id",
    "message_archive": "appointment_id, subject_id",
    "observation": "appointment_id",
    "offer": "appointment_id, visit_id",
    "override": "appointment_id",
    "patient_link": "appointment_id",
    "proposal": "course_id",
    "questionnaire_draft": "appointment_id",
    "questionnaire_response": "course_id, appointment_id",
    "readiness_snapshot": "appointment_id",
    "reply": "appointment_id",
    "task": "appointment_id, subject_id",
    "waitlist_entry": "course_step_id, visit_id",
}

TAKES_ALL = (
    *("appointments:write", "checklists:sign", "checklists:write", "clearances:write"),
    *("courses:decide", "courses:write", "escorts:write", "incidents:write", "messages:write"),
    *("overrides:write", "patients:write", "questionnaires:write", "schedules:write"),
    *("screening:write", "sessions:write", "tasks:write", "waitlist:write"),
)
"""What a key was narrowed to that changes patients' plans: it saw all of them, and goes on to."""


def upgrade() -> None:
    """Mark, hide, and keep consents."""
    for table in MARKED:
        op.add_column(
            table, sa.Column("part2", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    _marking()
    _consents()
    _hiding()
    for clinic_id in _clinics():
        op.execute(
            "UPDATE api_key SET scopes = scopes || '{part2:read}'::varchar[] "
            f"WHERE clinic_id = '{clinic_id}' AND scopes && ARRAY{list(TAKES_ALL)}::varchar[]"
        )


def downgrade() -> None:
    """Forget it: what was hidden is shown."""
    for clinic_id in _clinics():
        op.execute(
            "UPDATE api_key SET scopes = array_remove(array_remove(scopes, 'part2:read'), "
            f"'part2:write') WHERE clinic_id = '{clinic_id}'"
        )
    for table in (*MARKED, *HANGS_ON):
        op.execute(f"DROP POLICY part2 ON {table}")
    op.execute("DROP FUNCTION falls_under_part2(uuid[])")
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

    A visit that is booked while its course is marked waits for that, as its foreign key would.
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
                 WHERE clinic_id = NEW.clinic_id AND id = NEW.course_id FOR KEY SHARE;
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
    for table, function, columns in (
        ("course", "mark_course", "part2, protocol_version_id"),
        ("appointment", "mark_visit", "part2, course_id, protocol_version_id"),
    ):
        op.execute(
            f"CREATE TRIGGER marks_part2 BEFORE INSERT OR UPDATE OF {columns} ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {function}()"
        )
    op.execute(
        "CREATE TRIGGER marks_visits AFTER UPDATE OF part2 ON course FOR EACH ROW "
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

    The function is planned as if it cost nothing, for it is asked of hardly anybody's rows.
    """
    op.execute(
        """
        CREATE FUNCTION falls_under_part2(VARIADIC named uuid[]) RETURNS boolean
        LANGUAGE plpgsql STABLE COST 1 SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            here CONSTANT uuid := nullif(current_setting('afterglow.clinic', true), '');
        BEGIN
            RETURN EXISTS (SELECT FROM public.course
                            WHERE clinic_id = here AND id = ANY (named) AND part2)
                OR EXISTS (SELECT FROM public.appointment
                            WHERE clinic_id = here AND id = ANY (named) AND part2)
                OR EXISTS (SELECT FROM public.course_step s
                             JOIN public.course c ON c.clinic_id = s.clinic_id AND c.id = s.course_id
                            WHERE s.clinic_id = here AND s.id = ANY (named) AND c.part2);
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION falls_under_part2(uuid[]) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION falls_under_part2(uuid[]) TO {service()}")
    for table in MARKED:
        _hide(table, "NOT part2")
    for table, named in HANGS_ON.items():
        _hide(table, f"NOT falls_under_part2({named})")


def _hide(table: str, unless: str) -> None:
    op.execute(
        f"CREATE POLICY part2 ON {table} AS RESTRICTIVE FOR SELECT TO {service()} "
        f"USING ({SHOWN} OR {unless})"
    )


def _clinics() -> Iterator[str]:
    """Each clinic, entered. The owner sees which there are as it does for a backup."""
    bind = op.get_bind()
    bind.execute(sa.text("SELECT set_config('afterglow.backup', 'on', false)"))
    found = [str(one) for one in bind.execute(sa.text("SELECT clinic_id FROM clinic")).scalars()]
    bind.execute(sa.text("SELECT set_config('afterglow.backup', '', false)"))
    for clinic_id in found:
        bind.execute(
            sa.text("SELECT set_config('afterglow.clinic', :clinic, false)"), {"clinic": clinic_id}
        )
        yield clinic_id
    bind.execute(sa.text("SELECT set_config('afterglow.clinic', '', false)"))
