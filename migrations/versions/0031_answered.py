"""Answered: on whose word answers stand, and what was flagged before they were sent.

Revision ID: 0031_answered
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0031_answered"
down_revision = "0030_taken_back"
branch_labels = None
depends_on = None

WORDS = postgresql.ARRAY(sa.Text)
SHUT = {"questionnaire_response": "shuts", "questionnaire_draft": "shut_at IS NOT NULL"}
"""By table which rows keep gates shut: few, and a board asks for them of every patient."""


def upgrade() -> None:
    """Add the columns. What is there was put right by clinicians, and is about visits as now."""
    op.add_column(
        "questionnaire_response",
        sa.Column("roles", WORDS, nullable=False, server_default=sa.text("'{}'")),
    )
    op.add_column("questionnaire_response", sa.Column("revision", sa.Integer))
    op.add_column(
        "questionnaire_draft",
        sa.Column("flags", WORDS, nullable=False, server_default=sa.text("'{}'")),
    )
    op.add_column("questionnaire_draft", sa.Column("shut_at", sa.DateTime(timezone=True)))
    tables = ("questionnaire_response", "appointment")
    for table in tables:
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute("UPDATE questionnaire_response SET roles = '{clinician}' WHERE replaces IS NOT NULL")
    op.execute(
        "UPDATE questionnaire_response r SET revision = a.revision FROM appointment a"
        " WHERE a.clinic_id = r.clinic_id AND a.id = r.appointment_id"
    )
    for table in tables:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    for table, shuts in SHUT.items():
        op.create_index(
            f"ix__{table}__shuts",
            table,
            ["clinic_id", "patient_id"],
            postgresql_where=sa.text(shuts),
        )


def downgrade() -> None:
    """Forget them."""
    for table in SHUT:
        op.drop_index(f"ix__{table}__shuts", table)
    for column in ("flags", "shut_at"):
        op.drop_column("questionnaire_draft", column)
    for column in ("roles", "revision"):
        op.drop_column("questionnaire_response", column)
