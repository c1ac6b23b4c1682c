"""Windows: how far the steps of a problem may be from each other, in granules.

Every question is asked of many starts at once: arrays of int64 in, arrays out.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from math import ceil, floor
from zoneinfo import ZoneInfo

import numpy as np

from models.vocabulary import Severity
from notifications.wall_time import at_wall_time
from scheduler import rules
from scheduler.intervals import GRANULE, Frame, granules
from scheduler.problems import DAY, Array, Problem
from scheduler.protocols import Step, Window
from scheduler.spans import Span

PAST = 400
"""How many days before the frame are known: what is fixed may lie there."""


class Days:
    """The wall days of a frame: which granule is in which, and where they begin."""

    def __init__(self, frame: Frame, zone: ZoneInfo) -> None:
        day = frame.start.astimezone(zone).date() - timedelta(days=PAST)
        midnights: list[int] = []
        while not midnights or midnights[-1] < frame.size + 400 * DAY:
            wall = datetime.combine(day, time(0))
            midnights.append(-((frame.start - at_wall_time(wall, zone)) // GRANULE))
            day += timedelta(days=1)
        self._midnights: Array = np.array(midnights, dtype=np.int64)

    def number(self, starts: Array) -> Array:
        """The numbers of the wall days that hold granules."""
        return np.searchsorted(self._midnights, starts, side="right") - 1

    def begin(self, numbers: Array) -> Array:
        """The first granules of days; days beyond the last known are far away."""
        return self._midnights[np.minimum(numbers, len(self._midnights) - 1)]

    def soonest(self, least: Span | None, anchors: Array) -> Array:
        """The first granules that are at least the span after the anchors."""
        if least is None:
            return anchors
        if least.in_days:
            return np.maximum(anchors, self.begin(self.number(anchors) + ceil(least.value)))
        return anchors + granules(least.elapsed)

    def latest(self, most: Span | None, anchors: Array) -> Array:
        """The last granules that are at most the span after the anchors."""
        if most is None:
            return np.full_like(anchors, self._midnights[-1])
        if most.in_days:
            return self.begin(self.number(anchors) + floor(most.value) + 1) - 1
        return anchors + most.elapsed // GRANULE


@lru_cache(maxsize=64)
def days_of(frame: Frame, zone: ZoneInfo) -> Days:
    """The wall days of a frame, made once."""
    return Days(frame, zone)


@dataclass(frozen=True, slots=True)
class Branch:
    """How far a step may be from its anchor, another step to be placed."""

    anchor: int
    """Its number."""
    window: Window
    days: Days
    apart: tuple[Span, ...]
    """Gaps for the kind that both steps are of."""
    length: int
    """How long the anchor takes: nobody is in two visits at once."""

    def bounds(self, starts: Array) -> tuple[Array, Array]:
        """The first and the last starts that an anchor which begins then leaves. Never falling."""
        low = np.maximum(self.days.soonest(self.window.least, starts), starts + self.length)
        for gap in self.apart:
            low = np.maximum(low, self.days.soonest(gap, starts))
        return low, self.days.latest(self.window.most, starts)

    @property
    def middle(self) -> int | None:
        """The best distance; None if the window has no middle."""
        least, most = self.window.least, self.window.most
        if least is None or most is None:
            return None
        return (least.elapsed + most.elapsed) // 2 // GRANULE

    def off_middle(self, anchor: int, start: int) -> int:
        """How many granules the distance is off the best one."""
        return 0 if self.middle is None else abs(start - anchor - self.middle)


class Tree:
    """The steps to place, each below the one that binds it most; and all other windows."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.days = days_of(problem.frame, problem.zone)
        self.number = {one.step.key: n for n, one in enumerate(problem.choices)}
        self.windows = [list(self._windows(one.step)) for one in problem.choices]
        self.branches: list[Branch | None] = [
            max(found, key=_binding, default=None) for found in self.windows
        ]
        self.children: list[list[int]] = [[] for _ in problem.choices]
        for n, branch in enumerate(self.branches):
            if branch is not None:
                self.children[branch.anchor].append(n)

    def spans(self) -> list[tuple[int, int]]:
        """For each step the first and the last start that the patient's other visits leave it."""
        return [_beside_fixed(self.problem, one.step, self.days) for one in self.problem.choices]

    def _windows(self, step: Step) -> Iterator[Branch]:
        for window in step.windows:
            if window.step in self.number and window.severity is not Severity.OFF:
                number = self.number[window.step]
                anchor = self.problem.choices[number].step
                length = granules(anchor.visit.length)
                yield Branch(number, window, self.days, self._apart(step, anchor), length)

    def _apart(self, step: Step, anchor: Step) -> tuple[Span, ...]:
        """What gaps for their kind ask between two steps."""
        kind = step.visit.kind
        gaps = self.problem.protocol.gaps if anchor.visit.kind is kind else ()
        return tuple(
            gap.least for gap in gaps if gap.kind is kind and gap.severity is not Severity.OFF
        )


def _binding(branch: Branch) -> tuple[bool, bool, int]:
    window = branch.window
    return window.most is not None, window.least is not None, branch.anchor


def _beside_fixed(problem: Problem, step: Step, days: Days) -> tuple[int, int]:
    low, high = problem.earliest, problem.frame.size
    for window in step.windows:
        anchor = rules.anchor_of(window, problem.fixed)
        if anchor is None or window.severity is Severity.OFF:
            continue
        if not rules.falls_away(window, anchor):
            there = np.array([problem.frame.index(anchor.starts_at)])
            low = max(low, int(days.soonest(window.least, there)[0]))
            high = min(high, int(days.latest(window.most, there)[0]))
    for later in problem.protocol.steps:
        for window in later.windows:
            for visit in problem.fixed:
                if window.step == step.key and visit.step == later.key:
                    high = min(high, problem.frame.index(visit.starts_at))
    return low, high
