"""Course rules: does this time keep what the protocol asks of the course?

Windows between steps, who serves them, branches, what must be booked first, and caps and gaps
for a kind of visit. A broken rule says which, how hard it says no, and who may pass over it.

Pure: no database, no clock, no Flask. All datetimes are aware.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from math import ceil, floor
from uuid import UUID
from zoneinfo import ZoneInfo

from models.vocabulary import AppointmentStatus, Severity, StepKind
from notifications.wall_time import at_wall_time
from scheduler.protocols import Cap, Gap, IfSkipped, Protocol, Step, Tie, Visit, Window
from scheduler.spans import TICK, Span

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

Who = Mapping[str, frozenset[UUID]]
"""For each role the schedules of those who serve a visit in it."""


@dataclass(frozen=True, slots=True)
class Booked:
    """Another visit of the patient."""

    step: str | None
    """Its step in this course; None if it belongs to another course or to none."""
    kind: StepKind
    status: AppointmentStatus
    starts_at: datetime
    who: Who = field(default_factory=dict)
    outcome: str | None = None
    """How its step ended, if somebody said so."""
    is_skipped: bool = False
    """Not a visit but a step that a clinician skipped, at the time that was planned for it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A time that somebody would like to book."""

    step: Step | None
    kind: StepKind
    starts_at: datetime
    zone: ZoneInfo
    """The site's: calendar days are counted where the visit takes place."""
    who: Who = field(default_factory=dict)
    """As far as it is known who would serve it."""


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
        course = _Course(protocol, known)
        broken += _branch(candidate.step, course)
        broken += _anchors(candidate, candidate.step, course)
        broken += _followers(candidate, candidate.step, protocol, standing)
        broken += _owed(candidate.step, course)
        broken += _ties(candidate, candidate.step, protocol, standing)
    return [rule for rule in broken if rule.severity is not Severity.OFF]


def judge_frequency(
    candidate: Candidate, protocol: Protocol, others: Iterable[Booked]
) -> list[Broken]:
    """List the caps and gaps that `candidate` breaks, given other visits that took place."""
    broken = _frequency(candidate, protocol, list(others))
    return [rule for rule in broken if rule.severity is not Severity.OFF]


def judge_notice(
    visit: Visit, starts_at: datetime, now: datetime, zone: ZoneInfo
) -> Iterator[Broken]:
    """List what is wrong with booking, now, a visit that starts then: too soon, too far ahead."""
    is_short = visit.notice is not None and _short_of(visit.notice, now, starts_at, zone=zone)
    is_far = visit.ahead is not None and _beyond(visit.ahead, now, starts_at, zone=zone)
    yield from _notice(visit, is_short=is_short, is_far=is_far)


def _notice(visit: Visit, *, is_short: bool, is_far: bool) -> Iterator[Broken]:
    if visit.notice is not None and is_short:
        detail = f"It is to be booked at least {visit.notice} before it starts."
        yield Broken("short-notice", Severity.WARN, detail, frozenset())
    if visit.ahead is not None and is_far:
        detail = f"It is to be booked at most {visit.ahead} ahead."
        yield Broken("far-ahead", Severity.WARN, detail, frozenset())


def belongs(
    step: Step, protocol: Protocol, outcomes: Mapping[str, str], skipped: Collection[str]
) -> bool | None:
    """Whether a step is part of a course, given how earlier ones ended. None: undecided yet.

    A step that was skipped ended with no outcome, so nothing that branches on it is asked for.
    """
    if step.only_if is None:
        return True
    before = protocol.step(step.only_if.step)
    if before.key in skipped or belongs(before, protocol, outcomes, skipped) is False:
        return False
    outcome = outcomes.get(before.key)
    return None if outcome is None else outcome in step.only_if.outcomes


def doses_in_a_row(kinds: Iterable[StepKind]) -> int:
    """How many doses were given since anything else, of visits in the order of time.

    A course that only doses leaves out what makes a therapy of it.
    """
    counted = 0
    for kind in kinds:
        counted = counted + 1 if kind is StepKind.DOSING else 0
    return counted


def earliest(step: Step, others: Iterable[Booked], zone: ZoneInfo) -> datetime | None:
    """The first moment that the step's windows allow, as far as its anchors are booked."""
    known = list(others)
    found = []
    for window in step.windows:
        anchor = anchor_of(window, known)
        if anchor is None or window.least is None or falls_away(window, anchor):
            continue
        found.append(_after(window.least, anchor.starts_at, zone))
    return max(found, default=None)


