"""Backups: the owner may read whole tables for one, and a restored clinic says nothing at first.

Revision ID: 0032_restoration
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import (
    BACKED_UP,
    CLINIC,
    let_backups_read,
    service,
    stop_backups_reading,
    worker,
)

revision = "0032_restoration"
down_revision = "0031_answered"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Let backups read what is there already, and keep that the database was restored."""
    op.create_table(
        "restoration",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("backed_up_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("restored_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk__restoration")),
    )
    op.execute("ALTER TABLE restoration ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE restoration FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY seen ON restoration FOR SELECT TO {service()}, {worker()} USING (true)"
    )
    op.execute(
        "CREATE POLICY kept ON restoration TO CURRENT_USER "
        "USING (session_user = current_user) WITH CHECK (session_user = current_user)"
    )
    op.execute(f"GRANT SELECT ON restoration TO {service()}, {worker()}")
    for table in _guarded():
        let_backups_read(table)
    op.execute(_KEEP_MONTH.format(more=_LET_READ))


def downgrade() -> None:
    """Forget it."""
    op.execute(_KEEP_MONTH.format(more=""))
    for table in _guarded():
        stop_backups_reading(table)
    op.drop_table("restoration")


def _guarded() -> list[str]:
    found = op.get_bind().execute(
        sa.text(
            "SELECT CAST(CAST(oid AS regclass) AS text) FROM pg_class "
            "WHERE relkind IN ('r', 'p') AND relrowsecurity "
            "AND relnamespace = CAST('public' AS regnamespace) ORDER BY relname"
        )
    )
    return [str(name) for name in found.scalars()]


_LET_READ = f"""
            EXECUTE format('DROP POLICY IF EXISTS backed_up ON %I', name);
            EXECUTE format($p$CREATE POLICY backed_up ON %I FOR SELECT TO CURRENT_USER
                              USING ({BACKED_UP})$p$, name);"""

_KEEP_MONTH = f"""
    CREATE OR REPLACE FUNCTION keep_message_month(wanted timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $$
    DECLARE
        first timestamp := date_trunc('month', wanted, 'UTC') AT TIME ZONE 'UTC';
        name text := 'message_archive_' || to_char(first, 'YYYY_MM');
    BEGIN
        IF to_regclass('public.' || name) IS NOT NULL THEN
            RETURN;
        END IF;
        PERFORM pg_advisory_xact_lock(hashtextextended('message_archive', 0));
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF message_archive '
                       'FOR VALUES FROM (%L) TO (%L)', name, first::text || '+00',
                       (first + interval '1 month')::text || '+00');
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('DROP POLICY IF EXISTS clinic ON %I', name);
        EXECUTE format($p$CREATE POLICY clinic ON %I USING (clinic_id = {CLINIC})
                          WITH CHECK (clinic_id = {CLINIC})$p$, name);{{more}}
    END $$
"""
