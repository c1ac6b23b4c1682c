"""Waitlist: who waits, times that became free, offers of them; and what a clinic sets about it.

Revision ID: 0010_waitlist
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.tenancy import guard, of_clinic, reference, worker

revision = "0010_waitlist"
down_revision = "0009_licences"
branch_labels = None
depends_on = None


KIND_COLUMNS = (
    ("message", "messagekind", "kind"),
    ("wording", "messagekind", "kind"),
    ("task", "message_kind_is_known", "message_kind"),
)
NEW_KINDS = ("offer-gone",)
NEW_MEANINGS = ("accept", "decline")

SETTINGS = (
    # column, default, its check
    ("offer_minutes", "30", "offer_is_real", "BETWEEN 5 AND 1440"),
    ("offers_at_once", "1", "offers_are_few", "BETWEEN 1 AND 50"),
    ("standby_hours", "24", "standby_is_near", "BETWEEN 0 AND 168"),
    ("standby_at_once", "5", "standby_are_few", "BETWEEN 1 AND 50"),
)
HELD = (
    "CASE status WHEN 'pending' THEN held_until IS NOT NULL"
    " WHEN 'proposed' THEN true ELSE held_until IS NULL END"
)
HELD_BEFORE = "(status = 'pending') = (held_until IS NOT NULL)"


def upgrade() -> None:
    """Add them."""
    _entries()
    _freed_times()
    _offers()
    guard("waitlist_entry", service_may="SELECT, INSERT, UPDATE", worker_may="SELECT, UPDATE")
    guard("freed_time", service_may="SELECT, INSERT, UPDATE", worker_may="SELECT, INSERT, UPDATE")
    guard("offer", service_may="SELECT, INSERT, UPDATE", worker_may="SELECT, INSERT, UPDATE")
    op.execute(f"GRANT INSERT ON appointment, slot TO {worker()}")
    for column, default, name, said in SETTINGS:
        op.add_column(
            "clinic",
            sa.Column(column, sa.Integer(), server_default=sa.text(default), nullable=False),
        )
        op.create_check_constraint(name, "clinic", f"{column} {said}")
    _held_means(HELD)
    for table, check, column in KIND_COLUMNS:
        _widen(table, check, column, NEW_KINDS)
    _widen("reply", "replymeaning", "meaning", NEW_MEANINGS)


def downgrade() -> None:
    """Take them away again, with what was said of offers and answered to them."""
    op.execute("UPDATE reply SET meaning = 'other' WHERE meaning IN ('accept', 'decline')")
    _narrow("reply", "replymeaning", "meaning", NEW_MEANINGS)
    for table, check, column in KIND_COLUMNS:
        op.execute(f"DELETE FROM {table} WHERE {column} = 'offer-gone'")
        _narrow(table, check, column, NEW_KINDS)
    op.execute(
        "DELETE FROM slot USING appointment a WHERE a.clinic_id = slot.clinic_id "
        "AND a.id = slot.appointment_id AND a.status = 'proposed'"
    )
    op.execute("UPDATE appointment SET held_until = NULL WHERE status = 'proposed'")
    _held_means(HELD_BEFORE)
    for column, _, _, _ in SETTINGS:
        op.drop_column("clinic", column)
    op.execute(f"REVOKE INSERT ON appointment, slot FROM {worker()}")
    for table in ("offer", "freed_time", "waitlist_entry"):
        op.drop_table(table)


def _entries() -> None:
    op.create_table(
        "waitlist_entry",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("course_step_id", sa.Uuid(), nullable=False),
        sa.Column("visit_id", sa.Uuid(), nullable=True),
        _instant("waiting_since"),
        sa.Column(
            "weekdays",
            postgresql.ARRAY(sa.SmallInteger()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("begin", sa.Time(), nullable=True),
        sa.Column("until", sa.Time(), nullable=True),
        _instant("earliest", nullable=True),
        _instant("latest", nullable=True),
        sa.Column("site_id", sa.Uuid(), nullable=True),
        sa.Column("practitioner_id", sa.Uuid(), nullable=True),
        sa.Column("standby", sa.Boolean(), nullable=False),
        _state("waitingstate", "waiting", "served", "withdrawn", "lapsed"),
        _instant("ended_at", nullable=True),
        sa.Column("asked_by", sa.String(), nullable=False),
        _version(),
        *of_clinic("waitlist_entry"),
        reference("waitlist_entry", "patient_id", "patient"),
        reference("waitlist_entry", "course_step_id", "course_step"),
        reference("waitlist_entry", "visit_id", "appointment"),
        reference("waitlist_entry", "site_id", "site"),
        reference("waitlist_entry", "practitioner_id", "practitioner"),
        _check(
            "waitlist_entry",
            "ended_unless_waiting",
            "(state = 'waiting') = (ended_at IS NULL)",
        ),
        _check("waitlist_entry", "earliest_comes_first", "earliest < latest"),
        _check("waitlist_entry", "hours_run_forward", "begin < until"),
    )
    op.create_index(
        "uq__waitlist_entry__waiting",
        "waitlist_entry",
        ["clinic_id", "course_step_id"],
        unique=True,
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("ix__waitlist_entry__patient", "waitlist_entry", ["clinic_id", "patient_id"])


def _freed_times() -> None:
    op.create_table(
        "freed_time",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        _instant("starts_at"),
        _instant("ends_at"),
        _instant("look_at", nullable=True),
        _version(),
        *of_clinic("freed_time"),
        reference("freed_time", "appointment_id", "appointment"),
        reference("freed_time", "site_id", "site"),
        _check("freed_time", "is_real", "starts_at < ends_at"),
    )
    op.create_index("ix__freed_time__look_at", "freed_time", ["clinic_id", "look_at"])


def _offers() -> None:
    op.create_table(
        "offer",
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("freed_time_id", sa.Uuid(), nullable=False),
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("assignments", postgresql.JSONB(), nullable=False),
        _instant("offered_at"),
        _instant("expires_at"),
        _state("offerstate", "standing", "accepted", "declined", "expired", "lost", "withdrawn"),
        _instant("settled_at", nullable=True),
        sa.Column("settled_by", sa.String(), nullable=True),
        sa.Column("visit_id", sa.Uuid(), nullable=True),
        _version(),
        *of_clinic("offer"),
        reference("offer", "entry_id", "waitlist_entry"),
        reference("offer", "patient_id", "patient"),
        reference("offer", "freed_time_id", "freed_time"),
        reference("offer", "appointment_id", "appointment"),
        reference("offer", "visit_id", "appointment"),
        sa.UniqueConstraint("clinic_id", "freed_time_id", "entry_id", name="uq__offer__once"),
        sa.UniqueConstraint(
            "clinic_id", "appointment_id", name=op.f("uq__offer__clinic_id_appointment_id")
        ),
        _check("offer", "settled_unless_standing", "(state = 'standing') = (settled_at IS NULL)"),
        _check("offer", "accepted_makes_a_visit", "(state = 'accepted') = (visit_id IS NOT NULL)"),
    )
    standing = sa.text("state = 'standing'")
    op.create_index(
        "uq__offer__one_at_a_time",
        "offer",
        ["clinic_id", "patient_id"],
        unique=True,
        postgresql_where=standing,
    )
    op.create_index("ix__offer__entry", "offer", ["clinic_id", "entry_id"])
    op.create_index(
        "ix__offer__expires_at", "offer", ["clinic_id", "expires_at"], postgresql_where=standing
    )


def _held_means(said: str) -> None:
    name = op.f("ck__appointment__held_while_pending")
    op.drop_constraint(name, "appointment")
    op.create_check_constraint(name, "appointment", said)


def _widen(table: str, check: str, column: str, codes: tuple[str, ...]) -> None:
    """Let a column of codes hold these as well, whatever it holds so far."""
    _recheck(table, check, column, [*_codes_of(table, check), *codes])


def _narrow(table: str, check: str, column: str, codes: tuple[str, ...]) -> None:
    _recheck(table, check, column, [one for one in _codes_of(table, check) if one not in codes])


def _codes_of(table: str, check: str) -> list[str]:
    found = op.get_bind().execute(
        sa.text(
            "SELECT array(SELECT (regexp_matches(pg_get_constraintdef(oid), '''([^'']+)''', 'g'))[1])"
            " FROM pg_constraint WHERE conname = :check AND conrelid = CAST(:table AS regclass)"
        ),
        {"check": check, "table": table},
    )
    codes: list[str] = found.scalar_one()
    return codes


def _recheck(table: str, check: str, column: str, codes: list[str]) -> None:
    told = ", ".join(f"'{code}'" for code in codes)
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {check}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({column} IN ({told}))")


def _instant(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _version() -> sa.Column[Any]:
    return sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False)


def _state(name: str, *codes: str) -> sa.Column[Any]:
    kind = sa.Enum(*codes, name=name, native_enum=False, create_constraint=True, length=32)
    return sa.Column("state", kind, nullable=False)


def _check(table: str, name: str, said: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(said, name=op.f(f"ck__{table}__{name}"))