def latest(step: Step, others: Iterable[Booked], zone: ZoneInfo) -> datetime | None:
    """The moment from which the step's windows are over, as far as its anchors are booked."""
    known = list(others)
    found = []
    for window in step.windows:
        anchor = anchor_of(window, known)
        if anchor is None or window.most is None or falls_away(window, anchor):
            continue
        found.append(_end_of(window.most, anchor.starts_at, zone))
    return min(found, default=None)


def hanging_on(dose: str, protocol: Protocol) -> list[Step]:
    """The integrations that have a window from a dose, which ends."""
    return [
        step
        for step in protocol.steps
        if step.visit.kind is StepKind.INTEGRATION
        and any(window.step == dose and window.most is not None for window in step.windows)
    ]


def unmet_after(
    dose: str,
    protocol: Protocol,
    known: Sequence[Booked],
    zone: ZoneInfo,
    excused: Collection[str] = (),
) -> list[Step]:
    """The integrations that hang on a dose and are neither booked nor done within their window.

    What was skipped, and what no branch asks for, is not missing; nor is a later time for which
    somebody gave a reason, by the rules in `excused`.
    """
    course = _Course(protocol, known)

    def is_met(step: Step) -> bool:
        end = latest(step, known, zone)
        return any(
            visit.step == step.key
            and visit.status in STANDING
            and (end is None or visit.starts_at < end or f"{step.key}-too-late" in excused)
            for visit in known
        )

    return [
        step
        for step in hanging_on(dose, protocol)
        if course.has(step.key) is True and step.key not in course.skipped and not is_met(step)
    ]


def _end_of(span: Span, moment: datetime, zone: ZoneInfo) -> datetime:
    """The first instant that is more than the span after `moment`."""
    if span.in_days:
        return _midnight(moment, floor(span.value) + 1, zone)
    return moment + span.elapsed + TICK


def _after(span: Span, moment: datetime, zone: ZoneInfo) -> datetime:
    """The first instant that is at least the span after `moment`."""
    if span.in_days:
        return _midnight(moment, ceil(span.value), zone)
    return moment + span.elapsed


def _midnight(moment: datetime, days: int, zone: ZoneInfo) -> datetime:
    """The first instant of the wall day so many days after that of `moment`."""
    day = moment.astimezone(zone).date() + timedelta(days=days)
    return at_wall_time(datetime.combine(day, time.min), zone)


def notice_of(
    visit: Visit, now: datetime, zone: ZoneInfo
) -> tuple[datetime | None, datetime | None]:
    """From when on, and before when, a visit can be booked now without a reason; None: any time."""
    soonest = furthest = None
    if visit.notice is not None:
        soonest = _after(visit.notice, now, zone)
    if visit.ahead is not None:
        furthest = _end_of(visit.ahead, now, zone)
    return soonest, furthest


@dataclass(frozen=True, slots=True)
class Ties:
    """For a role the schedules that must serve a visit in it, and those that must not."""

    must: Who = field(default_factory=dict)
    never: Who = field(default_factory=dict)

    def allow(self, role: str, schedule_id: UUID) -> bool:
        """Whether somebody may serve in the role."""
        if not self.must and not self.never:
            return True
        here = self.must.get(role)
        if here is not None and schedule_id not in here:
            return False
        return schedule_id not in self.never.get(role, frozenset())


def ties_of(
    step: Step,
    protocol: Protocol,
    others: Iterable[Booked],
    but: Collection[Severity] = (Severity.OFF, Severity.WARN),
) -> Ties:
    """Whom the visits that stand bind a step to, or bar from it, by rules that block.

    `but`: the severities whose ties do not count.
    """
    who = {visit.step: visit.who for visit in others if visit.status in STANDING}
    must: dict[str, frozenset[UUID]] = {}
    never: dict[str, frozenset[UUID]] = {}
    for later in protocol.steps:
        for tie in (*later.same, *later.differs):
            other = tie.step if later.key == step.key else later.key
            binds = step.key in {later.key, tie.step} and tie.severity not in but
            there = who.get(other, {}).get(tie.role)
            if not binds or not there:
                continue
            if tie in later.same:
                must[tie.role] = must.get(tie.role, there) & there
            else:
                never[tie.role] = never.get(tie.role, frozenset()) | there
    return Ties(must, never)


def without(protocol: Protocol, waived: Collection[str]) -> Protocol:
    """The protocol with the rules of these codes switched off.

    Where a window that warns and one that blocks share a code, the one that blocks stays:
    whoever passes over the warning may not have the right to pass over the block.
    """
    if not waived:
        return protocol
    return replace(
        protocol,
        caps=tuple(cap for cap in protocol.caps if cap.code not in waived),
        gaps=tuple(gap for gap in protocol.gaps if gap.code not in waived),
        steps=tuple(_step_without(step, waived) for step in protocol.steps),
    )


