"""A clinic is backed up while it works, and comes back as it was, or not at all."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import cli
from database import access, backups, contents, embedded, migrating, opening, replaying
from database.access import Access
from database.backups import BadBackup, Manifest
from database.scratch import SECRET, scratch
from models import Base, enter_clinic
from notifications import queue
from scheduler import audit
from scheduler.audit import Act
from scheduler.authority import Authority
from tests.factories import SUNDAY_NOON, World, make_patient, make_world

SOMEBODY = Authority("key:desk")


def quietly(_done: int) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def busy(committed: Session) -> World:
    """Two clinics with audit trails, and a month of the archive."""
    worlds = [make_world(committed, name) for name in ("One", "Other")]
    for world in worlds:
        enter_clinic(committed, world.clinic_id)
        note(committed, 3)
    committed.commit()
    return worlds[0]


def note(session: Session, times: int) -> None:
    for _ in range(times):
        audit.record(session, SOMEBODY, Act(action="create", entity="patient"), SUNDAY_NOON)


def back_up(ways: Access, path: Path) -> Manifest:
    return backups.write(ways, path, datetime(2027, 1, 1, tzinfo=UTC), "1.2.3", quietly)


def look(ways: Access) -> contents.Contents:
    with access.connect(ways.owner, autocommit=False) as connection:
        return contents.look(connection)


def catalog(ways: Access) -> dict[str, list[Any]]:
    """Everything that says who may do what, with the roles called by what they are."""
    roles = {ways.service.username: "service", ways.worker.username: "worker"}
    roles |= {ways.owner.username: "owner", ways.operator.username: "operator"}
    with access.connect(ways.owner) as connection:
        policies = connection.execute(
            "SELECT tablename, policyname, roles::text[], cmd, qual, with_check FROM pg_policies "
            "ORDER BY 1, 2"
        ).fetchall()
        grants = connection.execute(
            "SELECT c.relname, a.grantee::regrole::text, a.privilege_type "
            "FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'public'::regnamespace "
            "AND a.grantee <> c.relowner UNION ALL "
            "SELECT p.proname, CASE a.grantee WHEN 0 THEN 'public' "
            "ELSE a.grantee::regrole::text END, a.privilege_type "
            "FROM pg_proc p, aclexplode(p.proacl) a "
            "WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef ORDER BY 1, 2, 3"
        ).fetchall()
        forced = connection.execute(
            "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class "
            "WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace ORDER BY 1"
        ).fetchall()

    def named(name: str) -> str:
        return roles.get(name.strip('"'), name)

    return {
        "policies": [(t, p, sorted(map(named, r)), *more) for t, p, r, *more in policies],
        "grants": sorted((t, named(r), what) for t, r, what in grants),
        "forced": forced,
    }


def superuser(ways: Access) -> str:
    """A way in for whoever may make databases on the tests' own server."""
    password = opening._password(SECRET, embedded.SUPERUSER)
    url = ways.owner.set(username=embedded.SUPERUSER, password=password, database="postgres")
    return url.render_as_string(hide_password=False)


@pytest.fixture
def elsewhere(database: Access) -> Iterator[Access]:
    """An empty database of another name, whose roles are called otherwise, on the same server."""
    with scratch(os.environ.get("DATABASE_URL") or superuser(database), migrated=False) as ways:
        yield ways


@pytest.mark.usefixtures("busy")
def test_a_backup_holds_everything_and_is_proven_by_restoring_it(
    database: Access, tmp_path: Path
) -> None:
    with access.connect(database.worker) as connection:
        connection.execute("SELECT keep_message_month('2031-05-01+00')")
    path = tmp_path / "clinic.backup"

    manifest = back_up(database, path)

    assert backups.read_manifest(path) == manifest
    assert manifest.contents == look(database)
    assert manifest.contents.tables["clinic"][0] == 2
    assert manifest.contents.tables["message_archive_2031_05"] == (0, "0")
    assert sorted(number for number, _ in manifest.contents.audit_heads.values()) == [3, 3]
    assert manifest.contents.broken_at == {}
    assert (manifest.app, manifest.migration) == ("1.2.3", migrating.head())
    assert backups.verify(path, quietly) == manifest
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == [path, backups.keys_of(path)]
    with access.connect(database.owner) as connection:
        connection.execute("DROP TABLE message_archive_2031_05")


