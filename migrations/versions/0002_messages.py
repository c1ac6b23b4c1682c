"""Messages: replies, own words, tasks, consent, receipts, feeds, an archive by the month.

Revision ID: 0002_messages
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.tenancy import CLINIC, guard, service, worker

revision = "0002_messages"
down_revision = "0001_the_house"
branch_labels = None
depends_on = None

KINDS = (
    "confirmation",
    "packet",
    "checklist-request",
    "checklist-nudge",
    "overview",
    "reminder",
    "confirm-request",
    "day-of",
    "moved",
    "cancellation",
    "pick-up",
    "aftercare",
    "safety-check",
    "check-back",
    "questionnaire-due",
    "offer",
    "noted",
    "declined",
    "opted-out",
    "opted-in",
    "help",
    "emergency",
    "agenda",
    "unready",
    "unconfirmed",
    "safety-unanswered",
    "credential-expiring",
    "integration-unbooked",
    "message-failed",
    "crisis",
)
FIRST_KINDS = (
    "confirmation",
    "checklist-request",
    "reminder",
    "confirm-request",
    "day-of",
    "moved",
    "cancellation",
    "pick-up",
    "aftercare",
    "check-back",
)
RECIPIENTS = ("patient", "escort", "practitioner", "front-desk")
CHANNELS = ("email", "sms")

GRANTS: dict[str, tuple[str, str]] = {
    # table: what the service may, what the worker may
    "wording": ("SELECT, INSERT", "SELECT"),
    "cadence_override": ("SELECT, INSERT", "SELECT"),
    "channel_consent": ("SELECT, INSERT", "SELECT"),
    "reply": ("SELECT, INSERT, UPDATE", "SELECT"),
    "task": ("SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE"),
    "calendar_feed": ("SELECT, INSERT, UPDATE", ""),
    "receipt": ("SELECT, INSERT", "SELECT, INSERT"),
    "message_archive": ("SELECT", "SELECT, INSERT"),
}


def upgrade() -> None:
    """Add what messages need."""
    _tables()
    _widen_codes()
    for table, (service_may, worker_may) in GRANTS.items():
        guard(table, service_may=service_may, worker_may=worker_may)
    op.execute(f"GRANT DELETE ON message TO {worker()}")
    op.execute(f"GRANT UPDATE ON patient TO {worker()}")
    _feeds_by_token()
    _send_bucket()
    _months_of_archive()
    _counting()


def downgrade() -> None:
    """Take it away again. Loses what only the new tables hold."""
    op.execute("DROP FUNCTION count_messages")
    op.execute("DROP FUNCTION keep_message_month")
    op.execute(f"REVOKE DELETE ON message FROM {worker()}")
    op.execute(f"REVOKE UPDATE ON patient FROM {worker()}")
    op.execute("DELETE FROM message WHERE appointment_id IS NULL OR channel <> 'email'")
    _narrow_codes()
    _drop_tables()


def _codes(codes: tuple[str, ...], name: str) -> sa.Enum:
    return sa.Enum(*codes, name=name, native_enum=False, create_constraint=True, length=32)


def _widen_codes() -> None:
    _check("messagekind", "kind", KINDS)
    _check("channel", "channel", CHANNELS)
    _check("recipient", "recipient", RECIPIENTS)


def _narrow_codes() -> None:
    kinds = ", ".join(f"'{kind}'" for kind in FIRST_KINDS)
    op.execute(f"DELETE FROM message WHERE kind NOT IN ({kinds})")
    op.execute("DELETE FROM message WHERE recipient NOT IN ('patient', 'escort')")
    _check("messagekind", "kind", FIRST_KINDS)
    _check("channel", "channel", ("email",))
    _check("recipient", "recipient", ("patient", "escort"))


def _check(name: str, column: str, codes: tuple[str, ...]) -> None:
    told = ", ".join(f"'{code}'" for code in codes)
    op.execute(f"ALTER TABLE message DROP CONSTRAINT {name}")
    op.execute(f"ALTER TABLE message ADD CONSTRAINT {name} CHECK ({column} IN ({told}))")


def _feeds_by_token() -> None:
    known = "(SELECT decode(nullif(current_setting('afterglow.token', true), ''), 'hex'))"
    op.execute(
        "CREATE POLICY by_token ON calendar_feed FOR SELECT "
        f"TO {service()} USING (token_hash = {known})"
    )


def _send_bucket() -> None:
    op.execute("ALTER TABLE send_bucket ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE send_bucket FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY fills ON send_bucket TO {worker()} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON send_bucket TO {worker()}")


def _months_of_archive() -> None:
    """The worker may not make tables: one function makes the archive's next month, guarded."""
    op.execute(
        f"""
        CREATE FUNCTION keep_message_month(wanted timestamptz) RETURNS void
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
                              WITH CHECK (clinic_id = {CLINIC})$p$, name);
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION keep_message_month FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION keep_message_month TO {worker()}")


def _counting() -> None:
    """How many messages there are in each state, over all clinics: numbers, and nothing else.

    Row-level security is forced on the owner too; the policy lets the function's owner read.
    """
    op.execute("CREATE POLICY counted ON message FOR SELECT TO CURRENT_USER USING (true)")
    op.execute(
        """
        CREATE FUNCTION count_messages(now timestamptz)
        RETURNS TABLE (channel text, state text, number bigint, oldest double precision,
                       expiring bigint)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $$
            SELECT m.channel, m.state, count(*),
                   extract(epoch FROM now - min(m.due_at) FILTER
                       (WHERE m.state = 'scheduled' AND m.due_at <= now))::float,
                   count(*) FILTER (WHERE m.state = 'scheduled' AND m.due_at <= now
                                      AND m.not_after < now + interval '15 min')
              FROM message m GROUP BY m.channel, m.state
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION count_messages FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION count_messages TO {service()}, {worker()}")


def _tables() -> None:
    op.create_table(
        "message_archive",
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("appointment_id", sa.Uuid(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("recipient", sa.String(), nullable=False),
        sa.Column("recipient_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("carried_by", sa.Uuid(), nullable=True),
        sa.Column("provider", sa.String(), nullable=True),
        sa.Column("provider_ref", sa.String(), nullable=True),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
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
        sa.PrimaryKeyConstraint("due_at", "clinic_id", "id", name=op.f("pk__message_archive")),
        postgresql_partition_by="RANGE (due_at)",
    )
    op.create_index(
        "ix__message_archive__clinic_due",
        "message_archive",
        ["clinic_id", "due_at", "id"],
        unique=False,
    )
    op.create_table(
        "send_bucket",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("filled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk__send_bucket")),
    )
    op.create_table(
        "receipt",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__receipt__clinic_id")
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__receipt")),
        sa.UniqueConstraint(
            "clinic_id", "provider", "event", name=op.f("uq__receipt__clinic_id_provider_event")
        ),
    )
    op.create_index("ix__receipt__message", "receipt", ["clinic_id", "message_id"], unique=False)
    op.create_table(
        "wording",
        sa.Column("kind", _codes(KINDS, "messagekind"), nullable=False),
        sa.Column("recipient", _codes(RECIPIENTS, "recipient"), nullable=False),
        sa.Column("channel", _codes(CHANNELS, "channel"), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("written_by", sa.String(), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__wording__clinic_id")
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__wording")),
        sa.UniqueConstraint(
            "clinic_id",
            "kind",
            "recipient",
            "channel",
            "language",
            "number",
            name=op.f("uq__wording__clinic_id_kind_recipient_channel_language_number"),
        ),
    )
    op.create_table(
        "cadence_override",
        sa.Column("protocol_id", sa.Uuid(), nullable=False),
        sa.Column("cadence", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column(
            "rules", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("written_by", sa.String(), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id", "protocol_id"],
            ["protocol.clinic_id", "protocol.id"],
            name=op.f("fk__cadence_override__clinic_id_protocol_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__cadence_override")),
        sa.UniqueConstraint(
            "clinic_id",
            "protocol_id",
            "cadence",
            "number",
            name=op.f("uq__cadence_override__clinic_id_protocol_id_cadence_number"),
        ),
    )
    op.create_table(
        "calendar_feed",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("made_by", sa.String(), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id", "schedule_id"],
            ["schedule.clinic_id", "schedule.id"],
            name=op.f("fk__calendar_feed__clinic_id_schedule_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__calendar_feed")),
        sa.UniqueConstraint("token_hash", name="uq__calendar_feed__token_hash"),
    )
    op.create_table(
        "channel_consent",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("channel", _codes(CHANNELS, "channel"), nullable=False),
        sa.Column("given", sa.Boolean(), nullable=False),
        sa.Column("wording", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("noted_by", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id", "patient_id"],
            ["patient.clinic_id", "patient.id"],
            name=op.f("fk__channel_consent__clinic_id_patient_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__channel_consent")),
    )
    op.create_index(
        "ix__channel_consent__patient",
        "channel_consent",
        ["clinic_id", "patient_id", "channel", "at"],
        unique=False,
    )
    op.create_table(
        "reply",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("channel", _codes(CHANNELS, "channel"), nullable=False),
        sa.Column("patient_id", sa.Uuid(), nullable=True),
        sa.Column("appointment_id", sa.Uuid(), nullable=True),
        sa.Column(
            "meaning",
            _codes(
                ("confirm", "move", "well", "call-me", "stop", "start", "help", "crisis", "other"),
                "replymeaning",
            ),
            nullable=False,
        ),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id", "appointment_id"],
            ["appointment.clinic_id", "appointment.id"],
            name=op.f("fk__reply__clinic_id_appointment_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "patient_id"],
            ["patient.clinic_id", "patient.id"],
            name=op.f("fk__reply__clinic_id_patient_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__reply__clinic_id")
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__reply")),
        sa.UniqueConstraint(
            "clinic_id",
            "provider",
            "reference",
            name=op.f("uq__reply__clinic_id_provider_reference"),
        ),
    )
    op.create_index(
        "ix__reply__appointment", "reply", ["clinic_id", "appointment_id"], unique=False
    )
    op.create_index("ix__reply__at", "reply", ["clinic_id", "at", "id"], unique=False)
    op.create_table(
        "task",
        sa.Column(
            "kind",
            _codes(
                (
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
                ),
                "taskkind",
            ),
            nullable=False,
        ),
        sa.Column("owner", _codes(("patient", "front-desk", "clinician"), "owner"), nullable=False),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("patient_id", sa.Uuid(), nullable=True),
        sa.Column("appointment_id", sa.Uuid(), nullable=True),
        sa.Column("message_kind", _codes(KINDS, "message_kind_is_known"), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "status",
            _codes(("requested", "completed", "failed", "cancelled"), "taskstatus"),
            nullable=False,
        ),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("settled_by", sa.String(), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
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
        sa.CheckConstraint(
            "(status = 'requested') = (settled_at IS NULL)",
            name=op.f("ck__task__settled_unless_requested"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "appointment_id"],
            ["appointment.clinic_id", "appointment.id"],
            name=op.f("fk__task__clinic_id_appointment_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "patient_id"],
            ["patient.clinic_id", "patient.id"],
            name=op.f("fk__task__clinic_id_patient_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__task__clinic_id")
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__task")),
        sa.UniqueConstraint("clinic_id", "kind", "subject_id", name="uq__task__once"),
    )
    op.create_index(
        "ix__task__open",
        "task",
        ["clinic_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("status = 'requested'"),
    )
    op.add_column(
        "worker",
        sa.Column("stats", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("clinic", sa.Column("front_desk_email", sa.String(), nullable=True))
    op.add_column("clinic", sa.Column("sms_from", sa.String(), nullable=True))
    op.add_column("message", sa.Column("subject_id", sa.Uuid(), nullable=True))
    op.execute("UPDATE message SET subject_id = appointment_id")
    op.alter_column("message", "subject_id", nullable=False)
    op.add_column(
        "message",
        sa.Column(
            "conditions", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
    )
    op.add_column("message", sa.Column("carried_by", sa.Uuid(), nullable=True))
    op.add_column(
        "message",
        sa.Column("said_again", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column("message", sa.Column("provider", sa.String(), nullable=True))
    op.add_column("message", sa.Column("provider_ref", sa.String(), nullable=True))
    op.add_column("message", sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True))
    op.alter_column("message", "appointment_id", existing_type=sa.UUID(), nullable=True)
    op.alter_column(
        "message", "starts_at", existing_type=postgresql.TIMESTAMP(timezone=True), nullable=True
    )
    op.drop_constraint(op.f("uq__message__once"), "message", type_="unique")
    op.create_unique_constraint(
        "uq__message__once",
        "message",
        ["clinic_id", "subject_id", "revision", "rule", "channel", "recipient_id"],
    )
    op.create_index(
        "ix__message__recipient", "message", ["clinic_id", "recipient_id", "due_at"], unique=False
    )
    op.add_column(
        "patient",
        sa.Column(
            "channels", sa.ARRAY(sa.Text()), server_default=sa.text("'{email}'"), nullable=False
        ),
    )
    op.add_column(
        "patient",
        sa.Column(
            "unreachable", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
    )
    op.add_column("patient", sa.Column("quiet_from", sa.Time(), nullable=True))
    op.add_column("patient", sa.Column("quiet_until", sa.Time(), nullable=True))
    op.create_index("ix__patient__phone", "patient", ["clinic_id", "phone"], unique=False)
    op.create_check_constraint(
        op.f("ck__patient__quiet_hours_are_whole"),
        "patient",
        "(quiet_from IS NULL) = (quiet_until IS NULL)",
    )


def _drop_tables() -> None:
    op.drop_constraint(op.f("ck__patient__quiet_hours_are_whole"), "patient")
    op.drop_index("ix__patient__phone", table_name="patient")
    op.drop_column("patient", "quiet_until")
    op.drop_column("patient", "quiet_from")
    op.drop_column("patient", "unreachable")
    op.drop_column("patient", "channels")
    op.drop_index("ix__message__recipient", table_name="message")
    op.drop_constraint("uq__message__once", "message", type_="unique")
    op.create_unique_constraint(
        op.f("uq__message__once"),
        "message",
        ["clinic_id", "appointment_id", "revision", "rule", "channel", "recipient_id"],
        postgresql_nulls_not_distinct=False,
    )
    op.alter_column(
        "message", "starts_at", existing_type=postgresql.TIMESTAMP(timezone=True), nullable=False
    )
    op.alter_column("message", "appointment_id", existing_type=sa.UUID(), nullable=False)
    op.drop_column("message", "delivered_at")
    op.drop_column("message", "provider_ref")
    op.drop_column("message", "provider")
    op.drop_column("message", "said_again")
    op.drop_column("message", "carried_by")
    op.drop_column("message", "conditions")
    op.drop_column("message", "subject_id")
    op.drop_column("worker", "stats")
    op.drop_column("clinic", "sms_from")
    op.drop_column("clinic", "front_desk_email")
    op.drop_index(
        "ix__task__open", table_name="task", postgresql_where=sa.text("status = 'requested'")
    )
    op.drop_table("task")
    op.drop_index("ix__reply__at", table_name="reply")
    op.drop_index("ix__reply__appointment", table_name="reply")
    op.drop_table("reply")
    op.drop_index("ix__channel_consent__patient", table_name="channel_consent")
    op.drop_table("channel_consent")
    op.drop_table("calendar_feed")
    op.drop_table("cadence_override")
    op.drop_table("wording")
    op.drop_index("ix__receipt__message", table_name="receipt")
    op.drop_table("receipt")
    op.drop_table("send_bucket")
    op.drop_index("ix__message_archive__clinic_due", table_name="message_archive")
    op.drop_table("message_archive")
