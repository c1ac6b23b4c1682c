"""Who may come in: API keys, patients' links, and the answers kept for repeated requests."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Index, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Tenanted, of_clinic, references, unique_in_clinic
from models.sealed import sealed_json
from models.vocabulary import Role


class ApiKey(Tenanted):
    """A caller of the API. The key itself is shown once; only its SHA-256 is stored.

    The key has 256 random bits, so a slow hash would add nothing.
    """

    __tablename__ = "api_key"

    name: Mapped[str]
    role: Mapped[Role]
    practitioner_id: Mapped[UUID | None]
    """The clinician behind it: what they may override follows from their qualifications."""
    prefix: Mapped[str]
    """The first characters, so that people can tell keys apart."""
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str] | None] = mapped_column(ARRAY(String))
    """Of what its role may do, that alone. None: all of it."""
    networks: Mapped[list[str]] = mapped_column(ARRAY(String), server_default=text("'{}'"))
    """From where alone it may be used (CIDR). Empty: from anywhere."""
    replaces: Mapped[UUID | None]
    """The key it was rotated from; until that one ends, both work."""
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_on: Mapped[date | None]
    """The last day, in UTC, on which it was used: nobody misses a key that is not."""
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        of_clinic(),
        references("practitioner_id", "practitioner"),
        references("replaces", "api_key"),
        unique_in_clinic("replaces"),  # it is rotated once; the next time its successor is
        # 256 random bits: unique across clinics gives no one away, and finds the clinic.
        UniqueConstraint("secret_hash", name="uq__api_key__secret_hash"),
        Index("ix__api_key__prefix", "prefix"),  # whose clinic hears of a key that does not work
    )


class Quota(Tenanted):
    """How many requests a caller, or all of a clinic, may still make: a token bucket."""

    __tablename__ = "quota"

    holder: Mapped[str]
    """The caller, by the id of its key or account. Empty: all of the clinic together."""
    tokens: Mapped[float]
    """How many there were `at` that moment; since then it has been filling."""
    at: Mapped[datetime]

    __table_args__ = (of_clinic(), unique_in_clinic("holder"))


class PatientLink(Tenanted):
    """A way in for one patient to one visit. Only the SHA-256 of its token is stored."""

    __tablename__ = "patient_link"

    appointment_id: Mapped[UUID]
    patient_id: Mapped[UUID]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    """Wrong dates of birth so far. Five shut the link."""
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        references("appointment_id", "appointment"),
        references("patient_id", "patient"),
        UniqueConstraint("token_hash", name="uq__patient_link__token_hash"),
        Index("ix__patient_link__appointment", "clinic_id", "appointment_id"),
    )


class IdempotencyKey(Tenanted):
    """The answer to a POST, kept so that a repeated request gets it again."""

    __tablename__ = "idempotency_key"

    caller: Mapped[str]
    route: Mapped[str]
    key: Mapped[str]
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int]
    headers: Mapped[dict[str, Any]]
    body = sealed_json()
    expires_at: Mapped[datetime]

    __table_args__ = (of_clinic(), unique_in_clinic("caller", "route", "key"))
