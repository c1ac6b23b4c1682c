"""One's own signing in, over REST: who am I, where am I signed in, and that it is still me."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from flask import Response, current_app
from marshmallow import Schema, ValidationError, fields, validate, validates_schema
from sqlalchemy.orm import Session

from api import browsers, edge
from api.blueprint import Blueprint
from api.caller import by, now, requires
from api.errors import ProblemSchema
from api.fields import Id, Instant
from api.pages import PageQuery, page_of
from api.shelf import Shelf
from identity import delays, factors, passkeys, sessions
from identity.passkeys import Here
from identity.sessions import SignedIn
from models import UserAccount, UserSession, db
from models.vocabulary import Role
from scheduler import facts
from scheduler.audit import Act
from scheduler.errors import NotFound
from scheduler.permissions import Permission

blueprint = Blueprint(
    "signed_in", __name__, url_prefix="/api/v1", description="One's own signing in."
)


class OwnSessionSchema(Schema):
    """Who is signed in here, and what their page needs to know."""

    id = Id()
    user_id = Id()
    name = fields.String()
    roles = fields.List(fields.Enum(Role, by_value=True))
    practitioner_id = Id(allow_none=True)
    permissions = fields.List(fields.Enum(Permission, by_value=True))
    csrf_token = fields.String(
        metadata={"description": "To be sent as X-CSRF-Token with what changes something."}
    )
    expires_at = Instant()
    factor_at = Instant(metadata={"description": "When a second factor was last given."})


class SessionSchema(Schema):
    """A browser in which one is signed in."""

    id = Id()
    begun_at = Instant(attribute="created_at")
    seen_at = Instant()
    expires_at = Instant()
    address = fields.String(allow_none=True)
    agent = fields.String(metadata={"description": "What the browser calls itself."})


class StepUpSchema(Schema):
    """A second factor, given once more: a code, or a passkey's answer."""

    code = fields.String(
        validate=validate.Length(1, 40),
        metadata={
            "example": "123456",
            "description": "Of the authenticator app, or one for its loss.",
        },
    )
    passkey = fields.Dict(
        metadata={
            "description": "What the browser's `credential.toJSON()` says of what a device signed: "
            "see POST /session/step-up/passkey."
        }
    )

    @validates_schema
    def _check(self, data: dict[str, Any], **_: object) -> None:
        if len(data) != 1:
            raise ValidationError("Give either a code or a passkey's answer.", "code")


class PasskeyAskedSchema(Schema):
    """What a device is to sign."""

    options = fields.Dict(
        metadata={"description": "For the browser's `parseRequestOptionsFromJSON`. Good once."}
    )


SESSIONS = Shelf(UserSession, SessionSchema)


@blueprint.route("/session", methods=["GET"])
@requires(Permission.SESSION_OWN)
@blueprint.response(200, OwnSessionSchema)
def read_own_session() -> dict[str, Any]:
    """Read who is signed in here. A key has no session."""
    return _shown(_mine())


@blueprint.route("/session", methods=["DELETE"])
@requires(Permission.SESSION_OWN)
@blueprint.response(204)
def sign_out() -> Response:
    """Sign out here."""
    return _end(_mine().session.id)


@blueprint.route("/session/step-up", methods=["POST"])
@requires(Permission.SESSION_OWN)
@blueprint.arguments(StepUpSchema, example={"code": "123456"})
@blueprint.response(200, OwnSessionSchema)
@blueprint.alt_response(422, schema=ProblemSchema, description="not-proven")
@blueprint.alt_response(429, schema=ProblemSchema, description="too-many-tries")
def step_up(told: dict[str, Any]) -> Response:
    """Give one's second factor once more; for some minutes one may then do what asks for it.

    The session has another cookie, and another csrf_token, from here on.
    """
    mine = _mine()
    token = _proven(db.session(), mine, _factor(mine, told))
    renewed = SignedIn(mine.user, mine.session, sessions.csrf_of(token))
    answer = edge.done(OwnSessionSchema, _shown(renewed), _act(mine.session.id, "step-up"))
    answer.set_cookie(**sessions.cookie(token, secure=current_app.config["SECURE"]))
    return answer


@blueprint.route("/session/step-up/passkey", methods=["POST"])
@requires(Permission.SESSION_OWN)
@blueprint.response(200, PasskeyAskedSchema)
@blueprint.alt_response(422, schema=ProblemSchema, description="not-proven")
def ask_for_passkey() -> Response:
    """Ask for something that a passkey of one's own signs, to step up with it."""
    mine = _mine()
    options = json.loads(passkeys.ask_again(db.session(), mine, _site()))
    act = _act(mine.session.id, "ask-for-passkey")
    return edge.done(PasskeyAskedSchema, {"options": options}, act)


@blueprint.route("/sessions", methods=["GET"])
@requires(Permission.SESSION_OWN)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(SessionSchema))
def list_own_sessions(asked: dict[str, Any]) -> dict[str, Any]:
    """List where one is signed in."""
    return SESSIONS.page(asked, sessions.standing(_mine().user.id, now()))


@blueprint.route("/sessions/<uuid:browser_id>", methods=["DELETE"])
@requires(Permission.SESSION_OWN)
@blueprint.response(204)
def end_own_session(browser_id: UUID) -> Response:
    """Sign out somewhere else."""
    return _end(browser_id)


def _end(session_id: UUID) -> Response:
    if not sessions.end(db.session(), _mine().user.id, session_id, now()):
        raise NotFound("There is no such session.")
    return edge.gone(_act(session_id, "sign-out"))


def _factor(mine: SignedIn, told: dict[str, Any]) -> Callable[[UserAccount], None]:
    """What takes the second factor that was sent, or refuses it."""
    session = db.session()
    if "code" in told:
        return lambda user: factors.take(session, user, told["code"], now())
    answer = passkeys.answered(mine, json.dumps(told["passkey"]))
    return lambda user: passkeys.confirm(session, user, answer, _site(), now())


def _proven(session: Session, mine: SignedIn, take: Callable[[UserAccount], None]) -> str:
    """Take a factor, counted before it is looked at; returns the session's new token."""
    user_id, about = mine.user.id, [delays.factor(mine.user.id)]
    delays.count(session, about, now())
    browsers.keep(session)
    user = facts.one(session, UserAccount, user_id)
    take(user)
    delays.forgive(session, about)
    return sessions.complete(session, mine, now())


def _site() -> Here:
    return Here(current_app.config["PUBLIC_URL"])


def _mine() -> SignedIn:
    found = browsers.signed_in()
    if found is None:
        raise NotFound(f"{by().name} has no session.")
    return found


def _shown(mine: SignedIn) -> dict[str, Any]:
    return {
        "id": mine.session.id,
        "user_id": mine.user.id,
        "name": mine.user.name,
        "roles": [Role(role) for role in mine.user.roles],
        "practitioner_id": mine.user.practitioner_id,
        "permissions": sorted(by().permissions),
        "csrf_token": mine.csrf,
        "expires_at": mine.session.expires_at,
        "factor_at": mine.session.factor_at,
    }


def _act(session_id: UUID, what: str) -> Act:
    return Act(action="execute", entity="user_session", entity_id=session_id, facts={"what": what})
