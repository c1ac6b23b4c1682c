"""Whether a clinic has anything under 42 CFR Part 2, and whose, is found at once.

Revision ID: 0044_part2_found
"""

import sqlalchemy as sa
from alembic import op

revision = "0044_part2_found"
down_revision = "0043_part2"
branch_labels = None
depends_on = None
phase = "expand"

TABLES = ("course", "appointment")


def upgrade() -> None:
    """Index beside the work; what an earlier try left half done goes first."""
    with op.get_context().autocommit_block():
        for table in TABLES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS ix__{table}__part2")
            op.create_index(
                f"ix__{table}__part2",
                table,
                ["clinic_id", "patient_id"],
                postgresql_where=sa.text("part2"),
                postgresql_concurrently=True,
            )


def downgrade() -> None:
    """Drop them."""
    for table in TABLES:
        op.execute(f"DROP INDEX ix__{table}__part2")
