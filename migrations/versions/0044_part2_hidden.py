"""42 CFR Part 2: from a transaction that says so, patients of such courses are hidden.

It says so by `afterglow.part2`, set to `hidden`; then all that leads to them is hidden as well, whatever
is asked for. Each table is changed by itself, beside the work: to whoever sets nothing, nothing
changes. What an earlier try left half done is done again.

Revision ID: 0044_part2_hidden
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import service

revision = "0044_part2_hidden"
down_revision = "0043_part2"
branch_labels = None
depends_on = None
phase = "expand"

MARKED = ("course", "appointment")
SHOWN = "(SELECT current_setting('afterglow.part2', true) IS DISTINCT FROM 'hidden')"

OF_PATIENTS = (
    *("appointment", "break_glass", "channel_consent", "clearance", "consent", "course"),
    *("disclosure_consent", "eligibility", "health_event", "incident", "observation", "offer"),
    *("patient_link", "proposal", "questionnaire_draft", "questionnaire_response"),
    *("reconciliation", "reply", "screen", "waitlist_entry"),
)
OF_VISITS = (
    *("appointment_event", "departure", "escort", "freed_time", "override"),
    "readiness_snapshot",
)
PATIENTS, VISITS, ALL = "part2_patients", "part2_visits", "part2_ids"
HIDES: dict[str, dict[str, str]] = {
    # table: by each column that may name such a patient or what is theirs, where these are told
    "patient": {"id": PATIENTS},
    **{table: {"patient_id": PATIENTS} for table in OF_PATIENTS},
    **{table: {"appointment_id": VISITS} for table in OF_VISITS},
    "audit_event": {"patient_id": PATIENTS, "entity_id": ALL},
    "calendar_feed": {"schedule_id": ALL},
    "checklist_item": {"appointment_id": VISITS, "incident_id": ALL},
    "course_step": {"course_id": ALL},
    "group_session": {"id": ALL},
    "medicine_ruling": {"reconciliation_id": ALL},
    **{
        table: {"appointment_id": VISITS, "subject_id": ALL, "recipient_id": PATIENTS}
        for table in ("message", "message_archive")
    },
    "screen_decision": {"screen_id": ALL},
    "task": {"patient_id": PATIENTS, "appointment_id": VISITS, "subject_id": ALL},
}


def upgrade() -> None:
    """Index who they are, and hide them from the service: the worker says nothing to people."""
    with op.get_context().autocommit_block():
        for table in MARKED:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS ix__{table}__part2")
            op.create_index(
                f"ix__{table}__part2",
                table,
                ["clinic_id", "patient_id"],
                postgresql_where=sa.text("part2"),
                postgresql_concurrently=True,
            )
        for table, columns in HIDES.items():
            unnamed = " AND ".join(
                f"({column} IS NULL OR {column} NOT IN (SELECT {told}()))"
                for column, told in columns.items()
            )
            op.execute(f"DROP POLICY IF EXISTS part2 ON {table}")
            op.execute(
                f"CREATE POLICY part2 ON {table} AS RESTRICTIVE FOR SELECT TO {service()} "
                f"USING ({SHOWN} OR ({unnamed}))"
            )


def downgrade() -> None:
    """Show them."""
    for table in HIDES:
        op.execute(f"DROP POLICY part2 ON {table}")
    for table in MARKED:
        op.execute(f"DROP INDEX ix__{table}__part2")
