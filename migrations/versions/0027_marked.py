"""Marked: when a checklist item was last marked, also where it was asked for again by that.

Revision ID: 0027_marked
"""

import sqlalchemy as sa
from alembic import op

revision = "0027_marked"
down_revision = "0026_noted"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what is settled was last marked then."""
    op.add_column("checklist_item", sa.Column("marked_at", sa.DateTime(timezone=True)))
    op.execute("ALTER TABLE checklist_item NO FORCE ROW LEVEL SECURITY")
    op.execute("UPDATE checklist_item SET marked_at = settled_at WHERE settled_at IS NOT NULL")
    op.execute("ALTER TABLE checklist_item FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    """Forget it."""
    op.drop_column("checklist_item", "marked_at")
