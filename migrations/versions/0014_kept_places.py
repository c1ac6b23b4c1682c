"""Kept places: a place that is offered to one who waits is kept like any other time.

Revision ID: 0014_kept_places
"""

import sqlalchemy as sa
from alembic import op

revision = "0014_kept_places"
down_revision = "0013_group_moves"
branch_labels = None
depends_on = None

LIVE = "status NOT IN ('cancelled', 'noshow', 'entered-in-error', 'proposed', 'waitlist')"
KEPT = "status = 'proposed' AND held_until IS NOT NULL"


def upgrade() -> None:
    """Nobody else gets it while it is kept."""
    _hold_apart(f"({LIVE}) OR ({KEPT})")


def downgrade() -> None:
    """Hold only those apart that are taken."""
    _hold_apart(LIVE)


def _hold_apart(which: str) -> None:
    op.drop_index("uq__appointment__place", "appointment")
    op.create_index(
        "uq__appointment__place",
        "appointment",
        ["clinic_id", "group_session_id", "place"],
        unique=True,
        postgresql_where=sa.text(which),
    )
