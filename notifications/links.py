"""Links: a patient's way in to one visit, a user's to their account.

The token is told once; only its hash is kept.
"""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import psycopg
from itsdangerous import BadSignature, Signer
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models.vocabulary import TokenPurpose


@dataclass(frozen=True, slots=True)
class New:
    """A link to be made."""

    appointment_id: UUID
    patient_id: UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AccountLink:
    """A link to an account, to be made."""

    user_id: UUID
    purpose: TokenPurpose
    expires_at: datetime


def digest(token: str) -> bytes:
    """The form in which a token is kept: SHA-256. It has 256 random bits, so no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def mint(connection: psycopg.Connection[Any], links: Sequence[New]) -> list[str]:
    """Make links to visits and return their tokens, which are never seen again."""
    tokens = [secrets.token_urlsafe(32) for _ in links]
    if links:
        connection.execute(
            _MINT,
            {
                "id": [uuid7() for _ in links],
                "appointment": [link.appointment_id for link in links],
                "patient": [link.patient_id for link in links],
                "token_hash": [digest(token) for token in tokens],
                "expires_at": [link.expires_at for link in links],
            },
        )
    return tokens


def mint_account(connection: psycopg.Connection[Any], link: AccountLink) -> str:
    """Make a link by which somebody chooses a password, and return its token."""
    token = secrets.token_urlsafe(32)
    connection.execute(
        _MINT_ACCOUNT,
        {
            "id": uuid7(),
            "user": link.user_id,
            "purpose": link.purpose.value,
            "token_hash": digest(token),
            "expires_at": link.expires_at,
        },
    )
    return token


def revoke(session: Connection | Session, appointment_id: UUID, now: datetime) -> None:
    """Close every link to a visit that was moved or cancelled; the next message has a new one."""
    session.execute(_REVOKE, {"appointment": appointment_id, "now": now})


def unsubscribe_token(secret: str, clinic_id: UUID, patient_id: UUID) -> str:
    """A token that stops a patient's e-mails and can do nothing else. It needs no storage."""
    return _sealed(_signer(secret, "unsubscribe"), clinic_id, patient_id)


def unsubscriber(secret: str, token: str) -> tuple[UUID, UUID] | None:
    """The clinic and the patient of such a token. None if it is not one."""
    return _opened(_signer(secret, "unsubscribe"), token)


def escort_token(secret: str, clinic_id: UUID, escort_id: UUID) -> str:
    """A token by which an escort says that they will come; of one visit, and nothing else."""
    return _sealed(_signer(secret, "escort"), clinic_id, escort_id)


def escort(secret: str, token: str) -> tuple[UUID, UUID] | None:
    """The clinic and the escort of such a token. None if it is not one."""
    return _opened(_signer(secret, "escort"), token)


def _sealed(signer: Signer, clinic_id: UUID, row_id: UUID) -> str:
    told = base64.urlsafe_b64encode(clinic_id.bytes + row_id.bytes).rstrip(b"=")
    return signer.sign(told).decode()


def _opened(signer: Signer, token: str) -> tuple[UUID, UUID] | None:
    try:
        told = base64.urlsafe_b64decode(signer.unsign(token) + b"==")
        return UUID(bytes=told[:16]), UUID(bytes=told[16:])
    except (BadSignature, ValueError):
        return None


@lru_cache(maxsize=8)
def _signer(secret: str, purpose: str) -> Signer:
    return Signer(secret, salt=purpose, digest_method=hashlib.sha256, key_derivation="hmac")


_MINT = """
    INSERT INTO patient_link (id, appointment_id, patient_id, token_hash, expires_at)
    SELECT * FROM unnest(%(id)s::uuid[], %(appointment)s::uuid[], %(patient)s::uuid[],
                         %(token_hash)s::bytea[], %(expires_at)s::timestamptz[])
"""

_MINT_ACCOUNT = """
    INSERT INTO account_token (id, user_id, purpose, token_hash, expires_at)
    VALUES (%(id)s, %(user)s, %(purpose)s, %(token_hash)s, %(expires_at)s)
"""

_REVOKE = text(
    "UPDATE patient_link SET revoked_at = :now "
    "WHERE appointment_id = :appointment AND revoked_at IS NULL"
)
