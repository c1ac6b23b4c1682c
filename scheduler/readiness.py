"""Readiness: may this visit go ahead, and if not, what is missing?

A visit's protocol puts *gates* on it. A gate is settled by a clearance, by its checklist
items, by an escort who said yes, by earlier visits, or by time since the dose. Readiness is
never stored: it is worked out from those facts as of a moment, so it cannot go stale.

Pure: no database, no clock, no Flask. All datetimes are aware.

Source: FHIR R5 PlanDefinition.action.condition (`kind = start`) for gates as conditions
of an action; which gates a visit has, and how long they hold, is protocol data.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from models.vocabulary import (
    STAGE_ORDER,
    ClearanceOutcome,
    GateState,
    Measure,
    Stage,
    StepKind,
    TaskStatus,
    WayHome,
)
from scheduler import ages, measuring, screening
from scheduler.authority import are_named
from scheduler.measuring import Measured, Reading, Zone
from scheduler.protocols import Gate, GivenFor, SettledBy
from scheduler.screening import Found, Reconciled, Ruling, Screen

_MET, _OPEN, _EXPIRED, _FAILED, _OVERRIDDEN = GateState
_CLEARED, _DISCHARGE = ClearanceOutcome.CLEARED, Stage.DISCHARGE
"""Named here: a board asks for them tens of thousands of times, and Enum is slow to tell."""


class Vouched(NamedTuple):
    """The latest clearance of a gate for a medicine and a route, or for none in particular."""

    outcome: ClearanceOutcome
    cleared_at: datetime
    valid_until: datetime | None = None
    medicine: str | None = None
    route: str | None = None
    text: int | None = None
    """The version of the clinic's text that it was given to, by its number."""
    noted_at: datetime | None = None
    """When a refusal was typed in. None: as it was given."""


class Renewal(NamedTuple):
    """A version of a text with which the clearances given to earlier ones end."""

    number: int
    written_at: datetime


class Item(NamedTuple):
    """A checklist item, as far as its gate cares."""

    gate: str | None
    title: str
    status: TaskStatus
    due_at: datetime
    marked_at: datetime | None = None
    """When somebody last said how it stands."""


@dataclass(frozen=True, slots=True)
class Companion:
    """The escort, as far as the gate cares."""

    confirmed: bool


@dataclass(frozen=True, slots=True)
class Shutting:
    """Answers to a questionnaire, sent or not, that are for a clinician to decide on."""

    authored_at: datetime
    noted_at: datetime
    """When it was sent, typed in, or kept half filled in."""
    looked: frozenset[str] = frozenset()
    """The roles of those who put it right, or filled the questionnaire in anew, since."""


class Leaving(NamedTuple):
    """How the patient left, or who stands there to take them home."""

    way: WayHome
    noted_at: datetime


class Duty(NamedTuple):
    """Something still to be done about an incident, as far as its gate cares."""

    gate: str
    title: str
    status: TaskStatus
    noted_at: datetime
    """When the incident was written down, or this failed or was asked for again since."""


@dataclass(frozen=True, slots=True)
class EarlierStep:
    """A step of the course before this one, if it is part of the course at all."""

    key: str
    kind: StepKind
    fulfilled: bool
    skipped: bool = False
    """A clinician skipped it, for a reason."""

    @property
    def is_missing(self) -> bool:
        return not (self.fulfilled or self.skipped)


class Licence(NamedTuple):
    """A licence to act in a role, from one day through another."""

    role: str
    valid_from: date
    valid_until: date
    regions: tuple[str, ...] = ()
    """The states in which it holds for visits by video."""

    def holds(self, role: str, day: date, region: str | None) -> bool:
        """Whether it lets somebody serve in a role on a day; by video, in a region."""
        return (
            role == self.role
            and self.valid_from <= day <= self.valid_until
            and (region is None or region in self.regions)
        )


class Serving(NamedTuple):
    """Who serves a visit, and whom: what the service itself asks of each."""

    time_zone: str
    """Of the site: days are days there."""
    staff: Sequence[tuple[str, Sequence[Licence]]]
    """Of each who serves it in a role, the role, and the licences that they hold in any."""
    birth_date: date
    minimum_age: int
    region: str | None = None
    """The state where the patient is, of a visit by video; empty: it is not known."""
    is_over: bool = False


