"""API keys: made, shown once, and known again by their hash."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from uuid import UUID

from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from models import ApiKey
from models.vocabulary import Role
from scheduler.permissions import BUNDLES, SEES_ALL, Permission

LASTS = timedelta(days=365)
"""How long a key works at most."""

OVERLAP = timedelta(days=7)
"""How long a key that was rotated still works, unless it is revoked: time to change it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a key is for, and what it may be used for."""

    name: str
    role: Role
    practitioner_id: UUID | None = None
    scopes: Iterable[str] | None = None
    """Of what the role may do, that alone. None: all of it."""
    networks: Iterable[str] = ()
    """From where alone (CIDR). Empty: from anywhere."""
    expires_at: datetime | None = None
    """None: after `LASTS`."""


def issue(
    session: Session, name: str, role: Role, practitioner_id: UUID | None, now: datetime
) -> tuple[ApiKey, str]:
    """Make a key that may do all that its role may, from anywhere; see `issue_to`."""
    return issue_to(session, Holder(name, role, practitioner_id), now)


def issue_to(
    session: Session, holder: Holder, now: datetime, replaces: UUID | None = None
) -> tuple[ApiKey, str]:
    """Make a key for the entered clinic; returns it and its secret, which is never seen again."""
    prefix = f"ag_{secrets.token_hex(4)}"
    secret = f"{prefix}_{secrets.token_urlsafe(32)}"
    key = ApiKey(
        id=uuid7(),
        name=holder.name,
        role=holder.role,
        practitioner_id=holder.practitioner_id,
        prefix=prefix,
        secret_hash=digest(secret),
        scopes=None if holder.scopes is None else sorted(holder.scopes),
        networks=list(holder.networks),
        replaces=replaces,
        expires_at=holder.expires_at or now + LASTS,
        version=1,
    )
    session.add(key)
    session.flush()
    return key, secret


def rotate(session: Session, key: ApiKey, now: datetime) -> tuple[ApiKey, str]:
    """Make the key that takes the place of `key`. Both work until `key` ends, soon."""
    holder = Holder(
        key.name,
        key.role,
        key.practitioner_id,
        key.scopes,
        key.networks,
    )
    made = issue_to(session, holder, now, replaces=key.id)
    ends = now + OVERLAP
    key.expires_at = ends if key.expires_at is None else min(key.expires_at, ends)
    key.version += 1
    return made


def granted(role: Role, scopes: Iterable[str] | None) -> frozenset[Permission]:
    """What a key of this role may do, narrowed to `scopes`; also where the role lost some.

    `part2:read` comes with whatever takes seeing all.
    """
    held = BUNDLES[role] if scopes is None else BUNDLES[role] & frozenset(scopes)
    return held | {Permission.PART2_READ} if held & SEES_ALL else held


def is_from(address: str | None, networks: Iterable[str]) -> bool:
    """Whether a caller's address lies in one of `networks`; IPv4 written as IPv6 is IPv4.

    What is no address lies in none: a proxy may add a port, a socket of the machine has none.
    """
    try:
        told = ip_address(address or "")
    except ValueError:
        return False
    told = getattr(told, "ipv4_mapped", None) or told
    return any(told in ip_network(one) for one in networks)


def digest(secret: str) -> bytes:
    """The form in which a key is kept: SHA-256. It has 256 random bits, so no slow hash."""
    return hashlib.sha256(secret.encode()).digest()
