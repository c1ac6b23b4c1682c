"""Settings: every key, its unit and its default. Read once, by the roots; passed inward.

Values come from the environment. A value that cannot be used is one clear line, not a trace.
"""

import os
import secrets
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from environs import Env, EnvError
from marshmallow.validate import OneOf, Range

from vault import masters
from vault.masters import BadMaster, Masters


class BadSetting(Exception):
    """A setting that cannot be used. The message names it and says what to do."""


class Security(StrEnum):
    """How the connection to the mail server is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Smtp:
    """A mail server to hand messages to."""

    host: str
    port: int
    security: Security
    username: str | None
    password: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sms:
    """A provider of text messages that speaks Twilio's interface."""

    url: str
    account: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set from outside."""

    var: Path
    """AFTERGLOW_VAR: where the service keeps its files. Default ./var."""
    database_url: str | None
    """DATABASE_URL: the PostgreSQL to use, as the owner of the tables. None: one of our own."""
    port: int
    """PORT: where the web listens. Default 8000."""
    public_url: str
    """AFTERGLOW_PUBLIC_URL: how patients reach the web; stands in their links.
    Default http://localhost:PORT."""
    secret: str
    """AFTERGLOW_SECRET, else var/secret, made at the first start: signs cookies, and the
    database passwords of the service's own roles are derived from it."""
    masters: Masters
    """AFTERGLOW_MASTER_KEY, or what stands in AFTERGLOW_MASTER_KEY_FILE: 32 random bytes in base64
    that the keys of clinics are wrapped with; while it is being replaced two, the new one first.
    Without both, and with a database of our own: var/master-key, made at the first start."""
    clock_file: Path | None
    """AFTERGLOW_CLOCK: a file with an RFC 3339 instant that stands in for the clinic's clock.
    For rehearsals and tests. Default: the machine's clock."""
    web_workers: int
    """WEB_WORKERS: web processes. Default 2."""
    web_threads: int
    """WEB_THREADS: threads in each of them. Default 4."""
    sweep_seconds: float
    """AFTERGLOW_SWEEP_SECONDS: how often the worker looks for due messages unasked. Default 2."""
    smtp: tuple[Smtp, ...]
    """SMTP_HOST, SMTP_PORT (587), SMTP_SECURITY (none, starttls, tls; default starttls),
    SMTP_USERNAME, SMTP_PASSWORD. Without SMTP_HOST mail is written to var/outbox/.
    SMTP_FALLBACK_HOST and so on: another server, for when that one does not take mail."""
    sms: tuple[Sms, ...]
    """SMS_URL, SMS_ACCOUNT, SMS_TOKEN: who sends text messages; signs what it tells us with the
    token. Without SMS_URL they are written to var/outbox/. SMS_FALLBACK_URL and so on: another."""
    email_per_second: float | None
    """EMAIL_PER_SECOND: at most so many mails a second. Default: as many as the server takes."""
    sms_per_second: float | None
    """SMS_PER_SECOND: at most so many text messages a second, as the provider allows."""
    senders: int
    """SENDERS: messages of a channel handed over side by side by one worker. Default 4."""
    feed_networks: tuple[IPv4Network | IPv6Network, ...]
    """FEED_NETWORKS: networks of one's own from which calendars may be fetched (10.1.0.0/16,
    fd00::/8), without TLS too. Default: none, public addresses alone."""
    requests_per_minute: int
    """REQUESTS_PER_MINUTE: how often one caller may ask the API; a clinic five times as often,
    unless it was given a limit of its own. Default 1200."""
    webhook_networks: tuple[IPv4Network | IPv6Network, ...]
    """WEBHOOK_NETWORKS: networks of one's own that webhooks may be in, at any port, without TLS
    too. Default: none, public addresses at port 443 alone."""
    heralds: int
    """HERALDS: webhooks that one worker tells at the same time. Default 4."""
    sign_in_networks: tuple[IPv4Network | IPv6Network, ...]
    """SIGN_IN_NETWORKS: the same for the sites by which people may sign in (OpenID Connect)."""
    closed_days: int
    """CLOSED_DAYS: so long a clinic that was closed can be reopened, and its archive be taken out,
    before an operator may shred it. Default 30."""
    metrics_token: str | None
    """METRICS_TOKEN: what must be sent as a bearer token to read /metrics. Default: nothing; then
    keep it from the outside, as the proxies in deploy/ do."""
    trusted_proxies: int
    """TRUSTED_PROXIES: how many proxies in front may tell us the caller's address. Default 0."""
    log_level: str
    """LOG_LEVEL: debug, info, warning or error. Default info."""

    @property
    def outbox(self) -> Path:
        """Where mail is written when there is no mail server."""
        return self.var / "outbox"

    @property
    def heads(self) -> Path:
        """Where the heads of the audit trail are written, to be kept elsewhere."""
        return self.var / "audit-heads"

    @property
    def secure(self) -> bool:
        """Whether patients and staff come over TLS; cookies are then `Secure`."""
        return self.public_url.startswith("https://")


def load() -> Settings:
    """Read the settings from the environment.

    Raises BadSetting if one of them cannot be used.
    """
    env = Env()
    try:
        return _read(env)
    except EnvError as error:
        raise BadSetting(str(error)) from error


