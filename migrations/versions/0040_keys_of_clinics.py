"""Keys of clinics: what is sealed with them stands in the columns that are there.

An older version reads what a newer one has sealed as if somebody had written it, so none may run
beside it. What was written before is sealed by the worker, row by row (docs/encryption.md).

Revision ID: 0040_keys_of_clinics
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import guard, of_clinic, service, worker

revision = "0040_keys_of_clinics"
down_revision = "0039_found_at_once"
branch_labels = None
depends_on = None
phase = "contract"

INDEXED = (
    ("patient", "email", False),
    ("patient", "phone", False),
    ("practitioner", "email", True),
    ("user_account", "email", True),
)
"""What can be looked up by a blind index, and whether no two in a clinic may be the same."""

KEYS = "SELECT, INSERT, UPDATE"

SEALED: dict[str, tuple[str, ...]] = {
    # table: those of its columns that the worker seals anew, in append-only tables as well
    "appointment_event": ("reason",),
    "break_glass": ("reason", "review_note"),
    "busy_feed": ("url",),
    "channel_consent": ("wording",),
    "checklist_item": ("answer",),
    "clearance": ("note",),
    "course_step": ("skip_reason",),
    "departure": ("accompanied_by", "deviation"),
    "eligibility": ("reason", "conditions"),
    "escort": ("phone", "email"),
    "health_event": ("note",),
    "idempotency_key": ("body",),
    "import": ("content",),
    "import_fault": ("detail",),
    "incident": ("note",),
    "medicine_ruling": ("reason",),
    "observation": ("note",),
    "override": ("reason",),
    "patient": ("email", "email_index", "phone", "phone_index"),
    "practitioner": ("email", "email_index", "phone"),
    "questionnaire_draft": ("answers",),
    "questionnaire_response": ("answers",),
    "reconciliation": ("medicines", "note"),
    "reply": ("body",),
    "screen": ("answers", "notes", "note"),
    "screen_decision": ("reason",),
    "task": ("remark",),
    "webhook_secret": ("secret",),
}


def upgrade() -> None:
    """Add the table of keys, and let the worker seal anew."""
    op.create_table(
        "clinic_key",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("master", sa.String(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("wrapped_index", sa.LargeBinary(), nullable=True),
        sa.Column(
            "made_in",
            sa.String(),
            server_default=sa.text("(pg_current_xact_id())::text"),
            nullable=False,
        ),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("walk_table", sa.String(), nullable=True),
        sa.Column("walk_after", sa.Uuid(), nullable=True),
        sa.Column("walked", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("stuck", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("walked_at", sa.DateTime(timezone=True), nullable=True),
        *of_clinic("clinic_key"),
        sa.ForeignKeyConstraint(
            ["clinic_id"], ["clinic.clinic_id"], name=op.f("fk__clinic_key__clinic_id")
        ),
        sa.UniqueConstraint("clinic_id", "number", name="uq__clinic_key__number"),
        sa.CheckConstraint(
            "num_nulls(wrapped, wrapped_index) IN (0, 2)",
            name=op.f("ck__clinic_key__wrapped_whole"),
        ),
    )
    guard("clinic_key", service_may=KEYS, worker_may=KEYS)
    op.execute("CREATE POLICY masters ON clinic_key FOR SELECT TO CURRENT_USER USING (true)")
    op.execute(
        """
        CREATE FUNCTION masters_in_use() RETURNS SETOF text
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $$
            SELECT DISTINCT master::text FROM clinic_key WHERE wrapped IS NOT NULL
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION masters_in_use FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION masters_in_use TO {service()}, {worker()}")
    _blind_indexes()
    op.add_column("task", sa.Column("remark", sa.String(), nullable=True))
    for table, columns in SEALED.items():
        op.execute(
            f"GRANT SELECT (clinic_id, id, {', '.join(columns)}), UPDATE ({', '.join(columns)}) "
            f"ON {table} TO {worker()}"
        )


def downgrade() -> None:
    """Lose the keys, and with them everything that is sealed."""
    for table, columns in SEALED.items():
        op.execute(f"REVOKE UPDATE ({', '.join(columns)}) ON {table} FROM {worker()}")
        op.execute(
            f"REVOKE SELECT (clinic_id, id, {', '.join(columns)}) ON {table} FROM {worker()}"
        )
    for table, column, is_unique in INDEXED:
        op.drop_column(table, f"{column}_index")
        if is_unique:
            op.create_unique_constraint(
                op.f(f"uq__{table}__clinic_id_{column}"), table, ["clinic_id", column]
            )
    op.create_index("ix__patient__phone", "patient", ["clinic_id", "phone"])
    op.drop_column("task", "remark")
    op.execute("DROP FUNCTION masters_in_use")
    op.drop_table("clinic_key")


def _blind_indexes() -> None:
    op.drop_index("ix__patient__phone", "patient")
    for table, column, is_unique in INDEXED:
        op.add_column(table, sa.Column(f"{column}_index", sa.LargeBinary(), nullable=True))
        over = ["clinic_id", f"{column}_index"]
        if is_unique:
            op.drop_constraint(op.f(f"uq__{table}__clinic_id_{column}"), table)
            op.create_unique_constraint(op.f(f"uq__{table}__clinic_id_{column}_index"), table, over)
        else:
            op.create_index(f"ix__{table}__{column}_index", table, over)
