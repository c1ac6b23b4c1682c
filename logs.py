"""Logs: one JSON line for each thing that happened, with ids and codes and no person in it."""

import logging
import sys
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer


def set_up(level: str) -> None:
    """Write log lines of `level` and above to stderr."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(
                ExceptionDictTransformer(show_locals=False)  # they hold people's names
            ),
            _without_values,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _without_values(_logger: Any, _name: str, told: Any) -> Any:
    """Keep where an exception came from and of what kind it is, and not what it says.

    PostgreSQL quotes the row it refuses, mail libraries the address.
    """
    for part in told.get("exception") or ():
        if isinstance(part, dict):
            part["exc_value"] = ""
    return told
