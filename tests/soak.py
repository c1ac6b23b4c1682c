"""The long run of every property: `python -m tests.soak [times]`, on all cores, with a bar."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.service import ROOT

TIMES = 100.0
"""As many cases as in `make test`, if nobody says otherwise."""
WIDTH = 40


def main() -> int:
    """Try all properties side by side, each process with a seed of its own; 0 if they hold."""
    times = float(sys.argv[1]) if len(sys.argv) > 1 else TIMES
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="afterglow-soak-") as folder:
        tally = Path(folder, "tally")
        wanted = _wanted(times / cores) * cores
        runs = [_run(times / cores, Path(folder, f"{n}.log"), tally) for n in range(cores)]
        begun = time.monotonic()
        while any(one.poll() is None for one in runs):
            _draw(tally, wanted, begun)
            time.sleep(1 if sys.stdout.isatty() else 30)
        _draw(tally, wanted, begun)
        failed = [n for n, one in enumerate(runs) if one.returncode]
        for number in failed:
            sys.stdout.write(f"\n{Path(folder, f'{number}.log').read_text()}")
    took = (time.monotonic() - begun) / 60
    sys.stdout.write(f"\n{'They do not hold' if failed else 'All hold'}; {took:.1f} minutes.\n")
    return 1 if failed else 0


def _run(times: float, log: Path, tally: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as told:
        return subprocess.Popen(
            [*_PYTEST, "--timeout=0", f"--hypothesis-seed={secrets.randbits(32)}"],
            cwd=ROOT,
            env={**os.environ, "SOAK": str(times), "SOAK_TALLY": str(tally)},
            stdout=told,
            stderr=told,
        )


def _wanted(times: float) -> int:
    """How many cases one process will try."""
    told = subprocess.run(
        [*_PYTEST, "--collect-only"],
        cwd=ROOT,
        env={**os.environ, "SOAK": str(times)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(told.stdout.rsplit("cases: ", 1)[1].split()[0])


def _draw(tally: Path, wanted: int, begun: float) -> None:
    done = tally.stat().st_size if tally.exists() else 0
    part = min(done / wanted, 1.0)
    passed = time.monotonic() - begun
    left = f"{passed / part * (1 - part) / 60:.0f} min left" if part > 0.01 else ""
    bar = "#" * round(part * WIDTH)
    begin, end = ("\r", "") if sys.stdout.isatty() else ("", "\n")
    sys.stdout.write(f"{begin}[{bar:<{WIDTH}}] {done:,} of {wanted:,} cases  {left:<14}{end}")
    sys.stdout.flush()


_PYTEST = [sys.executable, "-m", "pytest", "-q", "-m", "cases", "tests/unit", "tests/integration"]

if __name__ == "__main__":
    sys.exit(main())
