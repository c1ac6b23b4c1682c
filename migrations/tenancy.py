"""What every table of a clinic needs: row-level security, forced, and narrow grants.

`guard` is called for each new table in the migration that makes it. A test walks the
catalog and fails for a table that forgot.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

HERE = "nullif(current_setting('afterglow.clinic', true), '')::uuid"
"""The transaction's clinic."""

CLINIC = "(SELECT nullif(current_setting('afterglow.clinic', true), '')::uuid)"
"""The same as a sub-select: it is worked out once for each statement."""

BACKED_UP = (
    "(SELECT session_user = current_user "
    "AND current_setting('afterglow.backup', true) IS NOT DISTINCT FROM 'on')"
)
"""Whether this is the owner's own session, and says that it makes a backup.

In a function that runs as the owner for somebody else it is never true.
"""


def service() -> str:
    """The service's role in this database, quoted."""
    return _role("service")


def worker() -> str:
    """The worker's role in this database, quoted."""
    return _role("worker")


def operator() -> str:
    """The operators' role in this database, quoted."""
    return _role("operator")


def guard(table: str, *, service_may: str, worker_may: str) -> None:
    """Let the roles see and touch `table` only as far as the transaction's clinic goes.

    `service_may` and `worker_may` are privileges, as in GRANT; '' for none. Append-only
    tables leave out UPDATE and DELETE.
    """
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY clinic ON {table} USING (clinic_id = {CLINIC}) "
        f"WITH CHECK (clinic_id = {CLINIC})"
    )
    let_backups_read(table)
    if service_may:
        op.execute(f"GRANT {service_may} ON {table} TO {service()}")
    if worker_may:
        op.execute(f"GRANT {worker_may} ON {table} TO {worker()}")


def let_backups_read(table: str) -> None:
    """Let the owner read every clinic's rows of `table` for a backup, which asks to.

    Row-level security is forced on the owner as well; a backup without this would be empty.
    """
    stop_backups_reading(table)
    op.execute(f"CREATE POLICY backed_up ON {table} FOR SELECT TO CURRENT_USER USING ({BACKED_UP})")


def stop_backups_reading(table: str) -> None:
    """Undo `let_backups_read`."""
    op.execute(f"DROP POLICY IF EXISTS backed_up ON {table}")


def of_clinic(table: str) -> list[Any]:
    """The columns and the key that every table of a clinic has."""
    return [
        sa.Column("clinic_id", sa.Uuid(), server_default=sa.text(HERE), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("clinic_id", "id", name=op.f(f"pk__{table}")),
    ]


def reference(
    table: str, column: str, to: str, ondelete: str | None = None
) -> sa.ForeignKeyConstraint:
    """A foreign key that stays within the clinic."""
    return sa.ForeignKeyConstraint(
        ["clinic_id", column],
        [f"{to}.clinic_id", f"{to}.id"],
        name=op.f(f"fk__{table}__clinic_id_{column}"),
        ondelete=ondelete,
    )


def _role(kind: str) -> str:
    name = op.get_bind().execute(
        text("SELECT quote_ident(current_database() || :kind)"), {"kind": f"_{kind}"}
    )
    return str(name.scalar_one())
