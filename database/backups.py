"""Backups: a whole database as one file, read in one snapshot, and the way back.

The file is a tar of two parts: `database.dump`, which `pg_restore` reads, and `manifest.json`,
which says what must be in it. It is there whole or not at all. A restoration is one
transaction: it ends with the same contents as the manifest tells, or changes nothing.

The keys of clinics are not in it: they stand in a file of their own beside it, so that what is
sealed in a backup is safe with whoever has the backup alone, and so that a clinic's keys can be
forgotten there as well: take its lines out, and what is left is restored without them.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import Connection, IsolationLevel
from sqlalchemy import URL

from database import access, contents, migrating, programs, replaying
from database.access import Access
from database.contents import Contents
from database.scratch import scratch

FORMAT = 1
DUMP, MANIFEST = "database.dump", "manifest.json"
CHUNK = 1 << 18

Progress = Callable[[int], None]
"""Told how many bytes are done."""


class BadBackup(Exception):
    """A backup that cannot be made or used. The message is one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself."""

    taken_at: datetime
    app: str
    migration: str
    server: int
    """PostgreSQL's major version."""
    roles: Mapping[str, str]
    """The names of owner, service, worker and operator where it was made."""
    bytes: int
    sha256: str
    """Of the dump."""
    contents: Contents


def write(ways: Access, path: Path, now: datetime, app: str, progress: Progress) -> Manifest:
    """Back the database up into a new file at `path`, as of one instant, and its keys beside it.

    Raises BadBackup, and leaves no file, if it cannot be done.
    """
    for one in (path, keys_of(path)):
        if one.exists():
            raise BadBackup(f"{one} is there already; a backup replaces no other.")
    with (
        _half_made(path) as file,
        _half_made(keys_of(path)) as keys,
        access.connect(ways.owner, autocommit=False) as connection,
    ):
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        try:
            held = contents.look(connection)
            [(migration,)] = connection.execute("SELECT version_num FROM alembic_version")
            [(snapshot,)] = connection.execute("SELECT pg_export_snapshot()")
            keys.write(_keys(connection))
        except (ValueError, psycopg.Error) as error:
            raise BadBackup(f"Nothing was backed up: {_first_line(error)}") from error
        file.seek(tarfile.BLOCKSIZE)  # the dump's header is written when its size is known
        digest, size = _dump(ways.owner, _major(connection), snapshot, file, progress)
        manifest = Manifest(
            taken_at=now,
            app=app,
            migration=migration,
            server=_major(connection),
            roles=_roles(ways),
            bytes=size,
            sha256=digest,
            contents=held,
        )
        _finish(file, manifest)
    return manifest


def keys_of(path: Path) -> Path:
    """Where the keys of a backup stand: a line of JSON for each key of a clinic, still wrapped."""
    return path.with_name(f"{path.name}.keys")


def read_manifest(path: Path) -> Manifest:
    """Read what a backup says of itself. Raises BadBackup if it is none."""
    try:
        with tarfile.open(path) as tar:
            told = tar.extractfile(MANIFEST)
            assert told is not None
            return _from_json(json.loads(told.read()))
    except (tarfile.TarError, KeyError, ValueError, TypeError, OSError, AssertionError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not whole, or no backup"
        raise BadBackup(f"{path} cannot be used: {why}.") from error


def verify(path: Path, progress: Progress) -> Manifest:
    """Restore a backup into a database of its own, compare, and throw that away.

    Raises BadBackup if anything differs.
    """
    with scratch(None, migrated=False) as ways:
        return restore(ways, path, progress)


def restore(
    ways: Access,
    path: Path,
    progress: Progress,
    *,
    replace: bool = False,
    then: Callable[[Connection[Any], Manifest], None] = lambda _connection, _manifest: None,
) -> Manifest:
    """Put a backup's contents into the database, which is empty unless `replace`.

    The roles are there already. `then` is called with the owner's connection before all of it
    becomes true at once. Raises BadBackup, and changes nothing, if the file is damaged or what
    was restored is not what the manifest says.
    """
    manifest = read_manifest(path)
    if not migrating.is_known(manifest.migration):
        raise BadBackup(
            f"{path} was made by Afterglow {manifest.app} at migration {manifest.migration}, "
            "which this version does not know. Restore it with that version or a newer one."
        )
    with access.connect(ways.owner, autocommit=False) as connection:
        _refuse_older_server(connection, manifest)
        _make_room(connection, ways, replace=replace)
        try:
            with _restored_from(path, manifest, _major(connection), progress) as script:
                there = _roles(ways)
                names = {was: there[kind] for kind, was in manifest.roles.items()}
                replaying.replay(connection, script, names)
            connection.execute("RESET ALL")
            _put_back_keys(connection, keys_of(path))
            _compare(manifest, contents.look(connection))
            then(connection, manifest)
        except psycopg.Error as error:
            raise BadBackup(f"{path} was not restored: {_first_line(error)}") from error
    with access.connect(ways.owner) as connection:
        connection.execute("ANALYZE")
    return manifest


def others(ways: Access) -> int:
    """How many connections the service's processes have to this database."""
    with access.connect(ways.owner) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND usename = ANY(%s)",
            [[url.username for url in ways.processes]],
        ).fetchone()
    assert row is not None
    return int(row[0])


