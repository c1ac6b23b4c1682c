"""Group moves: what is proposed for the group sessions that a disruption hits.

Revision ID: 0013_group_moves
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013_group_moves"
down_revision = "0012_working_time"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let a disruption keep them; of earlier ones nothing was proposed."""
    op.add_column(
        "disruption",
        sa.Column("group_moves", JSONB(), server_default=sa.text("'[]'"), nullable=False),
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_column("disruption", "group_moves")
