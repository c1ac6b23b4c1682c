"""What is known of each gate of a walk's visit, kept apart from the rules."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from tests.factories import DAY, ZONE
from tests.integration.walks.day import GATES, HOUR, LIFT, MINUTE, STAGES


class Stands(NamedTuple):
    """How a gate stands, and when what keeps it shut came to light, if anything did."""

    open: bool
    since: datetime | None = None


OPEN, SHUT = Stands(True), Stands(False)


class Cleared(NamedTuple):
    """Somebody vouched for a gate, or would not."""

    at: datetime
    refused: bool = False
    text: int = 0
    """The version that was agreed to."""


class Given(NamedTuple):
    """A reason to pass over a gate, as long as it speaks for the visit as it stands."""

    id: UUID
    code: str
    at: datetime


class Left(NamedTuple):
    """How the patient left."""

    id: UUID
    as_planned: bool
    at: datetime


class Asked(NamedTuple):
    """A screen of the patient, or what they take: what matters of it, and what was said to it."""

    at: datetime
    noted_at: datetime
    found: dict[str, str]
    """By condition the answer unless it is absent; by class of medicine the action."""
    said: dict[str, tuple[str, datetime]]
    """By condition or class, what was decided, and when."""


@dataclass
class Filled:
    """The C-SSRS: sent, typed in, or half filled in on the page."""

    at: datetime
    noted_at: datetime
    high: bool
    doctors: bool
    """Whether it is the word of somebody whom the gate names."""
    whole: bool = True
    counts: bool = True
    """Nobody said that it was entered in error."""
    decided: bool = False
    """A doctor has looked, and said that it was entered in error."""


class Decided(NamedTuple):
    """Whether the course goes on."""

    goes_on: bool
    at: datetime
    through: date | None = None


def latest(lines: Iterable[Asked]) -> Asked | None:
    """The one that counts; of two of a time the one that was written later."""
    return max(enumerate(lines), key=lambda one: (one[1].at, one[0]), default=(0, None))[1]


@dataclass
class Account:
    """What is known of each gate."""

    cleared: Cleared | None = None
    consent: Cleared | None = None
    texts: list[tuple[datetime, bool]] = field(default_factory=list)
    """When each version was written, and whether consents to those before end with it."""
    screens: list[Asked] = field(default_factory=list)
    lists: list[Asked] = field(default_factory=list)
    decided: Decided | None = None
    filled: list[Filled] = field(default_factory=list)
    draft: Filled | None = None
    """The one of these that is half filled in."""
    escort: bool = False
    fasting: bool = False
    not_after_all: datetime | None = None
    """When it was taken back that the patient came fasting."""
    systolic: tuple[float, datetime] | None = None
    dosed_at: datetime | None = None
    went_wrong_at: datetime | None = None
    """When something last did, which ends the clearance."""
    cared_for: bool = True
    left: Left | None = None
    of_age: bool = True
    licensed_until: date = date(2030, 12, 31)
    """The last day of the licence of somebody who serves the visit."""
    last_dose: datetime | None = None
    """When a dose was given before this one."""
    reasons: list[Given] = field(default_factory=list)

    def shut(self, stage: str, at: datetime) -> set[str]:
        """The gates that are asked at a stage and shut."""
        asked = STAGES[stage]
        return {code for code, shuts in GATES.items() if shuts in asked} & self.all_shut(at)

    def amiss(self, *moments: datetime) -> set[str]:
        """What the service itself asks on the days of these moments and does not find."""
        days = {one.astimezone(ZoneInfo(ZONE)).date() for one in moments}
        found = set() if self.of_age else {"minimum-age"}
        return found | ({"credentials"} if max(days) > self.licensed_until else set())

    def is_rested(self, at: datetime) -> bool:
        """Whether two days have passed since the dose before."""
        return self.last_dose is None or at >= self.last_dose + 2 * DAY

    def all_shut(self, at: datetime) -> set[str]:
        """The gates that are neither met nor passed over."""
        return {code for code in GATES if not self._is_open(code, at)}

    def is_met(self, code: str, at: datetime) -> bool:
        """Whether nothing speaks against it, whatever reasons were given."""
        return self._stands(code, at).open

    def lift(self, code: str) -> set[str]:
        """Who may pass over a gate as things stand."""
        screen = latest(self.screens)
        nobody = code == "screen" and screen is not None and screen.found.get("never") == "present"
        return set() if nobody else LIFT[code]

    def _is_open(self, code: str, at: datetime) -> bool:
        stands = self._stands(code, at)
        if stands.open:
            return True
        given = [one.at for one in self.reasons if one.code == code]
        return bool(given) and (stands.since is None or max(given) >= stands.since)

    def _stands(self, code: str, at: datetime) -> Stands:
        stands: Stands = getattr(self, f"_{code.replace('-', '_')}")(at)
        return stands

    def _eligibility(self, at: datetime) -> Stands:
        if self.decided is None:
            return OPEN
        if not self.decided.goes_on:
            return Stands(False, self.decided.at)
        if self.decided.through is None:
            return OPEN
        over = datetime.combine(self.decided.through + DAY, time(0), ZoneInfo(ZONE))
        return OPEN if at < over else SHUT

    def _medical_clearance(self, at: datetime) -> Stands:
        if self.cleared is None:
            return SHUT
        if self.cleared.refused:
            return Stands(False, self.cleared.at)
        wrong = self.went_wrong_at
        if wrong is not None and self.cleared.at < wrong:
            return Stands(False, wrong)
        return OPEN if at <= self.cleared.at + 2 * DAY else SHUT

    def _consent(self, at: datetime) -> Stands:
        given = self.consent
        if given is None:
            return SHUT
        if given.refused:
            return Stands(False, given.at)
        ended = [written_at for written_at, renews in self.texts[given.text :] if renews]
        return Stands(False, ended[-1]) if ended else OPEN

    def _screen(self, at: datetime) -> Stands:
        last = latest(self.screens)
        if last is None:
            return SHUT
        has_lapsed = at > last.at + 3 * DAY
        against = [last.noted_at for code, it in last.found.items() if _is_against(code, it)]
        if "hold" in last.found and last.found["hold"] == "present":
            outcome, said_at = last.said.get("hold", ("waits", last.noted_at))
            if outcome == "refused":
                against.append(said_at)
            elif has_lapsed or outcome == "waits":
                against.append(last.noted_at)
        if against:
            return Stands(False, max(against))
        return SHUT if has_lapsed else OPEN

    def _medicines(self, at: datetime) -> Stands:
        last = latest(self.lists)
        if last is None:
            return SHUT
        against = []
        for code, action in last.found.items():
            said, said_at = last.said.get(code, ("waits", last.noted_at))
            if said == "block" or (said == "waits" and action != "discuss"):
                against.append(said_at)
        if against:
            return Stands(False, max(against))
        return SHUT if at > last.at + 3 * DAY else OPEN

    def _questions(self, at: datetime) -> Stands:
        """What is high stays so for a day and a half, unless a doctor has spoken since."""
        words = [one for one in self.filled if one.doctors and one.counts]
        shut = [
            one
            for one in self.filled
            if one.high and one.at <= at and not one.decided
            if not any(it.at >= one.at and it.noted_at > one.noted_at for it in words)
        ]
        since = max((one.noted_at for one in shut), default=None)
        whole = [one.at for one in self.filled if one.whole and one.counts]
        is_fresh = bool(whole) and max(whole) <= at <= max(whole) + 36 * HOUR
        return Stands(is_fresh and all(at > one.at + 36 * HOUR for one in shut), since)

    def _transport_home(self, at: datetime) -> Stands:
        return OPEN if self.escort else SHUT

    def _fasting(self, at: datetime) -> Stands:
        return OPEN if self.fasting else Stands(False, self.not_after_all)

    def _vitals(self, at: datetime) -> Stands:
        if self.systolic is None:
            return SHUT
        value, taken_at = self.systolic
        if value > 140:
            return Stands(False, taken_at)
        return OPEN if at <= taken_at + 30 * MINUTE else SHUT

    def _observation(self, at: datetime) -> Stands:
        over = self.dosed_at is not None and at >= self.dosed_at + timedelta(hours=2)
        return OPEN if over else SHUT

    def _care(self, at: datetime) -> Stands:
        return OPEN if self.cared_for else Stands(False, self.went_wrong_at)

    def _way_home(self, at: datetime) -> Stands:
        if self.left is None:
            return SHUT
        return OPEN if self.left.as_planned else Stands(False, self.left.at)


def _is_against(code: str, answer: str) -> bool:
    return answer == "unknown" or code in {"never", "block"}
