"""Openings: what changed in calendars, told by PostgreSQL; how much a schedule serves at most.

Revision ID: 0006_openings
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import CLINIC, guard

revision = "0006_openings"
down_revision = "0004_course_rules"
branch_labels = None
depends_on = None

BY_SCHEDULE = ("opening_hours", "closure")
"""Tables of which a row concerns one schedule."""

BY_CLINIC = ("site", "room", "device", "practitioner", "qualification")
"""Tables of which a row says who can be booked at all."""


def upgrade() -> None:
    """Add the log of changes, and let every table that calendars are made of write it."""
    op.create_table(
        "calendar_change",
        sa.Column("schedule_id", sa.Uuid(), nullable=True),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("by_transaction", sa.BigInteger(), nullable=False),
        sa.Column(
            "clinic_id",
            sa.Uuid(),
            server_default=sa.text("nullif(current_setting('afterglow.clinic', true), '')::uuid"),
            nullable=False,
        ),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__calendar_change")),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__calendar_change__clinic_id")
        ),
    )
    op.create_index(
        "ix__calendar_change__transaction", "calendar_change", ["clinic_id", "by_transaction"]
    )
    op.create_index("ix__calendar_change__starts_at", "calendar_change", ["clinic_id", "starts_at"])
    guard(
        "calendar_change",
        service_may="SELECT, INSERT",
        worker_may="SELECT, INSERT, DELETE",
    )
    _slots_tell()
    _schedules_tell()
    _clinic_tells()
    _caps()


def downgrade() -> None:
    """Take it away again."""
    op.drop_column("schedule", "most_per_week")
    op.drop_column("schedule", "most_per_day")
    for table in ("schedule", *BY_CLINIC):
        op.execute(f"DROP TRIGGER tells ON {table}")
    for table in BY_SCHEDULE:
        op.execute(f"DROP TRIGGER tells ON {table}")
    for verb in ("insert", "update", "delete"):
        op.execute(f"DROP TRIGGER tells_{verb} ON slot")
    for function in ("tell_of_slots", "tell_of_schedule", "tell_of_clinic"):
        op.execute(f"DROP FUNCTION {function}")
    op.drop_table("calendar_change")


def _slots_tell() -> None:
    """One line for each schedule and statement, with the stretch that holds what changed.

    Patients' own time is left out: it is read for each question.
    """
    op.execute(
        """
        CREATE FUNCTION tell_of_slots() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO calendar_change
                   (clinic_id, id, schedule_id, starts_at, ends_at, by_transaction)
            SELECT clinic_id, gen_random_uuid(), schedule_id, min(starts_at), max(ends_at),
                   pg_current_xact_id()::text::bigint
              FROM changed WHERE role <> 'patient' GROUP BY clinic_id, schedule_id;
            RETURN NULL;
        END $$
        """
    )
    for verb, rows in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        op.execute(
            f"CREATE TRIGGER tells_{verb.lower()} AFTER {verb} ON slot "
            f"REFERENCING {rows} TABLE AS changed "
            "FOR EACH STATEMENT EXECUTE FUNCTION tell_of_slots()"
        )


def _schedules_tell() -> None:
    op.execute(
        """
        CREATE FUNCTION tell_of_schedule() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO calendar_change (clinic_id, id, schedule_id, by_transaction)
            SELECT coalesce(NEW.clinic_id, OLD.clinic_id), gen_random_uuid(),
                   coalesce(NEW.schedule_id, OLD.schedule_id), pg_current_xact_id()::text::bigint;
            RETURN NULL;
        END $$
        """
    )
    for table in BY_SCHEDULE:
        op.execute(
            f"CREATE TRIGGER tells AFTER INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION tell_of_schedule()"
        )


def _clinic_tells() -> None:
    op.execute(
        f"""
        CREATE FUNCTION tell_of_clinic() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO calendar_change (clinic_id, id, by_transaction)
            SELECT clinic, gen_random_uuid(), pg_current_xact_id()::text::bigint
              FROM {CLINIC} AS told (clinic) WHERE clinic IS NOT NULL;
            RETURN NULL;
        END $$
        """
    )
    op.execute(  # a new patient's schedule is nobody's calendar
        "CREATE TRIGGER tells AFTER INSERT OR UPDATE ON schedule FOR EACH ROW "
        "WHEN (NEW.actor_kind <> 'patient') EXECUTE FUNCTION tell_of_clinic()"
    )
    for table in BY_CLINIC:
        op.execute(
            f"CREATE TRIGGER tells AFTER INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION tell_of_clinic()"
        )


def _caps() -> None:
    for name in ("most_per_day", "most_per_week"):
        op.add_column("schedule", sa.Column(name, sa.Integer(), nullable=True))
        op.create_check_constraint(f"{name}_is_real", "schedule", f"{name} > 0")
