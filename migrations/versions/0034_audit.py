"""Audit: where an act came from and what became of it, published heads, break-glass.

Revision ID: 0034_audit
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from migrations import codes
from migrations.tenancy import CLINIC, guard, of_clinic, reference, service, worker

revision = "0034_audit"
down_revision = "0033_webhooks"
branch_labels = None
depends_on = None
phase = "contract"
"""The function that writes the trail takes more than it did."""

COLUMNS: dict[str, Any] = {
    "role": sa.String(),
    "permission": sa.String(),
    "address": sa.String(),
    "request_id": sa.Uuid(),
    "agent_hash": sa.LargeBinary(),
}


def upgrade() -> None:
    """Let lines say more. Those that are there keep their hash, and the form it was made in."""
    outcomes = sa.Enum(
        "success",
        "denied",
        "failure",
        name="auditoutcome",
        native_enum=False,
        create_constraint=True,
        length=32,
    )
    op.add_column(
        "audit_event", sa.Column("outcome", outcomes, server_default="success", nullable=False)
    )
    for name, kind in COLUMNS.items():
        op.add_column("audit_event", sa.Column(name, kind))
    op.add_column(
        "audit_event", sa.Column("form", sa.SmallInteger(), server_default="1", nullable=False)
    )
    op.alter_column("audit_event", "form", server_default=None)
    op.create_index("ix__audit_event__at", "audit_event", ["clinic_id", "at", "id"])
    op.execute(f"GRANT SELECT ON audit_event TO {worker()}")
    op.execute("DROP FUNCTION append_audit_event")
    _append()
    _heads()
    _break_glass()
    prefix = "(SELECT nullif(current_setting('afterglow.prefix', true), ''))"
    op.execute(
        f"CREATE POLICY by_prefix ON api_key FOR SELECT TO {service()} USING (prefix = {prefix})"
    )
    op.create_index("ix__api_key__prefix", "api_key", ["prefix"])
    codes.add("task", "review-break-glass")
    codes.add("message", "break-glass")


def downgrade() -> None:
    """Let lines say what they said before; the hashes of those written since fit no more."""
    codes.drop("message", "break-glass")
    codes.drop("task", "review-break-glass")
    op.drop_index("ix__api_key__prefix", "api_key")
    op.execute("DROP POLICY by_prefix ON api_key")
    op.drop_constraint("fk__clinic__privacy_officer", "clinic")
    op.drop_column("clinic", "privacy_officer_id")
    op.drop_table("break_glass")
    op.drop_table("audit_head")
    op.execute("DROP FUNCTION append_audit_event")
    op.execute(f"REVOKE SELECT ON audit_event FROM {worker()}")
    op.drop_index("ix__audit_event__at", "audit_event")
    for name in ("form", "outcome", *COLUMNS):
        op.drop_column("audit_event", name)
    _append_as_before()


def _append() -> None:
    """One function appends to the trail: it alone may, and it chains each line to the last.

    The advisory lock makes the clinic's lines a line; it is held until the transaction ends,
    so edges append last of all. When a line was written is told by this machine's clock, under
    the lock: it cannot run back unless the clock does. Every part of a line is hashed with its
    length, so that none can flow into the next; a missing one is `-`.
    """
    op.execute(
        f"""
        CREATE FUNCTION append_audit_event(
            new_id uuid, new_at timestamptz, new_actor text, new_action text, new_entity text,
            new_entity_id uuid, new_patient_id uuid, new_facts jsonb, origin jsonb DEFAULT '{{}}'
        ) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            here uuid := {CLINIC};
            last record;
            link bytea;
            number integer;
            moment timestamptz;
            outcome text := coalesce(origin->>'outcome', 'success');
            told text;
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('audit ' || here, 0));
            SELECT sequence, hash INTO last FROM public.audit_event
             WHERE clinic_id = here ORDER BY sequence DESC LIMIT 1;
            number := coalesce(last.sequence, 0) + 1;
            link := coalesce(last.hash, ''::bytea);
            moment := clock_timestamp();
            SELECT string_agg(
                       coalesce(octet_length(convert_to(part, 'UTF8')) || ':' || part, '-'),
                       ',' ORDER BY place)
              INTO told
              FROM unnest(ARRAY[
                  here::text, new_id::text, number::text, extract(epoch FROM new_at)::text,
                  extract(epoch FROM moment)::text, new_actor, new_action, new_entity,
                  new_entity_id::text, new_patient_id::text, new_facts::text, outcome,
                  origin->>'role', origin->>'permission', origin->>'address',
                  origin->>'request_id', origin->>'agent_hash'
              ]) WITH ORDINALITY AS parts(part, place);
            INSERT INTO public.audit_event (
                id, sequence, at, created_at, actor, action, entity, entity_id, patient_id, facts,
                outcome, role, permission, address, request_id, agent_hash, form, previous_hash,
                hash)
            VALUES (
                new_id, number, new_at, moment, new_actor, new_action, new_entity, new_entity_id,
                new_patient_id, new_facts, outcome, origin->>'role', origin->>'permission',
                origin->>'address', (origin->>'request_id')::uuid,
                decode(origin->>'agent_hash', 'hex'), 2, link,
                sha256(link || convert_to(told, 'UTF8')));
        END $$
        """
    )
    _let_append()


def _let_append() -> None:
    op.execute("REVOKE ALL ON FUNCTION append_audit_event FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION append_audit_event TO {service()}, {worker()}")


def _heads() -> None:
    op.create_table(
        "audit_head",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *of_clinic("audit_head"),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__audit_head__clinic_id")
        ),
        sa.UniqueConstraint(
            "clinic_id", "sequence", name=op.f("uq__audit_head__clinic_id_sequence")
        ),
    )
    guard("audit_head", service_may="SELECT", worker_may="SELECT, INSERT")


def _break_glass() -> None:
    op.create_table(
        "break_glass",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("practitioner_id", sa.Uuid()),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_repeated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("reviewed_by", sa.String()),
        sa.Column("reviewed_at", sa.DateTime(timezone=True)),
        sa.Column("justified", sa.Boolean()),
        sa.Column("review_note", sa.String()),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *of_clinic("break_glass"),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__break_glass__clinic_id")
        ),
        reference("break_glass", "patient_id", "patient"),
        reference("break_glass", "practitioner_id", "practitioner"),
        sa.CheckConstraint("length(reason) >= 10", name=op.f("ck__break_glass__says_why")),
        sa.CheckConstraint(
            "num_nonnulls(reviewed_by, reviewed_at, justified) IN (0, 3)",
            name=op.f("ck__break_glass__reviewed_whole"),
        ),
    )
    op.create_index("ix__break_glass__asked", "break_glass", ["clinic_id", "asked_by", "asked_at"])
    op.create_index(
        "ix__break_glass__open",
        "break_glass",
        ["clinic_id", "asked_at"],
        postgresql_where=sa.text("reviewed_at IS NULL"),
    )
    guard("break_glass", service_may="SELECT, INSERT, UPDATE", worker_may="SELECT")
    op.add_column("clinic", sa.Column("privacy_officer_id", sa.Uuid()))
    op.create_foreign_key(
        "fk__clinic__privacy_officer",
        "clinic",
        "practitioner",
        ["clinic_id", "privacy_officer_id"],
        ["clinic_id", "id"],
    )


def _append_as_before() -> None:
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
    _let_append()
