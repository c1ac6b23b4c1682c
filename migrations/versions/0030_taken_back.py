"""Taken back: a departure or an override that was entered in error, by a line of its own.

Revision ID: 0030_taken_back
"""

import sqlalchemy as sa
from alembic import op

revision = "0030_taken_back"
down_revision = "0029_quota"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Nothing that is there was taken back."""
    op.add_column(
        "departure",
        sa.Column("in_error", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.alter_column("departure", "in_error", server_default=None)
    op.create_check_constraint(
        op.f("ck__departure__in_error_of_what"), "departure", "replaces IS NOT NULL OR NOT in_error"
    )
    op.add_column("override", sa.Column("replaces", sa.Uuid()))
    op.create_foreign_key(
        op.f("fk__override__clinic_id_replaces"),
        "override",
        "override",
        ["clinic_id", "replaces"],
        ["clinic_id", "id"],
    )
    op.create_unique_constraint(
        op.f("uq__override__replaces"), "override", ["clinic_id", "replaces"]
    )


def downgrade() -> None:
    """Forget what was taken back, with what that replaced: without these columns it would count."""
    for table, wrong in {"departure": "in_error", "override": "replaces IS NOT NULL"}.items():
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(
            f"""
            WITH RECURSIVE off AS (
                SELECT clinic_id, id, replaces FROM {table} WHERE {wrong}
                 UNION ALL
                SELECT t.clinic_id, t.id, t.replaces FROM {table} t
                  JOIN off ON off.clinic_id = t.clinic_id AND off.replaces = t.id
            )
            DELETE FROM {table} t USING off WHERE t.clinic_id = off.clinic_id AND t.id = off.id
            """
        )
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.drop_constraint(op.f("uq__override__replaces"), "override")
    op.drop_constraint(op.f("fk__override__clinic_id_replaces"), "override")
    op.drop_column("override", "replaces")
    op.drop_constraint(op.f("ck__departure__in_error_of_what"), "departure")
    op.drop_column("departure", "in_error")
