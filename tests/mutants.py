"""Change the rules that gates rest on, one thing at a time, and see whether a test fails.

`python -m tests.mutants` (or `make mutants`) does so with mutmut, on all cores, in a copy of the
tree, and ends with a figure. What no test finds is listed, and fails the run unless it stands in
`SAME`. It changes what functions do; tables outside of them (the arrows of lifecycle.py, the
stages) are compared whole with an account of their own in the tests.
"""

import ast
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.service import ROOT

RULES = ("readiness", "screening", "protocols", "lifecycle", "measuring")
FOUND = {1, 3, 24, -24, 36, 152, 255}
"""What mutmut writes of a mutant that a test failed of, or that never came to an end."""
MEMORY = 2 * 2**30
"""In bytes, for each: a mutant that never ends is not to take the machine's."""
WIDTH = 40

SAME = (
    ("default=timedelta(0)", "default=timedelta(1)", "of no watch nothing is listed"),
    (", None)", ", )", "what is left out is None"),
    ("item.due_at < found", "item.due_at <= found", "it is the same moment"),
    ("Vouched(_CLEARED, ", "Vouched(None, ", "how long it holds is asked of what is in order"),
    ("if gate.given_for else None", "if (gate.given_for) or True else None", "a short cut"),
    ("screen.answers.get(one.code) for", "screen.answers.get(None) for", "a short cut not taken"),
    ('or ""', 'or "XXXX"', "what does not speak of this visit says why"),
)
"""Mutants that are no other program: what stands there, what instead, and why it is the same."""


def main() -> int:
    """Try all mutants; 0 if each was found."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="afterglow-mutants-") as folder:
        copy = Path(folder, "tree")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "var", "__pycache__"))
        log = _run(copy)
        codes = dict(_codes(copy))
        if not codes:
            sys.stdout.write(log)
            return 1
        told = [_shown(copy, name) for name, code in codes.items() if code not in FOUND]
    known = [one for one in told if _why(one)]
    for one in (*known, *(one for one in told if not _why(one))):
        sys.stdout.write(f"\n{one}{_why(one)}\n")
    took = (time.monotonic() - begun) / 60
    killed, left = len(codes) - len(told), len(told) - len(known)
    sys.stdout.write(
        f"\n{len(codes):,} mutants of {len(RULES)} modules: killed {killed:,}, the same program "
        f"{len(known)}, survived {left}; {took:.1f} minutes.\n"
    )
    return 1 if left else 0


def _run(copy: Path) -> str:
    """Let mutmut work, draw how far it is, and return what it said."""
    env = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "").replace(str(ROOT), "")}
    with subprocess.Popen(
        ["nice", sys.executable, "-m", "mutmut", "run", "--max-children", str(os.cpu_count())],
        cwd=copy,
        env=env,
        preexec_fn=_bound,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as run:
        assert run.stdout is not None
        return "".join(_drawn(run.stdout))


def _bound() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _drawn(said: IO[str]) -> Iterator[str]:
    begun = shown = time.monotonic()
    for line in said:
        yield line
        found = re.search(r"(\d+)/(\d+) ", line)
        now = time.monotonic()
        if found and now - shown > (1 if sys.stdout.isatty() else 30):
            shown = now
            _draw(int(found[1]), int(found[2]), now - begun)


def _draw(done: int, of: int, passed: float) -> None:
    part = done / of
    left = f"{passed / part * (1 - part) / 60:.0f} min left" if part > 0.01 else ""
    begin, end = ("\r", "") if sys.stdout.isatty() else ("", "\n")
    bar = "#" * round(part * WIDTH)
    sys.stdout.write(f"{begin}[{bar:<{WIDTH}}] {done:,} of {of:,} mutants  {left:<14}{end}")
    sys.stdout.flush()


def _codes(copy: Path) -> Iterator[tuple[str, int | None]]:
    """What became of each mutant."""
    for path in sorted((copy / "mutants/scheduler").glob("*.meta")):
        yield from json.loads(path.read_text())["exit_code_by_key"].items()


def _shown(copy: Path, name: str) -> str:
    """Where a mutant is, and what it changed."""
    command = [sys.executable, "-m", "mutmut", "show", name]
    diff = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=True).stdout
    path = Path("scheduler", f"{name.split('.')[1]}.py")
    lines = diff[diff.index("@@") :].splitlines()
    first = int(lines[0].split("-")[1].split(",")[0])
    changed = next(at for at, line in enumerate(lines) if line.startswith("-"))
    number = _line_of(copy / path, name) + first + changed - 2
    return "\n".join(
        [f"{path}:{number}", *(line for line in lines[1:] if line.startswith(("-", "+")))]
    )


def _line_of(path: Path, name: str) -> int:
    """The line on which the function of a mutant begins."""
    wanted = re.split("[_ǁ]", name.rsplit("__mutmut", 1)[0].split(".")[-1], maxsplit=1)[1]
    wanted = wanted.split("ǁ")[-1]
    return next(
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == wanted
    )


def _why(told: str) -> str:
    """Why a survivor is no other program; nothing: it is one."""
    _, before, after, *_ = (*told.splitlines(), "", "")
    return next(
        (
            f"\n  the same: {why}"
            for old, new, why in SAME
            if before[1:].replace(old, new) == after[1:]
        ),
        "",
    )


if __name__ == "__main__":
    sys.exit(main())
