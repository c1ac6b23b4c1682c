"""Our own PostgreSQL comes back after what a crashed machine leaves behind."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from database import embedded, opening
from database.access import Unreachable, access, connect, prepare
from database.opening import Opened

SECRET = "s"

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif("DATABASE_URL" in os.environ, reason="about the server of our own"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="afterglow-test-"))
    made.chmod(0o711)
    yield made / "postgres"
    opened = opening.ways_in(None, made / "postgres", SECRET)
    assert opened.server is not None
    embedded.stop(opened.server)
    shutil.rmtree(made)


def start(folder: Path) -> Opened:
    opened = opening.ways_in(None, folder, SECRET)
    opening.start(opened, folder, SECRET)
    return opened


def postmaster(opened: Opened) -> int:
    assert opened.server is not None
    return int((opened.server.data / "postmaster.pid").read_text().split()[0])


def test_what_was_committed_survives_a_kill(folder: Path) -> None:
    opened = start(folder)
    with connect(opened.ways.owner) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(postmaster(opened), signal.SIGKILL)

    again = start(folder)

    with connect(again.ways.owner) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_lock_file_that_names_another_process_is_not_believed(folder: Path) -> None:
    opened = start(folder)
    assert opened.server is not None
    lock = opened.server.data / "postmaster.pid"
    told = lock.read_text()
    embedded.stop(opened.server)
    lock.write_text(told.replace(told.split()[0], str(os.getpid()), 1))
    if opened.server.account is not None:
        os.chown(lock, opened.server.account.pw_uid, opened.server.account.pw_gid)

    again = start(folder)

    assert postmaster(again) != os.getpid()
    connect(again.ways.owner).close()


def test_a_half_made_cluster_is_made_anew(folder: Path) -> None:
    opened = opening.ways_in(None, folder, SECRET)
    assert opened.server is not None
    (opened.server.home / "data.half").mkdir(parents=True)
    (opened.server.home / "data.half" / "PG_VERSION").write_text("18")

    start(folder)


def test_a_second_start_uses_what_runs(folder: Path) -> None:
    first = start(folder)
    assert first.server is not None
    assert opening.start(first, folder, SECRET) is False
    assert embedded.is_running(first.server)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("not a url", "is not a URL"),
        ("mysql://x@localhost/y", "must name PostgreSQL"),
        ("postgresql://x@localhost", "and a database"),
        ("postgresql://x:y@127.0.0.1:1/z", "no connection to"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(url: str, told: str) -> None:
    with pytest.raises(Unreachable, match=told) as refusal:
        prepare(access(url, SECRET))

    assert "\n" not in str(refusal.value)
    assert ":y@" not in str(refusal.value)


def test_another_secret_is_told_from_a_server_that_is_away(folder: Path) -> None:
    start(folder)

    opened = opening.ways_in(None, folder, "another")
    with pytest.raises(Unreachable, match="made with another secret"):
        opening.start(opened, folder, "another")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's data are moved")
def test_a_folder_made_anew_never_takes_over_a_deleted_ones_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(embedded, "ELSEWHERE", tmp_path / "elsewhere")
    first = embedded.locate(closed / "postgres")
    first.data.mkdir(parents=True)

    again = embedded.locate(closed / "postgres")

    assert first.home.parent == again.home.parent == tmp_path / "elsewhere"
    assert again.home != first.home
