"""Noted: when what gates are judged by was typed in, which may be long after it happened.

Revision ID: 0026_noted
"""

import sqlalchemy as sa
from alembic import op

revision = "0026_noted"
down_revision = "0025_consent"
branch_labels = None
depends_on = None

HAPPENED = {
    "observation": "taken_at",
    "questionnaire_response": "authored_at",
    "health_event": "happened_at",
    "clearance": "cleared_at",
    "departure": "left_at",
}
"""By table the column that says when it was; nothing came to light before that."""


def upgrade() -> None:
    """Add the column; of what is there already the database's clock says when it was written."""
    for table, happened_at in HAPPENED.items():
        op.add_column(table, sa.Column("noted_at", sa.DateTime(timezone=True), nullable=True))
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"UPDATE {table} SET noted_at = greatest(created_at, {happened_at})")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.alter_column(table, "noted_at", nullable=False)


def downgrade() -> None:
    """Forget it."""
    for table in HAPPENED:
        op.drop_column(table, "noted_at")
