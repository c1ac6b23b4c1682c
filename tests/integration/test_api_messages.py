"""Words, cadences, previews, feeds, reports and figures about messages, over REST."""

from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import icalendar
import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from intake.bulk import Importer
from intake.feeds import Refresher
from intake.fetching import Fetcher
from models import Message, Protocol
from models.vocabulary import Channel, MessageKind, MessageState, Recipient
from notifications.words import kinds_to
from scheduler.jobs import Job
from tests.factories import DAY, MONDAY_9, SUNDAY_NOON, World, make_world, rule
from tests.integration.conftest import Caller, Clock
from worker import Worker

TUESDAY = (MONDAY_9 + DAY).isoformat()
SAID = [(kind, recipient) for recipient in Recipient for kind in sorted(kinds_to(recipient))]


def book(desk: Caller, world: World, at: str = TUESDAY) -> dict[str, Any]:
    told = {"patient_id": str(world.patient_id), "step_kind": "preparation", "starts_at": at}
    answer = desk.post("/appointments", told)
    assert answer.status_code == 201, answer.text
    assert answer.json is not None
    return dict(answer.json)


def wording(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "reminder",
        "subject": "Hello $name",
        "body": "See you on $day at $time. $link",
        **changes,
    }


class TestPreview:
    def test_every_kind_can_be_seen(self, desk: Caller) -> None:
        for (kind, recipient), channel in product(SAID, Channel):
            for language in ("en", "es"):
                asked = f"kind={kind}&recipient={recipient}&channel={channel}&language={language}"
                told = desk.get(f"/message-preview?{asked}")
                assert told.status_code == 200, (asked, told.text)
                if channel is Channel.EMAIL:
                    assert told.json["subject"]
                    assert told.json["html"].startswith("<!doctype html>")
                elif recipient is Recipient.PATIENT:
                    assert told.json["body"]
                    assert 1 <= told.json["segments"] <= 3, told.json

    def test_what_is_never_said_is_refused(self, desk: Caller) -> None:
        told = desk.get("/message-preview?kind=agenda&recipient=patient")
        assert told.status_code == 422
        assert told.json["field"] == "recipient"


class TestWordings:
    def test_a_clinic_says_it_in_its_own_words_until_it_takes_them_back(
        self, admin: Caller, desk: Caller
    ) -> None:
        ours = desk.get("/message-preview?kind=reminder").json["body"]

        first = admin.post("/wordings", wording())
        assert (first.status_code, first.json["number"]) == (201, 1)
        assert "See you on Wednesday" in desk.get("/message-preview?kind=reminder").json["body"]
        assert desk.get("/message-preview?kind=reminder&language=es").json["body"] != ours

        second = admin.post("/wordings", wording(body=""))
        assert second.json["number"] == 2
        assert desk.get("/message-preview?kind=reminder").json["body"] == ours
        assert [one["number"] for one in desk.get("/wordings").json["items"]] == [1, 2]

    @pytest.mark.parametrize(
        ("changes", "pointer", "why"),
        [
            ({"body": "$link $nome"}, "/body", "no placeholder"),
            ({"body": "$link {name} ${"}, "/body", "no placeholder"),
            ({"body": "Your ketamine session. $link"}, "/body", "'ketamin' may betray"),
            ({"subject": "Before your infusion"}, "/subject", "'infus' may betray"),
            ({"subject": ""}, "/subject", "needs a subject"),
            ({"subject": "x" * 121}, "/subject", "At most 120"),
            ({"body": "Please come."}, "/body", "$link is missing"),
            ({"channel": "sms", "body": "$link " + "a" * 500}, "/body", "at most 3"),
            ({"channel": "sms", "body": "$link " + "ж" * 200}, "/body", "in UCS-2"),
        ],
    )
    def test_words_that_cannot_be_used_are_refused(
        self, admin: Caller, changes: dict[str, str], pointer: str, why: str
    ) -> None:
        told = admin.post("/wordings", wording(**changes))
        assert told.status_code == 422, told.text
        [error] = told.json["errors"]
        assert error["pointer"] == pointer
        assert why in error["detail"]
        assert admin.get("/wordings").json["items"] == []

    def test_a_header_cannot_be_written(self, admin: Caller) -> None:
        told = admin.post("/wordings", wording(subject="Hello\r\nBcc: everybody@example.com"))
        assert told.status_code == 422
        assert told.json["errors"][0]["pointer"] == "/subject"


