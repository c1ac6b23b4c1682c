"""What stands in deploy/ and in the docs fits the code: every setting, every unit, every file."""

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from api import guards
from scheduler import imports
from tests.service import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
OTHERS = {
    "PATH",
    "PYTHONTZPATH",
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "TMPDIR",
    "MPLCONFIGDIR",
    "HOST",
    "SUPERVISOR",
}
"""Variables that are not ours, or that one process of ours tells another."""
FOR_TESTS = {"AFTERGLOW_SIGNAL_AT"}
NAME = r"\b[A-Z][A-Z]*(?:_[A-Z]+)+\b|\bPORT\b|\bSENDERS\b"


def read_by_the_code() -> set[str]:
    """Every variable that config.py asks the environment for."""
    told = (ROOT / "config.py").read_text()
    names = set(re.findall(r'(?:env\.\w+|_rate|_networks)\((?:env, )?\s*"([A-Z_]+)"', told))
    for kind, prefixes in {
        "smtp": ("SMTP", "SMTP_FALLBACK"),
        "sms": ("SMS", "SMS_FALLBACK"),
    }.items():
        body = told.split(f"def _{kind}(")[1].split("\ndef ")[0]
        ends = re.findall(r'env\.\w+\(f"\{prefix\}(_[A-Z]+)"', body)
        assert ends
        names |= {prefix + end for prefix in prefixes for end in ends}
    return names


def test_every_setting_is_in_the_file_of_settings_and_nothing_else_is() -> None:
    told = (DEPLOY / "afterglow.env").read_text()
    assert set(re.findall(r"^#?([A-Z_]+)=", told, re.MULTILINE)) == read_by_the_code()


def test_every_setting_is_explained_where_it_is_read() -> None:
    told = (ROOT / "config.py").read_text().split("def load()")[0]
    fallback = {name for name in read_by_the_code() if "_FALLBACK_" in name}
    assert {name for name in read_by_the_code() - fallback if name not in told} == set()
    assert "SMTP_FALLBACK_HOST and so on" in told
    assert "SMS_FALLBACK_URL and so on" in told


@pytest.mark.parametrize(
    "path",
    [ROOT / "docs/operations.md", *(p for p in DEPLOY.rglob("*") if p.is_file())],
    ids=lambda path: path.name,
)
def test_every_variable_that_is_named_is_one(path: Path) -> None:
    told = path.read_text()
    named = {
        *re.findall(r"\$\{([A-Z_]+)\}", told),
        *re.findall(rf"(?:`|\\\"\$|^|\s)({NAME})(?==|`|\\\")", told, re.MULTILINE),
    }
    assert named - read_by_the_code() - OTHERS - FOR_TESTS == set()


def test_every_command_that_the_docs_name_is_one() -> None:
    told = (ROOT / "docs/operations.md").read_text()
    told += "".join(path.read_text() for path in DEPLOY.rglob("*") if path.is_file())
    said = subprocess.run(
        [sys.executable, "-c", "import cli; cli.main()", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    commands = set(re.findall(r"^  ([a-z-]+)  ", said.split("Commands:")[1], re.MULTILINE))
    named = set(re.findall(r"(?:`|bin/|^|\.\.\. )afterglow ([a-z][a-z-]+)", told, re.MULTILINE))
    assert {"backup", "restore", "resume", "migrate", "doctor"} <= named
    assert named - commands == set()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_are_read_by_systemd(path: Path, tmp_path: Path) -> None:
    for unit in UNITS:
        told = re.sub(r"/opt/afterglow/\.venv/bin/[a-z]+", "/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(told)
    if shutil.which("systemd-analyze") is None:
        parser = ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(tmp_path / path.name)
        assert "Unit" in parser
        return
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / path.name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", [unit for unit in UNITS if unit.suffix == ".service"])
def test_services_may_do_little(path: Path) -> None:
    told = path.read_text()
    for line in (
        "User=afterglow",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "UMask=0077",
    ):
        assert f"\n{line}\n" in told


def test_a_process_has_longer_to_end_than_it_takes() -> None:
    """The web: a statement of 15 s. The worker: a letter of 20 s, and its jobs' statements."""
    for name, least in {"web": 25, "worker": 35}.items():
        told = (DEPLOY / f"systemd/afterglow-{name}.service").read_text()
        [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", told, re.MULTILINE)
        assert int(seconds) > least


def test_no_registry_is_named() -> None:
    told = (DEPLOY / "Containerfile").read_text()
    assert set(re.findall(r"^FROM (\S+)", told, re.MULTILINE)) == {"python:3.11-slim"}
    assert "://" not in told.replace("http://127.0.0.1", "")


@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile"])
def test_proxies_write_no_links_into_logs_and_believe_no_caller(name: str) -> None:
    told = (DEPLOY / name).read_text()
    assert "X-Forwarded-For $proxy_add" not in told
    assert "$request_uri " not in told.replace("map $request_uri $afterglow_route", "")
    assert "Strict-Transport-Security" in told
    if name == "nginx.conf":
        logged = told.split("log_format")[1].split(";")[0]
        assert not re.search(r"\$(request|request_uri|uri|args|http_referer)\b", logged)
        for prefix in ("p", "e", "u", "calendar"):
            assert prefix in re.findall(r"\^/\(([a-z|]+)\)/", told)[0].split("|")


@pytest.mark.parametrize(
    ("name", "place", "unit"),
    [
        ("nginx.conf", r"location = /api/v1/imports \{\s+client_max_body_size (\d+)m;", 1 << 20),
        ("Caddyfile", r"request_body @files \{\s+max_size (\d+)MB", 10**6),
    ],
)
def test_proxies_let_through_what_the_service_takes(name: str, place: str, unit: int) -> None:
    told = (DEPLOY / name).read_text()
    [files] = re.findall(place, told)
    assert int(files) * unit > imports.MOST_BYTES
    [others] = re.findall(
        rf"^\s+(?:client_max_body_size|max_size) (?!{files}\D)(\d+)(?:m;|MB)$", told, re.MULTILINE
    )
    assert int(others) * unit > guards.LARGEST


def test_what_nginx_says_of_the_caller_holds_everywhere() -> None:
    """A location that sets one header of its own inherits none of the others."""
    server = (DEPLOY / "nginx.conf").read_text().split("location ")
    assert {"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Host"} == {
        *re.findall(r"proxy_set_header (\S+)", server[0])
    }
    assert [part for part in server[1:] if "proxy_set_header" in part] == []
