"""Links: a patient's way in to one visit. The token is told once; only its hash is kept."""

import hashlib
import secrets
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7


def digest(token: str) -> bytes:
    """The form in which a token is kept: SHA-256. It has 256 random bits, so no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def mint(
    connection: Connection | Session,
    *,
    appointment_id: UUID,
    patient_id: UUID,
    expires_at: datetime,
) -> str:
    """Make a link to a visit and return its token, which is never seen again."""
    token = secrets.token_urlsafe(32)
    connection.execute(
        _MINT,
        {
            "id": uuid7(),
            "appointment": appointment_id,
            "patient": patient_id,
            "token_hash": digest(token),
            "expires_at": expires_at,
        },
    )
    return token


def revoke(session: Connection | Session, appointment_id: UUID, now: datetime) -> None:
    """Close every link to a visit that was moved or cancelled; the next message has a new one."""
    session.execute(_REVOKE, {"appointment": appointment_id, "now": now})


_MINT = text(
    """
    INSERT INTO patient_link (id, appointment_id, patient_id, token_hash, expires_at)
    VALUES (:id, :appointment, :patient, :token_hash, :expires_at)
    """
)

_REVOKE = text(
    "UPDATE patient_link SET revoked_at = :now "
    "WHERE appointment_id = :appointment AND revoked_at IS NULL"
)
