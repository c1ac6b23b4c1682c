"""Apart: what a job does with many rows at once, and one bad row holds up no other.

They are taken together. Where that fails, nothing of it stays, and each half is tried by itself,
down to the row that fails alone: it is logged by its id, counted, and left. It is tried again
with the next run of the job, so it is told of again and again until somebody has mended it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar
from uuid import UUID

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

log = structlog.get_logger()


class Named(Protocol):
    """A row that has an id."""

    @property
    def id(self) -> UUID: ...


Row = TypeVar("Row", bound=Named)


def apart(
    session: Session, job: str, rows: Sequence[Row], do: Callable[[Sequence[Row]], int]
) -> int:
    """Do something with rows, but for those with which it cannot be done. Returns its count.

    Takes two statements more than without, while all is well.
    """
    if not rows:
        return 0
    first = rows[0].id  # read before it may have to be read anew
    try:
        with session.begin_nested():
            return do(rows)
    except OperationalError:
        raise  # the database is away, or two waited for each other: it is none of the rows
    except Exception:
        if len(rows) == 1:
            note_failure(job)
            log.exception("row.failed", job=job, row_id=str(first))
            return 0
    middle = len(rows) // 2
    return apart(session, job, rows[:middle], do) + apart(session, job, rows[middle:], do)


def failures() -> Mapping[str, int]:
    """How often something failed in each job since this process started."""
    with _turn:
        return dict(_failures)


def note_failure(job: str) -> None:
    """Count that something failed in a job."""
    with _turn:
        _failures[job] += 1


_failures: Counter[str] = Counter()
_turn = threading.Lock()
