"""Properties: what must hold for everything that can be made up, and how many cases are tried.

`@cases(400)` tries 400 in `make test`. `make soak` (tests/soak.py) sets SOAK and tries so many
times as many of every property, with another seed in each process; it counts them as they go by.
"""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

SOAK = float(os.environ.get("SOAK", "1"))
TALLY = os.environ.get("SOAK_TALLY")
"""A file that grows by a byte for each case."""


def cases(number: int) -> Callable[[Callable[..., None]], Any]:
    """Hold a property on so many cases, in the short run. Stands above `@given`."""
    wanted = round(number * SOAK)

    def hold(test: Any) -> Any:
        test.hypothesis.inner_test = _counted(test.hypothesis.inner_test)
        tried = settings(
            max_examples=wanted,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        )(test)
        return pytest.mark.cases(wanted)(tried)

    return hold


def _counted(inner: Callable[..., None]) -> Callable[..., None]:
    if TALLY is None:
        return inner
    tally = Path(TALLY).open("ab", buffering=0)  # noqa: SIM115  # as long as the process lives

    @wraps(inner)
    def count(*args: Any, **kwargs: Any) -> None:
        inner(*args, **kwargs)
        tally.write(b".")

    return count
