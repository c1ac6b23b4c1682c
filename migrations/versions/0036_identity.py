"""Identity: staff accounts, their sessions, and the messages that let them in.

Revision ID: 0036_identity
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations import codes
from migrations.tenancy import guard, of_clinic, reference, service

revision = "0036_identity"
down_revision = "0035_figures"
branch_labels = None
depends_on = None
phase = "expand"

KINDS = ("account-invitation", "password-reset", "account-changed")
KNOWN = "(SELECT decode(nullif(current_setting('afterglow.token', true), ''), 'hex'))"
"""What somebody has shown; who shows 256 random bits may see the row that they belong to."""
TOLD = "SELECT (clinic_id, id, email, name, status, version)"
"""What the worker needs to write to somebody: no secret is in it."""
CHANGED = "SELECT, INSERT, UPDATE, DELETE"


def upgrade() -> None:
    """Add the tables, the codes, and how long a session may be idle."""
    op.add_column(
        "clinic",
        sa.Column(
            "session_idle_minutes", sa.Integer(), server_default=sa.text("15"), nullable=False
        ),
    )
    op.create_check_constraint(
        op.f("ck__clinic__idle_is_short"), "clinic", "session_idle_minutes BETWEEN 5 AND 60"
    )
    _accounts()
    _sessions()
    _tokens()
    _codes_and_delays()
    _passkeys()
    _providers()
    for table in ("user_session", "account_token"):
        op.execute(
            f"CREATE POLICY by_token ON {table} FOR SELECT TO {service()} "
            f"USING (token_hash = {KNOWN})"
        )
    _only_clinic()
    codes.add("message", *KINDS)
    codes.add("recipient", "user")


def downgrade() -> None:
    """Take them away again."""
    codes.drop("recipient", "user")
    codes.drop("message", *KINDS)
    op.execute("DROP FUNCTION only_clinic")
    op.execute("DROP POLICY counted ON clinic")
    for table in (
        "linked_identity",
        "identity_provider",
        "sign_in_begun",
        "passkey",
        "sign_in_delay",
        "recovery_code",
        "account_token",
        "user_session",
        "user_account",
    ):
        op.drop_table(table)
    op.drop_constraint(op.f("ck__clinic__idle_is_short"), "clinic", type_="check")
    op.drop_column("clinic", "session_idle_minutes")


def _accounts() -> None:
    op.create_table(
        "user_account",
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("roles", sa.ARRAY(sa.String()), nullable=False),
        sa.Column("practitioner_id", sa.Uuid(), nullable=True),
        _coded("status", "userstatus", ("invited", "active", "disabled")),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("totp_secret", sa.String(), nullable=True),
        sa.Column("totp_step", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *of_clinic("user_account"),
        _clinic("user_account"),
        reference("user_account", "practitioner_id", "practitioner"),
        sa.UniqueConstraint("clinic_id", "email", name=op.f("uq__user_account__clinic_id_email")),
        sa.CheckConstraint("cardinality(roles) > 0", name=op.f("ck__user_account__has_a_role")),
        sa.CheckConstraint(
            "status <> 'active' OR password_hash IS NOT NULL",
            name=op.f("ck__user_account__can_sign_in"),
        ),
    )
    guard("user_account", service_may="SELECT, INSERT, UPDATE", worker_may=TOLD)


def _sessions() -> None:
    op.create_table(
        "user_session",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("factor_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("totp_pending", sa.String(), nullable=True),
        sa.Column("challenge", sa.LargeBinary(), nullable=True),
        *of_clinic("user_session"),
        reference("user_session", "user_id", "user_account"),
        sa.UniqueConstraint("token_hash", name="uq__user_session__token_hash"),
    )
    op.create_index("ix__user_session__user", "user_session", ["clinic_id", "user_id"])
    guard("user_session", service_may=CHANGED, worker_may="")


def _tokens() -> None:
    op.create_table(
        "account_token",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        _coded("purpose", "tokenpurpose", ("invitation", "reset")),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        *of_clinic("account_token"),
        reference("account_token", "user_id", "user_account"),
        sa.UniqueConstraint("token_hash", name="uq__account_token__token_hash"),
    )
    op.create_index("ix__account_token__user", "account_token", ["clinic_id", "user_id"])
    guard("account_token", service_may="SELECT, UPDATE", worker_may="INSERT")


def _codes_and_delays() -> None:
    op.create_table(
        "recovery_code",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        *of_clinic("recovery_code"),
        reference("recovery_code", "user_id", "user_account"),
        sa.UniqueConstraint(
            "clinic_id",
            "user_id",
            "code_hash",
            name=op.f("uq__recovery_code__clinic_id_user_id_code_hash"),
        ),
    )
    guard("recovery_code", service_may=CHANGED, worker_may="")
    op.create_table(
        "sign_in_delay",
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        *of_clinic("sign_in_delay"),
        _clinic("sign_in_delay"),
        sa.UniqueConstraint(
            "clinic_id", "subject", name=op.f("uq__sign_in_delay__clinic_id_subject")
        ),
    )
    op.create_index("ix__sign_in_delay__until", "sign_in_delay", ["clinic_id", "until"])
    guard("sign_in_delay", service_may=CHANGED, worker_may="")


def _passkeys() -> None:
    op.create_table(
        "passkey",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        *of_clinic("passkey"),
        reference("passkey", "user_id", "user_account"),
        sa.UniqueConstraint(
            "clinic_id", "credential_id", name=op.f("uq__passkey__clinic_id_credential_id")
        ),
    )
    op.create_index("ix__passkey__user", "passkey", ["clinic_id", "user_id"])
    guard("passkey", service_may=CHANGED, worker_may="")
    op.create_table(
        "sign_in_begun",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("way", sa.String(), nullable=False),
        sa.Column("known", JSONB(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        *of_clinic("sign_in_begun"),
        _clinic("sign_in_begun"),
        sa.UniqueConstraint(
            "clinic_id", "token_hash", name=op.f("uq__sign_in_begun__clinic_id_token_hash")
        ),
    )
    op.create_index("ix__sign_in_begun__expires", "sign_in_begun", ["clinic_id", "expires_at"])
    guard("sign_in_begun", service_may="SELECT, INSERT, DELETE", worker_may="")


def _providers() -> None:
    op.create_table(
        "identity_provider",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("client_secret", sa.String(), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *of_clinic("identity_provider"),
        _clinic("identity_provider"),
        sa.UniqueConstraint(
            "clinic_id", "issuer", name=op.f("uq__identity_provider__clinic_id_issuer")
        ),
    )
    guard("identity_provider", service_may="SELECT, INSERT, UPDATE", worker_may="")
    op.create_table(
        "linked_identity",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("provider_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        *of_clinic("linked_identity"),
        reference("linked_identity", "user_id", "user_account"),
        reference("linked_identity", "provider_id", "identity_provider"),
        sa.UniqueConstraint(
            "clinic_id",
            "provider_id",
            "subject",
            name=op.f("uq__linked_identity__clinic_id_provider_id_subject"),
        ),
        sa.UniqueConstraint(
            "clinic_id",
            "user_id",
            "provider_id",
            name=op.f("uq__linked_identity__clinic_id_user_id_provider_id"),
        ),
    )
    guard("linked_identity", service_may="SELECT, INSERT, DELETE", worker_may="")


def _only_clinic() -> None:
    """Where there is one clinic, its sign-in page needs no name; where there are more, none is told."""
    op.execute("CREATE POLICY counted ON clinic FOR SELECT TO CURRENT_USER USING (true)")
    op.execute(
        """
        CREATE FUNCTION only_clinic() RETURNS uuid
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_catalog, pg_temp AS $$
            SELECT CASE WHEN count(*) = 1 THEN (array_agg(clinic_id))[1] END FROM clinic
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION only_clinic FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION only_clinic TO {service()}")


def _clinic(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["clinic_id"], ["clinic.clinic_id"], name=op.f(f"fk__{table}__clinic_id")
    )


def _coded(column: str, name: str, known: tuple[str, ...]) -> sa.Column[str]:
    kind = sa.Enum(*known, name=name, native_enum=False, create_constraint=True, length=32)
    return sa.Column(column, kind, nullable=False)
