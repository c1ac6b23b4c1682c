"""What docs/webhooks.md tells a developer is so: the catalogue, and both ways to verify."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from standardwebhooks import Webhook as Verifier

from notifications import events, hooks, signing

PAGE = (Path(__file__).parents[2] / "docs/webhooks.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
BODY = b'{"type":"ping","data":{"a":"\xc3\xbc"}}'


@pytest.fixture
def headers() -> dict[str, str]:
    return signing.headers(UUID(int=7), datetime.now(UTC), BODY, [SECRET])


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_catalogue_stands_there_as_it_is() -> None:
    told = re.findall(r"^\| `([a-z.-]+)` \| (.+) \|$", PAGE, re.MULTILINE)
    types = dict(told)
    assert {name: types.get(name) for name in events.TYPES} == {
        name: one.meaning for name, one in events.TYPES.items()
    }


def test_both_python_ways_verify(headers: dict[str, str]) -> None:
    with_library, without = blocks("python")
    told = {"secret": SECRET, "body": BODY, "headers": headers}
    exec(with_library, told)  # noqa: S102  # the page's own words
    assert told["event"] == {"type": "ping", "data": {"a": "ü"}}
    exec(without, told)  # noqa: S102
    verified = told["verified"]
    assert callable(verified)
    assert verified(SECRET, headers, BODY) == told["event"]
    with pytest.raises(ValueError, match="not from"):
        verified(SECRET, headers, BODY + b" ")
    old = signing.headers(UUID(int=7), datetime(2026, 1, 1, tzinfo=UTC), BODY, [SECRET])
    with pytest.raises(ValueError, match="too old"):
        verified(SECRET, old, BODY)


def test_the_shell_prints_the_signature(headers: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(BODY)
    script = blocks("sh")[-1]
    told = {
        "secret": SECRET,
        "id": headers["webhook-id"],
        "timestamp": headers["webhook-timestamp"],
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=told, capture_output=True)
    assert done.stdout.decode().strip() == headers["webhook-signature"], done.stderr


def test_the_zone_of_a_time_does_not_change_the_signature() -> None:
    """An aware time of any zone is one instant; the library's own signing takes it for UTC."""
    at = datetime.fromisoformat("2027-01-04T09:00:00-05:00")
    made = signing.headers(UUID(int=7), at, BODY, [SECRET])
    assert made["webhook-timestamp"] == str(int(at.timestamp()))
    assert made == signing.headers(UUID(int=7), at.astimezone(UTC), BODY, [SECRET])
    right = Verifier(SECRET).sign(str(UUID(int=7)), at.astimezone(UTC), BODY.decode())
    assert made["webhook-signature"] == right


def test_the_pauses_are_those_that_are_told() -> None:
    assert (5, 300, 1800, *(3600 * hours for hours in (2, 5, 10, 14, 20, 24))) == hooks.PAUSES
