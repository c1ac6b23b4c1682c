"""Found at once: patients by how a name begins, and all else that lists are asked for by.

Revision ID: 0039_found_at_once
"""

from uuid import UUID

import sqlalchemy as sa
from alembic import op

revision = "0039_found_at_once"
down_revision = "0038_doors"
branch_labels = None
depends_on = None
phase = "expand"

KEYS = {
    "family_key": "family_name",
    "given_key": "given_name",
    "number_key": "record_number",
}
"""What is searched by how it begins, whatever the case. Under row-level security only comparing
may use an index: ILIKE may not, nor may anything that first calls lower()."""

WRONG = "state IN ('uncertain', 'failed', 'expired', 'suppressed')"
INDEXES: dict[str, tuple[str, list[str], str | None]] = {
    "ix__patient__family_key": ("patient", ["family_key"], None),
    "ix__patient__given_key": ("patient", ["given_key"], None),
    "ix__patient__number_key": ("patient", ["number_key"], None),
    "ix__message__appointment": ("message", ["appointment_id", "due_at", "id"], None),
    "ix__message__wrong": ("message", ["state", "due_at", "id"], WRONG),
    "ix__appointment__status": ("appointment", ["status", "starts_at", "id"], None),
    "ix__schedule__bookable": ("schedule", ["name", "id"], "actor_kind <> 'patient'"),
    "ix__patient_link__appointment": ("patient_link", ["appointment_id"], None),
    "ix__waitlist_entry__state": ("waitlist_entry", ["state", "waiting_since", "id"], None),
    "ix__offer__patient": ("offer", ["patient_id", "id"], None),
    "ix__offer__state": ("offer", ["state", "id"], None),
    "ix__reply__patient": ("reply", ["patient_id", "at", "id"], None),
    "ix__reply__meaning": ("reply", ["meaning", "at", "id"], None),
    "ix__task__status": ("task", ["status", "due_at", "id"], None),
    "ix__webhook_delivery__state": ("webhook_delivery", ["state", "id"], None),
    "ix__audit_event__actor": ("audit_event", ['actor COLLATE "C"', "at", "id"], None),
    "ix__audit_event__entity": (
        "audit_event",
        ["entity_id", "at", "id"],
        "entity_id IS NOT NULL",
    ),
    "ix__audit_event__failed": (
        "audit_event",
        ["outcome", "at", "id"],
        "outcome <> 'success'",
    ),
}


def upgrade() -> None:
    """Add the keys, kept by a trigger, fill them in clinic by clinic, and index beside the work."""
    for key in KEYS:
        op.execute(f'ALTER TABLE patient ADD COLUMN IF NOT EXISTS {key} text COLLATE "C"')
    kept = " ".join(f"NEW.{key} := lower(NEW.{told});" for key, told in KEYS.items())
    op.execute(
        "CREATE OR REPLACE FUNCTION keep_patient_keys() RETURNS trigger LANGUAGE plpgsql "
        f"SET search_path = pg_catalog AS $$ BEGIN {kept} RETURN NEW; END $$"
    )
    op.execute(
        "CREATE OR REPLACE TRIGGER keeps_keys BEFORE INSERT OR UPDATE ON patient "
        "FOR EACH ROW EXECUTE FUNCTION keep_patient_keys()"
    )
    with op.get_context().autocommit_block():
        for clinic_id in _clinics():
            _enter(str(clinic_id))
            op.execute("UPDATE patient SET family_key = '' WHERE family_key IS NULL")
        _enter("")
        for name, (table, columns, where) in INDEXES.items():
            _index(name, table, columns, where)


def downgrade() -> None:
    """Take them away again."""
    for name in INDEXES:
        op.execute(f"DROP INDEX {name}")
    op.execute("DROP TRIGGER keeps_keys ON patient")
    op.execute("DROP FUNCTION keep_patient_keys")
    for key in KEYS:
        op.drop_column("patient", key)


def _clinics() -> list[UUID]:
    """Every clinic. The owner sees them as it does for a backup."""
    bind = op.get_bind()
    bind.execute(sa.text("SELECT set_config('afterglow.backup', 'on', false)"))
    found = bind.execute(sa.text("SELECT clinic_id FROM clinic")).scalars().all()
    bind.execute(sa.text("SELECT set_config('afterglow.backup', '', false)"))
    return list(found)


def _enter(clinic_id: str) -> None:
    op.get_bind().execute(
        sa.text("SELECT set_config('afterglow.clinic', :clinic, false)"), {"clinic": clinic_id}
    )


def _index(name: str, table: str, columns: list[str], where: str | None) -> None:
    """Make it anew, also where an earlier try left half of one."""
    op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    op.create_index(
        name,
        table,
        ["clinic_id", *map(sa.text, columns)],
        postgresql_where=None if where is None else sa.text(where),
        postgresql_concurrently=True,
    )
