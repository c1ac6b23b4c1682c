"""Measuring: what vital signs and scores amount to, and when they are due.

Limits are protocol data. Within `pass` a gate opens; beyond it a clinician decides; in `hold`
it is measured again before anybody does; in `stop` nobody goes on, whatever the reason. Of what
is on hold, or worse, no better value counts before it is time to measure again.

Pure: no database, no clock, no Flask.

Source: FHIR R4 Observation; codes of LOINC. Every limit names its own source in the protocol.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum

from models.vocabulary import Measure, Stage
from scheduler.protocols import Limit, Recheck, Watch


@dataclass(frozen=True, slots=True)
class Kind:
    """How a measure is told: its unit (UCUM), its LOINC code, and between which values it lies."""

    unit: str
    loinc: str | None
    least: float
    most: float


YES_OR_NO = Kind("1", None, 0, 1)

KINDS: Mapping[Measure, Kind] = {
    Measure.SYSTOLIC: Kind("mm[Hg]", "8480-6", 30, 300),
    Measure.DIASTOLIC: Kind("mm[Hg]", "8462-4", 10, 200),
    Measure.HEART_RATE: Kind("/min", "8867-4", 10, 300),
    Measure.OXYGEN_SATURATION: Kind("%", "59408-5", 30, 100),
    Measure.RESPIRATORY_RATE: Kind("/min", "9279-1", 1, 80),
    Measure.TEMPERATURE: Kind("Cel", "8310-5", 25, 45),
    Measure.WEIGHT: Kind("kg", "29463-7", 15, 400),
    Measure.RECOVERY_SCORE: Kind("{score}", None, 0, 10),
    Measure.ORIENTED: YES_OR_NO,
    Measure.STEADY_GAIT: YES_OR_NO,
    Measure.NAUSEA_CONTROLLED: YES_OR_NO,
}
"""Beyond these a value is a slip of the pen, not a finding.

