"""Logs: one JSON line for each thing that happened, with ids and codes and no person in it.

What libraries log, and what nobody caught, goes the same way: where it came from and of what
kind it is, and never what it says.
"""

import contextlib
import logging
import sys
import threading
from types import TracebackType
from typing import Any, TextIO, cast

import structlog
from structlog.tracebacks import ExceptionDictTransformer


def set_up(level: str) -> None:
    """Write log lines of `level` and above to stderr."""
    structlog.configure(
        processors=_STEPS,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Lines(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    if not any(isinstance(handler, _Bridge) for handler in root.handlers):
        root.addHandler(_Bridge())


def catch_the_uncaught() -> None:
    """Let what nobody catches end as a line of the log, and not as a trace with its values."""
    sys.excepthook = _uncaught
    threading.excepthook = lambda told: _uncaught(told.exc_type, told.exc_value, told.exc_traceback)


class _Bridge(logging.Handler):
    """Writes what a library logs as a line of ours: its words, and none of the values in them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        said = record.msg if isinstance(record.msg, str) and record.args else ""
        write = structlog.get_logger().error if record.exc_info else structlog.get_logger().warning
        write("library", logger=record.name, said=said, exc_info=record.exc_info or False)


def _uncaught(
    kind: type[BaseException], error: BaseException | None, where: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    structlog.get_logger().critical("uncaught", exc_info=(kind, error, where))


class _Lines:
    """Where lines go. If nobody is left to read them, what is logged goes on all the same.

    A supervisor that was killed takes its end of the pipe along, and its children serve on.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, line: str) -> None:
        """Write a line, if somebody reads."""
        with contextlib.suppress(BrokenPipeError):
            self.stream.write(line)

    def flush(self) -> None:
        """Send it on its way, if somebody reads."""
        with contextlib.suppress(BrokenPipeError):
            self.stream.flush()


def _without_values(_logger: Any, _name: str, told: Any) -> Any:
    """Keep where an exception came from and of what kind it is, and not what it says.

    PostgreSQL quotes the row it refuses, mail libraries the address.
    """
    for part in told.get("exception") or ():
        if isinstance(part, dict):
            part["exc_value"], part["exc_notes"] = "", []
    return told


_STEPS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.ExceptionRenderer(
        ExceptionDictTransformer(show_locals=False)  # they hold people's names
    ),
    _without_values,
    structlog.processors.JSONRenderer(),
]
"""One list however often logs are set up: who has logged before keeps to the list of that day."""
