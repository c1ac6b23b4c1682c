"""Migrations: bring a database to what this code expects, or say that it is not there."""

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, MetaData, create_engine

FOLDER = Path(__file__).parents[1] / "migrations"


def upgrade(owner: URL, revision: str = "head") -> None:
    """Run every migration up to `revision`. Many may call at once; one does the work."""
    command.upgrade(_config(owner), revision)


def downgrade(owner: URL, revision: str = "base") -> None:
    """Undo migrations down to `revision`. Loses data; for development and tests."""
    command.downgrade(_config(owner), revision)


def head() -> str:
    """The migration that this code expects."""
    found = ScriptDirectory(str(FOLDER)).get_current_head()
    assert found is not None
    return found


def current(url: URL) -> str | None:
    """The migration that the database is at. None if it was never migrated."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


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
