"""Licences: in which states one holds for visits by video, and in which state a patient is.

Revision ID: 0009_licences
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009_licences"
down_revision = "0008_asked"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both. What is not noted yet lets nobody serve by video."""
    op.add_column(
        "qualification",
        sa.Column(
            "regions",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.add_column("patient", sa.Column("region", sa.String(), nullable=True))


def downgrade() -> None:
    """Take them away again."""
    op.drop_column("patient", "region")
    op.drop_column("qualification", "regions")