class Amiss(NamedTuple):
    """What the service itself asks of a visit, as far as it is not so."""

    unlicensed: tuple[str, ...] = ()
    """The roles in which somebody serves it without a licence that holds on the day."""
    too_young: bool = False
    """Whether the patient is younger on the day than the protocol allows."""


SOUND = Amiss()
"""Nothing is."""


@dataclass(slots=True, kw_only=True)
class Known:
    """Everything that gates are judged by. Nobody changes it.

    Like the verdicts below it is not frozen, which takes seven times as long to make.
    """

    starts_at: datetime
    ends_at: datetime | None = None
    """None: the visit is not booked yet."""
    clearances: Mapping[str, Sequence[Vouched]] = field(default_factory=dict)
    """By gate, in the order of time."""
    renewed: Mapping[str, Sequence[Renewal]] = field(default_factory=dict)
    """By gate, in the order of time."""
    medicine: str | None = None
    """What is given in the visit."""
    route: str | None = None
    items: Sequence[Item] = ()
    escort: Companion | None = None
    left: Leaving | None = None
    """Who stands there to take the patient home, as it was noted."""
    ways_home: tuple[WayHome, ...] = ()
    """Those that the protocol allows."""
    earlier: tuple[EarlierStep, ...] | None = None
    """None: the visit belongs to no course."""
    first_of_kind: bool = True
    """Whether it is the course's first visit of its kind."""
    dosed_at: datetime | None = None
    measured: Sequence[Measured] = ()
    """In this visit, in the order of time."""
    happened: Mapping[str, datetime] = field(default_factory=dict)
    """When it last came to light that something of a kind happened to the patient."""
    doses: Sequence[datetime] = ()
    """The starts of the patient's other visits with a dose, as far as they matter."""
    answered: Mapping[str, datetime] = field(default_factory=dict)
    """When each instrument was last filled in."""
    shut_by: Mapping[str, Sequence[Shutting]] = field(default_factory=dict)
    """By instrument the answers that shut gates."""
    duties: Sequence[Duty] = ()
    """Still to be done about what went wrong."""
    screen: Screen | None = None
    """The latest of the patient."""
    reconciled: Reconciled | None = None
    """When what the patient takes was last gone through."""
    eligibility: Ruling | None = None
    """What was last decided about the course."""
    overridden: Mapping[str, datetime] = field(default_factory=dict)
    """When a gate was last opened by a reason."""
    serving: Serving | None = None
    """Who serves the visit, and whom. None: it is not booked yet."""

    @property
    def zone(self) -> tzinfo:
        """What the clocks of the site show; UTC until it is known where."""
        return UTC if self.serving is None else ZoneInfo(self.serving.time_zone)


@dataclass(slots=True)
class Judged:
    """How one gate stands, and why."""

    gate: Gate
    state: GateState
    detail: str
    """For everybody who works here: without a condition, a medicine or a value in it."""
    due_at: datetime
    expires_at: datetime | None = None
    is_fixed: bool = False
    """Whether no reason can open it as things stand."""
    lift: frozenset[str] = frozenset()
    """Who may open it with a reason as things stand: those of the gate, or fewer."""
    named: str | None = None
    """The same as `detail` for those who treat the patient, with all of it. None: it is all."""
    since: datetime | None = None
    """When it came to light what it says."""

    @property
    def is_shut(self) -> bool:
        return self.state is not _MET and self.state is not _OVERRIDDEN


class Urgency(StrEnum):
    """How soon what is open must be seen to, the most pressing first."""

    OVERDUE = "overdue"
    SOON = "soon"
    LATER = "later"
    NONE = "none"


