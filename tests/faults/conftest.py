"""What the trials share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from database.access import Access
from tests.conftest import clean
from tests.factories import SUNDAY_NOON
from tests.fakes import mail_server
from tests.faults.trial import Trial, trial
from tests.ledger import Row
from tests.service import Service, running

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
def service(database: Access, tmp_path: Path) -> Iterator[Service]:
    """A service of which nothing is started yet, on a Sunday at noon; a clean database after."""
    with mail_server() as mail, running(database, tmp_path, mail, SUNDAY_NOON) as service:
        yield service
    clean(database)


@pytest.fixture
def note(record_property: Any) -> Note:
    """Put a row into the table at the end of the run."""
    return lambda row: row.note(record_property)
