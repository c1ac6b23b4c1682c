"""Run the benchmarks: all, or those that are named."""

import sys

import logs
from benchmarks import (
    board,
    booking,
    calls,
    contention,
    courses,
    endurance,
    messages,
    openings,
    repair,
    servers,
    strangers,
    together,
)
from benchmarks.report import FILE, Report

ALL = {
    "booking": booking.run,
    "calls": calls.run,
    "openings": openings.run,
    "board": board.run,
    "courses": courses.run,
    "together": together.run,
    "repair": repair.run,
    "messages": messages.run,
    "endurance": endurance.run,
    "servers": servers.run,
    "contention": contention.run,
    "strangers": strangers.run,
}


def main() -> None:
    """Measure, print, and write var/bench.json."""
    logs.set_up("error")
    report = Report()
    for name in sys.argv[1:] or ALL:
        print(f"{name}: {(sys.modules[ALL[name].__module__].__doc__ or '').splitlines()[0]}")
        ALL[name](report)
        report.write()
    print(f"\nWritten to {FILE}.")


if __name__ == "__main__":
    main()
