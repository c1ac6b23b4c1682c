"""The doctor says of each thing whether it is right, and what to do; and touches nothing."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

import checkup
import cli
import config
import worker
from checkup import Examined, Level
from database import access, migrating
from database.access import Access
from database.scratch import SECRET, scratch
from notifications.channels import smtp
from tests.fakes import free_port, mail_server
from tests.integration.conftest import settings

GOOD = {
    "secret": "y7Qw-3kVt9zXbL2mN8pRfG5hJ6dS1aTc4eUoIx0",
    "public_url": "https://book.clinic.example",
    "trusted_proxies": 1,
    "sms": (),
}


@pytest.fixture
def here(tmp_path: Path) -> dict[str, Any]:
    return {**GOOD, "var": tmp_path}


def found(check: Any, ways: Access | None = None, **changes: Any) -> dict[str, tuple[str, str]]:
    """What one check finds: by its name, how it stands and what was said and is to be done."""
    examined = Examined(settings(**changes), ways)
    return {one.name: (one.level.value, f"{one.said} {one.to_do}") for one in check(examined)}


@pytest.mark.parametrize(
    ("secret", "level"),
    [("short", "bad"), ("a" * 64, "bad"), (GOOD["secret"], "ok")],
)
def test_a_secret_that_can_be_guessed(here: dict[str, Any], secret: str, level: str) -> None:
    assert found(checkup.secret, **here | {"secret": secret})["secret"][0] == level


def test_a_secret_that_others_may_read(here: dict[str, Any]) -> None:
    config.kept_secret(here["var"])
    assert found(checkup.secret, **here)["secret"][0] == "ok"
    (here["var"] / "secret").chmod(0o644)
    assert found(checkup.secret, **here)["secret"] == (
        "bad",
        f"others may read {here['var'] / 'secret'} chmod 600 {here['var'] / 'secret'}",
    )


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("https://book.clinic.example", "ok"),
        ("http://localhost:8000", "warn"),
        ("http://127.0.0.1:8000", "warn"),
        ("http://book.clinic.example", "bad"),
    ],
)
def test_an_address_without_tls(here: dict[str, Any], url: str, level: str) -> None:
    assert found(checkup.address, **here | {"public_url": url})["address"][0] == level


def test_a_proxy_that_nobody_told_of(here: dict[str, Any]) -> None:
    assert found(checkup.address, **here | {"trusted_proxies": 0})["proxies"][0] == "warn"
    assert "proxies" not in found(checkup.address, **here)


def test_disk_zones_and_clocks_are_looked_at(here: dict[str, Any], database: Access) -> None:
    assert found(checkup.disk, **here)["disk"][0] in {"ok", "warn"}
    assert found(checkup.zones, **here)["zones"][0] == "ok"
    assert found(checkup.clocks, database, **here)["clock"][0] == "ok"
    stand_in = here["var"] / "clock"
    told = found(checkup.clocks, database, **here | {"clock_file": stand_in})
    assert told["clock"][0] == "warn"


def test_a_database_that_is_right(here: dict[str, Any], database: Access) -> None:
    told = {
        **found(checkup.server, database, **here),
        **found(checkup.roles, database, **here),
        **found(checkup.tables, database, **here),
    }
    assert {level for level, _ in told.values()} == {"ok"}, told
    assert {"postgresql", "durability", "connections", "pg_dump", "role service"} <= told.keys()


def test_more_connections_than_there_are(here: dict[str, Any], database: Access) -> None:
    told = found(checkup.server, database, **here | {"web_workers": 8, "web_threads": 32})
    assert told["connections"][0] == "warn"


def test_the_connections_of_a_worker_are_those_that_it_may_open(database: Access) -> None:
    told = settings(
        database_url=access.psycopg_url(database.owner), secret=SECRET, senders=3, heralds=5
    )
    made = worker.make(told)
    assert made.archiver is not None
    pools: list[Any] = [made.engine.pool, made.archiver.engine.pool]
    claiming = [len(one.senders) + 1 for one in made.deliveries] + [1 for _ in made.heralds]
    listening = [1 for _ in (*made.dispatchers, *made.hook_dispatchers)]

    _, reckoned = checkup.connections_needed(told)
    pooled = sum(one.size() + one._max_overflow for one in pools)
    assert reckoned == pooled + sum(claiming) + sum(listening)


@contextmanager
def undone(ways: Access, *statements: str) -> Iterator[None]:
    """Do the first of two statements now, and the second in the end."""
    with access.connect(ways.owner) as connection:
        connection.execute(statements[0])
        try:
            yield
        finally:
            connection.execute(statements[1])


def test_a_database_that_is_wrong(here: dict[str, Any], database: Access) -> None:
    role = f'"{database.service.username}"'
    with undone(
        database,
        "ALTER TABLE room NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE room FORCE ROW LEVEL SECURITY",
    ):
        level, said = found(checkup.tables, database, **here)["row security"]
        assert level == "bad"
        assert said.startswith("room: open to every clinic")
    with undone(
        database,
        f"ALTER ROLE {role} SET statement_timeout = 0",
        f"ALTER ROLE {role} SET statement_timeout = '15s'",
    ):
        assert found(checkup.roles, database, **here)["role service"][0] == "warn"
    with undone(
        database,
        f"ALTER ROLE {role} NOLOGIN",
        f"ALTER ROLE {role} LOGIN",
    ):
        assert found(checkup.roles, database, **here)["role service"][0] == "bad"
    with undone(
        database,
        "UPDATE alembic_version SET version_num = '0001_the_house'",
        f"UPDATE alembic_version SET version_num = '{migrating.head()}'",
    ):
        level, said = found(checkup.tables, database, **here)["migrations"]
        assert (level, "Run `afterglow migrate`." in said) == ("bad", True)
    with undone(
        database,
        "UPDATE alembic_version SET version_num = '9999_later'",
        f"UPDATE alembic_version SET version_num = '{migrating.head()}'",
    ):
        level, said = found(checkup.tables, database, **here)["migrations"]
        assert (level, "newer than this code" in said) == ("bad", True)


@contextmanager
def held(ways: Access) -> Iterator[None]:
    """A worker is alive, and rests: the database was restored."""
    with access.connect(ways.worker) as connection:
        connection.execute(
            "INSERT INTO worker (id, host, pid, seen_at, swept_until) "
            "VALUES (gen_random_uuid(), 'x', 1, now(), now())"
        )
        with undone(
            ways,
            "INSERT INTO restoration (id, backed_up_at, restored_at) "
            "VALUES (gen_random_uuid(), now(), now())",
            "DELETE FROM restoration",
        ):
            yield
        connection.execute("DELETE FROM worker")


def test_a_worker_that_is_gone_and_messages_that_are_held(
    here: dict[str, Any], database: Access
) -> None:
    assert found(checkup.worker, database, **here)["worker"][0] == "bad"
    with held(database):
        told = found(checkup.worker, database, **here)
    assert told["worker"][0] == "ok"
    assert told["held"][0] == "warn"
    assert "afterglow resume" in told["held"][1]


def test_a_web_that_waits_for_people_is_ready_for_them(
    client: FlaskClient, database: Access
) -> None:
    with held(database):
        assert client.get("/health/ready").json == {"status": "ready", "messages": "held"}
        assert "\nafterglow_messages_held 1.0\n" in client.get("/metrics").text
    assert "\nafterglow_messages_held 0.0\n" in client.get("/metrics").text


def mail(port: int, security: str = "none", **more: Any) -> tuple[config.Smtp, ...]:
    return (
        config.Smtp(
            host="127.0.0.1",
            port=port,
            security=config.Security(security),
            username=more.get("username"),
            password=more.get("password"),
        ),
    )


def test_mail_servers_are_greeted_and_nothing_is_sent(
    here: dict[str, Any], served: ssl.SSLContext, trusted: ssl.SSLContext
) -> None:
    with mail_server() as server:
        # It speaks no TLS, and it is asked to.
        told = found(checkup.mail, **here | {"smtp": mail(server.port, "starttls")})
        assert told["mail"][0] == "bad"
        assert found(checkup.mail, **here | {"smtp": mail(server.port)})["mail"][0] == "ok"
        assert server.mails == []
    assert found(checkup.mail, **here | {"smtp": mail(free_port())})["mail"][0] == "bad"
    with mail_server(tls=served, user=("clinic", "secret")) as server:
        # A certificate that this machine does not trust.
        told = found(checkup.mail, **here | {"smtp": mail(server.port, "starttls")})
        assert "SSLCertVerificationError" in told["mail"][1]
        way = {"host": "127.0.0.1", "port": server.port, "security": "starttls"}
        smtp.greet(smtp.Server(**way, username="clinic", password="secret", trusted=trusted))  # type: ignore[arg-type]
    assert found(checkup.mail, **here)["mail"][0] == "warn"


def test_a_provider_of_texts_is_reached(here: dict[str, Any]) -> None:
    gone = (config.Sms(url=f"https://127.0.0.1:{free_port()}", account="a", token="t"),)
    assert found(checkup.texts, **here | {"sms": gone})["texts"][0] == "bad"
    with socket.create_server(("127.0.0.1", 0)) as server:  # anything that listens
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        there = (config.Sms(url=url, account="a", token="t"),)
        assert found(checkup.texts, **here | {"sms": there})["texts"][0] == "ok"


def test_the_command_tells_people_and_programs_and_changes_nothing(tmp_path: Path) -> None:
    with scratch(None, migrated=False) as ways:
        environment = {
            "DATABASE_URL": access.psycopg_url(ways.owner),
            "AFTERGLOW_SECRET": SECRET,
            "AFTERGLOW_VAR": str(tmp_path),
        }
        told = CliRunner().invoke(cli.main, ["doctor", "--json"], env=environment)
        findings = {one["name"]: one for one in json.loads(told.stdout)}
        assert told.exit_code == 1
        assert findings["migrations"]["level"] == "bad"
        assert findings["worker"]["said"].startswith("could not be looked at: relation")
        assert {one["level"] for one in findings.values()} <= {level.value for level in Level}
        assert migrating.current(ways.owner) is None

    gone = CliRunner().invoke(cli.main, ["doctor"], env=environment)
    assert gone.exit_code == 1
    assert gone.output.startswith("bad  database       DATABASE_URL: no connection to ")
    assert "-> See DATABASE_URL" in gone.output
    assert "\nwarn mail" in gone.output