class TestCadences:
    def path(self, session: Session) -> str:
        protocol = session.scalars(select(Protocol.id)).one()
        return f"/protocols/{protocol}/cadences"

    def test_a_clinic_sets_its_own_and_goes_back(
        self, admin: Caller, desk: Caller, session: Session, world: World
    ) -> None:
        shipped = {one["rule"] for one in self.messages(desk, book(desk, world))}
        rules = [rule("only", "reminder", {"hours": -30, "from": "start"})]

        told = admin.post(self.path(session), {"cadence": "plain", "rules": rules})
        assert (told.status_code, told.json["number"]) == (201, 1), told.text
        later = book(desk, world, (MONDAY_9 + 2 * DAY).isoformat())
        assert [one["rule"] for one in self.messages(desk, later)] == ["only"]

        assert (
            admin.post(self.path(session), {"cadence": "plain", "rules": None}).json["number"] == 2
        )
        again = book(desk, world, (MONDAY_9 + 3 * DAY).isoformat())
        assert {one["rule"] for one in self.messages(desk, again)} >= shipped

    def messages(self, desk: Caller, visit: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = desk.get(f"/appointments/{visit['id']}/messages").json[
            "items"
        ]
        return found

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"kind": "poem"}, "/rules/0/kind"),
            ({"when": {"hours": "soon", "from": "start"}}, "/rules/0/when"),
            ({"to": "everybody"}, "/rules/0/to"),
            ({"if": ["raining"]}, "/rules/0/if/0"),
            ({"colour": "red"}, "/rules/0"),
        ],
    )
    def test_what_are_no_rules_is_refused(
        self, admin: Caller, session: Session, world: World, change: dict[str, Any], pointer: str
    ) -> None:
        rules = [{**rule("only", "reminder", {"hours": -30, "from": "start"}), **change}]
        told = admin.post(self.path(session), {"cadence": "plain", "rules": rules})
        assert told.status_code == 422, told.text
        assert told.json["errors"][0]["pointer"] == pointer
        assert admin.get(self.path(session)).json["items"] == []


class TestFeeds:
    @pytest.mark.parametrize("whose", ["patients", "practitioners"])
    def test_a_calendar_is_subscribed_to_until_it_is_revoked(
        self, admin: Caller, desk: Caller, client: FlaskClient, world: World, whose: str
    ) -> None:
        visit = book(desk, world)
        who = world.patient_id if whose == "patients" else world.therapist_id
        caller = desk if whose == "patients" else admin
        made = caller.post(f"/{whose}/{who}/calendar-feeds")
        assert made.status_code == 201, made.text
        path = made.json["url"].removeprefix("http://localhost")

        told = client.get(path)
        assert told.status_code == 200
        assert told.content_type.startswith("text/calendar")
        [event] = icalendar.Calendar.from_ical(told.text).walk("VEVENT")
        assert event.decoded("DTSTART").isoformat() == visit["starts_at"].replace("Z", "+00:00")
        for word in ("Ada", "preparation", "Preparation"):
            assert word not in told.text
        [listed] = icalendar.Calendar.from_ical(told.text).walk("VEVENT")
        assert visit["id"] not in str(listed["UID"])

        feed = made.json["id"]
        [known] = caller.get(f"/{whose}/{who}/calendar-feeds").json["items"]
        assert (known["id"], known["revoked_at"]) == (feed, None)
        assert "url" not in known
        seen = caller.get(f"/calendar-feeds/{feed}")
        assert (seen.json, made.headers["ETag"]) == (known, seen.headers["ETag"])
        assert made.headers["Location"] == f"/api/v1/calendar-feeds/{feed}"
        assert caller("DELETE", f"/calendar-feeds/{feed}").status_code == 428
        etag = seen.headers["ETag"]
        assert caller("DELETE", f"/calendar-feeds/{feed}", etag=etag).status_code == 204
        assert caller("DELETE", f"/calendar-feeds/{feed}", etag=etag).status_code == 412
        assert caller.get(f"/calendar-feeds/{feed}").json["revoked_at"] is not None
        assert client.get(path).status_code == 404
        assert client.get("/calendar/guessed.ics").status_code == 404


