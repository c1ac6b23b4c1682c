"""Protocols as the rules read them: what a course asks for, as plain frozen values.

A protocol version is data, written and signed by a clinician; every clinical figure in it
names its source. `check` says what is wrong with such data, in one pass; `read` turns good
data into the values below.

Pure: no database, no clock, no Flask.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from models.vocabulary import (
    HealthEventKind,
    Measure,
    Owner,
    Place,
    Severity,
    Stage,
    StepKind,
    WayHome,
)
from notifications.cadence import Moment, Rule
from scheduler import checking, incident_kinds
from scheduler.checking import Fault as Fault
from scheduler.incident_kinds import IncidentKind
from scheduler.screening import HealthCondition, MedicineClass
from scheduler.spans import Span as Span

SCHEMA_FILE = Path(__file__).with_name("protocol.schema.json")
SCHEMA: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
_VALIDATOR = Draft202012Validator(SCHEMA)
_CADENCE_VALIDATOR = Draft202012Validator(
    {**SCHEMA["properties"]["cadences"]["additionalProperties"], "$defs": SCHEMA["$defs"]}
)


class SettledBy(StrEnum):
    """What settles a gate."""

    CLEARANCE = "clearance"
    """Somebody vouches for it."""
    CHECKLIST = "checklist"
    """Its checklist items are done."""
    ESCORT = "escort"
    """An escort is named and has said yes."""
    DEPARTURE = "departure"
    """It is noted who takes the patient home, in a way that the protocol allows."""
    STEPS = "steps"
    """Earlier visits of the course took place."""
    OBSERVATION = "observation"
    """Enough time has passed since the dose."""
    MEASUREMENT = "measurement"
    """What was measured lies within its limits."""
    QUESTIONNAIRE = "questionnaire"
    """A questionnaire was filled in, and its answers let the visit go on."""
    INCIDENTS = "incidents"
    """What was to be done about what went wrong is done."""
    SCREEN = "screen"
    """The patient was screened for the protocol's conditions, and nothing speaks against it."""
    MEDICINES = "medicines"
    """What the patient takes was gone through, and what is held back was approved."""
    ELIGIBILITY = "eligibility"
    """Nobody has decided that the course does not go on to its doses."""


class GivenFor(StrEnum):
    """What a clearance must have been given for, to count for a visit."""

    MEDICINE = "medicine"
    """The visit's own."""
    ROUTE = "route"
    """The visit's own."""
    TEXT = "text"
    """The clinic's text as it is, or an earlier version that none has renewed since."""


