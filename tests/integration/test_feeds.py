"""Calendars kept elsewhere: fetched safely, read whole or not at all, and said to be old."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from intake import fetching
from intake.feeds import Refresher
from intake.fetching import Fetcher, Unfetched
from models import BusyFeed, Closure, Task
from models.vocabulary import StepKind, TaskStatus
from notifications.outside import is_public
from scheduler import booking, feeds
from scheduler.authority import Authority
from scheduler.booking import Order
from scheduler.feeds import Due
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World, make_patient
from tests.fakes import CalendarServer, calendar_server
from tests.integration.conftest import Caller
from tests.unit.test_icalendars import calendar

HOME = ip_network("127.0.0.0/8")
MINUTE = timedelta(minutes=1)
DENTIST = """UID:dentist
    SUMMARY:Dentist
    DTSTART:20260304T150000Z
    DTEND:20260304T160000Z"""


@pytest.fixture
def elsewhere() -> Iterator[CalendarServer]:
    with calendar_server() as server:
        server.told = calendar(DENTIST)
        yield server


@dataclass
class Feeds:
    """A worker's part that refreshes, with a clock that the test sets."""

    refresher: Refresher
    session: Session
    world: World
    id: UUID
    times: list[datetime] = field(default_factory=lambda: [SUNDAY_NOON])

    def refresh(self, after: timedelta = timedelta(0)) -> BusyFeed:
        self.session.rollback()
        self.times[0] += after
        self.refresher.refresh([self.world.clinic_id])
        return self.feed

    @property
    def feed(self) -> BusyFeed:
        self.session.rollback()
        self.session.expire_all()
        return self.session.scalars(select(BusyFeed).where(BusyFeed.id == self.id)).one()

    def busy(self) -> list[str]:
        self.session.rollback()
        rows = self.session.scalars(select(Closure).order_by(Closure.starts_at))
        return [f"{one.starts_at:%d %H:%M}-{one.ends_at:%H:%M}" for one in rows]

    def task(self) -> TaskStatus | None:
        self.session.rollback()
        return self.session.scalar(select(Task.status).where(Task.subject_id == self.id))


@pytest.fixture
def kept(
    elsewhere: CalendarServer, worker_engine: Engine, committed: Session, committed_world: World
) -> Feeds:
    feed = BusyFeed(
        id=uuid7(),
        schedule_id=committed_world.therapist,
        url=elsewhere.url,
        time_zone="America/New_York",
        due_at=SUNDAY_NOON,
    )
    committed.add(feed)
    committed.commit()
    times = [SUNDAY_NOON]
    refresher = Refresher(worker_engine, lambda: times[0], Fetcher([HOME]).fetch)
    return Feeds(refresher, committed, committed_world, feed.id, times)


def test_busy_time_closes_a_schedule_and_says_nothing_about_itself(
    kept: Feeds, elsewhere: CalendarServer
) -> None:
    free = DENTIST.replace("dentist", "free").replace("0304", "0305") + "\nTRANSP:TRANSPARENT"
    touching = DENTIST.replace("dentist", "after").replace("T15", "T16", 1)
    elsewhere.told = calendar(
        DENTIST, free, touching.replace("DTEND:20260304T16", "DTEND:20260304T17")
    )

    feed = kept.refresh()

    assert kept.busy() == ["04 15:00-17:00"]
    assert kept.session.scalars(select(Closure.reason)).all() == [feeds.BUSY]
    assert (feed.read_at, feed.fault, feed.failing_since) == (SUNDAY_NOON, None, None)
    assert feed.due_at == SUNDAY_NOON + 15 * MINUTE


def test_it_is_asked_for_when_it_is_due_and_what_is_unchanged_is_not_sent_again(
    kept: Feeds, elsewhere: CalendarServer
) -> None:
    kept.refresh()
    ids = kept.session.scalars(select(Closure.id)).all()
    kept.refresh(14 * MINUTE)
    assert len(elsewhere.asked) == 1

    feed = kept.refresh(MINUTE)

    assert elsewhere.asked[1]["If-None-Match"] == elsewhere.etag
    assert feed.read_at == SUNDAY_NOON + 15 * MINUTE
    assert kept.session.scalars(select(Closure.id)).all() == ids

    elsewhere.told = calendar(DENTIST.replace("T16", "T17"), DENTIST.replace("0304", "0306"))
    kept.refresh(15 * MINUTE)
    assert kept.busy() == ["06 15:00-16:00"]  # one UID: the later of two

    elsewhere.told = calendar()
    kept.refresh(15 * MINUTE)
    assert kept.busy() == []


