"""Two web processes on one database: what is booked at one is in the next search of the other."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from database.access import Access
from models.vocabulary import Role
from tests.factories import MONDAY_9, SUNDAY_NOON, World
from tests.fakes import mail_server
from tests.service import Service, give_keys, running

Pair = tuple[Service, Service]
SEARCH = "/openings?step_kind=preparation&from=2026-03-02T00:00:00Z&to=2026-03-03T00:00:00Z"


@pytest.fixture
def pair(
    database: Access, committed: Session, committed_world: World, tmp_path: Path
) -> Iterator[Pair]:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    with (
        mail_server() as mail,
        running(database, folders[0], mail, SUNDAY_NOON) as one,
        running(database, folders[1], mail, SUNDAY_NOON) as other,
    ):
        give_keys(one, committed, committed_world.clinic_id, SUNDAY_NOON)
        other.secrets = one.secrets
        one.start("web")
        other.start("web")
        yield one, other


def starts(service: Service) -> list[str]:
    answer = service.call(Role.SCHEDULER, "GET", SEARCH)
    return [found["starts_at"] for found in answer.json()["items"]]


def book(service: Service, world: World, start: str) -> dict[str, Any]:
    told = {"patient_id": str(world.patient_id), "step_kind": "preparation", "starts_at": start}
    answer = service.call(Role.SCHEDULER, "POST", "/appointments", told)
    assert answer.status_code == 201, answer.text
    booked: dict[str, Any] = {**answer.json(), "etag": answer.headers["ETag"]}
    return booked


def test_a_booking_anywhere_is_in_the_next_search_everywhere(
    pair: Pair, committed_world: World
) -> None:
    one, other = pair
    whole = starts(one)
    assert starts(other) == whole
    assert whole[0] == _written(0)

    for here, there, hour in [(one, other, 0), (other, one, 2), (one, other, 4)]:
        book(here, committed_world, _written(hour))
        left = starts(there)
        assert _written(hour) not in left
        assert starts(here) == left
        whole = left

    last = book(other, committed_world, _written(6))
    assert _written(6) not in starts(one)
    path = f"/appointments/{last['id']}/cancel"
    answer = one.call(Role.SCHEDULER, "POST", path, {"reason": "x"}, **{"If-Match": last["etag"]})
    assert answer.status_code == 200, answer.text
    assert starts(other) == whole


def _written(hours: int) -> str:
    return (MONDAY_9 + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
