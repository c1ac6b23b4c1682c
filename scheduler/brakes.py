"""Brakes: how many lines those who are turned away may have written about them.

Each has some at once and then one a minute, in each process; what is beyond that is counted, and
the next line says how many were left out. So nobody fills the disk by knocking.
"""

import threading
from dataclasses import dataclass, field

AT_ONCE = 20
SECONDS_EACH = 60.0
MOST_KNOWN = 10_000
"""Callers that are remembered; with more, those who could have all of theirs again are let go."""


@dataclass(slots=True)
class _Purse:
    left: float
    at: float
    left_out: int = 0


@dataclass(slots=True)
class Brake:
    """Who had how many."""

    known: dict[str, _Purse] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def let(self, who: str, at: float) -> int | None:
        """Whether a line about `who` may be written at `at`, in seconds of any steady clock.

        None: it may not. Else how many were left out since the last.
        """
        with self.turn:
            purse = self._purse(who, at)
            if purse is None:
                return None
            purse.left = min(AT_ONCE, purse.left + (at - purse.at) / SECONDS_EACH)
            purse.at = at
            if purse.left < 1:
                purse.left_out += 1
                return None
            purse.left -= 1
            left_out, purse.left_out = purse.left_out, 0
            return left_out

    def _purse(self, who: str, at: float) -> _Purse | None:
        if who not in self.known and len(self.known) >= MOST_KNOWN:
            full = AT_ONCE * SECONDS_EACH
            self.known = {name: one for name, one in self.known.items() if at - one.at < full}
            if len(self.known) >= MOST_KNOWN:
                return None
        return self.known.setdefault(who, _Purse(AT_ONCE, at))
