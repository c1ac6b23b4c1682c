"""Licences end: one that is taken back, or held longer, is changed rather than lost.

Revision ID: 0020_licences_end
"""

import sqlalchemy as sa
from alembic import op

revision = "0020_licences_end"
down_revision = "0019_ways_home"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Count the changes of a licence."""
    op.add_column(
        "qualification",
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_column("qualification", "version")
