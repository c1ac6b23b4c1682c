"""A worker dies while it fetches a calendar; another reads it, and nobody is booked in its time."""

import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler

import pytest
from sqlalchemy.orm import Session

from models.vocabulary import Role
from scheduler import feeds
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World
from tests.fakes import calendar_server
from tests.service import Service, give_keys
from tests.unit.test_icalendars import calendar

pytestmark = pytest.mark.faults

ALL_MONDAY = "UID:away\nDTSTART;VALUE=DATE:20260302"


def test_a_feed_outlives_the_worker_that_was_fetching_it(
    service: Service, committed: Session, committed_world: World
) -> None:
    give_keys(service, committed, committed_world.clinic_id, SUNDAY_NOON)
    asked = threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> bool:
        asked.set()
        return elsewhere.over.wait(60)

    with calendar_server() as elsewhere:
        elsewhere.told = calendar(ALL_MONDAY)
        elsewhere.answer = hang
        service.more["FEED_NETWORKS"] = "127.0.0.0/8"
        service.start("web")
        path = f"/schedules/{committed_world.therapist}/busy-feeds"
        made = service.call(Role.SCHEDULER, "POST", path, {"url": elsewhere.url})
        assert made.status_code == 201, made.text
        assert "2026-03-02" in days_offered(service)

        service.start("worker")
        assert asked.wait(30)
        service.kill("worker")
        elsewhere.answer = lambda _asked: False
        service.start("worker2")
        service.set_clock(SUNDAY_NOON + feeds.IN_HAND + timedelta(seconds=1))
        mine = f"{path}/{made.json()['id']}"
        service.wait_until(
            lambda: service.call(Role.SCHEDULER, "GET", mine).json()["read_at"] is not None,
            "the feed to be read",
        )

        assert "2026-03-02" not in days_offered(service)
        assert "2026-03-03" in days_offered(service)
        assert service.call(Role.SCHEDULER, "GET", mine).json()["busy"] == 1


def days_offered(service: Service) -> set[str]:
    asked = {
        "step_kind": "preparation",
        "from": (MONDAY_9 - DAY / 2).isoformat(),
        "to": (MONDAY_9 + 2 * DAY).isoformat(),
    }
    told = "&".join(f"{name}={value}".replace("+", "%2B") for name, value in asked.items())
    found = service.call(Role.SCHEDULER, "GET", f"/openings?{told}").json()
    return {one["starts_at"][:10] for one in found["items"]}
