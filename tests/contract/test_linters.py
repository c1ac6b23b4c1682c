"""The OpenAPI document under two linters that know nothing of each other, and of us.

They are npm packages, locked with hashes beside this file.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

HERE = Path(__file__).parent
NEEDED = ("package.json", "package-lock.json", "spectral.yaml", "redocly.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both linters, installed."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm")
    made = tmp_path_factory.mktemp("linters")
    for name in NEEDED:
        shutil.copy(HERE / name, made)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--silent")
    subprocess.run([npm, "ci", *quiet], cwd=made, check=True, timeout=240)
    return made


@pytest.fixture(scope="module")
def linted(folder: Path, told: dict[str, Any]) -> Path:
    path = folder / "openapi.json"
    path.write_text(json.dumps(told))
    return path


@pytest.fixture(scope="module")
def told(app: Flask) -> dict[str, Any]:
    document: dict[str, Any] = app.test_client().get("/api/openapi.json").get_json()
    return document


def said(folder: Path, *command: str) -> Any:
    """What a linter says, as JSON."""
    told = subprocess.run(
        [str(folder / "node_modules/.bin" / command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert told.stdout, told.stderr
    return json.loads(told.stdout)


def test_spectral_finds_nothing(folder: Path, linted: Path) -> None:
    rules = ("--ruleset", "spectral.yaml", "--format", "json", "--quiet")
    assert said(folder, "spectral", "lint", linted.name, *rules) == []


def test_redocly_finds_nothing(folder: Path, linted: Path) -> None:
    rules = ("--config", "redocly.yaml", "--format", "json")
    assert said(folder, "redocly", "lint", linted.name, *rules)["problems"] == []


def test_both_would_find_something(folder: Path, told: dict[str, Any]) -> None:
    """A linter that was never heard to complain proves nothing."""
    operation = told["paths"]["/api/v1/sites"]["get"]
    worse = {name: value for name, value in operation.items() if name != "operationId"}
    paths = {**told["paths"], "/api/v1/sites": {"get": {**worse, "responses": {}}}}
    (folder / "worse.json").write_text(json.dumps({**told, "paths": paths}))

    spectral = said(
        folder, "spectral", "lint", "worse.json", "--ruleset", "spectral.yaml", "-f", "json", "-q"
    )
    redocly = said(
        folder, "redocly", "lint", "worse.json", "--config", "redocly.yaml", "--format", "json"
    )
    assert "operation-operationId" in {one["code"] for one in spectral}
    assert "operation-operationId" in {one["ruleId"] for one in redocly["problems"]}


class TestDocument:
    """What no linter knows of."""

    def test_every_operation_shows_examples_and_its_permission(self, told: dict[str, Any]) -> None:
        for path, operations in told["paths"].items():
            for method, one in operations.items():
                if method == "parameters":
                    continue
                assert "Needs the permission `" in one["description"], (method, path)
                bodies = [one.get("requestBody", {}), *one["responses"].values()]
                content = [body.get("content", {}).get("application/json") for body in bodies]
                assert all("example" in body for body in content if body), (method, path)

    def test_a_change_names_what_was_seen(self, told: dict[str, Any]) -> None:
        for path, operations in told["paths"].items():
            named = {one["name"] for one in operations.get("patch", {}).get("parameters", ())}
            assert "patch" not in operations or "If-Match" in named, path
