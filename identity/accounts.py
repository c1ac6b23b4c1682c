"""Accounts: how people come to have one, change it, and lose it.

An invitation makes a new account and nothing else: an address that has one already is refused,
whatever its state. Links to choose a password go by mail alone, and are made as the mail is
written (notifications/gathering.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from identity import factors, passwords, sessions
from models import (
    AccountToken,
    Clinic,
    LinkedIdentity,
    Passkey,
    RecoveryCode,
    UserAccount,
    enter_clinic,
)
from models.vocabulary import MessageKind, Recipient, Role, TokenPurpose, UserStatus
from notifications import links, outbox
from notifications.outbox import Notice
from scheduler import facts
from scheduler.errors import Taken, Unfit, WrongStatus
from scheduler.permissions import Permission

INVITED_FOR = timedelta(days=3)
RESET_FOR = timedelta(hours=1)
TOLD_WITHIN = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Somebody who is to work here."""

    email: str
    name: str
    roles: Sequence[Role]
    practitioner_id: UUID | None = None


def folded(email: str) -> str:
    """An address as accounts are compared by."""
    return email.strip().casefold()


def invite(session: Session, told: Invitation, now: datetime) -> UserAccount:
    """Make an account and write to its owner. Refuses with `Taken` an address that has one."""
    email = folded(told.email)
    if by_email(session, email) is not None:
        raise Taken("Somebody has an account with this address already.")
    user = UserAccount(
        id=uuid7(),
        email=email,
        name=told.name,
        roles=sorted(set(told.roles)),
        practitioner_id=told.practitioner_id,
        status=UserStatus.INVITED,
        version=1,
    )
    session.add(user)
    session.flush()
    _write(session, user, MessageKind.ACCOUNT_INVITATION, INVITED_FOR, now)
    return user


def invite_again(session: Session, user: UserAccount, now: datetime) -> None:
    """Write once more to somebody who has not come yet; earlier links work no more."""
    if user.status is not UserStatus.INVITED:
        raise WrongStatus("Only who was invited and has not come yet is invited again.")
    _shut_links(session, user.id, now)
    user.version += 1
    session.flush()
    _write(session, user, MessageKind.ACCOUNT_INVITATION, INVITED_FOR, now)


def invite_first(session: Session, told: Invitation, now: datetime) -> UserAccount:
    """Invite the first who is to come to a clinic, anew or once more; links to others work no more.

    Refuses with `WrongStatus` once somebody has come, also in the same moment.
    """
    everybody = select(UserAccount).order_by(UserAccount.id).with_for_update()
    there = session.scalars(everybody, execution_options={"populate_existing": True}).all()
    if any(_has_come(one) or one.status is not UserStatus.INVITED for one in there):
        raise WrongStatus("This clinic has begun: its own admins invite, nobody from outside.")
    for one in there:
        _shut_links(session, one.id, now)
    known = by_email(session, told.email)
    if known is None:
        return invite(session, told, now)
    invite_again(session, known, now)
    return known


def change(session: Session, user: UserAccount, changes: Mapping[str, Any], now: datetime) -> None:
    """Change what somebody is called, is, and may do; other roles or a closed account end sessions.

    Nobody who has never come is made active (`WrongStatus`); the last admin stays one (`Unfit`).
    """
    before = (list(user.roles), user.status, user.practitioner_id)
    was_admin = _is_admin(user)
    for name, value in changes.items():
        setattr(user, name, sorted(set(value)) if name == "roles" else value)
    if user.status is UserStatus.ACTIVE and not _has_come(user):
        raise WrongStatus("Who has not taken up their invitation yet cannot be made active.")
    if user.status is UserStatus.INVITED and _has_come(user):
        raise WrongStatus("Who has come cannot be made somebody who has not.")
    user.version += 1
    session.flush()
    if (list(user.roles), user.status, user.practitioner_id) != before:
        if was_admin and not _is_admin(user):
            _refuse_without_admin(session, now)
        sessions.end_all(session, user.id, now)
    if user.status is UserStatus.DISABLED:
        _shut_links(session, user.id, now)


def by_email(session: Session, email: str) -> UserAccount | None:
    """The account of an address in the entered clinic."""
    return session.scalar(select(UserAccount).where(UserAccount.email.equals(session, email)))


