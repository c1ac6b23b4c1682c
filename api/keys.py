"""API keys: made, shown once, and known again by their hash."""

import hashlib
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import ApiKey
from models.vocabulary import Role

LASTS = timedelta(days=365)
"""How long a key works unless it is revoked."""


def issue(
    session: Session, name: str, role: Role, practitioner_id: UUID | None, now: datetime
) -> tuple[ApiKey, str]:
    """Make a key for the entered clinic; returns it and its secret, which is never seen again."""
    prefix = f"ag_{secrets.token_hex(4)}"
    secret = f"{prefix}_{secrets.token_urlsafe(32)}"
    key = ApiKey(
        id=uuid7(),
        name=name,
        role=role,
        practitioner_id=practitioner_id,
        prefix=prefix,
        secret_hash=digest(secret),
        expires_at=now + LASTS,
        version=1,
    )
    session.add(key)
    session.flush()
    return key, secret


def digest(secret: str) -> bytes:
    """The form in which a key is kept: SHA-256. It has 256 random bits, so no slow hash."""
    return hashlib.sha256(secret.encode()).digest()
