"""Sessions: a browser in which somebody is signed in.

The cookie holds 256 random bits, the database their SHA-256. A session ends by itself when it
is idle or old, and at once by signing out, by a new password, by other roles, or with the
account. It gets a new token whenever it comes to be worth more.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import Clinic, Tenancy, UserAccount, UserSession
from models.vocabulary import TenancyStatus, UserStatus
from scheduler import tenants
from scheduler.errors import NotProven, StepUpNeeded

LASTS = timedelta(hours=12)
FRESH = timedelta(minutes=5)
"""So long after a second factor somebody may do what asks for one."""
SEEN_EVERY = timedelta(minutes=1)
KEPT = timedelta(days=30)
"""So long a session that has ended is kept."""


@dataclass(frozen=True, slots=True)
class Whence:
    """From where somebody comes."""

    address: str | None
    agent: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody, and the session by which we know them."""

    user: UserAccount
    session: UserSession
    csrf: str
    """What a page of ours sends along with everything that changes something."""
    status: TenancyStatus = TenancyStatus.ACTIVE
    """Of their clinic: whether its doors are open."""

    @property
    def is_whole(self) -> bool:
        """Whether the second factor was given: before that no door opens."""
        return self.session.factor_at is not None

    def is_fresh(self, now: datetime) -> bool:
        """Whether it was given within the last minutes."""
        given = self.session.factor_at
        return given is not None and now - given <= FRESH

    def refuse_unless_fresh(self, now: datetime) -> None:
        """Refuse with `StepUpNeeded` whose second factor was given too long ago."""
        if not self.is_fresh(now):
            raise StepUpNeeded("Give your second factor once more before you do this.")


def begin(session: Session, user: UserAccount, whence: Whence, now: datetime) -> tuple[Any, str]:
    """Begin a session, half until the second factor; returns it and its token.

    Refuses with `NotProven` if the account was changed since `user` was read: by a new password,
    say, whose owner has just ended every session there was. Refuses with `ClinicSuspended` whose
    clinic is.
    """
    refuse_unless_let_in(session, user.clinic_id)
    if session.scalar(_AS_READ, {"id": user.id, "version": user.version}) is None:
        raise NotProven("This account was changed just now. Please begin anew.")
    session.execute(
        delete(UserSession).where(
            UserSession.user_id == user.id, UserSession.expires_at < now - KEPT
        )
    )
    token = _new_token()
    begun = UserSession(
        id=uuid7(),
        user_id=user.id,
        token_hash=digest(token),
        seen_at=now,
        expires_at=now + LASTS,
        address=whence.address,
        agent=whence.agent[:200],
    )
    session.add(begun)
    session.flush()
    return begun, token


def refuse_unless_let_in(session: Session, clinic_id: UUID) -> None:
    """Refuse whose clinic is suspended; one that is closed lets people in, to take all out."""
    status = session.scalars(select(Tenancy.status).where(Tenancy.id == clinic_id)).one()
    tenants.refuse_unless_open(status, closed_too=True)


def complete(
    session: Session, signed_in: SignedIn, now: datetime, *, given_at: datetime | None = None
) -> str:
    """Note that a second factor was given, just now or earlier; returns the session's new token."""
    token = _new_token()
    signed_in.session.token_hash = digest(token)
    signed_in.session.factor_at = min(given_at or now, now)
    signed_in.session.seen_at = now
    signed_in.session.challenge = None
    session.flush()
    return token


def find(session: Session, token: str, now: datetime) -> SignedIn | None:
    """Who shows this token; their clinic is entered. None if the session has ended."""
    row = session.execute(_FIND, {"token": digest(token).hex()}).one_or_none()
    if row is None:
        return None
    session.info["clinic_id"] = row.clinic_id  # the statement has entered it already
    here, user, idle, status = session.execute(
        select(UserSession, UserAccount, Clinic.session_idle_minutes, Tenancy.status)
        .join(UserAccount, UserAccount.id == UserSession.user_id)
        .join(Clinic, Clinic.clinic_id == UserSession.clinic_id)
        .join(Tenancy, Tenancy.id == UserSession.clinic_id)
        .where(UserSession.id == row.id)
        .execution_options(populate_existing=True)
    ).one()
    ended = here.ended_at is not None or here.expires_at <= now
    if ended or here.seen_at + timedelta(minutes=idle) <= now or user.status != UserStatus.ACTIVE:
        return None
    return SignedIn(user, here, csrf_of(token), status)


