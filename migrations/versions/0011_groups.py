"""Groups: sessions that several patients share, each in a place of their own.

Revision ID: 0011_groups
"""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import guard, of_clinic, reference

revision = "0011_groups"
down_revision = "0010_waitlist"
branch_labels = None
depends_on = None

LIVE = "status NOT IN ('cancelled', 'noshow', 'entered-in-error', 'proposed', 'waitlist')"
IN_A_SESSION = sa.text("group_session_id IS NOT NULL")
STEP_KINDS = ("screening", "preparation", "dosing", "integration", "follow-up")
TASKS_BEFORE = (
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
)
NEW_TASK = "staff-group"


def upgrade() -> None:
    """Add sessions, places in them, and slots that a session takes."""
    _add_sessions()
    _add_places()
    _add_slots()
    _let_tasks_be((*TASKS_BEFORE, NEW_TASK))


def downgrade() -> None:
    """Take them away again, with the time that sessions took."""
    op.execute(f"DELETE FROM task WHERE kind = '{NEW_TASK}'")
    _let_tasks_be(TASKS_BEFORE)
    op.execute("DELETE FROM slot WHERE group_session_id IS NOT NULL")
    op.drop_column("slot", "group_session_id")
    op.alter_column("slot", "appointment_id", nullable=False)
    for column in ("places", "place", "group_session_id"):
        op.drop_column("appointment", column)
    op.drop_table("group_session")


def _add_sessions() -> None:
    op.create_table(
        "group_session",
        sa.Column("protocol_version_id", sa.Uuid(), nullable=False),
        sa.Column("visit", sa.String(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                *STEP_KINDS, name="stepkind", native_enum=False, create_constraint=True, length=32
            ),
            nullable=False,
        ),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("places", sa.Integer(), nullable=False),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        *of_clinic("group_session"),
        reference("group_session", "protocol_version_id", "protocol_version"),
        reference("group_session", "site_id", "site"),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck__group_session__is_real")),
        sa.CheckConstraint("places BETWEEN 1 AND 100", name=op.f("ck__group_session__has_places")),
        sa.UniqueConstraint("clinic_id", "id", "places", name="uq__group_session__places"),
    )
    op.create_index(
        "ix__group_session__starts_at", "group_session", ["clinic_id", "starts_at", "id"]
    )
    guard(
        "group_session",
        service_may="SELECT, INSERT, UPDATE",
        worker_may="SELECT, UPDATE",
    )


def _add_places() -> None:
    """A place is numbered, there, and one visit's: sessions cannot be oversold."""
    op.add_column("appointment", sa.Column("group_session_id", sa.Uuid(), nullable=True))
    op.add_column("appointment", sa.Column("place", sa.Integer(), nullable=True))
    op.add_column("appointment", sa.Column("places", sa.Integer(), nullable=True))
    op.create_foreign_key(
        op.f("fk__appointment__clinic_id_group_session_id_places"),
        "appointment",
        "group_session",
        ["clinic_id", "group_session_id", "places"],
        ["clinic_id", "id", "places"],
    )
    op.create_check_constraint(
        op.f("ck__appointment__place_in_a_session"),
        "appointment",
        "num_nulls(group_session_id, place, places) IN (0, 3)",
    )
    op.create_check_constraint(
        op.f("ck__appointment__place_is_there"), "appointment", "place BETWEEN 1 AND places"
    )
    op.create_index(
        "uq__appointment__place",
        "appointment",
        ["clinic_id", "group_session_id", "place"],
        unique=True,
        postgresql_where=sa.text(LIVE),
    )
    op.create_index(
        "ix__appointment__group_session",
        "appointment",
        ["clinic_id", "group_session_id"],
        postgresql_where=IN_A_SESSION,
    )


def _add_slots() -> None:
    op.add_column("slot", sa.Column("group_session_id", sa.Uuid(), nullable=True))
    op.alter_column("slot", "appointment_id", nullable=True)
    op.create_foreign_key(
        op.f("fk__slot__clinic_id_group_session_id"),
        "slot",
        "group_session",
        ["clinic_id", "group_session_id"],
        ["clinic_id", "id"],
        ondelete="CASCADE",
    )
    op.create_check_constraint(
        op.f("ck__slot__is_of_one"), "slot", "num_nulls(appointment_id, group_session_id) = 1"
    )
    op.create_index(
        "ix__slot__group_session",
        "slot",
        ["clinic_id", "group_session_id"],
        postgresql_where=IN_A_SESSION,
    )


def _let_tasks_be(kinds: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.execute("ALTER TABLE task DROP CONSTRAINT taskkind")
    op.execute(f"ALTER TABLE task ADD CONSTRAINT taskkind CHECK (kind IN ({listed}))")
