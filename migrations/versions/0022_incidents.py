"""Incidents: what went wrong, with a checklist of its own.

Revision ID: 0022_incidents
"""

import sqlalchemy as sa
from alembic import op

from migrations import codes
from migrations.tenancy import guard, of_clinic, reference

revision = "0022_incidents"
down_revision = "0021_suspended"
branch_labels = None
depends_on = None

ONE_OF = "ck__checklist_item__of_a_visit_or_an_incident"


def upgrade() -> None:
    """Add the table, and let checklist items belong to it."""
    op.create_table(
        "incident",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("appointment_id", sa.Uuid(), nullable=True),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("noted_by", sa.String(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("health_event_id", sa.Uuid(), nullable=True),
        sa.Column("replaces", sa.Uuid(), nullable=True),
        sa.Column("in_error", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        *of_clinic("incident"),
        reference("incident", "patient_id", "patient"),
        reference("incident", "appointment_id", "appointment"),
        reference("incident", "health_event_id", "health_event"),
        reference("incident", "replaces", "incident"),
        sa.UniqueConstraint("clinic_id", "replaces", name="uq__incident__replaces"),
        sa.CheckConstraint(
            "NOT in_error OR replaces IS NOT NULL",
            name=op.f("ck__incident__in_error_of_something"),
        ),
    )
    op.create_index("ix__incident__patient", "incident", ["clinic_id", "patient_id", "occurred_at"])
    guard("incident", service_may="SELECT, INSERT", worker_may="SELECT")
    op.add_column("checklist_item", sa.Column("incident_id", sa.Uuid(), nullable=True))
    op.alter_column("checklist_item", "appointment_id", nullable=True)
    op.create_foreign_key(
        op.f("fk__checklist_item__clinic_id_incident_id"),
        "checklist_item",
        "incident",
        ["clinic_id", "incident_id"],
        ["clinic_id", "id"],
    )
    op.create_unique_constraint(
        op.f("uq__checklist_item__clinic_id_incident_id_code"),
        "checklist_item",
        ["clinic_id", "incident_id", "code"],
    )
    op.create_check_constraint(
        op.f(ONE_OF), "checklist_item", "num_nonnulls(appointment_id, incident_id) = 1"
    )
    codes.add("message", "incident")
    codes.add("task", "follow-incident")


def downgrade() -> None:
    """Forget them."""
    codes.drop("message", "incident")
    codes.drop("task", "follow-incident")
    op.drop_constraint(op.f(ONE_OF), "checklist_item", type_="check")
    op.execute("ALTER TABLE checklist_item NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM checklist_item WHERE appointment_id IS NULL")
    op.execute("ALTER TABLE checklist_item FORCE ROW LEVEL SECURITY")
    op.alter_column("checklist_item", "appointment_id", nullable=False)
    op.drop_column("checklist_item", "incident_id")
    op.drop_table("incident")