def ask_for_password(session: Session, email: str, now: datetime) -> UUID | None:
    """Write to the owner of an active account how to choose a new password; nobody else hears.

    Nor does who signs in by another site and has no factor here: a mailbox would be all it takes.
    """
    user = by_email(session, email)
    if user is None or user.status is not UserStatus.ACTIVE:
        return None
    if user.password_hash is None and not factors.has_any(session, user):
        return None
    _write(session, user, MessageKind.PASSWORD_RESET, RESET_FOR, now)
    return user.id


def behind(session: Session, token: str, now: datetime) -> tuple[AccountToken, UserAccount] | None:
    """Whose link this is, if it still lets them choose a password; their clinic is entered."""
    session.execute(_TELL, {"token": links.digest(token).hex()})
    link = session.scalar(
        select(AccountToken).where(AccountToken.token_hash == links.digest(token))
    )
    if link is None or link.used_at is not None or link.expires_at <= now:
        return None
    enter_clinic(session, link.clinic_id)
    user = session.scalars(select(UserAccount).where(UserAccount.id == link.user_id)).one()
    return (link, user) if user.status is _STATUS[link.purpose] else None


def accept_elsewhere(
    session: Session, invitation_id: UUID, email: str | None, now: datetime
) -> UserAccount:
    """Let whom another site has shown take their invitation up, once, without a password.

    The site must vouch for the address that it was sent to. No other account is touched. Refuses
    with `Unfit`.
    """
    user = session.scalar(
        select(UserAccount)
        .join(AccountToken, AccountToken.user_id == UserAccount.id)
        .where(
            AccountToken.id == invitation_id,
            AccountToken.purpose == TokenPurpose.INVITATION,
            AccountToken.expires_at > now,
            UserAccount.status == UserStatus.INVITED,
        )
        .with_for_update(of=UserAccount)
    )
    if user is None or not session.execute(_USE, {"id": invitation_id, "now": now}).first():
        raise Unfit("This invitation does not work any more.")
    if email is None or folded(email) != user.email:
        raise Unfit("The other site does not vouch for the address that was invited.")
    user.status, user.accepted_at = UserStatus.ACTIVE, now
    user.version += 1
    session.flush()
    _shut_links(session, user.id, now)
    return user


def choose_password(session: Session, token: str, password: str, now: datetime) -> UserAccount:
    """Let the reader of a link choose a password, once. Every session of theirs ends."""
    found = behind(session, token, now)
    if found is None:
        raise Unfit("This link does not work any more.")
    link, user = found
    refuse_weak(session, user, password)
    if not session.execute(_USE, {"id": link.id, "now": now}).first():
        raise Unfit("This link does not work any more.")
    user.status, user.accepted_at = UserStatus.ACTIVE, user.accepted_at or now
    _set_password(session, user, password, now)
    if link.purpose is TokenPurpose.RESET:
        tell_of_change(session, user, now)
    return user


def change_password(
    session: Session, user: UserAccount, password: str, now: datetime, *, but: UUID
) -> None:
    """Let somebody who is signed in have another password; all their other sessions end."""
    refuse_weak(session, user, password)
    _set_password(session, user, password, now, but=but)
    tell_of_change(session, user, now)


def refuse_weak(session: Session, user: UserAccount, password: str) -> None:
    """Refuse a password that is short, common, or made of what is known of its owner."""
    clinic = session.scalars(select(Clinic.name).where(Clinic.clinic_id == user.clinic_id)).one()
    around = [user.name, user.email, clinic, "afterglow", "ketamine"]
    passwords.refuse_weak(password, around, shortest(session, user))


def shortest(session: Session, user: UserAccount) -> int:
    """How many characters a password of theirs has at least."""
    return passwords.SHORTEST if factors.has_any(session, user) else passwords.ALONE


def is_password(session: Session, user: UserAccount | None, password: str) -> bool:
    """Whether it is the password of an active account; kept anew if it was kept in an old way."""
    can = user is not None and user.status is UserStatus.ACTIVE
    kept = user.password_hash if user is not None and can else None
    if not passwords.is_right(password, kept) or user is None:
        return False
    if kept is not None and passwords.is_old(kept):
        user.password_hash = passwords.kept(password)
        session.flush()
    return True


