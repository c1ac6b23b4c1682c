"""The composition root: the only module that may import every package."""

import atexit
import contextlib
import gc
import os
import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask
from sqlalchemy import URL
from sqlalchemy.orm import configure_mappers
from werkzeug.middleware.proxy_fix import ProxyFix

import api
import clock
import config
import logs
import vault
import web
from api import operating
from api.writing import Writer
from database import access, migrating, opening, pooling
from identity.asking import Asker
from models import db
from notifications.outside import Outside
from scheduler import doors


def create_app(settings: config.Settings | None = None) -> Flask:
    """Build the service; from the environment if no settings are given, as servers call it.

    Refuses, in one line, a database that is not there, not migrated, or that would let the
    service past row-level security.
    """
    if settings is None:
        logs.catch_the_uncaught()
        try:
            app = _checked(config.load())
            _look_for_garbage_in_what_is_new()
            return app
        except (config.BadSetting, access.Unreachable, vault.WrongMaster) as error:
            sys.exit(f"afterglow web: {error}")
    return _checked(settings)


def _look_for_garbage_in_what_is_new() -> None:
    """Leave the service itself out of what Python looks through for garbage.

    It stays until the end. A board makes so many values that Python looked through everything
    several times for one answer, and took as long for it as for the rest.
    """
    gc.collect()
    gc.freeze()


def build(
    settings: config.Settings, service: URL, now: clock.Clock, operator: URL | None = None
) -> Flask:
    """Put the service together around ways into a database and a clock.

    Without a way in for operators nobody's key opens their doors.
    """
    vault.unlock(settings.masters)
    app = Flask(__name__, static_folder=None)
    app.config.update(
        SECRET_KEY=settings.secret,
        CLOCK=now,
        SECURE=settings.secure,
        PUBLIC_URL=settings.public_url,
        EXCHANGE=Asker(settings.sign_in_networks).exchange,
        REQUESTS_PER_MINUTE=settings.requests_per_minute,
        SMS_TOKENS={
            f"{number}:{urlsplit(sms.url).hostname}": sms.token
            for number, sms in enumerate(settings.sms, 1)
        },
        METRICS_TOKEN=settings.metrics_token,
        CLOSED_DAYS=settings.closed_days,
        OPERATORS=None if operator is None else operating.engine(operator),
        OUTSIDE=Outside(settings.webhook_networks, only_port=443),
        PERMANENT_SESSION_LIFETIME=timedelta(minutes=15),
        SQLALCHEMY_DATABASE_URI=service,
        SQLALCHEMY_ENGINE_OPTIONS={
            "pool_size": settings.web_threads,
            "max_overflow": 2,
            "pool_timeout": 5,
            "hide_parameters": True,  # they may be a person's
        },
    )
    app.json = Writer(app)
    app.json.sort_keys = False
    if settings.trusted_proxies:
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count)  # type: ignore[method-assign]
    db.init_app(app)
    with app.app_context():
        pooling.look_first(db.engine)
    if "MPLCONFIGDIR" not in os.environ:
        os.environ["MPLCONFIGDIR"] = _place_for_fonts(settings.var / "matplotlib")
    configure_mappers()  # now, rather than while somebody waits for the first answer
    api.init_app(app)
    web.init_app(app)
    doors.refuse_unmarked(app.view_functions)
    return app


def _place_for_fonts(folder: Path) -> str:
    """Where matplotlib keeps what it knows of fonts: its own place may not be written to.

    Settled at the start, for the environment is no place to write once there are threads.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
    if os.access(folder, os.W_OK | os.X_OK):
        return str(folder.absolute())
    passing = tempfile.mkdtemp(prefix="afterglow-fonts-")
    atexit.register(shutil.rmtree, passing, ignore_errors=True)
    return passing


def _checked(settings: config.Settings) -> Flask:
    logs.set_up(settings.log_level)
    ways = opening.ways_in(settings.database_url, settings.var / "postgres", settings.secret).ways
    with access.connect(ways.service) as connection:
        access.refuse_unsafe_role(connection)
    if (at := migrating.current(ways.service)) != migrating.head():
        raise access.Unreachable(
            f"The database is at migration {at}, this code is at {migrating.head()}: "
            "run `afterglow migrate`."
        )
    vault.unlock(settings.masters)
    with access.connect(ways.service) as connection:
        vault.refuse_wrong_masters(connection)
    now = clock.clock(settings.clock_file)
    return build(settings, ways.service, now, ways.operator)