def test_the_last_good_copy_stands_and_staff_are_told_after_a_day(
    kept: Feeds, elsewhere: CalendarServer
) -> None:
    kept.refresh()

    def broken(asked: BaseHTTPRequestHandler) -> bool:
        asked.send_error(500)
        return True

    elsewhere.answer = broken
    feed = kept.refresh(15 * MINUTE)

    assert kept.busy() == ["04 15:00-16:00"]
    assert feed.fault == "The server answered 500."
    assert feed.failing_since == SUNDAY_NOON + 15 * MINUTE
    assert not feeds.is_stale(feed, kept.times[0])
    assert kept.task() is None

    feed = kept.refresh(DAY)
    assert feed.failing_since == SUNDAY_NOON + 15 * MINUTE
    assert feeds.is_stale(feed, kept.times[0])
    assert kept.task() is TaskStatus.REQUESTED

    elsewhere.answer = lambda _asked: False
    feed = kept.refresh(15 * MINUTE)
    assert (feed.fault, feed.failing_since) == (None, None)
    assert kept.task() is TaskStatus.COMPLETED


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ("hello", "not iCalendar"),
        (calendar(DENTIST)[:-20], "not all of it"),
        (calendar(*[DENTIST.replace("dentist", str(n)) for n in range(5001)]), "At most"),
        ("x" * (fetching.LARGEST + 1), "larger than 2 MB"),
    ],
)
def test_what_is_no_calendar_leaves_the_last_good_copy(
    kept: Feeds, elsewhere: CalendarServer, told: str, fault: str
) -> None:
    kept.refresh()
    elsewhere.told = told

    feed = kept.refresh(15 * MINUTE)

    assert fault in (feed.fault or "")
    assert kept.busy() == ["04 15:00-16:00"]


def test_one_bad_event_does_not_hide_the_others(kept: Feeds, elsewhere: CalendarServer) -> None:
    bad = DENTIST.replace("dentist", "bad") + "\nRRULE:FREQ=SECONDLY"
    elsewhere.told = calendar(bad, DENTIST)

    feed = kept.refresh()

    assert kept.busy() == ["04 15:00-16:00"]
    assert "1 events cannot be read: line 3: RRULE" in (feed.fault or "")
    assert kept.task() is TaskStatus.REQUESTED


def test_a_visit_in_busy_time_is_shown_to_staff(kept: Feeds, elsewhere: CalendarServer) -> None:
    patient_id, _ = make_patient(kept.session)
    start = MONDAY_9 + 2 * DAY + timedelta(minutes=30)
    order = Order(patient_id=patient_id, starts_at=start, step_kind=StepKind.PREPARATION)
    booking.book(kept.session, order, by=Authority("test"), now=SUNDAY_NOON)
    kept.session.commit()

    kept.refresh()
    assert kept.task() is TaskStatus.REQUESTED

    elsewhere.told = calendar()
    kept.refresh(15 * MINUTE)
    assert kept.task() is TaskStatus.COMPLETED


def test_a_feed_that_was_changed_while_it_was_fetched_is_asked_for_anew(
    kept: Feeds, elsewhere: CalendarServer
) -> None:
    def meanwhile(_: BaseHTTPRequestHandler) -> bool:
        feed = kept.feed
        feed.url = elsewhere.url + "?new"
        kept.session.commit()
        elsewhere.answer = lambda _asked: False
        return False

    elsewhere.answer = meanwhile
    feed = kept.refresh()

    assert feed.read_at is None
    assert kept.busy() == []
    kept.refresh(feeds.IN_HAND)
    assert kept.busy() == ["04 15:00-16:00"]


def due(url: str) -> Due:
    return Due(uuid4(), url, None, None)


def test_over_tls_only_from_whom_we_trust(served: ssl.SSLContext, trusted: ssl.SSLContext) -> None:
    with calendar_server(served) as server:
        server.told = calendar(DENTIST)
        assert Fetcher([HOME], trusted).fetch(due(server.url)).told == server.told
        with pytest.raises(Unfetched, match="certificate"):
            Fetcher([HOME]).fetch(due(server.url))


def test_nothing_is_fetched_from_this_machine_or_its_networks(elsewhere: CalendarServer) -> None:
    for url in (elsewhere.url, elsewhere.url.replace("127.0.0.1", "localhost")):
        with pytest.raises(Unfetched, match="network"):
            Fetcher().fetch(due(url))
    assert elsewhere.asked == []


