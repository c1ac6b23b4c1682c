"""Cadence: when is what said about a visit?

A protocol gives every kind of visit a cadence, a list of rules ("a reminder, 72 hours before
the start, useless in the last two hours"). `plan` turns the rules, the visit and the
reader's quiet hours into dated messages.

Pure: no database, no clock, no Flask. Instants are aware; wall times carry their zone.

Two ways of counting are kept apart on purpose. "24 hours before" is elapsed time. "The day
before" is the same wall time on the day before, which on the night of a clock change is 23
or 25 hours. A wall time that a clock change skips is moved on to the first one that exists;
of one that happens twice, the first is taken.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Any, Self
from zoneinfo import ZoneInfo

from models.vocabulary import Condition, MessageKind, Recipient
from notifications.wall_time import at_wall_time

SAME = "same"
"""As a time of day: that of the start of the visit."""

EVENING_MARGIN = timedelta(minutes=30)
"""A message moved to the evening before goes out this long before the quiet hours begin,
so that a slow provider does not carry it into them."""

MUST_BE_SAID = frozenset(
    {
        MessageKind.CONFIRMATION,
        MessageKind.MOVED,
        MessageKind.CANCELLATION,
        MessageKind.VISIT_SUSPENDED,
        MessageKind.VISIT_RESUMED,
        MessageKind.GATE_REOPENED,
    }
)
"""Answers to something staff did, what keeps somebody from setting out for nothing, and what
takes that back: said in quiet hours too, if otherwise too late."""

AT_ONCE = frozenset(
    {
        MessageKind.NOTED,
        MessageKind.DECLINED,
        MessageKind.OPTED_OUT,
        MessageKind.OPTED_IN,
        MessageKind.HELP,
        MessageKind.EMERGENCY,
    }
)
"""Answers to what a patient has just written: said at any hour."""

CALM = frozenset(
    {
        MessageKind.PACKET,
        MessageKind.CHECKLIST_REQUEST,
        MessageKind.CHECKLIST_NUDGE,
        MessageKind.OVERVIEW,
        MessageKind.REMINDER,
        MessageKind.CHECK_BACK,
        MessageKind.QUESTIONNAIRE_DUE,
    }
)
"""What can wait: a patient gets at most one message of these a day, with all that is due on
that day in it. What comes on top waits for the next day, unless it would then be too late."""

ASSURING = frozenset(
    {
        MessageKind.REMINDER,
        MessageKind.CONFIRM_REQUEST,
        MessageKind.DAY_OF,
        MessageKind.PICK_UP,
    }
)
"""What says that a visit takes place: not said while it is suspended."""

TOGETHER = frozenset({MessageKind.CONFIRMATION, MessageKind.MOVED, MessageKind.CANCELLATION})
"""Said at once, and in one message with others of these that are due: a plan that is booked or
repaired is one letter, however many visits it has."""


WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Anchor(StrEnum):
    """What a rule counts from."""

    START = "start"
    END = "end"
    BOOKING = "booking"
    DUE = "due"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A time told relative to a visit.

    Either `hours` (elapsed, negative is before) from `anchor`, or, when `at` is set, `days`
    from the day of the start, or the last `weekday` before that day, at that wall time.
    """

    anchor: Anchor = Anchor.START
    hours: float = 0
    days: int = 0
    at: time | str | None = None
    weekday: int | None = None
    """0 is Monday."""

    @classmethod
    def read(cls, told: dict[str, Any]) -> Self:
        """Read a moment as protocol files write it."""
        if "on" in told:
            return cls(anchor=Anchor(told["on"]))
        if "at" in told:
            at = told["at"] if told["at"] == SAME else time.fromisoformat(told["at"])
            if "weekday" in told:
                return cls(weekday=WEEKDAYS.index(told["weekday"]), at=at)
            return cls(days=told["days"], at=at)
        return cls(anchor=Anchor(told["from"]), hours=told["hours"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of a cadence: what is said to whom, when, and until when it is of use."""

    code: str
    kind: MessageKind
    to: Recipient
    when: Moment
    not_after: Moment
    not_before: Moment | None = None
    """Before this it is of no use either: quiet hours move no "see you later" to the evening."""
    conditions: tuple[Condition, ...] = ()
    """All must hold when the message is due, or it is not said."""

    @classmethod
    def read(cls, told: dict[str, Any]) -> Self:
        """Read a rule as protocol files write it."""
        return cls(
            code=told["rule"],
            kind=MessageKind(told["kind"]),
            to=Recipient(told["to"]),
            when=Moment.read(told["when"]),
            not_after=Moment.read(told["not_after"]),
            not_before=Moment.read(told["not_before"]) if "not_before" in told else None,
            conditions=tuple(map(Condition, told.get("if", ()))),
        )


@dataclass(frozen=True, slots=True)
class QuietHours:
    """When a reader is left alone: from `start` to `end`, wall time in `zone`, over midnight."""

    start: time
    end: time
    zone: ZoneInfo

    def cover(self, instant: datetime) -> bool:
        """Tell whether `instant` lies in the quiet hours. Their end does not, their start does."""
        wall = instant.astimezone(self.zone).time()
        if self.start <= self.end:
            return self.start <= wall < self.end
        return wall >= self.start or wall < self.end

    def next_morning(self, instant: datetime) -> datetime:
        """The end of the quiet hours that cover `instant`."""
        local = instant.astimezone(self.zone)
        day = local.date() + timedelta(days=1 if local.time() >= self.end else 0)
        return at_wall_time(datetime.combine(day, self.end), self.zone)

    def evening_before(self, instant: datetime) -> datetime:
        """Shortly before the beginning of the quiet hours that cover `instant`."""
        local = instant.astimezone(self.zone)
        day = local.date() - timedelta(days=0 if local.time() >= self.start else 1)
        return at_wall_time(datetime.combine(day, self.start), self.zone) - EVENING_MARGIN


@dataclass(frozen=True, slots=True)
class Timing:
    """A visit, as far as its messages care."""

    starts_at: datetime
    ends_at: datetime
    zone: ZoneInfo
    """The site's: "the day before" is reckoned where the visit takes place."""
    said_at: datetime
    """When staff's act is settled: the earliest time at which anything may be said about it."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A message with its times."""

    rule: Rule
    due_at: datetime
    not_after: datetime


def plan(rules: Iterable[Rule], visit: Timing, quiet: QuietHours) -> Iterator[Planned]:
    """Date every rule that can still be kept.

    A rule whose time has passed, or whose message would come too late to be of use, is left
    out: a visit booked for tomorrow has no reminder three days ahead.
    """
    for rule in rules:
        wanted = resolve(rule.when, visit)
        not_after = resolve(rule.not_after, visit, due=wanted)
        if wanted < visit.said_at:
            continue
        earliest = visit.said_at
        if rule.not_before is not None:
            earliest = max(earliest, resolve(rule.not_before, visit, due=wanted))
        due_at = audible(wanted, quiet, earliest=earliest, not_after=not_after, kind=rule.kind)
        if due_at is not None and due_at <= not_after:
            yield Planned(rule, due_at, not_after)


def audible(
    wanted: datetime,
    quiet: QuietHours,
    *,
    earliest: datetime,
    not_after: datetime,
    kind: MessageKind,
) -> datetime | None:
    """Move `wanted` out of the quiet hours, to the nearest time that is still of use.

    None if there is none and the message can be left unsaid; one that must be said is then
    said at `wanted`.
    """
    if not quiet.cover(wanted) or kind in AT_ONCE:
        return wanted
    useful = [
        moved
        for moved in (quiet.evening_before(wanted), quiet.next_morning(wanted))
        if earliest <= moved <= not_after
    ]
    if useful:
        return min(useful, key=lambda moved: abs(moved - wanted))
    return wanted if kind in MUST_BE_SAID else None


def resolve(moment: Moment, visit: Timing, *, due: datetime | None = None) -> datetime:
    """Say when a moment of a visit is. `due` is what the moment may count from: see `Anchor`."""
    if moment.at is not None:
        start = visit.starts_at.astimezone(visit.zone)
        at = start.time() if isinstance(moment.at, str) else moment.at
        days = moment.days
        if moment.weekday is not None:
            days = -((start.weekday() - moment.weekday - 1) % 7 + 1)
        return at_wall_time(datetime.combine(start.date() + timedelta(days=days), at), visit.zone)
    anchors = {
        Anchor.START: visit.starts_at,
        Anchor.END: visit.ends_at,
        Anchor.BOOKING: visit.said_at,
        Anchor.DUE: due,
    }
    anchor = anchors[moment.anchor]
    assert anchor is not None  # only `not_after` counts from `due`: the schema says so
    # In UTC, because an hour added to a time that carries a zone is an hour on its wall.
    return anchor.astimezone(UTC) + timedelta(hours=moment.hours)
