"""Codes: which words a column may hold, as a CHECK lists them."""

import re
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from alembic import op

CONSTRAINTS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "message": (("message", "messagekind", "kind"), ("wording", "messagekind", "kind")),
    "task": (("task", "taskkind", "kind"),),
    "recipient": (("message", "recipient", "recipient"), ("wording", "recipient", "recipient")),
}
"""By the vocabulary: each table with the name of its CHECK and its column."""


def add(vocabulary: str, *codes: str) -> None:
    """Let the columns of a vocabulary hold these as well."""
    for table, constraint, column in CONSTRAINTS[vocabulary]:
        known = _known(table, constraint)
        _let_be(table, constraint, column, [*known, *(c for c in codes if c not in known)])


def drop(vocabulary: str, *codes: str) -> None:
    """Let them hold these no more; rows that do are deleted."""
    listed = _listed(codes)
    for table, constraint, column in CONSTRAINTS[vocabulary]:
        op.execute(f"DELETE FROM {table} WHERE {column} IN ({listed})")  # our words
        known = _known(table, constraint)
        _let_be(table, constraint, column, [code for code in known if code not in codes])


def _known(table: str, constraint: str) -> list[str]:
    told = op.get_bind().scalar(
        sa.text(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid = CAST(:table AS regclass) AND conname = :name"
        ),
        {"table": table, "name": constraint},
    )
    return re.findall(r"'([^']+)'", told)


def _let_be(table: str, constraint: str, column: str, codes: Sequence[str]) -> None:
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    op.execute(
        f"ALTER TABLE {table} ADD CONSTRAINT {constraint} CHECK ({column} IN ({_listed(codes)}))"
    )


def _listed(codes: Iterable[str]) -> str:
    return ", ".join(f"'{code}'" for code in codes)
