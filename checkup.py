"""`afterglow doctor`: what is right, what is doubtful and what is wrong, and what to do about it.

A check looks at one thing and changes nothing. A new one is a function in CHECKS.
"""

import json
import shutil
import smtplib
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib import metadata
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

import click
import psycopg

import clock
import config
import shell
import vault
from database import access, contents, migrating, programs
from database.access import Access, Unreachable
from notifications import queue
from notifications.channels import smtp
from scheduler import seals


class Level(StrEnum):
    """How things stand."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    name: str
    level: Level
    said: str
    to_do: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """What checks look at."""

    settings: config.Settings
    ways: Access | None
    """None: the database is not there."""

    @property
    def open(self) -> Access:
        """The ways into the database that is there."""
        if self.ways is None:
            raise Unreachable("The database is not there.")
        return self.ways


def ok(name: str, said: str) -> Finding:
    """All is well."""
    return Finding(name, Level.OK, said)


def warn(name: str, said: str, to_do: str) -> Finding:
    """Somebody should look at it."""
    return Finding(name, Level.WARN, said, to_do)


def bad(name: str, said: str, to_do: str) -> Finding:
    """It does not work, or is not safe."""
    return Finding(name, Level.BAD, said, to_do)


Check = Callable[[Examined], Iterator[Finding]]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(as_json: bool) -> None:
    """Say what is wrong, and what to do. Exit 1 if anything is bad."""
    settings = shell.settings()
    with _reached(settings) as (ways, trouble):
        findings = [*trouble, *examine(Examined(settings, ways))]
    if as_json:
        click.echo(json.dumps([asdict(one) for one in findings], indent=1))
    else:
        for one in findings:
            todo = f"  -> {one.to_do}" if one.to_do else ""
            click.secho(f"{one.level:5}{one.name:15}{one.said}{todo}", fg=_COLOURS[one.level])
    sys.exit(any(one.level is Level.BAD for one in findings))


_COLOURS = {Level.OK: None, Level.WARN: "yellow", Level.BAD: "red"}


def examine(examined: Examined) -> Iterator[Finding]:
    """Run every check. One that cannot look says so, and the next one goes on."""
    for check in CHECKS if examined.ways is not None else WITHOUT_DATABASE:
        try:
            yield from check(examined)
        except (psycopg.Error, OSError) as error:
            why = str(error).strip().splitlines()[0]
            yield Finding(check.__name__, Level.BAD, f"could not be looked at: {why}")


@contextmanager
def _reached(settings: config.Settings) -> Iterator[tuple[Access | None, list[Finding]]]:
    with ExitStack() as stack:
        try:
            ways = stack.enter_context(shell.reached(settings)).ways
            access.connect(ways.owner).close()
        except (shell.OneLine, Unreachable) as error:
            said = error.message if isinstance(error, shell.OneLine) else str(error)
            todo = "See DATABASE_URL, and that PostgreSQL runs."
            yield None, [Finding("database", Level.BAD, said, todo)]
        else:
            yield ways, []


def secret(examined: Examined) -> Iterator[Finding]:
    """What cookies are signed with, and passwords are derived from, is hard to guess."""
    told, kept = examined.settings.secret, examined.settings.var / "secret"
    if len(told) < 32 or len(set(told)) < 10:
        yield Finding(
            "secret",
            Level.BAD,
            "it is short or plain",
            "Set AFTERGLOW_SECRET to 48 random letters.",
        )
    elif kept.exists() and kept.stat().st_mode & 0o077:
        yield bad("secret", f"others may read {kept}", f"chmod 600 {kept}")
    else:
        yield ok("secret", "long, and nobody else's")


def masters(examined: Examined) -> Iterator[Finding]:
    """The master key is here, nobody else's, and the one that clinics' keys are wrapped with."""
    kept = examined.settings.var / "master-key"
    if kept.exists() and kept.stat().st_mode & 0o077:
        yield bad("master key", f"others may read {kept}", f"chmod 600 {kept}")
    names = " and ".join(one.name for one in examined.settings.masters.all)
    with access.connect(examined.open.service) as connection:
        try:
            vault.refuse_wrong_masters(connection)
        except vault.WrongMaster as error:
            yield bad("master key", str(error), "Without it nothing that is sealed can be read.")
            return
    if len(examined.settings.masters.all) > 1:
        todo = "Run `afterglow keys rewrap`, then take the old one away."
        yield warn("master key", f"there are two, {names}", todo)
    else:
        yield ok("master key", names)


def keys(examined: Examined) -> Iterator[Finding]:
    """All that is to be sealed is sealed with the newest key of its clinic."""
    with access.connect(examined.open.owner, autocommit=False) as connection:
        contents.settle(connection, contents.FOR_A_BACKUP)
        found = seals.look(connection)
    if found.stuck:
        yield bad("keys", f"{found.stuck} rows do not open", "See `seal.stuck` in the log.")
    if found.walking:
        told = f"{found.walking} clinics are being sealed anew"
        yield warn("keys", told, "The worker is at it: `afterglow keys status`.")
    for how, rows in (
        ("with another key than the newest", found.older),
        ("not sealed", found.plain),
    ):
        if rows:
            told = ", ".join(f"{table} {number}" for table, number in rows.items())
            todo = "The worker is at it." if found.walking else "Run `afterglow keys rotate`."
            yield warn("seals", f"{how}: {told}", todo)
    if not (found.stuck or found.walking or found.older or found.plain):
        gone = f"; of {found.forgotten} clinics forgotten for ever" if found.forgotten else ""
        yield ok("keys", f"everything is sealed with the newest{gone}")


def address(examined: Examined) -> Iterator[Finding]:
    """Patients come over TLS, and we know from where."""
    settings, parts = examined.settings, urlsplit(examined.settings.public_url)
    if parts.scheme == "https":
        yield ok("address", settings.public_url)
    elif _is_here(parts):
        yield warn(
            "address",
            f"{settings.public_url}: nobody else can follow a link",
            "Set AFTERGLOW_PUBLIC_URL=https://... before patients get messages.",
        )
    else:
        yield bad(
            "address",
            f"{settings.public_url} is not https: cookies and links are open",
            "Put a TLS proxy in front and set AFTERGLOW_PUBLIC_URL=https://...",
        )
    if parts.scheme == "https" and not settings.trusted_proxies:
        yield warn(
            "proxies",
            "TRUSTED_PROXIES is 0: every caller comes from the proxy",
            "Set TRUSTED_PROXIES to the number of proxies in front.",
        )


def disk(examined: Examined) -> Iterator[Finding]:
    """There is room where the service keeps its files."""
    free = shutil.disk_usage(examined.settings.var).free
    level = Level.BAD if free < 5e8 else Level.WARN if free < 5e9 else Level.OK
    yield Finding(
        "disk",
        level,
        f"{free / 1e9:,.1f} GB free in {examined.settings.var}",
        "" if level is Level.OK else "Make room: a database without any stops.",
    )


def zones(_examined: Examined) -> Iterator[Finding]:
    """The rules of time zones are not old: governments change them at short notice."""
    version = metadata.version("tzdata")
    behind = datetime.now(UTC).year - int(version.split(".")[0])
    yield Finding(
        "zones",
        Level.OK if behind <= 1 else Level.WARN,
        f"tzdata {version}",
        "" if behind <= 1 else "Update Afterglow, or renew its locks: make lock.",
    )


def server(examined: Examined) -> Iterator[Finding]:
    """PostgreSQL is new enough, keeps what it said it kept, and has room for our connections."""
    with access.connect(examined.open.owner) as connection:
        said = {
            name: connection.execute("SELECT current_setting(%s)", [name]).fetchall()[0][0]
            for name in ("server_version", *_DURABLE, "max_connections")
        }
        major = connection.info.server_version // 10000
    yield Finding("postgresql", Level.OK if major >= 15 else Level.BAD, said["server_version"])
    lossy = [name for name in _DURABLE if said[name] == "off"]
    if lossy:
        yield bad(
            "durability",
            f"{', '.join(lossy)} is off: a crash loses what was confirmed",
            f"Set {lossy[0]} = on in postgresql.conf.",
        )
    else:
        yield ok("durability", "fsync, full_page_writes, synchronous_commit")
    yield _room(examined.settings, int(said["max_connections"]))
    try:
        found = programs.find("pg_dump", major)
        yield ok("pg_dump", str(found))
    except Unreachable as error:
        yield bad("pg_dump", str(error), "Without it there is no backup.")


_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


def connections_needed(settings: config.Settings) -> tuple[int, int]:
    """At most so many connections have the web and one worker.

    A worker's pool has 15; a channel has one for each sender, one that claims and one that
    listens; a herald one that claims and one that listens.
    """
    channels = 2
    web = settings.web_workers * (settings.web_threads + 4)
    return web, 17 + channels * (settings.senders + 2) + 2 * settings.heralds


def _room(settings: config.Settings, there: int) -> Finding:
    web, worker = connections_needed(settings)
    told = f"web {web}, one worker {worker}, of {there}"
    if web + worker + 10 > there:
        return warn("connections", told, "Raise max_connections, or lower WEB_THREADS.")
    return ok("connections", told)


def roles(examined: Examined) -> Iterator[Finding]:
    """Row-level security holds for the processes' roles, and nothing runs for ever."""
    ways = examined.open
    for name, url in zip(("service", "worker", "operator"), ways.processes, strict=True):
        try:
            with access.connect(url) as connection:
                access.refuse_unsafe_role(connection)
                off = [
                    limit
                    for limit in access.LIMITS
                    if connection.execute("SELECT current_setting(%s)", [limit]).fetchall()[0][0]
                    in {"0", ""}
                ]
        except Unreachable as error:
            yield Finding(f"role {name}", Level.BAD, str(error), "Run `afterglow migrate`.")
        else:
            yield Finding(
                f"role {name}",
                Level.WARN if off else Level.OK,
                f"{url.username}" + (f" has no {', '.join(off)}" if off else ""),
                "Run `afterglow migrate`." if off else "",
            )


