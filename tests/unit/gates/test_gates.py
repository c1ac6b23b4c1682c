"""Every gate in every protocol that uses it, at its boundaries, to the minute."""

import json
from collections.abc import Iterator
from datetime import date

import pytest

from scheduler import ages, protocols
from scheduler.protocols import Phase, Protocol, Visit
from tests.house import sources
from tests.unit.gates.table_of_branches import BRANCHES
from tests.unit.gates.table_of_courses import RULES
from tests.unit.gates.table_of_visits import GATES, NOTICES, OLD_ENOUGH, STAFF
from tests.unit.gates.timed import Notice, OnlyIf, Rule
from tests.unit.gates.trials import DAY, Row

FILES = {json.loads(path.read_text())["code"]: path for path in sources.files()}


def protocol_of(code: str) -> Protocol:
    """Read anew: whoever changes how a protocol is read changes what is tried."""
    return protocols.read(json.loads(FILES[code].read_text()))


def visit_of(name: str) -> Visit:
    protocol, visit = name.split("/")
    return protocol_of(protocol).visits[visit]


TRIED = [
    pytest.param(row, name, id=f"{row.code} {row.gate} of {name}")
    for row in GATES
    for name in row.visits.split()
]


@pytest.mark.parametrize(("row", "name"), TRIED)
def test_a_gate_is_as_the_table_says(row: Row, name: str) -> None:
    visit = visit_of(name)
    [gate] = [one for one in visit.gates if one.code == row.gate]

    row.hold(gate, visit)


@pytest.mark.parametrize("rule", [*RULES, *BRANCHES], ids=str)
def test_a_rule_of_a_course_is_as_the_table_says(rule: Rule | OnlyIf) -> None:
    rule.hold(protocol_of(rule.protocol))


@pytest.mark.parametrize("notice", NOTICES, ids=lambda one: one.visit)
def test_a_visit_is_booked_in_time(notice: Notice) -> None:
    notice.hold(protocol_of(notice.visit.split("/")[0]))


@pytest.mark.parametrize("name", STAFF)
def test_who_must_be_there_and_for_how_long(name: str) -> None:
    assert {said(phase) for phase in visit_of(name).phases if phase.kind is None} == STAFF[name]


def said(phase: Phase) -> str:
    minutes = f"{phase.start // MINUTES}-{phase.end // MINUTES}"
    how = [word for word, is_so in (("shared", phase.shared), ("present", phase.present)) if is_so]
    if phase.per_patients is not None:
        how.append(f"for each {phase.per_patients}")
    return " ".join([phase.role, minutes, *how])


MINUTES = DAY / (24 * 60)


@pytest.mark.parametrize("code", OLD_ENOUGH)
def test_nobody_is_too_young(code: str) -> None:
    assert list(too_young(code, protocol_of(code))) == []


def too_young(code: str, protocol: Protocol) -> Iterator[date]:
    """The days around a birthday on which the protocol says otherwise than the table."""
    birthday = date(2026, 6, 15)
    born = birthday.replace(year=birthday.year - OLD_ENOUGH[code])
    for day, is_old_enough in ((birthday - DAY, False), (birthday, True), (birthday + DAY, True)):
        if (ages.age_on(day, born) >= protocol.minimum_age) is not is_old_enough:
            yield day
