"""Who is calling, at what time, and whether this door is theirs."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from functools import wraps
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
from flask import abort, current_app, g, request
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from werkzeug.exceptions import HTTPException

from api import browsers, keys, quota, trail
from api.describing import describe
from api.errors import TRANSIENT, BadRequest, cause, status_of
from models import Clinic, Qualification, UserAccount, db, hide_part2
from models.vocabulary import Role
from scheduler import audit, doors, facts, tenants
from scheduler.audit import Act
from scheduler.authority import Authority
from scheduler.doors import Asks, Door
from scheduler.errors import NotProven, Refusal
from scheduler.permissions import (
    ABOUT_ALL,
    BUNDLES,
    BY_GLASS,
    WHEN_CLOSED,
    Permission,
    may_give,
)

View = Callable[..., Any]

TRIES = 3
"""How often a request is begun anew that PostgreSQL ended for another's sake."""


def requires(permission: Permission, *, step_up: bool = False) -> Callable[[View], View]:
    """Let callers in who may do this; 401 without a good key, 403 without the permission.

    `step_up`: a person must have given their second factor within the last minutes.
    What takes a clinician's licence is asked where it is done, beside this. What the door shows
    is on the audit trail before it leaves, and so is whoever was turned away.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            left = TRIES
            while True:
                try:
                    _let_in(permission, step_up)
                    answer = view(*args, **kwargs)
                    _note_seen(permission)
                    return answer
                except (DBAPIError, psycopg.Error) as error:
                    db.session.rollback()
                    left -= 1
                    if not left or not isinstance(cause(error), TRANSIENT):
                        raise
                except (HTTPException, Refusal, BadRequest) as refusal:
                    _note_end(permission, refusal)
                    raise

        guarded.permission = permission  # type: ignore[attr-defined]  # tests read it
        guarded.step_up = step_up  # type: ignore[attr-defined]
        doors.mark(guarded, Door(Asks.PERMISSION, permission))
        describe(guarded, permission=permission, step_up=step_up)
        return guarded

    return decorate


def _note_seen(permission: Permission) -> None:
    act = trail.seen(permission)
    if act is not None:
        commit(act)


def _note_end(permission: Permission, refusal: HTTPException | Refusal | BadRequest) -> None:
    """Of what ended otherwise: nothing new is something seen, nothing at all somebody sent away."""
    status = status_of(refusal)
    if status == NOTHING_NEW:
        _note_seen(permission)
    elif status in TURNED_AWAY or isinstance(refusal, NotProven):
        trail.turned_away(g.get("authority"), permission, status, now())


NOTHING_NEW = 304
TURNED_AWAY = frozenset({401, 403, 404})


_OF_A_TRY = (
    *("etag", "idempotency", "authority", "status", "on_trail", "shown", "glass", "signed_in"),
)
"""What is found out anew when a request is begun anew."""


def _let_in(permission: Permission, step_up: bool) -> None:
    for name in _OF_A_TRY:
        g.pop(name, None)
    trail.note_origin(permission)
    g.authority = _authority(db.session())
    if g.authority is None:
        abort(401)
    quota.spend(db.session(), db.session().info["clinic_id"], g.authority.caller)
    tenants.refuse_unless_open(g.status, closed_too=permission in WHEN_CLOSED)
    _look_at_leave(permission)
    if step_up:
        browsers.refuse_unless_fresh(now())


def _look_at_leave(permission: Permission) -> None:
    """Turn away who may not; hide patients under 42 CFR Part 2 from who may not see them.

    What shows nothing about patients, free times and figures, takes all into account; in an
    emergency anybody may be opened.
    """
    may = g.authority.may
    hide_part2(db.session(), hidden=False)
    if may(permission) and may(Permission.PART2_READ):
        return
    if not (_by_glass(permission) or may(permission)):
        abort(403)
    hides = permission not in ABOUT_ALL and not g.authority.may(Permission.PART2_READ)
    hide_part2(db.session(), hidden=hides)


def _by_glass(permission: Permission) -> bool:
    """Whether an emergency opens this door: to read, of the one patient that was named."""
    who: Authority = g.authority
    if request.method != "GET" or permission not in BY_GLASS:
        return False
    if not who.may(Permission.BREAK_GLASS_ASK):
        return False
    about = trail.subject(permission)
    if about.entity_id is None or about.patient_id is None:
        return False
    glass = facts.open_glass(db.session(), who.name, about.patient_id, now())
    if glass is None:
        return False
    g.glass = glass.id
    g.authority = replace(who, permissions=who.permissions | BY_GLASS)
    return True


def refuse_what_is_hidden(model: Any, row_id: UUID | None) -> None:
    """Refuse with `NotFound` what the caller may not see, at a door that takes all into account."""
    if row_id is not None and not by().may(Permission.PART2_READ):
        hide_part2(db.session(), hidden=True)
        facts.one(db.session(), model, row_id)
        hide_part2(db.session(), hidden=False)


def by() -> Authority:
    """The caller that `requires` let in."""
    authority: Authority = g.authority
    return authority


def refuse_to_give(given: frozenset[Permission]) -> None:
    """Refuse with 403 a caller that was narrowed to let others do more than it may itself."""
    if not may_give(by().permissions, given):
        abort(403)


def now() -> datetime:
    """The time of the request, aware. Views pass it inward; rules never ask."""
    if "now" not in g:
        g.now = current_app.config["CLOCK"]()
    time: datetime = g.now
    return time


def today() -> date:
    """The clinic's day at the time of the request."""
    zone = db.session.scalars(select(Clinic.time_zone)).one()
    return now().astimezone(ZoneInfo(zone)).date()


