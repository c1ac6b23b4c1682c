"""People: who of the staff is at a page, and what every page of theirs has in common."""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import Any

from flask import Response, current_app, g, make_response, redirect, request
from flask.typing import ResponseReturnValue
from itsdangerous import BadSignature, URLSafeSerializer

from identity import begun, sessions
from identity.sessions import SignedIn, Whence
from models import UserAccount, UserSession, db
from models.vocabulary import AuditOutcome, TenancyStatus
from scheduler import audit, doors
from scheduler.audit import Act
from scheduler.authority import Authority
from scheduler.doors import Asks, Door
from scheduler.errors import ClinicSuspended, NotOwnPage, Refusal, StepUpNeeded, TooManyTries
from web.forms import BadForm

View = Callable[..., ResponseReturnValue]

NOBODY = Authority("nobody")
"""Whoever has not shown yet who they are."""
AWAY_FOR = 600
"""Seconds that a sign-in may take which leaves the page."""
KNOWN_FOR = 365 * 24 * 3600
"""Seconds that a browser remembers who signed in."""


def seal(response: Response) -> Response:
    """Keep the page out of caches, indexes and frames; let nothing but our own load."""
    response.headers.update(
        {
            "Content-Security-Policy": (
                "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; "
                "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
            ),
            "Referrer-Policy": "same-origin",  # with none at all a form's Origin would be null
            "X-Robots-Tag": "noindex, nofollow",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
    )
    if current_app.config["SECURE"]:
        response.headers["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"
    return response


def asked_by(page: Callable[..., str]) -> Callable[[View], View]:
    """Show `page` again, with what is wrong, if the form that it asks with is refused.

    What is sent must come from a page of ours. The page gets `problem` and the address's parts.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(**parts: Any) -> ResponseReturnValue:
            try:
                if not _is_ours():
                    raise NotOwnPage("This came from another site. Please try once more.")
                return view(**parts)
            except StepUpNeeded:
                db.session.rollback()
                return redirect("/sign-in/code", 303)
            except (BadForm, Refusal) as refusal:
                db.session.rollback()
                told = refusal.detail if isinstance(refusal, Refusal) else str(refusal)
                answer = make_response(page(problem=told, **parts), _status(refusal))
                if isinstance(refusal, TooManyTries):
                    answer.headers["Retry-After"] = str(refusal.facts["retry_after"])
                return answer

        return guarded

    return decorate


def signed_in(view: View) -> View:
    """Let in who is signed in, also half; others go and sign in. What they send must be theirs."""

    @wraps(view)
    def guarded(**parts: Any) -> ResponseReturnValue:
        token = request.cookies.get(sessions.cookie_name(secure=_secure()))
        found = sessions.find(db.session(), token, now()) if token else None
        if found is None or found.status is TenancyStatus.SUSPENDED:
            return redirect("/sign-in", 303)
        g.here = found
        if request.method == "POST" and not _is_own_form(found):
            return redirect("/account", 303)
        if sessions.touch(db.session(), found, now()):
            keep()
        return view(**parts)

    return doors.mark(guarded, Door(Asks.PASSWORD))


def wholly(view: View) -> View:
    """Let in who has given their second factor; others go and give it."""

    @signed_in
    @wraps(view)
    def guarded(**parts: Any) -> ResponseReturnValue:
        if not here().is_whole:
            return redirect("/sign-in/code", 303)
        return view(**parts)

    return doors.mark(guarded, Door(Asks.SESSION))


def here() -> SignedIn:
    """Who is at the page, as `signed_in` found them."""
    found: SignedIn = g.here
    return found


def keep() -> None:
    """Commit what is nobody's act: that a try was counted, what is asked next, who was seen."""
    db.session.commit()


def done(what: str, user: UserAccount | None = None) -> None:
    """Commit what was done, with its line in the audit trail."""
    by = NOBODY if user is None else Authority(f"user:{user.id}")
    entity_id = None if user is None else user.id
    act = Act(action="execute", entity="user_account", entity_id=entity_id, facts={"what": what})
    audit.record(db.session(), by, act, now())
    db.session.commit()


def refused(what: str, user: UserAccount | None = None) -> None:
    """Commit that somebody was refused who may not be the `user` that they say they are."""
    act = Act(
        action="execute",
        entity="user_account",
        entity_id=None if user is None else user.id,
        facts={"what": what},
        outcome=AuditOutcome.DENIED,
    )
    audit.record(db.session(), NOBODY, act, now())
    db.session.commit()


def begin(user: UserAccount) -> tuple[UserSession, str]:
    """Begin a session of somebody's, and end the one that this browser has shown."""
    shown = request.cookies.get(sessions.cookie_name(secure=_secure()))
    if shown:
        sessions.end_here(db.session(), shown, now())
    return sessions.begin(db.session(), user, _whence(), now())


def let_in(response: Response, token: str) -> Response:
    """Have the browser keep the token of a session."""
    response.set_cookie(**sessions.cookie(token, secure=_secure()))
    return response


def let_out(response: Response) -> Response:
    """Have it forget it."""
    told = sessions.cookie("", secure=_secure())
    response.delete_cookie(
        told["key"], path="/", secure=told["secure"], httponly=True, samesite="Lax"
    )
    return response


def remember(response: Response, user: UserAccount) -> Response:
    """Have the browser know again who signed in here: strangers' failures are not theirs."""
    response.set_cookie(
        _known_name(),
        _serializer().dumps(
            {
                "clinic": str(user.clinic_id),
                "email": _digest(user.email),
                "browser": secrets.token_urlsafe(16),
            }
        ),
        max_age=KNOWN_FOR,
        secure=_secure(),
        httponly=True,
        samesite="Lax",
        path="/",
    )
    return response


def send_away(response: Response, token: str) -> Response:
    """Have the browser keep the token of a sign-in that leaves the page and comes back."""
    response.set_cookie(
        _away_name(),
        token,
        max_age=AWAY_FOR,
        secure=_secure(),
        httponly=True,
        samesite="Lax",
        path="/",
    )
    return response


@contextmanager
def taken_once(way: str) -> Iterator[Mapping[str, Any]]:
    """What was kept for the sign-in that comes back: gone for good, whatever is made of it within.

    Nothing of the database is held on the way: it may be another site that is asked. Who comes
    back without having left is refused with `NotProven`, and leaves no line: anybody could fill
    the trail so.
    """
    known = begun.take(db.session(), way, request.cookies.get(_away_name(), ""), now())
    keep()
    try:
        yield known
    except Refusal:
        db.session.rollback()
        refused("sign-in-refused")
        raise


def known(email: str) -> str | None:
    """What this browser is called, if the owner of the address signed in here before."""
    told = _known()
    return told["browser"] if told.get("email") == _digest(email) else None


def known_clinic() -> str | None:
    """The clinic that somebody signed in to in this browser."""
    return _known().get("clinic")


def _whence() -> Whence:
    return Whence(request.remote_addr, request.headers.get("User-Agent", ""))


def now() -> datetime:
    """The time of the request."""
    moment: datetime = current_app.config["CLOCK"]()
    return moment


def _status(refusal: Exception) -> int:
    if isinstance(refusal, TooManyTries):
        return 429
    return 403 if isinstance(refusal, NotOwnPage | ClinicSuspended) else 422


def _is_own_form(found: SignedIn) -> bool:
    told = request.form.get("form", "")
    return _is_ours() and secrets.compare_digest(told.encode(), found.csrf.encode())


def _is_ours() -> bool:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    return sessions.is_own_page(site, origin, current_app.config["PUBLIC_URL"])


def _known() -> dict[str, str]:
    try:
        told: dict[str, str] = _serializer().loads(request.cookies.get(_known_name(), ""))
    except BadSignature:
        return {}
    return told


def _known_name() -> str:
    return "__Host-afterglow-known" if _secure() else "afterglow-known"


def _away_name() -> str:
    return "__Host-afterglow-away" if _secure() else "afterglow-away"


def _digest(email: str) -> str:
    return hashlib.sha256(email.encode()).hexdigest()


def _serializer() -> URLSafeSerializer:
    return URLSafeSerializer(current_app.config["SECRET_KEY"], salt="known-browser")


def _secure() -> bool:
    return bool(current_app.config["SECURE"])
