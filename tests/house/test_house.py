"""Rules of the house that no linter knows."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from models import vocabulary
from models.vocabulary import MessageKind, Recipient
from notifications import invitation, mail, templates
from notifications.cadence import QuietHours
from notifications.invitation import Method
from notifications.reading import Letter
from scheduler import protocols

ROOT = Path(__file__).parents[2]
PACKAGES = ("models", "notifications", "scheduler", "api", "web", "intake", "database")
OURS = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
PROTOCOLS = sorted((ROOT / "demo/protocols").glob("*.json"))


def test_every_word_is_in_the_glossary() -> None:
    glossary = (ROOT / "docs/glossary.md").read_text()
    codes = [
        code
        for words in vars(vocabulary).values()
        if isinstance(words, type) and issubclass(words, StrEnum)
        for code in words
    ]

    assert codes
    assert [code for code in codes if f"**{code}**" not in glossary] == []


@pytest.mark.parametrize(
    ("word", "allowed"),
    [
        # Only an edge ends a transaction.
        (r"\.commit\(", {"api/", "web/patient.py"}),
        # Reads that rules need are easy to count; edges read for showing.
        (
            r"\bselect\(",
            {
                "scheduler/facts.py",
                "scheduler/evidence.py",
                "scheduler/calendars.py",
                "api/",
                "web/",
            },
        ),
        # Only the roots have a clock.
        (r"datetime\.now\(|utcnow\(|\.today\(|time\.time\(", set()),
        # Only booking writes slots.
        (r"INSERT INTO slot", {"scheduler/slots.py"}),
        # Only the queue moves messages on; the outbox plans and takes back.
        (r"UPDATE message", {"notifications/queue.py", "notifications/outbox.py"}),
    ],
)
def test_words_that_have_one_home(word: str, allowed: set[str]) -> None:
    homes = {str(path.relative_to(ROOT)) for path in OURS if re.search(word, path.read_text())}
    homes -= {"scheduler/checklists.py"} if word == r"\bselect\(" else set()

    assert {home for home in homes if not home.startswith(tuple(allowed or {"-"}))} == set()


def test_wall_time_is_never_reckoned_in_sql() -> None:
    assert [
        path for path in OURS if re.search(r"AT TIME ZONE|interval '\d+ day", path.read_text())
    ] == []


def test_locks_name_no_address() -> None:
    for lock in (ROOT / "locks").iterdir():
        told = lock.read_text()
        assert "--hash=sha256:" in told
        assert "://" not in told
        assert "index" not in told


def letters(kind: MessageKind, recipient: Recipient) -> Letter:
    """A letter about an invented visit of an invented clinic."""
    zone = ZoneInfo("America/New_York")
    starts = datetime(2027, 3, 15, 14, 0, tzinfo=UTC)
    return Letter(
        message_id=UUID(int=1),
        appointment_id=UUID(int=2),
        patient_id=UUID(int=3),
        kind=kind,
        recipient=recipient,
        reader_name="Ada",
        address="ada@example.com",
        patient_name="Ada",
        clinic="Harbor & Mesa Practice",
        clinic_email="desk@harbormesa.example.com",
        clinic_phone="+12125550100",
        site="Harbor House",
        site_address="12 Example Wharf",
        zone=zone,
        starts_at=starts,
        ends_at=starts + timedelta(hours=3),
        revision=1,
        quiet=QuietHours(time(20), time(9), zone),
    )


def said_under(path: Path) -> Iterator[tuple[MessageKind, Recipient]]:
    protocol = protocols.read(json.loads(path.read_text()))
    for visit in protocol.visits.values():
        for rule in visit.cadence:
            yield rule.kind, rule.to
    for kind in (MessageKind.MOVED, MessageKind.CANCELLATION):
        yield from ((kind, recipient) for recipient in Recipient)


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: path.stem)
def test_no_message_of_any_protocol_names_the_treatment(path: Path) -> None:
    now = datetime(2027, 3, 1, tzinfo=UTC)
    for kind, recipient in set(said_under(path)):
        letter = letters(kind, recipient)
        said = templates.render(letter, "https://clinic.example/p/x")
        sent = mail.build(letter, said, now).decode()
        for told in (said.subject, said.body, sent.split("\r\n\r\n")[0]):
            assert templates.betrays(told) == [], (kind, recipient)
    for method in Method:
        event = invitation.calendar(letters(MessageKind.MOVED, Recipient.PATIENT), method, now)
        assert templates.betrays(event.decode()) == []


def test_the_search_for_such_words_finds_them() -> None:
    for told in ("Ketamine", "your dosing visit", "therapy", "Integration", "no dose today"):
        assert templates.betrays(told)


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: path.stem)
def test_every_clinical_figure_names_its_source(path: Path) -> None:
    content = json.loads(path.read_text())
    assert protocols.check(content) == []
    listed = set(content["sources"])
    for figure in _figures(content):
        assert set(figure["source"]) <= listed
        assert figure["source"]


def _figures(told: Any) -> Iterator[dict[str, Any]]:
    if isinstance(told, dict):
        if "value" in told or ("from" in told and "to" in told) or "when" in told:
            yield told
        else:
            for part in told.values():
                yield from _figures(part)
    elif isinstance(told, list):
        for part in told:
            yield from _figures(part)
