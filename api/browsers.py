"""Browsers: a person who signed in calls the API from a page, by the cookie of their session.

A cookie goes along with whatever a browser sends, also what another site made it send. So what
changes something counts only from a page of ours, which knows the session's token.
"""

import secrets
from datetime import datetime

from flask import current_app, g, request
from sqlalchemy.orm import Session

from identity import sessions
from identity.sessions import SignedIn
from scheduler.errors import NotOwnPage

HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


def found(session: Session, now: datetime) -> SignedIn | None:
    """Whose whole session the request's cookie is."""
    token = request.cookies.get(sessions.cookie_name(secure=current_app.config["SECURE"]))
    here = sessions.find(session, token, now) if token else None
    if here is None or not here.is_whole:
        return None
    if request.method not in HARMLESS:
        _refuse_unless_own(here)
    if sessions.touch(session, here, now):
        keep(session)
    g.signed_in = here
    return here


def keep(session: Session) -> None:
    """Commit what is nobody's act: that a try was counted, and who was seen."""
    session.commit()


def signed_in() -> SignedIn | None:
    """The session that the caller came by; None for a key."""
    here: SignedIn | None = g.get("signed_in")
    return here


def refuse_unless_fresh(now: datetime) -> None:
    """Refuse a person whose second factor is some minutes old. A key has none to give."""
    here = signed_in()
    if here is not None:
        here.refuse_unless_fresh(now)


def _refuse_unless_own(here: SignedIn) -> None:
    told = request.headers.get("X-CSRF-Token", "")
    if not secrets.compare_digest(told.encode(), here.csrf.encode()):
        raise NotOwnPage("Send the session's csrf_token along: X-CSRF-Token.")
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if not sessions.is_own_page(site, origin, current_app.config["PUBLIC_URL"]):
        raise NotOwnPage("This came from another site.")
