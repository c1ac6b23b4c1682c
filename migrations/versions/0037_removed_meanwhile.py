"""Webhooks: one that is removed while something happens is not told, and spoils nothing.

Whatever tells of a change used to look for webhooks without holding them. If one was removed
just then, the delivery referred to nothing, and the change itself was refused.

Revision ID: 0037_removed_meanwhile
"""

from alembic import op

revision = "0037_removed_meanwhile"
down_revision = "0036_identity"
branch_labels = None
depends_on = None
phase = "expand"

FREE = "split_part(kind, '.', 1) || '.*', kind]"
HELD = f"{FREE} FOR KEY SHARE"
"""Waits for whoever removes a webhook, and then does not see it any more."""


def upgrade() -> None:
    """Hold the webhooks that are told, against removal, until the change is there."""
    _rewrite(FREE, HELD)


def downgrade() -> None:
    """Look for them only."""
    _rewrite(HELD, FREE)


def _rewrite(before: str, after: str) -> None:
    """Swap a part of `tell_webhooks`, which stands in 0033_webhooks."""
    told = op.get_bind().exec_driver_sql(
        "SELECT pg_get_functiondef('tell_webhooks()'::regprocedure)"
    )
    found = str(told.scalar_one())
    if found.count(before) != 1:
        raise RuntimeError("tell_webhooks() is not as 0033_webhooks made it.")
    op.get_bind().exec_driver_sql(found.replace(before, after).replace("%", "%%"))