def tables(examined: Examined) -> Iterator[Finding]:
    """The database is what this code expects, and every table is behind row-level security."""
    at, wanted = migrating.current(examined.open.owner), migrating.head()
    if at == wanted:
        yield ok("migrations", wanted)
    elif at is not None and not migrating.is_known(at):
        yield bad("migrations", f"{at} is newer than this code", "Use the version it is of.")
    else:
        yield bad("migrations", f"{at}, but {wanted} is expected", "Run `afterglow migrate`.")
    with access.connect(examined.open.owner) as connection:
        naked = [row[0] for row in connection.execute(_NAKED).fetchall()]
    if naked:
        yield bad(
            "row security",
            f"{', '.join(naked)}: open to every clinic",
            "Stop the service. ALTER TABLE ... FORCE ROW LEVEL SECURITY.",
        )


def worker(examined: Examined) -> Iterator[Finding]:
    """A worker was seen of late, and may say what is due."""
    with access.connect(examined.open.worker) as connection:
        [(age,)] = connection.execute(
            "SELECT clock_timestamp() - max(seen_at) FROM worker"
        ).fetchall()
        since = queue.resting_since(connection)
        now = clock.clock(examined.settings.clock_file)()
        counts = connection.execute(_COUNTS, [now]).fetchall()
    if age is None or age > timedelta(seconds=60):
        said = "never seen" if age is None else f"not seen for {age}"
        yield bad("worker", said, "Start one: python -m worker")
    else:
        yield ok("worker", f"seen {age.total_seconds():.1f} s ago")
    if since is not None:
        yield warn(
            "held",
            f"restored {since:%Y-%m-%d %H:%M} UTC: nothing is sent",
            "Enter again what is missing, then `afterglow resume`.",
        )
    uncertain, oldest = counts[0]
    if since is None and (oldest or 0) > 300:
        yield bad("messages", f"one is due for {oldest:.0f} s", "See the worker.")
    elif uncertain:
        yield warn(
            "messages",
            f"{uncertain} are uncertain",
            "GET /api/v1/messages?state=uncertain lists them; people decide.",
        )