class TestWhatBecameOfThem:
    def test_a_report_counts_them(self, desk: Caller, session: Session, world: World) -> None:
        visit = book(desk, world)
        settle(session, visit, "confirmation", MessageState.SENT, sent_at=SUNDAY_NOON + DAY / 24)
        told = desk.get("/message-report?from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z").json
        lines = {(one["kind"], one["state"]): one for one in told["items"]}
        assert lines["confirmation", "sent"]["number"] == 1
        assert lines["confirmation", "sent"]["late_p50_seconds"] == pytest.approx(3600 - 7200)

    def test_a_failed_one_is_said_again_once_staff_decide_so(
        self, desk: Caller, session: Session, world: World
    ) -> None:
        visit = book(desk, world)
        failed = settle(session, visit, "confirmation", MessageState.FAILED)
        path = f"/messages/{failed}"
        etag = desk.get(path).headers["ETag"]

        told = desk.post(f"{path}/resend", etag=etag)
        assert (told.status_code, told.json["state"]) == (200, "scheduled")
        again = desk.post(f"{path}/resend", etag=told.headers["ETag"])
        assert (again.status_code, again.json["type"]) == (409, "/problems/wrong-status")
        assert desk.post(f"{path}/resend", etag=etag).status_code == 412

    def test_the_figures_are_there_for_prometheus(
        self, desk: Caller, client: FlaskClient, session: Session, world: World
    ) -> None:
        book(desk, world)
        session.execute(
            text(
                "UPDATE message SET due_at = now() - interval '9 min', "
                "not_after = now() + interval '1 min' WHERE kind = 'confirmation'"
            )
        )
        told = client.get("/metrics").text
        found = {family.name for family in text_string_to_metric_families(told)}
        assert found >= {
            "afterglow_messages",
            "afterglow_messages_oldest_due_seconds",
            "afterglow_messages_about_to_expire",
            "afterglow_messages_claimed",
            "afterglow_messages_handed_over",
            "afterglow_message_lateness_seconds",
            "afterglow_provider_seconds",
        }
        assert "Ada" not in told

    def test_what_jobs_could_not_do_is_counted(
        self, committed: Session, worker_engine: Engine, client: FlaskClient, clock: Clock
    ) -> None:
        def fails(session: Session, now: datetime) -> int:
            raise LookupError("one bad clinic")

        make_world(committed, "Another Practice")
        committed.commit()
        refresher = Refresher(worker_engine, clock, Fetcher(()).fetch)
        importer = Importer(worker_engine, clock)
        nowhere = Path("/nonexistent")
        at_work = Worker(worker_engine, clock, [], [], refresher, importer, 1, nowhere)
        at_work.do(Job("fails", timedelta(minutes=1), fails))
        at_work.sweep()
        counted = f'afterglow_job_failures_total{{job="fails",worker="{at_work.id}"}} 1.0'
        assert counted in client.get("/metrics").text.splitlines()


def settle(
    session: Session, visit: dict[str, Any], kind: str, state: MessageState, **more: Any
) -> UUID:
    """Let a message of the visit have come to its end."""
    message = session.scalars(
        select(Message).where(
            Message.appointment_id == UUID(visit["id"]), Message.kind == MessageKind(kind)
        )
    ).one()
    message.due_at = SUNDAY_NOON + timedelta(hours=2)
    message.state, message.done_at = state, SUNDAY_NOON + timedelta(hours=2)
    for name, value in more.items():
        setattr(message, name, value)
    session.flush()
    return message.id