class IfSkipped(StrEnum):
    """What becomes of a window whose anchor was skipped or missed."""

    PLANNED = "planned"
    """It counts from the time that was planned for the anchor."""
    IGNORE = "ignore"
    """It falls away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a visit that needs an actor, or several of a kind."""

    role: str
    """A practitioner role, `room` or `device`."""
    kind: str | None
    """Which kind of room or device. None for a practitioner."""
    start: timedelta
    """From the start of the visit."""
    end: timedelta
    turnover: timedelta
    """For how long the actor stays taken afterwards: cleaning, charting."""
    setup: timedelta = timedelta(0)
    """For how long the actor is taken before: getting ready."""
    count: int = 1
    """So many different actors, each for the whole phase."""
    per_patients: int | None = None
    """In a group visit one actor for each so many patients, in place of `count`."""
    shared: bool
    """Takes one lane, so that the actor can serve several visits at once."""
    present: bool
    """Must be working at the site, but takes no slot."""

    def wanted_for(self, patients: int) -> int:
        """How many actors so many patients need: at least one, also of a ratio."""
        if self.per_patients is None:
            return self.count
        return max(1, -(-patients // self.per_patients))


@dataclass(frozen=True, slots=True)
class Beyond:
    """Values below the one, or at or above the other."""

    below: float | None
    above: float | None

    def holds(self, value: float) -> bool:
        """Whether a value lies there."""
        return (self.below is not None and value < self.below) or (
            self.above is not None and value >= self.above
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Between which values of a measure a gate opens, and from which it is on hold."""

    measure: Measure
    least: float | None
    most: float | None
    hold: Beyond
    stop: Beyond
    near_baseline: float | None
    """Per cent either way of what was measured last before the dose."""


@dataclass(frozen=True, slots=True)
class Recheck:
    """How what is on hold is measured again."""

    after: timedelta
    times: int
    """So often, before a reason can open the gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is measured when during a visit."""

    code: str
    title: str
    measures: tuple[Measure, ...]
    before: Stage | None
    """Before the dose or the discharge. None: `after` the dose."""
    after: timedelta
    every: timedelta | None
    """And again each so long, up to `until` after the dose."""
    until: timedelta
    late_after: timedelta
    """So long after it was due it is late."""


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
    ends_on: frozenset[HealthEventKind]
    """For what somebody vouches for or finds: what ends it if it was given before that."""
    longest_gap: timedelta | None
    """The same: it ends so long after the last dose, unless it was given since."""
    given_for: frozenset[GivenFor] = frozenset()
    """For `clearance`: what it must have been given for."""
    kinds: frozenset[StepKind]
    """For `steps`: all earlier steps of these kinds must be fulfilled."""
    minutes: timedelta
    """For `observation`: the least time since the dose."""
    instrument: str | None = None
    """For `questionnaire`."""
    limits: tuple[Limit, ...] = ()
    """For `measurement`."""
    recheck: Recheck | None = None
    """For `measurement`; None: what is on hold stays so until it passes."""
    conditions: tuple[HealthCondition, ...] = ()
    """For `screen`."""
    medicines: tuple[MedicineClass, ...] = ()
    """For `medicines`."""
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
    due_after: timedelta | None
    """After its end instead: paperwork, a report."""
    gate: str | None
    instruments: tuple[str, ...] = ()
    """Questionnaires by which it is ticked, once all are filled in."""

    def due_at(self, starts_at: datetime, ends_at: datetime) -> datetime:
        """When it is due, of a visit at that time."""
        if self.due_after is not None:
            return ends_at + self.due_after
        return starts_at - self.due_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """How many patients share a visit."""

    places: int
    """At most."""
    least: int
    """With fewer it does not take place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a patient does, or leaves, for a while after a visit."""

    code: str
    words: Mapping[str, str]
    """By language; English is always there."""
    lasts: Span


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
    place: Place = Place.SITE
    notice: Span | None = None
    """The least time between booking and start."""
    ahead: Span | None = None
    """How far ahead it may be booked."""
    grid: timedelta = timedelta(minutes=15)
    """Starts are offered on multiples of it by the site's wall clock."""
    group: Group | None = None
    """None: a visit of one patient."""
    watch: tuple[Watch, ...] = ()
    """What is measured when during the visit."""
    ways_home: tuple[WayHome, ...] = (WayHome.ESCORT,)
    """How the patient may get home."""
    suspend: Moment | None = None
    """From when on it is suspended unless it is ready. None: never."""
    afterwards: tuple[Advice, ...] = ()
    """What the patient does and leaves for a while after it."""
    medicine: str | None = None
    """What is given. Never said outside an authenticated page."""
    route: str | None = None
    """How it is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How far a step may be from an earlier one, its anchor: start to start, never before it."""

    step: str
    least: Span | None
    most: Span | None
    severity: Severity
    lift: frozenset[str]
    same_weekday: bool = False
    """On the weekday of the anchor."""
    if_skipped: IfSkipped = IfSkipped.PLANNED


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """Ties who serves a step in a role to who served an earlier one in it."""

    role: str
    step: str
    severity: Severity
    lift: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A step belongs to the course only if an earlier one ended with one of these outcomes."""

    step: str
    outcomes: frozenset[str]


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
    same: tuple[Tie, ...] = ()
    """With the clinician who served an earlier step."""
    differs: tuple[Tie, ...] = ()
    """Never with the clinician who served an earlier step."""
    outcomes: tuple[str, ...] = ()
    """How the step can end, for later ones to branch on."""
    only_if: Branch | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Protocol:
    """One version of a protocol, ready to be judged by. There is one of each version."""

    code: str
    title: str
    minimum_age: int
    caps: tuple[Cap, ...]
    gaps: tuple[Gap, ...]
    visits: Mapping[str, Visit]
    doses_alone: int | None = None
    """So many doses in a row, with nothing but doses since, flag a course. None: never."""
    incidents: Mapping[str, IncidentKind]
    """What may go wrong, by code, and what is done about it."""
    steps: tuple[Step, ...]

    def step(self, key: str) -> Step:
        """The step with this key; `KeyError` if there is none."""
        for step in self.steps:
            if step.key == key:
                return step
        raise KeyError(key)

    def first_visit_of(self, kind: StepKind) -> Visit | None:
        """The first visit of `kind`, in the order of the file. None if there is none."""
        return next((visit for visit in self.visits.values() if visit.kind is kind), None)


def check(content: Any) -> list[Fault]:
    """List everything that is wrong with `content`, best in the order of the file.

    First its shape (protocol.schema.json); only if that is right, what a schema cannot say:
    see checking.py.
    """
    shape = [
        Fault("/" + "/".join(map(str, error.absolute_path)), error.message)
        for error in sorted(_VALIDATOR.iter_errors(content), key=lambda e: list(map(str, e.path)))
    ]
    return shape or list(checking.faults(content))


def check_cadence(rules: Any) -> list[Fault]:
    """List everything that is wrong with `rules`, a cadence as protocol files write it."""
    shape = [
        Fault("/" + "/".join(map(str, error.absolute_path)), error.message)
        for error in _CADENCE_VALIDATOR.iter_errors(rules)
    ]
    return shape or list(checking.cadence_faults(rules, ""))


def read(content: Mapping[str, Any]) -> Protocol:
    """Turn checked `content` into a Protocol."""
    cadences = {name: tuple(map(Rule.read, rules)) for name, rules in content["cadences"].items()}
    screening = content.get("screening", {})
    visits = {
        key: _visit(key, told, cadences, screening) for key, told in content["visits"].items()
    }
    return Protocol(
        code=content["code"],
        title=content["title"],
        minimum_age=content["minimum_age"]["value"],
        caps=tuple(map(_cap, content.get("caps", ()))),
        gaps=tuple(map(_gap, content.get("gaps", ()))),
        visits=visits,
        doses_alone=content["doses_alone"]["value"] if "doses_alone" in content else None,
        incidents={
            kind.code: kind for kind in map(incident_kinds.read, content.get("incidents", ()))
        },
        steps=tuple(
            _step(position, told, visits) for position, told in enumerate(content["steps"], start=1)
        ),
    )


def _optional_span(figure: Mapping[str, Any] | None) -> Span | None:
    return None if figure is None else Span.read(figure)


def _elapsed(figure: Mapping[str, Any] | None) -> timedelta | None:
    return None if figure is None else Span.read(figure).elapsed


def _phase(told: Mapping[str, Any]) -> Phase:
    actor = next(word for word in ("role", "room", "device") if word in told)
    return Phase(
        role=told["role"] if actor == "role" else actor,
        kind=None if actor == "role" else told[actor],
        start=timedelta(minutes=told["from"]),
        end=timedelta(minutes=told["to"]),
        turnover=timedelta(minutes=told.get("turnover", 0)),
        setup=timedelta(minutes=told.get("setup", 0)),
        count=told.get("count", 1),
        per_patients=told.get("per_patients"),
        shared=told.get("shared", False),
        present=told.get("present", False),
    )


def _gate(told: Mapping[str, Any], screening: Mapping[str, Any]) -> Gate:
    settled_by = SettledBy(told["by"])
    conditions = screening.get("conditions", ()) if settled_by is SettledBy.SCREEN else ()
    medicines = screening.get("medicines", ()) if settled_by is SettledBy.MEDICINES else ()
    return Gate(
        code=told["code"],
        title=told["title"],
        shuts=Stage(told["shuts"]),
        settled_by=settled_by,
        holds=_elapsed(told.get("holds")),
        holds_first=_elapsed(told.get("holds_first")),
        ends_on=frozenset(map(HealthEventKind, told.get("ends_on", ()))),
        longest_gap=_elapsed(told.get("longest_gap")),
        given_for=frozenset(map(GivenFor, told.get("for", ()))),
        kinds=frozenset(map(StepKind, told.get("kinds", ()))),
        minutes=_elapsed(told.get("minutes")) or timedelta(0),
        instrument=told.get("instrument"),
        limits=tuple(map(_limit, told.get("limits", ()))),
        recheck=_recheck(told.get("recheck")),
        conditions=tuple(map(HealthCondition.read, conditions)),
        medicines=tuple(map(MedicineClass.read, medicines)),
        who=tuple(told["who"]),
        lift=frozenset(told["lift"]),
    )


def _limit(told: Mapping[str, Any]) -> Limit:
    return Limit(
        measure=Measure(told["measure"]),
        least=told.get("pass", {}).get("least"),
        most=told.get("pass", {}).get("most"),
        hold=_beyond(told.get("hold", {})),
        stop=_beyond(told.get("stop", {})),
        near_baseline=told.get("near_baseline"),
    )


def _beyond(told: Mapping[str, Any]) -> Beyond:
    return Beyond(told.get("below"), told.get("from"))


def _recheck(told: Mapping[str, Any] | None) -> Recheck | None:
    if told is None:
        return None
    return Recheck(after=Span.read(told["after"]).elapsed, times=told["times"])


def _watch(told: Mapping[str, Any]) -> Watch:
    after = _elapsed(told.get("after_dose")) or timedelta(0)
    return Watch(
        code=told["code"],
        title=told["title"],
        measures=tuple(map(Measure, told["measures"])),
        before=Stage(told["before"]) if "before" in told else None,
        after=after,
        every=_elapsed(told.get("every")),
        until=_elapsed(told.get("until")) or after,
        late_after=Span.read(told["late_after"]).elapsed,
    )


def _check(told: Mapping[str, Any]) -> Check:
    return Check(
        code=told["code"],
        title=told["title"],
        owner=Owner(told["owner"]),
        due_before=_elapsed(told.get("due_before")) or timedelta(0),
        due_after=_elapsed(told.get("due_after")),
        gate=told.get("gate"),
        instruments=tuple(told.get("instruments", ())),
    )


def _visit(
    key: str,
    told: Mapping[str, Any],
    cadences: Mapping[str, tuple[Rule, ...]],
    screening: Mapping[str, Any],
) -> Visit:
    length = _elapsed(told["minutes"])
    assert length is not None
    return Visit(
        key=key,
        kind=StepKind(told["kind"]),
        title=told["title"],
        length=length,
        phases=tuple(map(_phase, told["phases"])),
        gates=tuple(_gate(gate, screening) for gate in told["gates"]),
        checklist=tuple(map(_check, told["checklist"])),
        watch=tuple(map(_watch, told.get("watch", ()))),
        ways_home=tuple(map(WayHome, told.get("ways_home", {"ways": ["escort"]})["ways"])),
        suspend=Moment.read(told["suspend"]["when"]) if "suspend" in told else None,
        afterwards=tuple(map(_advice, told.get("afterwards", ()))),
        cadence_name=told["cadence"],
        cadence=cadences[told["cadence"]],
        place=Place(told.get("place", "site")),
        notice=_optional_span(told.get("notice")),
        ahead=_optional_span(told.get("ahead")),
        grid=timedelta(minutes=told.get("grid", 15)),
        group=_group(told.get("group")),
        medicine=told.get("medicine"),
        route=told.get("route"),
    )


def _advice(told: Mapping[str, Any]) -> Advice:
    return Advice(code=told["code"], words=told["words"], lasts=Span.read(told["for"]))


def _group(told: Mapping[str, Any] | None) -> Group | None:
    return None if told is None else Group(places=told["places"], least=told["least"])


def _window(told: Mapping[str, Any]) -> Window:
    return Window(
        step=told["step"],
        least=_optional_span(told.get("least")),
        most=_optional_span(told.get("most")),
        severity=Severity(told["severity"]),
        lift=frozenset(told["lift"]),
        same_weekday="weekday" in told,
        if_skipped=IfSkipped(told.get("if_skipped", "planned")),
    )


def _tie(told: Mapping[str, Any]) -> Tie:
    return Tie(
        role=told["role"],
        step=told["as"],
        severity=Severity(told["severity"]),
        lift=frozenset(told["lift"]),
    )


def _owes(told: Mapping[str, Any] | None) -> Owes | None:
    if told is None:
        return None
    return Owes(
        steps=tuple(told["steps"]),
        severity=Severity(told["severity"]),
        lift=frozenset(told["lift"]),
    )


def _branch(told: Mapping[str, Any] | None) -> Branch | None:
    if told is None:
        return None
    return Branch(step=told["step"], outcomes=frozenset(told["outcomes"]))


def _step(position: int, told: Mapping[str, Any], visits: Mapping[str, Visit]) -> Step:
    return Step(
        key=told["key"],
        position=position,
        visit=visits[told["visit"]],
        windows=tuple(map(_window, told.get("after", ()))),
        owes=_owes(told.get("owes")),
        same=tuple(map(_tie, told.get("same", ()))),
        differs=tuple(map(_tie, told.get("differs", ()))),
        outcomes=tuple(told.get("outcomes", ())),
        only_if=_branch(told.get("only_if")),
    )


def _cap(told: Mapping[str, Any]) -> Cap:
    return Cap(
        code=told["code"],
        kind=StepKind(told["kind"]),
        most=told["most"]["value"],
        within=Span.read(told["within"]),
        severity=Severity(told["severity"]),
        lift=frozenset(told["lift"]),
    )


def _gap(told: Mapping[str, Any]) -> Gap:
    return Gap(
        code=told["code"],
        kind=StepKind(told["kind"]),
        least=Span.read(told["least"]),
        severity=Severity(told["severity"]),
        lift=frozenset(told["lift"]),
    )
