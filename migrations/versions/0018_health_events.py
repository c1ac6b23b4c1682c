"""Health events: what ends clearances before their time, and who hears of it.

Revision ID: 0018_health_events
"""

import sqlalchemy as sa
from alembic import op

from migrations import codes
from migrations.tenancy import guard, of_clinic, reference

revision = "0018_health_events"
down_revision = "0017_questionnaires"
branch_labels = None
depends_on = None

KINDS = ("new-diagnosis", "new-medication", "adverse-event", "emergency-visit", "pregnancy")


def upgrade() -> None:
    """Add the table and the words."""
    op.create_table(
        "health_event",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                *KINDS,
                name="healtheventkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("noted_by", sa.String(), nullable=False),
        sa.Column("replaces", sa.Uuid(), nullable=True),
        sa.Column("in_error", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        *of_clinic("health_event"),
        reference("health_event", "patient_id", "patient"),
        reference("health_event", "replaces", "health_event"),
        sa.UniqueConstraint("clinic_id", "replaces", name="uq__health_event__replaces"),
        sa.CheckConstraint(
            "NOT in_error OR replaces IS NOT NULL",
            name=op.f("ck__health_event__in_error_of_something"),
        ),
    )
    op.create_index(
        "ix__health_event__patient", "health_event", ["clinic_id", "patient_id", "happened_at"]
    )
    guard("health_event", service_may="SELECT, INSERT", worker_may="SELECT")
    codes.add("message", "gate-reopened")
    codes.add("task", "settle-anew")


def downgrade() -> None:
    """Take them away again."""
    codes.drop("message", "gate-reopened")
    codes.drop("task", "settle-anew")
    op.drop_table("health_event")
