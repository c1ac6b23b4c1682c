"""Who works here: staff accounts, how each proves who they are, and where they are signed in.

Of every secret that is told to somebody only a hash is kept; a session, an invitation and a
recovery code have so many random bits that SHA-256 is enough, a password gets argon2id.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, references, unique_in_clinic
from models.sealed import address, sealed, sealed_or_none
from models.vocabulary import TokenPurpose, UserStatus


class UserAccount(Tenanted):
    """Somebody who works at the clinic and signs in (FHIR Person)."""

    __tablename__ = "user_account"

    email = sealed(address)
    """Where they are written to, and what they sign in with; always case-folded."""
    name: Mapped[str]
    roles: Mapped[list[str]] = mapped_column(ARRAY(String))
    """A set of `Role`: they may do what any of them may."""
    practitioner_id: Mapped[UUID | None]
    """The clinician that they are: what they may override follows from their qualifications."""
    status: Mapped[UserStatus]
    password_hash: Mapped[str | None]
    totp_secret = sealed_or_none()
    """What their authenticator app shares with us."""
    totp_step: Mapped[int | None] = mapped_column(BigInteger)
    """The time step of the last code that was taken: each is taken once."""
    accepted_at: Mapped[datetime | None]
    """When they took their invitation up. None: not yet, or before this was noted."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        of_clinic(),
        references("practitioner_id", "practitioner"),
        unique_in_clinic("email_index"),
        CheckConstraint("cardinality(roles) > 0", name="has_a_role"),
        CheckConstraint(
            "status <> 'active' OR password_hash IS NOT NULL OR accepted_at IS NOT NULL",
            name="has_come",
        ),
    )


class UserSession(Tenanted):
    """One browser in which somebody is signed in, or half: until `factor_at` it opens no door."""

    __tablename__ = "user_session"

    user_id: Mapped[UUID]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    seen_at: Mapped[datetime]
    """To the minute: a row is not written for every click."""
    expires_at: Mapped[datetime]
    """The end, however busy they are."""
    factor_at: Mapped[datetime | None]
    """When a second factor was last given."""
    ended_at: Mapped[datetime | None]
    address: Mapped[str | None]
    agent: Mapped[str]
    """What the browser calls itself, so that people can tell their sessions apart."""
    totp_pending = sealed_or_none()
    """A secret that is being set up, until a code shows that the app has it."""
    challenge: Mapped[bytes | None] = mapped_column(LargeBinary)
    """What a passkey is asked to sign next, once."""

    __table_args__ = (
        references("user_id", "user_account"),
        UniqueConstraint("token_hash", name="uq__user_session__token_hash"),
        Index("ix__user_session__user", "clinic_id", "user_id"),
    )


class AccountToken(Tenanted):
    """A link that lets its reader choose a password, once: an invitation or a reset."""

    __tablename__ = "account_token"

    user_id: Mapped[UUID]
    purpose: Mapped[TokenPurpose]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]

    __table_args__ = (
        references("user_id", "user_account"),
        UniqueConstraint("token_hash", name="uq__account_token__token_hash"),
        Index("ix__account_token__user", "clinic_id", "user_id"),
    )


class RecoveryCode(Tenanted):
    """Stands in for a second factor that was lost, once."""

    __tablename__ = "recovery_code"

    user_id: Mapped[UUID]
    code_hash: Mapped[bytes] = mapped_column(LargeBinary)
    used_at: Mapped[datetime | None]

    __table_args__ = (
        references("user_id", "user_account"),
        unique_in_clinic("user_id", "code_hash"),
    )


class Passkey(Tenanted):
    """A key pair of which a device keeps the secret half, and shows it to this site alone."""

    __tablename__ = "passkey"

    user_id: Mapped[UUID]
    credential_id: Mapped[bytes] = mapped_column(LargeBinary)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str]
    """What its owner calls it."""
    used_at: Mapped[datetime | None]

    __table_args__ = (
        references("user_id", "user_account"),
        unique_in_clinic("credential_id"),
        Index("ix__passkey__user", "clinic_id", "user_id"),
    )


class SignInBegun(Tenanted):
    """A sign-in that goes by way of a device or of another site, until it comes back. Once."""

    __tablename__ = "sign_in_begun"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """Of what the browser keeps meanwhile: who comes back is who left."""
    way: Mapped[str]
    known: Mapped[dict[str, Any]]
    """What must come back with them."""
    expires_at: Mapped[datetime]

    __table_args__ = (
        of_clinic(),
        unique_in_clinic("token_hash"),
        Index("ix__sign_in_begun__expires", "clinic_id", "expires_at"),
    )


class IdentityProvider(Tenanted):
    """Another site that knows who somebody is, by OpenID Connect."""

    __tablename__ = "identity_provider"

    name: Mapped[str]
    issuer: Mapped[str]
    """Its address, as its tokens have it. It never changes: with a name it is who somebody is."""
    client_id: Mapped[str]
    client_secret = sealed()
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (of_clinic(), unique_in_clinic("issuer"))


class LinkedIdentity(Tenanted):
    """Who somebody is to another site. Never found by an address: those change hands."""

    __tablename__ = "linked_identity"

    user_id: Mapped[UUID]
    provider_id: Mapped[UUID]
    subject: Mapped[str]

    __table_args__ = (
        references("user_id", "user_account"),
        references("provider_id", "identity_provider"),
        unique_in_clinic("provider_id", "subject"),
        unique_in_clinic("user_id", "provider_id"),
    )


class SignInDelay(Tenanted):
    """How often something failed, and until when it is not tried again.

    What it is about (an account, an address) stands here as a hash.
    """

    __tablename__ = "sign_in_delay"

    subject: Mapped[bytes] = mapped_column(LargeBinary)
    failures: Mapped[int]
    until: Mapped[datetime]

    __table_args__ = (
        of_clinic(),
        unique_in_clinic("subject"),
        Index("ix__sign_in_delay__until", "clinic_id", "until"),
    )
