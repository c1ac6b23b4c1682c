"""Plans: what PostgreSQL would read for a statement, and whether that is too much.

Every index begins with the clinic, and row-level security gives every scan the clinic. So a plan
without a Seq Scan may still read all that a clinic has. What counts is whether a scan is led by
something else as well, or gives a page in its own order and stops.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

FEW = frozenset(
    {
        *("clinic", "site", "room", "device", "practitioner", "qualification", "opening_hours"),
        *("protocol", "protocol_version", "wording", "instrument_wording", "cadence_override"),
        *("consent_text", "api_key", "user_account", "identity_provider", "webhook"),
        *("webhook_secret", "worker", "send_bucket", "restoration", "alembic_version"),
        *("group_session", "break_glass"),
    }
)
"""What a clinic is and how it is set up: as many rows after ten years as on the first day. And of
what grows, what comes a few times a week at most."""

SHORT = frozenset(
    {
        *("ix__schedule__bookable", "ix__task__open", "ix__appointment__held"),
        *("ix__course__part2", "ix__appointment__part2"),
    }
)
"""Partial indexes of few rows, that may be read from end to end: who and what can be booked, what
is still to be done, what is held for some minutes, what falls under 42 CFR Part 2. PostgreSQL 15
may choose any of them for nobody at all."""

_PLANNED = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
_COLUMN = re.compile(r"(?<![\w.:'])(?:\w+\.)?(\w+)(?:\)::\w+)? (?:=|<|>|<=|>=|IS|~>=~|~<~)")
_ROW = re.compile(r"ROW\(([^)]*)\)")
_SHOWN = re.compile(r"\((?:\(InitPlan \d+\)\.col1|\$\d+) OR ")
"""How the policy of 42 CFR Part 2 begins: whoever may see all is asked nothing more."""
_STOPS = {"Limit"}
_READS_ALL = {"Sort", "Aggregate", "Hash", "HashAggregate", "WindowAgg", "Materialize"}


Leads = Mapping[str, str]
"""By the index, the column that it is in the order of, after the clinic."""


def leads(connection: psycopg.Connection[Any]) -> Leads:
    """Of all indexes of this database."""
    found = connection.execute(
        """
        SELECT DISTINCT ON (indexrelid) indexrelid::regclass::text, attname
          FROM pg_index CROSS JOIN unnest(indkey) WITH ORDINALITY AS key (number, place)
          JOIN pg_attribute ON attrelid = indrelid AND attnum = number
         WHERE attname <> 'clinic_id' ORDER BY indexrelid, place
        """
    )
    return dict(found.fetchall())


def is_planned(statement: str) -> bool:
    """Whether PostgreSQL plans it, can explain how, and has anything to read for it.

    What asks for rows of an empty list reads nothing; PostgreSQL 15 plans it all the same.
    """
    return _PLANNED.match(statement) is not None and "(1 != 1)" not in statement


def plan(
    connection: psycopg.Connection[Any], statement: str, values: Any, *options: str
) -> Mapping[str, Any]:
    """How PostgreSQL would do it, for these values; with ANALYZE among the options, it does."""
    told = ", ".join([*options, "FORMAT JSON"])
    cursor = psycopg.ClientCursor(connection)
    row = cursor.execute(f"EXPLAIN ({told}) {statement}", values).fetchone()
    assert row is not None
    found: Mapping[str, Any] = row[0][0]["Plan"]
    return found


@dataclass(frozen=True, slots=True)
class Scan:
    """One reading of a table in a plan."""

    table: str
    how: str
    """The kind of scan, and the index if there is one."""
    led_by: frozenset[str]
    """The column by which the index is entered, after the clinic; or that it is a short one."""
    is_page: bool
    """It gives rows in the order asked for, all of them wanted, and stops after a page."""
    looked_at: float
    """Rows that were read, if it was done: those that passed, and those that did not."""

    @property
    def is_whole(self) -> bool:
        """Whether it reads all rows, or all of the clinic's."""
        return not (self.led_by or self.is_page)


def scans(node: Mapping[str, Any], known: Leads, *, stops: bool = False) -> Iterator[Scan]:
    """Every reading of a table that grows; `stops`: whoever reads stops after a page."""
    kind = node["Node Type"]
    table = node.get("Relation Name")
    if "Scan" in kind and table is not None and table not in FEW:
        indexes = list(_indexes(node))
        yield Scan(
            table=table,
            how=" ".join([kind, *(one["Index Name"] for one in indexes)]),
            led_by=_led_by(indexes, known),
            is_page=stops and kind != "Seq Scan" and not _throws_away(node),
            looked_at=_looked_at(node),
        )
    stops = kind in _STOPS or (stops and kind not in _READS_ALL)
    for child in node.get("Plans", ()):
        first = child.get("Parent Relationship") == "Outer"
        yield from scans(child, known, stops=stops and first)


def _indexes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "Index Name" in node:
        yield node
    if node["Node Type"].startswith("Bitmap"):
        for child in node.get("Plans", ()):
            yield from _indexes(child)


def _led_by(indexes: list[Mapping[str, Any]], known: Leads) -> frozenset[str]:
    """By what all of the indexes are entered."""
    each = [
        {one["Index Name"]} & SHORT
        or _columns(one.get("Index Cond", "")) & {known[one["Index Name"]]}
        for one in indexes
    ]
    return frozenset().union(*each) if each and all(each) else frozenset()


def _columns(condition: str) -> frozenset[str]:
    rows = {one.strip() for found in _ROW.findall(condition) for one in found.split(",")}
    return frozenset(_COLUMN.findall(condition)) | rows


def _throws_away(node: Mapping[str, Any]) -> bool:
    """Whether rows are read and not wanted.

    That a clinic's policy shows the row is asked of all; that of 42 CFR Part 2 passes over few, and
    over none for who may see them.
    """
    told = str(node.get("Filter", ""))
    policy = _SHOWN.search(told)
    if policy is not None:
        told = told[: policy.start()] + told[_end_of(told, policy.start()) :]
    return told.strip("() ") != ""


def _end_of(told: str, begin: int) -> int:
    """Where the parenthesis that opens there is closed."""
    depth = 0
    for place in range(begin, len(told)):
        depth += {"(": 1, ")": -1}.get(told[place], 0)
        if depth == 0:
            return place + 1
    return len(told)


def _looked_at(node: Mapping[str, Any]) -> float:
    passed = node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
    recheck = node.get("Rows Removed by Index Recheck", 0)
    return float((passed + recheck) * node.get("Actual Loops", 1))
