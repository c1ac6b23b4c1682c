"""Ways home: who was named before, how a patient left, and whether that was as planned.

Revision ID: 0019_ways_home
"""

import sqlalchemy as sa
from alembic import op

from migrations import codes
from migrations.tenancy import guard, of_clinic, reference

revision = "0019_ways_home"
down_revision = "0018_health_events"
branch_labels = None
depends_on = None

WAYS = ("escort", "ride", "alone", "transferred", "against-advice")
ONCE = "uq__escort__clinic_id_appointment_id"


def upgrade() -> None:
    """Keep who was named before, and note departures."""
    op.add_column("escort", sa.Column("way", _ways(), server_default="escort", nullable=False))
    op.add_column("escort", sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_constraint(ONCE, "escort")
    op.create_index(
        "uq__escort__appointment",
        "escort",
        ["clinic_id", "appointment_id"],
        unique=True,
        postgresql_where=sa.text("replaced_at IS NULL"),
    )
    op.create_table(
        "departure",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("way", _ways(), nullable=False),
        sa.Column("accompanied_by", sa.String(), nullable=True),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deviation", sa.String(), nullable=True),
        sa.Column("noted_by", sa.String(), nullable=False),
        sa.Column("replaces", sa.Uuid(), nullable=True),
        *of_clinic("departure"),
        reference("departure", "appointment_id", "appointment"),
        reference("departure", "replaces", "departure"),
        sa.UniqueConstraint("clinic_id", "replaces", name="uq__departure__replaces"),
    )
    op.create_index("ix__departure__appointment", "departure", ["clinic_id", "appointment_id"])
    guard("departure", service_may="SELECT, INSERT", worker_may="SELECT")
    codes.add("task", "find-escort")


def downgrade() -> None:
    """Forget both."""
    codes.drop("task", "find-escort")
    op.drop_table("departure")
    op.drop_index("uq__escort__appointment", "escort")
    op.execute("ALTER TABLE escort NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM escort WHERE replaced_at IS NOT NULL")
    op.execute("ALTER TABLE escort FORCE ROW LEVEL SECURITY")
    op.drop_column("escort", "replaced_at")
    op.drop_column("escort", "way")
    op.create_unique_constraint(ONCE, "escort", ["clinic_id", "appointment_id"])


def _ways() -> sa.Enum:
    return sa.Enum(*WAYS, name="wayhome", native_enum=False, create_constraint=True, length=32)
