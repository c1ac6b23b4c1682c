"""Checking: what is wrong with a protocol file that has the right shape.

Names that lead nowhere, rules that contradict each other, steps for which no time can ever be
found. Every fault says where (a JSON pointer) and what.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from math import ceil, inf
from typing import Any

from models.vocabulary import MessageKind, Recipient
from notifications.words import kinds_to
from scheduler.feasibility import ZERO, Apart, Starts
from scheduler.instruments import LIBRARY
from scheduler.spans import Span

Told = Mapping[str, Any]
Conditions = Mapping[str, frozenset[str]]
"""For each step that is branched on, the outcomes that lead here."""

WEEK = 7

RESERVED = frozenset({"credentials", "minimum-age"})
"""Codes of gates that the service itself puts on visits."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a protocol file: where (a JSON pointer), and what."""

    pointer: str
    detail: str


def faults(content: Told) -> Iterator[Fault]:
    """Tell everything that a schema cannot say, in one pass."""
    yield from _unlisted_sources(content, set(content["sources"]), "")
    for name in ("caps", "gaps"):
        yield from _twice(content.get(name, ()), "code", f"/{name}")
    yield from _bad_screening(content)
    for key, visit in content["visits"].items():
        here = f"/visits/{key}"
        if visit["cadence"] not in content["cadences"]:
            yield Fault(f"{here}/cadence", f"There is no cadence {visit['cadence']!r}.")
        yield from _bad_gates(visit, here)
        yield from _bad_phases(visit, here)
        yield from _bad_visit(visit, here)
    yield from _bad_incidents(content)
    for name, rules in content["cadences"].items():
        yield from cadence_faults(rules, f"/cadences/{name}")
    misplaced = list(_misplaced_steps(content))
    yield from misplaced
    if not misplaced:
        yield from _unplaceable_steps(content)


def _bad_incidents(content: Told) -> Iterator[Fault]:
    incidents = content.get("incidents", ())
    yield from _twice(incidents, "code", "/incidents")
    resting = {
        gate["code"]
        for visit in content["visits"].values()
        for gate in visit["gates"]
        if gate["by"] == "incidents"
    }
    for number, incident in enumerate(incidents):
        here = f"/incidents/{number}/checklist"
        yield from _twice(incident["checklist"], "code", here)
        for place, duty in enumerate(incident["checklist"]):
            if "gate" in duty and duty["gate"] not in resting:
                detail = f"No visit has a gate {duty['gate']!r} that rests on incidents."
                yield Fault(f"{here}/{place}/gate", detail)


def cadence_faults(rules: Sequence[Told], here: str) -> Iterator[Fault]:
    """Tell what is wrong with a cadence."""
    for number, rule in enumerate(rules):
        if MessageKind(rule["kind"]) not in kinds_to(Recipient(rule["to"])):
            yield Fault(f"{here}/{number}/to", f"{rule['kind']} is never said to {rule['to']}.")
    yield from _twice(rules, "rule", here)


