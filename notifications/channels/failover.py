"""Failover: several providers for one channel, the best first, the next when one fails.

Only what was provably not accepted goes to the next provider. One that keeps failing is left
alone for a while; when all are, the one that was left alone first is asked again, so that a
channel is never given up.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from notifications.channels import (
    Accepted,
    Asked,
    Channel,
    Envelope,
    Outcome,
    Refused,
    Seen,
    Unknown,
)

MOST_FAILURES = 5
"""In a row, before a provider is left alone."""
PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class Provider:
    """One of the providers, and how it has been doing."""

    name: str
    channel: Channel
    failures: int = 0
    paused_until: float = 0.0


@dataclass(slots=True)
class Failover:
    """Hands over to the first provider that takes it."""

    providers: Sequence[Provider]

    def hand_over(self, envelope: Envelope) -> Outcome:
        """Try one provider after the other, while nobody can have accepted it."""
        outcome: Outcome = Refused("no-provider", for_ever=False)
        for provider in self._in_turn():
            outcome = _named(provider.channel.hand_over(envelope), provider.name)
            if isinstance(outcome, Refused) and not outcome.for_ever:
                self._failed(provider)
                continue
            provider.failures = 0
            break
        return outcome

    def find(self, provider: str | None, recipient: str, since: datetime) -> list[Seen] | None:
        """Ask the provider that may have taken it; without a name, the first."""
        named = [one for one in self.providers if one.name == provider] or self.providers[:1]
        channel = named[0].channel
        return channel.find(provider, recipient, since) if isinstance(channel, Asked) else None

    def close(self) -> None:
        """Let go of every provider."""
        for provider in self.providers:
            provider.channel.close()

    def _in_turn(self) -> Sequence[Provider]:
        now = time.monotonic()
        ready = [one for one in self.providers if one.paused_until <= now]
        return ready or [min(self.providers, key=lambda one: one.paused_until)]

    def _failed(self, provider: Provider) -> None:
        provider.failures += 1
        if provider.failures >= MOST_FAILURES:
            provider.failures = 0
            provider.paused_until = time.monotonic() + PAUSE_SECONDS


def _named(outcome: Outcome, name: str) -> Outcome:
    match outcome:
        case Accepted(_, reference):
            return Accepted(name, reference)
        case Unknown(code, _):
            return Unknown(code, name)
        case refused:
            return refused