def commit(act: Act) -> None:
    """End the request's transaction, with its line in the audit trail: nothing else ends one."""
    if "glass" in g:
        act = replace(act, facts={**act.facts, "break_glass": g.glass})
    audit.record(db.session(), by(), act, now())
    db.session.commit()
    g.on_trail = True


def _authority(session: Session) -> Authority | None:
    """The caller behind the key, or the person behind the session; their clinic is entered.

    With an Authorization header no cookie counts. None without anything that works.
    """
    if "Authorization" not in request.headers:
        found = browsers.found(session, now())
        if found is None:
            return None
        g.status = found.status
        return _of_user(session, found.user)
    token = request.authorization
    if token is None or token.type != "bearer" or not token.token:
        return None
    key = session.execute(_KEY, {"token": keys.digest(token.token).hex()}).one_or_none()
    if key is None or not _works(key):
        return None
    if key.networks and not keys.is_from(request.remote_addr, key.networks):
        raise BadRequest(403, "address-not-allowed", "This key may not be used from this address.")
    session.info["clinic_id"] = key.clinic_id  # the statement has entered it already
    g.status = key.status
    if key.last_used_on != now().date():
        session.execute(_USED, {"id": key.id, "on": now().date()})
        session.commit()  # for itself: a read commits nothing
    roles = _licensed(session, key.practitioner_id)
    name = f"key:{key.name}/{key.prefix[3:]}"
    may = keys.granted(Role(key.role), key.scopes)
    return Authority(name, may, key.practitioner_id, roles, role=key.role, key_id=key.id)


def _works(key: Any) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now())


def _of_user(session: Session, user: UserAccount) -> Authority:
    """Somebody signed in: they may do what any of their roles may."""
    permissions = frozenset().union(*(BUNDLES[Role(role)] for role in user.roles))
    roles = _licensed(session, user.practitioner_id)
    name, role = f"user:{user.id}", next(one for one in Role if one in user.roles)
    return Authority(name, permissions, user.practitioner_id, roles, role=role)


def _licensed(session: Session, practitioner_id: UUID | None) -> frozenset[str]:
    """The roles that the practitioner's licences let them act in today, by the clinic's day."""
    if practitioner_id is None:
        return frozenset()
    on = today()
    held = session.scalars(
        select(Qualification.role).where(
            Qualification.practitioner_id == practitioner_id,
            Qualification.valid_from <= on,
            Qualification.valid_until >= on,
        )
    )
    return frozenset(held)


_KEY = text(
    """
    WITH told AS MATERIALIZED (SELECT set_config('afterglow.token', :token, true) AS token)
    SELECT key.*, tenancy_status(key.clinic_id) AS status,
           set_config('afterglow.clinic', key.clinic_id::text, true),
           set_config('afterglow.part2', '', true)
      FROM told CROSS JOIN LATERAL (
          SELECT clinic_id, id, name, prefix, role, practitioner_id, scopes, networks,
                 expires_at, revoked_at, last_used_on
            FROM api_key WHERE secret_hash = decode(told.token, 'hex') OFFSET 0
      ) AS key
    """
)
"""Shows the key, finds whose it is, and enters its clinic, in one step. LATERAL and OFFSET hold
the order: the policy shows a row only to who has shown its key before."""

_USED = text("UPDATE api_key SET last_used_on = :on WHERE id = :id")
"""Once a day for each key."""
