"""Everything that goes wrong, as problem documents (RFC 9457): one shape, one media type."""

import contextlib
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NoReturn

import psycopg
import structlog
from flask import Flask, current_app, g
from flask.typing import ResponseReturnValue
from marshmallow import INCLUDE, Schema, fields
from psycopg.errors import (
    DeadlockDetected,
    ForeignKeyViolation,
    SerializationFailure,
    UniqueViolation,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from webargs.flaskparser import abort
from werkzeug.exceptions import HTTPException

from api import trail
from models import db
from scheduler.errors import (
    AtCapacity,
    BadCalendar,
    ClinicClosed,
    ClinicSuspended,
    CourseClosed,
    HoldExpired,
    KeyEnded,
    LegalHold,
    LimitReached,
    MayNotOverride,
    NonexistentLocalTime,
    NoOpening,
    NotFound,
    NotOpen,
    NotOwnPage,
    NotProven,
    NotQualified,
    NotReady,
    NotSigned,
    OfferGone,
    OffGrid,
    ProposalClosed,
    ProposalLost,
    Refusal,
    RuleBroken,
    SessionFull,
    SlotTaken,
    Stale,
    StartsInThePast,
    StepAlreadyBooked,
    StepSkipped,
    StepUpNeeded,
    Taken,
    TooEarly,
    TooLate,
    TooManyHolds,
    TooManyTries,
    TooManyWebhooks,
    TooYoung,
    Understaffed,
    Unfit,
    UnfitAssignment,
    VisitsUnderWay,
    WeakPassword,
    WrongStatus,
)
from vault import VaultError

STATUS: dict[type[Refusal], int] = {
    AtCapacity: 422,
    BadCalendar: 422,
    ClinicClosed: 403,
    ClinicSuspended: 403,
    CourseClosed: 409,
    HoldExpired: 409,
    KeyEnded: 409,
    LegalHold: 409,
    LimitReached: 409,
    MayNotOverride: 403,
    NoOpening: 409,
    NotFound: 404,
    NotOpen: 422,
    NotOwnPage: 403,
    NotProven: 422,
    NotQualified: 422,
    NotReady: 422,
    NotSigned: 422,
    OfferGone: 409,
    NonexistentLocalTime: 422,
    OffGrid: 422,
    ProposalClosed: 409,
    ProposalLost: 409,
    RuleBroken: 422,
    SessionFull: 409,
    SlotTaken: 409,
    Stale: 412,
    StartsInThePast: 422,
    StepAlreadyBooked: 409,
    StepSkipped: 409,
    StepUpNeeded: 403,
    Taken: 409,
    TooEarly: 422,
    TooLate: 422,
    TooManyHolds: 409,
    TooManyTries: 429,
    TooManyWebhooks: 409,
    TooYoung: 422,
    Understaffed: 422,
    Unfit: 422,
    UnfitAssignment: 422,
    VisitsUnderWay: 409,
    WeakPassword: 422,
    WrongStatus: 409,
}

MEDIA_TYPE = "application/problem+json"

Problem = tuple[dict[str, Any], int, dict[str, str]]
"""The body, the status and the headers of an answer."""

REFUSED = "AG001"
"""The SQLSTATE of what a function of the database refuses, as a rule would."""

_BY_CODE = {refusal.code: refusal for refusal in STATUS}

TRANSIENT = (DeadlockDetected, SerializationFailure)
"""PostgreSQL chose to end this transaction for another's sake: trying again is right."""

log = structlog.get_logger()


class ProblemSchema(Schema):
    """RFC 9457: `type` is the stable code, further members are the facts of the refusal."""

    class Meta:
        """Each problem has members of its own."""

        unknown = INCLUDE

    type = fields.String(required=True, metadata={"example": "/problems/slot-taken"})
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String()
    instance = fields.String(metadata={"description": "This request, as the logs call it."})
    errors = fields.List(fields.Dict(), metadata={"description": "Where, and what is wrong."})


class BadRequest(Exception):
    """A request that cannot be read. Raised by the guards."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers = headers or {}


class BadValue(BadRequest):
    """Something that cannot be read, at a place in the body or the query."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(422, "invalid", detail)
        self.pointer = pointer


def init_app(app: Flask) -> None:
    """Let every error of the API, whoever raised it, leave as a problem document."""
    app.register_error_handler(Refusal, _refused)
    app.register_error_handler(BadRequest, _unreadable)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(IntegrityError, _integrity)
    app.register_error_handler(psycopg.IntegrityError, _integrity)
    app.register_error_handler(DBAPIError, _database)
    app.register_error_handler(psycopg.Error, _database)
    app.register_error_handler(PoolTimeout, _busy)
    app.register_error_handler(VaultError, _shut)
    app.register_error_handler(Exception, _unexpected)


def problem(status: int, code: str, detail: str, more: Mapping[str, Any] | None = None) -> Problem:
    """Write a problem document."""
    body = {
        **(more or {}),
        "type": f"/problems/{code}",
        "title": code.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": f"urn:uuid:{g.get('request_id', uuid.UUID(int=0))}",
    }
    return body, status, {"Content-Type": MEDIA_TYPE}


def invalid(field: str, detail: str) -> NoReturn:
    """Refuse a body for one of its fields, as a schema would."""
    abort(422, messages={"json": {field: [detail]}})


def faults(told: Any, here: str = "") -> list[dict[str, str]]:
    """Flatten marshmallow's nested messages into a pointer and a sentence each."""
    if isinstance(told, Mapping):
        return [
            fault
            for key, value in told.items()
            for fault in faults(value, here if key == "_schema" else f"{here}/{key}")
        ]
    if isinstance(told, list):
        return [fault for value in told for fault in faults(value, here)]
    return [{"pointer": here or "/", "detail": str(told)}]


def status_of(error: Refusal | BadRequest | HTTPException) -> int:
    """The status that an error leaves with."""
    if isinstance(error, Refusal):
        return STATUS[type(error)]
    if isinstance(error, BadRequest):
        return error.status
    if error.code is None and error.response is not None:
        return int(getattr(error.response, "status_code", 200))
    return error.code or 500


def _refused(refusal: Refusal) -> ResponseReturnValue:
    db.session.rollback()
    log.info("refused", code=refusal.code)
    body, status, headers = problem(
        STATUS[type(refusal)], refusal.code, refusal.detail, refusal.facts
    )
    if "retry_after" in refusal.facts:
        headers["Retry-After"] = str(refusal.facts["retry_after"])
    return body, status, headers


def _unreadable(error: BadRequest) -> ResponseReturnValue:
    db.session.rollback()
    more = {}
    if isinstance(error, BadValue):
        more = {"errors": [{"pointer": error.pointer, "detail": error.detail}]}
    body, status, headers = problem(error.status, error.code, error.detail, more)
    return body, status, {**headers, **error.headers}


def _http(error: HTTPException) -> ResponseReturnValue:
    db.session.rollback()
    if error.response is not None and error.code is None:
        return error.response
    status = HTTPStatus(error.code or 500)
    if status < HTTPStatus.BAD_REQUEST:
        return error.get_response()
    messages = getattr(error, "data", None) or {}
    told = faults(_unwrapped(messages.get("messages", {})))
    code = _CODES.get(
        status.value, "internal" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "bad-request"
    )
    detail = "See `errors`." if told else _DETAILS.get(status.value, error.description or "")
    answer = problem(status.value, code, detail, {"errors": told} if told else None)
    kept = {name: value for name, value in error.get_headers() if name not in _OWN_HEADERS}
    if status is HTTPStatus.UNAUTHORIZED:
        kept["WWW-Authenticate"] = 'Bearer realm="afterglow"'
    body, number, headers = answer
    return body, number, {**kept, **headers}


def _unwrapped(messages: Any) -> Any:
    """Without the location that webargs puts first: the pointer is into the body or the query."""
    if isinstance(messages, Mapping) and set(messages) <= {"json", "query", "headers", "path"}:
        return {key: value for part in messages.values() for key, value in _items(part)}
    return messages


def _items(part: Any) -> list[tuple[str, Any]]:
    return list(part.items()) if isinstance(part, Mapping) else [("_schema", part)]


def cause(error: DBAPIError | psycopg.Error) -> BaseException | None:
    """What PostgreSQL said, whether a statement went through SQLAlchemy or beneath it."""
    return error.orig if isinstance(error, DBAPIError) else error


def _integrity(error: IntegrityError | psycopg.IntegrityError) -> ResponseReturnValue:
    """A constraint spoke that no rule had asked before: still a plain answer, never a 500."""
    db.session.rollback()
    said = cause(error)
    name = getattr(getattr(said, "diag", None), "constraint_name", None)
    if isinstance(said, UniqueViolation):
        return problem(409, "already-exists", "Something with these values exists already.")
    if isinstance(said, ForeignKeyViolation):
        return problem(422, "unknown-reference", "The request names something that is not here.")
    log.warning("refused.by-constraint", constraint=name)
    return problem(422, "invalid", "These values cannot be stored together.")


def _database(error: DBAPIError | psycopg.Error) -> ResponseReturnValue:
    db.session.rollback()
    said = cause(error)
    if getattr(said, "sqlstate", None) == REFUSED:
        return _refused(_as_refusal(said))
    # An operational error is about the server's day, not about the request.
    cut = isinstance(error, DBAPIError) and error.connection_invalidated
    if cut or isinstance(said, psycopg.OperationalError):
        return _busy(error)
    return _unexpected(error)


def _as_refusal(error: Any) -> Refusal:
    """What the database itself refused: its rules say so by a code and a sentence."""
    return _BY_CODE[error.diag.message_primary](error.diag.message_detail)


def _busy(error: Exception) -> ResponseReturnValue:
    db.session.rollback()
    log.warning("busy", error=type(error).__name__)
    body, status, headers = problem(
        503, "busy", "Too much at once; nothing is half done. Please try again."
    )
    return body, status, {**headers, "Retry-After": "1"}


def _shut(error: VaultError) -> ResponseReturnValue:
    """What is sealed does not open: who runs the service can find the field, and nobody else."""
    db.session.rollback()
    log.error("seal.stuck", told=str(error))
    return _failed("does-not-open", "Something that is sealed does not open. Nothing was changed.")


def _unexpected(error: Exception) -> ResponseReturnValue:
    db.session.rollback()
    log.error("unexpected", exc_info=error)
    return _failed("internal", "Something went wrong here. Nothing was changed.")


def _failed(code: str, detail: str) -> ResponseReturnValue:
    with contextlib.suppress(SQLAlchemyError):  # the fault may be the database's own
        trail.failed(current_app.config["CLOCK"]())
    return problem(500, code, detail)


_CODES = {
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "request-too-large",
    415: "unsupported-media-type",
    422: "invalid",
}
"""Written out: the phrases of HTTP change between versions of Python."""

_DETAILS = {
    401: "Send a valid API key, Authorization: Bearer ag_..., or sign in.",
    403: "This caller's role may not do that.",
    404: "There is nothing here.",
    405: "This cannot be done here; see the Allow header.",
    413: "The request is too large.",
    415: "Send JSON: Content-Type: application/json.",
}

_OWN_HEADERS = {"Content-Type", "Content-Length"}