def forget_factors(session: Session, user: UserAccount, now: datetime) -> None:
    """Let somebody who lost every second factor set one up anew. All their sessions end.

    Accounts of other sites that were linked are let go as well: each stood in for a factor.
    Who has no password, for they sign in by another site, is written to how to choose one.
    """
    user.totp_secret = None
    user.version += 1
    for kept in (RecoveryCode, Passkey, LinkedIdentity):
        session.execute(delete(kept).where(kept.user_id == user.id))
    session.flush()
    sessions.end_all(session, user.id, now)
    tell_of_change(session, user, now)
    if user.status is UserStatus.ACTIVE and user.password_hash is None:
        _write(session, user, MessageKind.PASSWORD_RESET, RESET_FOR, now)


def enrol(session: Session, user: UserAccount, secret: str, step: int) -> list[str]:
    """Keep the secret of an app that has just shown a code; returns new codes for its loss.

    Refuses with `Stale` if the account was changed since `user` was read: of two who set one up
    at the same time, the second would take the first one's place without its code.
    """
    facts.to_change(session, UserAccount, user.id, user.version)
    user.totp_secret, user.totp_step = secret, step
    user.version += 1
    session.flush()
    return factors.new_codes(session, user.id)


def tell_of_change(session: Session, user: UserAccount, now: datetime) -> None:
    """Write to somebody that how they sign in was changed, so that a thief is noticed."""
    if user.status is UserStatus.ACTIVE:
        _write(session, user, MessageKind.ACCOUNT_CHANGED, TOLD_WITHIN, now)


def _set_password(
    session: Session, user: UserAccount, password: str, now: datetime, but: UUID | None = None
) -> None:
    user.password_hash = passwords.kept(password)
    user.version += 1
    session.flush()
    _shut_links(session, user.id, now)
    sessions.end_all(session, user.id, now, but=but)


def _shut_links(session: Session, user_id: UUID, now: datetime) -> None:
    """Let no link to an account work any more, nor any letter leave that would bring one."""
    session.execute(
        update(AccountToken)
        .where(AccountToken.user_id == user_id, AccountToken.used_at.is_(None))
        .values(used_at=now)
    )
    outbox.take_back(session, user_id, now)


def _write(
    session: Session, user: UserAccount, kind: MessageKind, useful: timedelta, now: datetime
) -> None:
    outbox.notify(
        session,
        Notice(
            kind=kind,
            recipient=Recipient.USER,
            recipient_id=user.id,
            subject_id=user.id,
            occasion=f"{kind.value} {uuid7()}",
            due_at=now,
            not_after=now + useful,
        ),
        now,
    )


def _has_come(user: UserAccount) -> bool:
    return user.password_hash is not None or user.accepted_at is not None


def _is_admin(user: UserAccount) -> bool:
    return Role.ADMIN in user.roles and user.status is UserStatus.ACTIVE


def _refuse_without_admin(session: Session, now: datetime) -> None:
    """Refuse what would leave a clinic that people run without anybody who can invite.

    One at a time: of two admins who close each other's account the second sees the first gone.
    """
    session.execute(_ADMINS_LINE, {"clinic": str(session.info["clinic_id"])})
    if not session.scalar(_ADMINS, {"now": now, "may": Permission.USERS_MANAGE.value}):
        raise Unfit("Somebody must stay who is an admin and active, or a key of an admin.")


_STATUS = {
    TokenPurpose.INVITATION: UserStatus.INVITED,
    TokenPurpose.RESET: UserStatus.ACTIVE,
}
"""What an account must be for a link to do anything: an invitation touches none that exists."""

_TELL = text("SELECT set_config('afterglow.token', :token, true)")

_USE = text(
    "UPDATE account_token SET used_at = :now WHERE id = :id AND used_at IS NULL RETURNING id"
)

_ADMINS = text(
    """
    SELECT EXISTS (SELECT FROM user_account WHERE 'admin' = ANY(roles) AND status = 'active')
        OR EXISTS (SELECT FROM api_key
                    WHERE role = 'admin' AND revoked_at IS NULL
                      AND (expires_at IS NULL OR expires_at > :now)
                      AND (scopes IS NULL OR :may = ANY(scopes)))
    """
)
_ADMINS_LINE = text("SELECT pg_advisory_xact_lock(hashtextextended('admins ' || :clinic, 0))")
