"""What the trials share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from database.access import Access
from tests.conftest import clean
from tests.faults.trial import Trial, trial
from tests.ledger import Row

Begin = Callable[..., Trial]
Note = Callable[[Row], None]


@pytest.fixture
def begin(database: Access, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Begin]:
    """Begin a trial: so many patients, each with a visit tomorrow."""
    with ExitStack() as stack:
        yield lambda patients, **more: stack.enter_context(
            trial(database, tmp_path, patients, request.node.name, **more)
        )
    clean(database)


@pytest.fixture
def note(record_property: Any) -> Note:
    """Put a row into the table at the end of the run."""
    return lambda row: row.note(record_property)
