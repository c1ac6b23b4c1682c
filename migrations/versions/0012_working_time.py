"""Working time: hours and leave from files, public holidays, busy time from calendars elsewhere.

Revision ID: 0012_working_time
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import guard, of_clinic, reference, worker

revision = "0012_working_time"
down_revision = "0011_groups"
branch_labels = None
depends_on = None

FROM_A_FEED = sa.text("busy_feed_id IS NOT NULL")
TASKS_BEFORE = (
    "call-patient",
    "confirm-by-phone",
    "move-visit",
    "read-reply",
    "crisis",
    "safety-check",
    "check-address",
    "book-integration",
    "renew-credential",
    "make-ready",
    "staff-group",
)
NEW_TASK = "check-calendar"


def upgrade() -> None:
    """Add feeds, holidays, and where hours and closures come from."""
    op.add_column("site", sa.Column("holiday_region", sa.String(), nullable=True))
    op.add_column(
        "site",
        sa.Column(
            "holidays_worked", sa.ARRAY(sa.String()), server_default=sa.text("'{}'"), nullable=False
        ),
    )
    for table in ("opening_hours", "closure"):
        op.add_column(table, sa.Column("uid", sa.String(), nullable=True))
        op.add_column(
            table, sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False)
        )
    op.add_column("opening_hours", sa.Column("time_zone", sa.String(), nullable=True))
    op.add_column(
        "opening_hours",
        sa.Column("on_holidays", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    _add_feeds()
    _let_tasks_be((*TASKS_BEFORE, NEW_TASK))


def downgrade() -> None:
    """Take them away again, with the busy time that feeds told of."""
    op.execute(f"DELETE FROM task WHERE kind = '{NEW_TASK}'")
    _let_tasks_be(TASKS_BEFORE)
    op.execute(f"REVOKE INSERT, DELETE ON closure FROM {worker()}")
    op.execute("DELETE FROM closure WHERE busy_feed_id IS NOT NULL")
    op.drop_column("closure", "busy_feed_id")
    op.drop_table("busy_feed")
    for column in ("on_holidays", "time_zone"):
        op.drop_column("opening_hours", column)
    for table in ("opening_hours", "closure"):
        for column in ("uid", "version"):
            op.drop_column(table, column)
    for column in ("holidays_worked", "holiday_region"):
        op.drop_column("site", column)


def _add_feeds() -> None:
    op.create_table(
        "busy_feed",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("time_zone", sa.String(), nullable=False),
        sa.Column("every_minutes", sa.Integer(), server_default=sa.text("15"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fault", sa.String(), nullable=True),
        sa.Column("etag", sa.String(), nullable=True),
        sa.Column("last_modified", sa.String(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *of_clinic("busy_feed"),
        reference("busy_feed", "schedule_id", "schedule", ondelete="CASCADE"),
        sa.CheckConstraint(
            "every_minutes BETWEEN 5 AND 1440", name=op.f("ck__busy_feed__every_is_real")
        ),
    )
    op.create_index("ix__busy_feed__due_at", "busy_feed", ["clinic_id", "due_at"])
    op.create_index("ix__busy_feed__schedule", "busy_feed", ["clinic_id", "schedule_id"])
    guard(
        "busy_feed",
        service_may="SELECT, INSERT, UPDATE, DELETE",
        worker_may="SELECT, UPDATE",
    )
    op.add_column("closure", sa.Column("busy_feed_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk__closure__clinic_id_busy_feed_id"),
        "closure",
        "busy_feed",
        ["clinic_id", "busy_feed_id"],
        ["clinic_id", "id"],
        ondelete="CASCADE",
    )
    op.create_index(
        "ix__closure__busy_feed",
        "closure",
        ["clinic_id", "busy_feed_id"],
        postgresql_where=FROM_A_FEED,
    )
    op.execute(f"GRANT INSERT, DELETE ON closure TO {worker()}")


def _let_tasks_be(kinds: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.execute("ALTER TABLE task DROP CONSTRAINT taskkind")
    op.execute(f"ALTER TABLE task ADD CONSTRAINT taskkind CHECK (kind IN ({listed}))")
