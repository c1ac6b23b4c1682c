"""Quota: how many requests a caller and a clinic may still make.

Revision ID: 0029_quota
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import guard, of_clinic

revision = "0029_quota"
down_revision = "0028_keys"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the buckets. Unlogged: after a crash of PostgreSQL they are full again, that is all."""
    op.create_table(
        "quota",
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *of_clinic("quota"),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__quota__clinic_id")
        ),
        sa.UniqueConstraint("clinic_id", "holder", name=op.f("uq__quota__clinic_id_holder")),
    )
    guard("quota", service_may="SELECT, INSERT, UPDATE", worker_may="")
    op.add_column("clinic", sa.Column("requests_per_minute", sa.Integer()))
    op.create_check_constraint(
        op.f("ck__clinic__requests_are_some"), "clinic", "requests_per_minute >= 1"
    )


def downgrade() -> None:
    """Let everybody ask as often as they like."""
    op.drop_constraint(op.f("ck__clinic__requests_are_some"), "clinic")
    op.drop_column("clinic", "requests_per_minute")
    op.drop_table("quota")
