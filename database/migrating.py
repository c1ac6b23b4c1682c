"""Migrations: bring a database to what this code expects, or say that it is not there."""

import time
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import URL, MetaData, create_engine
from sqlalchemy.exc import OperationalError

from database.access import Unreachable

FOLDER = Path(__file__).parents[1] / "migrations"


TRIES = 6
PAUSE = 1.0
"""Seconds before the second try; twice as long before each further one."""

PHASED_SINCE = "0032_restoration"
"""From here on a migration says whether it expands or contracts (docs/operations.md)."""


@dataclass(frozen=True, slots=True)
class Step:
    """A migration that has yet to run."""

    revision: str
    what: str
    phase: str
    """expand: older code runs on beside it. contract: it does not. -: older than that rule."""

    @property
    def contracts(self) -> bool:
        """Whether code of before may fail on it."""
        return self.phase != "expand"


def pending(owner: URL) -> list[Step]:
    """What `upgrade` would run, in order."""
    scripts = ScriptDirectory(str(FOLDER))
    at = _known(owner)
    between = scripts.iterate_revisions("head", at or "base")
    return [
        Step(one.revision, one.doc, getattr(one.module, "phase", "-"))
        for one in reversed(list(between))
        if one.revision != at
    ]


def upgrade(owner: URL, revision: str = "head") -> None:
    """Run every migration up to `revision`. Many may call at once; one does the work.

    None waits long for a lock, so that nobody waits long behind it; what could not have one is
    tried again, later and later. Raises Unreachable if somebody never lets go, and for a
    database of a newer version.
    """
    _known(owner)
    pause = PAUSE
    for left in reversed(range(TRIES)):
        try:
            command.upgrade(_config(owner), revision)
            return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable | DeadlockDetected):
                raise
            if not left:
                raise Unreachable(
                    f"The migration after {current(owner)} could not have a lock: somebody keeps "
                    "it for long. Look for old transactions in pg_stat_activity, end them, and "
                    "try again; nothing is half done."
                ) from error
        time.sleep(pause)
        pause *= 2


def downgrade(owner: URL, revision: str = "base") -> None:
    """Undo migrations down to `revision`. Loses data; for development and tests."""
    command.downgrade(_config(owner), revision)


def head() -> str:
    """The migration that this code expects."""
    found = ScriptDirectory(str(FOLDER)).get_current_head()
    assert found is not None
    return found


def is_known(revision: str) -> bool:
    """Whether this code has a migration of that name."""
    try:
        return ScriptDirectory(str(FOLDER)).get_revision(revision) is not None
    except CommandError:
        return False


def current(url: URL) -> str | None:
    """The migration that the database is at. None if it was never migrated."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def _known(owner: URL) -> str | None:
    """The migration that the database is at; raises Unreachable if this code has none like it."""
    at = current(owner)
    if at is not None and not is_known(at):
        raise Unreachable(
            f"The database is at migration {at}, which is newer than this code. Use the version "
            "that it is of, or a newer one."
        )
    return at


def drift(owner: URL, metadata: MetaData) -> list[object]:
    """What differs between the migrated database and the models. Empty is right."""
    engine = create_engine(owner)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            return list(compare_metadata(context, metadata))
    finally:
        engine.dispose()


def _config(owner: URL) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["owner"] = owner
    return config
