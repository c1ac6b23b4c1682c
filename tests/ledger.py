"""What trials under faults came to, collected from all test processes into one table."""

import json
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

PROPERTY = "fault"
FIGURE = "figure"
"""A line of what was measured on the way."""


@dataclass(frozen=True, slots=True)
class Row:
    """One trial: what was done to the service, and what became of the messages."""

    fault: str
    tried: int
    """Messages that were to be said."""
    lost: int
    """Never said, and nobody was told."""
    doubled: int
    """Said more than once."""
    wrong: int
    """Said for a visit that did not stand any more, and not reported to whoever changed it."""
    uncertain: int
    """Handed over or not, nobody knows; staff see them."""
    late: int
    """Said more than a minute late, or too late to be of use and so not at all; staff see them."""

    def note(self, record: Any) -> None:
        """Send the row along with the test's report."""
        record(PROPERTY, json.dumps(asdict(self)))


def rows(reports: Iterable[Any]) -> list[Row]:
    """The rows that came along with reports."""
    return [
        Row(**json.loads(told))
        for report in reports
        for name, told in getattr(report, "user_properties", ())
        if name == PROPERTY
    ]


def figures(reports: Iterable[Any]) -> list[str]:
    """The lines that tests noted, in their order by name."""
    return sorted(
        told
        for report in reports
        for name, told in getattr(report, "user_properties", ())
        if name == FIGURE
    )


def table(rows: list[Row]) -> list[str]:
    """The rows as people read them, and their sum."""
    names = [field.name for field in fields(Row)]
    width = max(len(row.fault) for row in rows)
    head = f"{names[0]:<{width}}" + "".join(f"{name:>10}" for name in names[1:])
    lines = [head, "-" * len(head)]
    for row in sorted(rows, key=lambda one: one.fault):
        fault, *counts = astuple(row)
        lines.append(f"{fault:<{width}}" + "".join(f"{count:>10}" for count in counts))
    sums = {name: sum(getattr(row, name) for row in rows) for name in names[1:]}
    lines += [
        "-" * len(head),
        f"{'sum':<{width}}" + "".join(f"{count:>10}" for count in sums.values()),
        "",
        f"lost {sums['lost']}, doubled {sums['doubled']}",
    ]
    return lines
