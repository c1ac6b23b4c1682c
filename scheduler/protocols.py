"""Protocols as the rules read them: what a course asks for, as plain frozen values.

A protocol version is data, written and signed by a clinician; every clinical figure in it
names its source. `check` says what is wrong with such data, in one pass; `read` turns good
data into the values below.

Pure: no database, no clock, no Flask.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from models.vocabulary import MessageKind, Owner, Recipient, Severity, Stage, StepKind
from notifications.cadence import Rule
from notifications.words import kinds_to

SCHEMA_FILE = Path(__file__).with_name("protocol.schema.json")
SCHEMA: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
_VALIDATOR = Draft202012Validator(SCHEMA)
_CADENCE_VALIDATOR = Draft202012Validator(
    {**SCHEMA["properties"]["cadences"]["additionalProperties"], "$defs": SCHEMA["$defs"]}
)

_UNITS = {
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


class SettledBy(StrEnum):
    """What settles a gate."""

    CLEARANCE = "clearance"
    """Somebody vouches for it."""
    CHECKLIST = "checklist"
    """Its checklist items are done."""
    ESCORT = "escort"
    """An escort is named and has said yes."""
    STEPS = "steps"
    """Earlier visits of the course took place."""
    OBSERVATION = "observation"
    """Enough time has passed since the dose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a visit that needs one actor."""

    role: str
    """A practitioner role, `room` or `device`."""
    kind: str | None
    """Which kind of room or device. None for a practitioner."""
    start: timedelta
    """From the start of the visit."""
    end: timedelta
    turnover: timedelta
    """For how long the actor stays taken afterwards: cleaning, charting."""
    shared: bool
    """Takes one lane, so that the actor can serve several visits at once."""
    present: bool
    """Must be working at the site, but takes no slot."""
    count: int = 1
    """How many different actors."""
    setup: timedelta = timedelta(0)
    """For how long the actor is taken before: making ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A condition that a protocol puts on a visit."""

    code: str
    title: str
    shuts: Stage
    """The earliest stage that this gate can stop."""
    settled_by: SettledBy
    holds: timedelta | None
    """How long a clearance holds. None: until revoked."""
    holds_first: timedelta | None
    """The same for the course's first visit of its kind, where the protocol tells them apart."""
    kinds: frozenset[StepKind]
    """For `steps`: all earlier steps of these kinds must be fulfilled."""
    minutes: timedelta
    """For `observation`: the least time since the dose."""
    who: tuple[str, ...]
    """Who can settle it."""
    lift: frozenset[str]
    """Practitioner roles that may override it with a reason. Empty: nobody may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A line of a visit's checklist."""

    code: str
    title: str
    owner: Owner
    due_before: timedelta
    """Before the start of the visit."""
    gate: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A kind of visit: how long, with whom, behind which gates, with what said about it."""

    key: str
    kind: StepKind
    title: str
    length: timedelta
    phases: tuple[Phase, ...]
    gates: tuple[Gate, ...]
    checklist: tuple[Check, ...]
    cadence_name: str
    cadence: tuple[Rule, ...]
    grid: timedelta = timedelta(minutes=15)
    """Starts lie on multiples of it by the site's wall clock."""
    notice: timedelta | None = None
    """The least time between its booking and its start."""
    ahead: timedelta | None = None
    """How far ahead it may be booked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A length of time as protocols tell it: elapsed, or in calendar days at the site."""

    value: float
    unit: str

    @property
    def elapsed(self) -> timedelta:
        """The span as elapsed time; a day counts 24 hours."""
        return self.value * _UNITS[self.unit]

    @property
    def in_days(self) -> bool:
        """Whether it counts calendar days, so that 7 days later the same hour is in time."""
        return self.unit == "d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How far a step may be from an earlier one, its anchor: start to start."""

    step: str
    least: Span | None
    most: Span | None
    severity: Severity
    lift: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owes:
    """Steps that must be booked or done before this one can be booked."""

    steps: tuple[str, ...]
    severity: Severity
    lift: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One visit of the course, and where it stands to the others."""

    key: str
    position: int
    visit: Visit
    windows: tuple[Window, ...]
    owes: Owes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """At most so many visits of a kind for one patient within a sliding span."""

    code: str
    kind: StepKind
    most: int
    within: Span
    severity: Severity
    lift: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """At least so much time between any two visits of a kind for one patient."""

    code: str
    kind: StepKind
    least: Span
    severity: Severity
    lift: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One version of a protocol, ready to be judged by."""

    code: str
    title: str
    minimum_age: int
    caps: tuple[Cap, ...]
    gaps: tuple[Gap, ...]
    visits: Mapping[str, Visit]
    steps: tuple[Step, ...]

    def step(self, key: str) -> Step:
        """The step with this key; `KeyError` if there is none."""
        return next(step for step in self.steps if step.key == key)

    def first_visit_of(self, kind: StepKind) -> Visit | None:
        """The first visit of `kind`, in the order of the file. None if there is none."""
        return next((visit for visit in self.visits.values() if visit.kind is kind), None)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a protocol file: where (a JSON pointer), and what."""

    pointer: str
    detail: str


def check(content: Any) -> list[Fault]:
    """List everything that is wrong with `content`, best in the order of the file.

    First its shape (protocol.schema.json); only if that is right, what a schema cannot say:
    names that lead nowhere, a window that ends before it begins, a source that is not listed.
    """
    shape = [
        Fault("/" + "/".join(map(str, error.absolute_path)), error.message)
        for error in sorted(_VALIDATOR.iter_errors(content), key=lambda e: list(map(str, e.path)))
    ]
    return shape or list(_meaning(content))


def check_cadence(rules: Any) -> list[Fault]:
    """List everything that is wrong with `rules`, a cadence as protocol files write it."""
    shape = [
        Fault("/" + "/".join(map(str, error.absolute_path)), error.message)
        for error in _CADENCE_VALIDATOR.iter_errors(rules)
    ]
    return shape or list(_unsaid(rules, ""))


def read(content: Mapping[str, Any]) -> Protocol:
    """Turn checked `content` into a Protocol."""
    cadences = {name: tuple(map(Rule.read, rules)) for name, rules in content["cadences"].items()}
    visits = {key: _visit(key, told, cadences) for key, told in content["visits"].items()}
    return Protocol(
        code=content["code"],
        title=content["title"],
        minimum_age=content["minimum_age"]["value"],
        caps=tuple(map(_cap, content.get("caps", ()))),
        gaps=tuple(map(_gap, content.get("gaps", ()))),
        visits=visits,
        steps=tuple(
            _step(position, told, visits) for position, told in enumerate(content["steps"], start=1)
        ),
    )


def _meaning(content: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _unlisted_sources(content, set(content["sources"]), "")
    for key, visit in content["visits"].items():
        here = f"/visits/{key}"
        if visit["cadence"] not in content["cadences"]:
            yield Fault(f"{here}/cadence", f"There is no cadence {visit['cadence']!r}.")
        gates = {gate["code"] for gate in visit["gates"]}
        for number, item in enumerate(visit["checklist"]):
            if item.get("gate", None) not in gates | {None}:
                yield Fault(f"{here}/checklist/{number}/gate", f"No gate {item['gate']!r} here.")
        yield from _bad_phases(visit, here)
    for name, rules in content["cadences"].items():
        yield from _unsaid(rules, f"/cadences/{name}")
    yield from _misplaced_steps(content)


def _bad_phases(visit: Mapping[str, Any], here: str) -> Iterator[Fault]:
    for number, phase in enumerate(visit["phases"]):
        if phase["from"] >= phase["to"]:
            yield Fault(f"{here}/phases/{number}/to", "A phase must end after it begins.")
        elif phase["to"] > visit["minutes"]["value"]:
            yield Fault(f"{here}/phases/{number}/to", "A phase must end with the visit.")


def _unsaid(rules: Sequence[Mapping[str, Any]], here: str) -> Iterator[Fault]:
    codes: set[str] = set()
    for number, rule in enumerate(rules):
        if MessageKind(rule["kind"]) not in kinds_to(Recipient(rule["to"])):
            yield Fault(f"{here}/{number}/to", f"{rule['kind']} is never said to {rule['to']}.")
        if rule["rule"] in codes:
            yield Fault(f"{here}/{number}/rule", f"Two rules are called {rule['rule']!r}.")
        codes.add(rule["rule"])


def _misplaced_steps(content: Mapping[str, Any]) -> Iterator[Fault]:
    earlier: set[str] = set()
    for number, step in enumerate(content["steps"]):
        here = f"/steps/{number}"
        if step["visit"] not in content["visits"]:
            yield Fault(f"{here}/visit", f"There is no visit {step['visit']!r}.")
        if step["key"] in earlier:
            yield Fault(f"{here}/key", f"Two steps are called {step['key']!r}.")
        for index, window in enumerate(step.get("after", ())):
            yield from _bad_window(f"{here}/after/{index}", window, earlier)
        for owed in step.get("owes", {}).get("steps", ()):
            if owed not in earlier:
                yield Fault(f"{here}/owes/steps", f"{owed!r} is not an earlier step.")
        earlier.add(step["key"])


def _bad_window(here: str, window: Mapping[str, Any], earlier: set[str]) -> Iterator[Fault]:
    if window["step"] not in earlier:
        yield Fault(f"{here}/step", f"{window['step']!r} is not an earlier step.")
    least, most = window.get("least"), window.get("most")
    if least and most and _span(least).elapsed > _span(most).elapsed:
        yield Fault(f"{here}/most", "The window ends before it begins.")


def _unlisted_sources(told: Any, listed: set[str], here: str) -> Iterator[Fault]:
    if isinstance(told, Mapping):
        for source in told.get("source", ()):
            if source not in listed:
                yield Fault(f"{here}/source", f"{source!r} is not among the sources.")
        for key, value in told.items():
            if key != "sources":
                yield from _unlisted_sources(value, listed, f"{here}/{key}")
    elif isinstance(told, list):
        for number, value in enumerate(told):
            yield from _unlisted_sources(value, listed, f"{here}/{number}")


def _span(figure: Mapping[str, Any]) -> Span:
    return Span(value=figure["value"], unit=figure["unit"])


def _optional_span(figure: Mapping[str, Any] | None) -> Span | None:
    return None if figure is None else _span(figure)


def _elapsed(figure: Mapping[str, Any] | None) -> timedelta | None:
    return None if figure is None else _span(figure).elapsed


def _phase(told: Mapping[str, Any]) -> Phase:
    actor = next(word for word in ("role", "room", "device") if word in told)
    return Phase(
        role=told["role"] if actor == "role" else actor,
        kind=None if actor == "role" else told[actor],
        start=timedelta(minutes=told["from"]),
        end=timedelta(minutes=told["to"]),
        turnover=timedelta(minutes=told.get("turnover", 0)),
        shared=told.get("shared", False),
        present=told.get("present", False),
    )


def _gate(told: Mapping[str, Any]) -> Gate:
    return Gate(
        code=told["code"],
        title=told["title"],
        shuts=Stage(told["shuts"]),
        settled_by=SettledBy(told["by"]),
        holds=_elapsed(told.get("holds")),
        holds_first=_elapsed(told.get("holds_first")),
        kinds=frozenset(map(StepKind, told.get("kinds", ()))),
        minutes=_elapsed(told.get("minutes")) or timedelta(0),
        who=tuple(told["who"]),
        lift=frozenset(told["lift"]),
    )


def _check(told: Mapping[str, Any]) -> Check:
    due = _elapsed(told["due_before"])
    assert due is not None
    return Check(
        code=told["code"],
        title=told["title"],
        owner=Owner(told["owner"]),
        due_before=due,
        gate=told.get("gate"),
    )


def _visit(key: str, told: Mapping[str, Any], cadences: Mapping[str, tuple[Rule, ...]]) -> Visit:
    length = _elapsed(told["minutes"])
    assert length is not None
    return Visit(
        key=key,
        kind=StepKind(told["kind"]),
        title=told["title"],
        length=length,
        phases=tuple(map(_phase, told["phases"])),
        gates=tuple(map(_gate, told["gates"])),
        checklist=tuple(map(_check, told["checklist"])),
        cadence_name=told["cadence"],
        cadence=cadences[told["cadence"]],
    )


def _window(told: Mapping[str, Any]) -> Window:
    return Window(
        step=told["step"],
        least=_optional_span(told.get("least")),
        most=_optional_span(told.get("most")),
        severity=Severity(told["severity"]),
        lift=frozenset(told["lift"]),
    )


def _step(position: int, told: Mapping[str, Any], visits: Mapping[str, Visit]) -> Step:
    owes = told.get("owes")
    return Step(
        key=told["key"],
        position=position,
        visit=visits[told["visit"]],
        windows=tuple(map(_window, told.get("after", ()))),
        owes=None
        if owes is None
        else Owes(
            steps=tuple(owes["steps"]),
            severity=Severity(owes["severity"]),
            lift=frozenset(owes["lift"]),
        ),
    )


def _cap(told: Mapping[str, Any]) -> Cap:
    return Cap(
        code=told["code"],
        kind=StepKind(told["kind"]),
        most=told["most"]["value"],
        within=_span(told["within"]),
        severity=Severity(told["severity"]),
        lift=frozenset(told["lift"]),
    )


def _gap(told: Mapping[str, Any]) -> Gap:
    return Gap(
        code=told["code"],
        kind=StepKind(told["kind"]),
        least=_span(told["least"]),
        severity=Severity(told["severity"]),
        lift=frozenset(told["lift"]),
    )