def _read(env: Env) -> Settings:
    var = Path(env.str("AFTERGLOW_VAR", "var")).absolute()
    port = env.int("PORT", 8000, validate=Range(1, 65535))
    clock = env.str("AFTERGLOW_CLOCK", "")
    return Settings(
        var=var,
        database_url=env.str("DATABASE_URL", "") or None,
        port=port,
        public_url=_url(env.str("AFTERGLOW_PUBLIC_URL", f"http://localhost:{port}")),
        secret=env.str("AFTERGLOW_SECRET", "") or kept_secret(var),
        masters=_masters(env, var),
        clock_file=Path(clock).absolute() if clock else None,
        web_workers=env.int("WEB_WORKERS", 2, validate=Range(1, 64)),
        web_threads=env.int("WEB_THREADS", 4, validate=Range(1, 64)),
        sweep_seconds=env.float("AFTERGLOW_SWEEP_SECONDS", 2.0, validate=Range(0.05, 60)),
        smtp=tuple(filter(None, (_smtp(env, "SMTP"), _smtp(env, "SMTP_FALLBACK")))),
        sms=tuple(filter(None, (_sms(env, "SMS"), _sms(env, "SMS_FALLBACK")))),
        email_per_second=_rate(env, "EMAIL_PER_SECOND"),
        sms_per_second=_rate(env, "SMS_PER_SECOND"),
        senders=env.int("SENDERS", 4, validate=Range(1, 32)),
        sign_in_networks=_networks(env, "SIGN_IN_NETWORKS"),
        requests_per_minute=env.int("REQUESTS_PER_MINUTE", 1200, validate=Range(1, 1_000_000_000)),
        feed_networks=_networks(env, "FEED_NETWORKS"),
        webhook_networks=_networks(env, "WEBHOOK_NETWORKS"),
        heralds=env.int("HERALDS", 4, validate=Range(1, 32)),
        closed_days=env.int("CLOSED_DAYS", 30, validate=Range(1, 3650)),
        metrics_token=env.str("METRICS_TOKEN", "") or None,
        trusted_proxies=env.int("TRUSTED_PROXIES", 0, validate=Range(0, 10)),
        log_level=env.str(
            "LOG_LEVEL", "info", validate=OneOf(["debug", "info", "warning", "error"])
        ),
    )


def _masters(env: Env, var: Path) -> Masters:
    told, file = env.str("AFTERGLOW_MASTER_KEY", ""), env.str("AFTERGLOW_MASTER_KEY_FILE", "")
    if told and file:
        raise BadSetting("Set AFTERGLOW_MASTER_KEY or AFTERGLOW_MASTER_KEY_FILE, not both.")
    if not told and not file and env.str("DATABASE_URL", ""):
        raise BadSetting(
            "AFTERGLOW_MASTER_KEY is not set: what patients tell is sealed with it. "
            "Make one with `openssl rand -base64 32`, and keep a copy away from the database."
        )
    try:
        return masters.read(told or _written(Path(file) if file else kept_master(var)))
    except BadMaster as error:
        raise BadSetting(f"AFTERGLOW_MASTER_KEY: {error}.") from error


def _written(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"AFTERGLOW_MASTER_KEY_FILE: {path} cannot be read.") from error


def _smtp(env: Env, prefix: str) -> Smtp | None:
    host = env.str(f"{prefix}_HOST", "")
    if not host:
        return None
    codes = [code.value for code in Security]
    return Smtp(
        host=host,
        port=env.int(f"{prefix}_PORT", 587, validate=Range(1, 65535)),
        security=Security(env.str(f"{prefix}_SECURITY", "starttls", validate=OneOf(codes))),
        username=env.str(f"{prefix}_USERNAME", "") or None,
        password=env.str(f"{prefix}_PASSWORD", "") or None,
    )


def _sms(env: Env, prefix: str) -> Sms | None:
    url = env.str(f"{prefix}_URL", "")
    if not url:
        return None
    return Sms(
        url=_url(url, f"{prefix}_URL"),
        account=env.str(f"{prefix}_ACCOUNT"),
        token=env.str(f"{prefix}_TOKEN"),
    )


def _rate(env: Env, name: str) -> float | None:
    told = env.str(name, "")
    return env.float(name, validate=Range(0.01, 10_000)) if told else None


def _networks(env: Env, name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    told = env.str(name, "")
    try:
        return tuple(ip_network(one.strip()) for one in told.split(",") if one.strip())
    except ValueError as error:
        raise BadSetting(f"{name} is {told!r}; it must look like 10.1.0.0/16, fd00::/8") from error


def _url(told: str, name: str = "AFTERGLOW_PUBLIC_URL") -> str:
    parts = urlsplit(told)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise BadSetting(f"{name} is {told!r}; it must look like https://book.example.org")
    return told.rstrip("/")


def kept_secret(var: Path) -> str:
    """Return the secret kept in `var`, making it at the first call. Safe to race."""
    return _kept(var / "secret", secrets.token_urlsafe(48)).read_text().strip()


def kept_master(var: Path) -> Path:
    """Where the master key is kept in `var`; made at the first call."""
    return _kept(var / "master-key", masters.made())


def _kept(path: Path, new: str) -> Path:
    """See that the file is there, with `new` in it unless it was there before. Safe to race."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            made = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
            made.touch(mode=0o600)
            made.write_text(new)
            try:
                path.hardlink_to(made)  # whole or not at all; the first of two processes wins
            except FileExistsError:
                pass
            finally:
                made.unlink()
        path.read_text()
    except OSError as error:
        raise BadSetting(f"AFTERGLOW_VAR: {path} cannot be used: {error.strerror}.") from error
    return path