SOON = timedelta(days=1)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, eq=False)
class Readiness:
    """How every gate of a visit stands, in the order of the protocol.

    At the end comes what the service itself asks (`DEMANDS`), where that speaks against it.
    """

    gates: tuple[Judged, ...]

    def shut(self, stage: Stage) -> list[Judged]:
        """The gates that stop `stage`: not settled, and asked by then.

        A gate is asked at its own stage and at every later one up to the dose. After the dose
        only the gates of discharge are: vital signs taken before it have lapsed by then, and
        nobody is kept here for them.
        """
        asked = _ASKED[stage]
        return [judged for judged in self.gates if judged.is_shut and judged.gate.shuts in asked]

    @staticmethod
    def asked(judged: Judged, stage: Stage) -> bool:
        """Whether a gate is asked at `stage`."""
        return judged.gate.shuts in _ASKED[stage]


def urgency(due_at: datetime | None, now: datetime) -> Urgency:
    """How soon what is due then must be seen to. None: nothing is open."""
    if due_at is None:
        return Urgency.NONE
    if due_at <= now:
        return Urgency.OVERDUE
    return Urgency.SOON if due_at <= now + SOON else Urgency.LATER


_ASKED = {
    stage: frozenset({stage})
    if stage is Stage.DISCHARGE
    else frozenset(one for one in Stage if STAGE_ORDER[one] <= STAGE_ORDER[stage])
    for stage in Stage
}
"""For each stage, the gates of which stages it asks."""


def assess(gates: Iterable[Gate], known: Known, at: datetime) -> Readiness:
    """Judge every gate as of `at`: the start of the visit, or now once it has begun.

    A clearance holds through its last instant: one of 30 days, given on 1 March 09:00, still
    counts for a visit that starts on 31 March 09:00.
    """
    due = _due(known)
    judged = [_judge(gate, known, at, due) for gate in gates]
    return Readiness((*judged, *_demanded(known, at)))


def amiss(known: Known, at: datetime) -> Amiss:
    """What the service itself asks of a visit and does not find, as of `at`.

    Licences are asked for on the day of the visit, and where that is over and the visit is not,
    on the day of `at` as well.
    """
    if known.serving is None:
        return SOUND
    _, staff, born, minimum_age, region, is_over = known.serving
    moments = (known.starts_at,) if is_over else (known.starts_at, max(known.starts_at, at))
    days = {one.astimezone(known.zone).date() for one in moments}
    unlicensed = {
        role
        for role, held in staff
        if not all(any(one.holds(role, day, region) for one in held) for day in days)
    }
    return Amiss(tuple(sorted(unlicensed)), ages.age_on(min(days), born) < minimum_age)


CREDENTIALS = Gate(
    code="credentials",
    title="Everybody who serves it holds a licence on the day",
    shuts=Stage.ARRIVAL,
    settled_by=SettledBy.CLEARANCE,
    holds=None,
    holds_first=None,
    ends_on=frozenset(),
    longest_gap=None,
    kinds=frozenset(),
    minutes=timedelta(0),
    who=("admin",),
    lift=frozenset(),
)
AGE = replace(CREDENTIALS, code="minimum-age", title="The patient is old enough for the protocol")
DEMANDS = frozenset({CREDENTIALS.code, AGE.code})
"""Gates that no protocol puts on a visit, and no reason takes off it; admins see to them."""


def _demanded(known: Known, at: datetime) -> Iterator[Judged]:
    """What the service itself asks and does not find, each as a gate that nothing opens."""
    unlicensed, too_young = amiss(known, at)
    if unlicensed:
        detail = f"No licence that holds on the day: {', '.join(unlicensed)}."
        yield Judged(CREDENTIALS, _FAILED, detail, known.starts_at, is_fixed=True)
    if too_young:
        detail = "The patient is younger on the day than the protocol allows."
        yield Judged(AGE, _FAILED, detail, known.starts_at, is_fixed=True)


def _due(known: Known) -> dict[str, datetime]:
    """By when gates are to be settled whose checklist must be done before the visit starts."""
    found: dict[str, datetime] = {}
    for item in known.items:
        if item.gate is not None and item.due_at < found.get(item.gate, known.starts_at):
            found[item.gate] = item.due_at
    return found


def _due_by(gate: Gate, known: Known) -> datetime:
    """When the stage begins that a gate shuts: nobody is late with a discharge at the start."""
    if gate.shuts is not _DISCHARGE:
        return known.starts_at
    return known.ends_at or known.starts_at


