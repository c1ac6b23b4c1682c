"""Proposals: what was asked for when they were made, to ask again.

Revision ID: 0008_asked
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008_asked"
down_revision = "0007_plans"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    op.add_column(
        "proposal",
        sa.Column("asked", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
    )


def downgrade() -> None:
    """Take it away again."""
    op.drop_column("proposal", "asked")
