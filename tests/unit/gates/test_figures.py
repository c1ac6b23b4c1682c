"""Whoever changes a figure of a protocol file must change the table: each is changed and found."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from models.vocabulary import ConditionAction, MedicineAction, Severity, Stage, StepKind
from scheduler import protocols
from scheduler.protocols import IfSkipped, Protocol, SettledBy
from tests.unit.gates.table_of_branches import BRANCHES
from tests.unit.gates.table_of_courses import RULES
from tests.unit.gates.table_of_visits import GATES, GIVEN, NOTICES, STAFF
from tests.unit.gates.test_complete import CONTENTS
from tests.unit.gates.test_gates import said, too_young
from tests.unit.gates.timed import Apart, AtMost, OnlyIf, Rule

Path = tuple[str | int, ...]
Try = Callable[[Protocol], None]

WORDS: dict[str, Iterable[str]] = {
    "shuts": Stage,
    "severity": Severity,
    "by": SettledBy,
    "conditions": ConditionAction,
    "medicines": MedicineAction,
    "if_skipped": IfSkipped,
    "kind": StepKind,
}
PROSE = {"title", "source", "code", "key", "measure"}
OPTIONAL = {"holds", "holds_first", "longest_gap", "recheck", "notice", "ahead", "weekday"}
TAKEN_AWAY = object()


def others(told: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every figure in a part of a protocol, by where it stands, each with another in its place."""
    if isinstance(told, dict):
        nothing = {"unit"} if told.get("value") == 0 else set()  # no hours are no days
        for key in told.keys() - PROSE - nothing:
            yield from others(told[key], (*path, key))
        yield from (((*path, key), TAKEN_AWAY) for key in told.keys() & OPTIONAL)
    elif isinstance(told, list):
        for position, one in enumerate(told):
            yield from others(one, (*path, position))
        if path and path[-1] in {
            "lift",
            "who",
            "ends_on",
            "kinds",
            "ways",
            "outcomes",
            "steps",
            "for",
        }:
            yield from ((path, told[:at] + told[at + 1 :]) for at in range(len(told)))
        if path and path[-1] in {"lift", "who"}:
            yield path, [*told, "front-desk" if "front-desk" not in told else "monitor"]
    else:
        yield from (
            (path, other)
            for other in _other(told, path[1] if path[-1] == "action" else path[-1])
            if other != told
        )


def _other(told: Any, key: str | int) -> Iterator[Any]:
    if isinstance(told, bool):
        yield not told
    elif isinstance(told, str):
        yield from {"h": ["d"], "d": ["h"], "min": ["h"], "c-ssrs": ["phq-9"]}.get(told, [])
        yield from ["another"] if key in {"medicine", "route"} else []
        yield from (str(word) for word in WORDS.get(str(key), ()))
    else:
        yield from (one for one in (told - 1, told + 1) if one >= 0)


def changed(content: Any, path: Path, value: Any) -> Any:
    """The same with another value in one place."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if value is TAKEN_AWAY and not rest:
        return {key: one for key, one in content.items() if key != first}
    other = content.copy()
    other[first] = changed(content[first], rest, value)
    return other


def of_gate(name: str, code: str) -> Try:
    """What the table says of a gate of a visit."""
    [row] = [one for one in GATES if one.gate == code and name in one.visits.split()]

    def trial(protocol: Protocol) -> None:
        visit = protocol.visits[name.split("/")[1]]
        row.hold(next(gate for gate in visit.gates if gate.code == code), visit)

    return trial


def of_screens(code: str) -> Try:
    """What the table says of what a patient has, and takes."""
    wanted = {"contraindication-screen", "medications"}
    rows = [one for one in GATES if one.gate in wanted and f"{code}/" in one.visits]

    def trial(protocol: Protocol) -> None:
        for row in rows:
            key = next(one for one in row.visits.split() if one.startswith(f"{code}/"))
            visit = protocol.visits[key.split("/")[1]]
            row.hold(next(gate for gate in visit.gates if gate.code == row.gate), visit)

    return trial


def of_visit(name: str) -> Try:
    """What it says of a visit besides: who serves, and when it is booked."""
    [notice] = [one for one in NOTICES if one.visit == name]

    def trial(protocol: Protocol) -> None:
        visit = protocol.visits[name.split("/")[1]]
        assert {said(one) for one in visit.phases if one.kind is None} == STAFF[name]
        assert (visit.medicine, visit.route) == GIVEN[name]
        notice.hold(protocol)

    return trial


def of_step(code: str, key: str) -> Try:
    """All that it says of a step."""

    rows: list[Rule | OnlyIf] = [*RULES, *BRANCHES]

    def trial(protocol: Protocol) -> None:
        for row in rows:
            if row.protocol == code and getattr(row, "step", None) == key:
                row.hold(protocol)

    return trial


def of_all(code: str) -> Try:
    """All that it says of a protocol's caps, gaps and age."""

    def trial(protocol: Protocol) -> None:
        assert not list(too_young(code, protocol))
        for rule in RULES:
            if rule.protocol == code and isinstance(rule, (AtMost, Apart)):
                rule.hold(protocol)

    return trial


Part = tuple[Path, Any, Try]


def parts(code: str, content: dict[str, Any]) -> Iterator[Part]:
    """The parts of a protocol that the table speaks of, and what it says of each."""
    for top in ("caps", "gaps", "minimum_age"):
        yield (top,), content.get(top, []), of_all(code)
    for top, listed in content["screening"].items():
        yield from (
            (("screening", top, at), one, of_screens(code)) for at, one in enumerate(listed)
        )
    for at, step in enumerate(content["steps"]):
        for key in ("after", "owes", "same", "only_if"):
            yield ("steps", at, key), step.get(key, []), of_step(code, step["key"])
    for key, visit in content["visits"].items():
        if f"{code}/{key}" in STAFF:
            for path, told, trial in _of_visit(f"{code}/{key}", visit):
                yield ("visits", key, *path), told, trial


def _of_visit(name: str, visit: dict[str, Any]) -> Iterator[Part]:
    for at, gate in enumerate(visit["gates"]):
        yield ("gates", at), gate, of_gate(name, gate["code"])
        if gate["by"] == SettledBy.DEPARTURE:
            yield ("ways_home",), visit["ways_home"], of_gate(name, gate["code"])
    for at, check in enumerate(visit["checklist"]):
        if "gate" in check:
            yield (
                ("checklist", at),
                {"due_before": check["due_before"]},
                of_gate(name, check["gate"]),
            )
    for at, phase in enumerate(visit["phases"]):
        if "role" in phase:
            yield ("phases", at), phase, of_visit(name)
    more = ("notice", "ahead", "medicine", "route")
    yield (), {key: visit[key] for key in more if key in visit}, of_visit(name)


PARTS = {
    f"{code} {'/'.join(map(str, path))}": (code, path, told, trial)
    for code, content in CONTENTS.items()
    for path, told, trial in parts(code, content)
}


@pytest.mark.parametrize("part", PARTS)
def test_no_figure_changes_behind_the_back_of_the_table(part: str) -> None:
    code, prefix, told, trial = PARTS[part]
    trial(protocols.read(CONTENTS[code]))
    for path, value in others(told, prefix):
        try:
            trial(protocols.read(changed(CONTENTS[code], path, value)))
        except AssertionError:
            continue
        pytest.fail(f"{path} can be {value!r}")