def is_empty(ways: Access) -> bool:
    """Whether there is no table yet."""
    with access.connect(ways.owner) as connection:
        return not connection.execute(_THERE).fetchall()


@contextlib.contextmanager
def _half_made(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name once it is whole and on the disk; else it is gone."""
    half = path.with_name(f".{path.name}.{os.getpid()}.half")
    try:
        with os.fdopen(os.open(half, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        half.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise BadBackup(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        half.unlink(missing_ok=True)


def _dump(
    owner: URL, major: int, snapshot: str, file: IO[bytes], progress: Progress
) -> tuple[str, int]:
    command = [
        str(programs.find("pg_dump", major)),
        *("--format=custom", "--compress=6", "--no-password", "--lock-wait-timeout=60s"),
        "--exclude-table-data=public.clinic_key",  # see keys_of
        "--enable-row-security",  # it is forced on the owner; a policy lets a backup read
        f"--snapshot={snapshot}",
        f"--dbname={access.psycopg_url(owner._replace(password=None))}",
    ]
    settings = " ".join(
        f"-c {name}={value}" for name, value in contents.FOR_A_BACKUP.items()
    )  # none of them holds a space
    environment = {**os.environ, "PGPASSWORD": owner.password or "", "PGOPTIONS": settings}
    digest, size = hashlib.sha256(), 0
    with _running(command, environment) as process:
        assert process.stdout is not None
        while chunk := process.stdout.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
            progress(size)
    return digest.hexdigest(), size


def _finish(file: IO[bytes], manifest: Manifest) -> None:
    """Pad the dump, write the manifest after it, and the dump's header before it."""
    _pad(file)
    told = json.dumps(asdict(manifest) | {"format": FORMAT}, default=str, indent=1).encode()
    file.write(_header(MANIFEST, len(told), manifest.taken_at))
    file.write(told)
    _pad(file)
    file.write(bytes(2 * tarfile.BLOCKSIZE))
    file.seek(0)
    file.write(_header(DUMP, manifest.bytes, manifest.taken_at))


def _pad(file: IO[bytes]) -> None:
    file.write(bytes(-file.tell() % tarfile.BLOCKSIZE))


def _header(name: str, size: int, at: datetime) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, int(at.timestamp()), 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _from_json(told: dict[str, Any]) -> Manifest:
    if told.pop("format") != FORMAT:
        raise ValueError("another format")
    held = told.pop("contents")
    tables = {name: (int(rows), str(total)) for name, (rows, total) in held["tables"].items()}
    heads = {clinic: (int(n), str(digest)) for clinic, (n, digest) in held["audit_heads"].items()}
    taken_at = datetime.fromisoformat(told.pop("taken_at"))
    return Manifest(**told, taken_at=taken_at, contents=Contents(tables, heads, held["broken_at"]))


@contextlib.contextmanager
def _restored_from(
    path: Path, manifest: Manifest, major: int, progress: Progress
) -> Iterator[Iterator[bytes]]:
    """The lines of SQL that make the dump's contents. Raises BadBackup if the file is damaged."""
    command = [
        str(programs.find("pg_restore", max(major, manifest.server))),
        *("--file=-", "--no-owner", "--no-comments", "--no-tablespaces", "--exit-on-error"),
    ]
    digest = hashlib.sha256()
    with (
        tarfile.open(path) as tar,
        _running(command, dict(os.environ), stdin=subprocess.PIPE) as process,
    ):
        dump = tar.extractfile(DUMP)
        assert dump is not None
        assert process.stdin is not None
        assert process.stdout is not None
        feeding = threading.Thread(
            target=_feed, args=(dump, process.stdin, digest.update, progress), daemon=True
        )
        feeding.start()
        yield iter(process.stdout)
        feeding.join()
    if digest.hexdigest() != manifest.sha256:
        raise BadBackup(f"{path} is damaged: it does not hold what was written into it.")


def _feed(
    dump: IO[bytes], into: IO[bytes], note: Callable[[bytes], None], progress: Progress
) -> None:
    done = 0
    # A reader that gives up says why itself, as does a file that ends too soon.
    with contextlib.suppress(OSError, tarfile.TarError), into:
        while chunk := dump.read(CHUNK):
            note(chunk)
            into.write(chunk)
            done += len(chunk)
            progress(done)


def _keys(connection: Connection[Any]) -> bytes:
    if not _has_keys(connection):
        return b""
    rows = connection.execute(
        "SELECT to_jsonb(k)::text FROM clinic_key k ORDER BY clinic_id, number"
    ).fetchall()
    return b"".join(row[0].encode() + b"\n" for row in rows)


def _put_back_keys(connection: Connection[Any], path: Path) -> None:
    """Write the keys that the file still has; whose were taken out of it stay sealed."""
    if not _has_keys(connection):
        return
    try:
        lines = path.read_text().splitlines()
        told = [(line, str(json.loads(line)["clinic_id"])) for line in lines if line]
    except FileNotFoundError as error:
        raise BadBackup(
            f"{path} is not there: without the keys nothing that is sealed can be read. "
            "It was written beside the backup; put it there."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadBackup(f"{path} is damaged: each line is one key, in JSON.") from error
    for line, clinic_id in told:
        contents.settle(connection, {"afterglow.clinic": clinic_id})
        connection.execute(
            "INSERT INTO public.clinic_key "
            "SELECT * FROM jsonb_populate_record(NULL::public.clinic_key, %s::jsonb)",
            [line],
        )
    contents.settle(connection, {"afterglow.clinic": ""})


def _has_keys(connection: Connection[Any]) -> bool:
    [(table,)] = connection.execute("SELECT to_regclass('public.clinic_key')").fetchall()
    return table is not None


def _compare(manifest: Manifest, found: Contents) -> None:
    differences = list(manifest.contents.differences(found))
    if differences:
        more = f" And {len(differences) - 3} more." if len(differences) > 3 else ""
        raise BadBackup(
            "What was restored is not what was backed up; nothing was changed. "
            + " ".join(differences[:3])
            + more
        )


def _refuse_older_server(connection: Connection[Any], manifest: Manifest) -> None:
    if _major(connection) < manifest.server:
        raise BadBackup(
            f"The backup was made on PostgreSQL {manifest.server}; this server is "
            f"{_major(connection)}. Restore it on {manifest.server} or newer."
        )


def _make_room(connection: Connection[Any], ways: Access, *, replace: bool) -> None:
    there = [row[0] for row in connection.execute(_THERE).fetchall()]
    if there and not replace:
        raise BadBackup(
            f"The database {ways.owner.database} is not empty: {len(there)} tables. "
            "To put the backup in their place, say --replace."
        )
    contents.settle(connection, {"lock_timeout": "10s", "search_path": "public"})
    if there:
        connection.execute(_EMPTY)


@contextlib.contextmanager
def _running(
    command: list[str], environment: dict[str, str], stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of PostgreSQL's programs; raise BadBackup with its own words if it fails."""
    with subprocess.Popen(  # noqa: S603  # PostgreSQL's own, and our own arguments
        command,
        env={**environment, "LC_ALL": "C", "PGAPPNAME": "afterglow-backup"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        said: list[bytes] = []
        assert process.stderr is not None
        hearing = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
        hearing.start()
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        hearing.join()
        if process.wait():
            why = b" ".join(said).decode(errors="replace").strip().splitlines()
            raise BadBackup(f"{Path(command[0]).name} failed: {why[-1] if why else '?'}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _roles(ways: Access) -> dict[str, str]:
    return {
        "owner": ways.owner.username or "",
        "service": ways.service.username or "",
        "worker": ways.worker.username or "",
        "operator": ways.operator.username or "",
    }


def _major(connection: Connection[Any]) -> int:
    return connection.info.server_version // 10000


_THERE = """
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
       AND relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition
"""

_EMPTY = """
    DO $$
    DECLARE one record;
    BEGIN
        FOR one IN SELECT oid::regclass AS name FROM pg_class
                    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
                      AND NOT relispartition LOOP
            EXECUTE format('DROP TABLE %s CASCADE', one.name);
        END LOOP;
        FOR one IN SELECT oid::regprocedure AS name FROM pg_proc p
                    WHERE pronamespace = 'public'::regnamespace
                      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid
                                         AND d.deptype = 'e') LOOP
            EXECUTE format('DROP ROUTINE %s CASCADE', one.name);
        END LOOP;
    END $$
"""
"""Tables and functions of ours; an extension and what belongs to it stay."""
