"""The house: every table of the first release, who may touch it, and what it refuses.

Revision ID: 0001_the_house
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.tenancy import CLINIC, guard, service, worker

revision = "0001_the_house"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "audit_event",
    "idempotency_key",
    "protocol",
    "schedule",
    "site",
    "closure",
    "device",
    "opening_hours",
    "patient",
    "practitioner",
    "protocol_version",
    "room",
    "api_key",
    "clearance",
    "course",
    "qualification",
    "course_step",
    "appointment",
    "appointment_event",
    "checklist_item",
    "escort",
    "message",
    "override",
    "patient_link",
    "slot",
)
"""In the order in which they are made: each after those it references."""

GRANTS: dict[str, tuple[str, str]] = {
    # table: what the service may, what the worker may
    "site": ("SELECT, INSERT, UPDATE", "SELECT"),
    "room": ("SELECT, INSERT, UPDATE", "SELECT"),
    "device": ("SELECT, INSERT, UPDATE", "SELECT"),
    "practitioner": ("SELECT, INSERT, UPDATE", "SELECT"),
    "qualification": ("SELECT, INSERT, UPDATE, DELETE", "SELECT"),
    "patient": ("SELECT, INSERT, UPDATE", "SELECT"),
    "schedule": ("SELECT, INSERT, UPDATE", "SELECT"),
    "opening_hours": ("SELECT, INSERT, UPDATE, DELETE", "SELECT"),
    "closure": ("SELECT, INSERT, UPDATE, DELETE", "SELECT"),
    "slot": ("SELECT, INSERT, UPDATE, DELETE", "SELECT, DELETE"),
    "protocol": ("SELECT, INSERT, UPDATE", "SELECT"),
    "protocol_version": ("SELECT, INSERT, UPDATE", "SELECT"),
    "course": ("SELECT, INSERT, UPDATE", "SELECT"),
    "course_step": ("SELECT, INSERT", "SELECT"),
    "appointment": ("SELECT, INSERT, UPDATE", "SELECT, UPDATE"),
    "appointment_event": ("SELECT, INSERT", "SELECT, INSERT"),
    "override": ("SELECT, INSERT", "SELECT"),
    "clearance": ("SELECT, INSERT", "SELECT"),
    "checklist_item": ("SELECT, INSERT, UPDATE", "SELECT"),
    "escort": ("SELECT, INSERT, UPDATE", "SELECT"),
    "message": ("SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE"),
    "api_key": ("SELECT, INSERT, UPDATE", ""),
    "patient_link": ("SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE"),
    "idempotency_key": ("SELECT, INSERT, DELETE", "SELECT, DELETE"),
    "audit_event": ("SELECT", ""),
}
"""Append-only tables lack UPDATE and DELETE. `audit_event` is written by a function alone."""


def upgrade() -> None:
    """Make the house."""
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    _tables()
    op.create_foreign_key(  # a protocol needs its clinic first
        "fk__clinic__default_protocol",
        "clinic",
        "protocol",
        ["clinic_id", "default_protocol_id"],
        ["clinic_id", "id"],
    )
    op.execute(f"GRANT USAGE ON SCHEMA public TO {service()}, {worker()}")
    op.execute(f"GRANT SELECT ON alembic_version TO {service()}, {worker()}")
    guard("clinic", service_may="SELECT, INSERT, UPDATE", worker_may="SELECT")
    for table, (service_may, worker_may) in GRANTS.items():
        guard(table, service_may=service_may, worker_may=worker_may)
    _ways_past_the_clinic()
    _heartbeat()
    _signed_versions_never_change()
    _audit_trail()


def downgrade() -> None:
    """Take it down. Loses everything."""
    op.execute("DROP FUNCTION append_audit_event")
    op.execute("DROP TRIGGER signed_is_final ON protocol_version")
    op.execute("DROP FUNCTION refuse_change_of_signed_version")
    op.drop_constraint("fk__clinic__default_protocol", "clinic")
    for table in ("worker", *reversed(TABLES), "clinic"):
        op.drop_table(table)
    op.execute(f"REVOKE ALL ON SCHEMA public FROM {service()}, {worker()}")
    op.execute(f"REVOKE ALL ON alembic_version FROM {service()}, {worker()}")


def _ways_past_the_clinic() -> None:
    """The three reads that come before a clinic is known.

    A token finds its own row, and none but that: whoever knows 256 random bits may see the
    row they belong to. The worker sees the queue, and which clinics there are.
    """
    known = "(SELECT decode(nullif(current_setting('afterglow.token', true), ''), 'hex'))"
    op.execute(
        f"CREATE POLICY by_token ON api_key FOR SELECT TO {service()} USING (secret_hash = {known})"
    )
    op.execute(
        "CREATE POLICY by_token ON patient_link FOR SELECT "
        f"TO {service()} USING (token_hash = {known})"
    )
    op.execute(f"CREATE POLICY queue ON message TO {worker()} USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY all_clinics ON clinic FOR SELECT TO {worker()} USING (true)")


def _heartbeat() -> None:
    op.execute("ALTER TABLE worker ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE worker FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY seen ON worker FOR SELECT TO {service()} USING (true)")
    op.execute(f"CREATE POLICY beats ON worker TO {worker()} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT ON worker TO {service()}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON worker TO {worker()}")


def _signed_versions_never_change() -> None:
    op.execute(
        """
        CREATE FUNCTION refuse_change_of_signed_version() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog AS $$
        BEGIN
            IF OLD.signed_at IS NOT NULL THEN
                RAISE EXCEPTION 'a signed protocol version never changes'
                    USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER signed_is_final BEFORE UPDATE OR DELETE ON protocol_version
        FOR EACH ROW EXECUTE FUNCTION refuse_change_of_signed_version()
        """
    )


def _audit_trail() -> None:
    """One function appends to the trail: it alone may, and it chains each row to the last.

    The advisory lock makes the clinic's rows a line; it is held until the transaction ends,
    so edges append last of all.
    """
    op.execute(
        f"""
        CREATE FUNCTION append_audit_event(
            new_id uuid, new_at timestamptz, new_actor text, new_action text, new_entity text,
            new_entity_id uuid, new_patient_id uuid, new_facts jsonb
        ) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $$
        DECLARE
            here uuid := {CLINIC};
            last record;
            link bytea;
            number integer;
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('audit ' || here, 0));
            SELECT sequence, hash INTO last FROM audit_event
             WHERE clinic_id = here ORDER BY sequence DESC LIMIT 1;
            number := coalesce(last.sequence, 0) + 1;
            link := coalesce(last.hash, ''::bytea);
            INSERT INTO audit_event (id, sequence, at, actor, action, entity, entity_id,
                                     patient_id, facts, previous_hash, hash)
            VALUES (new_id, number, new_at, new_actor, new_action, new_entity, new_entity_id,
                    new_patient_id, new_facts, link,
                    sha256(link || convert_to(concat_ws('|', here, number,
                        extract(epoch FROM new_at), new_actor, new_action, new_entity,
                        new_entity_id, new_patient_id, new_facts), 'UTF8')));
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION append_audit_event FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION append_audit_event TO {service()}, {worker()}")


