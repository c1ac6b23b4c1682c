"""Oversight: licences that end are relieved of visits, and a course that only doses stands out.

Revision ID: 0023_oversight
"""

import sqlalchemy as sa
from alembic import op

from migrations import codes

revision = "0023_oversight"
down_revision = "0022_incidents"
branch_labels = None
depends_on = None

ROLES = ("prescriber", "monitor", "therapist", "cotherapist", "facilitator")
ONE_OF = "ck__disruption__closed_or_unlicensed"


def upgrade() -> None:
    """Keep the role."""
    op.add_column(
        "disruption",
        sa.Column(
            "role",
            sa.Enum(
                *ROLES,
                name="practitionerrole",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
    )
    op.alter_column("disruption", "closure_id", nullable=True)
    codes.add("task", "only-doses")
    op.create_check_constraint(
        op.f(ONE_OF), "disruption", "(closure_id IS NULL) = (role IS NOT NULL)"
    )


def downgrade() -> None:
    """Forget them."""
    codes.drop("task", "only-doses")
    op.drop_constraint(op.f(ONE_OF), "disruption", type_="check")
    op.execute("ALTER TABLE disruption NO FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE proposal NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "DELETE FROM proposal WHERE disruption_id IN "
        "(SELECT id FROM disruption WHERE closure_id IS NULL)"
    )
    op.execute("DELETE FROM disruption WHERE closure_id IS NULL")
    op.execute("ALTER TABLE proposal FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE disruption FORCE ROW LEVEL SECURITY")
    op.alter_column("disruption", "closure_id", nullable=False)
    op.drop_column("disruption", "role")
