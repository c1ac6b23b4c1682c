"""Staff accounts over REST: invited, given roles, closed."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from flask import Response, request
from marshmallow import Schema, fields, validate
from sqlalchemy import select

from api import edge, pages, preconditions
from api.blueprint import Blueprint
from api.caller import now, refuse_to_give, requires
from api.errors import ProblemSchema
from api.fields import Email, Id, Instant, Text
from api.idempotency import idempotent
from api.pages import PageQuery, page_of
from api.preconditions import conditional
from api.shelf import Shelf
from identity import accounts
from identity.accounts import Invitation
from models import Practitioner, UserAccount, db
from models.vocabulary import Role, UserStatus
from scheduler import facts
from scheduler.audit import Act
from scheduler.permissions import BUNDLES, Permission

blueprint = Blueprint("users", __name__, url_prefix="/api/v1", description="Staff accounts.")


def _roles(**told: Any) -> Any:
    return fields.List(
        fields.String(validate=validate.OneOf(list(Role))),
        validate=validate.Length(1, len(Role)),
        metadata={"example": ["scheduler"], "description": "They may do what any of these may."},
        **told,
    )


class UserSchema(Schema):
    """Somebody who works here and signs in."""

    id = Id(dump_only=True)
    email = Email(required=True, metadata={"description": "Kept in small letters."})
    name = Text(required=True, metadata={"example": "Iris Example"})
    roles = _roles(required=True)
    practitioner_id = Id(allow_none=True, load_default=None)
    status = fields.Enum(UserStatus, by_value=True, dump_only=True)
    second_factor = fields.Function(
        lambda user: user.totp_secret is not None,
        metadata={"type": "boolean", "description": "Whether one is set up."},
    )
    created_at = Instant(dump_only=True)


class UserChangeSchema(Schema):
    """What can change about somebody. The address cannot: invite the new one."""

    name = Text(metadata={"example": "Iris Example"})
    roles = _roles()
    practitioner_id = Id(allow_none=True)
    status = fields.Enum(
        UserStatus,
        by_value=True,
        validate=validate.OneOf([UserStatus.ACTIVE, UserStatus.DISABLED]),
    )


class UserQuery(PageQuery):
    """Which accounts."""

    status = fields.Enum(UserStatus, by_value=True, load_default=None)


USERS = Shelf(UserAccount, UserSchema)


@blueprint.route("/users", methods=["GET"])
@requires(Permission.USERS_MANAGE)
@blueprint.arguments(UserQuery, location="query")
@blueprint.response(200, page_of(UserSchema))
def list_users(asked: dict[str, Any]) -> dict[str, Any]:
    """List the staff accounts."""
    wanted = {"status": UserAccount.status.__eq__}
    return USERS.page(asked, pages.narrowed(select(UserAccount), asked, wanted))


@blueprint.route("/users", methods=["POST"])
@requires(Permission.USERS_MANAGE, step_up=True)
@blueprint.arguments(UserSchema)
@idempotent
@blueprint.response(201, UserSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="already-exists")
def invite_user(told: dict[str, Any]) -> Response:
    """Invite somebody: they get a mail by which they choose a password, within three days.

    A key that was narrowed gives no role that may do more than itself.
    """
    _refuse_strangers(told)
    refuse_to_give(_of_roles(told["roles"]))
    user = accounts.invite(db.session(), Invitation(**told), now())
    db.session.refresh(user)
    preconditions.tag(user.version)
    location = f"{request.path}/{user.id}"
    return edge.done(UserSchema, user, USERS.act("create", user), status=201, location=location)


@blueprint.route("/users/<uuid:user_id>", methods=["GET"])
@requires(Permission.USERS_MANAGE)
@blueprint.response(200, UserSchema)
def read_user(user_id: UUID) -> Any:
    """Read a staff account."""
    return USERS.read(user_id)


@blueprint.route("/users/<uuid:user_id>", methods=["PATCH"])
@requires(Permission.USERS_MANAGE, step_up=True)
@conditional
@blueprint.arguments(UserChangeSchema)
@blueprint.response(200, UserSchema)
@blueprint.alt_response(412, schema=ProblemSchema, description="stale")
def change_user(changes: dict[str, Any], user_id: UUID) -> Response:
    """Change somebody's name or roles, or close their account. Other roles end their sessions."""
    _refuse_strangers(changes)
    user = _seen(user_id)
    if changes.keys() & {"roles", "practitioner_id"} or changes.get("status") is UserStatus.ACTIVE:
        refuse_to_give(_of_roles(changes.get("roles", user.roles)))
    accounts.change(db.session(), user, changes, now())
    return _changed(user, USERS.act("update", user, sorted(changes)))


@blueprint.route("/users/<uuid:user_id>/invite", methods=["POST"])
@requires(Permission.USERS_MANAGE, step_up=True)
@conditional
@blueprint.response(200, UserSchema)
@blueprint.alt_response(409, schema=ProblemSchema, description="wrong-status")
def invite_user_again(user_id: UUID) -> Response:
    """Write once more to somebody who has not come yet; the link they had works no more."""
    user = _seen(user_id)
    accounts.invite_again(db.session(), user, now())
    return _changed(user, _act(user, "invite"))


@blueprint.route("/users/<uuid:user_id>/forget-factors", methods=["POST"])
@requires(Permission.USERS_MANAGE, step_up=True)
@conditional
@blueprint.response(200, UserSchema)
def forget_factors(user_id: UUID) -> Response:
    """Let somebody who lost every second factor set one up when they sign in next."""
    user = _seen(user_id)
    accounts.forget_factors(db.session(), user, now())
    return _changed(user, _act(user, "forget-factors"))


def _seen(user_id: UUID) -> UserAccount:
    return facts.to_change(db.session(), UserAccount, user_id, preconditions.seen_version())


def _changed(user: UserAccount, act: Act) -> Response:
    preconditions.tag(user.version)
    return edge.done(UserSchema, user, act)


def _act(user: UserAccount, what: str) -> Act:
    return Act(action="execute", entity="user_account", entity_id=user.id, facts={"what": what})


def _of_roles(roles: Iterable[str]) -> frozenset[Permission]:
    return frozenset[Permission]().union(*(BUNDLES[Role(role)] for role in roles))


def _refuse_strangers(told: dict[str, Any]) -> None:
    """Refuse a practitioner who is not of this clinic."""
    if told.get("practitioner_id") is not None:
        facts.one(db.session(), Practitioner, told["practitioner_id"])
