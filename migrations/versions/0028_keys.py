"""Keys: narrowed to some permissions and networks, rotated, and last used when.

Revision ID: 0028_keys
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0028_keys"
down_revision = "0027_marked"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Keys that are there may do what they could, from anywhere."""
    words = postgresql.ARRAY(sa.String())
    op.add_column("api_key", sa.Column("scopes", words))
    op.add_column("api_key", sa.Column("networks", words, server_default="{}", nullable=False))
    op.add_column("api_key", sa.Column("replaces", sa.Uuid()))
    op.add_column("api_key", sa.Column("last_used_on", sa.Date()))
    op.create_foreign_key(
        "fk__api_key__clinic_id_replaces",
        "api_key",
        "api_key",
        ["clinic_id", "replaces"],
        ["clinic_id", "id"],
    )
    op.create_unique_constraint(
        "uq__api_key__clinic_id_replaces", "api_key", ["clinic_id", "replaces"]
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_constraint("uq__api_key__clinic_id_replaces", "api_key")
    op.drop_constraint("fk__api_key__clinic_id_replaces", "api_key")
    for name in ("last_used_on", "replaces", "networks", "scopes"):
        op.drop_column("api_key", name)