def touch(session: Session, signed_in: SignedIn, now: datetime) -> bool:
    """Note that somebody is here, unless that was noted just before. Returns whether it was."""
    if now - signed_in.session.seen_at < SEEN_EVERY:
        return False
    session.execute(
        update(UserSession)
        .where(UserSession.id == signed_in.session.id, UserSession.seen_at < now)
        .values(seen_at=now)
    )
    return True


def end(session: Session, user_id: UUID, session_id: UUID, now: datetime) -> bool:
    """End one session of somebody. Returns whether there was one."""
    ended = session.execute(
        update(UserSession)
        .where(
            UserSession.user_id == user_id,
            UserSession.id == session_id,
            UserSession.ended_at.is_(None),
        )
        .values(ended_at=now)
        .returning(UserSession.id)
    )
    return ended.first() is not None


def end_here(session: Session, token: str, now: datetime) -> None:
    """End the session behind a token, if it is one of the entered clinic's."""
    session.execute(
        update(UserSession)
        .where(UserSession.token_hash == digest(token), UserSession.ended_at.is_(None))
        .values(ended_at=now)
    )


def end_all(session: Session, user_id: UUID, now: datetime, *, but: UUID | None = None) -> None:
    """End every session of somebody, but perhaps the one they are in."""
    ended = update(UserSession).where(
        UserSession.user_id == user_id, UserSession.ended_at.is_(None)
    )
    if but is not None:
        ended = ended.where(UserSession.id != but)
    session.execute(ended.values(ended_at=now))


def standing(user_id: UUID, now: datetime) -> Any:
    """The statement that finds somebody's sessions that have not ended."""
    idle = func.make_interval(0, 0, 0, 0, 0, Clinic.session_idle_minutes)
    return (
        select(UserSession)
        .join(Clinic, Clinic.clinic_id == UserSession.clinic_id)
        .where(
            UserSession.user_id == user_id,
            UserSession.ended_at.is_(None),
            UserSession.expires_at > now,
            UserSession.seen_at + idle > now,
        )
    )


def digest(token: str) -> bytes:
    """The form in which a token is kept."""
    return hashlib.sha256(token.encode()).digest()


def csrf_of(token: str) -> str:
    """What a page proves by that it is ours; nobody gets the token back out of it."""
    return hashlib.sha256(b"csrf " + token.encode()).hexdigest()


def cookie(token: str, *, secure: bool) -> dict[str, Any]:
    """How a browser keeps a token."""
    return {
        "key": cookie_name(secure=secure),
        "value": token,
        "secure": secure,
        "httponly": True,
        "samesite": "Lax",
        "path": "/",
    }


def cookie_name(*, secure: bool) -> str:
    """`__Host-` pins the cookie to this host over TLS; browsers refuse it without."""
    return "__Host-afterglow" if secure else "afterglow"


def is_own_page(site: str | None, origin: str | None, public_url: str) -> bool:
    """Whether a browser sends this from a page of ours, by its Sec-Fetch-Site or its Origin."""
    if site is not None:
        return site == "same-origin"
    parts = urlsplit(public_url)
    return origin == f"{parts.scheme}://{parts.netloc}"


def _new_token() -> str:
    return secrets.token_urlsafe(32)


_AS_READ = text("SELECT id FROM user_account WHERE id = :id AND version = :version FOR SHARE")
"""Whoever changes the account waits until the session is there, and ends it with the others."""

_FIND = text(
    """
    WITH told AS MATERIALIZED (SELECT set_config('afterglow.token', :token, true) AS token)
    SELECT known.*, set_config('afterglow.clinic', known.clinic_id::text, true),
           set_config('afterglow.part2', '', true)
      FROM told CROSS JOIN LATERAL (
          SELECT clinic_id, id FROM user_session
           WHERE token_hash = decode(told.token, 'hex') OFFSET 0
      ) AS known
    """
)
"""Shows the token, finds the session, and enters its clinic, in one step (see api/caller.py)."""
