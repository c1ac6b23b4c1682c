"""The visitor: a patient who followed a link, and whether they have shown who they are.

The link's token is looked up once, by its hash, and then leaves the address bar: a signed
cookie remembers the link for a quarter of an hour, and whether the date of birth was right.
"""

from dataclasses import dataclass
from datetime import date, datetime

from flask import Response, current_app, request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from models import Clinic, Patient, PatientLink, enter_clinic
from notifications import links
from scheduler import tenants

MINUTES = 15
"""How long a link is remembered after it was last used."""

TRIES = 5
"""Wrong dates of birth before a link shuts."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is here, as far as we know."""

    link: PatientLink
    clinic: Clinic
    is_known: bool
    """The date of birth was right."""


def find(session: Session, digest: bytes, now: datetime) -> tuple[PatientLink, Clinic] | None:
    """Find a link that still stands, and enter its clinic. None for any other.

    None too while the clinic's own doors are shut.
    """
    session.execute(_TELL, {"token": digest.hex()})
    link = session.scalar(select(PatientLink).where(PatientLink.token_hash == digest))
    if link is None or link.revoked_at is not None or link.expires_at <= now:
        return None
    enter_clinic(session, link.clinic_id)
    if not tenants.is_open(session):
        return None
    return link, session.scalars(select(Clinic)).one()


def remembered(session: Session, now: datetime) -> Visitor | None:
    """Who the request's cookie remembers. None for nobody, or if the link has closed since."""
    try:
        told = _serializer().loads(request.cookies.get(cookie_name(), ""), max_age=MINUTES * 60)
    except BadSignature:
        return None
    found = find(session, bytes.fromhex(told["link"]), now)
    return None if found is None else Visitor(*found, is_known=told["known"])


def remember(response: Response, digest: bytes, *, known: bool) -> Response:
    """Remember the link, and whether the visitor is known, for a while from now."""
    response.set_cookie(
        cookie_name(),
        _serializer().dumps({"link": digest.hex(), "known": known}),
        max_age=MINUTES * 60,
        secure=_secure(),
        httponly=True,
        samesite="Lax",
        path="/",
    )
    return response


def prove(session: Session, visitor: Visitor, born: date | None) -> bool:
    """Check a date of birth; a wrong one costs a try. False too once the tries are used up.

    One at a time: of many at once each costs its try.
    """
    session.refresh(visitor.link, with_for_update=True)
    if visitor.link.tries >= TRIES:
        return False
    expected = session.scalars(
        select(Patient.birth_date).where(Patient.id == visitor.link.patient_id)
    ).one()
    if born == expected:
        return True
    session.execute(
        update(PatientLink)
        .where(PatientLink.id == visitor.link.id)
        .values(tries=PatientLink.tries + 1)
    )
    session.flush()
    session.refresh(visitor.link)
    return False


def csrf(visitor: Visitor) -> str:
    """What a form of this visitor carries, so that no other site can send it."""
    return _serializer("form").dumps(visitor.link.token_hash.hex())


def is_own_form(visitor: Visitor, told: str) -> bool:
    """Whether `told` is what a form of this visitor carries."""
    try:
        loaded = _serializer("form").loads(told, max_age=MINUTES * 60)
    except BadSignature:
        return False
    return bool(loaded == visitor.link.token_hash.hex())


def cookie_name() -> str:
    """`__Host-` pins the cookie to this host over TLS; browsers refuse it without."""
    return "__Host-afterglow-visit" if _secure() else "afterglow-visit"


def digest_of(token: str) -> bytes:
    """The hash under which a token is kept."""
    return links.digest(token)


def _secure() -> bool:
    return bool(current_app.config["SECURE"])


def _serializer(salt: str = "visit") -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.config["SECRET_KEY"], salt=f"patient-{salt}")


_TELL = text("SELECT set_config('afterglow.token', :token, true)")
