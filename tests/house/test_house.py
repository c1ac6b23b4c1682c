"""Rules of the house that no linter knows."""

import ast
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from api.problems import CATALOG
from models import vocabulary
from models.vocabulary import Channel, Condition, MessageKind, Owner, Recipient, StepKind
from notifications import invitation, mail, templates
from notifications.invitation import Entry, Method
from notifications.languages import LOCALES
from notifications.templates import Links
from notifications.words import kinds_to
from scheduler import protocols
from scheduler.protocols import Visit
from scheduler.spans import Span
from tests.house import abuses, problems, roles, sources

ROOT = Path(__file__).parents[2]
PACKAGES = ("models", "notifications", "scheduler", "identity", "api", "web", "intake", "database")
OURS = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
LINKS = Links({UUID(int=1): "https://clinic.example/p/x"}, "https://clinic.example/u/x")
PROTOCOLS = sources.files()


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
        # Only an edge ends a transaction, and the API where the trail's line is written.
        (r"\.commit\(", {"api/", "web/"}),
        (
            r"session\.commit\(",
            {
                *("api/caller.py", "api/browsers.py", "api/trail.py", "api/quota.py", "web/"),
                "api/operating.py",
            },
        ),
        # Reads that rules need are easy to count; edges read for showing.
        (
            r"\bselect\(",
            {
                "scheduler/facts.py",
                "scheduler/evidence.py",
                "scheduler/calendars.py",
                "identity/",
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


def test_pages_end_no_transaction_without_a_line_of_the_audit_trail() -> None:
    """But for what the provider of messages says of them, and for tries that are counted."""
    silent = set()
    for path in (ROOT / "web").glob("*.py"):
        for one in ast.walk(ast.parse(path.read_text())):
            if isinstance(one, ast.FunctionDef):
                told = ast.unparse(one)
                if "session.commit()" in told and "audit.record(" not in told:
                    silent.add((path.stem, one.name))
    assert silent == {("hooks", "status"), ("people", "keep")}


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


def said_under(path: Path) -> Iterator[tuple[MessageKind, Recipient]]:
    protocol = protocols.read(json.loads(path.read_text()))
    for visit in protocol.visits.values():
        for rule in visit.cadence:
            yield rule.kind, rule.to
    for recipient in Recipient:
        yield from ((kind, recipient) for kind in kinds_to(recipient))


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: path.stem)
def test_no_message_of_any_protocol_names_the_treatment(path: Path) -> None:
    now = datetime(2027, 3, 1, tzinfo=UTC)
    for kind, recipient in set(said_under(path)):
        for language, channel in product(LOCALES, Channel):
            letter = templates.sample(kind, recipient, channel, language)
            said = templates.render([letter], LINKS)
            for told in (said.subject, said.body, said.html):
                assert templates.betrays(told) == [], (kind, recipient, language)
        letter = templates.sample(kind, recipient, Channel.EMAIL, "en")
        sent = mail.build([letter], templates.render([letter], LINKS), now).decode()
        assert templates.betrays(sent.split("\r\n\r\n")[0]) == []
    for method in Method:
        letter = templates.sample(MessageKind.MOVED, Recipient.PATIENT, Channel.EMAIL, "en")
        event = invitation.calendar([Entry.of(letter)], method, now)
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


ASKING = [path for path in PROTOCOLS if path.stem != "psilocybin-oregon"]
"""A service without diagnosis asks for none (docs/safety.md)."""


@pytest.mark.parametrize("path", ASKING, ids=lambda path: path.stem)
def test_questionnaires_are_asked_for_from_before_the_first_dose_to_a_month_after(
    path: Path,
) -> None:
    protocol = protocols.read(json.loads(path.read_text()))
    asking = {visit.key for visit in protocol.visits.values() if _asked(visit)}
    first_dose = next(one for one in protocol.steps if one.visit.kind is StepKind.DOSING)
    before = [one for one in protocol.steps if one.position < first_dose.position]
    assert {one.visit.key for one in before} & asking
    assert {key for key, one in protocol.visits.items() if one.kind is StepKind.DOSING} <= asking
    month = Span(value=21, unit="d"), Span(value=35, unit="d")
    assert [
        step.key
        for step in protocol.steps
        if step.visit.kind is StepKind.FOLLOW_UP
        and step.visit.key in asking
        and any((window.least, window.most) == month for window in step.windows)
    ]


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: path.stem)
def test_who_is_asked_hears_of_it_in_time(path: Path) -> None:
    """By the message about questions; between doses of one week by the one about the list."""
    protocol = protocols.read(json.loads(path.read_text()))
    for visit in protocol.visits.values():
        said = {rule.kind: rule.conditions for rule in visit.cadence}
        if _asked(visit) and visit.cadence_name != "dense":
            assert said[MessageKind.QUESTIONNAIRE_DUE] == (Condition.QUESTIONS_OPEN,), visit.key
        elif _asked(visit):
            assert said[MessageKind.CHECKLIST_NUDGE] == (Condition.CHECKLIST_OPEN,), visit.key


def _asked(visit: Visit) -> bool:
    return any(item.instruments and item.owner is Owner.PATIENT for item in visit.checklist)


def _figures(told: Any) -> Iterator[dict[str, Any]]:
    if isinstance(told, dict):
        if {"value", "when", "places"} & told.keys() or {"from", "to"} <= told.keys():
            yield told
        else:
            for part in told.values():
                yield from _figures(part)
    elif isinstance(told, list):
        for part in told:
            yield from _figures(part)


def test_the_page_of_clinical_sources_is_what_the_protocols_say() -> None:
    assert (ROOT / "docs/clinical-sources.md").read_text() == sources.page()


def test_the_page_of_permissions_is_what_the_bundles_say() -> None:
    assert (ROOT / "docs/permissions.md").read_text() == roles.page()


def test_the_page_of_abuses_is_what_the_list_says_and_each_is_tried() -> None:
    assert abuses.unheld() == []
    assert (ROOT / "docs/abuses.md").read_text() == abuses.page()


def test_the_page_of_problems_is_what_the_catalog_says() -> None:
    assert (ROOT / "docs/problems.md").read_text() == problems.page()


def test_every_code_of_a_problem_has_a_page() -> None:
    """Also those that are written where they are raised."""
    written = re.compile(r"(?:BadRequest|problem)\(\s*\d{3},\s*\"([a-z-]+)\"")
    found = {
        code
        for path in [*ROOT.glob("api/*.py"), *ROOT.glob("web/*.py")]
        for code in written.findall(path.read_text())
    }
    assert len(found) > 10
    assert found <= set(CATALOG)
