"""Course rules: does this time keep what the protocol asks of the course?

Windows between steps, caps and gaps for a kind of visit, and what must be booked first. A
broken rule says which, how hard it says no, and who may pass over it.

Pure: no database, no clock, no Flask. All datetimes are aware.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from models.vocabulary import AppointmentStatus, Severity, StepKind
from notifications.wall_time import at_wall_time
from scheduler.protocols import Cap, Gap, Protocol, Span, Step, Window

STANDING = frozenset(
    {
        AppointmentStatus.PENDING,
        AppointmentStatus.BOOKED,
        AppointmentStatus.ARRIVED,
        AppointmentStatus.CHECKED_IN,
        AppointmentStatus.FULFILLED,
    }
)
"""Visits that take place, or took place."""


@dataclass(frozen=True, slots=True)
class Booked:
    """Another visit of the patient."""

    step: str | None
    """Its step in this course; None if it belongs to another course or to none."""
    kind: StepKind
    status: AppointmentStatus
    starts_at: datetime


@dataclass(frozen=True, slots=True)
class Candidate:
    """A time that somebody would like to book."""

    step: Step | None
    kind: StepKind
    starts_at: datetime
    zone: ZoneInfo
    """The site's: calendar days are counted where the visit takes place."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that the candidate breaks."""

    code: str
    severity: Severity
    detail: str
    lift: frozenset[str]


def judge(candidate: Candidate, protocol: Protocol, others: Iterable[Booked]) -> list[Broken]:
    """List the rules that `candidate` breaks, given the patient's other visits.

    Also those between it and later steps that are booked already: moving a dose can break
    the window of the integration that hangs on it.
    """
    known = list(others)
    standing = [visit for visit in known if visit.status in STANDING]
    broken = [*_frequency(candidate, protocol, standing)]
    if candidate.step is not None:
        broken += _anchors(candidate, candidate.step, known)
        broken += _followers(candidate, candidate.step, protocol, standing)
        broken += _owed(candidate.step, standing)
    return [rule for rule in broken if rule.severity is not Severity.OFF]


def earliest(step: Step, others: Iterable[Booked], zone: ZoneInfo) -> datetime | None:
    """The first moment that the step's windows allow, as far as its anchors are booked."""
    known = list(others)
    found = []
    for window in step.windows:
        anchor = _anchor(window, known)
        if anchor is None or window.least is None:
            continue
        if window.least.in_days:
            day = anchor.starts_at.astimezone(zone).date() + timedelta(days=window.least.value)
            found.append(at_wall_time(datetime.combine(day, time.min), zone))
        else:
            found.append(anchor.starts_at + window.least.elapsed)
    return max(found, default=None)


def age_on(day: date, born: date) -> int:
    """How old somebody is on a day, in years."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def _frequency(
    candidate: Candidate, protocol: Protocol, standing: list[Booked]
) -> Iterator[Broken]:
    for cap in protocol.caps:
        if cap.kind is candidate.kind and _crowded(candidate, cap, standing):
            detail = f"At most {cap.most} {cap.kind} visits within {_told(cap.within)}."
            yield Broken(cap.code, cap.severity, detail, cap.lift)
    for gap in protocol.gaps:
        if gap.kind is candidate.kind and _close(candidate, gap, standing):
            detail = f"At least {_told(gap.least)} between {gap.kind} visits."
            yield Broken(gap.code, gap.severity, detail, gap.lift)


def _crowded(candidate: Candidate, cap: Cap, standing: list[Booked]) -> bool:
    """Whether some span of the cap's length that holds the candidate would hold too many."""
    starts = sorted(
        [visit.starts_at for visit in standing if visit.kind is cap.kind] + [candidate.starts_at]
    )
    return any(
        first <= candidate.starts_at < first + cap.within.elapsed
        and sum(first <= start < first + cap.within.elapsed for start in starts) > cap.most
        for first in starts
    )


def _close(candidate: Candidate, gap: Gap, standing: list[Booked]) -> bool:
    return any(
        visit.kind is gap.kind
        and _short_of(
            gap.least, *sorted((visit.starts_at, candidate.starts_at)), zone=candidate.zone
        )
        for visit in standing
    )


def _anchors(candidate: Candidate, step: Step, known: list[Booked]) -> Iterator[Broken]:
    """The windows of this step after earlier ones. A missed anchor counts from its time."""
    for window in step.windows:
        anchor = _anchor(window, known)
        if anchor is None:
            yield Broken(
                f"no-{window.step}",
                window.severity,
                f"{window.step} comes first and is not booked.",
                window.lift,
            )
        else:
            yield from _outside(window, step.key, anchor.starts_at, candidate.starts_at, candidate)


def _anchor(window: Window, known: list[Booked]) -> Booked | None:
    """The visit that a window counts from: the latest of its step that stands, or was missed."""
    for visit in reversed(known):
        counts = visit.status in STANDING or visit.status is AppointmentStatus.NOSHOW
        if visit.step == window.step and counts:
            return visit
    return None


def _followers(
    candidate: Candidate, step: Step, protocol: Protocol, standing: list[Booked]
) -> Iterator[Broken]:
    """The windows of later steps after this one, for those that are booked."""
    for later in protocol.steps:
        for window in later.windows:
            if window.step != step.key:
                continue
            for visit in standing:
                if visit.step == later.key:
                    yield from _outside(
                        window, later.key, candidate.starts_at, visit.starts_at, candidate
                    )


def _outside(
    window: Window, key: str, anchor: datetime, start: datetime, candidate: Candidate
) -> Iterator[Broken]:
    if window.least is not None and _short_of(window.least, anchor, start, zone=candidate.zone):
        detail = f"{key} must be at least {_told(window.least)} after {window.step}."
        yield Broken(f"{key}-too-soon", window.severity, detail, window.lift)
    if window.most is not None and _beyond(window.most, anchor, start, zone=candidate.zone):
        detail = f"{key} must be at most {_told(window.most)} after {window.step}."
        yield Broken(f"{key}-too-late", window.severity, detail, window.lift)


def _owed(step: Step, standing: list[Booked]) -> Iterator[Broken]:
    if step.owes is None:
        return
    there = {visit.step for visit in standing}
    for owed in step.owes.steps:
        if owed not in there:
            yield Broken(
                f"owes-{owed}",
                step.owes.severity,
                f"{owed} is neither booked nor done.",
                step.owes.lift,
            )


def _short_of(span: Span, earlier: datetime, later: datetime, *, zone: ZoneInfo) -> bool:
    if span.in_days:
        return _days(earlier, later, zone) < span.value
    return later - earlier < span.elapsed


def _beyond(span: Span, earlier: datetime, later: datetime, *, zone: ZoneInfo) -> bool:
    if span.in_days:
        return _days(earlier, later, zone) > span.value
    return later - earlier > span.elapsed


def _days(earlier: datetime, later: datetime, zone: ZoneInfo) -> int:
    return (later.astimezone(zone).date() - earlier.astimezone(zone).date()).days


def _told(span: Span) -> str:
    unit = {"min": "minutes", "h": "hours", "d": "days"}[span.unit]
    return f"{span.value:g} {unit}"