def turns(gates: Iterable[Gate], known: Known) -> set[datetime]:
    """The instants at, or right after, which a gate may stand otherwise than before."""
    ruling = known.eligibility
    found: set[datetime | None] = set() if ruling is None else {ruling.lapses_at}
    for gate in gates:
        found |= {one.valid_until for one in known.clearances.get(gate.code, ())}
        found |= {one.written_at for one in known.renewed.get(gate.code, ())}
        for given_at in _given_at(gate, known):
            found.add(given_at)
            found |= {given_at + holds for holds in (gate.holds, gate.holds_first) if holds}
        if known.dosed_at is not None:
            found.add(known.dosed_at + gate.minutes)
        if gate.longest_gap is not None:
            found |= {dosed_at + gate.longest_gap for dosed_at in known.doses} | {*known.doses}
    return {one for one in found if one is not None}


def _given_at(gate: Gate, known: Known) -> Sequence[datetime]:
    """When what a gate rests on was vouched for or found."""
    if gate.settled_by is SettledBy.SCREEN:
        return () if known.screen is None else (known.screen.at,)
    if gate.settled_by is SettledBy.MEDICINES:
        return () if known.reconciled is None else (known.reconciled.at,)
    return [one.cleared_at for one in known.clearances.get(gate.code, ())]


def moment(starts_at: datetime, now: datetime, *, under_way: bool) -> datetime:
    """As of when a visit is judged: its start, so that what lapses before it counts as lapsed.

    Once the patient is here it is now, also of a visit that begins before its time: what was
    measured counts from when it was, and an hour of observation is an hour since the dose.
    """
    return now if under_way else max(starts_at, now)


def _judge(gate: Gate, known: Known, at: datetime, due: Mapping[str, datetime]) -> Judged:
    found = _SETTLED[gate.settled_by](gate, known, at)
    due_at = due.get(gate.code) or _due_by(gate, known)
    lift = gate.lift if found.lift is None else gate.lift & found.lift
    state, detail, named = found.state, found.detail, found.named
    if known.overridden and state is not _MET:
        given_at = known.overridden.get(gate.code)
        if given_at is not None and found.yields_to(given_at):
            state, detail = _OVERRIDDEN, f"Overridden. {detail}"
            named = None if named is None else f"Overridden. {named}"
    return Judged(
        gate,
        state,
        detail,
        due_at,
        found.expires_at,
        found.is_fixed,
        lift,
        named,
        found.since,
    )


@dataclass(slots=True)
class _Verdict:
    """What a gate's evidence says, before any reason to pass over it."""

    state: GateState
    detail: str
    expires_at: datetime | None = None
    since: datetime | None = None
    """When it came to light: a reason that was given before does not speak about it."""
    is_fixed: bool = False
    lift: frozenset[str] | None = None
    """Who may pass over it, of those who may pass over the gate. None: all of them."""
    named: str | None = None
    """The same as `detail` with every name. None: it has none."""

    def yields_to(self, given_at: datetime) -> bool:
        """Whether a reason that was given then opens the gate."""
        return not self.is_fixed and (self.since is None or given_at >= self.since)


_says = lru_cache(maxsize=1024)(_Verdict)
"""A verdict in words that hold for many visits, made once."""


def _by_clearance(gate: Gate, known: Known, at: datetime) -> _Verdict:
    told = [one for one in known.clearances.get(gate.code, ()) if one.cleared_at <= at]
    own = [one for one in told if _stray(gate, known, one) is None]
    if not own:
        return _by_others(gate, known, told)
    vouched = own[-1]
    if vouched.outcome is ClearanceOutcome.REFUSED:
        known_at = vouched.noted_at or vouched.cleared_at
        return _Verdict(_FAILED, "It was refused.", None, known_at)
    return _holding(gate, known, vouched, at)


