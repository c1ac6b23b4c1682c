"""Screening: what speaks against a dose, what a patient takes, and who may go on to doses.

Revision ID: 0024_screening
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations import codes
from migrations.tenancy import guard, of_clinic, reference

revision = "0024_screening"
down_revision = "0023_oversight"
branch_labels = None
depends_on = None

TABLES = ("screen", "screen_decision", "reconciliation", "medicine_ruling", "eligibility")
ACTIONS = ("none", "discuss", "hold-dose-day", "hold-24h", "block")
OUTCOMES = ("eligible", "eligible-with-conditions", "deferred", "not-eligible")


def upgrade() -> None:
    """Add the tables, and the words for who is reminded of a day."""
    _screens()
    _reconciliations()
    _eligibility()
    for table in TABLES:
        guard(table, service_may="SELECT, INSERT", worker_may="SELECT")
    codes.add("message", "talk-again")
    codes.add("task", "rescreen")


def downgrade() -> None:
    """Take them away again."""
    codes.drop("message", "talk-again")
    codes.drop("task", "rescreen")
    for table in reversed(TABLES):
        op.drop_table(table)


def _screens() -> None:
    op.create_table(
        "screen",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        _instant("screened_at"),
        _instant("recorded_at"),
        sa.Column("answers", JSONB(), nullable=False),
        sa.Column("notes", JSONB(), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("screened_by", sa.String(), nullable=False),
        *of_clinic("screen"),
        reference("screen", "patient_id", "patient"),
    )
    op.create_index("ix__screen__patient", "screen", ["clinic_id", "patient_id", "screened_at"])
    op.create_table(
        "screen_decision",
        sa.Column("screen_id", sa.Uuid(), nullable=False),
        sa.Column("condition", sa.String(), nullable=False),
        sa.Column("outcome", _code("holdoutcome", "go-ahead", "refused"), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        _instant("decided_at"),
        *of_clinic("screen_decision"),
        reference("screen_decision", "screen_id", "screen"),
    )
    op.create_index("ix__screen_decision__screen", "screen_decision", ["clinic_id", "screen_id"])


def _reconciliations() -> None:
    op.create_table(
        "reconciliation",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        _instant("reconciled_at"),
        _instant("recorded_at"),
        sa.Column("medicines", JSONB(), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("reconciled_by", sa.String(), nullable=False),
        *of_clinic("reconciliation"),
        reference("reconciliation", "patient_id", "patient"),
    )
    op.create_index(
        "ix__reconciliation__patient",
        "reconciliation",
        ["clinic_id", "patient_id", "reconciled_at"],
    )
    op.create_table(
        "medicine_ruling",
        sa.Column("reconciliation_id", sa.Uuid(), nullable=False),
        sa.Column("medicine_class", sa.String(), nullable=False),
        sa.Column("action", _code("medicineaction", *ACTIONS), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("ruled_by", sa.String(), nullable=False),
        _instant("ruled_at"),
        *of_clinic("medicine_ruling"),
        reference("medicine_ruling", "reconciliation_id", "reconciliation"),
    )
    op.create_index(
        "ix__medicine_ruling__reconciliation",
        "medicine_ruling",
        ["clinic_id", "reconciliation_id"],
    )


def _eligibility() -> None:
    op.create_table(
        "eligibility",
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("outcome", _code("eligibilityoutcome", *OUTCOMES), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("conditions", sa.String(), nullable=True),
        sa.Column("deferred_until", sa.Date(), nullable=True),
        sa.Column("rescreen_on", sa.Date(), nullable=True),
        sa.Column("remind_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lapses_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.String(), nullable=False),
        _instant("decided_at"),
        *of_clinic("eligibility"),
        reference("eligibility", "course_id", "course"),
        reference("eligibility", "patient_id", "patient"),
        *(
            sa.CheckConstraint(told, name=op.f(f"ck__eligibility__{name}"))
            for name, told in _CHECKS
        ),
    )
    op.create_index(
        "ix__eligibility__course", "eligibility", ["clinic_id", "course_id", "decided_at"]
    )
    op.create_index("ix__eligibility__patient", "eligibility", ["clinic_id", "patient_id"])
    op.create_index(
        "ix__eligibility__remind",
        "eligibility",
        ["clinic_id", "remind_at"],
        postgresql_where=sa.text("remind_at IS NOT NULL"),
    )


_CHECKS = (
    ("for_a_reason", "outcome = 'eligible' OR reason IS NOT NULL"),
    ("deferred_until_a_day", "(outcome = 'deferred') = (deferred_until IS NOT NULL)"),
    ("conditions_said", "(outcome = 'eligible-with-conditions') = (conditions IS NOT NULL)"),
    ("lapses_after_its_day", "(rescreen_on IS NULL) = (lapses_at IS NULL)"),
    (
        "reminded_of_its_day",
        "(remind_at IS NULL) = (rescreen_on IS NULL AND deferred_until IS NULL)",
    ),
)


def _instant(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _code(name: str, *codes: str) -> sa.Enum:
    return sa.Enum(*codes, name=name, native_enum=False, create_constraint=True, length=32)
