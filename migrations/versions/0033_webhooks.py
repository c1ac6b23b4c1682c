"""Webhooks: what other systems are told of, in the transaction of what it is about.

Revision ID: 0033_webhooks
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import codes
from migrations.tenancy import guard, of_clinic, reference, service, worker

revision = "0033_webhooks"
down_revision = "0032_restoration"
branch_labels = None
depends_on = None
phase = "expand"

STATES = ("pending", "sending", "delivered", "failed", "held")
REASONS = ("by-hand", "gone", "failing")

GRANTS: dict[str, tuple[str, str]] = {
    # table: what the service may, what the worker may
    "webhook": ("SELECT, INSERT, UPDATE, DELETE", "SELECT, UPDATE"),
    "webhook_secret": ("SELECT, INSERT, UPDATE, DELETE", "SELECT"),
    "webhook_event": ("SELECT, INSERT", "SELECT"),
    "webhook_delivery": ("SELECT, INSERT, UPDATE", "SELECT, UPDATE"),
    "webhook_attempt": ("SELECT", "SELECT, INSERT"),
}
TRIGGERS: dict[str, str] = {
    # table: when its row triggers fire
    "appointment_event": "AFTER INSERT ON appointment_event FOR EACH ROW",
    "course": "AFTER INSERT ON course FOR EACH ROW",
    "clearance": "AFTER INSERT ON clearance FOR EACH ROW",
}
CHANGES: dict[str, str] = {
    "course": "OLD.status IS DISTINCT FROM NEW.status",
    "checklist_item": "OLD.status IS DISTINCT FROM NEW.status",
    "message": "OLD.state <> NEW.state AND NEW.state IN ('failed', 'expired')",
}
FUNCTIONS = (
    "tell_webhooks()",
    "forget_webhook_events()",
    "count_webhook_deliveries()",
    "id_by_time()",
)


def upgrade() -> None:
    """Add the tables, and what fills them."""
    _tables()
    for table, (service_may, worker_may) in GRANTS.items():
        guard(table, service_may=service_may, worker_may=worker_may)
    op.execute(
        f"CREATE POLICY queue ON webhook_delivery TO {worker()} USING (true) WITH CHECK (true)"
    )
    _id_by_time()
    _telling()
    _forgetting()
    _counting()
    codes.add("task", "check-webhook")


def downgrade() -> None:
    """Forget them."""
    codes.drop("task", "check-webhook")
    for table in TRIGGERS:
        op.execute(f"DROP TRIGGER tells_webhooks ON {table}")
    for table in CHANGES:
        op.execute(f"DROP TRIGGER change_tells_webhooks ON {table}")
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    for table in reversed(GRANTS):
        op.drop_table(table)


def _codes(codes: tuple[str, ...], name: str) -> sa.Enum:
    return sa.Enum(*codes, name=name, native_enum=False, create_constraint=True, length=32)


def _tables() -> None:
    op.create_table(
        "webhook",
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("event_types", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_why", _codes(REASONS, "switchedoff"), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *of_clinic("webhook"),
        _clinic("webhook"),
        sa.CheckConstraint(
            "num_nulls(disabled_at, disabled_why) IN (0, 2)",
            name=op.f("ck__webhook__disabled_for_why"),
        ),
    )
    op.create_table(
        "webhook_secret",
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        *of_clinic("webhook_secret"),
        reference("webhook_secret", "webhook_id", "webhook", ondelete="CASCADE"),
    )
    op.create_index(
        "ix__webhook_secret__current",
        "webhook_secret",
        ["clinic_id", "webhook_id"],
        unique=True,
        postgresql_where=sa.text("ends_at IS NULL"),
    )
    op.create_index("ix__webhook_secret__webhook", "webhook_secret", ["clinic_id", "webhook_id"])
    op.create_table(
        "webhook_event",
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        *of_clinic("webhook_event"),
        _clinic("webhook_event"),
    )
    op.create_index("ix__webhook_event__created", "webhook_event", ["clinic_id", "created_at"])
    _delivery_tables()


def _delivery_tables() -> None:
    op.create_table(
        "webhook_delivery",
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column(
            "state",
            _codes(STATES, "deliverystate"),
            server_default=sa.text("'pending'"),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("claim_token", sa.Uuid(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *of_clinic("webhook_delivery"),
        reference("webhook_delivery", "webhook_id", "webhook", ondelete="CASCADE"),
        reference("webhook_delivery", "event_id", "webhook_event", ondelete="CASCADE"),
        sa.UniqueConstraint(
            "clinic_id", "event_id", "webhook_id", name="uq__webhook_delivery__once"
        ),
        sa.CheckConstraint(
            "(state = 'sending') = (leased_until IS NOT NULL)",
            name=op.f("ck__webhook_delivery__leased_iff_sending"),
        ),
    )
    op.create_index(
        "ix__webhook_delivery__due",
        "webhook_delivery",
        ["clinic_id", "webhook_id", "due_at", "id"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix__webhook_delivery__one_at_a_time",
        "webhook_delivery",
        ["clinic_id", "webhook_id"],
        unique=True,
        postgresql_where=sa.text("state = 'sending'"),
    )
    op.create_index(
        "ix__webhook_delivery__webhook", "webhook_delivery", ["clinic_id", "webhook_id", "id"]
    )
    op.create_table(
        "webhook_attempt",
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        *of_clinic("webhook_attempt"),
        reference("webhook_attempt", "delivery_id", "webhook_delivery", ondelete="CASCADE"),
    )
    op.create_index(
        "ix__webhook_attempt__delivery", "webhook_attempt", ["clinic_id", "delivery_id", "id"]
    )


def _clinic(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["clinic_id"], ["clinic.clinic_id"], name=op.f(f"fk__{table}__clinic_id")
    )


def _id_by_time() -> None:
    """A UUIDv7: PostgreSQL makes them by itself only from 18 on."""
    op.execute(
        """
        CREATE FUNCTION id_by_time() RETURNS uuid LANGUAGE sql VOLATILE AS $$
            SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING
                       substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint)
                                 FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
        $$
        """
    )


def _telling() -> None:
    """Write an event and its deliveries beside the change, wherever the change comes from.

    The worker changes messages of all clinics in one statement, and the service may not see
    what was not its own; so the function runs as the tables' owner, for the row's own clinic.
    """
    for table in ("webhook", "webhook_event", "webhook_delivery"):
        op.execute(f"CREATE POLICY told ON {table} TO CURRENT_USER USING (true) WITH CHECK (true)")
    op.execute(
        """
        CREATE FUNCTION tell_webhooks() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $$
        DECLARE
            kind text;
            moment timestamptz := clock_timestamp();
            ids jsonb;
            event uuid;
        BEGIN
            PERFORM FROM webhook WHERE clinic_id = NEW.clinic_id AND disabled_at IS NULL;
            IF NOT FOUND THEN
                RETURN NULL;
            END IF;
            IF TG_TABLE_NAME = 'appointment_event' THEN
                moment := NEW.at;
                kind := 'appointment.' || CASE NEW.action
                    WHEN 'offer' THEN 'offered'
                    WHEN 'hold' THEN 'held'
                    WHEN 'expire' THEN 'released'
                    WHEN 'end-offer' THEN 'released'
                    WHEN 'book' THEN 'booked'
                    WHEN 'confirm' THEN CASE NEW.from_status WHEN 'pending' THEN 'booked'
                                                             ELSE 'confirmed' END
                    WHEN 'reschedule' THEN 'rescheduled'
                    WHEN 'cancel' THEN 'cancelled'
                    WHEN 'suspend' THEN 'suspended'
                    WHEN 'resume' THEN 'resumed'
                    WHEN 'arrive' THEN 'arrived'
                    WHEN 'start-dosing' THEN 'progressed'
                    WHEN 'start-recovery' THEN 'progressed'
                    WHEN 'discharge' THEN 'progressed'
                    WHEN 'fulfil' THEN 'fulfilled'
                    WHEN 'noshow' THEN 'noshow'
                    WHEN 'enter-in-error' THEN 'entered-in-error' END;
                SELECT jsonb_build_object('appointment_id', id, 'patient_id', patient_id,
                                          'course_id', course_id, 'revision', revision,
                                          'version', version)
                  INTO ids FROM appointment
                 WHERE clinic_id = NEW.clinic_id AND id = NEW.appointment_id;
            ELSIF TG_TABLE_NAME = 'course' THEN
                kind := 'course.' || CASE WHEN TG_OP = 'INSERT' THEN 'opened'
                    WHEN NEW.status = 'active' THEN 'reopened' ELSE NEW.status END;
                ids := jsonb_build_object('course_id', NEW.id, 'patient_id', NEW.patient_id,
                                          'version', NEW.version);
            ELSIF TG_TABLE_NAME = 'clearance' THEN
                kind := 'clearance.recorded';
                moment := NEW.noted_at;
                ids := jsonb_build_object('clearance_id', NEW.id, 'patient_id', NEW.patient_id);
            ELSIF TG_TABLE_NAME = 'checklist_item' THEN
                kind := 'checklist-item.changed';
                ids := jsonb_build_object('checklist_item_id', NEW.id, 'appointment_id',
                                          NEW.appointment_id, 'version', NEW.version);
            ELSIF TG_TABLE_NAME = 'message' THEN
                kind := 'message.' || NEW.state;
                ids := jsonb_build_object('message_id', NEW.id, 'appointment_id',
                                          NEW.appointment_id, 'version', NEW.version);
            END IF;
            IF kind IS NULL THEN
                RETURN NULL;
            END IF;
            event := id_by_time();
            WITH asked AS MATERIALIZED (
                SELECT id FROM webhook WHERE clinic_id = NEW.clinic_id AND disabled_at IS NULL
                   AND event_types && ARRAY['*', split_part(kind, '.', 1) || '.*', kind]
            ), told AS (
                INSERT INTO webhook_event (clinic_id, id, type, occurred_at, data)
                SELECT NEW.clinic_id, event, kind, moment,
                       ids || jsonb_build_object('clinic_id', NEW.clinic_id)
                 WHERE EXISTS (SELECT FROM asked)
            )
            INSERT INTO webhook_delivery (clinic_id, id, webhook_id, event_id)
            SELECT NEW.clinic_id, id_by_time(), id, event FROM asked;
            IF FOUND THEN
                PERFORM pg_notify('webhook_due', '');
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION tell_webhooks FROM PUBLIC")
    for firing in TRIGGERS.values():
        op.execute(f"CREATE TRIGGER tells_webhooks {firing} EXECUTE FUNCTION tell_webhooks()")
    for table, when in CHANGES.items():
        op.execute(
            f"CREATE TRIGGER change_tells_webhooks AFTER UPDATE ON {table} FOR EACH ROW "
            f"WHEN ({when}) EXECUTE FUNCTION tell_webhooks()"
        )