def _twice(told: Sequence[Told], name: str, here: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for number, one in enumerate(told):
        if one[name] in seen:
            yield Fault(f"{here}/{number}/{name}", f"Two of these are called {one[name]!r}.")
        seen.add(one[name])


def _bad_screening(content: Told) -> Iterator[Fault]:
    screening = content.get("screening", {})
    for name, by in (("conditions", "screen"), ("medicines", "medicines")):
        here, listed = f"/screening/{name}", screening.get(name, ())
        yield from _twice(listed, "code", here)
        gates = list(_gates_by(content, by))
        if listed and not gates:
            yield Fault(here, f"No gate is settled by {by!r}: nothing asks for these.")
        for where, gate in gates:
            if not listed:
                yield Fault(f"{where}/by", f"There are no {name} in `screening` to ask for.")
            if by == "medicines" and not gate["lift"]:
                yield Fault(f"{where}/lift", "Nobody may approve what is held back.")


def _gates_by(content: Told, by: str) -> Iterator[tuple[str, Told]]:
    for key, visit in content["visits"].items():
        for number, gate in enumerate(visit["gates"]):
            if gate["by"] == by:
                yield f"/visits/{key}/gates/{number}", gate


def _taken_codes(gates: Sequence[Told], here: str) -> Iterator[Fault]:
    for number, gate in enumerate(gates):
        if gate["code"] in RESERVED:
            detail = "The service itself asks this of every visit; call the gate otherwise."
            yield Fault(f"{here}/{number}/code", detail)


def _bad_gates(visit: Told, here: str) -> Iterator[Fault]:
    yield from _twice(visit["gates"], "code", f"{here}/gates")
    yield from _taken_codes(visit["gates"], f"{here}/gates")
    yield from _bad_checklist(visit, f"{here}/checklist")
    settling = {item.get("gate") for item in visit["checklist"]}
    for number, gate in enumerate(visit["gates"]):
        where = f"{here}/gates/{number}"
        if gate["by"] == "checklist" and gate["code"] not in settling:
            detail = f"Nothing on the checklist settles {gate['code']!r}: it can never be met."
            yield Fault(f"{where}/by", detail)
        if gate["by"] == "observation" and visit["kind"] != "dosing":
            detail = "Only a dosing visit has a dose to observe from: it can never be met."
            yield Fault(f"{where}/by", detail)
        if "instrument" in gate and gate["instrument"] not in LIBRARY:
            yield Fault(f"{where}/instrument", _unknown(gate["instrument"]))
        for index, what in enumerate(gate.get("for", ())):
            if what != "text" and what not in visit:
                yield Fault(f"{where}/for/{index}", f"The visit does not say its {what}.")
        for index, limit in enumerate(gate.get("limits", ())):
            yield from _bad_limit(visit, gate, limit, f"{where}/limits/{index}")
    yield from _bad_watch(visit, here)


def _bad_checklist(visit: Told, here: str) -> Iterator[Fault]:
    yield from _twice(visit["checklist"], "code", here)
    gates = {gate["code"] for gate in visit["gates"]}
    for number, item in enumerate(visit["checklist"]):
        if "gate" in item and item["gate"] not in gates:
            yield Fault(f"{here}/{number}/gate", f"No gate {item['gate']!r} here.")
        for code in item.get("instruments", ()):
            if code not in LIBRARY:
                yield Fault(f"{here}/{number}/instruments", _unknown(code))


def _unknown(instrument: str) -> str:
    return f"No instrument {instrument!r}. Known are {', '.join(sorted(LIBRARY))}."


def _bad_limit(visit: Told, gate: Told, limit: Told, here: str) -> Iterator[Fault]:
    passing = limit.get("pass", {})
    if passing.get("least", -inf) > passing.get("most", inf):
        yield Fault(f"{here}/pass", "Nothing can pass: the least is more than the most.")
    if "near_baseline" in limit and (visit["kind"], gate["shuts"]) != ("dosing", "discharge"):
        detail = "Only after a dose is there something measured before it."
        yield Fault(f"{here}/near_baseline", detail)


def _bad_watch(visit: Told, here: str) -> Iterator[Fault]:
    yield from _twice(visit.get("watch", ()), "code", f"{here}/watch")
    leaves = any(gate["by"] == "departure" for gate in visit["gates"])
    if leaves and visit["kind"] not in {"dosing", "follow-up"}:  # a night here follows a dose
        yield Fault(f"{here}/gates", "Only after a dose is somebody needed to take them home.")
    if visit.get("watch") and visit["kind"] != "dosing":
        yield Fault(f"{here}/watch", "Only a dosing visit has a dose to watch after.")


def _bad_phases(visit: Told, here: str) -> Iterator[Fault]:
    for number, phase in enumerate(visit["phases"]):
        where = f"{here}/phases/{number}"
        if phase["from"] >= phase["to"]:
            yield Fault(f"{where}/to", "A phase must end after it begins.")
        elif phase["to"] > visit["minutes"]["value"]:
            yield Fault(f"{where}/to", "A phase must end with the visit.")
        if "count" in phase and "per_patients" in phase:
            yield Fault(f"{where}/count", "Give either count or per_patients, not both.")
        if "per_patients" in phase and "group" not in visit:
            yield Fault(f"{where}/per_patients", "Only a group visit has several patients.")
        if "per_patients" in phase and phase.get("present"):
            detail = "Who is merely present is not counted: no ratio can be kept by it."
            yield Fault(f"{where}/per_patients", detail)
        if "room" in phase and visit.get("place") == "telehealth":
            yield Fault(f"{where}/room", "A telehealth visit takes no room.")


def _bad_visit(visit: Told, here: str) -> Iterator[Fault]:
    yield from _twice(visit.get("afterwards", ()), "code", f"{here}/afterwards")
    if "group" in visit:
        yield from _bad_group(visit, f"{here}/group")
    if visit.get("place") == "telehealth" and not any("role" in p for p in visit["phases"]):
        yield Fault(f"{here}/place", "A telehealth visit needs a clinician.")
    notice, ahead = visit.get("notice"), visit.get("ahead")
    if notice and ahead and Span.read(notice).shortest > Span.read(ahead).longest:
        detail = "It can never be booked: the notice is longer than it may be booked ahead."
        yield Fault(f"{here}/ahead", detail)


def _bad_group(visit: Told, here: str) -> Iterator[Fault]:
    if visit["group"]["least"] > visit["group"]["places"]:
        yield Fault(f"{here}/least", "A group that wants more patients than it has places for.")
    if not any("per_patients" in phase for phase in visit["phases"]):
        detail = "A group visit needs a phase that says how many patients one actor serves."
        yield Fault(here, f"{detail} Give one `per_patients`.")


def _misplaced_steps(content: Told) -> Iterator[Fault]:
    yield from _twice(content["steps"], "key", "/steps")
    earlier: dict[str, Told] = {}
    for number, step in enumerate(content["steps"]):
        here = f"/steps/{number}"
        if step["visit"] not in content["visits"]:
            yield Fault(f"{here}/visit", f"There is no visit {step['visit']!r}.")
        for index, window in enumerate(step.get("after", ())):
            yield from _bad_window(f"{here}/after/{index}", window, earlier)
        for owed in step.get("owes", {}).get("steps", ()):
            if owed not in earlier:
                yield Fault(f"{here}/owes/steps", f"{owed!r} is not an earlier step.")
        yield from _bad_branch(step, earlier, f"{here}/only_if")
        yield from _bad_ties(step, earlier, content["visits"], here)
        earlier[step["key"]] = step


def _bad_window(here: str, window: Told, earlier: Mapping[str, Told]) -> Iterator[Fault]:
    if window["step"] not in earlier:
        yield Fault(f"{here}/step", f"{window['step']!r} is not an earlier step.")
    least, most = _bounds(window)
    if most is not None and least > most:
        what = "has no such weekday" if "weekday" in window else "ends before it begins"
        yield Fault(f"{here}/most", f"The window {what}.")


def _bad_branch(step: Told, earlier: Mapping[str, Told], here: str) -> Iterator[Fault]:
    if "only_if" not in step:
        return
    branch = step["only_if"]
    if branch["step"] not in earlier:
        yield Fault(f"{here}/step", f"{branch['step']!r} is not an earlier step.")
        return
    listed = earlier[branch["step"]].get("outcomes", ())
    for number, outcome in enumerate(branch["outcomes"]):
        if outcome not in listed:
            detail = f"{branch['step']!r} never ends with {outcome!r}; list it in its outcomes."
            yield Fault(f"{here}/outcomes/{number}", detail)


def _bad_ties(step: Told, earlier: Mapping[str, Told], visits: Told, here: str) -> Iterator[Fault]:
    same = {(tie["role"], tie["as"]) for tie in step.get("same", ())}
    for name in ("same", "differs"):
        for number, tie in enumerate(step.get(name, ())):
            where = f"{here}/{name}/{number}"
            if tie["as"] not in earlier:
                yield Fault(f"{where}/as", f"{tie['as']!r} is not an earlier step.")
            for one in (step, earlier.get(tie["as"], step)):
                if tie["role"] not in _roles(visits.get(one["visit"])):
                    detail = f"{one['key']!r} takes no time of a {tie['role']}."
                    yield Fault(f"{where}/role", detail)
                    break
            if name == "differs" and (tie["role"], tie["as"]) in same:
                detail = f"It cannot be both the {tie['role']} of {tie['as']!r} and another."
                yield Fault(where, detail)


def _roles(visit: Told | None) -> set[str]:
    """The clinicians whose time a visit takes; one who is merely present is not assigned."""
    phases = () if visit is None else visit["phases"]
    return {phase["role"] for phase in phases if "role" in phase and not phase.get("present")}


def _unplaceable_steps(content: Told) -> Iterator[Fault]:
    """Steps for which no time keeps all windows, lengths and gaps.

    Steps of branches that exclude each other are never asked for together: each set of
    conditions is judged with the steps that belong to the course under it.
    """
    conditions: dict[str, Conditions] = {}
    for number, step in enumerate(content["steps"]):
        conditions[step["key"]] = _conditions(step, conditions)
        yield from _apart_by_branch(step, conditions, f"/steps/{number}")
    told: set[Fault] = set()
    for chosen in _distinct(conditions.values()):
        keys = [key for key, its in conditions.items() if _implied(its, chosen)]
        for fault in _contradictions(content, keys):
            if fault not in told:
                told.add(fault)
                yield fault


def _conditions(step: Told, known: Mapping[str, Conditions]) -> Conditions:
    """What must have come out of earlier steps for this one to belong to the course."""
    if "only_if" not in step:
        return {}
    branch, outcomes = step["only_if"]["step"], frozenset(step["only_if"]["outcomes"])
    return {**known[branch], branch: known[branch].get(branch, outcomes) & outcomes}


def _apart_by_branch(
    step: Told, conditions: Mapping[str, Conditions], here: str
) -> Iterator[Fault]:
    mine = conditions[step["key"]]
    named = [(f"after/{n}/step", window["step"]) for n, window in enumerate(step.get("after", ()))]
    named += [("owes/steps", owed) for owed in step.get("owes", {}).get("steps", ())]
    for where, other in named:
        theirs = conditions[other]
        if any(mine[key].isdisjoint(theirs[key]) for key in mine.keys() & theirs.keys()):
            yield Fault(f"{here}/{where}", f"{other!r} never belongs to the same course.")


def _distinct(conditions: Any) -> list[Conditions]:
    found: list[Conditions] = []
    for one in conditions:
        if one not in found:
            found.append(one)
    return found


def _implied(conditions: Conditions, chosen: Conditions) -> bool:
    return all(key in chosen and chosen[key] <= conditions[key] for key in conditions)


def _contradictions(content: Told, keys: Sequence[str]) -> Iterator[Fault]:
    """Place the steps of one course in their order; tell of each that finds no time."""
    numbers = {step["key"]: number for number, step in enumerate(content["steps"])}
    starts = Starts()
    for key in keys:
        here = f"/steps/{numbers[key]}"
        for index, window in enumerate(content["steps"][numbers[key]].get("after", ())):
            if window["step"] in keys and window["severity"] != "off":
                for detail in _closed(starts, key, window, numbers):
                    yield Fault(f"{here}/after/{index}", detail)
    for pair, by in starts.keep_apart(_pairs(content, keys, numbers)):
        others = _listed(by - {pair.then}, numbers)
        detail = f"the windows of {others} leave no time beside {pair.first}."
        yield Fault(f"/steps/{numbers[pair.then]}", f"{pair.then} can never be placed: {detail}")


def _closed(starts: Starts, key: str, window: Told, numbers: Mapping[str, int]) -> Iterator[str]:
    anchor = window["step"]
    least, most = _bounds(window)
    head = f"{key} can never be placed: its window after {anchor}"
    if by := starts.at_least(anchor, key, least):
        yield f"{head} begins after those of {_listed(by - {anchor}, numbers)} have ended."
    if most is not None and (by := starts.at_most(anchor, key, most)):
        yield f"{head} ends before those of {_listed(by - {anchor}, numbers)} let it begin."


def _listed(keys: frozenset[str], numbers: Mapping[str, int]) -> str:
    return ", ".join(sorted(keys, key=numbers.__getitem__))


def _bounds(window: Told) -> tuple[timedelta, timedelta | None]:
    """Between which times after its anchor a step can lie at all, whatever the hours."""
    least = Span.read(window["least"]) if "least" in window else Span(value=0, unit="h")
    most = Span.read(window["most"]) if "most" in window else None
    soonest, latest = max(least.shortest, ZERO), None if most is None else most.longest
    if "weekday" in window:
        first = Span(value=ceil(least.fewest_days / WEEK) * WEEK, unit="d")
        soonest = max(soonest, first.shortest)
    if "weekday" in window and most is not None and latest is not None:
        last = Span(value=most.most_days // WEEK * WEEK, unit="d")
        latest = min(latest, last.longest)
    return soonest, latest


def _pairs(content: Told, keys: Sequence[str], numbers: Mapping[str, int]) -> list[Apart]:
    """Steps of one patient: never two visits at once, and the gaps between those of a kind."""
    gaps: dict[str, timedelta] = {}
    for gap in content.get("gaps", ()):
        if gap["severity"] != "off":
            least = Span.read(gap["least"]).shortest
            gaps[gap["kind"]] = max(least, gaps.get(gap["kind"], ZERO))
    found = []
    for first, then in combinations(keys, 2):
        one, other = (
            content["visits"][content["steps"][numbers[key]]["visit"]] for key in (first, then)
        )
        gap = gaps.get(one["kind"], ZERO) if one["kind"] == other["kind"] else ZERO
        found.append(
            Apart(first, then, max(_length(one), gap), max(_length(other), gap)),
        )
    return sorted(found, key=lambda pair: numbers[pair.then] - numbers[pair.first])


def _length(visit: Told) -> timedelta:
    return Span.read(visit["minutes"]).elapsed


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
