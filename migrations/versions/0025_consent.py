"""Consent: texts in versions, what patients sign, and what a clearance was given for.

Revision ID: 0025_consent
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import guard, of_clinic, reference

revision = "0025_consent"
down_revision = "0024_screening"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables, and the columns of a clearance."""
    op.create_table(
        "consent_text",
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("renews", sa.Boolean(), nullable=False),
        sa.Column("written_by", sa.String(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        *of_clinic("consent_text"),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__consent_text__clinic_id")
        ),
        sa.UniqueConstraint(
            "clinic_id", "code", "number", name=op.f("uq__consent_text__clinic_id_code_number")
        ),
    )
    guard("consent_text", service_may="SELECT, INSERT", worker_may="SELECT")

    for column, kind in (("medicine", sa.String()), ("route", sa.String()), ("text_id", sa.Uuid())):
        op.add_column("clearance", sa.Column(column, kind, nullable=True))
    op.create_foreign_key(
        op.f("fk__clearance__clinic_id_text_id"),
        "clearance",
        "consent_text",
        ["clinic_id", "text_id"],
        ["clinic_id", "id"],
    )

    op.create_table(
        "consent",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=True),
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("text_id", sa.Uuid(), nullable=False),
        sa.Column("clearance_id", sa.Uuid(), nullable=False),
        sa.Column("gate", sa.String(), nullable=False),
        sa.Column("medicine", sa.String(), nullable=True),
        sa.Column("route", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("clinic_name", sa.String(), nullable=False),
        sa.Column("time_zone", sa.String(), nullable=False),
        *of_clinic("consent"),
        reference("consent", "patient_id", "patient"),
        reference("consent", "course_id", "course"),
        reference("consent", "appointment_id", "appointment"),
        reference("consent", "text_id", "consent_text"),
        reference("consent", "clearance_id", "clearance"),
        sa.UniqueConstraint(
            "clinic_id", "clearance_id", name=op.f("uq__consent__clinic_id_clearance_id")
        ),
    )
    op.create_index("ix__consent__patient", "consent", ["clinic_id", "patient_id", "signed_at"])
    guard("consent", service_may="SELECT, INSERT", worker_may="")


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("consent")
    op.drop_constraint(op.f("fk__clearance__clinic_id_text_id"), "clearance", type_="foreignkey")
    for column in ("text_id", "route", "medicine"):
        op.drop_column("clearance", column)
    op.drop_table("consent_text")