def _holding(gate: Gate, known: Known, vouched: Vouched, at: datetime) -> _Verdict:
    """Whether what somebody vouched for or found still holds."""
    holds = gate.holds_first if known.first_of_kind and gate.holds_first else gate.holds
    expires_at = vouched.valid_until
    if holds is not None:
        lapses_at = vouched.cleared_at + holds
        expires_at = lapses_at if expires_at is None else min(expires_at, lapses_at)
    ended = _ended(gate, known, vouched, at)
    if ended is not None:
        return ended
    if expires_at is not None and at > expires_at:
        return _Verdict(_EXPIRED, "It was settled too long before the visit.", expires_at)
    return _Verdict(_MET, "Cleared.", expires_at)


def _stray(gate: Gate, known: Known, vouched: Vouched) -> str | None:
    """Why a clearance does not speak of this visit; None: it does.

    A refusal that names no medicine or no route speaks of any.
    """
    if not gate.given_for:
        return None
    of_any = vouched.outcome is ClearanceOutcome.REFUSED
    for what, given, wanted in (
        (GivenFor.MEDICINE, vouched.medicine, known.medicine),
        (GivenFor.ROUTE, vouched.route, known.route),
    ):
        if what not in gate.given_for or given == wanted or (given is None and of_any):
            continue
        return f"Nobody noted its {what}." if given is None else f"Given for another {what}."
    return None


def _by_others(gate: Gate, known: Known, told: Sequence[Vouched]) -> _Verdict:
    """How a gate stands of whose visit no clearance speaks: the last one for another tells why."""
    cleared = [one for one in told if one.outcome is not ClearanceOutcome.REFUSED]
    if not cleared:
        return _says(_OPEN, "Nobody has cleared it yet.")
    return _says(_EXPIRED, _stray(gate, known, cleared[-1]) or "")


def _renewed(gate: Gate, known: Known, vouched: Vouched, at: datetime) -> _Verdict | None:
    """Whether a later version of the text has ended a clearance: the last one that did.

    One that was given to no version in particular was given to what there was then.
    """
    if GivenFor.TEXT not in gate.given_for:
        return None
    for number, written_at in reversed(known.renewed.get(gate.code, ())):
        was_there = written_at <= vouched.cleared_at
        if written_at <= at and not (was_there if vouched.text is None else number <= vouched.text):
            return _Verdict(_EXPIRED, "The text has changed since.", written_at, written_at)
    return None


def _ended(gate: Gate, known: Known, vouched: Vouched, at: datetime) -> _Verdict | None:
    """What has ended a clearance before its time.

    What came to light after it was given does, whenever it happened: who gave it did not know.
    """
    renewed = _renewed(gate, known, vouched, at) if gate.given_for else None
    if renewed is not None:
        return renewed
    for kind in sorted(gate.ends_on & known.happened.keys()):
        known_at = known.happened[kind]
        if vouched.cleared_at < known_at <= at:
            named = f"Ended by {kind}."
            return _Verdict(_EXPIRED, _ENDED, known_at, known_at, named=named)
    if gate.longest_gap is not None:
        return _rested(gate.longest_gap, known, vouched, at)
    return None


_ENDED = "Ended by what came to light since."


def _rested(longest: timedelta, known: Known, vouched: Vouched, at: datetime) -> _Verdict | None:
    """Whether too long a time without a dose has ended a clearance."""
    dosed_at = max((one for one in known.doses if one < at), default=None)
    if dosed_at is None or not vouched.cleared_at <= dosed_at + longest < at:
        return None
    ends_at = dosed_at + longest
    detail = f"More than {longest.days} days since the last dose."
    return _Verdict(_EXPIRED, detail, ends_at, ends_at)


def _by_screen(gate: Gate, known: Known, at: datetime) -> _Verdict:
    screen = known.screen
    if screen is None or screen.at > at:
        return _says(_OPEN, "The patient was not screened yet.")
    holding = _holding(gate, known, Vouched(_CLEARED, screen.at), at)
    return _as_found(screening.of_screen(gate.conditions, screen), holding)


def _by_medicines(gate: Gate, known: Known, at: datetime) -> _Verdict:
    told = known.reconciled
    if told is None or told.at > at:
        return _says(_OPEN, "Nobody went through what the patient takes.")
    holding = _holding(gate, known, Vouched(_CLEARED, told.at), at)
    return _as_found(screening.of_medicines(gate.medicines, told), holding)


