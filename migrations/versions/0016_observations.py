"""Observations: what is measured in a visit, and who is told when it is late.

Revision ID: 0016_observations
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations import codes
from migrations.tenancy import guard, of_clinic, reference

revision = "0016_observations"
down_revision = "0015_overrides_of_a_revision"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, and the word for what is late."""
    op.create_table(
        "observation",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("values", JSONB(), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("noted_by", sa.String(), nullable=False),
        sa.Column("replaces", sa.Uuid(), nullable=True),
        *of_clinic("observation"),
        reference("observation", "appointment_id", "appointment"),
        reference("observation", "patient_id", "patient"),
        reference("observation", "replaces", "observation"),
        sa.UniqueConstraint("clinic_id", "replaces", name="uq__observation__replaces"),
        sa.CheckConstraint(
            "values <> '{}' OR replaces IS NOT NULL", name=op.f("ck__observation__says_something")
        ),
    )
    op.create_index(
        "ix__observation__appointment",
        "observation",
        ["clinic_id", "appointment_id", "taken_at", "id"],
    )
    guard("observation", service_may="SELECT, INSERT", worker_may="SELECT")
    for vocabulary in ("message", "task"):
        codes.add(vocabulary, "watch-late")


def downgrade() -> None:
    """Take both away again."""
    for vocabulary in ("message", "task"):
        codes.drop(vocabulary, "watch-late")
    op.drop_table("observation")