def _step_without(step: Step, waived: Collection[str]) -> Step:
    key = step.key

    def drops(window: Window, what: str, has: Callable[[Window], bool]) -> bool:
        warns = any(has(one) and one.severity is Severity.WARN for one in step.windows)
        return f"{key}-{what}" in waived and (window.severity is Severity.WARN or not warns)

    windows = tuple(
        replace(
            window,
            least=None if drops(window, "too-soon", lambda one: bool(one.least)) else window.least,
            most=None if drops(window, "too-late", lambda one: bool(one.most)) else window.most,
            same_weekday=window.same_weekday
            and not drops(window, "other-weekday", lambda one: one.same_weekday),
        )
        for window in step.windows
    )
    return replace(
        step,
        windows=windows,
        same=tuple(tie for tie in step.same if f"{key}-other-{tie.role}" not in waived),
        differs=tuple(tie for tie in step.differs if f"{key}-same-{tie.role}" not in waived),
    )


def asked_of(step: Step, protocol: Protocol) -> Iterator[Broken]:
    """List the rules that could bar a step from a time, each as if it were broken."""
    for window in step.windows:
        yield from _asked_by(window, step.key)
    for tie in step.same:
        detail = f"{step.key} must have the {tie.role} of {tie.step}."
        yield Broken(f"{step.key}-other-{tie.role}", tie.severity, detail, tie.lift)
    for tie in step.differs:
        detail = f"{step.key} must have another {tie.role} than {tie.step}."
        yield Broken(f"{step.key}-same-{tie.role}", tie.severity, detail, tie.lift)
    for cap in protocol.caps:
        if cap.kind is step.visit.kind:
            yield Broken(cap.code, cap.severity, _said_of_cap(cap), cap.lift)
    for gap in protocol.gaps:
        if gap.kind is step.visit.kind:
            yield Broken(gap.code, gap.severity, _said_of_gap(gap), gap.lift)
    yield from _notice(step.visit, is_short=True, is_far=True)


def _asked_by(window: Window, key: str) -> Iterator[Broken]:
    severity, lift, anchor = window.severity, window.lift, window.step
    if window.most is not None:
        detail = f"{key} must be at most {window.most} after {anchor}."
        yield Broken(f"{key}-too-late", severity, detail, lift)
    if window.same_weekday:
        detail = f"{key} must be on the same weekday as {anchor}."
        yield Broken(f"{key}-other-weekday", severity, detail, lift)
    if window.least is not None:
        detail = f"{key} must be at least {window.least} after {anchor}."
        yield Broken(f"{key}-too-soon", severity, detail, lift)


def who_of(pairs: Iterable[tuple[str, UUID]]) -> Who:
    """The schedules of each role, from pairs of role and schedule."""
    found: dict[str, frozenset[UUID]] = {}
    for role, schedule_id in pairs:
        found[role] = found.get(role, frozenset()) | {schedule_id}
    return found


class _Course:
    """What is known of a course: its visits, what was skipped, how steps ended."""

    def __init__(self, protocol: Protocol, known: Sequence[Booked]) -> None:
        self.protocol, self.known = protocol, known
        self.skipped = {visit.step for visit in known if visit.is_skipped and visit.step}
        self.settled = {visit.step for visit in known if visit.status in STANDING} | self.skipped
        self.outcomes = {
            visit.step: visit.outcome for visit in known if visit.step and visit.outcome
        }

    def has(self, key: str) -> bool | None:
        """Whether a step is part of it; None: undecided yet."""
        return belongs(self.protocol.step(key), self.protocol, self.outcomes, self.skipped)


def _frequency(
    candidate: Candidate, protocol: Protocol, standing: list[Booked]
) -> Iterator[Broken]:
    for cap in protocol.caps:
        if cap.kind is candidate.kind and _crowded(candidate, cap, standing):
            yield Broken(cap.code, cap.severity, _said_of_cap(cap), cap.lift)
    for gap in protocol.gaps:
        if gap.kind is candidate.kind and _close(candidate, gap, standing):
            yield Broken(gap.code, gap.severity, _said_of_gap(gap), gap.lift)


def _said_of_cap(cap: Cap) -> str:
    return f"At most {cap.most} {cap.kind} visits within {cap.within}."


def _said_of_gap(gap: Gap) -> str:
    return f"At least {gap.least} between {gap.kind} visits."