def _as_found(found: Found, holding: _Verdict) -> _Verdict:
    """What was found, as long as it holds; what speaks against the visit does so for good.

    Also once it has lapsed, a reason must be of whom it asks for, and know what it found.
    """
    said = found if holding.state is _MET or found.state is _FAILED else holding
    since = _later(found.since, holding.since)
    return _Verdict(
        said.state, said.detail, holding.expires_at, since, lift=found.lift, named=said.named
    )


def _later(*moments: datetime | None) -> datetime | None:
    return max((one for one in moments if one is not None), default=None)


def _by_eligibility(gate: Gate, known: Known, at: datetime) -> _Verdict:
    found = screening.of_eligibility(known.eligibility, at)
    return _Verdict(found.state, found.detail, found.expires_at, found.since, named=found.named)


def _by_checklist(gate: Gate, known: Known, at: datetime) -> _Verdict:
    items = [item for item in known.items if item.gate == gate.code]
    failed = [item for item in items if item.status is TaskStatus.FAILED]
    if failed:
        since = _later(*(item.marked_at for item in failed))
        return _Verdict(_FAILED, "A checklist item failed.", None, since)
    missing = [item for item in items if item.status is TaskStatus.REQUESTED]
    if missing or not items:
        to_do = "; ".join([item.title for item in missing] or [gate.title])
        since = _later(*(item.marked_at for item in missing))  # done once, and not after all
        return _says(_OPEN, f"To do: {to_do}", None, since)
    return _says(_MET, "Done.")


def _by_escort(gate: Gate, known: Known, at: datetime) -> _Verdict:
    if known.escort is None:
        return _says(_OPEN, "Nobody is named to take the patient home.")
    if not known.escort.confirmed:
        return _says(_OPEN, "The escort is named and has not said yes yet.")
    return _says(_MET, "The escort has said yes.")


def _by_departure(gate: Gate, known: Known, at: datetime) -> _Verdict:
    if known.left is None:
        return _says(_OPEN, "Nobody has noted who takes the patient home.")
    way, noted_at = known.left
    if way not in known.ways_home:
        detail = f"The protocol allows no such way home: {way}."
        return _Verdict(_FAILED, detail, None, noted_at)
    return _says(_MET, "Somebody is there to take the patient home.")


def _by_steps(gate: Gate, known: Known, at: datetime) -> _Verdict:
    if known.earlier is None:
        return _says(_OPEN, "The visit belongs to no course.")
    missing = [step.key for step in known.earlier if step.kind in gate.kinds and step.is_missing]
    if missing:
        return _says(_OPEN, "Not done yet: " + ", ".join(missing))
    return _says(_MET, "Done.")


def _by_observation(gate: Gate, known: Known, at: datetime) -> _Verdict:
    minutes = gate.minutes // _MINUTE
    if known.dosed_at is None or at < known.dosed_at + gate.minutes:
        return _says(_OPEN, f"Fewer than {minutes} minutes have passed.")
    return _says(_MET, f"At least {minutes} minutes have passed.")


def _by_incidents(gate: Gate, known: Known, at: datetime) -> _Verdict:
    left = [duty for duty in known.duties if duty.gate == gate.code]
    if not left:
        return _says(_MET, "Nothing is left to do.")
    failed = any(duty.status is TaskStatus.FAILED for duty in left)
    state = _FAILED if failed else _OPEN
    detail = "To do: " + "; ".join(duty.title for duty in left)
    return _Verdict(state, detail, None, max(duty.noted_at for duty in left))


def _by_measurement(gate: Gate, known: Known, at: datetime) -> _Verdict:
    assert gate.holds is not None
    if not known.measured:  # of nearly all visits of a board
        return _says(_OPEN, _unmeasured(limit.measure for limit in gate.limits))
    readings: list[Reading] = []
    missing, stale = [], []
    for limit in gate.limits:
        base = measuring.baseline(limit, known.measured, known.dosed_at)
        reading = measuring.read(limit, known.measured, at, base, gate.recheck)
        if reading is None:
            missing.append(limit.measure)
            continue
        if at > reading.taken_at + gate.holds:
            stale.append(limit.measure)
        readings.append(reading)
    return _measured(gate.holds, readings, missing, stale, known.zone)