def clocks(examined: Examined) -> Iterator[Finding]:
    """This machine and the database's agree on the time."""
    with access.connect(examined.open.owner) as connection:
        before = time.time()
        [(there,)] = connection.execute(
            "SELECT extract(epoch FROM clock_timestamp())::float"
        ).fetchall()
        after = time.time()
    apart = abs(there - (before + after) / 2)
    level = Level.OK if apart < 1 else Level.WARN if apart < 10 else Level.BAD
    yield Finding(
        "clock",
        level,
        f"{apart:.2f} s from the database's",
        "" if level is Level.OK else "Run a time service (chrony, systemd-timesyncd) on both.",
    )
    if examined.settings.clock_file is not None:
        yield warn(
            "clock",
            f"{examined.settings.clock_file} stands in for the machine's",
            "Unset AFTERGLOW_CLOCK: it is for rehearsals.",
        )


def mail(examined: Examined) -> Iterator[Finding]:
    """Every mail server lets us in as far as the letter; none is written."""
    if not examined.settings.smtp:
        yield Finding(
            "mail",
            Level.WARN,
            f"written to {examined.settings.outbox}",
            "Set SMTP_HOST to send it.",
        )
    for one in examined.settings.smtp:
        where = f"{one.host}:{one.port}"
        told = smtp.Server(
            host=one.host,
            port=one.port,
            security=one.security,
            username=one.username,
            password=one.password,
        )
        try:
            smtp.greet(told)
        except (OSError, smtplib.SMTPException) as error:
            kind = type(error).__name__
            yield bad("mail", f"{where} does not let us in: {kind}", _MAIL_TO_DO)
        else:
            plain = one.security is config.Security.NONE and not _is_here(urlsplit(f"//{where}"))
            yield Finding(
                "mail",
                Level.WARN if plain else Level.OK,
                f"{where} answers" + (", and nothing protects the way there" if plain else ""),
                "Set SMTP_SECURITY=starttls." if plain else "",
            )