def _tables() -> None:
    op.create_table(
        "clinic",
        sa.Column("clinic_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("phone", sa.String(), nullable=False),
        sa.Column("time_zone", sa.String(), nullable=False),
        sa.Column("emergency_text", sa.String(), server_default="", nullable=False),
        sa.Column("settle_minutes", sa.Integer(), server_default=sa.text("3"), nullable=False),
        sa.Column("quiet_from", sa.Time(), server_default=sa.text("'20:00'"), nullable=False),
        sa.Column("quiet_until", sa.Time(), server_default=sa.text("'09:00'"), nullable=False),
        sa.Column("hold_minutes", sa.Integer(), server_default=sa.text("15"), nullable=False),
        sa.Column(
            "noshow_after_minutes", sa.Integer(), server_default=sa.text("1440"), nullable=False
        ),
        sa.Column("default_protocol_id", sa.Uuid(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "hold_minutes BETWEEN 1 AND 1440", name=op.f("ck__clinic__hold_is_real")
        ),
        sa.CheckConstraint(
            "settle_minutes BETWEEN 0 AND 60", name=op.f("ck__clinic__settle_is_short")
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "default_protocol_id"],
            ["protocol.clinic_id", "protocol.id"],
            name="fk__clinic__default_protocol",
            use_alter=True,
        ),
        sa.PrimaryKeyConstraint("clinic_id", name=op.f("pk__clinic")),
    )
    op.create_table(
        "worker",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("swept_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk__worker")),
    )
    op.create_table(
        "audit_event",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("entity_id", sa.Uuid(), nullable=True),
        sa.Column("patient_id", sa.Uuid(), nullable=True),
        sa.Column(
            "facts",
            postgresql.JSONB(),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
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
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__audit_event__clinic_id")
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__audit_event")),
        sa.UniqueConstraint(
            "clinic_id", "sequence", name=op.f("uq__audit_event__clinic_id_sequence")
        ),
    )
    op.create_index(
        "ix__audit_event__patient", "audit_event", ["clinic_id", "patient_id", "at"], unique=False
    )
    op.create_table(
        "idempotency_key",
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", postgresql.JSONB(), nullable=False),
        sa.Column("body", postgresql.JSONB(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
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
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__idempotency_key__clinic_id")
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__idempotency_key")),
        sa.UniqueConstraint(
            "clinic_id",
            "caller",
            "route",
            "key",
            name=op.f("uq__idempotency_key__clinic_id_caller_route_key"),
        ),
    )
    op.create_table(
        "protocol",
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__protocol__clinic_id")
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__protocol")),
        sa.UniqueConstraint("clinic_id", "code", name=op.f("uq__protocol__clinic_id_code")),
    )
    op.create_table(
        "schedule",
        sa.Column(
            "actor_kind",
            sa.Enum(
                "practitioner",
                "room",
                "device",
                "patient",
                name="actorkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("lanes", sa.Integer(), server_default=sa.text("1"), nullable=False),
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
        sa.CheckConstraint("lanes BETWEEN 1 AND 64", name=op.f("ck__schedule__has_lanes")),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__schedule__clinic_id")
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__schedule")),
    )
    op.create_table(
        "site",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("phone", sa.String(), nullable=False),
        sa.Column("time_zone", sa.String(), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__site__clinic_id")
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__site")),
        sa.UniqueConstraint("clinic_id", "name", name=op.f("uq__site__clinic_id_name")),
    )
    op.create_table(
        "closure",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
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
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck__closure__is_real")),
        sa.ForeignKeyConstraint(
            ["clinic_id", "schedule_id"],
            ["schedule.clinic_id", "schedule.id"],
            name=op.f("fk__closure__clinic_id_schedule_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__closure")),
    )
    op.create_index(
        "ix__closure__schedule", "closure", ["clinic_id", "schedule_id", "starts_at"], unique=False
    )
    op.create_table(
        "device",
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id", "schedule_id"],
            ["schedule.clinic_id", "schedule.id"],
            name=op.f("fk__device__clinic_id_schedule_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "site_id"],
            ["site.clinic_id", "site.id"],
            name=op.f("fk__device__clinic_id_site_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__device")),
        sa.UniqueConstraint(
            "clinic_id", "schedule_id", name=op.f("uq__device__clinic_id_schedule_id")
        ),
        sa.UniqueConstraint(
            "clinic_id", "site_id", "name", name=op.f("uq__device__clinic_id_site_id_name")
        ),
    )
    op.create_table(
        "opening_hours",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("first_start", sa.DateTime(), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(), nullable=True),
        sa.Column(
            "exceptions", sa.ARRAY(sa.DateTime()), server_default=sa.text("'{}'"), nullable=False
        ),
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
            "minutes BETWEEN 5 AND 1440", name=op.f("ck__opening_hours__minutes_are_real")
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "schedule_id"],
            ["schedule.clinic_id", "schedule.id"],
            name=op.f("fk__opening_hours__clinic_id_schedule_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "site_id"],
            ["site.clinic_id", "site.id"],
            name=op.f("fk__opening_hours__clinic_id_site_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__opening_hours")),
    )
    op.create_index(
        "ix__opening_hours__schedule", "opening_hours", ["clinic_id", "schedule_id"], unique=False
    )
    op.create_table(
        "patient",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("record_number", sa.String(), nullable=False),
        sa.Column("given_name", sa.String(), nullable=False),
        sa.Column("family_name", sa.String(), nullable=False),
        sa.Column("birth_date", sa.Date(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("phone", sa.String(), nullable=True),
        sa.Column("time_zone", sa.String(), nullable=False),
        sa.Column("language", sa.String(), server_default="en", nullable=False),
        sa.Column("opted_out", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id", "schedule_id"],
            ["schedule.clinic_id", "schedule.id"],
            name=op.f("fk__patient__clinic_id_schedule_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__patient")),
        sa.UniqueConstraint(
            "clinic_id", "record_number", name=op.f("uq__patient__clinic_id_record_number")
        ),
        sa.UniqueConstraint(
            "clinic_id", "schedule_id", name=op.f("uq__patient__clinic_id_schedule_id")
        ),
    )
    op.create_table(
        "practitioner",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("phone", sa.String(), nullable=True),
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
        sa.ForeignKeyConstraint(
            ["clinic_id", "schedule_id"],
            ["schedule.clinic_id", "schedule.id"],
            name=op.f("fk__practitioner__clinic_id_schedule_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__practitioner")),
        sa.UniqueConstraint("clinic_id", "email", name=op.f("uq__practitioner__clinic_id_email")),
        sa.UniqueConstraint(
            "clinic_id", "schedule_id", name=op.f("uq__practitioner__clinic_id_schedule_id")
        ),
    )
    op.create_table(
        "protocol_version",
        sa.Column("protocol_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.Column("signed_by", sa.String(), nullable=True),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=True),
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
            "(signed_by IS NULL) = (signed_at IS NULL)",
            name=op.f("ck__protocol_version__signed_by_and_at"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "protocol_id"],
            ["protocol.clinic_id", "protocol.id"],
            name=op.f("fk__protocol_version__clinic_id_protocol_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__protocol_version")),
        sa.UniqueConstraint(
            "clinic_id",
            "protocol_id",
            "number",
            name=op.f("uq__protocol_version__clinic_id_protocol_id_number"),
        ),
    )
    op.create_table(
        "room",
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id", "schedule_id"],
            ["schedule.clinic_id", "schedule.id"],
            name=op.f("fk__room__clinic_id_schedule_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "site_id"],
            ["site.clinic_id", "site.id"],
            name=op.f("fk__room__clinic_id_site_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__room")),
        sa.UniqueConstraint(
            "clinic_id", "schedule_id", name=op.f("uq__room__clinic_id_schedule_id")
        ),
        sa.UniqueConstraint(
            "clinic_id", "site_id", "name", name=op.f("uq__room__clinic_id_site_id_name")
        ),
    )
    op.create_table(
        "api_key",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "role",
            sa.Enum(
                "admin",
                "scheduler",
                "clinician",
                "auditor",
                name="role",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("practitioner_id", sa.Uuid(), nullable=True),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
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
        sa.ForeignKeyConstraint(
            ["clinic_id", "practitioner_id"],
            ["practitioner.clinic_id", "practitioner.id"],
            name=op.f("fk__api_key__clinic_id_practitioner_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__api_key__clinic_id")
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__api_key")),
        sa.UniqueConstraint("secret_hash", name="uq__api_key__secret_hash"),
    )
    op.create_table(
        "clearance",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("gate", sa.String(), nullable=False),
        sa.Column(
            "outcome",
            sa.Enum(
                "cleared",
                "not-applicable",
                "refused",
                name="clearanceoutcome",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("cleared_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cleared_by", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
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
            name=op.f("fk__clearance__clinic_id_patient_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__clearance")),
    )
    op.create_index(
        "ix__clearance__patient",
        "clearance",
        ["clinic_id", "patient_id", "gate", "cleared_at"],
        unique=False,
    )
    op.create_table(
        "course",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("protocol_version_id", sa.Uuid(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "active",
                "completed",
                "revoked",
                name="coursestatus",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("opened_by", sa.String(), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["clinic_id", "patient_id"],
            ["patient.clinic_id", "patient.id"],
            name=op.f("fk__course__clinic_id_patient_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "protocol_version_id"],
            ["protocol_version.clinic_id", "protocol_version.id"],
            name=op.f("fk__course__clinic_id_protocol_version_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__course")),
    )
    op.create_index("ix__course__patient", "course", ["clinic_id", "patient_id"], unique=False)
    op.create_table(
        "qualification",
        sa.Column("practitioner_id", sa.Uuid(), nullable=False),
        sa.Column(
            "role",
            sa.Enum(
                "prescriber",
                "monitor",
                "therapist",
                "cotherapist",
                "facilitator",
                name="practitionerrole",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("licence", sa.String(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=False),
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
            "valid_from <= valid_until", name=op.f("ck__qualification__validity_is_real")
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "practitioner_id"],
            ["practitioner.clinic_id", "practitioner.id"],
            name=op.f("fk__qualification__clinic_id_practitioner_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__qualification")),
        sa.UniqueConstraint(
            "clinic_id",
            "practitioner_id",
            "role",
            "licence",
            "valid_from",
            name=op.f("uq__qualification__clinic_id_practitioner_id_role_licence_valid_from"),
        ),
    )
    op.create_table(
        "course_step",
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "screening",
                "preparation",
                "dosing",
                "integration",
                "follow-up",
                name="stepkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
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
            ["clinic_id", "course_id"],
            ["course.clinic_id", "course.id"],
            name=op.f("fk__course_step__clinic_id_course_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__course_step")),
        sa.UniqueConstraint(
            "clinic_id", "course_id", "key", name=op.f("uq__course_step__clinic_id_course_id_key")
        ),
        sa.UniqueConstraint(
            "clinic_id",
            "course_id",
            "position",
            name=op.f("uq__course_step__clinic_id_course_id_position"),
        ),
    )
    op.create_table(
        "appointment",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=True),
        sa.Column("course_step_id", sa.Uuid(), nullable=True),
        sa.Column("protocol_version_id", sa.Uuid(), nullable=False),
        sa.Column("visit", sa.String(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "screening",
                "preparation",
                "dosing",
                "integration",
                "follow-up",
                name="stepkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "proposed",
                "pending",
                "booked",
                "arrived",
                "checked-in",
                "fulfilled",
                "cancelled",
                "noshow",
                "entered-in-error",
                "waitlist",
                name="appointmentstatus",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "progress",
            sa.Enum(
                "waiting",
                "dosing",
                "recovering",
                "discharged",
                name="progress",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("held_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("move_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("booked_by", sa.String(), nullable=False),
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
            "(status = 'pending') = (held_until IS NOT NULL)",
            name=op.f("ck__appointment__held_while_pending"),
        ),
        sa.CheckConstraint(
            "(course_id IS NULL) = (course_step_id IS NULL)",
            name=op.f("ck__appointment__step_of_a_course"),
        ),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck__appointment__is_real")),
        sa.ForeignKeyConstraint(
            ["clinic_id", "course_id"],
            ["course.clinic_id", "course.id"],
            name=op.f("fk__appointment__clinic_id_course_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "course_step_id"],
            ["course_step.clinic_id", "course_step.id"],
            name=op.f("fk__appointment__clinic_id_course_step_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "patient_id"],
            ["patient.clinic_id", "patient.id"],
            name=op.f("fk__appointment__clinic_id_patient_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "protocol_version_id"],
            ["protocol_version.clinic_id", "protocol_version.id"],
            name=op.f("fk__appointment__clinic_id_protocol_version_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "site_id"],
            ["site.clinic_id", "site.id"],
            name=op.f("fk__appointment__clinic_id_site_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__appointment")),
    )
    op.create_index(
        "ix__appointment__course", "appointment", ["clinic_id", "course_id"], unique=False
    )
    op.create_index(
        "ix__appointment__held",
        "appointment",
        ["clinic_id", "held_until"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix__appointment__patient",
        "appointment",
        ["clinic_id", "patient_id", "starts_at"],
        unique=False,
    )
    op.create_index(
        "ix__appointment__starts_at", "appointment", ["clinic_id", "starts_at", "id"], unique=False
    )
    op.create_index(
        "uq__appointment__live_step",
        "appointment",
        ["clinic_id", "course_step_id"],
        unique=True,
        postgresql_where=sa.text(
            "status NOT IN ('cancelled', 'noshow', 'entered-in-error', 'proposed', 'waitlist')"
        ),
    )
    op.create_table(
        "appointment_event",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column(
            "from_status",
            sa.Enum(
                "proposed",
                "pending",
                "booked",
                "arrived",
                "checked-in",
                "fulfilled",
                "cancelled",
                "noshow",
                "entered-in-error",
                "waitlist",
                name="from_status",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column(
            "to_status",
            sa.Enum(
                "proposed",
                "pending",
                "booked",
                "arrived",
                "checked-in",
                "fulfilled",
                "cancelled",
                "noshow",
                "entered-in-error",
                "waitlist",
                name="appointmentstatus",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "progress",
            sa.Enum(
                "waiting",
                "dosing",
                "recovering",
                "discharged",
                name="progress",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column(
            "facts",
            postgresql.JSONB(),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
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
            name=op.f("fk__appointment_event__clinic_id_appointment_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__appointment_event")),
    )
    op.create_index(
        "ix__appointment_event__appointment",
        "appointment_event",
        ["clinic_id", "appointment_id", "at"],
        unique=False,
    )
    op.create_table(
        "checklist_item",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column(
            "owner",
            sa.Enum(
                "patient",
                "front-desk",
                "clinician",
                name="owner",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("gate", sa.String(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "requested",
                "completed",
                "failed",
                "cancelled",
                name="taskstatus",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("answer", sa.String(), nullable=True),
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
            name=op.f("ck__checklist_item__settled_unless_requested"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "appointment_id"],
            ["appointment.clinic_id", "appointment.id"],
            name=op.f("fk__checklist_item__clinic_id_appointment_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__checklist_item")),
        sa.UniqueConstraint(
            "clinic_id",
            "appointment_id",
            "code",
            name=op.f("uq__checklist_item__clinic_id_appointment_id_code"),
        ),
    )
    op.create_table(
        "escort",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("phone", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("relation", sa.String(), nullable=False),
        sa.Column("may_message", sa.Boolean(), nullable=False),
        sa.Column("named_by", sa.String(), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
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
        sa.ForeignKeyConstraint(
            ["clinic_id", "appointment_id"],
            ["appointment.clinic_id", "appointment.id"],
            name=op.f("fk__escort__clinic_id_appointment_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__escort")),
        sa.UniqueConstraint(
            "clinic_id", "appointment_id", name=op.f("uq__escort__clinic_id_appointment_id")
        ),
    )
    op.create_table(
        "message",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
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
                name="messagekind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "channel",
            sa.Enum("email", name="channel", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column(
            "recipient",
            sa.Enum(
                "patient",
                "escort",
                name="recipient",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("recipient_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "scheduled",
                "sending",
                "uncertain",
                "sent",
                "delivered",
                "failed",
                "superseded",
                "expired",
                "suppressed",
                name="messagestate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("claim_token", sa.Uuid(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
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
            "(state = 'sending') = (leased_until IS NOT NULL)",
            name=op.f("ck__message__leased_iff_sending"),
        ),
        sa.CheckConstraint(
            "state <> 'uncertain' OR released_at IS NOT NULL",
            name=op.f("ck__message__uncertain_was_released"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "appointment_id"],
            ["appointment.clinic_id", "appointment.id"],
            name=op.f("fk__message__clinic_id_appointment_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__message")),
        sa.UniqueConstraint(
            "clinic_id",
            "appointment_id",
            "revision",
            "rule",
            "channel",
            "recipient_id",
            name="uq__message__once",
        ),
    )
    op.create_index(
        "ix__message__clinic_due", "message", ["clinic_id", "due_at", "id"], unique=False
    )
    op.create_index(
        "ix__message__due",
        "message",
        ["channel", "due_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'scheduled'"),
    )
    op.create_index(
        "ix__message__lease",
        "message",
        ["leased_until"],
        unique=False,
        postgresql_where=sa.text("state = 'sending'"),
    )
    op.create_index(
        "ix__message__uncertain",
        "message",
        ["released_at"],
        unique=False,
        postgresql_where=sa.text("state = 'uncertain'"),
    )
    op.create_table(
        "override",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
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
            name=op.f("fk__override__clinic_id_appointment_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__override")),
    )
    op.create_index(
        "ix__override__appointment", "override", ["clinic_id", "appointment_id"], unique=False
    )
    op.create_table(
        "patient_link",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
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
            name=op.f("fk__patient_link__clinic_id_appointment_id"),
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "patient_id"],
            ["patient.clinic_id", "patient.id"],
            name=op.f("fk__patient_link__clinic_id_patient_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__patient_link")),
        sa.UniqueConstraint("token_hash", name="uq__patient_link__token_hash"),
    )
    op.create_table(
        "slot",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "busy",
                "busy-tentative",
                "busy-unavailable",
                name="slotstatus",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("during", postgresql.TSTZRANGE(), nullable=False),
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
        postgresql.ExcludeConstraint(
            (sa.column("schedule_id"), "="),
            (sa.column("lane"), "="),
            (sa.column("during"), "&&"),
            using="gist",
            name="ex__slot__no_overlap",
        ),
        sa.CheckConstraint("lane >= 0", name=op.f("ck__slot__lane_counts_from_0")),
        sa.CheckConstraint(
            "lower(during) = starts_at AND upper(during) = ends_at",
            name=op.f("ck__slot__bounds_agree"),
        ),
        sa.CheckConstraint(
            "lower_inc(during) AND NOT upper_inf(during)", name=op.f("ck__slot__during_is_real")
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "appointment_id"],
            ["appointment.clinic_id", "appointment.id"],
            name=op.f("fk__slot__clinic_id_appointment_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["clinic_id", "schedule_id"],
            ["schedule.clinic_id", "schedule.id"],
            name=op.f("fk__slot__clinic_id_schedule_id"),
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f("pk__slot")),
    )
    op.create_index("ix__slot__appointment", "slot", ["clinic_id", "appointment_id"], unique=False)
    op.create_index(
        "ix__slot__schedule", "slot", ["clinic_id", "schedule_id", "starts_at"], unique=False
    )