def _forgetting() -> None:
    """Let go of a clinic's events of more than 30 days, and of nothing younger.

    No role may delete one by itself.
    """
    op.execute(
        """
        CREATE FUNCTION forget_webhook_events() RETURNS bigint
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $$
            WITH gone AS (
                DELETE FROM webhook_event
                 WHERE clinic_id = nullif(current_setting('afterglow.clinic', true), '')::uuid
                   AND id IN (SELECT id FROM webhook_event
                               WHERE clinic_id =
                                     nullif(current_setting('afterglow.clinic', true), '')::uuid
                                 AND created_at < now() - interval '30 days'
                               ORDER BY created_at LIMIT 5000)
                RETURNING 1
            )
            SELECT count(*) FROM gone
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION forget_webhook_events FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION forget_webhook_events TO {worker()}")


def _counting() -> None:
    """How many deliveries there are in each state, over all clinics: numbers, and nothing else."""
    op.execute(
        """
        CREATE FUNCTION count_webhook_deliveries()
        RETURNS TABLE (state text, number bigint, oldest double precision)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $$
            SELECT d.state, count(*),
                   extract(epoch FROM clock_timestamp() - min(d.due_at) FILTER
                       (WHERE d.state = 'pending' AND d.due_at <= clock_timestamp()))::float
              FROM webhook_delivery d GROUP BY d.state
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION count_webhook_deliveries FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION count_webhook_deliveries TO {service()}, {worker()}")
