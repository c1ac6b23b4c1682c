"""Questionnaires: drafts, responses, a clinic's own words, and who hears of what cannot wait.

Revision ID: 0017_questionnaires
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations import codes
from migrations.tenancy import guard, of_clinic, reference

revision = "0017_questionnaires"
down_revision = "0016_observations"
branch_labels = None
depends_on = None

TABLES = ("questionnaire_draft", "questionnaire_response", "instrument_wording")
NONE = sa.text("'{}'")


def upgrade() -> None:
    """Add the tables, and somebody on call."""
    op.add_column("clinic", sa.Column("on_call_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        "fk__clinic__on_call",
        "clinic",
        "practitioner",
        ["clinic_id", "on_call_id"],
        ["clinic_id", "id"],
    )
    _drafts()
    _responses()
    _wordings()
    codes.add("message", "answers-flagged")
    codes.add("task", "read-answers")
    guard(
        "questionnaire_draft",
        service_may="SELECT, INSERT, UPDATE, DELETE",
        worker_may="SELECT",
    )
    for table in TABLES[1:]:
        guard(table, service_may="SELECT, INSERT", worker_may="SELECT")


def downgrade() -> None:
    """Take them away again."""
    codes.drop("message", "answers-flagged")
    codes.drop("task", "read-answers")
    for table in reversed(TABLES):
        op.drop_table(table)
    op.drop_column("clinic", "on_call_id")


def _drafts() -> None:
    op.create_table(
        "questionnaire_draft",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("instrument", sa.String(), nullable=False),
        sa.Column("answers", JSONB(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *of_clinic("questionnaire_draft"),
        reference("questionnaire_draft", "appointment_id", "appointment", ondelete="CASCADE"),
        reference("questionnaire_draft", "patient_id", "patient"),
        sa.UniqueConstraint(
            "clinic_id",
            "appointment_id",
            "instrument",
            name=op.f("uq__questionnaire_draft__clinic_id_appointment_id_instrument"),
        ),
    )


def _responses() -> None:
    table = "questionnaire_response"
    op.create_table(
        table,
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("appointment_id", sa.Uuid(), nullable=True),
        sa.Column("course_id", sa.Uuid(), nullable=True),
        sa.Column("instrument", sa.String(), nullable=False),
        sa.Column("instrument_version", sa.String(), nullable=False),
        sa.Column("answers", JSONB(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=True),
        sa.Column("band", sa.String(), nullable=True),
        sa.Column("flags", sa.ARRAY(sa.Text()), server_default=NONE, nullable=False),
        sa.Column("shuts", sa.Boolean(), nullable=False),
        sa.Column("authored_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("authored_by", sa.String(), nullable=False),
        sa.Column("replaces", sa.Uuid(), nullable=True),
        sa.Column("in_error", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        *of_clinic(table),
        reference(table, "patient_id", "patient"),
        reference(table, "appointment_id", "appointment"),
        reference(table, "course_id", "course"),
        reference(table, "replaces", table),
        sa.UniqueConstraint("clinic_id", "replaces", name="uq__questionnaire_response__replaces"),
        sa.CheckConstraint(
            "NOT in_error OR replaces IS NOT NULL",
            name=op.f("ck__questionnaire_response__in_error_of_something"),
        ),
    )
    op.create_index(
        "ix__questionnaire_response__patient",
        table,
        ["clinic_id", "patient_id", "instrument", "authored_at"],
    )


def _wordings() -> None:
    op.create_table(
        "instrument_wording",
        sa.Column("instrument", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("heading", sa.String(), nullable=False),
        sa.Column("items", JSONB(), nullable=False),
        sa.Column("choices", JSONB(), nullable=False),
        sa.Column("written_by", sa.String(), nullable=False),
        *of_clinic("instrument_wording"),
        sa.ForeignKeyConstraint(
            ["clinic_id"],
            ["clinic.clinic_id"],
            name=op.f("fk__instrument_wording__clinic_id"),
        ),
        sa.UniqueConstraint(
            "clinic_id",
            "instrument",
            "number",
            name=op.f("uq__instrument_wording__clinic_id_instrument_number"),
        ),
    )
