"""Screening: what a screen, what a patient takes, and what was decided come to under a protocol.

Which conditions are asked for, which classes of medicines matter, and what follows from each is
protocol data; here is what a gate that rests on them says.

Pure: no database, no clock, no Flask. All datetimes are aware.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple

from models.vocabulary import (
    Answer,
    ConditionAction,
    EligibilityOutcome,
    GateState,
    HoldOutcome,
    MedicineAction,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCondition:
    """A condition that a protocol screens for, and what follows where a patient has it."""

    code: str
    title: str
    action: ConditionAction
    lift: frozenset[str]
    """Practitioner roles that may decide on a hold, or pass over a block with a reason."""

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "HealthCondition":
        """Read one as protocol files write it."""
        return cls(
            code=told["code"],
            title=told["title"],
            action=ConditionAction(told["action"]),
            lift=frozenset(told.get("lift", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MedicineClass:
    """A class of medicines that a protocol names, and what follows from taking one."""

    code: str
    title: str
    action: MedicineAction

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "MedicineClass":
        """Read one as protocol files write it."""
        return cls(code=told["code"], title=told["title"], action=MedicineAction(told["action"]))


class Decided(NamedTuple):
    """The latest decision on a condition that is on hold."""

    outcome: HoldOutcome
    at: datetime


@dataclass(frozen=True, slots=True)
class Screen:
    """The latest screen of a patient."""

    at: datetime
    known_at: datetime
    """When it was written down."""
    answers: Mapping[str, Answer]
    """By condition."""
    decided: Mapping[str, Decided] = field(default_factory=dict)

    def has(self, condition: HealthCondition) -> bool:
        """Whether it found the condition."""
        return self.answers.get(condition.code) is Answer.PRESENT


class Medicine(NamedTuple):
    """Something that a patient takes."""

    name: str
    medicine_class: str | None
    """A class of the protocol. None: of none that matters."""


class Ruled(NamedTuple):
    """The latest ruling on the medicines of a class."""

    action: MedicineAction
    at: datetime


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The last time that somebody went through what a patient takes."""

    at: datetime
    known_at: datetime
    """When it was written down."""
    medicines: tuple[Medicine, ...]
    ruled: Mapping[str, Ruled] = field(default_factory=dict)
    """By class."""


class Flag(NamedTuple):
    """What follows from the medicines of one class."""

    medicine_class: MedicineClass
    names: tuple[str, ...]
    action: MedicineAction
    """As it was ruled, or else as the protocol has it."""
    ruled_at: datetime | None

    @property
    def waits(self) -> bool:
        """Whether somebody must rule on it before the gate opens."""
        return self.ruled_at is None and self.action in HOLDS


LEFT_OUT = frozenset({MedicineAction.HOLD_DOSE_DAY, MedicineAction.HOLD_24H})
"""Actions by which a patient leaves a medicine out for a while."""

