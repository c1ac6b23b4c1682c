"""Sign-ins that leave the page: by way of a device or of another site. Each comes back once."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from identity.sessions import digest
from models import SignInBegun
from scheduler.errors import NotProven

LASTS = timedelta(minutes=10)


def begin(session: Session, way: str, known: Mapping[str, Any], now: datetime) -> str:
    """Keep what must come back, and return the token by which the browser is known again."""
    session.execute(delete(SignInBegun).where(SignInBegun.expires_at < now))
    token = secrets.token_urlsafe(32)
    session.add(
        SignInBegun(
            id=uuid7(),
            token_hash=digest(token),
            way=way,
            known=dict(known),
            expires_at=now + LASTS,
        )
    )
    session.flush()
    return token


def take(session: Session, way: str, token: str, now: datetime) -> Mapping[str, Any]:
    """What was kept for the browser that shows this token, once. Refuses with `NotProven`."""
    known = session.scalar(
        delete(SignInBegun)
        .where(
            SignInBegun.way == way,
            SignInBegun.token_hash == digest(token),
            SignInBegun.expires_at > now,
        )
        .returning(SignInBegun.known)
    )
    if known is None:
        raise NotProven("This took too long, or was done before. Please begin anew.")
    found: Mapping[str, Any] = known
    return found
