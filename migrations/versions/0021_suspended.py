"""Suspended: a visit that is not ready in time stands still until people decide.

Revision ID: 0021_suspended
"""

import sqlalchemy as sa
from alembic import op

from migrations import codes

revision = "0021_suspended"
down_revision = "0020_licences_end"
branch_labels = None
depends_on = None

MESSAGES = ("visit-suspended", "visit-resumed", "paperwork-due")
TASKS = ("decide-visit", "send-paperwork")


def upgrade() -> None:
    """Keep since when, and the words for it; and for what is due after a visit."""
    op.add_column(
        "appointment", sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=True)
    )
    codes.add("message", *MESSAGES)
    codes.add("task", *TASKS)


def downgrade() -> None:
    """Forget it."""
    codes.drop("message", *MESSAGES)
    codes.drop("task", *TASKS)
    op.drop_column("appointment", "suspended_at")