def _measured(
    holds: timedelta,
    readings: Sequence[Reading],
    missing: list[Measure],
    stale: list[Measure],
    zone: tzinfo,
) -> _Verdict:
    beyond = [one for one in readings if one.zone is not Zone.PASS]
    worst = max(beyond, key=_pressing, default=None)
    since = _later(*(one.noted_at for one in beyond))
    if worst is not None and worst.zone >= Zone.HOLD:
        return _held(worst, since, zone)
    if missing:
        return _Verdict(_OPEN, _unmeasured(missing), None, since)
    if stale:
        return _Verdict(_EXPIRED, "Measured too long ago: " + ", ".join(stale), None, since)
    if beyond:
        detail, named = (f"Out of range: {', '.join(told)}" for told in _told(beyond))
        return _Verdict(_FAILED, detail, None, since, named=named)
    oldest = min(one.taken_at for one in readings)
    return _Verdict(_MET, "Measured, within limits.", oldest + holds)


def _pressing(one: Reading) -> tuple[Zone, bool]:
    """The worse the higher: of two on hold the one that is still to be measured again."""
    return one.zone, not one.is_confirmed


def _by_questionnaire(gate: Gate, known: Known, at: datetime) -> _Verdict:
    assert gate.instrument is not None
    assert gate.holds is not None
    undecided = [
        one
        for one in known.shut_by.get(gate.instrument, ())
        if one.authored_at <= at and not are_named(one.looked, gate.who)
    ]
    since = max((one.noted_at for one in undecided), default=None)
    if any(at <= one.authored_at + gate.holds for one in undecided):
        return _Verdict(_FAILED, "The answers are for a clinician to look at.", None, since)
    last = known.answered.get(gate.instrument)
    if last is None or last > at:
        return _Verdict(_OPEN, "Not filled in yet.", None, since)
    expires_at = last + gate.holds
    if at > expires_at:
        return _Verdict(_EXPIRED, "Filled in too long before the visit.", expires_at, since)
    return _Verdict(_MET, "Filled in.", expires_at)


def _unmeasured(missing: Iterable[Measure]) -> str:
    return "Not measured yet: " + ", ".join(missing)


def _held(worst: Reading, since: datetime | None, zone: tzinfo) -> _Verdict:
    """On hold, or worse: no reason opens it before it was measured again often enough."""
    stops = worst.zone is Zone.STOP
    is_decided = worst.is_confirmed and not stops
    assert worst.again_at is not None  # what is on hold or worse says from when on
    when = f"{worst.again_at.astimezone(zone):%H:%M %Z}"
    said, then = (
        ("On hold", f", also when measured again. A better value counts from {when} on.")
        if is_decided
        else ("Stop" if stops else "On hold", f". Measure again at {when} or later.")
    )
    detail, named = (f"{said}: {told}{then}" for [told] in _told([worst]))
    return _Verdict(_FAILED, detail, None, since, is_fixed=not is_decided, named=named)


def _told(beyond: Sequence[Reading]) -> tuple[list[str], list[str]]:
    """What lies beyond its limits, for everybody, and with the values for those who treat."""
    measures = [str(one.limit.measure) for one in beyond]
    return measures, [f"{one.limit.measure} {one.value:g}" for one in beyond]


_SETTLED: Mapping[SettledBy, Callable[[Gate, Known, datetime], _Verdict]] = {
    SettledBy.CLEARANCE: _by_clearance,
    SettledBy.CHECKLIST: _by_checklist,
    SettledBy.ESCORT: _by_escort,
    SettledBy.DEPARTURE: _by_departure,
    SettledBy.STEPS: _by_steps,
    SettledBy.OBSERVATION: _by_observation,
    SettledBy.MEASUREMENT: _by_measurement,
    SettledBy.QUESTIONNAIRE: _by_questionnaire,
    SettledBy.INCIDENTS: _by_incidents,
    SettledBy.SCREEN: _by_screen,
    SettledBy.MEDICINES: _by_medicines,
    SettledBy.ELIGIBILITY: _by_eligibility,
}
