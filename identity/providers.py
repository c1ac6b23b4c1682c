"""Signing in by way of another site: OpenID Connect, with a code, PKCE, state and nonce.

Somebody is known by the issuer and its name for them, never by an address, and only once they
have linked the two: while they were signed in here, or as they followed their invitation and the
site vouched for the address that it was sent to. What the site says is believed if it is signed
by a key of the issuer, in a way that nobody can mistake for a shared secret's.

Sources: OpenID Connect Core 1.0, 3.1; RFC 7636 (PKCE); RFC 9207 (iss); RFC 8176 (amr).
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from identity import begun
from identity.asking import Exchange
from identity.sessions import FRESH
from models import IdentityProvider, LinkedIdentity, UserAccount
from models.vocabulary import UserStatus
from notifications.outside import Unreached
from scheduler.errors import NotFound, NotProven, Taken

WAY = "provider"
ALGORITHMS = ("RS256", "PS256", "ES256")
"""Only those whose key can sign for the issuer alone: no `none`, and no shared secret."""
LEEWAY = 60
"""Seconds that clocks may differ."""
MANY_FACTORS = "mfa"

_NO_ANSWER = (
    *(Unreached, JoseError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
)
"""What comes of reading what another site says, when it is not what it should be."""


@dataclass(frozen=True, slots=True)
class Site:
    """An issuer, as it describes itself."""

    authorize: str
    token: str
    keys: str
    takes_basic: bool


@dataclass(frozen=True, slots=True)
class Aim:
    """What somebody goes to another site for: to sign in, if nothing else is said."""

    link_to: UUID | None = None
    """Who is signed in, and wants to be linked."""
    invitation: UUID | None = None
    """The link by which somebody was invited, and follows."""
    anew: bool = False
    """Whether the site is to ask them who they are, even if it knows."""

    def told(self) -> Mapping[str, str | None]:
        """As it is kept meanwhile."""
        return {
            "link_to": None if self.link_to is None else str(self.link_to),
            "invitation": None if self.invitation is None else str(self.invitation),
        }

    @classmethod
    def of(cls, known: Mapping[str, str | None]) -> "Aim":
        """As it was kept."""
        link_to, invitation = known["link_to"], known.get("invitation")
        return cls(
            link_to=None if link_to is None else UUID(link_to),
            invitation=None if invitation is None else UUID(invitation),
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """Whom a site says that it has before it."""

    subject: str
    second_factor_at: datetime | None
    """When they gave a second factor there. None: they gave none."""
    email: str | None
    """Their address, if the site vouches for it."""
    aim: Aim


def active(session: Session) -> list[IdentityProvider]:
    """The sites by which people of the entered clinic may sign in."""
    found = select(IdentityProvider).where(IdentityProvider.is_active)
    return list(session.scalars(found.order_by(IdentityProvider.name)))


def linked(session: Session, user_id: UUID) -> list[IdentityProvider]:
    """Those by which somebody may sign in, also if one is not used now."""
    found = (
        select(IdentityProvider)
        .join(LinkedIdentity, LinkedIdentity.provider_id == IdentityProvider.id)
        .where(LinkedIdentity.user_id == user_id)
        .order_by(IdentityProvider.name, IdentityProvider.id)
    )
    return list(session.scalars(found))


def unlinked(session: Session, user_id: UUID) -> list[IdentityProvider]:
    """Those by which somebody does not sign in yet."""
    known = linked(session, user_id)
    return [one for one in active(session) if one not in known]


def one(session: Session, provider_id: UUID) -> IdentityProvider:
    """One of them. Refuses with `NotFound` any other."""
    for found in active(session):
        if found.id == provider_id:
            return found
    raise NotFound("There is no such way to sign in.")


@dataclass(frozen=True, slots=True)
class Flow:
    """What a sign-in by another site needs from outside."""

    exchange: Exchange
    back: str
    """The address to which the site sends people back."""
    now: datetime


def leave(session: Session, provider: IdentityProvider, flow: Flow, aim: Aim) -> tuple[str, str]:
    """Where somebody goes to, and the token by which their browser is known when it is back.

    Refuses with `NotProven` if the site does not say where, or calls itself by another name.
    """
    site = _discover(provider, flow.exchange)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    known = {
        "provider": str(provider.id),
        "state": state,
        "nonce": nonce,
        "verifier": verifier,
        **aim.told(),
    }
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": flow.back,
        "scope": "openid" if aim.invitation is None else "openid email",
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge.rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        **({"prompt": "login", "max_age": "0"} if aim.anew else {}),
    }
    joint = "&" if urlsplit(site.authorize).query else "?"
    token = begun.begin(session, WAY, known, flow.now)
    return f"{site.authorize}{joint}{urlencode(asked)}", token


def come_back(
    provider: IdentityProvider, known: Mapping[str, Any], told: Mapping[str, str], flow: Flow
) -> Seen:
    """Whom the site has sent back, and what was kept of them (`known`).

    Refuses with `NotProven` whatever does not fit together.
    """
    is_ours = secrets.compare_digest(told.get("state", "").encode(), known["state"].encode())
    if not is_ours or known["provider"] != str(provider.id):
        raise NotProven("This did not begin here. Please begin anew.")
    if told.get("iss", provider.issuer) != provider.issuer or not told.get("code"):
        raise NotProven("The other site let nobody in.")
    try:
        claims = _claims(provider, known, told["code"], flow)
    except _NO_ANSWER as error:
        raise NotProven("What the other site says cannot be trusted.") from error
    return Seen(
        subject=claims["sub"],
        second_factor_at=_second_factor(claims, flow.now),
        email=_email(claims),
        aim=Aim.of(known),
    )


def link(session: Session, provider: IdentityProvider, user: UserAccount, subject: str) -> None:
    """Let somebody sign in by that site from now on; one name there is one person here.

    Refuses with `Taken` a name that is somebody's, or a second one of the same site.
    """
    if _linked(session, provider, subject) is not None:
        raise Taken("That account of the other site belongs to somebody already.")
    if provider not in unlinked(session, user.id):
        raise Taken("You have an account of that site already.")
    session.add(
        LinkedIdentity(id=uuid7(), user_id=user.id, provider_id=provider.id, subject=subject)
    )
    session.flush()


def unlink(session: Session, provider_id: UUID, user_id: UUID) -> None:
    """Let somebody sign in by that site no more. Refuses with `NotFound` if they do not."""
    gone = delete(LinkedIdentity).where(
        LinkedIdentity.provider_id == provider_id, LinkedIdentity.user_id == user_id
    )
    if not session.execute(gone.returning(LinkedIdentity.id)).first():
        raise NotFound("You do not sign in by that site.")


def whose(session: Session, provider: IdentityProvider, subject: str) -> UserAccount:
    """Who of us that is. Refuses with `NotProven` whom nobody has linked, or who is closed."""
    user = _linked(session, provider, subject)
    if user is None or user.status is not UserStatus.ACTIVE:
        raise NotProven("Nobody here is linked with that account. Sign in, and link it first.")
    return user


def _linked(session: Session, provider: IdentityProvider, subject: str) -> UserAccount | None:
    return session.scalar(
        select(UserAccount)
        .join(LinkedIdentity, LinkedIdentity.user_id == UserAccount.id)
        .where(LinkedIdentity.provider_id == provider.id, LinkedIdentity.subject == subject)
    )


def _discover(provider: IdentityProvider, exchange: Exchange) -> Site:
    """How the issuer describes itself, at the address that follows from its name."""
    address = f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        told = json.loads(exchange(address, None, {}))
        if told["issuer"] != provider.issuer:
            raise NotProven("The other site calls itself by another name.")
        ways = told.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return Site(
            authorize=_web(told["authorization_endpoint"]),
            token=_web(told["token_endpoint"]),
            keys=_web(told["jwks_uri"]),
            takes_basic="client_secret_basic" in ways,
        )
    except _NO_ANSWER as error:
        raise NotProven("The other site cannot be reached now.") from error


def _claims(
    provider: IdentityProvider, known: Mapping[str, Any], code: str, flow: Flow
) -> Mapping[str, Any]:
    """Change the code for a token, and read the token if all of it is as it must be."""
    site = _discover(provider, flow.exchange)
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": flow.back,
        "code_verifier": known["verifier"],
    }
    headers = {}
    if site.takes_basic:
        both = f"{quote(provider.client_id, safe='')}:{quote(provider.client_secret, safe='')}"
        headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
    else:
        form |= {"client_id": provider.client_id, "client_secret": provider.client_secret}
    told = json.loads(flow.exchange(site.token, form, headers))
    keys = KeySet.import_key_set(json.loads(flow.exchange(site.keys, None, {})))
    token = jwt.decode(told["id_token"], keys, algorithms=ALGORITHMS)
    if token.header.get("typ", "JWT").upper() != "JWT":
        raise ValueError("a token of another kind")
    jwt.JWTClaimsRegistry(
        now=int(flow.now.timestamp()),
        leeway=LEEWAY,
        iss={"essential": True, "value": provider.issuer},
        aud={"essential": True, "value": provider.client_id},
        exp={"essential": True},
        iat={"essential": True},
        sub={"essential": True},
        nonce={"essential": True, "value": known["nonce"]},
    ).validate(token.claims)
    _refuse_odd(token.claims, provider.client_id)
    claims: Mapping[str, Any] = token.claims
    return claims


def _refuse_odd(claims: Mapping[str, Any], client_id: str) -> None:
    """What the claims must be besides; a token for several must say that it was given to us."""
    if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
        raise ValueError("not a name")
    if claims.get("azp", client_id) != client_id:
        raise ValueError("given to somebody else")
    if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and "azp" not in claims:
        raise ValueError("for several, and it does not say to whom it was given")


def _second_factor(claims: Mapping[str, Any], now: datetime) -> datetime | None:
    """When a second factor was given there; so long ago that none here is spared if unknown."""
    ways = claims.get("amr")
    if not isinstance(ways, list) or MANY_FACTORS not in ways:
        return None
    at = claims.get("auth_time")
    if not isinstance(at, int) or isinstance(at, bool) or not 0 < at <= now.timestamp() + LEEWAY:
        return now - 2 * FRESH
    return datetime.fromtimestamp(at, UTC)


def _email(claims: Mapping[str, Any]) -> str | None:
    """The address that the site has made sure of: it says so by `true`, and by nothing like it."""
    told = claims.get("email")
    return told if isinstance(told, str) and claims.get("email_verified") is True else None


def _web(told: str) -> str:
    if urlsplit(told).scheme not in {"https", "http"} or not urlsplit(told).hostname:
        raise ValueError("no web address")
    return told
