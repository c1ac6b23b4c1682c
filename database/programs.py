"""PostgreSQL's own programs: which of those on this machine fits a server."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from database import embedded
from database.access import Unreachable


def find(program: str, major: int) -> Path:
    """The program of the server's own version, else of the nearest newer one.

    An older one refuses the server. Raises Unreachable, saying which there are, if none fits.
    """
    there = {version: path for path, version in _versions(program)}
    fitting = sorted(version for version in there if version >= major)
    if not fitting:
        found = ", ".join(str(version) for version in sorted(there)) or "none"
        raise Unreachable(
            f"The server is PostgreSQL {major}, and {program} of {major} or newer is needed; on "
            f"this machine there is {found}. Install PostgreSQL {major}'s client programs."
        )
    return there[fitting[0]]


def _versions(program: str) -> Iterator[tuple[Path, int]]:
    for folder in embedded.places():
        path = folder / program
        if path.exists():
            told = subprocess.run(  # noqa: S603  # PostgreSQL's own
                [str(path), "--version"], capture_output=True, text=True, check=False
            )
            if found := re.search(r"\) (\d+)", told.stdout):
                yield path, int(found.group(1))