Source: LOINC 8480-6, 8462-4, 8867-4, 59408-5, 9279-1, 8310-5, 29463-7; units of UCUM. The
recovery score is the modified Aldrete score, 0 to 10 (S109 of docs/clinical-sources.md).
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured at one moment."""

    taken_at: datetime
    values: Mapping[Measure, float]
    noted_at: datetime
    """When it was typed in."""


class Zone(IntEnum):
    """Where a value lies, the worse the higher."""

    PASS = 0
    BEYOND = 1
    HOLD = 2
    STOP = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """The value that counts for a limit, and where it lies."""

    limit: Limit
    value: float
    taken_at: datetime
    zone: Zone
    noted_at: datetime
    """When it was typed in."""
    again_at: datetime | None = None
    """On hold, or worse: from when on a better value counts. None: any does."""
    is_confirmed: bool = False
    """On hold: whether it was measured again so often that somebody may decide."""


def baseline(limit: Limit, measured: Sequence[Measured], dosed_at: datetime | None) -> float | None:
    """The last value before the dose."""
    taken = [] if dosed_at is None else _taken_by(dosed_at, limit, measured)
    return taken[-1].values[limit.measure] if taken else None


def read(
    limit: Limit,
    measured: Sequence[Measured],
    at: datetime,
    base: float | None,
    recheck: Recheck | None,
) -> Reading | None:
    """Say which value counts at a time, and where it lies. None: it was never measured."""
    after = timedelta(0) if recheck is None else recheck.after
    counts, on_hold = _that_counts(limit, _taken_by(at, limit, measured), after)
    if counts is None:
        return None
    value = counts.values[limit.measure]
    return Reading(
        limit,
        value,
        counts.taken_at,
        _zone(limit, value, base),
        counts.noted_at,
        counts.taken_at + after if on_hold else None,
        recheck is not None and len(on_hold) > recheck.times,
    )


def _taken_by(at: datetime, limit: Limit, measured: Sequence[Measured]) -> list[Measured]:
    return [one for one in measured if limit.measure in one.values and one.taken_at <= at]


def _that_counts(
    limit: Limit, taken: Sequence[Measured], after: timedelta
) -> tuple[Measured | None, list[datetime]]:
    """What counts, and when it was measured on hold, so far apart, since it last was not.

    The last counts; but what went on hold counts until it is time to measure again: a better
    value a minute later may be the cuff, or the moment. A worse one counts at once.
    """
    counts, worst, again_at = None, Zone.PASS, None
    on_hold: list[datetime] = []
    for one in taken:
        zone = _zone(limit, one.values[limit.measure], None)
        if again_at is not None and one.taken_at < again_at and zone < worst:
            continue
        if zone < Zone.HOLD:
            on_hold.clear()
        elif not on_hold or one.taken_at >= on_hold[-1] + after:
            on_hold.append(one.taken_at)
        counts, worst = one, zone
        again_at = one.taken_at + after if on_hold else None
    return counts, on_hold


def _zone(limit: Limit, value: float, base: float | None) -> Zone:
    if limit.stop.holds(value):
        return Zone.STOP
    if limit.hold.holds(value):
        return Zone.HOLD
    low = limit.least is not None and value < limit.least
    high = limit.most is not None and value > limit.most
    far = limit.near_baseline is not None and (
        base is None or abs(value - base) > base * limit.near_baseline / 100
    )
    return Zone.BEYOND if low or high or far else Zone.PASS


class DueState(StrEnum):
    """Where a measuring that a protocol asks for stands."""

    AHEAD = "ahead"
    DUE = "due"
    LATE = "late"
    DONE = "done"
    MISSED = "missed"
    """It was not done, and a later one of its kind was: nobody need do it any more."""


@dataclass(frozen=True, slots=True)
class Due:
    """One measuring that a protocol asks for."""

    watch: Watch
    due_at: datetime
    state: DueState
    done_at: datetime | None = None


def due(
    watches: Sequence[Watch],
    measured: Sequence[Measured],
    dosed_at: datetime | None,
    stage: Stage | None,
    now: datetime,
) -> list[Due]:
    """List the measurings of a visit under way, in the order in which they are due.

    `stage` is what comes next. Those before the dose are due as soon as that is, those before
    the discharge once everything that has a time was due; they are `due` until they are done.
    """
    found: list[Due] = []
    last = dosed_at and dosed_at + max((one.until for one in watches), default=timedelta(0))
    for watch in watches:
        if watch.before is Stage.DOSE:
            found += _before(watch, _taken(watch, measured, None, dosed_at), stage, now)
        elif watch.before is not None:
            done = None if last is None else _taken(watch, measured, last, None)
            found += _before(watch, done, stage, max(now, last or now), now)
        elif dosed_at is not None:
            found += _after(watch, measured, list(_times(watch, dosed_at)), now)
    return sorted(found, key=lambda one: one.due_at)


def _times(watch: Watch, dosed_at: datetime) -> Iterator[datetime]:
    after = watch.after
    while after <= watch.until:
        yield dosed_at + after
        if watch.every is None:
            return
        after += watch.every


def _before(
    watch: Watch,
    done: datetime | None,
    stage: Stage | None,
    due_at: datetime,
    now: datetime | None = None,
) -> Iterator[Due]:
    if done is not None:
        yield Due(watch, done, DueState.DONE, done)
    elif stage is watch.before:
        is_ahead = now is not None and due_at > now
        yield Due(watch, due_at, DueState.AHEAD if is_ahead else DueState.DUE)


def _after(
    watch: Watch, measured: Sequence[Measured], times: Sequence[datetime], now: datetime
) -> Iterator[Due]:
    """A measuring counts for the time that it is nearest to, from `late_after` before it on.

    What was not done is late until a later one is: that the next is due makes it no better.
    """
    slack = watch.late_after
    for number, due_at in enumerate(times):
        following = times[number + 1] - slack if number + 1 < len(times) else None
        done = _taken(watch, measured, due_at - slack, following)
        if done is not None:
            yield Due(watch, due_at, DueState.DONE, done)
        elif following is not None and _taken(watch, measured, following, None) is not None:
            yield Due(watch, due_at, DueState.MISSED)
        elif now > due_at + slack:
            yield Due(watch, due_at, DueState.LATE)
        else:
            yield Due(watch, due_at, DueState.AHEAD if now < due_at else DueState.DUE)


def _taken(
    watch: Watch, measured: Sequence[Measured], since: datetime | None, until: datetime | None
) -> datetime | None:
    """When everything that is asked was first measured in a stretch of time."""
    wanted = set(watch.measures)
    for one in measured:
        if (since is None or one.taken_at >= since) and (until is None or one.taken_at < until):
            wanted -= set(one.values)
            if not wanted:
                return one.taken_at
    return None