def test_a_redirect_is_looked_at_like_the_first_address(elsewhere: CalendarServer) -> None:
    with calendar_server() as inside:
        inside.told = calendar(DENTIST)
        to = [inside.url]

        def away(asked: BaseHTTPRequestHandler) -> bool:
            asked.send_response(302)
            asked.send_header("Location", to[0])
            asked.send_header("Content-Length", "0")
            asked.end_headers()
            return True

        elsewhere.answer = away
        assert Fetcher([HOME]).fetch(due(elsewhere.url)).told == inside.told

        for target, fault in (
            ("http://[::1]/", "network"),
            ("http://169.254.169.254/latest/meta-data/", "network"),
            ("file:///etc/passwd", "no web address"),
            ("http://[::ffff:10.0.0.1]/", "network"),
            (elsewhere.url, "too often"),
        ):
            to[0] = target
            with pytest.raises(Unfetched, match=fault):
                Fetcher([HOME]).fetch(due(elsewhere.url))


def test_a_server_that_drips_is_not_waited_for(
    elsewhere: CalendarServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.5)

    def drip(asked: BaseHTTPRequestHandler) -> bool:
        asked.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not elsewhere.over.wait(0.1):
            try:
                asked.wfile.write(b"X-Slow: yes\r\n")
            except OSError:
                break
        return True

    elsewhere.answer = drip
    with pytest.raises(Unfetched, match="in time"):
        Fetcher([HOME]).fetch(due(elsewhere.url))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("127.0.0.1", False),
        ("0.1.2.3", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("192.0.0.9", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("203.0.113.1", False),
        ("::", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001::7f00:1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


class TestOverRest:
    """Feeds are set up by staff; their addresses are not shown again."""

    SECRET = "https://calendar.example.com/private-1234/basic.ics"

    def add(self, caller: Caller, world: World, **more: Any) -> Any:
        return caller.post(f"/schedules/{world.therapist}/busy-feeds", {"url": self.SECRET, **more})

    def test_a_feed_is_added_read_changed_and_removed(self, world: World, desk: Caller) -> None:
        made = self.add(desk, world, every_minutes=30)
        assert made.status_code == 201, made.json
        assert made.json["host"] == "calendar.example.com"
        assert made.json["time_zone"] == "America/New_York"
        path = f"/schedules/{world.therapist}/busy-feeds/{made.json['id']}"

        shown = desk.get(path)
        assert (shown.json["read_at"], shown.json["busy"], shown.json["clashes"]) == (None, 0, [])
        assert "private-1234" not in shown.text
        assert "private-1234" not in desk.get(path.rpartition("/")[0]).text
        changed = desk("PATCH", path, {"every_minutes": 60}, etag=shown.headers["ETag"])
        assert changed.json["every_minutes"] == 60
        assert desk("PATCH", path, {"every_minutes": 5}, etag='"1"').status_code == 412

        assert desk("DELETE", path, etag=changed.headers["ETag"]).status_code == 204
        assert desk.get(path).status_code == 404

    def test_webcal_means_https(self, session: Session, world: World, desk: Caller) -> None:
        assert self.add(desk, world, url="webcal://calendar.example.com/a.ics").status_code == 201
        assert session.scalars(select(BusyFeed)).one().url == "https://calendar.example.com/a.ics"

    def test_time_that_a_feed_closed_goes_with_it_and_is_not_changed_by_hand(
        self, session: Session, world: World, desk: Caller
    ) -> None:
        feed_id = self.add(desk, world).json["id"]
        told = Due(UUID(feed_id), self.SECRET, None, None)
        feeds.keep(session, told, feeds.Fetched(calendar(DENTIST)), SUNDAY_NOON)
        session.commit()
        [closure] = session.scalars(select(Closure))
        path = f"/schedules/{world.therapist}/closures/{closure.id}"

        for answer in (
            desk("PATCH", path, {"reason": "mine"}, etag='"1"'),
            desk("DELETE", path, etag='"1"'),
        ):
            assert (answer.status_code, answer.json["type"]) == (422, "/problems/unfit")
        feed = f"/schedules/{world.therapist}/busy-feeds/{feed_id}"
        assert desk("DELETE", feed, etag=desk.get(feed).headers["ETag"]).status_code == 204

        assert session.scalars(select(Closure)).all() == []

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "calendar.example.com",
            "ftp://calendar.example.com/a.ics",
            "https://user:secret@calendar.example.com/a.ics",
            "https:///a.ics",
            "https://calendar.example.com:0/a.ics",
            "https://calendar.example.com:port/a.ics",
            "https://calendar.example.com/a b.ics",
            "https://calendar.example.com/\r\nHost: other",
            "https://calendär.example.com/a.ics",
            "https://calendar.example.com/" + "a" * 2000,
            None,
            7,
        ],
    )
    def test_what_is_no_address_is_refused(self, world: World, desk: Caller, url: Any) -> None:
        answer = self.add(desk, world, url=url)

        assert answer.status_code == 422
        assert answer.json["errors"][0]["pointer"] == "/url"
