"""Overrides of a revision: a reason to pass over something speaks for one time and place.

Revision ID: 0015_overrides_of_a_revision
"""

import sqlalchemy as sa
from alembic import op

revision = "0015_overrides_of_a_revision"
down_revision = "0014_kept_places"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Note the revision; of those given before, the one at which the visit stands."""
    op.add_column("override", sa.Column("revision", sa.Integer(), nullable=True))
    op.execute("ALTER TABLE override NO FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE appointment NO FORCE ROW LEVEL SECURITY")
    op.execute(
        """
        UPDATE override o
           SET revision = CASE WHEN o.starts_at = a.starts_at THEN a.revision ELSE 0 END
          FROM appointment a WHERE a.clinic_id = o.clinic_id AND a.id = o.appointment_id
        """
    )
    op.execute("ALTER TABLE appointment FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE override FORCE ROW LEVEL SECURITY")
    op.alter_column("override", "revision", nullable=False)


def downgrade() -> None:
    """Forget it."""
    op.drop_column("override", "revision")