@pytest.mark.usefixtures("busy")
def test_it_comes_back_under_another_name_with_every_right_and_policy(
    database: Access, elsewhere: Access, tmp_path: Path
) -> None:
    path = tmp_path / "clinic.backup"
    back_up(database, path)

    backups.restore(elsewhere, path, quietly)

    assert look(elsewhere) == look(database)
    assert catalog(elsewhere) == catalog(database)
    assert migrating.drift(elsewhere.owner, Base.metadata) == []
    for url in elsewhere.processes:
        with access.connect(url) as connection:
            access.refuse_unsafe_role(connection)
    with access.connect(elsewhere.service) as connection:
        assert connection.execute("SELECT count(*) FROM patient").fetchall() == [(0,)]


def test_what_replaces_a_database_leaves_nothing_of_it(
    database: Access, busy: World, committed: Session, tmp_path: Path
) -> None:
    path = tmp_path / "clinic.backup"
    before = back_up(database, path).contents
    enter_clinic(committed, busy.clinic_id)
    make_patient(committed, given_name="Later")
    note(committed, 1)
    committed.commit()

    with pytest.raises(BadBackup, match=r"is not empty.*--replace"):
        backups.restore(database, path, quietly)
    assert look(database) != before
    backups.restore(database, path, quietly, replace=True)

    assert look(database) == before
    committed.rollback()
    enter_clinic(committed, busy.clinic_id)
    note(committed, 1)  # the trail goes on where the backup ends
    committed.commit()
    now = look(database)
    assert (now.audit_heads[str(busy.clinic_id)][0], now.broken_at) == (4, {})


def test_it_is_of_one_instant_while_the_clinic_works_on(
    database: Access, busy: World, tmp_path: Path
) -> None:
    enough, written = threading.Event(), threading.Event()

    def work() -> None:
        engine = create_engine(database.service)
        with Session(engine) as session:
            enter_clinic(session, busy.clinic_id)
            while not enough.is_set():
                make_patient(session)
                note(session, 1)
                session.commit()
                written.set()
        engine.dispose()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert written.wait(10)
        manifest = back_up(database, tmp_path / "first")
        written.clear()
        assert written.wait(10)
        later = back_up(database, tmp_path / "second")
    finally:
        enough.set()
        worker.join(10)

    assert manifest.contents.broken_at == later.contents.broken_at == {}
    assert manifest.contents != later.contents
    for name in ("first", "second"):
        backups.verify(tmp_path / name, quietly)


def change(path: Path, at: int) -> None:
    told = bytearray(path.read_bytes())
    told[at] ^= 1
    path.write_bytes(told)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lie(path: Path) -> None:
    """Let the manifest tell of a patient more, as if the dump had lost one."""
    with tarfile.open(path) as tar:
        parts = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    told = json.loads(parts[backups.MANIFEST])
    told["contents"]["tables"]["patient"][0] += 1
    parts[backups.MANIFEST] = json.dumps(told).encode()
    rewrite(path, parts)


def rewrite(path: Path, parts: dict[str, bytes]) -> None:
    with path.open("wb") as file:
        for name, content in parts.items():
            file.write(backups._header(name, len(content), SUNDAY_NOON))
            file.write(content)
            backups._pad(file)
        file.write(bytes(1024))


