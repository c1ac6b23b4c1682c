"""The table leaves nothing out: no gate, no rule of a course, and no figure of either."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

from models.vocabulary import Stage, StepKind
from scheduler import protocols
from scheduler.protocols import Protocol, SettledBy
from tests.house import sources
from tests.unit.gates.table_of_branches import BRANCHES
from tests.unit.gates.table_of_courses import RULES
from tests.unit.gates.table_of_visits import (
    GATES,
    GIVEN,
    NOTICES,
    OLD_ENOUGH,
    STAFF,
    SUSPENDED,
)
from tests.unit.gates.timed import After, Apart, AtMost, Needs, OnlyIf, Rule, Same
from tests.unit.gates.visits import CLINIC, HOME, OREGON, TRIAL

CONTENTS: dict[str, dict[str, Any]] = {
    content["code"]: content
    for content in (json.loads(path.read_text()) for path in sources.files())
}
PROTOCOLS: dict[str, Protocol] = {
    code: protocols.read(content) for code, content in CONTENTS.items()
}
VISITS = {
    f"{code}/{key}": visit
    for code, protocol in PROTOCOLS.items()
    for key, visit in protocol.visits.items()
}
DOSES = {name for name, visit in VISITS.items() if visit.kind is StepKind.DOSING}

IN_THE_TEMPLATES = {
    # The column `gates` of the clinical facts, section 8.
    "iv-infusion/infusion": "G1 G2 G3 G4 G5 G6 G7 G8 G9 G12 G14 D1 D2",
    "iv-infusion/booster": "G1 G2 G3 G4 G5 G6 G7 G8 G9 G12 G14 D1 D2",
    "kap/medicine-session": "G1 G2 G3 G4 G5 G6 G7 G8 G9 G11 G12 G13 G14 D1 D2",
    "at-home/home-session": "G1 G2 G3 G4 G5 G8 G9 G14",
    "group/group-session": "G2 G3 G4 G5 G6 G7 G8 G9 D1 D2",
    "group/make-up": "G1 G2 G3 G4 G5 G6 G7 G8 G9 G11 G12 G13 G14 D1 D2",
    "esketamine/session": "G1 G2 G3 G4 G5 G6 G7 G8 G9 G10 G12 G14 D1 D2",
    "mdma-at/session": "G1 G2 G3 G4 G5 G6 G7 G8 G9 G11 G12 G13 D1 D2",
    **dict.fromkeys(OREGON.split(), "G2 G6 G11 G12 D1 D2"),
}


def test_the_table_names_every_gate_and_no_other() -> None:
    named = Counter((name, row.gate) for row in GATES for name in row.visits.split())
    found = Counter((name, gate.code) for name, visit in VISITS.items() for gate in visit.gates)

    assert named == found


def test_the_table_names_every_window_and_no_other() -> None:
    named = Counter(
        (row.protocol, row.step, row.anchor, row.severity, row.if_skipped, row.same_weekday)
        for row in RULES
        if isinstance(row, After)
    )
    found = Counter(
        (code, step.key, one.step, one.severity, one.if_skipped.value, one.same_weekday)
        for code, protocol in PROTOCOLS.items()
        for step in protocol.steps
        for one in step.windows
    )
    assert named == found


def test_the_table_names_every_other_rule_of_a_course_and_no_other() -> None:
    named = Counter(filter(None, chain(map(named_by, RULES), map(named_by, BRANCHES))))

    assert named == Counter(key for one in PROTOCOLS.values() for key in ruled(one))


def named_by(row: Rule | OnlyIf) -> tuple[str, ...]:
    """What a row names; nothing: a window."""
    match row:
        case AtMost() | Apart():
            return row.protocol, row.name
        case Needs():
            return row.protocol, row.step, row.owed
        case Same():
            return row.protocol, row.step, row.anchor, row.role
        case OnlyIf():
            return row.protocol, row.step, row.anchor, *sorted(row.outcomes.split())
    return ()


def ruled(protocol: Protocol) -> Iterator[tuple[str, ...]]:
    """The rules of a course that are no windows."""
    yield from ((protocol.code, cap.code) for cap in protocol.caps)
    yield from ((protocol.code, gap.code) for gap in protocol.gaps)
    for step in protocol.steps:
        yield from (
            (protocol.code, step.key, owed) for owed in (step.owes and step.owes.steps) or ()
        )
        yield from ((protocol.code, step.key, tie.step, tie.role) for tie in step.same)
        assert not step.differs  # as soon as a protocol has one, the table needs a sort for it
        if step.only_if is not None:
            branch = step.only_if
            yield protocol.code, step.key, branch.step, *sorted(branch.outcomes)


def test_the_table_names_every_dose() -> None:
    assert set(STAFF) == set(IN_THE_TEMPLATES) == DOSES
    assert {one.visit for one in NOTICES} == DOSES
    assert {
        name: (one.medicine, one.route) for name, one in VISITS.items() if one.medicine
    } == GIVEN
    assert set(GIVEN) == DOSES
    assert set(OLD_ENOUGH) == set(PROTOCOLS)


def test_what_is_not_ready_in_time_is_suspended_wherever_arrival_asks_for_something() -> None:
    asks = {
        name
        for name, visit in VISITS.items()
        if any(gate.shuts in {Stage.ARRIVAL, Stage.DOSE} for gate in visit.gates)
    }
    assert set(SUSPENDED) == asks
    assert {
        name: (one.suspend.days, one.suspend.at)
        for name, one in VISITS.items()
        if one.suspend is not None
    } == SUSPENDED


def test_after_a_dose_nobody_leaves_but_it_is_noted_how() -> None:
    """At home somebody looks at them instead; after a night here, as they leave in the morning."""
    noted = {
        name
        for name, visit in VISITS.items()
        if any(gate.settled_by is SettledBy.DEPARTURE for gate in visit.gates)
    }
    assert noted == {*CLINIC.split(), *OREGON.split(), "mdma-at/night"}
    assert DOSES - noted == {HOME, TRIAL}


@pytest.mark.parametrize("name", sorted(DOSES))
def test_a_visit_has_every_gate_that_its_template_asks_for(name: str) -> None:
    protocol, _ = name.split("/")
    has = {row.code for row in GATES if name in row.visits.split()} | {"G12"}  # STAFF
    has |= {row.code for row in RULES if row.protocol == protocol}

    assert set(IN_THE_TEMPLATES[name].split()) - has == set()
