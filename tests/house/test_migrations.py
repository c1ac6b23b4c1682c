"""Migrations expand or contract, and say which (docs/operations.md)."""

import pytest

from database.migrating import FOLDER, PHASED_SINCE
from tests.house.dangers import dangers

FILES = sorted((FOLDER / "versions").glob("[0-9]*.py"))
PHASED = [path for path in FILES if path.stem >= PHASED_SINCE]

HARMFUL = {
    "a table goes": "op.drop_table('room')",
    "a column goes": "op.drop_column('room', 'name')",
    "by hand": "op.execute('ALTER TABLE room DROP COLUMN name')",
    "a name is another": "op.execute('ALTER TABLE room RENAME TO place')",
    "a type is another": "op.alter_column('room', 'name', type_=sa.Integer())",
    "by hand as well": "op.execute('ALTER TABLE room ALTER COLUMN name TYPE text')",
    "it may no longer be null": "op.alter_column('room', 'name', nullable=False)",
    "it may not be null": "op.add_column('room', sa.Column('x', sa.Text(), nullable=False))",
    "it may not be null, by hand": "op.execute('ALTER TABLE room ADD COLUMN x text NOT NULL')",
    "an index": "op.create_index('ix', 'message', ['kind'])",
    "an index by hand": "op.execute('CREATE INDEX ix ON message (kind)')",
    "a key": "op.create_foreign_key('fk', 'appointment', 'room', ['a'], ['b'])",
    "in a function": "_more()\n\ndef _more():\n    op.drop_table('room')",
}

HARMLESS = {
    "a table": "op.create_table('x', sa.Column('a', sa.Text(), nullable=False))",
    "its index": "op.create_table('message')\n    op.create_index('ix', 'message', ['a'])",
    "a column": "op.add_column('room', sa.Column('x', sa.Text(), nullable=True))",
    "one with a default": (
        "op.add_column('room', sa.Column('x', sa.Text(), nullable=False, server_default='a'))"
    ),
    "an index": "op.create_index('ix', 'message', ['a'], postgresql_concurrently=True)",
    "an index on little": "op.create_index('ix', 'room', ['a'])",
    "what undoes it": "pass\n\ndef downgrade():\n    op.drop_table('room')",
}


@pytest.mark.parametrize("path", PHASED, ids=lambda path: path.stem)
def test_a_migration_says_its_phase_and_keeps_to_it(path: object) -> None:
    told = path.read_text()  # type: ignore[attr-defined]
    phases = [phase for phase in ("expand", "contract") if f'\nphase = "{phase}"\n' in told]
    assert len(phases) == 1, 'it says neither phase = "expand" nor phase = "contract"'
    if phases == ["expand"]:
        assert list(dangers(told)) == []


def test_there_are_migrations_that_keep_to_it() -> None:
    assert next(path.stem for path in PHASED) == PHASED_SINCE


@pytest.mark.parametrize("what", HARMFUL)
def test_harm_is_found(what: str) -> None:
    assert list(dangers(f"def upgrade():\n    {HARMFUL[what]}\n"))


@pytest.mark.parametrize("what", HARMLESS)
def test_what_does_no_harm_is_let_be(what: str) -> None:
    assert list(dangers(f"def upgrade():\n    {HARMLESS[what]}\n")) == []
