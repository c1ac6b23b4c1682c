"""Second factors: codes of an authenticator app (RFC 6238), and what stands in for a lost one."""

import hashlib
import secrets
from datetime import datetime
from uuid import UUID

import pyotp
import segno
from sqlalchemy import delete, exists, select, text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Passkey, RecoveryCode, UserAccount
from scheduler.errors import NotProven

STEP = 30
"""Seconds."""
CODES = 10
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without what looks alike."""


def new_secret() -> str:
    """What an app and we are to share."""
    return pyotp.random_base32()


def picture(secret: str, email: str, clinic: str) -> str:
    """The same for a telephone's camera, as SVG."""
    told = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=clinic)
    return segno.make(told, error="m").svg_inline(scale=5, border=4, dark="#000", light="#fff")


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """The time step whose code this is: this one, the last or the next."""
    told = code.replace(" ", "")
    here = int(now.timestamp()) // STEP
    totp = pyotp.TOTP(secret)
    right = [
        step
        for step in (here - 1, here, here + 1)
        if secrets.compare_digest(totp.at(step * STEP).encode(), told.encode())
    ]
    return max(right, default=None)


def has_any(session: Session, user: UserAccount) -> bool:
    """Whether somebody has a second factor here: an app, or a passkey."""
    keys = select(exists().where(Passkey.user_id == user.id))
    return user.totp_secret is not None or bool(session.scalar(keys))


def take(session: Session, user: UserAccount, code: str, now: datetime) -> None:
    """Take a code of the app, or one for its loss, once. Refuses with `NotProven`."""
    told = code.strip().lower()
    if user.totp_secret is not None and (step := step_of(user.totp_secret, told, now)) is not None:
        if session.execute(_TAKE_STEP, {"user": user.id, "step": step}).first():
            return
    elif session.execute(
        _TAKE_CODE, {"user": user.id, "hash": _digest(user.id, told), "now": now}
    ).first():
        return
    raise NotProven("This code is not right, or was used before. Wait for the next one.")


def new_codes(session: Session, user_id: UUID) -> list[str]:
    """Make codes for the loss of the second factor; those made before work no more."""
    session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    codes = ["-".join(_letters(4) for _ in range(4)) for _ in range(CODES)]
    session.add_all(
        RecoveryCode(id=uuid7(), user_id=user_id, code_hash=_digest(user_id, code))
        for code in codes
    )
    session.flush()
    return codes


def _letters(number: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(number))


def _digest(user_id: UUID, code: str) -> bytes:
    """79 random bits, so no slow hash."""
    return hashlib.sha256(user_id.bytes + code.replace("-", "").replace(" ", "").encode()).digest()


_TAKE_STEP = text(
    "UPDATE user_account SET totp_step = :step "
    "WHERE id = :user AND (totp_step IS NULL OR totp_step < :step) RETURNING id"
)
_TAKE_CODE = text(
    "UPDATE recovery_code SET used_at = :now "
    "WHERE user_id = :user AND code_hash = :hash AND used_at IS NULL RETURNING id"
)