HOLDS = LEFT_OUT | {MedicineAction.BLOCK}
"""Actions that count once somebody has approved them."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """The latest decision about the eligibility of a course."""

    outcome: EligibilityOutcome
    at: datetime
    conditions: str | None = None
    until: date | None = None
    """Until when it is deferred, or through when it holds."""
    lapses_at: datetime | None = None


class Found(NamedTuple):
    """How a gate that rests on any of this stands."""

    state: GateState
    detail: str
    """For everybody who works here: without a condition or a medicine in it."""
    since: datetime | None = None
    """When it came to light."""
    lift: frozenset[str] | None = None
    """Who may pass over it, of those who may pass over the gate. None: all of them."""
    expires_at: datetime | None = None
    named: str | None = None
    """The same for those who treat the patient, with every name. None: it has none."""


_NOTHING = Found(GateState.MET, "Screened: nothing speaks against it.")
_ABSENT = Answer.ABSENT
_OPEN, _FAILED = GateState.OPEN, GateState.FAILED
"""Named here: a board asks for them tens of thousands of times, and Enum is slow to tell."""


def of_screen(conditions: Sequence[HealthCondition], screen: Screen) -> Found:
    """What a screen comes to. A condition that was not asked for is as one that is unknown.

    Whatever keeps the gate shut, it is passed over by whom all that was found and blocks or holds
    names: also by what was decided to go ahead with, for that lapses with the screen.
    """
    found = [screen.answers.get(one.code) for one in conditions]
    if found.count(_ABSENT) == len(found):
        return _NOTHING
    present = [one for one in conditions if screen.has(one)]
    found_out = screen.known_at, _lift(present)
    held = [one for one in present if one.action is ConditionAction.HOLD]
    refused = [one for one in held if _outcome(screen, one) is HoldOutcome.REFUSED]
    against = [one for one in present if one.action is ConditionAction.BLOCK or one in refused]
    if against:
        since = max([screen.known_at, *(screen.decided[one.code].at for one in refused)])
        named = _told("Against it", against)
        return Found(_FAILED, "Something speaks against it.", since, _lift(present), named=named)
    unasked = [one for one in conditions if one.code not in screen.answers]
    if unasked:
        named = _told("Not asked yet", unasked)
        return Found(_OPEN, "Not everything was asked.", *found_out, named=named)
    unknown = [one for one in conditions if screen.answers[one.code] is Answer.UNKNOWN]
    if unknown:
        named = _told("Not known yet", unknown)
        return Found(_OPEN, "Not everything is known.", *found_out, named=named)
    waiting = [one for one in held if one.code not in screen.decided]
    if waiting:
        who = " or ".join(sorted(_lift(waiting) or ())) or "nobody"
        told = f"To be decided by {who}"
        return Found(_OPEN, f"{told}.", *found_out, named=_told(told, waiting))
    named = _let_through(present)
    return Found(GateState.MET, _NOTHING.detail, *found_out, named=named)


def _outcome(screen: Screen, condition: HealthCondition) -> HoldOutcome | None:
    decided = screen.decided.get(condition.code)
    return None if decided is None else decided.outcome


def _let_through(present: Sequence[HealthCondition]) -> str:
    parts = [_NOTHING.detail]
    for action, told in _LET_THROUGH.items():
        those = [one for one in present if one.action is action]
        if those:
            parts.append(_told(told, those))
    return " ".join(parts)


_LET_THROUGH = {
    ConditionAction.HOLD: "Decided to go ahead with",
    ConditionAction.CAUTION: "Take care",
    ConditionAction.DISCUSS: "To discuss",
}


def _told(what: str, conditions: Iterable[HealthCondition]) -> str:
    return f"{what}: {'; '.join(one.title for one in conditions)}."


def _lift(conditions: Iterable[HealthCondition]) -> frozenset[str] | None:
    """Who may pass over all of them. None: over what neither blocks nor holds anybody may."""
    lifts = [one.lift for one in conditions if one.action in _SHUTS]
    return frozenset.intersection(*lifts) if lifts else None


_SHUTS = frozenset({ConditionAction.BLOCK, ConditionAction.HOLD})


def flags(classes: Iterable[MedicineClass], reconciled: Reconciled) -> list[Flag]:
    """What follows from what a patient takes, in the order of the protocol."""
    taken = {it.medicine_class for it in reconciled.medicines}
    return [_flag(one, reconciled) for one in classes if one.code in taken]


def _flag(one: MedicineClass, reconciled: Reconciled) -> Flag:
    names = tuple(it.name for it in reconciled.medicines if it.medicine_class == one.code)
    ruled = reconciled.ruled.get(one.code)
    if ruled is None:
        return Flag(one, names, one.action, None)
    return Flag(one, names, ruled.action, ruled.at)


_GONE_THROUGH = Found(GateState.MET, "Gone through.")


def of_medicines(classes: Iterable[MedicineClass], reconciled: Reconciled) -> Found:
    """What a patient's medicines come to. What is held back counts once it was approved."""
    found = flags(classes, reconciled)
    if not found:
        return _GONE_THROUGH
    blocked = [one for one in found if one.action is MedicineAction.BLOCK]
    ruled_out = (one.ruled_at for one in blocked if one.ruled_at is not None)
    since = max([reconciled.known_at, *ruled_out])
    waiting = [one for one in found if one.waits]
    if waiting:
        told = "; ".join(f"{_names(one)} ({one.action})" for one in waiting)
        named = f"To be approved: {told}."
        return Found(_OPEN, "Something is to be approved.", since, named=named)
    if blocked:
        named = f"Not with {_named(blocked)}."
        return Found(_FAILED, "Not with what the patient takes.", since, named=named)
    parts = [_GONE_THROUGH.detail]
    for action, told in _SAID.items():
        those = [one for one in found if one.action is action]
        if those:
            parts.append(f"{told}: {_named(those)}.")
    return _GONE_THROUGH._replace(named=" ".join(parts))


_SAID = {
    MedicineAction.HOLD_DOSE_DAY: "Left out on the day",
    MedicineAction.HOLD_24H: "Left out for 24 hours before",
    MedicineAction.DISCUSS: "To discuss",
}


def _names(flag: Flag) -> str:
    return ", ".join(flag.names)


def _named(flags: Iterable[Flag]) -> str:
    return "; ".join(map(_names, flags))


def of_eligibility(ruling: Ruling | None, at: datetime) -> Found:
    """What was decided about a course comes to. Where nobody has decided, nothing is in the way.

    A deferral does not end by itself: on its day somebody decides anew. A decision that is to be
    looked at again holds through the day that it names.
    """
    if ruling is None:
        return Found(GateState.MET, "Nobody has decided otherwise.")
    if ruling.outcome is EligibilityOutcome.NOT_ELIGIBLE:
        return Found(GateState.FAILED, "Not eligible.", ruling.at)
    if ruling.outcome is EligibilityOutcome.DEFERRED:
        detail = f"Deferred until {ruling.until}, when it is decided anew."
        return Found(GateState.FAILED, detail, ruling.at)
    if ruling.lapses_at is not None and at >= ruling.lapses_at:
        detail = f"To be decided anew: it held through {ruling.until}."
        return Found(GateState.EXPIRED, detail, ruling.at, expires_at=ruling.lapses_at)
    found = Found(GateState.MET, "Eligible.", expires_at=ruling.lapses_at)
    if ruling.conditions is None:
        return found
    named = f"Eligible if: {ruling.conditions}"
    return found._replace(detail="Eligible, with conditions.", named=named)
