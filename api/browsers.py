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
from models import UserAccount
from scheduler.errors import NotOwnPage

HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


def user(session: Session, now: datetime) -> UserAccount | None:
    """The person behind the request's cookie; None without a whole session."""
    token = request.cookies.get(sessions.cookie_name(secure=current_app.config["SECURE"]))
    found = sessions.find(session, token, now) if token else None
    if found is None or not found.is_whole:
        return None
    if request.method not in HARMLESS:
        _refuse_unless_own(found)
    if sessions.touch(session, found, now):
        keep(session)
    g.signed_in = found
    return found.user


def keep(session: Session) -> None:
    """Commit what is nobody's act: that a try was counted, and who was seen."""
    session.commit()


def signed_in() -> SignedIn | None:
    """The session that the caller came by; None for a key."""
    found: SignedIn | None = g.get("signed_in")
    return found


def refuse_unless_fresh(now: datetime) -> None:
    """Refuse a person whose second factor is some minutes old. A key has none to give."""
    found = signed_in()
    if found is not None:
        found.refuse_unless_fresh(now)


def _refuse_unless_own(found: SignedIn) -> None:
    told = request.headers.get("X-CSRF-Token", "")
    if not secrets.compare_digest(told.encode(), found.csrf.encode()):
        raise NotOwnPage("Send the session's csrf_token along: X-CSRF-Token.")
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if not sessions.is_own_page(site, origin, current_app.config["PUBLIC_URL"]):
        raise NotOwnPage("This came from another site.")
