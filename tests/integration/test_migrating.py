"""Migrations wait for nobody long, and say beforehand what they would do."""

import os
import threading
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner

import cli
from database import access, migrating
from database.access import Access, Unreachable
from database.scratch import SECRET, scratch

BEFORE = "0024_screening"


@pytest.fixture
def behind() -> Iterator[Access]:
    """A database that is some migrations behind."""
    with scratch(os.environ.get("DATABASE_URL"), migrated=False) as ways:
        migrating.upgrade(ways.owner, BEFORE)
        yield ways


def test_what_would_run_is_told_and_nothing_is_changed(behind: Access) -> None:
    url = access.psycopg_url(behind.owner)
    environment = {"DATABASE_URL": url, "AFTERGLOW_SECRET": SECRET}
    told = CliRunner().invoke(cli.main, ["migrate", "--check"], env=environment)

    assert told.exit_code == 1
    assert "-         0025_consent: Consent" in told.output
    assert "expand    0032_restoration: Backups" in told.output
    assert "would run. One of them takes away" in told.output
    assert migrating.current(behind.owner) == BEFORE

    migrating.upgrade(behind.owner)
    told = CliRunner().invoke(cli.main, ["migrate", "--check"], env=environment)
    assert (told.exit_code, told.output) == (
        0,
        f"Nothing to do: the database is at {migrating.head()}.\n",
    )


def test_a_lock_that_is_let_go_is_had_at_another_try(
    behind: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "PAUSE", 0.1)
    with access.connect(behind.owner, autocommit=False) as reader:
        reader.execute("SELECT count(*) FROM checklist_item")  # 0027 alters that table
        done: list[str | None] = []

        def upgrade() -> None:
            migrating.upgrade(behind.owner)
            done.append(migrating.current(behind.owner))

        running = threading.Thread(target=upgrade)
        running.start()
        running.join(4)  # longer than it waits for a lock, so it was refused one
        assert running.is_alive()
        with access.connect(behind.owner) as other:  # nobody stands in line behind it for long
            other.execute("SET statement_timeout = '5s'")
            other.execute("SELECT count(*) FROM checklist_item")
        reader.rollback()
        running.join(60)
    assert done == [migrating.head()]


def test_a_lock_that_is_never_let_go_is_told_in_one_line(
    behind: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "PAUSE", 0.01)
    monkeypatch.setattr(migrating, "TRIES", 2)
    with access.connect(behind.owner, autocommit=False) as reader:
        reader.execute("SELECT count(*) FROM checklist_item")
        with pytest.raises(Unreachable, match="could not have a lock"):
            migrating.upgrade(behind.owner)
    assert migrating.current(behind.owner) == "0026_noted"
    migrating.upgrade(behind.owner)
    assert migrating.current(behind.owner) == migrating.head()


def test_a_database_of_a_newer_version_is_told_apart(behind: Access) -> None:
    with access.connect(behind.owner) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_later'")
    with pytest.raises(Unreachable, match="newer than this code"):
        migrating.pending(behind.owner)

    environment = {"DATABASE_URL": access.psycopg_url(behind.owner), "AFTERGLOW_SECRET": SECRET}
    for command in (["migrate"], ["migrate", "--check"], ["resume", "--yes"]):
        told = CliRunner().invoke(cli.main, command, env=environment)
        assert (told.exit_code, told.output.count("\n")) == (2, 1), told.output
        assert "newer than this code" in told.output


def test_patients_of_before_are_found_by_how_their_names_begin(behind: Access) -> None:
    """Each clinic's; and a try that broke down half way is begun again."""
    clinics = [str(uuid4()) for _ in range(2)]
    with access.connect(behind.owner) as connection:
        for clinic_id in clinics:
            _enter(connection, clinic_id)
            for statement in _SOMEBODY:
                connection.execute(statement, {"clinic": clinic_id})
    migrating.upgrade(behind.owner, "0036_identity")
    with access.connect(behind.owner) as connection:
        connection.execute("CREATE INDEX ix__task__status ON task (id)")  # half of one is there
    migrating.upgrade(behind.owner)

    with access.connect(behind.owner) as connection:
        for clinic_id in clinics:
            _enter(connection, clinic_id)
            assert connection.execute(
                "SELECT family_key, given_key, number_key FROM patient"
            ).fetchall() == [("smith", "ada", "mrn-1")]


def _enter(connection: psycopg.Connection, clinic_id: str) -> None:
    connection.execute("SELECT set_config('afterglow.clinic', %s, false)", [clinic_id])


_SOMEBODY = (
    """
    INSERT INTO clinic (clinic_id, name, email, phone, time_zone)
    VALUES (%(clinic)s, 'One', 'desk@example.com', '+12125550100', 'UTC')
    """,
    """
    INSERT INTO schedule (id, actor_kind, name, lanes)
    VALUES (%(clinic)s, 'patient', 'MRN-1', 1)
    """,
    """
    INSERT INTO patient (id, schedule_id, record_number, given_name, family_name, birth_date,
                         time_zone)
    VALUES (%(clinic)s, %(clinic)s, 'MRN-1', 'Ada', 'Smith', '1980-01-01', 'UTC')
    """,
)