_MAIL_TO_DO = "See SMTP_HOST, SMTP_PORT, SMTP_SECURITY, the certificate, and SMTP_USERNAME."


def texts(examined: Examined) -> Iterator[Finding]:
    """The provider of text messages is there, over TLS."""
    if not examined.settings.sms:
        yield warn("texts", f"written to {examined.settings.outbox}", "Set SMS_URL to send them.")
    for one in examined.settings.sms:
        parts = urlsplit(one.url)
        try:
            _reach(parts)
        except OSError as error:
            said = f"{parts.hostname} cannot be reached: {type(error).__name__}"
            yield bad("texts", said, "See SMS_URL and the way out of this network.")
        else:
            plain = parts.scheme != "https" and not _is_here(parts)
            yield Finding(
                "texts",
                Level.BAD if plain else Level.OK,
                f"{parts.hostname} is there" + (", but not over TLS" if plain else ""),
                "Set SMS_URL=https://..." if plain else "",
            )


def _reach(parts: SplitResult) -> None:
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    with socket.create_connection((host, port), timeout=5) as there:
        if parts.scheme == "https":
            ssl.create_default_context().wrap_socket(there, server_hostname=host).close()


def _is_here(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


_NAKED = """
    SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')
       AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
       AND NOT (relrowsecurity AND relforcerowsecurity)
"""

_COUNTS = """
    SELECT coalesce(sum(number) FILTER (WHERE state = 'uncertain'), 0), max(oldest)
      FROM count_messages(%s)
"""

WITHOUT_DATABASE: tuple[Check, ...] = (secret, address, disk, zones, mail, texts)
CHECKS: tuple[Check, ...] = (
    *(*WITHOUT_DATABASE, server, roles, tables, masters, keys, worker, clocks),
)
