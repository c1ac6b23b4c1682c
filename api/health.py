"""Health and metrics: is the process alive, can it serve, is the worker at work?"""

import secrets
import time

import structlog
from flask import Blueprint, Flask, Response, abort, current_app, g, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, Histogram, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api import watching
from models import db
from scheduler.doors import public

blueprint = Blueprint("health", __name__)

LATEST_BEAT = 60
"""Seconds after which a worker that was not seen counts as gone."""

OLDEST_DUE = 300
"""Seconds that a message may be due without being sent, before somebody should look."""

REQUESTS = Histogram(
    "afterglow_http_request_duration_seconds",
    "How long requests took.",
    ["method", "route", "status"],
)

log = structlog.get_logger()


def init_app(app: Flask) -> None:
    """Mount health and metrics; time every request and log it by its route."""
    app.register_blueprint(blueprint)
    app.before_request(_start_watch)
    app.after_request(_note)


@blueprint.get("/health/live")
@public("Whoever keeps the process running asks; it names nobody.")
def live() -> ResponseReturnValue:
    """The process runs."""
    return {"status": "live"}


@blueprint.get("/health/ready")
@public("Whoever sends requests here asks; it names nobody.")
def ready() -> ResponseReturnValue:
    """The database answers and a worker was seen of late; 503 and which of it fails, if not."""
    try:
        age = db.session.scalar(
            text("SELECT extract(epoch FROM clock_timestamp() - max(seen_at)) FROM worker")
        )
    except SQLAlchemyError:
        db.session.rollback()
        return {"status": "not ready", "failing": ["database"]}, 503
    if age is None or age > LATEST_BEAT:
        return {"status": "not ready", "failing": ["worker"]}, 503
    if watching.rests(db.session()):
        return {"status": "ready", "messages": "held"}  # the desk must get in to look through it
    if watching.oldest_due_seconds(db.session(), current_app.config["CLOCK"]()) > OLDEST_DUE:
        return {"status": "not ready", "failing": ["messages"]}, 503
    if watching.broken_chains(db.session()):  # to be looked at, and no reason to serve nobody
        return {"status": "ready", "alarms": ["audit"]}
    return {"status": "ready"}


@blueprint.get("/metrics")
@public("Prometheus reads it, by a token where one is set; in it are figures, and nobody's name.")
def metrics() -> ResponseReturnValue:
    """What Prometheus reads. Labels are routes and codes, never people."""
    if not _may_read_metrics(current_app.config["METRICS_TOKEN"]):
        abort(401)
    told = generate_latest()
    try:
        told += watching.messages(db.session(), current_app.config["CLOCK"]())
    except SQLAlchemyError:
        db.session.rollback()  # what this process counted is told all the same
        log.warning("metrics.no-database")
    return Response(told, content_type=CONTENT_TYPE_LATEST)


def _may_read_metrics(token: str | None) -> bool:
    told = request.authorization
    sent = (told.token or "") if told is not None and told.type == "bearer" else ""
    return token is None or secrets.compare_digest(sent.encode(), token.encode())


def _start_watch() -> None:
    g.started = time.perf_counter()


def _note(response: Response) -> Response:
    """Log the request by its route: a path may hold a token, a query a name.

    Who called is told by the key's prefix, as an admin finds it in the list of keys.
    """
    seconds = time.perf_counter() - g.get("started", time.perf_counter())
    route = request.url_rule.rule if request.url_rule else "none"
    REQUESTS.labels(request.method, route, str(response.status_code)).observe(seconds)
    log.info(
        "request",
        method=request.method,
        route=route,
        status=response.status_code,
        ms=round(seconds * 1000, 1),
        **_caller(),
    )
    return response


def _caller() -> dict[str, str]:
    """Whose clinic and which key it was, as far as that is known."""
    clinic_id = db.session.info.get("clinic_id") if db.session.registry.has() else None
    by = g.get("authority")
    return {
        **({} if clinic_id is None else {"clinic_id": str(clinic_id)}),
        **({} if by is None else {"by": by.mark}),
    }
