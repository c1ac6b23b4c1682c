"""Course steps: skipped for a reason, and how they ended.

Revision ID: 0004_course_rules
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import service

revision = "0004_course_rules"
down_revision = "0002_messages"
branch_labels = None
depends_on = None

CHECKS = {
    "skipped_for_a_reason": "num_nulls(skipped_at, skipped_by, skip_reason) IN (0, 3)",
    "outcome_of_somebody": "num_nulls(outcome, outcome_by, outcome_at) IN (0, 3)",
    "skipped_or_ended": "skipped_at IS NULL OR outcome IS NULL",
}
COLUMNS = (
    ("planned_at", sa.DateTime(timezone=True)),
    ("skipped_at", sa.DateTime(timezone=True)),
    ("skipped_by", sa.String()),
    ("skip_reason", sa.String()),
    ("outcome", sa.String()),
    ("outcome_by", sa.String()),
    ("outcome_at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    """Let steps be skipped and concluded."""
    for name, kind in COLUMNS:
        op.add_column("course_step", sa.Column(name, kind, nullable=True))
    op.add_column(
        "course_step",
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
    )
    for name, said in CHECKS.items():
        op.create_check_constraint(op.f(f"ck__course_step__{name}"), "course_step", said)
    op.execute(f"GRANT UPDATE ON course_step TO {service()}")


def downgrade() -> None:
    """Forget what was skipped and how steps ended."""
    op.execute(f"REVOKE UPDATE ON course_step FROM {service()}")
    for name in CHECKS:
        op.drop_constraint(op.f(f"ck__course_step__{name}"), "course_step")
    for name in ("version", *(name for name, _ in COLUMNS)):
        op.drop_column("course_step", name)
