"""Accounts without a password, imports that are cancelled, lists, and rooms added by mistake.

Revision ID: 0038_doors
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import service

revision = "0038_doors"
down_revision = "0037_removed_meanwhile"
branch_labels = None
depends_on = None
phase = "expand"

SET_UP = "site, room, device, practitioner, schedule"
"""What an admin may have added by mistake; whatever refers to a row of them keeps it."""
HAS_COME = "status <> 'active' OR password_hash IS NOT NULL OR accepted_at IS NOT NULL"
HAS_CHOSEN = "status <> 'active' OR password_hash IS NOT NULL"


def upgrade() -> None:
    """Note who came and what was cancelled; lead new lists; let mistakes be taken away."""
    op.add_column("user_account", sa.Column("accepted_at", sa.DateTime(timezone=True)))
    _check("user_account", "can_sign_in", "has_come", HAS_COME)
    op.add_column("import", sa.Column("cancelled_by", sa.String()))
    op.create_check_constraint(
        op.f("ck__import__cancelled_is_ended"),
        "import",
        "cancelled_by IS NULL OR ended_at IS NOT NULL",
    )
    op.create_index("ix__course__status", "course", ["clinic_id", "status", "id"])
    op.create_index(
        "ix__calendar_feed__schedule", "calendar_feed", ["clinic_id", "schedule_id", "id"]
    )
    op.create_index(
        "ix__incident__occurred_at",
        "incident",
        ["clinic_id", "occurred_at", "id"],
        postgresql_where=sa.text("NOT in_error"),
    )
    op.execute(f"GRANT DELETE ON {SET_UP} TO {service()}")


def downgrade() -> None:
    """Take it away again; who has no password is closed, for nothing else lets them in."""
    for index in ("incident__occurred_at", "calendar_feed__schedule", "course__status"):
        op.execute(f"DROP INDEX ix__{index}")
    op.execute(f"REVOKE DELETE ON {SET_UP} FROM {service()}")
    op.drop_constraint(op.f("ck__import__cancelled_is_ended"), "import", type_="check")
    op.drop_column("import", "cancelled_by")
    op.execute("ALTER TABLE user_account NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "UPDATE user_account SET status = 'disabled' "
        "WHERE status = 'active' AND password_hash IS NULL"
    )
    op.execute("ALTER TABLE user_account FORCE ROW LEVEL SECURITY")
    _check("user_account", "has_come", "can_sign_in", HAS_CHOSEN)
    op.drop_column("user_account", "accepted_at")


def _check(table: str, before: str, name: str, rule: str) -> None:
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck__{table}__{before}")  # our words
    op.create_check_constraint(op.f(f"ck__{table}__{name}"), table, rule)