DAMAGES = {
    "a bit is another": lambda path: change(path, path.stat().st_size // 2),
    "its first bit is another": lambda path: change(path, 512),
    "it is cut off": shorten,
    "it is no backup": lambda path: path.write_bytes(b"SELECT 1;" * 1000),
    "it is empty": lambda path: path.write_bytes(b""),
    "it lost a row": lie,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_changes_nothing(
    database: Access, busy: World, committed: Session, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "clinic.backup"
    back_up(database, path)
    enter_clinic(committed, busy.clinic_id)
    make_patient(committed)
    committed.commit()
    before = look(database)
    DAMAGES[damage](path)

    with pytest.raises(BadBackup):
        backups.restore(database, path, quietly, replace=True)

    assert look(database) == before


@pytest.mark.usefixtures("busy")
def test_who_tampers_with_the_trail_is_told_of_and_backed_up_all_the_same(
    database: Access, elsewhere: Access, tmp_path: Path
) -> None:
    backups.write(database, tmp_path / "whole", SUNDAY_NOON, "1", quietly)
    backups.restore(elsewhere, tmp_path / "whole", quietly)
    with access.connect(elsewhere.owner) as connection:
        connection.execute("ALTER TABLE audit_event NO FORCE ROW LEVEL SECURITY")
        connection.execute("DELETE FROM audit_event WHERE sequence = 2")
        connection.execute("ALTER TABLE audit_event FORCE ROW LEVEL SECURITY")

    manifest = backups.write(elsewhere, tmp_path / "tampered", SUNDAY_NOON, "1", quietly)

    assert set(manifest.contents.broken_at.values()) == {3}
    assert backups.verify(tmp_path / "tampered", quietly) == manifest


def test_a_backup_replaces_no_other_and_leaves_nothing_half_made(
    database: Access, tmp_path: Path
) -> None:
    path = tmp_path / "clinic.backup"
    path.write_text("last night's")
    with pytest.raises(BadBackup, match="is there already"):
        back_up(database, path)
    assert path.read_text() == "last night's"

    def burst(_done: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(BadBackup, match="No space left"):
        backups.write(database, tmp_path / "other", SUNDAY_NOON, "1", burst)
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_that_a_backup_cannot_read_is_no_silent_gap(
    database: Access, tmp_path: Path
) -> None:
    with access.connect(database.owner) as connection:
        policy = connection.execute(
            "SELECT qual FROM pg_policies WHERE tablename = 'patient' AND policyname = 'backed_up'"
        ).fetchall()[0][0]
        connection.execute("DROP POLICY backed_up ON patient")
        try:
            with pytest.raises(BadBackup, match="may not read patient"):
                back_up(database, tmp_path / "clinic.backup")
        finally:
            connection.execute(
                sql.SQL("CREATE POLICY backed_up ON patient FOR SELECT TO CURRENT_USER USING (")
                + sql.SQL(policy)
                + sql.SQL(")")
            )


def test_a_backup_of_a_newer_version_is_left_to_it(
    database: Access, elsewhere: Access, tmp_path: Path
) -> None:
    path = tmp_path / "clinic.backup"
    back_up(database, path)
    with tarfile.open(path) as tar:
        parts = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    told = json.loads(parts[backups.MANIFEST])
    rewrite(path, parts | {backups.MANIFEST: json.dumps(told | {"migration": "9999_x"}).encode()})

    with pytest.raises(BadBackup, match="9999_x, which this version does not know"):
        backups.restore(elsewhere, path, quietly)

    rewrite(path, parts | {backups.MANIFEST: json.dumps(told | {"server": 99}).encode()})
    with pytest.raises(BadBackup, match="PostgreSQL 99"):
        backups.restore(elsewhere, path, quietly)
    assert backups.is_empty(elsewhere)


def test_a_backup_of_an_older_version_is_restored_and_brought_to_this_one(
    elsewhere: Access, tmp_path: Path
) -> None:
    path = tmp_path / "clinic.backup"
    with scratch(os.environ.get("DATABASE_URL"), migrated=False) as before:
        migrating.upgrade(before.owner, migrating.PHASED_SINCE)
        with access.connect(before.service) as connection:
            connection.execute(_OLD_CLINIC)
        back_up(before, path)

    environment = {"DATABASE_URL": access.psycopg_url(elsewhere.owner), "AFTERGLOW_SECRET": SECRET}
    told = CliRunner().invoke(cli.main, ["restore", str(path)], env=environment)

    assert told.exit_code == 0, told.output
    assert migrating.current(elsewhere.owner) == migrating.head()
    assert migrating.drift(elsewhere.owner, Base.metadata) == []
    with access.connect(elsewhere.worker) as connection:
        assert connection.execute("SELECT name FROM clinic").fetchall() == [("Old",)]
        assert queue.resting_since(connection) is not None


_OLD_CLINIC = """
    WITH here AS MATERIALIZED (
        SELECT CAST(set_config('afterglow.clinic', gen_random_uuid()::text, false) AS uuid) AS id)
    INSERT INTO clinic (clinic_id, name, email, phone, time_zone, emergency_text)
    SELECT id, 'Old', 'a@example.com', '+12125550123', 'America/New_York', 'Call 911.' FROM here
"""


def test_a_database_without_anything_in_it_is_told_of_in_one_line(
    elsewhere: Access, tmp_path: Path
) -> None:
    with pytest.raises(BadBackup, match=r"^Nothing was backed up: relation .* does not exist$"):
        back_up(elsewhere, tmp_path / "clinic.backup")
    assert list(tmp_path.iterdir()) == []


def test_an_open_connection_of_the_service_is_seen(database: Access) -> None:
    before = backups.others(database)
    with access.connect(database.service):
        assert backups.others(database) == before + 1


def test_a_role_is_renamed_where_it_stands_as_a_role_and_nowhere_else() -> None:
    names = {"afterglow": "o-wner", "afterglow_service": 'ser"vice'}
    for line, wanted in {
        b"GRANT SELECT ON TABLE public.afterglow TO afterglow_service;\n": (
            b'GRANT SELECT ON TABLE public.afterglow TO "ser""vice";\n'
        ),
        b"REVOKE ALL ON FUNCTION public.f() FROM PUBLIC;\n": (
            b"REVOKE ALL ON FUNCTION public.f() FROM PUBLIC;\n"
        ),
        b"CREATE POLICY a ON public.b TO afterglow USING ((x = 'afterglow.clinic'));\n": (
            b"CREATE POLICY a ON public.b TO \"o-wner\" USING ((x = 'afterglow.clinic'));\n"
        ),
        b'CREATE POLICY a ON public.b TO "afterglow", afterglow_service USING (true);\n': (
            b'CREATE POLICY a ON public.b TO "o-wner", "ser""vice" USING (true);\n'
        ),
        b"    note text DEFAULT 'GIVE TO afterglow'\n": (
            b"    note text DEFAULT 'GIVE TO afterglow'\n"
        ),
    }.items():
        assert replaying.renamed(line, names) == wanted


def test_what_a_newer_program_sets_is_left_out_where_the_server_does_not_know_it(
    database: Access,
) -> None:
    """The only pg_restore on a machine may be that of PostgreSQL 18, and the server one of 15."""
    script = [
        b"SET statement_timeout = 0;\n",
        b"SET transaction_timeout_of_tomorrow = 0;\n",
        b"SELECT pg_catalog.set_config('search_path', '', false);\n",
        b"CREATE TABLE public.replayed (id int);\n",
    ]
    with access.connect(database.owner, autocommit=False) as connection:
        replaying.replay(connection, iter(script), {})
        assert connection.execute("SELECT count(*) FROM public.replayed").fetchall() == [(0,)]
        connection.rollback()


def test_a_password_is_in_no_command_line(database: Access, tmp_path: Path) -> None:
    """Other users of the machine read those."""
    seen: list[str] = []

    def watch(_done: int) -> None:
        seen.extend(
            path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if b"pg_dump" in _read(path)
        )

    backups.write(database, tmp_path / "clinic.backup", SUNDAY_NOON, "1", watch)

    assert seen
    assert [line for line in seen if str(database.owner.password) in line] == []


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGHUP], ids=lambda one: str(one.name))
def test_one_that_is_ended_early_leaves_nothing_of_the_clinic_behind(
    database: Access, busy: World, tmp_path: Path, ended_by: signal.Signals
) -> None:
    """Neither a file nor the server that it is restored into, whose data are everybody's."""
    beside = Path(tempfile.mkdtemp())  # where the server's account can reach its data
    beside.chmod(0o711)
    environment = {"DATABASE_URL": access.psycopg_url(database.owner), "AFTERGLOW_SECRET": SECRET}
    environment |= {"AFTERGLOW_VAR": str(tmp_path / "var"), "TMPDIR": str(beside)}
    heard = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # under nohup it is not
    command = [sys.executable, "-c", f"{heard}; import cli; cli.main()", "backup"]
    with subprocess.Popen(
        [*command, str(tmp_path / "clinic.backup")], env={**os.environ, **environment}
    ) as process:
        while not list(beside.glob("*/postgres/data/postmaster.pid")):  # initdb has one as well
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(ended_by)
        assert process.wait(60) == 128 + ended_by

    beside.rmdir()  # it is empty
    assert [path.name for path in tmp_path.glob("*clinic*")] == []
    left = [
        path for path in Path("/proc").glob("[0-9]*/cmdline") if str(beside).encode() in _read(path)
    ]
    assert left == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_server_error_is_one_line(elsewhere: Access, database: Access, tmp_path: Path) -> None:
    path = tmp_path / "clinic.backup"
    back_up(database, path)

    def fail(connection: psycopg.Connection[Any], _manifest: Manifest) -> None:
        connection.execute("SELECT 1/0")

    with pytest.raises(BadBackup, match=r"was not restored: division by zero$"):
        backups.restore(elsewhere, path, quietly, then=fail)
    assert backups.is_empty(elsewhere)
