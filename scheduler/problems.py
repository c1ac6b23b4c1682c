"""Problems: courses to be planned, and plans, as plain values.

Times are granules of five minutes, counted from the start of the calendar's frame; costs are
whole points. Pure: no database, no clock, no Flask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from scheduler.intervals import GRANULE, Frame
from scheduler.protocols import Protocol, Step
from scheduler.rules import Booked

DAY = timedelta(days=1) // GRANULE

Array = NDArray[np.int64]

NOTHING: Array = np.array([], dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What speaks against a plan, in points."""

    finish: int = 2
    """For each granule until the last visit begins."""
    middle: int = 1
    """For each granule that a gap is off the middle of its window."""
    lead: int = 14 * DAY
    """For each visit with somebody else than the course's own clinician: a week of waiting."""
    wish: int = 14 * DAY
    """For each visit that breaks a wish: a week of waiting as well."""
    idle: int = 4
    """For each granule beside a visit in which its room is of no use to anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a plan costs, in its own terms and in points."""

    finish: int
    """Granules from the first possible start to the start of the last visit."""
    off_middle: int
    """Granules that gaps are off the middle of their windows, together."""
    other_lead: int
    """Visits with somebody else than the course's own clinician."""
    wishes: int
    """Visits that break a wish."""
    idle: int
    """Granules of room time that are of no use."""

    def points(self, weights: Weights) -> int:
        """All of it as one number."""
        return (
            weights.finish * self.finish
            + weights.middle * self.off_middle
            + weights.lead * self.other_lead
            + weights.wish * self.wishes
            + weights.idle * self.idle
        )


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """When one step could take place, as far as others are free."""

    step: Step
    by_lead: Mapping[UUID | None, Array]
    """For each clinician who could lead it the starts, rising; under None where nobody leads."""
    unwished: Array = field(default_factory=lambda: NOTHING)
    """Starts that break a wish."""
    idle: tuple[Array, Array] = field(default_factory=lambda: (NOTHING, NOTHING))
    """Starts, rising, and how many granules of room time each wastes; others waste none."""
    is_bound: bool = False
    """Whether the course's own clinician must lead it: the protocol ties it to another step."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Problem:
    """A course to be planned at a site."""

    protocol: Protocol
    frame: Frame
    zone: ZoneInfo
    choices: Sequence[Choices]
    """The steps to place, in the order of the protocol."""
    fixed: Sequence[Booked] = ()
    """The patient's other visits: they stay where they are."""
    served: Mapping[UUID, int] = field(default_factory=dict)
    """How many of the fixed visits each clinician led."""
    earliest: int = 0
    """The first possible start, from which the finish is counted."""
    weights: Weights = field(default_factory=Weights)
    dear: Mapping[str, Array] = field(default_factory=dict)
    """For kinds of visits what each granule costs on top, as a start: others want it as well."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A step, when, and who leads it; None: nobody does, or anybody may."""

    step: Step
    start: int
    lead: UUID | None


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a problem, placed."""

    lead: UUID | None
    """The course's own clinician."""
    placed: tuple[Placed, ...]
    price: Price
    cost: int
    is_best: bool = True
    """False if the search was given up before every other plan was ruled out."""
    dear: int = 0
    """What its starts cost on top because others want them as well. Not part of the cost."""

    @property
    def rank(self) -> int:
        """What it was chosen by: the less, the better."""
        return self.cost + self.dear


def leads_of(problem: Problem) -> list[UUID | None]:
    """Whoever could lead the course; nobody if no visit has a lead."""
    found: dict[UUID | None, None] = {}
    for choices in problem.choices:
        found |= dict.fromkeys(lead for lead in choices.by_lead if lead is not None)
    return list(found) or [None]
