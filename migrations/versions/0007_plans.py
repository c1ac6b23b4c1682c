"""Plans: proposals for many visits, disruptions, and how much one caller may hold.

Revision ID: 0007_plans
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.tenancy import guard, of_clinic, reference

revision = "0007_plans"
down_revision = "0006_openings"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "disruption",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("closure_id", sa.Uuid(), nullable=False),
        sa.Column("told_by", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *of_clinic("disruption"),
        reference("disruption", "schedule_id", "schedule"),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck__disruption__is_real")),
    )
    op.create_index("ix__disruption__starts_at", "disruption", ["clinic_id", "starts_at"])
    op.create_table(
        "proposal",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=True),
        sa.Column("disruption_id", sa.Uuid(), nullable=True),
        sa.Column("steps", postgresql.JSONB(), nullable=False),
        sa.Column("cost", postgresql.JSONB(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("accepted_by", sa.String(), nullable=True),
        *of_clinic("proposal"),
        reference("proposal", "patient_id", "patient"),
        reference("proposal", "course_id", "course"),
        reference("proposal", "disruption_id", "disruption"),
        sa.CheckConstraint(
            "course_id IS NOT NULL OR disruption_id IS NOT NULL",
            name=op.f("ck__proposal__is_for_something"),
        ),
        sa.CheckConstraint(
            "(accepted_at IS NULL) = (accepted_by IS NULL)",
            name=op.f("ck__proposal__accepted_by_and_at"),
        ),
    )
    for name, column in (
        ("course", "course_id"),
        ("disruption", "disruption_id"),
        ("expires_at", "expires_at"),
    ):
        op.create_index(f"ix__proposal__{name}", "proposal", ["clinic_id", column])
    guard("disruption", service_may="SELECT, INSERT, UPDATE", worker_may="SELECT")
    guard("proposal", service_may="SELECT, INSERT, UPDATE", worker_may="SELECT, DELETE")
    op.add_column(
        "clinic",
        sa.Column("holds_per_caller", sa.Integer(), server_default=sa.text("40"), nullable=False),
    )
    op.create_check_constraint("holds_are_few", "clinic", "holds_per_caller BETWEEN 1 AND 1000")


def downgrade() -> None:
    """Take them away again."""
    op.drop_column("clinic", "holds_per_caller")
    op.drop_table("proposal")
    op.drop_table("disruption")