def _crowded(candidate: Candidate, cap: Cap, standing: list[Booked]) -> bool:
    """Whether some span of the cap's length that holds the candidate would hold too many."""
    starts = sorted(
        [visit.starts_at for visit in standing if visit.kind is cap.kind] + [candidate.starts_at]
    )

    def holds(first: datetime, start: datetime) -> bool:
        return first <= start and _short_of(cap.within, first, start, zone=candidate.zone)

    return any(
        holds(first, candidate.starts_at)
        and sum(holds(first, start) for start in starts) > cap.most
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


def _branch(step: Step, course: _Course) -> Iterator[Broken]:
    """Whether the step is part of the course. Nobody may pass over a branch not taken."""
    part = course.has(step.key)
    if part is False:
        detail = f"{step.key} is not part of this course."
        yield Broken("not-part-of-course", Severity.BLOCK, detail, frozenset())
    if part is None and step.only_if is not None:
        detail = f"Whether {step.key} is part of this course is undecided."
        yield Broken(f"undecided-{step.only_if.step}", Severity.WARN, detail, frozenset())


def _anchors(candidate: Candidate, step: Step, course: _Course) -> Iterator[Broken]:
    """The windows of this step after earlier ones that are part of the course."""
    for window in step.windows:
        if course.has(window.step) is False:
            continue
        anchor = anchor_of(window, course.known)
        if anchor is None:
            yield Broken(
                f"no-{window.step}",
                window.severity,
                f"{window.step} comes first and is not booked.",
                window.lift,
            )
        elif not falls_away(window, anchor):
            yield from _outside(window, step.key, anchor.starts_at, candidate.starts_at, candidate)


def anchor_of(window: Window, known: Iterable[Booked]) -> Booked | None:
    """The visit that a window counts from: the one of its step that stands.

    Without one, the latest that was missed or skipped, at the time that was planned for it.
    """
    found = [
        visit
        for visit in known
        if visit.step == window.step and (visit.status in STANDING or _was_not_kept(visit))
    ]
    return max(found, key=lambda one: (one.status in STANDING, one.starts_at), default=None)


def falls_away(window: Window, anchor: Booked) -> bool:
    """Whether the window asks for nothing, its anchor having been skipped or missed."""
    return window.if_skipped is IfSkipped.IGNORE and _was_not_kept(anchor)


def _was_not_kept(visit: Booked) -> bool:
    return visit.is_skipped or visit.status is AppointmentStatus.NOSHOW


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
    zone, severity, lift = candidate.zone, window.severity, window.lift
    if window.least is not None and _short_of(window.least, anchor, start, zone=zone):
        detail = f"{key} must be at least {window.least} after {window.step}."
        yield Broken(f"{key}-too-soon", severity, detail, lift)
    elif start < anchor:
        yield Broken(f"{key}-too-soon", severity, f"{key} comes after {window.step}.", lift)
    if window.most is not None and _beyond(window.most, anchor, start, zone=zone):
        detail = f"{key} must be at most {window.most} after {window.step}."
        yield Broken(f"{key}-too-late", severity, detail, lift)
    if window.same_weekday and _days(anchor, start, zone) % 7:
        detail = f"{key} must be on the same weekday as {window.step}."
        yield Broken(f"{key}-other-weekday", severity, detail, lift)


def _owed(step: Step, course: _Course) -> Iterator[Broken]:
    if step.owes is None:
        return
    for owed in step.owes.steps:
        if owed not in course.settled and course.has(owed) is not False:
            yield Broken(
                f"owes-{owed}",
                step.owes.severity,
                f"{owed} is neither booked nor done.",
                step.owes.lift,
            )


def _ties(
    candidate: Candidate, step: Step, protocol: Protocol, standing: list[Booked]
) -> Iterator[Broken]:
    """Who serves this step and earlier ones that it is tied to; and later ones tied to it."""
    who = {visit.step: visit.who for visit in standing}
    for later in protocol.steps:
        theirs = candidate.who if later is step else who.get(later.key, {})
        for tie in (*later.same, *later.differs):
            if later is step:
                yield from _untied(tie, later, who.get(tie.step, {}), theirs)
            elif tie.step == step.key:
                yield from _untied(tie, later, candidate.who, theirs)


def _untied(tie: Tie, step: Step, earlier: Who, later: Who) -> Iterator[Broken]:
    before, after = earlier.get(tie.role), later.get(tie.role)
    if not before or not after:  # not known who serves one of them
        return
    if tie in step.same and before.isdisjoint(after):
        detail = f"{step.key} must have the {tie.role} of {tie.step}."
        yield Broken(f"{step.key}-other-{tie.role}", tie.severity, detail, tie.lift)
    if tie in step.differs and not before.isdisjoint(after):
        detail = f"{step.key} must have another {tie.role} than {tie.step}."
        yield Broken(f"{step.key}-same-{tie.role}", tie.severity, detail, tie.lift)


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
