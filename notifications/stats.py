"""Stats: what a worker counts about itself, told with its heartbeat and shown in /metrics."""

import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

LATENESS = (0.02, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0)
HAND_OVER = (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds: the upper bounds of the buckets; a last one has no bound."""


@dataclass(slots=True)
class Histogram:
    """How often what was measured fell into each bucket."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    @classmethod
    def of(cls, bounds: tuple[float, ...]) -> "Histogram":
        """An empty one."""
        return cls(bounds, [0] * (len(bounds) + 1))

    def observe(self, seconds: float) -> None:
        """Count one measurement."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


@dataclass(slots=True)
class Stats:
    """The counts of one worker since it started."""

    lateness: Histogram = field(default_factory=lambda: Histogram.of(LATENESS))
    """From when a message was due to when it was handed over."""
    hand_over: dict[str, Histogram] = field(default_factory=dict)
    """How long providers took."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """What they answered, by provider and outcome."""
    claims: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def claimed(self, number: int) -> None:
        """Count claimed messages."""
        with self._lock:
            self.claims += number

    def handed_over(self, provider: str, outcome: str, took: float, late: float) -> None:
        """Count one message handed over, or not."""
        with self._lock:
            self.lateness.observe(max(late, 0.0))
            self.hand_over.setdefault(provider, Histogram.of(HAND_OVER)).observe(took)
            key = f"{provider} {outcome}"
            self.outcomes[key] = self.outcomes.get(key, 0) + 1

    def told(self) -> dict[str, Any]:
        """The counts as plain data."""
        with self._lock:
            return {
                "claims": self.claims,
                "lateness": _plain(self.lateness),
                "hand_over": {name: _plain(one) for name, one in self.hand_over.items()},
                "outcomes": dict(self.outcomes),
            }


def _plain(histogram: Histogram) -> dict[str, Any]:
    return {
        "bounds": list(histogram.bounds),
        "counts": list(histogram.counts),
        "total": round(histogram.total, 3),
    }
