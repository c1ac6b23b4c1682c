"""Runs the migrations, one process at a time, never waiting long for a lock."""

import time

from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

ONE_AT_A_TIME = 4_201_998_007
"""The advisory lock that migrations take. Any number, only ours."""

ASK_AGAIN = 0.05
"""Seconds."""

LIMITS = {"lock_timeout": "3s", "statement_timeout": "15min"}
"""How long a statement may wait for a lock, with everybody else behind it, and how long it may
take. What is refused a lock is tried again by whoever called."""


def run() -> None:
    """Migrate in one transaction per migration, behind an advisory lock."""
    engine = create_engine(context.config.attributes["owner"], poolclass=pool.NullPool)
    with engine.connect() as connection:
        _wait_for_nobody(connection)
        for name, value in LIMITS.items():
            connection.execute(
                text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value}
            )
        connection.commit()
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()


def _wait_for_nobody(connection: Connection) -> None:
    """Be the only one who migrates.

    Asked for again and again: a statement that waits counts as one that still reads, and whoever
    makes an index beside the work waits for those.
    """
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:n)"), {"n": ONE_AT_A_TIME}):
        connection.rollback()
        time.sleep(ASK_AGAIN)


run()
