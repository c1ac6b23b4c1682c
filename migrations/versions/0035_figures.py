"""Figures: how visits stood two days ahead, when a course was referred; files read in by lines.

Revision ID: 0035_figures
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.tenancy import guard, of_clinic, reference, worker

revision = "0035_figures"
down_revision = "0034_audit"
branch_labels = None
depends_on = None
phase = "expand"

KINDS = ("sites", "rooms", "devices", "practitioners", "patients")
READ_IN = (
    "site",
    "room",
    "device",
    "practitioner",
    "qualification",
    "patient",
    "schedule",
    "opening_hours",
)
"""What a line of a file becomes: the worker reads them in."""


def upgrade() -> None:
    """Add the tables and the column."""
    op.add_column("course", sa.Column("referred_on", sa.Date()))
    _snapshots()
    _imports()
    op.execute(f"GRANT INSERT ON {', '.join(READ_IN)} TO {worker()}")


def downgrade() -> None:
    """Forget them."""
    op.execute(f"REVOKE INSERT ON {', '.join(READ_IN)} FROM {worker()}")
    for table in ("import_fault", "import", "readiness_snapshot"):
        op.drop_table(table)
    op.drop_column("course", "referred_on")


def _snapshots() -> None:
    codes = postgresql.ARRAY(sa.Text())
    op.create_table(
        "readiness_snapshot",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("before_arrival", codes, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("before_dose", codes, server_default=sa.text("'{}'"), nullable=False),
        *of_clinic("readiness_snapshot"),
        reference("readiness_snapshot", "appointment_id", "appointment"),
        reference("readiness_snapshot", "site_id", "site"),
        sa.UniqueConstraint(
            "clinic_id",
            "appointment_id",
            "revision",
            name=op.f("uq__readiness_snapshot__clinic_id_appointment_id_revision"),
        ),
    )
    op.create_index(
        "ix__readiness_snapshot__starts_at", "readiness_snapshot", ["clinic_id", "starts_at"]
    )
    guard("readiness_snapshot", service_may="SELECT, INSERT", worker_may="SELECT, INSERT")


def _imports() -> None:
    op.create_table(
        "import",
        sa.Column("kind", _code("importkind", *KINDS), nullable=False),
        sa.Column("format", _code("importformat", "csv", "ndjson"), nullable=False),
        sa.Column("dry_run", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("content", sa.String(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)
            for name in ("done", "made", "faulty")
        ),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.Column("handed_in_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *of_clinic("import"),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__import__clinic_id")
        ),
        sa.CheckConstraint("done BETWEEN 0 AND total", name=op.f("ck__import__done_is_part_of_it")),
        sa.CheckConstraint(
            "(content IS NULL) = (ended_at IS NOT NULL)",
            name=op.f("ck__import__kept_until_it_ends"),
        ),
    )
    op.create_index(
        "ix__import__open",
        "import",
        ["clinic_id", "id"],
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "import_fault",
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("field", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        *of_clinic("import_fault"),
        reference("import_fault", "import_id", "import", ondelete="CASCADE"),
    )
    op.create_index("ix__import_fault__import", "import_fault", ["clinic_id", "import_id", "id"])
    guard(
        "import", service_may="SELECT, INSERT, UPDATE, DELETE", worker_may="SELECT, UPDATE, DELETE"
    )
    guard("import_fault", service_may="SELECT, INSERT", worker_may="SELECT, INSERT")


def _code(name: str, *codes: str) -> sa.Enum:
    return sa.Enum(*codes, name=name, native_enum=False, create_constraint=True, length=32)
