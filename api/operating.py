"""Operators: whoever runs the service for clinics, known by a key of their own kind.

Their doors stand apart. They go by a way into the database that reads no table of a clinic (the
invitation of its first admin alone is written as the service), and their keys are in none that a
clinic's keys are in: neither opens a door of the other's.
"""

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from flask import Flask, abort, current_app, g, request
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from api import keys
from api.caller import now
from api.describing import describe
from identity import accounts
from identity.accounts import Invitation
from models import db, enter_clinic
from scheduler import audit, doors, tenants
from scheduler.audit import Act, Origin
from scheduler.authority import Authority
from scheduler.doors import Asks, Door
from scheduler.tenants import Operator, OperatorPermission

View = Callable[..., Any]

AT_ONCE = 2
"""Connections that a process keeps for operators at most; it has none until one comes."""


def engine(url: URL) -> Engine:
    """The operators' way into the database."""
    return create_engine(
        url, pool_size=1, max_overflow=AT_ONCE - 1, pool_pre_ping=True, hide_parameters=True
    )


def init_app(app: Flask) -> None:
    """Give back the connection of each request."""
    app.teardown_request(_end)


def operates(permission: OperatorPermission) -> Callable[[View], View]:
    """Let in who has a key of an operator; 401 for everybody else, with a clinic's key too.

    What a door shows is about no patient, so looking is on no trail; what it changes writes its
    own line, in the database.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            g.operator = _let_in(permission)
            try:
                return view(*args, **kwargs)
            except DBAPIError:
                session().rollback()
                raise

        guarded.permission = permission  # type: ignore[attr-defined]  # tests read it
        describe(guarded, permission=permission, operator=True)
        return doors.mark(guarded, Door(Asks.OPERATOR, permission))

    return decorate


def by() -> Operator:
    """The operator that `operates` let in."""
    operator: Operator = g.operator
    return operator


def session() -> Session:
    """The request's session as the operators' role."""
    if "operators" not in g:
        g.operators = Session(current_app.config["OPERATORS"])
    own: Session = g.operators
    return own


def invite(clinic_id: UUID, admin: Invitation) -> None:
    """Write to a clinic's first admin: as the service, within the clinic, and nothing else there.

    The account is made as any is. Whoever is invited already is written to once more, and nobody
    else who was written to can come any more.
    """
    own, moment = db.session(), now()
    enter_clinic(own, clinic_id)
    audit.come_from(own, by().origin)
    user = accounts.invite_first(own, admin, moment)
    act = Act(action="create", entity="user_account", entity_id=user.id)
    audit.record(own, Authority(by().name, role="operator"), act, moment)
    db.session.commit()


def _let_in(permission: OperatorPermission) -> Operator:
    token = request.authorization
    told = (token.token or "") if token is not None and token.type == "bearer" else ""
    if current_app.config["OPERATORS"] is None or not told.startswith("op_"):
        abort(401)
    known = tenants.admit(session(), keys.digest(told), now())
    session().commit()
    if known is None:
        abort(401)
    name, prefix = known
    return Operator(f"operator:{name}/{prefix[3:]}", _origin(permission))


def _origin(permission: OperatorPermission) -> Origin:
    agent = request.headers.get("User-Agent")
    return Origin(
        address=request.remote_addr,
        request_id=g.get("request_id"),
        agent_hash=None if agent is None else hashlib.sha256(agent.encode()).hexdigest(),
        permission=permission,
    )


def _end(_error: BaseException | None) -> None:
    own: Session | None = g.pop("operators", None)
    if own is not None:
        own.close()
